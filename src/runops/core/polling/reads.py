"""What is waited for, and the jobs that answer it: the read of one run, a page of a list, a wait's own question.

How it works:

- A :class:`Run` is one run, however many :class:`Wait` for it: one read answers them all. A run that is due stands in
  line as a job of its own, or is left to a list that shows it (lists.py).
- A body that says the same as the one before is not read again; most do.
- The outcome of a job goes to the :class:`Waiters`: an observation or a failure of a run to all who wait for it, the
  reply to a question to the wait that has it. A failure of one run stays with that run; the failure of a page is none
  of any run, whose runs are read one by one then, unless they would all meet with the same.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Awaitable
from functools import partial
from hashlib import blake2b
from operator import attrgetter
from typing import Any, Protocol

from runops.core.declaration import Observation, Request
from runops.core.model.errors import AnswerError, ConnectionFailed, MalformedAnswer, RunopsError
from runops.core.model.run import RunRef, RunSnapshot
from runops.core.polling.dispatch import Dispatcher
from runops.core.polling.lists import ListBatch, Lists
from runops.core.transport.base import Answer, Prepared
from runops.core.transport.offload import off_loop
from runops.core.transport.retry import RATE_LIMITED
from runops.core.transport.session import Session
from runops.core.waiting.steps import Effect, Ended, Flow, Send

logger = logging.getLogger("runops")


class Wait:
    """One waiter: its flow, and what the flow is doing now."""

    __slots__ = (
        "asleep",
        "context",
        "done",
        "due",
        "effect",
        "failing",
        "flow",
        "observation",
        "question",
        "rate",
        "reading",
        "run",
        "shortest",
        "turn",
        "wants_spend",
    )

    def __init__(
        self,
        flow: Flow[RunSnapshot],
        run: Run,
        done: asyncio.Future[Ended[RunSnapshot] | Effect],
        shortest: float,
        *,
        wants_spend: bool = False,
    ) -> None:
        self.flow = flow
        self.run = run
        self.done = done
        """How the flow ended, or what it asks for that others have to do."""
        self.effect: Effect | None = None
        """What it asks for now."""
        self.due = 0.0
        """When its sleep is over, by the loop's clock."""
        self.context = contextvars.copy_context()
        """The waiter's own: what the flow and ``on_update`` log belongs to the waiter."""
        self.turn = 0
        """Which of its entries in the timer heap counts: each step of the flow makes the older ones stale."""
        self.shortest = shortest
        """Seconds: a sleep that a clock cuts short is no plan to read more often."""
        self.wants_spend = wants_spend
        """Whether what the run spends bounds the wait, so that a list which does not show it will not do."""
        self.rate = 0.0
        """Reads a second that it plans."""
        self.failing = False
        self.asleep = False
        self.reading = False
        self.question: Question | None = None
        self.observation: Observation | None = None
        """One that came while it slept: its next read is answered already."""

    def wake(self) -> None:
        """End whatever the flow is waiting for."""
        self.turn = 0
        self.asleep = self.reading = False
        self.question = None


class Waiters(Protocol):
    """Who is handed what the jobs bring."""

    def observed(self, run: Run, observation: Observation) -> None:
        """A good read of a run."""
        ...

    def failed(self, run: Run, error: Exception) -> None:
        """A failed read of a run."""
        ...

    def replied(self, question: Question, reply: Any, error: Exception | None) -> None:
        """The reply to a question, or the error in its place."""
        ...


