"""A credential that may be changed where it was set, and when to read it there again. It reads nothing itself."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from runops.core.model.secret import Secret

logger = logging.getLogger("runops")

REREAD_SECONDS = 30.0
"""Between two reads of a credential that was refused, however many waits ask for them."""
NEARLY = 0.05
"""Seconds by which a read may come early: a pause may end a little before its time."""

Token = str | Secret | None
Reread = Callable[[], Token | Awaitable[Token]]
"""Gives a token as it stands now where it was set; None where there is none."""


@dataclass(frozen=True, slots=True)
class KeyRead:
    """What reading a credential again has shown.

    Args:
        changed: Whether another credential stands there than the one that was refused.
        again_in: Seconds after which it may be read again.
        readable: Whether there is a place to read it from at all.
    """

    changed: bool
    again_in: float = REREAD_SECONDS
    readable: bool = True


class KeyInUse:
    """The credential that a source has given last, and when.

    Args:
        token: The one that was there first.
        origin: Where it was set, for messages.
    """

    def __init__(self, token: Secret, origin: str) -> None:
        self.token = token
        self._origin = origin
        self._read_at: float | None = None

    def due_in(self, now: float) -> float:
        """Seconds until it may be read again.

        Args:
            now: Of any clock that goes on evenly, the same in all calls.
        """
        if self._read_at is None:
            return 0.0
        left = self._read_at + REREAD_SECONDS - now
        # A clock that was set back must not put it off for long.
        return min(left, REREAD_SECONDS) if left > NEARLY else 0.0

    def was_read(self, token: object, now: float) -> bool:
        """Take in what was read; whether it is another credential. One that cannot be used is none.

        Args:
            token: A text or :class:`Secret`, or None.
            now: As in :meth:`due_in`.
        """
        self._read_at = now
        return self.take(Secret(token))

    def take(self, token: Secret) -> bool:
        """Use another credential from now on, if it is one."""
        if not token or not token.fits_header or token == self.token:
            return False
        self.token = token
        return True

    def was_not_read(self, error: Exception, now: float) -> None:
        """Take in that it could not be read. The text of the error may hold anything, so it is shown nowhere."""
        self._read_at = now
        logger.warning("The key of %s could not be read again (%s).", self._origin, type(error).__name__)

    def reply(self, refused: str, now: float) -> KeyRead:
        """What is known of the credential.

        Args:
            refused: The mark of the one that was refused.
            now: As in :meth:`due_in`.
        """
        return KeyRead(changed=self.token.mark != refused, again_in=self.due_in(now))
