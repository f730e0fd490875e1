"""The rows of a set between a worker and its trigger, in as few bytes as they need: JSON primitives both ways. Pure.

To the trigger go the addresses of the runs that are waited for, those with the same parents together. Back come their
ends, without the addresses, which the worker has: rows that ended alike are one entry with their places, so that the
end of ten thousand runs is a few lines, and only what differs (what each has spent) is a list.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from runops.airflow.events import RunsEnded, read_runs
from runops.airflow.exceptions import TriggerCrashed
from runops.core import RunRef
from runops.core.many.ledger import Ledger
from runops.core.many.row_json import from_json, to_json
from runops.core.many.rows import Row
from runops.core.waiting.state import WaitProgress

_ADDRESS = ("k", "i", "n", "t", "a", "x", "b")
"""What of a row's own form the worker knows better."""
_SPEND = "m"
_CLOCKS = ("failing_since", "parked_since", "provisional_since", "refused_since", "changed_at", "signature")


def spans(indices: Iterable[int]) -> str:
    """Indices as text, such as ``0-41,43``."""
    parts: list[list[int]] = []
    for index in sorted(indices):
        if parts and parts[-1][1] + 1 == index:
            parts[-1][1] = index
        else:
            parts.append([index, index])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


def indices_of(text: str) -> Iterator[int]:
    """What :func:`spans` wrote."""
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


# --- to the trigger ---


