"""The wait of a step for one external run, from its submit to its verdict.

``wait_for_run`` is one plain call, without a ``yield`` in it: Dagster interrupts a step only while user code runs, and
an interrupt at a ``yield`` would pass by the cancel. The submit of the run is in submission.py, the records by which a
later try finds it in records.py, what is cancelled on Terminate in live_run.py, and how the end is shown in Dagster in
verdicts.py.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, cast

from runops.core import (
    Call,
    ConfigurationError,
    Outcome,
    PollingError,
    Provider,
    RunopsError,
    RunRef,
    RunSnapshot,
    Verdict,
)
from runops.core.declaration.arguments import check_names, one_of, seconds
from runops.core.model.run import Unmet
from runops.core.telemetry import METER
from runops.core.waiting.limits import WaitProgress
from runops.core.waiting.options import ON_CONFLICT, SUBMIT_GRACE
from runops.core.waiting.phases import PhaseEntered, check_callbacks
from runops.core.waiting.state import LogThrottle, progress_line
from runops.dagster import _compat, verdicts
from runops.dagster.options import StepSettings, StepSubmitSettings, names_of, policy_of, turn_rules, wait_options
from runops.dagster.resource import ProviderResource, key_of
from runops.dagster.run_ends import tell_end, tell_error, tried_again
from runops.dagster.step.interrupts import HeldInterrupts
from runops.dagster.step.last_failure import LeavesNothing
from runops.dagster.step.live_run import AWAITED, LiveRun, core_warnings_in
from runops.dagster.step.phases import StepPhases
from runops.dagster.step.submission import OVER, Start, StepSubmission, refuse_when_over, status_of_run

if TYPE_CHECKING:
    from runops.core import RunClient

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a wait ended.

    Args:
        snapshot: The last snapshot; it has an outcome.
        verdict: What to do about it; fail raises in :func:`wait_for_run`, so that it gives succeed, warn or skip.
        unmet: Which expectations the run did not meet, by the name of the detail.
        taken_up_from: The id of the Dagster run that waited for it before, where the step took it up from another one.
    """

    snapshot: RunSnapshot
    verdict: Verdict
    unmet: Mapping[str, Unmet] = field(default_factory=dict[str, Unmet])
    taken_up_from: str | None = None


def wait_for_run(
    context: _compat.StepContext,
    resource: ProviderResource,
    *,
    call: Call | None = None,
    ref: RunRef | None = None,
    **settings: Unpack[StepSettings],
) -> RunResult:
    """Submit a run, or take one that exists, and wait in this step until it is over.

    A step that is retried, or re-executed from failure, takes up the run that it submitted before, and submits anew
    only after a run that failed or that it cancelled itself. A re-execution of all steps submits anew once the run is
    over and takes it up while it may be alive. A failed read neither cancels nor repeats.

    Call it from a plain function, not from an ``async`` one: Dagster cannot interrupt those cleanly.

    Args:
        context: The context of the op, asset or asset check.
        resource: The service.
        call: What to submit, from ``resource.call(...)``.
        ref: A run that exists, from ``resource.ref(...)``; give this or ``call``.
        settings: ``timeout``, ``error_budget``, ``poll_interval``, ``max_paused``, ``max_stalled``, ``max_spend``,
            ``on_outcome``, ``states``, ``expect``, ``on_unmet``, ``soft_fail``, ``cancel_on_interrupt``,
            ``cancel_on_timeout``, ``cancel_on_failure``, ``adopt_uncertain``, ``mark_runs``, ``submit_grace``,
            ``on_conflict``, ``on_phase`` and ``reattach``; each is described once, in
            :class:`runops.dagster.options.StepSettings`.

    Returns:
        The last snapshot and its verdict, for succeed, warn and skip.

    Raises:
        dagster.Failure: The verdict is fail, the run could not be read or started, or the Dagster run is being
            terminated. ``allow_retries`` is set where a retry can help without a second run.
        ConfigurationError: An argument is wrong; nothing was sent.
    """
    check_names("wait_for_run", settings, names_of(StepSettings) | {"context", "resource", "call", "ref"})
    ended = end_of_run(context, resource, call=call, ref=ref, **settings)
    if ended.verdict is Verdict.FAIL:
        raise verdicts.failure(ended.snapshot, given=ref is not None, unmet=ended.unmet)
    return ended


