"""A limit that several processes keep together: what one of them asks a common store for, and what it does without.

Pure: clocks and chances are handed in, and nothing here talks to a store. How it works:

- The store keeps one line of moments, a place each, evenly spaced under the limit, and gives every place away once. A
  process asks for a few at a time (:data:`AHEAD`), and uses each at its moment or never: what it does not use, or dies
  with, is lost, so that nothing has to be given back. Places go to whoever asks next, and nobody may ask again before
  the places that it has are nearly used: so each process that wants to send gets its turn in every round.
- A pause that the service asked one process for is told to the store with the next question, and holds for all.
- Without the store a process keeps to its share, the limit divided by the number of processes. It begins with that when
  the places that the store had given away are over, at a moment of its own within the first spacing of its share: the
  processes of before, all together, sent no more.
- A store that is back may have forgotten what it gave away, and others may not know yet that it is back. So it says for
  how long all of them keep to their shares, and until when its line begins: the same moment for all.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from runops.core.model.cadence import WITHIN_LIMIT, RateLimiter

AHEAD = 0.25
"""Seconds of the whole limit that one process may hold places for."""
LATE = 0.5
"""Seconds after its moment for which a place may still be used."""
ANSWER_SECONDS = 2.0
"""Seconds after which a question to the store counts as lost."""
FIRST_ANSWER_SECONDS = 10.0
"""The same for the first question of a process, which loads what it takes to ask, maybe beside many others."""
RETRY_SECONDS = 5.0
"""Seconds between two questions to a store that is lost."""
RETRY_SPREAD = 0.2
"""The part by which they are longer at random, so that processes do not ask all at once."""
SETTLE_SECONDS = RETRY_SECONDS * (1 + RETRY_SPREAD) + ANSWER_SECONDS
"""Seconds after which every process that wants to send knows that the store is back."""
REMEMBERED = 60.0
"""Seconds for which places that were given away may still lie ahead, as far as a process knows."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a process asks the store.

    Args:
        at: When it asks, by its own clock.
        places: How many places it wants; 0 for none.
        spacing: Seconds between two places.
        pause: Seconds from now that the service asked for; 0 for none.
        lost: Seconds for which the process has gone without the store; 0 where it has not.
        born: When the line began that it knows; 0 for none.
        ahead: Seconds for which places were given away ahead when it last heard of it.
    """

    at: float
    places: int
    spacing: float
    pause: float = 0.0
    lost: float = 0.0
    born: int = 0
    ahead: float = 0.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What the store says. All seconds are from the moment at which it does.

    Args:
        places: How many places were given.
        wait: Seconds to the first of them.
        ahead: Seconds for which places are given away now.
        settle: Seconds for which everybody is to keep to the own share; 0 for not at all.
        pause: Seconds for which the service wants no requests.
        born: When the line began, by the store's clock.
    """

    places: int
    wait: float
    ahead: float
    settle: float
    pause: float
    born: int


