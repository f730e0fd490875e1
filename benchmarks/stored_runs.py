"""``python -m benchmarks.stored_runs --count 10000``: external runs written straight into Airflow's database.

It writes what years of use leave there: DAG runs, task instances and the XComs of our tasks, the same ones for the same
seed. It runs in the environment of a host (its database is that of Airflow's settings) whose DAG processor, or
``airflow dags reserialize``, has read the folder ``stored_dags``. No component has to be up.
"""

from __future__ import annotations

import argparse
import json
import random
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from benchmarks.stored_dags.names import DAG_IDS, PARENTS, TASKS
from runops.airflow.external_run import EXTERNAL_RUN, ExternalRun

DAYS = 30
SET_TASK, SET_ROUNDS, SET_SIZE = "place_homes", 3, 40
"""The task whose newest ended runs are sets, of how many DAG runs, and how many runs each has."""
CHUNK = 1_000
"""Rows of one statement."""
OVER = {
    "nexio": (
        ("completed", "succeeded", "succeed", 80),
        ("degraded", "degraded", "skip", 12),
        ("failed", "failed", "fail", 8),
    ),
    "nyx": (
        ("completed", "succeeded", "succeed", 70),
        ("failed", "exhausted", "skip", 12),
        ("completed", "failed", "fail", 12),
        ("cancelled", "cancelled", "fail", 6),
    ),
    "onepin": (
        ("completed", "succeeded", "succeed", 84),
        ("failed", "failed", "fail", 10),
        ("cancelled", "cancelled", "fail", 6),
    ),
    "b3os": (
        ("success", "succeeded", "succeed", 84),
        ("failure", "failed", "fail", 11),
        ("cancelled", "cancelled", "fail", 5),
    ),
    "nekt": (
        ("success", "succeeded", "succeed", 86),
        ("failed", "failed", "fail", 10),
        ("canceled", "cancelled", "fail", 4),
    ),
}
"""How runs end: state, outcome, verdict, and how many of a hundred."""
OPEN = {
    "nexio": (("queued", "queued", None), ("processing", "running", None)),
    "nyx": (("queued", "queued", "turn"), ("running", "running", None), ("running", "running", "rate_limit")),
    "onepin": (("pending", "queued", None), ("running", "running", None), ("paused", "paused", "paused")),
    "b3os": (("running", "running", None), ("waiting", "waiting", "waiting"), ("running", "running", "key")),
    "nekt": (("pending_events", "waiting", "waiting"), ("running", "running", None), ("cancelling", "stopping", None)),
}
"""How open runs stand: state, phase and what holds them."""
HOLDS_FOR = {
    "turn": "run 6f1c0a52 of agent-nightly",
    "rate_limit": "429, next read in 40 s",
    "paused": "A voice provider is out of reach",
    "waiting": "approval by treasury",
    "key": "401, the key of payouts_main is read again every 30 s",
}
SPEND = {"nyx": ("USD", 4.0), "onepin": ("characters", 5200.0), "b3os": ("CU", 180.0), "nekt": ("USD", 1.7)}
UNITS = {"nexio": None, "nyx": None, "onepin": "nodes", "b3os": "nodes", "nekt": None}
URLS = {
    "nexio": "https://platform.usenexio.com/runs",
    "nyx": "https://app.fabraix.com/nyx/runs/{run_id}",
    "onepin": "https://app.onepin.ai",
    "b3os": "https://b3os.org/workflows/edit?id=wf_1",
    "nekt": "https://app.nekt.ai",
}
REASONS = (
    "The model has not answered in time",
    "Source orders: the table events_2026 is missing",
    "Two of three carriers have answered",
    "Step transfer: not enough funds on the account",
)
MINUTES = {"nexio": 4.0, "nyx": 55.0, "onepin": 9.0, "b3os": 2.0, "nekt": 26.0}


@dataclass(frozen=True)
class Stored:
    """One run of one task."""

    provider: str
    dag_id: str
    task_id: str
    dag_run: str
    state: str
    """That of the task."""
    began: datetime
    ended: datetime | None
    looked: datetime
    record: dict[str, Any]
    rows: list[dict[str, Any]] | None = None
    """Of a set: its runs."""


