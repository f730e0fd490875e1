"""What a task instance leaves of its runs, for whoever reads it later: names and forms. It imports nothing of Airflow.

One record stands in the task state store of Airflow 3.3 and newer, under :data:`KEY`; a smaller one, under
:data:`SUBMITTED_RUN`, is an XCom, which the next try of the task deletes. Neither holds a secret or a payload.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

KEY = "runops"
"""The record's key in the task state store."""
STOPPED_KEY = "runops_stopped"
"""The key under which ``runops orphans`` names the run that it has cancelled: a key of its own, so that no record of a
try that begins meanwhile is overwritten."""
SUBMITTED_RUN = "run_submitted"
"""The XCom key of what this try has submitted or taken up: a run that was given to a task is never under it."""

PHASES_KEY = "runops_phases"
"""The key, in the task state store, of what was seen of the phases of a run for which a task calls somebody."""
PHASES_LEFT = "run_phase_left"
"""The XCom key under which a trigger notes that a run has left a phase for which the task has called somebody."""

SUBMITTING, SUBMITTED, REFUSED = "submitting", "submitted", "refused"
"""The ``state`` of a record: announced, answered, and surely not started."""
ATTACHED, AWAITING_TURN = "attached", "awaiting turn"
"""Further ones, under which nothing is ours: a run that was active already is waited for, or the end of such a one."""
MANY = "many"
"""The ``state`` of a record that is the header of many runs; they stand in pages of their own, see :func:`page_key`."""
STOPPED_MANY_KEY = "runops_stopped_many"
"""As :data:`STOPPED_KEY`, for the runs of a set: ``{"runs": [...]}``."""

MOST_LEFT = 20
"""Runs of before that a record names at the most; the newest stay."""


def identity(dag_id: str, run_id: str, task_id: str, map_index: int | None) -> str:
    """What names a task instance for good, over its tries: a part of the mark of its runs is a hash of it.

    :param dag_id: The DAG.
    :param run_id: The DAG run.
    :param task_id: The task.
    :param map_index: The index of a mapped task; -1 for others.
    """
    return "/".join((dag_id, run_id, task_id, str(map_index)))


def left_of(record: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The runs of before that a record names, because nobody has seen their end.

    :param record: A record, or None.
    """
    left: Any = (record or {}).get("left")
    return [dict(each) for each in left if isinstance(each, Mapping)] if isinstance(left, Sequence) else []


def left_behind(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a record that is about to be replaced says of its run; None where that has ended, or there is none.

    :param record: The record of an earlier try.
    """
    if record.get("ended") or record.get("state") not in (SUBMITTING, SUBMITTED):
        return None
    kept = ("state", "provider", "conn_id", "parent", "ref", "intent", "submitted_at", "waits")
    return {name: record[name] for name in kept if name in record}


def page_key(key: str, number: int) -> str:
    """The key of a page of many runs.

    :param key: That of the header: :data:`KEY` in the task state store, :data:`SUBMITTED_RUN` among the XComs.
    :param number: The page's number, counted through all sets of the task instance.
    """
    return f"{key}.{number}"


@dataclass(frozen=True, slots=True)
class Span:
    """The pages of one set.

    :param first: The number of the first one.
    :param pages: How many there are.
    """

    first: int
    pages: int

    @classmethod
    def of(cls, header: Mapping[str, Any]) -> Self:
        """Those of the set that a header is about.

        :param header: The header.
        """
        return cls(int(header.get("first") or 0), int(header.get("pages") or 0))


def spans_of(header: Mapping[str, Any]) -> list[Span]:
    """The pages of the sets before, whose runs may still go on; oldest first.

    :param header: The header.
    """
    return [Span(int(first), int(pages)) for first, pages in header.get("before") or ()]
