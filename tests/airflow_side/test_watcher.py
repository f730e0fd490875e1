"""The trigger of asset watchers: one event for each run that ends, over restarts, failures and long lists."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from runops.airflow import RunFinishedTrigger, watcher

pytestmark = pytest.mark.anyio

WORKFLOW = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
PARENTS: dict[str, tuple[str, dict[str, str]]] = {
    "nyx": ("nyx", {"config_name": "nightly"}),
    "onepin": ("onepin", {"workflow_id": WORKFLOW}),
    "b3os": ("b3os", {"workflow_id": "wf_1"}),
    "nekt": ("nekt", {"pipeline": "orders"}),
    "nekt-source": ("nekt", {"source": "shop"}),
}


class AssetStore:
    """Airflow's state store of one asset."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    async def aget(self, key: str, default: Any = None) -> Any:
        await asyncio.sleep(0)
        return json.loads(self.values[key]) if key in self.values else default

    async def aset(self, key: str, value: Any) -> None:
        await asyncio.sleep(0)
        self.values[key] = json.dumps(value, allow_nan=False)

    def reported(self) -> set[str]:
        return {run_id for value in self.values.values() for run_id in json.loads(value)["done"]}


class Triggerer:
    """Runs a watch as Airflow's triggerer does, until a test stops or kills it; collects its events."""

    def __init__(self, trigger: Any, store: AssetStore | None) -> None:
        _, arguments = trigger.serialize()
        self.trigger = RunFinishedTrigger(**json.loads(json.dumps(arguments, allow_nan=False)))
        if store is not None:
            memory: Any = store
            self.trigger.asset_state_store = memory
        self.payloads: list[dict[str, Any]] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Triggerer:
        self._task = asyncio.create_task(self._collect())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        # The sockets of closed connections go in the next rounds of the loop.
        await asyncio.sleep(0.05)

    async def _collect(self) -> None:
        async for event in self.trigger.run():
            self.payloads.append(json.loads(json.dumps(event.payload, allow_nan=False)))

    @property
    def ids(self) -> list[str]:
        return [payload["run_id"] for payload in self.payloads]


async def until(fulfilled: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not fulfilled():  # noqa: ASYNC110 - what is waited for happens elsewhere
            await asyncio.sleep(0.01)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def no_long_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "HANDED_OVER_SECONDS", 0.02)
    monkeypatch.setattr(watcher, "REST_SECONDS", 0.05)


@pytest.fixture
def world(served: Any) -> Any:
    served.emulator.reset()
    yield served.emulator
    served.emulator.reset()


@pytest.fixture(params=sorted(PARENTS))
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def start(world: Any, kind: str) -> Any:
    provider, parent = PARENTS[kind]

    def started(**options: Any) -> str:
        options.setdefault("parents", parent)
        options.setdefault("script", "succeeded")
        options.setdefault("seconds", 0.2)
        return world.create_run(provider, **options)

    return started


def watch(kind: str, **arguments: Any) -> Any:
    provider, parent = PARENTS[kind]
    settings: dict[str, Any] = {"poll_interval": 0.03, **arguments}
    return RunFinishedTrigger(provider=provider, parent=parent, **settings)


def looked(world: Any, kind: str) -> bool:
    return bool(world.requests(provider=PARENTS[kind][0], action="list", status=200))


def begun(store: AssetStore) -> bool:
    return bool(store.values)


async def test_each_run_that_ends_is_one_event(start: Any, kind: str, world: Any) -> None:
    store = AssetStore()
    past, open_then = start(age_seconds=5), start(held=True)
    async with Triggerer(watch(kind), store) as triggerer:
        await until(lambda: begun(store))
        world.advance(run_id=open_then)
        later = [start(), start(script="failed"), start(seconds=0.5)]
        await until(lambda: len(triggerer.ids) >= 4)
        await asyncio.sleep(0.2)
    assert sorted(triggerer.ids) == sorted([open_then, *later])
    assert past not in triggerer.ids
    by_id = {payload["run_id"]: payload for payload in triggerer.payloads}
    assert by_id[later[0]]["outcome"] == "succeeded"
    assert by_id[later[1]]["outcome"] == "failed"
    for payload in triggerer.payloads:
        assert (payload["schema"], payload["verdict"], payload["gap"]) == (1, None, False)
        assert payload["parent"] == PARENTS[kind][1]
        # As the event of an outlet names it.
        assert payload["runops"].keys() == {
            "provider", "run_id", "url", "outcome", "verdict", "spend", "spend_unit",
        }  # fmt: skip
        same = ("provider", "run_id", "url", "outcome", "verdict")
        assert [payload["runops"][name] for name in same] == [payload[name] for name in same]


