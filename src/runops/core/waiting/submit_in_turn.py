"""A submit with its turns: POST, and where that is refused wait, attach or fail, as the user says.

Each POST has an :class:`Intent` of its own, made right before it: what stood on the list before the wait says nothing
of what came after it. Only the mark stays, since whatever bears it is ours. What a turn is stands in turns.py.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from runops.core.declaration import Call, Provider
from runops.core.model.errors import ConflictError
from runops.core.model.run import RunRef
from runops.core.waiting import submission, turns
from runops.core.waiting.intent import Intent, list_before_submit
from runops.core.waiting.options import DEFAULT_AUTH_GRACE, DEFAULT_ERROR_BUDGET, SUBMIT_GRACE, OnConflict
from runops.core.waiting.steps import Clock, Flow, Sleep
from runops.core.waiting.turns import Turn

logger = logging.getLogger("runops")


@dataclass(frozen=True, kw_only=True, slots=True)
class TurnRules:
    """What a submit does where it is refused.

    Args:
        on_conflict: Wait, attach or fail.
        until: When a wait for a turn ends, in unix seconds.
        interval: As :class:`Turn` takes it.
        error_budget: As :class:`Turn` takes it.
        auth_grace: As :class:`Turn` takes it.
    """

    on_conflict: OnConflict
    until: float
    interval: float | None = None
    error_budget: float = DEFAULT_ERROR_BUDGET
    auth_grace: float = DEFAULT_AUTH_GRACE

    def refused(
        self,
        provider: Provider,
        call: Call,
        conflict: ConflictError,
        earlier: Turn | None,
        *,
        now: float,
        mark: str | None,
    ) -> Turn:
        """The wait for a turn after a refusal, which is told where that is news.

        Raises:
            ConflictError: It is over.
        """
        turn = turns.refused(
            provider,
            call,
            conflict,
            earlier,
            now=now,
            until=self.until,
            mark=mark,
            interval=self.interval,
            error_budget=self.error_budget,
            auth_grace=self.auth_grace,
        )
        if turns.is_news(turn, earlier):
            logger.info("%s", turns.notice(provider, turn))
        return turn


@dataclass(frozen=True, kw_only=True, slots=True)
class SubmitEvents:
    """Whom a submit informs, so that a host can record each step. What one of them raises ends the submit.

    Args:
        before: Given what is known right before each POST.
        waiting: Given the wait for a turn, once it begins and when another run is in the way.
        attached: Given the active run that is taken as if it were given.
        adopted: Called where the run of a submit that was not answered is found.
    """

    before: Callable[[Intent], None] | None = None
    waiting: Callable[[Turn], None] | None = None
    attached: Callable[[RunRef], None] | None = None
    adopted: Callable[[], None] | None = None


def submit_in_turn(
    provider: Provider,
    call: Call,
    rules: TurnRules,
    events: SubmitEvents,
    *,
    clock: Clock,
    intent: Intent | None = None,
    turn: Turn | None = None,
    identity: str | None = None,
    mark_runs: bool = True,
    adopt_uncertain: bool = False,
    grace: float = SUBMIT_GRACE,
    resubmit: bool = True,
) -> Flow[RunRef]:
    """Start a run once, when its turn has come; or attach to the one in its way.

    Args:
        provider: The provider.
        call: What to start.
        rules: What is done where it is refused.
        events: Whom to inform.
        clock: Where the flow reads the time.
        intent: What was known before a POST that an earlier process may have sent: then its run is looked for first.
        turn: A wait for a turn that goes on.
        identity: As :func:`list_before_submit` takes it.
        mark_runs: As :func:`list_before_submit` takes it.
        adopt_uncertain: As :func:`submission.submit` takes it, like what follows.
        grace: Seconds.
        resubmit: Whether one more POST may follow a lost one.

    Raises:
        ConflictError: Something is active there, and it is not waited for, or was for long enough.
        SubmitUncertainError: The answer is lost, and so whether a run exists is not known.
        AnswerError: Nothing was started.
    """
    lost = intent is not None
    waiting = events.waiting or _nothing
    while True:
        if intent is None:
            mark = turn.mark if turn else None
            intent = yield from list_before_submit(provider, call, identity=identity, mark_runs=mark_runs, mark=mark)
            if events.before is not None:
                # A large list may have been read in a thread: what a host does here belongs to its own.
                yield Sleep(0.0)
                events.before(intent)
        try:
            return (
                yield from submission.submit(
                    provider,
                    call,
                    intent,
                    clock=clock,
                    lost=lost,
                    adopt_uncertain=adopt_uncertain,
                    grace=grace,
                    resubmit=resubmit,
                    adopted=events.adopted,
                    until=rules.until,
                )
            )
        except ConflictError as error:
            conflict = error
        if rules.on_conflict == "fail":
            raise conflict
        if rules.on_conflict == "attach":
            return _attached(provider, conflict, events)
        turn = rules.refused(provider, call, conflict, turn, now=clock(), mark=intent.mark)
        waiting(turn)
        if conflict.retry_after:
            yield Sleep(max(min(conflict.retry_after, turn.until - clock()), 0.0))
        turn = yield from turns.await_turn(provider, turn, clock=clock, update=waiting)
        intent, lost = None, False


def _attached(provider: Provider, conflict: ConflictError, events: SubmitEvents) -> RunRef:
    ref = turns.the_active(provider, conflict)
    logger.info("%s is active there already, and is waited for as if it were given.", ref)
    if events.attached is not None:
        events.attached(ref)
    return ref


def _nothing(turn: Turn) -> None:
    """For whom no wait is news."""
