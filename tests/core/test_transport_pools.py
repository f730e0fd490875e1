"""The pools over real sockets: what both promise, and what the lean one adds."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import gzip
import os
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from pytest_mock import MockerFixture

from runops.core.model.errors import AnotherRun, AnswerLost, ConnectionFailed, MalformedAnswer
from runops.core.transport import http1_pool, open_pool
from runops.core.transport.base import Answer, Pool, accept_any, timeouts
from runops.core.transport.connections import async_transport, sync_transport
from runops.core.transport.http1_connection import Http1Connection
from runops.core.transport.http1_pool import Http1Pool
from runops.core.transport.httpx_pool import HttpxPool, send, send_async

pytestmark = pytest.mark.http

BODY = b'{"status": "queued"}'
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\nX-Request-Id: 7\r\n\r\n" + BODY
LIMIT = 100_000

Reply = Callable[["Service", asyncio.StreamWriter, int], Awaitable[bool | None]]
"""Answers one request; the number counts the requests of its connection from 1. False closes the connection."""


class Service:
    """A server that speaks as it is told to, byte by byte."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.opened = self.open = self.answered = 0
        self.heads: list[bytes] = []
        self.url = ""
        self.release = asyncio.Event()
        self.asked = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        self.open += 1
        count = 0
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                count += 1
                self.heads.append(head)
                self.asked.set()
                go_on = await self.reply(self, writer, count)
                self.answered += 1
                await writer.drain()
                if go_on is False:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            self.open -= 1
            writer.close()


@asynccontextmanager
async def serving(reply: Reply, tls: ssl.SSLContext | None = None) -> AsyncIterator[Service]:
    service = Service(reply)
    server = await asyncio.start_server(service.serve, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    service.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    try:
        yield service
    finally:
        service.release.set()
        server.close()
    await until(lambda: service.open == 0)


async def until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends, "it did not come to pass"
        await asyncio.sleep(0.005)


def says(*pieces: bytes, close: bool = False) -> Reply:
    async def reply(service: Service, writer: asyncio.StreamWriter, count: int) -> bool | None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.005)
        return not close

    return reply


def asks(pool: Pool, url: str, method: str = "GET", *, limit: int = LIMIT, seconds: float = 60.0) -> Awaitable[Answer]:
    request = httpx.Request(
        method, f"{url}/runs/1", headers={"Authorization": "Bearer k"}, extensions=timeouts(seconds)
    )
    return pool.exchange(pool.prepare(request), limit=limit, seconds=seconds)


KINDS = {"http1": Http1Pool, "httpx": HttpxPool}


@pytest.fixture(params=list(KINDS))
def make(request: pytest.FixtureRequest) -> Callable[..., Pool]:
    def pool(url: str, most: int = 10) -> Pool:
        made = open_pool(url, max_connections=most, lean=request.param == "http1")
        assert isinstance(made, KINDS[request.param])
        return made

    return pool


@pytest.fixture(autouse=True)
def collect_only_what_a_story_leaves() -> None:
    """Each story ends with a full collection: through both hosts, where they are loaded, it would take a second."""
    gc.freeze()


def run(story: Callable[[], Awaitable[None]]) -> None:
    """Run a story in a loop in which nothing may go unnoticed: no stray exception, task, timer or connection."""

    async def told() -> None:
        loop = asyncio.get_running_loop()
        trouble: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: trouble.append(context))
        await story()
        await asyncio.sleep(0.02)
        gc.collect()
        assert not trouble
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(told())


# --- what both promise ---


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([PLAIN], id="a length"),
        pytest.param([PLAIN[i : i + 7] for i in range(0, len(PLAIN), 7)], id="in small pieces"),
        pytest.param(
            [
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                b"5\r\n" + BODY[:5] + b"\r\n",
                b"f;x=y\r\n" + BODY[5:] + b"\r\n0\r\nX-Trailer: 1\r\n\r\n",
            ],
            id="chunked, with a trailer",
        ),
        pytest.param(
            [b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + PLAIN], id="after 1xx"
        ),
        pytest.param(
            [
                b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b"
                % (len(gzip.compress(BODY)), gzip.compress(BODY))
            ],
            id="gzip",
        ),
    ],
)
def test_an_answer_is_read_whole_and_its_connection_kept(make: Callable[..., Pool], pieces: list[bytes]) -> None:
    async def story() -> None:
        async with serving(says(*pieces)) as service:
            pool = make(service.url)
            for _ in range(3):
                answer = await asks(pool, service.url)
                assert (answer.status, answer.content) == (200, BODY)
                assert "link" not in answer.headers
            assert service.opened == 1
            await pool.close()

    run(story)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n" + BODY, id="until the connection ends"),
        pytest.param(b"HTTP/1.0 200 OK\r\nContent-Length: 20\r\n\r\n" + BODY, id="HTTP/1.0"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 20\r\n\r\n" + BODY, id="Connection: close"
        ),
    ],
)
def test_a_connection_that_ends_with_its_answer_is_not_used_again(make: Callable[..., Pool], answer: bytes) -> None:
    async def story() -> None:
        async with serving(says(answer, close=True)) as service:
            pool = make(service.url)
            for _ in range(2):
                assert (await asks(pool, service.url)).content == BODY
            assert service.opened == 2
            await until(lambda: pool.connections == 0)
            await pool.close()

    run(story)


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_an_answer_without_a_body_is_whole_at_once(make: Callable[..., Pool], status: bytes) -> None:
    async def story() -> None:
        async with serving(says(b"HTTP/1.1 %b\r\nETag: x\r\n\r\n" % status)) as service:
            pool = make(service.url)
            for _ in range(2):
                answer = await asks(pool, service.url)
                assert (answer.status, answer.content) == (int(status[:3]), b"")
            assert service.opened == 1
            await pool.close()

    run(story)


