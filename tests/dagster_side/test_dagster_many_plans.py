"""What a step of many runs asks for: each setting is in the plan of its set, and its records say what was begun."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from pytest_mock import MockerFixture

from runops.core import ConfigurationError, Outcome, RunRef, Verdict, find
from runops.core.client.many_plan import End
from runops.core.many.ledger import key_of_call, key_of_ref
from runops.core.many.rows import Row, RowState
from runops.core.many.rules import ManyRules, Requirement
from runops.core.waiting.submit_in_turn import TurnRules
from runops.dagster import NyxResource, wait_for_runs
from runops.dagster.many import step
from runops.dagster.many.records import rows_of
from runops.dagster.options import RunsStepSettings, names_of
from tests.services import CALLS

NOW = 1_000_000.0
ROOT = "https://nyx.example.com"
NYX = find("nyx")
GIVEN = [{**CALLS["nyx"], "config_name": name} for name in ("a", "b")]
SUBMISSIONS = [NYX.call(**each) for each in GIVEN]
REFS = [RunRef(provider="nyx", run_id=run_id) for run_id in ("r0", "r1")]
SETTINGS: dict[str, Any] = {
    "timeout": timedelta(seconds=101),
    "error_budget": 102,
    "auth_grace": 103,
    "max_paused": 104,
    "max_stalled": 105,
    "max_spend": 10.6,
    "poll_interval": 107,
    "on_outcome": {"failed": "warn"},
    "states": {"half": "degraded"},
    "expect": {"findings_count": 0},
    "on_unmet": "skip",
    "soft_fail": True,
    "on_phase": None,
    "adopt_uncertain": True,
    "submit_grace": 108,
    "on_conflict": "attach",
    "cancel_on_failure": True,
    "mark_runs": False,
    "reattach": False,
    "cancel_on_interrupt": False,
    "cancel_on_timeout": False,
    "max_active": 7,
    "require": 0.5,
    "stop_early": True,
}


class Asked:
    """What a step of many runs has asked for, and the log of its Dagster run."""

    def __init__(self, instance: dg.DagsterInstance, beside: Any, client: Any) -> None:
        self.instance = instance
        self.beside = beside
        self.client = client
        self.run_id = ""

    @property
    def plan(self) -> Any:
        return self.beside.call_args.args[4]

    @property
    def records(self) -> list[tuple[str, dict[str, Any]]]:
        events = [each.dagster_event for each in self.instance.all_logs(self.run_id) if each.step_key == "gather"]
        engine = [event for event in events if event is not None and event.is_engine_event]
        found: list[tuple[str, dict[str, Any]]] = []
        for event in engine:
            value: Any = event.engine_event_data.metadata["runops/record"].value
            found.append((event.message or "", dict(value)))
        return found

    @property
    def lines(self) -> list[str]:
        return [each.user_message for each in self.instance.all_logs(self.run_id) if each.dagster_event is None]


@pytest.fixture
def ask(mocker: MockerFixture, instance: dg.DagsterInstance) -> Callable[..., Asked]:
    """``ask(calls=..., end=End.ALL, ...)``: one step whose set ends at once, with each run as ``rows`` says."""
    mocker.patch("runops.dagster.many.step.time", SimpleNamespace(time=lambda: NOW))
    beside = mocker.patch("runops.dagster.many.step.Beside")
    client = mocker.patch.object(NyxResource, "async_client")
    client.return_value.root = ROOT
    resource = NyxResource(api_key="k")

    def run(
        *, end: End = End.ALL, over: Callable[[Row], Row] = well, ledgers: Any = None, calls: Any = None, **given: Any
    ) -> Asked:
        def carried(context: Any, client: Any, records: Any, ledger: Any, plan: Any, **more: Any) -> Any:
            if ledgers is not None:
                ledgers.append(list(ledger))
            for row in list(ledger):
                ledger.set(over(row))
            if ledgers is not None and len(ledgers) == 1:
                records.changed(list(ledger), "changed")
                raise RuntimeError("out of memory")
            return SimpleNamespace(run=lambda: end, results={})

        beside.side_effect = carried

        @dg.op(required_resource_keys={"nyx"}, retry_policy=dg.RetryPolicy() if ledgers is not None else None)
        def gather(context) -> None:
            wanted: Any = calls() if callable(calls) else calls
            wait_for_runs(context, context.resources.nyx, calls=wanted, **given)

        @dg.job
        def around() -> None:
            gather()

        asked = Asked(instance, beside, client)
        ended = around.execute_in_process(instance=instance, resources={"nyx": resource}, raise_on_error=False)
        asked.run_id = ended.run_id
        return asked

    return run


def well(row: Row) -> Row:
    ended = {"state": RowState.ENDED, "outcome": Outcome.SUCCEEDED, "verdict": Verdict.SUCCEED}
    return replace(row, run_id=row.run_id or f"n{row.index}", **ended)


def test_each_setting_is_in_the_plan_of_the_set(ask: Callable[..., Asked]) -> None:
    assert set(SETTINGS) == names_of(RunsStepSettings)
    asked = ask(calls=GIVEN, **SETTINGS)
    plan, submits = asked.plan, asked.plan.submits
    assert plan.rules == ManyRules(max_active=7, require=Requirement(0.5), stop_early=True, max_spend=10.6)
    wait = plan.wait
    found = (wait.deadline, wait.error_budget, wait.auth_grace, wait.max_paused, wait.max_stalled)
    assert found == (NOW + 101, 102.0, 103.0, 104.0, 105.0)
    assert (wait.cadence.first, wait.wanted) == (107.0, ("findings_count",))
    assert plan.policy.decide(Outcome.FAILED) is Verdict.WARN
    assert plan.policy.decide(Outcome.CANCELLED) is Verdict.SKIP
    assert plan.policy.on_unmet is Verdict.SKIP
    assert (list(submits.calls), submits.adopt_uncertain, submits.grace) == (SUBMISSIONS, True, 108.0)
    assert submits.turns == TurnRules(
        on_conflict="attach", until=NOW + 101, interval=107.0, error_budget=102.0, auth_grace=103.0
    )
    assert submits.identity == f"{asked.run_id}/gather//set 0"
    assert (plan.cancel_on_timeout, plan.again, plan.once) == (False, frozenset(), False)
    assert asked.beside.call_args.kwargs == {"cancel_on_interrupt": False}
    assert asked.beside.call_args.args[1] is asked.client.return_value
    given = asked.client.call_args.kwargs
    assert (given["states"], given["mark_runs"], callable(given["refresh"])) == ({"half": "degraded"}, False, True)
    assert [dict(row.parents) for row in asked.beside.call_args.args[3]] == [{}, {}]


@pytest.mark.parametrize("submits", [True, False])
def test_a_set_of_which_little_is_said_has_the_plan_of_the_pages(ask: Callable[..., Asked], submits: bool) -> None:
    asked = ask(calls=SUBMISSIONS) if submits else ask(refs=REFS)
    plan = asked.plan
    assert plan.rules == ManyRules()
    assert (plan.wait.deadline, plan.wait.error_budget, plan.wait.auth_grace) == (NOW + 604_800, 900.0, 300.0)
    assert (plan.wait.max_paused, plan.wait.max_stalled, plan.wait.wanted) == (None, None, ())
    assert plan.cancel_on_timeout is submits
    assert asked.beside.call_args.kwargs == {"cancel_on_interrupt": submits}
    given = asked.client.call_args.kwargs
    assert given["states"] is None
    assert "mark_runs" not in given
    if submits:
        turns = TurnRules(on_conflict="wait", until=NOW + 604_800)
        assert (plan.submits.turns, plan.submits.adopt_uncertain, plan.submits.grace) == (turns, False, 300.0)
    else:
        assert plan.submits is None


@pytest.mark.parametrize(
    ("submits", "began", "relation", "key"),
    [
        (True, "Submitting 2 runs to Nyx.", "submitted", lambda nth: key_of_call(SUBMISSIONS[nth], ROOT)),
        (False, "Waiting for 2 runs of Nyx; 0 are over already.", "awaited", lambda nth: key_of_ref(REFS[nth])),
    ],
)
def test_a_set_is_begun_and_ended_in_the_log_of_its_dagster_run(
    ask: Callable[..., Asked], submits: bool, began: str, relation: str, key: Callable[[int], str]
) -> None:
    asked = ask(calls=SUBMISSIONS, timeout=50) if submits else ask(refs=REFS, timeout=50)
    common: dict[str, Any] = {"version": 1, "provider": "nyx", "set": 0, "attempt": 0, "credential": "nyx"}
    records = asked.records
    *taken, first, last = records
    for _, record in records:
        assert {name: record.pop(name) for name in common} == common
        assert record.pop("process")
    assert first == (began, {"kind": "set", "deadline": NOW + 50})
    assert last == ("2/2: 2 succeeded; 2 are good of 2 required; verdict: succeed.", {"kind": "set ended"})
    rows = [row for _, record in taken for row, _ in rows_of(record)]
    assert [(row.run_id, row.attached) for row in rows] == ([] if submits else [("r0", True), ("r1", True)])
    assert [text for text, _ in taken] == ([] if submits else ["Taking over what is known of the runs."])
    assert [row.key for row in asked.beside.call_args.args[3]] == [key(0), key(1)]
    tags = asked.instance.get_run_by_id(asked.run_id)
    assert tags is not None
    assert tags.tags[f"runops.many.{relation}/nyx"] == "true"


@pytest.mark.parametrize(
    ("end", "submitted", "text"),
    [
        (End.ALL, 2, "2/2: 2 succeeded; 2 are good of 2 required; verdict: succeed."),
        (End.DECIDED, 2, "2/2: 2 succeeded; 2 are good of 2 required, decided early; verdict: succeed."),
        (End.TIMEOUT, 2, "2/2: 2 succeeded; 2 are good of 2 required; verdict: succeed."),
    ],
)
def test_the_end_of_a_set_is_told_with_why_it_came(
    ask: Callable[..., Asked], mocker: MockerFixture, end: End, submitted: int, text: str
) -> None:
    result = mocker.spy(step, "RunsResult")
    told = mocker.patch("runops.dagster.many.step.tell_set")
    asked = ask(calls=SUBMISSIONS, end=end)
    assert asked.lines == [text]
    given = result.call_args.kwargs
    assert (given["submitted"], given["kept"], given["given"]) == (submitted, 0, False)
    assert given["stopped_early"] is (end is End.DECIDED)
    ((provider, rows, verdict), more) = told.call_args
    assert (provider.name, [row.index for row in rows], verdict, more["began"]) == ("nyx", [0, 1], Verdict.SUCCEED, NOW)
    assert more["another"]() is False


def test_a_wait_is_for_runs_to_submit_or_for_given_ones_and_not_for_both() -> None:
    context, resource = dg.build_op_context(), NyxResource(api_key="k")
    for given in ({}, {"calls": GIVEN, "refs": REFS}):
        with pytest.raises(ConfigurationError, match=r"needs either calls= \(to submit runs\) or refs="):
            wait_for_runs(context, resource, **given)
    with pytest.raises(ConfigurationError, match=r"^refs\[1\]"):
        wait_for_runs(context, resource, refs=[REFS[0], RunRef(provider="b3os", run_id="x")])
    with pytest.raises(ConfigurationError, match=r"^calls\[1\]"):
        wait_for_runs(context, resource, calls=[GIVEN[0], {"config_name": "b"}])


# --- what earlier tries have left --------------------------------------------------------------------------------


def alive(row: Row) -> Row:
    return replace(row, run_id=row.run_id or f"n{row.index}", state=RowState.SUBMITTED, submitted_at=NOW)


@pytest.mark.parametrize("reattach", [True, False])
def test_a_retry_goes_on_where_the_try_before_was_and_says_what_is_not_wanted_any_more(
    mocker: MockerFixture, instance: dg.DagsterInstance, ask: Callable[..., Asked], reattach: bool
) -> None:
    """The first try submits a and b and breaks down; the second one wants b and c."""
    mocker.patch("runops.dagster.step.records.process", return_value="p")
    third = NYX.call(**{**CALLS["nyx"], "config_name": "c"})
    tries = iter([[*SUBMISSIONS], [SUBMISSIONS[1], third]])
    ledgers: list[list[Row]] = []

    def over(row: Row) -> Row:
        return alive(row) if len(ledgers) == 1 else well(row)

    asked = ask(calls=lambda: next(tries), over=over, ledgers=ledgers, reattach=reattach, timeout=50)
    plans = [call.args[4] for call in asked.beside.call_args_list]
    assert [plan.wait.deadline for plan in plans] == [NOW + 50] * 2
    first, second = ledgers
    assert [row.state for row in first] == [RowState.PLANNED] * 2
    told = [line for line in asked.lines if "are not among these calls any more" in line]
    if reattach:
        assert [(row.run_id, row.state) for row in second] == [("n1", RowState.SUBMITTED), (None, RowState.PLANNED)]
        (line,) = told
        assert line.startswith("1 runs of an earlier try may be alive and are not among these calls any more, such as ")
        assert line.endswith(" nyx run n0. `runops orphans dagster` lists them.")
    else:
        assert [(row.run_id, row.state) for row in second] == [(None, RowState.PLANNED)] * 2
        assert told == []
