"""A key that is rotated while tasks wait: the connection is read again in every mode, and no task is lost."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from airflow.sdk import BaseHook

from runops.airflow import RunSensor
from runops.airflow._compat import renders_in_triggerer
from runops.airflow.exceptions import AuthError
from runops.airflow.hook import AsyncConnectionKey, ConnectionKey, RunHook
from runops.airflow.trigger import RunTrigger
from runops.airflow.watcher import RunFinishedTrigger
from runops.core import find
from runops.core.model.cadence import Cadence
from runops.core.waiting.options import WaitOptions
from runops.emulator.keys import id_of
from tests.services import CALLS, PROVIDERS, SUBMITTING
from tests.simulated_time import until

pytestmark = pytest.mark.promise("a key that is rotated under waits loses no task, and the old one is not used on")
NEW = "canary-new-key-5f2b9c3d71"


class Rotation:
    """Revokes the key of the connections at one moment, and changes the connections at another."""

    def __init__(self, host: Any, served: Any, connect: Callable[..., None], key: str) -> None:
        self.old, self.state = key, "revoked"
        self._host, self._served, self._connect = host, served, connect
        self._left: list[tuple[float, Callable[[], None]]] = []
        host.clock.on_sleep = self._on_sleep

    def at(self, revoked: float, changed: float | None) -> None:
        """Seconds from the start; None where nobody changes the connection."""
        self._left = [(revoked, self.revoke)]
        if changed is not None:
            self._left.append((changed, self.change))

    def revoke(self) -> None:
        self.revoked_at = self._host.clock()
        self._host.emulator.set_key(self.old, self.state, label="old")

    def change(self) -> None:
        for name in PROVIDERS:
            self._connect(f"{name}_default", name, host=self._served.base_url(name), password=NEW)

    def _on_sleep(self, seconds: float) -> None:
        due = self._host.clock.passed + seconds
        for at, act in [each for each in self._left if each[0] <= due]:
            self._left.remove((at, act))
            act()

    def uses_of_the_old_key(self) -> list[float]:
        """Seconds after it was revoked."""
        sent = self._host.emulator.requests(key_id=id_of(self.old))
        return [entry["time"] - self.revoked_at for entry in sent if entry["time"] >= self.revoked_at]


@pytest.fixture
def rotation(host: Any, served: Any, connect: Callable[..., None], key: str) -> Rotation:
    return Rotation(host, served, connect, key)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("state", ["revoked", "forbidden"])
def test_a_connection_that_is_changed_in_time_loses_no_task(
    host: Any, rotation: Rotation, mode: dict[str, Any], provider: str, state: str, sensors: Any, caplog: Any
) -> None:
    rotation.state = state
    rotation.at(100, 150)
    task = sensors[provider](task_id="wait", **host.made(provider, seconds=600), **mode)
    ended = host.run(task)
    assert ended.error is None, ended.error
    assert ended.result["outcome"] == "succeeded"
    assert max(rotation.uses_of_the_old_key(), default=0) <= 60 + 50
    written = json.dumps([ended.events, ended.xcoms]) + caplog.text
    assert rotation.old not in written
    assert NEW not in written


def test_an_unchanged_connection_ends_the_task_and_soft_fail_does_not_soften_it(
    host: Any, rotation: Rotation, mode: dict[str, Any]
) -> None:
    rotation.at(100, None)
    task = RunSensor(task_id="wait", provider="nexio", **host.made("nexio", seconds=3000), soft_fail=True, **mode)
    ended = host.run(task)
    assert type(ended.error) is AuthError
    assert "connection 'nexio_default'" in str(ended.error)
    assert 100 + 300 - 61 <= host.clock.passed <= 100 + 300 + 130


def test_without_a_grace_the_task_ends_at_the_first_refusal(
    host: Any, rotation: Rotation, mode: dict[str, Any]
) -> None:
    rotation.at(100, 100)
    task = RunSensor(task_id="wait", provider="nexio", **host.made("nexio", seconds=3000), auth_grace=0, **mode)
    ended = host.run(task)
    if mode.get("mode") == "reschedule":
        assert ended.result["outcome"] == "succeeded", "each poke reads the connection anyway"
    else:
        assert type(ended.error) is AuthError
        assert host.clock.passed <= 100 + 61


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize("provider", SUBMITTING)
def test_an_operator_waits_on_and_cancels_with_the_new_key(
    host: Any, rotation: Rotation, provider: str, deferrable: bool, operators: Any
) -> None:
    rotation.at(60, 90)
    host.emulator.set_defaults(script="succeeded", seconds=900)
    task = operators[provider](task_id="run", deferrable=deferrable, timeout=300, **CALLS[provider])
    ended = host.run(task)
    cancels = [entry for entry in host.emulator.requests(action="cancel") if entry["status"] == 200]
    assert type(ended.error).__name__ == "RunTimedOut"
    assert len(cancels) == (0 if find(provider).cancel is None else 1)


def test_a_submit_with_a_bad_key_is_final_at_once(host: Any, rotation: Rotation, operators: Any) -> None:
    rotation.revoke()
    ended = host.run(operators["nexio"](task_id="run", **CALLS["nexio"]))
    assert type(ended.error) is AuthError
    assert host.emulator.runs() == []


@pytest.mark.parametrize("which", ["latest", "next"])
def test_a_search_goes_on_with_the_new_key(host: Any, rotation: Rotation, mode: dict[str, Any], which: Any) -> None:
    from runops.airflow import RunDiscoverySensor

    rotation.at(100, 150)
    made = rotation._left[-1]
    rotation._left += [(400, lambda: host.emulator.create_run("nyx", parents={"config_name": "nightly"}, seconds=60))]
    task = RunDiscoverySensor(task_id="find", provider="nyx", parent="nightly", which=which, timeout=3000, **mode)
    ended = host.run(task)
    assert made not in rotation._left
    assert ended.error is None, ended.error
    assert ended.result["outcome"] == "succeeded"


def test_a_search_with_an_unchanged_connection_ends(host: Any, rotation: Rotation, mode: dict[str, Any]) -> None:
    from runops.airflow import RunDiscoverySensor

    rotation.at(100, None)
    task = RunDiscoverySensor(task_id="find", provider="nyx", parent="nightly", timeout=30_000, **mode)
    ended = host.run(task)
    assert type(ended.error) is AuthError
    assert 300 <= host.clock.passed <= 100 + 300 + 130


@pytest.mark.parametrize("mode", ["reschedule"], indirect=True)
@pytest.mark.parametrize("changed", [150, None])
def test_a_poke_without_a_record_holds_by_itself(
    host: Any, rotation: Rotation, mode: dict[str, Any], changed: float | None
) -> None:
    rotation.at(100, changed)
    context = host.context(store=False)
    first = host.clock()
    context["ti"].get_first_reschedule_date = lambda _: SimpleNamespace(timestamp=lambda: first)
    task = RunSensor(task_id="wait", provider="nexio", **host.made("nexio", seconds=900), **mode)
    execute = task.execute

    def next_poke(context: Any) -> Any:
        context["ti"].start_date = context["ti"].start_date.fromtimestamp(host.clock(), context["ti"].start_date.tzinfo)
        return execute(context)

    task.execute = next_poke
    ended = host.run(task, context)
    assert (type(ended.error) is AuthError) if changed is None else ended.error is None


def test_a_key_is_read_where_it_is_set_and_shows_itself_to_nobody(connect: Any, served: Any, monkeypatch: Any) -> None:
    masked: list[str] = []
    monkeypatch.setattr("runops.airflow.hook.mask_secret", masked.append)
    connect("nexio_default", "nexio", host=served.base_url("nexio"), password=f"{NEW}\n")
    for read in (ConnectionKey("nexio_default"), AsyncConnectionKey("nexio_default")):
        given = read()
        key = asyncio.run(given) if asyncio.iscoroutine(given) else given
        assert key.reveal() == NEW
        assert NEW not in repr(read) + repr(key)
    assert masked == [NEW]
    assert ConnectionKey("a") == ConnectionKey("a") != ConnectionKey("b")


# --- who begins anew while the key is refused ----------------------------------------------------------------------


def id_of_a_try(made_at: float) -> str:
    """As Airflow makes it: a UUID of version 7, which holds the moment."""
    return str(UUID(int=int(made_at * 1000) << 80 | 7 << 76 | 2 << 62 | 5))


@pytest.mark.skipif(not renders_in_triggerer(), reason="needs Airflow 3.3 or newer")
@pytest.mark.parametrize(("age", "is_lost"), [(3600, False), (70, False), (5, True), (None, True)])
def test_a_wait_of_the_triggerer_that_begins_anew_while_the_key_is_refused_is_not_lost(
    host: Any, rotation: Rotation, sensors: Any, age: float | None, is_lost: bool
) -> None:
    made = host.made("nexio", seconds=600)
    task = sensors["nexio"](task_id="wait", deferrable=True, start_from_trigger=True, **made)
    waits = RunTrigger(**json.loads(json.dumps(task.start_trigger_args.trigger_kwargs)))
    ti = SimpleNamespace(task_id="wait", task=task, id=uuid4() if age is None else id_of_a_try(host.clock() - age))
    waits.task_instance = ti  # pyright: ignore[reportAttributeAccessIssue]
    waits.render_template_fields({"params": {}}, task.get_template_env())
    rotation.revoke()
    rotation.at(0, 100)

    async def payload() -> Any:
        return [event.payload async for event in waits.run()]

    (event,) = asyncio.run(payload())
    if is_lost:
        assert event["error"] == "AuthError", "for all that is known nothing was ever read with this key"
        assert host.clock.passed < 60
    else:
        assert event["snapshot"]["outcome"] == "succeeded"
        assert max(rotation.uses_of_the_old_key()) <= 60


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize("changed", [True, False])
@pytest.mark.parametrize("provider", SUBMITTING)
def test_a_try_that_takes_its_run_up_while_the_key_is_refused_waits_for_the_new_one(
    host: Any, rotation: Rotation, operators: Any, provider: str, deferrable: bool, changed: bool
) -> None:
    def die(seconds: float) -> None:
        raise SystemExit

    host.emulator.set_defaults(script="succeeded", seconds=600)
    context = host.context()
    task = operators[provider](task_id="run", deferrable=deferrable, **CALLS[provider])
    host.clock.on_sleep = die
    with pytest.raises(SystemExit):
        task.execute(context)
    rotation.revoke()
    rotation.at(0, host.clock.passed + 90 if changed else None)
    host.clock.on_sleep = rotation._on_sleep
    context["ti"].next_try()
    ended = host.run(task, context)
    assert len(host.emulator.requests(action="submit")) == 1
    if changed:
        assert ended.error is None, ended.error
        assert ended.result["outcome"] == "succeeded"
    else:
        assert type(ended.error) is AuthError
        assert 300 <= host.clock.passed <= 500


# --- real triggers in one loop, on the real clock ------------------------------------------------------------------


def test_two_hundred_triggers_read_the_connection_once_and_none_is_lost(
    served: Any, emulator: Any, connect: Any, key: str, monkeypatch: Any, caplog: Any
) -> None:
    """As in a triggerer: each trigger has a client of its own; the journal tells which keys were used when."""
    reads: list[str] = []
    plain = BaseHook.get_connection

    def counted(conn_id: str) -> Any:
        reads.append(conn_id)
        return plain(conn_id)

    async def counted_async(conn_id: str) -> Any:
        return counted(conn_id)

    monkeypatch.setattr("runops.airflow.hook.connection_of", counted_async)
    options = WaitOptions.build(find("nexio"), now=0, deadline=4e9).to_dict()
    options["cadence"] = {"first": 0.2, "factor": 1.0, "ceiling": 0.2}
    ids = [emulator.create_run("nexio", seconds=4) for _ in range(200)]
    ended: list[Any] = []
    moved: list[int] = []

    async def fire(trigger: Any) -> None:
        ended.extend([event.payload async for event in trigger.run()])

    async def story() -> None:
        triggers = [
            RunTrigger(
                provider="nexio",
                conn_id="nexio_default",
                ref={"provider": "nexio", "run_id": run_id, "parents": {}},
                patience=options,
            )
            for run_id in ids
        ]
        tasks = [asyncio.create_task(fire(each)) for each in triggers]
        await until(lambda: len(reads) >= 200 and len(emulator.requests(status=200)) >= 200, 60)
        await asyncio.sleep(1)
        emulator.set_key(key, "revoked", label="old")
        connect("nexio_default", "nexio", host=served.base_url("nexio"), password=NEW)
        # The emulator's clock is the test's, and stands still: the runs end when they are let.
        await asyncio.sleep(2)
        moved.append(emulator.requests()[-1]["index"])
        emulator.advance()
        async with asyncio.timeout(60):
            await asyncio.gather(*tasks)

    caplog.set_level(logging.INFO)
    asyncio.run(story())
    assert {event["kind"] for event in ended} == {"ended"}
    assert {event["snapshot"]["outcome"] for event in ended} == {"succeeded"}
    assert len(reads) == 201, "one read for each trigger that begins, and one for all after the rotation"
    assert emulator.requests(key_id=id_of(key), after=moved[0]) == []
    assert key not in caplog.text
    assert NEW not in caplog.text


def test_a_watcher_goes_on_with_the_new_key(
    served: Any, emulator: Any, connect: Any, key: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr("runops.airflow.watcher.HANDED_OVER_SECONDS", 0.05)

    async def story() -> Any:
        watcher = RunFinishedTrigger(provider="nyx", parent="nightly", poll_interval=0.2)
        watcher_events: Any = watcher.run()
        event = asyncio.create_task(anext(watcher_events))
        await until(lambda: emulator.requests(status=200), 20)
        open_run = emulator.create_run("nyx", parents={"config_name": "nightly"}, seconds=2)
        await asyncio.sleep(0.8)
        emulator.set_key(key, "revoked")
        connect("nyx_default", "nyx", host=served.base_url("nyx"), password=NEW)
        emulator.advance()
        async with asyncio.timeout(20):
            payload = (await event).payload
        assert payload["run_id"] == open_run
        await watcher_events.aclose()
        return payload

    monkeypatch.setattr(Cadence, "delay", lambda self, age, jitter=0.0: self.first)
    assert asyncio.run(story())["outcome"] == "succeeded"


def test_the_hook_gives_both_clients_a_way_to_read_the_key_again() -> None:
    with RunHook("nexio_default", provider="nexio").client() as client:
        assert client._session.reread == ConnectionKey("nexio_default")
