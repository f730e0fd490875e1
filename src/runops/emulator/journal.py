"""The journal of requests: what was received, oldest first, as the control API shows it."""

from __future__ import annotations

import heapq
import threading
from collections import deque
from typing import Any

from runops.emulator import checks

REQUESTS_KEPT = 20_000
"""About 1.4 kB each: of reads so many, and of all others so many, so that no poll pushes a submit out."""
EQUAL = frozenset({"provider", "action", "method", "run_id", "status", "fault", "key", "key_id", "key_label"})
"""Filters that an entry must equal."""


class Journal:
    """The newest requests. It may be used from any thread.

    Args:
        kept: How many GET requests are remembered, and how many others; the oldest are forgotten first.
    """

    def __init__(self, kept: int) -> None:
        self._lock = threading.Lock()
        self._reads: deque[dict[str, Any]] = deque(maxlen=kept)
        self._writes: deque[dict[str, Any]] = deque(maxlen=kept)
        self._last = 0
        self.dropped = 0

    def record(self, entry: dict[str, Any]) -> None:
        """Write a request down; the entry may be filled in later."""
        with self._lock:
            self._last += 1
            entry["index"] = self._last
            journal = self._reads if entry["method"] == "GET" else self._writes
            self.dropped += len(journal) == journal.maxlen
            journal.append(entry)

    def find(self, /, **filters: Any) -> list[dict[str, Any]]:
        """Return the requests that pass all filters; see :meth:`runops.emulator.store.Emulator.requests`."""
        checks.names("filter", filters, EQUAL | {"path_contains", "after"})
        equal = {name: value for name, value in filters.items() if name in EQUAL and value is not None}
        part = filters.get("path_contains") or ""
        after = int(filters.get("after") or 0)
        with self._lock:
            return [
                dict(entry)
                for entry in heapq.merge(self._reads, self._writes, key=lambda entry: entry["index"])
                if entry["index"] > after
                and part in entry["path"]
                and all(entry.get(name) == value for name, value in equal.items())
            ]

    def clear(self) -> None:
        """Forget them."""
        with self._lock:
            self._reads.clear()
            self._writes.clear()
            self.dropped = 0
