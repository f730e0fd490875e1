"""An Airflow home of its own, the emulator, and a stand-in for the task runner, on a clock that no test waits for."""

from __future__ import annotations

from tests.airflow_home import HOME  # isort: skip - before Airflow is imported

import asyncio
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from pkgutil import walk_packages
from types import SimpleNamespace
from typing import Any

import pytest

from runops.emulator.server import Server
from runops.emulator.store import Emulator
from tests.clocked_client import ClockedClient
from tests.services import CALLS, PARENTS, PROVIDERS, Clock

KEY = "canary-key-8c1d4e7a90"


def pytest_sessionfinish() -> None:
    shutil.rmtree(HOME, ignore_errors=True)


class TaskInstance:
    """The part of Airflow's task instance that a task talks to."""

    dag_id = "a_dag"
    task_id = "a_task"
    run_id = "a_run"

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.map_index = -1
        self.max_tries = 0
        self.try_number = 1
        self.start_date = datetime.fromtimestamp(clock.now, UTC)
        self.xcoms: dict[str, Any] = {}
        self.state: str | None = "running"

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = json.loads(json.dumps(value, allow_nan=False))

    def xcom_pull(self, task_ids: str, key: str, map_indexes: int) -> Any:
        assert (task_ids, map_indexes) == (self.task_id, self.map_index)
        return self.xcoms.get(key)

    def get_first_reschedule_date(self, context: Any) -> None:
        return None

    def get_task_states(self, **asked: Any) -> dict[str, dict[str, Any]]:
        assert asked == {
            "dag_id": self.dag_id,
            "task_ids": [self.task_id],
            "run_ids": [self.run_id],
            "map_index": None,
        }
        return {self.run_id: {self.task_id: self.state}}

    def next_try(self) -> None:
        """What Airflow does before a retry."""
        self.try_number += 1
        self.xcoms.clear()
        self.start_date = datetime.fromtimestamp(self._clock.now, UTC)

    def clear(self) -> None:
        """What a person's clear of a finished or deferred task does."""
        self.max_tries += 1
        self.next_try()


class Store:
    """Airflow's task state store."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def get(self, key: str, default: Any = None) -> Any:
        return json.loads(self.values[key]) if key in self.values else default

    def set(self, key: str, value: Any) -> None:
        self.values[key] = json.dumps(value, allow_nan=False)

    def delete(self, key: str) -> None:
        self.values.pop(key, None)


@dataclass
class Ended:
    """How a task ended, and what happened on the way."""

    result: Any = None
    error: BaseException | None = None
    xcoms: dict[str, Any] = field(default_factory=dict)
    deferrals: list[Any] = field(default_factory=list)
    events: list[Any] = field(default_factory=list)
    pokes: int = 0


class Host:
    """Runs a task as Airflow would: executes, defers and resumes, or reschedules, until it ends."""

    def __init__(self, emulator: Emulator, clock: Clock) -> None:
        self.emulator = emulator
        self.clock = clock

    def context(self, *, store: bool = True) -> dict[str, Any]:
        run_after = datetime.fromtimestamp(self.clock.now, UTC)
        context: dict[str, Any] = {"ti": TaskInstance(self.clock), "dag_run": SimpleNamespace(run_after=run_after)}
        if store:
            context["task_state_store"] = Store()
        return context

    def made(self, provider: str, **options: Any) -> dict[str, str]:
        """The sensor's arguments for a run that the emulator was told to have."""
        options.setdefault("seconds", 20)
        parents = options.pop("parents", PARENTS.get(provider))
        return {**PARENTS.get(provider, {}), "run_id": self.emulator.create_run(provider, parents=parents, **options)}

    def run(self, task: Any, context: dict[str, Any] | None = None) -> Ended:
        context = self.context() if context is None else context
        ended = Ended(xcoms=context["ti"].xcoms)
        step: Callable[[], Any] = partial(task.execute, context)
        from runops.airflow._compat import AirflowRescheduleException, TaskDeferred

        while True:
            ended.pokes += 1
            try:
                ended.result = step()
            except TaskDeferred as deferred:
                ended.deferrals.append(deferred)
                event = self.fired(deferred)
                ended.events.append(event)
                step = partial(task.resume_execution, deferred.method_name, {"event": event}, context)
            except AirflowRescheduleException as again:
                assert again.reschedule_date.timestamp() >= self.clock.now
                self.clock.sleep(again.reschedule_date.timestamp() - self.clock.now)
                context["ti"].xcoms.clear()
            except Exception as error:
                ended.error = error
                return ended
            else:
                return ended

    def fired(self, deferred: Any) -> Any:
        """The event of a trigger that went through Airflow's database, and the event too."""
        trigger = stored(deferred.trigger)
        return json.loads(json.dumps(asyncio.run(only_event(trigger)), allow_nan=False))


