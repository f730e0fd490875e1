"""Looks, lists, probes and cancels by themselves: each request that a flow asks for, each pause, each reply."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from runops.core import ConflictError, NotSupported, Outcome, Phase, find
from runops.core.model.errors import (
    AnswerError,
    AuthError,
    MalformedAnswer,
    RequestRefused,
    RunNotFound,
    ServerTrouble,
)
from runops.core.transport.keys import KeyRead
from runops.core.waiting import flows
from runops.core.waiting.options import WaitOptions
from runops.core.waiting.state import WaitProgress
from runops.core.waiting.steps import Effect, Flow, Read, ReadKey, Reply, Send, Sleep
from tests.flows import drive

NEXIO, NYX, ONEPIN, B3OS, NEKT = (find(name) for name in ("nexio", "nyx", "onepin", "b3os", "nekt"))
DOWN = ServerTrouble("The read was answered 503.", status=503)


class Script:
    """Replies in order, and keeps what was asked for. Its clock moves by pauses alone."""

    def __init__(self, *replies: Any) -> None:
        self.replies = list(replies)
        self.now = 100.0
        self.asked: list[Any] = []
        self.sent: list[Send] = []
        self.by: list[float | None] = []

    def __call__(self, flow: Flow[Any]) -> Any:
        found = drive(flow, self._reply_to)
        assert not self.replies, "all of them are asked for"
        return found

    def _reply_to(self, effect: Effect) -> Any:
        if isinstance(effect, Sleep):
            self.asked.append(effect.seconds)
            self.now += effect.seconds
            return None
        if isinstance(effect, ReadKey):
            self.asked.append("key")
            return KeyRead(changed=False)
        self.by.append(effect.by)
        reply = self.replies.pop(0)
        if isinstance(effect, Read):
            self.asked.append(f"read {effect.ref.run_id}")
        else:
            self.sent.append(effect)
            self.asked.append(f"{effect.request.method} {effect.request.path}")
        if isinstance(reply, AnswerError):
            raise reply
        if isinstance(effect, Send) and isinstance(reply, bytes):
            made = effect.read(reply) if effect.read else reply
            return Reply(reply, 50.0) if effect.dated else made
        return reply


def body(run: Any, **more: Any) -> bytes:
    return json.dumps(run | more).encode()


@pytest.mark.parametrize(
    ("attempt", "asked_for", "seconds"),
    [
        (1, None, 0.5),
        (2, None, 1),
        (3, None, 2),
        (6, None, 16),
        (7, None, 30),
        (60, None, 30),
        (1, 0.7, 0.7),
        (2, 0.1, 1),
        (7, 45, 45),
    ],
)
def test_pauses_between_tries_double_from_half_a_second_to_half_a_minute(
    attempt: int, asked_for: float | None, seconds: float
) -> None:
    assert flows.pause_after(ServerTrouble("x", status=503, retry_after=asked_for), attempt) == seconds


REQUEST = NEXIO.request(NEXIO.status, NEXIO.ref("r"))


def test_a_patient_read_is_tried_four_times() -> None:
    script = Script(DOWN, DOWN, DOWN, b"{}")
    reply = script(flows.patient_read(REQUEST))
    assert (reply.content, reply.date) == (b"{}", 50.0)
    path = "GET /api/v1/runs/r"
    assert script.asked == [path, 0.5, path, 1.0, path, 2.0, path]
    with pytest.raises(ServerTrouble):
        Script(DOWN, DOWN, DOWN, DOWN)(flows.patient_read(REQUEST))


@pytest.mark.parametrize(("by", "tries"), [(101.5, 3), (101.49, 2), (100.5, 2), (100.49, 1), (100.0, 1)])
def test_a_patient_read_begins_no_try_after_its_moment(by: float, tries: int) -> None:
    script = Script(*[DOWN] * tries)
    with pytest.raises(ServerTrouble):
        script(flows.patient_read(REQUEST, by=by, clock=lambda: script.now))
    assert script.by == [by] * tries


def test_a_try_that_failed_is_told_to_whoever_looks_on(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "runops"):
        Script(DOWN, b"{}")(flows.patient_read(REQUEST))
    said = [record.getMessage() for record in caplog.records]
    assert said == ["The read of nexio run r failed: The read was answered 503. The next try is in 0.5 s."]


# --- looks -------------------------------------------------------------------------------------------------------


def seen(provider: Any, run: dict[str, Any]) -> Any:
    ref = provider.ref(run.get("id") or run["run_id"], {"workflow_id": "w"} if provider is ONEPIN else None)
    return provider.read(ref, body({"data": run} if provider.envelope else run))


FAILED = {"id": "r", "status": "failure"}
EXECUTION = {"data": {"executionState": {"n": {"type": "http", "status": "failure"}}}}


@pytest.mark.parametrize(
    ("run", "reply", "reason"),
    [
        (FAILED, body(EXECUTION), "n (http)"),
        (FAILED, DOWN, None),
        (FAILED, RequestRefused("No."), None),
        (FAILED, b"{}", None),
        (FAILED | {"status": "success"}, None, None),
        (FAILED | {"status": "running"}, None, None),
    ],
)
def test_a_look_asks_once_more_why_a_run_failed(run: Any, reply: Any, reason: str | None) -> None:
    script = Script(seen(B3OS, run), *([] if reply is None else [reply]))
    found = script(flows.look(B3OS, B3OS.ref("r"), by=7.0))
    assert found.snapshot.reason == reason
    assert script.asked == ["read r", *([] if reply is None else ["GET /v1/runs/r"])]
    assert script.by == [7.0] * len(script.asked)


def test_a_failure_that_says_why_is_not_asked_again() -> None:
    script = Script(seen(NEXIO, {"run_id": "r", "status": "failed", "error": "no rates"}))
    assert script(flows.get(NEXIO, NEXIO.ref("r"))).reason == "no rates"


WHOLE = {"data": FAILED | {"status": "success", "totalCu": 5, "workflowVersion": 2}}


@pytest.mark.parametrize(
    ("status", "wanted", "reply", "details"),
    [
        ("success", ("totalCu",), body(WHOLE), {"totalCu": 5, "workflowVersion": 3}),
        ("success", ("workflowVersion",), None, {"workflowVersion": 3}),
        ("success", (), None, {"workflowVersion": 3}),
        ("cancelled", ("totalCu",), None, {"workflowVersion": 3}),
        ("running", ("totalCu",), None, {"workflowVersion": 3}),
        ("success", ("totalCu",), RunNotFound("None.", status=404), {"workflowVersion": 3}),
        ("success", ("totalCu",), b"<html>", {"workflowVersion": 3}),
        ("success", ("totalCu",), body({"data": FAILED | {"status": "x", "finishedAt": 9.0}}), {"workflowVersion": 3}),
        ("success", ("totalCu",), AuthError("No.", status=403), {"workflowVersion": 3}),
    ],
)  # fmt: skip
def test_a_run_that_ended_well_is_read_whole_where_a_wanted_detail_is_missing(
    status: str, wanted: tuple[str, ...], reply: Any, details: dict[str, Any]
) -> None:
    script = Script(seen(B3OS, FAILED | {"status": status, "workflowVersion": 3}), *([] if reply is None else [reply]))
    assert script(flows.get(B3OS, B3OS.ref("r"), wanted)).details == details
    assert script.asked[:2] == ["read r", *([] if reply is None else ["GET /v1/runs/r"])]


@pytest.mark.parametrize("error", [DOWN, AuthError("No.", status=401)])
def test_a_whole_run_that_cannot_be_read_now_is_an_error(error: AnswerError) -> None:
    observation = seen(B3OS, FAILED | {"status": "success"})
    script = Script(error)
    with pytest.raises(type(error)):
        script(flows.with_details(B3OS, observation, by=9.0, wanted=("totalCu",)))
    assert script.by == [9.0]


def test_a_payload_is_read_by_the_route_of_the_whole_run() -> None:
    script = Script(DOWN, body({"data": {"id": "r"}}))
    assert script(flows.payload(ONEPIN, ONEPIN.ref("r", {"workflow_id": "w"}))) == {"id": "r"}
    assert script.asked == ["GET /api/v1/workflows/w/runs/r", 0.5, "GET /api/v1/workflows/w/runs/r"]
    script = Script(body({"run_id": "r"}))
    assert script(flows.payload(NEXIO, NEXIO.ref("r"))) == {"run_id": "r"}
    assert script.asked == ["GET /api/v1/runs/r"]


@pytest.mark.parametrize(("submitted_at", "age"), [(None, 0.0), (40.0, 60.0)])
def test_a_wait_looks_at_the_pace_of_its_runs_age(submitted_at: float | None, age: float) -> None:
    running, over = ({"run_id": "r", "status": word} for word in ("processing", "completed"))
    script = Script(seen(NEXIO, running), seen(NEXIO, over))
    heard: list[Any] = []
    last = script(
        flows.wait(
            NEXIO,
            NEXIO.ref("r"),
            WaitOptions.build(NEXIO, now=100.0),
            clock=lambda: script.now,
            submitted_at=submitted_at,
            on_update=heard.append,
        )
    )
    assert (last.outcome, [each.status for each in heard]) == (Outcome.SUCCEEDED, [Phase.RUNNING, Outcome.SUCCEEDED])
    delay = NEXIO.cadence.delay(age)
    assert delay <= script.asked[1] <= delay * 1.05
    assert script.by == [100.0 + 604_800.0] * 2


@pytest.mark.parametrize("context", [{"seen": True}, {"past": WaitProgress(seen=True)}])
def test_a_wait_goes_on_from_what_it_has_learnt(context: dict[str, Any]) -> None:
    missing = RunNotFound("None.", status=404)
    options = WaitOptions.build(NEXIO, now=100.0, error_budget=300)
    ref = NEXIO.ref("r")
    over = seen(NEXIO, {"run_id": "r", "status": "completed"})
    script = Script(*[missing] * 7, over)
    assert script(flows.wait(NEXIO, ref, options, clock=lambda: script.now, **context)).outcome is Outcome.SUCCEEDED
    assert script.now > 130
    script = Script(*[missing] * 20)
    with pytest.raises(RunNotFound):
        script(flows.wait(NEXIO, ref, options, clock=lambda: script.now))
    assert script.now == pytest.approx(130, abs=5)


# --- probes and cancels ------------------------------------------------------------------------------------------


def test_a_probe_is_good_by_json_or_where_that_is_declared_by_a_404() -> None:
    for reply in (b"{}", b"", b"[1]"):
        Script(reply)(flows.probe(NYX))
    with pytest.raises(MalformedAnswer):
        Script(b"<html>")(flows.probe(NYX))
    missing = RunNotFound("None.", status=404)
    Script(missing)(flows.probe(NEXIO))
    with pytest.raises(RunNotFound):
        Script(missing)(flows.probe(NYX))


def test_a_probe_is_asked_for_as_declared() -> None:
    script = Script(b"{}")
    script(flows.probe(B3OS))
    (sent,) = script.sent
    request = sent.request
    assert (request.method, request.path, request.query, request.json) == ("GET", "/v1/runs", {"limit": "1"}, None)
    assert (request.description, request.absent) == (
        "connection test of B3OS",
        "There is no such API at this address",
    )


CANCEL, LOOK = "POST /v1/nyx/runs/r/cancel", "read r"


def nyx(status: str) -> Any:
    return seen(NYX, {"run_id": "r", "status": status})


@pytest.mark.parametrize(
    ("replies", "asked"),
    [
        ([b""], [CANCEL]),
        ([DOWN, nyx("running"), b""], [CANCEL, LOOK, 0.5, CANCEL]),
        ([ConflictError("No.", status=409), nyx("running"), b""], [CANCEL, LOOK, 0.5, CANCEL]),
        ([DOWN, nyx("cancelled")], [CANCEL, LOOK]),
        ([DOWN, DOWN, DOWN, nyx("running"), b""], [CANCEL, LOOK, 0.5, CANCEL, LOOK, 1.0, CANCEL]),
        ([RequestRefused("No.", status=400), nyx("failed")], [CANCEL, LOOK]),
    ],
)
def test_a_cancel_is_sent_until_it_is_taken_or_the_run_is_over(replies: list[Any], asked: list[Any]) -> None:
    script = Script(*replies)
    assert script(flows.cancel(NYX, NYX.ref("r"))) is None
    assert script.asked == asked
    assert script.sent[0].request.description == "cancel of nyx run r"


@pytest.mark.parametrize(
    ("replies", "error"),
    [
        ([DOWN, nyx("running")] * 3 + [DOWN], ServerTrouble),
        ([RequestRefused("No.", status=400), nyx("running")], RequestRefused),
        ([RequestRefused("No.", status=400), DOWN], RequestRefused),
        ([AuthError("No.", status=403)], AuthError),
    ],
)
def test_a_cancel_that_is_not_taken_is_an_error(replies: list[Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        Script(*replies)(flows.cancel(NYX, NYX.ref("r")))


def test_a_run_that_is_stopping_needs_no_other_cancel() -> None:
    stopping = seen(NEKT, {"id": "r", "status": "cancelling"})
    Script(DOWN, stopping)(flows.cancel(NEKT, NEKT.ref("r")))


def test_who_has_no_cancel_says_so() -> None:
    with pytest.raises(NotSupported, match=r"^Nexio documents no way to cancel a run\."):
        Script()(flows.cancel(NEXIO, NEXIO.ref("r")))


# --- lists -------------------------------------------------------------------------------------------------------

PARENT = {"config_name": "c"}


def entry(run_id: str, minute: int | None = None, **more: Any) -> dict[str, Any]:
    created = {} if minute is None else {"created_at": f"2026-04-01T12:{minute:02}:00Z"}
    return {"run_id": run_id, "status": "running", "config_name": "c", **created, **more}


def test_a_page_has_the_newest_run_first_and_says_how_many_entries_name_none(caplog: pytest.LogCaptureFixture) -> None:
    listed = [entry("old", 1), entry("new", 3), {"status": "running", "config_name": "c"}, entry("mid", 2), entry("x")]
    script = Script(body({"runs": listed}))
    page = script(flows.list_page(NYX, PARENT, by=500.0, clock=lambda: 0.0))
    assert [each.snapshot.ref.run_id for each in page.observations] == ["new", "mid", "old", "x"]
    assert (len(page.unread), page.date, script.by) == (1, 50.0, [500.0])
    assert [record.getMessage() for record in caplog.records] == [
        f"The {script.sent[0].request.description} has 1 entry without a readable run id; the others are used."
    ]
    script = Script(body({"runs": listed}))
    assert [each.ref.run_id for each in script(flows.recent(NYX, "c"))] == ["new", "mid", "old", "x"]


def test_entries_are_counted_in_words() -> None:
    assert [flows.unreadable(count) for count in (1, 2)] == [
        "1 entry without a readable run id",
        "2 entries without a readable run id",
    ]


LATEST = "GET /v1/nyx/runs/by-config/c"


def test_the_newest_run_is_read_by_its_own_route_where_there_is_one() -> None:
    script = Script(body(entry("a", 1)))
    page = script(flows.latest_page(NYX, PARENT, by=500.0, clock=lambda: 0.0))
    assert [each.snapshot.ref.run_id for each in page.observations] == ["a"]
    assert (script.asked, script.by, page.date) == ([LATEST], [500.0], 50.0)
    assert Script()(flows.latest_page(B3OS, {"workflow_id": "w"})) is None
    script = Script(body(entry("a", 1)))
    assert [each.ref.run_id for each in script(flows.newest(NYX, "c"))] == ["a"]
    assert script.asked == [LATEST]


def test_where_no_run_has_a_route_of_its_own_the_list_says_which_is_newest() -> None:
    script = Script(body({"data": {"items": [{"id": "a", "status": "running", "workflowId": "w"}]}}))
    assert [each.ref.run_id for each in script(flows.newest(B3OS, "w"))] == ["a"]
    assert script.asked == ["GET /v1/workflows/w/runs"]


def missing(is_json: bool) -> RunNotFound:
    error = RunNotFound("None.", status=404)
    error.is_json = is_json
    return error


def test_only_a_404_of_the_service_itself_means_that_a_parent_has_no_run() -> None:
    assert Script(missing(True))(flows.latest_page(NYX, PARENT)).observations == []
    with pytest.raises(RunNotFound):
        Script(missing(False))(flows.latest_page(NYX, PARENT))


@pytest.mark.parametrize("flow", [flows.latest_page, flows.list_page])
def test_a_list_that_fails_is_asked_for_again_until_its_moment(flow: Callable[..., Flow[Any]]) -> None:
    script = Script(DOWN, DOWN)
    with pytest.raises(ServerTrouble):
        script(flow(NYX, PARENT, by=101.0, clock=lambda: script.now))
    assert script.asked[1::2] == [0.5]
