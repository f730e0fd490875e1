"""Who hears of each read of a run, on the worker and in the triggerer: it logs the changes, and has them recorded."""

from __future__ import annotations

import time
from typing import Any, Protocol

from runops.core import RunSnapshot
from runops.core.waiting.state import LogThrottle, progress_line


class Record(Protocol):
    """Who stores how a run stands, for others to see."""

    def observed(self, snapshot: RunSnapshot) -> None:
        """Take in a good read."""


class Observer:
    """Logs each change of a run, has it recorded, and keeps its last snapshot.

    :param log: Where the changes are written.
    :param record: Who stores how the run stands; None where nobody does.
    """

    def __init__(self, log: Any, record: Record | None = None) -> None:
        self.last: RunSnapshot | None = None
        self._log = log
        self._record = record
        self._throttle = LogThrottle()

    def __call__(self, snapshot: RunSnapshot) -> None:
        """Take in a read."""
        if snapshot.ended_by:
            # The end of a wait is logged with its verdict; the end of the reads before a deferral is no end at all.
            return
        self.last = snapshot
        if self._throttle.worth_saying(snapshot, time.time()):
            self._log.info("%s", progress_line(snapshot))
        if self._record is not None:
            self._record.observed(snapshot)
