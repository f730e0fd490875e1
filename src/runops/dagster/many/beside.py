"""What runs in the loop beside a step: the driver of many runs, and what it asks of the step's own thread."""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import dagster as dg

from runops.core.many.ledger import Ledger
from runops.core.many.rows import Row, RowState
from runops.core.model.codes import Code, with_code
from runops.core.model.run import RunResult
from runops.core.polling.side_loop import SideLoop
from runops.dagster import _compat
from runops.dagster.many.records import SetRecords, changed_rows
from runops.dagster.step.interrupts import HeldInterrupts
from runops.dagster.step.live_run import core_warnings_in
from runops.dagster.step.submission import OVER, refuse_when_over, status_of_run

if TYPE_CHECKING:
    from runops.core import AsyncRunClient
    from runops.core.client.many_plan import End, ManyPlan
    from runops.core.client.many_runs import ManyRuns
    from runops.core.many.ledger import Changes

R = TypeVar("R")

LOOK_EVERY = 30.0
"""Seconds between two looks whether the Dagster run is over, and its step is not."""


class Beside:
    """Carries a set of runs to its end, in a loop beside the step.

    Args:
        context: The step's context.
        client: Opened and closed in the loop.
        records: Of the set.
        ledger: Where it stands.
        plan: What is wanted.
        cancel_on_interrupt: Whether Terminate cancels what is active and ours.
    """

    def __init__(
        self,
        context: _compat.StepContext,
        client: AsyncRunClient,
        records: SetRecords,
        ledger: Ledger,
        plan: ManyPlan,
        *,
        cancel_on_interrupt: bool,
    ) -> None:
        self._context = context
        self._client = client
        self._records = records
        self._ledger = ledger
        self._plan = plan
        self._cancels = cancel_on_interrupt
        self._held = HeldInterrupts()
        self._side = beside_step(self._work, self._stop, self._held)
        self._written = {row.index: row for row in changed_rows({}, ledger)}
        self._runs: ManyRuns | None = None
        self._stopping = False
        self._outlived = False

    def run(self) -> End:
        """Why the set has ended.

        Raises:
            DagsterExecutionInterruptedError: Terminate came; all is cancelled and written by then.
            dagster.Failure: The Dagster run is being terminated, or is over: nothing more is submitted.
            RunopsError: The key is refused.
        """
        with self._held:
            end = self._side.run()
        if self._outlived:
            raise dg.Failure(
                description=with_code(
                    "The Dagster run is over already: its external runs are left to who executes it again.",
                    Code.DAGSTER_RUN_OVER,
                ),
                allow_retries=False,
            )
        return end

    @property
    def results(self) -> Mapping[int, RunResult]:
        """What is known in full of the runs that did not end well, by their place."""
        return self._runs.results if self._runs is not None else {}

    async def _work(self, side: SideLoop[End]) -> End:
        from runops.core.client.many_runs import ManyRuns

        with core_warnings_in(self._context, side.soon_in_caller):
            async with self._client as client:
                self._runs = ManyRuns(
                    client, self._ledger, self._plan, store=self._store, until=lambda ledger: self._outlived
                )
                if self._stopping:
                    self._stop()
                watch = asyncio.create_task(self._watch_dagster_run())
                try:
                    return await self._runs.run()
                finally:
                    watch.cancel()

    def _stop(self) -> None:
        """Terminate has come, maybe before there is anything to stop."""
        self._stopping = True
        if self._runs is not None:
            self._runs.stop(cancel=self._cancels)

    async def _store(self, changes: Changes) -> None:
        rows = [self._ledger[index] for index in sorted(changes.indices)]
        line = self._ledger.tally.line(self._client.provider)
        await self._side.in_caller(partial(self._write, rows, line))

    def _write(self, rows: Sequence[Row], line: str) -> None:
        """Write what has changed, in the step's own thread.

        Raises:
            dagster.Failure: A run was about to be submitted for a Dagster run that is over.
        """
        news = changed_rows(self._written, rows)
        self._records.changed(news, line)
        self._written |= {row.index: row for row in news}
        if any(row.state is RowState.SUBMITTING for row in news):
            # After the record: a re-execution starts when this run is over, and then it finds the record.
            refuse_when_over(self._context)

    async def _watch_dagster_run(self) -> None:
        """Give up the wait of a step that has outlived its Dagster run.

        Whoever ends a Dagster run for its run time marks it as over before the step hears of it: an interrupt that is
        on its way has time to come.
        """
        seen = 0
        while seen < 2:
            await asyncio.sleep(LOOK_EVERY)
            try:
                status = await self._side.in_caller(partial(status_of_run, self._context))
            except Exception:  # noqa: BLE001 - a storage raises what it likes: the next look may fare better
                continue
            seen = seen + 1 if status in OVER else 0
        self._outlived = True


def cancel_all(client: AsyncRunClient, rows: Sequence[Row], seconds: float) -> list[Row]:
    """Ask for runs to be cancelled, some at a time; those of them that were, as they stand then.

    Args:
        client: Opened and closed here.
        rows: Of runs that are ours.
        seconds: After which no more is asked for.
    """

    from runops.core.client.many_cancels import cancel_rows

    async def work(side: SideLoop[list[Row]]) -> list[Row]:
        async with client:
            # Whoever asked for it says how many are left.
            left = await cancel_rows(client, rows, seconds)
        return [row.cancelled() for row in rows if row.index not in left]

    # An interrupt strikes once all is asked for: there is nothing that could end sooner.
    with HeldInterrupts():
        return SideLoop(work, lambda: None, patience=math.inf, context=contextvars.Context()).run()


def beside_step(
    work: Callable[[SideLoop[R]], Coroutine[Any, Any, R]], stop: Callable[[], object], held: HeldInterrupts
) -> SideLoop[R]:
    """A loop beside a step, that hears of an interrupt between two things that it asks of Dagster.

    Without the step's own variables: what runs in it outlives no step, and logs through the step's thread.
    """
    return SideLoop(work, stop, patience=math.inf, let_through=held.let_through, context=contextvars.Context())
