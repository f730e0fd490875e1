"""One run of a set, from the plan to its end: what is recorded of it. It holds no payload and no secret. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Literal, Self

from runops.core.declaration import Provider
from runops.core.model import errors
from runops.core.model.codes import text_of
from runops.core.model.policy import Judgement, Verdict, retry_may_submit
from runops.core.model.redaction import cut
from runops.core.model.run import EndedBy, Outcome, RunRef, RunSnapshot
from runops.core.waiting.intent import Intent
from runops.core.waiting.turns import Turn

NO_PARENTS: Mapping[str, str] = MappingProxyType({})
MOST_IDS = 5
"""Ids that a marked submit records: its mark is what proves whose a run is."""
StoppedBy = Literal["stop_early", "killed"]
"""Why this side has given a run up whose end it has not seen."""


class RowState(StrEnum):
    """Where a run of a set stands."""

    PLANNED = "planned"
    """Nothing of it was sent."""
    AWAITING_TURN = "awaiting turn"
    """Its POST was refused because something is active there: nothing of it is under way."""
    SUBMITTING = "submitting"
    """Its POST may have been sent, and its answer is not known."""
    SUBMITTED = "submitted"
    """It is ours, and is waited for."""
    ATTACHED = "attached"
    """It is another's, or was given, and is waited for: it is never cancelled."""
    ENDED = "ended"
    """Its wait is over: by an outcome, or because this side has given it up."""
    REFUSED = "refused"
    """Its submit has failed, and surely started nothing."""
    UNCLEAR = "unclear"
    """The answer to its submit is lost, and so whether it exists."""
    UNREAD = "unread"
    """It is known, and could not be read for too long."""


OVER = frozenset({RowState.ENDED, RowState.REFUSED, RowState.UNCLEAR, RowState.UNREAD})
"""The states in which nothing more is done about a run in this try."""
RUNNING = frozenset({RowState.SUBMITTED, RowState.ATTACHED})
"""The states in which a run is waited for."""


def _passing_errors() -> frozenset[str]:
    """The names of the errors after which another try may fare better."""
    found: set[str] = {errors.PollingError.__name__, errors.ConflictError.__name__}
    kinds = [errors.TransientError]
    while kinds:
        kind = kinds.pop()
        found.add(kind.__name__)
        kinds += kind.__subclasses__()
    return frozenset(found)


