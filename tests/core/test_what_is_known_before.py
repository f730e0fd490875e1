"""What is known before a submit or a retry: its mark, what a list showed, and which run may be retried."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from runops.core import ConfigurationError, NotSupported, Phase, RunSnapshot, find
from runops.core.declaration import Call, Listing, Retry, Route
from runops.core.model.errors import AnswerError, RunNotFound, ServerTrouble, WrongState
from runops.core.waiting.flows import Send
from runops.core.waiting.intent import (
    Intent,
    check_call,
    fingerprint,
    list_before_submit,
    new_mark,
    submitter,
    submitter_of_mark,
)
from runops.core.waiting.own_runs import MarkedRuns, OwnRuns, marked_runs, runs_of, shows_marks
from runops.core.waiting.retry_call import following, learnt_call, parent_of, patient_look, retry_call
from runops.core.waiting.steps import Effect, Flow, Reply, Sleep
from tests.flows import drive
from tests.services import CALLS

NEXIO, NYX, ONEPIN, B3OS, NEKT = (find(name) for name in ("nexio", "nyx", "onepin", "b3os", "nekt"))


class Script:
    """Replies in order, with a date of the service."""

    def __init__(self, *replies: Any, date: float | None = 50.0) -> None:
        self.replies = list(replies)
        self.date = date
        self.asked: list[str] = []

    def __call__(self, flow: Flow[Any]) -> Any:
        found = drive(flow, self._reply_to)
        assert not self.replies, "all of them are asked for"
        return found

    def _reply_to(self, effect: Effect) -> Any:
        if isinstance(effect, Sleep):
            return None
        assert isinstance(effect, Send)
        self.asked.append(effect.request.path)
        reply = self.replies.pop(0)
        if isinstance(reply, AnswerError):
            raise reply
        return Reply(json.dumps(reply).encode(), self.date)


# --- marks -------------------------------------------------------------------------------------------------------


def test_a_mark_says_who_submits_and_which_submit_it_is() -> None:
    marks = {new_mark("dag/task") for _ in range(50)}
    assert len(marks) == 50
    for mark in marks:
        assert re.fullmatch(r"\[[bcdfghjklmnpqrstvwxz]{13}]", mark)
        assert mark[1:8] == submitter("dag/task") == submitter_of_mark(f"Audit {mark} ")
    assert submitter("dag/task") == "brxmqdm"
    assert len({new_mark()[1:8] for _ in range(20)}) > 1


@pytest.mark.parametrize(
    "text", ["", "Audit", "[bcdfghjklmnp]", "[bcdfghjklmnpqq]", "[aeiobcdfghjkl]", "[bcdfghjklmnpq]x"]
)
def test_what_ends_with_no_mark_says_not_who_submitted(text: str) -> None:
    assert submitter_of_mark(text) is None


# --- the intent --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "intent"),
    [
        (None, Intent()),
        ({}, Intent()),
        ({"mark": "", "ids_before": "ab", "clock": "5"}, Intent()),
        ({"mark": 5, "ids_before": {"a": 1}, "clock": None}, Intent()),
        ({"mark": "[m]", "ids_before": ["a", 5], "clock": 5}, Intent("[m]", frozenset({"a", "5"}), 5.0)),
        ({"mark": None, "ids_before": []}, Intent(None, frozenset(), None)),
    ],
)
def test_a_record_that_says_nothing_proves_nothing(record: Any, intent: Intent) -> None:
    assert Intent.from_dict(record) == intent


def test_an_intent_travels_whole() -> None:
    intent = Intent("[m]", frozenset({"b", "a"}), 5.5)
    assert intent.to_dict() == {"mark": "[m]", "ids_before": ["a", "b"], "clock": 5.5}
    assert Intent.from_dict(json.loads(json.dumps(intent.to_dict()))) == intent
    assert Intent().to_dict() == {"mark": None, "ids_before": None, "clock": None}


def call_of(name: str) -> Call:
    return find(name).call(**CALLS[name])


LATEST, LIST = "/v1/nyx/runs/by-config/nightly", "/v1/nyx/runs"
RUN = {"run_id": "a", "status": "running", "config_name": "nightly", "created_at": "1971-01-02T00:00:00Z"}


def test_with_a_mark_the_newest_run_is_enough() -> None:
    script = Script(RUN)
    intent = script(list_before_submit(NYX, call_of("nyx"), identity="dag/task"))
    assert submitter_of_mark(intent.mark or "") == submitter("dag/task")
    # A time on the page itself is the service's clock too.
    assert (intent.ids_before, intent.clock, script.asked) == (frozenset({"a"}), 86_400.0 * 366, [LATEST])
    assert Script(RUN)(list_before_submit(NYX, call_of("nyx"), mark="[m]")).mark == "[m]"


def test_without_a_mark_the_whole_page_is_looked_at() -> None:
    script = Script({"runs": [RUN]}, date=1e9)
    intent = script(list_before_submit(NYX, call_of("nyx"), mark_runs=False, mark="[m]"))
    assert (intent, script.asked) == (Intent(None, frozenset({"a"}), 1e9), [LIST])
    assert Script({"runs": [RUN]}, date=None)(list_before_submit(NYX, call_of("nyx"), mark_runs=False)).clock is None
    unread = Script({"runs": [RUN, {"status": "running", "config_name": "nightly"}]}, date=1e9)
    assert unread(list_before_submit(NYX, call_of("nyx"), mark_runs=False)) == Intent(None, None, 1e9)


def test_where_nothing_is_listed_nothing_is_asked_for() -> None:
    assert Script()(list_before_submit(NEXIO, call_of("nexio"))) == Intent()
    bare = Call("nyx", "/x", {"name": "n"})
    assert Script()(list_before_submit(NYX, bare, mark="[m]")) == Intent("[m]")


@pytest.mark.parametrize(
    ("mark_runs", "then"),
    [(True, "it is found by its mark"), (False, "nobody can tell whether it was started")],
)
def test_a_list_that_cannot_be_read_stops_no_submit(
    mark_runs: bool, then: str, caplog: pytest.LogCaptureFixture
) -> None:
    refused = RunNotFound("None.", status=404)
    intent = Script(refused)(list_before_submit(NYX, call_of("nyx"), mark="[m]", mark_runs=mark_runs))
    assert intent == Intent("[m]" if mark_runs else None)
    (record,) = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert record.getMessage() == (
        "The runs of Nyx could not be listed before the submit (None. [run-not-found]). The run is submitted all the "
        f"same; should the answer get lost, {then}."
    )


def test_two_submissions_are_one_by_what_is_sent_and_where() -> None:
    call = Call("nyx", "/x", {"a": 1, "b": 2}, {"p": "q"})
    same = Call("nyx", "/x", {"b": 2, "a": 1}, {"p": "q"}, {"parent": "other"})
    assert fingerprint(call, "root") == fingerprint(same, "root")
    assert re.fullmatch(r"[0-9a-f]{32}", fingerprint(call, "root"))
    others = [
        fingerprint(call, "elsewhere"),
        fingerprint(Call("nyx", "/y", {"a": 1, "b": 2}, {"p": "q"}), "root"),
        fingerprint(Call("nyx", "/x", {"a": 1, "b": 3}, {"p": "q"}), "root"),
        fingerprint(Call("nyx", "/x", {"a": 1, "b": 2}, {"p": "r"}), "root"),
    ]
    assert len({fingerprint(call, "root"), *others}) == 5


@pytest.mark.parametrize(
    ("provider", "call", "error", "said"),
    [
        (NYX, Call("nexio", "/x"), ConfigurationError, "This call is for nexio, not for Nyx. [bad-argument]"),
        (NYX, Call("nyx", "/x", retry_of="r"), NotSupported, "Nyx documents no way to retry a run. [not-supported]"),
        (NEKT, Call("nekt", "/x"), NotSupported, "Nekt documents no way to start a run. [not-supported]"),
    ],
)
def test_a_call_that_its_provider_cannot_start_is_refused(
    provider: Any, call: Call, error: type[Exception], said: str
) -> None:
    with pytest.raises(error) as caught:
        check_call(provider, call)
    assert str(caught.value) == said


# --- retries -----------------------------------------------------------------------------------------------------

REF = B3OS.ref("r")


def test_a_retry_bears_the_parent_that_is_given_or_that_its_address_names() -> None:
    path = "/v1/runs/r/retry"
    assert retry_call(B3OS, REF) == Call("b3os", path, retry_of="r")
    assert retry_call(B3OS, REF, {"workflow_id": " w "}) == Call(
        "b3os", path, parent={"workflow_id": "w"}, retry_of="r"
    )
    with pytest.raises(NotSupported, match=r"^Nyx documents no way to retry a run\."):
        retry_call(NYX, NYX.ref("r"))
    with pytest.raises(ConfigurationError, match="nyx run r is not a run of B3OS"):
        retry_call(B3OS, NYX.ref("r"))


def test_after_a_retry_that_failed_its_own_run_is_retried() -> None:
    first = retry_call(B3OS, REF, {"workflow_id": "w"})
    assert following(B3OS, first, B3OS.ref("s")) == retry_call(B3OS, B3OS.ref("s"), {"workflow_id": "w"})
    plain = call_of("b3os")
    assert following(B3OS, plain, B3OS.ref("s")) is plain


def shown(status: str, **more: Any) -> dict[str, Any]:
    return {"data": {"id": "r", "status": status, "workflowId": "w", **more}}


def test_the_parent_of_a_retry_is_read_from_the_run() -> None:
    script = Script(ServerTrouble("x", status=503), shown("failure"))
    assert script(learnt_call(B3OS, REF)) == retry_call(B3OS, REF, {"workflow_id": "w"})
    assert script.asked == ["/v1/runs/r", "/v1/runs/r"]
    assert Script({"data": {"id": "r", "status": "failure"}})(learnt_call(B3OS, REF)) == retry_call(B3OS, REF)
    assert Script(shown("waiting"))(patient_look(B3OS, REF)).phase is Phase.WAITING


AGAIN = Retry(Route("POST", "/again/{run_id}"), run_id=("id",))


def test_a_run_is_not_read_for_a_parent_that_its_address_names_or_that_no_list_takes() -> None:
    onepin, unlisted = replace(ONEPIN, retry=AGAIN), replace(B3OS, listing=None)
    flow = {"workflow_id": "p"}
    named = Call("onepin", "/again/r", parents=flow, parent=flow, retry_of="r")
    assert Script()(learnt_call(onepin, onepin.ref("r", flow))) == named
    assert Script()(learnt_call(unlisted, REF)) == Call("b3os", "/v1/runs/r/retry", retry_of="r")


def test_of_several_kinds_of_parents_a_detail_names_the_first() -> None:
    listing = Listing(Route("GET", "/all"), (), ("source", "pipeline"), filtered=True, parent_detail="number")
    nekt = replace(NEKT, listing=listing)
    run = RunSnapshot(ref=nekt.ref("r"), state="x", details={"number": "n"})
    assert parent_of(nekt, run) == {"source": "n"}


def test_no_mark_goes_along_with_a_retry_where_a_submit_has_one() -> None:
    nyx = replace(NYX, retry=AGAIN)
    call = retry_call(nyx, nyx.ref("r"), {"config_name": "nightly"})
    script = Script(RUN | {"run_id": "r", "status": "failed"}, {"runs": [RUN]}, date=1e9)
    assert script(list_before_submit(nyx, call, mark="[m]")) == Intent(None, frozenset({"a"}), 1e9)
    assert script.asked == ["/v1/nyx/runs/r", LIST]


@pytest.mark.parametrize(
    ("provider", "details", "parent"),
    [
        ("b3os", {"workflowId": "w"}, {"workflow_id": "w"}),
        ("b3os", {"workflowId": ""}, {}),
        ("b3os", {"workflowId": 5}, {}),
        ("b3os", {}, {}),
        ("onepin", {"workflowId": "w"}, {"workflow_id": "p"}),
        ("nexio", {"workflowId": "w"}, {}),
        ("nyx", {"config_name": "c"}, {}),
    ],
)
def test_the_parent_of_a_run_is_known_by_its_address_or_its_details(
    provider: str, details: dict[str, Any], parent: dict[str, str]
) -> None:
    declared = find(provider)
    ref = declared.ref("r", {"workflow_id": "p"} if declared.parents else None)
    assert parent_of(declared, RunSnapshot(ref=ref, state="x", details=details)) == parent


@pytest.mark.parametrize(
    ("status", "stands"),
    [("success", "success (succeeded)"), ("running", "running"), ("waiting", "waiting"), ("cancelled", "cancelled")],
)
def test_only_a_run_that_failed_is_retried(status: str, stands: str) -> None:
    call = retry_call(B3OS, REF, {"workflow_id": "w"})
    with pytest.raises(WrongState) as caught:
        Script(shown(status))(list_before_submit(B3OS, call))
    said = f"b3os run r is {stands}, and only one that failed can be retried. Nothing was submitted."
    assert (caught.value.text, caught.value.snapshot.state) == (said, status)


def test_a_retry_under_another_parent_than_its_runs_is_refused() -> None:
    call = retry_call(B3OS, REF, {"workflow_id": "v"})
    with pytest.raises(ConfigurationError) as caught:
        Script(shown("failure"))(list_before_submit(B3OS, call))
    assert caught.value.text == "b3os run r is of workflow_id 'w', not of workflow_id 'v'. Nothing was submitted."


def test_a_retry_is_listed_for_as_a_submit_is_and_bears_no_mark() -> None:
    call = retry_call(B3OS, REF, {"workflow_id": "w"})
    script = Script(shown("failure"), {"data": {"items": [{"id": "q", "status": "running", "workflowId": "w"}]}})
    intent = script(list_before_submit(B3OS, call, mark="[m]"))
    assert intent == Intent(None, frozenset({"q"}), 50.0)
    assert script.asked == ["/v1/runs/r", "/v1/workflows/w/runs"]


# --- the runs of one submitter -----------------------------------------------------------------------------------


def marked(run_id: str, status: str, who: str | None = None, **more: Any) -> dict[str, Any]:
    name = "Audit" if who is None else f"Audit {new_mark(who)}"
    return {"run_id": run_id, "status": status, "config_name": "nightly", "name": name, "result": "success", **more}


PARENT = {"config_name": "nightly"}


def test_runs_are_told_by_their_marks_those_under_way_first() -> None:
    listed = [marked("a", "completed", "me"), marked("b", "running", "me"), marked("c", "running", "you"),
              marked("d", "completed"), marked("e", "queued")]  # fmt: skip
    script = Script({"runs": listed}, marked("f", "queued", "me"))
    found = script(runs_of(NYX, PARENT, "me", clock=lambda: 0.0))
    assert found.whole
    assert [run.ref.run_id for run in found.ours] == ["b", "f", "a"]
    assert [run.ref.run_id for run in found.active] == ["b", "c", "e", "f"]
    assert script.asked == [LIST, LATEST]


@pytest.mark.parametrize("unread", [True, False])
def test_an_entry_that_names_no_run_leaves_a_look_unfinished(unread: bool) -> None:
    listed = [marked("a", "running", "me"), *([{"status": "running", "config_name": "nightly"}] if unread else [])]
    found = Script({"runs": listed}, marked("a", "running", "me"))(marked_runs(NYX, PARENT, clock=lambda: 0.0))
    assert found.whole is not unread
    assert len(found.of("me").ours) == 1
    assert found.of("nobody") == OwnRuns(found.whole, (), found.active)


def test_where_nothing_is_listed_no_run_is_known() -> None:
    look: Callable[..., Flow[MarkedRuns]] = marked_runs
    assert Script()(look(NEXIO, PARENT, clock=lambda: 0.0)) == MarkedRuns()
    assert Script()(look(NYX, {}, clock=lambda: 0.0)) == MarkedRuns(False, {}, ())
    assert [name for name in CALLS if shows_marks(find(name))] == ["nyx"]
