"""One task's submit, step by step: what the client is asked for, and what is written down before and after it."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from pytest_mock import MockerFixture

from runops.airflow.forgotten import EarlierTries
from runops.airflow.lost_submit import LostSubmit
from runops.airflow.submission import Submitted
from runops.core import ConflictError, Outcome, RequestRefused, RunRef, SubmitUncertainError, find
from runops.core.waiting.submit_in_turn import TurnRules
from tests.airflow_side.submits import INTENT, NOW, Task, json_of, of, task_now


@pytest.fixture
def task(mocker: MockerFixture) -> Task:
    return task_now(mocker)


# --- what is asked for ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "deferrable", "grace", "elsewhere"),
    [
        ("nyx", True, 10.0, False), ("nyx", True, 10.5, True), ("nyx", True, 300.0, True), ("nyx", False, 300.0, False),
        ("nexio", True, 300.0, False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("adopt", [True, False])
def test_a_worker_leaves_a_longer_search_to_the_triggerer_where_there_is_one_and_a_list(
    task: Task, provider: str, deferrable: bool, grace: float, elsewhere: bool, adopt: bool
) -> None:
    task.service(provider)
    started = task.start(deferrable=deferrable, grace=grace, adopt_uncertain=adopt)
    assert started == Submitted(task.client.run(), NOW, True, False)
    assert task.client.asked == [("submit", task.call, "a/b/c/-1", None)]
    given = {name: task.client.settings[name] for name in ("adopt_uncertain", "submit_grace", "resubmit")}
    assert given == {
        "adopt_uncertain": adopt and not elsewhere, "submit_grace": 10.0 if elsewhere else grace,
        "resubmit": not elsewhere,
    }  # fmt: skip


@pytest.mark.parametrize("adopt", [True, False])
def test_a_lost_answer_is_looked_for_in_the_triggerer_for_all_of_its_grace(task: Task, adopt: bool) -> None:
    task.client.error = SubmitUncertainError("lost")
    lost = task.start(deferrable=True, adopt_uncertain=adopt)
    assert lost == LostSubmit(task.call.parent, INTENT, NOW + 300.0, adopt)
    assert task.record == of(task, "submitting", intent=INTENT.to_dict(), submitted_at=NOW)


def test_a_lost_answer_without_a_triggerer_is_raised_and_stays_known(task: Task) -> None:
    task.client.error = SubmitUncertainError("lost")
    sub = task.submission()
    with pytest.raises(SubmitUncertainError):
        sub.start(task.client)
    assert sub.intent == INTENT
    assert task.record["state"] == "submitting"
    assert sub.find(task.client) == task.client.run("lost")
    assert task.client.asked[-1] == ("find_submitted", dict(task.call.parent), INTENT, 0.0)


def test_before_a_submit_there_is_nothing_to_find(task: Task) -> None:
    assert task.submission().find(task.client) is None
    assert task.client.asked == []


@pytest.mark.parametrize(("age", "left"), [(0, 300.0), (100, 200.0), (299, 1.0), (300, 0.0), (5000, 0.0), (-40, 300.0)])
def test_an_earlier_submit_is_looked_for_as_long_as_its_grace_lasts(
    task: Task, age: float, left: float, caplog: pytest.LogCaptureFixture
) -> None:
    task.record = {"state": "submitting", "intent": INTENT.to_dict(), "submitted_at": NOW - age}
    with caplog.at_level(logging.INFO):
        started = task.start()
    assert started == Submitted(task.client.run(), NOW)
    assert task.client.asked == [("submit_again", task.call, INTENT)]
    assert task.client.settings["submit_grace"] == left
    assert caplog.messages == [
        "An earlier try may have submitted; looking for its run.",
        "Took up nyx run new, which an earlier try submitted.",
    ]


def test_a_record_that_does_not_say_when_has_its_whole_grace(task: Task) -> None:
    task.record = {"state": "submitting", "intent": INTENT.to_dict()}
    task.client.error = SubmitUncertainError("lost")
    lost = task.start(deferrable=True)
    assert (lost.until, lost.intent) == (NOW + 300, INTENT)


# --- what is written down -------------------------------------------------------------------------------------------


def test_each_step_is_written_down(task: Task, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Any] = []

    def submit(*_: Any, before: Any, waiting: Any, attached: Any, **__: Any) -> RunRef:
        task.clock.now += 7
        before(INTENT)
        seen.append((task.record, sub.intent))
        waiting(task.client.turn)
        seen.append((task.record, sub.intent))
        before(INTENT)
        return task.client.run()

    task.client.submit = submit
    sub = task.submission(crashes=3)
    with caplog.at_level(logging.INFO):
        assert sub.start(task.client) == Submitted(task.client.run(), NOW + 7)
    assert seen == [
        (of(task, "submitting", intent=INTENT.to_dict(), submitted_at=NOW + 7), INTENT),
        (of(task, "awaiting turn", turn=task.client.turn.to_dict(), crashes=3), None),
    ]
    assert task.turns == [task.client.turn]
    assert task.record == of(task, "submitted", ref=json_of(task), submitted_at=NOW + 7)
    assert caplog.messages == ["Submitted nyx run new."]


def test_a_run_that_is_attached_to_is_not_its_own_and_no_submit_is_under_way(task: Task) -> None:
    task.client.attaches = True
    sub = task.submission()
    assert sub.start(task.client) == Submitted(task.client.run("theirs"), None, own=False)
    assert sub.intent is None
    assert task.record == of(task, "attached", ref=json_of(task, "theirs"), submitted_at=None)
    task.client.attaches = False
    assert sub.take_up(task.client, None, {}) == Submitted(task.client.run(), NOW)


def test_runs_of_before_are_named_by_each_record_and_at_most_twenty(task: Task) -> None:
    left = [{"state": "submitted", "ref": number} for number in range(22)]
    task.record = {"state": "awaiting turn", "turn": task.client.turn.to_dict(), "left": left}
    task.start()
    assert task.record["left"] == left[2:]


# --- where the submit is refused ------------------------------------------------------------------------------------


def test_a_refused_submit_leaves_no_record_and_nothing_to_look_for(task: Task) -> None:
    task.client.error = RequestRefused("no")
    sub = task.submission(deferrable=True)
    with pytest.raises(RequestRefused):
        sub.start(task.client)
    assert (task.record, sub.intent, task.steps) == (None, None, ["submit"])


@pytest.mark.parametrize(
    ("deferrable", "on_conflict", "waits", "asked"),
    [
        (True, "wait", True, "fail"), (True, "fail", False, "fail"), (True, "attach", False, "attach"),
        (False, "wait", False, "wait"), (False, "fail", False, "fail"),
    ],
)  # fmt: skip
def test_only_a_triggerer_waits_for_a_turn_that_the_task_wants_to_wait_for(
    task: Task, deferrable: bool, on_conflict: Any, waits: bool, asked: str
) -> None:
    rules = TurnRules(on_conflict=on_conflict, until=NOW + 900, interval=3.0, error_budget=4.0, auth_grace=5.0)
    task.client.error = ConflictError("busy")
    sub = task.submission(turns=rules, deferrable=deferrable, crashes=2)
    if waits:
        assert sub.start(task.client) is task.client.turn
        mark = INTENT.mark
        assert task.client.asked[-1] == ("refused", rules, task.call, str(ConflictError("busy")), None, mark)
        assert task.record == of(task, "awaiting turn", turn=task.client.turn.to_dict(), crashes=2)
        assert (task.turns, sub.waits_for_turn) == ([task.client.turn], True)
    else:
        with pytest.raises(ConflictError):
            sub.start(task.client)
        assert (task.record, task.turns, sub.waits_for_turn) == (None, [], False)
    given = task.client.settings["rules"]
    assert (given.on_conflict, given.until, given.interval, given.error_budget, given.auth_grace) == (
        asked, NOW + 900, 3.0, 4.0, 5.0,
    )  # fmt: skip
    assert sub.intent is None


def test_a_task_that_says_nothing_more_has_nobody_told_and_records_no_crash(task: Task) -> None:
    task.client.error = ConflictError("busy")
    for name in ("on_turn", "about"):
        del task.rules[name]
    assert task.start(deferrable=True) is task.client.turn
    assert task.record == {
        "version": 1, "generation": 2, "state": "awaiting turn", "turn": task.client.turn.to_dict(), "crashes": 0,
        "parent": dict(task.call.parent),
    }  # fmt: skip


def test_nobody_need_be_told_of_a_turn(task: Task) -> None:
    task.client.error = ConflictError("busy")
    assert task.start(deferrable=True, on_turn=None) is task.client.turn


# --- a retry of a run that failed -----------------------------------------------------------------------------------


def test_a_retry_keeps_where_it_went_on_from_whatever_becomes_of_its_post(task: Task) -> None:
    provider = find("b3os")
    retry: Any = provider.retry
    task.service("b3os", call=retry.call(RunRef(provider="b3os", run_id="first"), {"workflow_id": "wf_1"}))
    task.start()
    assert task.record["retry"] == {"asked": "first", "of": "first"}
    task.client.outcome = Outcome.FAILED
    task.client.error = RequestRefused("no")
    with pytest.raises(RequestRefused):
        task.start()
    assert task.client.asked[-1][1].retry_of == "new"
    assert task.record == of(task, "refused", retry={"asked": "first", "of": "new"})


# --- what Airflow has forgotten -------------------------------------------------------------------------------------


@pytest.mark.parametrize("reattach", [True, False])
@pytest.mark.parametrize("cancels", [True, False])
@pytest.mark.parametrize("tries", [None, EarlierTries(), EarlierTries(any=True, cleared=True, first=True)], ids=str)
def test_a_forgotten_run_is_looked_for_to_attach_to_it_or_to_cancel_it(
    task: Task, mocker: MockerFixture, reattach: bool, cancels: bool, tries: EarlierTries | None
) -> None:
    mocker.patch("runops.airflow.forgotten.discards_on_clear", return_value=True)
    found = mocker.patch("runops.airflow.forgotten.Forgotten.found", return_value=task.client.run("of before"))
    cancel = mocker.patch("runops.airflow.forgotten.Forgotten.cancel")
    started = task.start(reattach=reattach, cancels=cancels, tries=tries)
    looks = tries is not None and tries.any
    assert (found.call_count, cancel.call_count) == (looks and reattach, looks and not reattach and cancels)
    assert started.ref.run_id == ("of before" if looks and reattach else "new")
    assert started.taken_up is False


@pytest.mark.parametrize(
    ("outcome", "run_id"), [(Outcome.CANCELLED, "of before"), (Outcome.FAILED, "new"), (None, "of before")]
)
def test_a_forgotten_run_that_ended_so_leaves_room_for_a_new_one(
    task: Task, mocker: MockerFixture, outcome: Outcome | None, run_id: str
) -> None:
    mocker.patch("runops.airflow.forgotten.discards_on_clear", return_value=True)
    mocker.patch("runops.airflow.forgotten.Forgotten.found", return_value=task.client.run("of before"))
    task.client.outcome = outcome
    tries = EarlierTries(any=True, cleared=True, first=True)
    assert task.start(reattach=True, tries=tries) == Submitted(task.client.run(run_id), NOW)
    assert task.record == of(task, "submitted", ref=json_of(task, run_id), submitted_at=NOW)
