"""A triggerer that dies around an event: the event is never lost, and comes again only within a known time."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from pytest_mock import MockerFixture

from runops.airflow import RunFinishedTrigger, watcher

pytestmark = [pytest.mark.anyio, pytest.mark.promise("a watcher goes on where it was after a restart")]

PARENT = {"workflow_id": "wf_1"}


class AssetStore:
    """Airflow's state store of one asset; it outlives its triggerers."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    async def aget(self, key: str, default: Any = None) -> Any:
        return json.loads(self.values[key]) if key in self.values else default

    async def aset(self, key: str, value: Any) -> None:
        self.values[key] = json.dumps(value, allow_nan=False)

    @property
    def trail(self) -> dict[str, Any]:
        (value,) = self.values.values()
        return json.loads(value)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def world(served: Any) -> Any:
    served.emulator.reset()
    yield served.emulator
    served.emulator.reset()


async def kill(triggerer: asyncio.Task[None]) -> None:
    triggerer.cancel()
    await asyncio.gather(triggerer, return_exceptions=True)
    # The sockets of closed connections go in the next rounds of the loop.
    await asyncio.sleep(0.05)


async def first_event(store: AssetStore, *, killed: asyncio.Event | None = None) -> dict[str, Any]:
    """The first event of a triggerer, which is killed then, or once ``killed`` is set."""
    trigger = RunFinishedTrigger(provider="b3os", parent=PARENT, poll_interval=0.03)
    memory: Any = store
    trigger.asset_state_store = memory
    payloads: list[dict[str, Any]] = []
    fired = asyncio.Event()

    async def collect() -> None:
        async for event in trigger.run():
            payloads.append(json.loads(json.dumps(event.payload, allow_nan=False)))
            fired.set()

    triggerer = asyncio.create_task(collect())
    async with asyncio.timeout(60):
        await fired.wait()
        if killed is not None:
            await killed.wait()
    await kill(triggerer)
    return payloads[0]


async def begun(world: Any) -> AssetStore:
    """The memory of a watch that has seen an open run, which ends while nobody watches."""
    store = AssetStore()
    trigger = RunFinishedTrigger(provider="b3os", parent=PARENT, poll_interval=0.03)
    memory: Any = store
    trigger.asset_state_store = memory
    world.create_run("b3os", script="succeeded", held=True, parents=PARENT, run_id="the_run")

    async def watch() -> None:
        async for _ in trigger.run():
            raise AssertionError("It ended too early.")

    triggerer = asyncio.create_task(watch())
    async with asyncio.timeout(60):
        while not store.values:  # noqa: ASYNC110 - what is waited for happens elsewhere
            await asyncio.sleep(0.005)
    await kill(triggerer)
    world.advance(run_id="the_run")
    return store


async def test_an_event_whose_triggerer_died_at_once_comes_again_and_says_the_same(world: Any) -> None:
    store = await begun(world)
    first = await first_event(store)
    assert list(store.trail["open"]) == ["the_run"]
    again = await first_event(store)
    assert first == again
    assert (first["provider"], first["run_id"]) == ("b3os", "the_run")


async def test_an_event_that_was_handed_over_never_comes_again(world: Any, mocker: MockerFixture) -> None:
    mocker.patch.object(watcher, "HANDED_OVER_SECONDS", 0.02)
    store, noted = await begun(world), asyncio.Event()
    remember = store.aset

    async def aset(key: str, value: Any) -> None:
        await remember(key, value)
        if "the_run" in value["done"]:
            noted.set()

    mocker.patch.object(store, "aset", aset)
    await first_event(store, killed=noted)
    world.create_run("b3os", script="succeeded", seconds=0.05, parents=PARENT, run_id="another_run")
    assert (await first_event(store))["run_id"] == "another_run"


def test_the_time_in_which_an_event_may_come_again_is_what_the_words_say() -> None:
    assert watcher.HANDED_OVER_SECONDS == 2.0
    assert "within two seconds" in (RunFinishedTrigger.__doc__ or "")
