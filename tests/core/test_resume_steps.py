"""A resume, step by step: what is read and sent, how long it pauses, and what each answer makes of it."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from runops.core import ConflictError, NotSupported, Phase, RunSnapshot, WrongState, find
from runops.core.model.errors import AnswerError, AnswerLost, AuthError, RequestRefused, RunNotFound, ServerTrouble
from runops.core.transport.keys import KeyRead
from runops.core.waiting.resume import resume
from runops.core.waiting.steps import Effect, ReadKey, Reply, Send, Sleep
from tests.flows import drive

ONEPIN, NYX = find("onepin"), find("nyx")
REF = ONEPIN.ref("r1", {"workflow_id": "w1"})
FIRST, LATER = "2026-03-01T00:00:00Z", "2026-03-01T00:05:00Z"


def shows(status: str, paused_at: str | None = None, run_id: str = "r1") -> bytes:
    run = {"id": run_id, "workflow_id": "w1", "status": status, "paused_at": paused_at}
    return json.dumps({"data": run}).encode()


PAUSED, PAUSED_ANEW = shows("paused", FIRST), shows("paused", LATER)
TOOK = b'{"data": {"id": "r1", "workflow_id": "w1", "status": "running"}}'


class Service:
    """Answers in order, by a clock that pauses move on."""

    def __init__(self, *answers: bytes | Exception) -> None:
        self.answers = list(answers)
        self.now = 1_000.0
        self.asked: list[str] = []
        self.pauses: list[float] = []

    def resume(self, **options: float) -> RunSnapshot:
        flow = resume(ONEPIN, REF, clock=lambda: self.now, **options)
        ended = drive(flow, self._reply_to)
        assert not self.answers, "all of them are asked for"
        return ended

    def _reply_to(self, effect: Effect) -> Any:
        if isinstance(effect, Sleep):
            self.pauses.append(effect.seconds)
            self.now += effect.seconds
            return None
        if isinstance(effect, ReadKey):
            return KeyRead(changed=False)
        assert isinstance(effect, Send)
        path = effect.request.path.rpartition("/")[2]
        self.asked.append(f"{effect.request.method} {path}")
        answer = self.answers.pop(0)
        if isinstance(answer, AnswerError):
            raise answer
        assert isinstance(answer, bytes)
        return Reply(answer, None) if effect.dated else answer


LOOK, ACT = "GET status", "POST resume"


@pytest.mark.parametrize("status", ["pending", "running"])
def test_a_run_that_goes_on_is_left_as_it_is(status: str, caplog: pytest.LogCaptureFixture) -> None:
    service = Service(shows(status))
    with caplog.at_level(logging.INFO, "runops"):
        assert service.resume().state == status
    assert service.asked == [LOOK]
    assert "goes on already: there is nothing to resume." in caplog.text


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_a_run_that_is_over_is_not_asked_to_go_on(status: str) -> None:
    service = Service(shows(status))
    with pytest.raises(WrongState, match=r"only a run that is paused can be resumed\. Nothing was sent\.") as caught:
        service.resume()
    assert service.asked == [LOOK]
    assert caught.value.snapshot.state == status


def test_who_has_no_resume_says_so() -> None:
    with pytest.raises(NotSupported, match=r"^Nyx documents no way to resume a run"):
        next(resume(NYX, NYX.ref("r"), clock=lambda: 0.0))


@pytest.mark.parametrize("after", [shows("running"), shows("completed"), PAUSED_ANEW])
def test_a_resume_that_took_is_told_by_the_run_itself(after: bytes) -> None:
    service = Service(PAUSED, TOOK, after)
    assert service.resume().state == json.loads(after)["data"]["status"]
    assert (service.asked, service.pauses) == ([LOOK, ACT, LOOK], [])


def test_a_pause_that_says_not_since_when_it_lasts_is_the_same() -> None:
    service = Service(shows("paused"), TOOK, PAUSED, shows("running"))
    assert service.resume().phase is Phase.RUNNING
    assert service.pauses == [0.5]


def test_a_run_that_shows_its_pause_for_too_long_is_given_back_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    service = Service(PAUSED, TOOK, *[PAUSED] * 8)
    with caplog.at_level(logging.WARNING, "runops"):
        assert service.resume().phase is Phase.PAUSED
    assert service.pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 6.5]
    assert service.now == 1_030.0
    assert "the resume was accepted, but the run does not go on yet." in caplog.text


def test_looks_that_fail_do_not_hide_that_it_took() -> None:
    trouble = ServerTrouble("Down.", status=503)
    service = Service(PAUSED, TOOK, *[trouble] * 4, shows("running"))
    assert service.resume(grace=60).phase is Phase.RUNNING
    service = Service(PAUSED, TOOK, *[trouble] * 4)
    with pytest.raises(ServerTrouble):
        service.resume(grace=0)


def test_a_lost_answer_is_looked_for_and_not_sent_again_where_it_took(caplog: pytest.LogCaptureFixture) -> None:
    service = Service(PAUSED, AnswerLost("The connection broke."), PAUSED, shows("running"))
    with caplog.at_level(logging.INFO, "runops"):
        assert service.resume().phase is Phase.RUNNING
    assert service.asked == [LOOK, ACT, LOOK, LOOK]
    assert "The connection broke. Whether it took, the run itself tells." in caplog.text


def test_a_lost_answer_that_did_not_take_is_sent_again() -> None:
    service = Service(PAUSED, AnswerLost("Broken."), PAUSED, TOOK, shows("running"))
    assert service.resume(grace=0).phase is Phase.RUNNING
    assert service.asked == [LOOK, ACT, LOOK, ACT, LOOK]
    assert len(service.pauses) == 1


@pytest.mark.parametrize(
    ("now", "lost", "kept"),
    [(shows("running"), False, True), (shows("completed"), False, False), (shows("completed"), True, True)],
)
def test_a_refusal_after_which_the_run_has_moved_is_no_failure(now: bytes, lost: bool, kept: bool) -> None:
    before: list[bytes | Exception] = [AnswerLost("Broken."), PAUSED] if lost else []
    service = Service(PAUSED, *before, RequestRefused("It is not paused.", status=409), now)
    if kept:
        assert service.resume(grace=0).state == json.loads(now)["data"]["status"]
    else:
        with pytest.raises(WrongState, match=r"only a run that is paused can be resumed\.$|\[wrong-state\]"):
            service.resume(grace=0)


def test_a_key_that_is_refused_is_an_end_without_another_look() -> None:
    service = Service(PAUSED, AuthError("Not allowed.", status=403))
    with pytest.raises(AuthError, match=r"^Not allowed\."):
        service.resume()
    assert service.asked == [LOOK, ACT]


def test_any_other_refusal_is_told_as_it_is() -> None:
    service = Service(PAUSED, RequestRefused("No credits.", status=402), PAUSED)
    with pytest.raises(RequestRefused, match=r"^No credits\."):
        service.resume()


def test_a_conflict_names_what_is_in_the_way_and_nothing_that_is_over() -> None:
    rows = [json.loads(shows(status, run_id=run_id))["data"] for run_id, status in (
        ("r1", "paused"), ("r2", "running"), ("r3", "completed"), ("r4", "pending"),
    )]  # fmt: skip
    page = json.dumps({"data": rows, "pagination": {"total": 4}}).encode()
    busy = ConflictError("Busy.", status=409, code="CONFLICT", retry_after=7)
    service = Service(PAUSED, busy, PAUSED, page)
    with pytest.raises(ConflictError) as caught:
        service.resume()
    error = caught.value
    assert error.text == "Busy. onepin run r1 stays paused. Active there now: run r2 (running), run r4 (pending)."
    assert (error.status, error.code, error.retry_after) == (409, "CONFLICT", 7)
    assert [run.ref.run_id for run in error.active] == ["r2", "r4"]


@pytest.mark.parametrize("page", [b'{"data": []}', RunNotFound("No list.", status=404)])
def test_a_conflict_of_which_nothing_can_be_seen_says_so(page: bytes | Exception) -> None:
    service = Service(PAUSED, ConflictError("Busy.", status=409), PAUSED, page)
    with pytest.raises(ConflictError, match=r"stays paused\. No other active run can be seen there\.") as caught:
        service.resume()
    assert caught.value.active == ()
