"""A store in memory that keeps a line of places as the script in Redis does, by a clock that is handed in."""

from __future__ import annotations

import math
from collections.abc import Callable

from runops.core.model.shared_rate import Question, Reply
from runops.core.transport.rate_store import MICROSECONDS, UNUSED_SECONDS, arguments_of, reply_of

FIELDS = ("free", "born", "woke", "seen", "settle", "paused")


class Line:
    """One line of places. ``clock`` is the store's own."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.is_up = True
        self.line: dict[str, int] = {}
        self.expires = math.inf
        self.questions = 0

    def flush(self) -> None:
        self.line = {}

    def __call__(self, key: str, question: Question) -> Reply:
        """As the script in Redis."""
        if not self.is_up:
            raise ConnectionError("down")
        self.questions += 1
        now = round(self.clock() * MICROSECONDS)
        if now > self.expires:
            self.flush()
        return reply_of(self.take(now, *arguments_of(question)))

    def take(
        self,
        now: int,
        places: int,
        apart: int,
        pause: int,
        lost: int,
        known: int,
        ahead: int,
        settling: int,
        stale: int,
        unused: int,
    ) -> list[int]:
        free = born = woke = now
        settle = paused = 0
        if self.line:
            free, born, woke, seen, settle, paused = (self.line[name] for name in FIELDS)
            back = seen - now
            if back > 0:
                free, woke, settle, paused = free - back, woke - back, settle - back, paused - back
            elif now - max(seen, settle) > stale:
                woke = now
        if lost > 0 and woke > now - lost:
            settle = max(settle, woke + settling)
        if known > 0 and known != born:
            free = max(free, born + ahead)
        if pause > 0:
            paused = max(paused, now + pause)
        first = max(free, now, paused, settle)
        if settle > now:
            places = 0
        free = first + places * apart
        self.line = dict(zip(FIELDS, (free, born, woke, now, settle, paused), strict=True))
        self.expires = free + UNUSED_SECONDS * MICROSECONDS
        return [places, first - now, free - now, max(settle - now, 0), max(paused - now, 0), born]
