"""The time of a request bounds all of it, from the host's name to the last byte; that of a wait bounds its reads."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import pytest

from runops.core import AsyncRunClient, PollingError, RunClient, find
from runops.core.model.errors import AnswerError, AnswerLost, ConnectionFailed, TransientError
from runops.core.polling import poller
from runops.core.transport import network, session
from runops.core.transport.base import timeouts
from runops.core.transport.connections import sync_transport
from runops.core.transport.httpx_pool import send

pytestmark = pytest.mark.http

NEXIO = find("nexio")
REF = NEXIO.ref("r1")
SECONDS = 0.4
LATE = 30.0
"""What a busy machine may add; the services here would go on for ever."""
BODY = b'{"run_id": "r1", "status": "queued"}'
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

DRIPS: dict[str, tuple[bytes, bytes]] = {
    "nothing": (b"", b""),
    "the status line": (b"HTTP/1.1 ", b""),
    "a header": (OK + b"X-Long: ", b"y"),
    "header after header": (OK, b"X-More: y\r\n"),
    "interim answers": (b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    "a body": (OK + b"Content-Length: 1000000\r\n\r\n", b" "),
    "a body until the connection ends": (OK + b"\r\n", b" "),
    "chunk after chunk": (CHUNKED, b"1\r\n \r\n"),
    "a chunk extension": (CHUNKED + b"24;", b"x"),
    "a trailer": (CHUNKED + b"24\r\n" + BODY + b"\r\n0\r\n", b"X-More: y\r\n"),
}
"""What a service says at first, and then again and again."""


class Dripping:
    """A service that never comes to an end."""

    def __init__(self, first: bytes, again: bytes) -> None:
        self._first, self._again = first, again
        self._stop = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                connection.recv(65_536)
                connection.sendall(self._first)
                while not self._stop.wait(0.02):
                    connection.sendall(self._again)
            except OSError:
                return

    def stop(self) -> None:
        self._stop.set()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@contextmanager
def dripping(first: bytes, again: bytes) -> Iterator[Dripping]:
    service = Dripping(first, again)
    try:
        yield service
    finally:
        service.stop()


def settings(url: str, seconds: float = SECONDS) -> dict[str, Any]:
    return {"token": "k", "base_url": url, "request_timeout": seconds}


def sync_get(url: str) -> None:
    with RunClient(NEXIO, **settings(url)) as client:
        client.get(REF)


def sync_wait(url: str) -> None:
    with RunClient(NEXIO, **settings(url)) as client:
        client.wait(REF, timeout=SECONDS)


async def _async(url: str, action: str) -> None:
    async with AsyncRunClient(NEXIO, **settings(url)) as client:
        if action == "get":
            await client.get(REF)
        else:
            await client.wait(REF, timeout=SECONDS)


WAYS: dict[str, Callable[[str], None]] = {
    "RunClient.get": sync_get,
    "RunClient.wait": sync_wait,
    "AsyncRunClient.get": lambda url: asyncio.run(_async(url, "get")),
    "AsyncRunClient.wait": lambda url: asyncio.run(_async(url, "wait")),
}
every_way = pytest.mark.parametrize("way", list(WAYS.values()), ids=list(WAYS))


def ended(way: Callable[[str], None], url: str) -> AnswerError:
    """How it failed, within its time."""
    began = time.monotonic()
    try:
        way(url)
    except PollingError as error:
        found = error.last
    except AnswerError as error:
        found = error
    else:
        raise AssertionError("it was answered")
    assert time.monotonic() - began < 3 * SECONDS + LATE
    return found


# --- one request ---------------------------------------------------------------------------------------------------


@every_way
@pytest.mark.parametrize("drip", list(DRIPS.values()), ids=list(DRIPS))
def test_request_timeout_ends_an_answer_that_drips_without_end(
    way: Callable[[str], None], drip: tuple[bytes, bytes]
) -> None:
    with dripping(*drip) as service:
        error = ended(way, service.url)
    assert isinstance(error, AnswerLost)
    assert f"Nexio at 127.0.0.1:{service.port} came within request_timeout=0.4 s" in str(error)


@pytest.mark.parametrize("drip", [DRIPS["nothing"], (b"\x16\x03\x03\x40\x00", b"\x00")], ids=["mute", "dripping"])
@every_way
def test_request_timeout_ends_a_handshake_without_end(way: Callable[[str], None], drip: tuple[bytes, bytes]) -> None:
    with dripping(*drip) as service:
        error = ended(way, service.url.replace("http:", "https:"))
    # Not a byte of the request was sent.
    assert isinstance(error, ConnectionFailed)
    assert "timed out" in str(error)


@pytest.mark.parametrize("drip", list(DRIPS.values())[:5], ids=list(DRIPS)[:5])
@every_way
def test_request_timeout_ends_a_proxy_that_never_lets_through(
    way: Callable[[str], None], drip: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with dripping(*drip) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        error = ended(way, "https://api.example.com")
    assert isinstance(error, TransientError)
    assert f"through the proxy 127.0.0.1:{proxy.port}" in str(error)


def test_request_timeout_ends_a_request_that_nobody_reads() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        request = httpx.Request("POST", url, content=b"x" * 50_000_000, extensions=timeouts(SECONDS))
        began = time.monotonic()
        with sync_transport(url) as transport, pytest.raises(AnswerLost, match="request_timeout"):
            send(transport, request, limit=1000, seconds=SECONDS)
        assert time.monotonic() - began < SECONDS + LATE


@pytest.fixture
def unresolved(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A name server that answers nothing until the event is set."""
    release = threading.Event()
    real = socket.getaddrinfo

    def hang(host: Any, *args: Any, **options: Any) -> Any:
        if host == "127.0.0.1" or options.get("flags") == socket.AI_NUMERICHOST:
            return real(host, *args, **options)
        release.wait(60)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    yield release
    release.set()


