"""How a connection is opened: its options, its time, and that nothing of it stays open when it fails on the way."""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpcore
import httpx
import pytest
from pytest_mock import MockerFixture

from runops.core.model.errors import MalformedAnswer
from runops.core.transport.base import LONGEST_HEAD
from runops.core.transport.exchange import Exchange, Readable
from runops.core.transport.network import Backend, Stream
from runops.core.transport.reuse import hang_up, hang_up_async, more_came

SECONDS = 30.0


@pytest.fixture
def port() -> Iterator[int]:
    """Where connections are taken."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[socket.socket]:
    """Every socket that is made."""
    found: list[socket.socket] = []

    class Watched(socket.socket):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            found.append(self)

    monkeypatch.setattr(socket, "socket", Watched)
    return found


def test_a_connection_has_the_options_that_are_asked_for(port: int, made: list[socket.socket]) -> None:
    stream = Backend().connect_tcp(
        "127.0.0.1", port, SECONDS, socket_options=[(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    )
    assert made[0].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) != 0
    stream.close()


def test_no_connection_is_begun_when_its_time_is_over(port: int, made: list[socket.socket]) -> None:
    with pytest.raises(httpcore.ConnectTimeout):
        Backend().connect_tcp("127.0.0.1", port, 1e-9)
    assert made == []


def test_an_interrupt_while_it_connects_leaves_no_socket_open(
    port: int, made: list[socket.socket], mocker: MockerFixture
) -> None:
    mocker.patch.object(socket.socket, "connect", side_effect=KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        Backend().connect_tcp("127.0.0.1", port, SECONDS)
    assert [each.fileno() for each in made] == [-1]


def test_an_interrupt_before_there_is_a_socket_goes_on_as_it_is(port: int, mocker: MockerFixture) -> None:
    mocker.patch.object(socket, "socket", side_effect=KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        Backend().connect_tcp("127.0.0.1", port, SECONDS)


def test_a_name_is_resolved_where_no_thread_is_to_be_had(port: int, mocker: MockerFixture) -> None:
    """As while the interpreter ends."""
    mocker.patch("threading.Thread.start", side_effect=RuntimeError("can't start new thread"))
    Backend().connect_tcp("localhost", port, SECONDS).close()


def test_the_answer_of_a_transport_without_connections_leaves_none_to_close() -> None:
    answer = httpx.Response(200)
    assert not more_came(answer)
    hang_up(answer)
    asyncio.run(hang_up_async(answer))


@pytest.mark.parametrize("how", ["poll", "select"])
def test_a_kept_connection_with_something_to_read_is_told_and_so_is_a_closed_one(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "select":
        monkeypatch.delattr(select, "poll")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        readable = Readable(ours)
        assert not readable
        theirs.sendall(b"x")
        assert readable
        ours.recv(1)
        assert not readable
        ours.close()
        assert readable
        assert Readable(ours)


# --- what is read and written over a connection, plain and encrypted ---


class Encrypted:
    """The service's side of TLS, over a socket or over another one of these."""

    def __init__(self, below: Any, context: ssl.SSLContext) -> None:
        self._below = below
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._do(self._tls.do_handshake)

    def _do(self, step: Callable[[], Any]) -> Any:
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                self._below.sendall(self._outgoing.read())
                if data := self._below.recv(16_384):
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            else:
                self._below.sendall(self._outgoing.read())
                return result

    def recv(self, most: int) -> bytes:
        return self._do(lambda: self._tls.read(most))

    def sendall(self, data: bytes) -> None:
        if data:
            self._do(lambda: self._tls.write(data))

    def say_goodbye(self) -> None:
        with suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        self._below.sendall(self._outgoing.read())


LAYERS = {"plain": 0, "TLS": 1, "TLS in TLS": 2}
each_stream = pytest.mark.parametrize("layers", list(LAYERS.values()), ids=list(LAYERS))
each_tls = pytest.mark.parametrize("layers", [1, 2], ids=["TLS", "TLS in TLS"])
HOST = "service.example.com"


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    theirs.settimeout(SECONDS)
    with ours, theirs:
        yield ours, theirs