PASSING = _passing_errors()


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One run of a set.

    Args:
        index: Its place in the list that the user gave.
        key: What it is known by when the list is rendered again: the fingerprint of its call, or the run's id.
        state: Where it stands.
        run_id: The run's id, once it is known.
        parents: What the run's address needs beside its id; of a submit whose answer is not known, the parent whose
            list shows its run.
        intent: What was known before the POST whose answer is not known.
        turn: The wait for a turn.
        submitted_at: When the run was submitted, or was about to be, in unix seconds, where that is known.
        attached: Whether the run is another's, so that it is never cancelled.
        stopped: Whether this side has asked the service to cancel it.
        outcome: How the run, or the wait for it, ended.
        verdict: What was decided about that.
        spend: What the run has spent, in the provider's unit, where it is known.
        spent_before: What earlier runs of this row have spent.
        ended_by: What ended the wait, where the run has not.
        reason: Why it ended so: one cleaned line of at most 200 characters.
        url: The run's page, where it did not end well and its address alone does not tell the page.
        error: The name of the error that ended it, where there was one.
    """

    index: int
    key: str
    state: RowState = RowState.PLANNED
    run_id: str | None = None
    parents: Mapping[str, str] = field(default_factory=lambda: NO_PARENTS)
    intent: Intent | None = None
    turn: Turn | None = None
    submitted_at: float | None = None
    attached: bool = False
    stopped: bool = False
    outcome: Outcome | None = None
    verdict: Verdict | None = None
    spend: float | None = None
    spent_before: float = 0.0
    ended_by: EndedBy | StoppedBy | None = None
    reason: str | None = None
    url: str | None = None
    error: str | None = None

    # --- what it says ---

    @property
    def is_over(self) -> bool:
        """Whether nothing more is done about it in this try."""
        return self.state in OVER

    @property
    def is_running(self) -> bool:
        """Whether it is waited for."""
        return self.state in RUNNING

    @property
    def spent(self) -> float:
        """What this run and the earlier ones of its row have spent, as far as that is known."""
        return (self.spend or 0.0) + self.spent_before

    @property
    def may_be_alive(self) -> bool:
        """Whether a run of it may go on at the service, as far as the row says."""
        if self.state in (RowState.PLANNED, RowState.AWAITING_TURN, RowState.REFUSED):
            return False
        return self.state is not RowState.ENDED or self.outcome in (None, Outcome.TIMED_OUT)

    @property
    def ours_to_cancel(self) -> bool:
        """Whether its run is ours, may go on, and was not cancelled yet."""
        return bool(self.run_id) and self.may_be_alive and not self.attached and not self.stopped

    @property
    def good(self) -> bool:
        """Whether it counts for what is required of the set."""
        return self.verdict in (Verdict.SUCCEED, Verdict.WARN, Verdict.SKIP)

    @property
    def retry_may_change(self) -> bool:
        """Whether a retry of the task may bring it to another end: by a new run, or by waiting for the same again."""
        match self.state:
            case RowState.ENDED if self.outcome is None or self.outcome is Outcome.TIMED_OUT:
                return True
            case RowState.ENDED:
                return self.fails_anew
            case RowState.REFUSED | RowState.UNREAD:
                return self.error in PASSING
            case RowState.UNCLEAR:
                return self.intent is not None and self.intent.mark is not None
            case _:
                return True

    @property
    def fails_anew(self) -> bool:
        """Whether a retry submits it again: its run has failed, and that was a failure of the task."""
        return self.verdict is Verdict.FAIL and self.outcome is not None and retry_may_submit(self.outcome)

    def ref(self, provider: str) -> RunRef | None:
        """The address of its run, once that is known.

        Args:
            provider: The provider's name.
        """
        return (
            None if self.run_id is None else RunRef(provider=provider, run_id=self.run_id, parents=dict(self.parents))
        )

    # --- what becomes of it ---

    def submitting(self, intent: Intent, at: float, parent: Mapping[str, str] = NO_PARENTS) -> Self:
        """Right before its POST. Where its answer is lost, the list of the parent is what shows its run."""
        if intent.mark and intent.ids_before is not None and len(intent.ids_before) > MOST_IDS:
            intent = replace(intent, ids_before=None)
        return replace(
            self,
            state=RowState.SUBMITTING,
            intent=intent,
            turn=None,
            submitted_at=round(at, 1),
            parents=dict(parent) or NO_PARENTS,
        )

    def awaiting(self, turn: Turn) -> Self:
        """Its POST was refused, and its turn is waited for."""
        return replace(self, state=RowState.AWAITING_TURN, turn=turn, intent=None, submitted_at=None)

    def submitted(self, ref: RunRef, at: float | None, *, attached: bool = False) -> Self:
        """Its run is known."""
        return replace(
            self,
            state=RowState.ATTACHED if attached else RowState.SUBMITTED,
            run_id=ref.run_id,
            parents=dict(ref.parents) or NO_PARENTS,
            submitted_at=None if at is None else round(at, 1),
            attached=attached,
            intent=None,
            turn=None,
        )

    def ended(self, snapshot: RunSnapshot, judgement: Judgement, provider: Provider) -> Self:
        """Its wait is over, with an outcome."""
        spend = provider.spend.of(snapshot.details) if provider.spend else None
        return replace(
            self,
            state=RowState.ENDED,
            outcome=judgement.outcome,
            verdict=judgement.verdict,
            spend=self.spend if spend is None else spend,
            ended_by=snapshot.ended_by,
            reason=_why(snapshot, judgement),
            # Of each run that ended well it would make the record half as large again.
            url=snapshot.url
            if judgement.verdict is Verdict.FAIL and snapshot.url != provider.url(snapshot.ref)
            else None,
        )

    def failed(self, error: Exception) -> Self:
        """An error has ended it."""
        if self.run_id is not None:
            state = RowState.UNREAD
        else:
            state = RowState.UNCLEAR if isinstance(error, errors.SubmitUncertainError) else RowState.REFUSED
        intent = self.intent if state is RowState.UNCLEAR else None
        kind = type(error).__name__
        return replace(self, state=state, intent=intent, turn=None, error=kind, reason=cut(text_of(error)))

    def spending(self, spend: float) -> Self:
        """Its run has spent so much by now."""
        return replace(self, spend=spend)

    def cancelled(self) -> Self:
        """The service took our request to cancel its run."""
        return replace(self, stopped=True)

    def given_up(self, by: StoppedBy, *, cancelled: bool) -> Self:
        """This side waits for it no more; with ``cancelled`` it has asked the service to cancel it."""
        return replace(self, state=RowState.ENDED, ended_by=by, stopped=self.stopped or cancelled)

    def planned_anew(self) -> Self:
        """Nothing of it is left but what it has spent."""
        return type(self)(index=self.index, key=self.key, spent_before=self.spent)

    def waited_for_again(self) -> Self:
        """Its run is known, and a new try waits for it."""
        state = RowState.ATTACHED if self.attached else RowState.SUBMITTED
        return replace(self, state=state, outcome=None, verdict=None, ended_by=None, reason=None, error=None, url=None)


def _why(snapshot: RunSnapshot, judgement: Judgement) -> str | None:
    """What a person has to know of an end that is no plain success."""
    if judgement.unmet:
        return cut(f"{judgement.because}{': ' + snapshot.reason if snapshot.reason else ''}")
    return snapshot.reason if judgement.outcome is not Outcome.SUCCEEDED else None
