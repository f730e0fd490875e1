"""No process of the demo outlives it, whatever ends it, and nothing of the user's environment gets into it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from demo import processes
from demo.processes import DemoError, Interrupted, StopSignal, Supervisor, clean_environment
from tests.progress import STUCK_SECONDS, until

ROOT = Path(__file__).resolve().parents[2]
FAMILY = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
leaf = [sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"]
print(subprocess.Popen(leaf).pid, flush=True)
time.sleep(600)
"""
"""A process that does not want to go, and has a child that does not want to either."""

DOOMED_DEMO = """
import sys, time
from pathlib import Path
from demo import processes
supervisor = processes.Supervisor(Path(sys.argv[1]), processes.StopSignal(), grace=0.5)
command = [sys.executable, "-c", sys.argv[2]]
supervisor.start("family", command, environment=processes.clean_environment(), folder=Path(sys.argv[1]))
time.sleep(600)
"""


@pytest.fixture
def stop() -> Iterator[StopSignal]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    stop = StopSignal()
    stop.install()
    yield stop
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def supervisor(tmp_path: Path, stop: StopSignal) -> Iterator[Supervisor]:
    with Supervisor(tmp_path, stop, grace=0.5) as supervisor:
        yield supervisor


def _start(supervisor: Supervisor, folder: Path, code: str) -> processes.Component:
    return supervisor.start("family", [sys.executable, "-c", code], environment=clean_environment(), folder=folder)


def _is_there(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_children_that_ignore_a_polite_request_are_gone_too(supervisor: Supervisor, tmp_path: Path) -> None:
    component = _start(supervisor, tmp_path, FAMILY)
    until("the family is there", component.last_lines)
    leaf = int(component.last_lines())
    assert _is_there(leaf)
    supervisor.stop_all()
    assert not _is_there(component.process.pid)
    assert not _is_there(leaf)


def test_the_guard_ends_what_a_killed_demo_leaves(tmp_path: Path) -> None:
    environment = clean_environment(PYTHONPATH=str(ROOT))
    demo = subprocess.Popen([sys.executable, "-c", DOOMED_DEMO, str(tmp_path), FAMILY], env=environment)
    log = tmp_path / "family.log"
    until("the family is there", lambda: log.exists() and log.read_text())
    leaf = int(log.read_text())
    assert _is_there(leaf)
    demo.kill()
    demo.wait()
    until("the family is gone", lambda: not _is_there(leaf))


def test_a_component_that_ends_by_itself_ends_the_demo_with_its_last_words(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    component = _start(supervisor, tmp_path, "raise SystemExit('the port is taken')")
    component.process.wait(STUCK_SECONDS)
    with pytest.raises(DemoError, match=r"family has ended \(exit code 1\):\nthe port is taken"):
        supervisor.check()


def test_a_step_that_fails_ends_the_demo(supervisor: Supervisor, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no space left')"]
    with pytest.raises(DemoError, match="no space left"):
        supervisor.run("migration", command, environment=clean_environment(), folder=tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_wait_at_once(stop: StopSignal, number: signal.Signals) -> None:
    os.kill(os.getpid(), number)
    with pytest.raises(Interrupted) as raised:
        stop.sleep(STUCK_SECONDS)
    assert raised.value.number == number


def test_settings_of_the_user_stay_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = ("AIRFLOW__CORE__EXECUTOR", "AIRFLOW_HOME", "DAGSTER_HOME", "PYTHONDONTWRITEBYTECODE", "HTTPS_PROXY")
    for name in foreign:
        monkeypatch.setenv(name, "the user's")
    assert "the user's" not in clean_environment().values()
    assert clean_environment()["PATH"] == os.environ["PATH"]
    assert clean_environment(AIRFLOW_HOME="ours")["AIRFLOW_HOME"] == "ours"
