"""build_run_multi_asset, and what assets pass on to Dagster: partitions, backfills, pools, conditions, freshness."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import dagster as dg
import pytest

from runops.core import ConfigurationError, Outcome, Phase, Progress, RunRef, RunSnapshot, Verdict
from runops.dagster import build_run_asset, build_run_multi_asset
from runops.dagster.verdicts import metadata, shown

WARNED = (False, dg.AssetCheckSeverity.WARN)
ERROR = (False, dg.AssetCheckSeverity.ERROR)
TABLES = [dg.AssetSpec("orders"), dg.AssetSpec("customers"), dg.AssetSpec(["raw", "refunds"])]


@dg.asset(deps=["orders"])
def after_orders() -> None: ...


@dg.asset(deps=["customers"])
def after_customers() -> None: ...


def tables(run: RunRef, **options: Any) -> dg.AssetsDefinition:
    return build_run_multi_asset(name="load", specs=TABLES, resource_key="nekt", run_id=run.run_id, **options)


def test_all_assets_of_a_run_that_succeeded_are_materialized(service: Callable[[str], Any]) -> None:
    runs = service("nekt")
    ended = runs.materialize(tables(runs.made(script="succeeded")), after_orders)
    assert ended.success
    assert sorted(ended.materialized) == ["after_orders", "customers", "orders", "raw/refunds"]
    assert {passed for passed, _ in ended.checks_of.values()} == {True}


def test_a_part_is_materialized_before_the_step_fails(service: Callable[[str], Any]) -> None:
    runs = service("nekt")
    ended = runs.materialize(tables(runs.made(script="failed"), made=lambda run, read: ["orders"]), after_orders)
    assert not ended.success
    assert ended.materialized == ["orders"]
    assert ended.checks_of == {"orders": ERROR}
    kinds = [event.event_type for event in ended.events]
    materialized = kinds.index(dg.DagsterEventType.ASSET_MATERIALIZATION)
    assert materialized < kinds.index(dg.DagsterEventType.STEP_FAILURE)


def test_what_was_not_made_is_not_taken_for_made_and_what_is_downstream_of_it_is_skipped(
    service: Callable[[str], Any],
) -> None:
    runs = service("nekt")
    asset = tables(runs.made(script="succeeded"), made=lambda run, read: ["orders", "raw/refunds", "unknown"])
    ended = runs.materialize(asset, after_orders, after_customers)
    assert ended.success
    assert sorted(ended.materialized) == ["after_orders", "orders", "raw/refunds"]
    assert ended.skipped == ["after_customers"]
    assert ended.checks_of["customers"] == WARNED


def test_a_skip_verdict_materializes_nothing_unless_something_was_made(service: Callable[[str], Any]) -> None:
    runs = service("nekt")
    run = runs.made(script="cancelled")
    ended = runs.materialize(tables(run, on_outcome={"cancelled": "skip"}), after_orders)
    assert ended.success
    assert ended.materialized == []
    assert set(ended.checks_of.values()) == {WARNED}
    assert ended.skipped == ["after_orders"]
    part = runs.materialize(tables(run, on_outcome={"cancelled": "skip"}, made=lambda run, read: ["customers"]))
    assert part.materialized == ["customers"]


def test_the_payload_is_read_only_if_it_is_asked_for(service: Callable[[str], Any]) -> None:
    runs = service("nekt")
    run = runs.made(script="succeeded")
    seen: list[dict[str, Any]] = []

    def made(snapshot: RunSnapshot, read: Callable[[], dict[str, Any]]) -> list[str]:
        seen.append(read())
        return ["orders"]

    runs.materialize(tables(run, made=made))
    assert seen[0]["id"] == run.run_id


def test_a_payload_that_cannot_be_read_fails_the_step(service: Callable[[str], Any]) -> None:
    runs = service("nekt")
    run = runs.made(script="succeeded", seconds=0.001)

    def made(snapshot: RunSnapshot, read: Callable[[], dict[str, Any]]) -> list[str]:
        runs.emulator.add_fault(kind="status", status=403, provider="nekt", count=None)
        return list(read())

    ended = runs.materialize(tables(run, made=made))
    assert not ended.success
    assert ended.materialized == []


def test_a_subset_materializes_only_what_was_selected(service: Callable[[str], Any]) -> None:
    runs = service("nekt")
    asset = tables(runs.made(script="succeeded"), can_subset=True)
    ended = runs.materialize(asset, selection=dg.AssetSelection.assets("customers"))
    assert ended.success
    assert ended.materialized == ["customers"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"specs": []}, "specs"),
        ({"made": 3}, "made must be a function"),
        ({"check_specs": []}, "check_specs"),
        ({"run_id": None}, "either call"),
        ({"timeout": 0}, "timeout"),
    ],
)
def test_bad_arguments_of_a_multi_asset_are_refused_when_it_is_built(options: dict[str, Any], told: str) -> None:
    given: dict[str, Any] = {"name": "load", "specs": TABLES, "resource_key": "nekt", "run_id": "r", **options}
    with pytest.raises(ConfigurationError, match=told) as raised:
        build_run_multi_asset(**given)
    assert str(raised.value).startswith("build_run_multi_asset('load')")


# --- what is passed on ---


@pytest.mark.filterwarnings("ignore:Parameter `backfill_policy`")
def test_what_dagster_takes_of_an_asset_is_passed_on() -> None:
    condition = dg.AutomationCondition.eager()
    freshness = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=1))
    policy = dg.RetryPolicy(max_retries=2)
    asset = build_run_asset(
        key="report",
        resource_key="nexio",
        run_id="r",
        kinds={"nexio"},
        owners=["team:data"],
        tags={"area": "sales"},
        group_name="reports",
        automation_condition=condition,
        freshness_policy=freshness,
        partitions_def=dg.DailyPartitionsDefinition("2026-11-01"),
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool="nexio",
        retry_policy=policy,
        code_version="3",
    )
    spec = asset.get_asset_spec(dg.AssetKey("report"))
    assert (spec.kinds, list(spec.owners), spec.group_name, spec.code_version) == (
        {"nexio"},
        ["team:data"],
        "reports",
        "3",
    )
    assert spec.tags["area"] == "sales"
    assert spec.automation_condition == condition
    assert spec.freshness_policy == freshness
    assert asset.backfill_policy == dg.BackfillPolicy.single_run()
    assert (asset.op.pool, asset.op.retry_policy) == ("nexio", policy)


PARTITIONS = [
    (dg.StaticPartitionsDefinition(["north", "south"]), "south"),
    (dg.DailyPartitionsDefinition("2026-11-01"), "2026-11-05"),
    (dg.DynamicPartitionsDefinition(name="shops"), "shop-7"),
]


@pytest.mark.parametrize(("partitions", "key"), PARTITIONS, ids=["static", "daily", "dynamic"])
def test_a_partition_submits_its_own_run_and_is_materialized_by_it(
    service: Callable[[str], Any], partitions: Any, key: str
) -> None:
    runs = service("b3os")
    if isinstance(partitions, dg.DynamicPartitionsDefinition):
        runs.instance.add_dynamic_partitions("shops", [key])
    asset = build_run_asset(
        key="shop",
        resource_key="b3os",
        call=lambda context: {"workflow_id": "wf_1", "payload": {"shop": context.partition_key}},
        partitions_def=partitions,
    )
    ended = runs.materialize(asset, partition_key=key)
    assert ended.success
    (event,) = ended.of(dg.DagsterEventType.ASSET_MATERIALIZATION)
    assert event.partition == key
    assert runs.submits == 1


@pytest.mark.filterwarnings("ignore:Parameter `backfill_policy`")
def test_a_backfill_in_one_run_submits_once_for_its_whole_range(service: Callable[[str], Any]) -> None:
    runs = service("b3os")
    seen: list[Any] = []

    def call(context: Any) -> dict[str, Any]:
        seen.append(context.partition_key_range)
        return {"workflow_id": "wf_1"}

    asset = build_run_asset(
        key="daily",
        resource_key="b3os",
        call=call,
        partitions_def=dg.DailyPartitionsDefinition("2026-11-01"),
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    tags = {"dagster/asset_partition_range_start": "2026-11-02", "dagster/asset_partition_range_end": "2026-11-04"}
    ended = runs.materialize(asset, tags=tags)
    assert ended.success
    assert seen == [dg.PartitionKeyRange("2026-11-02", "2026-11-04")]
    assert runs.submits == 1
    assert len(ended.of(dg.DagsterEventType.ASSET_MATERIALIZATION)) == 3


# --- metadata ---


def snapshot(**fields: Any) -> RunSnapshot:
    ref = RunRef(provider="nyx", run_id="r_1")
    return RunSnapshot(ref=ref, **{"state": "running", "phase": Phase.RUNNING, **fields})


def test_the_overview_is_a_table_with_a_bar_for_the_progress() -> None:
    run = snapshot(
        state="completed",
        phase=None,
        outcome=Outcome.SUCCEEDED,
        progress=Progress(done=7, total=10, unit="USD"),
        url="https://app.example.com/r_1",
    )
    text = metadata(run, Verdict.SUCCEED)["runops/overview"].value
    assert "| Run | [r\\_1](https://app.example.com/r_1) |" in text
    assert "███████░░░ 70%" in text
    assert "| State | completed \\(succeeded\\) |\n| Verdict | succeed |" in text


def test_the_metadata_begins_with_what_a_person_looks_for() -> None:
    run = snapshot(state="completed", phase=None, outcome=Outcome.SUCCEEDED, url="https://app.example.com/r_1")
    assert list(metadata(run, Verdict.SUCCEED))[:4] == [
        "runops/overview", "runops/url", "runops/outcome", "runops/verdict"
    ]  # fmt: skip


def test_a_check_says_why_a_run_that_succeeded_has_failed_it() -> None:
    run = snapshot(state="completed", phase=None, outcome=Outcome.SUCCEEDED)
    said = "nyx run r_1: completed (succeeded); verdict: fail. [run-rejected]"
    assert shown(run, Verdict.FAIL).check().description == said


def test_what_a_service_says_is_no_markup() -> None:
    text = metadata(snapshot(reason="a | b\n<img src=x> [x](javascript:y) `c`"))["runops/overview"].value
    row = next(line for line in text.splitlines() if line.startswith("| Why |"))
    assert row == r"| Why | a \| b \<img src=x\> \[x\]\(javascript:y\) \`c\` |"


@pytest.mark.parametrize("progress", [Progress(done=3, total=None, unit="steps"), Progress(done=3, total=0, unit="x")])
def test_a_progress_without_an_end_has_no_bar(progress: Progress) -> None:
    text = metadata(snapshot(progress=progress))["runops/overview"].value
    assert "█" not in text
    assert "| Progress | 3/" in text
