"""Where a task keeps what it knows of its many runs: a header, and pages of a hundred runs each. It decides nothing.

From Airflow 3.3 on both stand in the task state store, and outlive the try. Below, and with ``durable=False``, they are
XComs of the try: they survive a deferral, and Airflow deletes them before the next try.

A change of one run writes the page that holds it, never all. Pages are numbered through: those of a set that begins
anew come behind those of the set before, so nothing is overwritten whose runs may still go on, and the one write of the
header that names the new pages is what begins it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runops.airflow._compat import StateStore, task_state_store
from runops.airflow.records import KEY, MANY, STOPPED_MANY_KEY, SUBMITTED_RUN, Span, page_key, spans_of

MOST_SPANS = 20
"""Sets of before that a header names at the most; the newest stay."""

Pages = Mapping[int, Any]
"""Pages by their number in the set, from 0: JSON primitives, as the ledger makes and reads them."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What an earlier process has left of a set.

    :param header: The header.
    :param pages: The pages.
    :param current: Whether it belongs to this generation: the tries between two clears by a person.
    """

    header: Mapping[str, Any]
    pages: Pages
    current: bool

    @property
    def given_up(self) -> bool:
        """Whether a person has killed the task while it ran."""
        return bool(self.header.get("given_up"))


class LedgerStore:
    """The header and the pages of one task instance.

    :param context: The task's context.
    :param durable: Whether the set is to outlive the try.
    :param everlasting: Take the set of an earlier generation for that of this one.
    """

    def __init__(self, context: Mapping[str, Any], *, durable: bool = True, everlasting: bool = False) -> None:
        self._ti = context["ti"]
        self._state = task_state_store(context) if durable else None
        self._store: StateStore = _Xcoms(self._ti) if self._state is None else self._state
        self._key = SUBMITTED_RUN if self._state is None else KEY
        self._everlasting = everlasting
        self._header: dict[str, Any] | None = None

    @property
    def outlives_the_try(self) -> bool:
        """Whether a retry finds it."""
        return self._state is not None

    def load(self) -> Kept | None:
        """The last set, of whatever generation; None where there is none."""
        header = self._read()
        if header is None:
            return None
        current = self._everlasting or header.get("generation") == self._ti.max_tries
        return Kept(header, self._pages(Span.of(header)), current)

    def earlier(self) -> list[Pages]:
        """The pages of the sets before the last one whose runs may still go on, oldest first."""
        return [self._pages(span) for span in spans_of(self.header())]

    def begin(self, pages: int, *, left: bool, **about: Any) -> None:
        """Begin a set: its pages come behind all that are there.

        :param pages: How many pages it has.
        :param left: Whether runs of the sets before may still go on, so that their pages stay.
        :param about: What is recorded of the whole.
        """
        old = self.header()
        spans = [*spans_of(old), Span.of(old)] if old else []
        kept = spans[-MOST_SPANS:] if left else []
        first = max((span.first + span.pages for span in spans), default=0)
        self._write(
            {
                "version": 1,
                "generation": self._ti.max_tries,
                "state": MANY,
                "first": first,
                "pages": pages,
                **({"before": [[span.first, span.pages] for span in kept]} if kept else {}),
                **about,
            }
        )
        for span in spans:
            if span not in kept:
                self._forget(span)

    def move(self, pages: Pages, count: int) -> None:
        """Write the set to pages of its own, since its list has another order now; the old ones go.

        :param pages: All pages that hold anything.
        :param count: How many there may be.
        """
        old = Span.of(self.header())
        first = old.first + old.pages
        for number, page in pages.items():
            self._store.set(page_key(self._key, first + number), page)
        self.update(first=first, pages=count)
        self._forget(old)

    def stopped(self) -> frozenset[str]:
        """The runs that ``runops orphans`` has cancelled since nobody waited for them."""
        found = self._state.get(STOPPED_MANY_KEY) if self._state is not None else None
        return frozenset(map(str, found.get("runs") or ())) if isinstance(found, Mapping) else frozenset()

    def save(self, pages: Pages) -> None:
        """Write some pages of the set."""
        first = Span.of(self.header()).first
        for number, page in pages.items():
            self._store.set(page_key(self._key, first + number), page)

    def update(self, **changes: Any) -> None:
        """Add to the header, if there is one."""
        header = self.header()
        if header:
            self._write({**header, **changes})

    def header(self) -> dict[str, Any]:
        """The header as it stands; empty where there is none."""
        return dict(self._header or self._read() or {})

    def _read(self) -> dict[str, Any] | None:
        found = self._store.get(self._key)
        if not isinstance(found, Mapping) or found.get("state") != MANY:
            return None
        self._header = dict(found)
        return self._header

    def _write(self, header: dict[str, Any]) -> None:
        self._store.set(self._key, header)
        self._header = header

    def _pages(self, span: Span) -> Pages:
        found = ((number, self._store.get(page_key(self._key, span.first + number))) for number in range(span.pages))
        return {number: page for number, page in found if page is not None}

    def _forget(self, span: Span) -> None:
        for number in range(span.first, span.first + span.pages):
            self._store.delete(page_key(self._key, number))


class _Xcoms:
    """The XComs of this try under the methods of a state store."""

    def __init__(self, ti: Any) -> None:
        self._ti = ti

    def get(self, key: str, default: Any = None) -> Any:
        """The value under a key."""
        found = self._ti.xcom_pull(task_ids=self._ti.task_id, key=key, map_indexes=self._ti.map_index)
        return default if found is None else found

    def set(self, key: str, value: Any) -> None:
        """Keep a value under a key."""
        self._ti.xcom_push(key=key, value=value)

    def delete(self, key: str) -> None:
        """Nothing: Airflow deletes what a try has left before the next one."""