class Run:
    """One run, however many wait for it; as a job, a read by its own route."""

    __slots__ = (
        "_reads",
        "alone",
        "batch",
        "content",
        "digest",
        "is_queued",
        "observation",
        "prepared",
        "ref",
        "took",
        "trace_id",
        "usual_rate",
        "waits",
    )

    def __init__(self, ref: RunRef, reads: Reads, trace_id: str | None = None) -> None:
        self.ref = ref
        self.trace_id = trace_id
        """What its requests bear, where its provider has a header for it: that of who has waited for it first."""
        self._reads = reads
        self.alone = False
        """See :class:`runops.core.polling.lists.Listable`."""
        self.batch: ListBatch[Run] | None = None
        self.digest: bytes | None = None
        """Of the last body, which need not be read again."""
        self.content: bytes | None = None
        """The last body itself, while its read goes on."""
        self.observation: Observation | None = None
        """What that body said."""
        self.prepared: Prepared | None = None
        self.took = 0.0
        """Seconds that its last read took."""
        self.usual_rate = 0.0
        """Reads a second that a wait planned last without a failure: a pause that a service asks for is no plan."""
        self.waits: list[Wait] = []
        self.is_queued = False
        """Whether a read of it is in line, left to a list or under way."""

    def is_due(self) -> bool:
        """Whether anyone still waits for it, and no list has become known meanwhile that shows it."""
        for wait in self.waits:
            if wait.reading:
                return self.alone or not self._reads.leave_to_list(self)
        self.finish()
        return False

    @property
    def wants_spend(self) -> bool:
        """Whether what it spends bounds a wait for it."""
        return any(wait.wants_spend for wait in self.waits)

    def carry_out(self) -> Awaitable[None]:
        """Read it."""
        return self._reads.read(self)

    def finish(self) -> None:
        """Note that the read in line is over, however it ended."""
        self.is_queued = self.alone = False


class Question:
    """As a job, one request of a single flow that is no status read."""

    __slots__ = ("_reads", "effect", "wait")

    def __init__(self, wait: Wait, effect: Send, reads: Reads) -> None:
        self.wait = wait
        self.effect = effect
        self._reads = reads

    def is_due(self) -> bool:
        """Whether the flow still waits for it."""
        return self.wait.question is self and not self.wait.done.done()

    def carry_out(self) -> Awaitable[None]:
        """Send it."""
        return self._reads.reply_to(self)


class PageRead:
    """As a job, the next page of a list."""

    __slots__ = ("_batch", "_reads")

    def __init__(self, batch: ListBatch[Run], reads: Reads) -> None:
        self._batch = batch
        self._reads = reads

    def is_due(self) -> bool:
        """Whether anyone still waits for a run of the list."""
        batch = self._batch
        if batch.wanting or batch.members:
            return True
        batch.end()
        self._reads.lists.release(batch)
        return False

    def carry_out(self) -> Awaitable[None]:
        """Read it; after the last page, the runs that no page has shown are put in line."""
        return self._reads.read_page(self, self._batch)


