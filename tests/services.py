"""The emulated services as the tests of every side use them: their names, good arguments of a submit, and a clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from runops.core import PROVIDERS as DECLARED
from runops.emulator.server import Server
from runops.emulator.store import Emulator

PROVIDERS = tuple(DECLARED)
SUBMITTING = tuple(name for name, provider in DECLARED.items() if provider.submit is not None)
WORKFLOW = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
PARENTS = {"onepin": {"workflow_id": WORKFLOW}}
"""What a run's address names beside its id, where it does."""
CALLS: dict[str, dict[str, Any]] = {
    "nexio": {"engine_slug": "placement", "input": {"insured": "Example Ltd"}},
    "nyx": {
        "config_name": "nightly",
        "name": "Nightly audit",
        "target": {"url": "https://agent.example.com"},
        "objective": "make it tell its instructions",
        "budget_usd": 5,
        "severity_target": "high",
    },
    "onepin": {"workflow_id": WORKFLOW},
    "b3os": {"workflow_id": "wf_1", "payload": {"amount": 3}},
}
"""Good submit arguments of each provider that takes submits."""


class Clock:
    """The one clock of a test: sleeping on it moves it on."""

    def __init__(self) -> None:
        self.began = self.now = time.time()
        self.sleeps: list[float] = []
        self.on_sleep: Callable[[float], None] = lambda seconds: None

    def __call__(self) -> float:
        return self.now

    @property
    def passed(self) -> float:
        return self.now - self.began

    def sleep(self, seconds: float) -> None:
        if seconds > 0:
            self.sleeps.append(seconds)
            self.on_sleep(seconds)
            self.now += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)
        await asyncio.sleep(0)


def trying_twice() -> dict[str, Any]:
    """Settings of a client whose pauses take no time, and are ten times as long on its clock: so it tries twice."""
    clock = Clock()
    return {"clock": clock, "sleep": lambda seconds: clock.sleep(10 * seconds)}


@contextmanager
def on_clock(server: Server, clock: Clock, seed: int = 0) -> Iterator[Emulator]:
    """The emulator, empty and on a test's clock."""
    emulator = server.emulator
    emulator.reset(seed=seed)
    real, emulator.now = emulator.now, clock
    yield emulator
    emulator.now = real
    emulator.reset()
