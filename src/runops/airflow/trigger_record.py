"""The record of an external run as a trigger stores it while it waits: an XCom of its task, set from the triggerer.

A triggerer's supervisor stores one XCom at a time, and asks nothing else meanwhile. So all triggers of one event loop
share a budget (:data:`PER_SECOND`), and what waits for it is never old: a write takes what there is to tell when its
turn comes. Changes go before progress, and that before a mere sign of life; each in the order in which they came.

- A write delays no wait: waits only put themselves in line, and what a write raises ends there.
- It outlives no wait: a trigger that has ended, or was cancelled, is out of the line. What was sent by then was sent
  before the trigger's event, and a supervisor answers in order; so no worker's record is overwritten by it.
- A write says which try it is of. Where the task was cleared, and its next try has stored something already, a trigger
  that Airflow has yet to cancel sees that before its first write, and stores nothing more.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Protocol
from weakref import WeakKeyDictionary

from runops.airflow import page_extra
from runops.airflow._compat import get_xcom, may_set_xcom, set_xcom
from runops.airflow.bounds import within
from runops.airflow.external_run import EXTERNAL_RUN, ExternalRun, Hold
from runops.airflow.recording import Owed, Recording
from runops.core import Provider, RunSnapshot
from runops.core.many.tally import Tally
from runops.core.model.policy import Judgement

if TYPE_CHECKING:
    from runops.core.polling.poller import HeldBy

logger = logging.getLogger(__name__)

SHOWN = "shown"
"""What a worker has stored of a wait stands under this key of a trigger's ``patience``, see :meth:`Recording.shown`."""
PER_SECOND = 2.0
"""Writes of all triggers of one event loop."""
AT_ONCE = 10
"""Writes that may come at once after a time without any."""
ROOM = 1.0 - 1e-6
"""What the budget must have left for a write: sums of fractions of seconds are not exact."""
WRITE_SECONDS = 60.0
"""For one write."""
SWEEP_SECONDS = 15.0
"""Between two looks at waits that hear nothing: what holds them up shows nowhere else."""


Later = Callable[[float, Callable[[], object]], asyncio.TimerHandle]


class Storable(Protocol):
    """What is in line for a write."""

    async def write(self) -> None:
        """Store what there is to tell now."""

    def look_up_hold(self) -> None:
        """Find out what holds the wait up, where nothing was heard of it for long."""


