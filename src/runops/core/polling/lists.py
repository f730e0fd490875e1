"""One page of a list that answers many waits: which runs share a list, and when asking it pays. It sends nothing."""

from __future__ import annotations

import marshal
from hashlib import blake2b
from typing import Any, Generic, TypeVar, cast

from runops.core.declaration import Listing, Observation, Provider, Request
from runops.core.model.errors import MalformedAnswer
from runops.core.model.run import RunRef

R = TypeVar("R")

FEWEST = 10
"""Runs that must share a list before it is asked instead of them."""
MOST_ITEMS = 10_000
"""Items of a page that are looked at; runs further down are asked for by themselves."""
WORTH = 4
"""Runs that a page must answer on average; a page costs about as much as so many reads."""
REST = 60.0
"""Seconds for which a list that did not pay, or failed, is left alone."""


class ListBatch(Generic[R]):
    """The runs of one poller that one list shows, by id.

    Args:
        provider: Whose list it is.
        listing: The list.
        key: What :func:`batch_key` said; it names the parent that the list is asked for, if any.
    """

    def __init__(self, provider: Provider, listing: Listing, key: tuple[str, ...]) -> None:
        self.key = key
        self.members: dict[str, R] = {}
        self.wanting: dict[str, R] = {}
        """The runs that are due for a look and wait for the list; some may only be guessed to be on it."""
        self.asked = False
        """Whether a sweep is in line or under way."""
        self.goes_on = False
        """Whether the page after the last one is worth asking for."""
        self._provider = provider
        self._listing = listing
        self._parent: dict[str, str] = dict([key]) if len(key) == 2 else {}
        self._rests_until = 0.0
        self._turns = listing.follows or (listing.page_size is not None and listing.paging is not None)
        self._next: Request | None = None
        self._pages = 0
        self._shown: set[str] = set()
        """The ids of all runs, ours or not, on the pages of this sweep."""
        self._found = 0
        self._known: dict[bytes, Observation | str] = {}
        """What the items of this sweep and of the last one say, by a digest: most say the same again. Of a run that
        is not ours only the id is kept."""
        self._read: dict[bytes, Observation | str] = {}

    def pays(self, run_id: str, now: float) -> bool:
        """Whether to ask the list for a run and the members, rather than the runs one by one."""
        return now >= self._rests_until and len(self.members) + (run_id not in self.members) >= FEWEST

    def request(self) -> Request:
        """The request for the next page of the sweep."""
        return self._next or self._provider.pages.request(self._parent)

    def take_in(self, content: bytes) -> list[tuple[R, Observation]]:
        """The looks on the next page that are of our runs and say all that there is to say.

        Raises:
            MalformedAnswer: It is not the documented page.
        """
        return self.take(self.read(content))

    def read(self, content: bytes) -> list[tuple[str, Observation | None]]:
        """The first part of :meth:`take_in`, which takes long where the page is large: it may be done in a thread."""
        self._next = self._provider.pages.next_request(self._parent, self._pages + 1, content)
        return [self._look(item) for item in self._provider.pages.items(content)[:MOST_ITEMS]]

    def take(self, items: list[tuple[str, Observation | None]]) -> list[tuple[R, Observation]]:
        """The rest of :meth:`take_in`."""
        found: list[tuple[R, Observation]] = []
        fresh = 0
        for run_id, look in items:
            if run_id in self._shown:
                continue
            fresh += 1
            self._shown.add(run_id)
            run = self._ours(run_id)
            if run is not None and look is not None and self._is_enough(look):
                self.wanting.pop(run_id, None)
                found.append((run, look))
        self._pages += 1
        self._found += len(found)
        if items and not fresh:
            # The same page again: this list does not turn, and need not be asked to.
            self._turns = False
        is_full = self._next is not None and (self._listing.follows or len(items) >= (self._listing.page_size or 0))
        left = not self.members.keys() <= self._shown
        self.goes_on = self._turns and is_full and left and (bool(found) or self._pages == 1)
        return found

    def _look(self, item: object) -> tuple[str, Observation | None]:
        """Whose item it is, and what it says of a run of ours; an item that cannot be read is nobody's."""
        digest = blake2b(marshal.dumps(cast("Any", item)), digest_size=16).digest()
        known = self._known.get(digest)
        if known is None or (isinstance(known, str) and self._ours(known) is not None):
            try:
                look = self._provider.pages.observe(item, self._parent)
            except MalformedAnswer:
                return "", None
            run_id = look.snapshot.ref.run_id
            known = look if self._ours(run_id) is not None else run_id
        self._read[digest] = known
        return (known, None) if isinstance(known, str) else (known.snapshot.ref.run_id, known)

    def _ours(self, run_id: str) -> R | None:
        return self.members.get(run_id) or self.wanting.get(run_id)

    def _is_enough(self, look: Observation) -> bool:
        # A word that is not documented is judged by the run's own answer, and so is an end told in short.
        return look.reading.known and (self._listing.complete or look.snapshot.outcome is None)

    def judge(self, now: float) -> None:
        """Take in how much the sweep has answered."""
        if self._found < WORTH * self._pages:
            self._rest(now)

    def fail(self, now: float) -> None:
        """Take in that a page could not be had; one after the first may just not be there."""
        if self._pages == 0:
            self._rest(now)
        else:
            self.judge(now)

    def _rest(self, now: float) -> None:
        self._rests_until = now + REST

    def end(self) -> dict[str, R]:
        """End the sweep; the runs that are due and were not on any page."""
        self.asked = self.goes_on = False
        self._next = None
        self._pages = self._found = 0
        self._shown.clear()
        self._known, self._read = self._read, {}
        left_over, self.wanting = self.wanting, {}
        return left_over

    def forget(self, run_id: str) -> None:
        """Let go of a run that nobody waits for any more."""
        self.members.pop(run_id, None)
        self.wanting.pop(run_id, None)


def batch_key(provider: Provider, ref: RunRef, look: Observation | None) -> tuple[str, ...] | None:
    """Which list shows a run: a key that runs on one list share, or None while that is not known.

    Args:
        provider: The run's provider.
        ref: The run.
        look: The last look at it, which may name the parent.
    """
    listing = provider.listing
    if listing is None or (listing.page_size is None and not listing.follows):
        return None
    if listing.filtered:
        return ()
    (kind,) = listing.kinds
    parent = ref.parents.get(kind)
    if parent is None and look is not None and listing.parent_detail is not None:
        parent = look.snapshot.details.get(listing.parent_detail)
    return None if not isinstance(parent, str) or not parent else (kind, parent)
