"""Ten thousand runs in one sensor, on sqlite and on PostgreSQL: each way to wait ends well; and what that takes."""

from __future__ import annotations

import os
import sqlite3
import time
from typing import Any

import pytest

from tests.airflow_host.host import TASK_OVER, Host, Outside, Task, until
from tests.airflow_host.refs import ids_of

pytestmark = pytest.mark.slow

DAG = "many_refs"
COUNT = int(os.environ.get("RUNOPS_TEST_REFS", "10000"))
WAYS = ("deferred", "started", "polled")
DEFERRED_SECONDS = 150.0
END_SECONDS = 240.0


def rows(host: Host, statement: str) -> list[tuple[Any, ...]]:
    """What Airflow's database says."""
    if host.database is not None:
        return host.database.query(statement)
    with sqlite3.connect(f"file:{host.home}/airflow.db?mode=ro", uri=True, timeout=60) as connection:
        return list(connection.execute(statement.replace("::text", "")))


def told(host: Host, what: str, statement: str) -> list[tuple[Any, ...]]:
    found = rows(host, statement)
    for row in found:
        print(f"{host.folder.name}: {what}: {', '.join(map(str, row))}")
    return found


@pytest.mark.parametrize("which", ["sqlite_host", "host"])
def test_ten_thousand_runs_are_one_task(which: str, outside: Outside, request: pytest.FixtureRequest) -> None:
    host: Host = request.getfixturevalue(which)
    outside.tell("reset")
    run_id = f"refs_{which}"
    sets = {way: ids_of(f"{which}/{way}", COUNT if way != "polled" else COUNT // 2) for way in ("deferred", "polled")}
    began = time.monotonic()
    for ids in sets.values():
        for each in ids:
            outside.tell("runs", provider="nexio", run_id=each, script="succeeded", seconds=3600, held=True)
    outside.tell("hold", held=False, provider="nexio", run_id=sets["polled"][0])
    outside.tell("advance", provider="nexio", run_id=sets["polled"][0])
    print(f"\n{which}: {sum(map(len, sets.values())):,} runs made in {time.monotonic() - began:.0f} s")
    host.wait_for_dags([DAG])
    conf = {
        "deferred": f"{which}/deferred", "polled": f"{which}/polled", "count": COUNT, "ids": sets["deferred"],
    }  # fmt: skip
    host.trigger(DAG, run_id, conf)
    tasks = {way: Task(DAG, run_id, way) for way in WAYS}
    began = time.monotonic()
    for way in ("deferred", "started"):
        until(
            f"{way} is deferred", DEFERRED_SECONDS,
            lambda way=way: host.state(tasks[way]) in ("deferred", *TASK_OVER), pause=1.0,
        )  # fmt: skip
        assert host.state(tasks[way]) == "deferred", host.log(tasks[way])[-3000:]
        print(f"{which}: {way} after {time.monotonic() - began:.0f} s")
    told(host, "trigger, bytes as stored", "SELECT classpath, length(kwargs) FROM trigger")
    until(
        "a poke has come and gone", DEFERRED_SECONDS,
        lambda: host.state(tasks["polled"]) in ("up_for_reschedule", *TASK_OVER), pause=1.0,
    )  # fmt: skip
    began = time.monotonic()
    outside.tell("hold", held=False, provider="nexio")
    outside.tell("advance", provider="nexio")
    until(
        "all are over", END_SECONDS,
        lambda: all(host.state(task) in TASK_OVER for task in tasks.values()), pause=2.0,
    )  # fmt: skip
    print(f"{which}: all over {time.monotonic() - began:.0f} s after the runs")
    told(host, "XCom, bytes", f"SELECT task_id, key, length(value::text) FROM xcom WHERE dag_id = '{DAG}'")
    pages = told(
        host, "task state, keys, largest and all bytes",
        f"SELECT task_id, count(*), max(length(value)), sum(length(value)) FROM task_state_store "
        f"WHERE dag_id = '{DAG}' GROUP BY task_id",
    )  # fmt: skip
    assert pages
    for way, task in tasks.items():
        assert host.state(task) == "success", f"{way}: {host.log(task)[-3000:]}"
        result = host.value(task)
        print(f"{which}: {way}: {result['outcomes']} of {result['total']}")
        assert result["total"] == len(sets["polled" if way == "polled" else "deferred"])
        assert result["outcomes"] == {"succeeded": result["total"]}
        assert len(host.value(task, "runs")) == result["total"]
    assert not outside.requests(action="cancel")
