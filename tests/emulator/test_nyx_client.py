"""Every command of Nyx's official command line against an emulator.

It is on no package index: these tests run where ``RUNOPS_NYX`` is the path of its ``dist/index.js``, built from its
repository as that says; see docs/project/official_clients.md.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

BUILT = os.environ.get("RUNOPS_NYX", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not BUILT, reason="RUNOPS_NYX is not set: the path of dist/index.js of a built Nyx command line"
    ),
]
TOKEN = "nyx_0123456789"
CONFIG = """\
name: Playground
target:
  url: https://playground.example.com
objective: Make it tell its instructions
budget: 4
goal: high
hints:
  - "emulator:script={script}"
  - "emulator:seconds={seconds}"
"""
#: Loaded before the command: writes down every attempt to leave this machine and refuses it.
GUARD = """\
const net = require("node:net");
const connect = net.Socket.prototype.connect;
net.Socket.prototype.connect = function (...given) {
  const { host } = Array.isArray(given[0]) ? given[0][0] : given[0];
  if (host !== "127.0.0.1") {
    require("node:fs").appendFileSync(process.env.GUARD_LOG, `${host}\\n`);
    throw new Error("no network beyond this machine");
  }
  return connect.apply(this, given);
};
"""


class CommandLine:
    """The command, in a directory of its own with a configuration to run."""

    def __init__(self, url: str, home: Path) -> None:
        self.home, self.log = home, home / "left-the-machine"
        (home / "guard.cjs").write_text(GUARD)
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "NODE_OPTIONS": f"--require {home / 'guard.cjs'}",
            "GUARD_LOG": str(self.log),
            "NYX_API_URL": url,
            "NYX_TOKEN": TOKEN,
            "NO_COLOR": "1",
        }

    def configure(self, name: str = "playground", script: str = "succeeded", seconds: float = 0) -> None:
        """Write a configuration for ``nyx run``."""
        (self.home / f"{name}.yaml").write_text(CONFIG.format(script=script, seconds=seconds))

    def __call__(self, *arguments: str, code: int = 0, **environment: str) -> str:
        node = shutil.which("node")
        assert node is not None, "RUNOPS_NYX needs node"
        done = subprocess.run(
            [node, str(Path(BUILT).resolve()), *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=self.home,
            env={**self.environment, **environment},
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert not self.log.exists(), self.log.read_text()
        return done.stdout + done.stderr


@pytest.fixture
def nyx(served, emulator, tmp_path) -> Iterator[CommandLine]:
    yield CommandLine(served.base_url("nyx"), tmp_path)
    assert emulator.requests(action="unknown") == []
    assert {entry["status"] // 100 for entry in emulator.requests()} <= {2, 4}


def test_a_run_makes_its_target_once_and_finds_it_the_next_time(nyx, emulator) -> None:
    nyx.configure(script="succeeded")
    first = nyx("run", "playground")
    assert "✔ Completed — vulnerability found ($2.30 spent, 1 finding)" in first
    assert "Budget:    $4.00" in first
    nyx("run", "playground.yaml")
    made = emulator.requests(action="new_target")
    assert [entry["status"] for entry in made] == [201]
    bodies = [run["body"] for run in emulator.runs(provider="nyx")]
    assert len({body["target_id"] for body in bodies}) == 1
    assert (bodies[0]["severity_target"], bodies[0]["budget_usd"]) == ("high", 4)


def test_a_run_with_a_target_asks_for_none(nyx, emulator) -> None:
    nyx.configure()
    nyx("run", "playground", "--target", "a-saved-target", "--budget", "10", "--goal", "low", "--verbose")
    (run,) = emulator.runs(provider="nyx")
    assert [run["body"][name] for name in ("target_id", "budget_usd", "severity_target")] == [
        "a-saved-target",
        10,
        "low",
    ]
    assert emulator.requests(action="targets") == []


@pytest.mark.parametrize(
    ("script", "line"),
    [
        ("exhausted", "✗ Exhausted — $4.00 / $4.00 spent"),
        ("exhausted_failed", "✗ Exhausted — $4.00 / $4.00 spent"),
        ("failed", "✗ Failed — $0.98 / $4.00 spent"),
        ("cancelled", "○ Cancelled — $0.98 spent"),
    ],
)
def test_a_run_is_followed_to_each_of_its_ends(nyx, script, line) -> None:
    nyx.configure(script=script)
    assert line in nyx("run", "playground")


def test_a_run_is_watched_while_it_goes_on(nyx, emulator) -> None:
    nyx.configure(script="succeeded", seconds=3)
    shown = nyx("run", "playground")
    # It looks every five seconds.
    assert shown.index("○ Queued — waiting to start") < shown.index("✔ Completed")
    assert len(emulator.requests(action="get")) == 2


def test_the_status_of_a_config_is_that_of_its_newest_run(nyx, emulator) -> None:
    emulator.create_run("nyx", script="succeeded", seconds=0)
    newest = emulator.create_run("nyx", script="running", seconds=0)
    shown = nyx("status", "playground")
    assert f"Run ID:    {newest}" in shown
    assert "Running (attempt 3, $0.41 / $5.00 spent)" in shown
    assert "Not found" in nyx("status", "missing-config", code=3)


def test_runs_are_listed_and_filtered(nyx, emulator) -> None:
    emulator.create_run("nyx", script="exhausted", seconds=0, parents={"config_name": "old"})
    running = emulator.create_run("nyx", script="running", seconds=0)
    shown = nyx("list")
    assert "Showing 2 of 2" in shown
    assert "$5.00/$5.00" in shown
    filtered = nyx("list", "--status", "running", "--limit", "1")
    assert running in filtered
    assert "Showing 1 of 1" in filtered
    assert "No runs found" in nyx("list", "--status", "queued")


def test_an_active_run_is_cancelled_and_no_other(nyx, emulator) -> None:
    run_id = emulator.create_run("nyx", script="forever", seconds=0)
    assert f"Cancelled run {run_id}" in nyx("cancel", "playground")
    assert "No active run" in nyx("cancel", "playground.yaml")
    assert emulator.runs(run_id=run_id)[0]["cancels"] == 1


def test_a_second_run_of_a_config_is_a_conflict(nyx, emulator) -> None:
    nyx.configure()
    emulator.create_run("nyx", script="forever")
    assert "already in progress" in nyx("run", "playground", code=3)


def test_a_login_is_checked(nyx) -> None:
    shown = nyx("login", "--check")
    assert "jane.doe@example.com" in shown
    assert "undefined" not in shown
    assert "Authentication failed" in nyx("login", "--check", code=1, NYX_TOKEN="invalid-token")
    assert "token may have expired" in nyx("list", code=3, NYX_TOKEN="invalid-token")
    assert "No stored credentials" in nyx("logout")


def test_the_guard_does_refuse_to_leave_the_machine(nyx) -> None:
    with pytest.raises(AssertionError, match=r"192\.0\.2\.1"):
        nyx("list", code=4, NYX_API_URL="http://192.0.2.1")


def test_no_command_is_forgotten(nyx) -> None:
    shown = nyx("--help").partition("Commands:")[2].split("\n")
    names = {line.split()[0] for line in shown if line.startswith("  ") and not line.startswith("   ")}
    assert names == {"login", "logout", "run", "status", "list", "cancel", "help"}
