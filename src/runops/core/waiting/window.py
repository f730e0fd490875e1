"""The part of a list that a watch remembers, by order and ids: which runs are new, and what was out of sight.

A list is ordered by its provider: by creation, or by when runs were entered. The creation time of a run cannot say how
far back a watch has come, because it may be another machine's and hours off. The order can:

- what stands above a run that is remembered, and is not remembered itself, is new;
- what stands below the last one remembered (the floor) is older than the watch's memory, and so past;
- where the floor is out of sight, the memory does not say, and the run's own time has to.

A run whose creation time is behind is entered below others, down to :data:`LATE_SECONDS`. That far the memory goes, and
one look in :data:`DEEP_EVERY` reads; the looks between read until nothing new shows, and as deep as late runs were
found lately. Ids are kept as digests of six bytes, those of other parents' runs in part, so that the memory of a
watch has some hundred bytes on a quiet list and ten thousand at the most.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from hashlib import blake2b
from typing import Any, NamedTuple, Self, cast

LATE_SECONDS = 21_600.0
"""Seconds by which a creation time may be behind its run's place among others without the run being missed."""
FEWEST = 50
"""Entries at the top of a list that are remembered, however old they are."""
MOST = 1_200
"""Entries that are remembered at the most: somewhat more than a look reads."""
MOST_GONE = 2_000
GONE_SECONDS = 86_400.0
"""How long an entry that went out of sight is remembered: a lagging replica may show it again."""
DEEP_EVERY = 5
"""One look in so many reads as far back as late runs may be entered."""
DEEPEST = 3
"""Pages that the other looks read at the least where late runs were found so far down lately."""
DISPLACED = 20
"""Entries known before that must stand above a new one before it counts as entered late."""
ONE_IN = 4
"""Of the runs of other parents, one in so many is remembered: they only mark places in the order."""
_DIGITS = 8


class Entry(NamedTuple):
    """A run of any parent on a list."""

    run_id: str
    born: float | None
    """When it was created, in unix seconds by the clock of who created it; None where that is not known."""
    page: int = 0


class Place(Enum):
    """Where a run that is not remembered stands."""

    NEW = "above one that is remembered, or where nothing was"
    PAST = "below all that is remembered"
    UNCLEAR = "where the memory does not say"


def digest(run_id: str) -> str:
    """Eight characters that stand for an id."""
    return urlsafe_b64encode(blake2b(run_id.encode(), digest_size=6).digest()).decode()


@dataclass(frozen=True)
class Comparison:
    """A look at a list beside what is remembered of it.

    Args:
        digests: Of all entries, in their order.
        first: The place of the first entry that is remembered; behind the last one where none is.
        last: The place of the last one; -1 where none is.
        floor: Whether the last one remembered is in sight.
        bottom: Whether nothing stood below it.
    """

    digests: Sequence[str]
    first: int
    last: int
    floor: bool
    bottom: bool

    def place(self, index: int) -> Place:
        """Where an entry that is not remembered stands."""
        if self.bottom or index < self.last:
            return Place.NEW
        return Place.PAST if self.floor else Place.UNCLEAR


