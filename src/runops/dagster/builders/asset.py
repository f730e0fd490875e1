"""Assets and ops that stand for an external run, built from arguments. How the run is waited for is in wait.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import dagster as dg

from runops.core import ConfigurationError, Verdict
from runops.core.waiting.options import DEFAULT_ERROR_BUDGET, DEFAULT_TIMEOUT, SUBMIT_GRACE
from runops.dagster import verdicts
from runops.dagster.builders.plan import CallSource, Plan, RunIdSource, Seconds, asset_key_of
from runops.dagster.step.wait import RunResult

_OURS = frozenset({"name", "check_specs", "output_required", "ins"})
"""Arguments of ``dagster.asset`` that a run asset decides itself."""


def build_run_asset(
    *,
    key: dg.AssetKey | str | Sequence[str],
    resource_key: str,
    call: CallSource | None = None,
    run_id: RunIdSource | None = None,
    parents: Mapping[str, str] | None = None,
    timeout: Seconds = DEFAULT_TIMEOUT,
    error_budget: Seconds = DEFAULT_ERROR_BUDGET,
    poll_interval: Seconds | None = None,
    on_outcome: Mapping[str, str] | None = None,
    max_paused: Seconds | None = None,
    cancel_on_interrupt: bool | None = None,
    cancel_on_timeout: bool | None = None,
    adopt_uncertain: bool = False,
    mark_runs: bool | None = None,
    submit_grace: Seconds = SUBMIT_GRACE,
    reattach: bool = True,
    required_resource_keys: set[str] | None = None,
    **asset_kwargs: Any,
) -> dg.AssetsDefinition:
    """An asset that is materialised by an external run.

    succeed materialises it; warn materialises it with a failed check of severity WARN; skip leaves it as it was,
    with such a check, so that what is downstream is skipped and the Dagster run stays green; fail fails the step.

    In a backfill of partitions, Dagster counts a skipped partition as failed: prefer ``"warn"`` there.

    Args:
        key: The asset's key; a text is split at its slashes, as Dagster's pages show keys.
        resource_key: The key of the runops resource.
        call: What to submit: the arguments of the resource's ``call``, or a function of the context.
        run_id: A run to wait for that something else starts: an id, or a function of the context.
        parents: With ``run_id``, further ids that the run's address needs (OnePin: ``{"workflow_id": ...}``).
        timeout: Seconds (or a timedelta) for the whole wait.
        error_budget: Seconds of failed reads in a row before the wait gives up.
        poll_interval: The shortest time between two looks, in seconds.
        on_outcome: Outcome to verdict, such as ``{"degraded": "warn"}``.
        max_paused: Seconds that the run may stay paused or waiting.
        cancel_on_interrupt: Cancel the run on Terminate; by default only one that is submitted here.
        cancel_on_timeout: Cancel the run when a clock ended the wait; by default only one that is submitted here.
        adopt_uncertain: Where no mark can prove whose a run is, take the single new one for ours.
        mark_runs: Whether the submit marks its run; None for what the resource says.
        submit_grace: Seconds (or a timedelta) for which the run of a lost answer is looked for.
        reattach: Take up an earlier run of this step when it is retried.
        required_resource_keys: Further resources that a function of the context uses.
        asset_kwargs: Anything of ``dagster.asset``: deps, partitions_def, retry_policy, group_name, kinds, ...

    Raises:
        ConfigurationError: An argument is wrong.
    """
    asset_key = asset_key_of(key)
    name = f"build_run_asset({asset_key.to_user_string()!r})"
    clash = sorted(_OURS & set(asset_kwargs))
    if clash:
        raise ConfigurationError(f"{name} decides {', '.join(clash)} itself: leave it out.")
    plan = Plan.of(
        name,
        resource_key=resource_key,
        call=call,
        run_id=run_id,
        parents=parents,
        timeout=timeout,
        error_budget=error_budget,
        poll_interval=poll_interval,
        on_outcome=on_outcome,
        max_paused=max_paused,
        cancel_on_interrupt=cancel_on_interrupt,
        cancel_on_timeout=cancel_on_timeout,
        adopt_uncertain=adopt_uncertain,
        mark_runs=mark_runs,
        submit_grace=submit_grace,
        reattach=reattach,
    )

    @dg.asset(
        key=asset_key,
        check_specs=[
            dg.AssetCheckSpec(verdicts.CHECK_NAME, asset=asset_key, description="How the external run ended.")
        ],
        output_required=False,
        required_resource_keys={resource_key, *(required_resource_keys or ())},
        **asset_kwargs,
    )
    # Dagster reads the annotation of a context as it stands, and here it would stand as text.
    def run_asset(context) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
        # All waiting is done before the first yield: an interrupt at a yield would pass by the cancel.
        yield _asset_result(context, plan.carry_out(context))

    return cast("dg.AssetsDefinition", run_asset)


def build_run_op(
    *,
    name: str,
    resource_key: str,
    call: CallSource | None = None,
    run_id: RunIdSource | None = None,
    parents: Mapping[str, str] | None = None,
    timeout: Seconds = DEFAULT_TIMEOUT,
    error_budget: Seconds = DEFAULT_ERROR_BUDGET,
    poll_interval: Seconds | None = None,
    on_outcome: Mapping[str, str] | None = None,
    max_paused: Seconds | None = None,
    cancel_on_interrupt: bool | None = None,
    cancel_on_timeout: bool | None = None,
    adopt_uncertain: bool = False,
    mark_runs: bool | None = None,
    submit_grace: Seconds = SUBMIT_GRACE,
    reattach: bool = True,
    required_resource_keys: set[str] | None = None,
    ins: Mapping[str, dg.In] | None = None,
    **op_kwargs: Any,
) -> dg.OpDefinition:
    """An op that waits for an external run, and gives out the run as a dict (schema 1) of plain values.

    succeed and warn give the output, warn with a warning in the log; skip gives none, so that what is downstream
    is skipped and the Dagster run stays green; fail fails the step.

    Args:
        name: The op's name.
        resource_key: The key of the runops resource.
        call: What to submit: the arguments of the resource's ``call``, or a function of the context.
        run_id: A run to wait for that something else starts: an id, or a function of the context.
        parents: With ``run_id``, further ids that the run's address needs (OnePin: ``{"workflow_id": ...}``).
        timeout: Seconds (or a timedelta) for the whole wait.
        error_budget: Seconds of failed reads in a row before the wait gives up.
        poll_interval: The shortest time between two looks, in seconds.
        on_outcome: Outcome to verdict, such as ``{"degraded": "warn"}``.
        max_paused: Seconds that the run may stay paused or waiting.
        cancel_on_interrupt: Cancel the run on Terminate; by default only one that is submitted here.
        cancel_on_timeout: Cancel the run when a clock ended the wait; by default only one that is submitted here.
        adopt_uncertain: Where no mark can prove whose a run is, take the single new one for ours.
        mark_runs: Whether the submit marks its run; None for what the resource says.
        submit_grace: Seconds (or a timedelta) for which the run of a lost answer is looked for.
        reattach: Take up an earlier run of this step when it is retried.
        required_resource_keys: Further resources that a function of the context uses.
        ins: What the op waits for, such as ``{"after": dg.In(dg.Nothing)}``. Only Nothing: values have no taker here.
        op_kwargs: Anything of ``dagster.op``: retry_policy, pool, tags, description, ...

    Raises:
        ConfigurationError: An argument is wrong.
    """
    told = f"build_run_op({name!r})"
    if "out" in op_kwargs:
        raise ConfigurationError(f"{told} decides out itself: leave it out.")
    nothing = dg.In(dg.Nothing).dagster_type
    valued = sorted(field for field, inlet in (ins or {}).items() if inlet.dagster_type != nothing)
    if valued:
        raise ConfigurationError(f"{told}: the input {', '.join(valued)} must be a dg.In(dg.Nothing).")
    plan = Plan.of(
        told,
        resource_key=resource_key,
        call=call,
        run_id=run_id,
        parents=parents,
        timeout=timeout,
        error_budget=error_budget,
        poll_interval=poll_interval,
        on_outcome=on_outcome,
        max_paused=max_paused,
        cancel_on_interrupt=cancel_on_interrupt,
        cancel_on_timeout=cancel_on_timeout,
        adopt_uncertain=adopt_uncertain,
        mark_runs=mark_runs,
        submit_grace=submit_grace,
        reattach=reattach,
    )

    @dg.op(
        name=name,
        ins=ins,
        out=dg.Out(dagster_type=dict, is_required=False),
        required_resource_keys={resource_key, *(required_resource_keys or ())},
        **op_kwargs,
    )
    def run_op(context) -> Iterator[dg.Output[dict[str, Any]]]:
        ended = plan.carry_out(context)
        if ended.verdict is not Verdict.SKIP:
            result = dict(ended.snapshot.to_result(ended.verdict))
            yield dg.Output(result, metadata=verdicts.metadata(ended.snapshot, ended.verdict))

    return run_op


def _asset_result(
    context: dg.AssetExecutionContext, ended: RunResult
) -> dg.MaterializeResult[Any] | dg.AssetCheckResult:
    snapshot, verdict = ended.snapshot, ended.verdict
    check = verdicts.check_result(snapshot, verdict, context.asset_key)
    if verdict is Verdict.SKIP:
        return check
    return dg.MaterializeResult(
        asset_key=context.asset_key,
        metadata=verdicts.metadata(snapshot, verdict),
        check_results=[check],
        data_version=verdicts.data_version(snapshot),
    )
