"""Judges: fine-tuned against prompt-only, by quality, cost and delay on the same items."""
