"""A real Dagster run whose steps are processes of their own: each external run is one span, and none is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runops.emulator.server import running
from tests.collector import Collector

FILE = Path(__file__).with_name("traced_definitions.py")
SOURCES = os.pathsep.join((str(FILE.parents[2]), str(FILE.parents[2] / "src")))


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The spans of a job that has run, the runs of its set, and the requests."""
    home = tmp_path_factory.mktemp("dagster")
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    collector = Collector()
    with running() as served:
        served.emulator.set_defaults("nyx", script="succeeded", seconds=2)
        ids = [served.emulator.create_run("nyx", script="exhausted", seconds=2) for _ in range(3)]
        environment = {
            **os.environ,
            **collector.settings,
            "DAGSTER_HOME": str(home),
            "PYTHONPATH": SOURCES,
            "HOST_URL": served.base_url("nyx"),
            "HOST_RUNS": ",".join(ids),
        }
        command = [sys.executable, "-m", "dagster", "job", "execute", "-f", str(FILE), "-j", "traced"]
        done = subprocess.run(
            command, env=environment, cwd=home, capture_output=True, text=True, timeout=240, check=False
        )
        submitted = [run["run_id"] for run in served.emulator.runs(provider="nyx") if run["submitted"]]
        requests = served.emulator.requests(provider="nyx")
    collector.close()
    return done, collector, ids, submitted, requests


def test_each_run_is_one_span(ended: Any) -> None:
    done, collector, ids, submitted, _ = ended
    assert submitted, done.stderr[-3000:]
    assert len(submitted) == 1
    spans = collector.of_runs(*ids, *submitted)
    assert sorted(span["attributes"]["runops.run_id"] for span in spans) == sorted([*ids, *submitted])
    verdicts = {span["attributes"]["runops.run_id"]: span["attributes"]["runops.verdict"] for span in spans}
    assert verdicts == {**dict.fromkeys(ids, "skip"), submitted[0]: "succeed"}
    assert all(span["attributes"]["runops.waited_seconds"] > 0 for span in spans)


def test_the_runs_of_a_step_with_a_span_are_its_children(ended: Any) -> None:
    _, collector, ids, *_ = ended
    (step,) = [span for span in collector.spans() if span["name"] == "step"]
    children = collector.of_runs(*ids)
    assert {span["parent"] for span in children} == {step["span"]}
    assert {span["trace"] for span in children} == {step["trace"]}


def test_all_requests_about_a_run_bear_one_trace(ended: Any) -> None:
    *_, ids, submitted, requests = ended
    for run_id in (*ids, *submitted):
        bear = {each["trace_id"] for each in requests if each["run_id"] == run_id}
        assert len(bear) == 1
        assert None not in bear


def test_no_key_is_in_a_span(ended: Any) -> None:
    _, collector, *_ = ended
    assert "canary" not in str(collector.spans())
