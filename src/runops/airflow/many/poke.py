"""One poke of a sensor of many runs in reschedule mode: each run that goes on is read once.

Each poke is a process of its own. What it learns outlives it in the task's record, in pages of a hundred runs; a poke
writes those that have changed, and reads no run again that has ended. Below Airflow 3.3 there is no record, and Airflow
removes a task's XComs before each poke, so each poke reads all runs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from runops.airflow._compat import task_state_store
from runops.airflow.hook import RunHook
from runops.airflow.many.ledger_store import Kept, LedgerStore
from runops.airflow.many.rows import indices_of, learnt_of, spans
from runops.airflow.many.watch import RunsWatch
from runops.airflow.reschedule import HOLD_SECONDS, POKE_SECONDS
from runops.core import RunRef
from runops.core.client.many_plan import End, ManyPlan
from runops.core.many.ledger import PAGE_ROWS, Ledger
from runops.core.many.retry import take_up
from runops.core.many.rows import Row, RowState
from runops.core.waiting.state import WaitProgress

PAST = "past"
"""The key of a page under which stands what the waits of its runs have learnt, by their place in it."""
SEEN = "seen"
"""The key of the header under which stand the runs that were ever seen."""


class RunsPoke:
    """One poke.

    :param context: The task's context.
    :param hook: The connection.
    :param refs: The runs.
    :param plan: What is wanted of them.
    :param began: Unix seconds at which the wait began.
    :param log: The task's log.
    """

    def __init__(
        self,
        context: Mapping[str, Any],
        *,
        hook: RunHook,
        refs: Sequence[RunRef],
        plan: ManyPlan,
        began: float,
        log: Any,
    ) -> None:
        self._ti = context["ti"]
        self._store = LedgerStore(context) if task_state_store(context) is not None else None
        self._began = began
        self._first = began >= self._ti.start_date.timestamp()
        kept = None if self._store is None else self._store.load()
        kept = kept if kept is not None and kept.current else None
        self.ledger = self._ledger(refs, kept)
        past = self._past(kept)
        self._kept = {index: learnt_of(each) for index, each in past.items()}
        """What the record says of each wait."""
        if self._store is None and not self._first:
            log.info("There is no task state store below Airflow 3.3: each poke reads all runs.")
        self.watch = RunsWatch(hook, self.ledger, replace(plan, once=True), log=log, past=past)
        self._options = plan.wait
        self._log = log

    def look(self) -> bool:
        """Read each run that goes on once; whether the wait of the set ends at this poke.

        :raises AuthError: The key is refused, which concerns all runs.
        """
        # Without a record the next poke would not know since when the key is refused: this one holds for all of it.
        longest = (
            POKE_SECONDS if self._store is not None else max(POKE_SECONDS, self._options.auth_grace + HOLD_SECONDS)
        )
        now = time.time()
        end = self.watch.wait(now + longest)
        self._write()
        over = end is not End.SUSPENDED or not any(row.is_running for row in self.ledger)
        if not over:
            self._log.info("%s", self.ledger.tally.line(self.watch.provider))
        return over

    # --- the record ---

    def _ledger(self, refs: Sequence[RunRef], kept: Kept | None) -> Ledger:
        given = Ledger.of_refs(refs)
        if kept is None:
            if self._store is not None:
                self._store.begin(given.page_count, left=False, began=self._began, attempt=self._attempt)
            return given
        retry = kept.header.get("attempt") != self._attempt
        taken = take_up(Ledger.rows_from_pages(kept.pages), [row.key for row in given], retry=retry)
        if retry and self._store is not None:
            self._store.update(attempt=self._attempt)
        # What stands on no page was not over.
        rows = [row if row.state is not RowState.PLANNED else given[row.index] for row in taken.ledger]
        return Ledger(rows)

    def _past(self, kept: Kept | None) -> dict[int, WaitProgress]:
        seen = set(indices_of(kept.header.get(SEEN) or "")) if kept is not None else set[int]()
        learnt: dict[int, Mapping[str, Any]] = {}
        for number, page in (kept.pages if kept is not None else {}).items():
            for place, form in (page.get(PAST) or {}).items():
                learnt[number * PAGE_ROWS + int(place)] = form
        # Without a record: a first poke that had met no such run would have been the last.
        known = self._store is None and not self._first
        return {row.index: self._wait(row, row.index in seen or known, learnt) for row in self._going_on()}

    def _wait(self, row: Row, seen: bool, learnt: Mapping[int, Mapping[str, Any]]) -> WaitProgress:
        form = learnt.get(row.index, {})
        return WaitProgress(began=self._began, seen=seen, resumed="signature" in form, **form)

    def _going_on(self) -> Iterator[Row]:
        return (row for row in self.ledger if row.is_running)

    def _write(self) -> None:
        """Write the pages that have changed, and those only."""
        if self._store is None:
            return
        pages = self.ledger.take_changes().pages()
        learnt = {row.index: learnt_of(self.watch.past[row.index]) for row in self._going_on() if self._waited(row)}
        moved = {index for index, form in learnt.items() if form != self._kept.get(index, {})}
        over = {index for index, form in self._kept.items() if form and index not in learnt}
        for number in sorted({index // PAGE_ROWS for index in moved | over} | set(pages)):
            form = {
                str(index % PAGE_ROWS): learnt[index]
                for index in range(number * PAGE_ROWS, (number + 1) * PAGE_ROWS)
                if learnt.get(index)
            }
            page = pages[number] if number in pages else self.ledger.page(number)
            self._store.save({number: {**page, **({PAST: form} if form else {})}})
        seen = spans(row.index for row in self._going_on() if self._waited(row) and self.watch.past[row.index].seen)
        if seen != self._store.header().get(SEEN):
            self._store.update(**{SEEN: seen, "counts": self.ledger.tally.to_dict()})

    def _waited(self, row: Row) -> bool:
        return row.index in self.watch.past

    @property
    def _attempt(self) -> int:
        return self._ti.try_number
