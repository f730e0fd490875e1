"""On which connection a submit goes: one that is new or was used a moment ago, and never one that has stood idle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from runops.core import AsyncRunClient, find
from runops.core.transport import connections

NEXIO = find("nexio")
CALL = NEXIO.call(engine_slug="placement", input={})
ANSWER = b'{"run_id": "r1", "status": "queued"}'


class Service:
    """Answers each request, and notes on which of its connections it came."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, str]] = []
        self.gone = asyncio.Event()
        self._made = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, self._made = self._made, self._made + 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(
                    (
                        int(line.split(b":")[1])
                        for line in head.split(b"\r\n")
                        if line.lower().startswith(b"content-le")
                    ),
                    0,
                )
                await reader.readexactly(length)
                self.asked.append((number, head.split(b" ")[0].decode()))
                status = b"202 Accepted" if head.startswith(b"POST") else b"200 OK"
                writer.write(
                    b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
                    % (status, len(ANSWER), ANSWER)
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            self.gone.set()


@asynccontextmanager
async def served() -> AsyncIterator[tuple[Service, AsyncRunClient]]:
    service = Service()
    async with await asyncio.start_server(service.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with AsyncRunClient(NEXIO, token="k", base_url=f"http://127.0.0.1:{port}") as client:
            yield service, client


def test_submits_in_a_row_share_a_connection_and_no_read_shares_it() -> None:
    async def scenario() -> None:
        async with served() as (service, client):
            for _ in range(3):
                await client.submit(CALL)
                await client.get(NEXIO.ref("r1"))
            assert service.asked == [(0, "POST"), (1, "GET"), (0, "POST"), (1, "GET"), (0, "POST"), (1, "GET")]

    asyncio.run(scenario())


@pytest.mark.long
def test_a_submit_after_a_while_has_a_connection_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "YOUNG_SECONDS", 0.05)

    async def scenario() -> None:
        async with served() as (service, client):
            await client.submit(CALL)
            await asyncio.sleep(0.2)
            await client.submit(CALL)
            assert service.asked == [(0, "POST"), (1, "POST")]

    asyncio.run(scenario())


def test_a_closed_client_leaves_no_connection_and_can_be_used_again() -> None:
    async def scenario() -> None:
        async with served() as (service, client):
            await client.submit(CALL)
            await client.close()
            await asyncio.wait_for(service.gone.wait(), 10)
            await client.submit(CALL)
            assert service.asked == [(0, "POST"), (1, "POST")]

    asyncio.run(scenario())