def test_the_header_of_an_answer_comes_with_lower_case_names(make: Callable[..., Pool]) -> None:
    async def story() -> None:
        said = b"HTTP/1.1 429 Slow Down\r\nRetry-After: 7\r\nX-Two: a\r\nx-two: b\r\nContent-Length: 0\r\n\r\n"
        async with serving(says(said)) as service:
            pool = make(service.url)
            answer = await asks(pool, service.url)
            assert answer.status == 429
            assert answer.headers == {"retry-after": "7", "x-two": "a, b", "content-length": "0"}
            await pool.close()

    run(story)


def test_a_request_goes_out_as_httpx_would_send_it(make: Callable[..., Pool]) -> None:
    async def story() -> None:
        async with serving(says(PLAIN)) as service:
            pool = make(service.url)
            request = httpx.Request(
                "GET", f"{service.url}/runs/a%2Fb", params={"q": "ä b"}, headers={"Authorization": "Bearer k"}
            )
            prepared = pool.prepare(request)
            assert "Bearer" not in repr(prepared)
            await pool.exchange(prepared, limit=LIMIT, seconds=5)
            lines = service.heads[0].split(b"\r\n")
            assert lines[0] == b"GET %b HTTP/1.1" % request.url.raw_path
            assert lines[0].startswith(b"GET /runs/a%2Fb?q=%C3%A4")
            assert b"Host: " + service.url.removeprefix("http://").encode() in lines
            assert b"Authorization: Bearer k" in lines
            await pool.close()

    run(story)


CUT = {
    "in the header": PLAIN[:30],
    "in the body": PLAIN[:-3],
    "in a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n14\r\n" + BODY[:5],
    "before the last chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n14\r\n" + BODY + b"\r\n",
    "in the compression": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(BODY)[:-9],
    "before the first byte": b"",
}


@pytest.mark.parametrize("part", list(CUT.values()), ids=list(CUT))
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_an_answer_that_is_cut_off_is_lost(make: Callable[..., Pool], part: bytes, reset: bool) -> None:
    async def story() -> None:
        async def reply(service: Service, writer: asyncio.StreamWriter, count: int) -> bool:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.01)
            if reset:
                hang_up_hard(writer)
            return False

        async with serving(reply) as service:
            pool = make(service.url)
            with pytest.raises(AnswerLost):
                await asks(pool, service.url)
            assert service.answered == 1
            await pool.close()

    run(story)


def hang_up_hard(writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@pytest.mark.parametrize("where", ["before", "header", "body"])
def test_the_whole_answer_has_a_time_however_it_drips(make: Callable[..., Pool], where: str) -> None:
    async def story() -> None:
        async def reply(service: Service, writer: asyncio.StreamWriter, count: int) -> bool:
            quick = {"before": 0, "header": 10, "body": len(PLAIN) - 15}[where]
            writer.write(PLAIN[:quick])
            for byte in PLAIN[quick:] if quick else b"":
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.05)
            await service.release.wait()
            return False

        async with serving(reply) as service:
            pool = make(service.url)
            began = time.monotonic()
            with pytest.raises(AnswerLost, match=r"request_timeout=0.3 s"):
                await asks(pool, service.url, seconds=0.3)
            # The service itself would say no more for ever.
            assert 0.25 < time.monotonic() - began < 30.0
            await until(lambda: pool.connections == 0)
            await pool.close()

    run(story)


