"""What is stored of the run that a task waits for, for the page "External runs": one XCom for each task instance.

It is written by workers and triggers (``recording.py``) and read by the page's server, which may be of another version:
fields are only ever added. Nothing here imports Airflow.

What stands in it came from a service, and anybody who may write XComs may have written it. So it is checked both ways:
what is written has a bounded size, and what is read is taken field by field; what is not of a field's kind counts as
missing. No key and no payload is ever in it, only the *name* of the connection. Texts are still a stranger's: show
them as text only.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import Any, Literal, Self, cast, get_args
from urllib.parse import urlsplit

from runops.core.model.run import Outcome, Phase
from runops.core.model.times import UNREADABLE, moment

EXTERNAL_RUN = "external_run"
"""The key of the XCom."""
SCHEMA = 1

Kind = Literal["run", "set"]
Hold = Literal["paused", "waiting", "turn", "rate_limit", "key"]

MOST_BYTES = 16_000
"""Of the whole as JSON. Beyond it details go first, then most of the timeline, then the address."""
MOST_MOMENTS = 20
"""Entries of the timeline: the first :data:`FIRST_MOMENTS` and the newest ones are kept."""
FIRST_MOMENTS = 5
MOST_DETAILS = 40
MOST_NAMES = 10
"""Parents, and kinds of ends that are counted."""
LONGEST_TEXT = 200
LONGEST_NAME = 64
LONGEST_ID = 1_000
LONGEST_URL = 2_000

_STATUSES = frozenset(str(each) for each in (*Phase, *Outcome))
_PHASES, _OUTCOMES = frozenset(map(str, Phase)), frozenset(map(str, Outcome))
_KINDS, _HOLDS = frozenset(get_args(Kind)), frozenset(get_args(Hold))
_VERDICTS = frozenset({"succeed", "warn", "skip", "fail"})


@dataclass(frozen=True, slots=True)
class Moment:
    """A change of a run, as this side saw it.

    :param at: When it was seen: ISO 8601, UTC.
    :param state: The provider's own word; None before the first read.
    :param status: A phase, or an outcome.
    """

    at: str
    state: str | None
    status: str

    def to_dict(self) -> dict[str, Any]:
        """``at``, ``state``, and ``phase`` or ``outcome``."""
        kind = "outcome" if self.status in _OUTCOMES else "phase"
        return {"at": self.at, **({} if self.state is None else {"state": self.state}), kind: self.status}


@dataclass(frozen=True, slots=True)
class Counts:
    """How a set of runs stands.

    :param total: Runs of the set.
    :param ended: Those whose wait is over, however.
    :param active: Those that are waited for or being submitted now; the rest is not submitted yet.
    :param outcomes: Ended runs by outcome.
    :param verdicts: The same by verdict.
    :param errors: Runs whose wait ended in an error, so that they have no outcome.
    """

    total: int
    ended: int = 0
    active: int = 0
    outcomes: Mapping[str, int] = field(default_factory=dict[str, int])
    verdicts: Mapping[str, int] = field(default_factory=dict[str, int])
    errors: int = 0

    def to_dict(self) -> dict[str, Any]:
        """JSON primitives."""
        made = {name.name: getattr(self, name.name) for name in fields(self)}
        return {**made, "outcomes": dict(self.outcomes), "verdicts": dict(self.verdicts)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalRun:
    """The stored record. All times are texts: ISO 8601 in UTC, such as ``2026-01-31T06:00:00.000Z``.

    :param provider: The provider's name (``"nexio"``), or ``"package.module:NAME"``.
    :param kind: ``"run"``, or ``"set"`` for a task that waits for many runs: it has ``counts``, and neither ``run_id``
        nor ``state``; its single runs stand in the XCom ``runs`` at the end, and in the ledger's pages meanwhile.
    :param conn_id: The connection's name: never what it holds. Show it to those who may see that connection.
    :param run_id: The run's id as the provider spells it; None while there is none yet (a turn is waited for, or the
        run of a lost submit is looked for).
    :param parents: Further ids that the run's address needs, by name (OnePin: ``workflow_id``).
    :param url: The run's page in the provider's own interface; http or https.
    :param own: Whether the task has submitted the run. A sensor's and an attached one is not its own.
    :param cancels: Whether the end of the task by a person (marked failed, cleared) cancels the run by itself, in the
        place where the task waits now.
    :param try_number: The try that wrote this. A record of another try than the task's own says nothing of that one.
    :param state: The provider's own word; None before the first good read, or where the wait ended without one.
    :param phase: A :class:`~runops.core.Phase` while the run goes on. One of ``phase`` and ``outcome`` is set, or none
        while there is no run yet.
    :param outcome: An :class:`~runops.core.Outcome` where the run, or the wait for it (``timed_out``), is over.
    :param verdict: ``succeed``, ``warn``, ``skip`` or ``fail``, where the task has judged; a trigger leaves it to the
        worker that follows.
    :param reason: One line about the state or the end.
    :param error: The name of the exception that ended the wait where no outcome is known, such as ``PollingError``;
        ``reason`` has its text.
    :param progress: ``{done, total, unit}``; ``total`` may be null.
    :param spend: What was spent so far, in ``spend_unit`` (``"USD"``, ``"characters"``, ...); of a set: by all runs.
    :param holds: What the wait is held up by: ``paused`` and ``waiting`` (the run itself; a person or an event moves it
        on), ``turn`` (another run is active where this one is to start), ``rate_limit`` (the service's limit leaves no
        place for the next look in time), ``key`` (the key is refused, and read again).
    :param holds_for: For whom or what, in a few words: of a turn, the id of the run in the way.
    :param began_at: When the wait of this try began; in reschedule mode, that of the first poke.
    :param created_at: When the run was created, as the provider says; likewise ``started_at`` and ``finished_at``.
    :param looked_at: When a good answer about the run came last; None before the first one.
    :param written_at: When this was stored: what it does not show has come later.
    :param ended_at: When the wait ended, however; None while it goes on.
    :param run_ended: Whether the run itself is over; False where only the wait is.
    :param ended_by: The clock or limit that ended the wait, where the outcome is ``timed_out``.
    :param details: The provider's allow-list (``spent_usd``, ``stage``, ...): text, numbers, booleans.
    :param timeline: The changes that were seen, oldest first, at most :data:`MOST_MOMENTS`; middle ones are left out.
    :param counts: Of a set.
    """

    provider: str
    kind: Kind = "run"
    conn_id: str | None = None
    run_id: str | None = None
    parents: Mapping[str, str] = field(default_factory=dict[str, str])
    url: str | None = None
    own: bool = False
    cancels: bool = False
    try_number: int = 0
    state: str | None = None
    phase: str | None = None
    outcome: str | None = None
    verdict: str | None = None
    reason: str | None = None
    error: str | None = None
    progress: Mapping[str, Any] | None = None
    spend: float | None = None
    spend_unit: str | None = None
    holds: Hold | None = None
    holds_for: str | None = None
    began_at: str | None = None
    created_at: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    looked_at: str | None = None
    written_at: str | None = None
    ended_at: str | None = None
    run_ended: bool = False
    ended_by: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict[str, Any])
    timeline: tuple[Moment, ...] = ()
    counts: Counts | None = None
    schema: int = SCHEMA

    @property
    def open(self) -> bool:
        """Whether the wait goes on, as far as this says: a killed process leaves no word, its task's state does."""
        return self.ended_at is None

    @property
    def status(self) -> str | None:
        """The outcome, or else the phase."""
        return self.outcome or self.phase

    def to_dict(self) -> dict[str, Any]:
        """JSON primitives within :data:`MOST_BYTES`, checked as :meth:`from_dict` does; what is None or empty is left
        out."""
        run = self.from_dict(_bare(self)) or self
        form = _bare(run)
        for smaller in ({"details": {}}, {"timeline": shortened(run.timeline, 6)}, {"url": None, "parents": {}}):
            if len(json.dumps(form)) <= MOST_BYTES:
                break
            run = replace(run, **smaller)
            form = _bare(run)
        return form

    def plain(self) -> dict[str, Any]:
        """The same of a record that was read: it was checked then, and within its bounds it was written."""
        return _bare(self)

    @classmethod
    def from_dict(cls, value: object) -> Self | None:
        """Read what :meth:`to_dict` wrote, in whatever version; None where it is not such a record at all.

        :param value: The XCom's value: a mapping, or a JSON text of one, as some ways to read an XCom give it.
        """
        form = _mapping(value)
        provider = _text(form.get("provider"), LONGEST_NAME * 3)
        if not provider:
            return None
        given: dict[str, Any] = {name: read(form.get(name)) for name, read in _READERS.items()}
        return cls(provider=provider, **{name: each for name, each in given.items() if each is not None})


