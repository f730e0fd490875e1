"""The wait of a step for one external run: submit, follow, stop, take up again. How it is shown is in verdicts.py."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

import dagster as dg

from runops.core import (
    AnswerError,
    Call,
    ConfigurationError,
    Outcome,
    OutcomePolicy,
    PollingError,
    Provider,
    RunopsError,
    RunRef,
    RunSnapshot,
    SubmitUncertainError,
    TransientError,
    UnknownStateError,
    Verdict,
)
from runops.core.declaration.arguments import seconds
from runops.core.transport.retry import submit_may_repeat
from runops.core.waiting import submission
from runops.core.waiting.options import DEFAULT_ERROR_BUDGET, DEFAULT_TIMEOUT, SUBMIT_GRACE, WaitOptions
from runops.core.waiting.state import LogThrottle
from runops.core.waiting.steps import Effect, Flow, Send, intercept
from runops.core.waiting.submission import Intent
from runops.dagster import _compat, verdicts
from runops.dagster.resource import ProviderResource, named_resource
from runops.dagster.step.interrupts import INTERRUPTS, HeldInterrupts
from runops.dagster.step.records import Attempt, Records

if TYPE_CHECKING:
    from runops.core import RunClient

CANCEL_REQUEST_TIMEOUT = 5.0
"""Seconds for one request of a cancel: whoever pressed Terminate waits for it."""
CANCEL_PATIENCE = 30.0
"""Seconds after which a refused cancel is not tried again, whatever pause the service asks for."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a wait ended.

    Args:
        snapshot: The last snapshot; it has an outcome.
        verdict: What to do about it; fail raises in :func:`wait_for_run`, so that it gives succeed, warn or skip.
    """

    snapshot: RunSnapshot
    verdict: Verdict


def wait_for_run(
    context: _compat.StepContext,
    resource: ProviderResource,
    *,
    call: Call | None = None,
    ref: RunRef | None = None,
    timeout: float | timedelta = DEFAULT_TIMEOUT,
    error_budget: float | timedelta = DEFAULT_ERROR_BUDGET,
    poll_interval: float | timedelta | None = None,
    on_outcome: Mapping[str, str] | None = None,
    max_paused: float | timedelta | None = None,
    cancel_on_interrupt: bool | None = None,
    cancel_on_timeout: bool | None = None,
    adopt_uncertain: bool = False,
    mark_runs: bool | None = None,
    submit_grace: float | timedelta = SUBMIT_GRACE,
    reattach: bool = True,
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
        timeout: Seconds (or a timedelta) for the whole wait.
        error_budget: Seconds of failed reads in a row before the wait gives up.
        poll_interval: The shortest time between two looks, in seconds.
        on_outcome: Outcome to verdict, such as ``{"degraded": "warn"}``.
        max_paused: Seconds that the run may stay paused or waiting.
        cancel_on_interrupt: Cancel the run when the Dagster run is terminated. By default only a run that was
            submitted here: one given by ``ref`` is somebody else's.
        cancel_on_timeout: Cancel the run when a clock ended the wait. The default is the same.
        adopt_uncertain: Where the answer to the submit is lost and no mark can prove whose a run is (OnePin, B3OS),
            take the single run for ours that began since by the service's own clock.
        mark_runs: Whether the submit adds a mark to a text that the service shows again (Nyx: ``name``), so that its
            run is known whatever happens to the answer. None for what the resource says.
        submit_grace: Seconds (or a timedelta) for which the run is looked for after a lost answer.
        reattach: Take up an earlier run of this step. ``False`` submits anew on every try.

    Returns:
        The last snapshot and its verdict, for succeed, warn and skip.

    Raises:
        dagster.Failure: The verdict is fail, the run could not be read or started, or the Dagster run is being
            terminated. ``allow_retries`` is set where a retry can help without a second run.
        ConfigurationError: An argument is wrong; nothing was sent.
    """
    ended = end_of_run(
        context,
        resource,
        call=call,
        ref=ref,
        timeout=timeout,
        error_budget=error_budget,
        poll_interval=poll_interval,
        on_outcome=on_outcome,
        max_paused=max_paused,
        cancel_on_interrupt=cancel_on_interrupt,
        cancel_on_timeout=cancel_on_timeout,
        adopt_uncertain=adopt_uncertain,
        mark_runs=mark_runs,
        submit_grace=submit_grace,
        reattach=reattach,
    )
    if ended.verdict is Verdict.FAIL:
        raise verdicts.failure(ended.snapshot, given=ref is not None)
    return ended


