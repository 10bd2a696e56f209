"""Asking a prompt about what a classifier is not sure of."""
