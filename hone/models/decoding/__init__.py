"""Decoding: many sequences of a causal language model at once, one token each in a step."""
