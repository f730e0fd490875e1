"""Sensors wait for runs that something else started. They never cancel: they did not submit."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Unpack, cast

from airflow.sdk import BaseSensorOperator, PokeReturnValue
from airflow.triggers.base import StartTriggerArgs

from runops.airflow._compat import AirflowRescheduleException, AirflowSkipException, conf, renders_in_triggerer
from runops.airflow.arguments import OneRunSettings, SensorArguments
from runops.airflow.end_checks import arguments_of, refuse_lost, worker_reason
from runops.airflow.exceptions import SensorRunFailed, SensorTimedOut, in_airflow_terms
from runops.airflow.link import RunLink
from runops.airflow.reschedule import Poke
from runops.airflow.task_base import LATE_SECONDS
from runops.airflow.task_state import TaskState
from runops.airflow.tasks import RunWaiting
from runops.airflow.templates import needs_worker
from runops.airflow.verdicts import publish
from runops.core import RunRef, RunResult, RunSnapshot
from runops.core.model.cadence import spread
from runops.core.waiting.options import DEFAULT_AUTH_GRACE, DEFAULT_ERROR_BUDGET, WaitOptions

RESCHEDULE_SECONDS = 60.0
"""The shortest time between two pokes in reschedule mode, unless the user gives a ``poke_interval``."""
LONGEST_BACKOFF = 3600.0
"""The longest time between two reads under ``exponential_backoff`` without a ``max_wait``."""


class WaitingSensor(RunWaiting, BaseSensorOperator):
    """What all sensors share: three ways to wait, which end alike. Subclasses say for which run."""

    operator_extra_links = (RunLink(),)
    timed_out_error = SensorTimedOut
    failed_error = SensorRunFailed

    def __init__(
        self,
        *,
        provider: str,
        conn_id: str | None = None,
        on_outcome: Mapping[str, str] | None = None,
        states: Mapping[str, str] | None = None,
        expect: Mapping[str, Any] | None = None,
        on_unmet: str = "fail",
        error_budget: float | timedelta = DEFAULT_ERROR_BUDGET,
        auth_grace: float | timedelta = DEFAULT_AUTH_GRACE,
        max_paused: float | timedelta | None = None,
        max_stalled: float | timedelta | None = None,
        max_spend: float | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        end_from_trigger: bool = False,
        poke_interval: float | timedelta | None = None,
        **kwargs: Unpack[SensorArguments],
    ) -> None:
        # The base class cannot tell its default of 60 s from a user's wish.
        given = {} if poke_interval is None else {"poke_interval": poke_interval}
        super().__init__(**given, **kwargs)
        self.provider = provider
        setattr(self, self.conn_id_field, conn_id)
        self.set_end_rules(
            on_outcome=on_outcome,
            states=states,
            expect=expect,
            on_unmet=on_unmet,
            auth_grace=auth_grace,
            max_paused=max_paused,
            max_stalled=max_stalled,
            max_spend=max_spend,
        )
        self.error_budget = error_budget
        self.deferrable = deferrable
        self.set_end_from_trigger(end_from_trigger)
        self.interval = self.poke_interval if given and self.poke_interval else None
        self._clocks(deadline=0.0)

    def execute(self, context: Any) -> RunResult:
        """Wait for the run, in the way that ``mode`` and ``deferrable`` say.

        :param context: The task's context.
        """
        with self._never_failing():
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
        snapshot = self._poked(context)
        if snapshot is None:
            return PokeReturnValue(is_done=False)
        return PokeReturnValue(is_done=True, xcom_value=self._apply_verdict(context, snapshot))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Any) -> Any:
        """As the base class's, but a skip comes only from a verdict or from ``never_fail``."""
        with self._never_failing():
            return super().resume_execution(next_method, next_kwargs, context)

    # --- what subclasses say ---

    @abstractmethod
    def _wanted(self, context: Any, options: WaitOptions) -> RunRef | RunSnapshot:
        """The run, or the end of a wait for it to be there."""

    @abstractmethod
    def _poked(self, context: Any) -> RunSnapshot | None:
        """The last snapshot if the wait ends at this poke."""

    def _named_parents(self, more: Mapping[str, str] | None) -> dict[str, str]:
        named = {name: getattr(self, name) for name in self.named_fields}
        return {**(more or {}), **{name: value for name, value in named.items() if value is not None}}

    # --- what the wait asks ---

    def _deadline(self, context: Any) -> float:
        return self._began(context) + self.timeout

    def _began(self, context: Any) -> float:
        """When the first try of this generation began."""
        task_state = TaskState(context)
        record = task_state.load()
        if record is not None and "began" in record:
            return record["began"]
        ti = context["ti"]
        first = ti.get_first_reschedule_date(context) if self.reschedule and not self.deferrable else None
        began = (first or ti.start_date).timestamp()
        task_state.save(began=began)
        return began

    def _clocks(self, *, deadline: float) -> WaitOptions:
        interval = self.interval
        if interval is None and self.reschedule and not self.deferrable:
            interval = RESCHEDULE_SECONDS
        ceiling = None if self.max_wait is None else self.max_wait.total_seconds()
        if self.exponential_backoff and ceiling is None:
            ceiling = LONGEST_BACKOFF
        options = WaitOptions.build(
            self.service,
            now=0.0,
            deadline=deadline,
            error_budget=self.error_budget,
            **self._limits(),
            interval=interval,
            factor=2.0 if self.exponential_backoff else None,
            ceiling=ceiling,
        )
        if self.silent_fail:
            return replace(options, error_budget=max(options.error_budget, float(self.timeout)))
        return options

    # --- reschedule mode ---

    def _poke_or_reschedule(self, context: Any) -> RunResult:
        poked = self.poke(context)
        if poked.is_done:
            return cast("RunResult", poked.xcom_value)
        now, began = time.time(), self._began(context)
        options = self._clocks(deadline=began + self.timeout)
        pause = options.cadence.delay(now - began, jitter=max(spread(), 0.0))
        again = min(now + pause, max(options.deadline, now))
        raise AirflowRescheduleException(datetime.fromtimestamp(again, UTC))

    def _poke(self, context: Any) -> Poke:
        return Poke(
            context,
            hook=self._hook(),
            options=self._clocks(deadline=self._deadline(context)),
            began=self._began(context),
            log=self.log,
        )

    @contextmanager
    def _never_failing(self) -> Generator[None]:
        try:
            yield
        except (AirflowSkipException, AirflowRescheduleException):
            raise
        except Exception as error:
            if self.never_fail:
                skipped = f"Skipped, because never_fail is set: {error}"
                self.log.warning("%s", skipped)
                raise AirflowSkipException(skipped) from None
            raise


