"""The example DAGs and definitions can be loaded by anybody: no connection, no key, no network."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from demo.processes import clean_environment
from demo.story import DAG_RUNS, PROMISES, release_config
from demo.vendors import KEY_VARIABLES

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "example_dags"
MAINTENANCE = "example_orphans"
MANY = "example_many_runs"
APPROVAL = "example_approval"
PHASES = "example_phases"

LOAD = """
import json, socket, sys

def refuse(*arguments):
    raise AssertionError("a DAG file opened a connection")

socket.socket.connect = refuse
from airflow.dag_processing.dagbag import DagBag

bag = DagBag(sys.argv[1])
dags = {
    name: {"tasks": sorted(dag.task_ids), "doc": dag.doc_md, "file": dag.fileloc.rpartition("/")[2]}
    for name, dag in bag.dags.items()
}
print(json.dumps({"errors": bag.import_errors, "dags": dags}))
"""


@cache
def _bag(folder: Path) -> dict[str, Any]:
    home = os.environ["RUNOPS_TEST_HOME"]
    environment = clean_environment(AIRFLOW_HOME=home, AIRFLOW__CORE__LOAD_EXAMPLES="False")
    command = [sys.executable, "-c", LOAD, str(folder)]
    done = subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNOPS_TEST_HOME", str(tmp_path_factory.mktemp("airflow")))


@pytest.mark.parametrize("folder", [EXAMPLES, ROOT / "demo" / "dags"], ids=["examples", "demo"])
def test_dags_load_without_connections(folder: Path) -> None:
    bag = _bag(folder)
    assert bag["errors"] == {}
    assert len(bag["dags"]) == len(list(folder.glob("example_*.py")) or list(folder.glob("*.py")))


def test_every_example_says_what_it_shows_and_is_named_like_its_file() -> None:
    for name, dag in _bag(EXAMPLES)["dags"].items():
        assert dag["file"] == f"{name}.py"
        assert "Connection" in dag["doc"], f"{name} does not say which connections it needs"


def test_every_example_is_part_of_the_story_or_run_where_something_is_left_behind() -> None:
    told = {run.dag_id for run in DAG_RUNS.values()} - {"demo_clocks"}
    assert set(_bag(EXAMPLES)["dags"]) == told | {MAINTENANCE, MANY, APPROVAL, PHASES}
    in_one_process = (ROOT / "tests" / "airflow_side" / "test_dag_runs.py").read_text()
    assert all(f'run_dag("{name}"' in in_one_process for name in (MANY, PHASES))
    assert f'host.trigger("{MAINTENANCE}"' in (ROOT / "tests" / "airflow_host" / "test_host_orphans.py").read_text()
    assert f'trigger("{APPROVAL}"' in (ROOT / "tests" / "airflow_host" / "test_host_approvals.py").read_text()


def test_the_story_names_tasks_that_exist_and_leaves_none_out() -> None:
    dags = _bag(EXAMPLES)["dags"] | _bag(ROOT / "demo" / "dags")["dags"]
    for name, run in DAG_RUNS.items():
        told = {task for dag_run, task in (promise.task for promise in PROMISES) if dag_run == name}
        assert told | set(run.tasks) == set(dags[run.dag_id]["tasks"])


def test_the_definitions_load_without_keys() -> None:
    defs = _definitions(EXAMPLES / "dagster_definitions.py")
    dg.Definitions.validate_loadable(defs)
    assert {key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys()} == {
        "orders", "rate", "price_list", "gate", "pay_out", "announce"
    }  # fmt: skip


def test_the_definitions_of_phases_load_without_keys() -> None:
    defs = _definitions(EXAMPLES / "dagster_phases.py")
    dg.Definitions.validate_loadable(defs)
    assert [sensor.name for sensor in defs.sensors or ()] == ["waiting_runs"]


@pytest.mark.parametrize("release", ["release-out", "release-stopped"])
def test_the_job_takes_the_config_of_the_story(release: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in KEY_VARIABLES.values():
        monkeypatch.setenv(variable, "a-key")
    job = _definitions(EXAMPLES / "dagster_definitions.py").resolve_job_def("release")
    given = {promise.key: "a-run" for promise in PROMISES if promise.given}
    assert dg.validate_run_config(job, release_config(release, given))


def test_the_matrix_has_an_asset_for_every_other_promise() -> None:
    graph = _definitions(ROOT / "demo" / "dagster_matrix.py").resolve_asset_graph()
    promised = {promise.asset[1] for promise in PROMISES if promise.asset[0] == "matrix"}
    assert {key.to_user_string() for key in graph.get_all_asset_keys()} == promised


def _definitions(file: Path) -> dg.Definitions:
    return runpy.run_path(str(file))["defs"]