class SharedRate(RateLimiter):
    """The places of one process under a limit that others share. A :class:`RateLimiter` that asks a store.

    Args:
        requests_per_minute: The limit of all processes together.
        processes: How many there are, for what a process may do alone.
        chance: Gives numbers from 0 to 1.

    Raises:
        ConfigurationError: The limit is not positive.
    """

    def __init__(
        self, requests_per_minute: float, processes: int = 1, *, chance: Callable[[], float] = random.random
    ) -> None:
        super().__init__(requests_per_minute * WITHIN_LIMIT / processes)
        self._chance = chance
        self._apart, self._apart_alone = self._spacing / processes, self._spacing
        self._spacing = 0.0
        self._places: deque[float] = deque()
        self._owed = 0
        self._paused_until = 0.0
        self._untold = False
        """Whether the store does not know of that pause yet."""
        self._lost_since: float | None = None
        """Since when it has heard nothing of the store; it may be alone for longer, while the store settles."""
        self._retry_at = self._sure_until = 0.0
        """When the store is asked again, while it is lost, and until when the others count on this process's share."""
        self._pending: Question | None = None
        self._known: Reply | None = None
        self._known_at = -math.inf

    # --- what may leave ---

    @property
    def is_alone(self) -> bool:
        """Whether the process keeps to its own share."""
        return self._spacing > 0

    def knows_place(self, now: float) -> bool:
        """Whether it is known when the next request may leave; otherwise the store has to be asked first."""
        if self.is_alone:
            return now < self._retry_at or self._is_sure(now)
        return self._next_place(now) is not None

    def ask_in(self, now: float) -> float:
        """In how many seconds to ask again before the next place, which may not hold then; 0 for not at all."""
        return 0.0 if not self.is_alone or self._is_sure(now) else max(self._retry_at - now, 0.0)

    def _is_sure(self, now: float) -> bool:
        """Whether the others still count on this process's share when its next place comes."""
        return max(now, self._free_at) < self._sure_until

    def delay(self, now: float) -> float:
        """In how many seconds the next place comes, as far as it is known."""
        self._notice_clock(now)
        delay = super().delay(now)
        place = self._next_place(now)
        return delay if place is None else max(delay, place - now)

    def reserve(self, now: float, spacing: float = 0.0, *, lateness: float = 0.0) -> float:
        """As that of the base. A request that leaves without a place is paid for with the next ones."""
        delay = super().reserve(now, spacing, lateness=lateness)
        if self._places:
            self._places.popleft()
        elif not self.is_alone:
            self._owed += 1
        return delay

    def hold(self, until: float) -> None:
        """Let nothing pass before ``until``, here and, once the store has been told, anywhere."""
        super().hold(until)
        if until > self._paused_until:
            self._paused_until, self._untold = until, True

    def _next_place(self, now: float) -> float | None:
        """The moment of the first place that can still be used."""
        earliest = max(now, self._free_at) - LATE
        while self._places and self._places[0] < earliest:
            self._places.popleft()
        return self._places[0] if self._places else None

    def _notice_clock(self, now: float) -> None:
        back = self._seen - now
        if back <= 0:
            return
        # The clock was set back: as with a pause of the base, nothing must grow by that.
        self._places = deque(place - back for place in self._places)
        self._paused_until -= back
        self._retry_at -= back
        self._sure_until -= back
        self._known_at -= back
        if self._lost_since is not None:
            self._lost_since -= back

    # --- what the store is asked ---

    def question(self, now: float, wanted: int) -> Question | None:
        """What to ask the store now, if anything; :meth:`replied` or :meth:`lost` is due then.

        Args:
            now: Unix seconds.
            wanted: How many requests there are to send.
        """
        self._notice_clock(now)
        if self._pending is not None or (self.is_alone and now < self._retry_at):
            return None
        most = max(1, int(AHEAD / self._apart))
        places = 0 if self._has_enough(now, wanted) else min(wanted, most) + self._owed
        if not places and not self._untold:
            return None
        lost_since = now if self._lost_since is None else self._lost_since
        self._pending = Question(
            now,
            places,
            self._apart,
            pause=max(self._paused_until - now, 0.0),
            lost=max(now - lost_since, 0.0),
            born=0 if self._known is None else self._known.born,
            ahead=self._ahead(now),
        )
        return self._pending

    def _has_enough(self, now: float, wanted: int) -> bool:
        """Whether there is no need for more places now."""
        if self._next_place(now) is None:
            return not wanted
        return len(self._places) >= wanted or self._places[-1] > now + AHEAD

    def _ahead(self, now: float) -> float:
        """Seconds for which places may be given away ahead, as far as this process knows."""
        return self._known.ahead if self._known is not None and now - self._known_at <= REMEMBERED else 0.0

    @property
    def is_asking(self) -> bool:
        """Whether a question is under way."""
        return self._pending is not None

    def is_overdue(self, now: float) -> bool:
        """Whether the question that is under way has had no answer for so long that it counts as lost."""
        return self._pending is not None and not 0 <= now - self._pending.at < self.answer_seconds

    @property
    def answer_seconds(self) -> float:
        """Seconds after which a question counts as lost."""
        return FIRST_ANSWER_SECONDS if self._known is None and not self.is_alone else ANSWER_SECONDS

    def replied(self, question: Question, reply: Reply, now: float) -> bool:
        """Take in what the store has said; whether it is news that the store is there again."""
        if question is not self._pending:
            # It came too late to rely on its moments.
            return False
        self._pending = self._lost_since = None
        self._known, self._known_at = reply, now
        if self._paused_until <= question.at + question.pause:
            self._untold = False
        if reply.pause > 0:
            super().hold(now + reply.pause)
            self._paused_until = max(self._paused_until, now + reply.pause)
        if reply.settle > 0:
            self._keep_to_share(now)
            self._retry_at = self._sure_until = now + reply.settle
            return False
        is_back = self.is_alone
        if is_back:
            self._spacing = 0.0
            self._free_at = max(self._paused_until, min(self._free_at, now))
        paid = min(self._owed, max(reply.places - 1, 0))
        self._owed -= paid
        first = now + reply.wait
        self._places.extend(first + number * question.spacing for number in range(paid, reply.places))
        return is_back

    def lost(self, question: Question | None, now: float) -> bool:
        """Take in that the store cannot be used; whether that is news.

        Args:
            question: What met with it; None for the one that is under way.
            now: Unix seconds.
        """
        if self._pending is None or question not in (None, self._pending):
            return False
        self._pending = None
        self._retry_at = now + RETRY_SECONDS * (1 + RETRY_SPREAD * self._chance())
        # The next question may go unanswered for as long.
        self._sure_until = self._retry_at + ANSWER_SECONDS
        is_news = not self.is_alone
        if self._lost_since is None:
            self._lost_since = now
        self._keep_to_share(now)
        return is_news

    def _keep_to_share(self, now: float) -> None:
        """Go on alone, once the places that all processes were given are over."""
        if self.is_alone:
            return
        over = max([now + self._ahead(now), *self._places])
        self._spacing = self._apart_alone
        self._places.clear()
        self._owed = 0
        self._free_at = max(self._free_at, over + self._apart_alone * self._chance())

    def forget_places(self) -> None:
        """In a forked process: what was given to the other one is not ours."""
        self._places.clear()
        self._pending, self._owed = None, 0
