"""What a built asset, op or check does in its step, checked early and carried out there."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self, cast

import dagster as dg

from runops.core import Call, ConfigurationError, RunRef, RunSnapshot, Verdict, find
from runops.core.declaration import check_id
from runops.core.many.rules import check_list, check_run_ids
from runops.dagster import _compat, verdicts
from runops.dagster.builders.arguments import check_arguments
from runops.dagster.builders.shown import description_of_step
from runops.dagster.functions import FunctionFailed, called
from runops.dagster.many.step import end_of_runs
from runops.dagster.many.verdicts import shown_of_many
from runops.dagster.options import (
    RunsStepSettings,
    check_for,
    check_only_of_many,
    check_only_of_one,
    check_values,
    names_of,
)
from runops.dagster.resource import ProviderResource, resource_of
from runops.dagster.step.wait import RunResult, end_of_run

CallSource = Call | Mapping[str, Any] | Callable[[Any], Call | Mapping[str, Any]]
"""What to submit: the resource's call arguments, or a function of the context that gives them."""
CallsSource = Sequence[Call | Mapping[str, Any]] | Callable[[Any], Sequence[Call | Mapping[str, Any]]]
"""What to submit in one step: a list of what :data:`CallSource` has, or a function of the context that gives it."""
RunIdSource = str | Callable[[Any], str | RunRef]
"""Which run to wait for: an id, or a function of the context that gives one."""
RunIdsSource = Sequence[str] | Callable[[Any], Sequence[str | RunRef]]
"""Which runs to wait for in one step: ids, or a function of the context that gives them."""

Seconds = float | timedelta
CHOICE = "call= (to submit a run), calls= (to submit many), run_id= (to wait for one) or run_ids= (to wait for many)"