def end_of_run(
    context: _compat.StepContext,
    resource: ProviderResource,
    *,
    call: Call | None = None,
    ref: RunRef | None = None,
    reattach: bool = True,
    **settings: Any,
) -> RunResult:
    """As :func:`wait_for_run`, for those who have something to do before a fail verdict fails the step.

    Raises:
        dagster.Failure: The run could not be read or started, or the Dagster run is being terminated.
        ConfigurationError: An argument is wrong; nothing was sent.
    """
    if (call is None) == (ref is None):
        raise ConfigurationError("wait_for_run needs either call= (to submit a run) or ref= (to wait for one).")
    wait = _Wait.of(context, resource, ours=ref is None, **settings)
    with _core_warnings_in(context):
        try:
            given = resource.ref(ref) if ref else None
            last = wait.for_given(given) if given else wait.for_submitted(_checked(call, wait.provider), reattach)
        except RunopsError as error:
            raise verdicts.failure_of(error, named_resource(context.resources, resource)) from error
    return wait.decide(last)


def submit_run(
    context: _compat.StepContext,
    resource: ProviderResource,
    call: Call,
    *,
    adopt_uncertain: bool = False,
    mark_runs: bool | None = None,
    submit_grace: float | timedelta = SUBMIT_GRACE,
    reattach: bool = True,
    keep: Callable[[RunRef, float], None],
) -> RunRef:
    """Submit a run and leave it to others to wait for it; a retry takes up the run of an earlier try.

    Args:
        context: The context of the op.
        resource: The service.
        call: What to submit.
        adopt_uncertain: Where the answer to the submit is lost and no mark can prove whose a run is (OnePin, B3OS),
            take the single run for ours that began since by the service's own clock.
        mark_runs: Whether the submit adds a mark to a text that the service shows again (Nyx: ``name``), so that its
            run is known whatever happens to the answer. None for what the resource says.
        submit_grace: Seconds (or a timedelta) for which the run is looked for after a lost answer.
        reattach: Take up an earlier run of this step.
        keep: Told of the run, and when it was submitted in unix seconds: what it writes is how others find the
            run. On Terminate until then the run is cancelled.

    Raises:
        dagster.Failure: The run could not be started, or the Dagster run is being terminated.
    """
    wait = _Wait.of(
        context,
        resource,
        ours=True,
        adopt_uncertain=adopt_uncertain,
        mark_runs=mark_runs,
        submit_grace=submit_grace,
    )
    with _core_warnings_in(context):
        try:
            return wait.only_submitted(_checked(call, wait.provider), reattach, keep)
        except RunopsError as error:
            raise verdicts.failure_of(error, named_resource(context.resources, resource)) from error


_OVER = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE)


@dataclass(frozen=True, slots=True)
class _Start:
    """The run to wait for.

    Args:
        ref: The run.
        deadline: When the wait ends, in unix seconds.
        submitted_at: When the run was submitted, in unix seconds, where that is known.
        seen: Whether it has been seen, so that a 404 is a passing error.
        stopped: Whether this step asked the service to cancel it.
    """

    ref: RunRef
    deadline: float
    submitted_at: float | None = None
    seen: bool = False
    stopped: bool = False


