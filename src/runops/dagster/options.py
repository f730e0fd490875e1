"""What a user may say about a wait in a step, typed once for every builder, and the checks of it."""

from __future__ import annotations

from collections.abc import Mapping

from runops.core import ConfigurationError, OutcomePolicy, Provider
from runops.core.declaration import arguments
from runops.core.waiting.options import ON_CONFLICT, SubmitSettings, WaitOptions, WaitSettings


class JudgedWaitSettings(WaitSettings, total=False):
    """The clocks of a wait, and what its end means."""

    on_outcome: Mapping[str, str] | None
    """Outcome to verdict, such as ``{"degraded": "warn"}``. Default: the provider's own verdicts."""


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


_DURATIONS = frozenset({"timeout", "error_budget", "submit_grace", "lookback"})
_OPTIONAL_DURATIONS = frozenset({"max_paused", "poll_interval", "tick_seconds"})


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
        OutcomePolicy.build(settings.get("on_outcome"))  # pyright: ignore[reportArgumentType]
        arguments.one_of("on_conflict", settings.get("on_conflict", "wait"), ON_CONFLICT)
        for name in _DURATIONS & settings.keys():
            arguments.seconds(name, settings[name])
        for name in _OPTIONAL_DURATIONS & settings.keys():
            arguments.optional_seconds(name, settings[name])
    except ConfigurationError as error:
        raise ConfigurationError(f"{caller}: {error}") from None


def wait_options(provider: Provider, settings: WaitSettings, *, now: float) -> WaitOptions:
    """The clocks of a wait that begins now, in unix seconds.

    Raises:
        ConfigurationError: A duration is not positive; names it.
    """
    clocks = {name: settings[name] for name in names_of(WaitSettings) & settings.keys()}
    interval = clocks.pop("poll_interval", None)
    return WaitOptions.build(provider, now=now, interval=interval, **clocks)
