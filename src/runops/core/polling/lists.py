"""Lists that answer many waits with one page: which runs share a list, and when reading it pays. It sends nothing.

How it works:

- A list shows the runs of a credential or of one parent (:func:`batch_key`). The parent may only be known after the
  first read of a run; until then the largest list is the best guess, for those who wait are often of one kind.
- The runs of one list are a :class:`ListBatch`. A run that is due is left to its batch where a page costs less than
  the reads that it saves; that is decided once, when the run is due (:meth:`Lists.take`).
- A batch reads the first page and, while pages are full and show runs of ours, the next ones. What a page says of a
  run is handed to all who wait for it, due or not. Runs that were due and stood on no page are read one by one.
- A list that answered few, or failed, is left alone for :data:`REST`.
- Most items of a page say what they said the last time. They are known by a digest and not read again.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Generic, Protocol, TypeVar, cast

from runops.core.declaration import Listing, Observation, Provider, Request
from runops.core.model.errors import MalformedAnswer
from runops.core.model.run import RunRef

R = TypeVar("R")

FEWEST = 10
"""Runs that must share a list before it is read instead of them."""
MOST_ITEMS = 10_000
"""Items of a page that are read; runs further down are read by themselves."""
WORTH = 4
"""Runs that a page must answer on average; a page costs about as much as so many reads."""
REST = 60.0
"""Seconds for which a list that did not pay, or failed, is left alone."""


class ListBatch(Generic[R]):
    """The runs of one poller that one list shows, by id.

    Args:
        provider: Whose list it is.
        listing: The list.
        key: From :func:`batch_key`; it names the parent whose list it is, if any.
    """

    def __init__(self, provider: Provider, listing: Listing, key: tuple[str, ...]) -> None:
        self.key = key
        self.members: dict[str, R] = {}
        self.wanting: dict[str, R] = {}
        """The runs that are due for a read and wait for the list; some may only be guessed to be on it."""
        self.is_queued = False
        """Whether its next page is in line or under way."""
        self.goes_on = False
        """Whether the page after the last one is worth reading."""
        self._provider = provider
        self._listing = listing
        self._rests_until = 0.0
        self._turns = listing.follows or (listing.page_size is not None and listing.paging is not None)
        self._next: Request | None = None
        self._pages = 0
        self._shown: set[str] = set()
        """The ids of all runs, ours or not, on the pages read so far."""
        self._found = 0
        self._known: dict[bytes, Observation | str] = {}
        """What the items said at the last reading of the list, by a digest; of a run that is not ours only the id."""
        self._read: dict[bytes, Observation | str] = {}

    @property
    def parent(self) -> dict[str, str]:
        """Whose list it is; empty where it is the credential's."""
        return dict([self.key]) if len(self.key) == 2 else {}

    def pays(self, run_id: str, now: float) -> bool:
        """Whether to read the list for a run and the members, rather than the runs one by one."""
        return now >= self._rests_until and len(self.members) + (run_id not in self.members) >= FEWEST

    def request(self) -> Request:
        """The request for the next page."""
        return self._next or self._provider.pages.request(self.parent)

    def read(self, content: bytes) -> list[tuple[str, Observation | None]]:
        """Whose items the next page shows, and what they say. It takes long where the page is large: have it done in a
        thread.

        Raises:
            MalformedAnswer: It is not the documented page.
        """
        parent = self.parent
        self._next = self._provider.pages.next_request(parent, self._pages + 1, content)
        return [self._observe(item, parent) for item in self._provider.pages.items(content)[:MOST_ITEMS]]

    def take(
        self, items: list[tuple[str, Observation | None]], wants_spend: Callable[[R], bool] = lambda _: False
    ) -> list[tuple[R, Observation]]:
        """The observations among those that are of our runs and say all that there is to say.

        Args:
            items: From :meth:`read`.
            wants_spend: Whether what a run spends bounds a wait for it.
        """
        found: list[tuple[R, Observation]] = []
        fresh = 0
        for run_id, observation in items:
            if run_id in self._shown:
                continue
            fresh += 1
            self._shown.add(run_id)
            run = self._ours(run_id)
            if run is not None and observation is not None and self._is_enough(observation, wants_spend(run)):
                self.wanting.pop(run_id, None)
                found.append((run, observation))
        self._pages += 1
        self._found += len(found)
        if items and not fresh:
            # The same page again: this list has no further pages, whatever the provider documents.
            self._turns = False
        is_full = self._next is not None and (self._listing.follows or len(items) >= (self._listing.page_size or 0))
        left = not self.members.keys() <= self._shown
        self.goes_on = self._turns and is_full and left and (bool(found) or self._pages == 1)
        return found

    def _observe(self, item: object, parent: dict[str, str]) -> tuple[str, Observation | None]:
        """Whose item it is, and what it says of a run of ours; an item that cannot be read is nobody's."""
        digest = blake2b(marshal.dumps(cast("Any", item)), digest_size=16).digest()
        known = self._known.get(digest)
        if known is None or (isinstance(known, str) and self._ours(known) is not None):
            try:
                observation = self._provider.pages.observe(item, parent)
            except MalformedAnswer:
                return "", None
            run_id = observation.snapshot.ref.run_id
            known = observation if self._ours(run_id) is not None else run_id
        self._read[digest] = known
        return (known, None) if isinstance(known, str) else (known.snapshot.ref.run_id, known)

    def _ours(self, run_id: str) -> R | None:
        return self.members.get(run_id) or self.wanting.get(run_id)

    def _is_enough(self, observation: Observation, wants_spend: bool) -> bool:
        spend = self._provider.spend
        if wants_spend and spend is not None and spend.of(observation.snapshot.details) is None:
            return False
        # A word that is not documented is judged by the run's own answer, and so is an end without its details.
        return observation.reading.known and (self._listing.complete or observation.snapshot.outcome is None)

    def judge(self, now: float) -> None:
        """Take in how much the pages have answered."""
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
        """Begin anew; the runs that are due and were not on any page."""
        self.is_queued = self.goes_on = False
        self._next = None
        self._pages = self._found = 0
        self._shown.clear()
        self._known, self._read = self._read, {}
        left_over, self.wanting = self.wanting, {}
        return left_over

    def forget(self, run_id: str) -> None:
        """Forget a run that nobody waits for any more."""
        self.members.pop(run_id, None)
        self.wanting.pop(run_id, None)


