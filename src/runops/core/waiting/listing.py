"""The runs of a parent, from its list, back to a moment: which pages are read, and where that ends.

A list shows its newest runs first, page by page. It is read until one of these holds:

- the list is over, or a page shows nothing new (the service does not turn its pages);
- the last runs of a page are all older than the moment. One alone says little: it may bear a wrong time;
- a page shows runs that the caller knows already and no other run of the parent, after as many pages as the caller
  wants at the least;
- the caller has enough, or no time left, or :data:`MOST_PAGES` are read.

Why it ended (:data:`Stop`) tells the caller whether a run may have been out of reach.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from runops.core.declaration import Page, Provider
from runops.core.model.errors import MalformedAnswer, RunNotFound
from runops.core.model.run import RunSnapshot
from runops.core.waiting.steps import Flow, Send
from runops.core.waiting.window import Entry

MOST_PAGES = 10
"""Pages of :data:`PAGE` runs that are read at the most; where pages are shorter, as many runs."""
PAGE = 100
SHORTEST_PAGE = 20
"""Runs that a page counts for at the least, so that reading a list of tiny pages has an end."""
TAIL = 10
"""Runs at the end of a page that must be older than a moment before it counts as reached: one may have a wrong time."""


def born(run: RunSnapshot) -> float | None:
    """When a run was created or, where that is not told, started: unix seconds, or None."""
    moment = run.created_at or run.started_at
    return None if moment is None else moment.timestamp()


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
    so_far = _PagesRead()
    request = provider.pages.request(parent)
    while True:
        if so_far.pages and _is_long(so_far.pages, len(so_far.entries)):
            return so_far.end("limit")
        if so_far.pages and not has_time():
            return so_far.end("time")
        try:
            content: bytes = yield Send(request)
        except RunNotFound:
            if not so_far.pages:
                raise
            # Behind the last page there is nothing.
            return so_far.end("end")
        try:
            page = provider.pages.read(content, {} if everyones else parent)
        except MalformedAnswer:
            if not so_far.pages:
                raise
            return so_far.end("limit")
        if so_far.repeats(page):
            # The list does not turn its pages.
            return so_far.end("limit")
        observations = provider.pages.read(content, parent).observations if everyones else page.observations
        ours = [each.snapshot for each in observations]
        entries = so_far.add(page, ours)
        following = provider.pages.next_request(parent, so_far.pages, content)
        if following is None or _is_last(provider, len(entries) + len(page.unread)):
            return so_far.end("end")
        request = following
        if _is_older([entry.born for entry in entries], since):
            return so_far.end("since")
        met = so_far.pages >= depth and any(entry.run_id in known for entry in entries)
        if enough(tuple(so_far.ours.values())) or (met and all(run.ref.run_id in known for run in ours)):
            return so_far.end("known")


@dataclass
class _PagesRead:
    """What the pages of a look have shown so far."""

    pages: int = 0
    ours: dict[str, RunSnapshot] = field(default_factory=dict[str, RunSnapshot])
    entries: dict[str, Entry] = field(default_factory=dict[str, Entry])
    unread: set[str] = field(default_factory=set[str])

    def repeats(self, page: Page) -> bool:
        """Whether a page shows nothing but what was on those before; an empty one does not."""
        names = {each.snapshot.ref.run_id for each in page.observations}
        return bool(names or page.unread) and names <= self.entries.keys() and self.unread.issuperset(page.unread)

    def add(self, page: Page, ours: Sequence[RunSnapshot]) -> list[Entry]:
        """Take in a page; its entries."""
        entries = [Entry(each.snapshot.ref.run_id, born(each.snapshot), self.pages) for each in page.observations]
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