class Lines:
    """Makes streams to a service in a thread, through so many layers of TLS."""

    def __init__(self, ours: socket.socket, theirs: socket.socket, certificate: Path) -> None:
        self.ours, self.theirs = ours, theirs
        self.trusting = ssl.create_default_context(cafile=certificate)
        self._serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._serving.load_cert_chain(certificate)
        self._thread = threading.Thread(target=lambda: None)
        self._made: list[httpcore.NetworkStream] = []
        self.asked, self.go_on = threading.Event(), threading.Event()

    def serve(self, layers: int, act: Callable[[Any], object]) -> None:
        def work() -> None:
            # Where our side gives up, the service sees it in its own way.
            with suppress(OSError):
                top: Any = self.theirs
                for _ in range(layers):
                    top = Encrypted(top, self._serving)
                # Who speaks before it is asked is none that a connection is opened to.
                self.asked.wait(SECONDS)
                act(top)

        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

    def open(self, layers: int, act: Callable[[Any], object]) -> httpcore.NetworkStream:
        self.serve(layers, act)
        stream = self.encrypted(layers)
        self.asked.set()
        return stream

    def encrypted(self, layers: int, *, speaks_http: bool = True) -> httpcore.NetworkStream:
        stream: httpcore.NetworkStream = Stream(self.ours, speaks_http)
        for _ in range(layers):
            stream = stream.start_tls(self.trusting, HOST, SECONDS)
            self._made.append(stream)
        return stream

    def end(self) -> None:
        self.asked.set()
        self.go_on.set()
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()

    def close(self) -> None:
        self.end()
        for stream in self._made:
            stream.close()

    def wait(self, _: Any) -> None:
        """What a service does that does nothing."""
        self.go_on.wait(SECONDS)


@pytest.fixture
def lines(pair: tuple[socket.socket, socket.socket], certificate: Path) -> Iterator[Lines]:
    made = Lines(*pair, certificate)
    yield made
    made.close()


