"""How fast requests may leave and on how many connections, on clocks that the tests move."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from runops.core import AsyncRunClient, find
from runops.core.model.cadence import Cadence
from runops.core.polling import poller
from runops.core.polling.pace import (
    ALWAYS_ALLOWED,
    CATCH_UP,
    DEEPEST,
    FEWEST_CONNECTIONS,
    GROWTH,
    LONGEST_BEAT,
    MOST_CONNECTIONS,
    ON_TIME,
    OVERDUE,
    RECOVERY,
    SHORTEST_BEAT,
    SLOW_RISE,
    SLOWEST,
    SPARE,
    WINDOW_ANSWERS,
    WINDOW_SECONDS,
    WITHIN_LIMIT,
    Latency,
    Lateness,
    Pace,
    UnderWay,
)
from runops.core.waiting.options import WaitOptions
from tests import simulated_time
from tests.simulated_time import loop, until, wall_clock


class Clock:
    """Monotonic seconds that only the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def paced(clock: Clock, *rates: float, per_minute: float | None = None, latency: float = 0.0) -> Pace:
    pace = Pace(clock, per_minute)
    for rate in rates:
        pace.plan(rate)
    pace.latency.seconds = latency
    return pace


# --- the plan --------------------------------------------------------------------------------------------------


def test_what_is_planned_may_leave_a_little_faster(clock: Clock) -> None:
    pace = paced(clock, 100.0, 50.0)
    assert pace.planned == 150.0
    assert pace.allowed == pytest.approx(150.0 * CATCH_UP)
    pace.plan(10.0, instead_of=100.0)
    assert pace.planned == 60.0
    assert not pace.is_stretched


def test_few_requests_are_never_stretched(clock: Clock) -> None:
    assert paced(clock, 0.1).allowed == ALWAYS_ALLOWED


def test_a_wait_that_is_over_counts_until_its_next_read_would_have_been_due(clock: Clock) -> None:
    pace = paced(clock, 100.0, 0.2)
    pace.leave(0.2)
    clock.now += 4.9
    assert pace.planned == pytest.approx(100.2)
    clock.now += 0.1
    assert pace.planned == pytest.approx(100.0)
    pace.leave(100.0)
    pace.clear()
    clock.now += 1
    assert pace.planned == 0.0


def test_a_declared_limit_caps_the_pace_and_says_that_reads_come_late(clock: Clock) -> None:
    pace = paced(clock, 100.0, per_minute=3000)
    assert pace.allowed == pytest.approx(50 * WITHIN_LIMIT)
    assert pace.is_stretched
    roomy = paced(clock, 30.0, per_minute=3000)
    assert roomy.allowed == pytest.approx(30.0 * CATCH_UP)
    assert not roomy.is_stretched


# --- after a 429 -----------------------------------------------------------------------------------------------


def test_a_429_halves_the_pace_once_for_all_that_were_under_way(clock: Clock) -> None:
    pace = paced(clock, 200.0)
    pace.answered()
    pace.refused()
    assert pace.allowed == 100.0
    assert pace.is_stretched
    for _ in range(20):
        clock.now += RECOVERY / 25
        pace.refused()
    assert pace.allowed == 100.0
    clock.now += RECOVERY / 4
    pace.refused()
    assert pace.allowed == 50.0


def test_after_some_time_without_a_429_the_pace_rises_by_steps_until_it_is_as_before(clock: Clock) -> None:
    pace = paced(clock, 200.0)
    pace.answered()
    pace.refused()
    seen = [pace.allowed]
    while pace.is_stretched:
        clock.now += RECOVERY
        seen.append(pace.allowed)
        assert len(seen) < 30
    assert [later / earlier for earlier, later in itertools.pairwise(seen[:-1])] == pytest.approx(
        [SLOW_RISE] * (len(seen) - 2)
    )
    assert seen[-1] == 200.0 * CATCH_UP


def test_the_pace_does_not_rise_while_429_come(clock: Clock) -> None:
    pace = paced(clock, 200.0)
    pace.answered()
    pace.refused()
    for _ in range(5):
        clock.now += RECOVERY - 1
        pace.refused()
        pace.answered()
    assert pace.allowed < 100.0


