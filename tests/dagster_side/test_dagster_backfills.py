"""Backfills of partitioned run assets, by the code of Dagster's own daemon."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster._daemon.backfill import execute_backfill_iteration
from packaging.version import Version

DEFINITIONS = Path(__file__).with_name("partitioned_definitions.py")
AT_ONCE = {
    "run_coordinator": {"module": "dagster._core.run_coordinator", "class": "DefaultRunCoordinator"},
    "run_launcher": {
        "module": "dagster._core.launcher.sync_in_memory_run_launcher",
        "class": "SyncInMemoryRunLauncher",
    },
}
"""Runs are executed here when they are asked for, and not elsewhere when a daemon takes them from a queue."""
ENDED = {
    BulkActionStatus.COMPLETED_SUCCESS,
    BulkActionStatus.COMPLETED_FAILED,
    BulkActionStatus.COMPLETED,
    BulkActionStatus.FAILED,
}

# Dagster's own code warns while it plans a backfill; and runs that are executed where they are asked for are executed
# within an event loop, which Dagster's own processes do not do.
pytestmark = pytest.mark.filterwarnings(
    "ignore::dagster.BetaWarning",
    "ignore::dagster.PreviewWarning",
    "ignore:Function `AssetSelection.sources`",
    "ignore:coroutine 'BaseEventLoop.shutdown_asyncgens' was never awaited",
)


class Backfilled:
    """What a backfill has left behind."""

    def __init__(self, instance: dg.DagsterInstance, backfill: PartitionBackfill, runs: Any) -> None:
        self.status = backfill.status
        self._instance = instance
        self._runs = runs
        self.dagster_runs = instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": backfill.backfill_id}))

    def materialized(self, asset: str) -> set[str]:
        return set(self._instance.get_materialized_partitions(dg.AssetKey(asset)))

    @property
    def submitted(self) -> Counter[str]:
        return Counter(run["body"]["input"]["key"] for run in self._runs.emulator.runs(provider="nexio"))


@pytest.fixture
def backfill(
    service: Callable[[str], Any], on_disk: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Backfilled]]:
    """``backfill("daily", keys=[...])``: runs one to its end; its Dagster runs are executed in this process."""
    runs = service("nexio")
    monkeypatch.setenv("PARTITIONED_URL", runs.base_url)
    origin = InProcessCodeLocationOrigin(LoadableTargetOrigin(python_file=str(DEFINITIONS)), location_name="tests")
    with (
        on_disk(AT_ONCE) as instance,
        create_test_daemon_workspace_context(InProcessWorkspaceLoadTarget(origin), instance) as workspace,
    ):

        def run(*assets: str, keys: Sequence[str], dynamic: str | None = None) -> Backfilled:
            if dynamic is not None:
                instance.add_dynamic_partitions(dynamic, keys)
            wanted = PartitionBackfill.from_asset_partitions(
                backfill_id="abcdefgh",
                asset_graph=workspace.create_request_context().asset_graph,
                partition_names=keys,
                asset_selection=[dg.AssetKey(asset) for asset in assets],
                backfill_timestamp=time.time(),
                tags={},
                dynamic_partitions_store=instance,
                all_partitions=False,
                title=None,
                description=None,
                run_config=None,
            )
            instance.add_backfill(wanted)
            for _ in range(10):
                errors = list(execute_backfill_iteration(workspace, logging.getLogger("backfill")))
                assert [error for error in errors if error] == []
                now = instance.get_backfill("abcdefgh") or wanted
                if now.status in ENDED:
                    return Backfilled(instance, now, runs)
            return Backfilled(instance, wanted, runs)

        yield run


def test_each_partition_of_a_static_backfill_submits_its_own_run(backfill: Callable[..., Backfilled]) -> None:
    ended = backfill("warned", "after_warned", keys=["north", "south"])
    assert ended.status is BulkActionStatus.COMPLETED_SUCCESS
    assert ended.submitted == {"north": 1, "south": 1}
    assert ended.materialized("warned") == ended.materialized("after_warned") == {"north", "south"}


def test_a_backfill_counts_a_skipped_partition_as_failed_although_its_run_is_green(
    backfill: Callable[..., Backfilled],
) -> None:
    ended = backfill("skipped", keys=["north", "south"])
    # Before Dagster 1.13.22 such a backfill waits for the partition for ever.
    waits = Version(dg.__version__) < Version("1.13.22")
    assert ended.status is (BulkActionStatus.REQUESTED if waits else BulkActionStatus.COMPLETED_FAILED)
    assert ended.materialized("skipped") == {"north"}
    assert {run.status for run in ended.dagster_runs} == {dg.DagsterRunStatus.SUCCESS}
    assert ended.submitted == {"north": 1, "south": 1}


def test_days_are_backfilled_one_by_one(backfill: Callable[..., Backfilled]) -> None:
    days = ["2026-11-02", "2026-11-03"]
    ended = backfill("daily", keys=days)
    assert ended.status is BulkActionStatus.COMPLETED_SUCCESS
    assert ended.submitted == dict.fromkeys(days, 1)
    assert ended.materialized("daily") == set(days)


def test_days_are_backfilled_by_one_run_where_the_policy_says_so(backfill: Callable[..., Backfilled]) -> None:
    days = ["2026-11-02", "2026-11-03", "2026-11-04"]
    ended = backfill("at_once", keys=days)
    assert ended.status is BulkActionStatus.COMPLETED_SUCCESS
    assert ended.submitted == {"2026-11-02...2026-11-04": 1}
    assert ended.materialized("at_once") == set(days)


def test_partitions_that_came_later_are_backfilled(backfill: Callable[..., Backfilled]) -> None:
    ended = backfill("shops", keys=["shop-7", "42"], dynamic="shops")
    assert ended.status is BulkActionStatus.COMPLETED_SUCCESS
    assert ended.submitted == {"shop-7": 1, "42": 1}
    assert ended.materialized("shops") == {"shop-7", "42"}


def test_all_assets_of_a_partition_are_backfilled_by_one_run(backfill: Callable[..., Backfilled]) -> None:
    ended = backfill("orders", "customers", keys=["2026-11-02"])
    assert ended.status is BulkActionStatus.COMPLETED_SUCCESS
    assert ended.submitted == {"2026-11-02": 1}
    assert ended.materialized("orders") == ended.materialized("customers") == {"2026-11-02"}
