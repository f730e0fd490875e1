"""Run assets in real definitions: what they pass on to Dagster has the effect that Dagster promises of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.freshness import FreshnessState
from dagster._core.definitions.freshness_evaluator import TimeWindowFreshnessPolicyEvaluator
from dagster._core.loader import LoadingContextForTest

from runops.core import RunSnapshot
from runops.dagster import B3osResource, build_run_asset, build_run_multi_asset
from tests.dagster_storage import local_instance

CALL = {"workflow_id": "wf_1"}

pytestmark = pytest.mark.filterwarnings("ignore::dagster.BetaWarning", "ignore::dagster.PreviewWarning")


@pytest.fixture
def fresh() -> Iterator[dg.DagsterInstance]:
    """An instance that knows nothing of other tests' assets."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance that keeps its records in files: one in memory knows no pools."""
    with local_instance(tmp_path) as made:
        yield made


def executed(runs: Any, instance: dg.DagsterInstance, *assets: Any, **options: Any) -> Any:
    definitions = dg.Definitions(assets=list(assets), resources={runs.provider.name: runs.resource})
    dg.Definitions.validate_loadable(definitions)
    job = definitions.resolve_implicit_global_asset_job_def()
    return job.execute_in_process(instance=instance, raise_on_error=False, **options)


def test_the_page_of_an_asset_shows_who_owns_it_and_what_it_is_made_with() -> None:
    single = build_run_asset(
        key="a", resource_key="b3os", call=CALL, kinds={"b3os"}, owners=["team:pay", "a@b.example"]
    )
    several = build_run_multi_asset(
        name="several",
        specs=[dg.AssetSpec("b", kinds={"b3os", "csv"}, owners=["team:pay"])],
        resource_key="b3os",
        call=CALL,
    )
    resource = B3osResource(api_key=dg.EnvVar("B3OS_API_KEY"))
    graph = dg.Definitions(assets=[single, several], resources={"b3os": resource}).resolve_asset_graph()
    assert {key.to_user_string(): graph.get(key).kinds for key in graph.get_all_asset_keys()} == {
        "a": {"b3os"},
        "b": {"b3os", "csv"},
    }
    assert list(graph.get(dg.AssetKey("a")).owners) == ["team:pay", "a@b.example"]
    assert list(graph.get(dg.AssetKey("b")).owners) == ["team:pay"]


@pytest.mark.parametrize("several", [False, True])
def test_a_pool_is_held_for_the_whole_wait_and_free_after_it(
    service: Callable[[str], Any], clock: Any, stored: dg.DagsterInstance, several: bool
) -> None:
    runs = service("b3os")
    runs.emulator.set_defaults("b3os", seconds=300)
    storage = stored.event_log_storage
    storage.set_concurrency_slots("payouts", 1)
    held: list[int] = []
    clock.on_sleep = lambda seconds: held.append(storage.get_concurrency_info("payouts").active_slot_count)
    shared: dict[str, Any] = {"resource_key": "b3os", "call": CALL, "pool": "payouts"}
    asset = (
        build_run_multi_asset(name="several", specs=[dg.AssetSpec("a"), dg.AssetSpec("b")], **shared)
        if several
        else build_run_asset(key="a", **shared)
    )
    assert executed(runs, stored, asset).success
    assert len(held) > 1
    assert set(held) == {1}
    assert storage.get_concurrency_info("payouts").active_slot_count == 0


def test_a_retry_policy_submits_anew_after_a_run_that_failed(
    service: Callable[[str], Any], fresh: dg.DagsterInstance
) -> None:
    runs = service("b3os")
    runs.emulator.set_defaults("b3os", script="failed")
    asset = build_run_asset(key="a", resource_key="b3os", call=CALL, retry_policy=dg.RetryPolicy(max_retries=2))
    result = executed(runs, fresh, asset)
    assert not result.success
    assert runs.submits == 3


def test_a_retry_after_a_part_was_made_makes_the_whole(
    service: Callable[[str], Any], fresh: dg.DagsterInstance
) -> None:
    runs = service("b3os")
    runs.emulator.set_defaults("b3os", script="failed")

    def made(snapshot: RunSnapshot, read: Callable[[], dict[str, Any]]) -> list[str]:
        if snapshot.outcome == "succeeded":
            return ["orders", "customers"]
        runs.emulator.set_defaults("b3os", script="succeeded")
        return ["orders"]

    asset = build_run_multi_asset(
        name="load",
        specs=[dg.AssetSpec("orders"), dg.AssetSpec("customers")],
        resource_key="b3os",
        call=CALL,
        made=made,
        retry_policy=dg.RetryPolicy(max_retries=1),
    )
    result = executed(runs, fresh, asset)
    assert result.success
    assert runs.submits == 2
    told = [event.asset_key.to_user_string() for event in result.get_asset_materialization_events()]
    assert told == ["orders", "customers", "orders"]


