"""One row of a set from its submit to its end, and what becomes of it where the set ends first."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from runops.core.client.group_commit import GroupCommit
from runops.core.client.many_plan import ManyPlan
from runops.core.client.many_submits import Submits
from runops.core.many.rows import Row, RowState, StoppedBy
from runops.core.many.schedule import Schedule
from runops.core.model.codes import Code, with_code
from runops.core.model.errors import AuthError, RunopsError
from runops.core.model.run import EndedBy, Outcome, RunRef, RunResult, RunSnapshot
from runops.core.transport.session import LAST_LOOK_SECONDS
from runops.core.waiting.flows import until_read
from runops.core.waiting.limits import WaitProgress, reached
from runops.core.waiting.refused_key import RefusedKey
from runops.core.waiting.state import timed_out

if TYPE_CHECKING:
    from runops.core.client.asynchronous import AsyncRunClient

logger = logging.getLogger("runops")

MOST_RESULTS = 100
"""Runs that did not end well, and whose whole results are kept."""
AT_ONCE = 16
"""Cancels and last looks of a set that are under way at the same time."""
MOST_LAST_LOOKS = 200
"""Runs of a set that get one more look where the host's clock ends a try; more would take too long."""
UNAUTHORIZED = 401


class _Seen(Exception):
    """Ends a wait at its first good look."""


@dataclass(frozen=True, slots=True)
class Stop:
    """How the rest of a set ends.

    Args:
        by: What has ended the set; None where others go on with the rest.
        cancel: Whether what is ours is cancelled.
        figure: The limit that was reached and what was found, in words.
    """

    by: StoppedBy | Literal["max_spend", "timeout", "execution_timeout"] | None
    cancel: bool
    figure: str = ""


