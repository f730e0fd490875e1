"""From how a run ended to what the task should do about it. It knows no host: each host settles a verdict itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Self, TypedDict, TypeVar, cast

from runops.core.model.codes import Code
from runops.core.model.errors import ConfigurationError
from runops.core.model.expectation import (
    NOTHING,
    Condition,
    ConditionDict,
    DetailKind,
    Expectations,
    in_words,
)
from runops.core.model.refusal import nearest
from runops.core.model.run import Outcome, RunResult, RunSnapshot, Unmet

Member = TypeVar("Member", bound=StrEnum)


class Verdict(StrEnum):
    """What to do about an outcome."""

    SUCCEED = "succeed"
    WARN = "warn"
    """Succeed, and say so in a warning."""
    SKIP = "skip"
    """The soft-fail."""
    FAIL = "fail"


class Rule(StrEnum):
    """What has given a verdict."""

    DEFAULT = "default"
    PROVIDER = "provider"
    """The declaration of the provider departs from the default."""
    SOFT_FAIL = "soft_fail"
    ON_OUTCOME = "on_outcome"
    EXPECT = "expect"
    """The run did not meet what was expected of its details; the verdict is that of ``on_unmet``."""
    EXECUTION_TIMEOUT = "execution_timeout"
    """The host's own clock for a try, which always fails it."""


DEFAULT_VERDICTS: Mapping[Outcome, Verdict] = MappingProxyType(
    {
        Outcome.SUCCEEDED: Verdict.SUCCEED,
        Outcome.DEGRADED: Verdict.SKIP,
        Outcome.EXHAUSTED: Verdict.SKIP,
        Outcome.FAILED: Verdict.FAIL,
        Outcome.CANCELLED: Verdict.FAIL,
        Outcome.TIMED_OUT: Verdict.FAIL,
    }
)
"""The verdict on each outcome where neither the provider nor a user says otherwise."""

SOFTENED = frozenset({Outcome.FAILED, Outcome.CANCELLED, Outcome.TIMED_OUT})
"""The outcomes that ``soft_fail=True`` turns into a skip."""

EXPECTED_OF = frozenset({Outcome.SUCCEEDED, Outcome.DEGRADED})
"""The outcomes of runs whose details ``expect`` looks at: those that have something to show."""


@dataclass(frozen=True)
class Judgement:
    """A verdict, and why it is that one.

    Args:
        outcome: How the run, or the wait for it, ended.
        verdict: What to do about it.
        rule: What has given the verdict.
        unmet: Which expectations were not met, by the name of the detail.
    """

    outcome: Outcome
    verdict: Verdict
    rule: Rule
    unmet: Mapping[str, Unmet] = field(default_factory=dict[str, Unmet])

    @property
    def because(self) -> str:
        """The rule in words, as what comes behind "because"."""
        says = f"says {self.verdict} for {self.outcome}"
        return {
            Rule.DEFAULT: f"the verdict on {self.outcome} is {self.verdict}",
            Rule.SOFT_FAIL: f"the verdict on {self.outcome} is {self.verdict}",
            Rule.PROVIDER: f"the provider's declaration {says}",
            Rule.ON_OUTCOME: f"on_outcome {says}",
            Rule.EXPECT: f"expect is not met ({in_words(self.unmet)}) and on_unmet says {self.verdict}",
            Rule.EXECUTION_TIMEOUT: "execution_timeout is over, which always fails a try",
        }[self.rule]

    @property
    def code(self) -> Code | None:
        """The code that ends what people read of this end; None where the task or step just succeeds."""
        if self.rule is Rule.EXECUTION_TIMEOUT:
            return Code.EXECUTION_TIMEOUT
        return code_of(self.outcome, self.verdict, unmet=bool(self.unmet))

    def result(self, snapshot: RunSnapshot) -> RunResult:
        """The last snapshot with the verdict on it, as plain data."""
        return snapshot.to_result(self.verdict, self.unmet)