def test_where_nothing_is_answered_halving_ends_and_the_pace_doubles_back(clock: Clock) -> None:
    pace = paced(clock, 320.0)
    pace.answered()
    for _ in range(12):
        pace.refused()
        clock.now += RECOVERY
    assert pace.allowed == pytest.approx(2 * 320.0 / DEEPEST)
    clock.now += RECOVERY
    assert pace.allowed == pytest.approx(4 * 320.0 / DEEPEST)


def test_some_requests_are_left_after_any_number_of_429(clock: Clock) -> None:
    pace = paced(clock, 0.3)
    for _ in range(12):
        pace.answered()
        pace.refused()
        clock.now += RECOVERY
        assert pace.allowed >= SLOWEST


# --- latency ---------------------------------------------------------------------------------------------------


def answered(latency: Latency, *answers: tuple[float, float], seconds: float = 10.0) -> float:
    """The latency after answers that took, and were late by, so many seconds each, spread over some time."""
    began = next(MOMENTS)
    for number, (took, late) in enumerate(answers, 1):
        latency.add(took, late, began + seconds * number / len(answers))
    return latency.seconds


MOMENTS = itertools.count(0.0, 1000.0)


def test_latency_follows_the_service_up_and_down() -> None:
    latency = Latency()
    assert answered(latency, *[(0.1, 0.0)] * 100) == pytest.approx(0.1)
    assert answered(latency, *[(0.01, 0.0)] * 100) == pytest.approx(0.01)
    assert answered(latency, *[(0.4, 0.0)] * 100) == pytest.approx(0.4)


def test_latency_is_what_answers_take_on_average_however_they_differ() -> None:
    assert answered(Latency(), *[(0.01, 0.0), (0.5, 0.0), (0.09, 0.0)] * 200) == pytest.approx(0.2, rel=0.05)


def test_some_answers_that_took_very_long_move_it_little() -> None:
    latency = Latency()
    answered(latency, *[(0.01, 0.0)] * 1000)
    assert answered(latency, *[(30.0, 0.0)] * 15, *[(0.01, 0.0)] * 985) == pytest.approx(0.01)


def test_few_answers_or_a_moment_do_not_make_a_latency() -> None:
    latency = Latency()
    assert answered(latency, *[(0.1, 0.0)] * (2 * WINDOW_ANSWERS - 1), seconds=100) == 0.0
    assert answered(Latency(), *[(0.1, 0.0)] * 1000, seconds=WINDOW_SECONDS) == 0.0


def test_what_the_loop_was_late_by_is_not_the_services() -> None:
    # A service that takes 20 ms; the loop comes to three of four answers 50 ms late.
    answers = [(0.02, 0.0), (0.07, 0.05), (0.07, 0.05), (0.07, 0.05)] * 100
    assert answered(Latency(), *answers) == pytest.approx(0.02)


def test_more_is_never_subtracted_than_leaves_the_quickest_answer() -> None:
    assert answered(Latency(), *[(0.03, 0.5)] * 100) == pytest.approx(0.03)


def test_the_quickest_answer_of_long_ago_does_not_count() -> None:
    latency = Latency()
    answered(latency, *[(0.0, 0.0)] * 100)
    assert answered(latency, *[(0.1, 0.5)] * 100) == pytest.approx(0.1)


# --- a late loop -----------------------------------------------------------------------------------------------


def beaten(*late: float) -> Lateness:
    """After beats that came so late."""
    lateness = Lateness()
    now = 0.0
    for seconds in late:
        now = lateness.set_beat(now, 0.0) + seconds
        lateness.beat(now)
    return lateness


def test_a_loop_whose_beats_come_in_time_is_not_late() -> None:
    lateness = beaten(*[ON_TIME / 2] * 20)
    due = lateness.set_beat(100.0, 0.0)
    assert lateness.at(due - SHORTEST_BEAT / 2) == 0.0
    assert lateness.at(due) == 0.0


