"""What a user may say about a wait in a step, typed once for every builder, and the checks of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypedDict, cast

from runops.core import ConfigurationError, OutcomePolicy, Provider, RunSnapshot, Verdict
from runops.core.declaration import arguments, registry
from runops.core.many.rules import ManyRules, ManySettings
from runops.core.model.expectation import DetailKind, check_detail
from runops.core.model.states import meaning_of
from runops.core.waiting.options import ON_CONFLICT, Seconds, SubmitSettings, WaitOptions, WaitSettings
from runops.core.waiting.phases import check_callbacks
from runops.core.waiting.submit_in_turn import TurnRules

PhaseCallback = Callable[[Any, RunSnapshot], object]
OnPhase = Mapping[str, PhaseCallback | Sequence[PhaseCallback]]
"""Who is called when a run enters a phase."""


class EndSettings(TypedDict, total=False):
    """What the end of a run means."""

    on_outcome: Mapping[str, str] | None
    """Outcome to verdict, such as ``{"degraded": "warn"}``. Default: the provider's own verdicts."""
    states: Mapping[str, str] | None
    """Words that no documentation has, and the phase or outcome that each means, such as ``{"partial": "degraded"}``;
    they win over those of the resource. A documented word cannot be changed."""
    expect: Mapping[str, Any] | None
    """What a succeeded or degraded run must show in its details, such as ``{"findings_count": 0}``: a value, a value
    behind one of ``== != < <= > >=``, or a list of values. A detail that is missing does not meet it."""
    on_unmet: Literal["succeed", "warn", "skip", "fail"]
    """The verdict on a run that does not. Default: fail, which no retry repeats and no ``soft_fail`` softens."""
    soft_fail: bool
    """Turn failed, cancelled and timed_out into a skip; an entry in ``on_outcome`` wins over it. A bad key or an
    uncertain submit fails the step all the same. Default: False."""


class JudgedWaitSettings(WaitSettings, EndSettings, total=False):
    """The clocks and limits of a wait, who is called on the way, and what its end means."""

    on_phase: OnPhase | None
    """Who is called once each time that the run enters a phase, such as ``{"waiting": tell_somebody}``: a function of
    the context and the snapshot, or a list of them, which may be empty. Each entry is an engine event of the step, and
    the Dagster run's tag ``runops/phase`` shows it. Of one run only, not with ``calls`` and ``run_ids``."""


class StepSubmitSettings(SubmitSettings, total=False):
    """How a step submits its run once."""

    cancel_on_failure: bool
    """Cancel the run that the step submitted when the step fails for good while its run may go on: neither its retry
    policy nor a run retry of Dagster tries it again (with ``reattach=False`` no try takes it up, and each failed one
    cancels its own). Never a run that was given. Default: False."""
    mark_runs: bool | None
    """Add a mark to a text that the service shows again (Nyx: ``name``), so that the run is known whatever happens to
    the answer. Default: what the resource has."""
    reattach: bool
    """Take up the run that an earlier try of this step submitted. Default: True; False submits anew on every try."""


class StepSettings(JudgedWaitSettings, StepSubmitSettings, total=False):
    """All settings of a wait in a step: of ``wait_for_run`` and of the builders that use it."""

    cancel_on_interrupt: bool | None
    """Cancel the run when the Dagster run is terminated. Default: only a run that was submitted by the step."""
    cancel_on_timeout: bool | None
    """Cancel the run when a clock ended the wait. Default: only a run that was submitted by the step."""


class RunsStepSettings(StepSettings, ManySettings, total=False):
    """All settings of a wait for many runs in a step, where ``max_spend`` bounds the sum of what they spend."""


class RulesOfRuns(NamedTuple):
    """What a sensor is given about the ends of runs, and what bounds one that is open."""

    states: Mapping[str, str] | None
    expect: Mapping[str, Any] | None
    on_unmet: str
    max_stalled: Seconds | None
    max_spend: float | None
    soft_fail: bool

    @property
    def end(self) -> dict[str, Any]:
        """What decides about an end."""
        return {
            "states": self.states,
            "expect": self.expect,
            "on_unmet": self.on_unmet,
            "soft_fail": self.soft_fail,
        }

    @property
    def limits(self) -> dict[str, Any]:
        """What bounds an open run."""
        return {"max_stalled": self.max_stalled, "max_spend": self.max_spend}


_DURATIONS = frozenset({"timeout", "error_budget", "submit_grace", "lookback"})
_OPTIONAL_DURATIONS = frozenset({"max_paused", "max_stalled", "poll_interval", "tick_seconds"})


def names_of(settings: type) -> frozenset[str]:
    """The names of the settings of a TypedDict."""
    return frozenset(settings.__optional_keys__ | settings.__required_keys__)


