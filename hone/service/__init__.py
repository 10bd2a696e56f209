"""Serves bundles over HTTP. Nothing here imports torch or transformers."""