class PolicyDict(TypedDict, total=False):
    """An :class:`OutcomePolicy` as JSON primitives: what lets another process judge. Keys are only ever added."""

    verdicts: dict[str, str]
    """Of every outcome, so that a default that a later version changes changes nothing for a task under way."""
    rules: dict[str, str]
    """What has given a verdict, where that is not the default."""
    expect: dict[str, ConditionDict]
    on_unmet: str


@dataclass(frozen=True)
class OutcomePolicy:
    """A total mapping of outcomes to verdicts, and what is expected of the details of a run that ended well.

    Args:
        verdicts: One verdict for each outcome.
        rules: What has given it, where that is not the default.
        expect: What a succeeded or degraded run must show.
        on_unmet: The verdict on one that does not.
    """

    verdicts: Mapping[Outcome, Verdict]
    rules: Mapping[Outcome, Rule] = field(default_factory=dict[Outcome, Rule])
    expect: Expectations = NOTHING
    on_unmet: Verdict = Verdict.FAIL

    @classmethod
    def build(
        cls,
        on_outcome: Mapping[str, str] | None = None,
        *,
        provider_verdicts: Mapping[Outcome, Verdict] | None = None,
        soft_fail: bool = False,
        expect: object = None,
        on_unmet: str = Verdict.FAIL,
        kinds: Mapping[str, DetailKind] | None = None,
        title: str = "a run",
    ) -> OutcomePolicy:
        """Defaults, then the provider's, then ``soft_fail``, then the user's own words, which win.

        Args:
            on_outcome: Outcome name to verdict name, for example ``{"degraded": "warn"}``.
            provider_verdicts: What the provider's declaration says.
            soft_fail: Turn failed, cancelled and timed_out into a skip.
            expect: Detail to what it is to be; see :meth:`Expectations.build`.
            on_unmet: The verdict on a succeeded or degraded run that does not meet it, whatever ``on_outcome`` says.
            kinds: The details of the provider's runs; None where it is not known yet whose they are.
            title: The provider's title.

        Raises:
            ConfigurationError: A name is unknown, or ``timed_out`` should succeed. Names the allowed ones.
        """
        if not isinstance(soft_fail, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(f"soft_fail must be True or False, not {str(soft_fail)[:80]!r}.")
        verdicts = {**DEFAULT_VERDICTS, **(provider_verdicts or {})}
        rules = dict.fromkeys(provider_verdicts or {}, Rule.PROVIDER)
        if soft_fail:
            verdicts |= dict.fromkeys(SOFTENED, Verdict.SKIP)
            rules |= dict.fromkeys(SOFTENED, Rule.SOFT_FAIL)
        if on_outcome is not None:
            if not isinstance(on_outcome, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise ConfigurationError(
                    f"on_outcome must be a mapping such as {{'degraded': 'warn'}}, not {type(on_outcome).__name__}."
                )
            for name, verdict in on_outcome.items():
                outcome = _member(Outcome, "on_outcome names the outcome", name)
                verdicts[outcome] = _member(Verdict, "on_outcome names the verdict", verdict)
                rules[outcome] = Rule.ON_OUTCOME
        if verdicts[Outcome.TIMED_OUT] is Verdict.SUCCEED:
            raise ConfigurationError(
                "on_outcome maps timed_out to succeed, but the run has not ended: choose warn, skip or fail."
            )
        return cls(
            MappingProxyType(verdicts),
            MappingProxyType(rules),
            Expectations.build(expect, kinds, title=title),
            _member(Verdict, "on_unmet names the verdict", on_unmet),
        )

    def to_dict(self) -> PolicyDict:
        """JSON primitives that :meth:`from_dict` reads. They hold no secret and no payload."""
        made = PolicyDict(
            verdicts={str(outcome): str(verdict) for outcome, verdict in self.verdicts.items()},
            on_unmet=str(self.on_unmet),
        )
        if self.rules:
            made["rules"] = {str(outcome): str(rule) for outcome, rule in self.rules.items()}
        if self.expect.conditions:
            made["expect"] = {name: each.to_dict() for name, each in self.expect.conditions.items()}
        return made

    @classmethod
    def from_dict(cls, value: object) -> Self:
        """Read what :meth:`to_dict` wrote, in this version or another one.

        What is missing is as the defaults say. What a later version has added is left out where it only explains
        (keys, rules, outcomes); a verdict or a condition that this version does not know is refused, since a run
        would be judged by something else than the task says.

        Raises:
            ConfigurationError: It is no policy, or holds such a verdict or condition.
        """
        if not isinstance(value, Mapping):
            raise ConfigurationError(f"This is no policy: it is of the type {type(value).__name__}.")
        given = cast("Mapping[str, Any]", value)
        verdicts = {
            Outcome(name): _member(Verdict, "The policy names the verdict", verdict)
            for name, verdict in _section(given, "verdicts").items()
            if name in set(Outcome)
        }
        rules = {
            Outcome(name): Rule(rule)
            for name, rule in _section(given, "rules").items()
            if name in set(Outcome) and rule in set(Rule)
        }
        conditions = {name: Condition.from_dict(each) for name, each in _section(given, "expect").items()}
        return cls(
            MappingProxyType({**DEFAULT_VERDICTS, **verdicts}),
            MappingProxyType(rules),
            Expectations(conditions),
            _member(Verdict, "The policy's on_unmet names the verdict", given.get("on_unmet", Verdict.FAIL)),
        )

    def decide(self, outcome: Outcome) -> Verdict:
        """The verdict for an outcome, as far as the outcome alone says it; :meth:`judge` is the whole."""
        return self.verdicts[outcome]

    def judge(self, snapshot: RunSnapshot) -> Judgement:
        """The verdict on the last snapshot of a wait, and what has given it. All hosts and the command line ask this.

        Args:
            snapshot: It has an outcome; one without stands for a wait that a clock has ended.
        """
        outcome = snapshot.outcome or Outcome.TIMED_OUT
        if snapshot.ended_by == "execution_timeout":
            # Whoever set it wants the try to end, and another one to follow: that is no soft matter.
            return Judgement(outcome, Verdict.FAIL, Rule.EXECUTION_TIMEOUT)
        unmet = self.expect.unmet(snapshot.details) if outcome in EXPECTED_OF else {}
        if unmet:
            return Judgement(outcome, self.on_unmet, Rule.EXPECT, unmet)
        return Judgement(outcome, self.verdicts[outcome], self.rules.get(outcome, Rule.DEFAULT))


def code_of(outcome: Outcome, verdict: Verdict, *, unmet: bool = False) -> Code | None:
    """The code of an end, whatever rule gave the verdict; :attr:`Judgement.code` is the whole.

    Args:
        outcome: How the run, or the wait for it, ended.
        verdict: What to do about it.
        unmet: Whether it did not meet what was expected of it.
    """
    if verdict is Verdict.SUCCEED:
        return None
    if unmet:
        return Code.EXPECT_UNMET
    of_failures = {
        Outcome.FAILED: Code.RUN_FAILED,
        Outcome.CANCELLED: Code.RUN_CANCELLED,
        Outcome.TIMED_OUT: Code.RUN_TIMED_OUT,
    }
    if verdict is Verdict.WARN:
        return Code.RUN_WARNED
    if verdict is Verdict.SKIP:
        return Code.SOFT_FAILED if outcome in SOFTENED else Code.RUN_SKIPPED
    return of_failures.get(outcome, Code.RUN_REJECTED)


def retry_may_submit(outcome: Outcome) -> bool:
    """Whether a later try of the same task may submit anew after this outcome got a fail verdict.

    Only a run that failed may be repeated: a finding does not go away, a cancellation was somebody's will,
    and after ``timed_out`` the earlier run is still alive.
    """
    return outcome is Outcome.FAILED


def _section(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section: object = value.get(name) or {}
    if not isinstance(section, Mapping):
        raise ConfigurationError(f"This is no policy: {name} is of the type {type(section).__name__}.")
    return cast("Mapping[str, Any]", section)


def _member(kind: type[Member], what: str, name: object) -> Member:
    try:
        return kind(str(name))
    except ValueError:
        allowed = ", ".join(kind)
        raise ConfigurationError(
            f"{what} {name!r}, which does not exist; use {allowed}.{nearest(name, list(kind))}",
            error_code=Code.UNKNOWN_NAME,
        ) from None
