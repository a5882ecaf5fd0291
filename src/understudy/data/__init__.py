"""Data: files to examples, examples to splits, splits to batches."""
