"""All waits of one loop on one credential: one pool, one timer heap, one rate limiter. It judges nothing."""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import logging
import math
import os
from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Callable
from functools import partial
from hashlib import blake2b
from typing import Any

from runops.core.declaration import Observation
from runops.core.model.errors import (
    AnswerError,
    AnswerLost,
    ConnectionFailed,
    MalformedAnswer,
    RunopsError,
    TransientError,
)
from runops.core.model.run import RunRef, RunSnapshot
from runops.core.polling.lists import ListBatch, batch_key
from runops.core.transport.offload import off_loop
from runops.core.transport.pool import AsyncTransport, Pool, Prepared, open_pool
from runops.core.transport.retry import RATE_LIMITED, Answer
from runops.core.transport.reuse import AcceptAsync, accept_any
from runops.core.transport.session import LAST_LOOK_SECONDS, Session
from runops.core.waiting import flows
from runops.core.waiting.flows import OnUpdate
from runops.core.waiting.options import WaitOptions
from runops.core.waiting.state import WaitProgress
from runops.core.waiting.steps import Ended, Flow, Read, Send, Sleep, step

logger = logging.getLogger("runops")

FEWEST_CONNECTIONS = 4
MOST_CONNECTIONS = 256
GROWTH = 8
"""For so many connections at work one more may be on its way."""
SPARE = 1.05
"""How many more connections than rate x latency asks for."""
CATCH_UP = 1.25
"""How much faster than planned looks may leave, to work off what a pause has piled up."""
ALWAYS_ALLOWED = 20.0
"""Requests a second that no plan stretches."""
WITHIN_LIMIT = 0.98
"""The part of a declared limit that is used: the service's minute is not ours, and requests arrive unevenly."""
SLOWEST = 0.2
"""Requests a second that are left after any number of 429."""
TICK = 0.05
"""Seconds between the moments at which the poller does what has fallen due: to wake up costs more than a look."""
LATENESS = 2 * TICK
"""Seconds by which a request may leave late without moving the ones after it: a busy loop must not lower the pace."""
RECOVERY = 10.0
"""Seconds between two halvings after 429, and without a 429 until the pace rises again."""
SLOW_RISE = 1.1
"""By how much it rises where it may meet the limit again; below that it doubles."""
DEEPEST = 16
"""Where nothing is answered any more, halving ends at this part of the pace at which it began."""
SHORTEST = 0.05
"""Seconds between two looks at a run that are planned for at the least."""
FIRST_ROUND = 10.0
"""Seconds within which new waits get their first look, however seldom they want to look later."""
OVERDUE = 1.0
"""Seconds after which an exchange no longer counts as one of the connections that the rate asks for: it may hang."""
SETTLED = 10.0
"""Seconds after which the log tells how late looks are: by then those that began together are all in line."""
IN_LINE = 1.0
"""Seconds after the end of a wait for which its last look, if it had to wait in line, may go on."""
AT_ONCE = 100
"""Waits that go on in one round of the loop; the rest take the next one, so that nothing else there stands still."""


class _Run:
    """One run, however many wait for it."""

    __slots__ = ("alone", "digest", "look", "prepared", "queued", "ref", "scope", "took", "waits")

    def __init__(self, ref: RunRef) -> None:
        self.ref = ref
        self.alone = False
        """Whether a list has just failed to show it, so that only its own route will do."""
        self.digest: bytes | None = None
        """Of the last body, whose look need not be worked out again."""
        self.look: Observation | None = None
        self.prepared: Prepared | None = None
        self.scope: ListBatch[_Run] | None = None
        self.took = 0.0
        """Seconds that its last look took."""
        self.waits: list[_Wait] = []
        self.queued = False


