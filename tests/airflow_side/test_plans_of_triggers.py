"""What the trigger of a set makes of its arguments: when it fires, what it counts, what it cancels and tells."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_mock import MockerFixture

from runops.airflow import runs_trigger
from runops.airflow.runs_trigger import RunsTrigger
from runops.core import ConfigurationError, Outcome, RunRef, Verdict, find
from runops.core.client.many_plan import ManyPlan
from runops.core.many.ledger import Ledger
from runops.core.many.rows import Row, RowState
from runops.core.many.rules import ManyRules
from runops.core.model.policy import OutcomePolicy
from runops.core.waiting.options import WaitOptions
from runops.core.waiting.state import WaitProgress
from tests.airflow_side.test_many_verdicts import Log

NEXIO = find("nexio")
PLAN = {"rules": ManyRules().to_dict(), "policy": OutcomePolicy.build().to_dict()}
PATIENCE = WaitOptions.build(NEXIO, now=1_000.0, timeout=600.0).to_dict()


def trigger(**more: Any) -> Any:
    arguments: dict[str, Any] = {"provider": "nexio", "patience": PATIENCE, "plan": PLAN, **more}
    return RunsTrigger(**arguments)


def run(index: int, **fields: Any) -> Row:
    row = Row(index=index, key=f"k{index}").submitted(RunRef(provider="nexio", run_id=f"r{index}"), 1.0)
    return replace(row, **fields)


def over(index: int, **fields: Any) -> Row:
    return run(index, **{"state": RowState.ENDED, "outcome": Outcome.SUCCEEDED, "verdict": Verdict.SUCCEED, **fields})


@pytest.fixture
def log(mocker: MockerFixture) -> Log:
    made = Log()
    mocker.patch.object(RunsTrigger, "log", made)
    return made


# --- its arguments ---


def test_a_trigger_writes_back_all_that_it_was_given() -> None:
    given: dict[str, Any] = {
        "version": 7, "provider": "nexio", "conn_id": "c", "rows": {"total": 3}, "patience": {"a": 1},
        "plan": {"b": 2}, "not_before": 4.0, "execution_ends": 5.0, "cancel_on_kill": True, "on_clear": "reattach",
        "start": {"timeout": 60.0, "conn_id": "nexio_conn_id", "parents": ["w"], "fields": ["expect"]},
        "run_ids": ["r"], "nexio_conn_id": "d", "w": "p", "expect": {"stage": "x"},
    }  # fmt: skip
    assert RunsTrigger(**given).serialize() == ("runops.airflow.runs_trigger.RunsTrigger", given)


def test_a_trigger_of_which_nothing_else_is_said_cancels_nothing_and_may_fire_at_once() -> None:
    assert trigger().serialize()[1] == {
        "version": 1, "provider": "nexio", "conn_id": None, "patience": PATIENCE, "plan": PLAN, "not_before": 0.0,
        "execution_ends": None, "cancel_on_kill": False, "on_clear": "submit",
    }  # fmt: skip


# --- when it fires ---


class Many:
    """Stands for the driver of a set, and has what it was given."""

    def __init__(self, client: Any, ledger: Ledger, plan: ManyPlan, **more: Any) -> None:
        self.given = SimpleNamespace(client=client, ledger=ledger, plan=plan, **more)


@pytest.mark.parametrize(
    ("plan", "counts"),
    [
        ({}, {2: False, 3: True}),
        ({"fire_after": 1}, {0: False, 1: True, 3: True}),
        ({"fire_after": 2}, {1: False, 2: True}),
        ({"fire_after": 9}, {2: False, 3: True}),
        ({"fire_after": 2, "look_again_at": 50.0}, {0: False, 2: True}),
        ({"look_again_at": 49.0}, {0: True}),
        ({"look_again_at": 48.9}, {0: True}),
        ({"look_again_at": 49.1}, {0: False}),
    ],
)
def test_it_fires_after_so_many_new_ends_or_at_the_moment_that_the_task_wants(
    plan: dict[str, Any], counts: dict[int, bool], mocker: MockerFixture
) -> None:
    mocker.patch.object(runs_trigger, "ManyRuns", Many)
    client: Any = SimpleNamespace(clock=lambda: 49.0, provider=NEXIO)
    made, past = trigger(plan={**PLAN, **plan}), {0: WaitProgress(seen=True)}
    # One of the set was over before.
    ledger = Ledger([over(0), *(run(index) for index in (1, 2, 3))])
    given = made._many(client, ledger, 3, past).given
    assert (given.client, given.ledger, given.past) == (client, ledger, past)
    for count, fires in counts.items():
        ended = Ledger([over(index) if index <= count else run(index) for index in range(4)])
        assert given.until(ended) is fires, count


def test_its_progress_is_said_and_stored(mocker: MockerFixture, log: Log) -> None:
    mocker.patch.object(runs_trigger, "ManyRuns", Many)
    client: Any = SimpleNamespace(provider=NEXIO)
    made, ledger = trigger(), Ledger([over(0), run(1)])
    given = made._many(client, ledger, 2, {}).given
    given.progress(ledger.tally)
    made.record = mocker.Mock()
    given.progress(ledger.tally)
    assert log.lines == [("info", ledger.tally.line(NEXIO))] * 2
    made.record.counted.assert_called_once_with(ledger.tally)


@pytest.mark.parametrize("cancels", [None, False, True])
@pytest.mark.parametrize(("ends", "clock"), [(None, "timeout"), (1_100.0, "execution_timeout"), (9_999.0, "timeout")])
def test_its_plan_has_the_rules_the_clocks_and_what_is_cancelled(
    cancels: bool | None, ends: float | None, clock: str
) -> None:
    rules = ManyRules.build(max_active=3, require=0.5, stop_early=True, max_spend=7.0)
    policy = OutcomePolicy.build({"failed": "warn"})
    plan = {"rules": rules.to_dict(), "policy": policy.to_dict()} | (
        {} if cancels is None else {"cancel_on_timeout": cancels}
    )
    made = trigger(plan=plan, execution_ends=ends)._plan()
    assert (made.rules, made.policy, made.clock) == (rules, policy, clock)
    assert made.wait.deadline == (1_600.0 if clock == "timeout" else 1_100.0)
    assert (made.cancel_on_timeout, made.cancel_on_kill, made.stop_seconds) == (bool(cancels), False, 10.0)
    assert (made.submits, made.once, made.last) == (None, False, False)


# --- what it counts and tells ---


def test_its_ledger_is_that_of_the_whole_set() -> None:
    kept = {
        "total": 6,
        "done": [{"at": "1", "s": "ended", "o": "succeeded", "v": "succeed"}],
        "others": [{"at": "3-4", "s": "ended", "o": "failed", "v": "fail", "spent": 2.5}],
    }
    ledger = trigger()._ledger(kept, [run(0), run(5)])
    assert [(row.index, str(row.state), row.outcome) for row in ledger] == [
        (0, "submitted", None), (1, "ended", "succeeded"), (2, "planned", None), (3, "ended", "failed"),
        (4, "ended", "failed"), (5, "submitted", None),
    ]  # fmt: skip
    assert (ledger.tally.spend, ledger[2].key) == (2.5, "2")
    assert len(trigger()._ledger({}, [run(0), run(1)])) == 2


def test_its_event_tells_what_it_was_told_what_has_ended_and_what_the_rest_has_learnt(host: Any) -> None:
    done = [{"at": "0", "s": "ended", "o": "succeeded", "v": "succeed"}]
    own = [run(1), run(2), run(3)]
    ledger = Ledger([over(0), over(1, outcome=Outcome.FAILED, verdict=Verdict.FAIL), run(2), run(3)])
    past = {2: WaitProgress(seen=True, failing_since=5.0), 1: WaitProgress(seen=True, failing_since=6.0)}
    many: Any = SimpleNamespace(ledger=ledger, past=past, results={1: {"run_id": "r1"}})
    assert trigger(rows={"done": done})._standing(many, own) == {
        "rows": [*done, {"s": "ended", "o": "failed", "v": "fail", "at": "1"}],
        "results": {"1": {"run_id": "r1"}},
        "clocks": {"as_of": host.clock.now, "unseen": "3", "rows": {"2": {"failing_since": 5.0}}},
    }
    assert trigger()._standing(many, own)["rows"][0]["at"] == "1"


def test_the_record_of_a_set_says_whether_any_of_it_is_the_task_s_own(host: Any, mocker: MockerFixture) -> None:
    kept = mocker.patch.object(RunsTrigger, "_keep_record", return_value=None)
    run_id = host.made("nexio", age_seconds=900)["run_id"]
    for attached in ("", "0"):
        group = {"at": "0", "ids": [run_id], "attached": attached, "submitted": [1.0]}
        asyncio.run(trigger(conn_id="nexio_default", rows={"open": [group]})._end())
    (hook,) = kept.call_args.args
    assert hook.conn_id == "nexio_default"
    assert [call.kwargs for call in kept.call_args_list] == [
        {"kind": "set", "own": True}, {"kind": "set", "own": False},
    ]  # fmt: skip


def test_an_error_of_the_whole_is_told_with_how_the_set_stands(host: Any, mocker: MockerFixture) -> None:
    made = trigger(conn_id="nexio_default", rows={"open": [{"at": "0-1", "ids": ["a", "b"]}]})
    mocker.patch.object(runs_trigger.ManyRuns, "run", side_effect=ConfigurationError("no way."))
    event = asyncio.run(made._end())
    assert (event["kind"], event["error"], event["rows"]) == ("error", "ConfigurationError", [])
    assert event["clocks"]["unseen"] == "0-1"


# --- a kill ---


@pytest.mark.parametrize(("count", "text"), [(0, None), (1, "1 runs of the set"), (1_500, "1,500 runs of the set")])
def test_what_is_its_own_is_counted_in_words(count: int, text: str | None) -> None:
    rows = [*(run(index) for index in range(count)), run(count, attached=True, state=RowState.ATTACHED)]
    made = trigger(rows={"open": runs_trigger.addresses(rows)})
    assert made._own() == text
    assert trigger()._own() is None
    # While it waits it knows which of them have ended.
    made._waited = Ledger([over(0), run(1)])
    assert made._own() == "1 runs of the set"


def test_a_kill_says_how_many_runs_are_cancelled_and_names_those_that_may_go_on(
    log: Log, mocker: MockerFixture
) -> None:
    rows = [run(index) for index in range(4)]
    asked: list[Any] = []

    async def cancel_rows(client: Any, own: Any) -> dict[int, str]:
        asked.append((client, [row.index for row in own]))
        return {1: "no answer", 3: "it is over"}

    mocker.patch.object(runs_trigger, "cancel_rows", cancel_rows)
    made, client = trigger(), object()
    made._waited = Ledger(rows)
    asyncio.run(made._cancel(client))
    assert asked == [(client, [0, 1, 2, 3])]
    assert log.lines == [
        ("info", "Cancelled 2 of 4 runs of the set."),
        ("warning", f"Not cancelled, and may go on: {rows[1].ref('nexio')}: no answer [left-behind]"),
        ("warning", f"Not cancelled, and may go on: {rows[3].ref('nexio')}: it is over [left-behind]"),
    ]


# --- a task that begins here ---


@pytest.mark.parametrize("before", [True, False])
def test_a_set_that_begins_in_the_triggerer_stands_as_a_worker_would_have_left_it(
    host: Any, mocker: MockerFixture, before: bool
) -> None:
    asked = mocker.patch.object(runs_trigger, "may_have_begun_before", return_value=before)
    start = {"timeout": 300.0, "conn_id": "conn_id", "parents": None, "fields": ["expect"]}
    made = trigger(start=start, run_ids='["a", "b", "c"]', expect={"stage": "done"}, conn_id="nexio_other")
    made._begin(start)
    now = host.clock.now
    assert made.rows == {
        "total": 3, "open": [{"at": "0-2", "ids": ["a", "b", "c"]}],
        "clocks": {"accepted": before, "unseen": "0-2"},
    }  # fmt: skip
    assert made.patience["deadline"] == now + 300.0
    assert (made.conn_id, asked.call_args.args) == ("nexio_other", (made.task_instance, now))
    policy = OutcomePolicy.from_dict(made.plan["policy"])
    assert policy.expect == NEXIO.policy(expect={"stage": "done"}).expect
    assert PATIENCE["deadline"] == 1_600.0


def test_the_parents_of_runs_that_begin_in_the_triggerer_are_the_task_s_fields(host: Any) -> None:
    start = {"timeout": 300.0, "conn_id": "conn_id", "parents": ["workflow_id"], "fields": []}
    made = trigger(provider="onepin", start=start, run_ids=["a"], workflow_id="w")
    made._begin(start)
    assert made.rows["open"] == [{"at": "0", "ids": ["a"], "parents": {"workflow_id": "w"}}]


def test_a_good_end_that_a_template_has_broken_is_refused_by_the_name_of_the_service(host: Any) -> None:
    start = {"timeout": 300.0, "conn_id": "conn_id", "parents": None, "fields": ["expect"]}
    made = trigger(start=start, run_ids=["a"], expect={"stge": "done"})
    with pytest.raises(ConfigurationError, match="Nexio runs"):
        made._begin(start)
