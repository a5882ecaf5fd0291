"""Teachers: whatever can say something about a batch. So far, a model in the same process."""
