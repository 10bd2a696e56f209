"""Benchmarks: `make bench` runs `benchmarks.serving`. See README.md here."""
