"""Answers that are odd, and answers that are broken: every client and every pool makes the same of them."""

from __future__ import annotations

import asyncio
import codecs
import gzip
import json
import logging
import socket
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import pytest

from runops.core import AsyncRunClient, Outcome, PollingError, RunClient, find
from runops.core.model.errors import AnswerError, AnswerLost, MalformedAnswer
from runops.core.model.run import RunSnapshot
from runops.core.transport.base import timeouts
from runops.core.transport.http1_pool import Http1Pool

pytestmark = pytest.mark.http

NEXIO, NYX = find("nexio"), find("nyx")
REF = NEXIO.ref("r1")
BODY = b'{"run_id": "r1", "status": "completed", "engine_slug": "placement"}'
OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


class RawServer:
    """Answers every request with the same bytes."""

    def __init__(self, said: bytes, *, close: bool) -> None:
        self.said = said
        self.close = close
        self.requests = 0
        self.heads: list[bytes] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        head = b""
        try:
            while piece := connection.recv(65_536):
                head += piece
                if b"\r\n\r\n" in head:
                    self.heads.append(head)
                    head = b""
                    self.requests += 1
                    connection.sendall(self.said)
                    if self.close:
                        break
        except OSError:
            return
        finally:
            connection.close()

    def stop(self) -> None:
        for connection in (self._socket, *self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()


@contextmanager
def saying(said: bytes, *, close: bool = False) -> Iterator[RawServer]:
    server = RawServer(said, close=close)
    try:
        yield server
    finally:
        server.stop()


def settings(url: str) -> dict[str, Any]:
    return {"token": "k", "base_url": url, "request_timeout": 5}


LONGEST_WAIT = {"seconds": 0.001}
"""A single look. Where that is a good one the wait may last: it ends there, and a busy machine is no reason to fail."""


@pytest.fixture
def good_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LONGEST_WAIT, "seconds", 60.0)


def sync_get(url: str) -> RunSnapshot:
    with RunClient(NEXIO, **settings(url)) as client:
        return client.get(REF)


def sync_wait(url: str) -> RunSnapshot:
    with RunClient(NEXIO, **settings(url)) as client:
        return client.wait(REF, timeout=LONGEST_WAIT["seconds"])


async def _get(url: str) -> RunSnapshot:
    async with AsyncRunClient(NEXIO, **settings(url)) as client:
        return await client.get(REF)


async def _wait(url: str) -> RunSnapshot:
    async with AsyncRunClient(NEXIO, **settings(url)) as client:
        return await client.wait(REF, timeout=LONGEST_WAIT["seconds"])


def async_get(url: str) -> RunSnapshot:
    return asyncio.run(_get(url))


def async_wait(url: str) -> RunSnapshot:
    return asyncio.run(_wait(url))


def async_wait_without_httptools(url: str) -> RunSnapshot:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("http1_pool", "http1_connection"):
            patch.delitem(sys.modules, f"runops.core.transport.{name}", raising=False)
        patch.setitem(sys.modules, "httptools", None)
        return asyncio.run(_wait(url))


WAYS: dict[str, Callable[[str], RunSnapshot]] = {
    "RunClient.get": sync_get,
    "RunClient.wait": sync_wait,
    "AsyncRunClient.get": async_get,
    "AsyncRunClient.wait": async_wait,
    "AsyncRunClient.wait without httptools": async_wait_without_httptools,
}
every_way = pytest.mark.parametrize("way", list(WAYS.values()), ids=list(WAYS))


def packed(how: str, content: bytes) -> bytes:
    return OK + b"Content-Encoding: %b\r\nContent-Length: %d\r\n\r\n" % (how.encode(), len(content)) + content