@dataclass(frozen=True)
class Ended:
    """How the wait of a built step ended.

    Args:
        shown: As Dagster shows it.
        snapshot: The last one, where it was for one run.
    """

    shown: verdicts.Shown
    snapshot: RunSnapshot | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a step does. Made by :meth:`of`, which refuses what is wrong.

    Args:
        name: The builder and what it builds, as messages begin.
        resource_key: The key of the runops resource.
        source: ``call``, ``calls``, ``run_id`` or ``run_ids``, and what was given as such.
        parents: With ``run_id`` and ``run_ids``, further ids of the address.
        settings: How it is submitted and waited for.
        passed_on: What else was given, for Dagster's decorator.
    """

    name: str
    resource_key: str
    source: tuple[str, Any]
    parents: Mapping[str, str] | None
    settings: RunsStepSettings
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
        sources: Mapping[str, Any],
        parents: Mapping[str, str] | None = None,
        settings: type = RunsStepSettings,
        choice: str = CHOICE,
    ) -> Self:
        """The plan, checked while definitions are loaded as far as that is possible without a resource.

        Args:
            builder: The public function that makes it.
            name: What it builds.
            more: What it was given beyond its own arguments: settings, and what is passed on to Dagster.
            decorator: Dagster's decorator that takes the latter.
            decided: What the builder gives the decorator itself.
            resource_key: The key of the runops resource.
            sources: What was given as ``call``, ``calls``, ``run_id`` and ``run_ids``, where the builder takes them.
            parents: With ``run_id`` and ``run_ids``, further ids of the address.
            settings: The TypedDict of the settings that the builder takes.
            choice: By which of its arguments a run is given, as a message puts it.

        Raises:
            ConfigurationError: An argument is wrong.
        """
        caller = caller_of(builder, name)
        ours = names_of(settings)
        check_arguments(caller, more, {*inspect.signature(builder).parameters, *ours}, decorator, set(decided))
        given: Any = {name: value for name, value in more.items() if name in ours}
        try:
            source = _one_of(sources, choice)
            check_source(source, parents, given)
        except ConfigurationError as error:
            raise error.at(caller) from None
        check_values(caller, given)
        return cls(
            name=caller,
            resource_key=checked_resource_key(caller, resource_key),
            source=source,
            parents=parents,
            settings=given,
            passed_on={name: value for name, value in more.items() if name not in ours},
        )

    @property
    def many(self) -> bool:
        """Whether it is about many runs."""
        return self.source[0] in ("calls", "run_ids")

    @property
    def given(self) -> bool:
        """Whether somebody else starts what is waited for."""
        return self.source[0] in ("run_id", "run_ids")

    @property
    def description(self) -> str:
        """What Dagster shows of the step where the user says nothing."""
        return description_of_step(self.source[0], self.resource_key)

    def end(self, context: _compat.StepContext, *, fails: bool = True) -> Ended:
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
            ended = self._end(context, resource)
        except (ConfigurationError, FunctionFailed) as error:
            raise verdicts.failure_of(error, self.name) from error
        if fails and ended.shown.verdict is Verdict.FAIL:
            raise ended.shown.failure()
        return ended

    def _end(self, context: _compat.StepContext, resource: ProviderResource) -> Ended:
        name, source = self.source
        value: Any = called(name, source, context) if callable(source) else source
        settings: Any = self.settings
        match name:
            case "calls":
                check_list(name, value, "submissions")
                return Ended(shown_of_many(end_of_runs(context, resource, calls=_resolved(value), **settings)))
            case "run_ids":
                refs = check_run_ids(resource.declaration, value, self.parents)
                return Ended(shown_of_many(end_of_runs(context, resource, refs=refs, **settings)))
            case "call":
                ended = end_of_run(context, resource, call=call_of(resource, value), **settings)
            case _:
                ended = end_of_run(context, resource, ref=resource.ref(value, self.parents), **settings)
        snapshot = ended.snapshot
        return Ended(
            verdicts.shown(snapshot, ended.verdict, ended.unmet, given=self.given, dagster_runs=_other_runs(ended)),
            snapshot,
        )

    def submission(self, context: _compat.StepContext, resource: ProviderResource) -> Call:
        """What a step submits that takes ``call``.

        Raises:
            ConfigurationError: An argument is wrong.
            FunctionFailed: The function that gives it raised.
        """
        _, source = self.source
        return call_of(resource, called("call", source, context) if callable(source) else source)


def _other_runs(ended: RunResult) -> dict[str, str]:
    return {"taken_up_from": ended.taken_up_from} if ended.taken_up_from else {}


def call_of(resource: ProviderResource, arguments: Any, name: str = "call") -> Call:
    """A submission, made of the arguments of the resource's ``call``.

    Args:
        resource: The service.
        arguments: They; or the submission itself.
        name: What they were given as, for messages.

    Raises:
        ConfigurationError: An argument is wrong.
    """
    if isinstance(arguments, Call):
        return arguments
    if not isinstance(arguments, Mapping):
        raise ConfigurationError(f"{name} must give a mapping of arguments, not {type(arguments).__name__}.")
    return resource.declaration.call(**_resolved(cast("Mapping[str, Any]", arguments)))


def caller_of(builder: Callable[..., Any], name: str) -> str:
    """A builder and what it builds, as messages begin."""
    return f"{builder.__name__}({name!r})"


def _one_of(sources: Mapping[str, Any], choice: str) -> tuple[str, Any]:
    given = [(name, value) for name, value in sources.items() if value is not None]
    if len(given) != 1:
        raise ConfigurationError(f"give either {choice}.")
    return given[0]


def check_source(source: tuple[str, Any], parents: Mapping[str, str] | None, settings: Mapping[str, Any]) -> None:
    """Refuse while definitions are loaded what no step could submit or wait for.

    Args:
        source: As :class:`Plan` takes it.
        parents: As :class:`Plan` takes it.
        settings: What was given beside it.

    Raises:
        ConfigurationError: It is wrong; names the argument, and the place in a list.
    """
    name, value = source
    if name in ("run_id", "run_ids"):
        for kind, each in (parents or {}).items():
            check_id(kind, each)
    elif parents is not None:
        raise ConfigurationError("parents belongs to run_id= and run_ids=; a call names its own.")
    if name in ("call", "run_id"):
        check_only_of_many(settings)
    else:
        check_only_of_one(settings)
    if callable(value):
        return
    match name:
        case "call":
            _check_call("call", value, settings)
        case "calls":
            check_list("calls", value, "submissions")
            for nth, each in enumerate(value):
                _check_call(f"calls[{nth}]", each, settings)
        case "run_ids":
            check_list("run_ids", value, "run ids")
            for nth, each in enumerate(value):
                check_id(f"run_ids[{nth}]", each)
        case _:
            check_id("run_id", value)


def _check_call(name: str, value: Any, settings: Mapping[str, Any]) -> None:
    if not isinstance(value, (Call, Mapping)):
        function = " or a function of the context" if name == "call" else ""
        raise ConfigurationError(f"{name} must be a mapping{function}, not {type(value).__name__}.")
    if isinstance(value, Call):
        check_for(find(value.provider), settings)


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
        raise error.at(name) from None
