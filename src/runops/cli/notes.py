"""What goes on during a long silence, as lines on standard error: failed tries, when the next one is, slow answers."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from runops.cli.output import complain
from runops.core import Provider

SLOW = 5.0
"""Seconds without an answer after which that is said."""
BETWEEN = 30.0
"""Seconds between two lines about failed reads, however many runs there are and however often they are read."""


class Notes(logging.Handler):
    """Shows what the core logs; of failed reads, which are logged below INFO, only one in a while.

    Args:
        show: Takes one line.
        clock: Seconds, for tests.
    """

    def __init__(self, show: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(logging.DEBUG)
        self._show = show
        self._clock = clock
        self._shown_at: float | None = None
        self._left_out = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Show a record, or count it."""
        text = record.getMessage()
        if record.levelno < logging.INFO:
            now = self._clock()
            if self._shown_at is not None and now - self._shown_at < BETWEEN:
                self._left_out += 1
                return
            if self._left_out:
                text += f" ({self._left_out} more failed reads since.)"
            self._shown_at, self._left_out = now, 0
        self._show(text)


@contextmanager
def shown(show: Callable[[str], None] = complain) -> Generator[None]:
    """Show what the core logs for as long as the context lasts."""
    logger = logging.getLogger("runops")
    notes = Notes(show)
    level, propagate = logger.level, logger.propagate
    logger.addHandler(notes)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(notes)
        logger.setLevel(level)
        logger.propagate = propagate


@contextmanager
def waiting_for(provider: Provider, root: str) -> Generator[Callable[[], None]]:
    """Show what the core logs, and after a few seconds that an answer is still awaited.

    Yields:
        What to call when an answer came, and something else is waited for.
    """
    line = f"no answer from {provider.title} ({root}) for {SLOW:.0f} s; still waiting."
    timer = threading.Timer(SLOW, complain, [line])
    timer.daemon = True
    timer.start()
    try:
        with shown():
            yield timer.cancel
    finally:
        timer.cancel()
