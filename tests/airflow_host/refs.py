"""Ids of many runs, which a test and its DAG must agree on."""

from __future__ import annotations

import uuid


def ids_of(name: str, count: int) -> list[str]:
    """Ids as long as those of a service.

    Args:
        name: Of the set.
        count: How many.
    """
    return [str(uuid.uuid5(uuid.NAMESPACE_URL, f"{name}/{index}")) for index in range(count)]