def raw_deflate(content: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush()


ODD = {
    "the same length twice": OK + LENGTH + LENGTH + b"\r\n" + BODY,
    "a list of equal lengths": OK + b"Content-Length: %d, %d\r\n\r\n" % (len(BODY), len(BODY)) + BODY,
    "line feeds only": (OK + LENGTH + b"\r\n").replace(b"\r\n", b"\n") + BODY,
    "one line feed alone": OK + b"X-One: 1\n" + LENGTH + b"\r\n" + BODY,
    "a folded header": OK + b"X-Note: one\r\n  two\r\n" + LENGTH + b"\r\n" + BODY,
    "a folded header with a tab": OK + b"X-Note: one\r\n\ttwo\r\n" + LENGTH + b"\r\n" + BODY,
    "a length with spaces": OK + b"Content-Length:   %d  \r\n\r\n" % len(BODY) + BODY,
    "no reason phrase": b"HTTP/1.1 200\r\n" + LENGTH + b"\r\n" + BODY,
    "an empty reason phrase": b"HTTP/1.1 200 \r\n" + LENGTH + b"\r\n" + BODY,
    "a reason phrase in UTF-8": b"HTTP/1.1 200 \xc3\xa9t\xc3\xa9\r\n" + LENGTH + b"\r\n" + BODY,
    "a header in Latin-1": OK + b"X-Name: \xe9\r\n" + LENGTH + b"\r\n" + BODY,
    "an empty header": OK + b"X-Empty:\r\n" + LENGTH + b"\r\n" + BODY,
    "names in capitals": OK + LENGTH.upper() + b"\r\n" + BODY,
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n" + LENGTH + b"\r\n" + BODY,
    "CHUNKED in capitals": OK + b"Transfer-Encoding: CHUNKED\r\n\r\n%x\r\n" % len(BODY) + BODY + b"\r\n0\r\n\r\n",
    "a chunk with leading zeros": CHUNKED + b"000%X\r\n" % len(BODY) + BODY + b"\r\n0\r\n\r\n",
    "a space behind a chunk's size": CHUNKED + b"%x \r\n" % len(BODY) + BODY + b"\r\n0\r\n\r\n",
    "chunk extensions": CHUNKED + b'%x;a=b;c="d e"\r\n' % len(BODY) + BODY + b"\r\n0;last\r\n\r\n",
    "trailers": CHUNKED + b"%x\r\n" % len(BODY) + BODY + b"\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n",
    "interim answers": b"HTTP/1.1 102 Processing\r\n\r\n" * 20 + OK + LENGTH + b"\r\n" + BODY,
    "gzip": packed("gzip", gzip.compress(BODY)),
    "gzip in capitals": packed("GZIP", gzip.compress(BODY)),
    "gzip and identity": packed("identity, gzip", gzip.compress(BODY)),
    "gzip in two members": packed("gzip", gzip.compress(BODY[:9]) + gzip.compress(BODY[9:])),
    "gzip in many members": packed("gzip", b"".join(gzip.compress(bytes([byte])) for byte in BODY)),
    "gzip with an empty member first": packed("gzip", gzip.compress(b"") + gzip.compress(BODY)),
    "gzip with padding": packed("gzip", gzip.compress(BODY) + b"\0" * 100),
    "gzip in chunks of one byte": CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n")
    + b"".join(b"1\r\n%c\r\n" % byte for byte in gzip.compress(BODY[:9]) + gzip.compress(BODY[9:]))
    + b"0\r\n\r\n",
    "deflate": packed("deflate", zlib.compress(BODY)),
    "deflate without its header": packed("deflate", raw_deflate(BODY)),
    "a byte order mark": OK + b"Content-Length: %d\r\n\r\n" % (len(BODY) + 3) + codecs.BOM_UTF8 + BODY,
    "UTF-16": OK + b"Content-Length: %d\r\n\r\n" % (2 * len(BODY) + 2) + BODY.decode().encode("utf-16"),
    "half a surrogate": OK + b"Content-Length: %d\r\n\r\n" % (len(BODY) + 20) + BODY[:-1] + b', "title": "\\ud83d" }',
}
BY_ITS_END = {
    "until the connection ends": OK + b"\r\n" + BODY,
    "until the connection ends, HTTP/1.0": b"HTTP/1.0 200 OK\n\n" + BODY,
    "gzip until the connection ends": OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(BODY),
}


@pytest.mark.usefixtures("good_answers")
@every_way
@pytest.mark.parametrize("said", list(ODD.values()), ids=list(ODD))
def test_an_odd_answer_is_read_by_every_client_and_every_pool(way: Callable[[str], RunSnapshot], said: bytes) -> None:
    with saying(said) as server:
        snapshot = way(server.url)
    assert (snapshot.ref, snapshot.state, snapshot.outcome) == (REF, "completed", Outcome.SUCCEEDED)


@pytest.mark.usefixtures("good_answers")
@every_way
@pytest.mark.parametrize("said", list(BY_ITS_END.values()), ids=list(BY_ITS_END))
def test_an_answer_that_ends_with_its_connection_is_read(way: Callable[[str], RunSnapshot], said: bytes) -> None:
    with saying(said, close=True) as server:
        assert way(server.url).outcome is Outcome.SUCCEEDED


BROKEN = {
    "two lengths": OK + LENGTH + b"Content-Length: 3\r\n\r\n" + BODY,
    "a list of two lengths": OK + b"Content-Length: %d, 3\r\n\r\n" % len(BODY) + BODY,
    "a length and chunks": CHUNKED.replace(b"\r\n\r\n", b"\r\n" + LENGTH + b"\r\n")
    + b"%x\r\n" % len(BODY)
    + BODY
    + b"\r\n0\r\n\r\n",
    "a length below zero": OK + b"Content-Length: -1\r\n\r\n",
    "a length with a plus": OK + b"Content-Length: +%d\r\n\r\n" % len(BODY) + BODY,
    "a length in words": OK + b"Content-Length: all\r\n\r\n" + BODY,
    "a size that is no number": CHUNKED + b"zz\r\n" + BODY + b"\r\n0\r\n\r\n",
    "a size that is too small": CHUNKED + b"3\r\n" + BODY + b"\r\n0\r\n\r\n",
    "an unknown transfer encoding": OK + b"Transfer-Encoding: gzip\r\n\r\n" + BODY,
    "two transfer encodings": OK
    + b"Transfer-Encoding: gzip, chunked\r\n\r\n%x\r\n" % len(BODY)
    + BODY
    + b"\r\n0\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
    "TLS": b"\x15\x03\x01\x00\x02\x02\x46",
    "HTTP/2": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",
    "nothing but a body": BODY,
    "lines before the status": b"\r\n\r\n" + OK + LENGTH + b"\r\n" + BODY,
    "a status that is no number": b"HTTP/1.1 abc OK\r\n" + LENGTH + b"\r\n" + BODY,
    "a header without a name": OK + b": x\r\n" + LENGTH + b"\r\n" + BODY,
    "a header without a colon": OK + b"nonsense\r\n" + LENGTH + b"\r\n" + BODY,
    "a space before a colon": OK + b"X-One : 1\r\n" + LENGTH + b"\r\n" + BODY,
    "a NUL in a header": OK + b"X-One: a\0b\r\n" + LENGTH + b"\r\n" + BODY,
    "an upgrade": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n??",
    "a huge header": OK + b"X: " + b"y" * 200_000 + b"\r\n" + LENGTH + b"\r\n" + BODY,
    "many headers": OK + b"X: y\r\n" * 40_000 + LENGTH + b"\r\n" + BODY,
    "interim answers without end": b"HTTP/1.1 102 Processing\r\n\r\n" * 10_000 + OK + LENGTH + b"\r\n" + BODY,
    "a huge chunk extension": CHUNKED + b"%x;" % len(BODY) + b"y" * 200_000 + b"\r\n" + BODY + b"\r\n0\r\n\r\n",
    "a huge trailer": CHUNKED + b"%x\r\n" % len(BODY) + BODY + b"\r\n0\r\n" + b"X: y\r\n" * 40_000 + b"\r\n",
    "an encoding that was not asked for": packed("br", BODY),
    "gzip in gzip": packed("gzip, gzip", gzip.compress(gzip.compress(BODY))),
    "gzip that is none": packed("gzip", BODY),
    "a second member that is broken": packed("gzip", gzip.compress(BODY) + b"\x1f\x8b" + b"?" * 30),
    "HTML": OK + b"Content-Length: 13\r\n\r\n<html></html>",
    "no JSON behind a mark": OK + b"Content-Length: 6\r\n\r\n" + codecs.BOM_UTF8 + b"{{{",
}
LOST = {
    "nothing": b"",
    "half a header": OK + b"X-One: 1",
    "half a body": OK + LENGTH + b"\r\n" + BODY[:-5],
    "half a chunk": CHUNKED + b"%x\r\n" % len(BODY) + BODY[:-5],
    "no last chunk": CHUNKED + b"%x\r\n" % len(BODY) + BODY + b"\r\n",
    "only an interim answer": b"HTTP/1.1 102 Processing\r\n\r\n",
    "half a folded header": OK + b"X-Note: one\r\n  two",
    "half a body behind equal lengths": OK + LENGTH + LENGTH + b"\r\n" + BODY[:-5],
    "gzip cut off": OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(BODY)[:-9],
    "gzip cut off at once": OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(BODY)[:1],
    "gzip cut off in its second member": OK
    + b"Content-Encoding: gzip\r\n\r\n"
    + gzip.compress(BODY)
    + gzip.compress(b" ")[:-3],
}


def failure(way: Callable[[str], RunSnapshot], url: str) -> AnswerError:
    try:
        snapshot = way(url)
    except PollingError as error:
        return error.last
    except AnswerError as error:
        return error
    raise AssertionError(f"It was read: {snapshot}")


@every_way
@pytest.mark.parametrize("said", list(BROKEN.values()), ids=list(BROKEN))
def test_a_broken_answer_is_malformed_to_every_client_and_every_pool(
    way: Callable[[str], RunSnapshot], said: bytes
) -> None:
    with saying(said) as server:
        assert isinstance(failure(way, server.url), MalformedAnswer)


@every_way
@pytest.mark.parametrize("said", list(LOST.values()), ids=list(LOST))
def test_an_answer_that_is_cut_off_is_lost_to_every_client_and_every_pool(
    way: Callable[[str], RunSnapshot], said: bytes
) -> None:
    with saying(said, close=True) as server:
        assert isinstance(failure(way, server.url), AnswerLost)


# --- lists and payloads --------------------------------------------------------------------------------------------

RUN = {"run_id": "r1", "status": "queued", "config_name": "nightly"}


def nyx_list_sync(url: str) -> list[RunSnapshot]:
    with RunClient(NYX, **settings(url)) as client:
        return client.recent("nightly")


def nyx_list_async(url: str) -> list[RunSnapshot]:
    async def story() -> list[RunSnapshot]:
        async with AsyncRunClient(NYX, **settings(url)) as client:
            return await client.recent("nightly")

    return asyncio.run(story())


def payload_sync(url: str) -> dict[str, Any]:
    with RunClient(NYX, **settings(url)) as client:
        return client.fetch_result(NYX.ref("r1"))


ENCODED: dict[str, Callable[[bytes], bytes]] = {
    "a byte order mark": lambda content: codecs.BOM_UTF8 + content,
    "UTF-16": lambda content: content.decode().encode("utf-16"),
    "half a surrogate": lambda content: content[:-1] + b', "more": "\\ud83d"}',
    "gzip in two members": lambda content: gzip.compress(content[:5]) + gzip.compress(content[5:]),
}


@pytest.mark.parametrize("encoded", list(ENCODED.values()), ids=list(ENCODED))
@pytest.mark.parametrize("read", [nyx_list_sync, nyx_list_async])
def test_a_list_is_read_as_leniently_as_a_run(
    read: Callable[[str], list[RunSnapshot]], encoded: Callable[[bytes], bytes]
) -> None:
    content = encoded(json.dumps({"runs": [RUN]}).encode())
    said = packed("gzip" if content.startswith(b"\x1f") else "identity", content)
    with saying(said) as server:
        assert [run.ref.run_id for run in read(server.url)] == ["r1"]


@pytest.mark.parametrize("encoded", list(ENCODED.values()), ids=list(ENCODED))
def test_a_payload_is_read_as_leniently_as_a_run(encoded: Callable[[bytes], bytes]) -> None:
    content = encoded(json.dumps(RUN).encode())
    said = packed("gzip" if content.startswith(b"\x1f") else "identity", content)
    with saying(said) as server:
        assert payload_sync(server.url)["run_id"] == "r1"


# --- the hand-over -------------------------------------------------------------------------------------------------


def exchanges(url: str, *methods: str) -> list[object]:
    """What one lean pool makes of some requests."""

    async def story() -> list[object]:
        pool = Http1Pool(url, max_connections=2)
        found: list[object] = []
        for method in methods:
            request = httpx.Request(method, f"{url}/runs/a%2Fb?q=1", headers={"X-Key": "k"}, extensions=timeouts(5))
            try:
                found.append((await pool.exchange(pool.prepare(request), limit=10_000, seconds=5)).content)
            except AnswerError as error:
                found.append(type(error).__name__)
        await pool.close()
        assert pool.connections == 0
        return found

    return asyncio.run(story())


def test_a_service_that_only_httpx_reads_is_left_to_it_for_good(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "runops")
    with saying(ODD["the same length twice"]) as server:
        assert exchanges(server.url, "GET", "GET", "GET") == [BODY] * 3
        # The first was asked twice; afterwards nothing is, in this pool and in the next.
        assert server.requests == 4
        assert exchanges(server.url, "GET", "GET") == [BODY] * 2
        assert server.requests == 6
        assert len(set(server.heads)) == 1
    (line,) = [record.getMessage() for record in caplog.records]
    assert f"at {server.url.removeprefix('http://')} answers in a form that only httpx reads" in line


def test_connections_of_ours_are_closed_once_a_service_is_left_to_httpx() -> None:
    async def story(server: Any) -> None:
        pool = Http1Pool(server.url, max_connections=3)
        request = pool.prepare(httpx.Request("GET", f"{server.url}/runs/a", extensions=timeouts(5)))

        async def ask() -> bytes:
            return (await pool.exchange(request, limit=10_000, seconds=5)).content

        assert await asyncio.gather(*(ask() for _ in range(3))) == [BODY] * 3
        assert pool._open
        server.said = ODD["the same length twice"]
        assert await ask() == BODY
        assert not pool._open
        await pool.close()

    with saying(OK + LENGTH + b"\r\n" + BODY) as server:
        asyncio.run(story(server))


def test_a_service_that_nobody_can_read_is_not_left_to_httpx(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "runops")
    with saying(BROKEN["two lengths"]) as server:
        assert exchanges(server.url, "GET", "GET") == ["MalformedAnswer"] * 2
        server.said = OK + LENGTH + b"\r\n" + BODY
        assert exchanges(server.url, "GET") == [BODY]
    assert not caplog.records


def test_what_is_no_read_is_never_sent_twice() -> None:
    with saying(ODD["a folded header"]) as server:
        assert exchanges(server.url, "POST", "POST") == ["Unreadable", BODY]
        assert server.requests == 2
