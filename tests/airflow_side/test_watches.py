"""A watch of an asset watcher, step by step: what it asks for and when, what it keeps, and what it says of failures."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_mock import MockerFixture

from runops.airflow import RunFinishedTrigger, watcher
from runops.core import (
    AuthError,
    ConfigurationError,
    Outcome,
    Phase,
    PollingError,
    RequestRefused,
    RunNotFound,
    RunRef,
    RunSnapshot,
    TransientError,
    UnknownStateError,
    find,
)
from runops.core.waiting.discovery import SEEK_SECONDS
from runops.core.waiting.watch import WatchState
from tests.services import WORKFLOW, Clock

NOW = 1_780_000_000.0
LOG = logging.getLogger("a watch")


class Enough(Exception):
    """Ends a watch, which nothing else does."""


class AssetStore:
    """Airflow's state store of one asset."""

    def __init__(self, value: Any = None) -> None:
        self.values: dict[str, Any] = {} if value is None else value

    async def aget(self, key: str) -> Any:
        return self.values.get(key)

    async def aset(self, key: str, value: Any) -> None:
        self.values[key] = json.loads(json.dumps(value))


@dataclass
class Seen:
    """Stands for the memory of a watch: what a look finds in it is said by a test."""

    begun: bool = True
    gap: bool = False
    open: dict[str, float] = field(default_factory=dict[str, float])
    window: Any = field(default_factory=lambda: SimpleNamespace(deep=False))
    finds: list[str] = field(default_factory=list[str])
    turns_to_gap: bool = False
    asked: list[Any] = field(default_factory=list[Any])

    def look(self, provider: Any, parent: Any, *, now: float) -> Any:
        self.asked.append((provider.name, parent, now))
        return "the list"
        yield

    def take(self, found: object) -> list[str]:
        assert found == "the list"
        self.gap = self.gap or self.turns_to_gap
        return self.finds

    def close(self, run_id: str) -> None:
        self.asked.append(f"closed {run_id}")

    def to_dict(self) -> dict[str, Any]:
        return {"gap": self.gap, "asked": len(self.asked)}


class Client:
    """Stands for a client; each of its looks at the list ends as a test says."""

    def __init__(self, clock: Clock, *ends: Exception | None) -> None:
        self.provider = find("b3os")
        self.clock = clock
        self.ends = list(ends)
        self.waits: dict[str, Any] = {}
        self.settings: dict[str, Any] = {}

    async def drive(self, flow: Any) -> Any:
        end = self.ends.pop(0) if self.ends else None
        if end is not None:
            raise end
        try:
            next(flow)
        except StopIteration as over:
            return over.value
        raise AssertionError("Nothing is to be sent.")

    async def wait(self, ref: RunRef, **settings: Any) -> RunSnapshot:
        self.settings[ref.run_id] = settings
        end = self.waits.get(ref.run_id)
        if end is None:
            await asyncio.Event().wait()
        if isinstance(end, Exception):
            raise end
        return RunSnapshot(ref=ref, state="done", outcome=Outcome.SUCCEEDED)


@pytest.fixture
def clock(mocker: MockerFixture) -> Clock:
    clock = Clock()
    clock.now = NOW
    mocker.patch.object(watcher, "time", SimpleNamespace(time=clock))
    sleeping = SimpleNamespace(
        sleep=clock.sleep_async, wait=asyncio.wait, create_task=asyncio.create_task, gather=asyncio.gather,
        FIRST_COMPLETED=asyncio.FIRST_COMPLETED,
    )  # fmt: skip
    mocker.patch.object(watcher, "asyncio", sleeping)
    mocker.patch.object(watcher, "spread", return_value=0.0)
    return clock


def watch(*stores: AssetStore, **arguments: Any) -> Any:
    given = {"provider": "b3os", "parent": "wf_1", **arguments}
    trigger: Any = RunFinishedTrigger(**given)
    trigger._log = LOG
    if stores:
        trigger.asset_state_store = SimpleNamespace(_by_name=dict(enumerate(stores)))
    return trigger


REF = find("b3os").ref("r1", {})


# --- the trigger itself ---------------------------------------------------------------------------------------------

