"""The limits of a wait that a run itself reaches: paused for too long, without any change, or too much spent. Pure.

A clock that runs since a look is written down with the moment of that look, and read again after a restart. Whether a
run has stalled is told by its :func:`signature`: where it is the same after the restart, nothing has changed meanwhile,
and the clock goes on from where it stood; where it is another one, the run has moved, and the clock begins at the
provider's own time of the change, or at the first look after the restart where it tells none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any, Literal, NamedTuple, Self

from runops.core.declaration import Observation, Provider
from runops.core.model.run import PAUSED_OR_WAITING, RunSnapshot
from runops.core.waiting.options import WaitOptions

FRESH = 60.0
"""Seconds for which a clock that runs since a look may be taken over: later, other looks may have stopped it."""


class Reached(NamedTuple):
    """A limit that a run has reached."""

    ended_by: Literal["max_paused", "max_stalled", "max_spend"]
    figure: str
    """The limit and what was found, as a part of a sentence."""


@dataclass(kw_only=True, slots=True)
class WaitProgress:
    """What a wait has learnt so far, so that it can go on from there in another process.

    Args:
        began: When the wait began, in unix seconds; None until it does.
        seen: Whether the run was seen.
        failing_since: Since when reads fail; None while they succeed. All these moments are unix seconds.
        parked_since: Since when the run is paused or waiting, but not before the wait began.
        provisional_since: Since when the run stands in a word that needs time to settle.
        changed_at: When the run was last seen to change, but not before the wait began.
        signature: What it showed then; see :func:`signature`.
        resumed: Whether changes may have been missed since, between two processes.
        refused_since: Since when the key is refused; None while it is accepted.
        accepted: Whether the key was accepted before, in a process whose reads are not on record.
    """

    began: float | None = None
    seen: bool = False
    failing_since: float | None = None
    parked_since: float | None = None
    provisional_since: float | None = None
    changed_at: float | None = None
    signature: str | None = None
    resumed: bool = False
    refused_since: float | None = None
    accepted: bool = False

    def may_be_accepted(self, grace: float, now: float) -> bool:
        """Whether a key that is refused now is still waited for.

        Args:
            grace: Seconds for which it may be refused.
            now: In unix seconds.
        """
        was_accepted = self.seen or self.accepted
        return was_accepted and self.refused_since is not None and now < self.refused_since + grace

    def to_dict(self, now: float) -> dict[str, Any]:
        """JSON primitives that :meth:`from_dict` reads."""
        return {**asdict(self), "as_of": now}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any] | None, now: float) -> Self:
        """Read what :meth:`to_dict` wrote; nothing is a wait that begins.

        What is written down once may be read again and again, at each restart of a process. That a run was seen
        stays true for ever; a clock that ran then is let go when it is no longer :data:`FRESH`, because the run may
        have moved since. So a clock may begin anew with a restart, and never ends a wait too early. The one of a run
        that stalls stays: its signature tells whether the run has moved.
        """
        if value is None:
            return cls()
        past = cls(began=value.get("began"), seen=bool(value.get("seen")), accepted=bool(value.get("accepted")))
        past.changed_at, past.signature = value.get("changed_at"), value.get("signature")
        if 0 <= now - value.get("as_of", 0.0) <= FRESH:
            past.failing_since = value.get("failing_since")
            past.parked_since = value.get("parked_since")
            past.provisional_since = value.get("provisional_since")
            past.refused_since = value.get("refused_since")
        else:
            past.resumed = past.signature is not None
        return past

    def take_in(self, observation: Observation, snapshot: RunSnapshot, now: float, *, stalls: bool = True) -> None:
        """Set the clocks of a run that goes on by a good read of it.

        Args:
            observation: What was read.
            snapshot: What it means.
            now: When, in unix seconds.
            stalls: Whether anybody asks for how long nothing has changed.
        """
        if snapshot.phase not in PAUSED_OR_WAITING:
            self.parked_since = None
        elif self.parked_since is None:
            self.parked_since = self._not_before_began(
                observation.paused_since and observation.paused_since.timestamp(), now
            )
        if not stalls:
            return
        shown = signature(observation, self.signature)
        if shown != self.signature:
            # Who has looked all the time knows better when it changed than the provider, whose clock may be wrong.
            own = self.signature is not None and not self.resumed
            updated_at = None if own or not observation.updated_at else observation.updated_at.timestamp()
            self.changed_at = max(self._not_before_began(updated_at, now), self.changed_at or 0.0)
            self.signature = shown
        self.resumed = False

    def _not_before_began(self, moment: float | None, now: float) -> float:
        return now if moment is None else min(max(moment, now if self.began is None else self.began), now)


def signature(observation: Observation, before: str | None = None) -> str:
    """What a run shows that must change while it moves: its word, its progress, and when its provider last updated it.

    An entry of a list may lack what the run's own answer shows: that is no change.

    Args:
        observation: What was read.
        before: The signature of what was read before, which stands in for what this lacks.
    """
    progress, updated_at = observation.snapshot.progress, observation.updated_at
    earlier = (before or "").split("/")
    _, old_progress, old_updated = earlier if len(earlier) == 3 else ("", "", "")
    state = _digest(f"{observation.reading.full_state} {observation.snapshot.status}")
    return "/".join(
        (
            state,
            old_progress if progress is None else _digest(f"{progress.done} {progress.total} {progress.unit}"),
            old_updated if updated_at is None else _digest(str(updated_at.timestamp())),
        )
    )


def reached(
    provider: Provider, options: WaitOptions, past: WaitProgress, last: RunSnapshot | None, now: float
) -> Reached | None:
    """The limit that a run has reached by what the last good read showed; None while there is none.

    Args:
        provider: The run's.
        options: The limits.
        past: The clocks.
        last: What the last good read showed.
        now: The present, in unix seconds.
    """
    until = paused_until(options, past)
    if until is not None and now >= until:
        return Reached("max_paused", f"paused or waiting for {options.max_paused:g} s")
    spent = None if last is None or provider.spend is None else provider.spend.of(last.details)
    if spent is not None and options.max_spend is not None and spent >= options.max_spend:
        unit = provider.spend.unit if provider.spend else ""
        return Reached("max_spend", f"{spent:g} of at most {options.max_spend:g} {unit} are spent")
    until = stalled_until(options, past)
    if until is not None and now >= until and past.changed_at is not None:
        lasted = now - past.changed_at
        return Reached("max_stalled", f"nothing has changed for {lasted:.0f} s of at most {options.max_stalled:g} s")
    return None


def paused_until(options: WaitOptions, past: WaitProgress) -> float | None:
    """When a run has been paused or waiting for too long, in unix seconds."""
    if past.parked_since is None or options.max_paused is None:
        return None
    return past.parked_since + options.max_paused


def stalled_until(options: WaitOptions, past: WaitProgress) -> float | None:
    """When a run has shown no change for too long, in unix seconds: where reads fail, nobody knows that it has not.

    A run that is paused or waiting has a clock of its own, and is not stalled.
    """
    if past.changed_at is None or options.max_stalled is None:
        return None
    if past.parked_since is not None or past.failing_since is not None:
        return None
    return past.changed_at + options.max_stalled


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "replace"), digest_size=6).hexdigest()
