"""Many runs as one task, for asyncio: it submits what may be active, waits for all, and ends when the whole is decided.

How it works:

- Each active row of the ledger has one task (many_waits.py): it submits (many_submits.py), waits in the shared poller,
  and notes how the run ended. An error of one run is its row's, and ends no other.
- The main loop starts what the schedule lets, says the counts of the whole where they have changed, and looks whether
  the set is over: all ended, decided, out of time or money, handed over to another process, or stopped.
- Then it winds up: POSTs that are under way are answered first, since their runs exist; what goes on is cancelled or
  left, each noted in its row; and all is written (group_commit.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from runops.core.client.group_commit import GroupCommit, Store
from runops.core.client.many_plan import End, ManyPlan
from runops.core.client.many_waits import Carrier, Stop
from runops.core.many.ledger import Ledger
from runops.core.many.rows import NO_PARENTS, RowState
from runops.core.many.schedule import Schedule
from runops.core.many.tally import LineThrottle, Standing, Tally, amount
from runops.core.model.run import RunResult
from runops.core.waiting.limits import WaitProgress

if TYPE_CHECKING:
    from runops.core.client.asynchronous import AsyncRunClient

STARTED_AT_ONCE = 100
"""Rows that begin in one round of the loop; the rest take the next one, so that nothing else there stands still."""
LAST_SUBMIT = 0.1
"""Seconds before the deadline within which nothing is submitted: it would be given up at once."""
LOOK_EVERY = 1.0
"""Seconds between two questions whether the host goes on elsewhere."""


class ManyRuns:
    """One set of runs; see the module. Made and used in the loop that it runs in, once.

    Args:
        client: Whose provider and key all runs share.
        ledger: Where the set stands; kept up to date, and read by the host at any time.
        plan: What is wanted.
        store: Writes what has changed; None where nothing is kept.
        progress: Given the counts where they have changed, at most every ``line_every`` seconds, and at the end.
        until: Asked after each change, and every second: whether the host goes on elsewhere with the rest.
        past: What the waits have learnt in another process, by their row.
    """

    def __init__(
        self,
        client: AsyncRunClient,
        ledger: Ledger,
        plan: ManyPlan,
        *,
        store: Store | None = None,
        progress: Callable[[Tally], None] | None = None,
        until: Callable[[Ledger], bool] | None = None,
        past: dict[int, WaitProgress] | None = None,
    ) -> None:
        self.ledger = ledger
        self._client = client
        self._plan = plan
        self._progress = progress
        self._until = until
        self._loop = asyncio.get_running_loop()
        self._changes = asyncio.Event()
        self._commit = GroupCommit(ledger, store, self._changes.set)
        submit = client.provider.submit
        self._schedule = Schedule(plan.rules.max_active, exclusive=submit is not None and submit.one_at_a_time)
        self._carrier = Carrier(client, self._commit, plan, self._schedule)
        self._carrier.past.update(past or {})
        self._line = LineThrottle(plan.line_every)
        self._stop: Stop | None = None

    @property
    def results(self) -> dict[int, RunResult]:
        """The whole results of the first runs that did not end well here, by their row."""
        return self._carrier.results

    @property
    def past(self) -> dict[int, WaitProgress]:
        """What each wait that goes on has learnt, by its row, for another process that goes on with it."""
        return self._carrier.past

    def stop(self, by: Literal["killed", "execution_timeout"] = "killed", *, cancel: bool) -> None:
        """End the set soon, from any thread: :meth:`run` returns once the rest is wound up and written.

        Args:
            by: Why: a person's will, after which a run that was not cancelled is left to be taken up again; or the
                host's clock for a try, after which every wait has ended as ``timed_out``.
            cancel: Whether what is ours is cancelled.
        """
        self._loop.call_soon_threadsafe(self._take_stop, Stop(by, cancel))

    async def run(self) -> End:
        """Carry the set to its end here.

        A cancel of the asyncio task winds the set up too, by ``cancel_on_kill``, and is raised again.

        Raises:
            AuthError: The key is refused, which concerns all runs.
            Exception: What the store has raised before a submit: nothing was sent without its record.
        """
        try:
            await self._begin()
            end, stop = await self._until_end()
        except BaseException as error:
            killed = isinstance(error, asyncio.CancelledError)
            stop = Stop("killed", self._plan.cancel_on_kill) if killed else Stop(None, cancel=False)
            await self._close(stop)
            raise
        await self._close(stop)
        return end

    # --- the loop ---

    async def _begin(self) -> None:
        """Go on with what an earlier try has left, and plan the rest."""
        calls = self._plan.submits.calls if self._plan.submits else ()
        started = 0
        for row in tuple(self.ledger):
            # What is not sent, where nothing is submitted, is another process's: it only counts.
            if row.is_over or not (row.is_running or self._plan.submits):
                continue
            parent = calls[row.index].parent if row.index < len(calls) else NO_PARENTS
            if row.state is RowState.PLANNED:
                self._schedule.plan(row.index, parent)
                continue
            self._schedule.hold(row.index, parent, active=row.state is not RowState.AWAITING_TURN)
            self._carrier.begin(row.index)
            started += 1
            if started % STARTED_AT_ONCE == 0:
                await asyncio.sleep(0)

    async def _until_end(self) -> tuple[End, Stop]:
        while True:
            self._changes.clear()
            if self._carrier.failure is not None:
                raise self._carrier.failure
            over = self._over()
            if over is not None:
                return over
            self._start_more()
            seconds = min(self._until_deadline(), self._say(), LOOK_EVERY if self._until else float("inf"))
            try:
                async with asyncio.timeout(None if seconds == float("inf") else seconds):
                    await self._changes.wait()
            except TimeoutError:
                continue

    def _over(self) -> tuple[End, Stop] | None:
        """Why the set is over, and how the rest of it ends; None while it goes on."""
        tally, rules, carrier = self.ledger.tally, self._plan.rules, self._carrier
        spent, limit = tally.spend, rules.max_spend
        if self._stop is not None:
            return End.STOPPED, self._stop
        if tally.over == tally.total:
            # What is left to do then is a cancel.
            return None if carrier.tasks else (End.ALL, Stop(None, cancel=False))
        if rules.stop_early and tally.decided(rules.require) is not Standing.OPEN:
            return End.DECIDED, Stop("stop_early", cancel=True)
        if spent is not None and limit is not None and spent >= limit:
            unit = self._client.provider.spend.unit if self._client.provider.spend else ""
            figure = f"all runs together have spent {amount(spent, unit)} of at most {amount(limit, unit)}"
            return End.MAX_SPEND, Stop("max_spend", self._plan.cancel_on_timeout, figure)
        if not carrier.tasks and self._seconds_left() <= 0:
            return End.TIMEOUT, Stop(None, cancel=False)
        if (self._plan.once and not carrier.tasks) or (self._until is not None and self._until(self.ledger)):
            if self._plan.last:
                return End.TIMEOUT, Stop(self._plan.clock, cancel=self._plan.cancel_on_timeout)
            return End.SUSPENDED, Stop(None, cancel=False)
        return None

    def _start_more(self) -> None:
        """Submit what may be active. After the deadline nothing is, nor right before it; what goes on ends by it."""
        if self._seconds_left() <= LAST_SUBMIT:
            return
        if self._carrier.submits is not None:
            self._carrier.submits.let_go_on()
        for _ in range(STARTED_AT_ONCE):
            index = self._schedule.next()
            if index is None:
                return
            self._carrier.begin(index)
        self._changes.set()

    def _seconds_left(self) -> float:
        """Until the deadline."""
        return self._plan.wait.deadline - self._client.clock()

    def _until_deadline(self) -> float:
        """Seconds for which to wait for the deadline: after it, those who wait end by the same clock and say so."""
        left = self._seconds_left()
        return float("inf") if left <= 0 and self._carrier.tasks else max(left, 0.0)

    def _say(self) -> float:
        """Tell the counts, if that is due; seconds until it is."""
        if self._progress is None:
            return float("inf")
        now = self._loop.time()
        seconds = self._line.due_in(now)
        if seconds <= 0:
            if self._line.is_news(self.ledger.tally.line(self._client.provider), now):
                self._progress(self.ledger.tally)
            return float("inf")
        return seconds

    # --- the end ---

    def _take_stop(self, stop: Stop) -> None:
        self._stop = self._stop or stop
        self._changes.set()

    async def _close(self, stop: Stop) -> None:
        await self._carrier.wind_up(stop)
        await self._commit.close()
        if self._progress is not None and self._line.is_news(
            self.ledger.tally.line(self._client.provider), self._loop.time()
        ):
            self._progress(self.ledger.tally)
