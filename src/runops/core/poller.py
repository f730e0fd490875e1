"""All waits of one loop on one credential: one pool, one timer heap, one gate. It does not judge what it reads."""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import logging
import math
from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from runops.core import flows
from runops.core.channel import Channel
from runops.core.errors import AnswerError, RunopsError, TransientError
from runops.core.flows import Flow, Read, Seen, Sleep, Time
from runops.core.provider import Look, Request
from runops.core.retry import RATE_LIMITED
from runops.core.run import RunRef, RunSnapshot
from runops.core.sweep import Scope, scope_key
from runops.core.transport import AsyncTransport, Pool, Prepared, open_pool
from runops.core.watch import Patience

logger = logging.getLogger("runops")

FEWEST_CONNECTIONS = 4
MOST_CONNECTIONS = 256
SPARE = 1.15
"""How many more connections than rate x latency asks for."""
CATCH_UP = 1.25
"""How much faster than planned looks may leave, to work off what a pause has piled up."""
ALWAYS_ALLOWED = 20.0
"""Requests a second that no plan stretches."""
BURST = 0.005
"""Seconds by which a request may leave early: timers are no finer."""
RECOVERY = 10.0
"""Seconds without a 429 after which the pace rises by a tenth again."""

OnLook = Callable[[RunSnapshot], None]


class _Run:
    """One run, however many wait for it."""

    __slots__ = ("alone", "prepared", "queued", "ref", "scope", "waits")

    def __init__(self, ref: RunRef) -> None:
        self.ref = ref
        self.alone = False
        """Whether a list has just failed to show it, so that only its own route will do."""
        self.prepared: Prepared | None = None
        self.scope: Scope[_Run] | None = None
        self.waits: list[_Wait] = []
        self.queued = False


class _Wait:
    """One waiter: its flow, and what the flow is doing now."""

    __slots__ = ("by", "done", "flow", "look", "on_look", "rate", "reading", "run", "turn")

    def __init__(
        self, flow: Flow[RunSnapshot], run: _Run, done: asyncio.Future[RunSnapshot], on_look: OnLook | None
    ) -> None:
        self.flow = flow
        self.run = run
        self.done = done
        self.on_look = on_look
        self.turn = 0
        """Which of its entries in the heap counts: each step of the flow makes the older ones stale."""
        self.rate = 0.0
        """Looks a second that it plans, while it sleeps."""
        self.reading = False
        self.by: float | None = None
        self.look: Look | None = None


class _Question:
    """One request of a single flow that is no status read."""

    __slots__ = ("request", "wait")

    def __init__(self, wait: _Wait, request: Request) -> None:
        self.wait = wait
        self.request = request


_Job = _Run | Scope[_Run] | _Question

_POLLERS: WeakKeyDictionary[AbstractEventLoop, dict[tuple[object, ...], Poller]] = WeakKeyDictionary()


