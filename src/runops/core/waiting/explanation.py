"""Why a run got, or would get, its verdict: the word, what it means, what was expected, and the rule. It is pure.

The verdict itself is that of :meth:`OutcomePolicy.judge`, which every host asks, so that this cannot tell otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runops.core.declaration import Observation, Provider
from runops.core.model.policy import EXPECTED_OF, Judgement, OutcomePolicy
from runops.core.model.run import Outcome, RunSnapshot
from runops.core.waiting.limits import WaitProgress, reached
from runops.core.waiting.options import WaitOptions
from runops.core.waiting.state import settled, timed_out


@dataclass(frozen=True)
class VerdictExplanation:
    """What one read of a run says of its verdict.

    Args:
        snapshot: The run; where it has reached a limit, as the end of the wait.
        word: Its word with its qualifier, as the table of states spells it.
        source: Where the word's meaning stands: ``documented``, ``taught`` or ``unknown``.
        judgement: The verdict and its rule; None while the run goes on.
        if_timed_out: What they would be if a clock ended the wait now.
        lines: The same for people.
    """

    snapshot: RunSnapshot
    word: str
    source: str
    judgement: Judgement | None
    if_timed_out: Judgement
    lines: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON primitives: the result that a task gives, and why it is that one."""
        judgement = self.judgement
        result = self.snapshot.to_result() if judgement is None else judgement.result(self.snapshot)
        return {
            **result,
            "word": self.word,
            "word_is": self.source,
            "rule": None if judgement is None else judgement.rule.value,
            "because": None if judgement is None else judgement.because,
            "if_timed_out": {
                "verdict": self.if_timed_out.verdict.value,
                "rule": self.if_timed_out.rule.value,
                "because": self.if_timed_out.because,
            },
        }


def explain_verdict(
    provider: Provider, observation: Observation, policy: OutcomePolicy, options: WaitOptions, now: float
) -> VerdictExplanation:
    """Say which rule gives which verdict on a run, by one read of it.

    Args:
        provider: The run's, with the words that were taught.
        observation: What was read, with the details that are expected.
        policy: The verdicts.
        options: The limits. Those that count time are judged by what the provider tells: since when a run is paused,
            and when it was last updated.
        now: The present, in unix seconds.
    """
    reading, ended_at = observation.reading, observation.snapshot.finished_at
    snapshot = settled(observation, now - ended_at.timestamp() if ended_at else 0.0)
    source = "taught" if reading.taught else "documented" if reading.known else "unknown"
    lines = [snapshot.summary(), _word(reading.full_state, source, snapshot, provisional=reading.grace_seconds)]
    if snapshot.outcome in EXPECTED_OF:
        lines += _expected(policy, snapshot)
    over = timed_out(provider, snapshot.ref, snapshot, "timeout")
    if snapshot.outcome is None:
        past = WaitProgress(began=0.0)
        past.take_in(observation, snapshot, now)
        limit = reached(provider, options, past, snapshot, now)
        if limit is not None:
            snapshot = timed_out(provider, snapshot.ref, snapshot, limit.ended_by, figure=limit.figure)
            lines.append(f"{limit.ended_by} ends the wait: {limit.figure}")
    judgement = None if snapshot.outcome is None else policy.judge(snapshot)
    if_timed_out = policy.judge(over if snapshot.outcome is not Outcome.TIMED_OUT else snapshot)
    if judgement is None:
        lines.append(f"no verdict yet: the run goes on; if a clock ends the wait, {_verdict(if_timed_out)}")
    else:
        lines.append(_verdict(judgement))
    return VerdictExplanation(snapshot, reading.full_state, source, judgement, if_timed_out, tuple(lines))


def _word(word: str, source: str, snapshot: RunSnapshot, *, provisional: float | None) -> str:
    where = {
        "documented": "the provider documents it",
        "taught": "states says so",
        "unknown": "no documentation has it, so it counts as running until the deadline",
    }[source]
    later = "" if provisional is None or snapshot.run_ended else f", for up to {provisional:g} s"
    return f"{word!r} means {snapshot.status}{later}: {where}"


def _expected(policy: OutcomePolicy, snapshot: RunSnapshot) -> list[str]:
    """What was expected, and what was found."""
    unmet = policy.expect.unmet(snapshot.details)
    lines: list[str] = []
    for name, condition in policy.expect.conditions.items():
        found = snapshot.details.get(name)
        shown = "it is missing" if found is None else f"found {found!r}"
        lines.append(f"expect {name} {condition}: {shown}, {'not met' if name in unmet else 'met'}")
    return lines


def _verdict(judgement: Judgement) -> str:
    return f"verdict {judgement.verdict} by the rule {judgement.rule}: {judgement.because}"
