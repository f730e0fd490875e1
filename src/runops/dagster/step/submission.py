"""The submit of a step: at most one run, over its tries, its crashes and its re-executions.

Before the POST a record is written into the log of the Dagster run (records.py), and another one after its answer.
So a later try knows of three cases: nothing was sent, and it submits; the answer was recorded, and it takes that run
up again; or the answer is lost, and it searches for the run by its mark and submits only where none can be alive. A run
that is over in a way that a retry repeats gives way to a new one.

Interrupts are held back between the POST and the record of its answer, as long as a run may have been started; they
strike in the pauses of a submit that was surely turned away, and while the run of a lost answer is looked for.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import dagster as dg

from runops.core import (
    AnswerError,
    Call,
    ConflictError,
    Outcome,
    OutcomePolicy,
    RunopsError,
    RunRef,
    RunSnapshot,
    SubmitUncertainError,
    UnknownStateError,
    Verdict,
)
from runops.core.model.codes import Code, with_code
from runops.core.transport.retry import submit_may_repeat
from runops.core.waiting import submission, turns
from runops.core.waiting.intent import Intent
from runops.core.waiting.retry_call import following
from runops.core.waiting.steps import Effect, Flow, Send, intercept
from runops.core.waiting.submit_in_turn import TurnRules
from runops.core.waiting.turns import Turn
from runops.dagster import _compat
from runops.dagster.step.interrupts import INTERRUPTS, HeldInterrupts
from runops.dagster.step.live_run import AWAITED, SUBMITTED, LiveRun
from runops.dagster.step.records import Attempt, Records

if TYPE_CHECKING:
    from runops.core import RunClient

OVER = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE)


@dataclass(frozen=True, slots=True)
class Start:
    """The run to wait for.

    Args:
        ref: The run.
        deadline: When the wait ends, in unix seconds.
        submitted_at: When the run was submitted, in unix seconds, where that is known.
        seen: Whether it has been seen, so that a 404 is a passing error.
        taken_up: Whether an earlier try had it already.
        stopped: Whether this step asked the service to cancel it.
        attached: Whether it was active already, so that this step never cancels it.
    """

    ref: RunRef
    deadline: float
    submitted_at: float | None = None
    seen: bool = False
    taken_up: bool = False
    stopped: bool = False
    attached: bool = False


@dataclass(kw_only=True)
class StepSubmission:
    """One submission of one step.

    Args:
        context: The step's context.
        live: Learns of the run as soon as it may exist.
        client: Sends; its pauses are those of ``held``.
        call: What is submitted.
        policy: Whether a failed run fails the step, so that a retry repeats it.
        deadline: When the wait for a new run ends, in unix seconds.
        adopt_uncertain: Where no mark can prove whose a run is, take the single new one for ours.
        submit_grace: Seconds for which the run of a lost answer is looked for.
        held: Holds interrupts back.
        rules: What is done where something is active already.
        credential: The key of the resource, where the step has it by one.
    """

    context: _compat.StepContext
    live: LiveRun
    client: RunClient
    call: Call
    policy: OutcomePolicy
    deadline: float
    adopt_uncertain: bool
    submit_grace: float
    held: HeldInterrupts
    rules: TurnRules
    credential: str | None = None

    def __post_init__(self) -> None:
        self.provider = self.client.provider
        self._failed: RunRef | None = None
        self.records = self.live.records = Records(
            self.context, call=self.call, root=self.client.root, credential=self.credential
        )

    def begin(self, *, reattach: bool) -> Start:
        """Submit a run, or take up the one that an earlier try has submitted.

        Raises:
            SubmitUncertainError: The answer is lost, and so whether a run exists is not known.
            AnswerError: Nothing was started.
            dagster.Failure: The Dagster run is being terminated, or is over.
        """
        if not reattach:
            return self.submit()
        earlier = self.records.earlier()
        start = self._take_up(earlier) if earlier else None
        unlike = self.records.unlike() if earlier is None else None
        if unlike is not None:
            self.live.log(
                f"An earlier try of this step submitted {unlike.ref or 'a run'} with other arguments, and it may be "
                "alive. Let call give the same on every try, so that a retry takes the run up.",
                logging.WARNING,
            )
        return start or self.submit()

    def submit_after(self, cancelled: Start) -> Start:
        """Submit anew after a run that this step itself has cancelled; raises as :meth:`begin` does."""
        self.live.log(f"{cancelled.ref} is cancelled, as this step had asked; a new run is submitted.")
        return self.submit()

    def submit(self, turn: Turn | None = None, lost: tuple[Intent, float] | None = None) -> Start:
        """Submit a run, when its turn has come; raises as :meth:`begin` does.

        Args:
            turn: A wait for a turn that an earlier try began, and that goes on.
            lost: What was known before a POST that an earlier try may have sent, and for how many seconds its run is
                looked for first.
        """
        repeated = False
        while True:
            intent = lost[0] if lost else self._intent(turn)
            try:
                if lost:
                    return self._find_or_submit(*lost)
                # Its run is looked for where an interrupt may strike, which is not here.
                with suppress(SubmitUncertainError):
                    return self._post(intent, repeated=repeated)
                return self._find_or_submit(intent, self.submit_grace)
            except ConflictError as error:
                refused = error
            settled = self._after_refusal(refused, turn, intent.mark)
            if isinstance(settled, Start):
                return settled
            turn, lost, repeated = settled, None, True

    def _intent(self, turn: Turn | None) -> Intent:
        """What must be known before a POST. What was there before a wait says nothing of what came after it."""
        intent = self.client.list_before_submit(self.call, identity=self.records.identity)
        # Whichever POST of this submission starts a run, it is ours.
        return replace(intent, mark=turn.mark) if turn and turn.mark and intent.mark else intent

    def _after_refusal(self, refused: ConflictError, earlier: Turn | None, mark: str | None) -> Start | Turn:
        """Attach to what is active, or wait until nothing is; an interrupt may strike, and nothing is under way."""
        self.live.lost = None
        if self.rules.on_conflict == "fail":
            raise refused
        if self.rules.on_conflict == "attach":
            return self._attach(turns.the_active(self.provider, refused))
        clock = self.client.clock
        if earlier is None:
            self.client.meter.turn(self.provider.name)
        turn = turns.refused(
            self.provider,
            self.call,
            refused,
            earlier,
            now=clock(),
            until=self.rules.until,
            mark=mark,
            interval=self.rules.interval,
            error_budget=self.rules.error_budget,
            auth_grace=self.rules.auth_grace,
        )
        if turns.is_news(turn, earlier):
            self.live.log(turns.notice(self.provider, turn))
        self._waits(turn)
        flow = turns.await_turn(self.provider, turn, clock=clock, tell=self.live.log, update=self._waits)
        try:
            return self.client.drive(flow)
        except RunopsError:
            # A retry begins anew, with a wait of its own.
            self.records.refused(self.provider.title, failed=self._failed)
            raise

    def _waits(self, turn: Turn) -> None:
        self.records.refused(self.provider.title, turn, failed=self._failed)

    def _attach(self, ref: RunRef) -> Start:
        self.live.attached, self.live.ref = True, ref
        self.records.submitted(ref, self.provider.url(ref), deadline=self.deadline, at=None, attached=True)
        self.live.tag(ref, AWAITED)
        self.live.log(f"{ref} is active already, and is waited for as if it were given{self.live.place(ref)}.")
        return Start(ref, self.deadline, attached=True)

    def _find_or_submit(self, intent: Intent, grace: float) -> Start:
        """The run of a submit that was not answered; a new one only where nothing of that can be alive."""
        self.live.lost = self.call, intent
        duration = f", for up to {grace:.0f} s" if grace else ""
        self.live.log(f"Looking for the run of a submit that was not answered{duration}.", logging.WARNING)
        ref: RunRef | None = None
        with suppress(SubmitUncertainError):
            ref = self.client.find_submitted(
                self.call.parent, intent, adopt_uncertain=self.adopt_uncertain, submit_grace=grace
            )
        if ref is None:
            start = self._post(intent, again=True)
        else:
            start = self._taken_up(Start(ref, self.deadline, submitted_at=time.time()))
            self.live.log(f"Took up {ref}, whose submit was not answered{self.live.place(ref)}.")
        self.live.lost = None
        return start

    def _post(self, intent: Intent, *, again: bool = False, repeated: bool = False) -> Start:
        """Send the POST and record its answer.

        Args:
            intent: What was known before.
            again: Whether an earlier POST of this submission is lost, and was looked for.
            repeated: Whether an earlier POST of this submission was refused, and its turn has come.
        """
        with self.held:
            self.held.may_break = True
            self.held.let_through()
            if not again:
                self.records.submitting(self.provider.title, intent, at=time.time(), repeated=repeated)
            try:
                # After the record: a re-execution starts when this run is over, and then it finds the record.
                refuse_when_over(self.context)
                flow = submission.submit(
                    self.provider,
                    self.call,
                    intent,
                    clock=self.client.clock,
                    lost=again,
                    adopt_uncertain=self.adopt_uncertain and again,
                    grace=0.0,
                    resubmit=again,
                    adopted=partial(self.client.meter.adopted, self.provider.name),
                    until=self.deadline,
                )
                ref = self.client.drive(
                    _noting_what_is_sure(flow, self.held, submission.turned_away(self.provider, self.call))
                )
            except (AnswerError, dg.Failure, *INTERRUPTS) as error:
                # A lost answer is another error: with these no run was started by this POST. Of an earlier one that
                # is lost, only a refusal that comes after the search for it proves the same.
                if not again or isinstance(error, AnswerError):
                    self.records.refused(self.provider.title, failed=self._failed)
                    self.live.lost = None
                raise
            self.live.ref, self.live.taken_up_from = ref, None
            start = Start(ref, self.deadline, submitted_at=time.time())
            self.records.submitted(ref, self.provider.url(ref), deadline=start.deadline, at=start.submitted_at)
            self.live.tag(ref, SUBMITTED)
        self.live.log(f"Submitted {ref}{self.live.place(ref)}.")
        return start

    def _take_up(self, earlier: Attempt) -> Start | None:
        """The earlier run, if it is to be waited for again."""
        if earlier.rejected and self.records.started_by_person_after(earlier):
            self.live.log(f"The earlier {earlier.ref} ended {earlier.ended}; a new run was asked for.")
            return None
        if earlier.turn is not None:
            self._go_on_from(earlier.goes_on_from)
            # Nothing of it is under way; its place in the line and its deadline are those of this Dagster run.
            return self.submit(earlier.turn if self.records.here(earlier) else None)
        if earlier.ref is None:
            left = (earlier.submitted_at or 0.0) + self.submit_grace - time.time()
            return self.submit(lost=(earlier.intent, min(max(left, 0.0), self.submit_grace)))
        self.live.attached = earlier.attached
        self.live.taken_up_from = None if self.records.here(earlier) else earlier.run.run_id
        self.live.ref = ref = earlier.ref
        now = self._read(ref)
        if now is not None and self._is_done_with(earlier, now):
            self.live.log(f"{now.summary().rstrip('.')}; a new run is submitted.")
            if now.outcome is Outcome.FAILED:
                self._go_on_from(ref)
            self.live.ref, self.live.attached, self.live.taken_up_from = None, False, None
            return None
        start = Start(
            ref,
            self.records.deadline_of(earlier) or self.deadline,
            submitted_at=earlier.submitted_at,
            seen=now is not None,
            taken_up=True,
            stopped=earlier.stopped,
            attached=earlier.attached,
        )
        self._taken_up(start)
        before = "attached to" if earlier.attached else "submitted"
        self.live.log(f"Took up {ref} again, which this step had {before} before{self.live.place(ref)}.")
        return start

    def _go_on_from(self, failed: RunRef | None) -> None:
        """Let a retry go on from its own last run: to go on from the first again would repeat what has been done."""
        if failed is not None and self.call.retry_of is not None:
            self.call, self._failed = following(self.provider, self.call, failed), failed

    def _taken_up(self, start: Start) -> Start:
        self.live.ref = ref = start.ref
        self.live.attached = start.attached
        self.records.taken_up(
            ref,
            self.provider.url(ref),
            deadline=start.deadline,
            at=start.submitted_at,
            attached=start.attached,
            before=self.live.taken_up_from,
        )
        self.live.tag(ref, AWAITED if start.attached else SUBMITTED)
        return start

    def _read(self, ref: RunRef) -> RunSnapshot | None:
        """One read; None where it fails: the run may be alive, and the wait has to find out."""
        try:
            return self.client.get(ref)
        except (AnswerError, UnknownStateError):
            return None

    def _is_done_with(self, earlier: Attempt, now: RunSnapshot) -> bool:
        """Whether the earlier run is over in a way that a retry repeats, or in a step that had its success already."""
        if earlier.step_succeeded and now.run_ended:
            return True
        failed = now.outcome is Outcome.FAILED and self.policy.decide(Outcome.FAILED) is Verdict.FAIL
        return failed or (earlier.stopped and now.outcome is Outcome.CANCELLED)


def refuse_when_over(context: _compat.StepContext) -> None:
    """Start nothing for a Dagster run that is terminated or over.

    A retry policy runs a terminated step again, and a step outlives a worker that was killed.

    Raises:
        dagster.Failure: It is.
    """
    status = status_of_run(context)
    if status in (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED):
        raise _over("The Dagster run is being terminated: no run is submitted.")
    if status in OVER:
        raise _over("The Dagster run is over already: no run is submitted.")


def _over(text: str) -> dg.Failure:
    return dg.Failure(description=with_code(text, Code.DAGSTER_RUN_OVER), allow_retries=False)


def status_of_run(context: _compat.StepContext) -> dg.DagsterRunStatus | None:
    """The present status of the step's Dagster run; None where there is none."""
    run = _compat.run_of(context)
    now = context.instance.get_run_by_id(run.run_id) if run else None
    return now.status if now else None


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
