"""Models: loading, chat templates, low-rank adapters, the forward pass that stops before the head, generation."""