def read_all(stream: httpcore.NetworkStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = stream.read(size, SECONDS)
        assert piece
        data += piece
    return data


@each_stream
def test_what_is_written_arrives_whole_and_so_does_the_answer(lines: Lines, layers: int) -> None:
    data = bytes(range(256)) * 400

    def answer(top: Any) -> None:
        got = b""
        while len(got) < len(data):
            got += top.recv(65_536)
        top.sendall(got[::-1])

    stream = lines.open(layers, answer)
    stream.write(data, SECONDS)
    assert read_all(stream, len(data)) == data[::-1]


@each_stream
def test_no_more_is_read_at_once_than_is_asked_for(lines: Lines, layers: int) -> None:
    stream = lines.open(layers, lambda top: top.sendall(b"twelve bytes"))
    assert stream.read(5, SECONDS) == b"twelv"
    assert stream.read(50, SECONDS) == b"e bytes"


@each_tls
def test_a_goodbye_in_tls_is_the_end_of_what_is_read(lines: Lines, layers: int) -> None:
    def leave(top: Encrypted) -> None:
        top.sendall(b"bye")
        top.say_goodbye()

    stream = lines.open(layers, leave)
    assert read_all(stream, 3) == b"bye"
    assert stream.read(1, SECONDS) == b""
    assert stream.read(1, SECONDS) == b""


def test_an_end_of_tls_that_python_raises_is_an_end_too(lines: Lines, mocker: MockerFixture) -> None:
    stream = lines.open(2, lines.wait)
    mocker.patch.object(stream, "_tls").read.side_effect = ssl.SSLZeroReturnError
    assert stream.read(1, SECONDS) == b""


@each_tls
def test_a_new_connection_listens_for_a_refusal_as_long_as_its_handshake_took(
    lines: Lines, layers: int, mocker: MockerFixture
) -> None:
    listening = mocker.patch("runops.core.transport.network.confirm")
    began = time.monotonic()
    stream = lines.open(layers, lines.wait)
    last, connection, handshake, timeout = listening.call_args.args
    assert last is stream
    assert connection is stream.get_extra_info("ssl_object")
    assert 0 < handshake < time.monotonic() - began
    assert timeout == SECONDS
    assert listening.call_count == layers


@each_stream
def test_a_service_that_closes_or_breaks_off_is_an_end_or_an_error_of_httpcore(lines: Lines, layers: int) -> None:
    stream = lines.open(layers, lambda top: lines.theirs.shutdown(socket.SHUT_RDWR))
    if layers == 2:
        with pytest.raises(httpcore.ReadError):
            stream.read(1, SECONDS)
    else:
        # Whether an answer is whole is known to who reads it.
        assert stream.read(1, SECONDS) == b""
    lines.theirs.close()
    with pytest.raises(httpcore.WriteError):
        stream.write(b"x", SECONDS)


@each_stream
def test_a_read_and_a_write_have_a_time(lines: Lines, layers: int) -> None:
    stream = lines.open(layers, lines.wait)
    with pytest.raises(httpcore.ReadTimeout):
        stream.read(1, 0.01)
    with pytest.raises(httpcore.WriteTimeout):
        stream.write(b"x" * 5_000_000, 0.01)


@each_stream
def test_no_step_takes_longer_than_its_exchange_has_left(lines: Lines, layers: int) -> None:
    stream = lines.open(layers, lines.wait)
    with Exchange(time.monotonic() + 0.02).under_way():
        with pytest.raises(httpcore.ReadTimeout):
            stream.read(1, SECONDS)
        with pytest.raises(httpcore.WriteTimeout):
            stream.write(b"x", SECONDS)


@each_tls
def test_a_handshake_has_a_time_and_leaves_no_socket_open(lines: Lines, layers: int) -> None:
    """The layer that stands is no help where the one inside is not answered."""
    lines.serve(layers - 1, lines.wait)
    stream = lines.encrypted(layers - 1)
    with pytest.raises(httpcore.ConnectTimeout):
        stream.start_tls(lines.trusting, HOST, 0.02)
    assert lines.ours.fileno() == -1


@each_tls
@pytest.mark.parametrize("wrong", ["name", "authority"])
def test_a_service_that_is_not_the_one_meant_is_refused_and_leaves_no_socket_open(
    lines: Lines, layers: int, wrong: str
) -> None:
    lines.serve(layers, lines.wait)
    stream = lines.encrypted(layers - 1)
    context = lines.trusting if wrong == "name" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with pytest.raises(httpcore.ConnectError, match="certificate"):
        stream.start_tls(context, "another.example.com" if wrong == "name" else HOST, SECONDS)
    assert stream.get_extra_info("socket").fileno() == -1


@each_tls
def test_a_service_that_breaks_off_in_its_handshake_is_no_read_that_failed(lines: Lines, layers: int) -> None:
    lines.serve(layers - 1, lambda top: (top.recv(1), lines.theirs.shutdown(socket.SHUT_RDWR)))
    stream = lines.encrypted(layers - 1)
    lines.asked.set()
    with pytest.raises(httpcore.ConnectError):
        stream.start_tls(lines.trusting, HOST, SECONDS)


@each_stream
def test_a_stream_says_what_it_runs_over(lines: Lines, layers: int) -> None:
    stream = lines.open(layers, lambda top: (lines.go_on.wait(SECONDS), lines.theirs.sendall(b"x")))
    kinds = (type(None), ssl.SSLSocket, ssl.SSLObject)
    assert isinstance(stream.get_extra_info("ssl_object"), kinds[layers])
    over = stream.get_extra_info("socket")
    assert over.fileno() >= 0
    assert isinstance(over, ssl.SSLSocket) is bool(layers)
    assert stream.get_extra_info("server_addr") is None
    assert stream.get_extra_info("is_readable") is False
    lines.end()
    assert stream.get_extra_info("is_readable") is True
    stream.close()
    assert over.fileno() == -1
    assert stream.get_extra_info("is_readable") is True


@each_stream
def test_an_exchange_counts_what_is_read_for_it(lines: Lines, layers: int) -> None:
    stream = lines.open(layers, lambda top: top.sendall(b"HTTP/1.1 200"))
    exchange = Exchange()
    with exchange.under_way():
        assert read_all(stream, 12) == b"HTTP/1.1 200"
    assert (exchange.read, exchange.begun, exchange.hung_up) == (True, True, False)
    # Of TLS inside of TLS the one outside counts what it has decrypted.
    assert exchange.unread == 12 if layers < 2 else exchange.unread > 12


@pytest.mark.parametrize(("layers", "speaks_http"), [(0, True), (0, False), (1, True), (1, False)])
def test_an_answer_of_another_protocol_is_refused_where_nothing_but_http_is_spoken(
    lines: Lines, layers: int, speaks_http: bool
) -> None:
    lines.serve(layers, lambda top: top.sendall(b"SSH-2.0"))
    stream = lines.encrypted(layers, speaks_http=speaks_http)
    lines.asked.set()
    with Exchange().under_way():
        if speaks_http:
            with pytest.raises(MalformedAnswer):
                stream.read(100, SECONDS)
        else:
            assert stream.read(100, SECONDS) == b"SSH-2.0"


def test_a_header_without_an_end_is_not_read_on(lines: Lines) -> None:
    stream = lines.open(0, lambda top: top.sendall(b"HTTP/1.1 200"))
    exchange = Exchange()
    with exchange.under_way():
        exchange.unread = LONGEST_HEAD
        stream.read(1, SECONDS)
        with pytest.raises(MalformedAnswer):
            stream.read(1, SECONDS)
