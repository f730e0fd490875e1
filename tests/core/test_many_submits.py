"""The submits of a set: how many at once, under which marks, and for how long a lost one is looked for."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import httpx
import pytest

from runops.core import Outcome
from runops.core.client.many_submits import GATHER
from runops.core.many.rows import Row, RowState
from runops.core.waiting.intent import submitter, submitter_of_mark
from tests import simulated_time
from tests.many import Attempt, Dead, World, arguments
from tests.simulated_time import BEGAN, wall_clock


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    simulated_time.run(scenario())


def world(provider: str, count: int, *, parent: str | None = None, **rules: Any) -> World:
    return World(provider, [arguments(provider, number, parent=parent) for number in range(count)], **rules)


def rows_of(attempt: Attempt) -> list[Row]:
    assert attempt.ledger is not None
    return list(attempt.ledger)


def named(attempt: Attempt) -> list[str]:
    """The names that go out with each POST from now on: a mark stands at their end."""
    names: list[str] = []

    async def note(request: httpx.Request) -> None:
        names.append(json.loads(request.content)["name"])

    attempt.before_post = note
    return names


@pytest.mark.long
@pytest.mark.parametrize(("provider", "most"), [("nyx", 16), ("b3os", 1)])
def test_so_many_posts_are_under_way_as_their_marks_allow(provider: str, most: int) -> None:
    async def scenario() -> None:
        of = world(provider, 18, max_active=18)
        attempt = Attempt(of)
        under_way: list[int] = []
        now = 0

        async def hold(request: httpx.Request) -> None:
            nonlocal now
            now += 1
            under_way.append(now)
            await asyncio.sleep(1.0)
            now -= 1

        attempt.before_post = hold
        later = asyncio.get_running_loop().call_later
        await attempt.run(retry=True, at_set=lambda made: later(40 / most + 1, lambda: made.stop(cancel=False)))
        assert len(under_way) == 18
        assert max(under_way) == most

    run(scenario)


@pytest.mark.parametrize("provider", ["nyx", "b3os"])
def test_records_of_marked_submits_are_written_together_before_their_posts(provider: str) -> None:
    async def scenario() -> None:
        of = world(provider, 3)
        attempt = Attempt(of)
        posts: list[tuple[float, int]] = []

        async def note(request: httpx.Request) -> None:
            posts.append((wall_clock() - BEGAN, len(of.writes)))

        attempt.before_post = note
        await attempt.run(retry=True)
        if provider == "nyx":
            # One write at the next of the moments that all wait for, and nothing goes out before it.
            assert [writes for _, writes in posts] == [1, 1, 1]
            assert all(GATHER <= moment < 2 * GATHER for moment, _ in posts)
        else:
            assert posts[0][0] < GATHER
            assert [writes for _, writes in posts] == sorted({writes for _, writes in posts})

    run(scenario)


def test_the_mark_of_a_row_says_whose_it_is_by_its_task_and_its_call() -> None:
    async def submitters(identity: str | None) -> tuple[set[str | None], list[Row]]:
        of = world("nyx", 3)
        of.submits["identity"] = identity
        attempt = Attempt(of)
        names = named(attempt)
        await attempt.run(retry=True)
        return {submitter_of_mark(name) for name in names}, rows_of(attempt)

    async def scenario() -> None:
        found, rows = await submitters("dag/run/a")
        assert found == {submitter(f"dag/run/a/{row.key}") for row in rows}
        assert len(found) == 3
        # Without a name they are nobody's in particular.
        nobody, _ = await submitters(None)
        again, _ = await submitters(None)
        assert len(nobody | again | found) == 9

    run(scenario)


@pytest.mark.parametrize("identity", ["dag/run/task", None])
def test_a_refused_submit_is_sent_again_under_its_mark(identity: str | None) -> None:
    async def scenario() -> None:
        of = world("nyx", 1, parent="theirs")
        of.submits["identity"] = identity
        of.emulator.create_run("nyx", parents={"config_name": "theirs"}, script="succeeded", seconds=50)
        attempt = Attempt(of)
        names = named(attempt)
        await attempt.run(retry=True)
        assert rows_of(attempt)[0].outcome is Outcome.SUCCEEDED
        assert len(names) == 2
        assert names[0] == names[1]
        assert names[0].endswith("]")

    run(scenario)


def test_a_run_that_is_attached_to_is_named(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "runops")

    async def scenario() -> None:
        of = world("nyx", 1, parent="theirs")
        of.on_conflict = "attach"
        theirs = of.emulator.create_run("nyx", parents={"config_name": "theirs"}, script="succeeded", seconds=50)
        attempt = await of.attempt()
        (row,) = rows_of(attempt)
        assert (row.run_id, row.attached, row.submitted_at) == (theirs, True, None)
        text = f"nyx run {theirs} is active there already, and is waited for as if it were given."
        assert [record.getMessage() for record in caplog.records].count(text) == 1

    run(scenario)


@pytest.mark.parametrize(("pause", "least", "most"), [(0.0, 90, 150), (60.0, 30, 89), (1000.0, 0, 29)])
def test_a_lost_submit_is_looked_for_as_long_as_its_grace_from_when_it_was_sent(
    pause: float, least: float, most: float
) -> None:
    async def scenario() -> None:
        of = world("b3os", 1)
        of.submits["grace"] = 100.0
        first = Attempt(of)

        async def die(request: httpx.Request) -> None:
            first.dead = True
            raise Dead

        first.before_post = die
        await first.run(retry=True)
        assert of.rows()[0].state is RowState.SUBMITTING
        await asyncio.sleep(pause)
        began = wall_clock()
        again = await of.attempt()
        assert least <= wall_clock() - began <= most
        assert (rows_of(again)[0].state, again.posts) == (RowState.UNCLEAR, 0)

    run(scenario)
