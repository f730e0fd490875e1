"""A limit that holds over processes: what each of them decides, over a simulated clock and a store in memory."""

from __future__ import annotations

import heapq
import random
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable
from itertools import count, pairwise

import pytest

from runops.core.model.errors import ConfigurationError
from runops.core.model.shared_rate import (
    AHEAD,
    ANSWER_SECONDS,
    FIRST_ANSWER_SECONDS,
    LATE,
    RETRY_SECONDS,
    RETRY_SPREAD,
    Question,
    Reply,
    SharedRate,
)
from tests.rate_line import Line

LIMIT = 1000
START = 1_700_000_000.0


class World:
    """Processes that send as the clients do, over one simulated clock."""

    def __init__(self, seed: int = 1) -> None:
        self.now = START
        self.random = random.Random(seed)
        self.line = Line(lambda: self.now)
        self.sent: list[float] = []
        self.by: dict[str, list[float]] = defaultdict(list)
        self.delays: dict[str, list[float]] = defaultdict(list)
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._number = count()
        self._waiting: dict[int, list[Callable[[], None]]] = defaultdict(list)

    def at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (when, next(self._number), what))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._heap and self._heap[0][0] <= end:
            self.now, _, what = heapq.heappop(self._heap)
            what()
        self.now = end

    def ask(self, rate: SharedRate, wanted: int, then: Callable[[], None]) -> None:
        """As the budget of a session does, without its thread: whoever asks hears when there is an answer."""
        if rate.is_overdue(self.now):
            rate.lost(None, self.now)
        question = rate.question(self.now, wanted)
        if rate.is_asking and then not in self._waiting[id(rate)]:
            self._waiting[id(rate)].append(then)
        if question is None:
            return
        to, back = self.random.uniform(0.0002, 0.003), self.random.uniform(0.0002, 0.003)

        def arrive() -> None:
            try:
                reply: Reply | None = self.line("key", question)
            except ConnectionError:
                reply = None
            self.at(self.now + back, lambda: answer(reply))

        def answer(reply: Reply | None) -> None:
            if reply is None:
                rate.lost(question, self.now)
            else:
                rate.replied(question, reply, self.now)
            for wake in self._waiting.pop(id(rate), []):
                wake()

        self.at(self.now + to, arrive)

    def send(self, name: str, since: float) -> None:
        self.sent.append(self.now)
        self.by[name].append(self.now)
        self.delays[name].append(self.now - since)

    def poller(self, name: str, waits: int, interval: float, processes: int, *, limit: int = LIMIT) -> SharedRate:
        """Like a triggerer: many waits, one line, places fetched ahead; it looks at its line each 50 ms."""
        rate = SharedRate(limit, processes, chance=self.random.random)
        line: list[float] = []

        def due(when: float) -> None:
            line.append(when)

        def plan(first: float) -> None:
            self.at(first, lambda: due(self.now))

        for _ in range(waits):
            plan(self.now + self.random.uniform(0, interval))

        def go_on() -> None:
            while line:
                held = rate.delay(self.now)
                self.ask(rate, len(line) if held <= AHEAD or rate.is_alone else 0, go_on)
                if held > 0 or not rate.knows_place(self.now):
                    break
                rate.reserve(self.now, lateness=0.1)
                self.send(name, line.pop(0))
                plan(self.now + interval)

        def tick() -> None:
            go_on()
            self.at(self.now + 0.05, tick)

        self.at(self.now + self.random.uniform(0, 0.05), tick)
        return rate

    def step(self, name: str, interval: float, processes: int) -> SharedRate:
        """Like a Dagster step: one wait, which asks for a place and sleeps until it comes."""
        rate = SharedRate(LIMIT, processes, chance=self.random.random)

        def begin() -> None:
            look(self.now)

        def look(since: float) -> None:
            answered: list[bool] = []
            self.ask(rate, 1, lambda: look_again(answered, since))
            if rate.knows_place(self.now):
                answered.append(True)
                if rate.ask_in(self.now):
                    self.at(self.now + rate.ask_in(self.now), lambda: look(since))
                else:
                    self.at(self.now + rate.reserve(self.now), lambda: leave(since))

        def look_again(answered: list[bool], since: float) -> None:
            if not answered:
                answered.append(True)
                look(since)

        def leave(since: float) -> None:
            self.send(name, since)
            self.at(self.now + interval, begin)

        self.at(self.now + self.random.uniform(0, interval), begin)
        return rate