@dataclass(kw_only=True)
class _Wait:
    """One call of :func:`wait_for_run`."""

    context: _compat.StepContext
    resource: ProviderResource
    provider: Provider
    policy: OutcomePolicy
    patience: WaitOptions
    cancel_on_interrupt: bool
    cancel_on_timeout: bool
    adopt_uncertain: bool
    mark_runs: bool | None
    submit_grace: float

    alive: RunRef | None = None
    """The run that an interrupt would leave behind."""
    lost: tuple[Call, Intent] | None = None
    """The submit that was not answered, while its run is looked for."""
    records: Records | None = None

    @classmethod
    def of(
        cls,
        context: _compat.StepContext,
        resource: ProviderResource,
        *,
        ours: bool,
        timeout: float | timedelta = DEFAULT_TIMEOUT,
        error_budget: float | timedelta = DEFAULT_ERROR_BUDGET,
        poll_interval: float | timedelta | None = None,
        on_outcome: Mapping[str, str] | None = None,
        max_paused: float | timedelta | None = None,
        cancel_on_interrupt: bool | None = None,
        cancel_on_timeout: bool | None = None,
        adopt_uncertain: bool = False,
        mark_runs: bool | None = None,
        submit_grace: float | timedelta = SUBMIT_GRACE,
    ) -> Self:
        """The wait that these arguments ask for; ``ours`` tells that the run is submitted by it."""
        provider = resource.declaration
        patience = WaitOptions.build(
            provider,
            now=time.time(),
            timeout=timeout,
            error_budget=error_budget,
            max_paused=max_paused,
            interval=poll_interval,
        )
        return cls(
            context=context,
            resource=resource,
            provider=provider,
            policy=provider.policy(on_outcome),
            patience=patience,
            cancel_on_interrupt=ours if cancel_on_interrupt is None else cancel_on_interrupt,
            cancel_on_timeout=ours if cancel_on_timeout is None else cancel_on_timeout,
            adopt_uncertain=adopt_uncertain,
            mark_runs=mark_runs,
            submit_grace=seconds("submit_grace", submit_grace),
        )

    def for_given(self, ref: RunRef) -> RunSnapshot:
        """Wait for a run that somebody else started."""
        self._refuse_when_over()
        self._tag(ref, "awaited")
        with self._stopping_on_interrupt(), self.resource.client() as client:
            return self._follow(client, _Start(ref, self.patience.deadline))

    def for_submitted(self, call: Call, reattach: bool) -> RunSnapshot:
        """Wait for a run that this step submits, or has submitted in an earlier try."""
        self._refuse_when_over()
        held = HeldInterrupts()
        with self._stopping_on_interrupt(), self._submitting_client(held) as client:
            records = self.records = Records.of(self.context, call=call, root=client.root)
            start = self._begin(client, records, call, held, reattach)
            last = self._follow(client, start)
            if start.stopped and last.outcome is Outcome.CANCELLED:
                last = self._follow(client, self._submit_after(client, records, call, held, start))
            records.ended(last, self.policy.decide(_outcome(last)))
            return last

    def only_submitted(self, call: Call, reattach: bool, keep: Callable[[RunRef, float], None]) -> RunRef:
        """Submit a run, or take up the one that this step has submitted in an earlier try."""
        self._refuse_when_over()
        held = HeldInterrupts()
        with self._stopping_on_interrupt(), self._submitting_client(held) as client:
            records = self.records = Records.of(self.context, call=call, root=client.root)
            start = self._begin(client, records, call, held, reattach)
            if start.stopped and self._follow(client, start).outcome is Outcome.CANCELLED:
                start = self._submit_after(client, records, call, held, start)
            keep(start.ref, start.submitted_at or time.time())
            self.alive = None
            return start.ref

    def _begin(self, client: RunClient, records: Records, call: Call, held: HeldInterrupts, reattach: bool) -> _Start:
        if not reattach:
            return self._submit(client, records, call, held)
        earlier = records.earlier()
        start = self._take_up(client, records, call, earlier, held) if earlier else None
        unlike = records.unlike() if earlier is None else None
        if unlike is not None:
            self._say(
                f"An earlier try of this step submitted {unlike.ref or 'a run'} with other arguments, and it may be "
                "alive. Let call give the same on every try, so that a retry takes the run up.",
                logging.WARNING,
            )
        return start or self._submit(client, records, call, held)

    def _submit_after(
        self, client: RunClient, records: Records, call: Call, held: HeldInterrupts, stopped: _Start
    ) -> _Start:
        self._say(f"{stopped.ref} is cancelled, as this step had asked; a new run is submitted.")
        return self._submit(client, records, call, held)

    def decide(self, last: RunSnapshot) -> RunResult:
        """The last snapshot with its verdict; warn and skip are said in the step's log."""
        verdict = self.policy.decide(_outcome(last))
        if verdict in (Verdict.WARN, Verdict.SKIP):
            self._say(f"{last.summary().rstrip('.')}; verdict: {verdict}.", logging.WARNING)
        if verdict is Verdict.SKIP and _compat.in_a_backfill_of_partitions(self.context):
            self._say(
                "Dagster counts a partition that a backfill skips as failed: map the outcome to warn, to have it "
                "materialised with a failed check.",
                logging.WARNING,
            )
        return RunResult(last, verdict)

    # --- submit ---

    def _submitting_client(self, held: HeldInterrupts) -> RunClient:
        marks = {} if self.mark_runs is None else {"mark_runs": self.mark_runs}
        return self.resource.client(sleep=held.sleep, **marks)

    def _submit(self, client: RunClient, records: Records, call: Call, held: HeldInterrupts) -> _Start:
        intent = client.list_before_submit(call, identity=records.identity)
        # Its run is looked for where an interrupt may strike, which is not here.
        with suppress(SubmitUncertainError):
            return self._post(client, records, call, intent, held)
        return self._find_or_submit(client, records, call, intent, held, self.submit_grace)

    def _find_or_submit(
        self,
        client: RunClient,
        records: Records,
        call: Call,
        intent: Intent,
        held: HeldInterrupts,
        grace: float,
    ) -> _Start:
        """The run of a submit that was not answered; a new one only where nothing of that can be alive."""
        self.lost = call, intent
        duration = f", for up to {grace:.0f} s" if grace else ""
        self._say(f"Looking for the run of a submit that was not answered{duration}.", logging.WARNING)
        ref: RunRef | None = None
        with suppress(SubmitUncertainError):
            ref = client.find_submitted(call.family, intent, adopt_uncertain=self.adopt_uncertain, submit_grace=grace)
        if ref is None:
            start = self._post(client, records, call, intent, held, again=True)
        else:
            self.alive = ref
            start = _Start(ref, self.patience.deadline, submitted_at=time.time())
            records.taken_up(ref, self.provider.url(ref), deadline=start.deadline, at=start.submitted_at)
            self._tag(ref, "submitted")
            self._say(f"Took up {ref}, whose submit was not answered{self._place(ref)}.")
        self.lost = None
        return start

    def _post(
        self,
        client: RunClient,
        records: Records,
        call: Call,
        intent: Intent,
        held: HeldInterrupts,
        *,
        again: bool = False,
    ) -> _Start:
        with held:
            self.alive = ref = self._posted(client, records, call, intent, held, again=again)
            start = _Start(ref, self.patience.deadline, submitted_at=time.time())
            records.submitted(ref, self.provider.url(ref), deadline=start.deadline, at=start.submitted_at)
            self._tag(ref, "submitted")
        self._say(f"Submitted {ref}{self._place(ref)}.")
        return start

    def _posted(
        self,
        client: RunClient,
        records: Records,
        call: Call,
        intent: Intent,
        held: HeldInterrupts,
        *,
        again: bool,
    ) -> RunRef:
        held.may_break = True
        held.let_through()
        if not again:
            records.submitting(self.provider.title, intent, at=time.time())
        try:
            # After the record: a re-execution starts when this run is over, and then it finds the record.
            self._refuse_when_over()
            flow = submission.submit(
                self.provider,
                call,
                intent,
                clock=client.clock,
                lost=again,
                adopt_uncertain=self.adopt_uncertain and again,
                grace=0.0,
                resubmit=again,
            )
            return client.drive(_noting_what_is_sure(flow, held, submission.turned_away(self.provider)))
        except (AnswerError, dg.Failure, *INTERRUPTS) as error:
            # A lost answer is another error: these tell that no run was started by this POST. Of an earlier one that
            # is lost, only a refusal that comes after the look for it tells the same.
            if not again or isinstance(error, AnswerError):
                records.refused(self.provider.title)
            raise

    def _refuse_when_over(self) -> None:
        """Start nothing for a Dagster run that is terminated or over.

        A retry policy runs a terminated step again, and a step outlives a worker that was killed.
        """
        status = self._status()
        if status in (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED):
            raise dg.Failure(
                description="The Dagster run is being terminated: no run is submitted.", allow_retries=False
            )
        if status in _OVER:
            raise dg.Failure(description="The Dagster run is over already: no run is submitted.", allow_retries=False)

    def _status(self) -> dg.DagsterRunStatus | None:
        run = _compat.run_of(self.context)
        now = self.context.instance.get_run_by_id(run.run_id) if run else None
        return now.status if now else None

    def _left_behind(self) -> bool:
        """Whether this step has outlived its Dagster run."""
        try:
            return self._status() in _OVER
        except Exception as error:  # noqa: BLE001 - a storage raises what it likes
            self._say(f"The Dagster run could not be looked up ({type(error).__name__}).", logging.WARNING)
            return False

    # --- take up again ---

    def _take_up(
        self, client: RunClient, records: Records, call: Call, earlier: Attempt, held: HeldInterrupts
    ) -> _Start | None:
        """The earlier run, if it is to be waited for again."""
        if earlier.rejected and records.asked_anew(earlier):
            self._say(f"The earlier {earlier.ref} ended {earlier.ended}; a new run was asked for.")
            return None
        if earlier.ref is None:
            left = (earlier.submitted_at or 0.0) + self.submit_grace - time.time()
            grace = min(max(left, 0.0), self.submit_grace)
            return self._find_or_submit(client, records, call, earlier.intent, held, grace)
        self.alive = ref = earlier.ref
        now = self._read(client, ref)
        if now is not None and self._is_done_with(earlier, now):
            self._say(f"{now.summary().rstrip('.')}; a new run is submitted.")
            self.alive = None
            return None
        deadline = records.deadline_of(earlier) or self.patience.deadline
        records.taken_up(ref, self.provider.url(ref), deadline=deadline, at=earlier.submitted_at)
        self._tag(ref, "submitted")
        self._say(f"Took up {ref} again, which this step had submitted before{self._place(ref)}.")
        return _Start(ref, deadline, submitted_at=earlier.submitted_at, seen=now is not None, stopped=earlier.stopped)

    def _read(self, client: RunClient, ref: RunRef) -> RunSnapshot | None:
        """One look; None where it tells nothing, so that the run may be alive and the wait has to tell."""
        try:
            return client.get(ref)
        except (AnswerError, UnknownStateError):
            return None

    def _is_done_with(self, earlier: Attempt, now: RunSnapshot) -> bool:
        """Whether the earlier run is over in a way that a retry repeats, or in a step that had its success already."""
        if earlier.step_succeeded and now.run_ended:
            return True
        failed = now.outcome is Outcome.FAILED and self.policy.decide(Outcome.FAILED) is Verdict.FAIL
        return failed or (earlier.stopped and now.outcome is Outcome.CANCELLED)

    # --- follow and stop ---

    def _follow(self, client: RunClient, start: _Start) -> RunSnapshot:
        news = LogThrottle()

        def say(snapshot: RunSnapshot) -> None:
            if news.worth_saying(snapshot, time.monotonic()):
                self._say(snapshot.summary())

        self.alive = start.ref
        try:
            last = client.wait(
                start.ref,
                patience=replace(self.patience, deadline=start.deadline),
                submitted_at=start.submitted_at,
                seen=start.seen,
                on_update=say,
            )
        except PollingError:
            if self.records is not None:
                self.records.gave_up(start.ref)
            raise
        if last.run_ended:
            self.alive = None
        elif self.cancel_on_timeout and self._left_behind():
            # A re-execution may wait for the same run, with a deadline of its own. (An interrupt is another matter:
            # whoever ends a Dagster run for its run time marks it as failed before this step hears of it.)
            self._say(f"The Dagster run is over already: {start.ref} is not cancelled.", logging.WARNING)
        elif self.cancel_on_timeout:
            self._stop(start.ref)
        return last

    @contextmanager
    def _stopping_on_interrupt(self) -> Generator[None]:
        """Cancel the run that is alive when Terminate comes, wherever it strikes."""
        try:
            yield
        except INTERRUPTS:
            with HeldInterrupts(drop=True):
                ref = self.alive or self._lost_run()
                if ref is not None and self.cancel_on_interrupt:
                    self._stop(ref)
                elif ref is not None:
                    self._say(f"Interrupted; {ref} goes on: this wait is not to cancel it.", logging.WARNING)
            raise

    def _lost_run(self) -> RunRef | None:
        """The run of the submit that was not answered, if a single look shows its mark."""
        if self.lost is None:
            return None
        call, intent = self.lost
        try:
            with self._hasty_client() as client:
                return client.find_submitted(call.family, intent, submit_grace=0.0)
        except RunopsError as error:
            self._say(f"The run of the submit that was not answered may yet show up: {error}", logging.ERROR)
            return None

    def _hasty_client(self) -> RunClient:
        """A client for whoever waits for a Terminate to be done."""
        seconds = min(CANCEL_REQUEST_TIMEOUT, self.resource.request_timeout)
        return self.resource.client(request_timeout=seconds, sleep=_pauses_of_a_cancel())

    def _stop(self, ref: RunRef) -> None:
        """Cancel a run. That this fails must not hide why the wait ended."""
        if self.provider.cancel is None:
            self._say(f"{self.provider.title} has no way to cancel a run: {ref} goes on.", logging.WARNING)
            return
        try:
            with self._hasty_client() as client:
                client.cancel(ref)
        except RunopsError as error:
            self._say(f"{ref} could not be cancelled and may go on: {error}", logging.ERROR)
            return
        self._say(f"Asked {self.provider.title} to cancel {ref}.")
        if self.records is not None:
            self.records.stopped(ref)

    # --- what people see ---

    def _say(self, text: str, level: int = logging.INFO) -> None:
        self.context.log.log(level, text)

    def _place(self, ref: RunRef) -> str:
        url = self.provider.url(ref)
        return f": {url}" if url else ""

    def _tag(self, ref: RunRef, word: str) -> None:
        """Let people and sensors find the Dagster run by the external one; the wait does not depend on it."""
        run = _compat.run_of(self.context)
        if run is None:
            return
        try:
            self.context.instance.add_run_tags(run.run_id, {f"runops.{ref.provider}/{ref.run_id}": word})
        except Exception as error:  # noqa: BLE001 - a storage raises what it likes
            self._say(f"The Dagster run could not be tagged with {ref} ({type(error).__name__}).", logging.WARNING)


