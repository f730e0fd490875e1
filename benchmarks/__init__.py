"""The performance claims, re-runnable; see README.md."""

OVER_LONG_AGO = 1_000_000_000
"""Runs with this number or a higher one have always been over."""
