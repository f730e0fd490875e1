"""The sensor that waits for many runs at once. It never cancels: it did not submit."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NoReturn, Unpack, cast

from airflow.sdk import PokeReturnValue
from airflow.triggers.base import StartTriggerArgs

from runops.airflow._compat import AirflowException
from runops.airflow.arguments import RunIds, SensorSettings
from runops.airflow.begin_in_trigger import BeginsInTrigger
from runops.airflow.by_hand import whole
from runops.airflow.exceptions import SensorRunFailed, SensorTimedOut, TriggerCrashed, in_airflow_terms
from runops.airflow.link import RunLink
from runops.airflow.many.poke import RunsPoke
from runops.airflow.many.rows import addresses, clocks, ends, read_event
from runops.airflow.many.run_list import Parents, list_of, parents_of, written
from runops.airflow.many.trigger_size import check_size, too_large
from runops.airflow.many.verdicts import SetEnd, apply_set_verdict, publish_set, push_link, sensor_may_change
from runops.airflow.many.watch import RunsWatch
from runops.airflow.metrics import METER
from runops.airflow.runs_trigger import RunsTrigger
from runops.airflow.sensor_base import SensorBase
from runops.airflow.submission import WORKER_SECONDS
from runops.airflow.task_base import LATE_SECONDS
from runops.airflow.task_record import begin, go_on, recording_errors
from runops.core import RunRef, RunResult
from runops.core.client.many_plan import End, ManyPlan
from runops.core.many.ledger import Ledger
from runops.core.many.results import ManyResult
from runops.core.many.rules import ManyRules, Require, check_run_ids
from runops.core.waiting.options import WaitOptions
from runops.core.waiting.state import WaitProgress


class RunsSensor(BeginsInTrigger, SensorBase):
    """Wait until many runs of any provider have ended, as one task, and turn how they ended into the task's own end.

    The task succeeds where enough runs ended well (``require``): by the verdicts succeed, warn and skip. Where all of
    those are skips, it is skipped. It returns the counts, the spend and the runs that failed (100 at the most), in
    every mode; the same stands under the XCom key ``run`` on every end, and under ``runs`` one small mapping for each
    run. What cannot be read of one run ends the wait for no other one; a key that is refused ends it for all.

    All arguments of a :class:`~runops.airflow.sensor.RunSensor` but ``run_id`` and ``end_from_trigger`` are taken too,
    and mean the same for each run, but ``max_spend``, which bounds what all runs spend together. A deferrable sensor
    needs a worker at its beginning and its end only, with ``start_from_trigger`` at its end only; in reschedule mode a
    run that has ended is not read again (Airflow 3.3 and newer). ``docs/how_to/many_runs.md`` says how many runs fit.

    :param provider: A shipped provider's name (``"nexio"``), or ``"package.module:NAME"`` for one of your own.
    :param run_ids: The runs' ids (templated): a list, another task's output that is one, or a template that gives JSON.
        No id may stand in it twice.
    :param parents: Further ids that the runs' addresses need (templated): one mapping for all of them, or a list of one
        for each; OnePin: ``{"workflow_id": ...}``.
    :param conn_id: The connection (templated); ``<provider>_default`` if not given.
    :param require: How many runs have to end well: ``"all"``, ``"any"``, or a share above 0 and up to 1, such as
        ``0.95``.
    :param stop_early: End the wait once ``require`` is met or cannot be met any more. The rest goes on at the provider.
    :param start_from_trigger: With ``deferrable``, begin in the triggerer at once, as a single run's sensor does.
    """

    template_fields: Sequence[str] = ("run_ids", "parents", "conn_id", "expect")
    shared_fields = ("run_ids",)
    operator_extra_links = (RunLink(),)
    runs_field = "run_ids"

    def __init__(
        self,
        *,
        provider: str,
        run_ids: RunIds,
        parents: Parents = None,
        conn_id: str | None = None,
        require: Require = "all",
        stop_early: bool = False,
        start_from_trigger: bool = False,
        **kwargs: Unpack[SensorSettings],
    ) -> None:
        super().__init__(provider=provider, conn_id=conn_id, **kwargs)
        self.run_ids = run_ids
        self.parents = parents
        self.require = require
        self.stop_early = stop_early
        self.start_from_trigger = start_from_trigger and self.deferrable
        self._rules()
        if not self.named_fields and written(run_ids) and written(parents):
            self._refs()

    def execute(self, context: Any) -> ManyResult:
        """Wait for the runs, in the way that ``mode`` and ``deferrable`` say.

        :param context: The task's context.
        """
        context = whole(self, context)
        self._say_where_it_begins()
        self.run_record = None
        with self._never_failing(), recording_errors(self, context):
            self.check_rendered()
            if not self.deferrable and self.reschedule:
                poked = self.poke(context)
                if not poked.is_done:
                    self._come_back(context)
                return cast("ManyResult", poked.xcom_value)
            with in_airflow_terms():
                ledger = Ledger.of_refs(self._refs())
            began = context["ti"].start_date.timestamp()
            past = {row.index: WaitProgress(began=began) for row in ledger}
            return self._wait_here(context, ledger, past)

    def poke(self, context: Any) -> PokeReturnValue:
        """One read of each run, as reschedule mode takes it: done, with the set's result, or not done.

        :param context: The task's context.
        """
        context = whole(self, context)
        with in_airflow_terms():
            refs = self._refs()
            poke = RunsPoke(
                context,
                hook=self._hook(),
                refs=refs,
                plan=self._plan(context),
                began=self._began(context),
                log=self.log,
            )
        record = begin(self, context, kind="set", began=self._began(context))
        with self._telling(context, poke.ledger):
            over = poke.look()
        if not over:
            if record is not None:
                record.leave(poke.ledger.tally)
            return PokeReturnValue(is_done=False)
        return PokeReturnValue(is_done=True, xcom_value=self._end_set(context, poke.ledger, poke.watch))

    def execute_complete(self, context: Any, event: dict[str, Any] | None = None) -> ManyResult:
        """Go on after the trigger's event.

        :param context: The task's context.
        :param event: What the trigger fired.
        """
        with in_airflow_terms():
            ledger = Ledger.of_refs(self._refs())
        try:
            ended = read_event(event, ledger)
        except TriggerCrashed as error:
            return self._after_crash(context, error)
        if ended.failure is not None:
            publish_set(context, self._set_end(ledger, {}))
            raise ended.failure
        watch = RunsWatch(self._hook(), ledger, self._plan(context), log=self.log)
        watch.results |= ended.full
        return self._end_set(context, ledger, watch)

    # --- the wait ---

    def _wait_here(self, context: Any, ledger: Ledger, past: dict[int, WaitProgress]) -> ManyResult:
        """Wait here, or look for a while here and then defer."""
        plan = self._plan(context)
        until = time.time() + WORKER_SECONDS if self.deferrable else None
        record = begin(self, context, kind="set")
        watch = RunsWatch(self._hook(), ledger, plan, log=self.log, past=past, record=record)
        with self._telling(context, ledger):
            end = watch.wait(until)
        if end is End.SUSPENDED and any(row.is_running for row in ledger):
            self._defer(context, ledger, watch.past, plan.wait)
        return self._end_set(context, ledger, watch)

    def _defer(self, context: Any, ledger: Ledger, past: dict[int, WaitProgress], options: WaitOptions) -> NoReturn:
        """Let the triggerer wait for what goes on."""
        now, going_on = time.time(), [row for row in ledger if row.is_running]
        earliest, limit = self._deferral(context, options.deadline, now)
        trigger = RunsTrigger(
            provider=self.provider,
            conn_id=self._hook().conn_id,
            rows={
                "total": len(ledger),
                "began": context["ti"].start_date.timestamp(),
                "open": addresses(going_on),
                "done": ends(row for row in ledger if row.is_over),
                "clocks": clocks(past, going_on, now),
            },
            patience=self._patience(options),
            plan={"rules": self._rules().to_dict(), "policy": self._policy().to_dict()},
            not_before=earliest,
            execution_ends=self._execution_ends(context),
        )
        with in_airflow_terms():
            check_size(trigger, len(going_on), field="run_ids")
        self.log.info("%s; the triggerer watches from here.", ledger.tally.line(self.service))
        self.defer(trigger=trigger, method_name="execute_complete", timeout=limit)

    def _after_deferral_timeout(self, context: Any) -> ManyResult:
        """No event came in time: the triggerer is down or overloaded. Look at all runs a last time."""
        with in_airflow_terms():
            ledger = Ledger.of_refs(self._refs())
        _, ended_by = self._first_end(context)
        watch = RunsWatch(self._hook(), ledger, self._plan(context), log=self.log)
        with self._telling(context, ledger):
            watch.last_look(ended_by)
        return self._end_set(context, ledger, watch)

    def _after_crash(self, context: Any, error: AirflowException) -> ManyResult:
        """Nothing is known of the runs."""
        raise self._crashed(context, "its runs", error)

    # --- the end ---

    @contextmanager
    def _telling(self, context: Any, ledger: Ledger) -> Generator[None]:
        """Leave how the set stands where an error ends the wait for all."""
        try:
            with in_airflow_terms():
                yield
        except AirflowException as error:
            METER.erred(self.provider, error)
            publish_set(context, self._set_end(ledger, {}))
            raise

    def _end_set(self, context: Any, ledger: Ledger, watch: RunsWatch) -> ManyResult:
        watch.in_full()
        push_link(context, ledger, self.service)
        return apply_set_verdict(
            context,
            self._set_end(ledger, watch.results),
            log=self.log,
            failed=SensorRunFailed,
            timed_out=SensorTimedOut,
            retry_may_change=sensor_may_change,
            record=go_on(self, context) or begin(self, context, kind="set"),
        )

    def _set_end(self, ledger: Ledger, full: Mapping[int, RunResult]) -> SetEnd:
        return SetEnd(provider=self.service, ledger=ledger, rules=self._rules(), full=full)

    # --- what is wanted ---

    def _refs(self) -> list[RunRef]:
        """The runs, as templates have filled them; refused before anything is read where one is wrong."""
        named = {name: getattr(self, name) for name in self.named_fields}
        return check_run_ids(self.service, list_of(self.run_ids), parents_of(named, self.parents))

    def _rules(self) -> ManyRules:
        return ManyRules.build(require=self.require, stop_early=self.stop_early, max_spend=self.max_spend)

    def _plan(self, context: Any) -> ManyPlan:
        # A sensor never cancels; and its runs are not its own, so that nothing would be cancelled.
        return ManyPlan(
            rules=self._rules(),
            policy=self._policy(),
            wait=self._clocks(deadline=self._deadline(context)),
            cancel_on_timeout=False,
            cancel_on_kill=False,
        )

    # --- a task that begins in the triggerer ---

    def started_in_triggerer(self) -> StartTriggerArgs | None:
        """The trigger that takes the place of the first worker, or None where that cannot be or is not wanted."""
        if not self.start_wanted or self._needs_worker() is not None:
            return None
        policy = self.service.policy(self.on_outcome, soft_fail=self.soft_fail, on_unmet=self.on_unmet)
        return StartTriggerArgs(
            trigger_cls="runops.airflow.runs_trigger.RunsTrigger",
            trigger_kwargs={
                "provider": self.provider,
                "patience": self._patience(self._clocks(deadline=0.0)),
                "plan": {"rules": self._rules().to_dict(), "policy": policy.to_dict()},
                "start": self._start(float(self.timeout)),
                **self._rendered_fields(),
            },
            next_method="execute_complete",
            timeout=timedelta(seconds=self.timeout + LATE_SECONDS),
        )

    @property
    def _judged_fields(self) -> tuple[str, ...]:
        return ("expect",)

    def _needs_worker(self) -> str | None:
        return super()._needs_worker() or too_large(self._rendered_fields())