def batch_key(provider: Provider, ref: RunRef, observation: Observation | None) -> tuple[str, ...] | None:
    """Which list shows a run: a key that runs on one list share, or None while that is not known.

    Args:
        provider: The run's provider.
        ref: The run.
        observation: The last one of it, which may name the parent.
    """
    listing = provider.listing
    if listing is None or (listing.page_size is None and not listing.follows):
        return None
    if listing.filtered:
        return ()
    (kind,) = listing.parent_kinds
    parent = ref.parents.get(kind)
    if parent is None and observation is not None and listing.parent_detail is not None:
        parent = observation.snapshot.details.get(listing.parent_detail)
    return None if not isinstance(parent, str) or not parent else (kind, parent)


class Listable(Protocol):
    """A run, as far as lists know it."""

    ref: RunRef
    batch: ListBatch[Any] | None
    """The runs of the list that shows it, once that is known."""
    alone: bool
    """Whether only its own route will do for the read that is due: no list shows it, or reading one does not pay."""


L = TypeVar("L", bound=Listable)


class Lists(Generic[L]):
    """The batches of one poller.

    Args:
        provider: Whose runs they are.
        clock: Unix seconds.
    """

    def __init__(self, provider: Provider, clock: Callable[[], float]) -> None:
        self._provider = provider
        self._clock = clock
        self.batches: dict[tuple[str, ...], ListBatch[L]] = {}
        self.largest: ListBatch[L] | None = None

    def place(self, run: L, observation: Observation | None) -> None:
        """Note which list shows a run, as soon as that is known."""
        listing = self._provider.listing
        if listing is None or run.batch is not None:
            return
        key = batch_key(self._provider, run.ref, observation)
        if key is None:
            return
        batch = self.batches.get(key)
        if batch is None:
            batch = self.batches[key] = ListBatch(self._provider, listing, key)
        run.batch = batch
        batch.members[run.ref.run_id] = run
        if self.largest is None or len(batch.members) > len(self.largest.members):
            self.largest = batch

    def take(self, run: L) -> ListBatch[L] | None:
        """The batch that a run which is due is left to; None where it is to be read alone."""
        # Where its parent is not known yet, the largest batch is the best guess.
        batch: ListBatch[L] | None = run.batch or self.largest
        if batch is None or run.alone:
            run.alone = run.alone or self._provider.listing is None
            return None
        run_id = run.ref.run_id
        if not batch.is_queued and not batch.pays(run_id, self._clock()):
            run.alone = True
            return None
        batch.wanting[run_id] = run
        return batch

    def forget(self, run: L) -> None:
        """Forget a run that nobody waits for any more."""
        batch: ListBatch[L] | None = run.batch
        if batch is not None:
            batch.forget(run.ref.run_id)
            self.release(batch)

    def release(self, batch: ListBatch[L]) -> None:
        """Forget a list that shows none of our runs any more."""
        if batch.members or batch.is_queued:
            return
        self.batches.pop(batch.key, None)
        if self.largest is batch:
            self.largest = None
