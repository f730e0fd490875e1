"""A proxy that a person has set, with and without a password, on real sockets: who uses it, and what is said."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runops.core import AsyncRunClient, ConfigurationError, PollingError, RunClient, find
from runops.core.model.errors import AnswerError, ConnectionFailed
from runops.emulator.server import Server
from runops.emulator.store import Emulator
from tests.authorities import Authority, server_context
from tests.canaries import frames
from tests.services import CALLS
from tests.tls_services import Proxy, Serving, forwarding, serving

pytestmark = pytest.mark.http

NEXIO = find("nexio")
PASSWORD = "canary/pw:81c@"
WRITTEN = "canary%2Fpw%3A81c%40"
LOGIN = f"someone:{PASSWORD}"
ADDRESS = "https://127.0.0.1:44443/nexio"
"""Nobody listens there: the proxy leads to the service."""


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ours"))


@pytest.fixture
def servers() -> Iterator[Serving]:
    with serving() as started:
        yield started


@pytest.fixture
def settings(ours: Authority) -> dict[str, Any]:
    return {
        "token": "k",
        "base_url": ADDRESS,
        "request_timeout": 5,
        "verify": ours.path,
        "network_origin": "connection 'c'",
    }


@pytest.fixture
def proxied(
    served: Server, servers: Serving, ours: Authority, without_pauses: None
) -> Callable[..., tuple[Proxy, int]]:
    """``proxied(login, tls)``: a proxy that leads to the service, and its port."""
    certificate = ours.sign("both", "127.0.0.1")

    def start(login: str = "", *, tls: bool = False) -> tuple[Proxy, int]:
        proxy = Proxy(servers.serve(forwarding(served.port), server_context(certificate)), login)
        return proxy, servers.serve(proxy, server_context(certificate) if tls else None)

    return start


def sync_read(settings: dict[str, Any], run_id: str) -> Any:
    with RunClient(NEXIO, **settings) as client:
        return client.get(NEXIO.ref(run_id))


def sync_submit(settings: dict[str, Any], run_id: str) -> Any:
    with RunClient(NEXIO, **settings) as client:
        return client.submit(NEXIO.call(**CALLS["nexio"]), submit_grace=0.1)


def async_read(settings: dict[str, Any], run_id: str) -> Any:
    return asyncio.run(_async(settings, lambda client: client.get(NEXIO.ref(run_id))))


def async_submit(settings: dict[str, Any], run_id: str) -> Any:
    call = NEXIO.call(**CALLS["nexio"])
    return asyncio.run(_async(settings, lambda client: client.submit(call, submit_grace=0.1)))


def wait(settings: dict[str, Any], run_id: str) -> Any:
    ref = NEXIO.ref(run_id)
    return asyncio.run(_async(settings, lambda client: client.wait(ref, timeout=30, error_budget=0.2)))


async def _async(settings: dict[str, Any], act: Callable[[AsyncRunClient], Any]) -> Any:
    async with AsyncRunClient(NEXIO, **settings) as client:
        return await act(client)


WAYS: dict[str, Callable[[dict[str, Any], str], Any]] = {
    "RunClient": sync_read,
    "RunClient, submit": sync_submit,
    "AsyncRunClient": async_read,
    "AsyncRunClient, submit": async_submit,
    "poller": wait,
}
every_way = pytest.mark.parametrize("way", list(WAYS.values()), ids=list(WAYS))


def failure(way: Callable[..., Any], settings: dict[str, Any], emulator: Emulator) -> ConnectionFailed:
    """The failed connect; nothing has come to the service."""
    before = len(emulator.requests())
    try:
        way(settings, "r1")
    except PollingError as error:
        found: AnswerError = error.last
    except AnswerError as error:
        found = error
    else:
        raise AssertionError("it was answered")
    assert isinstance(found, ConnectionFailed), repr(found)
    assert len(emulator.requests()) == before
    return found


@every_way
@pytest.mark.parametrize("tls", [False, True], ids=["http proxy", "https proxy"])
@pytest.mark.parametrize("login", ["", LOGIN], ids=["open", "with a password"])
def test_everything_goes_through_the_proxy_that_was_set_and_not_through_that_of_the_environment(
    way: Callable[..., Any],
    proxied: Callable[..., tuple[Proxy, int]],
    settings: dict[str, Any],
    emulator: Emulator,
    monkeypatch: pytest.MonkeyPatch,
    login: str,
    tls: bool,
) -> None:
    proxy, port = proxied(login, tls=tls)
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    user = f"someone:{WRITTEN}@" if login else ""
    address = f"{'https' if tls else 'http'}://{user}127.0.0.1:{port}"
    run_id = emulator.create_run("nexio", seconds=1, age_seconds=10)
    assert way({**settings, "proxy": address}, run_id) is not None
    assert proxy.heads
    assert all(head.startswith(b"CONNECT 127.0.0.1:44443 HTTP/1.1\r\n") for head in proxy.heads)
    assert all((b"Proxy-Authorization" in head) is bool(login) for head in proxy.heads)
    assert not any(b"Authorization: Bearer" in head or b"X-API-Key" in head for head in proxy.heads)


@every_way
@pytest.mark.parametrize("user", ["", "someone:canary-wrong-77@"], ids=["no password", "a wrong password"])
def test_a_proxy_that_wants_another_password_is_named_with_what_to_check_and_nothing_was_sent(
    way: Callable[..., Any],
    proxied: Callable[..., tuple[Proxy, int]],
    settings: dict[str, Any],
    emulator: Emulator,
    leaks: Any,
    user: str,
) -> None:
    _, port = proxied(LOGIN)
    error = failure(way, {**settings, "proxy": f"http://{user}127.0.0.1:{port}"}, emulator)
    assert f"through the proxy 127.0.0.1:{port}" in str(error)
    assert "the proxy answered 407 Proxy Authentication Required" in str(error)
    assert "Check proxy of connection 'c': the address, user and password." in str(error)
    assert leaks({"password": "canary-wrong-77"}, frames.collected(error, without=__file__)) == []


@every_way
def test_a_proxy_that_is_not_there_is_named(
    way: Callable[..., Any], settings: dict[str, Any], emulator: Emulator, without_pauses: None
) -> None:
    error = failure(way, {**settings, "proxy": "http://someone:canary-pw-81c@127.0.0.1:1"}, emulator)
    assert "through the proxy 127.0.0.1:1" in str(error)
    assert "connection refused" in str(error)
    assert "Check proxy of connection 'c'" in str(error)
    assert "canary-pw-81c" not in str(error)


WRONG = {
    "a scheme that is none": ("ftp://someone:{pw}@127.0.0.1:1", "its scheme is none of http, https, socks5, socks5h"),
    "socks without its package": ("socks5://someone:{pw}@127.0.0.1:1", r"httpx\[socks\]"),
    "no host": ("http://", "it is no address"),
    "a port that is none": ("http://someone:{pw}@host:port", "it is no address"),
    "a slash in the password": ("http://someone:12/{pw}@host:3128", "with %XX for each letter"),
    "a question mark in it": ("http://someone:12?{pw}@host:3128", "with %XX for each letter"),
    "a scheme in the wrong place": ("someone:{pw}@host://x", "with %XX for each letter"),
}


@pytest.mark.parametrize("kind", [RunClient, AsyncRunClient])
@pytest.mark.parametrize("name", WRONG)
def test_a_proxy_that_cannot_be_used_is_refused_when_the_client_is_made_without_its_password(
    kind: Callable[..., Any], name: str, monkeypatch: pytest.MonkeyPatch, leaks: Any
) -> None:
    from runops.core.transport import connections

    monkeypatch.setattr(connections, "find_spec", lambda package: None)
    address, message = WRONG[name]
    with pytest.raises(ConfigurationError, match=message) as caught:
        kind(NEXIO, token="k", proxy=address.format(pw="canary-pw-81c"), network_origin="connection 'c'")
    assert "in proxy of connection 'c' cannot be used" in str(caught.value)
    assert leaks({"password": "canary-pw-81c"}, frames.collected(caught.value, without=__file__)) == []


def test_a_proxy_is_in_no_repr_of_a_client() -> None:
    with RunClient(NEXIO, token="k", proxy="http://someone:canary-pw-81c@127.0.0.1:3128") as client:
        assert "canary" not in repr(client)
        assert "canary" not in repr(client._session.network)
        assert "canary" not in repr(client._session.peer)
        assert "canary" not in repr(client._session.key)


def test_plain_http_goes_through_the_proxy_too(
    served: Server, servers: Serving, emulator: Emulator, tmp_path: Path
) -> None:
    proxy = Proxy(served.port, LOGIN)
    port = servers.serve(proxy)
    run_id = emulator.create_run("nexio", seconds=1, age_seconds=10)
    with RunClient(
        NEXIO,
        token="k",
        base_url="http://127.0.0.1:44443/nexio",
        allow_http=True,
        proxy=f"someone:{WRITTEN}@127.0.0.1:{port}",
    ) as client:
        assert client.get(NEXIO.ref(run_id)).outcome is not None
    assert proxy.heads[0].startswith(b"GET http://127.0.0.1:44443/nexio/")
