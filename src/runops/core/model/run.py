"""The vocabulary of a run: where it is, how it stands, how it ended. No network, no host, no decisions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from typing import Any, ClassVar, Literal, Self, TypedDict

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from runops.core.model.refusal import ConfigurationError


class Phase(StrEnum):
    """The run is not over yet."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    """Only a person or an outside event moves it on."""
    WAITING = "waiting"
    """Only a person or an outside event moves it on."""
    STOPPING = "stopping"


PAUSED_OR_WAITING = frozenset({Phase.PAUSED, Phase.WAITING})
"""The phases that may last for ever, which ``max_paused`` bounds."""


class Outcome(StrEnum):
    """The run is over, or (``timed_out``) our wait for it is."""

    SUCCEEDED = "succeeded"
    DEGRADED = "degraded"
    EXHAUSTED = "exhausted"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    """The wait ended, not the run. No provider ever says it."""


WaitClock = Literal["timeout", "execution_timeout"]
"""The clock that ends a wait: its own, or that of the host for a try."""
EndedBy = Literal["timeout", "execution_timeout", "max_paused", "max_stalled", "max_spend"]
"""Which clock or limit ended a wait whose outcome is ``timed_out``."""


class RunRef(BaseModel):
    """The address of a run: all of a wait that crosses a process. It holds no secret and no payload.

    Args:
        provider: The provider's ``name``, such as ``"nexio"``.
        run_id: The run's id as the provider spells it.
        parents: Further ids that the run's address needs, by name (OnePin: ``{"workflow_id": ...}``).

    Raises:
        ConfigurationError: An id is empty or could leave its place in a path.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    provider: str
    run_id: str
    parents: Mapping[str, str] = Field(default_factory=dict)

    @classmethod
    def parse(cls, value: Any) -> Self:
        """Read a reference that came back from another process.

        Raises:
            ConfigurationError: ``value`` is not the mapping that ``model_dump`` wrote.
        """
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            fields = ", ".join(".".join(map(str, detail["loc"])) or "value" for detail in error.errors())
            raise ConfigurationError(f"This is not the address of a run; unreadable: {fields}.") from None

    def __hash__(self) -> int:
        return hash((self.provider, self.run_id, tuple(sorted(self.parents.items()))))

    def __str__(self) -> str:
        return f"{self.provider} run {self.run_id or 'yet to be found'}"


class Progress(BaseModel):
    """How far a run says it is; ``total`` may be unknown, and ``done`` may go down again.

    Args:
        done: How many units are done.
        total: How many there are, or None.
        unit: What is counted, such as ``nodes``.
    """

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    done: float
    total: float | None
    unit: str

    def __str__(self) -> str:
        total = "?" if self.total is None else f"{self.total:g}"
        return f"{self.done:g}/{total} {self.unit}"


class Unmet(TypedDict):
    """One expectation that a run has not met."""

    expected: str
    """Such as ``>= 1``."""
    found: Any
    """What the run's detail is; None where it is missing."""


class RunResult(TypedDict):
    """A snapshot as plain data: what XCom, events and ``--json`` carry. Keys are only ever added."""

    schema: int
    """The version of these keys: 1."""
    provider: str
    """The provider's name."""
    run_id: str
    """The run's id, as the provider shows it."""
    parents: dict[str, str]
    """Further ids that the run's address needs, by name."""
    state: str | None
    """The provider's own word, or None when no read succeeded before the wait ended."""
    outcome: str | None
    """How it ended, or ``timed_out`` when the wait did; None while it goes on."""
    verdict: str | None
    """``succeed``, ``warn``, ``skip`` or ``fail``; None while it goes on."""
    reason: str | None
    """One cleaned line, at most 200 characters, when the provider gives a reason."""
    progress: dict[str, Any] | None
    """``done``, ``total`` and ``unit``, or None."""
    created_at: str | None
    """ISO-8601 in UTC, or None, like the next two."""
    started_at: str | None
    """When it began to run."""
    finished_at: str | None
    """When it ended."""
    url: str | None
    """The best page of the provider's web interface for this run."""
    details: dict[str, Any]
    """The provider's allow-list of fields, never the payload."""
    run_ended: bool
    """Whether the run is over; false where only the wait is."""
    ended_by: str | None
    """Which clock or limit ended the wait, when the outcome is ``timed_out``."""
    unmet: dict[str, Unmet] | None
    """Which of the expectations were not met, by the name of the detail; None where all were, or none were asked."""


