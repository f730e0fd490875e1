"""Finding the one run of a parent that something else started: the newest, or the next, since a moment."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal, Self

from runops.core.declaration import Observation, Provider
from runops.core.declaration.arguments import one_of
from runops.core.model.errors import AnswerError, RunNotFound
from runops.core.model.run import Phase, RunRef, RunSnapshot
from runops.core.model.states import StateReading
from runops.core.waiting.flows import may_send, unreadable
from runops.core.waiting.listing import born, listed
from runops.core.waiting.options import WaitOptions
from runops.core.waiting.state import WaitProgress, WaitState, timed_out
from runops.core.waiting.steps import Clock, Flow, Send, Sleep, within

logger = logging.getLogger("runops")

SEEK_SECONDS = 10.0
"""The shortest time between two reads of a list, unless a user sets another."""
LOG_SECONDS = 300.0
"""Between two log lines about a run that is not there yet."""

Which = Literal["latest", "next"]
WHICH: tuple[Which, ...] = ("latest", "next")


@dataclass(frozen=True, slots=True)
class Search:
    """Which run of a parent is wanted. Only JSON primitives, so it may travel between processes.

    Args:
        parent: The parent by its kind, such as ``{"workflow_id": "wf_1"}``.
        since: Unix seconds: only runs that were created at or after this moment count. A run that is not over and
            tells no time counts too.
        which: ``"latest"``: the newest of them; ``"next"``: the oldest of them, the first that came.
        interval: The shortest time between two looks, in seconds.
    """

    parent: Mapping[str, str]
    since: float
    which: Which = "latest"
    interval: float = SEEK_SECONDS

    @classmethod
    def build(
        cls,
        provider: Provider,
        parent: str | Mapping[str, str],
        *,
        since: float,
        which: str = "latest",
        interval: float | None = None,
    ) -> Self:
        """From what a user says, checked.

        Raises:
            NotSupported: The provider documents no list of runs.
            ConfigurationError: The parent is unknown or unusable, or ``which`` is another word.
        """
        one_of("which", which, WHICH)
        chosen: Which = "next" if which == "next" else "latest"
        return cls(provider.pages.parent(parent), since, chosen, SEEK_SECONDS if interval is None else interval)

    def to_dict(self) -> dict[str, Any]:
        """JSON primitives that :meth:`from_dict` reads."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` wrote."""
        return cls(dict(value["parent"]), value["since"], value["which"], value["interval"])

    def __str__(self) -> str:
        moment = datetime.fromtimestamp(self.since, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        return f"{self.which} run of {named(self.parent)} since {moment}"

    def choose(self, runs: Sequence[RunSnapshot]) -> RunSnapshot | None:
        """The wanted one of a parent's runs, newest first; None while it is not among them."""
        counting = [run for run in runs if self._counts(run)]
        if not counting:
            return None
        if self.which == "latest":
            return max(counting, key=_birth_order)
        return min(reversed(counting), key=_birth_order)

    def _counts(self, run: RunSnapshot) -> bool:
        moment = born(run)
        return run.phase is not None if moment is None else moment >= self.since


def named(parent: Mapping[str, str]) -> str:
    """A parent in words."""
    return ", ".join(f"{kind} {value}" for kind, value in parent.items())


def _birth_order(run: RunSnapshot) -> float:
    moment = born(run)
    # Without a time it can only just have come.
    return float("inf") if moment is None else moment


def look_for(provider: Provider, search: Search, *, warned: set[str] | None = None) -> Flow[RunSnapshot | None]:
    """One look for the wanted run.

    Args:
        provider: Whose run it is.
        search: Which run.
        warned: What earlier looks have warned of already; this one adds to it.

    Raises:
        AnswerError: The list could not be had.
        ConfigurationError: The list names no parents of this kind.
    """
    request = provider.pages.latest_request(search.parent) if search.which == "latest" else None
    if request is not None:
        description = f"newest {provider.title} run of {named(search.parent)}"
        try:
            content: bytes = yield Send(replace(request, description=description))
        except RunNotFound:
            # It has no runs yet, or does not exist: such a route does not tell the two apart.
            return None
        return search.choose([provider.pages.read_latest(content, search.parent).snapshot])
    latest = search.which == "latest"
    found = yield from listed(
        provider,
        search.parent,
        since=search.since,
        enough=lambda runs: latest and search.choose(runs) is not None,
    )
    warned = set() if warned is None else warned
    if not found.whole and "reach" not in warned:
        warned.add("reach")
        logger.warning(
            "The list of %s runs does not go back as far as the %s: it may be missed.", provider.name, search
        )
    unread = found.unread - warned
    if unread:
        warned |= unread
        logger.warning(
            "The list of %s runs has %s: if one is the %s, it is missed.",
            provider.name,
            unreadable(len(unread)),
            search,
        )
    return search.choose(found.runs)


def seek(
    provider: Provider,
    search: Search,
    options: WaitOptions,
    *,
    clock: Clock,
    warned: set[str] | None = None,
    past: WaitProgress | None = None,
) -> Flow[RunSnapshot]:
    """Look until the wanted run is there; it as the list shows it, or ``timed_out`` when the deadline came first.

    Args:
        provider: Whose run it is.
        search: Which run.
        options: The clocks of the whole wait; its cadence, at least ``search.interval``, is that of the looks.
        clock: Where the flow reads the time.
        warned: As in :func:`look_for`.
        past: What an earlier part of this search has learnt, kept up to date.

    Raises:
        PollingError: The error budget is used up.
        FinalError: The list cannot be had: bad key, no such parent.
        ConfigurationError: The list names no parents of this kind.
    """
    began = clock()
    nobody = RunRef(provider=provider.name, run_id="")
    nothing = Observation(RunSnapshot(ref=nobody, state=None, phase=Phase.QUEUED), StateReading("", "", Phase.QUEUED))
    # The limits are those of a run, which is not there yet.
    cadence = options.cadence.at_least(search.interval)
    options = replace(options, cadence=cadence, max_stalled=None, max_spend=None)
    wait = WaitState(provider, nobody, options, began=began, past=past)
    logged_at, warned = began, set[str]() if warned is None else warned
    while True:
        now = clock()
        if (yield from may_send(wait, clock)):
            try:
                found = yield from within(look_for(provider, search, warned=warned), wait.latest_read)
            except AnswerError as error:
                now = clock()
                wait.failed(error, now)
            else:
                if found is not None:
                    return found
                now = clock()
                wait.observed(nothing, now)
        if wait.expired(now) is not None:
            return nothing_found(provider, search)
        if now - logged_at >= LOG_SECONDS:
            logged_at = now
            logger.info("The %s is not there yet.", search)
        yield Sleep(wait.pause(now), for_key=wait.holds)


def nothing_found(
    provider: Provider, search: Search, ended_by: Literal["timeout", "execution_timeout"] = "timeout"
) -> RunSnapshot:
    """The end of a wait for a run that never came; its ``run_id`` is empty."""
    nobody = RunRef(provider=provider.name, run_id="")
    ended = timed_out(provider, nobody, None, ended_by)
    reason = f"The wait ended ({ended_by}); the {search} never came."
    return replace(ended, reason=reason, url=None)
