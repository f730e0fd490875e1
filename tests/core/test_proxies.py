"""Through a proxy, over TLS or not, every client reads what it reads without one."""

from __future__ import annotations

import asyncio
import os
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from runops.core import AsyncRunClient, Outcome, RunClient, RunSnapshot, find

pytestmark = pytest.mark.http

NEXIO = find("nexio")
REF = NEXIO.ref("r1")
BODY = b'{"run_id": "r1", "status": "completed", "filler": "%b"}' % (b"x" * 200_000)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The service: one answer for each request."""
    try:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY)
            await writer.drain()
    except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
        return
    finally:
        writer.transport.abort()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(65_536):
            writer.write(piece)
            await writer.drain()
    except (asyncio.CancelledError, ConnectionError):
        return
    finally:
        writer.transport.abort()


def tunnel(port: int, heads: list[bytes]) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]:
    """A proxy that leads every CONNECT to one port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        there, back = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with suppress(asyncio.CancelledError):
            await asyncio.gather(pump(reader, back), pump(there, writer))

    return serve


@contextmanager
def loop_in_a_thread() -> Iterator[Callable[..., int]]:
    """``serve(handler, tls)`` starts a server there and gives its port."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    servers: list[asyncio.Server] = []

    def serve(handler: Any, tls: ssl.SSLContext | None) -> int:
        starting = asyncio.start_server(handler, "127.0.0.1", 0, ssl=tls)
        server = asyncio.run_coroutine_threadsafe(starting, loop).result(10)
        servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def stop() -> None:
        for server in servers:
            server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # A transport that is aborted is gone in one of the next rounds.
        for _ in range(10):
            await asyncio.sleep(0)

    try:
        yield serve
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def sync_reads(url: str) -> list[RunSnapshot]:
    with RunClient(NEXIO, token="k", base_url=url) as client:
        return [client.get(REF), client.get(REF), client.wait(REF, 60)]


def async_reads(url: str) -> list[RunSnapshot]:
    async def story() -> list[RunSnapshot]:
        async with AsyncRunClient(NEXIO, token="k", base_url=url) as client:
            return [await client.get(REF), await client.get(REF), await client.wait(REF, 60)]

    return asyncio.run(story())


@pytest.mark.usefixtures("trusting")
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("reads", [sync_reads, async_reads])
def test_a_service_is_read_through_a_proxy(
    reads: Callable[[str], list[RunSnapshot]], scheme: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(os.fspath(certificate))
    heads: list[bytes] = []
    with loop_in_a_thread() as serve:
        port = serve(answer, tls)
        proxy = serve(tunnel(port, heads), tls if scheme == "https" else None)
        monkeypatch.setenv("https_proxy", f"{scheme}://someone:word@127.0.0.1:{proxy}")
        snapshots = reads("https://service.example.com")
    assert [snapshot.outcome for snapshot in snapshots] == [Outcome.SUCCEEDED] * 3
    assert all(head.startswith(b"CONNECT service.example.com:443 HTTP/1.1\r\n") for head in heads)
    assert all(b"Proxy-Authorization: Basic " in head for head in heads)
    # One for the client and, for asyncio, one for the poller: they are kept.
    assert len(heads) <= 2