async def test_a_watch_goes_on_over_restarts_and_reports_nothing_twice(start: Any, kind: str) -> None:
    # Each restart comes after the last event was noted: within that time, of two seconds, it may be sent again.
    store = AssetStore()
    ids: list[str] = []
    made: list[str] = []
    async with Triggerer(watch(kind), store) as triggerer:
        await until(lambda: begun(store))
    for _ in range(2):
        made += [start(), start(seconds=0.6)]
        await asyncio.sleep(0.25)
        async with Triggerer(watch(kind), store) as triggerer:
            await until(lambda: triggerer.ids and set(triggerer.ids) <= store.reported())
        ids += triggerer.ids
    async with Triggerer(watch(kind), store) as triggerer:
        await until(lambda: len(ids + triggerer.ids) >= len(made))
        await asyncio.sleep(0.2)
    ids += triggerer.ids
    assert sorted(ids) == sorted(made)


async def test_an_open_run_is_followed_after_a_restart_though_the_list_shows_it_no_more(
    start: Any, kind: str, world: Any
) -> None:
    store = AssetStore()
    async with Triggerer(watch(kind), store) as triggerer:
        await until(lambda: begun(store))
        run_id = start(held=True)
        await until(lambda: run_id in str(store.values) and world.requests(action="get", run_id=run_id))
    world.advance(run_id=run_id)
    world.add_fault(provider=PARENTS[kind][0], action="list", kind="status", status=502, count=2)
    async with Triggerer(watch(kind), store) as triggerer:
        await until(lambda: triggerer.ids)
    assert triggerer.ids == [run_id]


