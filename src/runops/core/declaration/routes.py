"""Routes, and the requests that are made of them, as data."""

from __future__ import annotations

from collections.abc import Mapping

NO_SUCH_RUN = "There is no such run"


def no_such(parent: Mapping[str, str]) -> str:
    """What a 404 means for a request about the runs of a parent, in words."""
    return f"There is no such {' or '.join(parent)}" if parent else "There is nothing at this address"
