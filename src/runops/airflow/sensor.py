"""Sensors wait for runs that something else started. They never cancel: they did not submit."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Unpack, cast

from airflow.sdk import PokeReturnValue
from airflow.triggers.base import StartTriggerArgs

from runops.airflow.arguments import AnySensorSettings, OneRunSettings, OnPhase
from runops.airflow.begin_in_trigger import BeginsInTrigger
from runops.airflow.by_hand import whole
from runops.airflow.end_checks import arguments_of, refuse_lost, worker_reason
from runops.airflow.exceptions import SensorRunFailed, SensorTimedOut, in_airflow_terms
from runops.airflow.link import RunLink
from runops.airflow.phases import checked_phases, for_trigger
from runops.airflow.reschedule import Poke
from runops.airflow.sensor_base import SensorBase
from runops.airflow.task_base import LATE_SECONDS
from runops.airflow.task_record import begin, recording_errors
from runops.airflow.tasks import RunWaiting
from runops.airflow.verdicts import publish
from runops.core import RunRef, RunResult, RunSnapshot
from runops.core.waiting.options import WaitOptions


class WaitingSensor(SensorBase, RunWaiting):
    """What all sensors of one run share: three ways to wait, which end alike. Subclasses say for which run."""

    operator_extra_links = (RunLink(),)
    timed_out_error = SensorTimedOut
    failed_error = SensorRunFailed

    def __init__(
        self,
        *,
        end_from_trigger: bool = False,
        on_phase: OnPhase | None = None,
        **kwargs: Unpack[AnySensorSettings],
    ) -> None:
        super().__init__(**kwargs)
        self.set_end_from_trigger(end_from_trigger)
        self.set_on_phase(on_phase)

    def _wait_began(self, context: Any) -> float:
        return self._began(context)

    def execute(self, context: Any) -> RunResult:
        """Wait for the run, in the way that ``mode`` and ``deferrable`` say.

        :param context: The task's context.
        """
        context = whole(self, context)
        self.run_record = None
        with self._never_failing(), recording_errors(self, context):
            self.check_rendered()
            if not self.deferrable and self.reschedule:
                return self._poke_or_reschedule(context)
            options = self._clocks(deadline=self._deadline(context))
            with in_airflow_terms():
                wanted = self._wanted(context, options)
            if isinstance(wanted, RunSnapshot):
                return self._apply_verdict(context, wanted)
            publish(context, wanted, self.service.url(wanted))
            return self._apply_verdict(context, self._await_run(context, wanted, options))

    def poke(self, context: Any) -> PokeReturnValue:
        """One read, as reschedule mode takes it: done, with the run's result, or not done.

        :param context: The task's context.
        """
        context = whole(self, context)
        snapshot = self._poked(context)
        if snapshot is None:
            return PokeReturnValue(is_done=False)
        return PokeReturnValue(is_done=True, xcom_value=self._apply_verdict(context, snapshot))

    # --- what subclasses say ---

    @abstractmethod
    def _wanted(self, context: Any, options: WaitOptions) -> RunRef | RunSnapshot:
        """The run, or the end of a wait for it to be there."""

    @abstractmethod
    def _poked(self, context: Any) -> RunSnapshot | None:
        """The last snapshot if the wait ends at this poke."""

    # --- reschedule mode ---

    def _poke_or_reschedule(self, context: Any) -> RunResult:
        poked = self.poke(context)
        if not poked.is_done:
            self._come_back(context)
        return cast("RunResult", poked.xcom_value)

    def _poke_of(self, context: Any, ref: RunRef) -> RunSnapshot | None:
        """Read a run once."""
        record = begin(self, context, ref, began=self._began(context))
        last = self._poke(context, ref).read(ref, record)
        if last is None and record is not None:
            record.leave()
        return last

    def _poke(self, context: Any, ref: RunRef | None = None) -> Poke:
        return Poke(
            context,
            phases=None if ref is None else self._phase_calls(context, ref),
            hook=self._hook(),
            options=self._clocks(deadline=self._deadline(context)),
            began=self._began(context),
            log=self.log,
        )


class RunSensor(BeginsInTrigger, WaitingSensor):
    """Wait until a run of any provider ends, and turn how it ended into the task's own end.

    ``poke``, ``reschedule`` and deferrable give the same result, XComs, exceptions and skips. A failed read does not
    end the wait; a wrong key, a missing connection or an unknown run does, at once, and is never softened by
    ``soft_fail``. Everything of ``BaseSensorOperator`` keeps its meaning:

    - ``poke_interval``, if given, is the shortest time between two reads; otherwise the provider's own cadence
      holds, and in reschedule mode at least 60 s.
    - ``exponential_backoff`` doubles the time between two reads, up to ``max_wait``.
    - ``timeout`` counts from the first try; its end is ``SensorTimedOut``, which is not retried.
    - ``soft_fail`` turns failed, cancelled and timed_out into a skip; an entry in ``on_outcome`` wins over it.
    - ``never_fail`` turns every failure into a skip, a wrong key too.
    - ``silent_fail`` lets reads fail until ``timeout``, whatever ``error_budget`` says; it hides no final error.

    :param provider: A shipped provider's name (``"nexio"``), or ``"package.module:NAME"`` for one of your own.
    :param run_id: The run's id (templated).
    :param parents: Further ids that the run's address needs, by name (templated); OnePin: ``{"workflow_id": ...}``.
    :param conn_id: The connection (templated); ``<provider>_default`` if not given.
    :param on_outcome: Outcome to verdict, such as ``{"degraded": "warn"}``. Outcomes: succeeded, degraded, exhausted,
        failed, cancelled, timed_out. Verdicts: succeed, warn, skip, fail.
    :param states: Words that no documentation has, and the phase or outcome that each means, such as
        ``{"partial": "degraded"}``; they win over those of the connection. A documented word cannot be changed.
    :param expect: What a succeeded or degraded run must show in its details, such as
        ``{"attempts_completed": ">= 1", "findings_count": 0}`` (values templated): a value, a value behind one of
        ``== != < <= > >=``, or a list of values. A detail that is missing does not meet it.
    :param on_unmet: The verdict on a run that does not; ``fail`` is final and no ``soft_fail`` softens it.
    :param error_budget: Seconds (or a timedelta) of failed reads in a row before ``PollingError``.
    :param auth_grace: Seconds (or a timedelta) for which the key may be refused (401, 403) after a good read: the
        connection is read again at once and then every 30 s, and a changed key goes on. 0 fails the task at once.
    :param max_paused: Seconds (or a timedelta) that the run may stay paused or waiting before it counts as timed_out.
        It counts from where this wait first saw the run so, or from where the provider says (OnePin does). Unless the
        provider says it, a restart of the triggerer begins it anew, and reschedule mode needs Airflow 3.3 or newer.
    :param max_stalled: Seconds (or a timedelta) for which a run that is neither paused nor waiting may show no change
        of its state, its progress or its provider's own time of change, before it counts as timed_out. A queued run
        stalls too. Reschedule mode needs Airflow 3.3 or newer.
    :param max_spend: What the run may spend, in its provider's unit, before the wait counts as timed_out.
    :param deferrable: Wait in the triggerer. Default: Airflow's ``operators.default_deferrable``.
    :param end_from_trigger: With ``deferrable``, end in the triggerer, without a worker, where nothing is lost by it:
        a success, a warning or a skip, with the XComs of any other mode. A failure and every error end on a worker, so
        that exceptions, retries, callbacks and e-mails are as ever. ``outlets``, ``on_success_callback``,
        ``on_skipped_callback``, ``post_execute`` and ``multiple_outputs`` need a worker, and are refused; so are
        ``on_execute_callback``, ``pre_execute`` and ``inlets`` together with ``start_from_trigger``. Where a listener
        (OpenLineage) or an XCom backend needs one, or a later task is mapped over the result, a worker ends the task,
        and the log says so. docs/how_to/without_a_worker.md has what each mode costs and leaves out.
    :param start_from_trigger: With ``deferrable``, begin in the triggerer at once, without a worker before the end.
        ``run_id`` and ``run_url`` are then pushed at the end only. Mapped tasks begin on a worker all the same. So
        does a task whose templates a triggerer cannot render as a worker would, and its log says why: another task's
        output and ``ti.xcom_pull``; ``prev_*``; all of ``ti``, ``task``, ``dag`` and ``dag_run`` but plain ids, dates
        and ``dag_run.conf``; macros, filters, Jinja settings and template files of the DAG's own; params without a
        valid default, and params of the task's own with a schema; Airflow below 3.3.
    :param on_phase: Whom to call once each time that the run enters a phase, such as ``{"waiting": tell_somebody}``: a
        plain function of the context and the run (the dict of every result, with ``phase`` and ``phase_since``), or a
        list of them. What it raises is logged and changes nothing. A deferred task resumes for the call and defers
        again with all its clocks. Reschedule mode needs Airflow 3.3 or newer. docs/how_to/phases.md has the rest.
    :param poke_interval: The shortest time between two reads, in seconds (or as a timedelta). Default: the provider's
        own cadence, and in reschedule mode at least 60 s.
    """

    template_fields: Sequence[str] = ("run_id", "parents", "conn_id", "expect")
    shared_fields = ("run_id",)

    runs_field = "run_id"

    def __init__(
        self,
        *,
        provider: str,
        run_id: str,
        parents: Mapping[str, str] | str | None = None,
        conn_id: str | None = None,
        start_from_trigger: bool = False,
        **kwargs: Unpack[OneRunSettings],
    ) -> None:
        super().__init__(provider=provider, conn_id=conn_id, **kwargs)
        self.run_id = run_id
        self.parents = parents
        self.start_from_trigger = start_from_trigger and self.deferrable
        if self.start_wanted and self.end_from_trigger:
            refuse_lost(type(self), arguments_of(self), begins_there=True)

    def started_in_triggerer(self) -> StartTriggerArgs | None:
        """The trigger that takes the place of the first worker, or None where that cannot be or is not wanted."""
        if not self.start_wanted or self._needs_worker() is not None:
            return None
        fields, start = self._rendered_fields(), self._start(float(self.timeout))
        options = {**self._patience(self._clocks(deadline=0.0)), **for_trigger(checked_phases(self))}
        ends = self._end_after_start()
        return StartTriggerArgs(
            trigger_cls="runops.airflow.trigger.RunTrigger",
            trigger_kwargs={"provider": self.provider, "patience": options, "start": start, **ends, **fields},
            next_method="execute_complete",
            timeout=timedelta(seconds=self.timeout + LATE_SECONDS),
        )

    def _end_after_start(self) -> dict[str, Any]:
        """What the trigger needs where it ends the task too; what is expected of the run it fills in itself."""
        if not self.end_from_trigger:
            return {}
        policy = self.service.policy(self.on_outcome, soft_fail=self.soft_fail, on_unmet=self.on_unmet)
        return {"end": self._end_there(policy, worker_reason(self, begins_there=True)).to_dict()}

    def execute(self, context: Any) -> RunResult:
        """As any sensor's, on a worker.

        :param context: The task's context.
        """
        self._say_where_it_begins()
        return super().execute(context)

    @property
    def _judged_fields(self) -> tuple[str, ...]:
        return ("expect",) if self.end_from_trigger else ()

    def _wanted(self, context: Any, options: WaitOptions) -> RunRef:
        return self._waited_for(context)

    def _poked(self, context: Any) -> RunSnapshot | None:
        with in_airflow_terms():
            ref = self._waited_for(context)
        return self._poke_of(context, ref)

    def _waited_for(self, context: Any) -> RunRef:
        return self.service.ref(self.run_id, self._named_parents(self.parents))
