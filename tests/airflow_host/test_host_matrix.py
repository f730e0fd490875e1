"""Every end of every provider in each way to wait, in a real Airflow: the right state, the right XCom, and the same."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from demo.processes import free_port
from tests.airflow_host.host import TASK_OVER, Host, HostError, Outside, Task
from tests.airflow_host.matrix import (
    BROKEN,
    ENDS,
    MODES,
    PARENTS,
    SOFT_ENDS,
    SUBMIT_SECONDS,
    SUBMITS,
    sensor_id,
    submit_parents,
)
from tests.airflow_host.secrets_search import KEY_STEM, leaks_of, places, written_by
from tests.leaks.private_fields import STEM, script

END_SECONDS = 600.0
RUN = "matrix"
DAGS = ("matrix", "matrix_broken", "matrix_submits", "matrix_shapes")
PLACE = {"poke": "running", "reschedule": "up_for_reschedule", "deferrable": "deferred"}
"""The state in which a task waits, by its way to wait."""
SHAPES = ("succeeded", "soft", "failed")
"""How the runs of the mapped tasks end."""
LINKS = {
    "nexio": "Open in Nexio",
    "nyx": "Open in Nyx",
    "onepin": "Open in OnePin",
    "b3os": "Open in B3OS",
    "nekt": "Open in Nekt",
}
VOLATILE = ("run_id", "created_at", "started_at", "finished_at", "url", "details", "progress")
"""What differs between two runs that end alike."""

sensors = pytest.mark.parametrize(("provider", "scenario"), ENDS, ids=["_".join(case) for case in ENDS])
soft_sensors = pytest.mark.parametrize(("provider", "scenario"), SOFT_ENDS, ids=["_".join(case) for case in SOFT_ENDS])
each_mode = pytest.mark.parametrize("mode", MODES)


@dataclass
class Matrix:
    """The one DAG run of each DAG, and what was seen of it on the way."""

    host: Host
    outside: Outside
    runs: dict[Task, tuple[str, str]] = field(default_factory=dict)
    """Held runs: the provider and the run's id, by the task that waits for them."""
    states: dict[Task, str] = field(default_factory=dict)
    links: dict[str, dict[str, Any]] = field(default_factory=dict)
    early: dict[str, Any] = field(default_factory=dict)
    """The XCom ``run_id`` while a task is deferred, by provider."""
    confs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def make(self, task: Task, provider: str, scenario: str) -> str:
        """A run outside; one that ends stands still until the task waits for it."""
        if scenario in ("degraded", "exhausted"):
            scenario = "soft"
        made = self.outside.tell(
            "runs", provider=provider, script=script(provider, scenario, seconds=1), held=True,
            parents=PARENTS.get(provider),
        )  # fmt: skip
        if scenario != "timed_out":
            self.runs[task] = provider, made["run_id"]
        return made["run_id"]

    def go(self) -> None:
        """Trigger the DAGs, end each run as soon as its task waits for it, until all tasks are over."""
        began = time.monotonic()
        for dag_id in DAGS:
            self.host.trigger(dag_id, RUN, self.confs.get(dag_id, {}))
        waiting = dict(self.runs)
        while True:
            self.states = {task: state for dag_id in DAGS for task, state in self.host.states(dag_id, RUN).items()}
            reads = {run["run_id"]: run["reads"] for run in self.outside.runs()}
            for task, (provider, run_id) in list(waiting.items()):
                if self._waits(task) and reads[run_id]:
                    self._look_around(task, provider)
                    self.outside.tell("hold", held=False, provider=provider, run_id=run_id)
                    self.outside.tell("advance", provider=provider, run_id=run_id)
                    del waiting[task]
            left = sorted(task.task_id for task, state in self.states.items() if state not in TASK_OVER)
            if self.states and not left:
                break
            self._replace_the_fallen()
            if time.monotonic() > began + END_SECONDS:
                raise HostError(f"not over after {END_SECONDS:.0f} s: {left}")
            time.sleep(1.0)
        print(f"\n{len(self.states)} tasks have ended after {time.monotonic() - began:.0f} s")

    def _replace_the_fallen(self) -> None:
        """Start again what sqlite has locked out, as the supervisor of a real host does."""
        for name, component in self.host.components.items():
            if component.process.poll() is not None:
                print(f"{name} has ended by itself and is started again")
                self.host.restart(name)

    def _waits(self, task: Task) -> bool:
        state = self.states.get(task)
        if task.dag_id == "matrix":
            mode = next(mode for mode in MODES if f"_{mode}" in task.task_id)
            return state == PLACE[mode]
        return state in ("deferred", "up_for_reschedule")

    def _look_around(self, task: Task, provider: str) -> None:
        """What a person sees of a task while it is deferred."""
        if task.task_id == sensor_id(provider, "succeeded", "deferrable"):
            self.links[provider] = self.host.ask("GET", f"{task.path}/links")["extra_links"]
            self.early[provider] = self.host.value(task, "run_id")

    def value(self, task_id: str, key: str = "run", *, dag_id: str = "matrix", map_index: int = -1) -> Any:
        return self.host.value(Task(dag_id, RUN, task_id, map_index), key)

    def state(self, task_id: str, *, dag_id: str = "matrix", map_index: int = -1) -> str:
        return self.states[Task(dag_id, RUN, task_id, map_index)]

    def conf_of(self, task_id: str) -> str:
        """The id of the run that a task of the first DAG waits for."""
        return self.confs["matrix"][task_id]

    def log(self, task_id: str, *, dag_id: str = "matrix") -> str:
        return self.host.log(Task(dag_id, RUN, task_id))


