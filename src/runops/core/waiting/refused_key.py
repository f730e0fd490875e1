"""What a wait does about a key that the service refuses in its middle. Pure: it is only given answers and clocks.

A key may be rotated while a run goes on for hours. So a refusal after a good read of the same wait is no end yet:

- the key is read again where it was set, at once and then every ``REREAD_SECONDS``; another one is used at once;
- one that has not changed is not sent meanwhile. When ``auth_grace`` is over it is sent a last time, for a gateway may
  have refused it in passing; refused again, it ends the wait;
- another key that is refused too may not be known everywhere yet: it is sent again after each read that shows it.

Before any good read the key is read again once, in case it was changed a moment ago; unchanged, it ends the wait.
"""

from __future__ import annotations

import logging
from enum import Enum, auto

from runops.core.model.codes import Code, with_code
from runops.core.model.errors import AuthError
from runops.core.transport.keys import REREAD_SECONDS, KeyRead

logger = logging.getLogger("runops")

SHORTEST = 1.0
"""Seconds between two questions for the key at the least, whatever a driver says."""


class _Try(Enum):
    NO, YES, LAST = auto(), auto(), auto()


class RefusedKey:
    """The memory of one wait about the key that is refused.

    Args:
        subject: What waits, for the log.
        since: Since when it is refused, in unix seconds.
        grace: Seconds for which that may last; None where there was no good read yet.
    """

    __slots__ = ("_due", "_error", "_grace", "_reads", "_renewed", "_since", "_subject", "_try", "_warned")

    def __init__(self, subject: str, *, since: float, grace: float | None) -> None:
        self._subject = subject
        self._since = since
        self._grace = grace
        self._error: AuthError | None = None
        self._due = since
        self._reads = 0
        """Of the key that is refused now, since it is."""
        self._renewed = False
        self._try = _Try.NO
        self._warned = False

    @property
    def holds(self) -> bool:
        """Whether nothing is sent until the key was read again."""
        return self._try is _Try.NO

    @property
    def mark(self) -> str:
        """That of the key that was refused last."""
        return "" if self._error is None else self._error.key_mark

    def refused(self, error: AuthError, now: float) -> None:
        """Take in a refusal.

        Raises:
            AuthError: It is the end: the grace is over.
        """
        is_another = self._error is None or self._error.key_mark != error.key_mark
        if self._try is _Try.LAST and not is_another:
            raise self._ended(error, now)
        if is_another:
            self._renewed = self._error is not None
            self._reads, self._due = 0, now
        # Kept for long, and by many waits at once: not with the frames that its traceback holds.
        self._error = error.with_traceback(None)
        self._try = _Try.NO

    def was_read(self, reply: KeyRead, now: float) -> bool:
        """Take in what the key is now; whether to send it.

        Raises:
            AuthError: It is the end: nothing was ever read with this key.
        """
        assert self._error is not None
        self._reads += 1
        if reply.changed:
            self._try = _Try.YES
        elif self._grace is None:
            raise self._error
        elif self._since + self._grace <= now:
            self._try = _Try.LAST
        else:
            self._warn(reply, self._grace)
            self._due = min(now + max(reply.again_in, SHORTEST), self._since + self._grace)
            # The first read comes with the refusal itself.
            self._try = _Try.YES if self._renewed and self._reads > 1 else _Try.NO
        return not self.holds

    def pause(self, now: float) -> float:
        """Seconds until the key is to be read again."""
        return max(self._due - now, 0.0)

    def works(self) -> None:
        """Note that the service has given a good answer."""
        if self._error is not None:
            logger.info("%s is read again: the key of %s is accepted.", self._subject, self._error.origin or "it")

    def _warn(self, reply: KeyRead, grace: float) -> None:
        if self._warned or self._error is None:
            return
        self._warned = True
        left = f"{grace:.0f} s"
        then = (
            f"it is read again every {REREAD_SECONDS:.0f} s for up to {left}; change it there."
            if reply.readable
            else f"it cannot be read again here, and is tried once more in {left}."
        )
        origin = self._error.origin or "this client"
        text = f"{self._subject}: the key of {origin} was refused ({self._error.status}); {then}"
        logger.warning("%s", with_code(text, Code.KEY_REREAD))

    def _ended(self, error: AuthError, now: float) -> AuthError:
        lasted = f"It has been refused for {now - self._since:.0f} s, and was read again without a change."
        ended = AuthError(f"{error.text} {lasted}", status=error.status, code=error.code, is_json=error.is_json)
        ended.origin, ended.key_mark = error.origin, error.key_mark
        return ended