@pytest.mark.parametrize("kind", ["b3os"], indirect=True)
async def test_a_wrong_key_or_a_broken_service_never_ends_a_watch(
    start: Any, kind: str, world: Any, connect: Any, served: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    connect("b3os_other", "b3os", host=served.base_url("b3os"), password="invalid-key-1234")
    store = AssetStore()
    said = ""

    def told() -> bool:
        nonlocal said
        said += capsys.readouterr().out
        return "cannot go on, and tries again" in said

    async with Triggerer(watch(kind, conn_id="b3os_other"), store) as triggerer:
        # Not only until the key is refused: it is read again at once, and might be another one by then.
        await until(told)
        connect("b3os_other", "b3os", host=served.base_url("b3os"))
        await until(lambda: begun(store))
        for action, fault in (("list", "html"), ("list", "reset"), ("get", "half_body")):
            world.add_fault(provider="b3os", action=action, kind=fault)
        run_id = start()
        await until(lambda: triggerer.ids)
    assert triggerer.ids == [run_id]
    said += capsys.readouterr().out
    assert "connection 'b3os_other'" in said
    assert "invalid-key-1234" not in said


@pytest.mark.parametrize("kind", ["nekt"], indirect=True)
async def test_a_missing_connection_is_told_and_waited_for(
    start: Any, kind: str, connect: Any, served: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    store = AssetStore()
    said = ""

    def told() -> bool:
        nonlocal said
        said += capsys.readouterr().out
        return "There is no connection 'nekt_later'" in said

    async with Triggerer(watch(kind, conn_id="nekt_later"), store) as triggerer:
        await until(told)
        connect("nekt_later", "nekt", host=served.base_url("nekt"))
        await until(lambda: begun(store))
        run_id = start()
        await until(lambda: triggerer.ids)
    assert triggerer.ids == [run_id]


@pytest.mark.parametrize("kind", ["onepin"], indirect=True)
async def test_more_runs_than_the_list_can_show_are_a_gap(
    start: Any, kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from runops.core.waiting import listing

    monkeypatch.setattr(listing, "MOST_PAGES", 1)
    store = AssetStore()
    start(age_seconds=10000)
    async with Triggerer(watch(kind), store) as triggerer:
        await until(lambda: begun(store))
    for number in range(150):
        start(age_seconds=150 - number)
    last = start(seconds=0.01)
    async with Triggerer(watch(kind), store) as triggerer:
        await until(lambda: len(triggerer.ids) >= 100)
    assert triggerer.payloads[0]["gap"] is True
    assert not any(payload["gap"] for payload in triggerer.payloads[1:])
    assert last in triggerer.ids
    assert len(set(triggerer.ids)) == len(triggerer.ids)
    assert "some may be missing" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["nyx"], indirect=True)
async def test_a_run_that_is_over_in_an_unknown_word_is_reported_without_an_outcome(start: Any, kind: str) -> None:
    store = AssetStore()
    async with Triggerer(watch(kind), store) as triggerer:
        await until(lambda: begun(store))
        run_id = start(script="unknown_word_ended")
        await until(lambda: triggerer.ids)
    (payload,) = triggerer.payloads
    assert (payload["run_id"], payload["outcome"], payload["run_ended"]) == (run_id, None, False)
    assert "archived" in payload["state"]


@pytest.mark.parametrize("kind", ["b3os"], indirect=True)
async def test_without_a_state_store_a_watch_works_until_the_triggerer_restarts(
    start: Any, kind: str, world: Any
) -> None:
    async with Triggerer(watch(kind), None) as triggerer:
        await until(lambda: looked(world, kind))
        run_id = start()
        await until(lambda: triggerer.ids)
    assert triggerer.ids == [run_id]


@pytest.mark.parametrize("kind", ["b3os"], indirect=True)
async def test_several_assets_that_share_a_watch_share_its_memory(start: Any, kind: str) -> None:
    from types import SimpleNamespace

    stores = {"a": AssetStore(), "b": AssetStore()}
    both: Any = SimpleNamespace(_by_name=stores, _by_uri={})
    async with Triggerer(watch(kind), both):
        await until(lambda: all(map(begun, stores.values())))
    run_id = start()
    async with Triggerer(watch(kind), stores["b"]) as triggerer:
        await until(lambda: triggerer.ids)
    assert triggerer.ids == [run_id]


def test_its_row_holds_json_and_no_secret_and_its_path_is_frozen(key: str) -> None:
    path, arguments = RunFinishedTrigger(provider="nekt", parent={"source": "shop"}, conn_id="c").serialize()
    assert path == "runops.airflow.watcher.RunFinishedTrigger"
    assert json.loads(json.dumps(arguments)) == arguments
    assert key not in str(arguments)
    later: dict[str, Any] = {**arguments, "of_a_later_version": 1}
    assert RunFinishedTrigger(**later).serialize() == (path, arguments)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"provider": "nexio", "parent": "placement"}, "no list of runs"),
        ({"provider": "nekt", "parent": {"pipeline": "a", "source": "b"}}, "one of pipeline"),
        ({"provider": "nobody", "parent": "a"}, "nobody"),
        ({"provider": "b3os", "parent": "../wf"}, "cannot be an id"),
        ({"provider": "b3os", "parent": "wf_1", "poll_interval": -1}, "poll_interval"),
    ],
)
def test_a_watch_that_cannot_work_is_refused_when_the_dag_is_built(arguments: Any, told: str) -> None:
    # A TypeError, because nothing else that a trigger's constructor raises leaves the triggerer alive.
    with pytest.raises(TypeError, match=told):
        RunFinishedTrigger(**arguments)


def test_an_asset_watcher_takes_it() -> None:
    from airflow.sdk import Asset, AssetWatcher

    trigger: Any = RunFinishedTrigger(provider="nyx", parent="nightly")
    asset = Asset("audits", watchers=[AssetWatcher(name="nightly", trigger=trigger)])
    assert asset.watchers[0].trigger is trigger