@pytest.fixture(scope="module")
def matrix(sqlite_host: Host, outside: Outside) -> Iterator[Matrix]:
    sqlite_host.wait_for_dags([*DAGS, "matrix_daily", "matrix_by_hand", "matrix_by_asset"])
    _connect(sqlite_host, outside)
    outside.tell("defaults", seconds=SUBMIT_SECONDS)
    matrix = Matrix(sqlite_host, outside)
    confs = matrix.confs = {"matrix": {}, "matrix_shapes": {}}
    for soft, table in ((False, ENDS), (True, SOFT_ENDS)):
        for provider, scenario in table:
            for mode in MODES:
                task_id = sensor_id(provider, scenario, mode, soft=soft)
                confs["matrix"][task_id] = matrix.make(Task("matrix", RUN, task_id), provider, scenario)
    begun = Task("matrix_shapes", RUN, "begun_in_triggerer")
    confs["matrix_shapes"]["begun_in_triggerer"] = matrix.make(begun, "nyx", "succeeded")
    confs["matrix_shapes"]["mapped"] = [
        matrix.make(Task("matrix_shapes", RUN, "mapped", index), "nyx", scenario)
        for index, scenario in enumerate(SHAPES)
    ]
    matrix.go()
    yield matrix
    outside.tell("defaults", seconds=None)


def _connect(host: Host, outside: Outside) -> None:
    """Connections that are kept in Airflow's database; one of them is deleted again."""
    broken = {
        "matrix_wrong_key": {
            "conn_type": "nyx",
            "host": outside.base_url("nyx"),
            "password": f"invalid-{KEY_STEM}-six",
        },
        "matrix_deleted": {"conn_type": "b3os", "host": outside.base_url("b3os"), "password": f"b3sk_{KEY_STEM}-seven"},
        "matrix_unreachable": {
            "conn_type": "nekt",
            "host": f"http://127.0.0.1:{free_port()}",
            "password": f"{KEY_STEM}-eight",
        },
    }
    for name, connection in broken.items():
        host.ask("POST", "/api/v2/connections", body={"connection_id": name, **connection}, expect=(201,))
    host.ask("DELETE", "/api/v2/connections/matrix_deleted", expect=(204,))


@sensors
@each_mode
def test_a_sensor_ends_in_the_right_state_with_the_right_result(
    matrix: Matrix, provider: str, scenario: str, mode: str
) -> None:
    state, result = ENDS[provider, scenario]
    task_id = sensor_id(provider, scenario, mode)
    assert matrix.state(task_id) == state, matrix.log(task_id)
    left = matrix.value(task_id)
    assert {name: left[name] for name in result} == result
    assert left["run_id"] == matrix.value(task_id, "run_id") == matrix.conf_of(task_id)
    assert matrix.value(task_id, "return_value") == (left if state == "success" else None)


@soft_sensors
@each_mode
def test_under_soft_fail_a_sensor_is_skipped_and_leaves_its_result(
    matrix: Matrix, provider: str, scenario: str, mode: str
) -> None:
    state, result = SOFT_ENDS[provider, scenario]
    task_id = sensor_id(provider, scenario, mode, soft=True)
    assert matrix.state(task_id) == state, matrix.log(task_id)
    left = matrix.value(task_id)
    assert {name: left[name] for name in result} == result


