"""Scripted runs and their clocks; knows no wire format and no HTTP.

A run is a set of wire fields and a timeline of steps. Nothing happens in the background: the
fields are brought up to date when somebody looks.
"""

from __future__ import annotations

import copy
import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

#: Stands for "the moment this step took place" as a value of a step or of a run's fields.
NOW = "$now"
#: The key of a value that stands for a share of another field, see :func:`share`.
SHARE = "$share"
SHARE_DIGITS = 6
"""Decimal places of what comes out, so that a share of dollars is no endless fraction."""


class ScriptError(ValueError):
    """A script, a field or a run that the emulator was asked for makes no sense."""


def share(fraction: float, of: str) -> dict[str, Any]:
    """Write a value that stands for a share of another wire field, such as half of ``budget_usd``.

    It is worked out when its step takes place, from what the other field holds then; where that is no number, it is 0.
    """
    return {SHARE: fraction, "of": of}


@dataclass(frozen=True)
class Moment:
    """One point of a named script, placed at a fraction (0 to 1) of the script's duration."""

    fraction: float
    changes: Mapping[str, Any]
    removed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.fraction <= 1:
            raise ScriptError(f"a moment of a named script lies at 0 to 1 of its duration; got {self.fraction}")


def at(fraction: float, *, removed: Iterable[str] = (), **changes: Any) -> Moment:
    """Write a moment of a named script the short way."""
    return Moment(fraction, changes, tuple(removed))


@dataclass(frozen=True)
class Step:
    """A change of wire fields, due so many seconds after the run was created."""

    due: float
    changes: Mapping[str, Any]
    removed: tuple[str, ...] = ()


def steps_of(moments: Iterable[Moment], seconds: float) -> list[Step]:
    """Stretch a named script over a duration in seconds."""
    return [Step(moment.fraction * seconds, moment.changes, moment.removed) for moment in moments]


def timestamp(moment: float, digits: int) -> str:
    """Write a moment (seconds since the epoch) as RFC 3339 in UTC with a trailing ``Z``."""
    text = dt.datetime.fromtimestamp(moment, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
    return (text[: len(text) - 6 + digits] if digits else text[:-7]) + "Z"


@dataclass(eq=False)
class Run:
    """One emulated run: its wire fields, what is still to come, and its own clock.

    ``created`` is in seconds since the epoch. While ``held`` the run's clock stands still.
    """

    provider: str
    run_id: str
    parents: dict[str, str]
    fields: dict[str, Any]
    pending: list[Step]
    created: float
    order: int
    state_field: str
    digits: int = 3
    updated_field: str | None = None
    shape: str | None = None
    script: str = "custom"
    submitted: Mapping[str, Any] | None = None
    hidden_seconds: float = 0.0
    on_cancel: list[Step] | None = None
    refuses_cancel: bool = False
    on_resume: list[Step] | None = None
    refuses_resume: bool = False
    on_retry: Any = None
    reads: int = 0
    cancels: int = 0
    resumes: int = 0
    _elapsed: float = 0.0
    _resumed: float | None = None
    _last: float = field(default=0.0)

    def __post_init__(self) -> None:
        self._resumed = self.created
        self._last = self.created
        self.fields = {name: self._resolved(value, self.created) for name, value in self.fields.items()}

    @property
    def held(self) -> bool:
        """Whether the run's clock stands still."""
        return self._resumed is None

    @property
    def state(self) -> str:
        """The provider's own word for how the run stands."""
        return str(self.fields.get(self.state_field))

    @property
    def changed(self) -> float:
        """When the last step took place, in seconds since the epoch."""
        return self._last

    def elapsed(self, now: float) -> float:
        """Return the seconds on the run's own clock."""
        return self._elapsed + (0.0 if self._resumed is None else max(0.0, now - self._resumed))

    def visible(self, now: float) -> bool:
        """Tell whether reads find this run by now."""
        return self.elapsed(now) >= self.hidden_seconds

    def catch_up(self, now: float) -> None:
        """Apply every step that has come due."""
        elapsed = self.elapsed(now)
        while self.pending and self.pending[0].due <= elapsed:
            step = self.pending.pop(0)
            moment = now if self._resumed is None else self._resumed + step.due - self._elapsed
            self.change(step.changes, step.removed, max(moment, self._last))

    def change(self, changes: Mapping[str, Any], removed: Iterable[str], moment: float) -> None:
        """Set and remove wire fields as of a moment (seconds since the epoch)."""
        self._last = moment
        if self.updated_field is not None and self.updated_field in self.fields:
            self.fields[self.updated_field] = timestamp(moment, self.digits)
        for name, value in changes.items():
            self.fields[name] = self._resolved(value, moment)
        for name in removed:
            self.fields.pop(name, None)

    def hold(self, held: bool, now: float) -> None:
        """Stop the run's clock, or let it go on."""
        self.catch_up(now)
        if held and self._resumed is not None:
            self._elapsed = self.elapsed(now)
            self._resumed = None
        elif not held and self._resumed is None:
            self._resumed = now

    def advance(self, seconds: float | None, now: float) -> None:
        """Move the run's clock on by some seconds, or to the end of its script with ``None``."""
        self.catch_up(now)
        target = self.elapsed(now)
        if seconds is not None:
            target += seconds
        elif self.pending:
            target = max(target, self.pending[-1].due)
        self._elapsed = target
        if self._resumed is not None:
            self._resumed = now
        self.catch_up(now)

    def follow(self, steps: Iterable[Step], now: float) -> None:
        """Replace all that was still to come by other steps, counted from now."""
        self.catch_up(now)
        elapsed = self.elapsed(now)
        self.pending = [Step(elapsed + step.due, step.changes, step.removed) for step in steps]
        self.catch_up(now)

    def _resolved(self, value: Any, moment: float) -> Any:
        if value == NOW:
            return timestamp(moment, self.digits)
        if isinstance(value, Mapping):
            if SHARE in value:
                return self._shared(value)
            return {name: self._resolved(inner, moment) for name, inner in value.items()}
        if isinstance(value, list):
            return [self._resolved(inner, moment) for inner in value]
        return copy.copy(value)

    def _shared(self, value: Mapping[str, Any]) -> float:
        whole, fraction = self.fields.get(str(value.get("of"))), value[SHARE]
        if not (_is_number(whole) and _is_number(fraction)):
            return 0.0
        return round(whole * fraction, SHARE_DIGITS)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
