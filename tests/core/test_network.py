"""How a connection is opened: its options, its time, and that nothing of it stays open when it fails on the way."""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Iterator
from typing import Any

import httpcore
import httpx
import pytest
from pytest_mock import MockerFixture

from runops.core.transport.exchange import Readable
from runops.core.transport.network import Backend
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
