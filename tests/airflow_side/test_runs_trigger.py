"""The trigger of a set of runs: one event with all ends, small on its way, and a kill cancels what is the task's."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.execution_time import task_runner

from runops.airflow import trigger_base
from runops.airflow.events import read_runs
from runops.airflow.many.rows import addresses, ends, indices_of, merged, runs_at, spans, summary
from runops.airflow.runs_trigger import RunsTrigger
from runops.core import Outcome, OutcomePolicy, Verdict, find
from runops.core.client import many_runs
from runops.core.many.ledger import Ledger
from runops.core.many.rows import Row, RowState
from runops.core.many.rules import ManyRules, Requirement, check_run_ids
from runops.core.waiting.options import WaitOptions
from tests.services import PARENTS

PATH = "runops.airflow.runs_trigger.RunsTrigger"
OLD_ROW: dict[str, Any] = {
    "version": 1,
    "provider": "nexio",
    "conn_id": "nexio_default",
    "rows": {
        "total": 3,
        "began": 1790000000.0,
        "open": [{"at": "0,2", "ids": ["a", "c"]}],
        "done": [{"s": "ended", "o": "succeeded", "v": "succeed", "x": 1, "at": "1"}],
        "clocks": {"as_of": 1790000000.0, "unseen": "2"},
    },
    "patience": {
        "deadline": 1790600000.0,
        "error_budget": 900.0,
        "max_paused": None,
        "cadence": {
            "first": 2.0, "factor": 1.5, "ceiling": 30.0, "seconds": 2.0,
        },
    },
    "plan": {
        "rules": {"max_active": 20, "require": "all", "stop_early": False, "max_spend": None},
        "policy": OutcomePolicy.build().to_dict(),
    },
    "not_before": 1790000010.0,
    "execution_ends": None,
    "cancel_on_kill": False,
    "on_clear": "submit",
}  # fmt: skip
"""As the first release with it wrote it."""


def refs_of(provider: str, ids: list[str]) -> Any:
    return check_run_ids(find(provider), ids, PARENTS.get(provider))


def arguments(provider: str, rows: list[Row], *, now: float, **more: Any) -> dict[str, Any]:
    """A trigger's arguments, for rows of which those that are over or not sent are somebody else's."""
    service = find(provider)
    options = WaitOptions.build(service, now=now, timeout=more.pop("timeout", 600.0))
    rules = ManyRules.build(**{"max_active": len(rows), **more.pop("rules", {})})
    plan = {"rules": rules.to_dict(), "policy": service.policy(more.pop("on_outcome", None)).to_dict()}
    return {
        "provider": provider,
        "conn_id": f"{provider}_default",
        "rows": {
            "total": len(rows),
            "began": now,
            "open": addresses(row for row in rows if row.is_running),
            "others": summary(row for row in rows if not row.is_running),
        },
        "patience": options.to_dict(),
        "plan": {**plan, **more.pop("plan", {})},
        **more,
    }


async def event_of(trigger: RunsTrigger) -> Any:
    (event,) = [event async for event in trigger.run()]
    return json.loads(json.dumps(event.payload, allow_nan=False))


def stored(kwargs: dict[str, Any]) -> RunsTrigger:
    """The trigger as a triggerer makes it: from a row of Airflow's database."""
    path, written = RunsTrigger(**kwargs).serialize()
    assert path == PATH
    return RunsTrigger(**json.loads(json.dumps(written, allow_nan=False)))


def made(host: Any, provider: str, count: int, **options: Any) -> list[str]:
    return [host.made(provider, **options)["run_id"] for _ in range(count)]


def ended(event: Any, known: list[Row]) -> dict[int, Row]:
    return {row.index: row for row in merged(read_runs(event).rows, known)}


def submitted(rows: list[Row]) -> list[Row]:
    return [replace(row, attached=False, state=RowState.SUBMITTED, submitted_at=1.0) for row in rows]


# --- rows on their way ---


@pytest.mark.parametrize("indices", [[], [0], [0, 1, 2], [0, 2, 3, 9], list(range(1000)), [5, 4, 6]])
def test_places_as_text_come_back(indices: list[int]) -> None:
    assert list(indices_of(spans(indices))) == sorted(indices)


def test_ten_thousand_ends_are_a_few_lines() -> None:
    rows = [
        replace(
            Row(index=index, key=str(index)), state=RowState.ENDED, outcome=Outcome.SUCCEEDED, verdict=Verdict.SUCCEED
        )
        for index in range(10_000)
    ]
    rows[77] = replace(rows[77], outcome=Outcome.FAILED, verdict=Verdict.FAIL, reason="it broke")
    told = ends(rows)
    assert len(json.dumps(told)) < 250
    plain = [Row(index=index, key=str(index)) for index in range(10_000)]
    assert sorted(merged(told, plain), key=lambda row: row.index) == rows


