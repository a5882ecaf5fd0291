"""Data: files to examples, examples to splits and to the texts of tasks; no tokenizer here."""
