"""How Dagster runs, backfills and partitions are related, as far as runops asks Dagster for it."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from dagster._core.events import RunFailureReason
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


@pytest.mark.parametrize(("location", "wanted"), [("east", "east"), (None, None)])
def test_variables_are_loaded_anew_for_the_code_location_of_the_run(location: str | None, wanted: str | None) -> None:
    asked: list[str | None] = []
    origin = None if location is None else SimpleNamespace(location_name=location)
    context: Any = SimpleNamespace(
        run=SimpleNamespace(remote_job_origin=origin), instance=SimpleNamespace(inject_env_vars=asked.append)
    )
    _compat.reload_environment(context)
    assert asked == [wanted]


def test_variables_are_loaded_anew_where_a_function_is_called_directly(mocker: MockerFixture, runs: Runs) -> None:
    loaded = mocker.patch.object(runs.instance, "inject_env_vars")
    _compat.reload_environment(dg.build_op_context(instance=runs.instance))
    loaded.assert_called_once_with(None)


def in_a_step(
    runs: Runs, *, policy: dg.RetryPolicy | None = None, tries: int = 0, disabled: bool = False, retries: bool = False
) -> Any:
    """The context of a step that has been tried so often before."""
    step = SimpleNamespace(
        op_retry_policy=policy, retry_mode=SimpleNamespace(disabled=disabled), previous_attempt_count=tries
    )
    instance = SimpleNamespace(run_retries_enabled=retries)
    return SimpleNamespace(run=runs.add("own"), instance=instance, get_step_execution_context=lambda: step)


TWO = dg.RetryPolicy(max_retries=2)


@pytest.mark.parametrize(
    ("step", "error", "again"),
    [
        ({"policy": TWO}, ValueError(), True),
        ({"policy": TWO, "tries": 1}, ValueError(), True),
        ({"policy": TWO, "tries": 2}, ValueError(), False),
        ({"policy": TWO, "disabled": True}, ValueError(), False),
        ({}, ValueError(), False),
        ({"policy": TWO}, dg.Failure(allow_retries=False), False),
        ({"policy": TWO}, dg.Failure(allow_retries=True), True),
        ({}, dg.RetryRequested(max_retries=1), True),
        ({"tries": 1}, dg.RetryRequested(max_retries=1), False),
        ({"policy": TWO, "tries": 2}, dg.RetryRequested(max_retries=3), True),
        ({"policy": TWO, "tries": 1}, dg.RetryRequested(max_retries=1), False),
    ],
)
def test_a_step_is_tried_again_as_often_as_its_policy_or_its_error_allows(
    runs: Runs, mocker: MockerFixture, step: dict[str, Any], error: BaseException, again: bool
) -> None:
    asked = mocker.patch("runops.dagster._compat.auto_reexecution_should_retry_run")
    assert _compat.tried_again(in_a_step(runs, **step), error) is again
    asked.assert_not_called()


@pytest.mark.parametrize("will", [True, False])
def test_a_step_is_tried_again_by_a_retry_of_its_run_as_dagster_says(
    runs: Runs, mocker: MockerFixture, will: bool
) -> None:
    asked = mocker.patch("runops.dagster._compat.auto_reexecution_should_retry_run", return_value=will)
    context = in_a_step(runs, retries=True)
    assert _compat.tried_again(context, ValueError()) is will
    instance, failed, reason = asked.call_args.args
    assert (instance, failed.run_id) == (context.instance, context.run.run_id)
    assert (failed.status, reason) == (dg.DagsterRunStatus.FAILURE, RunFailureReason.STEP_FAILURE)


# --- what a log says -------------------------------------------------------------------------------------------


def noted(runs: Runs, run: dg.DagsterRun, step: str, text: str) -> None:
    _compat.note_in_run(runs.instance, run, step, text, {"text": dg.MetadataValue.text(text)})


def test_the_events_of_a_run_are_those_of_its_steps_the_oldest_first(runs: Runs) -> None:
    run, other = runs.add("own"), runs.add("other")
    noted(runs, run, "a", "one")
    runs.instance.report_engine_event("of the run itself", dagster_run=run)
    noted(runs, run, "b", "two")
    noted(runs, other, "a", "another's")
    noted(runs, run, "a", "three")
    found = [(step, metadata["text"].value) for step, metadata in _compat.events_of_run(runs.instance, run.run_id)]
    assert found == [("a", "one"), ("b", "two"), ("a", "three")]
    of_step = [metadata["text"].value for metadata in _compat.engine_events(runs.instance, run.run_id, "a")]
    assert of_step == ["one", "three"]


def test_a_long_log_is_read_in_pages_and_later_only_what_is_new(runs: Runs, mocker: MockerFixture) -> None:
    mocker.patch("runops.dagster._compat._EVENTS_AT_ONCE", 2)
    run = runs.add("own")
    for text in ("one", "two", "three"):
        noted(runs, run, "a", text)
    first = _compat.engine_events_after(runs.instance, run.run_id, None)
    second = _compat.engine_events_after(runs.instance, run.run_id, first.cursor)
    assert [[each["text"].value for each in page.metadata] for page in (first, second)] == [["one", "two"], ["three"]]
    assert (first.has_more, second.has_more) == (True, False)
    noted(runs, run, "a", "four")
    runs.instance.report_engine_event("of the run itself", dagster_run=run)
    third = _compat.engine_events_after(runs.instance, run.run_id, second.cursor)
    assert [each["text"].value for each in third.metadata] == ["four"]


def test_an_event_of_a_step_is_written_with_its_metadata(runs: Runs) -> None:
    run = runs.add("own")
    noted(runs, run, "a", "one")
    (entry,) = runs.instance.all_logs(run.run_id)
    assert entry.dagster_event is not None
    assert (entry.step_key, entry.dagster_event.message, entry.run_id) == ("a", "one", run.run_id)
    assert entry.dagster_event.event_type is dg.DagsterEventType.ENGINE_EVENT


def test_a_tag_is_added_to_those_that_a_run_has(runs: Runs) -> None:
    run = runs.add("own", tags={"a": "1"})
    _compat.tag_run(runs.instance, run.run_id, {"b": "2"})
    found = runs.instance.get_run_by_id(run.run_id)
    assert found is not None
    assert found.tags == {"a": "1", "b": "2"}


def test_only_so_many_runs_of_each_kind_are_looked_at_the_newest_ones(runs: Runs) -> None:
    first = runs.add("first")
    for name in ("second", "third", "fourth"):
        runs.add(name, parent=first)
    assert runs.names(_compat.runs_like(runs.instance, first, 2)) == ["first", "third", "fourth"]
    last = runs.add("fifth", parent=first)
    assert runs.names(_compat.others_of_group(runs.instance, last, 3)) == ["fourth", "third", "first"]