ROW = {"version": 1, "provider": "b3os", "parent": {"workflow_id": "wf_1"}, "conn_id": None, "poll_interval": None}


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ({}, {}), ({"conn_id": "mine"}, {"conn_id": "mine"}), ({"poll_interval": 5}, {"poll_interval": 5.0}),
        ({"version": 7, "of_a_later_version": 1}, {"version": 7}), ({"states": {}}, {}),
        ({"states": {"odd": "degraded"}}, {"states": {"odd": "degraded"}}),
        ({"parent": {"workflow_id": "wf_2"}}, {"parent": {"workflow_id": "wf_2"}}),
    ],
)  # fmt: skip
def test_an_argument_of_a_watch_is_written_back_as_it_was_given(given: Any, written: Any) -> None:
    assert watch(**given).serialize() == ("runops.airflow.watcher.RunFinishedTrigger", {**ROW, **written})


def test_a_name_that_no_argument_has_is_refused_in_a_dag_and_a_word_that_teaches_wrongly_too() -> None:
    with pytest.raises(ConfigurationError, match="of_a_later_version"):
        watch(of_a_later_version=1)
    with pytest.raises(TypeError, match="odd"):
        watch(states={"odd": "no outcome"})


def test_a_watch_reads_with_its_connection_and_its_words(mocker: MockerFixture) -> None:
    made = mocker.patch.object(watcher, "RunHook")
    watch(conn_id="mine", states={"odd": "degraded"})._hook()
    made.assert_called_once_with("mine", provider="b3os", states={"odd": "degraded"})


def test_a_run_of_a_watch_is_addressed_by_what_its_address_needs() -> None:
    ref = watch(provider="onepin", parent=WORKFLOW)._ref("r1")
    assert ref == RunRef(provider="onepin", run_id="r1", parents={"workflow_id": WORKFLOW})
    assert watch()._ref("r1") == RunRef(provider="b3os", run_id="r1")


# --- what it keeps --------------------------------------------------------------------------------------------------


def test_what_a_watch_remembers_is_kept_with_each_of_its_assets_and_read_of_the_first_that_has_it() -> None:
    stores = AssetStore(), AssetStore(), AssetStore()
    trigger = watch(*stores)
    assert asyncio.run(trigger._recall()) is None
    asyncio.run(trigger._keep(WatchState(gap=True)))
    key = f"runops:b3os:{trigger._named.removeprefix('b3os ')}"
    assert "wf_1" in key
    assert [list(store.values) for store in stores] == [[key]] * 3
    stores[0].values.clear()
    stores[1].values[key] = {"of": "the second"}
    assert asyncio.run(trigger._recall()) == {"of": "the second"}


def test_what_could_not_be_kept_is_kept_at_the_next_look(clock: Clock, mocker: MockerFixture) -> None:
    store = AssetStore()
    trigger, seen = watch(store), Seen()
    mocker.patch.object(store, "aset", side_effect=OSError("full"))
    with pytest.raises(OSError, match="full"):
        asyncio.run(trigger._keep(seen))
    mocker.stopall()
    asyncio.run(trigger._read_list(Client(clock), seen))
    assert len(store.values) == 1
    store.values.clear()
    asyncio.run(trigger._read_list(Client(clock), seen))
    assert store.values == {}


BEGINS = "The watch over b3os workflow_id wf_1 begins; 2 of its runs are open."
NEW = "New runs of b3os workflow_id wf_1: a, b."
MISSING = (
    "The list of b3os workflow_id wf_1 does not show all runs that came: some may be missing. The next event says gap."
)


@pytest.mark.parametrize(
    ("seen", "says", "keeps"),
    [
        ({}, [], False),
        ({"gap": True}, [], False),
        ({"begun": False, "open": {"a": 0.0, "b": 0.0}, "finds": ["a", "b"]}, [BEGINS], True),
        ({"finds": ["a", "b"]}, [NEW], True),
        ({"turns_to_gap": True}, [MISSING], True),
        ({"gap": True, "turns_to_gap": True}, [], False),
        ({"window": SimpleNamespace(deep=True)}, [], True),
    ],
)
def test_a_look_at_the_list_says_what_is_new_and_keeps_it(
    clock: Clock, seen: dict[str, Any], says: list[str], keeps: bool, caplog: pytest.LogCaptureFixture
) -> None:
    store, memory = AssetStore(), Seen(**seen)
    trigger = watch(store)
    said = [each.replace("b3os workflow_id wf_1", trigger._named) for each in says]
    with caplog.at_level(logging.INFO):
        asyncio.run(trigger._read_list(Client(clock), memory))
    assert memory.asked == [("b3os", {"workflow_id": "wf_1"}, NOW)]
    assert caplog.messages == said
    assert bool(store.values) is keeps


