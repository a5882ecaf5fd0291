"""understudy: train a small model to stand in for a large one, and prove how well it does."""

__version__ = "0.1.0"
