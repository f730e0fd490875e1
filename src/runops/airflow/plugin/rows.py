"""A stored record as the page shows it: with the ids of its task, ages, the usual duration, and who may do what."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median
from typing import Any, Self

from runops.airflow.external_run import ExternalRun
from runops.airflow.plugin.queries import RunQueries
from runops.airflow.plugin.questions import Address
from runops.airflow.plugin.rights import Rights

USUAL_FOR = 60.0
"""Seconds for which the usual duration of a task is not asked for again."""
MOST_USUAL = 10_000
"""Tasks whose usual duration a process keeps."""
_USUAL: dict[tuple[str, str], tuple[float, float | None]] = {}
"""By DAG and task: until when it holds, and how long their runs usually take, s."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A record, and what stands beside it in the database.

    :param address: Its task instance.
    :param run: The record.
    :param written: When it was stored.
    :param task_state: How the task instance stands.
    """

    address: Address
    run: ExternalRun
    written: datetime
    task_state: str | None

    @classmethod
    def of(cls, row: Any) -> Self | None:
        """A row of :class:`RunQueries`; None where what is stored is no record of the try that the task is in."""
        run = ExternalRun.from_dict(row.record)
        if run is None or run.try_number != row.now_in_try:
            return None
        address = Address(row.dag_id, row.dag_run_id, row.task_id, row.map_index)
        return cls(address, run, row.timestamp, None if row.task_state is None else str(row.task_state))


def stored(rows: Iterable[Any]) -> list[Stored]:
    """The records among rows."""
    return [each for each in map(Stored.of, rows) if each is not None]


def shown(each: Stored, rights: Rights, now: datetime, usual: Mapping[tuple[str, str], float]) -> dict[str, Any]:
    """A row of the page.

    :param each: The record.
    :param rights: Of who sees it.
    :param now: The time.
    :param usual: How long the runs of tasks usually take, s: see :func:`usual_seconds`.
    """
    run, dag_id = each.run, each.address.dag_id
    row: dict[str, Any] = {**run.plain(), **each.address.to_dict()}
    if not rights.sees_connection(run.conn_id):
        row.pop("conn_id", None)
    over = moment_of(run.finished_at) or moment_of(run.ended_at)
    return row | {
        "task_state": each.task_state,
        "usual_seconds": usual.get((dag_id, each.address.task_id)),
        "age_seconds": seconds(began(run.created_at, run.began_at), over or now),
        "record_age_seconds": seconds(each.written, now),
        "may": {"look": rights.may_look(run, dag_id), "cancel": rights.may_cancel(run, dag_id, each.task_state)},
    }


def usual_seconds(queries: RunQueries, records: Sequence[Stored], session: Any) -> dict[tuple[str, str], float]:
    """How long the last runs of these tasks took, in the middle, by DAG and task: one query for those that were not
    asked for within the last minute.

    :param queries: For whom.
    :param records: What is shown.
    :param session: The database.
    """
    now = time.monotonic()
    tasks = {(each.address.dag_id, each.address.task_id) for each in records}
    unknown = sorted(task for task in tasks if task not in _USUAL or _USUAL[task][0] < now)
    if unknown:
        durations: dict[tuple[str, str], list[float]] = {task: [] for task in unknown}
        for row in session.execute(queries.recent_ends(unknown)):
            if (took := _duration(row.record)) is not None:
                durations[row.dag_id, row.task_id].append(took)
        if len(_USUAL) > MOST_USUAL:
            _USUAL.clear()
        for task, each in durations.items():
            _USUAL[task] = (now + USUAL_FOR, median(each) if each else None)
    found = {task: _USUAL[task][1] for task in tasks if task in _USUAL}
    return {task: each for task, each in found.items() if each is not None}


def _duration(stored: Any) -> float | None:
    run = ExternalRun.from_dict(stored)
    if run is None:
        return None
    return seconds(began(run.created_at, run.began_at), moment_of(run.finished_at) or moment_of(run.ended_at))


def began(created_at: str | None, began_at: str | None) -> datetime | None:
    """When a run began: as the service says, or else when its wait did."""
    return moment_of(created_at) or moment_of(began_at)


def moment_of(text: str | None) -> datetime | None:
    """A time of a record; None where it is missing or none."""
    try:
        found = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return found.replace(tzinfo=UTC) if found is not None and found.tzinfo is None else found


def seconds(start: datetime | None, end: datetime | None) -> float | None:
    """From one to the other; never below 0, since clocks differ."""
    return None if start is None or end is None else round(max(0.0, (end - start).total_seconds()), 3)
