"""Judges: fine-tuned against prompt-only. Today it holds the price arithmetic."""