def stored(trigger: Any) -> Any:
    path, arguments = trigger.serialize()
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)(**json.loads(json.dumps(arguments, allow_nan=False)))


async def only_event(trigger: Any) -> Any:
    events = [event async for event in trigger.run()]
    await trigger.cleanup()
    assert len(events) == 1
    return events[0].payload


@pytest.fixture(autouse=True)
def connections(served: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for provider in PROVIDERS:
        set_connection(monkeypatch, f"{provider}_default", provider, host=served.base_url(provider))


def set_connection(monkeypatch: pytest.MonkeyPatch, conn_id: str, conn_type: str, **fields: Any) -> None:
    spelled = {"conn_type": conn_type, "password": KEY, **fields}
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(spelled))


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``connect("nexio_other", "nexio", password=...)`` sets a connection."""
    return partial(set_connection, monkeypatch)


@pytest.fixture
def host(emulator: Emulator, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """Airflow's side of a task, with everything of ours on the test's clock."""
    import runops.airflow
    from runops.airflow import hook, trigger, trigger_base
    from runops.airflow.hook import RunHook
    from runops.core.client import many_runs

    for found in walk_packages(runops.airflow.__path__, "runops.airflow."):
        module = import_module(found.name)
        if hasattr(module, "time"):
            monkeypatch.setattr(module, "time", SimpleNamespace(time=clock))
    sleeping = SimpleNamespace(
        sleep=clock.sleep_async, timeout=asyncio.timeout, gather=asyncio.gather, create_task=asyncio.create_task
    )
    monkeypatch.setattr(trigger, "asyncio", sleeping)
    monkeypatch.setattr(trigger_base, "asyncio", sleeping)
    monkeypatch.setattr(hook, "AsyncRunClient", ClockedClient)
    # The test's clock runs ahead of the loop's.
    monkeypatch.setattr(many_runs, "LOOK_EVERY", 0.0)
    client, async_client = RunHook.client, RunHook.async_client

    def on_the_clock(self: RunHook, **settings: Any) -> Any:
        return client(self, **{"clock": clock, "sleep": clock.sleep, **settings})

    async def on_the_clock_async(self: RunHook, **settings: Any) -> Any:
        return await async_client(self, **{"clock": clock, "sleep": clock.sleep_async, **settings})

    monkeypatch.setattr(RunHook, "client", on_the_clock)
    monkeypatch.setattr(RunHook, "async_client", on_the_clock_async)
    before = set(threading.enumerate())
    yield Host(emulator, clock)
    # What a task has left to a thread, such as a cancel that took longer than it may wait, belongs to this test.
    for thread in set(threading.enumerate()) - before:
        if thread.name == "runops-attempt":
            thread.join(5)


@pytest.fixture(params=["poke", "reschedule", "deferrable"])
def mode(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The arguments that choose one of the three ways to wait."""
    return {"deferrable": True} if request.param == "deferrable" else {"deferrable": False, "mode": request.param}


def _by_provider(kind: str) -> dict[str, Any]:
    """The named classes of one kind."""
    import runops.airflow

    names = [name for name in runops.airflow.__all__ if name.endswith(kind) and name != kind]
    return {name.removesuffix(kind).lower(): getattr(runops.airflow, name) for name in names}


@pytest.fixture(scope="session")
def sensors() -> dict[str, Any]:
    return _by_provider("RunSensor")


@pytest.fixture(scope="session")
def operators() -> dict[str, Any]:
    return _by_provider("RunOperator")


@pytest.fixture(scope="session")
def calls() -> dict[str, dict[str, Any]]:
    """Good submit arguments of each provider."""
    return CALLS


@pytest.fixture(scope="session")
def key() -> str:
    return KEY
