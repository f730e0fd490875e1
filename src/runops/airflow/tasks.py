"""What sensors and operators share: wait here or in the triggerer, resume, apply the verdict. It submits nothing."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, ClassVar, NamedTuple, NoReturn, Unpack

from runops.airflow._compat import AirflowException, AirflowTaskTimeout
from runops.airflow.end_checks import arguments_of, refuse_lost, worker_reason
from runops.airflow.end_in_trigger import EndInTrigger
from runops.airflow.events import Entered, read_end, read_entered
from runops.airflow.exceptions import RunFailed, RunTimedOut, TriggerCrashed, as_airflow, in_airflow_terms
from runops.airflow.lineage import facets
from runops.airflow.lost_submit import LostSubmit
from runops.airflow.metrics import METER
from runops.airflow.observer import Observer, Record
from runops.airflow.phases import CallsOnPhase, PhaseCalls, checked_phases, for_trigger
from runops.airflow.submission import WORKER_SECONDS
from runops.airflow.task_base import TaskBase
from runops.airflow.task_record import begin, go_on
from runops.airflow.traces import TaskTrace, another_try_follows
from runops.airflow.trigger import RunTrigger
from runops.airflow.verdicts import apply_verdict, publish, published
from runops.core import (
    AnswerError,
    AuthError,
    FinalError,
    OutcomePolicy,
    PollingError,
    RunopsError,
    RunRef,
    RunResult,
    RunSnapshot,
)
from runops.core.client.base import WaitArguments
from runops.core.model.run import EndedBy
from runops.core.transport.retry import may_pass
from runops.core.waiting import flows
from runops.core.waiting.discovery import Search
from runops.core.waiting.options import WaitOptions
from runops.core.waiting.phases import PhaseEntered, PhasesSeen, check_callbacks
from runops.core.waiting.state import WaitProgress, timed_out
from runops.core.waiting.turns import Turn


class Follower(Observer):
    """Observes a run, and pushes the run's page as soon as it is known.

    :param context: The task's context.
    :param log: The task's log.
    :param url: The run's page as far as it is published already.
    :param record: As :class:`Observer` takes it.
    """

    def __init__(
        self, context: Mapping[str, Any], log: Any, *, url: str | None = None, record: Record | None = None
    ) -> None:
        super().__init__(log, record)
        self._context = context
        self._url = url

    def __call__(self, snapshot: RunSnapshot) -> None:
        """Take in a read."""
        super().__call__(snapshot)
        if not snapshot.ended_by and snapshot.url and snapshot.url != self._url:
            self._url = snapshot.url
            publish(self._context, snapshot.ref, snapshot.url)


class Resumed(NamedTuple):
    """What a worker takes over from a trigger, between two looks of one wait."""

    past: WaitProgress
    phases: PhaseCalls


class RunWaiting(TaskBase, CallsOnPhase):
    """A task that waits for one run. Subclasses say which run, and for how long."""

    timed_out_error: ClassVar[type[RunTimedOut]] = RunTimedOut
    failed_error: type[RunFailed] = RunFailed
    """What a failed run raises: whether another try could end otherwise."""

    _result: RunResult | None = None

    deferrable: bool
    end_from_trigger: bool = False
    """Whether the triggerer ends the task where nothing is lost by it."""
    cancels_open_runs: ClassVar[bool] = False
    """Whether the end of a wait may cancel a run that goes on."""
    error_budget: float | timedelta

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """As any operator's.

        :param kwargs: As the class takes them.
        :raises ConfigurationError: As the class's own.
        """
        if kwargs.get("end_from_trigger"):
            refuse_lost(cls, kwargs, begins_there=False)
        check_callbacks(kwargs.get("on_phase"))
        made = super().partial(**kwargs)
        if made.kwargs.get("end_from_trigger"):
            # With what default_args bring.
            refuse_lost(cls, made.kwargs, begins_there=False)
        return made

    def set_end_from_trigger(self, wanted: bool) -> None:
        """Keep what the argument says, and refuse what would be lost by it."""
        self.end_from_trigger = wanted
        if wanted:
            refuse_lost(type(self), arguments_of(self), begins_there=False)

    def execute_complete(self, context: Any, event: dict[str, Any] | None = None) -> RunResult:
        """Go on after the trigger's event.

        :param context: The task's context.
        :param event: What the trigger fired.
        """
        entered = read_entered(event)
        if entered is not None:
            return self._apply_verdict(context, self._go_on(context, entered))
        try:
            snapshot = read_end(event)
        except TriggerCrashed as error:
            return self._after_crash(context, error)
        except AirflowException as error:
            self._trace_error(context, error)
            raise
        return self._apply_verdict(context, snapshot)

    # --- what subclasses say ---

    def _wait_began(self, context: Any) -> float:
        """When the wait began, in unix seconds."""
        return context["ti"].start_date.timestamp()

    @abstractmethod
    def _clocks(self, *, deadline: float) -> WaitOptions:
        """What bounds the wait, which ends at a moment in unix seconds at the latest."""

    @abstractmethod
    def _waited_for(self, context: Any) -> RunRef:
        """The run, as a resumed process finds it."""

    def _resumes(self, context: Any, ref: RunRef) -> None:
        """A resumed process goes on with the wait for a run that an earlier one has begun."""

    def _trigger_settings(self) -> dict[str, Any]:
        """Further arguments of the trigger."""
        return {}

    def _trigger_end(self, context: Any) -> dict[str, Any] | None:
        """What the trigger needs to end the task by itself; None where it must not."""
        if not self.end_from_trigger:
            return None
        return self._end_there(self._policy(), worker_reason(self, context)).to_dict()

    def _end_there(self, policy: OutcomePolicy, worker: str | None) -> EndInTrigger:
        links = tuple(link.xcom_key for link in self.operator_extra_links)
        return EndInTrigger(
            policy, returns=self.do_xcom_push, links=links, ended_only=self.cancels_open_runs, worker=worker
        )

    def _after_crash(self, context: Any, error: AirflowException) -> RunResult:
        """Nothing is known of the run."""
        crashed = self._crashed(context, None, error)
        self._trace_error(context, crashed)
        raise crashed

    def _apply_verdict(self, context: Any, snapshot: RunSnapshot) -> RunResult:
        with in_airflow_terms():
            judgement = self._policy().judge(snapshot)
        self._result = judgement.result(snapshot)
        record = go_on(self, context) or begin(self, context, snapshot.ref)
        if record is not None:
            record.ended(snapshot, judgement)
        return apply_verdict(
            context,
            snapshot,
            judgement,
            log=self.log,
            failed=self.failed_error,
            timed_out=self.timed_out_error,
            began=partial(self._wait_began, context),
        )

    def _trace_error(self, context: Any, error: Exception, ref: RunRef | None = None) -> None:
        """Leave a span where the wait is given up and how the run ended is not known."""
        if not another_try_follows(context, error):
            run = partial(self._waited_for, context) if ref is None else lambda: ref
            TaskTrace(context["ti"], self.log).erred(run, error, partial(self._wait_began, context))

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """What OpenLineage's listener asks for after a task, be it a success or a failure.

        :param task_instance: The task instance.
        """
        return None if self._result is None else facets(self._result)

    # --- the wait ---

    def _await_run(
        self,
        context: Any,
        ref: RunRef,
        options: WaitOptions,
        *,
        submitted_at: float | None = None,
        taken_up: bool = False,
        resumed: Resumed | None = None,
    ) -> RunSnapshot:
        """Wait here, or read for a while here and then defer; the last snapshot."""
        record = begin(self, context, ref)
        follower = Follower(context, self.log, url=self.service.url(ref), record=record)
        if resumed is None:
            # A resumed process goes on with the wait of its try.
            past = WaitProgress(began=context["ti"].start_date.timestamp(), accepted=taken_up)
            phases, reads_for = self._phase_calls(context, ref), WORKER_SECONDS
        else:
            past, phases, reads_for = resumed.past, resumed.phases, 0.0
        here = options
        if self.deferrable:
            here = replace(options, deadline=min(options.deadline, time.time() + reads_for))
        whole = here.deadline == options.deadline
        try:
            snapshot = self._wait_here(ref, phases, follower, patience=here, submitted_at=submitted_at, past=past)
        except AirflowTaskTimeout:
            return self._last_read(ref, follower.last, "execution_timeout")
        except RunopsError as error:
            refused = isinstance(error, AuthError) and past.may_be_accepted(options.auth_grace, time.time())
            if whole or not (refused or may_go_on(error)):
                METER.erred(self.provider, error)
                failure = as_airflow(error)
                self._trace_error(context, failure, ref)
                raise failure from None
        else:
            if whole or snapshot.ended_by != "timeout":
                return snapshot
        return self._defer(context, ref, options, submitted_at=submitted_at, past=past, seen=phases.watch.seen)

    def _wait_here(
        self, ref: RunRef, phases: PhaseCalls, follower: Follower, **settings: Unpack[WaitArguments]
    ) -> RunSnapshot:
        """Wait in this process, and call whoever is to be called on the way."""
        settings["on_update"] = phases.interrupting(follower)
        while True:
            try:
                # A connection that a callback has left idle for long may be gone.
                with self._hook().client() as client:
                    phases.warn_of(client.provider)
                    return client.wait(ref, **settings)
            except PhaseEntered as entered:
                phases.call(entered.snapshot, entered.seen)

    def _go_on(self, context: Any, entered: Entered) -> RunSnapshot:
        """Call whoever is to be called for what a trigger saw, and go on with its wait."""
        ref = entered.snapshot.ref
        self._resumes(context, ref)
        if published(context) is None:
            publish(context, ref, entered.snapshot.url)
        phases = self._phase_calls(context, ref)
        try:
            phases.go_on(entered.snapshot, PhasesSeen.from_dict(entered.seen))
        except AirflowTaskTimeout:
            return self._last_read(ref, entered.snapshot, "execution_timeout")
        now = time.time()
        # Between the trigger's look and the next one lies as much time as between any two: no clock begins anew.
        past = WaitProgress.from_dict(None if entered.past is None else {**entered.past, "as_of": now}, now)
        options = self._clocks(deadline=entered.deadline)
        return self._await_run(
            context, ref, options, submitted_at=entered.submitted_at, resumed=Resumed(past=past, phases=phases)
        )

    def _defer(
        self,
        context: Any,
        ref: RunRef | None,
        options: WaitOptions,
        *,
        submitted_at: float | None = None,
        past: WaitProgress | None = None,
        search: Search | None = None,
        lost: LostSubmit | None = None,
        turn: Turn | None = None,
        seen: PhasesSeen | None = None,
    ) -> NoReturn:
        """Let the triggerer wait: for a run, for one to be there, for that of a lost submit, or for a turn."""
        now = time.time()
        before_run = lost or turn
        deadline = options.deadline if before_run is None else before_run.until
        earliest, limit = self._deferral(context, deadline, now)
        trigger = RunTrigger(
            provider=self.provider,
            conn_id=self._hook().conn_id,
            ref=None if ref is None else ref.model_dump(mode="json"),
            search=None if search is None else search.to_dict(),
            lost=None if lost is None else lost.to_dict(),
            turn=None if turn is None else turn.to_dict(),
            patience={**self._patience(options), **for_trigger(checked_phases(self), seen)},
            not_before=earliest,
            submitted_at=submitted_at,
            past=None if past is None else past.to_dict(now),
            execution_ends=self._execution_ends(context),
            end=None if before_run else self._trigger_end(context),
            **self._trigger_settings(),
        )
        if turn is not None:
            self.log.info("The triggerer waits for this task's turn from here.")
        elif lost is not None:
            self.log.info("The triggerer looks for the run of the lost submit from here.")
        elif ref is None:
            self.log.info("The %s is not there yet; the triggerer looks for it from here.", search)
        else:
            self.log.info("%s goes on; the triggerer watches it from here.", ref)
        self.defer(trigger=trigger, method_name="execute_complete", timeout=limit)

    def _after_deferral_timeout(self, context: Any) -> RunResult:
        """No event came in time: the triggerer is down or overloaded. Read the run a last time."""
        _, ended_by = self._first_end(context)
        return self._apply_verdict(context, self._last_read(self._waited_for(context), None, ended_by))

    def _last_read(self, ref: RunRef, last: RunSnapshot | None, ended_by: EndedBy) -> RunSnapshot:
        """A run that a last read finds over has ended; for any other the clock counts."""
        hook = self._hook()
        with in_airflow_terms():
            try:
                with hook.client() as client:
                    last = client.drive(flows.get(client.provider, ref, self._limits()["wanted"]))
            except AnswerError as error:
                self.log.warning("The last read of %s failed: %s", ref, error)
            if last is not None and last.run_ended:
                return last
            return timed_out(hook.provider, ref, last, ended_by)


def may_go_on(error: RunopsError) -> bool:
    """Whether a wait that goes on could get over an error."""
    return isinstance(error, PollingError) or (isinstance(error, FinalError) and may_pass(error))