def test_a_body_over_the_limit_is_refused_before_it_is_whole(make: Callable[..., Pool]) -> None:
    async def story() -> None:
        async def reply(service: Service, writer: asyncio.StreamWriter, count: int) -> bool:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
            while not service.release.is_set():
                writer.write(b"x" * 10_000)
                await writer.drain()
            return False

        async with serving(reply) as service:
            pool = make(service.url)
            with pytest.raises(MalformedAnswer, match="max_response_bytes=100000"):
                await asks(pool, service.url)
            await pool.close()

    run(story)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_a_body_as_large_as_the_limit_is_read_and_a_larger_one_is_not(make: Callable[..., Pool], packed: bool) -> None:
    whole = os.urandom(LIMIT)

    def answer(body: bytes) -> bytes:
        sent, more = (gzip.compress(body), b"Content-Encoding: gzip\r\n") if packed else (body, b"")
        return b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (more, len(sent), sent)

    async def story() -> None:
        for body in (whole, whole + b"x"):
            async with serving(says(answer(body))) as service:
                pool = make(service.url)
                if body is whole:
                    assert (await asks(pool, service.url)).content == whole
                else:
                    with pytest.raises(MalformedAnswer, match="max_response_bytes=100000"):
                        await asks(pool, service.url)
                await pool.close()

    run(story)


def test_a_small_body_that_inflates_beyond_the_limit_is_refused(make: Callable[..., Pool]) -> None:
    bomb = gzip.compress(b"0" * 50_000_000)

    async def story() -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
        async with serving(says(head + bomb)) as service:
            pool = make(service.url)
            with pytest.raises(MalformedAnswer, match="max_response_bytes=100000"):
                await asks(pool, service.url)
            await pool.close()

    run(story)


def test_a_refused_connection_is_a_failed_connection(make: Callable[..., Pool]) -> None:
    async def story() -> None:
        async with serving(says(PLAIN)) as service:
            gone = service.url
        pool = make(gone)
        with pytest.raises(ConnectionFailed):
            await asks(pool, gone)
        assert pool.connections == 0
        await pool.close()

    run(story)


def test_no_more_connections_are_open_than_allowed_and_the_rest_wait_their_turn(make: Callable[..., Pool]) -> None:
    async def story() -> None:
        async with serving(says(PLAIN)) as service:
            pool = make(service.url, 3)
            answers = await asyncio.gather(*(asks(pool, service.url) for _ in range(30)))
            assert all(answer.content == BODY for answer in answers)
            assert service.opened <= 3
            assert pool.connections <= 3
            await pool.close()

    run(story)


def test_more_connections_are_opened_when_more_are_allowed(make: Callable[..., Pool]) -> None:
    async def story() -> None:
        async def reply(service: Service, writer: asyncio.StreamWriter, count: int) -> None:
            await service.release.wait()
            writer.write(PLAIN)

        async with serving(reply) as service:
            pool = make(service.url, 1)
            waiting = [asyncio.ensure_future(asks(pool, service.url)) for _ in range(5)]
            await until(lambda: service.opened == 1)
            pool.max_connections = 4
            await until(lambda: service.opened == 4)
            service.release.set()
            await asyncio.gather(*waiting)
            assert service.opened == 4
            await pool.close()

    run(story)


def test_connections_that_were_allowed_later_are_kept_as_the_first_is(make: Callable[..., Pool]) -> None:
    async def story() -> None:
        async def reply(service: Service, writer: asyncio.StreamWriter, count: int) -> None:
            if count == 1:
                await service.release.wait()
            writer.write(PLAIN)

        async with serving(reply) as service:
            pool = make(service.url, 1)
            pool.max_connections = 3
            first = [asyncio.ensure_future(asks(pool, service.url)) for _ in range(3)]
            await until(lambda: len(service.heads) == 3)
            service.release.set()
            await asyncio.gather(*first)
            await asyncio.gather(*(asks(pool, service.url) for _ in range(3)))
            assert service.opened == 3
            await pool.close()

    run(story)


def test_who_finds_no_free_connection_in_time_has_sent_nothing(make: Callable[..., Pool]) -> None:
    async def story() -> None:
        async def reply(service: Service, writer: asyncio.StreamWriter, count: int) -> None:
            await service.release.wait()
            writer.write(PLAIN)

        async with serving(reply) as service:
            pool = make(service.url, 1)
            first = asyncio.ensure_future(asks(pool, service.url))
            await service.asked.wait()
            with pytest.raises(ConnectionFailed):
                await asks(pool, service.url, seconds=0.1)
            service.release.set()
            assert (await first).content == BODY
            assert (await asks(pool, service.url)).content == BODY
            await pool.close()

    run(story)