@pytest.mark.parametrize("flushed", [True, False], ids=["empty when it is back", "as it was when it is back"])
@pytest.mark.parametrize("seed", range(4))
def test_nobody_relies_on_a_store_that_is_back_before_all_know_of_it(seed: int, flushed: bool) -> None:
    """Three that send as much as they may: the first to find the store again must not take the whole limit."""
    world = World(seed)
    rates = [world.poller(f"triggerer {number}", 1000, 30.0, 3) for number in range(3)]
    world.at(START + 70, lambda: setattr(world.line, "is_up", False))

    def come() -> None:
        world.line.is_up = True
        if flushed:
            world.line.flush()

    world.at(START + 100, come)
    world.run(125)
    assert not any(rate.is_alone for rate in rates)
    world.run(35)
    assert most_in_a_minute([moment for moment in world.sent if moment > START + 80]) <= 0.98 * LIMIT + 3


@pytest.mark.parametrize("interval", [1.0, 9.0, 30.0])
@pytest.mark.parametrize("many", [1, 4])
def test_who_seldom_looks_shares_again_after_a_look_or_two(interval: float, many: int) -> None:
    world = World()
    rates = [world.step(f"step {number}", interval, 4) for number in range(many)]
    world.at(START + 40, lambda: setattr(world.line, "is_up", False))
    world.at(START + 80, lambda: setattr(world.line, "is_up", True))
    world.run(80)
    assert all(rate.is_alone for rate in rates)
    world.run(2 * interval + 20)
    assert not any(rate.is_alone for rate in rates)
    assert max(b - a for seen in world.by.values() for a, b in pairwise(seen)) < interval + 4


@pytest.mark.long
@pytest.mark.parametrize(("limit", "most"), [(1000, 5), (60_000, 16)])
def test_ten_thousand_waits_ask_the_store_a_few_times_a_second(limit: int, most: int) -> None:
    world = World()
    world.poller("triggerer", 10_000, 30.0, 1, limit=limit)
    world.run(60)
    assert len(world.sent) > 0.9 * 60 * min(limit / 60, 10_000 / 30)
    assert world.line.questions < most * 60


def most_in_a_minute(moments: list[float]) -> int:
    moments = sorted(moments)
    return max(bisect_right(moments, moment + 60.0 - 1e-9) - index for index, moment in enumerate(moments))


def crowded(seed: int) -> World:
    """Three triggerers with a thousand waits each and fifty steps, on one limit."""
    world = World(seed)
    for number in range(3):
        world.poller(f"triggerer {number}", 1000, 30.0, 53)
    for number in range(50):
        world.step(f"step {number}", 5.0, 53)
    return world


@pytest.mark.parametrize("seed", range(3))
def test_fifty_three_processes_keep_together_to_one_limit_and_each_gets_its_turns(seed: int) -> None:
    world = crowded(seed)
    world.run(180)
    assert most_in_a_minute(world.sent) <= LIMIT
    assert len([moment for moment in world.sent if moment > START + 60]) >= 0.95 * LIMIT * 2
    longest = {name: max(delays) for name, delays in world.delays.items() if name.startswith("step")}
    assert len(longest) == 50
    assert max(longest.values()) < 8
    triggerers = [len(world.by[f"triggerer {number}"]) for number in range(3)]
    assert min(triggerers) > 0.8 * max(triggerers)


