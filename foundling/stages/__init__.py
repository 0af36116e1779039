"""The stages of training: each a data format and an objective, run by the one loop."""