def addresses(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """The runs of rows, as a trigger's arguments hold them: one entry for all that have the same parents.

    :param rows: Their runs are known.
    """
    groups: dict[tuple[tuple[str, str], ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(sorted(row.parents.items())), []).append(row)
    return [_group(dict(parents), sorted(members, key=lambda row: row.index)) for parents, members in groups.items()]


def _group(parents: Mapping[str, str], rows: Sequence[Row]) -> dict[str, Any]:
    made: dict[str, Any] = {"at": spans(row.index for row in rows), "ids": [row.run_id for row in rows]}
    if parents:
        made["parents"] = dict(parents)
    given = [row.index for row in rows if row.attached]
    if len(given) < len(rows):
        made["attached"] = spans(given)
        made["submitted"] = [row.submitted_at for row in rows]
    if any(row.spent_before for row in rows):
        made["spent"] = [row.spent_before for row in rows]
    return made


def runs_at(groups: Iterable[Mapping[str, Any]], provider: str) -> list[Row]:
    """What :func:`addresses` wrote.

    :param groups: It.
    :param provider: The provider's name.
    """
    rows: list[Row] = []
    for group in groups:
        places = list(indices_of(group["at"]))
        # Runs that were given say nothing of a submit.
        moments = group.get("submitted") or [None] * len(places)
        given = set(places) if "submitted" not in group else set(indices_of(group.get("attached", "")))
        spent = group.get("spent") or [0.0] * len(places)
        for place, run_id, moment, before in zip(places, group["ids"], moments, spent, strict=True):
            ref = RunRef(provider=provider, run_id=run_id, parents=group.get("parents") or {})
            row = Row(index=place, key=run_id, spent_before=before)
            rows.append(row.submitted(ref, moment, attached=place in given))
    return rows


def summary(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Rows that a trigger has nothing to do with, as far as the whole is counted by them: how they stand or ended."""
    groups: dict[tuple[tuple[str, Any], ...], list[Row]] = {}
    for row in rows:
        form = {name: value for name, value in to_json(row).items() if name in ("s", "o", "v", "e", "f")}
        groups.setdefault(tuple(sorted(form.items())), []).append(row)
    made: list[dict[str, Any]] = []
    for form, members in groups.items():
        spent = sum(row.spent for row in members)
        made.append({**dict(form), "at": spans(row.index for row in members), **({"spent": spent} if spent else {})})
    return made


# --- back to the worker ---


def ends(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """How runs ended: one entry for all that ended alike.

    :param rows: They are over.
    """
    groups: dict[tuple[tuple[str, Any], ...], list[Row]] = {}
    for row in rows:
        form = {name: value for name, value in to_json(row).items() if name not in (*_ADDRESS, _SPEND)}
        groups.setdefault(tuple(sorted(form.items())), []).append(row)
    made: list[dict[str, Any]] = []
    for form, members in groups.items():
        members.sort(key=lambda row: row.index)
        spends = [row.spend for row in members]
        spent = {} if all(spend is None for spend in spends) else {"spends": spends}
        made.append({**dict(form), "at": spans(row.index for row in members), **spent})
    return made


def merged(groups: Iterable[Mapping[str, Any]], known: Sequence[Row]) -> Iterator[Row]:
    """Rows with what :func:`ends` or :func:`summary` tells of them.

    :param groups: It.
    :param known: The rows as they are known otherwise, by their index.
    :raises LookupError: An entry names a row that is not there, or cannot be read; and so ValueError, TypeError.
    """
    for group in groups:
        places = list(indices_of(group["at"]))
        spends = group.get("spends") or [None] * len(places)
        form = {name: value for name, value in group.items() if name not in ("at", "spends", "spent")}
        # Of those that are counted only, what all have spent is the first one's.
        before = [group.get("spent")] + [None] * (len(places) - 1)
        for place, spend, spent in zip(places, spends, before, strict=True):
            row = known[place]
            more = {} if spend is None else {_SPEND: spend}
            made = from_json(place, {**to_json(row), **form, **more}, row.parents)
            yield made if spent is None else replace(made, spent_before=spent)


def read_event(event: object, ledger: Ledger) -> RunsEnded:
    """What the trigger of a set has fired; the rows of the ledger stand then as it says.

    :param event: It.
    :param ledger: All rows.
    :raises TriggerCrashed: It cannot be read.
    """
    ended = read_runs(event)
    try:
        for row in tuple(merged(ended.rows, ledger)):
            ledger.set(row)
    except (LookupError, TypeError, ValueError) as error:
        raise TriggerCrashed(f"The trigger's event cannot be read: {type(error).__name__}.") from None
    return ended


# --- what the waits have learnt ---


def clocks(past: Mapping[int, WaitProgress], rows: Iterable[Row], now: float) -> dict[str, Any]:
    """What waits that go on have learnt, where they have learnt more than that their run is there.

    :param past: It, by row.
    :param rows: Those that go on.
    :param now: The present, in unix seconds.
    """
    unseen: list[int] = []
    learnt: dict[str, dict[str, Any]] = {}
    for row in rows:
        known = past.get(row.index)
        if known is None or not known.seen:
            unseen.append(row.index)
        form = {} if known is None else learnt_of(known)
        if form:
            learnt[str(row.index)] = form
    return {"as_of": now, "unseen": spans(unseen), **({"rows": learnt} if learnt else {})}


def learnt_of(past: WaitProgress) -> dict[str, Any]:
    """What one wait has learnt beyond that its run is there; without what is not known.

    :param past: The wait.
    """
    return {name: value for name in _CLOCKS if (value := getattr(past, name)) is not None}


def waits(form: Mapping[str, Any], rows: Iterable[Row], *, began: float | None, now: float) -> dict[int, WaitProgress]:
    """What :func:`clocks` wrote, for waits that go on in another process.

    :param form: It.
    :param rows: Those that go on.
    :param began: When their waits began, in unix seconds; None where that is now.
    :param now: The present, likewise.
    """
    rows = list(rows)
    unseen = set(indices_of(form["unseen"])) if "unseen" in form else {row.index for row in rows}
    learnt: Mapping[str, Mapping[str, Any]] = form.get("rows") or {}
    common = {"began": began, "accepted": bool(form.get("accepted")), "as_of": form.get("as_of", 0.0)}
    return {
        row.index: WaitProgress.from_dict(
            {**common, "seen": row.index not in unseen, **learnt.get(str(row.index), {})}, now
        )
        for row in rows
    }
