"""Finding runs that something else started: one of a parent, or each that ends. Pure decisions and flows; no sends."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal, Self

from runops.core.declaration import Observation, Page, Provider
from runops.core.declaration.arguments import one_of
from runops.core.model.errors import AnswerError, MalformedAnswer, RunNotFound
from runops.core.model.run import Phase, RunRef, RunSnapshot
from runops.core.model.states import StateReading
from runops.core.waiting.flows import unreadable
from runops.core.waiting.options import WaitOptions
from runops.core.waiting.state import WaitState
from runops.core.waiting.steps import Clock, Flow, Send, Sleep, within
from runops.core.waiting.window import LATE_SECONDS, Comparison, Entry, Place, Window, digest

logger = logging.getLogger("runops")

MOST_PAGES = 10
"""Pages of :data:`PAGE` runs that one look turns at the most; where pages are shorter, as many runs."""
PAGE = 100
SHORTEST_PAGE = 20
"""Runs that a page counts for at the least, so that a look at a list of tiny pages has an end."""
TAIL = 10
"""Runs at the end of a page that must be older than a moment before it counts as reached: one may have a wrong time."""
UNMARKED = 30
"""Entries in a row of which none may be remembered although they are old: of other parents' runs only some are."""
OVERLAP = 600.0
"""Seconds by which the watches of the first release went back behind the newest run that they knew."""
DONE_KEPT = 20
"""Runs that are done with and kept by their ids; of the others a watch remembers a digest."""
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


Stop = Literal["end", "since", "known", "limit", "time"]
"""Why a look at a list ended: at the end of the list, at the moment or among the runs it was to go back to, at
:data:`MOST_PAGES` or for want of a further page, or because the caller's time was over."""


@dataclass(frozen=True, slots=True)
class Listed:
    """What a look at the list of a parent showed.

    Args:
        runs: The parent's runs, as the provider orders them: newest first.
        whole: Whether the look went back as far as it should. If not, older runs were out of reach.
        newest: When the newest run of any parent on the list was created, in unix seconds; None if none tells.
        oldest: The same of the oldest.
        unread: What stands for each entry that names no run, so that nobody knows what was missed there.
        entries: The runs of all parents, in the same order.
        stop: Why the look ended.
        at: The time of the look, in unix seconds.
    """

    runs: tuple[RunSnapshot, ...]
    whole: bool
    newest: float | None
    oldest: float | None
    unread: frozenset[str] = frozenset()
    entries: tuple[Entry, ...] = ()
    stop: Stop | None = None
    at: float | None = None

    @property
    def order(self) -> tuple[Entry, ...]:
        """The entries; the parent's runs where nothing is known of others."""
        return self.entries or tuple(Entry(run.ref.run_id, born(run)) for run in self.runs)

    @property
    def ended_by(self) -> Stop:
        """Why the look ended, also where that was not noted."""
        return self.stop or ("end" if self.whole else "limit")

    def reaches(self, since: float) -> bool:
        """Whether the look went back to a moment."""
        return self.ended_by == "end" or _is_older([entry.born for entry in self.entries], since)


