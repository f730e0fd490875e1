"""Dagster's own ``dg`` on the example project: what a user of the component types."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("dagster_dg_cli")

PROJECT = Path(__file__).resolve().parents[2] / "examples" / "dagster"
TYPE = "runops.dagster.component.RunopsComponent"

pytestmark = pytest.mark.slow

Dg = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy that may be written to."""
    return Path(shutil.copytree(PROJECT, tmp_path / "agent-desk", ignore=shutil.ignore_patterns("__pycache__")))


@pytest.fixture
def run_dg(project: Path, tmp_path: Path) -> Dg:
    """``run_dg("check", "defs")``, in the project and without any key."""
    kept = {name: value for name, value in os.environ.items() if not name.endswith(("_API_KEY", "_TOKEN"))}
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    more = {
        "PATH": programs,
        "PYTHONPATH": str(project / "src"),
        "DAGSTER_HOME": str(tmp_path),
        "DAGSTER_DISABLE_TELEMETRY": "yes",
        "HOME": str(tmp_path),
    }

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(Path(sys.executable).with_name("dg")), *arguments],
            cwd=project,
            env={**kept, **more},
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

    return run


def test_the_component_is_listed(run_dg: Dg) -> None:
    done = run_dg("list", "components", "--json")
    assert done.returncode == 0, done.stderr
    assert TYPE in done.stdout


def test_a_mistake_is_told_with_its_line_and_its_field(run_dg: Dg, project: Path) -> None:
    file = project / "src" / "agent_desk" / "defs" / "audits" / "defs.yaml"
    text = file.read_text()
    line = text[: text.index("severity_target")].count("\n") + 1
    file.write_text(text.replace("severity_target: high", "severity_target: huge"))
    done = run_dg("check", "defs")
    assert done.returncode != 0
    assert f"audits/defs.yaml:{line} - attributes.assets[0].call.severity_target: " in done.stdout + done.stderr
    assert "is not one of low, medium, high, critical" in done.stdout + done.stderr


def test_the_project_is_right_without_keys_and_a_scaffolded_component_as_it_stands(run_dg: Dg, project: Path) -> None:
    done = run_dg("scaffold", "defs", TYPE, "payouts", "--provider", "b3os", "--asset-key", "money/paid")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "key: money/paid" in (project / "src/agent_desk/defs/payouts/defs.yaml").read_text()
    # Of the whole project: what it brings, and what was added.
    checked = run_dg("check", "defs")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    refused = run_dg("scaffold", "defs", TYPE, "other", "--provider", "nixo")
    assert refused.returncode != 0
    assert "There is no provider 'nixo'; use one of nexio" in refused.stdout + refused.stderr
