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


# --- when it is written ------------------------------------------------------------------------------------------


class Timed:
    """A store that takes no time, and keeps the moments of its writes; those of ``broken`` fail."""

    def __init__(self, *broken: bool) -> None:
        self.moments: list[tuple[float, list[int]]] = []
        self.tries: list[float] = []
        self.broken = iter(broken)
        self.changes = 0

    async def __call__(self, changes: Changes) -> None:
        now = round(asyncio.get_running_loop().time() - self.began, 2)
        self.tries.append(now)
        if next(self.broken, False):
            raise OSError("no space left")
        self.moments.append((now, sorted(changes.indices)))

    def commit(self) -> tuple[Ledger, GroupCommit]:
        self.began = asyncio.get_running_loop().time()
        ledger = Ledger.plan(map(str, range(10)))
        return ledger, GroupCommit(ledger, self, self.changed)

    def changed(self) -> None:
        self.changes += 1


@pytest.mark.parametrize(
    ("puts", "moments"),
    [
        ([(0, None)], [(3.0, [0])]),
        ([(0, 1.0)], [(1.0, [0])]),
        ([(0, 0.0)], [(0.0, [0])]),
        ([(0, 2.0), (1, 5.0)], [(2.0, [0, 1])]),
        ([(0, 5.0), (1, 2.0)], [(2.0, [0, 1])]),
        ([(0, 2.0), (1, 2.0)], [(2.0, [0, 1])]),
    ],
)
def test_a_change_is_written_as_soon_as_the_most_urgent_one_wants_it(
    puts: list[tuple[int, float | None]], moments: list[tuple[float, list[int]]]
) -> None:
    async def main() -> Timed:
        store = Timed()
        ledger, commit = store.commit()
        for index, seconds in puts:
            row = ledger[index].spending(1.0)
            commit.put(row) if seconds is None else commit.put(row, seconds)
        await asyncio.sleep(20)
        return store

    store = simulated_time.run(main())
    assert store.moments == moments
    assert store.changes == len(puts)


def test_a_row_that_is_the_same_is_neither_told_nor_written() -> None:
    async def main() -> Timed:
        store = Timed()
        ledger, commit = store.commit()
        commit.put(ledger[0])
        await asyncio.sleep(20)
        await commit.close()
        return store

    store = simulated_time.run(main())
    assert (store.changes, store.tries) == (0, [])


def test_a_later_change_has_a_time_of_its_own() -> None:
    async def main() -> Timed:
        store = Timed()
        ledger, commit = store.commit()
        commit.put(ledger[0].spending(1.0), 1.0)
        await asyncio.sleep(5)
        commit.put(ledger[1].spending(1.0), 1.0)
        await asyncio.sleep(5)
        return store

    assert simulated_time.run(main()).moments == [(1.0, [0]), (6.0, [1])]


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


WORDS = (
    "The record of this set of runs could not be written (OSError){}; a retry after a crash may not find all that it "
    "did."
)


def test_a_failed_write_is_tried_again_after_five_seconds_and_told_once_until_one_succeeds(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> Timed:
        store = Timed(True, True, False, True)
        ledger, commit = store.commit()
        commit.put(ledger[0].spending(1.0), 0.0)
        await asyncio.sleep(20)
        commit.put(ledger[1].spending(1.0), 0.0)
        await asyncio.sleep(20)
        return store

    store = simulated_time.run(main())
    assert store.tries == [0.0, 5.0, 10.0, 20.0, 25.0]
    assert store.moments == [(10.0, [0]), (25.0, [1])]
    assert lines(caplog) == [WORDS.format(" and is tried again")] * 2


@pytest.mark.parametrize(
    ("broken", "tries", "told"),
    [([], [0.0], 0), ([True], [0.0, 0.5], 0), ([True] * 2, [0.0, 0.5, 1.5], 0), ([True] * 3, [0.0, 0.5, 1.5], 1)],
)
def test_the_last_write_has_three_tries_and_a_failure_of_all_is_told_and_ends_nothing(
    caplog: pytest.LogCaptureFixture, broken: list[bool], tries: list[float], told: int
) -> None:
    async def main() -> Timed:
        store = Timed(*broken)
        ledger, commit = store.commit()
        commit.put(ledger[0].spending(1.0))
        await commit.close()
        await asyncio.sleep(20)
        return store

    store = simulated_time.run(main())
    assert store.tries == tries
    assert len(store.moments) == 1 - told
    assert lines(caplog) == [WORDS.format("")] * told
