"""The gateway over HTTP: OpenAI's forms, a page, and what stands before them."""
