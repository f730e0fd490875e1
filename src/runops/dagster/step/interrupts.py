"""Interrupts held back while a submit or a cancel is under way. It knows signals and Dagster's error, and no run."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

import dagster as dg

INTERRUPTS = (dg.DagsterExecutionInterruptedError, KeyboardInterrupt)
"""What Terminate raises in a step. Both are BaseExceptions, so that only code that catches them by name sees them."""

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name))
_SLICE = 0.2


class HeldInterrupts:
    """A context in which an interrupt waits; it strikes when the context is left.

    Dagster turns signals into exceptions wherever the main thread stands, so an interrupt between the bytes of
    a submit would lose the run's id. Outside the main thread no signal arrives, and nothing is held.

    Args:
        drop: Forget what arrived, where an interrupt is on its way to Dagster already.
    """

    def __init__(self, *, drop: bool = False) -> None:
        self.may_break = True
        """Whether an interrupt may strike in a pause: nothing that it could lose is under way."""
        self._drop = drop
        self._holding = False
        self._came: list[tuple[int, FrameType | None]] = []
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            # Before the first handler: an error in here would leave handlers behind.
            self._holding = True
            for number in _SIGNALS:
                self._before[number] = signal.getsignal(number)
                signal.signal(number, self._arrived)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._holding = False
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._came and not self._drop and not isinstance(error, INTERRUPTS):
            self._strike()

    def sleep(self, seconds: float) -> None:
        """Sleep, and let a held interrupt strike where it may."""
        if not self._holding:
            time.sleep(seconds)
            return
        until = time.monotonic() + seconds
        while True:
            self.let_through()
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, _SLICE))

    def let_through(self) -> None:
        """Let an interrupt strike now, if one came and it may."""
        if self._came and self.may_break:
            self._strike()

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        # Between the first and the last handler that is put back, a signal must not get lost here.
        if self._holding:
            self._came.append((number, frame))
        else:
            self._forward(number, frame)

    def _strike(self) -> None:
        number, frame = self._came[0]
        self._came.clear()
        self._forward(number, frame)

    def _forward(self, number: int, frame: FrameType | None) -> None:
        handler: Callable[[int, FrameType | None], Any] | int | None = self._before.get(number)
        if callable(handler):
            handler(number, frame)
        elif handler != signal.SIG_IGN:
            raise KeyboardInterrupt