def check_values(caller: str, settings: Mapping[str, object]) -> None:
    """Refuse a wrong duration or verdict while definitions are loaded.

    Args:
        caller: The public function, as the message begins.
        settings: Any of :class:`StepSettings`, or of what a sensor takes.

    Raises:
        ConfigurationError: A value is wrong; names the setting.
    """
    try:
        _check_end(cast("EndSettings", settings))
        check_callbacks(settings.get("on_phase"))
        many_rules(settings)
        arguments.one_of("on_conflict", settings.get("on_conflict", "wait"), ON_CONFLICT)
        for name in _DURATIONS & settings.keys():
            arguments.seconds(name, settings[name])
        arguments.grace("auth_grace", settings.get("auth_grace", 0.0))
        for name in _OPTIONAL_DURATIONS & settings.keys():
            arguments.optional_seconds(name, settings[name])
    except ConfigurationError as error:
        raise error.at(caller) from None


def check_only_of_many(settings: Mapping[str, object]) -> None:
    """Refuse what is said of many runs where there is one.

    Raises:
        ConfigurationError: Names the setting.
    """
    wrong = sorted(names_of(ManySettings) & settings.keys())
    if wrong:
        raise ConfigurationError(f"{wrong[0]} belongs to calls= and run_ids=, which are about many runs.")


def check_only_of_one(settings: Mapping[str, object]) -> None:
    """Refuse what is said of one run where there are many.

    Raises:
        ConfigurationError: Names the setting.
    """
    if settings.get("on_phase") is not None:
        raise ConfigurationError(
            "on_phase belongs to one run, and a step of many would call once for each of thousands: give it to steps "
            "of one run each, such as those of a partitioned asset."
        )


def many_rules(settings: Mapping[str, Any]) -> ManyRules:
    """What many runs together are held to.

    Raises:
        ConfigurationError: A setting is wrong; names it.
    """
    names = names_of(ManySettings) | {"max_spend"}
    return ManyRules.build(**{name: settings[name] for name in names & settings.keys()})


def check_for(provider: Provider, settings: Mapping[str, Any]) -> None:
    """Refuse what does not fit a provider: a word that it documents, a detail that its runs lack, a limit on nothing.

    Args:
        provider: The provider.
        settings: Any of :class:`StepSettings`.

    Raises:
        ConfigurationError: A setting is wrong; names it.
    """
    policy = policy_of(provider.with_states(settings.get("states")), settings)
    limits = {name: settings[name] for name in ("max_stalled", "max_spend") if name in settings}
    WaitOptions.build(provider, now=0.0, wanted=policy.expect.details, **limits)


def policy_of(provider: Provider, settings: Mapping[str, Any]) -> OutcomePolicy:
    """What the end of a provider's run means.

    Raises:
        ConfigurationError: A setting is wrong; names it.
    """
    return provider.policy(settings.get("on_outcome"), **_end_of(settings))


def _end_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What decides about an end beside ``on_outcome``, as a policy takes it."""
    return {
        "soft_fail": settings.get("soft_fail", False),
        "expect": settings.get("expect"),
        "on_unmet": settings.get("on_unmet", Verdict.FAIL),
    }


def _check_end(settings: EndSettings) -> None:
    """What can be seen without a resource, which only a step has: names, operators and values."""
    policy = OutcomePolicy.build(settings.get("on_outcome"), **_end_of(settings))
    for word, name in (settings.get("states") or {}).items():
        meaning_of(word, name)
    kinds = _details_known_here()
    for name in policy.expect.details:
        check_detail(name, kinds, title="any run whose declaration is imported here")


def _details_known_here() -> dict[str, DetailKind] | None:
    """The details of all providers that this process knows; None where one has some that nobody can know."""
    known: dict[str, DetailKind] = {}
    for name in registry.names():
        for declared, _ in registry.made(name):
            kinds = declared.body.detail_kinds()
            if kinds is None:
                return None
            known |= kinds
    return known


def wait_options(provider: Provider, settings: WaitSettings, *, now: float, wanted: Iterable[str] = ()) -> WaitOptions:
    """The clocks and limits of a wait that begins now, in unix seconds.

    Args:
        provider: The provider.
        settings: What the user chose.
        now: Unix seconds.
        wanted: Details that the end is judged by.

    Raises:
        ConfigurationError: A duration is not positive; names it.
    """
    clocks = {name: settings[name] for name in names_of(WaitSettings) & settings.keys()}
    interval = clocks.pop("poll_interval", None)
    return WaitOptions.build(provider, now=now, interval=interval, wanted=wanted, **clocks)


def turn_rules(settings: Mapping[str, Any], options: WaitOptions) -> TurnRules:
    """What a submit of a step does where it is refused.

    Args:
        settings: What the user chose.
        options: The clocks of the wait, which bound that for a turn too.
    """
    return TurnRules(
        on_conflict=settings.get("on_conflict", "wait"),
        until=options.deadline,
        interval=arguments.optional_seconds("poll_interval", settings.get("poll_interval")),
        error_budget=options.error_budget,
        auth_grace=options.auth_grace,
    )
