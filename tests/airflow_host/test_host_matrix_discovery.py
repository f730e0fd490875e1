"""Sensors find runs that nobody told them of, in DAG runs that a clock, a person, an asset or a backfill has made."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.airflow_host.host import Host, Outside, Task, until
from tests.airflow_host.matrix import workflow_of

END_SECONDS = 150.0
CRON_DAYS = (2, 1, 0)
"""How many days ago the DAG runs of the clock are due, the first one first."""
BACKFILL_DAYS = (5, 4)


@dataclass
class Found:
    """What was there to find, and the DAG runs that did."""

    host: Host
    evenings: dict[int, str] = field(default_factory=dict)
    """The run of the evening before a DAG run, by the days since that DAG run was due."""
    by_hand: dict[str, str] = field(default_factory=dict)
    by_asset: str = ""
    asset_run: str = ""
    daily: dict[tuple[str, int], str] = field(default_factory=dict)
    """The DAG run, by its kind and the days since it was due."""

    def result(self, dag_id: str, run_id: str, task_id: str = "found") -> tuple[str, Any]:
        """A task's state, and the run that it found."""
        task = Task(dag_id, run_id, task_id)
        left = self.host.value(task)
        return self.host.state(task), None if left is None else left["run_id"]


@pytest.fixture(scope="module")
def found(sqlite_host: Host, outside: Outside) -> Found:
    found = Found(sqlite_host)
    sqlite_host.wait_for_dags(["matrix_daily", "matrix_by_hand", "matrix_by_asset"])
    _evenings(found, outside)
    found.by_hand = _by_hand(outside)
    sqlite_host.trigger("matrix_by_hand", "by_hand", {})
    assets = sqlite_host.ask("GET", "/api/v2/assets", name_pattern="matrix_asset")["assets"]
    sqlite_host.ask("POST", "/api/v2/assets/events", body={"asset_id": assets[0]["id"], "extra": {}})
    sqlite_host.ask("PATCH", "/api/v2/dags/matrix_daily", body={"is_paused": False})
    found.asset_run = until("an asset event makes a DAG run", 60.0, lambda: _dag_run(sqlite_host, "matrix_by_asset"))
    # Nothing is there for it yet: it looks for a while itself, and then in the triggerer.
    sqlite_host.wait_for(Task("matrix_by_asset", found.asset_run, "found"), {"deferred"})
    found.by_asset = outside.tell(
        "runs", provider="b3os", script="succeeded", seconds=1, parents={"workflow_id": "wf_matrix_asset"}
    )["run_id"]
    sqlite_host.wait_for(Task("matrix_by_hand", "by_hand", "found"), {"deferred"})
    outside.finish(found.by_hand["found"])
    _until_over(found, "scheduled", CRON_DAYS)
    since, until_ = (_midnight(days).isoformat() for days in BACKFILL_DAYS)
    body = {"dag_id": "matrix_daily", "from_date": since, "to_date": until_, "max_active_runs": 1}
    sqlite_host.ask("POST", "/api/v2/backfills", body=body)
    _until_over(found, "backfill", BACKFILL_DAYS)
    for dag_id, run_id in (("matrix_by_hand", "by_hand"), ("matrix_by_asset", found.asset_run)):
        until(f"{dag_id} is over", END_SECONDS, lambda dag_id=dag_id, run_id=run_id: _over(sqlite_host, dag_id, run_id))
    return found


def _midnight(days_ago: int) -> datetime:
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days_ago)


def _evenings(found: Found, outside: Outside) -> None:
    """One run of the pipeline at 20:00 before each midnight at which a DAG run is due, the oldest first."""
    for days in sorted((*CRON_DAYS, *BACKFILL_DAYS), reverse=True):
        age = datetime.now(UTC) - _midnight(days) + timedelta(hours=4)
        made = outside.tell(
            "runs", provider="nekt", script="succeeded", seconds=600, age_seconds=age.total_seconds(),
            parents={"pipeline": "matrix-orders"},
        )  # fmt: skip
        found.evenings[days] = made["run_id"]


def _by_hand(outside: Outside) -> dict[str, str]:
    """The newest of two runs of each parent; that of Nyx goes on."""
    made: dict[str, str] = {}
    for task_id, provider, parents in (
        ("found", "nyx", {"config_name": "matrix-nightly"}),
        ("found_by_poking", "onepin", {"workflow_id": workflow_of("found_by_poking")}),
    ):
        for age in (7200, 600):
            goes_on = task_id == "found" and age == 600
            answer = outside.tell(
                "runs", provider=provider, script="succeeded", seconds=3600 if goes_on else 60, age_seconds=age,
                parents=parents, held=goes_on,
            )  # fmt: skip
            made[task_id] = answer["run_id"]
    return made


def _dag_runs(host: Host, dag_id: str) -> list[dict[str, Any]]:
    return list(host.ask("GET", f"/api/v2/dags/{dag_id}/dagRuns", limit=50)["dag_runs"])


def _dag_run(host: Host, dag_id: str) -> str | None:
    return next((run["dag_run_id"] for run in _dag_runs(host, dag_id)), None)


def _over(host: Host, dag_id: str, run_id: str) -> bool:
    return any(run["dag_run_id"] == run_id and run["state"] in ("success", "failed") for run in _dag_runs(host, dag_id))


def _until_over(found: Found, kind: str, days: tuple[int, ...]) -> None:
    """Wait for the DAG runs of one kind, and note them."""
    due = {_midnight(day): day for day in days}

    def all_over() -> bool:
        for run in _dag_runs(found.host, "matrix_daily"):
            day = due.get(datetime.fromisoformat(run["logical_date"]))
            if day is not None and run["run_type"] == kind and run["state"] in ("success", "failed"):
                found.daily[kind, day] = run["dag_run_id"]
        return all((kind, day) in found.daily for day in days)

    until(f"the {kind} DAG runs are over", END_SECONDS, all_over, pause=1.0)


@pytest.mark.parametrize("day", CRON_DAYS)
def test_each_dag_run_of_the_clock_finds_the_run_since_the_one_before(found: Found, day: int) -> None:
    assert found.result("matrix_daily", found.daily["scheduled", day]) == ("success", found.evenings[day])


@pytest.mark.parametrize("day", BACKFILL_DAYS)
def test_each_dag_run_of_a_backfill_finds_the_run_of_its_own_day(found: Found, day: int) -> None:
    assert found.result("matrix_daily", found.daily["backfill", day]) == ("success", found.evenings[day])


@pytest.mark.parametrize("task_id", ["found", "found_by_poking"])
def test_a_dag_run_made_by_hand_finds_the_newest_run_of_the_last_day(found: Found, task_id: str) -> None:
    assert found.result("matrix_by_hand", "by_hand", task_id) == ("success", found.by_hand[task_id])


def test_a_dag_run_made_by_an_asset_waits_for_a_run_that_comes_later(found: Found) -> None:
    assert found.result("matrix_by_asset", found.asset_run) == ("success", found.by_asset)