def test_who_is_cancelled_in_the_moment_in_which_no_place_is_left_is_cancelled() -> None:
    async def story() -> None:
        async def reply(service: Service, writer: asyncio.StreamWriter, count: int) -> None:
            await service.release.wait()
            writer.write(PLAIN)

        async with serving(reply) as service:
            pool = Http1Pool(service.url, max_connections=1)
            first = asyncio.ensure_future(asks(pool, service.url))
            await service.asked.wait()
            second = asyncio.ensure_future(asks(pool, service.url))
            await until(lambda: bool(pool._queue))
            (waiter,) = pool._queue
            waiter.set_exception(ConnectionFailed("No place was free in time."))
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            service.release.set()
            assert (await first).content == BODY
            await pool.close()

    run(story)


def test_who_is_cancelled_with_a_connection_in_hand_leaves_it_to_the_next(mocker: MockerFixture) -> None:
    freed, doomed = Http1Pool.freed, list[asyncio.Future[Answer]]()

    def freed_and_cancelled(pool: Http1Pool, connection: Any) -> None:
        freed(pool, connection)
        while doomed:
            doomed.pop().cancel()

    mocker.patch.object(Http1Pool, "freed", freed_and_cancelled)

    async def story() -> None:
        async def reply(service: Service, writer: asyncio.StreamWriter, count: int) -> None:
            await service.release.wait()
            writer.write(PLAIN)

        async with serving(reply) as service:
            pool = Http1Pool(service.url, max_connections=1)
            first = asyncio.ensure_future(asks(pool, service.url))
            await service.asked.wait()
            second = asyncio.ensure_future(asks(pool, service.url))
            await until(lambda: bool(pool._queue))
            doomed.append(second)
            service.release.set()
            assert (await first).content == BODY
            with pytest.raises(asyncio.CancelledError):
                await second
            assert (await asks(pool, service.url, seconds=5.0)).content == BODY
            assert service.opened == 1
            await pool.close()

    run(story)


def test_an_exchange_cancelled_at_any_moment_leaves_nothing_behind(make: Callable[..., Pool]) -> None:
    async def story() -> None:
        async def reply(service: Service, writer: asyncio.StreamWriter, count: int) -> None:
            writer.write(PLAIN[:25])
            await asyncio.sleep(0.002)
            writer.write(PLAIN[25:])

        async with serving(reply) as service:
            pool = make(service.url, 2)
            for step in range(60):
                doomed = [asyncio.ensure_future(asks(pool, service.url)) for _ in range(5)]
                for _ in range(step):
                    await asyncio.sleep(0)
                for task in doomed[step % 2 :]:
                    task.cancel()
                ended = await asyncio.gather(*doomed, return_exceptions=True)
                assert all(isinstance(end, (asyncio.CancelledError, Answer)) for end in ended)
                assert pool.connections <= 2
            # Both places are free again.
            answers = await asyncio.gather(*(asks(pool, service.url) for _ in range(4)))
            assert all(answer.content == BODY for answer in answers)
            await pool.close()
            await until(lambda: service.open == 0)

    run(story)


def test_closing_the_pool_ends_what_is_on_its_way(make: Callable[..., Pool]) -> None:
    async def story() -> None:
        async def reply(service: Service, writer: asyncio.StreamWriter, count: int) -> None:
            await service.release.wait()

        async with serving(reply) as service:
            pool = make(service.url, 1)
            sent = asyncio.ensure_future(asks(pool, service.url))
            queued = asyncio.ensure_future(asks(pool, service.url))
            await service.asked.wait()
            await asyncio.wait_for(pool.close(), 1)
            await pool.close()
            with pytest.raises(AnswerLost):
                await sent
            with pytest.raises(ConnectionFailed):
                await queued
            with pytest.raises(ConnectionFailed):
                await asks(pool, service.url)
            assert pool.connections == 0
            service.release.set()

    run(story)


# --- TLS ---