class Carrier:
    """Carries each active row of a ledger to its end, as a task of the loop.

    Args:
        client: Sends and waits.
        commit: Where each step is noted, and written.
        plan: What is wanted.
        schedule: Who is active.
    """

    def __init__(
        self,
        client: AsyncRunClient,
        commit: GroupCommit,
        plan: ManyPlan,
        schedule: Schedule,
    ) -> None:
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self.results: dict[int, RunResult] = {}
        self.past: dict[int, WaitProgress] = {}
        self.failure: Exception | None = None
        """What ends the whole set: a key that is refused, or a record that cannot be written."""
        self.submits = Submits(client, commit, plan.submits, schedule) if plan.submits is not None else None
        self._client = client
        self._commit = commit
        self._plan = plan
        self._schedule = schedule
        # One run alone may not spend more than all, and a list that does not show what runs spend will not do then.
        self._wait_options = replace(plan.wait, max_spend=plan.rules.max_spend)
        self._again = set(plan.again)
        self._last: dict[int, RunSnapshot] = {}
        self._key_is_good = False
        """Whether the service has accepted the key for a run of this set."""
        self._stop: Stop | None = None
        self._requests = asyncio.Semaphore(AT_ONCE)

    def begin(self, index: int) -> None:
        """Carry a row from where it stands."""
        self.tasks[index] = asyncio.get_running_loop().create_task(self._carry(index))

    async def wind_up(self, stop: Stop) -> None:
        """End all that goes on: POSTs under way are answered first, since their runs exist."""
        self._stop = stop
        posting = self.submits.posting if self.submits else frozenset[int]()
        for index, task in tuple(self.tasks.items()):
            # What is left to do for a row that is over is the cancel of its run.
            if index not in posting and not self._commit.ledger[index].is_over:
                task.cancel()
        if self.tasks:
            await asyncio.wait(tuple(self.tasks.values()), timeout=self._plan.stop_seconds)
        for task in tuple(self.tasks.values()):
            task.cancel()
        if self.tasks:
            left = tuple(self.tasks.values())
            logger.warning("%d runs could not be wound up within %.0f s.", len(left), self._plan.stop_seconds)
            await asyncio.gather(*left, return_exceptions=True)
        if self._plan.once:
            # Rows that go on have no task any more once they were seen.
            for row in [row for row in self._commit.ledger if row.is_running]:
                await self._give_up(row.index, stop)

    # --- one row ---

    async def _carry(self, index: int) -> None:
        try:
            try:
                await self._to_its_end(index)
            except asyncio.CancelledError:
                if self._stop is None or not _uncancelled():
                    raise
            if self._stop is not None:
                await self._give_up(index, self._stop)
        except AuthError as error:
            self._refused(index, error)
        except RunopsError as error:
            self._failed(index, error)
        except Exception as error:  # noqa: BLE001 - a store, or a callback of the host, raises what it likes
            self.failure = self.failure or error
        finally:
            self._over(index)

    async def _to_its_end(self, index: int) -> None:
        row = self._commit.ledger[index]
        if not row.is_running:
            assert self.submits is not None
            await self._submitted(index, self.submits)
            row = self._commit.ledger[index]
        ref = row.ref(self._client.provider.name)
        if self._stop is not None or ref is None:
            return
        try:
            snapshot = await self._client.wait(
                ref,
                patience=self._wait_options,
                submitted_at=row.submitted_at,
                on_update=lambda update: self._saw(index, update),
                past=self.past.setdefault(index, WaitProgress(accepted=self._key_is_good)),
            )
        except _Seen:
            return
        await self._ended(index, ref, snapshot)

    async def _submitted(self, index: int, submits: Submits) -> None:
        """Submit a row. A key that was good and is refused is read again: a set may outlive it by hours."""
        key: RefusedKey | None = None
        clock = self._client.clock
        while True:
            try:
                await submits.submit(index)
            except AuthError as error:
                # A refused POST has started nothing, and its row is as it was before.
                if not self._key_is_good or not self._wait_options.auth_grace:
                    raise
                if key is None:
                    subject = f"A submit to {self._client.provider.title}"
                    key = RefusedKey(subject, since=clock(), grace=self._wait_options.auth_grace)
                key.refused(error, clock())
                await self._client.drive(until_read(key, clock))
            else:
                self._key_is_good = True
                return

    def _saw(self, index: int, update: RunSnapshot) -> None:
        """A good look at a run."""
        self._key_is_good = True
        if update.outcome is None:
            self._again.discard(index)
            self._last[index] = update
        spend = self._client.provider.spend
        spent = spend.of(update.details) if spend else None
        row = self._commit.ledger[index]
        if spent is not None and spent != row.spend and self._commit.ledger.set(row.spending(spent), record=False):
            self._commit.changed()
        if self._plan.once and update.phase is not None and not self._ends_here(index, update):
            raise _Seen

    def _ends_here(self, index: int, update: RunSnapshot) -> bool:
        """Whether more than one look is worth while: the state may settle soon, or a clock or a limit ends the wait."""
        provider, options, now = self._client.provider, self._wait_options, self._client.clock()
        if update.state is not None and provider.states.read(update.state).grace_seconds is not None:
            return True
        return now >= options.deadline or reached(provider, options, self.past[index], update, now) is not None

    async def _ended(self, index: int, ref: RunRef, snapshot: RunSnapshot) -> None:
        if snapshot.ended_by == "timeout" and self._plan.clock != "timeout":
            snapshot = await self._at_the_end_of_a_try(index, ref, self._plan.clock)
        row = self._note_end(index, snapshot)
        if row.outcome is Outcome.TIMED_OUT and self._plan.cancel_on_timeout and row.ours_to_cancel:
            await self._cancel(index, ref)

    def _note_end(self, index: int, snapshot: RunSnapshot) -> Row:
        """Judge how a wait has ended; the row as it is then."""
        judgement = self._plan.policy.judge(snapshot)
        row = self._commit.ledger[index].ended(snapshot, judgement, self._client.provider)
        if self._gives_way(row):
            row = row.planned_anew()
        elif not row.good and len(self.results) < MOST_RESULTS:
            self.results[index] = judgement.result(snapshot)
        self._commit.put(row)
        return row

    async def _at_the_end_of_a_try(self, index: int, ref: RunRef, clock: EndedBy) -> RunSnapshot:
        """How a run stands when the host's clock ends its wait: one that a last look finds over has ended."""
        last = self._last.get(index)
        if len(self.tasks) <= MOST_LAST_LOOKS and not self._plan.once:
            try:
                async with self._requests, asyncio.timeout(LAST_LOOK_SECONDS):
                    seen = await self._client.get(ref)
                if seen.outcome is not None:
                    return seen
            except (RunopsError, TimeoutError) as error:
                logger.info("%s could not be looked at once more: %s", ref, error)
        return timed_out(self._client.provider, ref, last, clock)

    def _gives_way(self, row: Row) -> bool:
        """Whether the run of an earlier try is over in a way that a retry repeats.

        One that failed while this try waited for it is the next try's; one that we have cancelled ourselves is this's.
        """
        if self.submits is None or row.index not in self._plan.again:
            return False
        return (row.fails_anew and row.index in self._again) or (row.stopped and row.outcome is Outcome.CANCELLED)

    def _failed(self, index: int, error: RunopsError) -> None:
        logger.warning("Run %d of the set: %s", index, error)
        self._commit.put(self._commit.ledger[index].failed(error))

    def _refused(self, index: int, error: AuthError) -> None:
        """A key that is refused is refused for all; one that lacks a right may lack it for this run alone."""
        if error.status == UNAUTHORIZED or not self._key_is_good:
            self.failure = self.failure or error
        else:
            self._failed(index, error)

    def _over(self, index: int) -> None:
        self.tasks.pop(index, None)
        if not self._plan.once:
            self._last.pop(index, None)
        self._again.discard(index)
        row = self._commit.ledger[index]
        if row.is_over:
            self.past.pop(index, None)
        self._schedule.ended(index)
        if row.state is RowState.PLANNED and self._plan.submits is not None:
            self._schedule.plan(index, self._plan.submits.calls[index].parent)
        self._commit.changed()

    # --- where the set ends first ---

    async def _give_up(self, index: int, stop: Stop) -> None:
        """Note what becomes of a row that goes on, and cancel its run where that is wanted."""
        row = self._commit.ledger[index]
        ref = row.ref(self._client.provider.name)
        if row.is_over or ref is None or stop.by is None:
            return
        if stop.by in ("max_spend", "timeout", "execution_timeout"):
            if stop.by == "execution_timeout":
                last = await self._at_the_end_of_a_try(index, ref, stop.by)
            else:
                last = timed_out(self._client.provider, ref, self._last.get(index), stop.by, figure=stop.figure)
            if self._note_end(index, last).ours_to_cancel and stop.cancel:
                await self._cancel(index, ref)
            return
        cancelled = stop.cancel and row.ours_to_cancel and await self._cancel(index, ref)
        if cancelled or stop.by == "stop_early":
            self._commit.put(self._commit.ledger[index].given_up(stop.by, cancelled=cancelled))

    async def _cancel(self, index: int, ref: RunRef) -> bool:
        """Cancel a run of ours; whether the service took it."""
        if self._client.provider.cancel is None:
            text = f"{ref} goes on: {self._client.provider.title} documents no way to cancel a run."
            logger.warning("%s", with_code(text, Code.LEFT_BEHIND))
            return False
        try:
            async with self._requests:
                await self._client.cancel(ref)
        except RunopsError as error:
            text = f"{ref} could not be cancelled and may go on: {error.text}"
            logger.warning("%s", with_code(text, Code.LEFT_BEHIND))
            return False
        self._commit.put(self._commit.ledger[index].cancelled())
        return True


def _uncancelled() -> bool:
    """Let the running task go on after it was cancelled."""
    task: asyncio.Task[Any] | None = asyncio.current_task()
    return task is not None and task.uncancel() == 0