@dataclass
class Window:
    """The remembered part of a list.

    Args:
        order: Digests of its entries, from the top; None before the first look.
        bottom: Whether the list ends where the memory does.
        gone: Digests of entries that went out of sight, by the hour in which they did.
        depth: Pages that each look reads at least: as far down as late runs were found lately.
        looks: How many there were.
        at: The time of the last one, in unix seconds; None if unknown.
        late: When the last run was found that had been entered far below others, in unix seconds; None if never.
        short: Whether the last look could not go back as far as late runs may be entered.
    """

    order: list[str] | None = None
    bottom: bool = False
    gone: dict[str, str] = field(default_factory=dict[str, str])
    depth: int = 1
    looks: int = 0
    at: float | None = None
    late: float | None = None
    short: bool = False

    _known: frozenset[str] | None = field(default=None, init=False, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """JSON primitives that :meth:`parse` reads."""
        order = None if self.order is None else "".join(self.order)
        return {
            "order": order,
            "bottom": self.bottom,
            "gone": self.gone,
            "depth": self.depth,
            "looks": self.looks,
            "at": self.at,
            "late": self.late,
            "short": self.short,
        }

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read what :meth:`to_dict` wrote; anything else is a memory without a look."""
        if not isinstance(value, Mapping):
            return cls()
        given = cast("Mapping[str, Any]", value)
        order = given.get("order")
        return cls(
            order=_cut(order) if isinstance(order, str) else None,
            bottom=bool(given.get("bottom")),
            gone=dict(given.get("gone") or {}),
            depth=int(given.get("depth") or 1),
            looks=int(given.get("looks") or 0),
            at=given.get("at"),
            late=given.get("late"),
            short=bool(given.get("short")),
        )

    def __contains__(self, run_id: object) -> bool:
        if self._known is None:
            gone = (each for text in self.gone.values() for each in _cut(text))
            self._known = frozenset([*(self.order or ()), *gone])
        return isinstance(run_id, str) and digest(run_id) in self._known

    @property
    def deep(self) -> bool:
        """Whether the next look is to go as far back as late runs may be entered."""
        return self.order is None or self.looks % DEEP_EVERY == 0

    def since(self, now: float) -> float:
        """How far back a run may be entered that came after the last look, in unix seconds."""
        return min(now, now if self.at is None else self.at) - LATE_SECONDS

    @property
    def disordered(self) -> bool:
        """Whether runs have been entered far below others lately, so that more may follow."""
        return self.late is not None and self.at is not None and self.at - self.late < LATE_SECONDS

    def compare(self, entries: Sequence[Entry]) -> Comparison:
        """A look beside what is remembered."""
        order = self.order or []
        remembered = frozenset(order)
        digests = [digest(entry.run_id) for entry in entries]
        places = [index for index, each in enumerate(digests) if each in remembered]
        first, last = (places[0], places[-1]) if places else (len(digests), -1)
        return Comparison(digests, first, last, bool(order) and order[-1] in digests, self.bottom)

    def take(
        self,
        entries: Sequence[Entry],
        comparison: Comparison,
        ours: Collection[str],
        new_ids: Collection[str],
        *,
        now: float | None,
        end: bool,
        goes_on: bool,
    ) -> None:
        """Take in a look.

        Args:
            entries: What it showed, in order.
            comparison: The same beside what was remembered.
            ours: The ids of the watched parent's runs among them.
            new_ids: The ids of those that are new.
            now: The time of the look.
            end: Whether it came to the end of the list.
            goes_on: Whether what is remembered below it still holds: it ended where nothing was new.
        """
        late = [entry.page + 1 for entry in entries[comparison.first + 1 :] if entry.run_id in new_ids]
        learnt = min(max(late, default=1), DEEPEST)
        self.depth = max(learnt, self.depth // 2 if self.deep else self.depth)
        if any(entry.run_id in new_ids for entry in entries[comparison.first + DISPLACED :]):
            self.late = now
        old = self.order or []
        shown = frozenset(comparison.digests)
        below = _below(old, comparison.digests[comparison.last] if comparison.last >= 0 else None)
        size = self._size(entries, now)
        kept = [
            each
            for entry, each in zip(entries[:size], comparison.digests, strict=False)
            if entry.run_id in ours or _marks(each)
        ]
        whole = size == len(entries)
        tail = [each for each in old[below:] if each not in shown] if goes_on and whole else []
        lost = old if end else old[:below]
        self.order = [*kept, *tail][:MOST]
        self.bottom = whole and len(kept) + len(tail) <= MOST and (end or (goes_on and self.bottom))
        self.at = now if now is not None else self.at
        # Where what came was not met by what was known, the next look goes on to that.
        self.looks = 0 if goes_on and comparison.last < 0 else self.looks + 1
        self._known = None
        self.remember([each for each in lost if each not in shown])

    def remember(self, digests: Iterable[str]) -> None:
        """Keep entries that are out of sight, for a day and so many at the most."""
        now = self.at or 0.0
        fresh = dict.fromkeys(digests)
        elsewhere = {*(self.order or ()), *fresh}
        gone = {
            hour: "".join(each for each in _cut(text) if each not in elsewhere)
            for hour, text in self.gone.items()
            if int(hour) * 3600 > now - GONE_SECONDS
        }
        hour = str(int(now // 3600))
        gone[hour] = gone.pop(hour, "") + "".join(fresh)
        left = MOST_GONE * _DIGITS
        self.gone = {}
        for hour, text in reversed(gone.items()):
            if text and left > 0:
                self.gone = {hour: text[-left:], **self.gone}
                left -= len(text)
        self._known = None

    def _size(self, entries: Sequence[Entry], now: float | None) -> int:
        """How many entries of a look to remember: those that a late run may be entered among."""
        if now is None:
            return len(entries)
        recent = (
            index
            for index in range(len(entries), 0, -1)
            if (born := entries[index - 1].born) is None or born >= now - LATE_SECONDS
        )
        return min(max(FEWEST, next(recent, 0)), len(entries))


def _below(order: Sequence[str], last: str | None) -> int:
    """The place below the entry that a look showed last of those remembered."""
    return 0 if last is None else order.index(last) + 1


def _marks(each: str) -> bool:
    # By the digest itself, so that an entry is remembered at each look or at none.
    return ord(each[0]) % ONE_IN == 0


def _cut(text: str) -> list[str]:
    return [text[start : start + _DIGITS] for start in range(0, len(text), _DIGITS)]
