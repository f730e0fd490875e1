"""What the clients of one credential share."""

from __future__ import annotations

import gc

import pytest

from runops.core import find
from runops.core.model.errors import TransientError
from runops.core.transport.base import Answer
from runops.core.transport.session import Session

NEXIO = find("nexio")


def session(key: str, root: str = "https://service.example") -> Session:
    return Session(NEXIO, token=key, base_url=root, clock=clock)


def clock() -> float:
    return 1_000_000.0


def test_a_pause_that_one_client_is_asked_for_holds_for_all_that_share_its_key() -> None:
    asked, sharing = session("key-1"), session("key-1")
    other_key, other_host = session("key-2"), session("key-1", "https://other.example")
    with pytest.raises(TransientError):
        asked.judge("read", Answer(429, {"retry-after": "30"}, b"{}"))
    assert sharing.turn() == pytest.approx(30.0)
    assert other_key.turn() == 0.0
    assert other_host.turn() == 0.0


@pytest.mark.long
def test_a_pause_is_forgotten_with_the_last_client_of_its_key() -> None:
    asked = session("key-1")
    with pytest.raises(TransientError):
        asked.judge("read", Answer(429, {"retry-after": "30"}, b"{}"))
    del asked
    gc.collect()
    assert session("key-1").turn() == 0.0


def test_a_request_is_held_back_until_its_moment_and_no_longer() -> None:
    one = session("held back")
    with pytest.raises(TransientError):
        one.judge("read", Answer(429, {"retry-after": "30"}, b"{}"))
    with pytest.raises(TransientError, match="a pause that lasts longer than the wait"):
        one.turn(clock() + 29.9)
    assert one.turn(clock() + 30.1) == pytest.approx(30.0)


@pytest.mark.parametrize("late", [0.0, 0.5, 10.0])
def test_a_last_look_that_nothing_holds_back_may_leave_after_its_moment(late: float) -> None:
    assert session("not held back").turn(clock() - late) == 0.0


@pytest.mark.parametrize(
    ("left", "seconds", "says"),
    [(24.0, 29.0, "the rest of the wait, "), (25.0, 30.0, "request_timeout="), (3600.0, 30.0, "request_timeout=")],
)
def test_an_exchange_is_said_to_be_bound_by_what_bounds_it(left: float, seconds: float, says: str) -> None:
    session = Session(find("nexio"), token="key", request_timeout=30, clock=lambda: 1000.0)
    assert session.time_for(1000.0 + left) == (seconds, says)
