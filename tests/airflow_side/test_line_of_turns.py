"""The line of a triggerer before a parent: who looks, what those behind hear, and for whom a free place is held."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pytest_mock import MockerFixture

from runops.airflow import line as line_module
from runops.airflow.line import Line
from runops.core import ConflictError, find
from runops.core.waiting.turns import Standing, Turn
from tests.services import Clock

NOW = 1_700_000_000.0


def turn(since: float = 0.0, **fields: Any) -> Turn:
    return Turn(**{"parent": {"config_name": "nightly"}, "since": NOW + since, "until": NOW + 1e6, **fields})


class Client:
    """Stands for the client of each trigger: whoever is first looks, until a test lets the place be free."""

    provider = find("nyx")

    def __init__(self, mocker: MockerFixture) -> None:
        self.clock = Clock()
        self.clock.now = NOW
        self.looks: list[tuple[Turn, dict[str, Any]]] = []
        self.free = asyncio.Event()
        mocker.patch.object(line_module, "await_turn", self._flow)

    def _flow(self, provider: Any, turn: Turn, **given: Any) -> Any:
        assert provider is self.provider
        self.looks.append((turn, given))
        return turn

    async def drive(self, turn: Turn) -> Turn:
        await self.free.wait()
        return turn


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_those_of_one_parent_and_one_connection_stand_in_one_line_of_their_loop() -> None:
    async def lines() -> list[Line]:
        one = Line.before("nyx", "mine", turn())
        assert Line.before("nyx", "mine", turn(7)) is one
        others = [
            Line.before("b3os", "mine", turn()), Line.before("nyx", "other", turn()), Line.before("nyx", None, turn()),
            Line.before("nyx", "mine", turn(parent={"config_name": "weekly"})),
        ]  # fmt: skip
        assert len({one, *others}) == 5
        return [one]

    assert asyncio.run(lines()) != asyncio.run(lines())


def test_a_wait_ends_at_its_moment_and_keeps_its_own_deadline(mocker: MockerFixture) -> None:
    async def story() -> None:
        client: Any = Client(mocker)
        client.free.set()
        said: list[str] = []
        given = turn(mark="m", refusals=2)
        assert await Line().wait(client, given, ends=NOW + 9, tell=said.append) == given
        ((looked, settings),) = client.looks
        assert (looked.until, looked.mark, looked.refusals) == (NOW + 9, "m", 2)
        settings["tell"]("said")
        assert (settings["clock"], said) == (client.clock, ["said"])

    asyncio.run(story())


def test_the_one_that_has_waited_longest_looks_and_the_next_one_follows(mocker: MockerFixture) -> None:
    async def story() -> None:
        client: Any = Client(mocker)
        line, done = Line(), list[float]()

        async def task(since: float) -> None:
            done.append((await line.wait(client, turn(since), ends=NOW + 1e6, tell=lambda text: None)).since - NOW)

        tasks = [asyncio.create_task(task(since)) for since in (3.0, 1.0, 2.0, 1.0)]
        await settled()
        assert [looked.since - NOW for looked, _ in client.looks] == [3.0, 1.0]
        client.free.set()
        await asyncio.gather(*tasks)
        assert done == [1.0, 1.0, 2.0, 3.0]

    asyncio.run(story())


def test_those_behind_hear_once_of_each_run_that_is_in_the_way(mocker: MockerFixture) -> None:
    async def story() -> None:
        client: Any = Client(mocker)
        line, said, seen = Line(), list[str](), list[Turn]()
        first = asyncio.create_task(line.wait(client, turn(), ends=NOW + 1e6, tell=lambda text: None))
        await settled()
        behind = asyncio.create_task(
            line.wait(client, turn(1, refusals=4), ends=NOW + 1e6, tell=said.append, see=seen.append)
        )
        await settled()
        update = client.looks[0][1]["update"]
        for in_the_way in ("r1", "r1", "r2"):
            update(turn(in_the_way=in_the_way, state=f"state of {in_the_way}", refusals=9))
            await settled()
        assert [(each.in_the_way, each.state, each.refusals) for each in seen] == [
            ("r1", "state of r1", 0), ("r2", "state of r2", 0),
        ]  # fmt: skip
        assert [("r1" in text, "r2" in text) for text in said] == [(True, False), (False, True)]
        assert {each.since for each in seen} == {NOW + 1}
        for task in (first, behind):
            task.cancel()
        await asyncio.gather(first, behind, return_exceptions=True)

    asyncio.run(story())


def test_the_first_one_sees_what_it_has_seen_itself(mocker: MockerFixture) -> None:
    async def story() -> None:
        client: Any = Client(mocker)
        seen: list[Turn] = []
        client.free.set()
        line = Line()
        await line.wait(client, turn(), ends=NOW + 5, tell=lambda text: None, see=seen.append)
        await line.wait(client, turn(), ends=NOW + 5, tell=lambda text: None)
        for _, settings in client.looks:
            settings["update"](turn(in_the_way="r1"))
        assert [each.in_the_way for each in seen] == ["r1"]

    asyncio.run(story())


@pytest.mark.parametrize("left", [0.0, -5.0])
def test_who_stands_behind_ends_with_its_own_time(mocker: MockerFixture, left: float) -> None:
    async def story() -> None:
        client: Any = Client(mocker)
        line = Line()
        first = asyncio.create_task(line.wait(client, turn(), ends=NOW + 1e6, tell=lambda text: None))
        await settled()
        with pytest.raises(ConflictError, match="No turn came at Nyx"):
            await line.wait(client, turn(1), ends=NOW + left, tell=lambda text: None)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)

    asyncio.run(story())


# --- the place of who was woken -------------------------------------------------------------------------------------


def test_a_free_place_is_held_for_a_minute_for_the_one_that_was_woken(mocker: MockerFixture) -> None:
    async def story() -> None:
        client: Any = Client(mocker)
        client.free.set()
        line = Line()

        async def look(since: float) -> Any:
            await line.wait(client, turn(since), ends=NOW + 1e6, tell=lambda text: None)
            return client.looks[-1][1]["left_to_others"]

        held = await look(0)
        shown = Standing((), frozenset({"old"}))
        # The look of whoever was woken has shown nothing yet, so what it shows first is no news of its run.
        line._seen = shown.ids
        assert held(shown) == 60.0
        client.clock.now += 45
        assert held(shown) == 15.0
        client.clock.now += 20
        assert held(shown) == -5.0
        client.clock.now -= 20
        assert held(Standing((), frozenset({"old", "its run"}))) == 0.0
        assert held(Standing((), frozenset({"old", "its run"}))) == 0.0

    asyncio.run(story())


@pytest.mark.parametrize(("since", "holds"), [(0.0, 0.0), (1.0, 60.0)])
def test_one_that_was_woken_and_is_back_holds_no_place_any_more(
    mocker: MockerFixture, since: float, holds: float
) -> None:
    async def story() -> None:
        client: Any = Client(mocker)
        client.free.set()
        line = Line()
        await line.wait(client, turn(), ends=NOW + 1e6, tell=lambda text: None)
        client.free.clear()
        back = asyncio.create_task(line.wait(client, turn(since), ends=NOW + 1e6, tell=lambda text: None))
        await settled()
        assert client.looks[-1][1]["left_to_others"](Standing()) == holds
        back.cancel()
        await asyncio.gather(back, return_exceptions=True)

    asyncio.run(story())
