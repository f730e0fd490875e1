"""Several assets that one external run feeds, built from arguments. How the run is waited for is in wait.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Unpack

import dagster as dg

from runops.core import ConfigurationError, RunopsError, RunSnapshot, Verdict
from runops.dagster import verdicts
from runops.dagster.builders.arguments import RunMultiAssetArguments
from runops.dagster.builders.plan import CallSource, CallsSource, Ended, Plan, RunIdSource, RunIdsSource, asset_key_of
from runops.dagster.builders.shown import kinds_of, with_defaults, with_kinds
from runops.dagster.functions import called
from runops.dagster.resource import resource_of

Made = Callable[[RunSnapshot, Callable[[], dict[str, Any]]], Iterable[dg.AssetKey | str | Sequence[str]]]
"""A function of the last snapshot, and of one that reads the whole payload, that gives the keys of what was made."""


def build_run_multi_asset(
    *,
    name: str,
    specs: Sequence[dg.AssetSpec],
    resource_key: str,
    call: CallSource | None = None,
    calls: CallsSource | None = None,
    run_id: RunIdSource | None = None,
    run_ids: RunIdsSource | None = None,
    parents: Mapping[str, str] | None = None,
    made: Made | None = None,
    required_resource_keys: set[str] | None = None,
    **more: Unpack[RunMultiAssetArguments],
) -> dg.AssetsDefinition:
    """Assets that are materialised together by one external run, or some of them where only a part was made.

    succeed and warn materialise all of them, or those that ``made`` names; skip and fail none, or those. What was
    made is materialised first, and a fail verdict fails the step after that. What was not made stays as it was, and
    what is downstream of it is skipped. Each asset has a check of how the run ended.

    Args:
        name: The name of the step.
        specs: The assets. They are made skippable, so that one that was not made is not taken for made.
        resource_key: As in ``build_run_asset``, like the five that follow.
        call: What to submit.
        calls: What to submit in one step.
        run_id: A run to wait for that something else starts.
        run_ids: Such runs to wait for in one step.
        parents: With ``run_id`` and ``run_ids``, further ids that the address needs.
        made: With ``call`` and ``run_id``, which of the assets the run has made, once it is over: a function of the
            last snapshot and of a function that reads the whole payload. Keys that are not among ``specs`` are left
            out.
        required_resource_keys: Further resources that a function of the context uses.
        more: Settings of the wait, as in ``build_run_asset``, and anything of ``dagster.multi_asset``: can_subset,
            partitions_def, retry_policy, pool, ...

    Raises:
        ConfigurationError: An argument is wrong.
    """
    plan = Plan.of(
        build_run_multi_asset,
        name,
        more,
        decorator=dg.multi_asset,
        decided=("check_specs", "outs", "ins"),
        resource_key=resource_key,
        sources={"call": call, "calls": calls, "run_id": run_id, "run_ids": run_ids},
        parents=parents,
    )
    if not specs:
        raise ConfigurationError(f"{plan.name}: specs must hold one asset at least.")
    if made is not None and not callable(made):
        raise ConfigurationError(f"{plan.name}: made must be a function of the snapshot, not {type(made).__name__}.")

    if made is not None and plan.many:
        raise ConfigurationError(f"{plan.name}: made belongs to call= and run_id=, where one run makes the assets.")

    @dg.multi_asset(
        name=name,
        specs=[with_kinds(spec, kinds_of(resource_key)).replace_attributes(skippable=True) for spec in specs],
        check_specs=[verdicts.check_spec(spec.key) for spec in specs],
        required_resource_keys={resource_key, *(required_resource_keys or ())},
        **with_defaults(plan.passed_on, {"description": plan.description}),
    )
    # Dagster reads the annotation of a context as it stands, and here it would stand as text.
    def run_multi_asset(context) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
        ended = plan.end(context, fails=False)
        there = _made(context, plan, made, ended)
        # All reading is done before the first yield: an interrupt at a yield would pass by the cancel.
        yield from _results(context, ended.shown, there)
        if ended.shown.verdict is Verdict.FAIL:
            raise ended.shown.failure()

    return run_multi_asset


def _made(context: dg.AssetExecutionContext, plan: Plan, made: Made | None, ended: Ended) -> set[dg.AssetKey]:
    """The assets to materialise."""
    snapshot = ended.snapshot
    if made is None or snapshot is None or not snapshot.run_ended:
        return set(context.selected_asset_keys) if ended.shown.verdict in (Verdict.SUCCEED, Verdict.WARN) else set()
    try:
        client = resource_of(context.resources, plan.resource_key).client()
        with client:
            keys = called("made", lambda: list(made(snapshot, partial(client.fetch_result, snapshot.ref))))
    except RunopsError as error:
        raise verdicts.failure_of(error, plan.name) from error
    return {asset_key_of(key) for key in keys} & set(context.selected_asset_keys)


def _results(
    context: dg.AssetExecutionContext, ended: verdicts.Shown, there: set[dg.AssetKey]
) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
    checked = {key.asset_key for key in context.selected_asset_check_keys}
    for asset_key in sorted(there):
        yield ended.materialisation(asset_key, [ended.check(asset_key)] if asset_key in checked else [])
    if ended.verdict is Verdict.FAIL:
        return
    for asset_key in sorted(set(context.selected_asset_keys) - there):
        if asset_key in checked:
            yield ended.not_made(asset_key)
