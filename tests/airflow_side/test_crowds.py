"""Many triggers that begin at once: one read of their connection, and no round of the loop that serves all of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from runops.airflow import crowds


class Read:
    """A read that takes until it is let go on."""

    def __init__(self) -> None:
        self.begun = self.cancelled = 0
        self.answer = asyncio.Event()

    async def __call__(self) -> int:
        self.begun += 1
        mine = self.begun
        try:
            await self.answer.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return mine


async def started(read: Read, count: int) -> list[asyncio.Task[Any]]:
    tasks = [asyncio.create_task(crowds.shared("c", read)) for _ in range(count)]
    await asyncio.sleep(0.01)
    return tasks


def test_all_that_ask_at_the_same_moment_share_one_read_and_who_comes_later_begins_another() -> None:
    async def story() -> None:
        read = Read()
        tasks = await started(read, 50)
        read.answer.set()
        assert set(await asyncio.gather(*tasks)) == {1}
        assert await crowds.shared("c", read) == 2

    asyncio.run(story())


def test_a_read_that_lasts_serves_nobody_who_comes_after_its_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowds, "SAME_MOMENT", 0.0)

    async def story() -> None:
        read = Read()
        tasks = [*await started(read, 1), *await started(read, 1)]
        read.answer.set()
        assert await asyncio.gather(*tasks) == [1, 2]

    asyncio.run(story())


def test_who_is_cancelled_leaves_the_read_to_the_others_and_the_last_one_ends_it() -> None:
    async def story() -> None:
        read = Read()
        first, second = await started(read, 2)
        first.cancel()
        await asyncio.sleep(0.01)
        assert read.cancelled == 0
        second.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        await asyncio.sleep(0.01)
        assert read.cancelled == 1
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(story())


def test_an_error_of_the_read_is_that_of_all() -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise LookupError("no such connection")

    async def story() -> None:
        ends = await asyncio.gather(*(crowds.shared("c", fails) for _ in range(3)), return_exceptions=True)
        assert [type(end) for end in ends] == [LookupError] * 3

    asyncio.run(story())


def test_each_of_a_crowd_comes_back_in_a_round_of_its_own() -> None:
    async def story() -> None:
        round_of_loop, came_in = 0, []

        async def come() -> None:
            await crowds.own_round()
            came_in.append(round_of_loop)

        tasks = [asyncio.create_task(come()) for _ in range(20)]
        while not all(task.done() for task in tasks):
            round_of_loop += 1
            await asyncio.sleep(0)
        assert len(set(came_in)) == 20

    asyncio.run(story())
