"""Waits for what other threads and processes do: by looking for it, with limits that only tell what is stuck."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

STUCK_SECONDS = 600.0
"""After so long without any progress something is stuck, however busy the machine is."""

T = TypeVar("T")


def until(what: str, condition: Callable[[], T], *, pause: float = 0.01) -> T:
    """Look until something is true, and return it.

    Args:
        what: What is waited for, as the failure names it.
        condition: Called every ``pause`` seconds.
        pause: Seconds between two looks.
    """
    limit = time.monotonic() + STUCK_SECONDS
    while not (found := condition()):
        assert time.monotonic() < limit, f"{what}: not within {STUCK_SECONDS:.0f} s"
        time.sleep(pause)
    return found


def until_it_ends(process: subprocess.Popen[bytes], written: Iterable[Path]) -> bool:
    """Wait for a process; False, and the process is killed, where it no longer writes anything and does not end."""
    files = list(written)
    size, limit = -1, 0.0
    while process.poll() is None:
        now = sum(path.stat().st_size for path in files)
        if now != size:
            size, limit = now, time.monotonic() + STUCK_SECONDS
        if time.monotonic() > limit:
            process.kill()
            process.wait()
            return False
        time.sleep(0.05)
    return True
