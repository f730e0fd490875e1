"""How Dagster runs, backfills and partitions are related, as far as runops asks Dagster for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from pytest_mock import MockerFixture

from runops.dagster import _compat

PARENT, ROOT = "dagster/parent_run_id", "dagster/root_run_id"
BACKFILL, ROOT_BACKFILL, PARTITION = "dagster/backfill", "dagster/root_backfill_id", "dagster/partition"
FROM, TO = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


class Runs:
    """Dagster runs by names of the test's own."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self._names: dict[str, str] = {}

    def add(
        self, name: str, *, parent: dg.DagsterRun | None = None, root: dg.DagsterRun | None = None, **more: Any
    ) -> dg.DagsterRun:
        tags = more.pop("tags", {})
        if parent is not None:
            root = root or parent
            tags = {PARENT: parent.run_id, ROOT: root.run_id, **tags}
        run = dg.DagsterRun(
            job_name="job",
            tags=tags,
            parent_run_id=parent.run_id if parent else None,
            root_run_id=root.run_id if root else None,
            **more,
        )
        self.instance.add_run(run)
        self._names[run.run_id] = name
        return run

    def names(self, runs: list[dg.DagsterRun]) -> list[str]:
        return [self._names[run.run_id] for run in runs]


@pytest.fixture
def runs() -> Iterator[Runs]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Runs(instance)


# --- re-executions ---------------------------------------------------------------------------------------------


def test_a_run_and_all_that_re_executes_it_are_alike_from_wherever_one_looks(runs: Runs) -> None:
    first = runs.add("first")
    second = runs.add("second", parent=first)
    third = runs.add("third", parent=second, root=first)
    runs.add("other")
    for each in (first, second, third):
        assert runs.names(_compat.runs_like(runs.instance, each, 10)) == ["first", "second", "third"]
    assert runs.names(_compat.others_of_group(runs.instance, third, 10)) == ["second", "first"]
    assert runs.names(_compat.others_of_group(runs.instance, second, 10)) == ["third", "first"]
    assert _compat.others_of_group(runs.instance, first, 10) == []


def test_the_parent_of_a_run_is_the_one_that_it_re_executes(runs: Runs) -> None:
    first = runs.add("first")
    second = runs.add("second", parent=first)
    third = runs.add("third", parent=second, root=first)
    assert _compat.parent_of(runs.instance, first) is None
    assert [getattr(_compat.parent_of(runs.instance, each), "run_id", None) for each in (second, third)] == [
        first.run_id,
        second.run_id,
    ]
    assert _compat.parent_of(runs.instance, runs.add("orphan", parent=dg.DagsterRun(job_name="gone"))) is None


@pytest.mark.parametrize(
    ("tags", "continues"),
    [
        ({}, False),
        ({"dagster/is_resume_retry": "true"}, True),
        ({"dagster/is_asset_resume_retry": "true"}, True),
        ({"dagster/is_resume_retry": "false"}, False),
    ],
)
def test_a_re_execution_from_the_failure_on_continues_its_parent(
    runs: Runs, tags: dict[str, str], continues: bool
) -> None:
    assert _compat.continues_its_parent(runs.instance, runs.add("run", tags=tags)) is continues


@pytest.mark.parametrize(("tags", "ours"), [({}, False), ({"dagster/retry_number": "1"}, True)])
def test_a_run_that_dagster_itself_has_started_bears_the_number_of_its_retry(
    runs: Runs, tags: dict[str, str], ours: bool
) -> None:
    assert _compat.started_by_run_retries(runs.add("run", tags=tags)) is ours


# --- backfills -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", [{PARTITION: "north"}, {FROM: "a", TO: "c"}])
def test_runs_of_one_partition_are_alike_over_a_backfill_and_those_that_repeat_it(
    runs: Runs, where: dict[str, str]
) -> None:
    first = runs.add("first", tags={BACKFILL: "b1", **where})
    runs.add("elsewhere", tags={BACKFILL: "b1", **{name: f"{value}x" for name, value in where.items()}})
    again = runs.add("again", tags={BACKFILL: "b2", ROOT_BACKFILL: "b1", **where})
    third = runs.add("third", tags={BACKFILL: "b3", ROOT_BACKFILL: "b1", **where})
    runs.add("another", tags={BACKFILL: "b9", **where})
    for each in (first, again, third):
        assert runs.names(_compat.runs_like(runs.instance, each, 10)) == ["first", "again", "third"]
    assert runs.names(_compat.others_of_group(runs.instance, third, 10)) == ["again", "first"]
    assert _compat.others_of_group(runs.instance, first, 10) == []


@pytest.mark.parametrize(
    ("status", "tags", "retries", "due"),
    [
        (dg.DagsterRunStatus.FAILURE, {}, True, True),
        (dg.DagsterRunStatus.FAILURE, {}, False, False),
        (dg.DagsterRunStatus.FAILURE, {"dagster/will_retry": "false"}, True, False),
        (dg.DagsterRunStatus.FAILURE, {"dagster/will_retry": "true"}, False, True),
        (dg.DagsterRunStatus.FAILURE, {"dagster/will_retry": "true", "dagster/auto_retry_run_id": "x"}, False, False),
        (dg.DagsterRunStatus.SUCCESS, {}, True, False),
        (dg.DagsterRunStatus.CANCELED, {}, True, False),
    ],
)
def test_a_retry_is_due_where_dagster_has_said_so_or_has_yet_to_say_it(
    runs: Runs, mocker: MockerFixture, status: Any, tags: dict[str, str], retries: bool, due: bool
) -> None:
    mocker.patch.object(dg.DagsterInstance, "run_retries_enabled", retries)
    other = runs.add("other", status=dg.DagsterRunStatus.SUCCESS)
    run = runs.add("run", status=status, tags=tags)
    assert _compat.retry_is_due(runs.instance, [other, run]) is due


