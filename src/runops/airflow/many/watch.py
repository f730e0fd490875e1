"""Waits for the runs of a set on a worker, in a loop beside the task. What their ends mean for the task it leaves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from runops.airflow._compat import AirflowTaskTimeout
from runops.airflow.hook import RunHook
from runops.airflow.task_record import TaskRecord
from runops.core import AsyncRunClient, Outcome, Provider, RunopsError, RunResult
from runops.core.client.many_plan import End, ManyPlan
from runops.core.client.many_runs import ManyRuns
from runops.core.many.ledger import Ledger
from runops.core.many.results import MOST_FAILED
from runops.core.many.rows import Row
from runops.core.many.tally import Tally
from runops.core.model.run import EndedBy, WaitClock
from runops.core.polling.side_loop import SideLoop
from runops.core.waiting import flows
from runops.core.waiting.state import WaitProgress, timed_out

LAST_SECONDS = 12.0
"""For the last look at all that go on, after Airflow's clock for the try; the process has a little longer."""
LOOK_SECONDS = 60.0
"""For a last look at all runs where no event of the trigger came."""
IN_FULL_SECONDS = 20.0
READS_AT_ONCE = 16


class RunsWatch:
    """The wait for a set on a worker.

    :param hook: The connection.
    :param ledger: Where the set stands; kept up to date.
    :param plan: What is wanted of it.
    :param log: The task's log.
    :param past: What the waits have learnt in other processes, by row; kept up to date.
    :param record: Who stores how the set stands.
    """

    def __init__(
        self,
        hook: RunHook,
        ledger: Ledger,
        plan: ManyPlan,
        *,
        log: Any,
        past: dict[int, WaitProgress] | None = None,
        record: TaskRecord | None = None,
    ) -> None:
        self.results: dict[int, RunResult] = {}
        """Whole results of runs that did not end well, as far as they are known, by row."""
        self.past = {} if past is None else past
        self._hook = hook
        self._ledger = ledger
        self._plan = plan
        self._log = log
        self._record = record
        self._interrupted = False

    @property
    def provider(self) -> Provider:
        """Whose runs they are."""
        return self._hook.provider

    def wait(self, until: float | None = None) -> End:
        """Wait for all; how it ended here. Rows that another process goes on with stay open.

        :param until: Unix seconds at which another process goes on; None for nobody.
        :raises AuthError: The key is refused, which concerns all runs.
        """
        try:
            return SideLoop(lambda beside: self._wait(beside, until), self._interrupt, patience=LAST_SECONDS + 2).run()
        except AirflowTaskTimeout:
            # What the last look has not reached in time ends by the same clock.
            for row in [row for row in self._ledger if row.is_running]:
                self._ledger.set(self._timed_out(row))
            return End.TIMEOUT

    def last_look(self, clock: WaitClock) -> None:
        """Look once more at all that go on; what is not over then has ended by a clock.

        :param clock: Which one.
        :raises AuthError: The key is refused, which concerns all runs.
        """
        SideLoop(lambda beside: self._look_last(beside, clock), lambda: None).run()

    def in_full(self) -> None:
        """Read again what is told in full of runs that did not end well, where this process has not seen them end."""
        bad = [row for row in self._ledger if row.is_over and not row.good][:MOST_FAILED]
        missing = [row for row in bad if row.index not in self.results and row.run_id and row.outcome is not None]
        if missing:
            SideLoop(lambda beside: self._read_in_full(beside, missing), lambda: None).run()

    # --- in the loop ---

    def _interrupt(self) -> None:
        self._interrupted = True

    async def _wait(self, beside: SideLoop[End], until: float | None) -> End:
        async with await self._hook.async_client(ask=beside.in_caller) as client:

            def elsewhere(_: Ledger) -> bool:
                return self._interrupted or (until is not None and time.time() >= until)

            many = self._many(client, self._plan, elsewhere)
            try:
                end = await many.run()
            finally:
                self._take(many)
            if self._interrupted and end is End.SUSPENDED:
                return await self._last_in_time(client)
            return end

    async def _look_last(self, beside: SideLoop[None], clock: WaitClock) -> None:
        async with await self._hook.async_client(ask=beside.in_caller) as client:
            await self._last(client, clock, LOOK_SECONDS)

    async def _last(self, client: AsyncRunClient, clock: WaitClock, seconds: float) -> None:
        """A run that a last look finds over has ended; for any other the clock counts."""
        ends = client.clock() + seconds
        plan = replace(self._plan, wait=replace(self._plan.wait, deadline=ends), clock=clock, once=True, last=True)
        many = self._many(client, plan, lambda _: client.clock() >= ends)
        try:
            await many.run()
        finally:
            self._take(many)

    async def _last_in_time(self, client: AsyncRunClient) -> End:
        try:
            async with asyncio.timeout(LAST_SECONDS):
                await self._last(client, "execution_timeout", LAST_SECONDS - 2)
        except (TimeoutError, RunopsError) as error:
            self._log.warning("The last look at the runs failed: %s", error)
        return End.TIMEOUT

    def _many(self, client: AsyncRunClient, plan: ManyPlan, until: Any) -> ManyRuns:
        def progress(tally: Tally) -> None:
            self._log.info("%s", tally.line(client.provider))
            if self._record is not None:
                self._record.counted_beside(tally)

        return ManyRuns(client, self._ledger, plan, progress=progress, until=until, past=self.past)

    def _take(self, many: ManyRuns) -> None:
        self.results |= many.results
        self.past |= many.past

    async def _read_in_full(self, beside: SideLoop[None], rows: Sequence[Row]) -> None:
        at_once = asyncio.Semaphore(READS_AT_ONCE)
        async with await self._hook.async_client(ask=beside.in_caller) as client:

            async def read(row: Row) -> None:
                async with at_once:
                    self.results[row.index] = await self._one_in_full(client, row)

            try:
                async with asyncio.timeout(IN_FULL_SECONDS):
                    found = await asyncio.gather(*(read(row) for row in rows), return_exceptions=True)
            except TimeoutError:
                found = [TimeoutError()]
        if any(isinstance(each, BaseException) for each in found):
            self._log.warning("Not all runs that did not end well could be read again: less is told of some.")

    async def _one_in_full(self, client: AsyncRunClient, row: Row) -> RunResult:
        ref = row.ref(client.provider.name)
        assert ref is not None
        last = await client.drive(flows.get(client.provider, ref, self._plan.wait.wanted))
        if row.outcome is Outcome.TIMED_OUT:
            ended_by = cast("EndedBy", row.ended_by)
            last = replace(timed_out(client.provider, ref, last, ended_by), reason=row.reason)
        judgement = self._plan.policy.judge(last)
        return last.to_result(row.verdict, judgement.unmet)

    def _timed_out(self, row: Row) -> Row:
        provider, ref = self._hook.provider, row.ref(self._hook.provider.name)
        assert ref is not None
        last = timed_out(provider, ref, None, "execution_timeout")
        return row.ended(last, self._plan.policy.judge(last), provider)
