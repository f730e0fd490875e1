"""The clock of a test: how much time has passed that nobody waited for, and who is told so."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable

from runops.testing.errors import TestingError

LONGEST = 400 * 86_400.0
"""Seconds that may pass in a test. A wait that takes longer has no end."""
OURS = "runops."
REAL = ("runops.emulator.", "runops.testing.")
"""What serves the test, by the time of the machine."""
HOSTS = ("airflow.", "dagster.")

_sleep, _monotonic = time.sleep, time.monotonic


class FakeTime:
    """What the fixture ``runops_time`` gives.

    Args:
        shift: Moves the emulator's clock on by seconds; None where the test waits for real.
    """

    def __init__(self, shift: Callable[[float], object] | None) -> None:
        self._shift = shift
        self._lock = threading.Lock()
        self.passed: float = 0.0
        """Seconds that were not waited for."""
        self.waits: int = 0
        """How often somebody would have waited."""
        self.next_due: Callable[[float], float | None] = lambda now: None
        """Given unix seconds: seconds until a host that looks for work every second has some; None if unknown."""

    @property
    def is_real(self) -> bool:
        """Whether this test waits for real."""
        return self._shift is None

    def now(self) -> float:
        """Unix seconds."""
        return time.time()

    def move(self, seconds: float) -> None:
        """Let seconds pass at once, as if the test had slept.

        Args:
            seconds: How many.

        Raises:
            TestingError: The test waits for real, or more than 400 days have passed by now: some wait has no end.
        """
        if self._shift is None:
            raise TestingError("This test waits for real: time cannot be moved.")
        if seconds <= 0:
            return
        with self._lock:
            self.passed += seconds
            self.waits += 1
            if self.passed > LONGEST:
                raise TestingError(
                    f"More than {LONGEST / 86_400:.0f} days have passed in this test: something waits for ever. Does "
                    "the run that it waits for end, and was it scripted for the right provider and id?"
                )
            self._shift(seconds)

    def sleep(self, seconds: float) -> None:
        """What ``time.sleep`` does in a test."""
        caller = _caller()
        if _is_ours(caller):
            self.move(seconds)
        elif caller.startswith(HOSTS):
            self.move(max(seconds, self.next_due(self.now()) or 0.0))
        else:
            _sleep(seconds)

    def monotonic(self) -> float:
        """What ``time.monotonic`` gives in a test."""
        return _monotonic() + (self.passed if _is_ours(_caller()) else 0.0)


def _caller() -> str:
    """The module that has called what calls this."""
    return str(sys._getframe(2).f_globals.get("__name__", ""))


def _is_ours(module: str) -> bool:
    return module.startswith(OURS) and not module.startswith(REAL)
