"""What one process of a task does about its set of runs: a loop beside the task submits, waits and records."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from runops.airflow._compat import AirflowTaskTimeout
from runops.airflow.hook import RunHook
from runops.airflow.many.ledger_store import LedgerStore
from runops.airflow.submission import WORKER_SECONDS
from runops.airflow.task_record import TaskRecord
from runops.core import AsyncRunClient
from runops.core.client.many_cancels import cancel_rows
from runops.core.client.many_plan import End, ManyPlan
from runops.core.client.many_runs import ManyRuns
from runops.core.many.ledger import Changes, Ledger
from runops.core.many.rows import Row, RowState
from runops.core.many.tally import Tally
from runops.core.model.run import RunResult
from runops.core.polling.side_loop import SideLoop
from runops.core.waiting.limits import WaitProgress

PATIENCE = 40.0
"""Seconds for which a try whose time is over waits for answers to POSTs under way, and for its cancels."""


class Handover:
    """Says when the triggerer should go on: while runs can be submitted every few seconds, a worker is worth its cost.

    :param clock: Seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._stood: tuple[int, ...] = ()
        self._since = clock()

    def __call__(self, ledger: Ledger) -> bool:
        """Whether it should."""
        tally, now = ledger.tally, self._clock()
        stands = (tally.unsent, tally.over) if tally.unsent else (0,)
        if stands != self._stood:
            self._stood, self._since = stands, now
        # A lost answer is looked for here, and a turn behind a stranger's run is waited for.
        busy = tally.states[RowState.SUBMITTING] or tally.states[RowState.AWAITING_TURN]
        return not busy and tally.running > 0 and now - self._since >= WORKER_SECONDS


class SetDrive:
    """Drives a set until it ends, or the triggerer goes on with it. Used once.

    :param hook: The connection.
    :param ledger: Where the set stands.
    :param plan: What is wanted.
    :param store: Where that is written.
    :param log: The task's log.
    :param until: Whether the triggerer goes on.
    :param past: What the waits have learnt, by their row.
    :param full: Whole results of runs that did not end well, by their row.
    :param client_settings: What the task says beside the connection.
    :param record: Who stores how the set stands.
    """

    def __init__(
        self,
        hook: RunHook,
        ledger: Ledger,
        plan: ManyPlan,
        *,
        store: LedgerStore,
        log: Any,
        until: Callable[[Ledger], bool] | None = None,
        past: Mapping[int, WaitProgress] | None = None,
        full: Mapping[int, RunResult] | None = None,
        client_settings: dict[str, Any] | None = None,
        record: TaskRecord | None = None,
    ) -> None:
        self.ledger = ledger
        self.results: dict[int, RunResult] = dict(full or {})
        self.past = dict(past or {})
        self.out_of_time = False
        """Whether Airflow's clock for the try has ended it."""
        self._hook = hook
        self._plan = plan
        self._store = store
        self._log = log
        self._until = until
        self._client_settings = client_settings or {}
        self._record = record
        self._many: ManyRuns | None = None
        self._stop: tuple[Literal["killed", "execution_timeout"], bool] | None = None
        self._ended = threading.Event()

    def run(self) -> End:
        """Drive it, and tell why that has ended. To be called in the task's own thread.

        :raises AuthError: The key is refused, which concerns all runs.
        :raises RunopsError: Nothing could be submitted.
        """
        side: SideLoop[End] = SideLoop(self._work, self._out_of_time, patience=PATIENCE)
        try:
            return side.run()
        except AirflowTaskTimeout:
            self.out_of_time = True
            return End.STOPPED
        finally:
            self._ended.set()

    def stop(self, by: Literal["killed", "execution_timeout"], *, cancel: bool) -> None:
        """End it soon; from any thread, a signal's handler included.

        :param by: Why.
        :param cancel: Whether what is ours is cancelled.
        """
        self._stop = self._stop or (by, cancel)
        if self._many is not None:
            self._many.stop(by, cancel=cancel)

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended; whether it has.

        :param seconds: For how long.
        """
        return self._ended.wait(seconds)

    def _out_of_time(self) -> None:
        self.stop("execution_timeout", cancel=self._plan.cancel_on_timeout)

    async def _work(self, side: SideLoop[End]) -> End:
        try:
            async with await self._hook.async_client(ask=side.in_caller, **self._client_settings) as client:
                many = ManyRuns(
                    client,
                    self.ledger,
                    self._plan,
                    store=self._write,
                    progress=lambda tally: self._say(client, tally),
                    until=self._until,
                    past=self.past,
                )
                self._many = many
                if self._stop is not None:
                    many.stop(self._stop[0], cancel=self._stop[1])
                try:
                    return await many.run()
                finally:
                    self.results.update(many.results)
                    self.past = dict(many.past)
        finally:
            self._ended.set()

    async def _write(self, changes: Changes) -> None:
        # Not in the task's own thread: a kill that strikes there while Airflow is asked could ask nothing itself.
        await asyncio.to_thread(self._store.save, changes.pages())

    def _say(self, client: AsyncRunClient, tally: Tally) -> None:
        self._log.info("%s", tally.line(client.provider))
        if self._record is not None:
            self._record.counted_beside(tally)


def cancel_left(hook: RunHook, rows: Iterable[Row], seconds: float, **settings: Any) -> dict[int, str]:
    """Cancel the runs of rows that are ours, in a loop beside the task.

    :param hook: The connection.
    :param rows: The rows; those that have no run of ours to cancel are left alone.
    :param seconds: For how long.
    :param settings: As the hook's client takes them.
    :return: What is not known to be cancelled, and why, by the row's index.
    """
    wanted = [row for row in rows if row.ours_to_cancel or (row.intent is not None and row.may_be_alive)]

    async def work(side: SideLoop[dict[int, str]]) -> dict[int, str]:
        async with await hook.async_client(ask=side.in_caller, **settings) as client:
            return await cancel_rows(client, wanted, max(seconds, 0.1))

    return SideLoop(work, lambda: None, patience=0.0).run() if wanted else {}