# --- when it looks --------------------------------------------------------------------------------------------------


def pauses(clock: Clock, trigger: Any, client: Client, most: int) -> list[float]:
    """The pauses of a watch without open runs between its first looks at the list."""

    def count(_: float) -> None:
        if len(clock.sleeps) == most:
            raise Enough

    async def read() -> None:
        async for _ in trigger._ends(client, Seen()):
            raise AssertionError("Nothing has ended.")

    clock.on_sleep = count
    with pytest.raises(Enough):
        asyncio.run(read())
    return [round(seconds, 3) for seconds in clock.sleeps]


@pytest.mark.parametrize("interval", [None, 7.0])
def test_the_list_is_read_at_the_interval_of_the_watch_and_later_less_often(
    clock: Clock, interval: float | None
) -> None:
    cadence = find("b3os").cadence.at_least(interval or SEEK_SECONDS)
    wanted, age = [], 0.0
    for _ in range(6):
        wanted.append(round(cadence.delay(age), 3))
        age += wanted[-1]
    assert pauses(clock, watch(poll_interval=interval), Client(clock), 6) == wanted


def test_failures_in_a_row_make_the_pauses_longer_and_a_good_look_makes_them_short_again(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    failed = TransientError("away")
    asks = TransientError("busy", retry_after=33.0)
    found = pauses(clock, watch(poll_interval=7), Client(clock, *[failed] * 11, None, failed, failed, asks), 15)
    assert found[:11] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 300.0, 300.0]
    assert found[12:] == [1.0, 2.0, 33.0]
    assert caplog.messages[0] == f"The list of runs of {watch()._named} could not be read: {failed}"


def test_each_open_run_is_waited_for_once_until_the_watch_ends(clock: Clock) -> None:
    client, seen = Client(clock), Seen(open={"over": 0.0, "open": 0.0})
    client.waits["over"] = True

    async def first() -> tuple[RunSnapshot, int]:
        ends = watch()._ends(client, seen)
        ended = await anext(ends)
        waiting = len(asyncio.all_tasks()) - 1
        await ends.aclose()
        return ended, waiting - (len(asyncio.all_tasks()) - 1)

    ended, cancelled = asyncio.run(first())
    assert (ended.ref.run_id, ended.outcome) == ("over", Outcome.SUCCEEDED)
    assert (sorted(client.settings), cancelled) == (["open", "over"], 1)


@pytest.mark.parametrize("interval", [None, 7.0])
def test_a_run_is_waited_for_without_an_end_and_its_changes_are_told(
    clock: Clock, interval: float | None, caplog: pytest.LogCaptureFixture
) -> None:
    client = Client(clock)
    client.waits["r1"] = True
    asyncio.run(watch(poll_interval=interval)._wait(client, "r1"))
    settings = client.settings["r1"]
    patience, on_update = settings["patience"], settings["on_update"]
    assert settings["seen"] is True
    assert (patience.deadline, patience.error_budget, patience.max_paused) == (253_402_300_799.0, 900.0, None)
    assert patience.cadence == find("b3os").cadence.at_least(interval)
    with caplog.at_level(logging.INFO):
        for phase in (Phase.RUNNING, Phase.RUNNING, Phase.QUEUED):
            on_update(RunSnapshot(ref=REF, state=str(phase), phase=phase))
    assert [message.partition(":")[0] for message in caplog.messages] == ["b3os run r1"] * 2


# --- what it says of failures ---------------------------------------------------------------------------------------

LOST = PollingError(REF, 900.0, RunNotFound("gone"))
AWAY = PollingError(REF, 900.0, TransientError("away"))
REFUSED = RequestRefused("no")
GONE = "b3os run r1 is gone and not followed any more; how it ended is not known. The next event says gap."
AGAIN = f"b3os run r1 could not be read, and is tried again: {REFUSED}"


