"""Common sense: the items and the probe."""