def test_an_answer_before_a_beat_that_was_due_says_how_late_the_loop_is() -> None:
    lateness = beaten(0.0)
    due = lateness.set_beat(100.0, 0.0)
    assert lateness.at(due + 0.3) == pytest.approx(0.3)
    lateness.beat(due + 0.3)
    # The beat came in the same round, after the answer was taken.
    assert lateness.at(due + 0.3) == pytest.approx(0.3 + lateness.interval)
    lateness.set_beat(due + 0.3, 0.0)
    assert lateness.at(due + 0.3005) == pytest.approx(lateness.interval)


def test_where_no_beat_is_set_nothing_is_late() -> None:
    assert Lateness().at(1e9) == 0.0


def test_after_a_while_in_time_a_loop_counts_as_punctual_again() -> None:
    lateness = beaten(0.5, *[0.0] * 200)
    assert lateness.at(lateness.set_beat(1000.0, 0.0)) == 0.0


@pytest.mark.parametrize(("latency", "interval"), [(0.0, SHORTEST_BEAT), (0.16, 0.01), (60.0, LONGEST_BEAT)])
def test_beats_are_as_fine_as_the_latency_needs(latency: float, interval: float) -> None:
    assert Lateness().set_beat(5.0, latency) - 5.0 == pytest.approx(interval)


# --- connections -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "latency", "connections"),
    [
        (0.2, 0.1, FEWEST_CONNECTIONS),
        (2000.0, 0.0005, FEWEST_CONNECTIONS),
        (1000.0, 0.1, math.ceil(100 * SPARE)),
        (1000.0, 5.0, MOST_CONNECTIONS),
    ],
)
def test_connections_are_rate_times_latency_and_a_little_more(
    clock: Clock, rate: float, latency: float, connections: int
) -> None:
    assert paced(clock, rate, latency=latency).connections == connections
    assert SPARE <= 1.3


def test_a_lower_pace_needs_fewer_connections(clock: Clock) -> None:
    pace = paced(clock, 1000.0, latency=0.1)
    pace.answered()
    pace.refused()
    assert pace.connections == math.ceil(50 * SPARE)


def test_connections_are_opened_a_few_at_a_time(clock: Clock) -> None:
    pace = paced(clock, 1000.0, latency=0.1)
    assert all(pace.may_open(standing, standing, 0) for standing in range(FEWEST_CONNECTIONS))
    assert not pace.may_open(FEWEST_CONNECTIONS, 1, 0)
    assert pace.may_open(4 * GROWTH, 4, 0)
    assert not pace.may_open(4 * GROWTH, 5, 0)
    assert not pace.may_open(pace.connections, 0, 0)


def test_an_exchange_that_may_hang_is_no_connection(clock: Clock) -> None:
    pace = paced(clock, 1.0)
    assert not pace.may_open(FEWEST_CONNECTIONS, 0, 0)
    assert pace.may_open(FEWEST_CONNECTIONS, 0, 1)
    assert not pace.may_open(MOST_CONNECTIONS, 0, 9)


def test_those_much_older_than_the_last_answer_may_hang() -> None:
    under_way = UnderWay()
    numbers = [under_way.begin(moment) for moment in (0.0, 0.5, 2.0)]
    assert under_way.overdue(0.01) == 0
    under_way.answered_at = OVERDUE + 0.6
    assert under_way.overdue(0.01) == 2
    # Where all take long, none of them hangs.
    assert under_way.overdue(10.0) == 0
    under_way.end(numbers[0])
    assert under_way.overdue(0.01) == 1


# --- all of it under the poller ----------------------------------------------------------------------------------


