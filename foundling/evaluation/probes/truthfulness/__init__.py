"""Truthfulness: questions, claims, calibration, misleading prefixes."""
