"""From a connection to a client: where the address comes from, what the Test button says, what nobody ever sees."""

from __future__ import annotations

import asyncio
import os
import warnings
from types import SimpleNamespace
from typing import Any

import pytest

from runops.airflow import B3osHook, NektHook, NexioHook, NyxHook, OnepinHook, RunHook
from runops.airflow.exceptions import AuthError, ConfigurationError
from runops.airflow.hook import base_url
from runops.core.polling.side_loop import SideLoop


@pytest.mark.parametrize(
    ("host", "port", "schema", "address"),
    [
        (None, None, None, None),
        ("", None, "", None),
        ("api.example.com", None, None, "https://api.example.com"),
        ("api.example.com", 8443, None, "https://api.example.com:8443"),
        ("api.example.com/", None, None, "https://api.example.com/"),
        ("https://api.example.com/v1", None, None, "https://api.example.com/v1"),
        ("https://api.example.com:8443/prefix", 9000, None, "https://api.example.com:8443/prefix"),
        ("http://127.0.0.1", 8642, None, "http://127.0.0.1:8642"),
        ("127.0.0.1", 8642, "http", "http://127.0.0.1:8642"),
        ("127.0.0.1", 8642, "nexio", "https://127.0.0.1:8642/nexio"),
        ("http://127.0.0.1/nexio", 8642, "http", "http://127.0.0.1:8642/nexio"),
        ("[::1]", 8642, "http", "http://[::1]:8642"),
    ],
)
def test_host_port_and_schema_spell_the_address(
    host: str | None, port: int | None, schema: str | None, address: str | None
) -> None:
    assert base_url(SimpleNamespace(host=host, port=port, schema=schema)) == address


@pytest.mark.parametrize("ending", ["", "/", "/api/v1", "/api/v1/", "/v1"])
def test_a_version_at_the_end_of_the_host_is_no_trap(connect: Any, served: Any, ending: str) -> None:
    connect("nexio_other", "nexio", host=served.base_url("nexio") + ending)
    assert NexioHook("nexio_other").test_connection() == (True, "Nexio accepts the key.")


@pytest.mark.parametrize("provider", ["nexio", "nyx", "onepin", "b3os", "nekt"])
def test_the_test_button_accepts_a_good_key(provider: str) -> None:
    good, told = RunHook(provider=provider).test_connection()
    assert good
    assert "accepts the key" in told


@pytest.mark.parametrize("kind", [NexioHook, NyxHook, OnepinHook, B3osHook, NektHook])
def test_a_service_s_own_hook_reads_its_connection_with_nothing_said(kind: type[RunHook]) -> None:
    name = kind.__name__.removesuffix("Hook").lower()
    hook: RunHook = kind()
    assert (hook.conn_id, hook.provider.name) == (f"{name}_default", name)
    assert hook.test_connection()[0]


@pytest.mark.parametrize("provider", ["nexio", "nyx", "onepin", "b3os", "nekt"])
@pytest.mark.parametrize("password", ["invalid-key-1234", "forbidden-key-1234"])
def test_the_test_button_tells_a_bad_key(connect: Any, served: Any, provider: str, password: str) -> None:
    connect("other", provider, host=served.base_url(provider), password=password)
    good, told = RunHook("other", provider=provider).test_connection()
    assert not good
    assert "refuses the key" in told
    assert "this connection" in told
    assert password not in told


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_hook_that_was_used_makes_a_client_in_a_process_forked_from_its_own() -> None:
    hook = NexioHook()
    assert hook.test_connection() == (True, "Nexio accepts the key.")
    with hook.client() as client:
        client.probe()
        reads, writes = os.pipe()
        with warnings.catch_warnings():
            # Python warns that threads do not come along.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            said = ""
            try:
                said = hook.test_connection()[1]
                client.probe()
            except Exception as error:
                said += f" {error}"
            os.write(writes, said.encode())
            os._exit(0)
        os.close(writes)
        with os.fdopen(reads, "rb") as pipe:
            said = pipe.read().decode()
        os.waitpid(child, 0)
        assert said.startswith("Nexio accepts the key. This client of Nexio was made in process")
        client.probe()


