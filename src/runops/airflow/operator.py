"""The operator that starts a run and waits for it: at most one run at a time, whatever dies in between."""

from __future__ import annotations

import inspect
import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from functools import cache
from typing import Any, ClassVar, Literal

from airflow.sdk import BaseOperator

from runops.airflow._compat import AirflowException, conf
from runops.airflow.exceptions import in_airflow_terms
from runops.airflow.link import RunLink
from runops.airflow.task_state import TaskState
from runops.airflow.tasks import LOOK_SECONDS, RunWaiting
from runops.airflow.trigger import OVER, LostSubmit, read_found, says_lost, state_in
from runops.airflow.verdicts import RUN_ID, publish
from runops.core import (
    AnswerError,
    ConfigurationError,
    NotSupported,
    Outcome,
    Phase,
    RunClient,
    RunopsError,
    RunRef,
    RunResult,
    RunSnapshot,
    SubmitUncertainError,
    Verdict,
    find,
)
from runops.core.declaration import Call
from runops.core.declaration.arguments import one_of, seconds
from runops.core.declaration.registry import nearest
from runops.core.model.policy import retry_may_submit
from runops.core.waiting.options import DEFAULT_ERROR_BUDGET, DEFAULT_TIMEOUT, SUBMIT_GRACE, WaitOptions
from runops.core.waiting.submission import Intent

logger = logging.getLogger(__name__)

KILL_SECONDS = 3.0
"""Between the signal that asks a task to end and the one that ends it lie 5 s."""
STATE_SECONDS = 1.5

MOST_CRASHES = 3
"""So many broken triggers in one try are followed by another one."""

CLEARED = "restarting"
"""What Airflow makes of a running task that a person clears, and of no other."""

SUBMITTING, SUBMITTED = "submitting", "submitted"


