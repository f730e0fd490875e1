"""``python -m demo`` as a user starts it: a real Airflow, a real Dagster, every example, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from demo.dagster_project import PROJECT_PROMISES
from demo.processes import clean_environment
from demo.story import PROMISES
from tests.progress import STUCK_SECONDS

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow


@dataclass
class Started:
    """A demo that runs, what it prints, and the sessions that it has opened so far."""

    process: subprocess.Popen[bytes]
    output: Path
    sessions: set[int]

    def wait_until(self, condition: Callable[[], object]) -> None:
        """Wait as long as it takes; a demo that is stuck gives up by itself."""
        while True:
            over = self.process.poll() is not None
            self._note_sessions()
            if condition():
                return
            assert not over, self.output.read_text()
            time.sleep(0.2)

    def _note_sessions(self) -> None:
        try:
            for child in psutil.Process(self.process.pid).children(recursive=True):
                self.sessions.add(os.getsid(child.pid))
        except (psutil.NoSuchProcess, ProcessLookupError):
            return

    def left_behind(self) -> list[str]:
        found: list[str] = []
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) in self.sessions and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(" ".join(process.cmdline()))
            except (psutil.Error, ProcessLookupError, PermissionError):
                continue
        return found


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    output = tmp_path / "output"
    with output.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "demo"],
            cwd=ROOT,
            env=clean_environment(TMPDIR=str(tmp_path)),
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    started = Started(process, output, set())
    yield started
    process.kill()
    process.wait()


def test_every_example_ends_as_the_story_promises(started: Started, tmp_path: Path) -> None:
    started.wait_until(lambda: started.process.poll() is not None)
    told = started.output.read_text()
    assert started.process.returncode == 0, told
    assert "every cell is as promised" in told
    assert all(f"{promise.provider:<8}  {promise.run}  " in told for promise in (*PROMISES, *PROJECT_PROMISES))
    assert len(started.sessions) > len(("emulator", "api-server", "scheduler", "triggerer", "dag-processor", "guard"))
    assert started.left_behind() == []
    assert [path.name for path in tmp_path.iterdir()] == ["output"]


@pytest.mark.parametrize(
    ("number", "moment"),
    [(signal.SIGINT, "DAG runs are triggered"), (signal.SIGTERM, "creating Airflow's database")],
)
def test_a_demo_that_is_stopped_leaves_nothing_behind(
    started: Started, tmp_path: Path, number: signal.Signals, moment: str
) -> None:
    started.wait_until(lambda: moment in started.output.read_text())
    assert started.left_behind()
    started.process.send_signal(number)
    started.process.wait(STUCK_SECONDS)
    assert started.process.returncode == 128 + number
    assert started.left_behind() == []
    assert [path.name for path in tmp_path.iterdir()] == ["output"]
