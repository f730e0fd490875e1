"""Assets and ops that stand for an external run, built from arguments. How the run is waited for is in wait.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import dagster as dg

from runops.core import Call, ConfigurationError, OutcomePolicy, RunRef, Verdict, arguments
from runops.core.provider import check_id
from runops.core.watch import DEFAULT_ERROR_BUDGET, DEFAULT_TIMEOUT
from runops.dagster import _compat, settle
from runops.dagster.resource import ProviderResource
from runops.dagster.wait import RunResult, wait_for_run

CallSource = Call | Mapping[str, Any] | Callable[[Any], Call | Mapping[str, Any]]
"""What to submit: the resource's call arguments, or a function of the context that gives them."""
RunIdSource = str | Callable[[Any], str | RunRef]
"""Which run to wait for: an id, or a function of the context that gives one."""

Seconds = float | timedelta

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
        adopt_uncertain: After a lost answer, take a single new run for ours even where runs may overlap.
        reattach: Take up an earlier run of this step when it is retried.
        required_resource_keys: Further resources that a function of the context uses.
        asset_kwargs: Anything of ``dagster.asset``: deps, partitions_def, retry_policy, group_name, kinds, ...

    Raises:
        ConfigurationError: An argument is wrong.
    """
    asset_key = dg.AssetKey.from_user_string(key) if isinstance(key, str) else dg.AssetKey.from_coercible(key)
    name = f"build_run_asset({asset_key.to_user_string()!r})"
    clash = sorted(_OURS & set(asset_kwargs))
    if clash:
        raise ConfigurationError(f"{name} decides {', '.join(clash)} itself: leave it out.")
    plan = _Plan(
        resource_key=_checked_resource_key(name, resource_key),
        call=call,
        run_id=run_id,
        parents=parents,
        settings={
            "timeout": timeout,
            "error_budget": error_budget,
            "poll_interval": poll_interval,
            "on_outcome": on_outcome,
            "max_paused": max_paused,
            "cancel_on_interrupt": cancel_on_interrupt,
            "cancel_on_timeout": cancel_on_timeout,
            "adopt_uncertain": adopt_uncertain,
            "reattach": reattach,
        },
    )
    plan.check(name)

    @dg.asset(
        key=asset_key,
        check_specs=[dg.AssetCheckSpec(settle.CHECK_NAME, asset=asset_key, description="How the external run ended.")],
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
        adopt_uncertain: After a lost answer, take a single new run for ours even where runs may overlap.
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
    plan = _Plan(
        resource_key=_checked_resource_key(told, resource_key),
        call=call,
        run_id=run_id,
        parents=parents,
        settings={
            "timeout": timeout,
            "error_budget": error_budget,
            "poll_interval": poll_interval,
            "on_outcome": on_outcome,
            "max_paused": max_paused,
            "cancel_on_interrupt": cancel_on_interrupt,
            "cancel_on_timeout": cancel_on_timeout,
            "adopt_uncertain": adopt_uncertain,
            "reattach": reattach,
        },
    )
    plan.check(told)

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
            yield dg.Output(result, metadata=settle.metadata(ended.snapshot, ended.verdict))

    return run_op


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What an asset or an op does, as its builder was told."""

    resource_key: str
    call: CallSource | None
    run_id: RunIdSource | None
    parents: Mapping[str, str] | None
    settings: Mapping[str, Any]

    def check(self, name: str) -> None:
        """Refuse, while definitions are loaded, what can be seen to be wrong without a resource.

        Raises:
            ConfigurationError: An argument is wrong.
        """
        try:
            if (self.call is None) == (self.run_id is None):
                raise ConfigurationError("give either call= (to submit a run) or run_id= (to wait for one).")
            if self.call is not None and not (isinstance(self.call, (Call, Mapping)) or callable(self.call)):
                raise ConfigurationError(
                    f"call must be a mapping or a function of the context, not {type(self.call).__name__}."
                )
            if self.run_id is not None and not callable(self.run_id):
                check_id("run_id", self.run_id)
            if self.parents is not None and self.run_id is None:
                raise ConfigurationError("parents belongs to run_id=; a call names its own.")
            for kind, value in (self.parents or {}).items():
                check_id(kind, value)
            OutcomePolicy.build(self.settings["on_outcome"])
            for clock in ("timeout", "error_budget"):
                arguments.seconds(clock, self.settings[clock])
            for clock in ("poll_interval", "max_paused"):
                arguments.optional_seconds(clock, self.settings[clock])
        except ConfigurationError as error:
            raise ConfigurationError(f"{name}: {error}") from None

    def carry_out(self, context: _compat.StepContext) -> RunResult:
        """Wait in this step.

        Raises:
            dagster.Failure: The verdict is fail, or an argument turned out to be wrong.
        """
        try:
            resource = self._resource(context)
            if self.run_id is not None:
                ref = resource.ref(_said(self.run_id, context), self.parents)
                return wait_for_run(context, resource, ref=ref, **self.settings)
            said = _said(self.call, context)
            made = said if isinstance(said, Call) else _call(resource, said)
            return wait_for_run(context, resource, call=made, **self.settings)
        except ConfigurationError as error:
            raise settle.failure_of(error) from error

    def _resource(self, context: _compat.StepContext) -> ProviderResource:
        resource = getattr(context.resources, self.resource_key)
        if not isinstance(resource, ProviderResource):
            raise ConfigurationError(
                f"The resource {self.resource_key!r} is a {type(resource).__name__}, not a resource of "
                "runops.dagster such as NexioResource."
            )
        return resource


def _call(resource: ProviderResource, said: object) -> Call:
    if not isinstance(said, Mapping):
        raise ConfigurationError(f"call must give a mapping of arguments, not {type(said).__name__}.")
    return resource.declaration.call(**_resolved(cast("Mapping[str, Any]", said)))


def _resolved(value: Any) -> Any:
    """The same, with every ``dg.EnvVar`` replaced by what the variable holds."""
    if isinstance(value, dg.EnvVar):
        found = value.get_value()
        if found is None:
            raise ConfigurationError(f"The environment variable {value.env_var_name}, named in call, is not set.")
        return found
    if isinstance(value, Mapping):
        return {name: _resolved(item) for name, item in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return [_resolved(item) for item in cast("Sequence[Any]", value)]
    return value


def _said(source: Any, context: _compat.StepContext) -> Any:
    return source(context) if callable(source) else source


def _asset_result(
    context: dg.AssetExecutionContext, ended: RunResult
) -> dg.MaterializeResult[Any] | dg.AssetCheckResult:
    snapshot, verdict = ended.snapshot, ended.verdict
    check = settle.check_result(snapshot, verdict, context.asset_key)
    if verdict is Verdict.SKIP:
        return check
    return dg.MaterializeResult(
        asset_key=context.asset_key,
        metadata=settle.metadata(snapshot, verdict),
        check_results=[check],
        data_version=settle.data_version(snapshot),
    )


def _checked_resource_key(name: str, resource_key: object) -> str:
    if not isinstance(resource_key, str) or not resource_key.isidentifier():
        raise ConfigurationError(f"{name}: resource_key must name a resource of the definitions, such as 'nexio'.")
    return resource_key
