"""One write for all that has changed: who waits for which, what a failure and a cancel do."""

from __future__ import annotations

import asyncio

import pytest

from runops.core.client.group_commit import AGAIN, GroupCommit
from runops.core.many.ledger import Changes, Ledger
from tests import simulated_time


class Disk:
    """A slow store."""

    def __init__(self) -> None:
        self.writes: list[list[int]] = []
        self.broken = 0

    async def __call__(self, changes: Changes) -> None:
        await asyncio.sleep(1)
        if self.broken:
            self.broken -= 1
            raise OSError("no space left")
        self.writes.append(sorted(changes.indices))


def made() -> tuple[Ledger, Disk, GroupCommit]:
    ledger, disk = Ledger.plan(map(str, range(10))), Disk()
    return ledger, disk, GroupCommit(ledger, disk, lambda: None)


def test_what_changes_while_a_write_is_under_way_shares_the_next_one() -> None:
    async def main() -> None:
        ledger, disk, commit = made()

        async def change(index: int, at: float) -> float:
            await asyncio.sleep(at)
            commit.put(ledger[index].spending(1.0))
            await commit.flush()
            assert any(index in write for write in disk.writes)
            return asyncio.get_running_loop().time()

        ends = await asyncio.gather(*(change(index, 0.1 * index) for index in range(10)))
        assert disk.writes == [[0], [1, 2, 3, 4, 5, 6, 7, 8, 9]]
        assert max(ends) < 2.1

    simulated_time.run(main())


def test_who_is_cancelled_takes_no_write_from_others() -> None:
    async def main() -> None:
        ledger, disk, commit = made()
        commit.put(ledger[0].spending(1.0))
        first, second = (asyncio.get_running_loop().create_task(commit.flush()) for _ in range(2))
        await asyncio.sleep(0.5)
        first.cancel()
        await second
        assert disk.writes == [[0]]
        assert first.cancelled()

    simulated_time.run(main())


def test_a_write_that_fails_is_told_to_all_who_wait_and_is_part_of_the_next() -> None:
    async def main() -> None:
        ledger, disk, commit = made()
        disk.broken = 1
        commit.put(ledger[0].spending(1.0))
        results = await asyncio.gather(commit.flush(), commit.flush(), return_exceptions=True)
        assert [type(result) for result in results] == [OSError, OSError]
        commit.put(ledger[1].spending(1.0))
        await commit.flush()
        assert disk.writes == [[0, 1]]

    simulated_time.run(main())


def test_what_nobody_waits_for_is_written_soon_and_again_after_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        ledger, disk, commit = made()
        disk.broken = 2
        commit.put(ledger[0].spending(1.0))
        await asyncio.sleep(2.5)
        assert disk.writes == []
        commit.put(ledger[1].spending(1.0))
        await asyncio.sleep(2 * AGAIN + 5)
        assert disk.writes == [[0, 1]]
        await commit.close()
        assert disk.writes == [[0, 1]]

    simulated_time.run(main())
    told = [record.getMessage() for record in caplog.records if "could not be written" in record.getMessage()]
    assert len(told) == 1
    assert "OSError" in told[0]


def test_where_nothing_is_kept_nobody_waits() -> None:
    async def main() -> None:
        ledger = Ledger.plan("a")
        commit = GroupCommit(ledger, None, lambda: None)
        commit.put(ledger[0].spending(1.0))
        await commit.flush()
        await commit.close()

    simulated_time.run(main())
