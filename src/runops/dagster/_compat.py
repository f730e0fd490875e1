"""All that runops uses of Dagster beyond its public names. Nothing else in here, and no other module does so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
from dagster._core.errors import DagsterInvalidPropertyError
from dagster._core.events import EngineEventData
from dagster._core.storage.tags import ASSET_RESUME_RETRY_TAG, BACKFILL_ID_TAG, RESUME_RETRY_TAG, RETRY_NUMBER_TAG
from dagster.components.resolved.errors import ResolutionException as ResolutionException

StepContext = dg.OpExecutionContext | dg.AssetExecutionContext | dg.AssetCheckExecutionContext


def run_of(context: StepContext) -> dg.DagsterRun | None:
    """The Dagster run of a step; None where a function is called directly, without a run."""
    try:
        return context.run
    except DagsterInvalidPropertyError:
        return None


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


def engine_events(
    instance: dg.DagsterInstance, run_id: str, step_key: str
) -> Iterator[Mapping[str, dg.MetadataValue[Any]]]:
    """The metadata of a step's engine events, oldest first."""
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        if entry.step_key == step_key and entry.dagster_event is not None:
            yield entry.dagster_event.engine_event_data.metadata


def newest_check_evaluations(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, check_name: str, limit: int
) -> Iterator[Mapping[str, dg.MetadataValue[Any]]]:
    """The metadata of the newest evaluations of a check, newest first."""
    key = dg.AssetCheckKey(asset_key, check_name)
    for record in instance.event_log_storage.get_asset_check_execution_history(key, limit):
        event = record.event.dagster_event if record.event else None
        if event is not None and event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            yield event.asset_check_evaluation_data.metadata


def continues_a_failed_run(run: dg.DagsterRun) -> bool:
    """Whether a run was started from the failure of its parent, and not as a new beginning."""
    return "true" in (run.tags.get(RESUME_RETRY_TAG), run.tags.get(ASSET_RESUME_RETRY_TAG))


def started_by_run_retries(run: dg.DagsterRun) -> bool:
    """Whether Dagster started this run by itself, to retry another."""
    return RETRY_NUMBER_TAG in run.tags


def in_a_backfill_of_partitions(context: StepContext) -> bool:
    """Whether the step materialises a partition for a backfill."""
    run = run_of(context)
    return run is not None and BACKFILL_ID_TAG in run.tags and partition_of(context) is not None
