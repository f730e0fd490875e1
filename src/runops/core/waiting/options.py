"""What a user may say about a wait and a submit, typed once for every side, and the clocks that are made of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, Literal, Self, TypedDict

from runops.core.declaration import Provider, arguments
from runops.core.model.cadence import Cadence
from runops.core.model.errors import ConfigurationError

DEFAULT_TIMEOUT = 604_800.0
"""Seconds: a week."""
DEFAULT_ERROR_BUDGET = 900.0
"""Seconds."""
DEFAULT_AUTH_GRACE = 300.0
"""Seconds for which a wait holds when its key is refused after a good read."""
SUBMIT_GRACE = 300.0
"""Seconds for which the run of a lost answer is looked for."""

Seconds = float | timedelta
"""A duration: seconds, or a timedelta."""


class WaitClocks(TypedDict, total=False):
    """The clocks of a wait but for the whole one, for what takes ``timeout`` by its place too."""

    error_budget: Seconds
    """Failed reads in a row before the wait gives up. Default: 15 minutes."""
    auth_grace: Seconds
    """How long a key may be refused after a good read, while it is read again where it was set; 0 ends the wait at
    once. Default: 5 minutes."""
    max_paused: Seconds | None
    """How long the run may stay paused or waiting. Default: no such bound."""
    max_stalled: Seconds | None
    """How long a run that is neither paused nor waiting may show no change: of its state, its progress or the time at
    which its provider last updated it. Default: no such bound."""
    max_spend: float | None
    """What the run may spend, in the unit that its provider's declaration names. Default: no such bound."""
    poll_interval: Seconds | None
    """The shortest time between two looks. Default: what the provider's declaration says."""


class WaitSettings(WaitClocks, total=False):
    """The clocks of a wait, as users name them."""

    timeout: Seconds
    """The whole wait. Default: a week."""


OnConflict = Literal["wait", "attach", "fail"]
ON_CONFLICT: tuple[OnConflict, ...] = ("wait", "attach", "fail")


class SearchSettings(TypedDict, total=False):
    """What is done where the answer to a submit is lost, as users name it."""

    adopt_uncertain: bool
    """Where no mark can prove whose a run is, take the single new one for ours."""
    submit_grace: Seconds
    """How long the run of a lost answer is looked for. Default: 5 minutes."""


class SubmitSettings(SearchSettings, total=False):
    """What a submit does where its answer is lost, or where it is refused because something is active there."""

    on_conflict: OnConflict
    """Where the service answers 409, because something is active there already: ``"wait"`` until nothing is, and then
    submit; ``"attach"`` to the active run, as if it were given, so that it is never cancelled; or ``"fail"`` with a
    ``ConflictError``. Default: wait, for no longer than ``timeout``."""


class SubmitOptions(SubmitSettings, total=False):
    """What a submit by itself takes, without a wait for its run."""

    timeout: Seconds
    """The whole wait for a turn, with ``on_conflict="wait"``. Default: a week."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WaitOptions:
    """How long and how closely to wait. It holds only numbers, so it may travel between processes.

    Args:
        deadline: When the wait ends at the latest, in unix seconds: a wall clock survives restarts.
        error_budget: Seconds of failures in a row before the wait gives up.
        max_paused: Seconds that the run may stay paused or waiting, or None for no such bound.
        max_stalled: Seconds for which nothing of the run may change, or None for no such bound.
        max_spend: What the run may spend, in the provider's unit, or None for no such bound.
        wanted: Details that the end is judged by: where one is missing in the last answer, the whole run is read.
        cadence: When to look again.
        auth_grace: Seconds for which the key may be refused after a good read; 0 for none.
    """

    deadline: float
    error_budget: float
    max_paused: float | None
    cadence: Cadence
    max_stalled: float | None = None
    max_spend: float | None = None
    wanted: tuple[str, ...] = ()
    auth_grace: float = DEFAULT_AUTH_GRACE

    @classmethod
    def build(
        cls,
        provider: Provider,
        *,
        now: float,
        timeout: float | timedelta = DEFAULT_TIMEOUT,
        deadline: float | None = None,
        error_budget: float | timedelta = DEFAULT_ERROR_BUDGET,
        auth_grace: float | timedelta = DEFAULT_AUTH_GRACE,
        max_paused: float | timedelta | None = None,
        max_stalled: float | timedelta | None = None,
        max_spend: float | None = None,
        wanted: Iterable[str] = (),
        interval: float | timedelta | None = None,
        factor: float | None = None,
        ceiling: float | timedelta | None = None,
    ) -> Self:
        """From what a user says, checked.

        Args:
            provider: Its cadence holds where the user says nothing.
            now: The present, in unix seconds.
            timeout: The whole wait, in seconds or as a timedelta.
            deadline: Takes the place of ``now + timeout``.
            error_budget: Seconds of failures in a row, or a timedelta.
            auth_grace: Seconds for which the key may be refused after a good read, or a timedelta; 0 for none.
            max_paused: Seconds in paused or waiting, or a timedelta, or None.
            max_stalled: Seconds without any change, or a timedelta, or None.
            max_spend: What the run may spend, in the provider's unit, or None.
            wanted: Details that the end is judged by.
            interval: The shortest time between two looks, in seconds or as a timedelta.
            factor: How much longer each interval is than the one before.
            ceiling: The longest time between two looks.

        Raises:
            ConfigurationError: A duration or limit is not positive, a grace is negative, or the provider does not say
                what a run spends.
        """
        whole = arguments.seconds("timeout", timeout)
        cadence = provider.cadence
        if interval is not None or factor is not None or ceiling is not None:
            cadence = cadence.at_least(
                arguments.optional_seconds("poll_interval", interval),
                factor=factor,
                ceiling=arguments.optional_seconds("the longest interval", ceiling),
            )
        return cls(
            deadline=now + whole if deadline is None else deadline,
            error_budget=arguments.seconds("error_budget", error_budget),
            max_paused=arguments.optional_seconds("max_paused", max_paused),
            max_stalled=arguments.optional_seconds("max_stalled", max_stalled),
            max_spend=_checked_spend(provider, max_spend),
            wanted=tuple(wanted),
            cadence=cadence,
            auth_grace=arguments.grace("auth_grace", auth_grace),
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON primitives that :meth:`from_dict` reads."""
        return {**asdict(self), "wanted": list(self.wanted)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` wrote."""
        return cls(
            deadline=value["deadline"],
            error_budget=value["error_budget"],
            max_paused=value["max_paused"],
            max_stalled=value.get("max_stalled"),
            max_spend=value.get("max_spend"),
            wanted=tuple(value.get("wanted") or ()),
            cadence=Cadence(**value["cadence"]),
            auth_grace=value.get("auth_grace", DEFAULT_AUTH_GRACE),
        )


def _checked_spend(provider: Provider, limit: object) -> float | None:
    if limit is None:
        return None
    if provider.spend is None:
        raise ConfigurationError(
            f"max_spend={limit!r} cannot bound anything: {provider.title} does not show what its runs spend; leave it "
            "out."
        )
    return arguments.positive("max_spend", limit)