def listed(
    provider: Provider,
    parent: Mapping[str, str],
    *,
    since: float,
    known: Container[str] = (),
    depth: int = 1,
    enough: Callable[[Sequence[RunSnapshot]], bool] = lambda runs: False,
    has_time: Callable[[], bool] = lambda: True,
) -> Flow[Listed]:
    """The runs of a parent back to a moment, over as many pages as that takes, :data:`MOST_PAGES` at the most.

    Args:
        provider: Whose list it is.
        parent: The parent, as :meth:`Pages.parent` gives it.
        since: Unix seconds. A page that ends in runs older than this ends the look: one such run does not.
        known: Ids that end it too, with a page that shows some of them and no other run of the parent.
        depth: Pages to read before they do.
        enough: Whether the runs so far will do.
        has_time: Whether there is time for a further page.

    Raises:
        AnswerError: A page could not be had.
        ConfigurationError: The list names no parents of this kind.
    """
    everyones = provider.listing is not None and provider.listing.filtered
    seen = _Seen()
    request = provider.pages.request(parent)
    while True:
        if seen.pages and _is_long(seen.pages, len(seen.entries)):
            return seen.end("limit")
        if seen.pages and not has_time():
            return seen.end("time")
        try:
            content: bytes = yield Send(request)
        except RunNotFound:
            if not seen.pages:
                raise
            # Behind the last page there is nothing.
            return seen.end("end")
        try:
            page = provider.pages.read(content, {} if everyones else parent)
        except MalformedAnswer:
            if not seen.pages:
                raise
            return seen.end("limit")
        if seen.repeats(page):
            # The list does not turn its pages.
            return seen.end("limit")
        looks = provider.pages.read(content, parent).observations if everyones else page.observations
        ours = [look.snapshot for look in looks]
        entries = seen.add(page, ours)
        following = provider.pages.next_request(parent, seen.pages, content)
        if following is None or _is_last(provider, len(entries) + len(page.unread)):
            return seen.end("end")
        request = following
        if _is_older([entry.born for entry in entries], since):
            return seen.end("since")
        met = seen.pages >= depth and any(entry.run_id in known for entry in entries)
        if enough(tuple(seen.ours.values())) or (met and all(run.ref.run_id in known for run in ours)):
            return seen.end("known")


@dataclass
class _Seen:
    """What the pages of a look have shown so far."""

    pages: int = 0
    ours: dict[str, RunSnapshot] = field(default_factory=dict[str, RunSnapshot])
    entries: dict[str, Entry] = field(default_factory=dict[str, Entry])
    unread: set[str] = field(default_factory=set[str])

    def repeats(self, page: Page) -> bool:
        """Whether a page shows nothing but what was on those before; an empty one does not."""
        names = {look.snapshot.ref.run_id for look in page.observations}
        return bool(names or page.unread) and names <= self.entries.keys() and self.unread.issuperset(page.unread)

    def add(self, page: Page, ours: Sequence[RunSnapshot]) -> list[Entry]:
        """Take in a page; its entries."""
        entries = [Entry(look.snapshot.ref.run_id, born(look.snapshot), self.pages) for look in page.observations]
        for entry in entries:
            # A run that moved on while the pages were turned stays where it was seen first.
            self.entries.setdefault(entry.run_id, entry)
        self.ours |= {run.ref.run_id: run for run in ours}
        self.unread.update(page.unread)
        self.pages += 1
        return entries

    def end(self, stop: Stop) -> Listed:
        """All of it, once the look is over."""
        entries = tuple(self.entries.values())
        births = [entry.born for entry in entries if entry.born is not None]
        newest, oldest = max(births, default=None), min(births, default=None)
        whole = stop in ("end", "since", "known")
        return Listed(tuple(self.ours.values()), whole, newest, oldest, frozenset(self.unread), entries, stop)


def _is_long(pages: int, runs: int) -> bool:
    return runs >= MOST_PAGES * PAGE or pages >= MOST_PAGES * PAGE // SHORTEST_PAGE


def _is_older(births: Sequence[float | None], since: float) -> bool:
    tail = [moment for moment in births if moment is not None][-TAIL:]
    return bool(tail) and all(moment < since for moment in tail)


def _is_last(provider: Provider, items: int) -> bool:
    listing = provider.listing
    if listing is not None and listing.follows:
        return False
    return listing is None or listing.page_size is None or items < listing.page_size


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


