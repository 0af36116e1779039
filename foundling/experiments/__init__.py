"""Whole experiments over several runs: adapt, ladder, sweep, and the demonstration."""
