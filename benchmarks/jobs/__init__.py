"""Benchmarks of the fine-tuning API; see benchmarks/README.md."""
