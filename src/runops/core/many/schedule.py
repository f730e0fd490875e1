"""Which run of a set may be submitted next. It sends nothing, and knows no clock. Pure.

- No more than ``max_active`` are active: those that are waited for, and those that are being submitted.
- Where the provider refuses a second active run of one parent, each parent has one of ours at a time: the others wait
  here, without a request, and not by being refused.
- What waits for its turn behind a stranger's run is not active, and keeps its parent. Of those there are no more than
  20, or ``max_active`` where that is more: each of them looks at its list.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Hashable, Mapping

Parent = Hashable
MOST_WAITING = 20
ANY: Parent = None
"""The parent of all, where a provider runs any number beside each other."""


class Schedule:
    """See the module.

    Args:
        max_active: How many runs may be active at the same time.
        exclusive: Whether the provider refuses a second active run of one parent.
    """

    def __init__(self, max_active: int, *, exclusive: bool) -> None:
        self._max_active = max_active
        self._exclusive = exclusive
        self._planned: dict[Parent, list[int]] = {}
        """By parent, each list a heap."""
        self._heads: list[tuple[int, int, Parent]] = []
        """The first of each parent that has something planned; stale entries are left out when they come up."""
        self._pushes = 0
        self._parents: dict[int, Parent] = {}
        """Of all that holds a parent: what is active, or waits for its turn."""
        self._busy: Counter[Parent] = Counter()
        self._active: set[int] = set()
        self._count = 0

    def __len__(self) -> int:
        """How many are planned."""
        return self._count

    @property
    def active(self) -> int:
        """How many are active."""
        return len(self._active)

    @property
    def free(self) -> int:
        """How many more may be active."""
        return max(self._max_active - len(self._active), 0)

    def plan(self, index: int, parent: Mapping[str, str]) -> None:
        """Note what is to be submitted.

        Args:
            index: The row.
            parent: The call's parent.
        """
        key = self._key(parent)
        heapq.heappush(self._planned.setdefault(key, []), index)
        self._count += 1
        self._offer(key)

    def hold(self, index: int, parent: Mapping[str, str], *, active: bool = True) -> None:
        """Note what goes on from an earlier try: it is active, or waits for its turn.

        Args:
            index: The row.
            parent: The parent of its run.
            active: Whether it is active.
        """
        self._take(index, self._key(parent), active=active)

    def next(self) -> int | None:
        """The row that may be submitted now, which is active from here on; None while there is none."""
        waiting = len(self._parents) - len(self._active)
        if len(self._active) >= self._max_active or waiting >= max(self._max_active, MOST_WAITING):
            return None
        while self._heads:
            index, _, key = heapq.heappop(self._heads)
            planned = self._planned.get(key)
            if not planned or planned[0] != index or self._is_busy(key):
                continue
            heapq.heappop(planned)
            self._count -= 1
            self._take(index, key)
            self._offer(key)
            return index
        return None

    def waits(self, index: int) -> None:
        """Note that a row waits for its turn."""
        self._active.discard(index)

    def may_go_on(self, index: int) -> bool:
        """Whether a row whose turn has come may be submitted now; then it is active."""
        if index not in self._active and len(self._active) >= self._max_active:
            return False
        self._active.add(index)
        return True

    def ended(self, index: int) -> None:
        """Note that a row is over, or not begun with after all."""
        self._active.discard(index)
        if index in self._parents:
            key = self._parents.pop(index)
            self._busy[key] -= 1
            self._offer(key)

    def _key(self, parent: Mapping[str, str]) -> Parent:
        return tuple(sorted(parent.items())) if self._exclusive and parent else ANY

    def _is_busy(self, key: Parent) -> bool:
        return key is not ANY and self._busy[key] > 0

    def _take(self, index: int, key: Parent, *, active: bool = True) -> None:
        self._parents[index] = key
        self._busy[key] += 1
        if active:
            self._active.add(index)

    def _offer(self, key: Parent) -> None:
        planned = self._planned.get(key)
        if planned:
            self._pushes += 1
            heapq.heappush(self._heads, (planned[0], self._pushes, key))