class _StartTriggerArgs:
    """What Airflow needs to start a sensor in the triggerer; None for a class, a mapped task, or where it cannot be."""

    def __get__(self, task: RunSensor | None, owner: type) -> StartTriggerArgs | None:
        return None if task is None else task.started_in_triggerer()


class _StartFromTrigger:
    """Whether a sensor starts there. A triggerer builds a context for each task that says so, which can go wrong."""

    def __get__(self, task: RunSensor | None, owner: type) -> bool:
        return task is not None and task.start_trigger_args is not None

    def __set__(self, task: RunSensor, wanted: bool) -> None:
        task.start_wanted = wanted


class RunSensor(WaitingSensor):
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
        and the log says so. docs/without_a_worker.md has what each mode costs and leaves out.
    :param start_from_trigger: With ``deferrable``, begin in the triggerer at once, without a worker before the end.
        ``run_id`` and ``run_url`` are then pushed at the end only. Mapped tasks begin on a worker all the same. So
        does a task whose templates a triggerer cannot render as a worker would, and its log says why: another task's
        output and ``ti.xcom_pull``; ``prev_*``; all of ``ti``, ``task``, ``dag`` and ``dag_run`` but plain ids, dates
        and ``dag_run.conf``; macros, filters, Jinja settings and template files of the DAG's own; params without a
        valid default, and params of the task's own with a schema; Airflow below 3.3.
    :param poke_interval: Seconds (or a timedelta), see above.
    """

    template_fields: Sequence[str] = ("run_id", "parents", "conn_id", "expect")
    shared_fields = ("run_id",)

    start_trigger_args = _StartTriggerArgs()  # pyright: ignore[reportAssignmentType]
    start_from_trigger = _StartFromTrigger()  # pyright: ignore[reportAssignmentType]

    start_wanted: bool = False
    """What the argument says, whatever can be."""
    _worker_reason: str | None = None

    def __init__(
        self,
        *,
        provider: str,
        run_id: str,
        parents: Mapping[str, str] | None = None,
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

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """As any operator's. A mapped task never starts in a triggerer, which builds a context for it if it says so.

        :param kwargs: As the class takes them.
        """
        made = super().partial(**kwargs)
        made.kwargs.pop("start_from_trigger", None)
        return made

    def started_in_triggerer(self) -> StartTriggerArgs | None:
        """The trigger that takes the place of the first worker, or None where that cannot be or is not wanted."""
        if not self.start_wanted or self._needs_worker() is not None:
            return None
        fields = self._rendered_fields()
        start = {
            "timeout": float(self.timeout),
            "conn_id": self.conn_id_field,
            "parents": list(self.named_fields) or None,
            **({"fields": ["expect"]} if self.end_from_trigger else {}),
        }
        options = self._patience(self._clocks(deadline=0.0))
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
        policy = self.service.policy(self.on_outcome, soft_fail=self._soft_fail, on_unmet=self.on_unmet)
        return {"end": self._end_there(policy, worker_reason(self, begins_there=True)).to_dict()}

    def execute(self, context: Any) -> RunResult:
        """As any sensor's, on a worker.

        :param context: The task's context.
        """
        if self.start_wanted:
            reason = self._worker_reason or "Airflow has sent it there"
            self.log.info("start_from_trigger is set, but the task begins on a worker: %s.", reason)
        return super().execute(context)

    def before_rendering(self) -> None:
        """Note why the task begins on a worker: afterwards nothing shows any more what was a template."""
        if self.start_wanted:
            self._worker_reason = self._needs_worker()

    def _needs_worker(self) -> str | None:
        if not renders_in_triggerer():
            return "that needs Airflow 3.3 or newer"
        return needs_worker(self, self._rendered_fields())

    def _rendered_fields(self) -> dict[str, Any]:
        """What the trigger needs of the task's own fields, as they stand."""
        judged = ("expect",) if self.end_from_trigger else ()
        names = ("run_id", self.conn_id_field, *(self.named_fields or ("parents",)), *judged)
        return {name: getattr(self, name, None) for name in names}

    def _wanted(self, context: Any, options: WaitOptions) -> RunRef:
        return self._waited_for(context)

    def _poked(self, context: Any) -> RunSnapshot | None:
        with in_airflow_terms():
            ref = self._waited_for(context)
        return self._poke(context).read(ref)

    def _waited_for(self, context: Any) -> RunRef:
        return self.service.ref(self.run_id, self._named_parents(self.parents))
