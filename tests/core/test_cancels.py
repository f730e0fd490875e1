"""What a cancel does where its answer is none: it looks at the run, and never leaves one alive without saying so."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runops.core import AuthError, ConflictError, RequestRefused, RunNotFound, TransientError, UnknownStateError, find
from runops.core.transport.keys import KeyRead
from runops.core.waiting import flows
from runops.core.waiting.steps import Read, ReadKey, Send, Sleep

NYX = find("nyx")
REF = NYX.ref("r-1")
GOOD = b"{}"
BUSY = ConflictError("Not now.", status=409)
DOWN = TransientError("Bad gateway.", status=502)
REFUSED = RequestRefused("No.", status=422)


def status(state: str, **fields: Any) -> Any:
    """How the run stands, as a driver gives it."""
    return NYX.read(REF, json.dumps({"run_id": "r-1", "status": state, **fields}).encode())


def cancelled(*answers: Any) -> list[str]:
    """Drive a cancel with one answer for each request and read; what it asked for."""
    flow, left, asked = flows.cancel(NYX, REF), list(answers), list[str]()
    reply: Any = None
    try:
        while True:
            effect = flow.throw(reply) if isinstance(reply, Exception) else flow.send(reply)
            reply = None
            if isinstance(effect, Sleep):
                asked.append("sleep")
                continue
            if isinstance(effect, ReadKey):
                reply = KeyRead(changed=False)
                continue
            assert isinstance(effect, (Send, Read))
            asked.append("cancel" if isinstance(effect, Send) else "read")
            reply = left.pop(0)
    except StopIteration:
        assert not left
        return asked


def test_a_good_answer_is_enough() -> None:
    assert cancelled(GOOD) == ["cancel"]


@pytest.mark.parametrize("passing", [DOWN, BUSY], ids=["down", "busy"])
def test_after_a_passing_failure_a_run_that_goes_on_is_cancelled_again(passing: Exception) -> None:
    assert cancelled(passing, status("running"), GOOD) == ["cancel", "read", "sleep", "cancel"]


@pytest.mark.parametrize("passing", [DOWN, BUSY], ids=["down", "busy"])
@pytest.mark.parametrize(
    "stands",
    [
        status("completed", result="success"),
        status("cancelled"),
        UnknownStateError(REF, "archived", ["running"]),
    ],
    ids=["completed", "cancelled", "over in an unknown word"],
)
def test_after_a_passing_failure_a_run_that_is_over_is_left_alone(passing: Exception, stands: Any) -> None:
    assert cancelled(passing, stands) == ["cancel", "read"]


def test_a_failed_read_does_not_count_as_over() -> None:
    assert cancelled(DOWN, DOWN, GOOD) == ["cancel", "read", "sleep", "cancel"]


def test_a_cancel_that_never_gets_through_fails_with_its_last_error() -> None:
    last = TransientError("Still down.", status=503)
    tries = [DOWN, status("running")] * (flows.READ_TRIES - 1)
    with pytest.raises(TransientError, match="Still down"):
        cancelled(*tries, last)


@pytest.mark.parametrize("final", [REFUSED, RunNotFound("Gone.", status=404)], ids=["refused", "not found"])
def test_a_final_refusal_counts_only_where_the_run_goes_on(final: Exception) -> None:
    assert cancelled(final, status("completed", result="success")) == ["cancel", "read"]
    assert cancelled(final, UnknownStateError(REF, "archived", ["running"])) == ["cancel", "read"]
    with pytest.raises(type(final)):
        cancelled(final, status("running"))
    with pytest.raises(type(final)):
        cancelled(final, DOWN)


def test_a_bad_key_is_an_error_at_once() -> None:
    with pytest.raises(AuthError):
        cancelled(AuthError("No such key.", status=401))
