"""An emulator, one Dagster instance, and resources that share a clock: waits of hours take no time."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import httpx
import pytest
from pytest_mock import MockerFixture

import runops.dagster
from runops.core import Provider, RunClient, RunRef, find
from runops.dagster import ProviderResource, RunResult, wait_for_run
from runops.emulator.server import Server
from runops.emulator.store import Emulator
from tests.dagster_storage import empty_storage
from tests.services import PARENTS, PROVIDERS, Clock

KEY = "canary-key-5f2b9c7e1d"
RESOURCES: dict[str, type[ProviderResource]] = {
    name: getattr(runops.dagster, each)
    for each in runops.dagster.__all__
    if (name := each.removesuffix("Resource").lower()) in PROVIDERS
}


class Ended:
    """What a Dagster run left behind."""

    def __init__(self, result: Any, instance: dg.DagsterInstance) -> None:
        self.result = result
        self.success: bool = result.success
        self.events: list[dg.DagsterEvent] = list(result.all_events)
        self._instance = instance

    def of(self, kind: dg.DagsterEventType) -> list[dg.DagsterEvent]:
        return [event for event in self.events if event.event_type is kind]

    @property
    def materialized(self) -> list[str]:
        return [
            event.asset_key.to_user_string()
            for event in self.of(dg.DagsterEventType.ASSET_MATERIALIZATION)
            if event.asset_key
        ]

    @property
    def skipped(self) -> list[str | None]:
        return [event.step_key for event in self.of(dg.DagsterEventType.STEP_SKIPPED)]

    @property
    def checks_of(self) -> dict[str, tuple[bool, dg.AssetCheckSeverity]]:
        """Whether the check of each asset passed, and its severity."""
        found = [e.asset_check_evaluation_data for e in self.of(dg.DagsterEventType.ASSET_CHECK_EVALUATION)]
        return {data.asset_key.to_user_string(): (data.passed, data.severity) for data in found}

    @property
    def failures(self) -> dict[str | None, Any]:
        """The dagster.Failure data of each step that failed."""
        found = {e.step_key: e.step_failure_data for e in self.of(dg.DagsterEventType.STEP_FAILURE)}
        return {step: data.user_failure_data for step, data in found.items() if data.user_failure_data}

    @property
    def failure(self) -> Any:
        """The dagster.Failure data of the one step that failed."""
        (failure,) = self.failures.values()
        return failure

    @property
    def log(self) -> str:
        """Everything that the event log holds of the run, as it is stored."""
        return "\n".join(f"{entry.user_message}\n{dg.serialize_value(entry)}" for entry in self.entries)

    @property
    def entries(self) -> list[dg.EventLogEntry]:
        """The entries of the event log, oldest first."""
        return list(self._instance.all_logs(self.result.run_id))

    @property
    def tags(self) -> dict[str, str]:
        run = self._instance.get_run_by_id(self.result.run_id)
        assert run is not None
        return dict(run.tags)


class Service:
    """One provider of the emulator, as a resource sees it."""

    def __init__(self, provider: Provider, server: Server, instance: dg.DagsterInstance) -> None:
        self.provider = provider
        self.emulator = server.emulator
        self.base_url = server.base_url(provider.name)
        self.instance = instance
        self.resource = RESOURCES[provider.name](api_key=KEY, base_url=self.base_url)

    @property
    def parents(self) -> dict[str, str] | None:
        return PARENTS.get(self.provider.name)

    @property
    def submits(self) -> int:
        return len(self.emulator.requests(provider=self.provider.name, action="submit"))

    @property
    def cancels(self) -> int:
        return len(self.emulator.requests(provider=self.provider.name, action="cancel"))

    def made(self, **options: Any) -> RunRef:
        """A run that the emulator was told to have."""
        options.setdefault("seconds", 20)
        parents = options.pop("parents", self.parents)
        run_id = self.emulator.create_run(self.provider.name, parents=parents, **options)
        return self.provider.ref(run_id, self.parents)

    def materialize(self, *assets: Any, **options: Any) -> Ended:
        resources = {self.provider.name: self.resource, **options.pop("resources", {})}
        result = dg.materialize(
            list(assets), instance=self.instance, resources=resources, raise_on_error=False, **options
        )
        return Ended(result, self.instance)

    def wait(self, **options: Any) -> RunResult:
        """``wait_for_run`` in an op that is called directly."""
        return wait_for_run(dg.build_op_context(instance=self.instance), self.resource, **options)


@pytest.fixture(scope="session")
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def on_disk(tmp_path: Path) -> Callable[..., AbstractContextManager[dg.DagsterInstance]]:
    """``on_disk(overrides)``: an instance of the test's own, which child processes may share."""

    def make(overrides: dict[str, Any] | None = None) -> AbstractContextManager[dg.DagsterInstance]:
        shutil.copytree(empty_storage(), tmp_path, dirs_exist_ok=True)
        return dg.instance_for_test(overrides=overrides, temp_dir=str(tmp_path))

    return make


