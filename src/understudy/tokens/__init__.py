"""Tokens: an example and a tokenizer to token ids, rows to padded batches, two vocabularies side by side."""
