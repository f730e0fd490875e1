"""How fast the requests of one poller may leave, and how many connections that takes. Pure: clocks are handed in.

How it works:

- Every wait plans a rate: one read per interval. Their sum is the planned rate, and requests leave at most
  :data:`CATCH_UP` times as fast, so that what a pause has piled up goes out as a slope and not as a herd.
- A declared limit caps that. Without one the service teaches it: a 429 halves the pace, at most once per
  :data:`RECOVERY`, and after as long without a 429 the pace rises again.
- HTTP/1.1 carries one request at a time on a connection. So the number of connections follows Little's law: the rate
  times the service's latency, and a little more (:data:`SPARE`).
- Latency is what the *service* took. What the event loop took to come to the answer, because its core was shared or a
  neighbour computed, is subtracted: a late loop has no use for more connections, and each of them makes it later.
  :class:`Lateness` knows how late the loop is from a timer that should have run already.
- An exchange that takes far longer than the others may hang. It counts as no connection at all, so that others need
  not wait for it (:class:`UnderWay`).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from itertools import takewhile

from runops.core.model.cadence import WITHIN_LIMIT as WITHIN_LIMIT

FEWEST_CONNECTIONS = 4
MOST_CONNECTIONS = 256
GROWTH = 8
"""At most one new connection may be on its way for so many that stand."""
SPARE = 1.15
"""How many more connections than rate x latency asks for: one is idle while the loop comes to its answer."""
CATCH_UP = 1.25
"""How much faster than planned reads may leave, to work off what a pause has piled up."""
ALWAYS_ALLOWED = 20.0
"""Requests a second that no plan stretches."""
SLOWEST = 0.2
"""Requests a second that are left after any number of 429."""
RECOVERY = 10.0
"""Seconds between two halvings after 429, and without a 429 until the pace rises again."""
SLOW_RISE = 1.1
"""By how much it rises where it may meet the limit again; below that it doubles."""
DEEPEST = 16
"""Where nothing is answered any more, halving ends at this part of the pace at which it began."""
OVERDUE = 1.0
"""Seconds after which an exchange no longer counts as one of the connections that the rate asks for: it may hang."""
FAR_OVER = 4
"""Times the latency after which an exchange of a slow service may hang."""
WINDOW_ANSWERS, WINDOW_SECONDS = 20, 0.5
"""What a window of the latency has at the least."""
SHORTEST_BEAT, LONGEST_BEAT = 0.001, 0.05
BEATS = 16
"""Beats of the metronome in one latency: how finely the loop's lateness is known."""
ON_TIME = 0.0015
"""Seconds by which a timer comes late on a loop that is not: the system waits in whole milliseconds."""


class Pace:
    """The planned rate, and what limits and refusals make of it.

    Args:
        clock: Seconds of any monotonic clock.
        requests_per_minute: The declared limit, or None.
    """

    def __init__(self, clock: Callable[[], float], requests_per_minute: float | None = None) -> None:
        self.latency = Latency()
        self._clock = clock
        self._limit = math.inf if requests_per_minute is None else requests_per_minute / 60 * WITHIN_LIMIT
        self._rate = 0.0
        self._leaving: list[tuple[float, float]] = []
        self._slowed_to: float | None = None
        self._slowed_at = self._refused_at = self._rose_at = 0.0
        self._may_hold = 0.0
        self._answered = False

    # --- what is planned ---

    def plan(self, rate: float, *, instead_of: float = 0.0) -> None:
        """Add the reads a second of one wait to the plan, or change them."""
        self._rate += rate - instead_of

    def leave(self, rate: float) -> None:
        """Take a wait out of the plan, though not before its next read would have been due.

        Those that are left keep the pace that they were planned with: where many runs end at once, a pace that sinks
        with each of them would make the last ones late.
        """
        heapq.heappush(self._leaving, (self._clock() + 1.0 / rate, rate))

    def clear(self) -> None:
        """Nobody waits any more."""
        self._rate = 0.0
        self._leaving.clear()

    @property
    def planned(self) -> float:
        """Reads a second that all waits plan."""
        leaving = self._leaving
        while leaving and leaving[0][0] <= self._clock():
            self._rate -= heapq.heappop(leaving)[1]
        return self._rate

    # --- what may leave ---

    @property
    def allowed(self) -> float:
        """Requests a second that may leave: the plan and a little more, or fewer."""
        pace = min(max(self.planned * CATCH_UP, ALWAYS_ALLOWED), self._limit)
        return pace if self._slowed_to is None else self._recovering(pace)

    @property
    def is_stretched(self) -> bool:
        """Whether a declared limit or refusals make reads later than planned."""
        if self._slowed_to is not None:
            return True
        return self._limit != math.inf and self._limit < max(self._rate * CATCH_UP, ALWAYS_ALLOWED)

    def _recovering(self, pace: float) -> float:
        """The pace under refusals, which rises after some time without one."""
        now, slowed_to = self._clock(), self._slowed_to
        assert slowed_to is not None
        if now - max(self._slowed_at, self._refused_at, self._rose_at) >= RECOVERY:
            slowed_to *= SLOW_RISE if slowed_to >= self._may_hold else 2.0
            self._slowed_to, self._rose_at = slowed_to, now
        if slowed_to >= pace:
            self._slowed_to = None
        return min(pace, slowed_to)

    def answered(self) -> None:
        """Take in that a request was answered by anything but a 429."""
        self._answered = True

    def refused(self) -> None:
        """Halve the pace after a 429, once for all requests that were under way when it came."""
        now = self._clock()
        self._refused_at = now
        if self._slowed_to is not None and now - self._slowed_at < RECOVERY:
            return
        pace = min(self.allowed, self.planned)
        if self._slowed_to is None or self._answered:
            # Half of a pace at which some were answered; where none was, the limit is not what it has met.
            self._may_hold = pace / 2
        self._slowed_to = max(pace / 2, self._may_hold / (DEEPEST / 2), SLOWEST)
        self._slowed_at, self._answered = now, False

    # --- what that takes ---

    @property
    def connections(self) -> int:
        """How many connections rate x latency asks for."""
        needed = math.ceil(min(self.planned, self.allowed) * self.latency.seconds * SPARE)
        return min(max(needed, FEWEST_CONNECTIONS), MOST_CONNECTIONS)

    def may_open(self, standing: int, connecting: int, overdue: int) -> bool:
        """Whether one more connection is needed and may be opened now.

        Args:
            standing: Connections, those being opened included.
            connecting: Those being opened.
            overdue: Those whose exchange may hang.
        """
        # Few at a time: while connections are made everything takes longer, which must not ask for even more of them.
        at_once = standing < FEWEST_CONNECTIONS or GROWTH * (connecting - overdue) <= standing
        return at_once and standing < min(self.connections + overdue, MOST_CONNECTIONS)


