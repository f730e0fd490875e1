"""Assets and ops that stand for an external run, built from arguments. How the run is waited for is in step/."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Unpack, cast

import dagster as dg

from runops.core import ConfigurationError, Verdict
from runops.dagster import verdicts
from runops.dagster.builders.arguments import RunAssetArguments, RunOpArguments
from runops.dagster.builders.plan import CallSource, CallsSource, Plan, RunIdSource, RunIdsSource, asset_key_of
from runops.dagster.builders.shown import kinds_of, with_defaults


def build_run_asset(
    *,
    key: dg.AssetKey | str | Sequence[str],
    resource_key: str,
    call: CallSource | None = None,
    calls: CallsSource | None = None,
    run_id: RunIdSource | None = None,
    run_ids: RunIdsSource | None = None,
    parents: Mapping[str, str] | None = None,
    required_resource_keys: set[str] | None = None,
    **more: Unpack[RunAssetArguments],
) -> dg.AssetsDefinition:
    """An asset that is materialised by an external run.

    succeed materialises it; warn materialises it with a failed check of severity WARN; skip leaves it as it was,
    with such a check, so that what is downstream is skipped and the Dagster run stays green; fail fails the step.

    With ``calls`` or ``run_ids`` one step submits or waits for many runs, as :func:`runops.dagster.wait_for_runs` does,
    and the verdict is that on the whole.

    In a backfill of partitions, Dagster counts a skipped partition as failed: prefer ``"warn"`` there.

    Args:
        key: The asset's key; a text is split at its slashes, as Dagster's pages show keys.
        resource_key: The key of the runops resource.
        call: What to submit: the arguments of the resource's ``call``, or a function of the context.
        calls: What to submit in one step: a list of such arguments, or a function of the context.
        run_id: A run to wait for that something else starts: an id, or a function of the context.
        run_ids: Such runs to wait for in one step: a list of ids, or a function of the context.
        parents: With ``run_id`` and ``run_ids``, further ids that the address needs (OnePin: ``{"workflow_id": ...}``).
        required_resource_keys: Further resources that a function of the context uses.
        more: Settings of the wait, such as ``timeout`` and ``on_outcome``: all of
            :class:`runops.dagster.options.StepSettings`, and with ``calls`` and ``run_ids`` those of
            :class:`runops.core.many.rules.ManySettings` (max_active, require, stop_early). And anything of
            ``dagster.asset``: deps, partitions_def, retry_policy, group_name, kinds, ... Where ``resource_key`` is the
            name of a provider, that is the asset's kind unless you give others.

    Raises:
        ConfigurationError: An argument is wrong.
    """
    asset_key = asset_key_of(key)
    plan = Plan.of(
        build_run_asset,
        asset_key.to_user_string(),
        more,
        decorator=dg.asset,
        decided=("name", "check_specs", "output_required", "ins"),
        resource_key=resource_key,
        sources={"call": call, "calls": calls, "run_id": run_id, "run_ids": run_ids},
        parents=parents,
    )

    @dg.asset(
        key=asset_key,
        check_specs=[verdicts.check_spec(asset_key)],
        output_required=False,
        required_resource_keys={resource_key, *(required_resource_keys or ())},
        **with_defaults(plan.passed_on, {"description": plan.description, "kinds": kinds_of(resource_key)}),
    )
    # Dagster reads the annotation of a context as it stands, and here it would stand as text.
    def run_asset(context) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
        # All waiting is done before the first yield: an interrupt at a yield would pass by the cancel.
        ended = plan.end(context).shown
        check = ended.check(context.asset_key)
        yield check if ended.verdict is Verdict.SKIP else ended.materialisation(context.asset_key, [check])

    return cast("dg.AssetsDefinition", run_asset)


def build_run_op(
    *,
    name: str,
    resource_key: str,
    call: CallSource | None = None,
    calls: CallsSource | None = None,
    run_id: RunIdSource | None = None,
    run_ids: RunIdsSource | None = None,
    parents: Mapping[str, str] | None = None,
    required_resource_keys: set[str] | None = None,
    ins: Mapping[str, dg.In] | None = None,
    **more: Unpack[RunOpArguments],
) -> dg.OpDefinition:
    """An op that waits for an external run, and gives out the run as a dict (schema 1) of plain values.

    With ``calls`` or ``run_ids`` it waits for many, and gives out :meth:`runops.dagster.RunsResult.to_dict`.

    succeed and warn give the output, warn with a warning in the log; skip gives none, so that what is downstream
    is skipped and the Dagster run stays green; fail fails the step.

    Args:
        name: The op's name.
        resource_key: As in :func:`build_run_asset`, like the five that follow.
        call: What to submit.
        calls: What to submit in one step.
        run_id: A run to wait for that something else starts.
        run_ids: Such runs to wait for in one step.
        parents: With ``run_id`` and ``run_ids``, further ids that the address needs.
        required_resource_keys: Further resources that a function of the context uses.
        ins: What the op waits for, such as ``{"after": dg.In(dg.Nothing)}``. Only Nothing: values have no taker here.
        more: Settings of the wait, as in :func:`build_run_asset`, and anything of ``dagster.op``: retry_policy, pool,
            tags, description, ...

    Raises:
        ConfigurationError: An argument is wrong.
    """
    plan = Plan.of(
        build_run_op,
        name,
        more,
        decorator=dg.op,
        decided=("out",),
        resource_key=resource_key,
        sources={"call": call, "calls": calls, "run_id": run_id, "run_ids": run_ids},
        parents=parents,
    )
    nothing = dg.In(dg.Nothing).dagster_type
    valued = sorted(field for field, inlet in (ins or {}).items() if inlet.dagster_type != nothing)
    if valued:
        raise ConfigurationError(f"{plan.name}: the input {', '.join(valued)} must be a dg.In(dg.Nothing).")

    @dg.op(
        name=name,
        ins=ins,
        out=dg.Out(dagster_type=dict, is_required=False),
        required_resource_keys={resource_key, *(required_resource_keys or ())},
        **with_defaults(plan.passed_on, {"description": plan.description}),
    )
    def run_op(context) -> Iterator[dg.Output[dict[str, Any]]]:
        ended = plan.end(context).shown
        if ended.verdict is not Verdict.SKIP:
            yield dg.Output(dict(ended.value), metadata=ended.metadata)

    return run_op
