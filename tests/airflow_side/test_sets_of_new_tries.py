"""What a new try makes of the set that earlier ones have left: it goes on with it, or begins another one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pytest_mock import MockerFixture

from runops.airflow import RunsOperator
from runops.airflow.hook import RunHook
from runops.airflow.many import own_set
from runops.core import Outcome, RunRef, Verdict
from runops.core.many.ledger import Ledger
from runops.core.many.rows import Row, RowState
from tests.airflow_side.sets import calls_of
from tests.airflow_side.test_many_verdicts import Log

COUNT = 4


@pytest.fixture
def log(mocker: MockerFixture) -> Log:
    made = Log()
    mocker.patch.object(RunsOperator, "log", made)
    return made


@pytest.fixture
def cancels(mocker: MockerFixture) -> Any:
    """Stands for the loop that cancels runs: everything is cancelled."""
    return mocker.patch.object(own_set, "cancel_left", return_value={})


def operator(count: int = COUNT, **more: Any) -> Any:
    arguments: dict[str, Any] = {"task_id": "a_task", "provider": "b3os", "calls": calls_of("b3os", count)}
    arguments |= {"deferrable": False, "retries": 2, **more}
    return RunsOperator(**arguments)


def keys_of(task: Any) -> list[str]:
    return own_set._keys(task._checked_calls())


def submitted(task: Any) -> list[Row]:
    """A row of a run for each call of a task."""
    return [
        Row(index=index, key=key).submitted(RunRef(provider="b3os", run_id=f"r{index}"), 1.0)
        for index, key in enumerate(keys_of(task))
    ]


def left(host: Any, rows: list[Row] | None = None, **header: Any) -> dict[str, Any]:
    """The context of a second try of which the first one has left these rows."""
    context = host.context()
    context["ti"].max_tries = 2
    store = operator()._ledger_store(context)
    store.begin(1, left=False, provider="b3os", conn_id="b3os_default", **header)
    store.save(Ledger(submitted(operator()) if rows is None else rows).to_pages())
    context["ti"].next_try()
    return context


def taken_up(task: Any, context: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """What a try takes up, and the header that it leaves."""
    taken = task._taken_up(context, task._checked_calls())
    return taken, context["task_state_store"].get("runops")


def indices(cancels: Any) -> list[list[int]]:
    """Which rows were to be cancelled, call by call."""
    return [[row.index for row in call.args[1]] for call in cancels.call_args_list]


# --- a set begins ---


@pytest.mark.parametrize("provider", ["b3os", "runops.core.providers.b3os:B3OS"])
def test_a_set_that_begins_records_whose_runs_it_has_and_that_none_is_known(host: Any, log: Log, provider: str) -> None:
    context = host.context()
    taken, header = taken_up(operator(conn_id="other_b3os", provider=provider), context)
    assert header == {
        "version": 1, "generation": 0, "state": "many", "first": 0, "pages": 1, "provider": provider,
        "runs_of": "b3os", "conn_id": "other_b3os", "waits": True, "runs": COUNT, "kept": 0, "told": "", "found": 0,
    }  # fmt: skip
    assert context["ti"].xcoms == {"run_submitted": {"state": "many", "provider": provider, "conn_id": "other_b3os"}}
    assert (taken.unsent, log.lines, "runops.0" in context["task_state_store"].values) == (COUNT, [], False)


def test_below_airflow_3_3_the_header_of_a_set_is_the_xcom_of_its_task(host: Any, log: Log) -> None:
    context, task = host.context(store=False), operator()
    task._taken_up(context, task._checked_calls())
    assert context["ti"].xcoms["run_submitted"]["pages"] == 1


# --- a retry goes on ---


def test_a_retry_counts_what_it_finds_and_forgets_how_the_try_before_ended(host: Any, log: Log, cancels: Any) -> None:
    rows = submitted(operator())
    rows[1] = replace(rows[1], state=RowState.ENDED, outcome=Outcome.SUCCEEDED, verdict=Verdict.SUCCEED)
    rows[2] = replace(rows[2], state=RowState.ENDED, outcome=Outcome.FAILED, verdict=Verdict.FAIL)
    context = left(host, rows, ended=True, crashes=2, told="1-2")
    taken, header = taken_up(operator(), context)
    assert {name: header[name] for name in ("ended", "given_up", "crashes", "runs", "kept", "told", "found")} == {
        "ended": False, "given_up": False, "crashes": 0, "runs": COUNT, "kept": 1, "told": "1", "found": 3,
    }  # fmt: skip
    assert log.lines == [("info", taken.line())]
    assert (sorted(taken.again), header["first"], cancels.call_count) == ([0, 3], 0, 0)
    assert context["ti"].xcoms == {"run_submitted": {"state": "many", "provider": "b3os", "conn_id": "b3os_default"}}


def test_a_run_that_was_cancelled_as_an_orphan_is_planned_anew_and_no_other(host: Any, log: Log) -> None:
    context = left(host)
    context["task_state_store"].set("runops_stopped_many", {"runs": ["r2"]})
    taken, _ = taken_up(operator(), context)
    assert [row.run_id for row in taken.ledger] == ["r0", "r1", None, "r3"]


@pytest.mark.parametrize(
    ("numbers", "moves", "cancelled"),
    [([0, 1, 2, 3], False, []), ([1, 0, 2, 3], True, []), ([0, 1, 2], True, [[3]]), ([0, 1, 2, 3, 4], False, [])],
    ids=["the same", "another order", "one less", "one more"],
)
def test_a_retry_with_another_list_moves_the_set_and_cancels_what_no_call_stands_for(
    host: Any, log: Log, cancels: Any, numbers: list[int], moves: bool, cancelled: list[list[int]]
) -> None:
    context, all_calls = left(host), calls_of("b3os", 5)
    task = operator(calls=[all_calls[number] for number in numbers])
    taken, header = taken_up(task, context)
    assert header["first"] == (1 if moves else 0)
    assert ("runops.1" in context["task_state_store"].values) is moves
    assert [row.run_id for row in taken.ledger] == [f"r{number}" if number < COUNT else None for number in numbers]
    assert indices(cancels) == cancelled
    assert (header["runs"], header["found"]) == (len(numbers), min(len(numbers), COUNT))
    assert not cancelled or log.lines[-1][1] == "Cancelling 1 runs: no call of the list stands for it any more."


# --- a set begins anew ---


@pytest.mark.parametrize(
    ("given_up", "cleared", "on_clear", "anew"),
    [
        (False, False, "submit", False), (True, False, "submit", True), (False, True, "submit", True),
        (True, False, "reattach", False), (False, True, "reattach", False),
    ],
)  # fmt: skip
def test_only_a_clear_or_a_kill_begins_a_set_anew_and_none_where_the_task_re_attaches(
    host: Any, log: Log, cancels: Any, given_up: bool, cleared: bool, on_clear: Any, anew: bool
) -> None:
    context = left(host, given_up=given_up)
    context["ti"].max_tries += cleared
    taken, header = taken_up(operator(on_clear=on_clear), context)
    assert (header["first"], taken.unsent, taken.waited) == ((1, COUNT, 0) if anew else (0, 0, COUNT))
    assert indices(cancels) == ([[0, 1, 2, 3]] if anew else [])
    assert not anew or log.lines == [("info", "Cancelling 4 runs: the task was cleared.")]


@pytest.mark.parametrize(
    ("wanted", "failing", "before", "asked"),
    [(True, {}, None, [[1, 2]]), (True, {2: "no"}, [[0, 1]], [[1, 2]]), (False, {}, [[0, 1]], [])],
    ids=["all are cancelled", "one is not", "none is to be"],
)
def test_the_pages_of_a_set_before_a_clear_stay_while_a_run_of_it_may_go_on(
    host: Any, log: Log, cancels: Any, wanted: bool, failing: dict[int, str], before: Any, asked: list[list[int]]
) -> None:
    cancels.return_value = failing
    rows = submitted(operator())
    rows[0] = replace(rows[0], state=RowState.ENDED, outcome=Outcome.SUCCEEDED, verdict=Verdict.SUCCEED)
    rows[3] = replace(rows[3], state=RowState.REFUSED, run_id=None)
    context = left(host, rows)
    context["ti"].clear()
    _, header = taken_up(operator(cancel_on_kill=wanted), context)
    assert (header.get("before"), header["generation"], indices(cancels)) == (before, 3, asked)
    # The set of yet before is cancelled with it, should it still be there.
    context["ti"].clear()
    taken_up(operator(), context)
    assert indices(cancels)[len(asked) :] == ([[1, 2]] if before else [])


# --- where Airflow remembers nothing ---


class Forgets:
    """Stands for the look at the runs of which Airflow remembers nothing."""

    def __init__(self, rows: list[Row], *, may_be: bool = True) -> None:
        self.may_be = may_be
        self.did: list[str] = []
        self.given: dict[str, Any] = {}
        self._rows = rows

    def __call__(self, **given: Any) -> Forgets:
        self.given = given
        return self

    def found(self) -> list[Row]:
        self.did.append("found")
        return self._rows

    def cancel(self) -> None:
        self.did.append("cancelled")


@pytest.mark.parametrize(
    ("stores", "number", "most", "options", "did"),
    [
        (True, 2, 3, {}, "cancelled"),
        (True, 2, 3, {"on_clear": "reattach"}, "found"),
        (True, 2, 3, {"cancel_on_kill": False}, None),
        (True, 3, 2, {}, "cancelled"),
        (True, 1, 3, {"on_clear": "reattach"}, None),
        (True, 2, 3, {"on_clear": "reattach", "durable": False}, None),
        # Below Airflow 3.3 the runs since the last clear are the task's own, and those before it are not.
        (False, 2, 2, {}, "found"),
        (False, 2, 3, {}, "cancelled"),
        (False, 3, 3, {}, "found"),
        (False, 2, 3, {"on_clear": "reattach"}, "found"),
    ],
)
def test_runs_that_airflow_has_forgotten_are_gone_on_with_or_cancelled(
    host: Any, log: Log, mocker: MockerFixture, stores: bool, number: int, most: int, options: Any, did: str | None
) -> None:
    task, context = operator(**options), host.context(store=stores)
    context["ti"].try_number, context["ti"].max_tries = number, most
    forgets = Forgets(submitted(task)[:1])
    mocker.patch.object(own_set, "ForgottenSet", forgets)
    taken = task._taken_up(context, task._checked_calls())
    assert forgets.did == ([] if did is None else [did])
    found = did == "found"
    assert (taken.waited, taken.unsent) == ((1, COUNT - 1) if found else (0, COUNT))
    kept = task._ledger_store(context).load()
    assert ([row.run_id for row in Ledger.rows_from_pages(kept.pages) if row.run_id]) == (["r0"] if found else [])
    assert kept.header["found"] == found
    assert log.lines == ([("info", taken.line())] if found else [])


def test_nothing_is_looked_for_where_no_earlier_try_may_have_left_a_run(host: Any, log: Log, mocker: Any) -> None:
    task, context = operator(on_clear="reattach"), host.context()
    context["ti"].try_number = 2
    forgets = Forgets(submitted(task), may_be=False)
    mocker.patch.object(own_set, "ForgottenSet", forgets)
    assert task._taken_up(context, task._checked_calls()).unsent == COUNT
    assert (forgets.did, bool(forgets.given)) == ([], True)


def test_nothing_is_looked_for_where_airflow_remembers_a_set(host: Any, log: Log, cancels: Any, mocker: Any) -> None:
    forgets = Forgets([])
    mocker.patch.object(own_set, "ForgottenSet", forgets)
    context = left(host)
    context["ti"].clear()
    taken_up(operator(), context)
    assert (forgets.given, indices(cancels)) == ({}, [[0, 1, 2, 3]])


@pytest.mark.parametrize("marks", [None, False, True])
def test_forgotten_runs_are_looked_for_by_what_the_task_is_and_submits(
    host: Any, log: Log, mocker: MockerFixture, marks: bool | None
) -> None:
    forgets = Forgets([])
    mocker.patch.object(own_set, "ForgottenSet", forgets)
    clients = mocker.patch.object(RunHook, "client")
    task, context = operator(mark_runs=marks), host.context()
    context["ti"].try_number = 2
    calls = task._checked_calls()
    task._taken_up(context, calls)
    assert clients.call_args.kwargs == ({} if marks is None else {"mark_runs": marks})
    assert forgets.given == {
        "client": clients.return_value.__enter__.return_value,
        "calls": calls,
        "keys": keys_of(task),
        "identity": "a_dag/a_run/a_task/-1",
        "tries": own_set.EarlierTries(any=True, cleared=False, first=False),
        "remembers": True,
        "log": log,
    }


# --- the same try, in another process ---


def test_after_a_deferral_what_is_over_stays_over(host: Any, log: Log) -> None:
    rows = submitted(operator())
    rows[2] = replace(rows[2], state=RowState.ENDED, outcome=Outcome.FAILED, verdict=Verdict.FAIL)
    task, context = operator(), left(host, rows)
    taken = task._resumed(context, task._checked_calls())
    assert [row.outcome for row in taken.ledger] == [None, None, Outcome.FAILED, None]
    assert (taken.kept, taken.waited, taken.again) == (1, 3, frozenset())
    task = operator()
    assert task._resumed(host.context(), task._checked_calls()).unsent == COUNT
