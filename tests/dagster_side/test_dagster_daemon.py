"""A sensor under Dagster's own daemon, which is killed on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from runops.emulator.server import Server

DEFINITIONS = Path(__file__).with_name("external_definitions.py")
SOURCES = Path(__file__).resolve().parents[2] / "src"


@pytest.fixture
def home(on_disk: Callable[..., Any]) -> Iterator[dg.DagsterInstance]:
    with on_disk() as instance:
        yield instance


@pytest.fixture
def daemon(served: Server, home: dg.DagsterInstance) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts the daemon in a session of its own, so that its code server can be killed with it."""
    children: list[subprocess.Popen[bytes]] = []
    served.emulator.reset()

    def begin() -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "DAGSTER_HOME": home.root_directory,
            "DAGSTER_DISABLE_TELEMETRY": "yes",
            "EXTERNAL_URL": served.base_url("nyx"),
            "PYTHONPATH": str(SOURCES),
        }
        command = [str(Path(sys.executable).with_name("dagster-daemon")), "run", "-f", str(DEFINITIONS)]
        child = subprocess.Popen(
            command,
            cwd=home.root_directory,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        children.append(child)
        return child

    yield begin
    for child in children:
        kill(child)
    served.emulator.reset()


def kill(daemon: subprocess.Popen[bytes]) -> None:
    """As when the machine dies: nothing is given the time to finish."""
    with suppress(ProcessLookupError):
        os.killpg(daemon.pid, signal.SIGKILL)
    daemon.wait(timeout=30)


def reported(home: dg.DagsterInstance) -> Counter[str]:
    records = home.fetch_materializations(dg.AssetKey("audit"), limit=100).records
    events = [record.asset_materialization for record in records]
    return Counter(str(event.metadata["runops/run_id"].value) for event in events if event)


def until(seen: Callable[[], Any], what: str, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.1)


@pytest.mark.slow
def test_runs_are_reported_once_each_over_the_death_of_the_daemon_and_move_what_is_downstream(
    served: Server, home: dg.DagsterInstance, daemon: Callable[[], subprocess.Popen[bytes]]
) -> None:
    def more() -> set[str]:
        parents = {"config_name": "nightly"}
        return {served.emulator.create_run("nyx", script="succeeded", seconds=0.1, parents=parents) for _ in range(5)}

    first = daemon()
    made = more()
    until(lambda: reported(home).keys() == made, "the first runs")
    made |= more()
    until(lambda: len(reported(home)) > 5, "the next runs")
    kill(first)
    made |= more()
    daemon()
    until(lambda: reported(home).keys() == made, "all runs")
    until(lambda: home.get_latest_materialization_event(dg.AssetKey("report")), "what is downstream")
    assert set(reported(home).values()) == {1}