class Poller:
    """Waits of one event loop on one provider and credential.

    Get one by :meth:`lease`; the last :meth:`release` closes it.

    Args:
        channel: The credential's way to the service.
        transport: Takes the place of real connections, for tests.
        most_connections: The most connections that may be open at once.
    """

    def __init__(
        self,
        channel: Channel,
        *,
        transport: AsyncTransport | None = None,
        most_connections: int = MOST_CONNECTIONS,
    ) -> None:
        self._channel = channel
        self._provider = channel.provider
        self._most = most_connections
        self._pool: Pool = open_pool(channel.root, max_connections=most_connections, transport=transport)
        self._loop = asyncio.get_running_loop()
        self._runs: dict[RunRef, _Run] = {}
        self._scopes: dict[tuple[str, ...], Scope[_Run]] = {}
        self._heap: list[tuple[float, int, _Wait]] = []
        self._turns = 0
        self._alarm: asyncio.TimerHandle | None = None
        self._jobs: deque[_Job] = deque()
        self._opening: asyncio.TimerHandle | None = None
        self._idle: list[asyncio.Future[_Job | None]] = []
        self._workers: set[asyncio.Task[None]] = set()
        self._rate = 0.0
        self._latency = 0.05
        self._slowed_to: float | None = None
        self._slowed_at = 0.0
        self._told_delay = False
        self._leases = 0

    # --- sharing ---

    @classmethod
    def lease(cls, channel: Channel, transport: AsyncTransport | None = None) -> Poller:
        """The running loop's poller for a credential, made if there is none. Give it back by :meth:`release`."""
        pollers = _POLLERS.setdefault(asyncio.get_running_loop(), {})
        key = (*channel.key, id(transport) if transport else None)
        poller = pollers.get(key)
        if poller is None:
            poller = pollers[key] = cls(channel, transport=transport)
        poller._leases += 1
        return poller

    async def release(self) -> None:
        """Give a lease back; the last one closes the connections, whatever happens to the task that waits for it."""
        self._leases -= 1
        if self._leases == 0:
            pollers = _POLLERS.get(self._loop, {})
            for key in [key for key, poller in pollers.items() if poller is self]:
                del pollers[key]
            await asyncio.shield(self._loop.create_task(self._close(), context=contextvars.Context()))

    async def _close(self) -> None:
        for handle in (self._alarm, self._opening):
            if handle is not None:
                handle.cancel()
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        await self._pool.close()

    @property
    def connections(self) -> int:
        """Open connections."""
        return self._pool.connections

    # --- waiting ---

    async def wait(
        self,
        ref: RunRef,
        patience: Patience,
        *,
        submitted_at: float | None = None,
        seen: bool = False,
        on_look: OnLook | None = None,
    ) -> RunSnapshot:
        """Wait until a run is over; see :meth:`runops.core.AsyncRunClient.wait`."""
        run = self._runs.get(ref)
        if run is None:
            # Checks the reference before anything is sent.
            self._provider.request(self._provider.status, ref)
            run = self._runs[ref] = _Run(ref)
            self._place(run, None)
        flow = flows.wait(self._provider, ref, patience, submitted_at=submitted_at, seen=seen)
        wait = _Wait(flow, run, self._loop.create_future(), on_look)
        run.waits.append(wait)
        try:
            self._advance(wait)
            return await wait.done
        finally:
            self._drop(wait)

    def _drop(self, wait: _Wait) -> None:
        self._awake(wait)
        wait.flow.close()
        run = wait.run
        run.waits.remove(wait)
        if not run.waits:
            self._runs.pop(run.ref, None)
            for scope in tuple(self._scopes.values()) if run.scope is None else (run.scope,):
                scope.forget(run.ref.run_id)
                if not scope.members and not scope.asked:
                    self._scopes.pop(scope.key, None)

    def _advance(self, wait: _Wait, reply: Any = None, error: Exception | None = None) -> None:
        """Let a flow go on until it asks for something that takes time."""
        flow = wait.flow
        while not wait.done.done():
            try:
                effect = flow.send(reply) if error is None else flow.throw(error)
            except StopIteration as stop:
                wait.done.set_result(stop.value)
                return None
            except Exception as failure:  # noqa: BLE001 - whatever ends a flow ends its wait, and no other
                wait.done.set_exception(failure)
                return None
            reply, error = None, None
            if isinstance(effect, Time):
                reply = self._channel.clock()
            elif isinstance(effect, Seen):
                error = _tell(wait.on_look, effect.snapshot)
            elif isinstance(effect, Sleep):
                return self._sleep(wait, effect.seconds)
            elif isinstance(effect, Read):
                if wait.look is not None:
                    reply, wait.look = wait.look, None
                else:
                    error = self._ask(wait, effect.by)
                    if error is None:
                        return None
            else:
                self._put(_Question(wait, effect.request))
                return None
        return None

    # --- time ---

    def _sleep(self, wait: _Wait, seconds: float) -> None:
        wait.rate = 1.0 / max(seconds, 1.0)
        self._rate += wait.rate
        self._remind(wait, seconds)

    def _remind(self, wait: _Wait, seconds: float) -> None:
        self._turns += 1
        wait.turn = self._turns
        due = self._loop.time() + seconds
        heapq.heappush(self._heap, (due, wait.turn, wait))
        if self._alarm is None or due < self._alarm.when():
            self._set_alarm(due)

    def _set_alarm(self, due: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._loop.call_at(due, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        # One look at the clock: what falls due while the flows go on has a ring of its own.
        now = self._loop.time() + BURST
        heap = self._heap
        while heap and (heap[0][0] <= now or heap[0][1] != heap[0][2].turn):
            _, turn, wait = heapq.heappop(heap)
            if turn != wait.turn or wait.done.done():
                continue
            if wait.reading:
                self._awake(wait)
                self._advance(wait, error=_held_back())
            else:
                self._awake(wait)
                self._advance(wait)
        if heap:
            self._set_alarm(heap[0][0])

    def _awake(self, wait: _Wait) -> None:
        self._rate = max(self._rate - wait.rate, 0.0)
        wait.rate = 0.0
        wait.turn = 0
        wait.reading = False

    # --- work ---

    def _ask(self, wait: _Wait, by: float | None) -> AnswerError | None:
        """Put a run in line for a look; an error at once if it could not be had in time."""
        now = self._channel.clock()
        held = self._channel.gate.delay(now)
        if by is not None and held > max(by - now, 0.0):
            return _held_back()
        wait.reading = True
        run = wait.run
        if by is not None and held + self._queue_seconds() > by - now:
            self._remind(wait, max(by - now, 0.0) + 1.0)
        if run.queued:
            return None
        run.queued = True
        if not self._left_to_list(run):
            self._put(run)
        return None

    def _queue_seconds(self) -> float:
        return len(self._jobs) / self._allowed()

    def _put(self, job: _Job) -> None:
        self._jobs.append(job)
        if self._opening is None:
            self._hand_out()

    def _hand_out(self) -> None:
        """Give jobs to workers as fast as the gate and the number of connections allow."""
        self._opening = None
        gate = self._channel.gate
        while self._jobs:
            now = self._channel.clock()
            held = gate.delay(now)
            if held > BURST:
                self._opening = self._loop.call_later(held, self._hand_out)
                return
            if not self._idle:
                if len(self._workers) < self._wanted():
                    worker = self._loop.create_task(self._work(), context=contextvars.Context())
                    self._workers.add(worker)
                    worker.add_done_callback(self._workers.discard)
                return
            gate.reserve(now, 1.0 / self._allowed())
            self._idle.pop().set_result(self._jobs.popleft())

    def _planned(self) -> float:
        """Requests a second that the waits ask for, were nothing in their way."""
        return self._rate + len(self._jobs) / self._provider.cadence.first

    def _wanted(self) -> int:
        """How many connections rate x latency asks for."""
        needed = math.ceil(min(self._planned(), self._allowed()) * self._latency * SPARE)
        return min(max(needed, FEWEST_CONNECTIONS), self._most)

    def _allowed(self) -> float:
        """Requests a second that may leave: the plan and a little more, or fewer after a 429."""
        pace = max(self._planned() * CATCH_UP, ALWAYS_ALLOWED)
        declared = self._channel.requests_per_minute
        if declared is not None:
            if pace > declared / 60 and self._planned() > declared / 60:
                self._tell_delay(declared / 60)
            pace = min(pace, declared / 60)
        slowed_to = self._slowed_to
        if slowed_to is None:
            return pace
        steps = (self._loop.time() - self._slowed_at) // RECOVERY
        if steps >= 1:
            slowed_to *= 1.1**steps
            self._slowed_to, self._slowed_at = slowed_to, self._loop.time()
        if slowed_to >= pace:
            self._slowed_to = None
        return min(pace, slowed_to)

    def _slow_down(self) -> None:
        """Halve the pace after a 429, once for all that were under way when it came."""
        now = self._loop.time()
        if self._slowed_to is not None and now - self._slowed_at < RECOVERY:
            return
        self._slowed_to = max(min(self._allowed(), self._planned()) / 2, 0.2)
        self._slowed_at = now
        self._tell_delay(self._slowed_to)

    def _tell_delay(self, pace: float) -> None:
        if self._told_delay:
            return
        self._told_delay = True
        logger.warning(
            "%s allows %.3g requests a second for %d runs: each is looked at about every %.0f s.",
            self._provider.title,
            pace,
            len(self._runs),
            len(self._runs) / pace,
        )

    async def _work(self) -> None:
        """One connection's worth of work."""
        while True:
            turn: asyncio.Future[_Job | None] = self._loop.create_future()
            self._idle.append(turn)
            if self._opening is None:
                self._hand_out()
            job = await turn
            if job is None:
                return
            if isinstance(job, _Run):
                await self._look(job)
            elif isinstance(job, Scope):
                await self._sweep(job)
            else:
                await self._answer(job)
            if len(self._workers) > self._wanted() and not self._jobs:
                return

    async def _exchange(self, asked: str, prepared: Prepared) -> bytes:
        began = self._loop.time()
        answer = await self._pool.exchange(prepared, limit=self._channel.limit, seconds=self._channel.timeout)
        self._latency += 0.05 * (min(self._loop.time() - began, 10.0) - self._latency)
        if answer.status == RATE_LIMITED:
            self._slow_down()
        return self._channel.judge(asked, answer)

    async def _look(self, run: _Run) -> None:
        if not any(wait.reading for wait in run.waits):
            run.queued = False
            return
        if self._left_to_list(run):
            return
        if run.prepared is None:
            request = self._provider.request(self._provider.status, run.ref)
            run.prepared = self._pool.prepare(self._channel.prepare(request))
        try:
            content = await self._exchange(f"read of {run.ref}", run.prepared)
            look = self._provider.read(run.ref, content)
        except Exception as error:  # noqa: BLE001 - told to the waits of this run, and to no other
            run.queued = run.alone = False
            self._fail(run, error)
        else:
            run.queued = run.alone = False
            self._place(run, look)
            self._tell(run, look)

    async def _answer(self, question: _Question) -> None:
        wait = question.wait
        if wait.done.done():
            return
        try:
            prepared = self._pool.prepare(self._channel.prepare(question.request))
            reply = await self._exchange(question.request.asked, prepared)
        except Exception as error:  # noqa: BLE001 - told to the flow that asked
            self._advance(wait, error=error)
        else:
            self._advance(wait, reply)

    def _tell(self, run: _Run, look: Look) -> None:
        """Hand a look to all who wait for the run, whether they are due or asleep."""
        for wait in tuple(run.waits):
            if wait.done.done():
                continue
            if wait.reading:
                self._awake(wait)
                self._advance(wait, look)
            elif wait.rate:
                self._awake(wait)
                wait.look = look
                self._advance(wait)

    def _fail(self, run: _Run, error: Exception) -> None:
        for wait in tuple(run.waits):
            if wait.reading and not wait.done.done():
                self._awake(wait)
                self._advance(wait, error=error)

    # --- lists ---

    def _left_to_list(self, run: _Run) -> bool:
        """Leave a run that is due to the list that shows it, or may show it, where asking that pays."""
        scope = run.scope
        if scope is None and self._scopes:
            # Its parent is not known yet; the largest one is the best guess.
            scope = max(self._scopes.values(), key=lambda each: len(each.members))
        if scope is None or run.alone:
            return False
        scope.wanting[run.ref.run_id] = run
        if not scope.pays(self._channel.clock()):
            del scope.wanting[run.ref.run_id]
            return False
        if not scope.asked:
            scope.asked = True
            self._put(scope)
        return True

    def _place(self, run: _Run, look: Look | None) -> None:
        """Note which list shows a run, as soon as that is known."""
        if run.scope is not None or self._provider.listing is None:
            return
        key = scope_key(self._provider, run.ref, look)
        if key is None:
            return
        scope = self._scopes.get(key)
        if scope is None:
            scope = self._scopes[key] = Scope(self._provider, self._provider.listing, key)
        run.scope = scope
        scope.members[run.ref.run_id] = run

    async def _sweep(self, scope: Scope[_Run]) -> None:
        """Ask the list, page by page as long as that pays, and then the runs that it does not show."""
        shown: set[str] = set()
        pages = 0
        try:
            while True:
                request = scope.request(pages)
                prepared = self._pool.prepare(self._channel.prepare(request))
                looks = scope.looks(await self._exchange(request.asked, prepared))
                fresh = [(run, look) for run, look in scope.answers(looks) if run.ref.run_id not in shown]
                pages += 1
                for run, look in fresh:
                    shown.add(run.ref.run_id)
                    scope.wanting.pop(run.ref.run_id, None)
                    run.queued = False
                    self._place(run, look)
                    self._tell(run, look)
                left = len(scope.members.keys() - shown)
                if not scope.goes_on(pages - 1, len(fresh), left, len(looks)):
                    break
        except Exception as error:
            # The runs are asked one by one instead, and tell of their own errors.
            if not isinstance(error, RunopsError):
                logger.exception("A list of %s runs could not be understood.", self._provider.title)
            if pages == 0:
                scope.rest(self._channel.clock())
        else:
            scope.judge(pages, len(shown), self._channel.clock())
        scope.asked = False
        left_over, scope.wanting = scope.wanting, {}
        for run in left_over.values():
            run.alone = True
            self._put(run)


def _tell(on_look: OnLook | None, snapshot: RunSnapshot) -> Exception | None:
    if on_look is None:
        return None
    try:
        on_look(snapshot)
    except Exception as error:  # noqa: BLE001 - the caller's own error ends the caller's own wait
        return error
    return None


def _held_back() -> AnswerError:
    return TransientError("The service's limits hold the next look back for longer than the wait lasts.")
