"""What a trigger fires, as JSON that a worker of another version reads; and what that one makes of what it cannot."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runops.airflow import events, exceptions
from runops.airflow._compat import AirflowException
from runops.airflow.lost_submit import LostSubmit
from runops.core import Outcome, RunRef, RunSnapshot
from runops.core.model import errors
from runops.core.model.codes import Code
from runops.core.model.run import Phase
from runops.core.waiting.intent import Intent
from runops.core.waiting.phases import PhasesSeen
from runops.core.waiting.turns import Turn

REF = RunRef(provider="onepin", run_id="r1", parents={"workflow_id": "w"})
OPEN = RunSnapshot(ref=REF, state="running", phase=Phase.RUNNING)
OVER = RunSnapshot(ref=REF, state="done", outcome=Outcome.FAILED, reason="broke")
INTENT = Intent(mark="[bcd]", ids_before=frozenset({"r0"}), clock=7.0)
TURN = Turn(parent={"config_name": "c"}, since=5.0, until=9.0)


def travelled(event: dict[str, Any]) -> Any:
    return json.loads(json.dumps(event, allow_nan=False))


def test_an_end_travels_with_its_snapshot() -> None:
    event = travelled(events.ended(OVER))
    assert (event["version"], event["kind"]) == (1, "ended")
    assert events.read_end(event) == OVER
    assert events.says_ended(event)
    assert events.read_found(event) is None
    assert (events.says_lost(event), events.says_turn(event)) == (False, False)


def test_a_run_that_was_found_travels_with_its_address() -> None:
    event = travelled(events.found(REF))
    assert (event["version"], event["kind"]) == (1, "found")
    assert events.read_found(event) == REF
    assert [says(event) for says in (events.says_ended, events.says_lost, events.says_turn)] == [False] * 3


def test_a_lost_submit_and_a_turn_travel_with_what_was_known() -> None:
    lost, turn = travelled(events.lost(INTENT)), travelled(events.turn(TURN))
    assert lost == {"version": 1, "kind": "lost", "intent": INTENT.to_dict()}
    assert turn == {"version": 1, "kind": "turn", "turn": TURN.to_dict()}
    assert (events.says_lost(lost), events.says_turn(lost)) == (True, False)
    assert (events.says_lost(turn), events.says_turn(turn)) == (False, True)
    assert not events.says_turn({"kind": "turn"})
    assert not events.says_turn({"kind": "turn", "turn": "now"})


@pytest.mark.parametrize("event", [None, "ended", 3, [], {}])
def test_what_is_no_event_says_nothing(event: Any) -> None:
    for says in (events.says_ended, events.says_lost, events.says_turn):
        assert says(event) is False
    assert events.read_found(event) is None
    assert events.read_entered(event) is None


def test_an_entry_of_a_phase_travels_with_what_the_wait_goes_on_with() -> None:
    seen = PhasesSeen()
    more = {"submitted_at": 3.0, "past": {"seen": True}}
    event = travelled(events.entered(OPEN, seen, deadline=99.0, **more))
    assert (event["version"], event["kind"]) == (1, "phase")
    read = events.read_entered(event)
    assert read is not None
    assert (read.snapshot, read.seen, read.deadline) == (OPEN, seen.to_dict(), 99.0)
    assert (read.submitted_at, read.past) == (3.0, {"seen": True})
    bare = events.read_entered(travelled(events.entered(OPEN, seen, deadline=99.0)))
    assert bare is not None
    assert (bare.submitted_at, bare.past) == (None, None)
    assert events.read_entered(events.ended(OVER)) is None


def test_the_end_of_a_set_travels_with_its_reason_and_no_rows_where_none_are_told() -> None:
    event = travelled(events.runs("all"))
    assert event == {"version": 1, "kind": "runs", "end": "all"}
    read = events.read_runs(event)
    assert (read.end, read.rows, read.results, read.clocks, read.failure) == ("all", [], {}, {}, None)
    told = events.read_runs({**event, "rows": [{"i": 1}], "results": {"3": {"run_id": "r"}}, "clocks": {"1": 2}})
    assert (told.rows, told.full, told.clocks) == ([{"i": 1}], {3: {"run_id": "r"}}, {"1": 2})


ERRORS = {
    "RunNotFound": exceptions.RunNotFound, "AuthError": exceptions.AuthError, "PollingError": exceptions.PollingError,
    "ConflictError": exceptions.ConflictError, "RequestRefused": exceptions.RequestRefused,
    "ServiceUnavailable": exceptions.ServiceUnavailable, "UnknownStateError": exceptions.UnknownStateError,
    "SubmitUncertainError": exceptions.SubmitUncertainError, "SubmitUnconfirmed": exceptions.SubmitUnconfirmed,
    "ConfigurationError": exceptions.ConfigurationError, "TriggerCrashed": exceptions.TriggerCrashed,
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_travels_by_its_name_with_its_text_and_its_code(name: str) -> None:
    error = ERRORS[name]("what happened", error_code=Code.KEY_REFUSED)
    event = travelled(events.failed(error))
    assert event == {
        "version": 1, "kind": "error", "error": name, "message": "what happened", "error_code": "key-refused",
    }  # fmt: skip
    for read in (events.read_end, lambda event: raised(events.read_runs(event).failure)):
        with pytest.raises(ERRORS[name], match="what happened") as caught:
            read(event)
        assert type(caught.value) is ERRORS[name]
        assert caught.value.error_code is Code.KEY_REFUSED


def raised(error: AirflowException | None) -> None:
    assert error is not None
    raise error


def test_an_error_of_another_kind_travels_as_a_crash_of_the_trigger() -> None:
    event = travelled(events.failed(ValueError("secret of a frame")))
    assert (event["error"], "error_code" in event) == ("TriggerCrashed", False)
    with pytest.raises(exceptions.TriggerCrashed, match="of a later version"):
        events.read_end({"version": 1, "kind": "error", "error": "Later", "message": "of a later version"})


@pytest.mark.parametrize("more", [{}, {"message": None}, {"message": ""}])
def test_an_error_without_a_text_says_that_it_has_none(more: dict[str, Any]) -> None:
    event = {"version": 1, "kind": "error", **more}
    for read in (events.read_end, lambda event: raised(events.read_runs(event).failure)):
        with pytest.raises(exceptions.TriggerCrashed, match="The trigger reports an error without a text"):
            read(event)


TIMED_OUT = {**RunSnapshot(ref=REF, state=None, outcome=Outcome.TIMED_OUT, ended_by="timeout").to_dict()}
NO_END: dict[str, dict[str, Any]] = {
    "without a snapshot": {},
    "of a run that goes on": {"snapshot": OPEN.to_dict()},
    "by no clock": {"snapshot": {**TIMED_OUT, "ended_by": None}},
}


@pytest.mark.parametrize("what", NO_END)
def test_an_end_that_says_not_how_is_a_crash(what: str) -> None:
    with pytest.raises(exceptions.TriggerCrashed, match="says that the run ended, but not how"):
        events.read_end({"version": 1, "kind": "ended", **NO_END[what]})
    assert events.read_end({"version": 1, "kind": "ended", "snapshot": TIMED_OUT}).ended_by == "timeout"


@pytest.mark.parametrize(
    ("event", "fields"),
    [
        (None, "event"), ({}, "kind, version"), ({"version": 1, "kind": "other"}, "kind"),
        ({"version": "x", "kind": "error"}, "version"),
    ],
    ids=str,
)  # fmt: skip
def test_an_event_that_cannot_be_read_is_a_crash_that_names_the_fields(event: Any, fields: str) -> None:
    for read in (events.read_end, events.read_runs):
        with pytest.raises(exceptions.TriggerCrashed, match=rf"The trigger's event cannot be read: {fields}\."):
            read(event)


# --- what errors of the core are called ---

MEANINGS = {
    errors.AuthError: "AuthError", errors.RunNotFound: "RunNotFound", errors.ConflictError: "ConflictError",
    errors.FinalError: "RequestRefused", errors.TransientError: "ServiceUnavailable",
    errors.ConfigurationError: "ConfigurationError",
}  # fmt: skip


@pytest.mark.parametrize("kind", MEANINGS, ids=lambda kind: kind.__name__)
def test_an_error_of_the_core_has_one_name_in_airflow_and_keeps_text_and_code(kind: Any) -> None:
    error = kind("what happened", error_code=Code.BAD_CONNECTION)
    made: Any = exceptions.as_airflow(error)
    assert type(made).__name__ == MEANINGS[kind]
    assert (made.error_code, "what happened" in str(made)) == (Code.BAD_CONNECTION, True)
    assert exceptions.meaning_of(kind.__name__).__name__ == MEANINGS[kind]


@pytest.mark.parametrize(
    ("name", "found", "meaning"),
    [
        ("SubmitUncertainError", False, "SubmitUncertainError"), ("SubmitUncertainError", True, "SubmitUnconfirmed"),
        ("RunNotFound", True, "RunNotFound"), ("PollingError", False, "PollingError"),
        ("MalformedAnswer", False, "ServiceUnavailable"), ("RunopsError", False, "RunopsException"),
        ("NoSuchError", False, "TriggerCrashed"), ("Code", False, "TriggerCrashed"),
        ("annotations", False, "TriggerCrashed"),
    ],
)  # fmt: skip
def test_a_name_in_a_record_means_what_the_error_would(name: str, found: bool, meaning: str) -> None:
    assert exceptions.meaning_of(name, may_be_found=found).__name__ == meaning
    assert exceptions.meaning_of(name) is exceptions.meaning_of(name, may_be_found=False)


def test_a_lost_submit_that_may_be_found_is_no_final_failure() -> None:
    uncertain = errors.SubmitUncertainError("lost", may_be_found=True)
    assert type(exceptions.as_airflow(uncertain)) is exceptions.SubmitUnconfirmed
    assert type(exceptions.as_airflow(errors.SubmitUncertainError("lost"))) is exceptions.SubmitUncertainError


@pytest.mark.parametrize("adopt_uncertain", [True, False])
def test_a_lost_submit_comes_to_the_triggerer_as_it_was(adopt_uncertain: bool) -> None:
    lost = LostSubmit({"workflow_id": "w"}, INTENT, 9.0, adopt_uncertain)
    assert LostSubmit.from_dict(travelled(lost.to_dict())) == lost