def server_side(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


@pytest.mark.usefixtures("trusting")
def test_a_trusted_service_is_asked_over_tls_and_its_connection_kept(
    make: Callable[..., Pool], certificate: Path
) -> None:
    async def story() -> None:
        spoken: list[str] = []

        async def reply(service: Service, writer: asyncio.StreamWriter, count: int) -> None:
            spoken.append(writer.get_extra_info("ssl_object").selected_alpn_protocol())
            writer.write(PLAIN)

        async with serving(reply, server_side(certificate)) as service:
            pool = make(service.url)
            for _ in range(3):
                assert (await asks(pool, service.url)).content == BODY
            assert service.opened == 1
            assert set(spoken) == {"http/1.1"}
            await pool.close()
            await until(lambda: service.open == 0)

    run(story)


def test_an_untrusted_service_is_sent_nothing(make: Callable[..., Pool], certificate: Path) -> None:
    async def story() -> None:
        async with serving(says(PLAIN), server_side(certificate)) as service:
            pool = make(service.url)
            with pytest.raises(ConnectionFailed):
                await asks(pool, service.url)
            assert service.heads == []
            assert pool.connections == 0
            await pool.close()

    run(story)


@pytest.mark.usefixtures("trusting")
def test_a_service_that_turns_us_away_after_the_handshake_is_sent_nothing(
    make: Callable[..., Pool], certificate: Path, mocker: MockerFixture
) -> None:
    # On a busy machine the refusal may take longer than a moment.
    mocker.patch("runops.core.transport.confirmation.SHORTEST", 1.0)

    async def story() -> None:
        async def turn_away(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            # As a server does that has looked at our certificate: what crosses its refusal may have been read.
            await asyncio.sleep(0.01)
            writer.close()

        silent = server_side(certificate)
        silent.num_tickets = 0
        server = await asyncio.start_server(turn_away, "127.0.0.1", 0, ssl=silent)
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        pool = make(url)
        with pytest.raises(ConnectionFailed):
            await asks(pool, url)
        await pool.close()
        server.close()
        await server.wait_closed()

    run(story)


@pytest.mark.usefixtures("trusting")
def test_a_certificate_for_another_name_is_not_trusted(make: Callable[..., Pool], certificate: Path) -> None:
    async def story() -> None:
        async with serving(says(PLAIN), server_side(certificate)) as service:
            other = service.url.replace("127.0.0.1", "localhost")
            pool = make(other)
            with pytest.raises(ConnectionFailed):
                await asks(pool, other)
            assert service.heads == []
            await pool.close()

    run(story)


# --- what the lean one adds ---


def test_a_handshake_without_end_is_given_up_with_the_pool() -> None:
    async def story() -> None:
        connected = asyncio.Event()
        ended = asyncio.Event()

        async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connected.set()
            await reader.read()
            ended.set()
            writer.close()

        server = await asyncio.start_server(mute, "127.0.0.1", 0)
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        pool = Http1Pool(url, max_connections=1)
        with pytest.raises(ConnectionFailed):
            await asks(pool, url, seconds=0.1)
        waiting = asyncio.ensure_future(asks(pool, url))
        await connected.wait()
        await asyncio.wait_for(pool.close(), 1)
        with pytest.raises(ConnectionFailed):
            await waiting
        await asyncio.wait_for(ended.wait(), 1)
        server.close()

    run(story)


def test_a_handshake_without_end_has_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http1_pool, "CONNECT_SECONDS", 0.1)

    async def story() -> None:
        async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        server = await asyncio.start_server(mute, "127.0.0.1", 0)
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        pool = Http1Pool(url, max_connections=1)
        with pytest.raises(ConnectionFailed, match="timed out"):
            await asks(pool, url)
        assert pool.connections == 0
        await pool.close()
        server.close()

    run(story)


def test_a_read_on_a_connection_that_went_stale_is_repeated_once_on_a_fresh_one() -> None:
    async def story() -> None:
        async def reply(service: Service, writer: asyncio.StreamWriter, count: int) -> bool:
            if count == 1:
                writer.write(PLAIN)
                return True
            return False

        async with serving(reply) as service:
            pool = Http1Pool(service.url, max_connections=1)
            for _ in range(4):
                assert (await asks(pool, service.url)).content == BODY
            assert service.opened == 4
            assert len(service.heads) == 7
            await pool.close()

    run(story)


def test_a_read_is_repeated_no_more_than_once() -> None:
    async def story() -> None:
        async def reply(service: Service, writer: asyncio.StreamWriter, count: int) -> bool:
            if len(service.heads) > 1:
                return False
            writer.write(PLAIN)
            return True

        async with serving(reply) as service:
            pool = Http1Pool(service.url, max_connections=3)
            await asks(pool, service.url)
            with pytest.raises(AnswerLost):
                await asks(pool, service.url)
            assert len(service.heads) == 3
            await pool.close()

    run(story)


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_only_a_read_without_a_byte_of_answer_is_repeated(method: str) -> None:
    async def story() -> None:
        async def reply(service: Service, writer: asyncio.StreamWriter, count: int) -> bool:
            writer.write(PLAIN if count == 1 else PLAIN[:5] if method == "GET" else b"")
            return count == 1

        async with serving(reply) as service:
            pool = Http1Pool(service.url, max_connections=1)
            await asks(pool, service.url)
            with pytest.raises(AnswerLost):
                await asks(pool, service.url, method)
            assert len(service.heads) == 2
            await pool.close()

    run(story)


def test_a_kept_connection_that_the_service_closes_is_dropped_before_it_is_used() -> None:
    async def story() -> None:
        writers: list[asyncio.StreamWriter] = []

        async def reply(service: Service, writer: asyncio.StreamWriter, count: int) -> None:
            writers.append(writer)
            writer.write(PLAIN)

        async with serving(reply) as service:
            pool = Http1Pool(service.url, max_connections=1)
            await asks(pool, service.url)
            writers[0].close()
            await until(lambda: pool.connections == 0)
            assert (await asks(pool, service.url)).content == BODY
            assert len(service.heads) == 2
            await pool.close()

    run(story)


@pytest.mark.parametrize(
    "more",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged", id="a second answer"),
        pytest.param(b"rubbish", id="rubbish"),
        pytest.param(b"HTTP/1.1 200", id="the beginning of one"),
    ],
)
@pytest.mark.parametrize("late", [False, True], ids=["at once", "later"])
def test_what_nobody_asked_for_is_never_taken_for_an_answer(more: bytes, late: bool) -> None:
    async def story() -> None:
        async def reply(service: Service, writer: asyncio.StreamWriter, count: int) -> None:
            writer.write(PLAIN if late else PLAIN + more)
            if late:
                await writer.drain()
                await asyncio.sleep(0.02)
                writer.write(more)

        async with serving(reply) as service:
            pool = Http1Pool(service.url, max_connections=1)
            for _ in range(3):
                assert (await asks(pool, service.url)).content == BODY
                if late:
                    await until(lambda: pool.connections == 0)
            assert service.opened == 3
            await pool.close()

    run(story)


