"""All that runops uses of Dagster beyond its public names. Nothing else in here, and no other module does so.

What is used, and the public way that is missing:

- ``arguments_of``: deprecated arguments of a decorator are accepted, but stand only in a private attribute.
- ``run_of``: a context without a run raises an error that is not published; nothing shows that before.
- ``step_key_of``: a context does not say its step key, by which the events of a step are found.
- ``partition_of``: public; here because it is a part of what a step is known by.
- ``write_engine_event``, ``engine_events``, ``engine_events_after``: a step cannot write a durable event of its own but
  an observation, which a generator has to yield; then an interrupt would pass by the cancel.
- ``tag_run``: tags of a run can be set only where it is launched.
- ``events_of_run``, ``note_in_run``: the same, of a run that is over, for whoever looks at what it has left behind.
- ``runs_like``, ``retry_is_due``: how runs and backfills are related, and whether Dagster will retry one.
- ``newest_check_evaluations``: the history of a check can only be seen in the web interface.
- ``continues_its_parent``, ``parent_of``, ``others_of_group``, ``started_by_run_retries``,
  ``in_a_backfill_of_partitions``: how runs are related stands in tags whose names are not published, and in a snapshot
  of the execution plan.
- ``tried_again``: whether a step has a try left, or its run, stands in its plan and in the daemon's own rule.
- ``end_of_step``: the events of a run can be read only record by record of an asset.
- ``give_instance``: a context that a unit test of a sensor has made may have no instance, and takes none later.
- ``partitions_of``, ``has_partition``, ``nearest_partition``: a sensor is given its code location, but no way to ask
  for the partitions of an asset in it.
- ``reload_environment``: what has put a ``.env`` or a secret into the variables of a step when its process began is the
  instance's own, and nothing public lets it do so again.
- ``ResolutionException``: what a ``defs.yaml`` that cannot be resolved raises, for others to raise and to catch.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

import dagster as dg
from dagster._core.errors import DagsterInvalidPropertyError
from dagster._core.events import EngineEventData, RunFailureReason
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus
from dagster._core.execution.retries import auto_reexecution_should_retry_run
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    ASSET_RESUME_RETRY_TAG,
    BACKFILL_ID_TAG,
    PARTITION_NAME_TAG,
    RESUME_RETRY_TAG,
    RETRY_NUMBER_TAG,
    ROOT_BACKFILL_ID_TAG,
    ROOT_RUN_ID_TAG,
    WILL_RETRY_TAG,
)
from dagster.components.resolved.errors import ResolutionException as ResolutionException

_ENDS_OF_STEPS = {dg.DagsterEventType.STEP_SUCCESS, dg.DagsterEventType.STEP_FAILURE}
_ENDS_OF_RUNS = {
    dg.DagsterEventType.RUN_SUCCESS,
    dg.DagsterEventType.RUN_FAILURE,
    dg.DagsterEventType.RUN_CANCELED,
}

_BACKFILL_GOES_ON = (BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING, BulkActionStatus.FAILING)
_MOST_BACKFILLS = 200

_EVENTS_AT_ONCE = 500
_MOST_KEYS = 1000
"""The newest keys of partitions that a misspelled one is compared with."""

StepContext = dg.OpExecutionContext | dg.AssetExecutionContext | dg.AssetCheckExecutionContext


def arguments_of(decorator: Any) -> frozenset[str]:
    """The names of what one of Dagster's decorators takes.

    Those that are deprecated stand in no signature, only in a private attribute; they work all the same.
    """
    parameters = inspect.signature(decorator).parameters.values()
    named = (each.name for each in parameters if each.kind is not each.VAR_KEYWORD and each.name != "compute_fn")
    return frozenset({*named, *getattr(decorator, "_deprecated_params", ())})


def run_of(context: StepContext) -> dg.DagsterRun | None:
    """The Dagster run of a step; None where a function is called directly, without a run."""
    try:
        return context.run
    except DagsterInvalidPropertyError:
        return None


def reload_environment(context: StepContext) -> None:
    """Load the variables that Dagster's secrets loader has for this code location, as the process did when it began.

    By default it reads ``.env`` files. What is set in the process only stays as it is.
    """
    run = run_of(context)
    origin = None if run is None else run.remote_job_origin
    context.instance.inject_env_vars(None if origin is None else origin.location_name)


def step_key_of(context: StepContext) -> str:
    """The key of the step that runs; only within a run."""
    return context.get_step_execution_context().step.key


def partition_of(context: StepContext) -> str | None:
    """The partition or partition range of the step, as one text."""
    if context.has_partition_key:
        return context.partition_key
    if context.has_partition_key_range:
        keys = context.partition_key_range
        return f"{keys.start}...{keys.end}"
    return None


def write_engine_event(
    context: StepContext, run: dg.DagsterRun, message: str, metadata: Mapping[str, dg.MetadataValue]
) -> None:
    """Put a durable event of this step into the run's log."""
    context.instance.report_engine_event(
        message,
        dagster_run=run,
        engine_event_data=EngineEventData(metadata=metadata),
        step_key=step_key_of(context),
    )


