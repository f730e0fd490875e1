"""A clock that goes as the machine's does and leaps once the service has seen what a test waits for.

For tests in which the clocks of a wait run out: however busy the machine is, everything that the test wants to have
happened before is behind it by then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pkgutil import walk_packages
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from runops.core.transport.session import Session
from runops.emulator.store import Emulator

AHEAD = 7 * 86400.0
"""Seconds by which it leaps: beyond the timeout of every wait that a test leaves as it is by default."""


class LeapingClock:
    """Unix seconds. Calling it reads it.

    Args:
        seen: Whether everything has happened that comes before the leap. It is not asked any more after that.
    """

    def __init__(self, seen: Callable[[], bool]) -> None:
        self._seen = seen
        self._ahead = 0.0

    def __call__(self) -> float:
        if not self._ahead and self._seen():
            self._ahead = AHEAD
        return time.time() + self._ahead


def runs_were_read(emulator: Emulator, provider: str, count: int) -> Callable[[], bool]:
    """Whether a service has that many runs, and each was read."""

    def seen() -> bool:
        runs = emulator.runs(provider=provider)
        return len(runs) >= count and all(run["reads"] for run in runs)

    return seen


@contextmanager
def leaping(side: ModuleType, seen: Callable[[], bool]) -> Iterator[None]:
    """Let all clients that are made inside go by such a clock, and all modules of one side.

    Args:
        side: ``runops.airflow`` or ``runops.dagster``.
        seen: Whether everything has happened that comes before the leap.
    """
    clock = LeapingClock(seen)
    made: Any = Session.__init__
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(made.__kwdefaults__, "clock", clock)
        for found in walk_packages(side.__path__, f"{side.__name__}."):
            module = import_module(found.name)
            if getattr(module, "time", None) is time:
                patch.setattr(module, "time", SimpleNamespace(time=clock, monotonic=time.monotonic, sleep=time.sleep))
        yield
