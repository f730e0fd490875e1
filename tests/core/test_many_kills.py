"""A set of runs whose process dies at any moment: the next one goes on, each run is submitted once; none is lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from runops.core import Outcome
from runops.core.many.rows import Row, RowState
from tests import simulated_time
from tests.many import Attempt, World, arguments

SCRIPTS = {"nyx": ("succeeded", "exhausted", "cancelled"), "b3os": ("succeeded", "cancelled"), "nexio": ("succeeded",)}
OUTCOMES = {
    "succeeded": Outcome.SUCCEEDED,
    "exhausted": Outcome.EXHAUSTED,
    "cancelled": Outcome.CANCELLED,
    "degraded": Outcome.DEGRADED,
}


def world(provider: str, count: int, **rules: Any) -> World:
    scripts = SCRIPTS[provider]
    calls = [arguments(provider, number, scripts[number % len(scripts)]) for number in range(count)]
    return World(provider, calls, **{"max_active": 5, **rules})


def number_of(run: dict[str, Any]) -> int:
    """Which call has started a run, by what the service was sent."""
    body = run["body"]
    inner = body.get("input") or body.get("payload")
    return int(inner["n"]) if inner else int(body["name"].split()[1])


def check_whole(of: World, last: Attempt) -> list[Row]:
    """What must be true in the end, whatever happened; the rows."""
    assert last.ledger is not None
    rows = list(last.ledger)
    started = {run["run_id"]: number_of(run) for run in of.started}
    # No call has started two runs, and no run stands in two rows or in that of another call.
    assert max(Counter(started.values()).values(), default=0) <= 1
    for row in rows:
        if row.run_id is not None:
            assert started[row.run_id] == row.index
    assert len({row.run_id for row in rows if row.run_id}) == sum(row.run_id is not None for row in rows)
    for row in rows:
        if row.state is RowState.ENDED:
            assert row.outcome is OUTCOMES[SCRIPTS[of.provider.name][row.index % len(SCRIPTS[of.provider.name])]]
    assert list(of.rows()) == rows
    return rows


def at_every_moment(scenario: Callable[[int], Coroutine[Any, Any, bool]], *, step: int = 1) -> int:
    """Play a scenario once for each moment at which the process may die, until it lives; how many those are.

    Looks are spread by chance, so two processes do not have the same moments.
    """
    at = 0
    while simulated_time.run(scenario(at)):
        at += step
        assert at < 1_000
    return at


def run(scenario: Coroutine[Any, Any, None]) -> None:
    simulated_time.run(scenario)


@pytest.mark.long
def test_killed_at_every_moment_a_set_of_marked_runs_submits_each_once_and_has_every_result() -> None:
    async def killed(at: int) -> bool:
        of = world("nyx", 12)
        if not (await of.attempt(at)).dead:
            return False
        rows = check_whole(of, await of.attempt())
        assert [row.state for row in rows] == [RowState.ENDED] * 12
        assert len(of.started) == 12
        # Nothing is left behind that no row knows.
        assert {run["run_id"] for run in of.started} == {row.run_id for row in rows}
        return True

    assert at_every_moment(killed) > 40


@pytest.mark.long
def test_killed_at_every_answer_to_a_read_a_set_loses_nothing() -> None:
    async def killed(at: int) -> bool:
        of = world("nyx", 3)
        first = Attempt(of, at)
        first.every_answer = True
        await first.run(retry=True)
        if not first.dead:
            return False
        rows = check_whole(of, await of.attempt())
        assert [row.state for row in rows] == [RowState.ENDED] * 3
        assert len(of.started) == 3
        return True

    assert at_every_moment(killed) > 20


@pytest.mark.long
@pytest.mark.parametrize("provider", ["b3os", "nexio"])
def test_killed_at_every_moment_a_set_of_runs_without_marks_leaves_one_at_most_that_nobody_can_tell(
    provider: str,
) -> None:
    unclear: Counter[int] = Counter()

    async def killed(at: int) -> bool:
        of = world(provider, 6)
        if not (await of.attempt(at)).dead:
            return False
        rows = check_whole(of, await of.attempt())
        lost = [row for row in rows if row.state is RowState.UNCLEAR]
        unclear[len(lost)] += 1
        assert [row for row in rows if row not in lost and row.state is not RowState.ENDED] == []
        unknown = {run["run_id"] for run in of.started} - {row.run_id for row in rows}
        assert len(unknown) <= len(lost) <= 1
        # The lost one is never sent again, by no later try either.
        again = await of.attempt()
        assert [row.state for row in again.ledger or ()] == [row.state for row in rows]
        assert again.posts == 0
        return True

    assert at_every_moment(killed) > 24
    # Only between the record and that of its answer is one lost: 4 of the moments of each submit.
    assert set(unclear) == {0, 1}
    assert unclear[1] <= 6 * 4


@pytest.mark.long
def test_who_takes_a_single_new_run_for_the_own_one_has_all_runs_after_a_kill_at_every_moment_of_an_answer() -> None:
    async def killed(at: int) -> bool:
        of = world("b3os", 6)
        of.submits["adopt_uncertain"] = True
        if not (await of.attempt(at)).dead:
            return False
        rows = check_whole(of, await of.attempt())
        lost = [row for row in rows if row.state is RowState.UNCLEAR]
        # What was never started is not found; what was is taken, and never another run of the same set.
        assert len(of.started) + len(lost) == 6
        return True

    assert at_every_moment(killed, step=2) > 24


@pytest.mark.long
@pytest.mark.parametrize("reached", [False, True])
def test_200_runs_killed_during_the_37th_post_are_200_submits(reached: bool) -> None:
    async def killed() -> None:
        of = world("nyx", 200, max_active=20)
        first = Attempt(of)

        def die(number: int) -> None:
            if number == 37:
                # After the record, and before or after the service has the request.
                first.kill_at = first.moments if reached else None
                first.dead = not reached

        first.at_post = die
        await first.run(retry=True)
        assert first.dead
        assert 36 <= len(of.started) <= 37 + 8
        last = await of.attempt()
        rows = check_whole(of, last)
        assert len(of.started) == 200
        assert {row.state for row in rows} == {RowState.ENDED}
        assert last.taken is not None
        assert last.taken.left == ()

    run(killed())


@pytest.mark.long
def test_a_process_that_dies_again_and_again_still_submits_each_run_once() -> None:
    async def killed(step: int) -> None:
        of = world("nyx", 12)
        tries = 0
        while (await of.attempt(step)).dead:
            tries += 1
            assert tries < 100
        rows = check_whole(of, await of.attempt())
        assert len(of.started) == 12
        assert {row.state for row in rows} == {RowState.ENDED}

    for step in (7, 8, 9, 13):
        run(killed(step))