@pytest.mark.parametrize(
    ("error", "says", "gone"),
    [(LOST, [str(LOST), GONE], True), (AWAY, [str(AWAY)], False), (REFUSED, [AGAIN], False)],
    ids=["deleted", "away", "refused"],
)
def test_a_run_whose_end_is_not_known_ends_no_watch_and_is_left_only_once_it_is_gone(
    clock: Clock, error: Exception, says: list[str], gone: bool, caplog: pytest.LogCaptureFixture
) -> None:
    store, seen = AssetStore(), Seen()
    assert asyncio.run(ended(watch(store), clock, error, seen)) is None
    assert caplog.messages == says
    assert (seen.gap, seen.asked, bool(store.values)) == (gone, ["closed r1"] if gone else [], gone)


async def ended(trigger: Any, clock: Clock, error: Exception, seen: Seen) -> Any:
    client = Client(clock)
    client.waits["r1"] = error
    return await trigger._ended("r1", asyncio.create_task(client.wait(REF)), seen)


def test_an_end_in_an_unknown_word_is_reported_without_an_outcome(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    error = UnknownStateError(REF, "archived", ["running"] * 40)
    snapshot = asyncio.run(ended(watch(), clock, error, Seen()))
    assert (snapshot.ref, snapshot.state, snapshot.outcome) == (REF, "archived", None)
    assert (snapshot.reason, len(snapshot.reason)) == (error.text[:200], 200)
    assert caplog.messages == [str(error)]


def test_a_refused_key_is_of_the_whole_watch(clock: Clock) -> None:
    with pytest.raises(AuthError):
        asyncio.run(ended(watch(), clock, AuthError("no"), Seen()))


# --- its events -----------------------------------------------------------------------------------------------------


class Watch:
    """A watch whose ends are given by a test, on a clock that its pauses move on."""

    def __init__(self, clock: Clock, mocker: MockerFixture, *ends: Any) -> None:
        self.clock, self.store, self.opened = clock, AssetStore(), 0
        self.trigger = watch(self.store)
        self.steps: list[Any] = []
        rounds = iter(ends)

        @asynccontextmanager
        async def client() -> AsyncIterator[Client]:
            self.opened += 1
            yield Client(clock)

        async def opens() -> Any:
            return client()

        async def of_round(_: Any, memory: WatchState) -> Any:
            memory.gap = True
            for each in next(rounds, [Enough()]):
                if isinstance(each, Exception):
                    raise each
                memory.open[each] = 5.0
                yield RunSnapshot(ref=find("b3os").ref(each, {}), state="done", outcome=Outcome.FAILED)

        mocker.patch.object(self.trigger, "_hook", return_value=SimpleNamespace(async_client=opens))
        mocker.patch.object(self.trigger, "_ends", of_round)

    async def run(self, pauses: int) -> None:
        def paused(seconds: float) -> None:
            kept = next(iter(self.store.values.values()), {"open": {}, "done": {}, "gap": None})
            self.steps.append((seconds, list(kept["open"]), list(kept["done"]), kept["gap"]))
            if len(self.clock.sleeps) == pauses:
                raise KeyboardInterrupt

        self.clock.on_sleep = paused
        async for event in self.trigger.run():
            self.steps.append(event.payload)


def test_an_event_is_noted_as_reported_two_seconds_after_it_and_a_watch_that_ended_begins_again_a_minute_later(
    clock: Clock, mocker: MockerFixture
) -> None:
    one = Watch(clock, mocker, ["r1"])
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(one.run(pauses=2))
    event, handed_over, rest = one.steps
    assert (event["run_id"], event["outcome"], event["verdict"]) == ("r1", "failed", None)
    assert (event["parent"], event["gap"]) == ({"workflow_id": "wf_1"}, True)
    assert event["runops"] == {
        "provider": "b3os", "run_id": "r1", "url": None, "outcome": "failed", "verdict": None, "spend": None,
        "spend_unit": "CU",
    }  # fmt: skip
    assert handed_over == (2.0, [], [], None)
    assert rest == (60.0, [], ["r1"], False)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (RequestRefused("no"), "The watch over {} cannot go on, and tries again: no"),
        (ValueError("of ours"), "The watch over {} met an error that is not the service's."),
    ],
)
def test_no_error_ends_a_watch_and_each_is_told(
    clock: Clock, mocker: MockerFixture, error: Exception, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    one = Watch(clock, mocker, [error], [error])
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(one.run(pauses=2))
    assert [step[0] for step in one.steps] == [60.0, 60.0]
    assert one.opened == 2
    assert [message.startswith(says.format(one.trigger._named)) for message in caplog.messages] == [True, True]
