"""What a wait does about a key that is refused, step by step: when it is read, when it is tried, and when that ends."""

from __future__ import annotations

import logging

import pytest

from runops.core import AuthError
from runops.core.transport.keys import KeyRead
from runops.core.waiting.refused_key import RefusedKey

NOW = 1_800_000_000.0
GRACE = 300.0


def refusal(mark: str = "old", status: int = 401) -> AuthError:
    error = AuthError("The key was refused.", status=status, code="bad", is_json=True)
    error.origin, error.key_mark = "connection 'nyx'", mark
    return error


def same(again_in: float = 30.0, *, readable: bool = True) -> KeyRead:
    return KeyRead(changed=False, readable=readable, again_in=again_in)


def changed() -> KeyRead:
    return KeyRead(changed=True, readable=True)


def key(grace: float | None = GRACE) -> RefusedKey:
    made = RefusedKey("nyx run r_1", since=NOW, grace=grace)
    made.refused(refusal(), NOW)
    return made


def test_nothing_is_sent_with_a_key_that_is_as_it_was() -> None:
    of = key()
    assert (of.holds, of.mark, of.pause(NOW), RefusedKey("x", since=NOW, grace=1.0).mark) == (True, "old", 0.0, "")
    assert not of.was_read(same(), NOW)
    assert (of.holds, of.pause(NOW), of.pause(NOW + 10), of.pause(NOW + 31)) == (True, 30.0, 20.0, 0.0)


@pytest.mark.parametrize(("again_in", "now", "pause"), [(0.2, NOW, 1.0), (30, NOW + 290, 10), (30, NOW + 270, 30)])
def test_it_is_read_again_once_a_second_at_the_most_and_at_the_end_of_its_grace(
    again_in: float, now: float, pause: float
) -> None:
    of = key()
    of.was_read(same(again_in), now)
    assert of.pause(now) == pause


def test_another_key_is_tried_at_once() -> None:
    of = key()
    assert of.was_read(changed(), NOW + 1)
    assert not of.holds


def test_the_same_key_is_tried_once_more_when_its_grace_is_over_and_that_is_the_end() -> None:
    of = key()
    assert not of.was_read(same(), NOW + GRACE - 1)
    assert of.was_read(same(), NOW + GRACE)
    with pytest.raises(AuthError) as caught:
        of.refused(refusal(status=403), NOW + GRACE + 5)
    error = caught.value
    assert error.text == ("The key was refused. It has been refused for 305 s, and was read again without a change.")
    assert (error.status, error.code, error.is_json) == (403, "bad", True)
    assert (error.origin, error.key_mark) == ("connection 'nyx'", "old")


def test_another_key_that_is_refused_at_the_end_is_read_again() -> None:
    of = key()
    of.was_read(same(), NOW + GRACE)
    of.refused(refusal("new"), NOW + GRACE + 5)
    assert (of.holds, of.mark, of.pause(NOW + GRACE + 5)) == (True, "new", 0.0)


def test_a_new_key_that_is_refused_is_tried_at_each_read_after_the_first() -> None:
    of = key()
    of.was_read(changed(), NOW + 1)
    of.refused(refusal("new"), NOW + 2)
    assert not of.was_read(same(), NOW + 3)
    assert of.was_read(same(), NOW + 33)
    of.refused(refusal("new"), NOW + 34)
    assert of.holds
    assert of.was_read(same(), NOW + 64)


def test_a_key_with_which_nothing_was_ever_read_is_refused_at_once() -> None:
    of = key(grace=None)
    with pytest.raises(AuthError, match=r"^The key was refused\."):
        of.was_read(same(), NOW)
    assert key(grace=None).was_read(changed(), NOW)


@pytest.mark.parametrize(
    ("readable", "said"),
    [
        (True, "it is read again every 30 s for up to 300 s; change it there."),
        (False, "it cannot be read again here, and is tried once more in 300 s."),
    ],
)
def test_it_is_said_once_what_is_done_about_the_key(
    caplog: pytest.LogCaptureFixture, readable: bool, said: str
) -> None:
    of = key()
    with caplog.at_level(logging.INFO, "runops"):
        of.was_read(same(readable=readable), NOW)
        of.was_read(same(readable=readable), NOW + 30)
        of.works()
    warning, info = (record.getMessage() for record in caplog.records)
    assert warning == f"nyx run r_1: the key of connection 'nyx' was refused (401); {said} [key-reread]"
    assert info == "nyx run r_1 is read again: the key of connection 'nyx' is accepted."


def test_who_has_no_name_for_the_key_is_told_of_this_client(caplog: pytest.LogCaptureFixture) -> None:
    nameless = refusal()
    nameless.origin = ""
    of = RefusedKey("A submit to Nyx", since=NOW, grace=GRACE)
    with caplog.at_level(logging.INFO, "runops"):
        of.works()
        of.refused(nameless, NOW)
        of.was_read(same(), NOW)
        of.works()
    said = [record.getMessage() for record in caplog.records]
    assert said[0].startswith("A submit to Nyx: the key of this client was refused (401);")
    assert said[1:] == ["A submit to Nyx is read again: the key of it is accepted."]
