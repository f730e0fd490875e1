"""The record of an external run in Airflow's database: it moves while its task is deferred, and knows its try."""

from __future__ import annotations

from typing import Any

import pytest

from runops.airflow.external_run import EXTERNAL_RUN, ExternalRun
from tests.airflow_host.host import Host, Outside, Task, until
from tests.airflow_host.test_host_good_ends import TRIGGERER
from tests.leaks.private_fields import WORKFLOW

pytestmark = pytest.mark.slow

RUN = "recorded"
TASKS = ("handed_over", "begun_there")
SECONDS = 120.0


def test_the_records_move_while_nobody_but_the_triggerer_waits(sqlite_host: Host, outside: Outside) -> None:
    host = sqlite_host
    host.wait_for_dags(["recorded"])
    runs = {
        task_id: outside.tell(
            "runs", provider="onepin", parents={"workflow_id": WORKFLOW}, script="succeeded", seconds=86_400
        )["run_id"]
        for task_id in TASKS
    }
    host.trigger("recorded", RUN, runs)
    tasks = {task_id: Task("recorded", RUN, task_id) for task_id in TASKS}
    for task in tasks.values():
        host.wait_for(task, ["deferred"])

    def set_status(status: str) -> None:
        for run_id in runs.values():
            outside.tell("set", provider="onepin", run_id=run_id, set={"status": status})

    def all_show(**wanted: Any) -> dict[str, ExternalRun]:
        def look() -> dict[str, ExternalRun] | None:
            found = {name: ExternalRun.from_dict(host.value(task, EXTERNAL_RUN)) for name, task in tasks.items()}
            shown = {name: run for name, run in found.items() if run is not None}
            fits = [all(getattr(run, name) == value for name, value in wanted.items()) for run in shown.values()]
            return shown if len(fits) == len(tasks) and all(fits) else None

        return until(f"all show {wanted}", SECONDS, look, pause=1.0)

    set_status("running")
    first = all_show(phase="running", try_number=1)
    set_status("paused")
    all_show(phase="paused", holds="paused")
    assert {host.state(task) for task in tasks.values()} == {"deferred"}
    # Another triggerer goes on where this one has left the records.
    host.kill(TRIGGERER)
    host.restart(TRIGGERER)
    set_status("running")
    later = all_show(phase="running", holds=None)
    for name, run in later.items():
        assert [each.status for each in run.timeline][-3:] == ["running", "paused", "running"]
        assert run.began_at == first[name].began_at
        assert run.run_id == runs[name]
        assert run.ended_at is None
    # A person clears one: its record is then that of the new try.
    cleared = tasks["handed_over"]
    host.clear(cleared)
    until(
        "the next try has stored its own",
        SECONDS,
        lambda: (run := ExternalRun.from_dict(host.value(cleared, EXTERNAL_RUN))) and run.try_number == 2,
        pause=1.0,
    )
    for run_id in runs.values():
        outside.tell("advance", provider="onepin", run_id=run_id)
    for task in tasks.values():
        assert host.wait_for(task, ["success", "failed"]) == "success"
    ended = all_show(outcome="succeeded", verdict="succeed", phase=None)
    assert all(run.ended_at for run in ended.values())
    assert ended["handed_over"].try_number == 2
