"""When which wait is woken: one timer of the event loop for all of them."""

from __future__ import annotations

import asyncio
import contextvars
import heapq
from collections.abc import Callable

from runops.core.polling.dispatch import at_tick
from runops.core.polling.reads import Wait

AT_ONCE = 100
"""Waits that go on in one round of the loop; the rest take the next one, so that nothing else there stands still."""


class TimerHeap:
    """When to wake which wait: one timer of the loop for all of them.

    Args:
        wake: Given each wait that is due.
    """

    def __init__(self, wake: Callable[[Wait], None]) -> None:
        self._wake = wake
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.Context()
        self._heap: list[tuple[float, int, Wait]] = []
        self._turns = 0
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, wait: Wait, seconds: float, waits: int) -> None:
        """Wake a wait in some seconds, unless it is woken before. ``waits`` is how many there are."""
        self._turns += 1
        wait.turn = self._turns
        due = self._loop.time() + seconds
        heap = self._heap
        heapq.heappush(heap, (due, wait.turn, wait))
        if len(heap) > 2 * waits + AT_ONCE:
            # A wait has one entry that counts; the others would stay until they are due, maybe for days.
            heap[:] = [entry for entry in heap if entry[1] == entry[2].turn]
            heapq.heapify(heap)
        if self._timer is None or due < self._timer.when():
            self._set_timer(due)

    def close(self) -> None:
        """Wake nobody any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _set_timer(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = at_tick(self._loop, due, self._ring, self._context)

    def _ring(self) -> None:
        self._timer = None
        # One look at the clock: what falls due while the flows go on has a ring of its own.
        now = self._loop.time()
        heap = self._heap
        due: list[Wait] = []
        while heap and len(due) < AT_ONCE and (heap[0][0] <= now or heap[0][1] != heap[0][2].turn):
            _, turn, wait = heapq.heappop(heap)
            if turn == wait.turn:
                due.append(wait)
        if heap:
            self._set_timer(heap[0][0])
        for wait in due:
            self._wake(wait)