def stored(count: int, live: int, now: datetime, seed: int) -> list[Stored]:
    """So many runs, the oldest first.

    Args:
        count: How many.
        live: How many of them are not over: the newest ones.
        now: When the newest has begun.
        seed: The same seed gives the same runs.
    """
    chance = random.Random(seed)
    each_round = sum(len(tasks) for tasks in TASKS.values())
    rounds = -(-count // each_round)
    made: list[Stored] = []
    for number in range(rounds):
        back = timedelta(days=DAYS) * (1 - number / rounds) + timedelta(minutes=10)
        for provider, tasks in TASKS.items():
            run = f"scheduled__{now - back:%Y-%m-%dT%H:%M}:00+00:00.{number}"
            for task_id in tasks:
                is_open = rounds * each_round - len(made) <= live
                since = timedelta(minutes=90) if is_open else back
                one = _one(chance, provider, task_id, run, now - since * chance.uniform(0.9, 1.0), now, is_open)
                # Few are sets: a task instance is a row of the page, whatever it waits for.
                is_set = task_id == SET_TASK and number >= rounds - SET_ROUNDS - live // each_round and not is_open
                made.append(_as_set(chance, one) if is_set else one)
    return made[-count:]


def _one(
    chance: random.Random, provider: str, task_id: str, dag_run: str, began: datetime, now: datetime, is_open: bool
) -> Stored:
    run_id = str(uuid.UUID(int=chance.getrandbits(128), version=4))
    took = timedelta(minutes=MINUTES[provider] * chance.lognormvariate(0, 0.5))
    looked = now - timedelta(seconds=chance.uniform(1, 40)) if is_open else began + took
    record: dict[str, Any] = {
        "schema": 1,
        "kind": "run",
        "provider": provider,
        "conn_id": f"{provider}_default",
        "run_id": run_id,
        "parents": dict(PARENTS[provider]),
        "url": URLS[provider].format(run_id=run_id),
        "own": True,
        "cancels": provider not in ("nexio", "nekt"),
        "try_number": 1,
        "began_at": _text(began),
        "created_at": _text(began + timedelta(seconds=1)),
        "started_at": _text(began + timedelta(seconds=7)),
        "looked_at": _text(looked),
        "written_at": _text(looked),
        "details": {},
    }
    share = chance.random() if is_open else 1.0
    unit = UNITS[provider]
    if unit is not None:
        record["progress"] = {"done": int(share * 15), "total": 15, "unit": unit}
    if provider in SPEND:
        record["spend_unit"], typical = SPEND[provider]
        record["spend"] = round(typical * chance.uniform(0.4, 1.6) * share, 2)
    record["timeline"] = [
        {"at": _text(began + timedelta(seconds=1)), "state": "queued", "phase": "queued"},
        {"at": _text(began + timedelta(seconds=7)), "state": "running", "phase": "running"},
    ]
    if is_open:
        state, phase, holds = chance.choice(OPEN[provider])
        record |= {"state": state, "phase": phase, "run_ended": False}
        if holds is not None:
            record |= {"holds": holds, "holds_for": HOLDS_FOR[holds]}
        return Stored(provider, DAG_IDS[provider], task_id, dag_run, "deferred", began, None, looked, record)
    states = OVER[provider]
    state, outcome, verdict, _ = chance.choices(states, [each[3] for each in states])[0]
    record |= {"state": state, "outcome": outcome, "verdict": verdict, "run_ended": True}
    record |= dict.fromkeys(("finished_at", "ended_at"), _text(began + took))
    record["timeline"].append({"at": _text(began + took), "state": state, "outcome": outcome})
    if outcome != "succeeded":
        record["reason"] = chance.choice(REASONS)
    task_state = {"succeed": "success", "skip": "skipped", "fail": "failed"}[verdict]
    return Stored(provider, DAG_IDS[provider], task_id, dag_run, task_state, began, began + took, looked, record)


def _as_set(chance: random.Random, one: Stored) -> Stored:
    """The same task, which has waited for many runs."""
    rows: list[dict[str, Any]] = []
    for index in range(SET_SIZE):
        state, outcome, verdict, _ = chance.choices(OVER[one.provider], [each[3] for each in OVER[one.provider]])[0]
        row = {"index": index, "run_id": str(uuid.UUID(int=chance.getrandbits(128), version=4))}
        row |= {"state": state, "outcome": outcome, "verdict": verdict, "url": one.record["url"]}
        rows.append(row if outcome == "succeeded" else {**row, "reason": chance.choice(REASONS)})
    counted = {name: dict(Counter(row[name] for row in rows)) for name in ("outcome", "verdict")}
    counts = {"total": SET_SIZE, "ended": SET_SIZE, "active": 0, "errors": 0}
    counts |= {"outcomes": counted["outcome"], "verdicts": counted["verdict"]}
    left_out = ("run_id", "state", "parents", "details", "timeline", "reason")
    record = {name: value for name, value in one.record.items() if name not in left_out}
    record |= {"kind": "set", "counts": counts, "progress": {"done": SET_SIZE, "total": SET_SIZE, "unit": "runs"}}
    return replace(one, record=record, rows=rows)


def _text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


# --- writing -------------------------------------------------------------------------------------------------------


def write(rows: list[Stored], session: Any) -> None:
    """Insert DAG runs, task instances and XComs.

    Args:
        rows: What to write.
        session: A session of Airflow's database, in which the DAGs are known.

    Raises:
        SystemExit: They are not.
    """
    from airflow.models.dag_version import DagVersion
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from sqlalchemy import select

    versions = {row.dag_id: row.id for row in session.execute(select(DagVersion.dag_id, DagVersion.id))}
    missing = set(DAG_IDS.values()) - set(versions)
    if missing:
        raise SystemExit(f"Airflow has not read {', '.join(sorted(missing))}: run airflow dags reserialize.")
    runs: dict[tuple[str, str], list[Stored]] = {}
    for row in rows:
        runs.setdefault((row.dag_id, row.dag_run), []).append(row)
    _insert(session, DagRun, (_dag_run(key, of_run, versions) for key, of_run in runs.items()))
    ids = {(dag, run): number for dag, run, number in session.execute(select(DagRun.dag_id, DagRun.run_id, DagRun.id))}
    _insert(session, TaskInstance, (_task(row, versions) for row in rows))
    _insert(session, XComModel, (xcom for row in rows for xcom in _xcoms(row, ids[row.dag_id, row.dag_run])))
    session.commit()


def _insert(session: Any, model: Any, values: Iterator[dict[str, Any]]) -> None:
    from itertools import islice

    while chunk := list(islice(values, CHUNK)):
        session.execute(model.__table__.insert(), chunk)


def _dag_run(key: tuple[str, str], of_run: list[Stored], versions: Mapping[str, Any]) -> dict[str, Any]:
    from airflow.utils.types import DagRunTriggeredByType

    dag_id, run_id = key
    began = min(row.began for row in of_run)
    states = {row.state for row in of_run}
    state = "running" if "deferred" in states else "failed" if "failed" in states else "success"
    return {
        "dag_id": dag_id,
        "run_id": run_id,
        "run_type": "manual",
        "triggered_by": DagRunTriggeredByType.REST_API,
        "state": state,
        "queued_at": began,
        "start_date": began,
        "end_date": None if state == "running" else max(row.ended or began for row in of_run),
        "run_after": began,
        "logical_date": None,
        "conf": {},
        "created_dag_version_id": versions[dag_id],
    }


def _task(row: Stored, versions: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": uuid.uuid4(),
        "task_id": row.task_id,
        "dag_id": row.dag_id,
        "run_id": row.dag_run,
        "map_index": -1,
        "start_date": row.began,
        "end_date": row.ended,
        "duration": None if row.ended is None else (row.ended - row.began).total_seconds(),
        "state": row.state,
        "try_number": 1,
        "max_tries": 0,
        "hostname": "Linux",
        "unixname": "airflow",
        "pool": "default_pool",
        "pool_slots": 1,
        "queue": "default",
        "priority_weight": 1,
        "operator": f"{row.provider.title()}RunSensor",
        "custom_operator_name": f"{row.provider.title()}RunSensor",
        "queued_dttm": row.began,
        "scheduled_dttm": row.began,
        "executor_config": {},
        "task_display_name": row.task_id,
        "dag_version_id": versions[row.dag_id],
    }


def _xcoms(row: Stored, number: int) -> Iterator[dict[str, Any]]:
    """What our tasks leave: the record of the page, and at the end the result, as a task instance has them."""
    record = ExternalRun.from_dict(row.record)
    assert record is not None
    values: dict[str, Any] = {EXTERNAL_RUN: record.to_dict(), "run_id": record.run_id, "run_url": record.url}
    if row.ended is not None:
        result = {key: value for key, value in row.record.items() if key not in ("timeline", "kind", "own", "cancels")}
        values |= {"run": result, "return_value": result}
    if row.rows is not None:
        values["runs"] = row.rows
    for key, value in values.items():
        yield {
            "dag_run_id": number,
            "task_id": row.task_id,
            "map_index": -1,
            "key": key,
            "dag_id": row.dag_id,
            "run_id": row.dag_run,
            "value": value,
            "timestamp": row.ended or row.looked,
        }


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.stored_runs", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="runs (default: 10,000)")
    parser.add_argument("--live", type=int, default=200, help="how many of them are not over (default: 200)")
    parser.add_argument("--seed", type=int, default=13)
    asked = parser.parse_args()
    rows = stored(asked.count, asked.live, datetime.now(UTC), asked.seed)
    from airflow.utils.session import create_session

    with create_session() as session:
        write(rows, session)
    print(json.dumps({"written": len(rows), "open": sum(row.ended is None for row in rows)}))


if __name__ == "__main__":
    main()