@pytest.mark.parametrize("provider", ["nexio", "onepin"])
def test_addresses_come_back_with_what_a_kill_and_the_clocks_need(provider: str) -> None:
    given = list(Ledger.of_refs(refs_of(provider, ["a", "b", "c"])))
    own = [replace(row, attached=False, state=RowState.SUBMITTED, submitted_at=7.0) for row in given[:2]]
    for rows in (given, [*own, given[2]], own):
        back = runs_at(json.loads(json.dumps(addresses(rows))), provider)
        told = [(row.index, row.run_id, row.parents, row.attached, row.submitted_at, row.state) for row in back]
        assert told == [(row.index, row.run_id, row.parents, row.attached, row.submitted_at, row.state) for row in rows]


def test_what_all_others_have_spent_is_counted_once() -> None:
    rows = [
        replace(
            Row(index=index, key=str(index)),
            state=RowState.ENDED,
            outcome=Outcome.SUCCEEDED,
            verdict=Verdict.SUCCEED,
            spend=0.5,
        )
        for index in range(4)
    ]
    others = list(merged(summary(rows), [Row(index=index, key=str(index)) for index in range(4)]))
    assert Ledger(others).tally.spend == 2.0


# --- the row in Airflow's database ---


def test_a_row_of_the_first_release_loads_and_writes_itself_back() -> None:
    assert RunsTrigger(**OLD_ROW).serialize() == (PATH, OLD_ROW)


def test_arguments_of_a_later_version_are_ignored() -> None:
    assert RunsTrigger(**OLD_ROW, invented={"later": True}).serialize() == (PATH, OLD_ROW)


@pytest.mark.parametrize("provider", ["nexio", "nyx", "onepin", "b3os", "nekt"])
def test_one_event_tells_how_all_ended(host: Any, provider: str) -> None:
    ids = [*made(host, provider, 3, script="succeeded"), *made(host, provider, 1, script="failed")]
    rows = list(Ledger.of_refs(refs_of(provider, ids)))
    event = asyncio.run(event_of(stored(arguments(provider, rows, now=host.clock.now))))
    assert (event["kind"], event["end"]) == ("runs", "all")
    over = ended(event, rows)
    assert [over[index].outcome for index in range(4)] == ["succeeded"] * 3 + ["failed"]
    assert [over[index].run_id for index in range(4)] == ids
    result = event["results"]["3"]
    assert (result["run_id"], result["verdict"], result["outcome"]) == (ids[3], "fail", "failed")


def test_no_event_comes_before_its_time(host: Any) -> None:
    rows = list(Ledger.of_refs(refs_of("nexio", made(host, "nexio", 2, script="succeeded", seconds=1))))
    earliest = host.clock.now + 50
    asyncio.run(event_of(stored(arguments("nexio", rows, now=host.clock.now, not_before=earliest))))
    assert host.clock.now >= earliest


def test_it_fires_when_so_many_have_ended_that_the_task_may_submit_more(host: Any) -> None:
    ids = [*made(host, "nexio", 2, seconds=10), *made(host, "nexio", 2, script="forever")]
    unsent = [Row(index=index, key=str(index)) for index in range(4, 9)]
    rows = [*submitted(list(Ledger.of_refs(refs_of("nexio", ids)))), *unsent]
    event = asyncio.run(event_of(stored(arguments("nexio", rows, now=host.clock.now, plan={"fire_after": 2}))))
    assert event["end"] == "suspended"
    assert set(ended(event, rows)) == {0, 1}
    assert not host.emulator.requests(action="submit")


