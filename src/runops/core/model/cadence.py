"""When to look again, and until when. Pure arithmetic on seconds: nothing here sleeps or reads a clock."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from runops.core.model.codes import Code
from runops.core.model.errors import ConfigurationError

WITHIN_LIMIT = 0.98
"""The part of a declared limit that is used: the service's minute is not ours, and requests arrive unevenly."""


@dataclass(frozen=True, slots=True)
class Cadence:
    """How often to look at a run: young runs sooner than old ones.

    A delay grows with the age of the wait, so that it survives a restart without a memory of earlier looks:
    ``first + age * (factor - 1)`` is what "start at ``first``, multiply by ``factor``" amounts to.

    Args:
        first: Seconds between the first looks.
        factor: How much longer each delay is than the one before; 1 keeps it constant.
        ceiling: The longest delay in seconds, before jitter.
    """

    first: float
    factor: float
    ceiling: float

    def __post_init__(self) -> None:
        if not (0 < self.first <= self.ceiling and self.factor >= 1):
            raise ConfigurationError(
                f"A cadence needs 0 < first <= ceiling and factor >= 1, not first={self.first}, "
                f"factor={self.factor}, ceiling={self.ceiling}.",
                error_code=Code.BAD_DECLARATION,
            )

    def delay(self, age: float, *, jitter: float = 0.0) -> float:
        """Seconds until the next look.

        Args:
            age: Seconds since the run was submitted, or since the wait began.
            jitter: A number from 0 to 1 that lengthens the delay by up to a twentieth. :func:`spread` draws one.
        """
        base = min(self.ceiling, self.first + max(age, 0.0) * (self.factor - 1))
        return base * (1 + 0.05 * jitter)

    def at_least(self, interval: float | None, *, factor: float | None = None, ceiling: float | None = None) -> Cadence:
        """The same cadence, shaped by a user.

        Args:
            interval: The shortest delay in seconds; it also takes the place of ``first``.
            factor: Takes the place of ``factor``.
            ceiling: Takes the place of ``ceiling``.

        Raises:
            ConfigurationError: A number is not positive, or the factor is below 1.
        """
        first = self.first if interval is None else _positive("the interval", interval, " s")
        highest = max(self.ceiling, first) if ceiling is None else _positive("the longest interval", ceiling, " s")
        return replace(
            self, first=min(first, highest), factor=self.factor if factor is None else factor, ceiling=highest
        )


def spread() -> float:
    """A jitter for :meth:`Cadence.delay`, so that waits that began together do not stay together."""
    return random.random()


def backoff(attempt: int, *, first: float = 1.0, ceiling: float = 60.0) -> float:
    """Seconds to wait after the ``attempt``-th failure in a row (1 is the first)."""
    return min(ceiling, first * 2.0 ** min(attempt - 1, 16))


def _positive(name: str, value: float, unit: str = "") -> float:
    if not value > 0:
        raise ConfigurationError(f"{name} must be more than 0{unit}, not {value!r}.")
    return float(value)


class RateLimiter:
    """Spaces out the requests of one credential: evenly under a limit, and not at all while the provider asks so.

    Args:
        requests_per_minute: The most requests in a minute, or None for no limit of ours.

    Raises:
        ConfigurationError: The limit is not positive.
    """

    def __init__(self, requests_per_minute: float | None = None) -> None:
        self._spacing = (
            0.0 if requests_per_minute is None else 60.0 / _positive("requests_per_minute", requests_per_minute)
        )
        self._free_at = 0.0
        self._seen = 0.0

    def delay(self, now: float) -> float:
        """In how many seconds the next place comes."""
        if now < self._seen:
            # The clock was set back: a pause must not grow by that.
            self._free_at -= self._seen - now
        self._seen = now
        left = self._free_at - now
        return left if left > 0.0 else 0.0

    def reserve(self, now: float, spacing: float = 0.0, *, lateness: float = 0.0) -> float:
        """Take the next place, and say in how many seconds it comes.

        Args:
            now: Unix seconds.
            spacing: Seconds to the place after it, where that is more than the limit asks for.
            lateness: Seconds by which a place may be taken late before those after it move too.
        """
        delay = self.delay(now)
        self._free_at = max(self._free_at, now - lateness) + max(self._spacing, spacing)
        return delay

    def hold(self, until: float) -> None:
        """Let nothing pass before ``until``: the provider asked for a pause."""
        self._free_at = max(self._free_at, until)