class _Wait:
    """One waiter: its flow, and what the flow is doing now."""

    __slots__ = (
        "asleep",
        "context",
        "done",
        "failing",
        "flow",
        "look",
        "question",
        "rate",
        "reading",
        "run",
        "shortest",
        "turn",
    )

    def __init__(
        self,
        flow: Flow[RunSnapshot],
        run: _Run,
        done: asyncio.Future[RunSnapshot],
        shortest: float,
    ) -> None:
        self.flow = flow
        self.run = run
        self.done = done
        self.context = contextvars.copy_context()
        """The waiter's own: what the flow and ``on_update`` log belongs to the waiter."""
        self.turn = 0
        """Which of its entries in the heap counts: each step of the flow makes the older ones stale."""
        self.shortest = shortest
        """Seconds: a sleep that a clock cuts short is no plan to look more often."""
        self.rate = 0.0
        """Looks a second that it plans."""
        self.failing = False
        self.asleep = False
        self.reading = False
        self.question: _Question | None = None
        self.look: Observation | None = None


class _Question:
    """One request of a single flow that is no status read."""

    __slots__ = ("read", "request", "wait")

    def __init__(self, wait: _Wait, effect: Send) -> None:
        self.wait = wait
        self.request = effect.request
        self.read = effect.read


_Job = _Run | ListBatch[_Run] | _Question

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
        most_connections: The most connections that may be open at once.
    """

    def __init__(
        self,
        session: Session,
        *,
        transport: AsyncTransport | None = None,
        most_connections: int = MOST_CONNECTIONS,
    ) -> None:
        self._session = session
        self._provider = session.provider
        self._most = most_connections
        self._pool: Pool = open_pool(
            session.root, max_connections=most_connections, transport=transport, peer=session.peer
        )
        self._loop = asyncio.get_running_loop()
        # What the poller does for all is no waiter's doing, and must not land in some waiter's log.
        self._context = contextvars.Context()
        self._runs: dict[RunRef, _Run] = {}
        self._scopes: dict[tuple[str, ...], ListBatch[_Run]] = {}
        self._guess: ListBatch[_Run] | None = None
        self._heap: list[tuple[float, int, _Wait]] = []
        self._turns = 0
        self._waits = 0
        self._alarm: asyncio.TimerHandle | None = None
        self._jobs: deque[_Job] = deque()
        self._opening: asyncio.TimerHandle | None = None
        self._idle: list[asyncio.Future[_Job]] = []
        self._workers: set[asyncio.Task[None]] = set()
        self._new: set[asyncio.Task[None]] = set()
        self._hiring: asyncio.TimerHandle | None = None
        self._under_way: dict[int, float] = {}
        self._exchanges = 0
        self._answered_at = 0.0
        self._rate = 0.0
        self._leaving: list[tuple[float, float]] = []
        self._latency = 0.005
        self._slowed_to: float | None = None
        self._slowed_at = self._refused_at = self._rose_at = 0.0
        self._may_hold = 0.0
        self._served = False
        self._telling: asyncio.TimerHandle | None = None
        self._told_delay = False
        self._leases = 0
        self._closed = False

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
        self._closed = True
        for handle in (self._alarm, self._opening, self._hiring, self._telling):
            if handle is not None:
                handle.cancel()
        for run in self._runs.values():
            for wait in run.waits:
                if not wait.done.done():
                    wait.done.set_exception(ConnectionFailed("The poller was closed under the wait."))
        workers = tuple(self._workers)
        for worker in workers:
            worker.cancel()
        try:
            await asyncio.gather(*workers, return_exceptions=True)
        finally:
            await self._pool.close()

    @property
    def connections(self) -> int:
        """Open connections."""
        return self._pool.connections

    # --- waiting ---

    async def wait(
        self,
        ref: RunRef,
        patience: WaitOptions,
        *,
        submitted_at: float | None = None,
        seen: bool = False,
        past: WaitProgress | None = None,
        on_update: OnUpdate | None = None,
    ) -> RunSnapshot:
        """Wait until a run is over; see :meth:`runops.core.AsyncRunClient.wait`."""
        self._session.check_process()
        run = self._runs.get(ref)
        if run is None:
            # Checks the reference before anything is sent.
            self._provider.request(self._provider.status, ref)
            run = self._runs[ref] = _Run(ref)
            self._place(run, None)
        flow = flows.wait(
            self._provider,
            ref,
            patience,
            clock=self._session.clock,
            submitted_at=submitted_at,
            seen=seen,
            past=past,
            on_update=on_update,
        )
        wait = _Wait(flow, run, self._loop.create_future(), min(patience.cadence.first, FIRST_ROUND))
        run.waits.append(wait)
        self._waits += 1
        try:
            self._plan(wait, wait.shortest)
            self._advance(wait)
            return await wait.done
        finally:
            self._drop(wait)

    def _drop(self, wait: _Wait) -> None:
        self._wake(wait)
        self._waits -= 1
        if self._waits:
            # Those that are left keep the pace that they were planned with: where many runs end at once, a pace that
            # sinks with each of them would make the last ones late.
            heapq.heappush(self._leaving, (self._loop.time() + 1.0 / wait.rate, wait.rate))
        else:
            self._rate = 0.0
            self._leaving.clear()
        wait.flow.close()
        run = wait.run
        run.waits.remove(wait)
        if not run.waits:
            del self._runs[run.ref]
            if run.scope is not None:
                run.scope.forget(run.ref.run_id)
                self._fold(run.scope)

    def _advance(self, wait: _Wait, reply: Any = None, error: BaseException | None = None) -> None:
        """Let a flow go on until it asks for something that takes time."""
        while not wait.done.done():
            try:
                effect = wait.context.run(step, wait.flow, reply, error)
            except (Exception, asyncio.CancelledError) as failure:  # noqa: BLE001
                # Whatever ends a flow ends its wait, and no other.
                wait.done.set_exception(failure)
                return
            reply, error = None, None
            match effect:
                case Sleep(seconds):
                    self._sleep(wait, seconds)
                    return
                case Read() if wait.look is not None:
                    reply, wait.look = wait.look, None
                case Read() | Send():
                    error = self._held_back(effect.by)
                    if error is None:
                        if isinstance(effect, Read):
                            self._ask(wait, effect.by)
                        else:
                            self._ask_more(wait, effect)
                        return
                case Ended(result):
                    wait.done.set_result(result)
                case failure:
                    wait.done.set_exception(failure)

    # --- time ---

    def _plan(self, wait: _Wait, seconds: float) -> None:
        """Note how often a wait looks; what is planned is what may leave."""
        rate = 1.0 / max(seconds, wait.shortest, SHORTEST)
        if wait.failing:
            # Tries again are no reason for more requests than there were before the trouble.
            rate = min(rate, wait.rate)
        self._rate += rate - wait.rate
        wait.rate = rate

    def _planned(self) -> float:
        """Looks a second that all waits plan; one that is over counts until its next look would have been due."""
        leaving = self._leaving
        while leaving and leaving[0][0] <= self._loop.time():
            self._rate -= heapq.heappop(leaving)[1]
        return self._rate

    def _sleep(self, wait: _Wait, seconds: float) -> None:
        self._plan(wait, seconds)
        wait.asleep = True
        if seconds >= wait.shortest and not wait.failing:
            # From look to look: a slow service must not stretch the interval.
            seconds -= min(wait.run.took, seconds / 10)
        self._remind(wait, seconds)

    def _remind(self, wait: _Wait, seconds: float) -> None:
        self._turns += 1
        wait.turn = self._turns
        due = self._loop.time() + seconds
        heap = self._heap
        heapq.heappush(heap, (due, wait.turn, wait))
        if len(heap) > 2 * self._waits + AT_ONCE:
            # A wait has one entry that counts; the others would stay until they are due, maybe for days.
            heap[:] = [entry for entry in heap if entry[1] == entry[2].turn]
            heapq.heapify(heap)
        if self._alarm is None or due < self._alarm.when():
            self._set_alarm(due)

    def _set_alarm(self, due: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._at_tick(due, self._ring)

    def _at_tick(self, due: float, work: Callable[[], None]) -> asyncio.TimerHandle:
        """Never early: a pause that the service asked for is kept to the end."""
        return self._loop.call_at(math.ceil(due / TICK) * TICK, work, context=self._context)

    def _ring(self) -> None:
        self._alarm = None
        # One look at the clock: what falls due while the flows go on has a ring of its own.
        now = self._loop.time()
        heap = self._heap
        due: list[_Wait] = []
        while heap and len(due) < AT_ONCE and (heap[0][0] <= now or heap[0][1] != heap[0][2].turn):
            _, turn, wait = heapq.heappop(heap)
            if turn == wait.turn:
                due.append(wait)
        if heap:
            self._set_alarm(heap[0][0])
        for wait in due:
            error = None if wait.asleep else _unanswered()
            self._wake(wait)
            self._advance(wait, error=error)

    def _wake(self, wait: _Wait) -> None:
        wait.turn = 0
        wait.asleep = wait.reading = False
        wait.question = None

    # --- work ---

    def _held_back(self, by: float | None) -> AnswerError | None:
        """An error at once for a request that the rate limiter will not let pass in time."""
        if by is None:
            return None
        now = self._session.clock()
        return _too_late() if self._session.rate_limiter.delay(now) > max(by - now, 0.0) else None

    def _ask(self, wait: _Wait, by: float | None) -> None:
        """Put a run in line for a look."""
        wait.reading = True
        run = wait.run
        joins = run.queued
        if not joins:
            run.queued = True
            joins = self._left_to_list(run)
            if not joins:
                self._jobs.append(run)
        self._go_on()
        if joins or self._jobs:
            self._remind_by(wait, by, IN_LINE)
        elif by is not None and by - self._session.clock() < self._session.timeout:
            self._remind_by(wait, by, LAST_LOOK_SECONDS)

    def _ask_more(self, wait: _Wait, effect: Send) -> None:
        """Put a question in line, before all others: how the run ended is known, and its wait is almost over."""
        wait.question = _Question(wait, effect)
        self._jobs.appendleft(wait.question)
        self._remind_by(wait, effect.by, IN_LINE)
        self._go_on()

    def _remind_by(self, wait: _Wait, by: float | None, grace: float) -> None:
        """Nobody knows how long the line or the answer will take, for a pause may be asked for at any moment."""
        if by is not None and math.isfinite(by):
            self._remind(wait, max(by - self._session.clock(), 0.0) + grace)

    def _go_on(self) -> None:
        if self._opening is None and not self._closed:
            self._hand_out()

    def _hand_out(self) -> None:
        """Give jobs to workers as fast as the rate limiter and the number of connections allow."""
        self._opening = None
        limiter, jobs = self._session.rate_limiter, self._jobs
        spacing = 0.0
        while jobs:
            if not self._is_due(jobs[0]):
                jobs.popleft()
                continue
            now = self._session.clock()
            held = limiter.delay(now)
            if held > 0:
                self._opening = self._at_tick(self._loop.time() + held, self._hand_out)
                return
            turn = self._idle_turn()
            if turn is None:
                self._hire()
                return
            spacing = spacing or 1.0 / self._allowed()
            limiter.reserve(now, spacing, lateness=LATENESS)
            turn.set_result(jobs.popleft())

    def _is_due(self, job: _Job) -> bool:
        """Whether anyone still waits for a job that comes to its turn, and no list answers it."""
        if isinstance(job, _Question):
            return job.wait.question is job and not job.wait.done.done()
        if isinstance(job, ListBatch):
            if job.wanting or job.members:
                return True
            job.end()
            self._fold(job)
            return False
        if not any(wait.reading for wait in job.waits):
            job.queued = job.alone = False
            return False
        return not self._left_to_list(job)

    def _idle_turn(self) -> asyncio.Future[_Job] | None:
        while self._idle:
            turn = self._idle.pop()
            if not turn.done():
                return turn
        return None

    def _hire(self) -> None:
        """Take on another worker if there are fewer than needed; else look again when some may hang."""
        overdue, workers = self._overdue(), len(self._workers)
        # Few at a time: while connections are made everything takes longer, which must not ask for even more of them.
        grows = workers < FEWEST_CONNECTIONS or GROWTH * (len(self._new) - overdue) <= workers
        if grows and workers < min(self._wanted() + overdue, self._most):
            self._take_on()
        elif self._hiring is None:
            self._hiring = self._loop.call_later(OVERDUE, self._look_for_workers, context=self._context)

    def _take_on(self) -> None:
        worker = self._loop.create_task(self._work(), context=contextvars.Context())
        self._workers.add(worker)
        self._new.add(worker)
        worker.add_done_callback(self._let_go)

    def _let_go(self, worker: asyncio.Task[None]) -> None:
        """Whatever ended a worker, what is in line must not wait for another one to notice."""
        self._workers.discard(worker)
        self._new.discard(worker)
        self._go_on()

    def _look_for_workers(self) -> None:
        self._hiring = None
        if self._jobs and self._loop.time() - self._answered_at >= OVERDUE and len(self._workers) < self._most:
            # Nothing is answered at all: one more tries, and not as many as there are looks to make.
            self._take_on()
        self._go_on()

    def _wanted(self) -> int:
        """How many connections rate x latency asks for."""
        needed = math.ceil(min(self._planned(), self._allowed()) * self._latency * SPARE)
        return min(max(needed, FEWEST_CONNECTIONS), self._most)

    def _overdue(self) -> int:
        """How many exchanges may hang, since much younger ones were answered: others must not wait for them."""
        before = self._answered_at - max(OVERDUE, 4 * self._latency)
        count = 0
        for began in self._under_way.values():
            if began > before:
                break
            count += 1
        return count

    def _allowed(self) -> float:
        """Requests a second that may leave: the plan and a little more, or fewer after a 429."""
        pace = max(self._planned() * CATCH_UP, ALWAYS_ALLOWED)
        declared = self._session.requests_per_minute
        if declared is not None and pace > declared / 60 * WITHIN_LIMIT:
            pace = declared / 60 * WITHIN_LIMIT
            self._will_tell_delay()
        slowed_to = self._slowed_to
        if slowed_to is None:
            return pace
        now = self._loop.time()
        if now - max(self._slowed_at, self._refused_at, self._rose_at) >= RECOVERY:
            slowed_to *= SLOW_RISE if slowed_to >= self._may_hold else 2.0
            self._slowed_to, self._rose_at = slowed_to, now
        if slowed_to >= pace:
            self._slowed_to = None
        return min(pace, slowed_to)

    def _slow_down(self) -> None:
        """Halve the pace after a 429, once for all that were under way when it came."""
        now = self._loop.time()
        self._refused_at = now
        if self._slowed_to is not None and now - self._slowed_at < RECOVERY:
            return
        pace = min(self._allowed(), self._planned())
        if self._slowed_to is None or self._served:
            # Half of a pace at which some were answered; where none was, the limit is not what it has met.
            self._may_hold = pace / 2
        self._slowed_to = max(pace / 2, self._may_hold / (DEEPEST / 2), SLOWEST)
        self._slowed_at, self._served = now, False
        self._will_tell_delay()

    def _will_tell_delay(self) -> None:
        if self._telling is None and not self._told_delay:
            self._telling = self._loop.call_later(SETTLED, self._tell_delay, context=self._context)

    def _tell_delay(self) -> None:
        pace = self._allowed()
        late = len(self._jobs) / pace
        self._telling = None
        if late < 1.0:
            return
        self._told_delay = True
        logger.warning(
            "%s allows about %.3g requests a second for %d runs: a look comes about %.0f s later than planned.",
            self._provider.title,
            pace,
            len(self._runs),
            late,
        )

    async def _work(self) -> None:
        """One connection's worth of work."""
        while True:
            job = await self._next_job()
            try:
                await self._do(job)
            except asyncio.CancelledError:
                # This worker is told to go, not those who wait for its job.
                self._jobs.appendleft(job)
                raise
            if not self._jobs and len(self._workers) > FEWEST_CONNECTIONS and len(self._workers) > self._wanted():
                return

    async def _next_job(self) -> _Job:
        turn: asyncio.Future[_Job] = self._loop.create_future()
        self._idle.append(turn)
        self._go_on()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._jobs.appendleft(turn.result())
            raise

    async def _do(self, job: _Job) -> None:
        if isinstance(job, _Run):
            await self._look(job)
        elif isinstance(job, ListBatch):
            await self._sweep(job)
        else:
            await self._answer(job)

    async def _exchange(self, prepared: Prepared, accept: AcceptAsync = accept_any) -> Answer:
        self._exchanges += 1
        number, began = self._exchanges, self._loop.time()
        worker = asyncio.current_task()
        connects = worker in self._new
        self._under_way[number] = began
        try:
            answer = await self._pool.exchange(
                prepared, limit=self._session.limit, seconds=self._session.timeout, accept=accept
            )
        except asyncio.CancelledError:
            if worker is not None and worker.cancelling():
                raise
            raise AnswerLost("The exchange was cancelled before its answer came.") from None
        finally:
            del self._under_way[number]
            if connects:
                self._new.discard(worker)
        self._answered_at = self._loop.time()
        if not connects:
            # One answer that the loop itself has kept waiting must not open connections.
            took = min(self._answered_at - began, 4 * self._latency)
            self._latency += 0.05 * (took - self._latency)
        if answer.status == RATE_LIMITED:
            self._slow_down()
        else:
            self._served = True
        return answer

    async def _look(self, run: _Run) -> None:
        try:
            prepared = run.prepared
            if prepared is None:
                request = self._provider.request(self._provider.status, run.ref)
                prepared = run.prepared = self._pool.prepare(self._session.prepare(request))
            began = self._loop.time()
            answer = await self._exchange(prepared, partial(self._accept, run))
            run.took = self._loop.time() - began
            look = await self._read(run, answer)
        except Exception as error:  # noqa: BLE001 - told to the waits of this run, and to no other
            run.queued = run.alone = False
            self._fail(run, error)
        else:
            run.queued = run.alone = False
            self._place(run, look)
            self._tell(run, look)

    async def _accept(self, run: _Run, answer: Answer) -> None:
        """Refuse an answer that is none about the run; whatever else is wrong with it is told later."""
        if answer.ok:
            try:
                await self._read(run, answer)
            except MalformedAnswer:
                raise
            except RunopsError:
                return

    async def _read(self, run: _Run, answer: Answer) -> Observation:
        """What an answer says; most say what the one before has said."""
        content = answer.content if answer.ok else self._session.judge(f"read of {run.ref}", answer)
        digest = blake2b(content, digest_size=16).digest()
        look = run.look
        if look is None or digest != run.digest:
            look = await off_loop(partial(self._provider.read, run.ref, content), len(content))
            run.look, run.digest = look, digest
        return look

    async def _answer(self, question: _Question) -> None:
        wait = question.wait
        try:
            prepared = self._pool.prepare(self._session.prepare(question.request))
            accept = partial(self._session.check_async, question.request)
            answer = await self._exchange(prepared, accept)
            content = self._session.judge(question.request.asked, answer, absent=question.request.absent)
            reply = content if question.read is None else await off_loop(partial(question.read, content), len(content))
        except Exception as failure:  # noqa: BLE001 - told to the flow that asked
            reply, error = None, failure
        else:
            error = None
        if wait.question is question:
            self._wake(wait)
            self._advance(wait, reply, error)

    def _tell(self, run: _Run, look: Observation) -> None:
        """Hand a look to all who wait for the run, whether they are due or asleep."""
        for wait in tuple(run.waits):
            wait.failing = False
            if wait.reading:
                self._wake(wait)
                self._advance(wait, look)
            elif wait.asleep:
                self._wake(wait)
                wait.look = look
                self._advance(wait)

    def _fail(self, run: _Run, error: Exception) -> None:
        for wait in tuple(run.waits):
            if wait.reading:
                wait.failing = True
                self._wake(wait)
                self._advance(wait, error=error)

    # --- lists ---

    def _left_to_list(self, run: _Run) -> bool:
        """Leave a run that is due to the list that shows it, or may show it, where asking that pays."""
        # Where its parent is not known yet, the largest one is the best guess.
        scope = run.scope or self._guess
        if scope is None or run.alone:
            return False
        if not scope.asked:
            if not scope.pays(run.ref.run_id, self._session.clock()):
                return False
            scope.asked = True
            self._jobs.append(scope)
        scope.wanting[run.ref.run_id] = run
        return True

    def _place(self, run: _Run, look: Observation | None) -> None:
        """Note which list shows a run, as soon as that is known."""
        if run.scope is not None or self._provider.listing is None:
            return
        key = batch_key(self._provider, run.ref, look)
        if key is None:
            return
        scope = self._scopes.get(key)
        if scope is None:
            scope = self._scopes[key] = ListBatch(self._provider, self._provider.listing, key)
        run.scope = scope
        scope.members[run.ref.run_id] = run
        if self._guess is None or len(scope.members) > len(self._guess.members):
            self._guess = scope

    def _fold(self, scope: ListBatch[_Run]) -> None:
        """Let go of a list that shows none of our runs any more."""
        if scope.members or scope.asked:
            return
        self._scopes.pop(scope.key, None)
        if self._guess is scope:
            self._guess = None

    async def _sweep(self, scope: ListBatch[_Run]) -> None:
        """Ask for the next page of a list; after the last one, for the runs that it has not shown."""
        try:
            request = scope.request()
            prepared = self._pool.prepare(self._session.prepare(request))
            answer = await self._exchange(prepared)
            content = self._session.judge(request.asked, answer, absent=request.absent)
            found = scope.take(await off_loop(partial(scope.read, content), len(content)))
        except Exception as error:  # noqa: BLE001 - the runs are asked one by one, and tell of their own errors
            self._give_up(scope, error)
            return
        for run, look in found:
            run.queued, run.took = False, 0.0
            self._place(run, look)
            self._tell(run, look)
        if scope.goes_on:
            # Each page is a request like any other, and one that answers many goes first.
            self._jobs.appendleft(scope)
        else:
            scope.judge(self._session.clock())
            self._ask_the_rest(scope)

    def _give_up(self, scope: ListBatch[_Run], error: Exception) -> None:
        if isinstance(error, ConnectionFailed) or (isinstance(error, AnswerError) and error.status == RATE_LIMITED):
            # Asked one by one, they would all meet with the same.
            for run_id in tuple(scope.wanting):
                run = scope.wanting.pop(run_id)
                run.queued = False
                self._fail(run, error)
        else:
            if not isinstance(error, RunopsError):
                logger.error("A list of %s runs could not be understood.", self._provider.title, exc_info=error)
            scope.fail(self._session.clock())
        self._ask_the_rest(scope)

    def _ask_the_rest(self, scope: ListBatch[_Run]) -> None:
        for run in scope.end().values():
            run.alone = True
            self._jobs.append(run)
        self._fold(scope)


def _too_late() -> TransientError:
    return TransientError("The service's limits hold the next look back for longer than the wait lasts.")


def _unanswered() -> TransientError:
    return TransientError(
        "No answer to the last look came before the wait was over: it was slow, or the service's limits held it back."
    )
