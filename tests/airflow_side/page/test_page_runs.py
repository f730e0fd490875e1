"""The table of runs: what is in it, in which order, and what never breaks it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.airflow_side.page.database import Database, record
from tests.airflow_side.page.people import Person


def ids(answer: dict[str, Any]) -> list[str]:
    return [row["run_id"] for row in answer["runs"]]


def test_a_row_has_the_record_the_task_and_what_one_may(database: Database, person: Callable[..., Person]) -> None:
    task = database.add(record(run_id="r-1"))
    answer = person("ada").runs()
    assert answer["total"] == 1
    row = answer["runs"][0]
    assert {name: row[name] for name in task} == task
    assert (row["provider"], row["run_id"], row["phase"], row["task_state"]) == ("nyx", "r-1", "running", "deferred")
    assert row["conn_id"] == "nyx_default"
    assert row["may"] == {"look": True, "cancel": True}
    assert row["usual_seconds"] is None
    assert 580 < row["age_seconds"] < 620
    assert 55 < row["record_age_seconds"] < 90
