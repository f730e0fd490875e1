"""A process that dies at each step of a submit and a wait, and another one that takes up what it has recorded.

A step is an effect of the flow (:mod:`runops.core.waiting.steps`): a death before it, and one after its reply came.
What is recorded is what every host records: the intent before the POST, and the run once its id is known.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass
from typing import Any

from runops.conformance.clients import SIDES, Stage, Stages, wait_for
from runops.conformance.facts import Facts
from runops.conformance.report import Finding
from runops.conformance.submits import GRACE, bears_mark, call_of
from runops.core.declaration import Call, Provider
from runops.core.model.errors import ConflictError, RunopsError, SubmitUncertainError
from runops.core.model.run import RunRef, RunSnapshot
from runops.core.waiting.intent import Intent
from runops.core.waiting.steps import Clock, Effect, Flow, Send, intercept
from runops.core.waiting.submit_in_turn import SubmitEvents, TurnRules, submit_in_turn

MOST_MOMENTS = 200


class Died(BaseException):
    """The process is gone."""


@dataclass
class Record:
    """What a host keeps of a submit, outside of the process.

    Args:
        intent: What was known before the POST.
        ref: The run, once its id is known.
        posted: Whether a POST was on its way.
    """

    intent: Intent | None = None
    ref: RunRef | None = None
    posted: bool = False

    def before(self, intent: Intent) -> None:
        """Keep the intent, as JSON would keep it."""
        self.intent = Intent.from_dict(intent.to_dict())


def kills(facts: Facts, stages: Stages) -> tuple[list[Finding], int]:
    """Each moment of a life, in both clients: the next process ends it right, and starts no second run."""
    call = call_of(facts)
    if call is None or not facts.phases or not facts.ends:
        return [], 0
    found: list[Finding] = []
    tried = 0
    for side in SIDES:
        for moment in range(MOST_MOMENTS):
            stage = stages.new(side, call, refuses_second=facts.refuses_second)
            record = Record()
            if not _lived(stage, call, record, moment):
                break
            tried += 1
            found += _taken_up(facts, stage, call, record, moment)
    return found, tried


def _lived(stage: Stage, call: Call, record: Record, moment: int) -> bool:
    """Live until a moment; whether the process died before the end."""
    death: type[BaseException] = Died if stage.side == "sync" else asyncio.CancelledError
    try:
        stage.drive(lambda provider, clock: _dying(_life(provider, call, record, clock), record, moment, death))
    except (Died, asyncio.CancelledError):
        return True
    except RunopsError:
        # How a life without a death ends is told by the other checks.
        return False
    return False


def _dying(flow: Flow[Any], record: Record, moment: int, death: type[BaseException]) -> Flow[Any]:
    moments = itertools.count()

    def handle(effect: Effect) -> Flow[Any]:
        if next(moments) == moment:
            raise death
        record.posted = record.posted or (isinstance(effect, Send) and effect.fresh)
        reply = yield effect
        if next(moments) == moment:
            raise death
        return reply

    return intercept(flow, handle)


def _life(provider: Provider, call: Call, record: Record, clock: Clock) -> Flow[RunSnapshot]:
    """Submit unless that is done, and wait to the end."""
    if record.ref is None:
        rules = TurnRules(on_conflict="fail", until=clock() + GRACE)
        events = SubmitEvents(before=record.before)
        record.ref = yield from submit_in_turn(
            provider, call, rules, events, clock=clock, intent=record.intent, identity="conformance", grace=GRACE
        )
    return (yield from wait_for(provider, record.ref, clock))


def _taken_up(facts: Facts, stage: Stage, call: Call, record: Record, moment: int) -> list[Finding]:
    """What the next process makes of it."""
    known = record.ref is not None
    try:
        end: Any = stage.drive(lambda provider, clock: _life(provider, call, record, clock))
    except RunopsError as error:
        end = error
    service = stage.service
    when = f"killed at step {moment // 2 + 1}, {'after' if moment % 2 else 'before'} it"
    advice = "Mend submit (run_id, mark, one_at_a_time, parent of its Call) so that the run is found again"
    problem = ""
    if len(service.started) > 1:
        problem = f"{when}, the next process has started a second run"
    elif isinstance(end, RunSnapshot):
        if end.ref.run_id not in service.started or end.outcome is not facts.ends[0].meaning:
            problem = f"{when}, the next process ends as {end.outcome}, on another run or in another way"
    elif service.started and bears_mark(facts):
        problem = f"{when}, the run bears the mark of its submit, and the next process does not find it by that"
    elif known:
        problem = f"{when}, the run was known, and the next process ends with {type(end).__name__}"
    elif not isinstance(end, (SubmitUncertainError, ConflictError)) or record.intent is None:
        problem = f"{when}, the next process ends with {type(end).__name__}"
    return [Finding("kills", "submit", problem, advice)] if problem else []
