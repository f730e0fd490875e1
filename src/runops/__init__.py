"""The version of runops, and nothing else: hosts import this package in every process."""

__version__ = "0.1.0"
