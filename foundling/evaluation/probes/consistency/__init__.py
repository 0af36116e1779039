"""Consistency: pairs of answers that must agree, or must not."""