def seek(
    provider: Provider, search: Search, patience: WaitOptions, *, clock: Clock, told: set[str] | None = None
) -> Flow[RunSnapshot]:
    """Look until the wanted run is there; it as the list shows it, or ``timed_out`` when the deadline came first.

    Args:
        provider: Whose run it is.
        search: Which run.
        patience: The clocks of the whole wait; its cadence, at least ``search.interval``, is that of the looks.
        clock: Where the flow reads the time.
        told: As in :func:`look_for`.

    Raises:
        PollingError: The error budget is used up.
        FinalError: The list cannot be had: bad key, no such parent.
        ConfigurationError: The list names no parents of this kind.
    """
    began = clock()
    nobody = RunRef(provider=provider.name, run_id="")
    nothing = Observation(RunSnapshot(ref=nobody, state=None, phase=Phase.QUEUED), StateReading("", "", Phase.QUEUED))
    patience = replace(patience, cadence=patience.cadence.at_least(search.interval))
    watch = WaitState(provider, nobody, patience, began=began)
    told_at, told = began, set[str]() if told is None else told
    while True:
        try:
            found = yield from within(look_for(provider, search, told=told), watch.latest_look)
        except AnswerError as error:
            now = clock()
            watch.failed(error, now)
        else:
            if found is not None:
                return found
            now = clock()
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
    ended = WaitState(provider, nobody, WaitOptions.build(provider, now=0.0), began=0.0).timed_out(ended_by)
    reason = f"The wait ended ({ended_by}); the {search} never came."
    return ended.model_copy(update={"reason": reason, "url": None})


# --- each run that ends --------------------------------------------------------------------------------------------