# --- what is no answer to the request ---

FORGED = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n14\r\n" + BODY + b"\r\n0\r\n\r\n"
MORE = {"a second answer": FORGED, "rubbish": b"rubbish", "the beginning of one": FORGED[:12]}
Asks = Callable[[], Awaitable[Answer]]


@asynccontextmanager
async def asking(client: str, url: str, accept: Callable[[Answer], None] = accept_any) -> AsyncIterator[Asks]:
    """Ask through one of the pools or one of the single clients' ways, over kept connections."""
    request = httpx.Request("GET", f"{url}/runs/1", extensions=timeouts(5))
    if client == "sync":
        with sync_transport(url) as kept:
            yield lambda: asyncio.to_thread(send, kept, request, limit=LIMIT, seconds=5, accept=accept)
    elif client == "async":
        async with async_transport(url) as kept:
            yield lambda: send_async(kept, request, limit=LIMIT, accept=accept)
    else:
        pool = open_pool(url, max_connections=1, lean=client == "http1")
        yield lambda: pool.exchange(pool.prepare(request), limit=LIMIT, seconds=5, accept=accept)
        await pool.close()


EACH_CLIENT = pytest.mark.parametrize("client", ["sync", "async", *KINDS])


@EACH_CLIENT
@pytest.mark.parametrize("more", list(MORE.values()), ids=list(MORE))
@pytest.mark.parametrize("answer", [PLAIN, CHUNKED], ids=["plain", "chunked"])
@pytest.mark.parametrize("late", [False, True], ids=["at once", "later"])
def test_more_than_an_answer_on_a_kept_connection_is_never_the_next_answer(
    client: str, more: bytes, answer: bytes, late: bool
) -> None:
    async def story() -> None:
        done = asyncio.Event()

        async def reply(service: Service, writer: asyncio.StreamWriter, count: int) -> None:
            writer.write(answer if late else answer + more)
            if late:
                await done.wait()
                done.clear()
                writer.write(more)
                await writer.drain()
                service.asked.set()

        async with serving(reply) as service, asking(client, service.url) as ask:
            for _ in range(3):
                assert (await ask()).content == BODY
                if late:
                    service.asked.clear()
                    done.set()
                    await service.asked.wait()
            assert service.opened == 3

    run(story)


@EACH_CLIENT
@pytest.mark.parametrize("apart", [False, True], ids=["in one record", "in two records"])
@pytest.mark.usefixtures("trusting")
def test_more_than_an_answer_over_tls_is_never_the_next_answer(client: str, apart: bool, certificate: Path) -> None:
    async def story() -> None:
        async def reply(service: Service, writer: asyncio.StreamWriter, count: int) -> None:
            # Two writes are two records, which may still arrive together.
            for piece in (PLAIN, FORGED) if apart else (PLAIN + FORGED,):
                writer.write(piece)

        async with (
            serving(reply, server_side(certificate)) as service,
            asking(client, service.url) as ask,
        ):
            for _ in range(4):
                assert (await ask()).content == BODY
            assert service.opened == 4

    run(story)


@EACH_CLIENT
def test_connections_without_more_than_their_answers_are_kept(client: str) -> None:
    async def story() -> None:
        async with serving(says(PLAIN)) as service, asking(client, service.url) as ask:
            for _ in range(4):
                assert (await ask()).content == BODY
            assert service.opened == 1

    run(story)