class RunInPhase(RunResult):
    """What a callback gets where runs are plain data: the run as in every result, and the phase that it entered."""

    phase: str
    """``queued``, ``running``, ``paused``, ``waiting`` or ``stopping``."""
    phase_since: str
    """When this wait first saw the run in that phase, ISO-8601 in UTC: a callback may come later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSnapshot:
    """What one read of a run showed. Exactly one of ``phase`` and ``outcome`` is set.

    No model: waits make and keep thousands of them, from what has been read already.

    Args:
        ref: The run's address.
        state: The provider's own word, or None when no read succeeded before the wait ended.
        phase: How it stands, while it is not over.
        outcome: How it ended, or ``timed_out`` when our wait did.
        reason: One cleaned line, at most 200 characters, when the provider gives a reason.
        progress: How far the run says it is.
        created_at, started_at, finished_at: Aware datetimes in UTC, or None.
        url: The best page of the provider's web interface for this run.
        details: The provider's allow-list of fields (``spent_usd``, ``stage``, ...), never the payload.
        ended_by: Which clock ended the wait, when the outcome is ``timed_out``.
    """

    # An error about what came from elsewhere quotes nothing of it.
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="ignore", hide_input_in_errors=True)

    ref: RunRef
    state: str | None
    phase: Phase | None = None
    outcome: Outcome | None = None
    reason: str | None = None
    progress: Progress | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    url: str | None = None
    details: dict[str, Any] = field(default_factory=dict[str, Any])
    ended_by: EndedBy | None = None

    def __post_init__(self) -> None:
        for name in ("created_at", "started_at", "finished_at"):
            moment: datetime | None = getattr(self, name)
            if moment is not None and moment.tzinfo is not UTC:
                in_utc = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
                object.__setattr__(self, name, in_utc)

    @classmethod
    def parse(cls, value: Any) -> RunSnapshot:
        """Read what :meth:`to_dict` wrote, in this version or another one.

        Raises:
            pydantic.ValidationError: It is something else.
        """
        return _snapshots().validate_python(value)

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON primitives: what crosses a process. :meth:`to_result` is what people and tasks get."""
        return _snapshots().dump_python(self, mode="json")

    @property
    def run_ended(self) -> bool:
        """Whether the run itself is over, not only our wait for it."""
        return self.outcome is not None and self.outcome is not Outcome.TIMED_OUT

    @property
    def status(self) -> Phase | Outcome:
        """``outcome`` when there is one, else ``phase``."""
        return self.outcome or self.phase or Phase.RUNNING

    def changed_from(self, earlier: RunSnapshot | None) -> bool:
        """Whether a person who follows the run would call this news: another word, status or reason."""
        if earlier is None:
            return True
        return (self.state, self.status, self.reason) != (earlier.state, earlier.status, earlier.reason)

    def to_result(self, verdict: str | None = None, unmet: Mapping[str, Unmet] | None = None) -> RunResult:
        """The snapshot as JSON primitives: times as ISO-8601 UTC strings, no enums.

        Args:
            verdict: What was decided about the outcome, or None where nothing was.
            unmet: Which expectations were not met.
        """
        progress = self.progress.model_dump() if self.progress else None
        return RunResult(
            schema=1,
            provider=self.ref.provider,
            run_id=self.ref.run_id,
            parents=dict(self.ref.parents),
            state=self.state,
            outcome=self.outcome.value if self.outcome else None,
            verdict=None if verdict is None else str(verdict),
            reason=self.reason,
            progress=progress,
            created_at=_iso(self.created_at),
            started_at=_iso(self.started_at),
            finished_at=_iso(self.finished_at),
            url=self.url,
            details=dict(self.details),
            run_ended=self.run_ended,
            ended_by=self.ended_by,
            unmet=dict(unmet) if unmet else None,
        )

    def summary(self) -> str:
        """One line for a log: the run, its word, its status where that is another word, its progress and reason."""
        state = self.state if self.state == self.status else f"{self.state or 'not seen'} ({self.status})"
        parts = [f"{self.ref}: {state}"]
        if self.progress:
            parts.append(str(self.progress))
        if self.reason:
            parts.append(self.reason)
        return ", ".join(parts)


@cache
def _snapshots() -> TypeAdapter[RunSnapshot]:
    return TypeAdapter(RunSnapshot)


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")
