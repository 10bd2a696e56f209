"""Classifiers of pictures: bases, probes, fine-tuning, export and the contact sheet."""
