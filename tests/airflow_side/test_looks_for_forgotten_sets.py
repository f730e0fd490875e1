"""How the runs of a set are looked for of which Airflow remembers nothing: once for each parent, by their marks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from pytest_mock import MockerFixture

from runops.airflow.forgotten import EarlierTries
from runops.airflow.many import forgotten as module
from runops.airflow.many.forgotten import ForgottenSet
from runops.core import AnswerError, Outcome, RunRef, RunSnapshot, SubmitUncertainError, find
from runops.core.many.rows import RowState
from runops.core.model.run import Phase
from tests.airflow_side.test_many_verdicts import Log

PARENTS = ("a", "b", "a", "c")


def run(name: str, *, over: bool = False) -> RunSnapshot:
    ref, outcome = RunRef(provider="nyx", run_id=name), Outcome.FAILED if over else None
    return RunSnapshot(ref=ref, state="x", phase=None if over else Phase.RUNNING, outcome=outcome)


class Client:
    """A service that shows, under each parent, which runs bear the marks of which submitters."""

    def __init__(self, provider: str, shown: dict[str, Any], *, refuses: tuple[str, ...] = ()) -> None:
        self.provider, self.clock = find(provider), object()
        self.asked: list[str] = []
        self.cancelled: list[str] = []
        self.adopted: list[str] = []
        self.meter = SimpleNamespace(adopted=self.adopted.append)
        self.marks_runs = True
        self._shown, self._refuses = shown, refuses

    def drive(self, flow: Any) -> Any:
        provider, parent, clock = flow
        assert (provider, clock) == (self.provider, self.clock)
        self.asked.append(parent["config_name"])
        found = self._shown.get(parent["config_name"], {})
        if isinstance(found, Exception):
            raise found
        return SimpleNamespace(of=lambda who: SimpleNamespace(ours=tuple(found.get(who, ()))))

    def cancel(self, ref: RunRef) -> None:
        self.cancelled.append(ref.run_id)
        if ref.run_id in self._refuses:
            raise AnswerError("it says no.")


@pytest.fixture(autouse=True)
def flows(mocker: MockerFixture) -> None:
    mocker.patch.object(module, "marked_runs", lambda provider, parent, *, clock: (provider, parent, clock))


def looking(client: Any, *, remembers: bool = True) -> tuple[ForgottenSet, Log]:
    log = Log()
    calls: Any = [SimpleNamespace(parent={"config_name": name}) for name in PARENTS]
    made = ForgottenSet(
        client=client, calls=calls, keys=[f"k{number}" for number in range(4)], identity="me",
        tries=EarlierTries(any=True, cleared=True, first=True), remembers=remembers, log=log,
    )  # fmt: skip
    return made, log


def test_runs_that_bear_our_marks_are_taken_up_at_the_place_of_their_call() -> None:
    client = Client(
        "nyx",
        {
            "a": {"me/k0": [run("r0"), run("older", over=True)], "me/k2": [run("r2", over=True)], "you/k0": [run("x")]},
            "c": {"me/k3": [run("r3")], "me/k0": [run("of another parent")]},
        },
    )
    made, log = looking(client)
    rows = made.found()
    assert [(row.index, row.key, row.run_id, row.state, row.attached, row.submitted_at) for row in rows] == [
        (index, f"k{index}", f"r{index}", RowState.SUBMITTED, False, None) for index in (0, 2, 3)
    ]
    assert client.asked == ["a", "b", "c"]
    assert client.adopted == ["nyx"] * 3
    assert log.lines == [("info", "Found by their marks: 3 runs, which earlier tries submitted.")]


def test_a_list_that_cannot_be_read_ends_a_try_that_may_not_submit_twice() -> None:
    client = Client("nyx", {"a": {"me/k0": [run("r0")]}, "b": AnswerError("away.")})
    made, _ = looking(client)
    with pytest.raises(SubmitUncertainError, match="away"):
        made.found()
    assert client.asked == ["a", "b"]


@pytest.mark.parametrize("cancels", [True, False])
def test_elsewhere_it_is_said_and_the_other_parents_are_looked_at(cancels: bool) -> None:
    client = Client("nyx", {"a": AnswerError("away."), "b": {"me/k1": [run("r1")]}})
    made, log = looking(client, remembers=cancels)
    if cancels:
        made.cancel()
        assert client.cancelled == ["r1"]
    else:
        assert [row.run_id for row in made.found()] == ["r1"]
    assert client.asked == ["a", "b", "c"]
    level, text = next(line for line in log.lines if line[0] == "warning")
    assert (level, text.startswith("Whether earlier tries have left runs is not known: away.")) == ("warning", True)


def test_a_cancel_of_forgotten_runs_passes_over_what_is_over_and_names_what_may_go_on() -> None:
    shown = {
        "a": {"me/k0": [run("r0"), run("twin"), run("old", over=True)], "me/k2": [run("r2")]},
        "c": {"me/k3": [run("over", over=True)]},
    }
    client = Client("nyx", shown, refuses=("twin",))
    made, log = looking(client)
    made.cancel()
    assert client.cancelled == ["r0", "twin", "r2"]
    assert log.lines[0] == ("info", "The task was cleared: cancelling 3 runs of before, found by their marks.")
    level, text = log.lines[1]
    assert (level, len(log.lines)) == ("warning", 2)
    assert text.startswith("nyx run twin of before could not be cancelled and may go on: it says no.")
    assert text.endswith("[left-behind]")


def test_where_no_run_bears_our_mark_nothing_is_cancelled_or_said() -> None:
    client = Client("nyx", {"a": {"me/k0": [run("old", over=True)]}})
    made, log = looking(client)
    made.cancel()
    assert (client.cancelled, log.lines) == ([], [])


def test_where_runs_bear_no_marks_each_parent_is_looked_at_as_that_of_one_run(mocker: MockerFixture) -> None:
    one = mocker.patch.object(module, "Forgotten")
    client: Any = Client("b3os", {})
    made, log = looking(client, remembers=False)
    assert made.found() == []
    assert [call.kwargs for call in one.call_args_list] == [
        {
            "client": client, "call": made.calls[index], "identity": f"me/k{index}", "tries": made.tries,
            "remembers": False, "log": log,
        }
        for index in (0, 1, 3)
    ]  # fmt: skip
    assert (one.return_value.found.call_count, one.return_value.cancel.call_count) == (3, 0)
    one.reset_mock()
    made.cancel()
    assert (one.call_args.kwargs["identity"], one.return_value.cancel.call_count) == ("me/k0", 1)
    assert made.may_be is one.return_value.may_be
    assert client.asked == []
