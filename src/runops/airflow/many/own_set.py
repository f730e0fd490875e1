"""The many runs that a task has submitted: taken up by a later try, cancelled by a kill, a clear or a last failure."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from runops.airflow._compat import AirflowException
from runops.airflow.forgotten import EarlierTries
from runops.airflow.kill import killed_by_person, within
from runops.airflow.many.drive import SetDrive, cancel_left
from runops.airflow.many.forgotten import ForgottenSet
from runops.airflow.many.ledger_store import Kept, LedgerStore
from runops.airflow.many.rows import indices_of, spans
from runops.airflow.many.verdicts import MOST_NAMED
from runops.airflow.own_run import KILL_SECONDS, LEAVE_SECONDS, STATE_SECONDS
from runops.airflow.records import MANY, SUBMITTED_RUN
from runops.airflow.submission import identity_of
from runops.airflow.submitting import Submitting
from runops.airflow.task_base import Whose
from runops.core import RunopsError
from runops.core.declaration import Call
from runops.core.many.ledger import Ledger, key_of_call
from runops.core.many.retry import TakenUp, take_up
from runops.core.many.rows import Row
from runops.core.model.codes import Code, text_of, with_code


class OwnSet(Submitting):
    """A task that has submitted many runs, which it may cancel."""

    _drive: tuple[Any, SetDrive] | None = None
    _store: LedgerStore | None = None

    def whose_runs(self, context: Any) -> Whose:
        """Its own.

        :param context: The task's context.
        """
        return {"own": True, "cancels": self.cancels_by_itself}

    def on_kill(self) -> None:
        """Cancel what is active if a person killed the task; leave it if the worker is only being shut down."""
        if self._drive is None:
            return
        context, drive = self._drive
        if not within(STATE_SECONDS, lambda: killed_by_person(context, clear_kills=self.on_clear == "submit")):
            self.log.info("Left alone: the runs of this task, since nobody is known to have killed it.")
            return
        began = time.time()
        drive.stop("killed", cancel=self._can_cancel(self.cancel_on_kill))
        # A clear of a running task cannot be told from a retry afterwards, so the kill leaves its own record.
        within(STATE_SECONDS, lambda: self._ledger_store(context).update(given_up=True))
        # The record is written while the cancels are under way: Airflow ends this process 5 s after it has asked.
        if not drive.wait(max(KILL_SECONDS - (time.time() - began), 0.0)):
            left = [row for row in drive.ledger if row.ours_to_cancel]
            self.log.warning("Whether %d runs are cancelled is not known: there was no answer in time.", len(left))
            for row in left[:MOST_NAMED]:
                self.log.warning("It may go on: %s", row.ref(self.service.name))

    def leave_nothing(self, context: Any) -> None:
        """Cancel what is active of this task, of whichever try: nobody is left who would wait for it.

        :param context: The task's context.
        """
        if not (self._on_worker or self._drive is not None):
            text = "What this task has submitted may go on: `runops orphans` lists it."
            self.log.error("%s", with_code(text, Code.LEFT_BEHIND))
            return
        if self._drive is not None:
            rows: Iterable[Row] = self._drive[1].ledger
        else:
            kept = self._ledger_store(context).load()
            rows = [] if kept is None else Ledger.rows_from_pages(kept.pages)
        self._cancel_rows(rows, "their task has failed, and no other try waits for them")

    # --- where the set stands ---

    def _taken_up(self, context: Any, calls: list[Call]) -> TakenUp:
        """The set of a new try: that of the tries before, or a new one."""
        store = self._ledger_store(context)
        kept = store.load()
        if kept is None or not kept.current or (kept.given_up and self.on_clear == "submit"):
            return self._begun_anew(context, kept, calls)
        stopped = store.stopped()
        rows = Ledger.rows_from_pages(kept.pages)
        rows = [row.planned_anew() if row.run_id in stopped else row for row in rows]
        keys = _keys(calls)
        taken = take_up(rows, keys)
        self.log.info("%s", taken.line())
        self._cancel_rows(taken.left, "no call of the list stands for it any more")
        if any(row.index >= len(keys) or row.key != keys[row.index] for row in rows):
            # Pages of two orders beside each other would lose runs, should this process die between two writes.
            store.move(taken.ledger.to_pages(), taken.ledger.page_count)
        reported = kept.header.get("told") or ""
        store.update(ended=False, given_up=False, crashes=0, **self._counts(taken, reported))
        self._mark_as_submitter(context)
        return taken

    def _begun_anew(self, context: Any, kept: Kept | None, calls: list[Call]) -> TakenUp:
        """A new set; what those of before have left is cancelled, or stays known until somebody has seen its end."""
        store = self._ledger_store(context)
        before = [] if kept is None else [*store.earlier(), kept.pages]
        left = [row for pages in before for row in Ledger.rows_from_pages(pages) if row.may_be_alive]
        if self._can_cancel(self.cancel_on_kill):
            left = self._cancel_rows(left, "the task was cleared")
        taken = take_up(self._forgotten(context, calls) if kept is None else (), _keys(calls))
        store.begin(
            taken.ledger.page_count,
            left=bool(left),
            provider=self.provider,
            runs_of=self.service.name,
            conn_id=self._hook().conn_id,
            waits=True,
            **self._counts(taken),
        )
        if taken.kept or taken.waited:
            self.log.info("%s", taken.line())
            store.save(taken.ledger.to_pages())
        self._mark_as_submitter(context)
        return taken

    def _forgotten(self, context: Any, calls: list[Call]) -> list[Row]:
        """The runs of earlier tries of which Airflow remembers nothing; those that are not to go on are cancelled.

        :raises SubmitUncertainError: One of them may be alive, and nothing proves which one it is.
        """
        tries, remembers = EarlierTries.of(context, self.retries), self._ledger_store(context).outlives_the_try
        if not self.durable or not tries.any:
            return []
        marks: dict[str, Any] = {} if self.mark_runs is None else {"mark_runs": self.mark_runs}
        with self._hook().client(**marks) as client:
            forgotten = ForgottenSet(
                client=client,
                calls=calls,
                keys=_keys(calls),
                identity=identity_of(context),
                tries=tries,
                remembers=remembers,
                log=self.log,
            )
            if not forgotten.may_be:
                return []
            if self.on_clear == "reattach" or not (remembers or (tries.cleared and tries.first)):
                return forgotten.found()
            if self._can_cancel(self.cancel_on_kill):
                forgotten.cancel()
        return []

    def _mark_as_submitter(self, context: Any) -> None:
        """Leave an XCom by which ``runops orphans`` knows operators of a user's own class."""
        if self._ledger_store(context).outlives_the_try:
            about = {"state": MANY, "provider": self.provider, "conn_id": self._hook().conn_id}
            context["ti"].xcom_push(key=SUBMITTED_RUN, value=about)

    def _resumed(self, context: Any, calls: list[Call]) -> TakenUp:
        """The set of the same try, in another process."""
        kept = self._ledger_store(context).load()
        return take_up(() if kept is None else Ledger.rows_from_pages(kept.pages), _keys(calls), retry=False)

    def _ledger_store(self, context: Any) -> LedgerStore:
        if self._store is None:
            self._store = LedgerStore(context, durable=self.durable, everlasting=self.on_clear == "reattach")
        return self._store

    @staticmethod
    def _counts(taken: TakenUp, reported_before: str = "") -> dict[str, Any]:
        """What the end of this try asks: how many results stand, which were told, and how many runs it has found."""
        found = sum(row.run_id is not None for row in taken.ledger)
        reported = spans({row.index for row in taken.ledger if row.is_over}.intersection(indices_of(reported_before)))
        return {"runs": len(taken.ledger), "kept": taken.kept, "told": reported, "found": found}

    def _cancel_rows(self, rows: Iterable[Row], why: str) -> list[Row]:
        """Cancel runs that nothing waits for any more; those that may go on all the same."""
        wanted = [row for row in rows if row.may_be_alive and not row.attached]
        if not wanted:
            return []
        if self.service.cancel is None:
            self.log.warning(
                "%d runs go on: %s documents no way to cancel a run. `runops orphans` lists them. [left-behind]",
                len(wanted),
                self.service.title,
            )
            return wanted
        self.log.info("Cancelling %d runs: %s.", len(wanted), why)
        try:
            left = cancel_left(self._hook(), wanted, LEAVE_SECONDS)
        except (RunopsError, AirflowException) as error:
            text = f"Whether they are cancelled is not known: {text_of(error)} `runops orphans` lists them."
            self.log.warning("%s", with_code(text, Code.LEFT_BEHIND))
            return wanted
        for row in [row for row in wanted if row.index in left][:MOST_NAMED]:
            ref = row.ref(self.service.name) or "whose submit was not answered"
            text = f"Run {row.index} of the set ({ref}) may go on: {left[row.index]}"
            self.log.warning("%s", with_code(text, Code.LEFT_BEHIND))
        if left:
            text = f"{len(left)} of {len(wanted)} are not cancelled; `runops orphans` lists them."
            self.log.warning("%s", with_code(text, Code.LEFT_BEHIND))
        return [row for row in wanted if row.index in left]


def _keys(calls: Iterable[Call]) -> list[str]:
    return [key_of_call(call, "") for call in calls]
