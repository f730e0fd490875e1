"""Both clients on one made-up clock, against the played service: a wait of hours takes no time."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from runops.conformance.canaries import CANARY
from runops.conformance.facts import Facts
from runops.conformance.server import served
from runops.conformance.service import Service
from runops.core.client import AsyncRunClient, RunClient
from runops.core.declaration import Call, Provider
from runops.core.model.run import RunRef
from runops.core.waiting import flows
from runops.core.waiting.options import DEFAULT_ERROR_BUDGET, WaitOptions
from runops.core.waiting.steps import Clock, Flow

R = TypeVar("R")
BEGAN = 1_800_000_000.0
REQUEST_SECONDS = 20.0
"""Real seconds for one request: more than a busy machine needs."""
LARGEST = 300_000
"""Bytes of a body that are read."""
WAIT_SECONDS = 7 * 86_400.0
SIDES = ("sync", "async")


class MadeUpClock:
    """Unix seconds; sleeping moves it on."""

    def __init__(self) -> None:
        self.now = BEGAN

    def __call__(self) -> float:
        """What the time is."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Pass some time."""
        self.now += max(seconds, 0.0)

    async def sleep_async(self, seconds: float) -> None:
        """The same for asyncio."""
        self.sleep(seconds)
        await asyncio.sleep(0)


@dataclass
class Stage:
    """One service and one client of it, for one scenario.

    Args:
        side: One of :data:`SIDES`.
        facts: The declaration and the folder.
        service: What answers.
        url: Where.
        key: The credential.
        clock: Their time.
        request_seconds: Real seconds for one request.
    """

    side: str
    facts: Facts
    service: Service
    url: str
    key: str
    clock: MadeUpClock = field(default_factory=MadeUpClock)
    request_seconds: float = REQUEST_SECONDS

    @property
    def _settings(self) -> dict[str, Any]:
        return {
            "token": self.key,
            "base_url": self.url,
            "origin": "the conformance kit",
            "clock": self.clock,
            "request_timeout": self.request_seconds,
            "max_response_bytes": LARGEST,
        }

    def drive(self, make: Callable[[Provider, Clock], Flow[R]]) -> R:
        """Drive a flow to its end by the client of this side."""
        provider = self.facts.provider
        if self.side == "sync":
            with RunClient(provider, sleep=self.clock.sleep, **self._settings) as client:
                return client.drive(make(provider, self.clock))
        return asyncio.run(self._drive_async(make))

    async def _drive_async(self, make: Callable[[Provider, Clock], Flow[R]]) -> R:
        provider = self.facts.provider
        async with AsyncRunClient(provider, sleep=self.clock.sleep_async, **self._settings) as client:
            return await client.drive(make(provider, self.clock))

    def wait(self, run_id: str, parents: dict[str, str] | None = None, **clocks: float) -> Any:
        """The last snapshot of a run."""
        ref = self.facts.provider.ref(run_id, parents)
        return self.drive(lambda provider, clock: wait_for(provider, ref, clock, **clocks))

    def submit(self, call: Call, **settings: Any) -> RunRef:
        """Start a run by the client's own method."""
        provider = self.facts.provider
        if self.side == "sync":
            with RunClient(provider, sleep=self.clock.sleep, **self._settings) as client:
                return client.submit(call, **settings)
        return asyncio.run(self._submit_async(call, settings))

    async def _submit_async(self, call: Call, settings: Any) -> RunRef:
        provider = self.facts.provider
        async with AsyncRunClient(provider, sleep=self.clock.sleep_async, **self._settings) as client:
            return await client.submit(call, **settings)

    def shown(self) -> str:
        """What a client of this side shows of itself."""
        kind = RunClient if self.side == "sync" else AsyncRunClient
        return repr(kind(self.facts.provider, **self._settings))


def wait_for(provider: Provider, ref: RunRef, clock: Clock, **clocks: float) -> Flow[Any]:
    """A whole wait on a clock of ours; a poller would keep the time of its loop."""
    timeout, budget = clocks.get("timeout", WAIT_SECONDS), clocks.get("error_budget", DEFAULT_ERROR_BUDGET)
    options = WaitOptions.build(provider, now=clock(), timeout=timeout, error_budget=budget)
    return flows.wait(provider, ref, options, clock=clock)


class Stages:
    """Makes stages on one server, each with a key, a service and a clock of its own."""

    def __init__(self, facts: Facts, server: Any, url: str) -> None:
        self._facts, self._server, self._url = facts, server, url
        self._numbers = itertools.count(1)
        self.log = Heard()

    def new(self, side: str, call: Call | None = None, *, refuses_second: bool = False) -> Stage:
        """A stage with nothing on it yet."""
        clock = MadeUpClock()
        service = Service(self._facts, clock, call=call, refuses_second=refuses_second)
        self._server.service = service
        # A pause that the service asks for holds for all that share a key.
        key = self._facts.key(f"{CANARY}key{next(self._numbers)}x7")
        return Stage(side, self._facts, service, self._url, key, clock)


class Heard(logging.Handler):
    """Every line that is logged, whatever its level."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it, with its arguments."""
        self.lines.append(f"{record.getMessage()} {record.args!r}")


@contextmanager
def stages(facts: Facts) -> Generator[Stages]:
    """The stages of one conformance run; logs are heard and not shown, and no proxy is asked."""
    logger = logging.getLogger("runops")
    level, propagate = logger.level, logger.propagate
    with served() as (server, url), _environment(facts):
        made = Stages(facts, server, url)
        logger.addHandler(made.log)
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
        try:
            yield made
        finally:
            logger.removeHandler(made.log)
            logger.setLevel(level)
            logger.propagate = propagate


@contextmanager
def _environment(facts: Facts) -> Generator[None]:
    """The key's variable holds a canary, so that a declaration that reads it is noticed."""
    changes = {facts.provider.key_variable: facts.key(f"{CANARY}environment"), "NO_PROXY": "127.0.0.1"}
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
