"""Serves bundles over HTTP. Runs without torch and transformers installed."""
