"""Parsing a DAG file brings nothing heavy with it. How long it takes is for ``benchmarks/parse_time.py`` to say."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

EVERYTHING = """
import json, sys
from airflow.dag_processing import processor
import airflow.providers.standard.sensors.date_time
import airflow.providers.standard.sensors.external_task
from airflow.sdk import DAG
before = set(sys.modules)
from runops.airflow import *
with DAG("everything", schedule=None):
    NexioRunSensor(task_id="sensor", run_id="a_run", deferrable=True, start_from_trigger=True)
    NektPipelineSensor(task_id="discovery", pipeline="orders")
    NexioRunOperator(task_id="operator", engine_slug="placement", input={})
print(json.dumps(sorted(set(sys.modules) - before)))
"""


@pytest.fixture(scope="module")
def brought() -> set[str]:
    """The modules that a DAG file with everything of ours imports, beyond those of a dag-processor."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", EVERYTHING]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_parsing_brings_no_package_that_a_dag_processor_has_not_loaded_already(brought: set[str]) -> None:
    tops = {name.partition(".")[0] for name in brought} - set(sys.stdlib_module_names)
    # Parts of Airflow, of httpx and of pydantic that they themselves load when they are first used.
    assert tops <= {"runops", "airflow", "annotated_types", "anyio", "certifi", "h11", "httpcore", "httpx", "pydantic"}


def test_parsing_loads_no_host_code_that_only_a_running_task_needs(brought: set[str]) -> None:
    assert "runops.airflow.trigger" in brought
    for name in ("sqlalchemy", "fastapi", "aiohttp", "openlineage", "starlette", "uvicorn", "greenback", "httptools"):
        assert not {module for module in brought if module.partition(".")[0] == name}, name
    assert not {module for module in brought if module.startswith(("airflow.api_fastapi", "airflow.models"))}


def test_parsing_loads_neither_the_emulator_nor_the_command_line_nor_the_other_host(brought: set[str]) -> None:
    assert not {name for name in brought if name.startswith(("runops.emulator", "runops.cli", "runops.dagster"))}
