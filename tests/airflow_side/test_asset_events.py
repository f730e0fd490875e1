"""What the asset events of a task say of its external run, beside what its own code says in them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import Asset, AssetAlias
from airflow.sdk.execution_time.context import OutletEventAccessors

from runops.airflow import NyxRunOperator, NyxRunSensor, NyxRunsSensor
from runops.airflow.asset_events import name_in_events
from tests.services import CALLS

ORDERS, STOCK, ALIAS = (
    Asset(name="orders", uri="s3://b/orders"),
    Asset(name="stock", uri="s3://b/stock"),
    AssetAlias("a"),
)


def with_events(host: Any, task: Any) -> dict[str, Any]:
    return {**host.context(), "task": task, "outlet_events": OutletEventAccessors()}


def stored(context: dict[str, Any]) -> dict[str, Any]:
    """What the worker tells Airflow: the extra of each asset's event."""
    return {str(key): accessor.extra for key, accessor in context["outlet_events"]._dict.items()}


@pytest.mark.parametrize("verdict", ["succeed", "warn"])
def test_the_event_of_each_outlet_names_the_run_in_every_mode(host: Any, mode: Any, verdict: str) -> None:
    run = host.made("nyx", script="exhausted", seconds=100)
    task = NyxRunSensor(task_id="w", outlets=[ORDERS, STOCK], on_outcome={"exhausted": verdict}, **run, **mode)
    context = with_events(host, task)
    ended = host.run(task, context)
    assert ended.error is None
    events = context["outlet_events"]
    for asset in (ORDERS, STOCK):
        told = events[asset].extra["runops"]
        spent = told.pop("spend")
        assert spent == ended.xcoms["run"]["details"]["spent_usd"]
        assert told == {
            "provider": "nyx",
            "run_id": run["run_id"],
            "url": ended.xcoms["run"]["url"],
            "outcome": "exhausted",
            "verdict": verdict,
            "spend_unit": "USD",
        }


@pytest.mark.parametrize("deferrable", [False, True])
def test_an_operator_names_what_it_has_submitted(host: Any, deferrable: bool) -> None:
    task = NyxRunOperator(task_id="s", outlets=[ORDERS], deferrable=deferrable, **CALLS["nyx"])
    context = with_events(host, task)
    ended = host.run(task, context)
    assert context["outlet_events"][ORDERS].extra["runops"]["run_id"] == ended.xcoms["run"]["run_id"]


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_set_tells_its_counts(host: Any, deferrable: bool) -> None:
    ids = [host.emulator.create_run("nyx", script="succeeded", seconds=20) for _ in range(3)]
    task = NyxRunsSensor(task_id="w", run_ids=ids, outlets=[ORDERS], deferrable=deferrable)
    context = with_events(host, task)
    assert host.run(task, context).error is None
    told = context["outlet_events"][ORDERS].extra["runops"]
    assert (told["provider"], told["run_id"], told["total"], told["verdict"]) == ("nyx", None, 3, "succeed")
    assert told["outcomes"] == {"succeeded": 3}
    assert told["verdicts"] == {"succeed": 3}
    assert told["spend"] > 0
    assert told["url"]


def test_what_a_user_s_own_code_has_said_stays_and_so_do_partitions(host: Any) -> None:
    run = host.made("nyx", script="succeeded")
    task = NyxRunSensor(task_id="w", outlets=[ORDERS, STOCK], **run)
    context = with_events(host, task)
    mine = context["outlet_events"][ORDERS]
    mine.extra.update(rows=7, runops="mine")
    context["outlet_events"][STOCK].extra["rows"] = 8
    if hasattr(mine, "add_partitions"):
        mine.add_partitions(["2026-11-27"])
    host.run(task, context)
    assert mine.extra == {"rows": 7, "runops": "mine"}
    if hasattr(mine, "add_partitions"):
        assert mine.partition_keys == {"2026-11-27"}
    theirs = context["outlet_events"][STOCK].extra
    assert theirs["rows"] == 8
    assert theirs["runops"]["run_id"] == run["run_id"]


def test_the_events_of_an_alias_that_are_there_by_then_name_the_run(host: Any) -> None:
    run = host.made("nyx", script="succeeded")
    task = NyxRunSensor(task_id="w", outlets=[ALIAS], **run)
    context = with_events(host, task)
    context["outlet_events"][ALIAS].add(ORDERS, extra={"rows": 7})
    host.run(task, context)
    (event,) = context["outlet_events"][ALIAS].asset_alias_events
    assert event.extra["rows"] == 7
    assert event.extra["runops"]["run_id"] == run["run_id"]


def test_an_alias_without_events_gets_none(host: Any) -> None:
    task = NyxRunSensor(task_id="w", outlets=[ALIAS], **host.made("nyx", script="succeeded"))
    context = with_events(host, task)
    host.run(task, context)
    assert context["outlet_events"][ALIAS].asset_alias_events == []


@pytest.mark.parametrize("script", ["failed", "exhausted"])
def test_a_task_that_fails_or_is_skipped_says_nothing(host: Any, script: str) -> None:
    task = NyxRunSensor(task_id="w", outlets=[ORDERS], **host.made("nyx", script=script))
    context = with_events(host, task)
    host.run(task, context)
    assert stored(context) == {}


def test_an_outlet_that_cannot_be_found_ends_no_task(host: Any) -> None:
    class Broken(dict[Any, Any]):
        def __getitem__(self, key: Any) -> Any:
            raise RuntimeError("no such asset")

    task = NyxRunSensor(task_id="w", outlets=[ORDERS], **host.made("nyx", script="succeeded"))
    context = {**host.context(), "task": task, "outlet_events": Broken()}
    assert host.run(task, context).error is None
    warned: list[str] = []
    name_in_events(context, {}, SimpleNamespace(warning=lambda text, *_, **__: warned.append(text)))
    assert warned == ["The asset event of %r does not name the external run."]


def test_without_outlets_nothing_is_asked() -> None:
    name_in_events({"task": None, "outlet_events": None}, {}, None)
    name_in_events({}, {}, None)