class Slow(asyncio.Protocol):
    """A service that answers each request after its latency."""

    latency = 0.0
    blocks = stood_still_at = 0.0
    """Seconds for which the loop stands still while an answer waits to be read, and when it last did."""
    open = most_open = answered = 0

    def __init__(self, service: type[Slow]) -> None:
        self.service = service

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.service.open += 1
        self.service.most_open = max(self.service.most_open, self.service.open)

    def connection_lost(self, exc: Exception | None) -> None:
        self.service.open -= 1

    def data_received(self, data: bytes) -> None:
        run_id = data.split(b" ", 2)[1].rpartition(b"/")[2].decode()
        loop().call_later(self.service.latency, self.reply, run_id)

    def reply(self, run_id: str) -> None:
        if not self.transport.is_closing():
            self.service.answered += 1
            body = json.dumps({"run_id": run_id, "status": "processing"}).encode()
            self.transport.write(b"HTTP/1.1 200 X\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            if self.service.blocks and loop().time() - self.service.stood_still_at > self.service.blocks / 5:
                loop().stand_still(self.service.blocks)
                self.service.stood_still_at = loop().time()


@contextmanager
def late_loop(late_by: float, every: float) -> Iterator[None]:
    """The loop stands still again and again, as when its core is shared."""

    def stand_still() -> None:
        nonlocal timer
        loop().stand_still(late_by)
        timer = loop().call_later(every, stand_still)

    timer = loop().call_later(every, stand_still)
    try:
        yield
    finally:
        timer.cancel()


def connections_of(
    latency: Callable[[float], float],
    *,
    late_by: float = 0.0,
    blocks: float = 0.0,
    every: float = 2.0,
    seconds: int = 30,
) -> list[int]:
    """The most connections open in each 10 s, for 200 waits and a latency that may change over time."""
    waits = 200
    service: Any = type("Service", (Slow,), {"blocks": blocks})
    most: list[int] = []

    async def main() -> None:
        server = await loop().create_server(lambda: service(service), "127.0.0.1", 0)
        client = AsyncRunClient(
            find("nexio"),
            token="k",
            base_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}",
            clock=wall_clock,
        )
        options = WaitOptions(
            deadline=wall_clock() + 3600, error_budget=3600, max_paused=None, cadence=Cadence(every, 1.0, every)
        )
        ref = find("nexio").ref
        tasks = [asyncio.create_task(client.wait(ref(f"r{n}"), patience=options)) for n in range(waits)]
        with late_loop(late_by, 0.013):
            before = 0
            for second in range(0, seconds, 10):
                service.latency = latency(second)
                service.most_open, before = service.open, service.answered
                await asyncio.sleep(10)
                most.append(service.most_open)
            # No read is skipped for want of a connection.
            assert service.answered - before > 0.9 * 10 * waits / every / (1.05 if not (late_by or blocks) else 1.3)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await until(lambda: not service.open)
        assert not poller._POLLERS

    simulated_time.run(main())
    return most


@pytest.mark.long
def test_a_late_loop_opens_no_connections() -> None:
    # It stands still for 20 ms again and again; the service takes 1 ms.
    assert max(connections_of(lambda second: 0.001, late_by=0.02)) == FEWEST_CONNECTIONS


@pytest.mark.long
def test_answers_that_wait_for_the_loop_open_no_connections() -> None:
    # The loop computes while answers have come, again and again: taken for the service's, that would be 10 ms on
    # average, and with 400 reads a second ask for five connections.
    assert max(connections_of(lambda second: 0.001, blocks=0.1, every=0.5)) == FEWEST_CONNECTIONS


@pytest.mark.long
def test_a_slow_service_has_the_connections_that_it_needs() -> None:
    most = connections_of(lambda second: 0.2)
    assert 20 <= most[-1] <= 1.3 * 100 * 0.2


@pytest.mark.long
def test_a_slow_service_behind_a_late_loop_has_no_more_than_that() -> None:
    most = connections_of(lambda second: 0.2, late_by=0.02)
    assert 16 <= most[-1] <= 1.3 * 100 * 0.2


@pytest.mark.long
def test_connections_grow_and_shrink_with_the_latency() -> None:
    most = connections_of(lambda second: 0.3 if 10 <= second < 20 else 0.005, seconds=70)
    assert most[0] == FEWEST_CONNECTIONS
    assert 30 <= most[1] <= 1.3 * 100 * 0.3
    # Kept connections close when they were not used for a while.
    assert most[-1] <= FEWEST_CONNECTIONS + 1
