"""The operator that starts many runs and waits for them all: each at most once, whatever dies in between.

How a try goes:

1. What an earlier try, or this one before a deferral, has left is read (many/ledger_store.py). A retry goes on with it;
   after a person's clear the runs of before are cancelled, and a new set begins.
2. A loop beside the task submits what may be active and waits (many/drive.py). Each submit is recorded before its POST.
3. Where nothing more can be submitted for a while, a deferrable task hands what is active to the triggerer, and its
   worker is free. It comes back when enough of it is over to submit the next ones, or all is decided.
4. The whole ends the task (many/verdicts.py).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NoReturn, Unpack

from runops.airflow._compat import AirflowException
from runops.airflow.arguments import Calls, SubmittingSettings, check_submit
from runops.airflow.by_hand import whole
from runops.airflow.events import RunsEnded
from runops.airflow.exceptions import RunopsException, TriggerCrashed, in_airflow_terms
from runops.airflow.link import RunLink
from runops.airflow.many.calls import check_written
from runops.airflow.many.drive import Handover, SetDrive
from runops.airflow.many.ledger_store import LedgerStore
from runops.airflow.many.own_set import OwnSet
from runops.airflow.many.rows import addresses, clocks, indices_of, read_event, spans, waits
from runops.airflow.many.rows import summary as counted
from runops.airflow.many.run_list import list_of
from runops.airflow.many.verdicts import SetEnd, apply_set_verdict, publish_set, push_link
from runops.airflow.metrics import METER
from runops.airflow.runs_trigger import RunsTrigger
from runops.airflow.submission import identity_of
from runops.airflow.task_record import begin, recording_errors
from runops.core import RunopsError, RunResult
from runops.core.client.many_plan import End, ManyPlan, SubmitPlan
from runops.core.declaration import Call
from runops.core.declaration.arguments import seconds
from runops.core.many.ledger import Ledger
from runops.core.many.results import ManyResult
from runops.core.many.retry import TakenUp
from runops.core.many.rules import DEFAULT_MAX_ACTIVE, ManyRules, Require, check_calls
from runops.core.model.codes import Code, text_of
from runops.core.waiting.state import WaitProgress

PROGRESS = "progress"
"""The XCom key of the counts as they stood at the last deferral."""
MOST_CRASHES = 3
"""So many broken triggers in one try are followed by another one."""


class RunsOperator(OwnSet):
    """Start many runs of any provider, each once, and wait for all: as one task, with at most one worker.

    What holds for the run of a :class:`~runops.airflow.operator.RunOperator` holds for each of these, whatever dies in
    between: its submit is recorded before its POST, a retry re-attaches, and nothing is submitted twice. A retry
    submits anew only what failed, and what was never submitted; the results of all others are kept. After a person's
    clear the runs of before are cancelled, and all begin anew (``on_clear="submit"``). This needs Airflow's task state
    store (3.3 or newer); below, a set survives its deferrals, and a later try finds only runs that bear a mark (Nyx).

    The task succeeds where enough runs ended well (``require``): by the verdicts succeed, warn and skip. Where all of
    those are skips, it is skipped. It returns the counts, the spend and the runs that failed (100 at the most); under
    the XCom key ``runs`` is one small mapping for each run.

    All arguments of a :class:`~runops.airflow.operator.RunOperator` but ``arguments`` and ``wait`` are taken too, and
    mean the same for each run, but ``max_spend``, which bounds what all runs spend together.

    :param provider: A shipped provider's name (``"nexio"``), or ``"package.module:NAME"`` for one of your own.
    :param calls: What is submitted (templated): a list with the arguments of each submit by name, or another task's
        output that is one. What it is rendered to is stored nowhere. No two may be the same.
    :param conn_id: The connection (templated); ``<provider>_default`` if not given.
    :param max_active: How many runs may be active at the same time.
    :param require: How many have to end well: ``"all"``, ``"any"``, or a share above 0 and up to 1, such as ``0.95``.
    :param stop_early: Cancel the rest, and submit no more, once ``require`` is met or cannot be met any more.
    """

    template_fields: Sequence[str] = ("calls", "conn_id", "expect")
    shared_fields = ("calls",)
    payload_fields: ClassVar[tuple[str, ...]] = ("calls",)
    operator_extra_links = (RunLink(),)

    def __init__(
        self,
        *,
        provider: str,
        calls: Calls,
        conn_id: str | None = None,
        max_active: int = DEFAULT_MAX_ACTIVE,
        require: Require = "all",
        stop_early: bool = False,
        **kwargs: Unpack[SubmittingSettings],
    ) -> None:
        super().__init__(provider=provider, conn_id=conn_id, **kwargs)
        self.calls = calls
        self.max_active = max_active
        self.require = require
        self.stop_early = stop_early
        self._rules()
        check_submit(RunsOperator, self.service, ())
        check_written(self.service, calls)

    def execute(self, context: Any) -> ManyResult:
        """Start the runs, or go on with those that an earlier try started, and wait.

        :param context: The task's context.
        """
        context = whole(self, context)
        self.check_rendered()
        self.run_record = None
        with recording_errors(self, context), in_airflow_terms():
            calls = self._checked_calls()
            self._warn_without_store(context)
            return self._go_on(context, calls, self._taken_up(context, calls))

    def execute_complete(self, context: Any, event: dict[str, Any] | None = None) -> ManyResult:
        """Go on after the trigger's event: runs are over, or a clock or a limit is.

        :param context: The task's context.
        :param event: What the trigger fired.
        """
        with in_airflow_terms():
            calls = self._checked_calls()
            taken = self._resumed(context, calls)
            try:
                ended = read_event(event, taken.ledger)
            except TriggerCrashed as error:
                return self._after_crash(context, error)
            return self._after_event(context, calls, taken, ended)

    # --- the set goes on ---

    def _go_on(
        self,
        context: Any,
        calls: list[Call],
        taken: TakenUp,
        *,
        past: Mapping[int, WaitProgress] | None = None,
        full: Mapping[int, RunResult] | None = None,
    ) -> ManyResult:
        """Submit and wait here until the set has ended, or the triggerer goes on with it."""
        store = self._ledger_store(context)
        drive = SetDrive(
            self._hook(),
            taken.ledger,
            self._plan(context, calls, taken),
            store=store,
            log=self.log,
            until=Handover() if self.deferrable else None,
            past=past,
            full=full,
            client_settings={} if self.mark_runs is None else {"mark_runs": self.mark_runs},
            record=begin(self, context, kind="set"),
        )
        self._drive = context, drive
        try:
            end = drive.run()
        except (RunopsError, AirflowException) as error:
            METER.erred(self.provider, error)
            publish_set(context, self._end(store, drive.ledger, drive.results))
            raise
        push_link(context, drive.ledger, self.service)
        if end is End.SUSPENDED:
            self._defer(context, drive)
        if end is End.STOPPED and not drive.out_of_time:
            text = "A person has ended this task while its runs went on."
            raise RunopsException(text, error_code=Code.TASK_ENDED)
        end = self._end(store, drive.ledger, drive.results)
        alive = {row.index for row in drive.ledger if row.may_be_alive}
        reported = spans(row.index for row in drive.ledger if row.is_over and row.index not in alive)
        store.update(ended=not alive, counts=drive.ledger.tally.to_dict(), told=reported)
        return apply_set_verdict(context, end, log=self.log, record=self.run_record)

    def _end(self, store: LedgerStore, ledger: Ledger, full: Mapping[int, RunResult]) -> SetEnd:
        header = store.header()
        return SetEnd(
            provider=self.service,
            ledger=ledger,
            rules=self._rules(),
            full=full,
            kept=header.get("kept", 0),
            reported=frozenset(indices_of(header.get("told") or "")),
            submitted=max(sum(row.run_id is not None for row in ledger) - header.get("found", 0), 0),
        )

    def _plan(self, context: Any, calls: list[Call], taken: TakenUp) -> ManyPlan:
        ends, clock = self._first_end(context)
        return ManyPlan(
            rules=self._rules(),
            policy=self._policy(),
            wait=self._clocks(deadline=ends),
            clock=clock,
            submits=SubmitPlan(
                calls=calls,
                turns=self._turn_rules(context),
                identity=identity_of(context),
                adopt_uncertain=self.adopt_uncertain,
                grace=seconds("submit_grace", self.submit_grace),
            ),
            again=taken.again,
            cancel_on_timeout=self._can_cancel(self.cancel_on_timeout),
            cancel_on_kill=self._can_cancel(self.cancel_on_kill),
        )

    def _rules(self) -> ManyRules:
        return ManyRules.build(
            max_active=self.max_active, require=self.require, stop_early=self.stop_early, max_spend=self.max_spend
        )

    def _checked_calls(self) -> list[Call]:
        """What is submitted, as templates have filled it; refused before anything is sent where it is wrong."""
        return check_calls(self.service, list_of(self.calls, field="calls"))

    # --- the triggerer ---

    def _after_event(self, context: Any, calls: list[Call], taken: TakenUp, ended: RunsEnded) -> ManyResult:
        store, now = self._ledger_store(context), time.time()
        failure = ended.failure
        if isinstance(failure, TriggerCrashed):
            return self._after_crash(context, failure)
        if store.header().get("crashes"):
            store.update(crashes=0)
        full = ended.full
        if failure is not None:
            publish_set(context, self._end(store, taken.ledger, full))
            raise failure
        going_on = [row for row in taken.ledger if row.is_running]
        past = waits(ended.clocks, going_on, began=None, now=now)
        return self._go_on(context, calls, taken, past=past, full=full)

    def _defer(self, context: Any, drive: SetDrive) -> NoReturn:
        """Let the triggerer wait for what is active, until more may be submitted or all is over."""
        now, clocks_of_wait = time.time(), self._clocks(deadline=self._deadline(context))
        earliest, limit = self._deferral(context, clocks_of_wait.deadline, now)
        going_on = [row for row in drive.ledger if row.is_running]
        tally = drive.ledger.tally
        trigger = RunsTrigger(
            provider=self.provider,
            conn_id=self._hook().conn_id,
            rows={
                "total": len(drive.ledger),
                "open": addresses(going_on),
                "others": counted(row for row in drive.ledger if not row.is_running),
                "clocks": clocks(drive.past, going_on, now),
            },
            patience=self._patience(clocks_of_wait),
            plan={
                "rules": self._rules().to_dict(),
                "policy": self._policy().to_dict(),
                "fire_after": -(-len(going_on) // 2) if tally.unsent else len(going_on),
                "cancel_on_timeout": self._can_cancel(self.cancel_on_timeout),
            },
            not_before=earliest,
            execution_ends=self._execution_ends(context),
            cancel_on_kill=self._can_cancel(self.cancel_on_kill),
            on_clear=self.on_clear,
        )
        self._ledger_store(context).update(counts=tally.to_dict())
        context["ti"].xcom_push(key=PROGRESS, value=tally.to_dict())
        self.log.info("%d runs go on; the triggerer watches them from here.", len(going_on))
        self.defer(trigger=trigger, method_name="execute_complete", timeout=limit)

    def _after_deferral_timeout(self, context: Any) -> ManyResult:
        """No event came in time: look at what goes on a last time."""
        with in_airflow_terms():
            calls = self._checked_calls()
            return self._go_on(context, calls, self._resumed(context, calls))

    def _after_crash(self, context: Any, error: AirflowException) -> ManyResult:
        """Another trigger goes on, a few times: this one has fired nothing of what it waited for."""
        store = self._ledger_store(context)
        crashes = store.header().get("crashes", 0) + 1
        if crashes > MOST_CRASHES:
            raise self._crashed(context, "its runs", error)
        self.log.warning("The trigger broke (%s); looking at its runs once more.", text_of(error))
        store.update(crashes=crashes)
        return self._after_deferral_timeout(context)
