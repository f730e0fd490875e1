"""The loop whose time is made up: what the tests on it rely on."""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from pathlib import Path

import pytest

from runops.core.transport.offload import off_loop
from tests.simulated_time import BEGAN, loop, run, until, wall_clock


def test_hours_take_no_time_and_timers_come_in_order() -> None:
    async def main() -> None:
        came: list[tuple[str, float]] = []

        async def sleeper(name: str, seconds: float) -> None:
            await asyncio.sleep(seconds)
            came.append((name, asyncio.get_running_loop().time()))

        await asyncio.gather(sleeper("late", 7200), sleeper("soon", 0.05), sleeper("hour", 3600))
        assert came == [("soon", pytest.approx(0.05)), ("hour", pytest.approx(3600)), ("late", pytest.approx(7200))]
        assert wall_clock() == pytest.approx(BEGAN + 7200)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 600)

    began = time.monotonic()
    run(main())
    assert time.monotonic() - began < 5


def test_a_loop_that_stands_still_is_late_for_its_timers() -> None:
    async def main() -> None:
        due = loop().time() + 1
        late = asyncio.get_running_loop().create_future()
        loop().call_at(due, lambda: late.set_result(loop().time() - due))
        await asyncio.sleep(0.5)
        loop().stand_still(2.0)
        assert await late == pytest.approx(1.5)

    run(main())


@pytest.mark.parametrize("secure", [False, True])
def test_connections_are_real_but_for_the_way_between_their_ends(secure: bool, certificate: Path) -> None:
    server_side = client_side = None
    if secure:
        server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server_side.load_cert_chain(certificate)
        client_side = ssl.create_default_context(cafile=certificate)

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            await asyncio.sleep(30)
            writer.write(data)
            await writer.drain()
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_side)
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_side)
        began = loop().time()
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        assert loop().time() - began == pytest.approx(30)
        writer.transport.abort()
        await asyncio.sleep(0)
        server.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        await until(lambda: len(asyncio.all_tasks()) == 1)

    run(main())


def test_time_stands_still_while_a_thread_works() -> None:
    async def main() -> None:
        before = loop().time()
        assert await off_loop(lambda: time.sleep(0.05) or "read", 10_000_000) == "read"
        assert loop().time() == pytest.approx(before, abs=0.001)

    run(main())


def test_another_thread_can_wake_a_loop_that_has_nothing_else_to_do() -> None:
    async def main() -> str:
        woken: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        waker = threading.Timer(0.05, loop().call_soon_threadsafe, (woken.set_result, "woken"))
        waker.start()
        return await woken

    assert run(main()) == "woken"
