"""Finding runs that something else started: one of a parent, or each that ends. Pure decisions and flows; no sends."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal, Self

from runops.core.arguments import one_of
from runops.core.errors import AnswerError, MalformedAnswer, RunNotFound
from runops.core.flows import Flow, Send, Sleep, Time, unreadable, within
from runops.core.provider import Look, Page, Provider, Request
from runops.core.run import Phase, RunRef, RunSnapshot
from runops.core.states import Reading
from runops.core.watch import Patience, Watch

logger = logging.getLogger("runops")

MOST_PAGES = 10
"""Pages of a list that one look turns at the most."""
OVERLAP = 600.0
"""Seconds that each look goes back behind the newest run known: a run may show up in a list later than it began."""
SEEK_SECONDS = 10.0
"""The shortest time between two looks at a list, unless a user says another."""
TELL_SECONDS = 300.0
"""Between two log lines about a run that is not there yet."""

Which = Literal["latest", "next"]
WHICH: tuple[Which, ...] = ("latest", "next")


def born(run: RunSnapshot) -> float | None:
    """When a run was created or, where that is not told, started: unix seconds, or None."""
    moment = run.created_at or run.started_at
    return None if moment is None else moment.timestamp()


# --- lists, back to a moment ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Listed:
    """What a look at the list of a parent showed.

    Args:
        runs: The parent's runs, as the provider orders them: newest first.
        whole: Whether the look went back as far as it should. If not, older runs were out of reach.
        newest: When the newest run of any parent on the list was created, in unix seconds; None if none tells.
        oldest: The same of the oldest.
        unread: What stands for each entry that names no run, so that nobody knows what was missed there.
    """

    runs: tuple[RunSnapshot, ...]
    whole: bool
    newest: float | None
    oldest: float | None
    unread: frozenset[str] = frozenset()


def listed(
    provider: Provider,
    parent: Mapping[str, str],
    *,
    since: float,
    known: Collection[str] = (),
    enough: Callable[[Sequence[RunSnapshot]], bool] = lambda runs: False,
) -> Flow[Listed]:
    """The runs of a parent back to a moment, over as many pages as that takes, :data:`MOST_PAGES` at the most.

    Args:
        provider: Whose list it is.
        parent: The parent, as :meth:`Provider.family` gives it.
        since: Unix seconds. A run that is older ends the look.
        known: Ids that end it too, where the list tells no times.
        enough: Whether the runs so far will do.

    Raises:
        AnswerError: A page could not be had.
        ConfigurationError: The list names no parents of this kind.
    """
    ours: dict[str, RunSnapshot] = {}
    shown: set[str] = set()
    births: list[float] = []
    unread: set[str] = set()

    def seen(*, whole: bool) -> Listed:
        newest, oldest = max(births, default=None), min(births, default=None)
        return Listed(tuple(ours.values()), whole, newest, oldest, frozenset(unread))

    for number in range(MOST_PAGES):
        try:
            content: bytes = yield Send(provider.page_request(parent, number))
        except RunNotFound:
            if number == 0:
                raise
            # Behind the last page there is nothing.
            return seen(whole=True)
        try:
            page = _all_on(provider, content, parent)
        except MalformedAnswer:
            if number == 0:
                raise
            return seen(whole=False)
        runs = [look.snapshot for look in page.looks]
        entries = {run.ref.run_id for run in runs}.union(page.unread)
        if entries and entries <= shown:
            # The list does not turn its pages.
            return seen(whole=False)
        shown |= entries
        unread.update(page.unread)
        ours |= {look.snapshot.ref.run_id: look.snapshot for look in provider.page(content, parent).looks}
        times = [moment for moment in map(born, runs) if moment is not None]
        births += times
        reached = min(times) < since if times else any(run.ref.run_id in known for run in runs)
        if reached or enough(tuple(ours.values())) or _is_last(provider, len(runs) + len(page.unread)):
            return seen(whole=True)
    return seen(whole=False)


def _all_on(provider: Provider, content: bytes, parent: Mapping[str, str]) -> Page:
    listing = provider.listing
    everyones = listing is not None and listing.filtered
    return provider.page(content, {} if everyones else parent)


def _is_last(provider: Provider, items: int) -> bool:
    listing = provider.listing
    if items == 0 or listing is None or listing.page_size is None:
        return True
    return items < listing.page_size


# --- one run -------------------------------------------------------------------------------------------------------


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
        return cls(provider.family(parent), since, chosen, SEEK_SECONDS if interval is None else interval)

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


def look_for(provider: Provider, search: Search, *, told: set[str] | None = None) -> Flow[RunSnapshot | None]:
    """One look for the wanted run.

    Args:
        provider: Whose run it is.
        search: Which run.
        told: What earlier looks have warned of already; this one adds to it.

    Raises:
        AnswerError: The list could not be had.
        ConfigurationError: The list names no parents of this kind.
    """
    listing = provider.listing
    if search.which == "latest" and listing is not None and listing.latest is not None:
        route = listing.latest
        asked = f"newest {provider.title} run of {named(search.parent)}"
        try:
            content: bytes = yield Send(Request(route.method, route.fill(search.parent), asked, route.query))
        except RunNotFound:
            # It has no runs yet, or does not exist: such a route does not tell the two apart.
            return None
        return search.choose([look.snapshot for look in provider.newest(content, search.parent)])
    latest = search.which == "latest"
    found = yield from listed(
        provider,
        search.parent,
        since=search.since,
        enough=lambda runs: latest and search.choose(runs) is not None,
    )
    told = set() if told is None else told
    if not found.whole and "reach" not in told:
        told.add("reach")
        logger.warning(
            "The list of %s runs does not go back as far as the %s: it may be missed.", provider.name, search
        )
    unread = found.unread - told
    if unread:
        told |= unread
        logger.warning(
            "The list of %s runs has %s: if one is the %s, it is missed.",
            provider.name,
            unreadable(len(unread)),
            search,
        )
    return search.choose(found.runs)


def seek(provider: Provider, search: Search, patience: Patience) -> Flow[RunSnapshot]:
    """Look until the wanted run is there; it as the list shows it, or ``timed_out`` when the deadline came first.

    Args:
        provider: Whose run it is.
        search: Which run.
        patience: The clocks of the whole wait; its cadence, at least ``search.interval``, is that of the looks.

    Raises:
        PollingError: The error budget is used up.
        FinalError: The list cannot be had: bad key, no such parent.
        ConfigurationError: The list names no parents of this kind.
    """
    began: float = yield Time()
    nobody = RunRef(provider=provider.name, run_id="")
    nothing = Look(RunSnapshot(ref=nobody, state=None, phase=Phase.QUEUED), Reading("", "", Phase.QUEUED))
    patience = replace(patience, cadence=patience.cadence.at_least(search.interval))
    watch = Watch(provider, nobody, patience, began=began)
    told_at, told = began, set[str]()
    while True:
        try:
            found = yield from within(look_for(provider, search, told=told), watch.latest_look)
        except AnswerError as error:
            now: float = yield Time()
            watch.failed(error, now)
        else:
            if found is not None:
                return found
            now = yield Time()
            watch.saw(nothing, now)
        if watch.expired(now) is not None:
            return nothing_found(provider, search)
        if now - told_at >= TELL_SECONDS:
            told_at = now
            logger.info("The %s is not there yet.", search)
        yield Sleep(watch.pause(now))


def nothing_found(
    provider: Provider, search: Search, ended_by: Literal["timeout", "execution_timeout"] = "timeout"
) -> RunSnapshot:
    """The end of a wait for a run that never came; its ``run_id`` is empty."""
    nobody = RunRef(provider=provider.name, run_id="")
    ended = Watch(provider, nobody, Patience.build(provider, now=0.0), began=0.0).timed_out(ended_by)
    reason = f"The wait ended ({ended_by}); the {search} never came."
    return ended.model_copy(update={"reason": reason, "url": None})


# --- each run that ends --------------------------------------------------------------------------------------------


@dataclass
class Trail:
    """The memory of a watch over a parent: what is open, what is done with, and how far back to look.

    What was over before the first look is past; what is open then, or comes later, is followed to its end by its id.

    Args:
        horizon: How far back to look: unix seconds, in the provider's time; None before the first look.
        newest: When the newest run known was created; None where that is not told.
        open: When each followed run was born, by id; 0 where that is not told.
        done: The same of the runs that are done with, as far back as a list may still show them.
        gap: Whether runs may have been missed since the last report.
        unread: What stands for each entry of the last look that named no run.
    """

    horizon: float | None = None
    newest: float | None = None
    open: dict[str, float] = field(default_factory=dict[str, float])
    done: dict[str, float] = field(default_factory=dict[str, float])
    gap: bool = False
    unread: list[str] = field(default_factory=list[str])

    def to_dict(self) -> dict[str, Any]:
        """JSON primitives that :meth:`parse` reads."""
        return {"version": 1, **asdict(self)}

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read what :meth:`to_dict` wrote; anything else is a watch that begins anew."""
        if not isinstance(value, Mapping):
            return cls()
        given: Mapping[str, Any] = value  # pyright: ignore[reportUnknownVariableType]
        return cls(
            horizon=given.get("horizon"),
            newest=given.get("newest"),
            open=dict(given.get("open") or {}),
            done=dict(given.get("done") or {}),
            gap=bool(given.get("gap")),
            unread=list(given.get("unread") or []),
        )

    def look(self, provider: Provider, parent: Mapping[str, str]) -> Flow[Listed]:
        """The runs that :meth:`take` needs to see."""
        if self.horizon is None:
            found = yield from listed(provider, parent, since=0.0, enough=lambda runs: True)
        else:
            found = yield from listed(provider, parent, since=self.horizon, known={*self.open, *self.done})
        unread = found.unread.difference(self.unread)
        if unread:
            logger.warning(
                "The list of %s runs of %s has %s, which cannot be followed.",
                provider.name,
                named(parent),
                unreadable(len(unread)),
            )
        return found

    def take(self, found: Listed) -> list[str]:
        """Take in a look; the ids of the runs that are followed from now on, oldest first."""
        first = self.horizon is None
        horizon = self.horizon or 0.0
        followed: list[str] = []
        for run in reversed(found.runs):
            run_id, moment = run.ref.run_id, born(run)
            if run_id in self.open or run_id in self.done:
                continue
            if first and run.phase is None:
                self.done[run_id] = moment or 0.0
            elif first or moment is None or moment >= horizon:
                self.open[run_id] = moment or 0.0
                followed.append(run_id)
        if first:
            self.horizon = horizon if found.newest is None else found.newest
        else:
            new_unread = bool(found.unread.difference(self.unread))
            self.gap = self.gap or new_unread or not (found.whole or self._joins(found))
            self.horizon = horizon if found.newest is None else max(horizon, found.newest - OVERLAP)
        self.unread = sorted(found.unread)
        self.newest = max((each for each in (self.newest, found.newest) if each is not None), default=None)
        shown = {run.ref.run_id for run in found.runs}
        self.done = {
            run_id: moment for run_id, moment in self.done.items() if run_id in shown or moment >= self.horizon
        }
        return followed

    def _joins(self, found: Listed) -> bool:
        """Whether a look went back to what was known before, though not as far as a late run would need."""
        return self.newest is not None and found.oldest is not None and found.oldest <= self.newest

    def close(self, run_id: str) -> None:
        """A followed run has been dealt with."""
        self.done[run_id] = self.open.pop(run_id, 0.0)
