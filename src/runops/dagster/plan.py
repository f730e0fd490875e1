"""What a built asset, op or check was told to do, checked early and carried out in the step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import dagster as dg

from runops.core import Call, ConfigurationError, OutcomePolicy, RunRef, Verdict, arguments
from runops.core.provider import check_id
from runops.dagster import _compat, settle
from runops.dagster.resource import ProviderResource
from runops.dagster.wait import RunResult, end_of_run

CallSource = Call | Mapping[str, Any] | Callable[[Any], Call | Mapping[str, Any]]
"""What to submit: the resource's call arguments, or a function of the context that gives them."""
RunIdSource = str | Callable[[Any], str | RunRef]
"""Which run to wait for: an id, or a function of the context that gives one."""

Seconds = float | timedelta


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a step does, as its builder was told."""

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
        ended = self.end(context)
        if ended.verdict is Verdict.FAIL:
            raise settle.failure(ended.snapshot)
        return ended

    def end(self, context: _compat.StepContext) -> RunResult:
        """Wait in this step, and leave it to the caller to fail.

        Raises:
            dagster.Failure: The end could not be told, or an argument turned out to be wrong.
        """
        try:
            resource = resource_of(context.resources, self.resource_key)
            if self.run_id is not None:
                ref = resource.ref(_said(self.run_id, context), self.parents)
                return end_of_run(context, resource, ref=ref, **self.settings)
            return end_of_run(context, resource, call=self.submission(context, resource), **self.settings)
        except ConfigurationError as error:
            raise settle.failure_of(error) from error

    def submission(self, context: _compat.StepContext, resource: ProviderResource) -> Call:
        """What the step submits.

        Raises:
            ConfigurationError: An argument is wrong.
        """
        said = _said(self.call, context)
        return said if isinstance(said, Call) else _call(resource, said)


def resource_of(resources: Any, key: str) -> ProviderResource:
    """The runops resource of a context.

    Raises:
        ConfigurationError: The resource is of another kind.
    """
    resource = getattr(resources, key)
    if not isinstance(resource, ProviderResource):
        raise ConfigurationError(
            f"The resource {key!r} is a {type(resource).__name__}, not a resource of "
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
