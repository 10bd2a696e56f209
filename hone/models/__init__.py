"""The contract: what a model is. This room imports no other room."""