def shortened(timeline: Sequence[Moment], most: int = MOST_MOMENTS) -> tuple[Moment, ...]:
    """The first entries and the newest ones.

    :param timeline: Oldest first.
    :param most: How many stay.
    """
    if len(timeline) <= most:
        return tuple(timeline)
    first = min(FIRST_MOMENTS, most // 2)
    return (*timeline[:first], *timeline[len(timeline) - (most - first) :])


def iso(seconds: float) -> str:
    """Unix seconds as such a record writes times: all texts have the same length, so they sort as the times do.

    :param seconds: Unix seconds.
    """
    return in_iso(datetime.fromtimestamp(seconds, UTC))


def in_iso(at: datetime) -> str:
    """The same of a moment in UTC."""
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _bare(run: ExternalRun) -> dict[str, Any]:
    form: dict[str, Any] = {"schema": run.schema, "kind": run.kind}
    for each in fields(run):
        value = getattr(run, each.name)
        if isinstance(value, (str, int, float)) and each.name not in form:
            form[each.name] = value
    nested = {
        "parents": dict(run.parents),
        "progress": None if run.progress is None else dict(run.progress),
        "details": dict(run.details),
        "timeline": [each.to_dict() for each in shortened(run.timeline)],
        "counts": None if run.counts is None else run.counts.to_dict(),
    }
    return form | {name: value for name, value in nested.items() if value}


# --- what is read: each takes anything, and gives None for what is not of its kind ---


def _mapping(value: object) -> Mapping[str, Any]:
    for _ in range(3):
        if not isinstance(value, (str, bytes)):
            break
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return {}
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _text(value: object, longest: int = LONGEST_TEXT) -> str | None:
    if not isinstance(value, str):
        return None
    line = "".join(each if each.isprintable() else " " for each in value[: longest + 1])
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def _id(value: object) -> str | None:
    """An id is taken whole or not at all: half of one is another run's."""
    return value if isinstance(value, str) and 0 < len(value) <= LONGEST_ID and value.isprintable() else None


def web_page(value: object) -> str | None:
    """An address that a browser may be led to: http or https, with nobody's name in it; None for anything else."""
    if not isinstance(value, str) or len(value) > LONGEST_URL or not value.isprintable() or "\\" in value:
        return None
    try:
        parts = urlsplit(value)
        return value if parts.scheme in ("http", "https") and parts.hostname and parts.username is None else None
    except ValueError:
        return None


def _time(value: object) -> str | None:
    found = moment(value) if isinstance(value, str) and value else None
    return None if found is None or found is UNREADABLE else in_iso(found)


def _number(value: object) -> float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) and _is_finite(value) else None


