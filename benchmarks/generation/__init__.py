"""Quality of trained causal models against the time that their training took."""
