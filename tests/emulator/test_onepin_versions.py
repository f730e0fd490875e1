"""Every run command and every SDK call about runs of OnePin's published clients, version by version.

The version that is installed with this project is always tried. Others are tried where ``RUNOPS_ONEPIN`` names the
Python interpreters of environments that have them, separated as in ``PATH``; ``make official-clients`` makes those.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.emulator.onepin_command import CommandLine

pytest.importorskip("onepin")

STORY = Path(__file__).with_name("onepin_story.py")
WORKFLOW = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
OTHERS = [Path(each) for each in os.environ.get("RUNOPS_ONEPIN", "").split(os.pathsep) if each]
PYTHONS = [Path(sys.executable), *OTHERS]
#: What changes workflows instead of running them, or tells of no run: the emulator has none of it.
NO_RUN_CALLS = {
    "check_workflow_name_availability", "create_workflow", "delete_workflow", "duplicate_workflow",
    "get_workflow_markdown", "list_workflow_uploads", "patch_workflow", "update_workflow", "validate_workflow",
}  # fmt: skip
NO_RUN_COMMANDS = {"create", "update", "delete", "duplicate", "uploads", "set-voice", "definition-schema", "runs"}
#: Named in the client's own words, though not in its model.
SAID_IN_WORDS = ["get_run_outputs.data.outputs[].lines[].line_id"]
NEWEST = "0.16.1"

each_version = pytest.mark.parametrize("python", PYTHONS, ids=lambda python: python.parent.parent.name)


@pytest.mark.slow
@each_version
def test_every_call_of_the_sdk_about_runs_is_answered_as_its_models_want_it(
    served, emulator, tmp_path, python: Path
) -> None:
    line = CommandLine(served.base_url("onepin"), tmp_path, python)
    done = subprocess.run(
        [str(python), str(STORY), served.url],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=line.environment,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert set(told["called"]) == set(told["names"]) - NO_RUN_CALLS
    assert emulator.requests(action="unknown") == []
    assert not line.log.exists()
    if told["version"] == NEWEST:
        assert told["unknown"] == SAID_IN_WORDS


@pytest.mark.slow
@each_version
def test_every_run_command_is_answered(served, emulator, tmp_path, python: Path) -> None:
    command = CommandLine(served.base_url("onepin"), tmp_path, python)
    assert command.json("whoami")["auth_kind"] == "api_key"
    assert [row["id"] for row in command.json("workflows", "list")] == [WORKFLOW]
    assert command.json("workflows", "show", WORKFLOW)["runs_count"] == 0
    estimate = command.json("workflows", "preview-run", WORKFLOW)
    assert sum(row["expected_credits"] for row in estimate["breakdown"]) == estimate["expected_credits"]
    # 0.9.0 cannot send a script along.
    emulator.set_defaults("onepin", script="succeeded", seconds=0)
    run = command.json("workflows", "run", WORKFLOW, "--watch")
    assert run["status"] == "completed"
    of_run: Callable[..., Any] = lambda name, *more: command.json(  # noqa: E731
        "workflows", "runs", name, WORKFLOW, run["id"], *more
    )
    assert [row["id"] for row in command.json("workflows", "runs", "list", WORKFLOW)] == [run["id"]]
    assert of_run("show")["credits"] == 46
    assert of_run("status")["status"] == "completed"
    assert len(of_run("steps")) == 15
    assert of_run("overview")["run"]["id"] == run["id"]
    assert len(of_run("data", "--limit", "2")["rows"]) == 2
    assert command.json("workflows", "runs", "summary", WORKFLOW)["completed"] == 1
    whole, part = tmp_path / "whole.zip", tmp_path / "part.zip"
    of_run("download", "--out", str(whole))
    command.json("workflows", "runs", "download-node", WORKFLOW, run["id"], "node-15", "--out", str(part))
    assert [len(zipfile.ZipFile(io.BytesIO(file.read_bytes())).namelist()) for file in (whole, part)] == [3, 3]
    assert of_run("cancel", "--yes")["status"] == "completed"
    assert emulator.requests(action="unknown") == []


@pytest.mark.slow
@each_version
def test_no_run_command_is_forgotten(served, tmp_path, python: Path) -> None:
    source = Path(__file__).read_text()
    command = CommandLine(served.base_url("onepin"), tmp_path, python)
    tried = set(re.findall(r'"([a-z-]+)"', source))
    for group in (("workflows",), ("workflows", "runs")):
        shown = command(*group, "--help").stdout
        names = set(re.findall(r"^│ ([a-z-]+)  ", shown, re.MULTILINE))
        assert "list" in names
        assert names - NO_RUN_COMMANDS <= tried