@pytest.fixture
def clock(mocker: MockerFixture) -> Clock:
    """The clock of every client that a resource makes."""
    clock = Clock()
    client = ProviderResource.client

    def on_the_clock(self: ProviderResource, **settings: Any) -> RunClient:
        given = settings.get("sleep", time.sleep)

        def sleep(seconds: float) -> None:
            clock.sleep(seconds)
            given(0)

        return client(self, **{**settings, "clock": clock, "sleep": sleep})

    mocker.patch.object(ProviderResource, "client", on_the_clock)
    for module in (
        "step.wait",
        "step.submission",
        "step.live_run",
        "tick.tick",
        "tick.reader",
        "builders.deferred",
        "run_ends",
    ):
        on_clock = SimpleNamespace(time=clock, monotonic=clock, sleep=clock.sleep)
        mocker.patch(f"runops.dagster.{module}.time", on_clock)
    return clock


@pytest.fixture
def service(served: Server, emulator: Emulator, instance: dg.DagsterInstance) -> Callable[[str], Service]:
    """``service("nyx")``: a provider of the emulator and a resource for it."""

    def make(name: str) -> Service:
        return Service(find(name), served, instance)

    return make


def _terminate_newest(instance: dg.DagsterInstance) -> None:
    """What Terminate does: a mark on the run, and a signal."""
    instance.report_run_canceling(instance.get_runs(limit=1)[0])
    signal.raise_signal(signal.SIGINT)


class Interrupting(httpx.BaseTransport):
    """Real connections; Terminate comes while the ``nth`` request of a method is under way."""

    def __init__(self, instance: dg.DagsterInstance, method: str, nth: int) -> None:
        self._instance = instance
        self._method = method
        self._left = nth
        self._real = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.method == self._method:
            self._left -= 1
            if self._left == 0:
                _terminate_newest(self._instance)
        return self._real.handle_request(request)

    def close(self) -> None:
        self._real.close()


@pytest.fixture
def terminated(mocker: MockerFixture, instance: dg.DagsterInstance) -> Iterator[Callable[..., None]]:
    """``terminated("GET", 2)``: Terminate comes during the second GET."""
    opened: list[Interrupting] = []

    def arrange(method: str, nth: int = 1) -> None:
        transport = Interrupting(instance, method, nth)
        opened.append(transport)
        client = ProviderResource.client

        def through(self: ProviderResource, **settings: Any) -> Any:
            # The cancel goes over connections of its own, as it does without a test.
            return client(self, **settings if "request_timeout" in settings else {**settings, "transport": transport})

        mocker.patch.object(ProviderResource, "client", through)

    yield arrange
    for transport in opened:
        transport.close()


@pytest.fixture
def terminate_newest() -> Callable[[dg.DagsterInstance], None]:
    """Does what Terminate does to the newest Dagster run."""
    return _terminate_newest
