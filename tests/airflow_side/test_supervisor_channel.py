"""Airflow's own channel between a triggerer's triggers and their supervisor: every request gets its own answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from runops.airflow import trigger_base
from runops.airflow._compat import kills_in_triggerer, task_state_of
from runops.airflow.hook import RunHook
from runops.airflow.trigger import RunTrigger

KEYS = {f"c{number}": f"key-of-{number}" for number in range(6)}


class Supervisor:
    """The other end of the channel: it answers one request after the other, each after a while."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.pause = 0.05

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from airflow.sdk.execution_time.comms import _RequestFrame, _ResponseFrame

        decoder = msgspec.msgpack.Decoder(_RequestFrame)
        try:
            while True:
                length = int.from_bytes(await reader.readexactly(4), "big")
                request = decoder.decode(await reader.readexactly(length))
                await asyncio.sleep(self.pause)
                body = self.answer(request.body or {})
                writer.write(bytes(_ResponseFrame(id=request.id, body=body).as_bytes()))
        except asyncio.IncompleteReadError:
            return

    def answer(self, request: dict[str, Any]) -> dict[str, Any] | None:
        self.asked.append(request)
        if request["type"] == "GetConnection":
            conn_id = request["conn_id"]
            return {
                "type": "ConnectionResult",
                "conn_id": conn_id,
                "conn_type": "nexio",
                "password": KEYS[conn_id],
                "host": "http://127.0.0.1:1",
                **dict.fromkeys(("schema", "login", "port", "extra")),
            }
        if request["type"] == "GetTaskStates":
            mapped = request.get("map_index")
            name = "a_task" if mapped is None else f"a_task_{mapped}"
            return {"type": "TaskStatesResult", "task_states": {"a_run": {name: "failed"}}}
        return None

    def kinds(self) -> list[str]:
        return [request["type"] for request in self.asked if request["type"] != "MaskSecret"]


@asynccontextmanager
async def channel(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Airflow's end of the channel, as a triggerer has it."""
    from airflow.jobs.triggerer_job_runner import TriggerCommsDecoder
    from airflow.sdk.execution_time import task_runner

    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    decoder = TriggerCommsDecoder(socket=ours, async_reader=reader, async_writer=writer)
    if hasattr(decoder, "start_reader"):
        await decoder.start_reader()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", decoder, raising=False)
    far = await asyncio.open_connection(sock=theirs)
    serving = asyncio.create_task(supervisor.serve(*far))
    try:
        yield
    finally:
        for end in (writer, far[1]):
            end.close()
        serving.cancel()
        reading = getattr(decoder, "_reader_task", None)
        await asyncio.gather(serving, *([reading] if reading else []), return_exceptions=True)


async def key_of(conn_id: str) -> str:
    client = await RunHook(conn_id, provider="nexio").async_client()
    secret: str = client._session._auth._secret.reveal()
    return secret


def test_each_of_many_triggers_gets_its_own_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with channel(Supervisor(), monkeypatch):
            assert await asyncio.gather(*map(key_of, KEYS)) == list(KEYS.values())

    asyncio.run(story())


@pytest.mark.parametrize("after", [0.0, 0.02, 0.06, 0.12])
def test_a_trigger_that_is_cancelled_while_it_reads_its_connection_leaves_the_channel_in_order(
    monkeypatch: pytest.MonkeyPatch, after: float
) -> None:
    async def story() -> None:
        async with channel(Supervisor(), monkeypatch):
            cancelled = [asyncio.create_task(key_of(f"c{number}")) for number in range(3)]
            await asyncio.sleep(after)
            for task in cancelled:
                task.cancel()
            assert await asyncio.gather(*map(key_of, ("c3", "c4", "c5"))) == [KEYS["c3"], KEYS["c4"], KEYS["c5"]]
            await asyncio.gather(*cancelled, return_exceptions=True)

    asyncio.run(story())


def test_a_connection_that_comes_too_late_is_not_taken_for_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from runops.airflow import hook
    from runops.airflow.exceptions import TriggerCrashed

    async def story() -> None:
        async with channel(Supervisor(), monkeypatch):
            with monkeypatch.context() as patch:
                patch.setattr(hook, "AIRFLOW_SECONDS", 0.01)
                with pytest.raises(TriggerCrashed):
                    await key_of("c0")
            assert await key_of("c1") == KEYS["c1"]

    asyncio.run(story())


@pytest.mark.parametrize("after", [0.0, 0.02, 0.08])
def test_a_trigger_asks_for_nothing_that_is_not_needed_and_its_cancellation_leaves_the_channel_in_order(
    monkeypatch: pytest.MonkeyPatch, after: float
) -> None:
    from types import SimpleNamespace

    from runops.core import find
    from runops.core.waiting.options import WaitOptions

    supervisor = Supervisor()
    patience = WaitOptions.build(find("nexio"), now=1e9, timeout=3e9).to_dict()
    monkeypatch.setattr(trigger_base.TriggerBase, "_channel", None)

    async def story() -> None:
        async with channel(supervisor, monkeypatch):
            trigger = RunTrigger(
                provider="nexio",
                conn_id="c0",
                ref={"provider": "nexio", "run_id": "r1"},
                patience=patience,
                cancel_on_kill=True,
            )
            trigger.task_instance = SimpleNamespace(  # pyright: ignore[reportAttributeAccessIssue]
                dag_id="a_dag", task_id="a_task", run_id="a_run", map_index=-1
            )

            async def run() -> None:
                async for _ in trigger.run():
                    pass

            task = asyncio.create_task(run())
            await asyncio.sleep(after)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert await key_of("c1") == KEYS["c1"]

    asyncio.run(story())
    assert supervisor.kinds().count("GetTaskStates") <= int(kills_in_triggerer())


@pytest.mark.parametrize(("map_index", "asked"), [(-1, None), (None, None), (0, 0), (3, 3)])
def test_of_a_mapped_task_the_state_of_its_own_instance_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, map_index: int | None, asked: int | None
) -> None:
    from types import SimpleNamespace

    supervisor = Supervisor()
    ti = SimpleNamespace(dag_id="a_dag", task_id="a_task", run_id="a_run", map_index=map_index)

    async def story() -> None:
        async with channel(supervisor, monkeypatch):
            assert await task_state_of(ti) == "failed"

    asyncio.run(story())
    (question,) = [each for each in supervisor.asked if each["type"] == "GetTaskStates"]
    assert question["map_index"] == asked
