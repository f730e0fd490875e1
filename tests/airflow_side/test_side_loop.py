"""An event loop beside a task: what it asks of Airflow runs in the task's thread, and an interrupt leaves no pieces."""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import Any

import pytest

from runops.airflow._compat import AirflowTaskTimeout
from runops.airflow.hook import RunHook
from runops.airflow.side_loop import SideLoop


def test_what_the_loop_asks_for_is_done_in_the_threads_own_order_and_the_result_comes_back() -> None:
    seen: list[tuple[str, int]] = []

    def act(name: str) -> str:
        seen.append((name, threading.get_ident()))
        return name.upper()

    async def work(beside: SideLoop[list[str]]) -> list[str]:
        assert threading.current_thread() is not threading.main_thread()
        return list(await asyncio.gather(*(beside.in_task(lambda name=name: act(name)) for name in "abc")))

    assert SideLoop(work, lambda: None).run() == ["A", "B", "C"]
    assert seen == [(name, threading.main_thread().ident) for name in "abc"]


def test_an_error_goes_to_whoever_asked_and_then_to_the_task() -> None:
    async def work(beside: SideLoop[None]) -> None:
        def fail() -> None:
            raise LookupError("Airflow says no")

        await beside.in_task(fail)

    with pytest.raises(LookupError, match="Airflow says no"):
        SideLoop(work, lambda: None).run()


def test_an_execution_timeout_lets_the_work_end_by_itself_and_serves_it_until_then() -> None:
    told = asyncio.Event()
    done: list[str] = []

    async def work(beside: SideLoop[None]) -> None:
        await told.wait()
        done.append(await beside.in_task(lambda: "written down"))

    def strike(*_: Any) -> None:
        raise AirflowTaskTimeout("time is over")

    before = signal.signal(signal.SIGALRM, strike)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(AirflowTaskTimeout):
            SideLoop(work, told.set).run()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert done == ["written down"]


def test_work_that_does_not_end_when_it_is_told_to_holds_the_task_for_a_bounded_time() -> None:
    def strike(*_: Any) -> None:
        raise AirflowTaskTimeout("time is over")

    before = signal.signal(signal.SIGALRM, strike)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(AirflowTaskTimeout):
            SideLoop(lambda _: asyncio.sleep(3), lambda: None, patience=0.1).run()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_client_beside_a_task_reads_its_connection_in_the_tasks_thread(key: str) -> None:
    hook = RunHook(provider="nexio")

    async def work(beside: SideLoop[bool]) -> bool:
        async with await hook.async_client(ask=beside.in_task) as client:
            return client.provider.name == "nexio" and key not in repr(client)

    assert SideLoop(work, lambda: None).run()