@EACH_CLIENT
def test_the_connection_of_an_answer_that_is_not_accepted_is_closed(client: str) -> None:
    async def story() -> None:
        seen: list[Answer] = []

        def accept(answer: Answer) -> None:
            seen.append(answer)
            if len(seen) in (2, 4):
                raise AnotherRun("The answer is about another run.")

        async with serving(says(PLAIN)) as service, asking(client, service.url, accept) as ask:
            opened: list[int] = []
            for number in range(1, 6):
                if number in (2, 4):
                    with pytest.raises(AnotherRun):
                        await ask()
                else:
                    await ask()
                opened.append(service.opened)
            assert opened == [1, 1, 2, 2, 3]
            assert all(answer.content == BODY for answer in seen)

    run(story)


def test_an_answer_that_only_httpx_reads_is_looked_at_too() -> None:
    async def story() -> None:
        twice = PLAIN.replace(b"Content-Length: 20", b"Content-Length: 20\r\nContent-Length: 20")

        def accept(answer: Answer) -> None:
            raise AnotherRun("The answer is about another run.")

        async with serving(says(twice)) as service, asking("http1", service.url, accept) as ask:
            for asked in range(1, 4):
                with pytest.raises(AnotherRun):
                    await ask()
                # Each time by both: over a connection that could not be read, and over httpx.
                assert service.opened == 2 * asked

    run(story)


def test_what_came_before_the_loop_could_look_is_no_answer_to_the_next_request() -> None:
    async def story() -> None:
        sent = threading.Event()

        def serve(listener: socket.socket) -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):
                    connection.settimeout(5)
                    connection.recv(65_536)
                    connection.sendall(PLAIN)
                    asked.wait(5)
                    connection.sendall(FORGED)
                    sent.set()
                    connection.recv(65_536)

        asked = threading.Event()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(5)
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            serving_it = asyncio.create_task(asyncio.to_thread(serve, listener))
            pool = Http1Pool(url, max_connections=1)
            assert (await asks(pool, url)).content == BODY
            asked.set()
            # The loop stands still: the bytes lie in the socket, and nobody has told the pool.
            assert sent.wait(5)
            assert pool.connections == 1
            assert (await asks(pool, url)).content == BODY
            await pool.close()
            await serving_it

    run(story)


# --- places come back ---


def test_requests_beyond_the_connections_are_served_though_each_answer_closes_its_connection(
    make: Callable[..., Pool],
) -> None:
    async def story() -> None:
        closing = PLAIN.replace(b"X-Request-Id: 7", b"Connection: close")
        async with serving(says(closing, close=True)) as service:
            pool = make(service.url, 2)
            answers = await asyncio.gather(*(asks(pool, service.url, seconds=5) for _ in range(12)))
            assert [answer.content for answer in answers] == [BODY] * 12
            assert service.opened == 12
            await until(lambda: pool.connections == 0)
            await pool.close()

    run(story)


def test_a_connection_that_is_reset_right_after_it_is_accepted_gives_its_place_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resets = 2
    made = Http1Connection.connection_made

    def reset_at_once(self: Http1Connection, connected: asyncio.BaseTransport) -> None:
        nonlocal resets
        made(self, connected)
        if resets:
            resets -= 1
            # As if the reset had been read before whoever connects is told that the connection stands.
            assert isinstance(connected, asyncio.Transport)
            connected.abort()

    monkeypatch.setattr(Http1Connection, "connection_made", reset_at_once)

    async def story() -> None:
        async with serving(says(PLAIN)) as service:
            pool = Http1Pool(service.url, max_connections=1)
            for _ in range(2):
                with pytest.raises(ConnectionFailed, match="the other side closed the connection"):
                    await asks(pool, service.url)
                assert pool.connections == 0
            assert (await asks(pool, service.url)).content == BODY
            assert pool.connections == 1
            await pool.close()

    run(story)


def test_an_exchange_cancelled_with_its_answer_in_hand_gives_its_place_back() -> None:
    async def story() -> None:
        async with serving(says(PLAIN)) as service:
            pool = Http1Pool(service.url, max_connections=1)
            exchange = asyncio.ensure_future(asks(pool, service.url))
            await service.asked.wait()
            (connection,) = pool._open
            while connection._answer is not None:  # noqa: ASYNC110
                await asyncio.sleep(0)
            # Whoever waits has not yet been told.
            exchange.cancel()
            with pytest.raises(asyncio.CancelledError):
                await exchange
            assert pool.connections == 0
            assert (await asks(pool, service.url)).content == BODY
            await pool.close()

    run(story)


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\nContent-Length: 3\r\n\r\n" + BODY, id="two lengths"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="both framings"
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", id="a length below zero"),
        pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n", id="another protocol"),
        pytest.param(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n??", id="an upgrade"
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000, id="a huge header"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 12_000, id="many headers"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"y" * 70_000, id="a huge chunk extension"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n" + b"X: y\r\n" * 100_000,
            id="a huge trailer",
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 1\r\n\r\nx", id="a foreign encoding"),
    ],
)
def test_an_answer_that_is_not_well_formed_is_refused_and_its_connection_closed(said: bytes) -> None:
    async def story() -> None:
        async with serving(says(said)) as service:
            pool = Http1Pool(service.url, max_connections=1)
            with pytest.raises(MalformedAnswer):
                await asks(pool, service.url)
            assert pool.connections == 0
            await until(lambda: service.open == 0)
            await pool.close()

    run(story)


