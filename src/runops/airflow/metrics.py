"""What is counted, through Airflow's own metrics. It decides nothing, and no run or task is named in a tag.

========================  =======  ====================================================  ==========================
name                      kind     is                                                    tags
========================  =======  ====================================================  ==========================
runops.polls              counter  good reads of a run                                   provider
runops.waits              counter  waits that ended                                      provider, outcome, verdict
runops.errors             counter  waits that ended in an error                          provider, error
runops.detection_latency  timer    from a run's end, as its service tells it, to when a  provider
                                   wait that had seen it open saw it ended
========================  =======  ====================================================  ==========================
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from datetime import timedelta

from runops.airflow._compat import stats
from runops.core import RunSnapshot
from runops.core.many.rows import Row


class Meter:
    """Counts the reads of one wait."""

    def __init__(self) -> None:
        self._seen_open = False

    def update(self, snapshot: RunSnapshot) -> None:
        """Take in a good read."""
        tags = {"provider": snapshot.ref.provider}
        stats().incr("runops.polls", tags=tags)
        if snapshot.run_ended and self._seen_open and snapshot.finished_at is not None:
            # Two clocks may disagree by more than the service is late.
            late = max(time.time() - snapshot.finished_at.timestamp(), 0.0)
            stats().timing("runops.detection_latency", timedelta(seconds=late), tags=tags)
        self._seen_open = snapshot.outcome is None


def waited(snapshot: RunSnapshot, verdict: str) -> None:
    """A wait ended."""
    tags = {"provider": snapshot.ref.provider, "outcome": str(snapshot.outcome), "verdict": str(verdict)}
    stats().incr("runops.waits", tags=tags)


def waited_for_set(provider: str, rows: Iterable[Row]) -> None:
    """The waits of a set ended: one count for each kind of end."""
    ends = Counter((row.outcome, row.verdict, row.error) for row in rows if row.is_over)
    for (outcome, verdict, error), count in ends.items():
        if error is not None:
            stats().incr("runops.errors", count, tags={"provider": provider, "error": error})
        elif outcome is not None:
            tags = {"provider": provider, "outcome": str(outcome), "verdict": str(verdict)}
            stats().incr("runops.waits", count, tags=tags)


def erred(provider: str, error: Exception) -> None:
    """A wait ended in an error."""
    stats().incr("runops.errors", tags={"provider": provider, "error": type(error).__name__})
