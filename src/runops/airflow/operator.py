"""The operator that starts a run and waits for it: at most one run at a time, whatever dies in between."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Unpack

from runops.airflow._compat import AirflowException
from runops.airflow.arguments import OnPhase, SubmittingSettings, check_submit
from runops.airflow.by_hand import whole
from runops.airflow.events import read_found, says_lost, says_turn
from runops.airflow.events import turn as turn_event
from runops.airflow.exceptions import in_airflow_terms
from runops.airflow.forgotten import EarlierTries
from runops.airflow.link import RunLink
from runops.airflow.lost_submit import LostSubmit
from runops.airflow.own_run import OwnRun
from runops.airflow.records import AWAITING_TURN, SUBMITTED_RUN
from runops.airflow.retry_chain import check_retry, retry_of
from runops.airflow.submission import Submission, SubmitRules, Submitted, identity_of
from runops.airflow.task_base import Whose
from runops.airflow.task_record import begin, recording_errors
from runops.airflow.verdicts import is_own, keep_turn, kept_turn, publish, published
from runops.core import (
    ConfigurationError,
    Outcome,
    OutcomePolicy,
    Phase,
    RunopsError,
    RunRef,
    RunResult,
    RunSnapshot,
    Verdict,
)
from runops.core.declaration import Call
from runops.core.declaration.arguments import mapping, seconds
from runops.core.model.codes import Code, text_of, with_code
from runops.core.model.policy import retry_may_submit
from runops.core.waiting.turns import Turn

MOST_CRASHES = 3
"""So many broken triggers in one try are followed by another one."""


class RunOperator(OwnRun):
    """Start a run of any provider, once, and wait for its end.

    A try that follows a crash re-attaches to the run that the earlier one started. A new run is started only when the
    earlier one failed and the verdict on that is fail, when a person cleared the task (``on_clear="submit"``), or
    when the task itself had cancelled it. This needs Airflow's task state store (3.3 or newer); below, each try
    submits, unless a mark proves that the run of an earlier one goes on.

    What is sent to the provider may hold credentials and personal data, so what such arguments are rendered to does
    not show among the rendered fields of a task, which Airflow stores. ``airflow tasks render`` prints it, and stores
    nothing.

    :param provider: A shipped provider's name (``"nexio"``), or ``"package.module:NAME"`` for one of your own.
    :param arguments: What the provider's submit takes, by name (templated): a mapping, or a template that gives one as
        JSON. What of it is a mapping or a list may be the JSON of one too.
    :param retry_of: The id of a run that failed (templated): instead of a submit, it goes on from its point of failure
        as a new run, where the provider can. The arguments then only say where it is listed. A retry of the task goes
        on from the run that failed last.
    :param conn_id: The connection (templated); ``<provider>_default`` if not given.
    :param wait: Wait for the end. Otherwise the task succeeds once the run is submitted, and the result's ``outcome``
        and ``verdict`` are null.
    :param timeout: Seconds (or a timedelta) for the whole wait of one try.
    :param error_budget: Seconds (or a timedelta) of failed reads in a row before ``PollingError``.
    :param auth_grace: Seconds (or a timedelta) for which the key may be refused (401, 403) after a good read: the
        connection is read again at once and then every 30 s, and a changed key goes on. 0 fails the task at once.
    :param poll_interval: The shortest time between two reads, in seconds (or as a timedelta).
    :param on_outcome: Outcome to verdict, such as ``{"degraded": "warn"}``. Outcomes: succeeded, degraded, exhausted,
        failed, cancelled, timed_out. Verdicts: succeed, warn, skip, fail.
    :param soft_fail: Turn failed, cancelled and timed_out into a skip, as for any sensor; an entry in ``on_outcome``
        wins over it. A bad key, a missing connection or an uncertain submit fails the task all the same.
    :param states: Words that no documentation has, and the phase or outcome that each means, such as
        ``{"partial": "degraded"}``; they win over those of the connection. A documented word cannot be changed.
    :param expect: What a succeeded or degraded run must show in its details, such as
        ``{"attempts_completed": ">= 1", "findings_count": 0}`` (values templated): a value, a value behind one of
        ``== != < <= > >=``, or a list of values. A detail that is missing does not meet it.
    :param on_unmet: The verdict on a run that does not; ``fail`` is final: no retry repeats the run, and no
        ``soft_fail`` softens it.
    :param max_paused: Seconds (or a timedelta) that the run may stay paused or waiting before it counts as timed_out.
        It counts from where this wait first saw the run so, or from where the provider says (OnePin does). Unless the
        provider says it, a restart of the triggerer begins it anew.
    :param max_stalled: Seconds (or a timedelta) for which a run that is neither paused nor waiting may show no change
        of its state, its progress or its provider's own time of change, before it counts as timed_out, which cancels
        it as ``cancel_on_timeout`` says. A queued run stalls too.
    :param max_spend: What the run may spend, in its provider's unit, before the wait counts as timed_out, likewise.
    :param adopt_uncertain: Where the answer to the submit is lost and no mark can prove whose a run is (OnePin, B3OS),
        take the single run for ours that began since by the provider's own clock.
    :param mark_runs: Whether the submit adds a mark to a text that the provider shows again (Nyx: ``name``), so that
        its run is known whatever happens to the answer. Default: what the connection says, else yes.
    :param submit_grace: Seconds (or a timedelta) for which the run is looked for after a lost answer; in the
        triggerer where the task is deferrable.
    :param on_conflict: Where something is active already, so that the service refuses the run (409): ``"wait"`` until
        nothing is and submit then, in the triggerer where the task is deferrable, for ``timeout`` at the most;
        ``"attach"`` to the active run as if it were given, so that it is never cancelled; or ``"fail"`` with a
        ``ConflictError``, which is retried.
    :param cancel_on_kill: Cancel the run when a person kills the task, where the provider can.
    :param cancel_on_timeout: Cancel the run when the wait timed out, where the provider can.
    :param cancel_on_failure: Cancel the run when the task fails for good (no try is left) while its run may go on:
        after ``PollingError``, ``TriggerCrashed``, ``AuthError``, an ``execution_timeout``, an error of a callback or a
        template, or the death of the worker. A run that a retry takes up is left alone, and with ``durable=False`` or
        below Airflow 3.3, where none can, each failed try cancels its own. A skip is no failure.
    :param durable: Remember the run over tries.
    :param on_clear: What a person's clear means: ``"submit"`` a new run, or ``"reattach"`` to the earlier one. Where
        it means a new run, the next try cancels the earlier one as it begins, if the kill has not. With
        ``durable=False``, below Airflow 3.3, and from 3.4 on where the clear discards the task's state, a run is known
        by its mark alone (Nyx): then another one is cancelled by nothing but the kill, and not where the next try has
        deferred before the triggerer hears of the clear; and ``"reattach"`` submits nothing while it may live.
    :param deferrable: Wait in the triggerer. Default: Airflow's ``operators.default_deferrable``.
    :param end_from_trigger: With ``deferrable``, let the triggerer end the task, without a second worker, once the run
        has ended well or softly; see :class:`~runops.airflow.sensor.RunSensor`. A worker ends a task that has timed
        out.
    :param on_phase: Whom to call once each time that the run enters a phase, such as ``{"waiting": tell_somebody}``;
        see :class:`~runops.airflow.sensor.RunSensor`. Not with ``wait=False``.
    """

    template_fields: Sequence[str] = ("arguments", "retry_of", "conn_id", "expect")
    operator_extra_links = (RunLink(),)
    cancels_open_runs = True
    payload_fields: ClassVar[tuple[str, ...]] = ("arguments",)

    def __init__(
        self,
        *,
        provider: str,
        arguments: Mapping[str, Any] | str | None = None,
        retry_of: str | None = None,
        conn_id: str | None = None,
        wait: bool = True,
        end_from_trigger: bool = False,
        on_phase: OnPhase | None = None,
        **kwargs: Unpack[SubmittingSettings],
    ) -> None:
        super().__init__(provider=provider, conn_id=conn_id, **kwargs)
        self.set_end_from_trigger(end_from_trigger)
        self.set_on_phase(on_phase)
        if on_phase and not wait:
            raise ConfigurationError("on_phase needs wait=True: with wait=False nobody looks at the run again.")
        self.arguments = arguments
        self.wait = wait
        self.retry_of = retry_of
        self._retries = retry_of is not None
        if self._retries:
            check_retry(self.service)
        given = arguments if isinstance(arguments, Mapping) else {}
        check_submit(RunOperator, self.service, (*given, *self.named_fields))

    def execute(self, context: Any) -> RunResult:
        """Start the run, or find the one that an earlier try started, and wait.

        :param context: The task's context.
        """
        context = whole(self, context)
        self.check_rendered()
        self._warn_without_store(context)
        self.run_record = None
        with recording_errors(self, context):
            return self._submit_and_wait(context)

    def execute_complete(self, context: Any, event: dict[str, Any] | None = None) -> RunResult:
        """Go on after the trigger's event: the run is over, that of a lost submit was found or not, or it is its turn.

        :param context: The task's context.
        :param event: What the trigger fired.
        """
        if event is not None and (read_found(event) is not None or says_lost(event) or says_turn(event)):
            return self._submit_and_wait(context, event)
        return super().execute_complete(context, event)

    def _submit_and_wait(self, context: Any, event: Mapping[str, Any] | None = None, crashes: int = 0) -> RunResult:
        """Start the run or find it; with an event, after the triggerer has looked for it or has waited for a turn."""
        marks = {} if self.mark_runs is None else {"mark_runs": self.mark_runs}
        with in_airflow_terms():
            submission = self._submission(context, crashes)
            with self._hook().client(**marks) as client:
                if event is None:
                    started = submission.start(client)
                elif says_turn(event) or submission.waits_for_turn:
                    started = submission.take_turn(client, event, self._execution_ends(context))
                else:
                    started = submission.take_up(client, read_found(event), event)
        return self._wait_for(context, started)

    def _wait_for(self, context: Any, started: Submitted | LostSubmit | Turn) -> RunResult:
        if not self._task_state(context).exists:
            keep_turn(context, started if isinstance(started, Turn) else None)
        if isinstance(started, Turn):
            self._tell_turn(context, started)
            self._defer(context, None, self._clocks(deadline=self._deadline(context)), turn=started)
        if isinstance(started, LostSubmit):
            begin(self, context)
            self._defer(context, None, self._clocks(deadline=self._deadline(context)), lost=started)
        self._submitting = None
        self._running = (context, started.ref) if started.own else None
        self._task_state(context).update(crashes=0)
        url = self.service.url(started.ref)
        publish(context, started.ref, url, own=started.own)
        if started.own:
            value = {**_about(self), "ref": started.ref.model_dump(mode="json")}
            context["ti"].xcom_push(key=SUBMITTED_RUN, value=value)
        if not self.wait:
            record = begin(self, context, started.ref)
            if record is not None:
                record.let_go()
            return RunSnapshot(ref=started.ref, state=None, phase=Phase.QUEUED, url=url).to_result()
        options = self._clocks(deadline=self._deadline(context))
        last = self._await_run(context, started.ref, options, submitted_at=started.at, taken_up=started.taken_up)
        return self._apply_verdict(context, last)

    def _tell_turn(self, context: Any, turn: Turn) -> None:
        """Have others see what this task waits for before it submits."""
        begin(self, context, turn=turn)

    # --- what the wait asks ---

    def _wait_began(self, context: Any) -> float:
        # Of the try that has submitted the run.
        record = self._task_state(context).load() or {}
        return record.get("submitted_at") or super()._wait_began(context)

    def whose_runs(self, context: Any) -> Whose:
        """Its own, unless it has attached to one that was active.

        :param context: The task's context.
        """
        own = self._running is not None or is_own(context)
        return {"own": own, "cancels": own and self.cancels_by_itself}

    def _waited_for(self, context: Any) -> RunRef:
        return self.service.ref(published(context), self._call().parents)

    def _resumes(self, context: Any, ref: RunRef) -> None:
        self._running = (context, ref) if is_own(context) else None

    def _trigger_settings(self) -> dict[str, Any]:
        # Neither is set for a run that was active already: it is not this task's to cancel.
        ours = (self._running or self._submitting) is not None
        return {"cancel_on_kill": ours and self._can_cancel(self.cancel_on_kill), "on_clear": self.on_clear}

    def _apply_verdict(self, context: Any, snapshot: RunSnapshot) -> RunResult:
        if snapshot.outcome is Outcome.TIMED_OUT and self._can_cancel(self.cancel_on_timeout) and is_own(context):
            try:
                self._cancel(snapshot.ref)
            except (RunopsError, AirflowException) as error:
                text = f"{snapshot.ref} could not be cancelled and may go on: {text_of(error)}"
                self.log.warning("%s", with_code(text, Code.LEFT_BEHIND))
            else:
                self._task_state(context).update(given_up=True)
        if snapshot.run_ended:
            self._task_state(context).update(ended=str(snapshot.outcome))
        return super()._apply_verdict(context, snapshot)

    def _after_deferral_timeout(self, context: Any) -> RunResult:
        if published(context) is None:
            turn = kept_turn(context)
            return self._submit_and_wait(context, {} if turn is None else turn_event(turn))
        return super()._after_deferral_timeout(context)

    def _after_crash(self, context: Any, error: AirflowException) -> RunResult:
        """A run that is over has ended, whatever became of the trigger; else another trigger goes on, a few times."""
        if published(context) is None:
            return self._after_crash_before_run(context, error)
        ref = self._waited_for(context)
        self.log.warning("The trigger broke (%s); looking at %s once more.", text_of(error), ref)
        task_state = self._task_state(context)
        record = task_state.load()
        crashes = 1 if record is None else record.get("crashes", 0) + 1
        # Without a record nothing would bound the tries; then Airflow's own retries do, and re-attach.
        if record is None or crashes > MOST_CRASHES:
            snapshot = self._last_read(ref, None, "timeout")
            if not snapshot.run_ended:
                crashed = self._crashed(context, ref, error)
                self._trace_error(context, crashed, ref)
                raise crashed
            return self._apply_verdict(context, snapshot)
        task_state.update(crashes=crashes)
        self._resumes(context, ref)
        options = self._clocks(deadline=self._deadline(context))
        return self._apply_verdict(
            context, self._await_run(context, ref, options, submitted_at=record.get("submitted_at"))
        )

    def _after_crash_before_run(self, context: Any, error: AirflowException) -> RunResult:
        """Look for the run of a lost submit once more; or wait for the task's turn again, a few times."""
        record = self._task_state(context).load()
        if kept_turn(context) is None and (record or {}).get("state") != AWAITING_TURN:
            self.log.warning(
                "The trigger broke (%s); looking for the run of the lost submit once more.", text_of(error)
            )
            return self._submit_and_wait(context, {})
        crashes = 1 if record is None else record.get("crashes", 0) + 1
        if record is None or crashes > MOST_CRASHES:
            raise self._crashed(context, None, error)
        self.log.warning("The trigger broke (%s) while it waited for the task's turn; trying again.", text_of(error))
        return self._submit_and_wait(context, {}, crashes)

    # --- what it is made of ---

    def _submission(self, context: Any, crashes: int = 0) -> Submission:
        submission = Submission(
            self._call(),
            identity=identity_of(context),
            task_state=self._task_state(context),
            rules=SubmitRules(
                adopt_uncertain=self.adopt_uncertain,
                grace=seconds("submit_grace", self.submit_grace),
                deferrable=self.deferrable,
                cancels=self._can_cancel(self.cancel_on_kill),
                may_follow=partial(_may_follow, self._policy) if self.wait else None,
                about=_about(self),
                tries=EarlierTries.of(context, self.retries) if self.durable else None,
                reattach=self.on_clear == "reattach",
                turns=self._turn_rules(context),
                on_turn=partial(self._tell_turn, context),
            ),
            log=self.log,
            crashes=crashes,
        )
        self._submitting = context, submission
        return submission

    def _call(self) -> Call:
        named = {name: getattr(self, name) for name in self.named_fields}
        given = {**mapping("arguments", self.arguments or {}), **named}
        return retry_of(self.service, self.retry_of, given) if self._retries else self.service.call(**given)


def _about(task: RunOperator) -> dict[str, Any]:
    """What is recorded with a run, so that others can read it."""
    return {"provider": task.provider, "conn_id": task._hook().conn_id, "waits": bool(task.wait)}


def _may_follow(policy: Callable[[], OutcomePolicy], earlier: Outcome) -> bool:
    """Whether a retry submits anew after a run that ended so."""
    return retry_may_submit(earlier) and policy().decide(earlier) is Verdict.FAIL