def test_the_header_of_a_head_request_is_its_whole_answer() -> None:
    async def story() -> None:
        async with serving(says(PLAIN.removesuffix(BODY))) as service:
            pool = Http1Pool(service.url, max_connections=1)
            for _ in range(2):
                answer = await asks(pool, service.url, "HEAD")
                assert (answer.status, answer.content, answer.headers["content-length"]) == (200, b"", "20")
            await pool.close()

    run(story)


def test_connections_beyond_the_need_are_closed_when_they_have_been_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http1_pool, "IDLE_SECONDS", 0.1)

    async def story() -> None:
        async with serving(says(PLAIN)) as service:
            pool = Http1Pool(service.url, max_connections=10)
            await asyncio.gather(*(asks(pool, service.url) for _ in range(10)))
            assert pool.connections == 10
            ends = time.monotonic() + 60.0
            while pool.connections > 1 and time.monotonic() < ends:
                await asks(pool, service.url)
            assert pool.connections == 1
            await until(lambda: pool.connections == 0)
            assert service.opened == 10
            await pool.close()

    run(story)


def test_a_lower_cap_closes_connections_as_they_become_free() -> None:
    async def story() -> None:
        async with serving(says(PLAIN)) as service:
            pool = Http1Pool(service.url, max_connections=6)
            await asyncio.gather(*(asks(pool, service.url) for _ in range(6)))
            pool.max_connections = 2
            await asyncio.gather(*(asks(pool, service.url) for _ in range(12)))
            assert pool.connections <= 2
            assert service.opened == 6
            await pool.close()

    run(story)


def test_the_queue_is_served_in_order() -> None:
    async def story() -> None:
        async with serving(says(PLAIN)) as service:
            pool = Http1Pool(service.url, max_connections=1)
            order: list[int] = []

            async def one(number: int) -> None:
                await asks(pool, service.url)
                order.append(number)

            await asyncio.gather(*(one(number) for number in range(8)))
            assert order == list(range(8))
            await pool.close()

    run(story)


# --- which one it is ---


def test_a_transport_of_the_users_own_is_used_and_not_closed() -> None:
    class Given(httpx.MockTransport):
        closed = False

        async def aclose(self) -> None:
            self.closed = True

    async def story() -> None:
        given = Given(lambda request: httpx.Response(200, content=BODY))
        pool = open_pool("https://api.example.com", max_connections=4, transport=given)
        assert (await asks(pool, "https://api.example.com")).content == BODY
        await pool.close()
        assert not given.closed

    run(story)


def test_behind_a_proxy_httpx_does_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "internal.example.com")
    assert isinstance(open_pool("https://api.example.com", max_connections=4), HttpxPool)
    assert isinstance(open_pool("https://internal.example.com", max_connections=4), Http1Pool)


def test_without_httptools_httpx_does_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http1_pool", "http1_connection"):
        monkeypatch.delitem(sys.modules, f"runops.core.transport.{name}")
    monkeypatch.setitem(sys.modules, "httptools", None)
    assert isinstance(open_pool("https://api.example.com", max_connections=4), HttpxPool)


@pytest.mark.parametrize(("version", "kind"), [("0.6.2", HttpxPool), ("0.6.3", Http1Pool), ("0.10.0b1", Http1Pool)])
def test_a_parser_that_takes_broken_headers_for_whole_is_not_used(
    monkeypatch: pytest.MonkeyPatch, version: str, kind: type[Pool]
) -> None:
    monkeypatch.setattr("httptools.__version__", version)
    assert type(open_pool("https://api.example.com", max_connections=4)) is kind


def test_a_service_that_hangs_up_at_once_is_not_called_again_and_again() -> None:
    async def story() -> None:
        calls = 0

        async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal calls
            calls += 1
            hang_up_hard(writer)

        server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        pool = Http1Pool(url, max_connections=3)
        for _ in range(5):
            with pytest.raises((AnswerLost, ConnectionFailed)):
                await asks(pool, url)
        assert calls == 5
        assert pool.connections == 0
        await pool.close()
        server.close()

    run(story)
