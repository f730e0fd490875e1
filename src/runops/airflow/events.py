"""What a trigger fires, as plain data: how a run ended, which one it is, whose turn it is, or why that is not known.

It is written in the triggerer and read on a worker, which may have another version of runops.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from runops.airflow._compat import AirflowException
from runops.airflow.exceptions import TriggerCrashed, name_of, named
from runops.core import Outcome, RunRef, RunResult, RunSnapshot
from runops.core.model.codes import Coded, text_of
from runops.core.waiting.intent import Intent
from runops.core.waiting.phases import PhasesSeen
from runops.core.waiting.turns import Turn

VERSION = 1
"""Of the arguments of a trigger and of what it fires."""
_NO_TEXT = "The trigger reports an error without a text."


class RunsEnded(BaseModel):
    """The event of the trigger of a set of runs."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    version: int
    kind: Literal["runs", "error"]
    end: str | None = None
    rows: list[dict[str, Any]] = []
    """How runs ended; see ``many.rows.ends``."""
    results: dict[int, dict[str, Any]] = {}
    """Whole results of runs that did not end well, by their row."""
    clocks: dict[str, Any] = {}
    """What the waits that go on have learnt; see ``many.rows.clocks``."""
    error: str | None = None
    message: str | None = None
    error_code: str | None = None
    """The code of the error; None where the event was fired by a runops that had none."""

    @property
    def full(self) -> dict[int, RunResult]:
        """The same, as what they are."""
        return {index: cast("RunResult", result) for index, result in self.results.items()}

    @property
    def failure(self) -> AirflowException | None:
        """What the trigger has failed with."""
        if self.kind != "error":
            return None
        return named(self.error or "", self.message or _NO_TEXT, self.error_code)


class End(BaseModel):
    """The event of a trigger."""

    model_config = ConfigDict(extra="ignore")

    version: int
    kind: Literal["ended", "found", "lost", "turn", "error"]
    snapshot: RunSnapshot | None = None
    ref: RunRef | None = None
    error: str | None = None
    message: str | None = None
    error_code: str | None = None
    """The code of the error; None where the event was fired by a runops that had none."""


class Entered(BaseModel):
    """The event of a trigger whose run has entered a phase that the task calls somebody for: the wait goes on."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    version: int
    kind: Literal["phase"]
    snapshot: RunSnapshot
    seen: dict[str, Any]
    """Which entry it is; see :class:`~runops.core.waiting.phases.PhasesSeen`."""
    deadline: float
    """Unix seconds at which the whole wait ends."""
    submitted_at: float | None = None
    past: dict[str, Any] | None = None
    """What the wait has learnt; see :class:`~runops.core.waiting.limits.WaitProgress`."""


def entered(snapshot: RunSnapshot, seen: PhasesSeen, *, deadline: float, **more: Any) -> dict[str, Any]:
    """The run has entered a phase that the task calls somebody for.

    :param snapshot: What showed it.
    :param seen: Which entry it is.
    :param deadline: Unix seconds at which the whole wait ends.
    :param more: What else the wait goes on with; see :class:`Entered`.
    """
    about = {"snapshot": snapshot.to_dict(), "seen": seen.to_dict(), "deadline": deadline, **more}
    return {"version": VERSION, "kind": "phase", **about}


def read_entered(event: object) -> Entered | None:
    """The entry of a phase that an event tells of; None for an event of another kind, and for one that says no more."""
    try:
        return Entered.model_validate(event)
    except ValidationError:
        return None


def ended(snapshot: RunSnapshot) -> dict[str, Any]:
    """The wait is over: how the run ended, or which clock did."""
    return {"version": VERSION, "kind": "ended", "snapshot": snapshot.to_dict()}


def found(ref: RunRef) -> dict[str, Any]:
    """The run that was looked for is there."""
    return {"version": VERSION, "kind": "found", "ref": ref.model_dump(mode="json")}


def lost(intent: Intent) -> dict[str, Any]:
    """The run of a submit whose answer was lost did not show up."""
    return {"version": VERSION, "kind": "lost", "intent": intent.to_dict()}


def turn(wait: Turn) -> dict[str, Any]:
    """The turn of a task that waits for one has come, or its wait is over, which the worker sees by its clock."""
    return {"version": VERSION, "kind": "turn", "turn": wait.to_dict()}


def runs(end: str) -> dict[str, Any]:
    """The wait for a set of runs is over here; its rows are told beside it.

    :param end: Why.
    """
    return {"version": VERSION, "kind": "runs", "end": end}


def failed(error: Exception) -> dict[str, Any]:
    """How the run stands is not known, and why."""
    code = {"error_code": error.error_code.value} if isinstance(error, Coded) else {}
    return {"version": VERSION, "kind": "error", "error": name_of(error), "message": text_of(error), **code}


def read_found(event: object) -> RunRef | None:
    """The run that an event says is there; None for an event of another kind."""
    try:
        end = End.model_validate(event)
    except ValidationError:
        return None
    return end.ref if end.kind == "found" else None


def says_ended(event: object) -> bool:
    """Whether an event says how a wait ended."""
    return isinstance(event, Mapping) and event.get("kind") == "ended"


def says_lost(event: object) -> bool:
    """Whether an event says that the run of a lost submit did not show up."""
    return isinstance(event, Mapping) and event.get("kind") == "lost"


def says_turn(event: object) -> bool:
    """Whether an event says that the wait for a turn is over."""
    return isinstance(event, Mapping) and event.get("kind") == "turn" and isinstance(event.get("turn"), Mapping)


def read_runs(event: object) -> RunsEnded:
    """What a trigger says of a set of runs, an error included.

    :raises TriggerCrashed: It cannot be read.
    """
    try:
        return RunsEnded.model_validate(event)
    except ValidationError as error:
        raise _unreadable(error) from None


def _unreadable(error: ValidationError) -> TriggerCrashed:
    fields = ", ".join(sorted({".".join(map(str, detail["loc"])) or "event" for detail in error.errors()}))
    return TriggerCrashed(f"The trigger's event cannot be read: {fields}.")


def read_end(event: object) -> RunSnapshot:
    """The last snapshot that an event carries.

    :raises AirflowException: What the event says instead, or TriggerCrashed where it cannot be read.
    """
    try:
        end = End.model_validate(event)
    except ValidationError as error:
        raise _unreadable(error) from None
    if end.kind == "error":
        raise named(end.error or "", end.message or _NO_TEXT, end.error_code)
    if (
        end.snapshot is None
        or end.snapshot.outcome is None
        or (end.snapshot.outcome is Outcome.TIMED_OUT and end.snapshot.ended_by is None)
    ):
        raise TriggerCrashed("The trigger's event says that the run ended, but not how.")
    return end.snapshot
