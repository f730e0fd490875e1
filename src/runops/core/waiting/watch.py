"""The watch over a parent: which of its runs are new, which are followed to their end, and what may have been missed.

What was over before the first look is past. What is open then, or comes later, is followed to its end by its id. Each
look at the list goes as far back as a new run may stand (``look``), is compared with what the watch remembers of the
list (``window.py``), and changes that memory (``take``). A look that could not go far enough, an entry that names no
run, and a list that has lost its order are a gap: the next report says so. ``WatchState`` travels as JSON.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Container, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from runops.core.declaration import Provider
from runops.core.model.run import RunSnapshot
from runops.core.waiting.discovery import named
from runops.core.waiting.flows import unreadable
from runops.core.waiting.listing import Listed, born, listed
from runops.core.waiting.steps import Flow
from runops.core.waiting.window import LATE_SECONDS, Comparison, Place, Window, digest

logger = logging.getLogger("runops")

UNMARKED = 30
"""Entries in a row of which none may be remembered although they are old: of other parents' runs only some are."""
OVERLAP = 600.0
"""Seconds by which the watches of the first release went back behind the newest run that they knew."""
DONE_KEPT = 20
"""Runs that are done with and kept by their ids; of the others a watch remembers a digest."""


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
        comparison = self.window.compare(entries)
        places = {entry.run_id: comparison.place(index) for index, entry in enumerate(entries)}
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
        self._remember(found, comparison, () if first else followed)
        if not first:
            self.gap = self.gap or new_unread or self._misses(found, comparison)
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

    def _misses(self, found: Listed, comparison: Comparison) -> bool:
        """Whether runs may have come that no look has shown."""
        if found.ended_by not in ("limit", "time"):
            return False
        if comparison.last < 0:
            return True
        if found.ended_by == "time":
            return False
        below = len(found.order) - 1 - comparison.last
        pushed_out = (
            below > 0 if comparison.bottom else not comparison.floor and below > max(len(found.order) // 10, UNMARKED)
        )
        ahead = found.at is not None and found.oldest is not None and found.oldest > found.at
        return pushed_out or ahead or self.window.disordered

    def _remember(self, found: Listed, comparison: Comparison, new_ids: Collection[str]) -> None:
        self.window.take(
            found.order,
            comparison,
            {run.ref.run_id for run in found.runs},
            new_ids,
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
