"""How runs ended over days: outcomes, durations and spend, by day and provider, and by task."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from runops.airflow.plugin.queries import MOST_CHARTED, RunQueries
from runops.airflow.plugin.questions import ChartsQuestion
from runops.airflow.plugin.rows import began, moment_of, seconds
from runops.core.model.run import Outcome

MOST_TASKS = 50
"""Tasks that are told apart: those with the most runs."""
_OUTCOMES = frozenset(map(str, Outcome))


@dataclass(slots=True)
class _Group:
    """Runs that are counted together."""

    outcomes: Counter[str] = field(default_factory=Counter[str])
    durations: list[float] = field(default_factory=list[float])
    spend: dict[str, float] = field(default_factory=dict[str, float])

    def add(self, row: Any, took: float | None) -> None:
        self.outcomes[row.outcome] += 1
        if took is not None:
            self.durations.append(took)
        if row.spend is not None and row.spend_unit:
            self.spend[row.spend_unit] = self.spend.get(row.spend_unit, 0.0) + float(row.spend)

    def to_dict(self) -> dict[str, Any]:
        self.durations.sort()
        return {
            "outcomes": dict(self.outcomes),
            "runs": self.outcomes.total(),
            "seconds_median": median(self.durations) if self.durations else None,
            "seconds_p90": _percentile(self.durations, 0.9),
            "spend": {unit: round(each, 6) for unit, each in self.spend.items()},
        }


def charts_of(queries: RunQueries, question: ChartsQuestion, session: Any, now: datetime) -> dict[str, Any]:
    """What the charts are drawn from.

    :param queries: For whom.
    :param question: Which days and runs.
    :param session: The database.
    :param now: The time.
    """
    rows = session.execute(queries.ended_since(now - timedelta(days=question.days), question)).all()
    days: dict[tuple[str, str], _Group] = {}
    tasks: dict[tuple[str, str, str], _Group] = {}
    for row in rows:
        ended = moment_of(row.finished_at) or moment_of(row.ended_at) or row.timestamp
        if row.outcome not in _OUTCOMES or not row.provider:
            continue
        took = seconds(began(row.created_at, row.began_at), ended)
        days.setdefault((ended.date().isoformat(), row.provider), _Group()).add(row, took)
        tasks.setdefault((row.dag_id, row.task_id, row.provider), _Group()).add(row, took)
    most = sorted(tasks.items(), key=lambda each: (-each[1].outcomes.total(), each[0]))[:MOST_TASKS]
    return {
        "days": [
            {"day": day, "provider": provider, **group.to_dict()} for (day, provider), group in sorted(days.items())
        ],
        "tasks": [
            {"dag_id": dag_id, "task_id": task_id, "provider": provider, **group.to_dict()}
            for (dag_id, task_id, provider), group in most
        ],
        # A chart of a part must not look like one of the whole.
        "truncated": len(rows) == MOST_CHARTED,
    }


def _percentile(ordered: Sequence[float], share: float) -> float | None:
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None