def test_it_fires_when_the_task_wants_to_look_by_itself(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # The test's clock runs ahead of the loop's.
    monkeypatch.setattr(many_runs, "LOOK_EVERY", 0.0)
    rows = list(Ledger.of_refs(refs_of("nexio", made(host, "nexio", 1, script="forever"))))
    again = host.clock.now + 120
    event = asyncio.run(event_of(stored(arguments("nexio", rows, now=host.clock.now, plan={"look_again_at": again}))))
    assert (event["end"], event["rows"]) == ("suspended", [])
    assert again <= host.clock.now < again + 60


@pytest.mark.parametrize(("require", "good", "bad"), [("any", 1, 0), ("all", 0, 1), (0.5, 2, 0)])
def test_it_fires_when_what_is_required_is_decided_over_the_whole_set(
    host: Any, require: Any, good: int, bad: int
) -> None:
    first = made(host, "nexio", good, seconds=5) + made(host, "nexio", bad, script="failed", seconds=5)
    ids = [*first, *made(host, "nexio", 2, script="forever")]
    rows = list(Ledger.of_refs(refs_of("nexio", ids)))
    # Of the others of the set, some are over and some are not sent.
    over = replace(
        Row(index=len(rows), key="x"), state=RowState.ENDED, outcome=Outcome.SUCCEEDED, verdict=Verdict.SUCCEED
    )
    others = [replace(over, index=len(rows))] if require == 0.5 else []
    rows += [*others, Row(index=len(rows) + len(others), key="unsent")]
    rules = {"require": require, "stop_early": True}
    event = asyncio.run(event_of(stored(arguments("nexio", rows, now=host.clock.now, rules=rules))))
    assert event["end"] == "decided"
    assert not host.emulator.requests(action="cancel")


def test_what_is_decided_cancels_the_tasks_own_runs_and_says_so(host: Any) -> None:
    ids = [*made(host, "b3os", 1, seconds=5), *made(host, "b3os", 3, script="forever")]
    rows = submitted(list(Ledger.of_refs(refs_of("b3os", ids))))
    rows[3] = replace(rows[3], attached=True, state=RowState.ATTACHED)
    rules = {"require": "any", "stop_early": True}
    event = asyncio.run(event_of(stored(arguments("b3os", rows, now=host.clock.now, rules=rules))))
    assert event["end"] == "decided"
    assert len(host.emulator.requests(action="cancel")) == 2
    over = ended(event, rows)
    assert [over[index].stopped for index in (1, 2, 3)] == [True, True, False]
    assert {row.ended_by for index, row in over.items() if index} == {"stop_early"}


def test_it_fires_when_all_runs_together_have_spent_what_they_may(host: Any) -> None:
    steps = [{"at": 0, "set": {"status": "running", "spent_usd": 1}}, {"at": 60, "set": {"spent_usd": 3.0}}]
    ids = made(host, "nyx", 2, script=steps)
    rows = submitted(list(Ledger.of_refs(refs_of("nyx", ids))))
    over = replace(
        Row(index=2, key="x"),
        state=RowState.ENDED, outcome=Outcome.SUCCEEDED, verdict=Verdict.SUCCEED, spend=2.0,
    )  # fmt: skip
    rules = {"max_spend": 7.5}
    given = arguments("nyx", [*rows, over], now=host.clock.now, rules=rules, plan={"cancel_on_timeout": True})
    given["patience"]["max_spend"] = 7.5
    event = asyncio.run(event_of(stored(given)))
    assert event["end"] == "max_spend"
    assert {row.ended_by for row in ended(event, rows).values()} == {"max_spend"}
    assert len(host.emulator.requests(action="cancel")) == 2


@pytest.mark.parametrize("which", ["timeout", "execution_timeout"])
def test_a_clock_ends_all_that_go_on(host: Any, which: str) -> None:
    ids = [*made(host, "nexio", 1, seconds=5), *made(host, "nexio", 2, script="forever")]
    rows = list(Ledger.of_refs(refs_of("nexio", ids)))
    more = {"timeout": 60.0} if which == "timeout" else {"execution_ends": host.clock.now + 60}
    given = arguments("nexio", rows, now=host.clock.now, on_outcome={"timed_out": "warn"}, **more)
    event = asyncio.run(event_of(stored(given)))
    over = ended(event, rows)
    assert over[0].outcome == "succeeded"
    assert {row.ended_by for index, row in over.items() if index} == {which}
    verdict = "warn" if which == "timeout" else "fail"
    assert {row.verdict for index, row in over.items() if index} == {verdict}


def test_the_trouble_of_one_run_is_told_and_ends_no_other(host: Any) -> None:
    ids = [*made(host, "nexio", 1, seconds=50), "no-such-run"]
    rows = list(Ledger.of_refs(refs_of("nexio", ids)))
    event = asyncio.run(event_of(stored(arguments("nexio", rows, now=host.clock.now))))
    over = ended(event, rows)
    assert event["kind"] == "runs"
    assert (over[0].outcome, over[1].error, over[1].state) == ("succeeded", "RunNotFound", "unread")


def test_a_refused_key_is_one_event_with_what_is_known(host: Any, connect: Any) -> None:
    rows = list(Ledger.of_refs(refs_of("nexio", made(host, "nexio", 2))))
    from runops.airflow import hook

    connect("nexio_bad", "nexio", password="invalid-key", host=hook.RunHook(provider="nexio").client().root)
    event = asyncio.run(event_of(stored(arguments("nexio", rows, now=host.clock.now) | {"conn_id": "nexio_bad"})))
    assert (event["kind"], event["error"]) == ("error", "AuthError")
    assert type(read_runs(event).failure).__name__ == "AuthError"


@pytest.mark.parametrize("broken", ["plan", "policy", "rows"])
def test_whatever_is_in_a_row_of_the_database_the_trigger_tells_it_and_does_not_raise(host: Any, broken: str) -> None:
    given = arguments("nexio", list(Ledger.of_refs(refs_of("nexio", ["a"]))), now=host.clock.now)
    if broken == "plan":
        given["plan"] = {}
    elif broken == "policy":
        given["plan"]["policy"] = {"verdicts": {"failed": "explode"}}
    else:
        given["rows"]["open"] = [{"at": "0-7", "ids": ["a"]}]
    event = asyncio.run(event_of(stored(given)))
    assert event["kind"] == "error"
    assert read_runs(event).failure is not None


# --- restart and kill ---


def test_a_trigger_that_begins_anew_elsewhere_reads_again_and_tells_the_same(host: Any) -> None:
    ids = [*made(host, "nexio", 2, seconds=5), *made(host, "nexio", 1, script="failed", seconds=30)]
    rows = list(Ledger.of_refs(refs_of("nexio", ids)))
    given = arguments("nexio", rows, now=host.clock.now)

    async def cut_short() -> None:
        task = asyncio.create_task(event_of(stored(given)))
        for _ in range(40):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cut_short())
    event = asyncio.run(event_of(stored(given)))
    assert [ended(event, rows)[index].outcome for index in range(3)] == ["succeeded", "succeeded", "failed"]
    assert not host.emulator.requests(action="cancel")


