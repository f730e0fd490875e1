"""A SOCKS proxy speaks first, and not HTTP: what it says is no answer of another protocol."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from typing import Any

import pytest
from pytest_mock import MockerFixture

from runops.core.model.errors import MalformedAnswer
from runops.core.transport import connections
from runops.core.transport.exchange import Exchange

GREETING = b"\x05\x00"
"""SOCKS 5 without a password."""
SECONDS = 30.0
PROXIES = {"socks5://127.0.0.1:1080": "SOCKSProxy", "http://127.0.0.1:1080": "HTTPProxy"}


@contextmanager
def greeting() -> Iterator[int]:
    """A port where whoever connects is greeted as a SOCKS proxy greets."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def greet() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(GREETING)
                connection.recv(1)

        thread = threading.Thread(target=greet, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        thread.join(SECONDS)


def backend_of(proxy: str, mocker: MockerFixture, monkeypatch: pytest.MonkeyPatch, *, asynchronous: bool) -> Any:
    """What opens the connections of a transport that goes through a proxy."""
    monkeypatch.setenv("https_proxy", proxy)
    # The package that speaks SOCKS need not be there: only what it is handed counts here.
    mocker.patch.object(connections, "find_spec", return_value=ModuleSpec("socksio", None))
    pool = mocker.patch(f"httpcore.{'Async' if asynchronous else ''}{PROXIES[proxy]}")
    make = connections.async_transport if asynchronous else connections.sync_transport
    make("https://api.example.com")
    return pool.call_args.kwargs["network_backend"]


def first_words(backend: Any, port: int) -> bytes:
    with Exchange(time.monotonic() + SECONDS).under_way():
        stream = backend.connect_tcp("127.0.0.1", port, SECONDS)
        try:
            return stream.read(10, SECONDS)
        finally:
            stream.close()


async def first_words_async(backend: Any, port: int) -> bytes:
    with Exchange(time.monotonic() + SECONDS).under_way():
        stream = await backend.connect_tcp("127.0.0.1", port, SECONDS)
        try:
            return await stream.read(10, SECONDS)
        finally:
            await stream.aclose()


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("proxy", PROXIES, ids=["socks", "http"])
def test_only_a_socks_proxy_may_begin_with_anything_but_http(
    proxy: str, asynchronous: bool, mocker: MockerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = backend_of(proxy, mocker, monkeypatch, asynchronous=asynchronous)

    def heard(port: int) -> bytes:
        return asyncio.run(first_words_async(backend, port)) if asynchronous else first_words(backend, port)

    with greeting() as port:
        if PROXIES[proxy] == "SOCKSProxy":
            assert heard(port) == GREETING
        else:
            with pytest.raises(MalformedAnswer):
                heard(port)
