"""Completers: language models that answer in text, in this process or behind an endpoint; cache, budget, retries."""