@pytest.mark.parametrize(
    ("status", "due"),
    [
        (BulkActionStatus.REQUESTED, True),
        (BulkActionStatus.CANCELING, True),
        (BulkActionStatus.FAILING, True),
        (BulkActionStatus.COMPLETED_SUCCESS, False),
        (BulkActionStatus.CANCELED, False),
    ],
)
@pytest.mark.parametrize("tags", [{BACKFILL: "b1"}, {BACKFILL: "b2", ROOT_BACKFILL: "b1"}, {BACKFILL: "b3"}])
def test_another_run_is_due_while_the_backfill_of_a_run_or_one_that_repeats_it_goes_on(
    runs: Runs, tags: dict[str, str], status: Any, due: bool
) -> None:
    for backfill_id, of_backfill in (("b1", {}), ("b4", {ROOT_BACKFILL: "b3"})):
        made = PartitionBackfill(backfill_id, status, from_failure=False, tags=of_backfill, backfill_timestamp=0.0)
        runs.instance.add_backfill(made)
    run = runs.add("run", status=dg.DagsterRunStatus.SUCCESS, tags=tags)
    assert _compat.retry_is_due(runs.instance, [run]) is due
    assert _compat.retry_is_due(runs.instance, [runs.add("other", tags={BACKFILL: "b9"})]) is False


# --- partitions ------------------------------------------------------------------------------------------------

STATIC = dg.StaticPartitionsDefinition(["north", "south"])
DAYS = dg.DailyPartitionsDefinition("2026-11-01", end_date="2026-11-05")


@dg.asset(partitions_def=STATIC)
def regions() -> None: ...


@dg.asset
def whole() -> None: ...


@dg.job(partitions_def=DAYS)
def daily() -> None: ...


@dg.job
def plain() -> None: ...


@pytest.mark.parametrize(
    ("asset", "job", "partitions"),
    [
        ("regions", None, STATIC),
        ("whole", None, None),
        ("regions", "daily", DAYS),
        ("regions", "plain", None),
        ("elsewhere", "daily", DAYS),
    ],
)
def test_the_partitions_are_those_of_the_job_or_of_the_asset_where_there_is_no_job(
    asset: str, job: str | None, partitions: Any
) -> None:
    repository = dg.Definitions(assets=[regions, whole], jobs=[daily, plain]).get_repository_def()
    context = dg.build_sensor_context(repository_def=repository)
    assert _compat.partitions_of(context, dg.AssetKey(asset), job) == partitions


@pytest.mark.parametrize(("asset", "job", "named"), [("x/y", None, "x/y"), ("regions", "nightly", "nightly")])
@pytest.mark.parametrize("located", [True, False])
def test_partitions_of_what_is_in_no_code_location_of_the_sensor_cannot_be_looked_up(
    asset: str, job: str | None, named: str, located: bool
) -> None:
    repository = dg.Definitions(assets=[regions], jobs=[daily]).get_repository_def() if located else None
    context = dg.build_sensor_context(repository_def=repository)
    with pytest.raises(LookupError) as raised:
        _compat.partitions_of(context, dg.AssetKey.from_user_string(asset), job)
    assert raised.value.args == (named,)


@pytest.mark.parametrize(
    ("partitions", "key", "there", "nearest"),
    [
        (STATIC, "north", True, "north"),
        (STATIC, "nroth", False, "north"),
        (STATIC, "zzz", False, None),
        (DAYS, "2026-11-04", True, "2026-11-04"),
        (DAYS, "no day", False, None),
        (dg.DynamicPartitionsDefinition(name="tenants"), "acme", True, "acme"),
        (dg.DynamicPartitionsDefinition(name="tenants"), "acmee", False, "acme"),
    ],
)
def test_a_partition_exists_or_one_that_is_spelled_alike_is_named(
    runs: Runs, partitions: Any, key: str, there: bool, nearest: str | None
) -> None:
    runs.instance.add_dynamic_partitions("tenants", ["acme", "globex"])
    assert _compat.has_partition(partitions, key, runs.instance) is there
    assert _compat.nearest_partition(partitions, key, runs.instance) == nearest


# --- what a context says ---------------------------------------------------------------------------------------


def test_a_function_that_is_called_directly_has_no_run_and_no_try_after_it(runs: Runs) -> None:
    context = dg.build_op_context(instance=runs.instance)
    assert _compat.run_of(context) is None
    assert _compat.tried_again(context, ValueError()) is False
    assert _compat.partition_of(context) is None
    assert _compat.in_a_backfill_of_partitions(context) is False


def test_the_partition_of_a_step_is_its_key_or_the_ends_of_its_range() -> None:
    assert _compat.partition_of(dg.build_op_context(partition_key="north")) == "north"
    ranged = dg.build_asset_context(partition_key_range=dg.PartitionKeyRange("a", "c"))
    assert _compat.partition_of(ranged) == "a...c"


def test_a_sensor_s_context_without_an_instance_is_given_an_empty_one_and_keeps_its_own(runs: Runs) -> None:
    own = dg.build_sensor_context(instance=runs.instance)
    _compat.give_instance(own)
    assert own.instance is runs.instance
    without = dg.build_sensor_context()
    with without:
        _compat.give_instance(without)
        assert without.instance.get_runs() == []
