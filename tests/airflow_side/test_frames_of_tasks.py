"""No local of a frame that a task's error came through holds the key or a payload."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from runops.airflow import B3osHook, B3osRunOperator, B3osRunSensor
from runops.airflow._compat import AirflowException
from runops.airflow.exceptions import in_airflow_terms
from runops.airflow.hook import client_settings
from runops.core import RunopsError
from runops.core.model.secret import Secret
from tests.canaries import frames, search
from tests.canaries import troubled_service as service

pytestmark = pytest.mark.usefixtures("without_pauses")


KEY, PAYLOAD = service.KEY, service.PAYLOAD


def connect(monkeypatch: pytest.MonkeyPatch, troubled: str, way: str, **fields: Any) -> None:
    extra = service.settings(troubled, way)
    connection = {"conn_type": "b3os", "password": KEY, "host": extra.pop("base_url"), "extra": extra, **fields}
    monkeypatch.setenv("AIRFLOW_CONN_B3OS_DEFAULT", json.dumps(connection))


def check(error: BaseException, only: str = "") -> None:
    canaries = {"key": KEY, "payload": PAYLOAD}
    assert search.find_leaks(canaries, frames.collected(error, without=__file__, only=only)) == []


def get(way: str) -> None:
    with in_airflow_terms(), B3osHook().client() as client:
        client.get(client.ref(way))


def get_async(way: str) -> None:
    async def scenario() -> None:
        with in_airflow_terms():
            async with await B3osHook().async_client() as client:
                await client.wait(client.ref(way), timeout=0.4, error_budget=0.2)

    asyncio.run(scenario())


@pytest.mark.parametrize("way", service.WAYS)
@pytest.mark.parametrize("act", [get, get_async])
def test_a_hook_that_fails_leaves_nothing_in_any_frame(
    troubled: str, monkeypatch: pytest.MonkeyPatch, act: Callable[[str], None], way: str
) -> None:
    connect(monkeypatch, troubled, way)
    with pytest.raises(AirflowException) as caught:
        act(way)
    check(caught.value)


@pytest.mark.parametrize("way", ["s401", "s404", "unknown_word", "closed", "html"])
def test_a_task_that_fails_leaves_nothing_in_a_frame_of_ours(
    host: Any, troubled: str, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    connect(monkeypatch, troubled, way)
    sensor = B3osRunSensor(task_id="a_task", run_id=way, timeout=0.6, error_budget=0.2, poke_interval=0.1)
    operator = B3osRunOperator(
        task_id="a_task",
        workflow_id=way,
        payload={"text": "the own words of who submits"},
        durable=False,
        timeout=0.6,
    )
    for task in (sensor, operator):
        error = host.run(task).error
        assert error is not None or (way, task) == ("unknown_word", operator)
        if error is not None:
            check(error, only="runops/core")
            check(error, only="runops/airflow")


@pytest.mark.parametrize(
    "wrong",
    [
        {"password": f"{KEY}\n\x00"},
        {"password": f"{KEY}é"},
        {"password": ""},
        {"extra": f'["{PAYLOAD}"]'},
        {"extra": f"{{{PAYLOAD}"},
        {"host": f"user:{KEY}@[::1"},
        {"host": f"https://user:{KEY}@api.example.org"},
        {"host": "http://192.0.2.1"},
        {"extra": {"request_timeout": "soon"}},
    ],
)
def test_a_wrong_field_of_a_connection_leaves_nothing_in_a_frame_of_ours(
    troubled: str, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any]
) -> None:
    connect(monkeypatch, troubled, "fine", **wrong)
    for act in (get, get_async):
        with pytest.raises((AirflowException, RunopsError)) as caught:
            act("fine")
        check(caught.value, only="runops/")


def test_the_settings_of_a_connection_hold_the_key_only_in_its_own_type(
    troubled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(monkeypatch, troubled, "fine")
    hook = B3osHook()
    settings = client_settings(hook.provider, hook.get_connection(hook.conn_id))
    assert settings["token"] == Secret(KEY)
    assert search.find_leaks({"key": KEY}, [*frames.shown(settings), *frames.shown(vars(hook))]) == []
