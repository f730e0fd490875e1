"""Bytes of an answer, decoded."""

from __future__ import annotations

LARGE = 100_000
"""Bytes up to which a body is read at once: a thread, or steps, cost more than it takes."""
