"""Hone: replace a long prompt with a small fine-tuned model, and prove whether you should."""

__version__ = "0.1.0"
