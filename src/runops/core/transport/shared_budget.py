"""A limit that holds over processes, for one credential of this one: asks the store, and says when it is lost or back.

What to ask, and what to make of it, is decided by :class:`runops.core.model.shared_rate.SharedRate`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from contextvars import Context
from weakref import WeakSet

from runops.core.model.shared_rate import Question, Reply, SharedRate
from runops.core.transport.rate_store import RateStore

logger = logging.getLogger("runops")

TRIES = 3
"""Questions after which a request that finds every place taken by its own process leaves on credit."""
_REFUSED = ("AuthenticationError", "AuthenticationWrongNumberOfArgsError", "NoPermissionError")


class SharedBudget:
    """The places of one credential in this process, for all its threads and event loops.

    Args:
        rate: Decides.
        store: Where the places come from.
        key: The name of the line there.
        title: The service's name, for messages.
        share: Requests a minute that this process keeps to while the store is lost, for messages.
        clock: Unix seconds.
    """

    def __init__(
        self,
        rate: SharedRate,
        store: RateStore,
        *,
        key: str,
        title: str,
        share: float,
        clock: Callable[[], float],
    ) -> None:
        self._rate = rate
        self._store = store
        self._key = key
        self._title = title
        self._share = share
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: dict[Callable[[], None], None] = {}
        self._loss_reported = False
        _BUDGETS.add(self)
        _KEPT.append(self)

    @property
    def is_alone(self) -> bool:
        """Whether this process keeps to its own share, since the store cannot be used."""
        return self._rate.is_alone

    def ask_in(self) -> float:
        """In how many seconds to ask the store again before a request may leave; 0 for not at all."""
        with self._lock:
            return self._rate.ask_in(self._clock())

    def delay(self, now: float) -> float:
        """As that of :class:`runops.core.model.cadence.RateLimiter`, as far as it is known."""
        with self._lock:
            return self._rate.delay(now)

    def reserve(self, now: float, spacing: float = 0.0, *, lateness: float = 0.0) -> float:
        """As that of :class:`runops.core.model.cadence.RateLimiter`."""
        with self._lock:
            return self._rate.reserve(now, spacing, lateness=lateness)

    def hold(self, until: float) -> None:
        """As that of :class:`runops.core.model.cadence.RateLimiter`; the other processes are told."""
        with self._lock:
            self._rate.hold(until)

    def refill(self, wanted: int, answered: Callable[[], None]) -> bool:
        """See to it that there are places; whether it is known when the next request may leave.

        Args:
            wanted: How many requests there are to send; 0 where only a pause is to be told.
            answered: Called in another thread when the store has answered, or not, where it is asked.
        """
        now = self._clock()
        with self._lock:
            is_lost = self._rate.is_overdue(now) and self._rate.lost(None, now)
            question = self._rate.question(now, wanted)
            if self._rate.is_asking:
                self._waiting[answered] = None
            is_known = self._rate.knows_place(now)
        if is_lost:
            self._say_lost("no answer in time")
        if question is not None:
            self._store.ask(self._key, question, self._answered)
        return is_known

    def find_place(self) -> None:
        """Wait until it is known when the next request may leave, for a few seconds at the most."""
        for _ in range(TRIES):
            answered = threading.Event()
            if self.refill(1, answered.set):
                return
            if not answered.wait(self._rate.answer_seconds):
                self._give_up()

    async def find_place_async(self) -> None:
        """The same for asyncio."""
        loop = asyncio.get_running_loop()
        for _ in range(TRIES):
            answered = asyncio.Event()
            if self.refill(1, in_loop(loop, answered.set)):
                return
            try:
                await asyncio.wait_for(answered.wait(), self._rate.answer_seconds)
            except TimeoutError:
                self._give_up()

    def _give_up(self) -> None:
        with self._lock:
            is_news = self._rate.lost(None, self._clock())
        if is_news:
            self._say_lost("no answer in time")

    def _answered(self, question: Question, reply: Reply | Exception) -> None:
        """Take in an answer, in the thread of the store."""
        now = self._clock()
        is_lost = is_back = False
        with self._lock:
            if isinstance(reply, Exception):
                is_lost = self._rate.lost(question, now)
            else:
                is_back = self._rate.replied(question, reply, now)
            waiting, self._waiting = self._waiting, {}
        if is_lost and isinstance(reply, Exception):
            kind = type(reply).__name__
            self._say_lost(f"{kind}: it refuses the user or the password" if kind in _REFUSED else kind)
        if is_back and self._loss_reported:
            self._loss_reported = False
            logger.warning(
                "%s: the store of its limit at %s is back: all processes share the whole limit again.",
                self._title,
                self._store.name,
            )
        for wake in waiting:
            wake()

    def _say_lost(self, why: str) -> None:
        self._loss_reported = True
        # The text of an error may hold anything.
        logger.warning(
            "%s: the store of its limit at %s cannot be used (%s). Until it is back this process keeps to its share, "
            "%.4g requests a minute; waits go on.",
            self._title,
            self._store.name,
            why,
            self._share,
        )

    def forget_places(self) -> None:
        """In a forked process: the places are the other's."""
        self._lock = threading.Lock()
        self._waiting = {}
        self._rate.forget_places()


def in_loop(
    loop: asyncio.AbstractEventLoop, wake: Callable[[], object], context: Context | None = None
) -> Callable[[], None]:
    """A call for another thread that has an event loop do something, unless the loop is closed by then."""

    def call() -> None:
        try:
            loop.call_soon_threadsafe(wake, context=context)
        except RuntimeError:
            return

    return call


_BUDGETS: WeakSet[SharedBudget] = WeakSet()
_KEPT: deque[SharedBudget] = deque(maxlen=64)
"""What a client that is closed leaves to the next one: that the store is lost need not be found out, and said, anew."""


def _after_fork() -> None:
    for budget in tuple(_BUDGETS):
        budget.forget_places()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
