"""An event loop beside a thread: what it asks of the host runs in that thread, and an interrupt leaves no pieces."""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import Any

import pytest

from runops.core.polling.side_loop import SideLoop


class Struck(BaseException):
    """What a host raises wherever its thread stands."""


def test_what_the_loop_asks_for_is_done_in_the_threads_own_order_and_the_result_comes_back() -> None:
    seen: list[tuple[str, int]] = []

    def act(name: str) -> str:
        seen.append((name, threading.get_ident()))
        return name.upper()

    async def work(beside: SideLoop[list[str]]) -> list[str]:
        assert threading.current_thread() is not threading.main_thread()
        return list(await asyncio.gather(*(beside.in_caller(lambda name=name: act(name)) for name in "abc")))

    assert SideLoop(work, lambda: None).run() == ["A", "B", "C"]
    assert seen == [(name, threading.main_thread().ident) for name in "abc"]


def test_an_error_goes_to_whoever_asked_and_then_to_the_caller() -> None:
    async def work(beside: SideLoop[None]) -> None:
        def fail() -> None:
            raise LookupError("the host says no")

        await beside.in_caller(fail)

    with pytest.raises(LookupError, match="the host says no"):
        SideLoop(work, lambda: None).run()


def test_an_interrupt_lets_the_work_end_by_itself_and_serves_it_until_then() -> None:
    stopped = asyncio.Event()
    done: list[str] = []

    async def work(beside: SideLoop[None]) -> None:
        await stopped.wait()
        done.append(await beside.in_caller(lambda: "written down"))

    def strike(*_: Any) -> None:
        raise Struck("time is over")

    before = signal.signal(signal.SIGALRM, strike)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(Struck):
            SideLoop(work, stopped.set).run()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert done == ["written down"]


def test_work_that_does_not_end_when_it_is_told_to_holds_its_caller_for_a_bounded_time() -> None:
    def strike(*_: Any) -> None:
        raise Struck("time is over")

    before = signal.signal(signal.SIGALRM, strike)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(Struck):
            SideLoop(lambda _: asyncio.sleep(3), lambda: None, patience=0.1).run()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_an_interrupt_that_was_held_back_is_heard_between_two_requests_and_ends_the_work() -> None:
    stopped = asyncio.Event()
    came: list[str] = []

    def let_through() -> None:
        if came:
            raise Struck(came.pop())

    async def work(beside: SideLoop[None]) -> None:
        await beside.in_caller(lambda: came.append("terminate"))
        await stopped.wait()

    with pytest.raises(Struck, match="terminate"):
        SideLoop(work, stopped.set, let_through=let_through).run()
    assert stopped.is_set()


def test_what_nobody_waits_for_is_done_in_the_callers_thread_and_its_error_ends_nothing() -> None:
    seen: list[int | None] = []

    def fail() -> None:
        seen.append(threading.get_ident())
        raise LookupError

    async def work(beside: SideLoop[str]) -> str:
        beside.soon_in_caller(fail)
        return "done"

    assert SideLoop(work, lambda: None).run() == "done"
    assert seen == [threading.main_thread().ident]