@pytest.mark.long
@pytest.mark.parametrize("flushed", [True, False], ids=["empty when it is back", "as it was when it is back"])
@pytest.mark.parametrize("down", [0.3, 2.0, 20.0, 90.0])
@pytest.mark.parametrize("seed", range(2))
def test_no_minute_has_more_while_the_store_is_lost_and_comes_back(seed: int, down: float, flushed: bool) -> None:
    world = crowded(seed)

    def go() -> None:
        world.line.is_up = False

    def come() -> None:
        world.line.is_up = True
        if flushed:
            world.line.flush()

    world.at(START + 70.5, go)
    world.at(START + 70.5 + down, come)
    world.run(260)
    assert most_in_a_minute(world.sent) <= LIMIT * 1.02
    late = [moment for moment in world.sent if moment > START + 70.5 + down + 30]
    assert len(late) > 0.9 * LIMIT / 60 * (world.now - START - 70.5 - down - 30)


@pytest.mark.parametrize("seed", range(3))
def test_a_store_that_forgets_everything_while_nobody_notices_gives_no_moment_away_twice(seed: int) -> None:
    world = crowded(seed)
    world.at(START + 70.5, world.line.flush)
    world.run(150)
    assert most_in_a_minute(world.sent) <= LIMIT


def test_a_clock_of_the_store_that_is_set_back_stops_nobody() -> None:
    world, back = World(), [0.0]
    world.line.clock = lambda: world.now - back[0]
    world.poller("triggerer", 500, 10.0, 1)
    world.at(START + 30, lambda: back.__setitem__(0, 3600.0))
    world.run(60)
    assert len([moment for moment in world.sent if moment > START + 31]) > 0.9 * 29 * LIMIT / 60
    assert most_in_a_minute(world.sent) <= LIMIT


# --- one process ---


def reply(places: int = 1, wait: float = 0.0, **more: float) -> Reply:
    given: dict[str, float] = {"ahead": wait, "settle": 0.0, "pause": 0.0, **more}
    return Reply(places, wait, born=7, **given)


def asked(rate: SharedRate, now: float = START, wanted: int = 1) -> Question:
    question = rate.question(now, wanted)
    assert question is not None
    return question


def test_a_place_is_used_at_its_moment_or_never() -> None:
    rate = SharedRate(60)
    assert not rate.knows_place(START)
    rate.replied(asked(rate), reply(wait=2.0), START)
    assert rate.knows_place(START)
    assert rate.delay(START) == pytest.approx(2.0)
    assert rate.knows_place(START + 2.0 + LATE - 0.01)
    assert not rate.knows_place(START + 2.0 + LATE + 0.01)


def test_nobody_asks_again_before_its_places_are_nearly_used() -> None:
    rate = SharedRate(1000)
    assert asked(rate, wanted=100).places == 4
    assert rate.question(START, 100) is None
    question = rate._pending
    assert question is not None
    rate.replied(question, reply(4, wait=3.0), START)
    assert rate.question(START + 2.0, 100) is None
    assert rate.question(START + 3.0, 2) is None
    assert asked(rate, START + 3.0, 100).places == 4


def test_an_answer_that_came_too_late_to_rely_on_is_not_used() -> None:
    rate = SharedRate(60, 2, chance=lambda: 0.5)
    first = asked(rate)
    assert not rate.is_overdue(START + FIRST_ANSWER_SECONDS - 0.01)
    assert rate.is_overdue(START + FIRST_ANSWER_SECONDS)
    rate.replied(first, reply(0), START)
    question = asked(rate)
    assert not rate.is_overdue(START + ANSWER_SECONDS - 0.01)
    assert rate.is_overdue(START + ANSWER_SECONDS)
    assert rate.lost(None, START + ANSWER_SECONDS)
    assert not rate.replied(question, reply(), START + ANSWER_SECONDS + 0.1)
    assert rate.is_alone
    assert not rate.lost(question, START + ANSWER_SECONDS + 0.2)


