"""Causal language models: from a trained folder to what is served."""
