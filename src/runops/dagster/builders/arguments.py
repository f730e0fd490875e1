"""Dagster's own arguments that the builders pass on, so that type checkers and editors know them.

A test compares each with the signature of the installed Dagster. What only a newer Dagster knows is passed on as well;
only a type checker does not know it yet.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, TypedDict

import dagster as dg

from runops.core import ConfigurationError
from runops.core.declaration.arguments import check_names
from runops.dagster import _compat
from runops.dagster.options import JudgedWaitSettings, RunsStepSettings, StepSubmitSettings


class DescribedArguments(TypedDict, total=False):
    """What everything has."""

    description: str | None


class StepArguments(DescribedArguments, total=False):
    """What each step has."""

    retry_policy: dg.RetryPolicy | None
    pool: str | None
    config_schema: Any


class AssetStepArguments(StepArguments, total=False):
    """What each step has that makes assets."""

    deps: Iterable[Any] | None
    group_name: str | None
    partitions_def: dg.PartitionsDefinition[Any] | None
    backfill_policy: dg.BackfillPolicy | None
    op_tags: Mapping[str, Any] | None
    code_version: str | None
    hooks: AbstractSet[dg.HookDefinition] | None
    resource_defs: Mapping[str, object] | None


class AssetArguments(AssetStepArguments, total=False):
    """Of ``dagster.asset``."""

    key_prefix: str | Sequence[str] | None
    metadata: Mapping[str, Any] | None
    tags: Mapping[str, str] | None
    owners: Sequence[str] | None
    kinds: AbstractSet[str] | None
    automation_condition: dg.AutomationCondition[Any] | None
    freshness_policy: dg.FreshnessPolicy | None
    io_manager_def: object | None
    io_manager_key: str | None
    dagster_type: dg.DagsterType | None
    is_virtual: bool


class MultiAssetArguments(AssetStepArguments, total=False):
    """Of ``dagster.multi_asset``."""

    can_subset: bool
    internal_asset_deps: Mapping[str, set[dg.AssetKey]] | None


class OpArguments(StepArguments, total=False):
    """Of ``dagster.op``."""

    tags: Mapping[str, Any] | None
    code_version: str | None
    version: str | None


class CheckArguments(StepArguments, total=False):
    """Of ``dagster.asset_check``."""

    blocking: bool
    additional_ins: Mapping[str, dg.AssetIn] | None
    additional_deps: Iterable[Any] | None
    metadata: Mapping[str, Any] | None
    automation_condition: dg.AutomationCondition[Any] | None
    partitions_def: dg.PartitionsDefinition[Any] | None
    op_tags: Mapping[str, Any] | None
    compute_kind: str | None
    resource_defs: Mapping[str, object] | None


class SensorArguments(DescribedArguments, total=False):
    """Of ``dagster.sensor``."""

    tags: Mapping[str, str] | None
    metadata: Mapping[str, Any] | None
    owners: Sequence[str] | None
    asset_selection: Any
    jobs: Sequence[Any] | None
    target: Any


class JobArguments(DescribedArguments, total=False):
    """Of ``dagster.job``."""

    partitions_def: dg.PartitionsDefinition[Any] | None
    tags: Mapping[str, Any] | None
    run_tags: Mapping[str, str] | None
    metadata: Mapping[str, Any] | None
    owners: Sequence[str] | None
    config: Any
    resource_defs: Mapping[str, object] | None
    logger_defs: Mapping[str, dg.LoggerDefinition] | None
    executor_def: dg.ExecutorDefinition | None
    hooks: AbstractSet[dg.HookDefinition] | None
    op_retry_policy: dg.RetryPolicy | None
    input_values: Mapping[str, object] | None


class RunAssetArguments(RunsStepSettings, AssetArguments, total=False):
    """Of ``build_run_asset``, beside its own."""


class RunMultiAssetArguments(RunsStepSettings, MultiAssetArguments, total=False):
    """Of ``build_run_multi_asset``, beside its own."""


class RunOpArguments(RunsStepSettings, OpArguments, total=False):
    """Of ``build_run_op``, beside its own."""


class RunCheckArguments(JudgedWaitSettings, CheckArguments, total=False):
    """Of ``build_run_check``, beside its own."""


class SubmitJobArguments(StepSubmitSettings, JobArguments, total=False):
    """Of ``build_submit_job``, beside its own."""


def check_arguments(
    caller: str, given: Iterable[str], own: Collection[str], decorator: Any, decided: Collection[str]
) -> None:
    """Refuse a misspelled argument, and one that the builder decides itself, before anything else.

    Args:
        caller: The public builder and what it builds, as the message begins.
        given: The names that were given beyond the builder's own.
        own: The names of the builder's own arguments.
        decorator: Dagster's decorator that takes the others.
        decided: What the builder gives the decorator itself.

    Raises:
        ConfigurationError: A name is wrong.
    """
    clash = sorted(set(given) & set(decided))
    if clash:
        raise ConfigurationError(f"{caller} decides {', '.join(clash)} itself: leave it out.")
    check_names(caller, given, {*own, *_compat.arguments_of(decorator)} - set(decided))