def tag_run(instance: dg.DagsterInstance, run_id: str, tags: Mapping[str, str]) -> None:
    """Add tags to a run that exists."""
    instance.add_run_tags(run_id, tags)


def engine_events(
    instance: dg.DagsterInstance, run_id: str, step_key: str
) -> Iterator[Mapping[str, dg.MetadataValue[Any]]]:
    """The metadata of a step's engine events, oldest first."""
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        if entry.step_key == step_key and entry.dagster_event is not None:
            yield entry.dagster_event.engine_event_data.metadata


class EnginePage(NamedTuple):
    """A part of a run's engine events, oldest first."""

    metadata: list[Mapping[str, dg.MetadataValue[Any]]]
    cursor: str
    has_more: bool


def engine_events_after(instance: dg.DagsterInstance, run_id: str, cursor: str | None) -> EnginePage:
    """The metadata of the engine events of a run's steps that have come after a cursor, or of all."""
    found = instance.get_records_for_run(
        run_id, cursor=cursor, of_type=dg.DagsterEventType.ENGINE_EVENT, limit=_EVENTS_AT_ONCE
    )
    events = [record.event_log_entry.dagster_event for record in found.records]
    metadata = [each.engine_event_data.metadata for each in events if each is not None and each.step_key is not None]
    return EnginePage(metadata, found.cursor, found.has_more)


def events_of_run(
    instance: dg.DagsterInstance, run_id: str
) -> Iterator[tuple[str, Mapping[str, dg.MetadataValue[Any]]]]:
    """The step and the metadata of each engine event of a run's steps, oldest first."""
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        if entry.step_key is not None and entry.dagster_event is not None:
            yield entry.step_key, entry.dagster_event.engine_event_data.metadata


def note_in_run(
    instance: dg.DagsterInstance,
    run: dg.DagsterRun,
    step_key: str,
    message: str,
    metadata: Mapping[str, dg.MetadataValue[Any]],
) -> None:
    """Put a durable event of a step into the log of a run that may be over."""
    instance.report_engine_event(
        message, dagster_run=run, engine_event_data=EngineEventData(metadata=metadata), step_key=step_key
    )


def runs_like(instance: dg.DagsterInstance, run: dg.DagsterRun, limit: int) -> list[dg.DagsterRun]:
    """A run with all that re-executes it, or that it re-executes, directly or not; oldest first.

    Args:
        instance: Where the runs are.
        run: The run.
        limit: The most runs of each kind.
    """
    root = run.root_run_id or run.run_id
    wanted = [dg.RunsFilter(run_ids=[root, run.run_id]), dg.RunsFilter(tags={ROOT_RUN_ID_TAG: root})]
    backfill = _backfill_of(run)
    if backfill:
        partition = _partition_tags(run)
        wanted.append(dg.RunsFilter(tags={BACKFILL_ID_TAG: backfill, **partition}))
        wanted.append(dg.RunsFilter(tags={ROOT_BACKFILL_ID_TAG: backfill, **partition}))
    found: dict[int, dg.DagsterRun] = {}
    for each in wanted:
        for record in instance.get_run_records(each, limit=limit):
            found[record.storage_id] = record.dagster_run
    return [found[at] for at in sorted(found)]