def test_a_name_that_is_not_resolved_in_time_is_a_failed_connection(unresolved: threading.Event) -> None:
    error = ended(sync_get, "https://slow.example.com")
    assert isinstance(error, ConnectionFailed)
    assert "timed out" in str(error)


@pytest.mark.parametrize("action", ["get", "wait"])
def test_the_same_holds_in_an_event_loop(unresolved: threading.Event, action: str) -> None:
    async def story() -> None:
        began = time.monotonic()
        with pytest.raises((ConnectionFailed, PollingError), match="timed out"):
            await _async("https://slow.example.com", action)
        assert time.monotonic() - began < 3 * SECONDS + LATE
        # At its end asyncio waits for the thread in which the resolver hangs.
        unresolved.set()

    asyncio.run(story())


@pytest.fixture
def silent() -> Iterator[tuple[str, int]]:
    """An address that takes no connection and refuses none: its queue is full."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        address: tuple[str, int] = server.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(address)
        yield address
        for each in waiting:
            each.close()


def _addresses(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address) for address in addresses]
    monkeypatch.setattr(network, "_resolve", lambda host, port, seconds: found)


def test_no_number_of_silent_addresses_outlasts_the_time_for_the_connection(
    silent: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    _addresses(monkeypatch, *[silent] * 20)
    began = time.monotonic()
    with pytest.raises(ConnectionFailed, match="timed out"):
        sync_get("https://many.example.com")
    assert time.monotonic() - began < SECONDS + LATE


def test_a_silent_address_leaves_time_for_the_next_one(
    silent: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with dripping(OK + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY, b"") as service:
        _addresses(monkeypatch, silent, ("127.0.0.1", service.port))
        with RunClient(NEXIO, **settings("http://localhost:1", 3)) as client:
            assert client.get(REF).state == "queued"


def test_a_slow_answer_to_a_submit_is_a_lost_one_and_a_slow_handshake_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    request = httpx.Request("POST", "http://127.0.0.1/", content=b"{}", extensions=timeouts(SECONDS))
    for drip, scheme, kind in ((DRIPS["a header"], "http", AnswerLost), (DRIPS["nothing"], "https", ConnectionFailed)):
        with dripping(*drip) as service:
            root = f"{scheme}://127.0.0.1:{service.port}"
            request.url = httpx.URL(root)
            with sync_transport(root, keep=False) as transport, pytest.raises(kind):
                send(transport, request, limit=1000, seconds=SECONDS)


def test_a_kept_connection_has_the_whole_time_again_for_each_request() -> None:
    """The deadline belongs to the exchange, not to the connection."""
    opened = 0

    def serve(server: socket.socket) -> None:
        nonlocal opened
        connection, _ = server.accept()
        opened += 1
        with connection:
            while connection.recv(65_536):
                time.sleep(0.25)
                connection.sendall(OK + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with RunClient(NEXIO, **settings(url, 2)) as client:
            for _ in range(9):
                assert client.get(REF).state == "queued"
    assert opened == 1


# --- a wait --------------------------------------------------------------------------------------------------------


@pytest.fixture
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (session, poller):
        monkeypatch.setattr(module, "LAST_LOOK_SECONDS", 0.3)


async def _async_wait(url: str, **options: Any) -> None:
    async with AsyncRunClient(NEXIO, **settings(url, 60)) as client:
        await client.wait(REF, **options)


def _sync_wait(url: str, **options: Any) -> None:
    with RunClient(NEXIO, **settings(url, 60)) as client:
        client.wait(REF, **options)


WAITS: dict[str, Callable[..., None]] = {
    "sync": _sync_wait,
    "async": lambda url, **options: asyncio.run(_async_wait(url, **options)),
}


@pytest.mark.usefixtures("short_grace")
@pytest.mark.parametrize("wait", list(WAITS.values()), ids=list(WAITS))
@pytest.mark.parametrize("drip", [DRIPS["nothing"], DRIPS["a header"]], ids=["mute", "dripping"])
def test_a_read_outlasts_its_wait_by_no_more_than_the_last_look_may(
    wait: Callable[..., None], drip: tuple[bytes, bytes]
) -> None:
    with dripping(*drip) as service:
        began = time.monotonic()
        with pytest.raises(PollingError) as caught:
            wait(service.url, timeout=SECONDS)
        lasted = time.monotonic() - began
    assert SECONDS <= lasted < SECONDS + 0.3 + LATE
    # The run was never read, from the beginning of the wait to its end.
    assert SECONDS <= caught.value.seconds <= lasted + 0.1
    assert "could not be read for 0 s" not in str(caught.value)


@pytest.mark.parametrize("seconds", [(0.04, "0.04"), (0.6, "0.6"), (9.04, "9"), (29.6, "30"), (900.2, "900")])
def test_how_long_a_run_could_not_be_read_is_never_zero(seconds: tuple[float, str]) -> None:
    error = PollingError(REF, seconds[0], AnswerLost("It broke."))
    assert f"could not be read for {seconds[1]} s" in str(error)


def test_the_streams_hold_no_deadline_where_no_exchange_is_under_way() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        stream = network.Stream(ours, speaks_http=True)
        theirs.sendall(b"x")
        assert stream.read(10, 5) == b"x"
        assert stream.get_extra_info("is_readable") is False
        theirs.close()
        assert stream.get_extra_info("is_readable") is True
        assert stream.get_extra_info("ssl_object") is None
