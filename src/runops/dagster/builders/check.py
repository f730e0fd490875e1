"""Asset checks that judge an external run, built from arguments. How the run is waited for is in wait.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Unpack

import dagster as dg

from runops.core import ConfigurationError, RunopsError, RunRef
from runops.core.model.codes import Code
from runops.core.waiting import flows
from runops.dagster import _compat, verdicts
from runops.dagster.builders.arguments import RunCheckArguments
from runops.dagster.builders.plan import Plan, RunIdSource, check_parent
from runops.dagster.builders.shown import with_defaults
from runops.dagster.options import JudgedWaitSettings
from runops.dagster.resource import resource_of


def build_run_check(
    *,
    asset: dg.AssetKey | str | Sequence[str] | dg.AssetsDefinition | dg.SourceAsset,
    resource_key: str,
    parent: str | Mapping[str, str] | None = None,
    run_id: RunIdSource | None = None,
    parents: Mapping[str, str] | None = None,
    name: str = verdicts.CHECK_NAME,
    required_resource_keys: set[str] | None = None,
    **more: Unpack[RunCheckArguments],
) -> dg.AssetChecksDefinition:
    """A check of an asset that judges the newest run of a parent, or a given run; one that is open is waited for.

    succeed passes; warn and skip are a failed check of severity WARN; fail is one of severity ERROR, which with
    ``blocking=True`` keeps what is downstream from starting. That there is no run at all fails with ERROR too. A run
    that cannot be read fails the step, since it proves nothing about the asset. A check never cancels a run.

    Args:
        asset: The asset that is checked.
        resource_key: The key of the runops resource.
        parent: Whose newest run is judged: an id or name, or ``{kind: id}`` where the service knows several kinds.
        run_id: The run that is judged: an id, or a function of the context. Give this or ``parent``.
        parents: With ``run_id``, further ids that the run's address needs (OnePin: ``{"workflow_id": ...}``).
        name: The check's name. The default is that of the runs that a sensor or a run asset reports, so that both
            show as one check; give another where the asset is a run asset already.
        required_resource_keys: Further resources that a function of the context uses.
        more: How an open run is waited for and what its end means: all of
            :class:`runops.dagster.options.JudgedWaitSettings`, such as
            ``on_outcome={"exhausted": "succeed", "succeeded": "fail"}``. And anything of ``dagster.asset_check``:
            blocking, description, retry_policy, pool, ...

    Raises:
        ConfigurationError: An argument is wrong.
    """
    one_is_given = (parent is None) != (run_id is None)
    newest = None if parent is None else partial(_newest_run, resource_key=resource_key, parent=parent)
    # It submits nothing, so that nothing is its own to cancel: that is the default for a run that is given.
    plan = Plan.of(
        build_run_check,
        name,
        more,
        decorator=dg.asset_check,
        decided=(),
        resource_key=resource_key,
        sources={"run_id": newest or run_id if one_is_given else None},
        parents=parents,
        settings=JudgedWaitSettings,
        choice="parent= (to judge its newest run) or run_id= (to judge that run)",
    )
    if parent is not None:
        check_parent(plan.name, parent)

    @dg.asset_check(
        asset=dg.AssetKey.from_user_string(asset) if isinstance(asset, str) else asset,
        name=name,
        required_resource_keys={resource_key, *(required_resource_keys or ())},
        **with_defaults(plan.passed_on, {"description": f"How {_described(parent, run_id)} ended."}),
    )
    # Dagster reads the annotation of a context as it stands, and here it would stand as text.
    def run_check(context) -> dg.AssetCheckResult:
        try:
            ended = plan.end(context, fails=False)
        except _NoRunError as error:
            return dg.AssetCheckResult(
                check_name=name, passed=False, severity=dg.AssetCheckSeverity.ERROR, description=str(error)
            )
        return ended.shown.check(check_name=name)

    return run_check


class _NoRunError(RunopsError):
    """The parent has no run."""

    error_code = Code.NO_RUN_YET


def _newest_run(context: _compat.StepContext, *, resource_key: str, parent: str | Mapping[str, str]) -> RunRef:
    resource = resource_of(context.resources, resource_key)
    try:
        with resource.client() as client:
            runs = client.drive(flows.newest(client.provider, parent))
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
