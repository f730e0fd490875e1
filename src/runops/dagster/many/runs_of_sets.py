"""Which Dagster runs have submitted, or wait for, an external run as one of many.

A single run is a tag of its Dagster run. Of many that would be as many tags: Dagster writes all of a run's tags anew
with each that is added, and shows them in every list of runs. So a Dagster run that has many bears one tag for each
service, and which they are stands in its records. Those are only ever added, so that of each log only the new part is
read; what was read stays in the memory of this process.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import blake2b
from typing import Any, cast

import dagster as dg

from runops.core import RunRef, RunSnapshot
from runops.dagster import _compat
from runops.dagster.many.records import ROWS, rows_of, tag_of_many
from runops.dagster.step.live_run import AWAITED, SUBMITTED
from runops.dagster.step.records import RECORD

PAGE = 100
MOST_KEPT = 50
"""Dagster runs whose records are kept in memory: ten thousand external runs are about a megabyte."""
SLACK = timedelta(hours=1)
"""By how much the clocks of a service and of Dagster may differ."""


@dataclass(slots=True)
class _Known:
    """What was read of one Dagster run's records."""

    cursor: str | None = None
    submitted: set[bytes] = field(default_factory=set[bytes])
    awaited: set[bytes] = field(default_factory=set[bytes])


_known: OrderedDict[str, _Known] = OrderedDict()
"""By the id of the Dagster run, the one that was asked for last at the end."""
_reading = threading.Lock()
"""Ticks of several sensors may run in several threads of one process."""


def submitted_as_one_of_many(instance: dg.DagsterInstance, snapshot: RunSnapshot) -> bool:
    """Whether a Dagster run has submitted an external run as one of many: then it reports it itself.

    Args:
        instance: Where the Dagster runs are.
        snapshot: The external run. A Dagster run that has changed for the last time before it was there has not.
    """
    began = snapshot.created_at or snapshot.started_at
    wanted = dg.RunsFilter(
        tags={tag_of_many(snapshot.ref.provider, SUBMITTED): "true"},
        updated_after=None if began is None else began - SLACK,
    )
    digest = _digest(snapshot.ref)
    return any(digest in _read(instance, run_id).submitted for run_id in _pages(instance, wanted))


def awaited_as_one_of_many(
    instance: dg.DagsterInstance, ref: RunRef, statuses: Collection[dg.DagsterRunStatus]
) -> bool:
    """Whether a Dagster run waits for an external run as one of many.

    Args:
        instance: Where the Dagster runs are.
        ref: The external run.
        statuses: Those of Dagster runs that go on.
    """
    digest = _digest(ref)
    for relation in (SUBMITTED, AWAITED):
        tags = {tag_of_many(ref.provider, relation): "true"}
        for run_id in _pages(instance, dg.RunsFilter(tags=tags, statuses=list(statuses))):
            known = _read(instance, run_id)
            if digest in known.submitted or digest in known.awaited:
                return True
    return False


def _pages(instance: dg.DagsterInstance, wanted: dg.RunsFilter) -> Iterator[str]:
    """The ids of Dagster runs, newest first."""
    cursor: str | None = None
    while True:
        page = instance.get_run_records(wanted, limit=PAGE, cursor=cursor)
        for record in page:
            yield record.dagster_run.run_id
        if len(page) < PAGE:
            return
        cursor = page[-1].dagster_run.run_id


def _read(instance: dg.DagsterInstance, run_id: str) -> _Known:
    """What the records of a Dagster run show, with what has come since it was read last."""
    with _reading:
        known = _known.setdefault(run_id, _Known())
        _known.move_to_end(run_id)
        if len(_known) > MOST_KEPT:
            _known.popitem(last=False)
        while True:
            page = _compat.engine_events_after(instance, run_id, known.cursor)
            for metadata in page.metadata:
                value = metadata.get(RECORD)
                if isinstance(value, dg.JsonMetadataValue) and isinstance(value.data, dict):
                    _take_in(known, cast("dict[str, Any]", value.data))
            known.cursor = page.cursor
            if not page.has_more:
                return known


def _take_in(known: _Known, record: dict[str, Any]) -> None:
    if record.get("kind") != ROWS:
        return
    for row, _ in rows_of(record):
        ref = row.ref(str(record.get("provider")))
        if ref is not None:
            (known.awaited if row.attached else known.submitted).add(_digest(ref))


def _digest(ref: RunRef) -> bytes:
    """Short, and equal for equal runs, as the tag of a single one is."""
    return blake2b(f"{ref.provider}\n{ref.run_id}".encode(), digest_size=10).digest()
