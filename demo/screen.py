"""What the person at the terminal sees: progress lines and the table. It decides nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TextIO

from demo.story import COLUMNS, Row


class Screen:
    """Prints lines with the seconds since the start, and on a terminal a last line that is always renewed.

    Args:
        out: Where to print.
    """

    def __init__(self, out: TextIO = sys.stdout) -> None:
        self._out = out
        self._began = time.monotonic()
        self._live = ""

    def say(self, text: str) -> None:
        """Print a line."""
        self._clear()
        print(f"{self.seconds:6.1f} s  {text}", file=self._out, flush=True)

    def show(self, text: str) -> None:
        """Renew the last line, on a terminal only."""
        if self._out.isatty() and text != self._live:
            self._clear()
            self._live = text
            self._out.write(f"          {text[:100]}")
            self._out.flush()

    def print(self, text: str) -> None:
        """Print text as it is."""
        self._clear()
        print(text, file=self._out, flush=True)

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    def _clear(self) -> None:
        if self._live:
            self._out.write("\r\x1b[K")
            self._live = ""


def table(rows: Sequence[Row]) -> str:
    """The rows under their titles, in columns."""
    lines = [tuple(COLUMNS.values())] + [tuple(getattr(row, name) for name in COLUMNS) for row in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    printed = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    printed.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in printed)