@pytest.mark.parametrize(
    ("provider", "scenario", "soft"),
    [(*case, False) for case in ENDS] + [(*case, True) for case in SOFT_ENDS],
)
def test_all_ways_to_wait_leave_the_same_result(matrix: Matrix, provider: str, scenario: str, soft: bool) -> None:
    results = [matrix.value(sensor_id(provider, scenario, mode, soft=soft)) for mode in MODES]
    for name in VOLATILE:
        # What one of them knows of its run, all of them know.
        assert len({result[name] is None for result in results}) == 1, (name, results)
    steady = [{name: value for name, value in result.items() if name not in VOLATILE} for result in results]
    assert steady[0] == steady[1] == steady[2]


@pytest.mark.parametrize("name", BROKEN)
@each_mode
def test_what_a_person_must_put_right_fails_under_soft_fail_and_says_so(matrix: Matrix, name: str, mode: str) -> None:
    task_id = f"{name}_{mode}"
    log = matrix.log(task_id, dag_id="matrix_broken")
    assert matrix.state(task_id, dag_id="matrix_broken") == "failed", log
    for text in BROKEN[name][2]:
        assert text in log, log
    assert len(matrix.host.tries(Task("matrix_broken", RUN, task_id))) == 1


@pytest.mark.parametrize("provider", SUBMITS)
@pytest.mark.parametrize("where", ["worker", "deferrable"])
def test_an_operator_submits_once_and_ends_with_its_run(matrix: Matrix, provider: str, where: str) -> None:
    task_id = f"{provider}_{where}"
    assert matrix.state(task_id, dag_id="matrix_submits") == "success", matrix.log(task_id, dag_id="matrix_submits")
    left = matrix.value(task_id, dag_id="matrix_submits")
    assert (left["outcome"], left["verdict"]) == ("succeeded", "succeed")
    submitted = matrix.outside.submitted(provider, **submit_parents(provider, task_id))
    assert [run["run_id"] for run in submitted] == [left["run_id"]]
    assert STEM in str(submitted[0]["body"])


@pytest.mark.parametrize("provider", LINKS)
def test_the_link_and_the_run_id_are_there_while_the_task_is_deferred(matrix: Matrix, provider: str) -> None:
    task_id = sensor_id(provider, "succeeded", "deferrable")
    assert matrix.early[provider] == matrix.conf_of(task_id)
    ((name, url),) = matrix.links[provider].items()
    assert name == LINKS[provider]
    assert url.startswith("https://"), url


def test_a_sensor_that_begins_in_the_triggerer_leaves_what_any_other_does(matrix: Matrix) -> None:
    left = matrix.value("begun_in_triggerer", dag_id="matrix_shapes")
    assert matrix.state("begun_in_triggerer", dag_id="matrix_shapes") == "success"
    other = matrix.value(sensor_id("nyx", "succeeded", "poke"))
    assert {name: left[name] for name in left if name not in VOLATILE} == {
        name: other[name] for name in other if name not in VOLATILE
    }
    assert matrix.value("begun_in_triggerer", "return_value", dag_id="matrix_shapes") == left


@pytest.mark.parametrize("task_id", ["mapped", "mapped_poked"])
def test_mapped_sensors_wait_for_a_run_each(matrix: Matrix, task_id: str) -> None:
    ends = [matrix.state(task_id, dag_id="matrix_shapes", map_index=index) for index in range(len(SHAPES))]
    assert ends == ["success", "skipped", "failed"]
    ids = [matrix.value(task_id, dag_id="matrix_shapes", map_index=index)["run_id"] for index in range(len(SHAPES))]
    assert ids == matrix.confs["matrix_shapes"]["mapped"]


def test_neither_the_database_nor_any_log_holds_a_key_or_a_private_text(matrix: Matrix, folder: Path) -> None:
    looked_at = places(written_by(matrix.host, folder / "logs"))
    assert {"airflow.db, table xcom", "airflow.db, table connection", "airflow-scheduler.log"} <= looked_at
    assert any("task_id=nyx_failed_deferrable" in place and ".log.trigger" in place for place in looked_at)
    waited_for = set(matrix.confs["matrix"].values())
    assert all(STEM in str(run["fields"]) for run in matrix.outside.runs() if run["run_id"] in waited_for)
    assert leaks_of(matrix.host, folder / "logs") == []
