"""Who hears of each read of a run, on the worker and in the triggerer: it logs the changes of the run."""

from __future__ import annotations

import time
from typing import Any

from runops.core import RunSnapshot
from runops.core.waiting.state import LogThrottle


class Observer:
    """Logs each change of a run, and keeps its last snapshot.

    :param log: Where the changes are written.
    """

    def __init__(self, log: Any) -> None:
        self.last: RunSnapshot | None = None
        self._log = log
        self._throttle = LogThrottle()

    def __call__(self, snapshot: RunSnapshot) -> None:
        """Take in a read."""
        if snapshot.ended_by:
            # The end of a wait is logged with its verdict; the end of the reads before a deferral is no end at all.
            return
        self.last = snapshot
        if self._throttle.worth_saying(snapshot, time.time()):
            self._log.info("%s", snapshot.summary())
