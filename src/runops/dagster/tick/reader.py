"""Asks for runs and lists within the time of one sensor tick. What is made of them is decided elsewhere."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, TypeVar

from runops.core import Provider, RunRef, RunSnapshot
from runops.core.declaration import Observation
from runops.core.waiting import flows
from runops.core.waiting.steps import Effect, Flow, Read, Send, intercept

if TYPE_CHECKING:
    from runops.core import RunClient

R = TypeVar("R")

SHARE_OF_A_TICK = 0.6
"""The part of Dagster's time for a tick that a sensor uses: one that is cut off goes on in the background."""
SHARE_OF_A_REQUEST = 0.25
"""The part of a tick that one request may take, so that one slow target leaves time for others."""
LIMIT_OF_A_TICK = 60.0
"""Seconds after which Dagster gives a tick up, unless it is set otherwise."""


def default_tick_seconds() -> float:
    """Seconds that a tick may take, by the limit that Dagster is set to."""
    limit = os.environ.get("DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS", "")
    return (float(limit) if limit.isdigit() and int(limit) > 0 else LIMIT_OF_A_TICK) * SHARE_OF_A_TICK


def request_seconds(tick: float, most: float) -> float:
    """Seconds that one request of a tick may take.

    Args:
        tick: Seconds of the tick.
        most: What the resource allows.
    """
    return min(most, max(tick * SHARE_OF_A_REQUEST, 1.0))


class OutOfTimeError(Exception):
    """The tick's own time is over. No error of the core, so that nothing there takes it for an answer."""


class Budget:
    """The time of one tick.

    Args:
        seconds: How much there is.
    """

    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds

    def check(self, wanted: float = 0.0) -> None:
        """Go on only if there is time.

        Raises:
            OutOfTimeError: There is not.
        """
        if not self.has(wanted):
            raise OutOfTimeError

    def has(self, wanted: float) -> bool:
        """Whether so many seconds are left."""
        return time.monotonic() + wanted < self._ends

    def sleep(self, seconds: float) -> None:
        """A pause, if it ends in time."""
        if seconds > 0:
            self.check(seconds)
            time.sleep(seconds)


class Reader:
    """Reads runs and lists for one tick: within its time, and each page of a list once for all who share it.

    Args:
        client: The client; it sleeps by the budget.
        budget: The tick's time.
    """

    def __init__(self, client: RunClient, budget: Budget) -> None:
        self.provider: Provider = client.provider
        self._client = client
        self._budget = budget
        self._pages: dict[str, bytes] = {}
        self._observed: dict[RunRef, Observation] = {}

    def drive(self, flow: Flow[R]) -> R:
        """The result of a flow that only reads.

        Raises:
            OutOfTimeError: The tick is over.
        """
        return self._client.drive(intercept(flow, self._in_time))

    def has_time(self, seconds: float) -> bool:
        """Whether the tick has time for something that may take so long."""
        return self._budget.has(seconds)

    def observe(self, ref: RunRef) -> Observation:
        """Read a run once in the tick, however often it is asked for."""
        if ref not in self._observed:
            self._observed[ref] = self.drive(_observe(ref))
        return self._observed[ref]

    def get(self, ref: RunRef, wanted: Collection[str] = ()) -> RunSnapshot:
        """Read a run once, and why it failed or the details that its end is judged by, where that takes another read.

        Args:
            ref: The run.
            wanted: The details.
        """
        self._budget.check()
        return self._client.drive(flows.get(self.provider, ref, wanted))

    def cancel(self, ref: RunRef) -> None:
        """Ask the service to stop a run."""
        self._budget.check()
        self._client.cancel(ref)

    def _in_time(self, effect: Effect) -> Flow[Any]:
        """Answer from the pages of this tick, or let the client do it if there is time."""
        address = None
        if isinstance(effect, Send) and effect.read is None:
            address = json.dumps([effect.request.path, sorted(effect.request.query.items())])
            if address in self._pages:
                return self._pages[address]
        self._budget.check()
        reply = yield effect
        if address is not None:
            self._pages[address] = reply
        return reply


def _observe(ref: RunRef) -> Flow[Observation]:
    return (yield Read(ref))
