"""The line of jobs and the connections that work it off, at the pace of pace.py. It does not know what a job is.

How it works:

- A job stands in line until its turn. The :class:`Dispatcher` hands out the first one when the rate limiter of the
  credential lets a request pass and a connection is free. Only then is the job asked whether it is still due, once:
  by then nobody may wait for it any more, or a list has come to answer it.
- A *connection worker* is a task that carries out one job after the other, and so keeps about one connection busy.
  :class:`Connections` opens one more when a job finds none free and the pace asks for more, a few at a time; a worker
  that finds the line empty ends if there are more than the pace asks for.
- Three things let the line go on: a job comes, a worker is done with one, or the rate limiter's pause is over.
- Each exchange is timed by the transport, where its last byte was written and where its answer was whole. A timer that
  beats meanwhile tells how late the loop was, see :class:`runops.core.polling.pace.Lateness`.
- Where nothing at all is answered for a while, one more connection is tried: those that stand may be dead.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Protocol

from runops.core.model.errors import AnswerLost
from runops.core.model.shared_rate import AHEAD, ANSWER_SECONDS, RETRY_SECONDS
from runops.core.polling.pace import FEWEST_CONNECTIONS, MOST_CONNECTIONS, OVERDUE, Lateness, Pace, UnderWay
from runops.core.transport import open_pool
from runops.core.transport.base import AcceptAsync, Answer, Prepared, accept_any
from runops.core.transport.httpx_pool import AsyncTransport
from runops.core.transport.retry import RATE_LIMITED
from runops.core.transport.session import Session
from runops.core.transport.shared_budget import SharedBudget, in_loop

TICK = 0.05
"""Seconds between the moments at which the poller does what has fallen due: to wake up costs more than a read."""
LATENESS = 2 * TICK
"""Seconds by which a request may leave late without moving the ones after it: a busy loop must not lower the pace."""
IN_A_ROW = 16
"""Jobs that a worker carries out before it lets others have their turn."""
ENOUGH = TICK / 5
"""Seconds for which connections that are enough stay so."""
SETTLED = 10.0
"""Seconds after which the log says how late reads are: by then those that began together are all in line."""
NOTICEABLE = 1.0
"""Seconds of delay that are worth a line in the log."""


class Job(Protocol):
    """What a connection worker carries out."""

    def is_due(self) -> bool:
        """Whether it is still to be done by itself. Asked once, when its turn has come."""
        ...

    def carry_out(self) -> Awaitable[None]:
        """Do it. It raises nothing but what cancels the worker; how it ended is the affair of whoever waits for it."""
        ...


def at_tick(
    loop: AbstractEventLoop, due: float, work: Callable[[], None], context: contextvars.Context
) -> asyncio.TimerHandle:
    """Call at the next tick. Never early: a pause that the service asked for is kept to the end."""
    return loop.call_at(math.ceil(due / TICK) * TICK, work, context=context)


class Dispatcher:
    """The jobs of one poller, handed out as the rate limiter, the pace and the connections allow.

    Args:
        session: The credential's way to the service.
        transport: Takes the place of real connections, for tests.
        on_delay: Told once of the requests a second that limits allow, and by how many seconds they delay a read.
    """

    def __init__(
        self, session: Session, *, transport: AsyncTransport | None, on_delay: Callable[[float, float], None]
    ) -> None:
        self._rate_limiter = session.rate_limiter
        self._budget = session.budget
        self._clock = session.clock
        self._loop = asyncio.get_running_loop()
        # What the poller does for all is no waiter's doing, and must not land in some waiter's log.
        self._context = contextvars.Context()
        self.pace = Pace(self._loop.time, session.rate.pace)
        self.connections = Connections(session, transport, self)
        self._jobs: deque[Job] = deque()
        self._resuming: asyncio.TimerHandle | None = None
        self._on_delay = on_delay
        self._reporting: asyncio.TimerHandle | None = None
        self._reported = False
        self._taken = 0
        self._closed = False
        # Called in another thread; one and the same, since the budget calls each once.
        self._answered = in_loop(self._loop, self._resume, self._context)

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: Job) -> None:
        """Put a job at the end of the line. :meth:`go_on` is due afterwards."""
        self._jobs.append(job)

    def add_first(self, job: Job) -> None:
        """Put a job before all others; also one that a worker could not carry out."""
        self._jobs.appendleft(job)

    def go_on(self) -> None:
        """Hand out what may leave to those connection workers that are free."""
        while self._jobs:
            turn = self.connections.free_worker()
            if turn is None:
                if not self._is_held(self._clock()):
                    self.connections.open_if_needed()
                return
            job = self.take()
            if job is None:
                self.connections.keep(turn)
                return
            turn.set_result(job)

    def take(self) -> Job | None:
        """The first job that is due, if a request may leave now; if not, the line goes on by itself when it may."""
        now = self._clock()
        while self._jobs and not self._is_held(now):
            job = self._jobs.popleft()
            if job.is_due():
                self._rate_limiter.reserve(now, self._spacing(), lateness=LATENESS)
                self._taken += 1
                return job
        return None

    def _is_held(self, now: float) -> bool:
        """Whether the next request has to wait for its time; it goes on then."""
        if self._resuming is not None or self._closed:
            return True
        held = self._rate_limiter.delay(now)
        if self._budget is not None:
            held = self._held_by(self._budget, held)
        if held > 0:
            self._resuming = at_tick(self._loop, self._loop.time() + held, self._resume, self._context)
        return held > 0

    def _held_by(self, budget: SharedBudget, held: float) -> float:
        """For how many seconds a limit that other processes share holds the next request back at the most."""
        wanted = len(self._jobs) if held <= AHEAD or budget.is_alone else 0
        is_known = budget.refill(wanted, self._answered)
        if wanted and not is_known:
            # It goes on when the store has answered; this is for the case that it does not.
            return ANSWER_SECONDS
        held = self._rate_limiter.delay(self._clock())
        return min(held, RETRY_SECONDS) if budget.is_alone else held

    def _resume(self) -> None:
        if self._resuming is not None:
            self._resuming.cancel()
            self._resuming = None
        self.go_on()

    def _spacing(self) -> float:
        """Seconds from one request to the next."""
        pace = self.pace
        shares = self._budget is not None and bool(self._jobs)
        if self._reporting is None and not self._reported and (pace.is_stretched or shares):
            self._taken = 0
            self._reporting = self._loop.call_later(SETTLED, self._report_delay, context=self._context)
        return 1.0 / pace.allowed

    def _report_delay(self) -> None:
        self._reporting = None
        allowed = self.pace.allowed
        if self._budget is not None:
            # What the others leave is known only by what has left.
            allowed = min(allowed, max(self._taken, 1) / SETTLED)
        delay = len(self._jobs) / allowed
        if delay >= NOTICEABLE:
            self._reported = True
            self._on_delay(allowed, delay)

    async def close(self) -> None:
        """Close every connection for good; what is under way fails."""
        self._closed = True
        for timer in (self._resuming, self._reporting):
            if timer is not None:
                timer.cancel()
        await self.connections.close()


class Connections:
    """The connection workers of a dispatcher.

    Args:
        session: The credential's way to the service.
        transport: Takes the place of real connections, for tests.
        line: Where the jobs come from.
    """

    def __init__(self, session: Session, transport: AsyncTransport | None, line: Dispatcher) -> None:
        self.pool = open_pool(
            session.root,
            max_connections=MOST_CONNECTIONS,
            transport=transport,
            peer=session.peer,
            network=session.network,
        )
        self._session = session
        self._line = line
        self._pace = line.pace
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.Context()
        self._workers: set[asyncio.Task[None]] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        """The workers whose first exchange is still under way; for all we know, it makes a connection."""
        self._free: list[asyncio.Future[Job]] = []
        """What those without a job wait for. The last one is taken first, so that those beyond the need grow old."""
        self._growing: asyncio.TimerHandle | None = None
        self._enough_until = -math.inf
        self._under_way = UnderWay()
        self._lateness = Lateness()
        self._beating: asyncio.TimerHandle | None = None

    # --- workers ---

    def free_worker(self) -> asyncio.Future[Job] | None:
        """A worker without a job, who waits for this future; None if there is none."""
        while self._free:
            turn = self._free.pop()
            if not turn.done():
                return turn
        return None

    def keep(self, turn: asyncio.Future[Job]) -> None:
        """Give a free worker back, for whom there was no job."""
        self._free.append(turn)

    def open_if_needed(self) -> None:
        """Open one more connection if the pace asks for it; otherwise see later whether some hang."""
        now = self._loop.time()
        if now < self._enough_until:
            return
        overdue = self._under_way.overdue(self._pace.latency.seconds)
        if self._pace.may_open(len(self._workers), len(self._connecting), overdue):
            self._open()
            return
        # Asked for each job that finds no connection free, this would cost as much as the rest of dispatching it.
        self._enough_until = now + ENOUGH
        if self._growing is None:
            self._look_again_later()

    def _look_again_later(self) -> None:
        self._growing = self._loop.call_later(OVERDUE, self._look_again, context=self._context)

    def _look_again(self) -> None:
        """There was a job and no free connection a while ago: if nothing is answered at all, try another one."""
        timer, self._growing = self._growing, None
        assert timer is not None
        if self._loop.time() - timer.when() > LATENESS:
            # The loop itself stood still. What has arrived meanwhile is handed out after this.
            self._look_again_later()
            return
        silent = timer.when() - self._under_way.answered_at >= OVERDUE
        if silent and len(self._line) and len(self._workers) < MOST_CONNECTIONS:
            # One, and not as many as there are reads to make.
            self._open()
        self._line.go_on()

    def _open(self) -> None:
        worker = self._loop.create_task(self._work(), context=contextvars.Context())
        self._workers.add(worker)
        self._connecting.add(worker)
        worker.add_done_callback(self._ended)

    def _ended(self, worker: asyncio.Task[None]) -> None:
        """Whatever ended a worker, what is in line must not wait for another one to notice."""
        self._workers.discard(worker)
        self._connecting.discard(worker)
        self._line.go_on()

    async def _work(self) -> None:
        """One connection's worth of work."""
        for turn in count():
            # A worker that finds a job in line takes it at once; now and then others get their turn first, since a
            # transport of the user's own may answer without ever pausing.
            job = self._line.take() if turn % IN_A_ROW else None
            if job is None:
                job = await self._next_job()
            try:
                await job.carry_out()
            except asyncio.CancelledError:
                # This worker is to end, not those who wait for its job.
                self._line.add_first(job)
                raise
            if not len(self._line) and len(self._workers) > max(FEWEST_CONNECTIONS, self._pace.connections):
                return

    async def _next_job(self) -> Job:
        turn: asyncio.Future[Job] = self._loop.create_future()
        self._free.append(turn)
        self._line.go_on()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._line.add_first(turn.result())
            raise

    # --- exchanges ---

    async def exchange(self, prepared: Prepared, accept: AcceptAsync = accept_any) -> Answer:
        """One request and its whole answer, for the job that a connection worker carries out.

        Raises:
            AnswerError: There is no whole answer.
        """
        connecting = asyncio.current_task() if self._connecting else None
        connects = connecting in self._connecting
        number = self._under_way.begin(self._loop.time())
        if self._beating is None:
            self._set_beat()
        try:
            answer = await self.pool.exchange(
                prepared, limit=self._session.limit, seconds=self._session.timeout, accept=accept
            )
        except asyncio.CancelledError:
            worker = asyncio.current_task()
            if worker is not None and worker.cancelling():
                raise
            # By the user's own transport: that ends no worker.
            raise AnswerLost("The exchange was cancelled before its answer came.") from None
        finally:
            self._under_way.end(number)
            if connecting is not None:
                self._connecting.discard(connecting)
        self._note(answer, timed=not connects)
        return answer

    def _note(self, answer: Answer, *, timed: bool) -> None:
        """Take in what an answer says of the service's latency and limits."""
        late = self._lateness.at(answer.came_at)
        # While the loop was late, others may have been answered as well: no exchange hangs because of that.
        self._under_way.answered_at = answer.came_at - late
        if timed:
            self._pace.latency.add(answer.came_at - answer.sent_at, late, answer.came_at)
        if answer.status == RATE_LIMITED:
            self._pace.refused()
        else:
            self._pace.answered()

    def _set_beat(self) -> None:
        due = self._lateness.set_beat(self._loop.time(), self._pace.latency.seconds)
        self._beating = self._loop.call_at(due, self._beat, context=self._context)

    def _beat(self) -> None:
        self._lateness.beat(self._loop.time())
        self._beating = None
        if self._under_way:
            self._set_beat()

    async def close(self) -> None:
        """End all workers and close all connections."""
        for timer in (self._growing, self._beating):
            if timer is not None:
                timer.cancel()
        workers = tuple(self._workers)
        for worker in workers:
            worker.cancel()
        try:
            await asyncio.gather(*workers, return_exceptions=True)
        finally:
            await self.pool.close()
