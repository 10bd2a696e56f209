"""Checking, mending and splitting of example files: what `hone prepare` does."""
