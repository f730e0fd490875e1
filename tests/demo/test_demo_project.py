"""The example project for Dagster loads for anybody, and the demo asks of it what it has."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_representation.external_data import RepositorySnap

from demo.dagster_host import StepResult
from demo.dagster_project import AUTOMATION, FOLLOWING, JOBS, PROJECT_PROMISES, SENSED, rows
from demo.story import NOTHING, REPORTED
from demo.vendors import KEY_VARIABLES

ROOT = Path(__file__).resolve().parents[2]
PROJECT = ROOT / "examples" / "dagster"
KEY = "canary-key-5f2b9c7e1d"

# Dagster's own code warns while it loads a project.
pytestmark = pytest.mark.filterwarnings(
    "ignore::dagster.BetaWarning",
    "ignore::dagster.PreviewWarning",
    "ignore::pydantic.warnings.PydanticDeprecatedSince20",
)


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch) -> dg.Definitions:
    """The project, loaded without any key."""
    for name in KEY_VARIABLES.values():
        monkeypatch.delenv(name, raising=False)
    return load(monkeypatch)


def load(monkeypatch: pytest.MonkeyPatch) -> dg.Definitions:
    monkeypatch.syspath_prepend(PROJECT / "src")
    return dg.load_from_defs_folder(path_within_project=PROJECT / "src" / "agent_desk")


def test_the_project_loads_without_keys_and_has_what_the_demo_asks_for(project: dg.Definitions) -> None:
    dg.Definitions.validate_loadable(project)
    graph = project.resolve_asset_graph()
    keys = {key.to_user_string() for key in graph.get_all_asset_keys()}
    assert keys >= {promise.asset for promise in PROJECT_PROMISES} | set(SENSED)
    checks = {(key.asset_key.to_user_string(), key.name) for key in graph.asset_check_keys}
    assert checks >= {(promise.asset, promise.check or "runops_outcome") for promise in PROJECT_PROMISES}
    assert graph.get(dg.AssetKey(FOLLOWING)).automation_condition is not None
    sensor = project.resolve_sensor_def(AUTOMATION)
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING


@pytest.mark.parametrize("name", JOBS)
def test_a_job_of_the_project_takes_the_config_and_the_partition_of_the_demo(
    project: dg.Definitions, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for variable in KEY_VARIABLES.values():
        monkeypatch.setenv(variable, KEY)
    job = project.resolve_job_def(name)
    assert dg.validate_run_config(job, dict(JOBS[name].config))
    assert (job.partitions_def is None) is (JOBS[name].partition is None)
    if job.partitions_def is not None:
        assert JOBS[name].partition in job.partitions_def.get_partition_keys()


def test_what_the_variables_hold_is_in_nothing_that_dagster_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (*KEY_VARIABLES.values(), "AGENT_TOKEN"):
        monkeypatch.setenv(variable, KEY)
    snapshot = dg.serialize_value(RepositorySnap.from_def(load(monkeypatch).get_repository_def()))
    assert KEY not in snapshot
    assert "NYX_TOKEN" in snapshot


def test_the_project_shows_the_four_ways_and_names_them_in_its_readme() -> None:
    told = set(re.findall(r"^\| `([\w/.]+)`", (PROJECT / "README.md").read_text(), re.MULTILINE))
    folder = PROJECT / "src" / "agent_desk" / "defs"
    files = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.suffix in (".py", ".yaml")}
    assert told == files - {"__init__.py", "shared.py"}


def test_every_run_of_the_project_has_a_row_of_its_own() -> None:
    assert Counter(promise.row for promise in PROJECT_PROMISES).most_common(1)[0][1] == 1
    assert {promise.provider for promise in PROJECT_PROMISES} == set(KEY_VARIABLES)
    assert {promise.job for promise in PROJECT_PROMISES} >= {None, "regions", "release_agent"}


class _Records:
    """What Dagster would have recorded: every sensor has told of the same run."""

    def __init__(self, run_id: str) -> None:
        self._told = StepResult(REPORTED, {"runops/run_id": run_id, "runops/outcome": "succeeded"})

    def reported(self, asset: str) -> StepResult:
        return self._told

    def check(self, job: str, asset: str, check: str) -> StepResult:
        return self._told

    def result(self, job: str, asset: str) -> StepResult:
        return self._told


def _run(run_id: str, parent: Mapping[str, str]) -> dict[str, Any]:
    return {"provider": "nekt", "run_id": run_id, "parents": dict(parent), "fields": {"status": "success"}}


@pytest.mark.parametrize(
    ("there", "word"),
    [
        (["r_1"], "success"),
        (["r_2"], "1 run(s), Dagster names r_1"),
        (["r_1", "r_2"], "2 run(s), Dagster names r_1"),
        ([], "0 run(s), Dagster names r_1"),
    ],
)
def test_a_run_that_dagster_does_not_name_is_not_overlooked(there: list[str], word: str) -> None:
    runs = [_run(run_id, {"pipeline": "crm-orders"}) for run_id in there]
    records: Any = _Records("r_1")
    found = rows(records, runs)
    (row,) = [row for row, told in zip(found, PROJECT_PROMISES, strict=True) if told.asset == "crm/orders"]
    assert (row.word, row.airflow, row.dagster) == (word, NOTHING, REPORTED)
