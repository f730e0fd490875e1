"""What Airflow says of earlier tries, and what a look for the run of one leads to: a run, a submit, or neither."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_mock import MockerFixture

from runops.airflow import forgotten
from runops.airflow.forgotten import EarlierTries, Forgotten
from runops.airflow.retry_chain import kept, retry_of, taken_over
from runops.core import (
    ConfigurationError,
    NotSupported,
    Outcome,
    Phase,
    RunRef,
    RunSnapshot,
    SubmitUncertainError,
    TransientError,
    find,
)
from runops.core.waiting.own_runs import OwnRuns
from tests.services import CALLS


@pytest.mark.parametrize(
    ("number", "most", "retries", "tries"),
    [
        (1, 0, 0, EarlierTries(False, False, True)), (2, 1, 1, EarlierTries(True, False, False)),
        (2, 1, 0, EarlierTries(True, True, True)), (3, 1, 0, EarlierTries(True, True, False)),
        (2, 3, 1, EarlierTries(True, True, True)), (3, 3, 1, EarlierTries(True, True, True)),
        (4, 3, 1, EarlierTries(True, True, False)), (None, None, None, EarlierTries(False, False, True)),
        (2, 1, None, EarlierTries(True, True, True)),
    ],
)  # fmt: skip
def test_the_numbers_of_a_try_say_what_came_before_it(
    number: int | None, most: int | None, retries: int | None, tries: EarlierTries
) -> None:
    ti = SimpleNamespace(max_tries=most, **({} if number is None else {"try_number": number}))
    assert EarlierTries.of({"ti": ti}, retries) == tries
    assert EarlierTries() == EarlierTries(False, False, True)


class Client:
    """Stands for a client whose look at the list shows what a test says."""

    def __init__(self, provider: str, seen: Any) -> None:
        self.provider, self.seen, self.marks_runs = find(provider), seen, True
        self.adopted: list[str] = []
        self.cancelled: list[str] = []
        self.meter = SimpleNamespace(adopted=self.adopted.append)
        self.clock = None
        self.refuses = False

    def drive(self, flow: Any) -> Any:
        assert flow[:3] == (self.provider, forgotten_call(self.provider.name).parent, "a/b/c/-1")
        if isinstance(self.seen, Exception):
            raise self.seen
        return self.seen

    def cancel(self, ref: RunRef) -> None:
        if self.refuses:
            raise TransientError("away")
        self.cancelled.append(ref.run_id)


def forgotten_call(provider: str) -> Any:
    return find(provider).call(**CALLS[provider])


def run(run_id: str, outcome: Outcome | None = None) -> RunSnapshot:
    phase = None if outcome else Phase.RUNNING
    return RunSnapshot(ref=RunRef(provider="nyx", run_id=run_id), state="x", outcome=outcome, phase=phase)


@pytest.fixture(autouse=True)
def a_flow_is_its_arguments(mocker: MockerFixture) -> None:
    mocker.patch.object(
        forgotten, "runs_of", side_effect=lambda provider, parent, identity, clock: (provider, parent, identity, clock)
    )


def made(provider: str, seen: Any = None, *, remembers: bool = True, **tries: bool) -> tuple[Any, Forgotten]:
    client: Any = Client(provider, OwnRuns(whole=True) if seen is None else seen)
    given: Any = {"any": True, "cleared": True, "first": True, **tries}
    return client, Forgotten(
        client=client, call=forgotten_call(provider), identity="a/b/c/-1", tries=EarlierTries(**given),
        remembers=remembers, log=logging.getLogger("a task"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("provider", "remembers", "tries", "discards", "may_be"),
    [
        ("nyx", True, {}, True, True), ("nyx", True, {}, False, False), ("nyx", True, {"cleared": False}, True, False),
        ("nyx", True, {"any": False}, True, False), ("nexio", True, {}, True, True),
        ("nyx", False, {"cleared": False}, False, True), ("nyx", False, {"any": False}, False, False),
        ("b3os", False, {}, True, False),
    ],
)  # fmt: skip
def test_a_run_may_be_forgotten_only_where_one_could_be_told_or_airflow_has_discarded_it(
    mocker: MockerFixture, provider: str, remembers: bool, tries: dict[str, bool], discards: bool, may_be: bool
) -> None:
    mocker.patch.object(forgotten, "discards_on_clear", return_value=discards)
    assert made(provider, remembers=remembers, **tries)[1].may_be is may_be


def test_a_run_that_bears_the_mark_is_found_counted_and_said(caplog: pytest.LogCaptureFixture) -> None:
    client, look = made("nyx", OwnRuns(False, (run("new"), run("old", Outcome.FAILED)), ()))
    with caplog.at_level(logging.INFO):
        assert look.found() == RunRef(provider="nyx", run_id="new")
    assert client.adopted == ["nyx"]
    assert caplog.messages == ["Found by its mark: nyx run new, which an earlier try submitted."]


ANEW = "No run of an earlier try shows up: submitting anew."


@pytest.mark.parametrize(
    ("provider", "seen", "remembers", "marks", "says"),
    [
        ("nyx", OwnRuns(True), True, True, ANEW), ("nyx", OwnRuns(True, (), (run("a"),)), True, True, ANEW),
        ("b3os", OwnRuns(True), True, True, ANEW), ("nyx", OwnRuns(False, (), (run("a"),)), False, True, ANEW),
        ("nyx", OwnRuns(True), True, False, ANEW),
        ("nyx", OwnRuns(True, (), (run("a"),)), True, False, "Nyx refuses a second active run"),
        ("nyx", OwnRuns(False), True, True, "Nyx refuses a second active run"),
        ("onepin", OwnRuns(False), True, True, "OnePin refuses a second active run"),
    ],
)  # fmt: skip
def test_a_new_run_is_submitted_where_no_other_may_be_alive_beside_it(
    provider: str, seen: OwnRuns, remembers: bool, marks: bool, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    client, look = made(provider, seen, remembers=remembers)
    client.marks_runs = marks
    with caplog.at_level(logging.INFO):
        assert look.found() is None
    (said,) = caplog.messages
    assert says in said


@pytest.mark.parametrize(
    ("provider", "seen", "says", "candidates"),
    [
        ("b3os", OwnRuns(True, (), (run("a"), run("b"))), "Nothing proves which run it is; nothing", ["a", "b"]),
        ("b3os", OwnRuns(False), "Nothing proves which run it is; nothing", []),
        ("nexio", OwnRuns(False), "Nexio lists no runs to look through; nothing was submitted", []),
        ("b3os", TransientError("it is away."), "The list of runs could not be read (it is away); nothing", []),
    ],
)  # fmt: skip
def test_nothing_is_submitted_where_a_run_may_be_alive_that_nobody_can_tell(
    provider: str, seen: Any, says: str, candidates: list[str]
) -> None:
    _, look = made(provider, seen)
    with pytest.raises(SubmitUncertainError) as caught:
        look.found()
    assert says in str(caught.value)
    assert "keep_task_state" in str(caught.value)
    assert [ref.run_id for ref in caught.value.candidates] == candidates
    assert caught.value.may_be_found is False


@pytest.mark.parametrize(("marks", "later"), [(True, True), (False, False)])
def test_a_list_that_could_not_be_read_may_show_the_mark_later(marks: bool, later: bool) -> None:
    client, look = made("nyx", TransientError("away"))
    client.marks_runs = marks
    with pytest.raises(SubmitUncertainError) as caught:
        look.found()
    assert caught.value.may_be_found is later


def test_where_nothing_is_ever_remembered_a_list_that_fails_is_said_and_a_run_submitted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert made("nyx", TransientError("away"), remembers=False)[1].found() is None
    assert caplog.messages == ["Whether an earlier try has left a run is not known (away): submitting anew."]


def test_what_goes_on_of_the_tries_before_is_cancelled_by_its_mark(caplog: pytest.LogCaptureFixture) -> None:
    client, look = made("nyx", OwnRuns(True, (run("a"), run("b"), run("over", Outcome.FAILED)), (run("theirs"),)))
    with caplog.at_level(logging.INFO):
        look.cancel()
    assert client.cancelled == ["a", "b"]
    assert caplog.messages == [f"The task was cleared: cancelling nyx run {name} of before." for name in "ab"]
    client.refuses = True
    look.cancel()
    assert caplog.messages[-1] == "The run of before could not be cancelled and may go on: away [left-behind]"


@pytest.mark.parametrize(("first", "said"), [(True, 1), (False, 0)])
def test_where_runs_bear_no_mark_the_first_try_says_that_none_is_cancelled(
    first: bool, said: int, caplog: pytest.LogCaptureFixture
) -> None:
    client, look = made("b3os", AssertionError("asked"), first=first)
    look.cancel()
    assert (client.cancelled, len(caplog.messages)) == ([], said)
    assert all("keep_task_state" in message for message in caplog.messages)


# --- which run a retry goes on from ---------------------------------------------------------------------------------

B3OS = find("b3os")
GIVEN = retry_of(B3OS, "first", {"workflow_id": "wf_1"})


def test_a_retry_names_its_run_and_its_parent_and_nothing_else() -> None:
    assert (GIVEN.retry_of, dict(GIVEN.parent)) == ("first", {"workflow_id": "wf_1"})
    assert retry_of(B3OS, 77, {"workflow_id": "wf_1", "payload": None}).retry_of == "77"
    assert retry_of(B3OS, " first ", {"workflow_id": "wf_1"}).retry_of == "first"
    for run_id in (None, "", "  ", "None", True, ["first"]):
        with pytest.raises(ConfigurationError, match="is no id of a run: nothing was submitted"):
            retry_of(B3OS, run_id, {})
    with pytest.raises(ConfigurationError, match="payload cannot be given with retry_of"):
        retry_of(B3OS, "first", {"workflow_id": "wf_1", "payload": {}})
    with pytest.raises(NotSupported, match="Nexio"):
        retry_of(find("nexio"), "first", {})


def test_a_record_keeps_what_was_asked_for_and_what_was_retried() -> None:
    later = retry_of(B3OS, "second", {"workflow_id": "wf_1"})
    assert kept(GIVEN, later) == {"retry": {"asked": "first", "of": "second"}}
    plain = B3OS.call(**CALLS["b3os"])
    assert kept(plain, plain) == {}


SECOND = {"provider": "b3os", "run_id": "second", "parents": {}}


@pytest.mark.parametrize(
    ("record", "goes_on_from"),
    [
        (None, "first"), ({}, "first"), ({"retry": "text"}, "first"),
        ({"retry": {"asked": "other", "of": "third"}}, "first"),
        ({"retry": {"asked": "first", "of": "third"}}, "third"),
        ({"retry": {"asked": "first", "of": "first"}, "ended": "failed", "ref": SECOND}, "second"),
        ({"retry": {"asked": "first", "of": "third"}, "ended": "succeeded", "ref": SECOND}, "third"),
        ({"retry": {"asked": "first", "of": "third"}, "ended": "failed"}, "third"),
    ],
)  # fmt: skip
def test_a_try_goes_on_from_the_run_that_failed_last(record: Any, goes_on_from: str) -> None:
    call = taken_over(B3OS, GIVEN, record)
    assert (call.retry_of, dict(call.parent)) == (goes_on_from, {"workflow_id": "wf_1"})
    plain = B3OS.call(**CALLS["b3os"])
    assert taken_over(B3OS, plain, record) == plain
