"""Toxicity: words and a classifier, measured on what a model writes."""
