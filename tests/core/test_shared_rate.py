"""A limit that holds over processes: what each of them decides, over a simulated clock and a store in memory."""

from __future__ import annotations

import heapq
import random
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable
from itertools import count

import pytest

from runops.core.model.shared_rate import (
    AHEAD,
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

    def poller(self, name: str, waits: int, interval: float, processes: int) -> SharedRate:
        """Like a triggerer: many waits, one line, places fetched ahead; it looks at its line each 50 ms."""
        rate = SharedRate(LIMIT, processes, chance=self.random.random)
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
    print(seed, down, flushed, most_in_a_minute(world.sent), len(world.sent))
    assert most_in_a_minute(world.sent) <= LIMIT * 1.02
    late = [moment for moment in world.sent if moment > START + 70.5 + down + 30]
    assert len(late) > 0.9 * LIMIT / 60 * (world.now - START - 70.5 - down - 30)
