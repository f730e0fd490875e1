"""A process that carries many runs is killed, or terminated, in the middle: each run is submitted once all the same."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from runops.emulator.server import Server
from runops.emulator.store import Emulator
from tests.dagster_side.job_process import JobProcess

SCRIPT = Path(__file__).with_name("many_job.py")
MANY = int(os.environ.get("RUNOPS_MANY_RUNS", "60"))
ANSWER_SECONDS = 6.0

pytestmark = pytest.mark.slow

Start = Callable[..., JobProcess]


@pytest.fixture
def emulator(served: Server) -> Iterator[Emulator]:
    """On the real clock, which other processes have too."""
    served.emulator.reset()
    yield served.emulator
    served.emulator.reset()


@pytest.fixture
def home(on_disk: Callable[..., Any]) -> Iterator[dg.DagsterInstance]:
    """An instance on disk, shared with child processes."""
    with on_disk() as instance:
        yield instance


@pytest.fixture
def start(served: Server, emulator: Emulator, home: dg.DagsterInstance) -> Iterator[Start]:
    """``start("nyx", "run")``: the job in a process of its own."""
    children: list[JobProcess] = []

    def begin(provider: str, *arguments: str) -> JobProcess:
        environment = {
            **os.environ,
            "DAGSTER_HOME": home.root_directory,
            "EXTERNAL_URL": served.base_url(provider),
            "MANY_PROVIDER": provider,
            "MANY_RUNS": str(MANY),
        }
        children.append(JobProcess(SCRIPT, *arguments, environment=environment))
        return children[-1]

    yield begin
    for child in children:
        child.kill()
        child.wait(timeout=30)


def until(seen: Callable[[], Any], what: str, seconds: float = 120) -> Any:
    """What ``seen`` gives as soon as it gives something."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = seen()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError(f"{what}: not within {seconds} s")


def submitted(emulator: Emulator, provider: str) -> list[str]:
    """What each run was submitted for."""
    bodies = [run["body"] for run in emulator.runs(provider=provider)]
    return sorted(str(body.get("config_name") or body["payload"]["number"]) for body in bodies)


MOMENTS = ["during the 37th POST", "while some have ended", "while all wait"]


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("provider", ["nyx", "b3os"])
def test_a_set_whose_process_is_killed_is_taken_up_as_one(
    emulator: Emulator, home: dg.DagsterInstance, start: Start, provider: str, moment: str
) -> None:
    emulator.set_defaults(provider, script="succeeded", seconds=3600 if moment == "while all wait" else 2)
    if moment == "during the 37th POST":
        emulator.add_fault(
            kind="delay", seconds=ANSWER_SECONDS, provider=provider, action="submit", when="after", skip=36, count=1
        )
    child = start(provider, "run")

    def is_there() -> bool:
        runs = emulator.runs(provider=provider)
        if moment == "during the 37th POST":
            return len(runs) >= 37
        if moment == "while some have ended":
            return sum(run["over"] for run in runs) >= 20
        # Three questions after the last submit: all are known by then, and one list answers for every one of them.
        asked = [request["action"] for request in emulator.requests(provider=provider)]
        return len(runs) == MANY and asked[::-1].index("submit") >= 3

    until(is_there, moment)
    child.kill()
    child.wait(timeout=30)
    (run,) = home.get_runs()
    # What run monitoring does once it misses the worker.
    home.report_run_failed(run)
    emulator.reset(only=("faults",))
    emulator.set_defaults(provider, script="succeeded", seconds=0)

    again = start(provider, "retry", run.run_id)
    until(lambda: len(home.get_runs()) == 2, "the retry")
    if moment == "while all wait":
        emulator.advance(None, provider=provider)
    code, made = again.wait(timeout=120), submitted(emulator, provider)
    assert len(made) == len(set(made))
    if code:
        # Killed between the record of a submit and its answer: of one run that bears no mark nobody can tell.
        assert provider == "b3os"
        assert len(made) >= MANY - 1
        assert "1 unclear" in "".join(entry.user_message for entry in home.all_logs(home.get_runs(limit=1)[0].run_id))
    else:
        assert len(made) == MANY
    assert emulator.requests(provider=provider, action="cancel") == []
    assert all(run["over"] for run in emulator.runs(provider=provider))


@pytest.mark.parametrize("provider", ["nyx", "b3os"])
def test_terminate_cancels_all_that_is_active_at_once(
    emulator: Emulator, home: dg.DagsterInstance, start: Start, provider: str
) -> None:
    emulator.set_defaults(provider, script="forever")
    child = start(provider, "run")
    until(lambda: len(emulator.runs(provider=provider)) >= 37, "37 runs")
    (run,) = home.get_runs()
    home.report_run_canceling(run)
    began = time.time()
    child.send_signal(signal.SIGINT)
    child.wait(timeout=60)
    made = emulator.runs(provider=provider)
    cancels = [each["time"] - began for each in emulator.requests(provider=provider, action="cancel")]
    print(f"{provider}: {len(made)} runs, cancelled {min(cancels):.2f} to {max(cancels):.2f} s after Terminate")
    assert [each["run_id"] for each in made if not each["over"]] == []
    assert len(cancels) == len(made)
    assert min(cancels) < 1
    assert [record.status for record in home.get_runs()] == [dg.DagsterRunStatus.CANCELED]
