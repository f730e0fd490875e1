"""Kept connections: how long they are kept, which one is used next, and when one may not be used again."""

from __future__ import annotations

import asyncio
import os
import ssl
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from pytest_mock import MockerFixture

from runops.core import ConfigurationError
from runops.core.transport.certificates import Certificates
from runops.core.transport.http1_pool import IDLE_SECONDS, NEXT_ADDRESS_AFTER, IdleConnections, Target
from runops.core.transport.reuse import check_process, hang_up, hang_up_async, look_at, more_came
from tests import simulated_time


class Connection:
    """Leaves the idle ones when it is closed, as a pool has it."""

    def __init__(self, idle: IdleConnections) -> None:
        self._idle = idle
        self.idle_since = 0.0
        self.closed_at: float | None = None

    def abort(self) -> None:
        self.closed_at = asyncio.get_running_loop().time()
        given: Any = self
        self._idle.discard(given)


def idle_with(idle: IdleConnections, count: int) -> list[Any]:
    made: list[Any] = [Connection(idle) for _ in range(count)]
    for connection in made:
        idle.add(connection)
    return made


def test_the_connection_used_last_is_used_next_and_the_oldest_is_closed_first() -> None:
    async def story() -> None:
        idle = IdleConnections()
        assert idle.take() is None
        first, second, third = idle_with(idle, 3)
        assert len(idle) == 3
        assert idle.take() is third
        idle.add(third)
        idle.close_oldest()
        assert [each.closed_at is None for each in (first, second, third)] == [False, True, True]
        idle.discard(first)
        assert len(idle) == 2
        idle.close_all()
        assert len(idle) == 0
        assert None not in (second.closed_at, third.closed_at)
        idle.cancel()

    simulated_time.run(story())


def test_each_connection_is_closed_when_it_has_been_idle_for_so_long_and_not_before() -> None:
    async def story() -> None:
        idle = IdleConnections()
        (first,) = idle_with(idle, 1)
        await asyncio.sleep(10)
        (second,) = idle_with(idle, 1)
        await asyncio.sleep(5)
        assert idle.take() is second
        # What was used again begins anew.
        idle.add(second)
        await asyncio.sleep(2 * IDLE_SECONDS)
        assert first.closed_at == pytest.approx(IDLE_SECONDS, abs=0.01)
        assert second.closed_at == pytest.approx(15 + IDLE_SECONDS, abs=0.01)
        # The timer ended with the last of them, and a later one has its own.
        (third,) = idle_with(idle, 1)
        added = third.idle_since
        await asyncio.sleep(2 * IDLE_SECONDS)
        assert third.closed_at == pytest.approx(added + IDLE_SECONDS, abs=0.01)

    simulated_time.run(story())


def test_idle_connections_that_are_let_go_leave_no_timer() -> None:
    async def story() -> None:
        idle = IdleConnections()
        idle.cancel()
        (kept,) = idle_with(idle, 1)
        idle.cancel()
        await asyncio.sleep(2 * IDLE_SECONDS)
        assert kept.closed_at is None

    simulated_time.run(story())


# --- where connections go ---