def retry_is_due(instance: dg.DagsterInstance, runs: Sequence[dg.DagsterRun]) -> bool:
    """Whether Dagster will start another of a group of runs by itself: as a retry, or for a backfill that goes on."""
    # Dagster notes whether it will right after it has noted the failure.
    unnoted = [run for run in runs if run.status is dg.DagsterRunStatus.FAILURE and WILL_RETRY_TAG not in run.tags]
    if any(run.is_complete_and_waiting_to_retry for run in runs) or (unnoted and instance.run_retries_enabled):
        return True
    backfills = {backfill for run in runs if (backfill := _backfill_of(run))}
    if not backfills:
        return False
    going = instance.get_backfills(filters=BulkActionsFilter(statuses=list(_BACKFILL_GOES_ON)), limit=_MOST_BACKFILLS)
    return any(each.backfill_id in backfills or each.tags.get(ROOT_BACKFILL_ID_TAG) in backfills for each in going)


def _backfill_of(run: dg.DagsterRun) -> str | None:
    return run.tags.get(ROOT_BACKFILL_ID_TAG) or run.tags.get(BACKFILL_ID_TAG)


def _partition_tags(run: dg.DagsterRun) -> dict[str, str]:
    names = (PARTITION_NAME_TAG, ASSET_PARTITION_RANGE_START_TAG, ASSET_PARTITION_RANGE_END_TAG)
    return {name: run.tags[name] for name in names if name in run.tags}


def newest_check_evaluations(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, check_name: str, limit: int
) -> Iterator[Mapping[str, dg.MetadataValue[Any]]]:
    """The metadata of the newest evaluations of a check, newest first."""
    key = dg.AssetCheckKey(asset_key, check_name)
    for record in instance.event_log_storage.get_asset_check_execution_history(key, limit):
        event = record.event.dagster_event if record.event else None
        if event is not None and event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            yield event.asset_check_evaluation_data.metadata


