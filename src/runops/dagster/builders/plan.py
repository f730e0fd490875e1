"""What a built asset, op or check does in its step, checked early and carried out there."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self, cast

import dagster as dg

from runops.core import Call, ConfigurationError, RunRef, Verdict, find
from runops.core.declaration import check_id
from runops.dagster import _compat, verdicts
from runops.dagster.builders.arguments import check_arguments
from runops.dagster.functions import FunctionFailed, called
from runops.dagster.options import StepSettings, check_for, check_values, names_of
from runops.dagster.resource import ProviderResource, resource_of
from runops.dagster.step.wait import RunResult, end_of_run

CallSource = Call | Mapping[str, Any] | Callable[[Any], Call | Mapping[str, Any]]
"""What to submit: the resource's call arguments, or a function of the context that gives them."""
RunIdSource = str | Callable[[Any], str | RunRef]
"""Which run to wait for: an id, or a function of the context that gives one."""

Seconds = float | timedelta


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a step does. Made by :meth:`of`, which refuses what is wrong.

    Args:
        name: The builder and what it builds, as messages begin.
        resource_key: The key of the runops resource.
        call: What to submit.
        run_id: Which run to wait for.
        parents: With ``run_id``, further ids of its address.
        settings: How it is submitted and waited for.
        passed_on: What else was given, for Dagster's decorator.
    """

    name: str
    resource_key: str
    call: CallSource | None
    run_id: RunIdSource | None
    parents: Mapping[str, str] | None
    settings: StepSettings
    passed_on: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        builder: Callable[..., Any],
        name: str,
        more: Mapping[str, Any],
        *,
        decorator: Any,
        decided: Iterable[str],
        resource_key: str,
        call: CallSource | None = None,
        run_id: RunIdSource | None = None,
        parents: Mapping[str, str] | None = None,
        settings: type = StepSettings,
        sources: str = "call= (to submit a run) or run_id= (to wait for one)",
    ) -> Self:
        """The plan, checked while definitions are loaded as far as that is possible without a resource.

        Args:
            builder: The public function that makes it.
            name: What it builds.
            more: What it was given beyond its own arguments: settings, and what is passed on to Dagster.
            decorator: Dagster's decorator that takes the latter.
            decided: What the builder gives the decorator itself.
            resource_key: The key of the runops resource.
            call: What to submit.
            run_id: Which run to wait for; give this or ``call``.
            parents: With ``run_id``, further ids of its address.
            settings: The TypedDict of the settings that the builder takes.
            sources: By which of its arguments a run is given, as a message puts it.

        Raises:
            ConfigurationError: An argument is wrong.
        """
        caller = caller_of(builder, name)
        ours = names_of(settings)
        check_arguments(caller, more, {*inspect.signature(builder).parameters, *ours}, decorator, set(decided))
        given: Any = {name: value for name, value in more.items() if name in ours}
        try:
            if (call is None) == (run_id is None):
                raise ConfigurationError(f"give either {sources}.")
            _check_source(call, run_id, parents)
            if isinstance(call, Call):
                check_for(find(call.provider), given)
        except ConfigurationError as error:
            raise ConfigurationError(f"{caller}: {error}") from None
        check_values(caller, given)
        return cls(
            name=caller,
            resource_key=checked_resource_key(caller, resource_key),
            call=call,
            run_id=run_id,
            parents=parents,
            settings=given,
            passed_on={name: value for name, value in more.items() if name not in ours},
        )

    def end(self, context: _compat.StepContext, *, fails: bool = True) -> RunResult:
        """Submit and wait in this step.

        Args:
            context: The step's context.
            fails: Whether a fail verdict fails the step here; the caller does it otherwise.

        Raises:
            dagster.Failure: The verdict is fail, how the run ended could not be found out, or an argument turned out
                to be wrong.
        """
        try:
            resource = resource_of(context.resources, self.resource_key)
            if self.run_id is None:
                ended = end_of_run(context, resource, call=self.submission(context, resource), **self.settings)
            else:
                run_id = called("run_id", self.run_id, context) if callable(self.run_id) else self.run_id
                ended = end_of_run(context, resource, ref=resource.ref(run_id, self.parents), **self.settings)
        except (ConfigurationError, FunctionFailed) as error:
            raise verdicts.failure_of(error, self.name) from error
        if fails and ended.verdict is Verdict.FAIL:
            raise self.failure(ended)
        return ended

    def failure(self, ended: RunResult) -> dg.Failure:
        """The end of the step where the verdict is fail."""
        return verdicts.failure(ended.snapshot, given=self.run_id is not None, unmet=ended.unmet)

    def submission(self, context: _compat.StepContext, resource: ProviderResource) -> Call:
        """What the step submits.

        Raises:
            ConfigurationError: An argument is wrong.
            FunctionFailed: The function that gives it raised.
        """
        arguments = called("call", self.call, context) if callable(self.call) else self.call
        if isinstance(arguments, Call):
            return arguments
        if not isinstance(arguments, Mapping):
            raise ConfigurationError(f"call must give a mapping of arguments, not {type(arguments).__name__}.")
        return resource.declaration.call(**_resolved(arguments))


def caller_of(builder: Callable[..., Any], name: str) -> str:
    """A builder and what it builds, as messages begin."""
    return f"{builder.__name__}({name!r})"


def _check_source(call: CallSource | None, run_id: RunIdSource | None, parents: Mapping[str, str] | None) -> None:
    if call is not None and not (isinstance(call, (Call, Mapping)) or callable(call)):
        raise ConfigurationError(f"call must be a mapping or a function of the context, not {type(call).__name__}.")
    if run_id is not None and not callable(run_id):
        check_id("run_id", run_id)
    if parents is not None and run_id is None:
        raise ConfigurationError("parents belongs to run_id=; a call names its own.")
    for kind, value in (parents or {}).items():
        check_id(kind, value)


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
        name: Whose argument it is, as the message begins.
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
        name: Whose argument it is, as the message begins.
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