def test_on_loss_a_process_waits_until_the_places_of_all_are_over_and_begins_within_its_spacing() -> None:
    rate = SharedRate(60, 10, chance=lambda: 0.5)
    rate.replied(asked(rate), reply(wait=1.0, ahead=4.0), START)
    rate.reserve(START + 1.0)
    question = asked(rate, START + 1.0)
    assert rate.lost(question, START + 1.5)
    share = 10 / (0.98 * 1.0)
    assert rate.delay(START + 1.5) == pytest.approx(4.0 + 0.5 * share)
    # It is asked again before that.
    retry = RETRY_SECONDS * (1 + RETRY_SPREAD * 0.5)
    assert rate.ask_in(START + 1.5) == pytest.approx(retry)
    assert rate.question(START + 1.5 + retry - 0.01, 1) is None
    assert asked(rate, START + 1.5 + retry).lost == pytest.approx(retry)
    assert not rate.knows_place(START + 1.5 + retry)


def test_while_the_store_settles_everybody_keeps_to_its_share_and_then_nobody_does() -> None:
    rate = SharedRate(60_000, 2, chance=lambda: 0.0)
    rate.lost(asked(rate), START)
    question = asked(rate, START + 6.0)
    assert not rate.replied(question, reply(0, settle=3.0), START + 6.0)
    assert rate.is_alone
    assert rate.knows_place(START + 8.9)
    assert rate.delay(START + 8.9) == 0.0
    assert not rate.knows_place(START + 9.0)
    assert rate.replied(asked(rate, START + 9.0), reply(), START + 9.0)
    assert not rate.is_alone


def test_a_pause_is_told_once_and_holds_where_another_process_was_asked_for_it() -> None:
    first, second = SharedRate(600), SharedRate(600)
    for rate in (first, second):
        rate.replied(asked(rate), reply(1, wait=0.1), START)
    first.hold(START + 30)
    told = asked(first, START + 0.1, 0)
    assert (told.places, told.pause) == (0, pytest.approx(29.9))
    first.replied(told, reply(0, wait=29.9, pause=29.9), START + 0.1)
    assert first.question(START + 0.2, 0) is None
    second.reserve(START + 0.1)
    second.replied(asked(second, START + 0.2), reply(1, wait=29.8, pause=29.8), START + 0.2)
    assert second.delay(START + 0.2) == pytest.approx(29.8)
    assert first.delay(START + 0.2) == pytest.approx(29.8)


def test_a_request_that_left_without_a_place_is_paid_for() -> None:
    rate = SharedRate(1000)
    rate.reserve(START)
    question = asked(rate)
    assert question.places == 2
    rate.replied(question, reply(2, wait=1.0), START)
    assert rate.delay(START) == pytest.approx(1.0 + question.spacing)


def test_a_clock_that_is_set_back_lengthens_nothing() -> None:
    rate = SharedRate(60, 3, chance=lambda: 0.0)
    rate.replied(asked(rate), reply(wait=2.0), START)
    assert rate.delay(START) == pytest.approx(2.0)
    assert rate.delay(START - 3600) == pytest.approx(2.0)
    rate.reserve(START - 3598)
    rate.lost(asked(rate, START - 3598), START - 3598)
    assert rate.ask_in(START - 3598) <= RETRY_SECONDS
    assert rate.delay(START - 7000) < 10
    assert rate.ask_in(START - 7000) <= RETRY_SECONDS


def test_a_process_that_was_forked_has_no_places_of_the_other() -> None:
    rate = SharedRate(1000)
    rate.replied(asked(rate), reply(3), START)
    asked(rate, START, 10)
    rate.forget_places()
    assert not rate.knows_place(START)
    assert not rate.is_asking


@pytest.mark.parametrize("limit", [0, -5])
def test_a_limit_that_is_none_is_refused(limit: float) -> None:
    with pytest.raises(ConfigurationError, match="requests_per_minute"):
        SharedRate(limit)