def continues_its_parent(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether a re-execution does what its parent left undone, and not everything from the beginning.

    The web interface, GraphQL and the daemon mark such a run with a tag. ``execute_job`` does not: there, and for a
    selection of steps, the execution plan holds what the parent has done already.
    """
    if "true" in (run.tags.get(RESUME_RETRY_TAG), run.tags.get(ASSET_RESUME_RETRY_TAG)):
        return True
    if run.execution_plan_snapshot_id is None:
        return False
    known = instance.get_execution_plan_snapshot(run.execution_plan_snapshot_id).initial_known_state
    return known is not None and known.parent_state is not None


def parent_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.DagsterRun | None:
    """The run that a run re-executes, whoever started it; None where it was launched anew or its parent is gone."""
    return instance.get_run_by_id(run.parent_run_id) if run.parent_run_id else None


def others_of_group(instance: dg.DagsterInstance, run: dg.DagsterRun, limit: int) -> list[dg.DagsterRun]:
    """The runs that a run, or its backfill, re-executes directly or not, with their other re-executions; newest first.

    Args:
        instance: Where the runs are.
        run: The run.
        limit: The most runs of each kind.
    """
    found: dict[int, dg.DagsterRun] = {}
    for wanted in _filters_of_group(run):
        for record in instance.get_run_records(wanted, limit=limit):
            found[record.storage_id] = record.dagster_run
    return [found[at] for at in sorted(found, reverse=True) if found[at].run_id != run.run_id]


def _filters_of_group(run: dg.DagsterRun) -> Iterator[dg.RunsFilter]:
    if run.parent_run_id and run.root_run_id:
        yield dg.RunsFilter(run_ids=[run.parent_run_id, run.root_run_id])
        yield dg.RunsFilter(tags={ROOT_RUN_ID_TAG: run.root_run_id})
    # A backfill that re-executes another starts its runs without a parent: the partition shows which one it repeats.
    root = run.tags.get(ROOT_BACKFILL_ID_TAG)
    partition = _partition_tags(run)
    if root:
        yield dg.RunsFilter(tags={BACKFILL_ID_TAG: root, **partition})
        yield dg.RunsFilter(tags={ROOT_BACKFILL_ID_TAG: root, **partition})


def end_of_step(instance: dg.DagsterInstance, run_id: str, step_key: str) -> dg.DagsterEventType | None:
    """STEP_SUCCESS or STEP_FAILURE, as the run knew it; None where its step was killed, or has outlived it."""
    found: dg.DagsterEventType | None = None
    for entry in instance.all_logs(run_id, of_type={*_ENDS_OF_STEPS, *_ENDS_OF_RUNS}):
        if entry.dagster_event_type in _ENDS_OF_RUNS:
            break
        if entry.step_key == step_key:
            found = entry.dagster_event_type
    return found


def started_by_run_retries(run: dg.DagsterRun) -> bool:
    """Whether Dagster started this run by itself, to retry another."""
    return RETRY_NUMBER_TAG in run.tags


def tried_again(context: StepContext, error: BaseException) -> bool:
    """Whether Dagster itself tries a step again after an error: by its retry policy, or by retrying the whole run.

    Args:
        context: The step's context.
        error: What the step ends with.
    """
    run = run_of(context)
    if run is None:
        return False
    step = context.get_step_execution_context()
    policy = step.op_retry_policy
    allowed = policy.max_retries if policy else 0
    if isinstance(error, dg.Failure) and not error.allow_retries:
        allowed = 0
    if isinstance(error, dg.RetryRequested):
        allowed = error.max_retries
    if not step.retry_mode.disabled and step.previous_attempt_count < allowed:
        return True
    instance = context.instance
    failed = run.with_status(dg.DagsterRunStatus.FAILURE)
    return bool(instance.run_retries_enabled) and bool(
        auto_reexecution_should_retry_run(instance, failed, RunFailureReason.STEP_FAILURE)
    )


def give_instance(context: dg.SensorEvaluationContext) -> None:
    """Give a context that a unit test has made without an instance one that has seen nothing; the daemon's has one."""
    if context._instance is None and context.instance_ref is None:
        context._instance = context._exit_stack.enter_context(dg.DagsterInstance.ephemeral())


def partitions_of(
    context: dg.SensorEvaluationContext, asset_key: dg.AssetKey, job: str | None
) -> dg.PartitionsDefinition[Any] | None:
    """The partitions of a job, or of an asset where no job is given; None where it has none.

    Raises:
        LookupError: It does not belong to the sensor's code location.
    """
    repository = context.repository_def
    if repository is not None and job is not None and repository.has_job(job):
        return repository.get_job(job).partitions_def
    if repository is not None and job is None and repository.asset_graph.has(asset_key):
        return repository.asset_graph.get(asset_key).partitions_def
    raise LookupError(job or asset_key.to_user_string())


def has_partition(partitions: dg.PartitionsDefinition[Any], key: str, instance: dg.DagsterInstance) -> bool:
    """Whether a partition exists at this moment."""
    with dg.partition_loading_context(dynamic_partitions_store=instance):
        try:
            return partitions.has_partition_key(key)
        except dg.DagsterUnknownPartitionError:
            return False


def nearest_partition(partitions: dg.PartitionsDefinition[Any], key: str, instance: dg.DagsterInstance) -> str | None:
    """The key of a partition that is spelled alike."""
    with dg.partition_loading_context(dynamic_partitions_store=instance):
        found = get_close_matches(key, partitions.get_partition_keys()[-_MOST_KEYS:], n=1)
    return found[0] if found else None


def in_a_backfill_of_partitions(context: StepContext) -> bool:
    """Whether the step materialises a partition for a backfill."""
    run = run_of(context)
    return run is not None and BACKFILL_ID_TAG in run.tags and partition_of(context) is not None