@dataclass
class WatchState:
    """The memory of a watch over a parent: what is open, what is done with, and what was seen of the list.

    What was over before the first look is past; what is open then, or comes later, is followed to its end by its id.
    Which runs came later is told by their place in the list and by their ids: see :mod:`runops.core.waiting.window`.

    Args:
        open: When each followed run was born, by id; 0 where that is not told.
        done: The same of the runs that are done with; the newest of them.
        gap: Whether runs may have been missed since the last report.
        unread: What stands for each entry of the last look that named no run.
        window: What was seen of the list.
        horizon: How far back the next look goes, in unix seconds, in the memory of a watch of the first release;
            None once that has been taken over.
    """

    open: dict[str, float] = field(default_factory=dict[str, float])
    done: dict[str, float] = field(default_factory=dict[str, float])
    gap: bool = False
    unread: list[str] = field(default_factory=list[str])
    window: Window = field(default_factory=Window)
    horizon: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON primitives that :meth:`parse` reads."""
        return {
            "version": 2,
            "open": self.open,
            "done": self.done,
            "gap": self.gap,
            "unread": self.unread,
            "window": self.window.to_dict(),
            "horizon": self.horizon,
        }

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read what :meth:`to_dict` wrote, in this release or an earlier one; anything else is a watch that begins."""
        if not isinstance(value, Mapping):
            return cls()
        given: Mapping[str, Any] = value  # pyright: ignore[reportUnknownVariableType]
        return cls(
            open=dict(given.get("open") or {}),
            done=dict(given.get("done") or {}),
            gap=bool(given.get("gap")),
            unread=list(given.get("unread") or []),
            window=Window.parse(given.get("window")),
            horizon=given.get("horizon"),
        )

    @property
    def begun(self) -> bool:
        """Whether there was a first look."""
        return self.window.order is not None or self.horizon is not None

    def __contains__(self, run_id: object) -> bool:
        return run_id in self.open or run_id in self.done or run_id in self.window

    def look(
        self,
        provider: Provider,
        parent: Mapping[str, str],
        *,
        now: float,
        since: float | None = None,
        has_time: Callable[[], bool] = lambda: True,
    ) -> Flow[Listed]:
        """The runs that :meth:`take` needs to see.

        Args:
            provider: Whose list it is.
            parent: The parent, as :meth:`Pages.parent` gives it.
            now: The present, in unix seconds.
            since: A moment that the look goes back to at the least, in unix seconds.
            has_time: As :func:`listed` takes it.
        """
        back = [self.window.since(now), *(each for each in (since, self.horizon) if each is not None)]
        known: Container[str] = () if self.window.deep else self
        found = yield from listed(
            provider, parent, since=min(back), known=known, depth=self.window.depth, has_time=has_time
        )
        if found.stop == "limit" and not self.window.short:
            logger.warning(
                "The list of %s runs of %s can be read back over %d runs only: one that shows up below them, because "
                "its creation time is further back, is missed.",
                provider.name,
                named(parent),
                len(found.entries),
            )
        unread = found.unread.difference(self.unread)
        if unread:
            logger.warning(
                "The list of %s runs of %s has %s, which cannot be followed.",
                provider.name,
                named(parent),
                unreadable(len(unread)),
            )
        return replace(found, at=now)

    def take(self, found: Listed) -> list[str]:
        """Take in a look; the ids of the runs that are followed from now on, oldest first."""
        first = not self.begun
        entries = found.order
        seen = self.window.compare(entries)
        places = {entry.run_id: seen.place(index) for index, entry in enumerate(entries)}
        followed: list[str] = []
        for run in reversed(found.runs):
            run_id = run.ref.run_id
            if run_id in self:
                continue
            if run.phase is not None or (not first and self._is_new(run, places[run_id], found)):
                self.open[run_id] = born(run) or 0.0
                followed.append(run_id)
        new_unread = bool(found.unread.difference(self.unread))
        self.unread = sorted(found.unread)
        self._remember(found, seen, () if first else followed)
        if not first:
            self.gap = self.gap or new_unread or self._misses(found, seen)
        return followed

    def close(self, run_id: str) -> None:
        """A followed run has been dealt with."""
        self.done[run_id] = self.open.pop(run_id, 0.0)
        if self.window.order is None:
            # Runs that were given by their ids: no list tells which of them are done with.
            return
        if run_id not in self.window:
            self.window.remember([digest(run_id)])
        self._forget_names()

    def _is_new(self, run: RunSnapshot, place: Place, found: Listed) -> bool:
        """Whether a run that is over, and that nothing is known of, came after the look before."""
        moment = born(run)
        if self.horizon is not None:
            return moment is None or moment >= self._taken_over(found)
        if place is not Place.UNCLEAR:
            return place is Place.NEW
        if moment is not None and self.window.at is not None:
            return moment >= self.window.at - LATE_SECONDS
        if found.ended_by != "end":
            return True
        # All that was remembered has been deleted. What is left tells no time, and may have been reported.
        self.gap = True
        return False

    def _taken_over(self, found: Listed) -> float:
        horizon = self.horizon or 0.0
        return horizon if found.at is None else min(horizon, found.at - OVERLAP)

    def _misses(self, found: Listed, seen: Comparison) -> bool:
        """Whether runs may have come that no look has shown."""
        if found.ended_by not in ("limit", "time"):
            return False
        if seen.last < 0:
            return True
        if found.ended_by == "time":
            return False
        below = len(found.order) - 1 - seen.last
        pushed_out = below > 0 if seen.bottom else not seen.floor and below > max(len(found.order) // 10, UNMARKED)
        ahead = found.at is not None and found.oldest is not None and found.oldest > found.at
        return pushed_out or ahead or self.window.disordered

    def _remember(self, found: Listed, seen: Comparison, news: Collection[str]) -> None:
        self.window.take(
            found.order,
            seen,
            {run.ref.run_id for run in found.runs},
            news,
            now=found.at,
            end=found.ended_by == "end",
            goes_on=found.ended_by in ("known", "time"),
        )
        self.window.short = found.ended_by == "limit" or (self.window.short and found.ended_by in ("known", "time"))
        if self.horizon is not None:
            # A watch that has waited for a time to come has seen nothing until then.
            self.gap = self.gap or (found.at is not None and self.horizon > found.at)
            self.horizon = None
            self.window.remember(map(digest, self.done))
        self._forget_names()

    def _forget_names(self) -> None:
        self.done = dict(list(self.done.items())[-DONE_KEPT:])
