"""A limit that a connection shares over processes, without its store, in every mode; what is refused and hidden."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest

from runops.airflow import B3osHook, B3osRunOperator, B3osRunSensor
from runops.airflow.exceptions import ConfigurationError
from runops.core.model.secret import Secret
from tests.services import CALLS

pytest.importorskip("redis", reason="needs redis-py: the extra redis")

STORE = "redis://someone:canary-store-pw-5d@127.0.0.1:1/0"
"""Nobody listens there."""


@pytest.fixture
def shared(connect: Any, served: Any) -> None:
    extra = {"requests_per_minute": 60_000, "processes": 4, "rate_store": STORE}
    connect("b3os_default", "b3os", host=served.base_url("b3os"), extra=extra)


@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize("kind", ["sensor", "operator"])
def test_a_task_goes_on_without_the_store_in_every_mode_and_nothing_keeps_its_address(
    host: Any, mode: dict[str, Any], kind: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.WARNING)
    if kind == "sensor":
        task: Any = B3osRunSensor(task_id="a_task", **host.made("b3os", seconds=60), **mode)
    else:
        host.emulator.set_defaults(provider="b3os", script="succeeded", seconds=60)
        task = B3osRunOperator(task_id="a_task", **CALLS["b3os"], deferrable="mode" not in mode)
    ended = host.run(task)
    assert ended.error is None, ended.error
    assert ended.result["outcome"] == "succeeded"
    rows = [deferred.trigger.serialize() for deferred in ended.deferrals]
    kept = json.dumps([rows, ended.events, ended.xcoms, ended.result], default=str)
    said = caplog.text + "".join(capsys.readouterr())
    assert "127.0.0.1:1 cannot be used (ConnectionError)" in said
    assert "canary-store" not in kept + said
    assert "redis:" not in kept


@pytest.mark.usefixtures("shared")
def test_both_clients_share_through_it() -> None:
    hook = B3osHook()
    for client in (hook.client(), asyncio.run(hook.async_client())):
        assert client._session.rate.store == Secret(STORE)
        assert client._session.rate.processes == 4
        assert client._session.budget is not None
        assert "canary" not in repr(client) + repr(client._session.rate) + str(client._session.key)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"processes": 2}, "processes of connection 'b3os_default' is set without requests_per_minute"),
        ({"requests_per_minute": 60, "processes": "two"}, "processes of connection 'b3os_default' must be a number"),
        ({"requests_per_minute": 60, "rate_store": "http://u:canary@h"}, "rate_store of connection 'b3os_default'"),
        ({"requests_per_minute": 60, "rate_store": ["canary"]}, "rate_store of connection 'b3os_default' must be"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_connection(connect: Any, extra: dict[str, Any], message: str) -> None:
    connect("b3os_default", "b3os", host="https://service.example", extra=extra)
    for make in (B3osHook().client, lambda: asyncio.run(B3osHook().async_client())):
        with pytest.raises(ConfigurationError, match=message) as refused:
            make()
        assert "canary" not in str(refused.value)


def test_an_empty_field_of_the_form_is_no_store(connect: Any, served: Any) -> None:
    extra = {"requests_per_minute": None, "processes": None, "rate_store": ""}
    connect("b3os_default", "b3os", host=served.base_url("b3os"), extra=extra)
    assert B3osHook().test_connection()[0]