def end_of_run(
    context: _compat.StepContext,
    resource: ProviderResource,
    *,
    call: Call | None = None,
    ref: RunRef | None = None,
    **settings: Unpack[StepSettings],
) -> RunResult:
    """As :func:`wait_for_run`, for those who have something to do before a fail verdict fails the step.

    Raises:
        dagster.Failure: The run could not be read or started, or the Dagster run is being terminated.
        ConfigurationError: An argument is wrong; nothing was sent.
    """
    if (call is None) == (ref is None):
        raise ConfigurationError("wait_for_run needs either call= (to submit a run) or ref= (to wait for one).")
    wait = StepWait(context, resource, settings, submits=ref is None)

    def whole_wait() -> RunResult:
        last = wait.for_given(resource.ref(ref)) if ref else wait.for_submitted(_checked(call, wait.provider))
        return wait.decide(last)

    with core_warnings_in(context):
        ended = wait.leaving_nothing(whole_wait)
        if ended.verdict is Verdict.FAIL:
            wait.leave_nothing(verdicts.failure(ended.snapshot))
    return ended


def submit_run(
    context: _compat.StepContext,
    resource: ProviderResource,
    call: Call,
    *,
    keep: Callable[[RunRef, float, bool], None],
    **settings: Unpack[StepSubmitSettings],
) -> RunRef:
    """Submit a run and leave it to others to wait for it; a retry takes up the run of an earlier try.

    Args:
        context: The context of the op.
        resource: The service.
        call: What to submit.
        keep: Called with the run, when it was submitted in unix seconds, and whether it was active already and is not
            ours: what it writes is how others find the run. On Terminate until then the run is cancelled.
        settings: How the run is submitted once.

    Raises:
        dagster.Failure: The run could not be started, or the Dagster run is being terminated.
    """
    wait = StepWait(context, resource, cast("StepSettings", settings), submits=True)
    with core_warnings_in(context):
        return wait.leaving_nothing(lambda: wait.only_submitted(_checked(call, wait.provider), keep))