class RecordWriter:
    """The writes of one event loop. See the module.

    :param clock: Seconds; by default those of the running loop.
    :param later: Calls something after some seconds, unless what it returns is cancelled; by default that loop does.
    """

    _writers: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, RecordWriter]] = WeakKeyDictionary()

    def __init__(self, clock: Callable[[], float] | None = None, later: Later | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._clock = self._loop.time if clock is None else clock
        # In a context of its own: what is logged then is no trigger's.
        self._later: Later = partial(self._loop.call_later, context=contextvars.Context()) if later is None else later
        self._lines: dict[Owed, dict[Storable, None]] = {owed: {} for owed in Owed}
        self._waits: dict[Storable, None] = {}
        self._budget = float(AT_ONCE)
        self._filled_at = self._clock()
        self._writing: asyncio.Task[None] | None = None
        self._turn: asyncio.TimerHandle | None = None
        """When the budget has room again."""
        self._sweep: asyncio.TimerHandle | None = None
        self._warned = False

    @classmethod
    def here(cls) -> RecordWriter:
        """That of the running loop."""
        loop = asyncio.get_running_loop()
        writer = cls._writers.get(loop)
        if writer is None:
            writer = cls._writers[loop] = cls()
        return writer

    def join(self, wait: Storable) -> None:
        """Look now and then at what holds a wait up.

        :param wait: The wait.
        """
        self._waits[wait] = None
        if self._sweep is None:
            self._sweep = self._later(SWEEP_SECONDS, self._look_up_holds)

    def leave(self, wait: Storable) -> None:
        """Forget a wait that has ended, and what it has put in line.

        :param wait: The wait.
        """
        self._waits.pop(wait, None)
        for line in self._lines.values():
            line.pop(wait, None)
        if not self._waits and self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        if self._turn is not None and not any(self._lines.values()):
            self._turn.cancel()
            self._turn = None

    def offer(self, wait: Storable, owed: Owed) -> None:
        """Put a wait in line.

        :param wait: The wait.
        :param owed: Why.
        """
        for sooner in Owed:
            if sooner <= owed and wait in self._lines[sooner]:
                return
        for line in self._lines.values():
            line.pop(wait, None)
        self._lines[owed][wait] = None
        self._go_on()

    def _go_on(self) -> None:
        """Begin the next write, now or as soon as the budget has room."""
        line = next((line for line in self._lines.values() if line), None)
        if line is None or self._writing is not None or self._turn is not None:
            return
        now = self._clock()
        self._budget = min(self._budget + (now - self._filled_at) * PER_SECOND, AT_ONCE)
        self._filled_at = now
        if self._budget < ROOM:
            self._turn = self._later((1.0 - self._budget) / PER_SECOND, self._its_turn)
            return
        self._budget -= 1.0
        wait = next(iter(line))
        del line[wait]
        self._writing = self._loop.create_task(self._write(wait), context=contextvars.Context())
        self._writing.add_done_callback(self._written)

    def _its_turn(self) -> None:
        self._turn = None
        self._go_on()

    def _written(self, _: asyncio.Task[None]) -> None:
        self._writing = None
        if not self._loop.is_closed():
            self._go_on()

    async def _write(self, wait: Storable) -> None:
        try:
            await wait.write()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is no wait's
            if not self._warned:
                logger.warning("What the page External runs shows could not be stored: %s", type(error).__name__)
            self._warned = True

    def _look_up_holds(self) -> None:
        self._sweep = self._later(SWEEP_SECONDS, self._look_up_holds)
        for wait in tuple(self._waits):
            wait.look_up_hold()


class TriggerRecord:
    """The record of one trigger's wait.

    :param ti: The trigger's task.
    :param recording: What there is to store.
    :param writer: Who stores it.
    """

    def __init__(self, ti: Any, recording: Recording, writer: RecordWriter) -> None:
        self.what_holds: Callable[[float], HeldBy | None] | None = None
        """Tells what holds up a wait that has heard nothing for so many seconds."""
        self._ti = ti
        self._recording = recording
        self._writer = writer
        self._taken_up = False
        self._is_closed = False
        """Whether somebody else stores what comes next."""
        writer.join(self)

    def observed(self, snapshot: RunSnapshot) -> None:
        """Take in a good read."""
        now = time.time()
        self._recording.observed(snapshot, now)
        self._offer(now)

    def counted(self, tally: Tally) -> None:
        """Take in how a set stands."""
        now = time.time()
        self._recording.counted(tally, now)
        self._offer(now)

    def held(self, hold: Hold | None, by: str | None = None) -> None:
        """Take in what holds the wait up; None for nothing."""
        self._recording.held(hold, by)
        self._offer(time.time())

    def look_up_hold(self) -> None:
        """Find out what holds the wait up, where nothing was heard of it for long."""
        if self.what_holds is None:
            return
        seconds = self._recording.unread_for(time.time())
        held = self.what_holds(seconds) if seconds >= SWEEP_SECONDS else None
        if held is not None:
            self.held(held)

    def close(self) -> None:
        """The wait has ended: whoever goes on with the task knows more, and stores it."""
        self._is_closed = True
        self._writer.leave(self)

    async def last(self, snapshot: RunSnapshot, judgement: Judgement) -> dict[str, Any] | None:
        """What the trigger is to store itself, since no worker follows it; None where that is not known.

        :param snapshot: The last snapshot.
        :param judgement: What becomes of it.
        """
        self._writer.leave(self)
        await self._take_up()
        return None if self._is_closed else self._recording.ended(snapshot, judgement, time.time()).to_dict()

    async def write(self) -> None:
        """Store what there is to tell now."""
        try:
            await self._take_up()
        finally:
            # Also where that failed: it is tried again at the next change.
            run = self._recording.take(time.time())
        if not self._is_closed:
            await within(WRITE_SECONDS, "a record to be stored", set_xcom(self._ti, EXTERNAL_RUN, run.to_dict()))

    async def _take_up(self) -> None:
        """Go on, before the first write, with what the task's worker or an earlier triggerer has stored."""
        if self._taken_up:
            return
        value = await within(WRITE_SECONDS, "a stored record", get_xcom(self._ti, EXTERNAL_RUN))
        stored = ExternalRun.from_dict(value)
        self._taken_up = True
        self._recording.take_up(stored)
        if stored is not None and stored.try_number > self._ti.try_number:
            self.close()

    def _offer(self, now: float) -> None:
        owed = None if self._is_closed else self._recording.owes(now)
        if owed is not None:
            self._writer.offer(self, owed)


def record_of(
    ti: Any, provider: Provider, shown: Mapping[str, Any] | None, hold: Hold | None = None, **run: Any
) -> TriggerRecord | None:
    """The record of a trigger; None where its task's XComs cannot be set, or the page is not installed here.

    :param ti: The trigger's task.
    :param provider: The provider.
    :param shown: What a worker has stored of this wait, as :meth:`Recording.shown` tells it; None where none has.
    :param hold: What held the wait up then.
    :param run: What is known, as :class:`ExternalRun` takes it.
    """
    if not page_extra.installed() or not may_set_xcom(ti):
        return None
    now = time.time()
    first = ExternalRun(provider=provider.name, try_number=getattr(ti, "try_number", 0), **run)
    recording = Recording(provider, first, now)
    if shown is not None:
        recording.assume_stored(shown, hold, now)
    return TriggerRecord(ti, recording, RecordWriter.here())