class Reads:
    """Puts reads in line and carries them out.

    Args:
        session: The credential's way to the service.
        dispatcher: The line.
        waiters: Who is handed what comes of it.
    """

    def __init__(self, session: Session, dispatcher: Dispatcher, waiters: Waiters) -> None:
        self.lists: Lists[Run] = Lists(session.provider, session.clock)
        self._session = session
        self._provider = session.provider
        self._dispatcher = dispatcher
        self._connections = dispatcher.connections
        self._waiters = waiters

    # --- one run ---

    def queue(self, run: Run) -> bool:
        """Put a run that is due in line, or leave it to a list; whether a list takes it."""
        run.is_queued = True
        if self.leave_to_list(run):
            return True
        self._dispatcher.add(run)
        return False

    def leave_to_list(self, run: Run) -> bool:
        """Leave a run that is due to the list that shows it, or may show it, where reading that pays."""
        batch = self.lists.take(run)
        if batch is None:
            return False
        if not batch.is_queued:
            batch.is_queued = True
            self._dispatcher.add(PageRead(batch, self))
        return True

    async def read(self, run: Run) -> None:
        """Read a run by its own route."""
        try:
            prepared = run.prepared
            if prepared is None:
                request = self._provider.request(self._provider.status, run.ref)
                prepared = run.prepared = self._prepare(request, run.trace_id)
            answer = await self._connections.exchange(prepared, partial(self._accept, run))
            run.took = answer.came_at - answer.sent_at
            if not answer.ok:
                self._session.judge(f"read of {run.ref}", answer)
            observation = run.observation if run.content is answer.content else None
            if observation is None:
                observation = await self._observe(run, answer.content)
        except Exception as error:  # noqa: BLE001 - handed to the waits of this run, and to no other
            run.finish()
            self._waiters.failed(run, error)
        else:
            run.finish()
            self.lists.place(run, observation)
            self._waiters.observed(run, observation)
        finally:
            run.content = None

    def _prepare(self, request: Request, trace_id: str | None = None) -> Prepared:
        return self._connections.pool.prepare(self._session.prepare(request, trace_id))

    def _accept(self, run: Run, answer: Answer) -> Awaitable[None] | None:
        """Refuse an answer that is none about the run, before its connection is used again."""
        if not answer.ok:
            return None
        if run.observation is None or blake2b(answer.content, digest_size=16).digest() != run.digest:
            return self._check(run, answer.content)
        run.content = answer.content
        return None

    async def _check(self, run: Run, content: bytes) -> None:
        """Whatever else is wrong with an answer is handed on later."""
        try:
            await self._observe(run, content)
        except MalformedAnswer:
            raise
        except RunopsError:
            return

    async def _observe(self, run: Run, content: bytes) -> Observation:
        """What a body says; most say what the one before has said, and do not come here."""
        run.observation = await off_loop(partial(self._provider.read, run.ref, content), len(content))
        run.digest, run.content = blake2b(content, digest_size=16).digest(), content
        return run.observation

    # --- a question ---

    async def reply_to(self, question: Question) -> None:
        """Send the request of a flow, and hand it the reply."""
        effect, reply, error = question.effect, None, None
        request, read = effect.request, effect.read
        try:
            accept = partial(self._session.check_async, request)
            prepared = self._prepare(request, question.wait.run.trace_id)
            answer = await self._connections.exchange(prepared, accept)
            content = self._session.judge(request.description, answer, absent=request.absent)
            reply = content if read is None else await off_loop(partial(read, content), len(content))
        except Exception as failure:  # noqa: BLE001 - handed to the flow that wants it
            error = failure
        self._waiters.replied(question, reply, error)

    # --- lists ---

    async def read_page(self, page: PageRead, batch: ListBatch[Run]) -> None:
        """Read the next page of a list; after the last one, put the runs in line that it has not shown."""
        try:
            request = batch.request()
            answer = await self._connections.exchange(self._prepare(request))
            content = self._session.judge(request.description, answer, absent=request.absent)
            items = await off_loop(partial(batch.read, content), len(content))
            found = batch.take(items, attrgetter("wants_spend"))
        except Exception as error:  # noqa: BLE001 - the runs are read one by one, and have their own errors
            self._give_up(batch, error)
            return
        for run, observation in found:
            run.finish()
            run.took = 0.0
            self.lists.place(run, observation)
            self._waiters.observed(run, observation)
        if batch.goes_on:
            # Each page is a request like any other, and one that answers many goes first.
            self._dispatcher.add_first(page)
        else:
            batch.judge(self._session.clock())
            self._read_the_rest(batch)

    def _give_up(self, batch: ListBatch[Run], error: Exception) -> None:
        if isinstance(error, ConnectionFailed) or (isinstance(error, AnswerError) and error.status == RATE_LIMITED):
            # Read one by one, they would all meet with the same.
            for run_id in tuple(batch.wanting):
                run = batch.wanting.pop(run_id)
                run.finish()
                self._waiters.failed(run, error)
        else:
            if not isinstance(error, RunopsError):
                logger.error("A list of %s runs could not be understood.", self._provider.title, exc_info=error)
            batch.fail(self._session.clock())
        self._read_the_rest(batch)

    def _read_the_rest(self, batch: ListBatch[Run]) -> None:
        for run in batch.end().values():
            run.alone = True
            self._dispatcher.add(run)
        self.lists.release(batch)
