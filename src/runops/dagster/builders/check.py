"""Asset checks that judge an external run, built from arguments. How the run is waited for is in wait.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import dagster as dg

from runops.core import ConfigurationError, RunopsError, RunRef
from runops.core.waiting import flows
from runops.core.waiting.options import DEFAULT_ERROR_BUDGET, DEFAULT_TIMEOUT
from runops.dagster import _compat, verdicts
from runops.dagster.builders.plan import Plan, RunIdSource, Seconds, check_parent
from runops.dagster.resource import resource_of


def build_run_check(
    *,
    asset: dg.AssetKey | str | Sequence[str] | dg.AssetsDefinition | dg.SourceAsset,
    resource_key: str,
    parent: str | Mapping[str, str] | None = None,
    run_id: RunIdSource | None = None,
    parents: Mapping[str, str] | None = None,
    name: str = verdicts.CHECK_NAME,
    timeout: Seconds = DEFAULT_TIMEOUT,
    error_budget: Seconds = DEFAULT_ERROR_BUDGET,
    poll_interval: Seconds | None = None,
    on_outcome: Mapping[str, str] | None = None,
    max_paused: Seconds | None = None,
    required_resource_keys: set[str] | None = None,
    **check_kwargs: Any,
) -> dg.AssetChecksDefinition:
    """A check of an asset that judges the newest run of a parent, or a given run; one that is open is waited for.

    succeed passes; warn and skip are a failed check of severity WARN; fail is one of severity ERROR, which with
    ``blocking=True`` keeps what is downstream from starting. That there is no run at all fails with ERROR too. A run
    that cannot be read fails the step, since it tells nothing about the asset. A check never cancels a run.

    Args:
        asset: The asset that is checked.
        resource_key: The key of the runops resource.
        parent: Whose newest run is judged: an id or name, or ``{kind: id}`` where the service knows several kinds.
        run_id: The run that is judged: an id, or a function of the context. Give this or ``parent``.
        parents: With ``run_id``, further ids that the run's address needs (OnePin: ``{"workflow_id": ...}``).
        name: The check's name. The default is that of the runs that a sensor or a run asset reports, so that both
            show as one check; give another where the asset is a run asset already.
        timeout: Seconds (or a timedelta) for the whole wait.
        error_budget: Seconds of failed reads in a row before the wait gives up.
        poll_interval: The shortest time between two looks, in seconds.
        on_outcome: Outcome to verdict, such as ``{"exhausted": "succeed", "succeeded": "fail"}``.
        max_paused: Seconds that the run may stay paused or waiting.
        required_resource_keys: Further resources that a function of the context uses.
        check_kwargs: Anything of ``dagster.asset_check``: blocking, description, retry_policy, pool, ...

    Raises:
        ConfigurationError: An argument is wrong.
    """
    told = f"build_run_check({name!r})"
    if (parent is None) == (run_id is None):
        raise ConfigurationError(
            f"{told}: give either parent= (to judge its newest run) or run_id= (to judge that run)."
        )
    if parent is not None:
        check_parent(told, parent)
    plan = Plan.of(
        told,
        resource_key=resource_key,
        run_id=run_id if parent is None else partial(_newest_run, resource_key=resource_key, parent=parent),
        parents=parents,
        timeout=timeout,
        error_budget=error_budget,
        poll_interval=poll_interval,
        on_outcome=on_outcome,
        max_paused=max_paused,
        # A check submits nothing, so that nothing is its own to cancel or to take up again.
        cancel_on_interrupt=False,
        cancel_on_timeout=False,
        reattach=False,
    )

    check_kwargs.setdefault("description", f"How {_described(parent, run_id)} ended.")

    @dg.asset_check(
        asset=dg.AssetKey.from_user_string(asset) if isinstance(asset, str) else asset,
        name=name,
        required_resource_keys={resource_key, *(required_resource_keys or ())},
        **check_kwargs,
    )
    # Dagster reads the annotation of a context as it stands, and here it would stand as text.
    def run_check(context) -> dg.AssetCheckResult:
        try:
            ended = plan.end(context)
        except _NoRunError as error:
            return dg.AssetCheckResult(
                check_name=name, passed=False, severity=dg.AssetCheckSeverity.ERROR, description=str(error)
            )
        return verdicts.check_result(ended.snapshot, ended.verdict, check_name=name)

    return run_check


class _NoRunError(RunopsError):
    """The parent has no run."""


def _newest_run(context: _compat.StepContext, *, resource_key: str, parent: str | Mapping[str, str]) -> RunRef:
    resource = resource_of(context.resources, resource_key)
    try:
        with resource.client() as client:
            runs = client.drive(flows.newest(resource.declaration, parent))
    except ConfigurationError:
        raise
    except RunopsError as error:
        raise verdicts.failure_of(error, f"Resource {resource_key!r}") from error
    if not runs:
        raise _NoRunError(f"{resource.declaration.title} shows no run of {_named(parent)}: there is nothing to judge.")
    return runs[0].ref


def _described(parent: str | Mapping[str, str] | None, run_id: RunIdSource | None) -> str:
    if parent is not None:
        return f"the newest external run of {_named(parent)}"
    return f"the external run {run_id}" if isinstance(run_id, str) else "the external run"


def _named(parent: str | Mapping[str, str]) -> str:
    return parent if isinstance(parent, str) else ", ".join(f"{kind} {value}" for kind, value in parent.items())
