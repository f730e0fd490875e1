"""From how a run ended to what the task should do about it. It knows no host: each host settles a verdict itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TypeVar

from runops.core.model.errors import ConfigurationError
from runops.core.model.run import Outcome

Member = TypeVar("Member", bound=StrEnum)


class Verdict(StrEnum):
    """What to do about an outcome."""

    SUCCEED = "succeed"
    WARN = "warn"
    """Succeed, and say so in a warning."""
    SKIP = "skip"
    """The soft-fail."""
    FAIL = "fail"


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

SOFTENED = frozenset({Outcome.FAILED, Outcome.CANCELLED, Outcome.TIMED_OUT})
"""The outcomes that ``soft_fail=True`` turns into a skip."""


@dataclass(frozen=True)
class OutcomePolicy:
    """A total mapping of outcomes to verdicts.

    Args:
        verdicts: One verdict for each outcome.
    """

    verdicts: Mapping[Outcome, Verdict]

    @classmethod
    def build(
        cls,
        on_outcome: Mapping[str, str] | None = None,
        *,
        provider_verdicts: Mapping[Outcome, Verdict] | None = None,
        soft_fail: bool = False,
    ) -> OutcomePolicy:
        """Defaults, then the provider's, then ``soft_fail``, then the user's own words, which win.

        Args:
            on_outcome: Outcome name to verdict name, for example ``{"degraded": "warn"}``.
            provider_verdicts: What the provider's declaration says.
            soft_fail: Turn failed, cancelled and timed_out into a skip.

        Raises:
            ConfigurationError: A name is unknown, or ``timed_out`` should succeed. Names the allowed ones.
        """
        verdicts = {**DEFAULT_VERDICTS, **(provider_verdicts or {})}
        if soft_fail:
            verdicts |= dict.fromkeys(SOFTENED, Verdict.SKIP)
        if on_outcome is not None:
            if not isinstance(on_outcome, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise ConfigurationError(
                    f"on_outcome must be a mapping such as {{'degraded': 'warn'}}, not {type(on_outcome).__name__}."
                )
            for name, verdict in on_outcome.items():
                verdicts[_member(Outcome, "outcome", name)] = _member(Verdict, "verdict", verdict)
        if verdicts[Outcome.TIMED_OUT] is Verdict.SUCCEED:
            raise ConfigurationError(
                "on_outcome maps timed_out to succeed, but the run has not ended: choose warn, skip or fail."
            )
        return cls(MappingProxyType(verdicts))

    def decide(self, outcome: Outcome) -> Verdict:
        """The verdict for an outcome."""
        return self.verdicts[outcome]


def retry_may_submit(outcome: Outcome) -> bool:
    """Whether a later try of the same task may submit anew after this outcome got a fail verdict.

    Only a run that failed may be repeated: a finding does not go away, a cancellation was somebody's will,
    and after ``timed_out`` the earlier run is still alive.
    """
    return outcome is Outcome.FAILED


def _member(kind: type[Member], what: str, name: object) -> Member:
    try:
        return kind(str(name))
    except ValueError:
        allowed = ", ".join(kind)
        raise ConfigurationError(
            f"on_outcome names the {what} {name!r}, which does not exist; use {allowed}."
        ) from None
