"""Classifiers of pictures: bases, probes, fine-tuning, export, and their mistakes."""