class Latency:
    """How long the service takes for an answer, without what the loop was late by.

    It is the mean of a window of answers; of the last two windows the lower one, since there is much that makes answers
    come late for a moment, and nothing that makes them come early.
    """

    __slots__ = ("_began", "_count", "_mean_before", "_quickest", "_quickest_before", "_sum", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0
        """0 until the second window is over."""
        self._mean_before = 0.0
        self._quickest_before = math.inf
        self._begin(-math.inf)

    def _begin(self, now: float) -> None:
        self._began = now
        self._count, self._sum, self._quickest = 0, 0.0, math.inf

    def add(self, took: float, late: float, now: float) -> None:
        """Take in an answer.

        Args:
            took: Seconds from the request's last byte to the whole answer.
            late: For how many of them, at the most, the answer may have waited for the loop.
            now: When it came.
        """
        if took < self._quickest:
            self._quickest = took
        self._count += 1
        # The quickest answer waited least. So this can be too little, by what the loop is late, and never too much.
        self._sum += max(took - late, min(self._quickest, self._quickest_before)) if late else took
        if self._count >= WINDOW_ANSWERS and now - self._began >= WINDOW_SECONDS:
            mean = self._sum / self._count
            self.seconds = min(mean, self._mean_before)
            self._mean_before, self._quickest_before = mean, self._quickest
            self._begin(now)


class Lateness:
    """How late the loop is: a timer that beats while exchanges are under way, and by how much it comes late.

    An event loop hands out what has arrived before it runs its timers. So where an answer arrives and an earlier beat
    is still to come, nobody was there to take the answer since that beat was due: it may have waited that long.
    """

    __slots__ = ("_came", "_due", "_late", "due", "interval")

    def __init__(self) -> None:
        self.due = math.inf
        """When the next beat should come; infinite where none is set."""
        self.interval = SHORTEST_BEAT
        self._due = self._came = -math.inf
        self._late = 0.0

    def set_beat(self, now: float, latency: float) -> float:
        """Note that the next beat is set, and return when it is due."""
        self.interval = min(max(latency / BEATS, SHORTEST_BEAT), LONGEST_BEAT)
        self.due = now + self.interval
        return self.due

    def beat(self, now: float) -> None:
        """Note that a beat came."""
        self._due, self._came, self.due = self.due, now, math.inf
        self._late += (max(now - self._due - ON_TIME, 0.0) - self._late) / BEATS

    def at(self, moment: float) -> float:
        """For how many seconds before a moment, of late, the loop may not have looked at what arrived."""
        due = self._due if self._came >= moment > self._due else self.due
        late = max(moment - due, 0.0)
        # On a loop that is late at times, it may have been so just after one beat and until just before the next.
        return late if self._late < ON_TIME / 10 else late + self.interval


class UnderWay:
    """The exchanges that are under way, oldest first."""

    __slots__ = ("_began", "_number", "answered_at")

    def __init__(self) -> None:
        self.answered_at = -math.inf
        """When the last answer came."""
        self._began: dict[int, float] = {}
        self._number = 0

    def __bool__(self) -> bool:
        return bool(self._began)

    def begin(self, now: float) -> int:
        """Note an exchange; its number."""
        self._number += 1
        self._began[self._number] = now
        return self._number

    def end(self, number: int) -> None:
        """Forget an exchange."""
        del self._began[number]

    def overdue(self, latency: float) -> int:
        """How many exchanges may hang, since much younger ones were answered: others must not wait for them."""
        before = self.answered_at - max(OVERDUE, FAR_OVER * latency)
        return sum(1 for _ in takewhile(lambda began: began <= before, self._began.values()))
