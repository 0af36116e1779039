"""Foundling raises language models, from raw text to one that people prefer."""

__version__ = "0.2.0"
