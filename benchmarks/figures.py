"""What a process uses: CPU, memory and the loop's lag. Linux only where it reads /proc."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import time
from collections.abc import Sequence
from pathlib import Path

PERIOD = 0.05


def cpu() -> float:
    """Seconds of CPU that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def resident() -> int:
    """Bytes of memory that this process holds, after a collection."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def quantile(values: Sequence[float], share: float) -> float | None:
    """The value that ``share`` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else None


class Lag:
    """How late the loop is: a timer of 50 ms, and by how much it comes late."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, float]] = []

    async def watch(self) -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(PERIOD)
            self.seen.append((began, (time.monotonic() - began - PERIOD) * 1000))

    def between(self, start: float, end: float) -> list[float]:
        """Milliseconds, of the timers set in this time."""
        return [late for began, late in self.seen if start <= began < end]
