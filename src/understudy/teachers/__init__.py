"""Teachers: whatever can say something about a batch. `signals` has the contract, `local` a model of this process."""
