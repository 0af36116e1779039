"""Intervals, estimates and tests, of numbers alone."""
