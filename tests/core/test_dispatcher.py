"""The line of jobs and its workers, beside a limiter, a budget and jobs that stand in; in made-up time."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from runops.core.model.cadence import RateLimiter
from runops.core.model.shared_rate import AHEAD, ANSWER_SECONDS, RETRY_SECONDS
from runops.core.polling.dispatch import SETTLED, TICK, Dispatcher, at_tick
from runops.core.polling.pace import FEWEST_CONNECTIONS, OVERDUE
from runops.core.transport.network_settings import BY_ENVIRONMENT
from tests import simulated_time
from tests.simulated_time import wall_clock


class Job:
    """Takes so long, and notes when it began and how it ended."""

    def __init__(self, began: list[float], seconds: float = 0.0, *, due: bool = True) -> None:
        self.began = began
        self.seconds = seconds
        self.due = due
        self.cancelled = 0

    def is_due(self) -> bool:
        return self.due

    async def carry_out(self) -> None:
        self.began.append(asyncio.get_running_loop().time())
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


class Budget:
    """A limit that processes share, as far as the line knows it."""

    def __init__(self, limiter: RateLimiter, *, known: bool = True, alone: bool = False) -> None:
        self._limiter = limiter
        self.known = known
        self.is_alone = alone
        self.wanted: list[int] = []
        self.answered: list[Callable[[], None]] = []

    def refill(self, wanted: int, answered: Callable[[], None]) -> bool:
        self.wanted.append(wanted)
        self.answered.append(answered)
        return self.known


def line_of(limiter: RateLimiter, budget: Any = None, on_delay: Any = None) -> Dispatcher:
    session: Any = SimpleNamespace(
        rate_limiter=limiter,
        budget=budget,
        clock=wall_clock,
        rate=SimpleNamespace(pace=None),
        root="http://127.0.0.1:9",
        peer=None,
        network=BY_ENVIRONMENT,
        limit=1000,
        timeout=5.0,
    )
    transport = httpx.MockTransport(lambda request: httpx.Response(200))
    return Dispatcher(session, transport=transport, on_delay=on_delay or (lambda rate, delay: None))


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        await story()
        await asyncio.sleep(0.01)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    simulated_time.run(whole())


def put(line: Dispatcher, *jobs: Any) -> None:
    for job in jobs:
        line.add(job)
    line.go_on()


def now() -> float:
    return asyncio.get_running_loop().time()


# --- the line ---


def test_a_job_leaves_when_the_limiter_says_so_and_never_early() -> None:
    async def story() -> None:
        limiter = RateLimiter()
        limiter.hold(wall_clock() + 1.01)
        line, began = line_of(limiter), list[float]()
        put(line, Job(began), Job(began))
        assert len(line) == 2
        await asyncio.sleep(3)
        assert len(began) == 2
        assert 1.01 <= began[0] <= 1.01 + 2 * TICK
        assert len(line) == 0
        await line.close()

    run(story)


def test_jobs_that_are_not_due_any_more_cost_no_place() -> None:
    async def story() -> None:
        line, began = line_of(RateLimiter(60)), list[float]()
        put(line, Job(began), *(Job(began, due=False) for _ in range(50)), Job(began))
        await asyncio.sleep(3)
        assert len(began) == 2
        assert began[1] - began[0] == pytest.approx(1.0, abs=3 * TICK)
        await line.close()

    run(story)


def test_a_job_that_is_put_first_goes_before_all_others() -> None:
    async def story() -> None:
        order: list[str] = []

        class Named(Job):
            def __init__(self, name: str) -> None:
                super().__init__([])
                self.name = name

            async def carry_out(self) -> None:
                order.append(self.name)

        line = line_of(RateLimiter(60))
        line.add(Named("second"))
        line.add(Named("third"))
        line.add_first(Named("first"))
        line.go_on()
        await asyncio.sleep(5)
        assert order == ["first", "second", "third"]
        await line.close()

    run(story)


def test_a_line_that_is_closed_hands_out_nothing_and_leaves_no_timer() -> None:
    async def story() -> None:
        limiter = RateLimiter()
        limiter.hold(wall_clock() + 1.0)
        line, began = line_of(limiter), list[float]()
        put(line, Job(began))
        await line.close()
        line.go_on()
        await asyncio.sleep(3)
        assert began == []

    run(story)


@pytest.mark.parametrize("due", [0.0, 0.01, 0.05, 0.051, 1.0])
def test_what_falls_due_is_done_at_the_next_tick_in_its_context(due: float) -> None:
    name, seen = contextvars.ContextVar[str]("name"), list[tuple[float, str]]()

    async def story() -> None:
        context = contextvars.Context()
        context.run(name.set, "given")
        at_tick(asyncio.get_running_loop(), due, lambda: seen.append((now(), name.get("none"))), context)
        await asyncio.sleep(2)

    run(story)
    ((moment, given),) = seen
    assert given == "given"
    assert due <= moment < due + TICK + 0.001


# --- a limit that processes share ---


@pytest.mark.parametrize(
    ("held", "alone", "wanted"), [(0.0, False, 3), (AHEAD, False, 3), (AHEAD + 0.1, False, 0), (AHEAD + 0.1, True, 3)]
)
def test_places_are_asked_for_only_when_the_next_is_near_or_the_process_alone(
    held: float, alone: bool, wanted: int
) -> None:
    async def story() -> None:
        limiter = RateLimiter()
        if held:
            limiter.hold(wall_clock() + held)
        budget = Budget(limiter, alone=alone)
        line, began = line_of(limiter, budget), list[float]()
        put(line, Job(began), Job(began), Job(began))
        # The worker that is opened for them asks once it runs.
        await asyncio.sleep(0)
        assert budget.wanted[0] == wanted
        await line.close()

    run(story)


@pytest.mark.parametrize(
    ("known", "alone", "held", "looks_again"),
    [
        (False, False, 0.0, ANSWER_SECONDS),
        (True, False, 60.0, 60.0),
        (True, True, 60.0, RETRY_SECONDS),
        (True, True, 3.0, 3.0),
    ],
)
def test_a_line_that_is_held_back_looks_again_when_it_may_know_more(
    known: bool, alone: bool, held: float, looks_again: float
) -> None:
    async def story() -> None:
        limiter = RateLimiter()
        if held:
            limiter.hold(wall_clock() + held)
        budget = Budget(limiter, known=known, alone=alone)
        line, began = line_of(limiter, budget), list[float]()
        put(line, Job(began))
        await asyncio.sleep(looks_again - 0.1)
        before = len(budget.wanted)
        await asyncio.sleep(0.1 + 2 * TICK)
        assert len(budget.wanted) > before == 1
        await line.close()

    run(story)


def test_the_answer_of_the_store_lets_the_line_go_on_at_once() -> None:
    async def story() -> None:
        limiter = RateLimiter()
        budget = Budget(limiter, known=False)
        line, began = line_of(limiter, budget), list[float]()
        put(line, Job(began))
        await asyncio.sleep(0.5)
        assert began == []
        budget.known = True
        budget.answered[-1]()
        await asyncio.sleep(0.01)
        assert len(began) == 1
        assert len({id(answered) for answered in budget.answered}) == 1
        await line.close()

    run(story)


@pytest.mark.parametrize(
    ("per_minute", "jobs", "expected"), [(60, 200, 1.0), (60, 20, 1.0), (60, 11, None), (4, 20, 0.1)]
)
def test_how_late_a_shared_limit_makes_reads_is_told_once_by_what_has_left(
    per_minute: float, jobs: int, expected: float | None
) -> None:
    delays: list[tuple[float, float]] = []

    async def story() -> None:
        # Others have the rest: so much is left for this process.
        limiter = RateLimiter(per_minute)
        line = line_of(limiter, Budget(limiter), lambda rate, delay: delays.append((rate, delay)))
        for _ in range(5):
            # What leaves while nothing waits says nothing of delays.
            put(line, Job([]))
            await asyncio.sleep(60 / per_minute)
        began = list[float]()
        put(line, *(Job(began) for _ in range(jobs)))
        await asyncio.sleep(SETTLED - 0.5)
        assert delays == []
        await asyncio.sleep(1.0)
        assert len(delays) == (expected is not None)
        if expected is not None:
            ((rate, delay),) = delays
            assert rate == pytest.approx(expected, rel=0.11)
            assert delay == pytest.approx(len(line) / rate, abs=1.1)
        await asyncio.sleep(3 * SETTLED)
        assert len(delays) == (expected is not None)
        await line.close()

    run(story)


def test_without_a_limit_nothing_is_told_of_delays() -> None:
    delays: list[tuple[float, float]] = []

    async def story() -> None:
        line = line_of(RateLimiter(), None, lambda rate, delay: delays.append((rate, delay)))
        put(line, *(Job([], 0.01) for _ in range(500)))
        await asyncio.sleep(2 * SETTLED)
        assert delays == []
        await line.close()

    run(story)


# --- workers ---


def test_a_worker_that_is_cancelled_leaves_its_job_to_another() -> None:
    async def story() -> None:
        line, began = line_of(RateLimiter()), list[float]()
        job = Job(began, 1.0)
        put(line, job)
        await asyncio.sleep(0.5)
        for worker in tuple(line.connections._workers):
            worker.cancel()
        await asyncio.sleep(2)
        assert len(began) == 2
        assert job.cancelled == 1
        assert len(line) == 0
        await line.close()

    run(story)


def test_a_worker_that_is_cancelled_with_a_job_in_hand_leaves_it_to_another() -> None:
    async def story() -> None:
        line, began = line_of(RateLimiter()), list[float]()
        put(line, Job(began))
        await asyncio.sleep(0.1)
        (worker,) = line.connections._workers
        # It waits for a job, is given one, and is cancelled before it runs.
        put(line, Job(began))
        assert len(line) == 0
        worker.cancel()
        await asyncio.sleep(0.1)
        assert len(began) == 2
        await line.close()

    run(story)


@pytest.mark.parametrize("stands_still", [False, True])
def test_where_nothing_is_answered_one_more_connection_is_tried_unless_the_loop_stood_still(stands_still: bool) -> None:
    async def story() -> None:
        line, began = line_of(RateLimiter()), list[float]()
        put(line, *(Job(began, 1000.0) for _ in range(100)))
        await asyncio.sleep(OVERDUE - 0.1)
        open_now = len(line.connections._workers)
        assert 1 <= open_now <= 2 * FEWEST_CONNECTIONS
        if stands_still:
            loop: Any = asyncio.get_running_loop()
            loop.stand_still(1.0)
        await asyncio.sleep(0.2 + 0.1 * stands_still)
        assert len(line.connections._workers) == open_now + (not stands_still)
        await asyncio.sleep(OVERDUE)
        # Each time one, and not as many as there are jobs.
        assert len(line.connections._workers) == open_now + 2 - stands_still
        await line.close()

    run(story)


def test_no_connection_is_tried_for_an_empty_line() -> None:
    async def story() -> None:
        line, began = line_of(RateLimiter()), list[float]()
        put(line, Job(began, 1000.0))
        await asyncio.sleep(5 * OVERDUE)
        assert len(line.connections._workers) == 1
        await line.close()

    run(story)
