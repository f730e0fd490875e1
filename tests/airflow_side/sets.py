"""Airflow's side of a task of many runs, in this process and in real time, with pauses that take no time."""

from __future__ import annotations

import json
import os
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runops.core.waiting import ownership
from runops.core.waiting.state import WaitState
from tests.leaping import leaping, runs_were_read
from tests.services import CALLS

PAUSE = 0.05


class RealClock:
    """The clock of the machine, as the stand-ins for a task read one."""

    @property
    def now(self) -> float:
        return time.time()


class SetHost:
    """Runs tasks of many runs at the emulator, and says what was sent there.

    :param emulator: The emulator, on the machine's clock.
    :param run: Runs a task to its end, deferrals included.
    :param context: Makes the context of a new task instance.
    :param folder: For files of the test.
    """

    def __init__(
        self, emulator: Any, run: Callable[..., Any], context: Callable[..., dict[str, Any]], folder: Path
    ) -> None:
        self.emulator = emulator
        self._folder = folder
        self.context = context
        self._run = run

    def run(self, task: Any, context: dict[str, Any] | None = None) -> Any:
        """Run a task to its end, deferrals included."""
        return self._run(task, self.context() if context is None else context)

    def timed_out(self, task: Any, context: dict[str, Any] | None = None, *, read: int) -> Any:
        """Run a task whose clocks run out once so many of its runs were submitted, and each was read."""
        import runops.airflow

        with leaping(runops.airflow, runs_were_read(self.emulator, task.provider, read)):
            return self.run(task, context)

    def made(self, provider: str, count: int, *, script: Any = "succeeded", seconds: float = 0.3, **more: Any) -> Any:
        """An operator of so many runs, each with a parent of its own."""
        from runops.airflow import RunsOperator

        self.emulator.set_defaults(provider=provider, script=script, seconds=seconds)
        arguments: dict[str, Any] = {"task_id": "a_task", "provider": provider, "calls": calls_of(provider, count)}
        return RunsOperator(**{**arguments, **more})

    def folder(self, name: str) -> Path:
        """A new folder of the test."""
        made = self._folder / name
        made.mkdir()
        return made

    def finish_all(self, provider: str) -> None:
        """Let all runs come to their end."""
        for run in self.emulator.runs(provider=provider):
            self.emulator.advance(provider=provider, run_id=run["run_id"])

    def submits(self, provider: str) -> list[str]:
        """The parent of each submit that has reached the service, in order."""
        return [parent_of(run) for run in self.emulator.runs(provider=provider)]

    def cancelled(self, provider: str) -> set[str]:
        """The ids of the runs whose cancel was accepted."""
        return {run["run_id"] for run in self.emulator.runs(provider=provider) if run["cancels"]}

    def twice(self, provider: str) -> list[str]:
        """The parents that have more than one run."""
        return [parent for parent, count in Counter(self.submits(provider)).items() if count > 1]


class FileStore:
    """Airflow's task state store, in files: what a process that dies has written stays, and nothing else.

    :param folder: Where.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)

    def get(self, key: str, default: Any = None) -> Any:
        path = self._folder / key
        return json.loads(path.read_text()) if path.exists() else default

    def set(self, key: str, value: Any) -> None:
        whole = self._folder / f"{key}.new"
        whole.write_text(json.dumps(value, allow_nan=False))
        whole.rename(self._folder / key)

    def delete(self, key: str) -> None:
        (self._folder / key).unlink(missing_ok=True)


def dies(work: Callable[[], Any]) -> None:
    """Do something in a process of its own that kills itself on the way, as SIGKILL does: with nothing after it."""
    with warnings.catch_warnings():
        # This process has threads, of the emulator; the new one uses nothing of theirs.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == DEAD, "it has not come to the moment at which it was to die"


DEAD = 9


def die(*_: Any, **__: Any) -> Any:
    """End this process at once."""
    os._exit(DEAD)


PARENT = {"nexio": "engine_slug", "nyx": "config_name", "onepin": "workflow_id", "b3os": "workflow_id"}
"""The argument that differs from one run of a set to the next."""


def calls_of(provider: str, count: int) -> list[dict[str, Any]]:
    """So many calls, whose parents are ``parent-000`` and so on."""
    return [{**CALLS[provider], PARENT[provider]: f"parent-{number:03d}"} for number in range(count)]


def parent_of(run: dict[str, Any]) -> str:
    """The parent of a run, as the emulator describes it."""
    return str(next(iter(run["parents"].values())))


@pytest.fixture
def sets(
    served: Any, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[SetHost]:
    """A task of many runs, in real time: what is to pass in seconds takes a twentieth of one."""
    from runops.airflow import task_base
    from runops.airflow.many import drive as set_drive
    from tests.airflow_side.conftest import Host

    pause, look = WaitState.pause, ownership.RunSearch.look_until_found
    monkeypatch.setattr(WaitState, "pause", lambda self, now: min(pause(self, now), PAUSE))
    monkeypatch.setattr(ownership.RunSearch, "look_until_found", lambda self, grace: look(self, min(grace, 4 * PAUSE)))
    monkeypatch.setattr(set_drive, "WORKER_SECONDS", 4 * PAUSE)
    monkeypatch.setattr(task_base, "EARLIEST_SECONDS", 0.0)
    monkeypatch.setattr(task_base, "heartbeat_seconds", lambda: 0.0)
    monkeypatch.setattr("runops.core.client.many_runs.LOOK_EVERY", PAUSE)
    emulator = served.emulator
    emulator.reset(seed=sum(request.node.nodeid.encode()))
    host = Host(emulator, RealClock())  # pyright: ignore[reportArgumentType]

    def context() -> dict[str, Any]:
        return {**host.context(store=False), "task_state_store": FileStore(tmp_path / "store")}

    yield SetHost(emulator, host.run, context, tmp_path)
    emulator.reset()


__all__ = ["FileStore", "SetHost", "calls_of", "die", "dies", "parent_of", "sets"]
