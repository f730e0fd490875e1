"""Tests of Airflow DAGs with the testing kit, as a user writes them: hours of waiting, counted instead of timed."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker

from runops.testing import Runs, ends, states
from runops.testing.airflow_due import seconds_until_due

pytestmark = pytest.mark.slow
HOUR = 3600.0

DAGS = """
from airflow.sdk import dag, task

from runops.airflow import NektRunSensor, NexioRunOperator, NexioRunsOperator


@dag(schedule=None)
def kit_placements():
    run = NexioRunOperator(task_id="place", engine_slug="placement", input={"age": 30}, deferrable=True)

    @task
    def report(run: dict) -> None:
        print(run["run_id"])

    report(run.output)


@dag(schedule=None)
def kit_modes():
    common = {"run_id": "run-1", "poke_interval": 600, "timeout": 24 * 3600}
    worker = NektRunSensor(task_id="worker", **common)
    deferred = NektRunSensor(task_id="deferred", deferrable=True, **common | {"run_id": "run-2"})
    rescheduled = NektRunSensor(task_id="rescheduled", mode="reschedule", **common | {"run_id": "run-3"})
    worker >> deferred >> rescheduled


@dag(schedule=None)
def kit_retries():
    NexioRunOperator(task_id="place", engine_slug="placement", input={}, retries=1, retry_delay=1800)


@dag(schedule=None)
def kit_set():
    NexioRunsOperator(
        task_id="place", calls=[{"engine_slug": "placement", "input": {"n": n}} for n in range(5)], max_active=2,
        poll_interval=300,
    )


kit_placements()
kit_modes()
kit_retries()
kit_set()
"""


@pytest.fixture(scope="module")
def dags() -> Iterator[Mapping[str, Any]]:
    """The DAGs above, in Airflow's own folder and database."""
    from airflow.configuration import conf
    from airflow.utils.db import initdb

    folder = Path(conf.get("core", "dags_folder"))
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "of_the_kit.py"
    file.write_text(DAGS)
    initdb()
    with warnings.catch_warnings():
        # Airflow imports a test client of starlette that deprecates itself.
        warnings.simplefilter("ignore")
        importlib.import_module("airflow.api_fastapi.execution_api.app")
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(file)
    assert not bag.import_errors
    yield bag.dags
    file.unlink()


def test_a_degraded_run_skips_the_task_and_what_is_downstream(dags: Mapping[str, Any], runops_runs: Runs) -> None:
    runops_runs.nexio.on_submit("queued", 3 * HOUR, "degraded")
    run = dags["kit_placements"].test()
    assert states(run) == {"place": "skipped", "report": "skipped"}
    ended = ends(run)["place"]
    (submitted,) = runops_runs.nexio.submitted
    assert (ended["outcome"], ended["run_id"]) == ("degraded", submitted.run_id)
    assert submitted.body["input"] == {"age": 30}
    assert 3 * HOUR - 60 < runops_runs.time.passed < 4 * HOUR


def test_hours_pass_at_once_in_a_worker_a_triggerer_and_between_pokes(
    dags: Mapping[str, Any], runops_runs: Runs
) -> None:
    for number in (1, 2, 3):
        runops_runs.nekt(f"run-{number}", "running", 2 * number * HOUR, "success")
    run = dags["kit_modes"].test()
    # Each task begins when the one before it has ended, by Airflow's clock and ours alike: no timeout of a day is met.
    assert states(run) == {"worker": "success", "deferred": "success", "rescheduled": "success"}
    assert 6 * HOUR - 60 < runops_runs.time.passed < 7.5 * HOUR
    assert all(8 <= number <= 20 for number in runops_runs.nekt.asked.values())


def test_a_retry_begins_after_its_delay_at_once(dags: Mapping[str, Any], runops_runs: Runs) -> None:
    runops_runs.nexio.on_submit("processing", "failed")
    run = dags["kit_retries"].test()
    assert states(run) == {"place": "failed"}
    assert len(runops_runs.nexio.submitted) == 2
    assert 1800 + 60 < runops_runs.time.passed < 1800 + 900


def test_a_set_is_driven_beside_its_task(dags: Mapping[str, Any], runops_runs: Runs) -> None:
    runops_runs.nexio.on_submit("processing", HOUR, "completed")
    run = dags["kit_set"].test()
    assert states(run) == {"place": "success"}
    assert ends(run)["place"]["outcomes"] == {"succeeded": 5}
    assert len(runops_runs.nexio.submitted) == 5
    assert 3 * HOUR - 60 < runops_runs.time.passed < 4 * HOUR


def test_a_process_whose_airflow_has_no_database_yet_has_nothing_due(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = sessionmaker(create_engine("sqlite://"))
    monkeypatch.setattr("airflow.utils.session.create_session", empty)
    assert seconds_until_due(1_800_000_000.0) is None