@pytest.mark.parametrize(
    ("root", "host", "port", "encrypted"),
    [
        ("http://service.example", "service.example", 80, False),
        ("https://service.example", "service.example", 443, True),
        ("https://service.example:8443/v1", "service.example", 8443, True),
        ("http://127.0.0.1:8080", "127.0.0.1", 8080, False),
        ("https://bücher.example", "xn--bcher-kva.example", 443, True),
    ],
)
def test_a_connection_goes_where_the_address_says(
    root: str, host: str, port: int, encrypted: bool, mocker: MockerFixture
) -> None:
    certificates, context = Certificates(), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    mocker.patch.object(Certificates, "context_off_loop", return_value=context)
    confirmed: list[tuple[Any, float]] = []

    async def story() -> None:
        await asyncio.sleep(5)
        target = Target.of(root, certificates)
        assert (target.host, target.port, target.tls) == (host, port, certificates if encrypted else None)
        connection, transport, pool = SimpleNamespace(usable=True), mocker.Mock(), mocker.Mock()
        loop = asyncio.get_running_loop()

        async def connect(*given: Any, **options: Any) -> tuple[Any, Any]:
            await asyncio.sleep(0.25)
            return transport, connection

        opening = mocker.patch.object(loop, "create_connection", side_effect=connect)

        def listening(tls: Any, handshake: float, timeout: float | None) -> Any:
            assert timeout is None
            confirmed.append((tls, handshake))
            return iter(())

        mocker.patch("runops.core.transport.http1_pool.listening", side_effect=listening)
        assert await target.connect(pool) is connection
        _, *where = opening.call_args.args
        assert where == [host, port]
        assert opening.call_args.kwargs == {
            "ssl": context if encrypted else None,
            "server_hostname": host if encrypted else None,
            "happy_eyeballs_delay": NEXT_ADDRESS_AFTER,
        }
        if encrypted:
            ((tls, handshake),) = confirmed
            assert tls is transport.get_extra_info.return_value
            transport.get_extra_info.assert_called_once_with("ssl_object")
            assert handshake == pytest.approx(0.25, abs=0.001)
            # One that breaks while it listens for a refusal is none, and is closed.
            connection.usable, connection.broken_by = False, ConnectionAbortedError("refused")
            with pytest.raises(ConnectionAbortedError, match="refused"):
                await target.connect(pool)
            assert transport.abort.call_count == 1
            connection.broken_by = None
            with pytest.raises(ConnectionResetError):
                await target.connect(pool)
        else:
            assert confirmed == []

    simulated_time.run(story())


# --- whether one may be used again ---


def test_who_has_nothing_to_await_looks_at_an_answer_at_once() -> None:
    seen: list[Any] = []
    answer: Any = object()

    async def later() -> None:
        seen.append("later")

    def looks(given: Any) -> Any:
        seen.append(given)
        return later() if len(seen) == 2 else None

    async def story() -> None:
        await look_at(looks, answer)
        await look_at(looks, answer)

    asyncio.run(story())
    assert seen == [answer, answer, "later"]


def test_only_the_process_that_made_connections_may_use_them() -> None:
    check_process(os.getpid(), "This pool")
    other = os.getpid() + 1
    with pytest.raises(ConfigurationError, match=f"This pool was made in process {other} and is used in process"):
        check_process(other, "This pool")


def answered(mocker: MockerFixture, unread: bytes | None, tls: Any = None) -> httpx.Response:
    """An answer over a connection of httpcore, which has read so much more; None where that cannot be told."""
    connection = mocker.Mock()
    connection.get_extra_info.side_effect = lambda name: tls if name == "ssl_object" else None
    state = SimpleNamespace(trailing_data=(unread, False))
    inner = SimpleNamespace(_connection=SimpleNamespace(_h11_state=state))
    response = httpx.Response(200, extensions={"network_stream": connection})
    stream: Any = (
        SimpleNamespace() if unread is None else SimpleNamespace(_httpcore_stream=SimpleNamespace(_stream=inner))
    )
    response.stream = stream
    return response


@pytest.mark.parametrize(
    ("waiting", "more"),
    [(0, False), (1, True), (b"", False), (b"x", True), (ssl.SSLWantReadError(), False), (ssl.SSLError(), True)],
)
def test_bytes_that_wait_behind_tls_are_more_than_an_answer(waiting: Any, more: bool, mocker: MockerFixture) -> None:
    if isinstance(waiting, int):
        tls: Any = mocker.Mock(spec=ssl.SSLSocket)
        tls.pending.return_value = waiting
    else:
        tls = mocker.Mock(spec=ssl.SSLObject)
        tls.read.side_effect = [waiting]
    assert more_came(answered(mocker, b"", tls)) is more


@pytest.mark.parametrize(("unread", "more"), [(b"", False), (b"HTTP/1.1 200", True), (None, True)])
def test_bytes_that_httpcore_has_read_beyond_an_answer_are_more(
    unread: bytes | None, more: bool, mocker: MockerFixture
) -> None:
    assert more_came(answered(mocker, unread)) is more


def test_a_connection_that_is_not_used_again_is_closed(mocker: MockerFixture) -> None:
    response = answered(mocker, b"")
    connection = response.extensions["network_stream"]
    hang_up(response)
    connection.close.assert_called_once_with()
    connection.aclose = mocker.AsyncMock()
    asyncio.run(hang_up_async(response))
    connection.aclose.assert_awaited_once_with()
