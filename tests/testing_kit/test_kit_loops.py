"""The loops of the kit: which timers are jumped to, and what must be over before."""

from __future__ import annotations

import asyncio
import asyncio.events
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from runops.core.client import asynchronous
from runops.core.polling.side_loop import SideLoop
from runops.core.transport.httpx_pool import HttpxPool
from runops.testing import FakeTime
from runops.testing.loops import BESIDE, JumpingLoop, jumping_loops

HOUR = 3600.0


@pytest.fixture
def moved() -> list[float]:
    return []


@pytest.fixture
def clock(moved: list[float]) -> FakeTime:
    return FakeTime(moved.append)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket, int]]:
    """Both ends of a connection of this machine, and the port that it leads to."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as there:
            here, _ = server.accept()
            with here:
                there.setblocking(False)
                yield there, here, port


def ran(loop: asyncio.AbstractEventLoop, work: Any) -> Any:
    try:
        return loop.run_until_complete(work)
    finally:
        loop.close()


def test_a_timer_of_an_hour_passes_at_once_and_once(clock: FakeTime, moved: list[float]) -> None:
    loop = JumpingLoop(clock, ())
    began = loop.time()
    ran(loop, asyncio.sleep(HOUR))
    assert moved == [pytest.approx(HOUR, abs=1.0)]
    assert loop.time() - began == pytest.approx(HOUR, abs=5.0)


def test_what_is_due_at_once_moves_no_time(clock: FakeTime, moved: list[float]) -> None:
    ran(JumpingLoop(clock, ()), asyncio.sleep(0))
    assert moved == []


def test_no_timer_is_jumped_to_while_a_thread_of_the_loop_works(clock: FakeTime, moved: list[float]) -> None:
    loop = JumpingLoop(clock, ())
    may_end = threading.Event()

    async def work() -> tuple[str, int]:
        future = loop.run_in_executor(None, lambda value: (may_end.wait(5), value)[1], "done")
        busy = loop.busy
        loop.call_later(0.001, may_end.set)
        async with asyncio.timeout(HOUR):
            return await future, busy

    assert ran(loop, work()) == ("done", 1)
    assert loop.busy == 0
    assert moved == []


def test_a_connection_that_is_known_to_be_idle_stops_no_jump(
    clock: FakeTime, moved: list[float], pair: tuple[socket.socket, socket.socket, int]
) -> None:
    there, _, port = pair
    loop = JumpingLoop(clock, {port})
    loop.add_reader(there, pytest.fail)
    ran(loop, asyncio.sleep(HOUR))
    assert len(moved) == 1


def test_what_comes_on_another_connection_comes_before_a_timer(
    clock: FakeTime, moved: list[float], pair: tuple[socket.socket, socket.socket, int]
) -> None:
    there, here, port = pair
    loop = JumpingLoop(clock, {port + 1})
    came = loop.create_future()
    loop.add_reader(there, lambda: came.done() or came.set_result(there.recv(9)))
    loop.call_soon(here.send, b"x")

    async def first() -> bytes:
        async with asyncio.timeout(HOUR):
            return await came

    assert ran(loop, first()) == b"x"
    assert moved == []


def test_a_connection_on_which_nothing_comes_holds_a_jump_back_for_a_moment_only(
    clock: FakeTime, moved: list[float], pair: tuple[socket.socket, socket.socket, int]
) -> None:
    there, _, _ = pair
    loop = JumpingLoop(clock, ())
    loop.add_reader(there, pytest.fail)
    ran(loop, asyncio.sleep(HOUR))
    assert moved == [pytest.approx(HOUR, abs=1.0)]


# --- who gets such a loop ----------------------------------------------------------------------------------------


def kind_of_new_loop() -> type[Any]:
    loop = asyncio.events.new_event_loop()
    loop.close()
    return type(loop)


@pytest.mark.parametrize(("name", "jumps"), [(None, True), (BESIDE, True), ("a server of the test", False)])
def test_a_loop_jumps_in_the_thread_of_the_test_and_beside_a_task(
    clock: FakeTime, name: str | None, jumps: bool
) -> None:
    found: list[type[Any]] = []
    with jumping_loops(clock, ()):
        if name is None:
            found.append(kind_of_new_loop())
        else:
            thread = threading.Thread(target=lambda: found.append(kind_of_new_loop()), name=name)
            thread.start()
            thread.join()
    assert (found == [JumpingLoop]) is jumps
    assert kind_of_new_loop() is not JumpingLoop


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (HttpxPool, "exchange"),
        (SideLoop, "in_caller"),
        (SideLoop, "soon_in_caller"),
        (SideLoop, "run"),
        (asynchronous, "send_async"),
    ],
)
def test_what_asks_is_counted_while_loops_jump_and_left_as_it_was(clock: FakeTime, owner: Any, name: str) -> None:
    before = getattr(owner, name)
    with jumping_loops(clock, ()):
        during = getattr(owner, name)
        assert during is not before
        assert during.__wrapped__ is not None
    assert getattr(owner, name) is before


@pytest.mark.parametrize("fails", [True, False])
def test_no_timer_is_jumped_to_while_a_request_is_on_its_way(
    clock: FakeTime, moved: list[float], monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    busy: list[int] = []

    async def send(value: int, *, more: int) -> int:
        loop = asyncio.get_running_loop()
        busy.append(getattr(loop, "busy", -1))
        if fails:
            raise KeyError(value)
        return value + more

    async def ask() -> int:
        try:
            return await asynchronous.send_async(1, more=2)  # type: ignore[call-arg,arg-type]
        except KeyError:
            return 0

    monkeypatch.setattr(asynchronous, "send_async", send)
    with jumping_loops(clock, ()):
        loop = JumpingLoop(clock, ())
        assert ran(loop, ask()) == (0 if fails else 3)
        other = asyncio.SelectorEventLoop()
        assert ran(other, ask()) == (0 if fails else 3)
    assert (busy, loop.busy, moved) == ([1, -1], 0, [])
