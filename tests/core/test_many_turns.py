"""Turns in a set of runs: what a refused submit waits for, for how long, and who takes the place meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from itertools import pairwise
from typing import Any, TypeVar

import pytest

from runops.core import Outcome
from runops.core.client.many_plan import End
from runops.core.many.rows import Row
from tests import simulated_time
from tests.many import Attempt, World, arguments
from tests.simulated_time import wall_clock

T = TypeVar("T")
LASTS = 200.0
"""How long each run of the set lasts, in seconds."""


def run(scenario: Callable[[], Coroutine[Any, Any, T]]) -> T:
    return simulated_time.run(scenario())


def world(scripts: list[str], parents: list[str], **rules: Any) -> World:
    calls = [arguments("nyx", number, script, parent=parents[number]) for number, script in enumerate(scripts)]
    for call in calls:
        call["hints"].append(f"emulator:seconds={LASTS}")
    return World("nyx", calls, **rules)


def with_a_key_of_its_own(of: World) -> World:
    """What a service asks of a key holds for all its clients, and the next test has the same times."""
    of.client["token"] = f"key of {id(of)}"
    return of


def strangers(of: World, parent: str, seconds: float) -> None:
    of.emulator.create_run("nyx", parents={"config_name": parent}, script="succeeded", seconds=seconds)


def rows_of(attempt: Attempt) -> list[Row]:
    assert attempt.ledger is not None
    return list(attempt.ledger)


@pytest.mark.parametrize(("retry_after", "least"), [(None, 0), (97, 97)])
def test_a_refused_submit_comes_back_no_sooner_than_the_service_asks(retry_after: float | None, least: float) -> None:
    async def scenario() -> None:
        of = with_a_key_of_its_own(world(["succeeded"], ["a"]))
        of.emulator.add_fault(kind="status", status=409, provider="nyx", action="submit", retry_after=retry_after)
        attempt = await of.attempt()
        first, second = (entry["time"] for entry in of.requests("submit"))
        # The service's pause holds for the looks before the second one, too.
        assert least <= second - first < 2 * least + 60
        assert rows_of(attempt)[0].outcome is Outcome.SUCCEEDED

    run(scenario)


def test_a_pause_that_the_service_asks_for_ends_with_the_wait_for_a_turn() -> None:
    async def scenario() -> None:
        of = with_a_key_of_its_own(world(["succeeded"], ["a"]))
        of.wait["timeout"] = 50
        of.emulator.add_fault(kind="status", status=409, provider="nyx", action="submit", retry_after=5_000, count=None)
        await of.attempt()
        assert wall_clock() - of.began < 120
        assert of.started == []

    run(scenario)


def test_a_row_whose_turn_has_come_waits_for_a_place_too() -> None:
    async def scenario() -> None:
        of = world(["succeeded"] * 3, ["theirs", "a", "b"], max_active=1)
        strangers(of, "theirs", LASTS / 2)
        attempt = await of.attempt()
        assert attempt.end is End.ALL
        assert {row.outcome for row in rows_of(attempt)} == {Outcome.SUCCEEDED}
        begun = sorted(run["created"] for run in of.started)
        # One after the other, although the stranger is gone before the second begins.
        assert all(after - before > LASTS - 1 for before, after in pairwise(begun))
        assert [run["parents"]["config_name"] for run in of.started] == ["a", "theirs", "b"]

    run(scenario)


def test_a_row_that_finds_no_place_before_its_time_is_over_is_not_submitted() -> None:
    async def scenario() -> None:
        of = world(["succeeded", "forever"], ["theirs", "a"], max_active=1)
        of.wait["timeout"] = 300
        strangers(of, "theirs", LASTS / 2)
        attempt = await of.attempt()
        waiting, running = rows_of(attempt)
        assert (waiting.run_id, running.outcome) == (None, Outcome.TIMED_OUT)
        assert len(of.started) == 1
        assert 300 <= wall_clock() - of.began < 400

    run(scenario)
