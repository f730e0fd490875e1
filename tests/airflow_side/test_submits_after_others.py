"""What a try does after another one: by its record, by what the triggerer has found, or after a person's clear."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_mock import MockerFixture

from runops.airflow.lost_submit import LostSubmit
from runops.airflow.submission import Submitted, identity_of
from runops.core import ConflictError, Outcome, SubmitUncertainError, TransientError
from runops.core.waiting.turns import Turn
from tests.airflow_side.submits import INTENT, NOW, Task, json_of, of, task_now


@pytest.fixture
def task(mocker: MockerFixture) -> Task:
    return task_now(mocker)


# --- what a record leads to -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "own", "how"), [("submitted", True, "submitted"), ("attached", False, "found active")]
)
def test_a_run_that_goes_on_is_attached_to_again(
    task: Task, state: str, own: bool, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    task.record = {"state": state, "ref": json_of(task, "old"), "submitted_at": NOW - 60}
    with caplog.at_level(logging.INFO):
        assert task.start() == Submitted(task.client.run("old"), NOW - 60, own, taken_up=True)
    assert caplog.messages == [f"Re-attached to nyx run old, which an earlier try {how}."]
    assert task.client.asked == [("get", "old")]


@pytest.mark.parametrize(
    ("outcome", "given_up", "anew"),
    [
        (None, False, False), (None, True, False), (Outcome.FAILED, False, True), (Outcome.SUCCEEDED, False, False),
        (Outcome.CANCELLED, False, False), (Outcome.CANCELLED, True, True), (Outcome.CANCELLED, "stopped", True),
        (Outcome.SUCCEEDED, True, False),
    ],
)  # fmt: skip
def test_a_new_run_follows_one_that_ended_so_or_that_was_given_up_and_cancelled(
    task: Task, outcome: Outcome | None, given_up: Any, anew: bool
) -> None:
    task.record = {"state": "submitted", "ref": json_of(task, "old"), "submitted_at": 1.0, "given_up": given_up is True}
    if given_up == "stopped":
        task.store.set("runops_stopped", "old")
    task.client.outcome = outcome
    started = task.start()
    assert (started.ref.run_id, started.taken_up) == (("new", False) if anew else ("old", True))
    assert task.steps == (["get", "submit"] if anew else ["get"])


def test_a_task_that_never_submits_after_another_run_asks_for_nothing(task: Task) -> None:
    task.record = {"state": "submitted", "ref": json_of(task, "old"), "submitted_at": 1.0}
    assert task.start(may_follow=None).taken_up
    assert task.client.asked == []


def test_a_run_that_cannot_be_read_is_attached_to(task: Task, caplog: pytest.LogCaptureFixture) -> None:
    task.record = {"state": "submitted", "ref": json_of(task, "old"), "submitted_at": 1.0}
    task.client.unread = TransientError("away")
    assert task.start().taken_up
    assert caplog.messages[0] == f"nyx run old could not be read at once: {TransientError('away')}"


@pytest.mark.parametrize("given_up", [True, False])
def test_a_wait_for_a_turn_goes_on_unless_it_was_given_up(
    task: Task, given_up: bool, caplog: pytest.LogCaptureFixture
) -> None:
    task.record = {"state": "awaiting turn", "turn": task.client.turn.to_dict(), "given_up": given_up}
    with caplog.at_level(logging.INFO):
        task.start()
    assert task.client.asked == [("submit", task.call, "a/b/c/-1", None if given_up else task.client.turn)]
    assert ("An earlier try waited for its turn; the wait goes on." in caplog.messages) is not given_up


@pytest.mark.parametrize("given_up", [True, False])
@pytest.mark.parametrize("outcome", [Outcome.CANCELLED, None])
@pytest.mark.parametrize("found", [True, False])
def test_a_run_that_was_looked_for_counts_unless_it_was_given_up_and_is_cancelled(
    task: Task, given_up: bool, outcome: Outcome | None, found: bool
) -> None:
    task.record = {"state": "submitting", "intent": INTENT.to_dict(), "submitted_at": NOW, "given_up": given_up}
    task.client.outcome = outcome
    ref = task.client.run("found") if found else None
    started: Any = task.submission().take_up(task.client, ref, {})
    anew = given_up and outcome is not None
    assert task.steps == ([] if found else ["submit_again"]) + (["get"] if given_up else []) + ["submit"] * anew
    assert started.ref.run_id == ("found" if found and not anew else "new")
    assert task.record == of(task, "submitted", ref=started.ref.model_dump(mode="json"), submitted_at=NOW)


@pytest.mark.parametrize(
    ("given_up", "outcome", "steps"),
    [
        (False, Outcome.CANCELLED, ["submit_again"]), (True, None, ["submit_again", "get"]),
        (True, Outcome.CANCELLED, ["submit_again", "get", "submit"]),
    ],
)  # fmt: skip
def test_a_run_that_a_new_try_has_found_counts_unless_it_was_given_up_and_is_cancelled(
    task: Task, given_up: bool, outcome: Outcome | None, steps: list[str]
) -> None:
    task.record = {"state": "submitting", "intent": INTENT.to_dict(), "submitted_at": NOW, "given_up": given_up}
    task.client.outcome = outcome
    task.start()
    assert task.steps == steps


@pytest.mark.parametrize("how", ["start", "take_up"])
def test_a_run_that_was_given_up_and_is_not_found_yet_is_looked_for_in_the_triggerer(task: Task, how: str) -> None:
    record = {"state": "submitting", "intent": INTENT.to_dict(), "submitted_at": NOW, "given_up": True}
    task.record = record
    task.client.error = SubmitUncertainError("lost") if how == "start" else ConflictError("busy")
    sub = task.submission(deferrable=True)
    found = sub.start(task.client) if how == "start" else sub.take_up(task.client, None, {})
    assert isinstance(found, LostSubmit if how == "start" else Turn)


def test_what_the_triggerer_did_not_find_is_looked_for_once_more_without_any_grace(task: Task) -> None:
    task.store.delete("runops")
    event = {"intent": INTENT.to_dict(), "submitted_at": NOW}
    task.submission(deferrable=True).take_up(task.client, None, event)
    assert task.client.asked == [("submit_again", task.call, INTENT)]
    assert (task.client.settings["submit_grace"], task.client.settings["resubmit"]) == (0.0, True)


def test_what_the_triggerer_found_is_taken_up_with_the_runs_of_before(
    task: Task, caplog: pytest.LogCaptureFixture
) -> None:
    task.record = {"state": "submitting", "intent": INTENT.to_dict(), "left": [{"state": "submitted"}]}
    with caplog.at_level(logging.INFO):
        assert task.submission().take_up(task.client, task.client.run("late"), {}) == Submitted(
            task.client.run("late"), NOW
        )
    assert task.record["left"] == [{"state": "submitted"}]
    assert caplog.messages == ["Took up nyx run late, whose submit was not answered."]


def test_a_task_instance_is_named_by_its_dag_its_run_its_task_and_its_index() -> None:
    ti = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=3)
    assert identity_of({"ti": ti}) == "d/r/t/3"


# --- after the triggerer has waited for a turn ----------------------------------------------------------------------


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize(
    ("until", "execution_ends", "ends"),
    [
        (0, None, "timeout"), (-1, None, "timeout"), (0.5, None, None), (50, 0, "execution_timeout"),
        (50, -1, "execution_timeout"), (50, 0.5, None),
    ],
)  # fmt: skip
def test_a_turn_is_taken_before_its_clocks_are_over_and_not_after(
    task: Task, recorded: bool, until: float, execution_ends: float | None, ends: str | None
) -> None:
    turn = Turn(parent={}, since=NOW - 100, until=NOW + until)
    event = {"turn": turn.to_dict()}
    if recorded:
        task.record = {"state": "awaiting turn", "turn": turn.to_dict(), "left": [{"state": "submitted"}]}
        event = {}
    limit = None if execution_ends is None else NOW + execution_ends
    if ends is None:
        task.submission().take_turn(task.client, event, limit)
        assert task.client.asked == [("submit", task.call, "a/b/c/-1", turn)]
        assert task.record.get("left") == ([{"state": "submitted"}] if recorded else None)
        return
    with pytest.raises(ConflictError, match=rf"within 100 s \({ends}\)"):
        task.submission().take_turn(task.client, event, limit)
    assert task.client.asked == []
    after = (task.record or {}).get("state")
    assert after == (("refused" if ends == "timeout" else "awaiting turn") if recorded else None)


def test_a_turn_that_an_earlier_process_has_taken_is_gone_on_from(task: Task) -> None:
    task.record = {"state": "submitted", "ref": json_of(task, "old"), "submitted_at": 1.0}
    started: Any = task.submission().take_turn(task.client, {}, NOW)
    assert (started.ref.run_id, started.taken_up) == ("old", True)


# --- a person's clear -----------------------------------------------------------------------------------------------


def test_a_clear_cancels_the_run_of_before_and_names_it_in_the_new_record(
    task: Task, caplog: pytest.LogCaptureFixture
) -> None:
    task.record = {"generation": 1, "state": "submitted", "ref": json_of(task, "old"), "given_up": True}
    with caplog.at_level(logging.INFO):
        assert task.start() == Submitted(task.client.run(), NOW)
    assert task.client.asked == [("get", "old"), ("cancel", "old"), ("submit", task.call, "a/b/c/-1", None)]
    assert task.record["left"] == [{"state": "submitted", "ref": json_of(task, "old")}]
    assert caplog.messages[0] == "The task was cleared: cancelling nyx run old of before."


def test_a_clear_looks_for_the_run_of_a_lost_submit_to_cancel_it(task: Task) -> None:
    task.record = {"generation": 1, "state": "submitting", "intent": INTENT.to_dict()}
    task.start()
    assert task.client.asked[:3] == [
        ("find_submitted", dict(task.call.parent), INTENT, 0.0), ("get", "lost"), ("cancel", "lost"),
    ]  # fmt: skip


def test_a_run_of_before_that_is_over_is_neither_cancelled_nor_named(task: Task) -> None:
    task.record = {"generation": 1, "state": "submitted", "ref": json_of(task, "old")}
    task.client.outcome = Outcome.SUCCEEDED
    task.start()
    assert task.steps == ["get", "submit"]
    assert "left" not in task.record


def test_a_task_that_does_not_cancel_names_the_run_of_before(task: Task) -> None:
    task.record = {"generation": 1, "state": "submitted", "ref": json_of(task, "old")}
    task.start(cancels=False)
    assert task.steps == ["submit"]
    assert [each["ref"]["run_id"] for each in task.record["left"]] == ["old"]


@pytest.mark.parametrize(("state", "what"), [("submitted", "nyx run old"), ("submitting", "The run")])
def test_a_run_of_before_that_could_not_be_cancelled_is_said_to_go_on(
    task: Task, state: str, what: str, mocker: MockerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    task.record = {"generation": 1, "state": state, "ref": json_of(task, "old")}
    mocker.patch.object(task.client, "get", side_effect=TransientError("away"))
    mocker.patch.object(task.client, "find_submitted", side_effect=SubmitUncertainError("away"))
    task.start()
    assert caplog.messages[0].startswith(f"{what} of before could not be cancelled and may go on: away")
    assert caplog.messages[0].endswith("[left-behind]")
    assert len(task.record["left"]) == 1