def eager(**options: Any) -> dg.AssetsDefinition:
    return build_run_asset(
        key="quotes",
        resource_key="nexio",
        call={"engine_slug": "e", "input": {"emulator": {"script": "degraded"}}},
        deps=["orders"],
        automation_condition=dg.AutomationCondition.eager(),
        **options,
    )


@pytest.mark.parametrize("on_outcome", [None, {"degraded": "warn"}], ids=["skip", "warn"])
def test_an_automation_condition_asks_for_one_run_for_each_change_whatever_came_of_it(
    service: Callable[[str], Any], fresh: dg.DagsterInstance, on_outcome: dict[str, str] | None
) -> None:
    runs = service("nexio")
    asset = eager(on_outcome=on_outcome)
    definitions = dg.Definitions(assets=[dg.AssetSpec("orders"), asset], resources={"nexio": runs.resource})
    first = dg.evaluate_automation_conditions(definitions, fresh)
    requested: list[int] = []
    cursor = first.cursor
    for changed in (True, False, False, True):
        if changed:
            fresh.report_runless_asset_event(dg.AssetMaterialization("orders"))
        now = dg.evaluate_automation_conditions(definitions, fresh, cursor=cursor)
        cursor = now.cursor
        requested.append(now.total_requested)
        if now.total_requested:
            assert executed(runs, fresh, asset).success
    assert requested == [1, 0, 0, 1]


def test_a_soft_fail_leaves_freshness_as_it_was_and_a_warning_renews_it(
    service: Callable[[str], Any], fresh: dg.DagsterInstance
) -> None:
    runs = service("nexio")
    policy = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=1))

    def state_after(**options: Any) -> FreshnessState:
        asset = eager(freshness_policy=policy, **options)
        assert executed(runs, fresh, asset).success
        graph = dg.Definitions(assets=[asset], resources={"nexio": runs.resource}).resolve_asset_graph()
        node = graph.get(dg.AssetKey("quotes"))
        evaluated = TimeWindowFreshnessPolicyEvaluator().evaluate_freshness(LoadingContextForTest(fresh), node)
        return asyncio.run(evaluated)

    assert state_after() is FreshnessState.UNKNOWN
    assert state_after(on_outcome={"degraded": "warn"}) is FreshnessState.PASS


def test_the_data_version_is_the_external_run_and_is_known_downstream(
    service: Callable[[str], Any], fresh: dg.DagsterInstance
) -> None:
    runs = service("b3os")
    ref = runs.made(script="succeeded", seconds=1)

    @dg.asset(deps=["a"])
    def after() -> None: ...

    result = executed(runs, fresh, build_run_asset(key="a", resource_key="b3os", run_id=ref.run_id), after)
    told = {event.asset_key.to_user_string(): event for event in result.get_asset_materialization_events()}
    versions = {key: event.materialization.tags for key, event in told.items()}
    assert versions["a"]["dagster/data_version"] == f"b3os:{ref.run_id}"
    assert versions["after"]["dagster/input_data_version/a"] == f"b3os:{ref.run_id}"


def test_a_person_finds_the_link_the_time_the_cost_and_the_progress_of_a_run(
    service: Callable[[str], Any], fresh: dg.DagsterInstance
) -> None:
    runs = service("nyx")
    ref = runs.made(script="succeeded", seconds=90)
    result = executed(runs, fresh, build_run_asset(key="audit", resource_key="nyx", run_id=ref.run_id))
    (event,) = result.get_asset_materialization_events()
    metadata = event.materialization.metadata
    assert metadata["runops/url"].value.startswith("https://")
    assert metadata["runops/duration_seconds"].value > 60
    assert metadata["runops/details/findings_count"].value == 1
    overview = metadata["runops/overview"].value.splitlines()
    assert "| findings count | 1 |" in overview
    assert next(line for line in overview if line.startswith("| Took |")).startswith("| Took | 0:01:")
    assert "| Progress | ██████░░░░ 57% (2.87/5 USD) |" in overview
    assert "| spent usd | 2.87 |" in overview
