"""The submits of a set of runs: each recorded before its POST, in its turn, and found again where its answer is lost.

As many POSTs are under way as their marks allow: where runs bear one, a crash leaves runs that are found by it. Where
they bear none there is one POST at a time, so that a crash leaves one at most whose run nobody can tell; its search
knows all other runs of the set, and takes none of them for its own.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from runops.core.client.group_commit import GroupCommit
from runops.core.client.many_plan import SubmitPlan
from runops.core.many.schedule import Schedule
from runops.core.model.errors import AnswerError, AuthError, ConflictError, SubmitUncertainError
from runops.core.model.run import RunRef
from runops.core.transport.retry import submit_may_repeat
from runops.core.waiting import submission, turns
from runops.core.waiting.intent import Intent, list_before_submit
from runops.core.waiting.own_runs import shows_marks
from runops.core.waiting.steps import Effect, Flow, Send, intercept
from runops.core.waiting.turns import Turn

if TYPE_CHECKING:
    from runops.core.client.asynchronous import AsyncRunClient

logger = logging.getLogger("runops")

MARKED_POSTS = 16
"""POSTs of one set that may be under way where each run bears its own mark."""
GATHER = 0.1
"""Seconds between two moments at which records of marked submits are written: each write costs more than a POST."""
AT_ONCE = 0.0
SOON = 1.0


class Submits:
    """Submits the rows of a ledger, each once.

    Args:
        client: Sends.
        commit: Where each step is noted, and written.
        plan: What is submitted.
        schedule: Who is active.
    """

    def __init__(
        self,
        client: AsyncRunClient,
        commit: GroupCommit,
        plan: SubmitPlan,
        schedule: Schedule,
    ) -> None:
        self.posting: set[int] = set()
        """Rows whose POST is under way: its answer is worth waiting for, whatever ends the set."""
        self._client = client
        self._provider = client.provider
        self._ledger = commit.ledger
        self._commit = commit
        self._plan = plan
        self._schedule = schedule
        self._marks = client.marks_runs and shows_marks(client.provider)
        self._posts = asyncio.Semaphore(MARKED_POSTS if self._marks else 1)
        self._sent: set[int] = set()
        """Rows of which a POST may have started a run that is not known yet."""
        self._slots: dict[int, asyncio.Future[None]] = {}
        """Rows whose turn has come, and that wait until one more run may be active."""

    async def submit(self, index: int) -> RunRef:
        """The run of a row: a new one, or the one that an earlier try may have started.

        Raises:
            ConflictError: Something is active there, and is not waited for, or was for long enough.
            SubmitUncertainError: The answer is lost, and so whether a run exists.
            AnswerError: Nothing was started.
            Exception: What the store has raised; nothing was sent.
        """
        row = self._ledger[index]
        lost, turn = row.intent, row.turn
        while True:
            if turn is not None:
                turn = await self._take_turn(index, turn)
            try:
                return await self._post(index, lost, turn)
            except ConflictError as error:
                conflict = error
            rules = self._plan.turns
            if rules.on_conflict == "fail":
                raise conflict
            if rules.on_conflict == "attach":
                return self._attach(index, conflict)
            intent, lost = self._ledger[index].intent, None
            mark = intent.mark if intent else None
            turn = self._client.refused(rules, self._plan.calls[index], conflict, turn, mark=mark)
            self._waits(index, turn)
            if conflict.retry_after:
                await asyncio.sleep(max(min(conflict.retry_after, turn.until - self._client.clock()), 0.0))

    def let_go_on(self) -> None:
        """Let rows whose turn has come go on, as long as one more may be active."""
        for index, slot in tuple(self._slots.items()):
            if not self._schedule.may_go_on(index):
                return
            del self._slots[index]
            if not slot.done():
                slot.set_result(None)

    # --- turns ---

    async def _take_turn(self, index: int, turn: Turn) -> Turn:
        """Wait until nothing is in the way, and one more run of the set may be active."""

        def waits(now: Turn) -> None:
            self._waits(index, now)

        clock = self._client.clock
        turn = await self._client.drive(turns.await_turn(self._provider, turn, clock=clock, update=waits))
        if not self._schedule.may_go_on(index):
            slot = self._slots[index] = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(max(turn.until - clock(), 0.0)):
                    await slot
            except TimeoutError:
                raise turns.expired(self._provider, turn, clock()) from None
            finally:
                self._slots.pop(index, None)
        return turn

    def _waits(self, index: int, turn: Turn) -> None:
        self._commit.put(self._ledger[index].awaiting(turn), AT_ONCE)
        self._schedule.waits(index)

    def _attach(self, index: int, conflict: ConflictError) -> RunRef:
        ref = turns.the_active(self._provider, conflict)
        logger.info("%s is active there already, and is waited for as if it were given.", ref)
        self._commit.put(self._ledger[index].submitted(ref, None, attached=True), AT_ONCE)
        return ref

    # --- the POST ---

    async def _post(self, index: int, lost: Intent | None, turn: Turn | None) -> RunRef:
        """Record what identifies the submit, and send it; or look for the run of one that was sent."""
        before = self._ledger[index]
        async with self._posts:
            try:
                intent = await self._record(index, turn) if lost is None else lost
                ref = await self._client.drive(self._noting(index, self._flow(index, intent, lost=lost is not None)))
            except BaseException as error:
                # The set ends, the record could not be written, or the key was refused, which is no end of this run.
                if isinstance(error, AuthError):
                    self._sent.discard(index)
                elif isinstance(error, (AnswerError, SubmitUncertainError)):
                    raise
                if lost is None and index not in self._sent:
                    self._commit.put(before, AT_ONCE)
                raise
            finally:
                self.posting.discard(index)
                self._sent.discard(index)
            # Should this get lost, a mark finds the run again; without one nothing would.
            submitted = self._ledger[index].submitted(ref, self._client.clock())
            self._commit.put(submitted, SOON if self._marks else AT_ONCE)
            return ref

    async def _record(self, index: int, turn: Turn | None) -> Intent:
        """What is known right before a POST, and is written by the time this returns."""
        identity, row = self._plan.identity, self._ledger[index]
        intent = await self._client.drive(
            list_before_submit(
                self._provider,
                self._plan.calls[index],
                identity=None if identity is None else f"{identity}/{row.key}",
                mark_runs=self._client.marks_runs,
                mark=turn.mark if turn else None,
            )
        )
        self._ledger.set(row.submitting(intent, self._client.clock(), self._plan.calls[index].parent))
        self._commit.changed()
        if intent.mark is not None:
            # All wait for the same moment, and so for one write.
            await asyncio.sleep(GATHER - asyncio.get_running_loop().time() % GATHER)
        await self._commit.flush()
        return intent

    def _flow(self, index: int, intent: Intent, *, lost: bool) -> Flow[RunRef]:
        plan, clock = self._plan, self._client.clock
        grace = plan.grace
        if lost:
            sent_at = self._ledger[index].submitted_at or 0.0
            grace = min(max(sent_at + grace - clock(), 0.0), grace)
        return submission.submit(
            self._provider,
            plan.calls[index],
            self._beside_ours(index, intent),
            clock=clock,
            lost=lost,
            adopt_uncertain=plan.adopt_uncertain,
            grace=grace,
            adopted=partial(self._client.meter.adopted, self._provider.name),
            until=plan.turns.until,
        )

    def _beside_ours(self, index: int, intent: Intent) -> Intent:
        """An intent by which no other run of this set is taken for the one that is looked for."""
        if intent.mark or intent.ids_before is None:
            return intent
        parents = self._plan.calls[index].parents
        ours = {row.run_id for row in self._ledger if row.run_id is not None and row.parents == parents}
        return replace(intent, ids_before=intent.ids_before | ours)

    def _noting(self, index: int, flow: Flow[RunRef]) -> Flow[RunRef]:
        """The same flow; notes while a POST is under way, and whether one may have started a run."""

        def noting(effect: Effect) -> Flow[Any]:
            if not (isinstance(effect, Send) and effect.fresh):
                return (yield effect)
            self.posting.add(index)
            self._sent.add(index)
            try:
                return (yield effect)
            except AnswerError as error:
                if submit_may_repeat(error, submission.turned_away(self._provider, self._plan.calls[index])):
                    self._sent.discard(index)
                raise
            finally:
                self.posting.discard(index)

        return intercept(flow, noting)
