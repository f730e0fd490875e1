"""Sensors that the triggerer ends, in a real Airflow: the same states, tries and XComs as on a worker."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.processes import Supervisor
from runops.airflow._compat import renders_in_triggerer
from tests.airflow_host.conftest import running
from tests.airflow_host.ends import MEASURED, SCRIPTS, SENSORS
from tests.airflow_host.host import TASK_OVER, Host, Outside, Task, until

RUN = "ends"
EXPECTED = {
    "worker": "success",
    "end": "success",
    "both": "success",
    "both_skipped": "skipped",
    "both_warned": "success",
    "both_unmet": "skipped",
    "both_soft": "skipped",
    "both_failed": "failed",
    "end_failed": "failed",
    "both_timed_out": "failed",
    "found": "success",
    "pulled": "success",
}
BY_TRIGGERER = [name for name, state in EXPECTED.items() if state != "failed" and name != "worker"]
WITHOUT_WORKER = [name for name in BY_TRIGGERER if name.startswith("both")] if renders_in_triggerer() else []

pytestmark = pytest.mark.promise("a task that the triggerer ends has the state, the tries and the XComs of any other")


def the(task_id: str, dag_id: str = "ends", map_index: int = -1) -> Task:
    return Task(dag_id, RUN, task_id, map_index)


@pytest.fixture(scope="module")
def ends_host(supervisor: Supervisor, folder: Path, outside: Outside) -> Iterator[Host]:
    own = folder / "ends"
    own.mkdir()
    settings = {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{own}/airflow/airflow.db?timeout=60",
        "AIRFLOW__CORE__PARALLELISM": "6",
    }
    yield from running(Host(supervisor, own, outside.connections(), settings=settings))


@pytest.fixture(scope="module")
def ended(ends_host: Host, outside: Outside) -> Host:
    """All tasks of both DAGs are over."""
    host = ends_host
    host.wait_for_dags(["ends", "events_of_airflow"])
    held = {"provider": "nyx", "seconds": 1, "held": True}
    runs = {script: outside.tell("runs", script=script, parents={"config_name": "other"}, **held) for script in SCRIPTS}
    found = outside.tell("runs", script="succeeded", parents={"config_name": "ends"}, **held)
    ending = [run["run_id"] for script, run in (*runs.items(), ("succeeded", found)) if script != "forever"]
    host.trigger("ends", RUN, {script: run["run_id"] for script, run in runs.items()})
    host.trigger("events_of_airflow", RUN, {})
    waiting = [the(name) for name in EXPECTED if name != "both_timed_out"]
    waiting += [the("mapped", map_index=number) for number in (0, 1)]

    def all_deferred() -> bool:
        states = host.states("ends", RUN)
        return all(states.get(task) == "deferred" for task in waiting)

    until("every sensor waits in the triggerer", 180, all_deferred, pause=1.0)
    for run_id in ending:
        outside.finish(run_id)
    limit = time.monotonic() + 240
    while True:
        states = {**host.states("ends", RUN), **host.states("events_of_airflow", RUN)}
        left = [f"{task.task_id} {state}" for task, state in states.items() if state not in TASK_OVER]
        if not left:
            return host
        assert time.monotonic() < limit, f"not over: {left}"
        time.sleep(1)


@pytest.mark.parametrize("name", EXPECTED)
def test_every_task_ends_in_its_state_at_its_try(ended: Host, name: str) -> None:
    told = ended.log(the(name))
    assert ended.state(the(name)) == EXPECTED[name], told
    # A failure that is final is not retried, and one that is not is: both on a worker.
    assert ended.instance(the(name))["try_number"] == (2 if name == "both_timed_out" else 1), told


@pytest.mark.parametrize("name", BY_TRIGGERER)
def test_the_triggerer_ended_it(ended: Host, name: str) -> None:
    own = [path for path in _logs(ended, name) if ".trigger." in path.name]
    # Each version logs the event itself in its own way; the line of the verdict is ours, and names the run's page.
    assert " See http" in "".join(path.read_text() for path in own)
    assert "ends on a worker" not in ended.log(the(name))
    assert "could not end the task" not in ended.log(the(name))


@pytest.mark.parametrize("name", WITHOUT_WORKER)
def test_no_worker_ever_saw_it(ended: Host, name: str) -> None:
    assert [path.name for path in _logs(ended, name) if ".trigger." not in path.name] == []
    instance = ended.instance(the(name))
    assert not instance["pid"]
    assert instance["rendered_fields"] == {}
    assert instance["duration"] > 0


@pytest.mark.parametrize("name", [name for name in BY_TRIGGERER if EXPECTED[name] == "success"])
def test_its_xcoms_are_those_of_a_worker(ended: Host, name: str) -> None:
    for key in ("run", "return_value", "run_id", "run_url"):
        found, by_worker = ended.value(the(name), key), ended.value(the("worker"), key)
        if isinstance(by_worker, dict):
            assert list(found) == list(by_worker)
        else:
            assert isinstance(found, str)
            assert not found.startswith('"')
    if name in ("end", "both"):
        assert ended.value(the(name)) == ended.value(the("worker"))
    assert ended.value(the(name), "_link_NyxRunLink") == ended.value(the(name), "run_url")


@pytest.mark.parametrize("name", ["worker", "end", "both", "both_warned", "found"])
def test_a_later_task_gets_a_dict(ended: Host, name: str) -> None:
    outcome = "exhausted" if name == "both_warned" else "succeeded"
    assert ended.value(the(f"after_{name}"), "return_value") == f"dict {outcome}"


@pytest.mark.parametrize("name", ["both_skipped", "both_soft", "both_unmet"])
def test_a_skip_leaves_its_result_and_no_return_value(ended: Host, name: str) -> None:
    assert ended.value(the(name))["verdict"] == "skip"
    assert ended.value(the(name), "return_value") is None


@pytest.mark.parametrize("name", ["both_failed", "end_failed"])
def test_a_failure_is_told_on_a_worker_with_its_exception(ended: Host, name: str) -> None:
    assert ended.value(the(name))["verdict"] == "fail"
    assert "SensorRunFailed" in ended.log(the(name))


def test_mapped_tasks_are_ended_there_each_with_its_own_xcoms(ended: Host) -> None:
    assert ended.state(the("mapped", map_index=0)) == "success"
    assert ended.state(the("mapped", map_index=1)) == "skipped"
    assert ended.value(the("mapped", map_index=0), "return_value")["outcome"] == "succeeded"
    assert ended.value(the("mapped", map_index=1))["outcome"] == "exhausted"


def test_a_later_try_is_ended_by_a_worker_since_airflow_would_keep_the_end_time_of_the_first(ended: Host) -> None:
    ended.clear(the("both"))
    ended.wait_for(the("both"), {"success"}, 120)
    limit = time.monotonic() + 120
    while ended.instance(the("both"))["try_number"] < 2 or ended.state(the("both")) != "success":
        assert time.monotonic() < limit
        time.sleep(1)
    assert ended.value(the("both"), "return_value")["outcome"] == "succeeded"
    assert ended.instance(the("both"))["duration"] > 0


def test_what_an_event_of_airflow_s_own_loses(ended: Host) -> None:
    """Why our sensors store their XComs themselves, and refuse what comes with this task."""
    assert ended.state(the(MEASURED, "events_of_airflow")) == "success"
    measured: dict[str, Any] = {
        "form": ended.value(the("form", "events_of_airflow"), "return_value"),
        "asset events": ended.ask("GET", "/api/v2/assets/events", source_task_id=MEASURED)["total_entries"],
        "on_success_callback": (ended.pauses / "on_success_callback.called").exists(),
    }
    assert measured == {"form": 'str {"outcome": "succeeded"}', "asset events": 0, "on_success_callback": False}


def _logs(host: Host, name: str) -> list[Path]:
    return sorted((host.home / "logs" / "dag_id=ends" / f"run_id={RUN}" / f"task_id={name}").glob("attempt=1.log*"))


def test_every_sensor_is_looked_at() -> None:
    assert {*SENSORS, "found", "pulled"} == set(EXPECTED)