def _pauses_of_a_cancel() -> Callable[[float], None]:
    """A sleep that gives up rather than let somebody wait for long."""
    ends = time.monotonic() + CANCEL_PATIENCE

    def sleep(seconds: float) -> None:
        if time.monotonic() + seconds > ends:
            raise TransientError(f"the service asks for a pause of {seconds:.0f} s before the cancel is tried again.")
        time.sleep(seconds)

    return sleep


def _noting_what_is_sure(
    flow: Flow[RunRef], held: HeldInterrupts, turned_away: tuple[tuple[int, str], ...]
) -> Flow[RunRef]:
    """The same flow; an interrupt may break its pauses as long as every answer proves that no run was started."""

    def noting(effect: Effect) -> Flow[Any]:
        posted = isinstance(effect, Send) and effect.fresh
        try:
            reply = yield effect
        except AnswerError as error:
            held.may_break = held.may_break and (not posted or submit_may_repeat(error, turned_away))
            raise
        held.may_break = held.may_break and not posted
        return reply

    return intercept(flow, noting)


@contextmanager
def _core_warnings_in(context: _compat.StepContext) -> Generator[None]:
    """Show what the core warns of, such as a word that nobody documented, in the step's log."""
    handler = _StepLog(context)
    logger = logging.getLogger("runops")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _StepLog(logging.Handler):
    """Hands on the records of this thread."""

    def __init__(self, context: _compat.StepContext) -> None:
        super().__init__(logging.WARNING)
        self._log = context.log
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self._log.log(record.levelno, record.getMessage())


def _outcome(last: RunSnapshot) -> Outcome:
    return last.outcome or Outcome.TIMED_OUT


def _checked(call: Any, provider: Provider) -> Call:
    if not isinstance(call, Call) or call.provider != provider.name:
        given = f"a call of {call.provider}" if isinstance(call, Call) else f"a {type(call).__name__}"
        raise ConfigurationError(
            f"call is {given}; build it with resource.call(...) of the {provider.title} resource that is used."
        )
    return call
