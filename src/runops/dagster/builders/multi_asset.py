"""Several assets that one external run feeds, built from arguments. How the run is waited for is in wait.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import dagster as dg

from runops.core import ConfigurationError, RunopsError, RunSnapshot, Verdict
from runops.core.waiting.options import DEFAULT_ERROR_BUDGET, DEFAULT_TIMEOUT, SUBMIT_GRACE
from runops.dagster import verdicts
from runops.dagster.builders.plan import CallSource, Plan, RunIdSource, Seconds, asset_key_of
from runops.dagster.functions import called
from runops.dagster.resource import resource_of
from runops.dagster.step.wait import RunResult

Made = Callable[[RunSnapshot, Callable[[], dict[str, Any]]], Iterable[dg.AssetKey | str | Sequence[str]]]
"""A function of the last snapshot, and of one that reads the whole payload, that gives the keys of what was made."""

_OURS = frozenset({"check_specs", "outs", "ins"})
"""Arguments of ``dagster.multi_asset`` that are decided here."""


def build_run_multi_asset(
    *,
    name: str,
    specs: Sequence[dg.AssetSpec],
    resource_key: str,
    call: CallSource | None = None,
    run_id: RunIdSource | None = None,
    parents: Mapping[str, str] | None = None,
    made: Made | None = None,
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
    **multi_asset_kwargs: Any,
) -> dg.AssetsDefinition:
    """Assets that are materialised together by one external run, or some of them where only a part was made.

    succeed and warn materialise all of them, or those that ``made`` names; skip and fail none, or those. What was
    made is materialised first, and a fail verdict fails the step after that. What was not made stays as it was, and
    what is downstream of it is skipped. Each asset has a check of how the run ended.

    Args:
        name: The name of the step.
        specs: The assets. They are made skippable, so that one that was not made is not taken for made.
        resource_key: The key of the runops resource.
        call: What to submit: the arguments of the resource's ``call``, or a function of the context.
        run_id: A run to wait for that something else starts: an id, or a function of the context.
        parents: With ``run_id``, further ids that the run's address needs (OnePin: ``{"workflow_id": ...}``).
        made: Which of the assets the run has made, asked once it is over: a function of the last snapshot and of a
            function that reads the whole payload. Keys that are not among ``specs`` are left out.
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
        multi_asset_kwargs: Anything of ``dagster.multi_asset``: can_subset, partitions_def, retry_policy, pool, ...

    Raises:
        ConfigurationError: An argument is wrong.
    """
    told = f"build_run_multi_asset({name!r})"
    clash = sorted(_OURS & set(multi_asset_kwargs))
    if clash:
        raise ConfigurationError(f"{told} decides {', '.join(clash)} itself: leave it out.")
    if not specs:
        raise ConfigurationError(f"{told}: specs must hold one asset at least.")
    if made is not None and not callable(made):
        raise ConfigurationError(f"{told}: made must be a function of the snapshot, not {type(made).__name__}.")
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

    @dg.multi_asset(
        name=name,
        specs=[spec.replace_attributes(skippable=True) for spec in specs],
        check_specs=[
            dg.AssetCheckSpec(verdicts.CHECK_NAME, asset=spec.key, description="How the external run ended.")
            for spec in specs
        ],
        required_resource_keys={resource_key, *(required_resource_keys or ())},
        **multi_asset_kwargs,
    )
    # Dagster reads the annotation of a context as it stands, and here it would stand as text.
    def run_multi_asset(context) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
        ended = plan.end(context)
        there = _made(context, plan, made, ended)
        # All reading is done before the first yield: an interrupt at a yield would pass by the cancel.
        yield from _results(context, ended, there)
        if ended.verdict is Verdict.FAIL:
            raise plan.failure(ended)

    return run_multi_asset


def _made(context: dg.AssetExecutionContext, plan: Plan, made: Made | None, ended: RunResult) -> set[dg.AssetKey]:
    """The assets to materialise."""
    snapshot = ended.snapshot
    if made is None or not snapshot.run_ended:
        return set(context.selected_asset_keys) if ended.verdict in (Verdict.SUCCEED, Verdict.WARN) else set()
    try:
        client = resource_of(context.resources, plan.resource_key).client()
        with client:
            keys = called("made", lambda: list(made(snapshot, partial(client.fetch_result, snapshot.ref))))
    except RunopsError as error:
        raise verdicts.failure_of(error, plan.name) from error
    return {asset_key_of(key) for key in keys} & set(context.selected_asset_keys)


def _results(
    context: dg.AssetExecutionContext, ended: RunResult, there: set[dg.AssetKey]
) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
    snapshot, verdict = ended.snapshot, ended.verdict
    checked = {key.asset_key for key in context.selected_asset_check_keys}
    for asset_key in sorted(there):
        check = verdicts.check_result(snapshot, verdict, asset_key)
        yield dg.MaterializeResult(
            asset_key=asset_key,
            metadata=verdicts.metadata(snapshot, verdict),
            check_results=[check] if asset_key in checked else [],
            data_version=verdicts.data_version(snapshot),
        )
    if verdict is Verdict.FAIL:
        return
    for asset_key in sorted(set(context.selected_asset_keys) - there):
        if asset_key in checked:
            yield dg.AssetCheckResult(
                asset_key=asset_key,
                check_name=verdicts.CHECK_NAME,
                passed=False,
                severity=dg.AssetCheckSeverity.WARN,
                metadata=verdicts.metadata(snapshot, verdict),
                description=f"Not made. {snapshot.summary()}",
            )
