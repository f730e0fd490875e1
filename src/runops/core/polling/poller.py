"""All waits of one event loop on one credential, over one line of jobs. It decides nothing about a run.

How it works:

- :meth:`Poller.lease` gives the running loop's poller for a credential; the last :meth:`Poller.release` closes it.
- A wait is a flow (waiting/flows.py): a generator that asks for a read, a request or a sleep, and decides everything
  else itself. :meth:`Poller._advance` lets it go on until it asks for something that takes time. What concerns its key
  is the client's business, to whom :meth:`Poller.carry` gives the wait back.
- A sleep is an entry in the :class:`TimerHeap`, which has one timer of the loop for all waits. So has what is in line
  or under way: an entry for the moment at which the wait is over, whether or not an answer has come.
- A read puts the wait's run in line (reads.py); the connection workers of dispatch.py come to it at the pace of
  pace.py. The observation is handed to all waits of that run: those who sleep are woken, since theirs is answered too.
- Whatever happens in one wait ends no other: each flow runs in its waiter's context, and errors of a run go to its own.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import os
from asyncio import AbstractEventLoop
from typing import Any, Literal

from runops.core.declaration import Observation
from runops.core.model.codes import Code, with_code
from runops.core.model.errors import AnswerError, ConnectionFailed, RunopsError, TransientError
from runops.core.model.run import RunRef, RunSnapshot
from runops.core.model.secret import Secret
from runops.core.polling.dispatch import Dispatcher
from runops.core.polling.reads import Question, Reads, Run, Wait
from runops.core.polling.shared_key import SharedKey
from runops.core.polling.timers import TimerHeap
from runops.core.transport.httpx_pool import AsyncTransport
from runops.core.transport.session import LAST_LOOK_SECONDS, Session
from runops.core.waiting.options import WaitOptions
from runops.core.waiting.steps import Effect, Ended, Flow, Read, ReadKey, Send, Sleep, step

logger = logging.getLogger("runops")

SHORTEST = 0.05
"""Seconds between two reads of a run that are planned for at the least."""
FIRST_ROUND = 10.0
"""Seconds within which new waits get their first read, however seldom they want to read later."""
IN_LINE = 1.0
"""Seconds after the end of a wait for which its last read, if it had to wait in line, may go on."""
LATE_BY = 1.5
"""Intervals without an answer after which it is late."""
HeldBy = Literal["key", "rate_limit"]
"""What holds the waits for a run up, as a poller sees it."""

_POLLERS: dict[AbstractEventLoop, dict[tuple[object, ...], Poller]] = {}
_CLOSING: set[asyncio.Task[None]] = set()
"""The loop holds its tasks weakly, and who began to close may be gone."""

if hasattr(os, "register_at_fork"):
    # They belong to the loops of the process that forked this one.
    os.register_at_fork(after_in_child=_POLLERS.clear)


class Poller:
    """Waits of one event loop on one provider and credential.

    Get one by :meth:`lease`; the last :meth:`release` closes it.

    Args:
        session: The credential's way to the service.
        transport: Takes the place of real connections, for tests.
    """

    def __init__(self, session: Session, *, transport: AsyncTransport | None = None) -> None:
        self._session = session
        self._provider = session.provider
        self._loop = asyncio.get_running_loop()

        def report_delay(pace: float, seconds: float) -> None:
            text = "%s allows about %.3g requests a second for %d runs: a look comes about %.0f s later than planned."
            coded = with_code(text, Code.LOOKS_DELAYED)
            logger.warning(coded, session.provider.title, pace, len(self._runs), seconds)

        self._dispatcher = Dispatcher(session, transport=transport, on_delay=report_delay)
        self._pace = self._dispatcher.pace
        self._reads = Reads(session, self._dispatcher, self)
        self._timers = TimerHeap(self._ring)
        self._runs: dict[RunRef, Run] = {}
        self._waits = 0
        self._leases = 0

    # --- sharing ---

    @classmethod
    def lease(cls, session: Session, transport: AsyncTransport | None = None) -> Poller:
        """The running loop's poller for a credential, made if there is none. Give it back by :meth:`release`.

        Raises:
            ConfigurationError: The session was made before a fork, in the process that forked this one.
        """
        session.check_process()
        loop = asyncio.get_running_loop()
        pollers = _POLLERS.get(loop)
        if pollers is None:
            # A loop that was closed over its waits has left its pollers behind.
            for dead in [each for each in tuple(_POLLERS) if each.is_closed()]:
                _POLLERS.pop(dead, None)
            pollers = _POLLERS[loop] = {}
        key = (*session.key, id(transport) if transport else None)
        poller = pollers.get(key)
        if poller is None:
            poller = pollers[key] = cls(session, transport=transport)
        poller._leases += 1
        return poller

    async def release(self) -> None:
        """Give a lease back; the last one closes the connections, whatever happens to the task that waits for it."""
        self._leases -= 1
        if self._leases:
            return
        pollers = _POLLERS.get(self._loop, {})
        for key in [key for key, poller in pollers.items() if poller is self]:
            del pollers[key]
        if not pollers:
            _POLLERS.pop(self._loop, None)
        if self._loop.is_closed() or self._session.is_forked:
            # It was closed over its waits, or is another process's: there is nobody here to close the connections.
            return
        closing = self._loop.create_task(self._close(), context=contextvars.Context())
        _CLOSING.add(closing)
        closing.add_done_callback(_CLOSING.discard)
        await asyncio.shield(closing)

    async def _close(self) -> None:
        self._timers.close()
        for run in self._runs.values():
            for wait in run.waits:
                if not wait.done.done():
                    wait.done.set_exception(ConnectionFailed("The poller was closed under the wait."))
        await self._dispatcher.close()

    # --- waiting ---

    async def carry(
        self,
        flow: Flow[RunSnapshot],
        ref: RunRef,
        options: WaitOptions,
        *,
        reply: Any = None,
        effect: Effect | None = None,
        key: SharedKey | None = None,
        trace_id: str | None = None,
    ) -> Ended[RunSnapshot] | Effect:
        """Do what a wait asks for, until it ends, asks for its key, or has to go on in another poller.

        Args:
            flow: The wait.
            ref: The run that it waits for.
            options: Its clocks.
            reply: What it is given first.
            effect: What it has asked for already, where it comes from another poller.
            key: Gives the wait back once there is another key.
            trace_id: What the run's requests bear, where its provider has a header for it.
        """
        self._session.check_process()
        run = self._runs.get(ref)
        if run is None:
            # Checks the reference before anything is sent.
            self._provider.request(self._provider.status, ref)
            run = self._runs[ref] = Run(ref, self._reads, trace_id)
            self._reads.lists.place(run, None)
        first = min(options.cadence.first, FIRST_ROUND)
        wait = Wait(flow, run, self._loop.create_future(), first, wants_spend=options.max_spend is not None)
        run.waits.append(wait)
        self._waits += 1
        if key is not None:
            key.waits[wait] = self
        try:
            self._plan(wait, wait.shortest)
            self._advance(wait, reply, effect=effect)
            return await wait.done
        finally:
            self._drop(wait)
            if key is not None:
                del key.waits[wait]

    def hold(self, ref: RunRef, seconds: float) -> HeldBy | None:
        """What holds the waits for a run up that have had no answer for some seconds; None for nothing of here.

        A refused key, while it is read again; or the service's limits, where an answer is late by half an interval.
        """
        run = self._runs.get(ref)
        if run is None:
            return None
        if any(isinstance(wait.effect, Sleep) and wait.effect.for_key for wait in run.waits):
            return "key"
        is_late = seconds * run.usual_rate > LATE_BY
        is_limited = self._pace.is_stretched or self._session.rate_limiter.delay(self._session.clock()) > 0
        return "rate_limit" if is_late and is_limited else None

    def uses(self, token: Secret) -> bool:
        """Whether its requests bear this credential."""
        return self._session.token == token

    def give_back(self, wait: Wait) -> None:
        """Let a wait go on elsewhere, with what it asks for now; what comes of that here is dropped."""
        effect = wait.effect
        if wait.done.done() or effect is None:
            return
        if isinstance(effect, Sleep):
            effect = Sleep(0.0 if effect.for_key else max(wait.due - self._loop.time(), 0.0))
        wait.wake()
        wait.done.set_result(effect)

    def _drop(self, wait: Wait) -> None:
        wait.wake()
        self._waits -= 1
        if self._waits:
            self._pace.leave(wait.rate)
        else:
            self._pace.clear()
        run = wait.run
        run.waits.remove(wait)
        if not run.waits:
            del self._runs[run.ref]
            self._reads.lists.forget(run)

    def _advance(
        self, wait: Wait, reply: Any = None, error: BaseException | None = None, effect: Effect | None = None
    ) -> None:
        """Let a flow go on until it asks for something that takes time."""
        while not wait.done.done():
            wanted: Effect | Ended[RunSnapshot] | RunopsError | None = effect
            if wanted is None:
                try:
                    wanted = wait.context.run(step, wait.flow, reply, error)
                except BaseException as failure:  # noqa: BLE001
                    # It ends this wait, and no other; a callback of the loop would drop it unseen.
                    wait.done.set_exception(failure)
                    return
            reply, error, effect = None, None, None
            wait.effect = None if isinstance(wanted, (Ended, RunopsError)) else wanted
            match wanted:
                case Sleep(seconds):
                    self._sleep(wait, seconds)
                    return
                case Read() if wait.observation is not None:
                    reply, wait.observation = wait.observation, None
                case Read() | Send():
                    error = self._held_back(wanted.by)
                    if error is None:
                        if isinstance(wanted, Read):
                            self._read(wait, wanted.by)
                        else:
                            self._send(wait, wanted)
                        return
                case Ended() | ReadKey():
                    wait.done.set_result(wanted)
                case failure:
                    wait.done.set_exception(failure)

    # --- what a flow asks for ---

    def _plan(self, wait: Wait, seconds: float) -> None:
        """Note how often a wait reads; what is planned is what may leave."""
        rate = 1.0 / max(seconds, wait.shortest, SHORTEST)
        if wait.failing:
            # Tries again are no reason for more requests than there were before the trouble.
            rate = min(rate, wait.rate)
        else:
            wait.run.usual_rate = rate
        self._pace.plan(rate, instead_of=wait.rate)
        wait.rate = rate

    def _sleep(self, wait: Wait, seconds: float) -> None:
        self._plan(wait, seconds)
        wait.asleep = True
        if seconds >= wait.shortest and not wait.failing:
            # From read to read: a slow service must not stretch the interval.
            seconds -= min(wait.run.took, seconds / 10)
        wait.due = self._loop.time() + seconds
        self._timers.add(wait, seconds, self._waits)

    def _held_back(self, by: float | None) -> AnswerError | None:
        """An error at once for a request that the rate limiter will not let pass in time."""
        if by is None:
            return None
        now = self._session.clock()
        return _too_late() if self._session.rate_limiter.delay(now) > max(by - now, 0.0) else None

    def _read(self, wait: Wait, by: float | None) -> None:
        """Put a run in line for a read, unless one is in line or under way."""
        wait.reading = True
        joins = wait.run.is_queued or self._reads.queue(wait.run)
        self._dispatcher.go_on()
        if joins or len(self._dispatcher):
            self._wake_after(wait, by, IN_LINE)
        elif by is not None and by - self._session.clock() < self._session.timeout:
            self._wake_after(wait, by, LAST_LOOK_SECONDS)

    def _send(self, wait: Wait, effect: Send) -> None:
        """Put a question in line, before all others: how the run ended is known, and its wait is almost over."""
        wait.question = Question(wait, effect, self._reads)
        self._dispatcher.add_first(wait.question)
        self._wake_after(wait, effect.by, IN_LINE)
        self._dispatcher.go_on()

    def _wake_after(self, wait: Wait, by: float | None, grace: float) -> None:
        """Nobody knows how long the line or the answer will take, for a pause may be asked for at any moment."""
        if by is not None and math.isfinite(by):
            self._timers.add(wait, max(by - self._session.clock(), 0.0) + grace, self._waits)

    # --- what wakes it ---

    def _ring(self, wait: Wait) -> None:
        error = None if wait.asleep else _unanswered()
        wait.wake()
        self._advance(wait, error=error)

    def observed(self, run: Run, observation: Observation) -> None:
        """Hand an observation to all who wait for the run, whether they are due or asleep."""
        for wait in tuple(run.waits):
            wait.failing = False
            if wait.reading:
                wait.wake()
                self._advance(wait, observation)
            elif wait.asleep:
                wait.wake()
                wait.observation = observation
                self._advance(wait)

    def failed(self, run: Run, error: Exception) -> None:
        """Hand a failure to all who wait for this read."""
        for wait in tuple(run.waits):
            if wait.reading:
                wait.failing = True
                wait.wake()
                self._advance(wait, error=error)

    def replied(self, question: Question, reply: Any, error: Exception | None) -> None:
        """Hand a reply to the flow that still waits for it."""
        wait = question.wait
        if wait.question is question:
            wait.wake()
            self._advance(wait, reply, error)


def _too_late() -> TransientError:
    return TransientError("The service's limits hold the next look back for longer than the wait lasts.")


def _unanswered() -> TransientError:
    return TransientError(
        "No answer to the last look came before the wait was over: it was slow, or the service's limits held it back."
    )