def test_the_test_button_tells_an_unreachable_host(connect: Any) -> None:
    connect("other", "nexio", host="http://127.0.0.1:9")
    good, told = NexioHook("other").test_connection()
    assert not good
    assert "cannot be reached at http://127.0.0.1:9" in told
    assert "Nexio at 127.0.0.1:9 (this connection): connection refused" in told


def test_the_test_button_tells_that_no_connection_can_be_made_with_the_environment(
    connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "ftp://proxy.example.com")
    connect("other", "nexio", host="https://api.example.com")
    good, told = NexioHook("other").test_connection()
    assert not good
    assert "The proxy ftp://proxy.example.com that the environment names" in told


def test_the_test_button_tells_a_host_that_is_something_else(connect: Any, served: Any, emulator: Any) -> None:
    emulator.add_fault(kind="status", status=418, provider="nexio")
    good, told = NexioHook().test_connection()
    assert not good
    assert "not as expected" in told


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"password": ""}, "has no password"),
        ({"host": "http://api.example.com"}, "allow_http"),
        ({"host": "https://user:pass@api.example.com"}, "must hold no user"),
        ({"extra": "[1]"}, "connection 'other'"),
        ({"extra": "not json"}, "connection 'other'"),
        ({"extra": '{"request_timeout": 0}'}, "request_timeout"),
    ],
)
def test_an_unusable_connection_is_told_by_the_button_and_by_both_clients(
    connect: Any, fields: dict[str, Any], named: str
) -> None:
    connect("other", "nexio", **fields)
    assert named in NexioHook("other").test_connection()[1]
    with pytest.raises((AuthError, ConfigurationError), match=named):
        NexioHook("other").client()
    with pytest.raises((AuthError, ConfigurationError), match=named):
        asyncio.run(NexioHook("other").async_client())


def test_a_missing_connection_is_named_with_what_to_do() -> None:
    missing = "no connection 'nobody_made_me' that Airflow can read: create one of type nexio"
    with pytest.raises(AuthError, match=missing):
        NexioHook("nobody_made_me").client()


def test_extras_reach_the_client(connect: Any, served: Any, emulator: Any) -> None:
    workspace = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
    extra = {"workspace_id": workspace, "request_timeout": "7", "requests_per_minute": 6000, "allow_http": "true"}
    connect("other", "onepin", host=served.base_url("onepin"), password=f"key-ws-{workspace}", extra=extra)
    assert OnepinHook("other").test_connection()[0]
    (asked,) = emulator.requests(provider="onepin")
    assert "x-workspace-id" in {name.lower() for name in asked["headers"]}
    assert "airflow/" in asked["user_agent"]
    assert asked["user_agent"].startswith("runops/")


def test_an_empty_workspace_is_not_sent(connect: Any, served: Any, emulator: Any) -> None:
    connect("other", "onepin", host=served.base_url("onepin"), extra={"workspace_id": ""})
    assert OnepinHook("other").test_connection()[0]
    (asked,) = emulator.requests(provider="onepin")
    assert "x-workspace-id" not in {name.lower() for name in asked["headers"]}


def test_both_clients_are_built_from_one_reading(connect: Any, served: Any, key: str) -> None:
    hook = NexioHook()
    client, async_client = hook.client(), asyncio.run(hook.async_client())
    assert client.root == async_client.root == served.base_url("nexio")
    assert key not in repr(hook) + repr(vars(client)) + repr(client) + repr(async_client)


def test_the_key_is_known_to_airflows_masker(key: str) -> None:
    from airflow.sdk._shared.secrets_masker import redact

    NexioHook().client()
    assert key not in str(redact(f"a line with {key} in it"))


def test_a_client_beside_a_task_reads_its_connection_in_the_tasks_thread(key: str) -> None:
    hook = RunHook(provider="nexio")

    async def work(beside: SideLoop[bool]) -> bool:
        async with await hook.async_client(ask=beside.in_caller) as client:
            return client.provider.name == "nexio" and key not in repr(client)

    assert SideLoop(work, lambda: None).run()
