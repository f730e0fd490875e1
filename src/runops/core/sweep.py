"""One page of a list that answers many waits: which runs share a list, and when asking it pays. It sends nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

from runops.core.provider import Listing, Look, Provider, Request
from runops.core.run import RunRef

R = TypeVar("R")

FEWEST = 10
"""Runs that must share a list before it is asked instead of them."""
WORTH = 4
"""Runs that a page must answer on average; a page costs about as much as so many reads."""
REST = 60.0
"""Seconds for which a list that did not pay, or failed, is left alone."""


class Scope(Generic[R]):
    """The runs of one poller that one list shows, by id.

    Args:
        provider: Whose list it is.
        listing: The list.
        key: What :func:`scope_key` said; it names the parent that the list is asked for, if any.
    """

    def __init__(self, provider: Provider, listing: Listing, key: tuple[str, ...]) -> None:
        self.key = key
        self.members: dict[str, R] = {}
        self.wanting: dict[str, R] = {}
        """The runs that are due for a look and wait for the list; some may only be guessed to be on it."""
        self.asked = False
        self._provider = provider
        self._listing = listing
        self._parent: dict[str, str] = dict([key]) if len(key) == 2 else {}
        self._rests_until = 0.0

    def pays(self, now: float) -> bool:
        """Whether to ask the list rather than the runs one by one."""
        return now >= self._rests_until and len(self.members.keys() | self.wanting.keys()) >= FEWEST

    def request(self, page: int) -> Request:
        """The request for a page; the first is 0."""
        return self._provider.page_request(self._parent, page)

    def looks(self, content: bytes) -> list[Look]:
        """The runs on a page.

        Raises:
            MalformedAnswer: It is not the documented page.
        """
        return self._provider.page(content, self._parent)

    def goes_on(self, page: int, found: int, left: int, items: int) -> bool:
        """Whether the page after this one is worth asking for.

        Args:
            page: The page just read; the first is 0.
            found: How many runs of ours it showed.
            left: How many of ours have not been shown yet.
            items: How many runs it showed in all.
        """
        size = self._listing.page_size
        more = size is not None and self._listing.paging is not None and items >= size
        return more and left > 0 and (found > 0 or page == 0)

    def judge(self, pages: int, found: int, now: float) -> None:
        """Take in how much a sweep has answered."""
        if found < WORTH * pages:
            self.rest(now)

    def rest(self, now: float) -> None:
        """Leave the list alone for a while."""
        self._rests_until = now + REST

    def forget(self, run_id: str) -> None:
        """Let go of a run that nobody waits for any more."""
        self.members.pop(run_id, None)
        self.wanting.pop(run_id, None)

    def answers(self, looks: Iterable[Look]) -> list[tuple[R, Look]]:
        """The looks on a page that are of our runs and say all that there is to say."""
        found: list[tuple[R, Look]] = []
        for look in looks:
            run_id = look.snapshot.ref.run_id
            run = self.members.get(run_id) or self.wanting.get(run_id)
            # A word that is not documented is judged by the run's own answer, and so is an end told in short.
            if run is None or look.reading.meaning is None:
                continue
            if self._listing.complete or look.snapshot.outcome is None:
                found.append((run, look))
        return found


def scope_key(provider: Provider, ref: RunRef, look: Look | None) -> tuple[str, ...] | None:
    """Which list shows a run: a key that runs on one list share, or None while that is not known.

    Args:
        provider: The run's provider.
        ref: The run.
        look: The last look at it, which may name the parent.
    """
    listing = provider.listing
    if listing is None or listing.page_size is None:
        return None
    if listing.filtered:
        return ()
    (kind,) = listing.kinds
    parent = ref.parents.get(kind)
    if parent is None and look is not None and listing.parent_detail is not None:
        parent = look.snapshot.details.get(listing.parent_detail)
    return None if not isinstance(parent, str) or not parent else (kind, parent)