class StepWait(LeavesNothing):
    """One call of :func:`wait_for_run`.

    Args:
        context: The step's context.
        resource: The service.
        settings: What the user chose.
        submits: Whether the step submits the run, which makes it the step's own to cancel.
    """

    def __init__(
        self, context: _compat.StepContext, resource: ProviderResource, settings: StepSettings, *, submits: bool
    ) -> None:
        super().__init__(context, resource, settings)
        self._began, self._given = time.time(), not submits
        self._states = settings.get("states")
        self.provider: Provider = resource.declaration.with_states(self._states)
        self._submit_grace = seconds("submit_grace", settings.get("submit_grace", SUBMIT_GRACE))
        one_of("on_conflict", settings.get("on_conflict", "wait"), ON_CONFLICT)
        self._policy = policy_of(self.provider, settings)
        self._callbacks = check_callbacks(settings.get("on_phase"))
        self._options = wait_options(self.provider, settings, now=time.time(), wanted=self._policy.expect.details)
        on_interrupt, on_timeout = settings.get("cancel_on_interrupt"), settings.get("cancel_on_timeout")
        self._cancel_on_timeout = submits if on_timeout is None else on_timeout
        self._cancel_on_failure = submits and settings.get("cancel_on_failure", False)
        self._live = LiveRun(
            context,
            resource,
            cancel_on_interrupt=submits if on_interrupt is None else on_interrupt,
            states=self._states,
        )

    def for_given(self, ref: RunRef) -> RunSnapshot:
        """Wait for a run that somebody else started."""
        refuse_when_over(self._context)
        self._live.tag(ref, AWAITED)
        with self._live.cancelled_on_interrupt(), self._client() as client:
            return self._follow(client, Start(ref, self._options.deadline))

    def for_submitted(self, call: Call) -> RunSnapshot:
        """Wait for a run that this step submits, or has submitted in an earlier try."""
        refuse_when_over(self._context)
        held = HeldInterrupts()
        with self._live.cancelled_on_interrupt(), self._submitting_client(held) as client:
            submission = self._submission(client, call, held)
            start = submission.begin(reattach=self._settings.get("reattach", True))
            last = self._follow(client, start)
            if start.stopped and last.outcome is Outcome.CANCELLED:
                last = self._follow(client, submission.submit_after(start))
            submission.records.ended(last, self._policy.judge(last).verdict)
            return last

    def only_submitted(self, call: Call, keep: Callable[[RunRef, float, bool], None]) -> RunRef:
        """Submit a run, or take up the one that this step has submitted in an earlier try."""
        refuse_when_over(self._context)
        held = HeldInterrupts()
        with self._live.cancelled_on_interrupt(), self._submitting_client(held) as client:
            submission = self._submission(client, call, held)
            start = submission.begin(reattach=self._settings.get("reattach", True))
            if start.stopped and self._follow(client, start).outcome is Outcome.CANCELLED:
                start = submission.submit_after(start)
            keep(start.ref, start.submitted_at or time.time(), start.attached)
            self._live.ref = None
            return start.ref

    def decide(self, last: RunSnapshot) -> RunResult:
        """The last snapshot with its verdict; warn and skip are written into the step's log."""
        judgement = self._policy.judge(last)
        verdict = judgement.verdict

        def another() -> bool:
            fails = verdict is Verdict.FAIL
            return fails and tried_again(self._context, verdicts.failure(last, given=self._given))

        tell_end(self.provider, last, verdict, began=self._began, another=another)
        if verdict in (Verdict.WARN, Verdict.SKIP):
            self._live.log(verdicts.judged(last, verdict, judgement.unmet), logging.WARNING)
        if verdict is Verdict.SKIP and _compat.in_a_backfill_of_partitions(self._context):
            self._live.log(
                "Dagster counts a partition that a backfill skips as failed: map the outcome to warn, to have it "
                "materialised with a failed check.",
                logging.WARNING,
            )
        return RunResult(last, verdict, judgement.unmet, self._live.taken_up_from)

    def _tell_error(self, error: RunopsError, failure: BaseException) -> None:
        another = partial(tried_again, self._context, failure)
        tell_error(self.provider, self._live.ref, error, began=self._began, another=another)

    def _may_leave(self) -> bool:
        return self._cancel_on_failure and (self._live.ref is not None or self._live.lost is not None)

    def _cancel_what_is_left(self) -> None:
        if self._outlives_its_run():
            self.log("The Dagster run is over already: its external run is not cancelled.", logging.WARNING)
        else:
            self._live.cancel_left()

    def _submitting_client(self, held: HeldInterrupts) -> RunClient:
        mark_runs = self._settings.get("mark_runs")
        marks = {} if mark_runs is None else {"mark_runs": mark_runs}
        return self._client(sleep=held.sleep, **marks)

    def _client(self, **settings: Any) -> RunClient:
        refresh = partial(_compat.reload_environment, self._context)
        return self._resource.client(states=self._states, refresh=refresh, meter=METER, **settings)

    def _submission(self, client: RunClient, call: Call, held: HeldInterrupts) -> StepSubmission:
        return StepSubmission(
            context=self._context,
            live=self._live,
            client=client,
            call=call,
            policy=self._policy,
            deadline=self._options.deadline,
            adopt_uncertain=self._settings.get("adopt_uncertain", False),
            submit_grace=self._submit_grace,
            held=held,
            credential=key_of(self._context.resources, self._resource),
            rules=turn_rules(self._settings, self._options),
        )

    def _follow(self, client: RunClient, start: Start) -> RunSnapshot:
        # A run of an earlier try is waited for since its submit.
        self._began = start.submitted_at or self._began
        self._live.ref = start.ref
        try:
            last = self._awaited(client, start)
        except PollingError:
            if self._live.records is not None:
                self._live.records.gave_up(start.ref)
            raise
        if last.run_ended:
            self._live.ref = None
        elif start.attached:
            self._live.log(f"{start.ref} was active already when this step came: it is not cancelled.")
        elif self._cancel_on_timeout and self._outlives_its_run():
            # A re-execution may wait for the same run, with a deadline of its own. (An interrupt is another matter:
            # whoever ends a Dagster run for its run time marks it as failed before this step hears of it.)
            self._live.log(f"The Dagster run is over already: {start.ref} is not cancelled.", logging.WARNING)
        elif self._cancel_on_timeout:
            self._live.cancel(start.ref)
        return last

    def _awaited(self, client: RunClient, start: Start) -> RunSnapshot:
        """The last snapshot of a run; whoever is to be called on the way is called."""
        throttle = LogThrottle()

        def log_update(snapshot: RunSnapshot) -> None:
            if throttle.worth_saying(snapshot, time.monotonic()):
                self._live.log(progress_line(snapshot))

        phases = StepPhases(self._context, self._callbacks, start.ref, clock=client.clock)
        phases.warn_of(self.provider)
        past = WaitProgress(seen=start.seen, accepted=start.taken_up)
        options, on_update = replace(self._options, deadline=start.deadline), phases.interrupting(log_update)
        try:
            while True:
                try:
                    return client.wait(
                        start.ref, patience=options, submitted_at=start.submitted_at, past=past, on_update=on_update
                    )
                except PhaseEntered as entered:
                    # A connection that a callback has left idle for long may be gone.
                    client.close()
                    phases.call(entered)
        finally:
            phases.over()

    def _outlives_its_run(self) -> bool:
        """Whether the Dagster run is over, and this step is not."""
        try:
            return status_of_run(self._context) in OVER
        except Exception as error:  # noqa: BLE001 - a storage raises what it likes
            self._live.log(f"The Dagster run could not be looked up ({type(error).__name__}).", logging.WARNING)
            return False


def _checked(call: Any, provider: Provider) -> Call:
    if not isinstance(call, Call) or call.provider != provider.name:
        given = f"a call of {call.provider}" if isinstance(call, Call) else f"a {type(call).__name__}"
        raise ConfigurationError(
            f"call is {given}; build it with resource.call(...) of the {provider.title} resource that is used."
        )
    return call