class RunOperator(RunWaiting):
    """Start a run of any provider, once, and wait for its end.

    A try that follows a crash re-attaches to the run that the earlier one started. A new run is started only when the
    earlier one failed and the verdict on that is fail, when a person cleared the task (``on_clear="submit"``), or
    when the task itself had cancelled it. This needs Airflow's task state store (3.3 or newer); below, each try
    submits.

    What is sent to the provider may hold credentials and personal data, so what such arguments are rendered to does
    not show among the rendered fields of a task, which Airflow stores.

    :param provider: A shipped provider's name (``"nexio"``), or ``"package.module:NAME"`` for one of your own.
    :param arguments: What the provider's submit takes, by name (templated).
    :param conn_id: The connection (templated); ``<provider>_default`` if not given.
    :param wait: Wait for the end. Otherwise the task succeeds once the run is submitted, and the result's ``outcome``
        and ``verdict`` are null.
    :param timeout: Seconds (or a timedelta) for the whole wait of one try.
    :param error_budget: Seconds (or a timedelta) of failed reads in a row before ``PollingError``.
    :param poll_interval: The shortest time between two looks, in seconds (or as a timedelta).
    :param on_outcome: Outcome to verdict, such as ``{"degraded": "warn"}``. Outcomes: succeeded, degraded, exhausted,
        failed, cancelled, timed_out. Verdicts: succeed, warn, skip, fail.
    :param max_paused: Seconds (or a timedelta) that the run may stay paused or waiting before it counts as timed_out.
        It counts from where this wait first saw the run so, or from where the provider says (OnePin does). Unless the
        provider says it, a restart of the triggerer begins it anew.
    :param adopt_uncertain: Where the answer to the submit is lost and no mark can prove whose a run is (OnePin, B3OS),
        take the single run for ours that began since by the provider's own clock.
    :param mark_runs: Whether the submit adds a mark to a text that the provider shows again (Nyx: ``name``), so that
        its run is known whatever happens to the answer. Default: what the connection says, else yes.
    :param submit_grace: Seconds (or a timedelta) for which the run is looked for after a lost answer; in the
        triggerer where the task is deferrable.
    :param cancel_on_kill: Cancel the run when a person kills the task, where the provider can.
    :param cancel_on_timeout: Cancel the run when the wait timed out, where the provider can.
    :param durable: Remember the run over tries.
    :param on_clear: What a person's clear means: ``"submit"`` a new run, or ``"reattach"`` to the earlier one. Where
        it means a new run, the next try cancels the earlier one as it begins, if the kill has not. With
        ``durable=False``, and below Airflow 3.3, nothing but the kill cancels it: not where the next try has deferred
        before the triggerer hears of the clear, because then the task reads as deferred.
    :param deferrable: Wait in the triggerer. Default: Airflow's ``operators.default_deferrable``.
    """

    template_fields: Sequence[str] = ("arguments", "conn_id")
    operator_extra_links = (RunLink(),)
    payload_fields: ClassVar[tuple[str, ...]] = ("arguments",)
    """Template fields that may hold credentials or personal data. What they are rendered to is shown to nobody."""

    def __init__(
        self,
        *,
        provider: str,
        arguments: Mapping[str, Any] | None = None,
        conn_id: str | None = None,
        wait: bool = True,
        timeout: float | timedelta = DEFAULT_TIMEOUT,
        error_budget: float | timedelta = DEFAULT_ERROR_BUDGET,
        poll_interval: float | timedelta | None = None,
        on_outcome: Mapping[str, str] | None = None,
        max_paused: float | timedelta | None = None,
        adopt_uncertain: bool = False,
        mark_runs: bool | None = None,
        submit_grace: float | timedelta = SUBMIT_GRACE,
        cancel_on_kill: bool = True,
        cancel_on_timeout: bool = True,
        durable: bool = True,
        on_clear: Literal["submit", "reattach"] = "submit",
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.provider = provider
        self.arguments = arguments
        setattr(self, self.conn_id_field, conn_id)
        self.wait = wait
        self.timeout = timeout
        self.error_budget = error_budget
        self.poll_interval = poll_interval
        self.on_outcome = on_outcome
        self.max_paused = max_paused
        self.adopt_uncertain = adopt_uncertain
        self.mark_runs = mark_runs
        self.submit_grace = submit_grace
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout
        self.durable = durable
        self.on_clear = on_clear
        self.deferrable = deferrable
        self._running: tuple[Any, RunRef] | None = None
        self._submitting: tuple[Any, Call, Intent] | None = None
        service = find(provider)
        if service.submit is None:
            raise NotSupported(f"{service.title} documents no way to start a run: wait for its runs with a sensor.")
        service.policy(on_outcome)
        self._check_arguments(service.submit.arguments)
        one_of("on_clear", on_clear, ("submit", "reattach"))
        seconds("submit_grace", submit_grace)
        self._clocks(deadline=0.0)

    def _check_arguments(self, takes: Collection[str]) -> None:
        """Refuse what no template mends: a submit's argument that Airflow takes for its own, or one that it lacks."""
        title = self.service.title
        clash = sorted(set(takes) & _names_of_ours())
        if clash:
            raise ConfigurationError(
                f"A submit to {title} takes {clash[0]!r}, which is an argument of Airflow's operators or of RunOperator"
                " too: it would go there without a word. Give it another name in the provider's declaration."
            )
        given = self.arguments if isinstance(self.arguments, Mapping) else {}
        unknown = [name for name in (*given, *self.named_fields) if name not in takes]
        if unknown:
            raise ConfigurationError(
                f"arguments={unknown[0]!r} is none that a submit to {title} takes: {', '.join(takes)}."
                f"{nearest(unknown[0], takes)}"
            )

    def execute(self, context: Any) -> RunResult:
        """Start the run, or find the one that an earlier try started, and wait.

        :param context: The task's context.
        """
        with in_airflow_terms():
            call = self._call()
            with self._client() as client:
                ref, submitted_at = self._start(context, client, call)
        return self._wait_for(context, ref, submitted_at)

    def execute_complete(self, context: Any, event: dict[str, Any] | None = None) -> RunResult:
        """Go on after the trigger's event: the run is over, or that of a lost submit was found, or was not.

        :param context: The task's context.
        :param event: What the trigger fired.
        """
        if event is not None and (read_found(event) is not None or says_lost(event)):
            return self._after_search(context, event)
        return super().execute_complete(context, event)

    def _wait_for(self, context: Any, ref: RunRef, submitted_at: float | None) -> RunResult:
        self._submitting = None
        self._running = context, ref
        self._memory(context).update(crashes=0)
        url = self.service.url(ref)
        publish(context, ref, url)
        if not self.wait:
            return RunSnapshot(ref=ref, state=None, phase=Phase.QUEUED, url=url).to_result()
        patience = self._clocks(deadline=self._deadline(context))
        return self._settle(context, self._await_run(context, ref, patience, submitted_at=submitted_at))

    def on_kill(self) -> None:
        """Cancel the run if a person killed the task; leave it if the worker is only being shut down."""
        if not self._can_cancel(self.cancel_on_kill):
            return
        if self._running is not None:
            context, ref = self._running
        elif self._submitting is not None:
            context, ref = self._submitting[0], None
        else:
            return
        run = ref or "the run whose submit was not answered"
        killed = _within(STATE_SECONDS, lambda: self._killed_by_person(context))
        if not killed:
            self.log.info("Left alone: %s, since nobody is known to have killed its task.", run)
            return
        # A clear of a running task cannot be told from a retry afterwards, so the kill leaves its own record.
        _within(STATE_SECONDS, lambda: self._memory(context).update(given_up=True))
        cancelled = _within(KILL_SECONDS, lambda: self._cancel(ref, request_timeout=KILL_SECONDS))
        if not cancelled:
            self.log.warning("Whether %s is cancelled is not known: there was no answer in time.", run)

    def _do_render_template_fields(self, *arguments: Any, **named: Any) -> None:
        super()._do_render_template_fields(*arguments, **named)
        # Airflow keeps what the template fields of a task hold after this in its database, and logs it at DEBUG.
        shown = tuple(field for field in self.template_fields if field not in self.payload_fields)
        self.template_fields = shown

    # --- what the wait asks ---

    def _deadline(self, context: Any) -> float:
        return context["ti"].start_date.timestamp() + seconds("timeout", self.timeout)

    def _waited_for(self, context: Any) -> RunRef:
        ti = context["ti"]
        run_id = ti.xcom_pull(task_ids=ti.task_id, key=RUN_ID, map_indexes=ti.map_index)
        return self.service.ref(run_id, self._call().parents)

    def _trigger_settings(self) -> dict[str, Any]:
        return {"cancel_on_kill": self._can_cancel(self.cancel_on_kill), "on_clear": self.on_clear}

    def _settle(self, context: Any, snapshot: RunSnapshot) -> RunResult:
        if snapshot.outcome is Outcome.TIMED_OUT and self._can_cancel(self.cancel_on_timeout):
            try:
                self._cancel(snapshot.ref)
            except (RunopsError, AirflowException) as error:
                self.log.warning("%s could not be cancelled and may go on: %s", snapshot.ref, error)
            else:
                self._memory(context).update(given_up=True)
        return super()._settle(context, snapshot)

    def _after_deferral_timeout(self, context: Any) -> RunResult:
        if self._is_searching(context):
            return self._after_search(context, {})
        return super()._after_deferral_timeout(context)

    def _after_crash(self, context: Any, error: AirflowException) -> RunResult:
        """A run that is over has ended, whatever became of the trigger; else another trigger goes on, a few times."""
        if self._is_searching(context):
            self.log.warning("The trigger broke (%s); looking for the run of the lost submit once more.", error)
            return self._after_search(context, {})
        ref = self._waited_for(context)
        self.log.warning("The trigger broke (%s); looking at %s once more.", error, ref)
        memory = self._memory(context)
        record = memory.load()
        crashes = 1 if record is None else record.get("crashes", 0) + 1
        # Without a memory nothing would bound the tries; then Airflow's own retries do, and re-attach.
        if record is None or crashes > MOST_CRASHES:
            snapshot = self._last_look(ref, None, "timeout")
            if not snapshot.run_ended:
                raise self._crashed(context, ref, error)
            return self._settle(context, snapshot)
        memory.update(crashes=crashes)
        self._running = context, ref
        patience = self._clocks(deadline=self._deadline(context))
        return self._settle(context, self._await_run(context, ref, patience, submitted_at=record.get("submitted_at")))

    # --- start ---

    def _start(self, context: Any, client: RunClient, call: Call) -> tuple[RunRef, float | None]:
        """The run to wait for, and when it was submitted, where that is known."""
        memory = self._memory(context)
        if self.durable and not memory.exists:
            self.log.warning(
                "durable needs the task state store of Airflow 3.3 or newer: here a retry after a crash submits anew."
            )
        record = memory.load()
        if record is None:
            self._leave(client, call, memory.load_any())
        elif record.get("state") == SUBMITTING:
            self.log.info("An earlier try may have submitted; looking for its run.")
            ref, known_at = self._submit(context, client, call, memory, record)
            return self._unless_given_up(context, client, call, memory, ref, {**record, "submitted_at": known_at})
        elif record.get("state") == SUBMITTED:
            ref = RunRef.parse(record["ref"])
            if not self._may_submit_after(client, ref, given_up=bool(record.get("given_up"))):
                self.log.info("Re-attached to %s, which an earlier try submitted.", ref)
                return ref, record.get("submitted_at")
        return self._submit(context, client, call, memory, None)

    def _submit(
        self, context: Any, client: RunClient, call: Call, memory: TaskState, record: Mapping[str, Any] | None
    ) -> tuple[RunRef, float]:
        """Submit, or where an earlier try may have done so, look for its run; where to defer, in the triggerer."""
        earlier = record or {}
        submitted_at = earlier.get("submitted_at") or time.time()
        grace = seconds("submit_grace", self.submit_grace)
        left = min(max(submitted_at + grace - time.time(), 0.0), grace)
        elsewhere = self.deferrable and left > LOOK_SECONDS and self.service.listing is not None
        settings: dict[str, Any] = {
            "adopt_uncertain": self.adopt_uncertain and not elsewhere,
            "submit_grace": LOOK_SECONDS if elsewhere else left,
            "resubmit": not elsewhere,
        }

        def before(intent: Intent) -> None:
            memory.save(state=SUBMITTING, intent=intent.to_dict(), submitted_at=submitted_at)
            self._submitting = context, call, intent

        try:
            if record is None:
                ref = client.submit(call, identity=identity_of(context), before=before, **settings)
            else:
                self._submitting = context, call, Intent.from_dict(record.get("intent"))
                ref = client.submit_again(call, self._submitting[2], **settings)
        except SubmitUncertainError:
            if not elsewhere or self._submitting is None:
                raise
            lost = LostSubmit(call.family, self._submitting[2], submitted_at + grace, self.adopt_uncertain)
            self._defer(context, None, self._clocks(deadline=self._deadline(context)), lost=lost)
        except RunopsError:
            memory.forget()
            raise
        self.log.info("Submitted %s." if record is None else "Took up %s, which an earlier try submitted.", ref)
        # From here on a 404 is forgiven for a while: the run may have been found by a list that is ahead of its page.
        known_at = time.time()
        return self._remember(memory, ref, submitted_at=known_at), known_at

    def _after_search(self, context: Any, event: Mapping[str, Any]) -> RunResult:
        """Go on after the triggerer has looked for the run of a lost submit."""
        memory = self._memory(context)
        # Without a memory, the event says what was known before the submit.
        record = memory.load() or event
        found = read_found(event)
        with in_airflow_terms():
            call = self._call()
            with self._client() as client:
                if found is None:
                    intent = Intent.from_dict(record.get("intent"))
                    found = client.submit_again(call, intent, adopt_uncertain=self.adopt_uncertain, submit_grace=0.0)
                self.log.info("Took up %s, whose submit was not answered.", found)
                known_at = time.time()
                self._remember(memory, found, submitted_at=known_at)
                taken_up = {**record, "submitted_at": known_at}
                ref, submitted_at = self._unless_given_up(context, client, call, memory, found, taken_up)
        return self._wait_for(context, ref, submitted_at)

    def _unless_given_up(
        self,
        context: Any,
        client: RunClient,
        call: Call,
        memory: TaskState,
        ref: RunRef,
        record: Mapping[str, Any],
    ) -> tuple[RunRef, float | None]:
        """A run that was found again or, where a person has cleared its task and it is cancelled, a new one."""
        if record.get("given_up") and self._may_submit_after(client, ref, given_up=True):
            return self._submit(context, client, call, memory, None)
        return ref, record.get("submitted_at")

    def _is_searching(self, context: Any) -> bool:
        """Whether the run is still looked for, as a resumed process finds it."""
        ti = context["ti"]
        return ti.xcom_pull(task_ids=ti.task_id, key=RUN_ID, map_indexes=ti.map_index) is None

    def _remember(self, memory: TaskState, ref: RunRef, **more: Any) -> RunRef:
        memory.save(state=SUBMITTED, ref=ref.model_dump(mode="json"), **more)
        return ref

    def _may_submit_after(self, client: RunClient, ref: RunRef, *, given_up: bool) -> bool:
        """Whether the run of an earlier try leaves room for a new one."""
        if not self.wait:
            return False
        try:
            earlier = client.get(ref)
        except AnswerError as error:
            self.log.warning("%s could not be read at once: %s", ref, error)
            return False
        if earlier.outcome is None:
            return False
        if given_up and earlier.outcome is Outcome.CANCELLED:
            return True
        return retry_may_submit(earlier.outcome) and self._policy().decide(earlier.outcome) is Verdict.FAIL

    def _leave(self, client: RunClient, call: Call, record: Mapping[str, Any] | None) -> None:
        """A person cleared the task: see that the run of before does not go on beside the new one."""
        if record is None or not self._can_cancel(self.cancel_on_kill):
            return
        ref: RunRef | str = "The run"
        try:
            if record.get("state") == SUBMITTED:
                ref = RunRef.parse(record["ref"])
            else:
                ref = client.find_submitted(call.family, Intent.from_dict(record.get("intent")), submit_grace=0.0)
            if client.get(ref).run_ended:
                return
            self.log.info("The task was cleared: cancelling %s of before.", ref)
            client.cancel(ref)
        except RunopsError as error:
            self.log.warning("%s of before could not be cancelled and may go on: %s", ref, error)

    def _call(self) -> Call:
        named = {name: getattr(self, name) for name in self.named_fields}
        return self.service.call(**{**(self.arguments or {}), **named})

    def _clocks(self, *, deadline: float) -> WaitOptions:
        return WaitOptions.build(
            self.service,
            now=0.0,
            timeout=self.timeout,
            deadline=deadline,
            error_budget=self.error_budget,
            max_paused=self.max_paused,
            interval=self.poll_interval,
        )

    def _memory(self, context: Any) -> TaskState:
        return TaskState(context if self.durable else {"ti": context["ti"]}, everlasting=self.on_clear == "reattach")

    # --- kill ---

    def _can_cancel(self, wanted: bool) -> bool:
        return wanted and self.service.cancel is not None

    def _client(self, **settings: Any) -> RunClient:
        marks = {} if self.mark_runs is None else {"mark_runs": self.mark_runs}
        return self._hook().client(**marks, **settings)

    def _cancel(self, ref: RunRef | None, **settings: Any) -> bool:
        """Cancel a run, or where none is given, the one whose submit was not answered, if it bears our mark."""
        with self._hook().client(**settings) as client:
            if ref is None:
                if self._submitting is None:
                    return False
                _, call, intent = self._submitting
                ref = client.find_submitted(call.family, intent, submit_grace=0.0)
            client.cancel(ref)
        self.log.info("Cancelled %s.", ref)
        return True

    def _killed_by_person(self, context: Any) -> bool:
        ti = context["ti"]
        mapped = ti.map_index is not None and ti.map_index >= 0
        states = ti.get_task_states(
            dag_id=ti.dag_id,
            task_ids=[ti.task_id],
            run_ids=[ti.run_id],
            map_index=ti.map_index if mapped else None,
        )
        state = state_in(states, ti)
        # Any other state is Airflow's own doing: a scheduler that gave the worker up sends the task through none,
        # scheduled, queued or up_for_retry, and the next try wants its run back.
        return state in OVER or (state == CLEARED and self.on_clear == "submit")


@cache
def _names_of_ours() -> frozenset[str]:
    """What Airflow and the operator take by name, which a submit's argument cannot be called."""
    classes = (BaseOperator, RunOperator)
    named = {name for each in classes for name in inspect.signature(each.__init__).parameters}
    return frozenset(named) - {"self", "args", "kwargs"} | {"context", "task"}


def identity_of(context: Mapping[str, Any]) -> str:
    """What names a task instance for good, over its tries: a part of the mark of its runs is a hash of it.

    :param context: The task's context.
    """
    ti = context["ti"]
    return "/".join((ti.dag_id, ti.run_id, ti.task_id, str(ti.map_index)))


def _within(limit: float, work: Callable[[], Any]) -> Any:
    """What ``work`` gives within ``limit`` seconds, or None: in a signal handler nothing may block for longer."""
    given: list[Any] = []

    def attempt() -> None:
        try:
            given.append(work())
        except Exception:  # the caller sees that nothing came; the log says why
            logger.warning("An attempt while the task is being killed failed.", exc_info=True)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(limit)
    return given[0] if given else None