def _is_finite(value: float) -> bool:
    return abs(value) < 1e18 and math.isfinite(value)


def _count(value: object) -> int | None:
    number = _number(value)
    return None if number is None or number < 0 else int(number)


def _word(allowed: frozenset[str]) -> Any:
    return lambda value: value if isinstance(value, str) and value in allowed else None


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _names(value: object, read: Any, most: int) -> dict[str, Any] | None:
    if not isinstance(value, Mapping):
        return None
    made: dict[str, Any] = {}
    for name, each in cast("Mapping[object, object]", value).items():
        taken = read(each)
        if isinstance(name, str) and name.isprintable() and len(name) <= LONGEST_NAME and taken is not None:
            made[name] = taken
        if len(made) == most:
            break
    return made


def _detail(value: object) -> Any:
    return _text(value) if isinstance(value, str) else value if isinstance(value, bool) else _number(value)


def _progress(value: object) -> dict[str, Any] | None:
    form = value if isinstance(value, Mapping) else {}
    done = _number(form.get("done"))
    if done is None:
        return None
    return {"done": done, "total": _number(form.get("total")), "unit": _text(form.get("unit"), LONGEST_NAME) or ""}


def _timeline(value: object) -> tuple[Moment, ...] | None:
    if not isinstance(value, list):
        return None
    made: list[Moment] = []
    for each in cast("list[object]", value)[-10 * MOST_MOMENTS :]:
        form = cast("Mapping[str, Any]", each) if isinstance(each, Mapping) else {}
        at, status = _time(form.get("at")), form.get("outcome", form.get("phase"))
        if at is not None and isinstance(status, str) and status in _STATUSES:
            made.append(Moment(at, _text(form.get("state")), status))
    return shortened(made)


def _counts(value: object) -> Counts | None:
    form = cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}
    total = _count(form.get("total"))
    if total is None:
        return None
    ended, active, errors = (_count(form.get(name)) or 0 for name in ("ended", "active", "errors"))
    outcomes, verdicts = (_names(form.get(name), _count, MOST_NAMES) or {} for name in ("outcomes", "verdicts"))
    return Counts(total, ended, active, outcomes, verdicts, errors)


_READERS: dict[str, Any] = {
    "kind": _word(_KINDS),
    "conn_id": lambda value: _text(value, LONGEST_TEXT),
    "run_id": _id,
    "parents": lambda value: _names(value, _id, MOST_NAMES),
    "url": web_page,
    "own": _flag,
    "cancels": _flag,
    "try_number": _count,
    "state": _text,
    "phase": _word(_PHASES),
    "outcome": _word(_OUTCOMES),
    "verdict": _word(_VERDICTS),
    "reason": _text,
    "error": lambda value: _text(value, LONGEST_NAME),
    "progress": _progress,
    "spend": _number,
    "spend_unit": lambda value: _text(value, LONGEST_NAME),
    "holds": _word(_HOLDS),
    "holds_for": _text,
    "began_at": _time,
    "created_at": _time,
    "started_at": _time,
    "finished_at": _time,
    "looked_at": _time,
    "written_at": _time,
    "ended_at": _time,
    "run_ended": _flag,
    "ended_by": lambda value: _text(value, LONGEST_NAME),
    "details": lambda value: _names(value, _detail, MOST_DETAILS),
    "timeline": _timeline,
    "counts": _counts,
    "schema": _count,
}