@pytest.mark.parametrize(
    ("state", "on_clear", "cancels"),
    [
        ("failed", "submit", 3), ("success", "submit", 3), ("deferred", "submit", 0), ("running", "submit", 0),
        (None, "submit", 3), (None, "reattach", 0), ("failed", "reattach", 3),
    ],
)  # fmt: skip
def test_a_person_who_kills_the_task_cancels_all_that_is_its_own(
    host: Any, monkeypatch: pytest.MonkeyPatch, state: str | None, on_clear: str, cancels: int
) -> None:
    rows = submitted(list(Ledger.of_refs(refs_of("b3os", made(host, "b3os", 4, script="forever")))))
    rows[3] = replace(rows[3], attached=True, state=RowState.ATTACHED)
    given = arguments("b3os", rows, now=host.clock.now, cancel_on_kill=True, on_clear=on_clear)
    trigger = stored(given)
    trigger.task_instance = SimpleNamespace(dag_id="a_dag", task_id="w", run_id="a_run", map_index=-1)  # pyright: ignore[reportAttributeAccessIssue]

    async def asend(asked: Any) -> Any:
        return SimpleNamespace(task_states={"a_run": {"w": state}})

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", SimpleNamespace(asend=asend), raising=False)
    asyncio.run(trigger.on_kill())
    assert len(host.emulator.requests(action="cancel")) == cancels


def test_a_kill_cancels_several_at_once_and_no_more_than_is_good(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from runops.core import AsyncRunClient

    rows = submitted(list(Ledger.of_refs(refs_of("b3os", [f"run_{number}" for number in range(60)]))))
    trigger = stored(arguments("b3os", rows, now=host.clock.now, cancel_on_kill=True))
    at_once, most, done = 0, 0, 0

    async def cancel(self: AsyncRunClient, ref: Any) -> None:
        nonlocal at_once, most, done
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0)
        at_once, done = at_once - 1, done + 1

    async def killed(ti: Any) -> str:
        return "failed"

    monkeypatch.setattr(AsyncRunClient, "cancel", cancel)
    monkeypatch.setattr(trigger_base, "task_state_of", killed)
    asyncio.run(trigger.on_kill())
    assert (done, most) == (60, 16)


def test_runs_that_were_given_are_nobodys_to_cancel(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = list(Ledger.of_refs(refs_of("b3os", made(host, "b3os", 2, script="forever"))))
    trigger = stored(arguments("b3os", rows, now=host.clock.now, cancel_on_kill=True))

    async def killed(ti: Any) -> str:
        raise AssertionError("Nobody needs to know.")

    monkeypatch.setattr(trigger_base, "task_state_of", killed)
    asyncio.run(trigger.on_kill())
    assert not host.emulator.requests(action="cancel")


def test_the_requirement_is_said_once() -> None:
    assert str(Requirement.of(0.95)) == "0.95"
