"""What a built asset, op or check was told to do, checked early and carried out in the step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self, cast

import dagster as dg

from runops.core import Call, ConfigurationError, OutcomePolicy, RunRef, Verdict
from runops.core.declaration import arguments, check_id
from runops.core.waiting.options import DEFAULT_ERROR_BUDGET, DEFAULT_TIMEOUT, SUBMIT_GRACE
from runops.dagster import _compat, verdicts
from runops.dagster.functions import FunctionFailed, called
from runops.dagster.resource import ProviderResource, resource_of
from runops.dagster.step.wait import RunResult, end_of_run

CallSource = Call | Mapping[str, Any] | Callable[[Any], Call | Mapping[str, Any]]
"""What to submit: the resource's call arguments, or a function of the context that gives them."""
RunIdSource = str | Callable[[Any], str | RunRef]
"""Which run to wait for: an id, or a function of the context that gives one."""

Seconds = float | timedelta


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a step does, as its builder was told. Made by :meth:`of`, which refuses what is wrong."""

    name: str
    """Who was told, for messages: the builder and what it builds."""
    resource_key: str
    call: CallSource | None
    run_id: RunIdSource | None
    parents: Mapping[str, str] | None
    settings: Mapping[str, Any]
    """Arguments of ``wait_for_run``."""

    @classmethod
    def of(
        cls,
        name: str,
        *,
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
    ) -> Self:
        """The plan, checked while definitions are loaded as far as that is possible without a resource.

        Args:
            name: Who asks, for the message.
            resource_key: The key of the runops resource.
            call: What to submit.
            run_id: Which run to wait for; give this or ``call``.
            parents: With ``run_id``, further ids of its address.
            timeout: Seconds (or a timedelta) for the whole wait.
            error_budget: Seconds of failed reads in a row before the wait gives up.
            poll_interval: The shortest time between two looks, in seconds.
            on_outcome: Outcome to verdict.
            max_paused: Seconds that the run may stay paused or waiting.
            cancel_on_interrupt: Cancel the run on Terminate.
            cancel_on_timeout: Cancel the run when a clock ended the wait.
            adopt_uncertain: Where no mark can prove whose a run is, take the single new one for ours.
            mark_runs: Whether the submit marks its run; None for what the resource says.
            submit_grace: Seconds (or a timedelta) for which the run of a lost answer is looked for.
            reattach: Take up an earlier run of this step.

        Raises:
            ConfigurationError: An argument is wrong.
        """
        try:
            _check_source(call, run_id, parents)
            OutcomePolicy.build(on_outcome)
            arguments.seconds("timeout", timeout)
            arguments.seconds("error_budget", error_budget)
            arguments.seconds("submit_grace", submit_grace)
            arguments.optional_seconds("poll_interval", poll_interval)
            arguments.optional_seconds("max_paused", max_paused)
        except ConfigurationError as error:
            raise ConfigurationError(f"{name}: {error}") from None
        return cls(
            name=name,
            resource_key=checked_resource_key(name, resource_key),
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
                "mark_runs": mark_runs,
                "submit_grace": submit_grace,
                "reattach": reattach,
            },
        )

    def carry_out(self, context: _compat.StepContext) -> RunResult:
        """Wait in this step.

        Raises:
            dagster.Failure: The verdict is fail, or an argument turned out to be wrong.
        """
        ended = self.end(context)
        if ended.verdict is Verdict.FAIL:
            raise self.failure(ended)
        return ended

    def end(self, context: _compat.StepContext) -> RunResult:
        """Wait in this step, and leave it to the caller to fail.

        Raises:
            dagster.Failure: The end could not be told, or an argument turned out to be wrong.
        """
        try:
            resource = resource_of(context.resources, self.resource_key)
            if self.run_id is not None:
                ref = resource.ref(self._given_by("run_id", self.run_id, context), self.parents)
                return end_of_run(context, resource, ref=ref, **self.settings)
            return end_of_run(context, resource, call=self.submission(context, resource), **self.settings)
        except (ConfigurationError, FunctionFailed) as error:
            raise verdicts.failure_of(error, self.name) from error

    def failure(self, ended: RunResult) -> dg.Failure:
        """The end of the step where the verdict is fail."""
        return verdicts.failure(ended.snapshot, given=self.run_id is not None)

    def submission(self, context: _compat.StepContext, resource: ProviderResource) -> Call:
        """What the step submits.

        Raises:
            ConfigurationError: An argument is wrong.
            FunctionFailed: The function that gives it raised.
        """
        said = self._given_by("call", self.call, context)
        return said if isinstance(said, Call) else _call(resource, said)

    def _given_by(self, argument: str, source: Any, context: _compat.StepContext) -> Any:
        return called(argument, source, context) if callable(source) else source


def _check_source(call: CallSource | None, run_id: RunIdSource | None, parents: Mapping[str, str] | None) -> None:
    if (call is None) == (run_id is None):
        raise ConfigurationError("give either call= (to submit a run) or run_id= (to wait for one).")
    if call is not None and not (isinstance(call, (Call, Mapping)) or callable(call)):
        raise ConfigurationError(f"call must be a mapping or a function of the context, not {type(call).__name__}.")
    if run_id is not None and not callable(run_id):
        check_id("run_id", run_id)
    if parents is not None and run_id is None:
        raise ConfigurationError("parents belongs to run_id=; a call names its own.")
    for kind, value in (parents or {}).items():
        check_id(kind, value)


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


def checked_resource_key(name: str, resource_key: object) -> str:
    """A resource key that a definition can require.

    Args:
        name: Who asks, for the message.
        resource_key: The key.

    Raises:
        ConfigurationError: It is none.
    """
    if not isinstance(resource_key, str) or not resource_key.isidentifier():
        raise ConfigurationError(f"{name}: resource_key must name a resource of the definitions, such as 'nexio'.")
    return resource_key


def asset_key_of(key: Any) -> dg.AssetKey:
    """An asset key as people write it: a text is split at its slashes, as Dagster's pages show keys."""
    return dg.AssetKey.from_user_string(key) if isinstance(key, str) else dg.AssetKey.from_coercible(key)


def check_parent(name: str, parent: object) -> None:
    """Refuse early what cannot be the parent of runs.

    Args:
        name: Who asks, for the message.
        parent: An id or name, or ``{kind: id}``.

    Raises:
        ConfigurationError: It is neither.
    """
    try:
        if isinstance(parent, Mapping) and len(parent) == 1:
            ((kind, value),) = cast("Mapping[str, object]", parent).items()
            check_id(kind, value)
        else:
            check_id("parent", parent)
    except ConfigurationError as error:
        raise ConfigurationError(f"{name}: {error}") from None
