"""Refusal beside over-refusal."""
