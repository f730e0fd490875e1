"""When the next look comes, and the next request: the arithmetic, number by number."""

from __future__ import annotations

from typing import Any

import pytest

from runops.core import ConfigurationError
from runops.core.model.cadence import WITHIN_LIMIT, Cadence, RateLimiter, backoff, spread
from runops.core.model.codes import Code

SLOWING = Cadence(first=2.0, factor=1.5, ceiling=30.0)


def test_pauses_after_failures_double_up_to_a_ceiling() -> None:
    assert [backoff(attempt) for attempt in (1, 2, 3, 6, 7, 8, 1_000)] == [1, 2, 4, 32, 60, 60, 60]
    assert [backoff(attempt, first=0.5, ceiling=3) for attempt in (1, 2, 3, 4)] == [0.5, 1, 2, 3]
    assert backoff(17, ceiling=1e9) == backoff(18, ceiling=1e9) == 65_536


@pytest.mark.parametrize(
    ("age", "jitter", "delay"),
    [(-5, 0, 2), (0, 0, 2), (10, 0, 7), (56, 0, 30), (57, 0, 30), (0, 1, 2.1), (0, 0.5, 2.05), (100, 1, 31.5)],
)
def test_a_delay_grows_with_the_age_of_the_wait(age: float, jitter: float, delay: float) -> None:
    assert SLOWING.delay(age, jitter=jitter) == pytest.approx(delay)


def test_without_a_jitter_a_delay_is_exact() -> None:
    assert SLOWING.delay(0) == 2.0
    assert all(0 <= spread() < 1 for _ in range(20))


@pytest.mark.parametrize(
    ("given", "shaped"),
    [
        ({"interval": None}, (2, 1.5, 30)),
        ({"interval": 5}, (5, 1.5, 30)),
        ({"interval": 60}, (60, 1.5, 60)),
        ({"interval": None, "factor": 1}, (2, 1, 30)),
        ({"interval": None, "ceiling": 10}, (2, 1.5, 10)),
        ({"interval": 20, "ceiling": 10}, (10, 1.5, 10)),
    ],
)
def test_a_user_shapes_a_cadence(given: dict[str, Any], shaped: tuple[float, float, float]) -> None:
    made = SLOWING.at_least(**given)
    assert (made.first, made.factor, made.ceiling) == shaped


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"interval": 0}, "the interval must be more than 0 s, not 0."),
        ({"interval": -1}, "the interval must be more than 0 s, not -1."),
        ({"interval": None, "ceiling": 0}, "the longest interval must be more than 0 s, not 0."),
        ({"interval": None, "factor": 0.9}, "A cadence needs 0 < first <= ceiling and factor >= 1, not first=2.0"),
    ],
)
def test_a_cadence_that_makes_no_sense_is_refused(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        SLOWING.at_least(**given)
    assert caught.value.text.startswith(problem)


@pytest.mark.parametrize(("first", "factor", "ceiling"), [(0, 1, 1), (2, 1, 1), (1, 0.99, 1), (-1, 1, 1)])
def test_a_declared_cadence_that_makes_no_sense_is_refused(first: float, factor: float, ceiling: float) -> None:
    with pytest.raises(ConfigurationError, match=f"first={first}, factor={factor}, ceiling={ceiling}") as caught:
        Cadence(first=first, factor=factor, ceiling=ceiling)
    assert caught.value.error_code is Code.BAD_DECLARATION
    assert Cadence(first=1, factor=1, ceiling=1).delay(1e9) == 1


def test_places_under_a_limit_come_evenly() -> None:
    limiter = RateLimiter(60)
    assert [limiter.reserve(100.0) for _ in range(3)] == [0.0, 1.0, 2.0]
    assert limiter.delay(102.5) == pytest.approx(0.5)
    assert limiter.reserve(110.0) == 0.0
    assert limiter.reserve(110.25) == pytest.approx(0.75)
    assert WITHIN_LIMIT == 0.98


def test_without_a_limit_only_a_pause_holds_and_one_place_may_take_more_room() -> None:
    limiter = RateLimiter()
    assert [limiter.reserve(100.0), limiter.reserve(100.0, 5.0), limiter.reserve(100.0)] == [0.0, 0.0, 5.0]
    limiter.hold(130.0)
    limiter.hold(120.0)
    assert (limiter.delay(110.0), limiter.delay(130.0), limiter.delay(131.0)) == (20.0, 0.0, 0.0)


def test_a_place_that_is_taken_a_little_late_moves_no_other() -> None:
    limiter = RateLimiter(60)
    limiter.reserve(100.0)
    assert limiter.reserve(101.4, lateness=0.5) == 0.0
    assert limiter.delay(101.4) == pytest.approx(0.6)
    limiter.reserve(105.0, lateness=0.5)
    assert limiter.delay(105.0) == pytest.approx(0.5)


def test_a_clock_that_was_set_back_makes_no_pause_longer() -> None:
    limiter = RateLimiter()
    limiter.hold(130.0)
    assert limiter.delay(100.0) == 30.0
    assert limiter.delay(40.0) == 30.0
    assert limiter.delay(50.0) == 20.0


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_is_above_nothing(limit: float) -> None:
    with pytest.raises(ConfigurationError, match=r"^requests_per_minute must be more than 0"):
        RateLimiter(limit)
