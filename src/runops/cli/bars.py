"""The live display: a line with a bar for each run that is not over, in place, and the ends in full above them.

What is drawn in place is never higher than the terminal: what has scrolled away cannot be drawn over, so that each
new drawing would leave a copy behind. Before a line is written for good, the lines in place are erased.
"""

from __future__ import annotations

import math
import os
import shutil
import textwrap
import time
import unicodedata
from collections import Counter

from runops.cli.display import judgement_of, unmet_of
from runops.cli.output import complain, printable, say
from runops.core import OutcomePolicy, Progress, RunRef, RunSnapshot

WIDEST_BAR = 20
"""Columns."""
NARROWEST_BAR = 4
SHORTEST_ID = 13
SHORTEST_PAUSE = 0.1
"""Seconds between two drawings, if nothing has ended."""


class Bars:
    """Runs on a terminal.

    Args:
        refs: The runs, in the order of their lines.
        policy: What an outcome is worth.
        encoding: The terminal's.
    """

    live = True

    def __init__(self, refs: list[RunRef], policy: OutcomePolicy, encoding: str | None) -> None:
        self._policy = policy
        self._began = time.monotonic()
        self._open: dict[RunRef, RunSnapshot | None] = dict.fromkeys(refs)
        self._ends: Counter[str] = Counter()
        self._drawn: list[str] = []
        self._drawn_at = 0.0
        self._signs = Signs.for_encoding(encoding)

    def saw(self, snapshot: RunSnapshot) -> None:
        """Draw it, soon: many runs may be seen at once."""
        if snapshot.ref in self._open:
            self._open[snapshot.ref] = snapshot
            if time.monotonic() - self._drawn_at >= SHORTEST_PAUSE:
                self.tick()

    def ended(self, snapshot: RunSnapshot) -> None:
        """Write its verdict, its reason and its page, for good."""
        judgement = judgement_of(self._policy, snapshot)
        verdict = str(judgement and judgement.verdict)
        self._write(snapshot.ref, verdict, self._report(snapshot, verdict, unmet_of(judgement)))

    def failed(self, ref: RunRef, why: str) -> None:
        """Write that it is not known how it stands, and why on standard error."""
        self._write(ref, "could not tell", [f"{ref}: could not tell"])
        self.note(why)

    def note(self, text: str) -> None:
        """A line on standard error, which may be this very terminal."""
        self._erase()
        complain(text)
        self.tick()

    def tick(self) -> None:
        """Draw the lines in place anew."""
        size = shutil.get_terminal_size()
        lines = [self._signs.fit(line, size.columns - 1) for line in self._lines(size)]
        if lines or self._drawn:
            say(self._up(size.columns) + "".join(f"\r\x1b[2K{line}\n" for line in lines) + "\x1b[J", end="")
        self._drawn, self._drawn_at = lines, time.monotonic()

    def _lines(self, size: os.terminal_size) -> list[str]:
        """As many as there is room for above the line of the cursor; the last one counts those without."""
        room = max(size.lines - 1, 1)
        refs = list(self._open)
        shown = refs if len(refs) <= room else refs[: room - 1]
        lines = [self._line(ref, size.columns - 1) for ref in shown]
        left_out = Counter(_state(self._open[ref]) for ref in refs[len(shown) :])
        if left_out:
            states = ", ".join(f"{count} {state}" for state, count in left_out.most_common())
            lines.append(f"... and {left_out.total()} more: {states}")
        return lines

    def _line(self, ref: RunRef, width: int) -> str:
        """The bar is as wide as the rest lets it be; where even that is too much, the middle of the id goes."""
        snapshot = self._open[ref]
        progress = snapshot.progress if snapshot else None
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        tail = "  ".join(filter(None, [f"{progress or ''}", f"{minutes}:{seconds:02d}", _state(snapshot)]))
        left = width - columns(ref.run_id) - len("  ") - len(" ") - columns(tail)
        if left >= NARROWEST_BAR:
            return f"{ref.run_id}  {self._signs.bar(progress, min(left, WIDEST_BAR))} {tail}"
        space = max(width - len("  ") - columns(tail), SHORTEST_ID)
        return f"{self._signs.shortened(ref.run_id, space)}  {tail}"

    def _report(self, snapshot: RunSnapshot, verdict: str, unmet: str) -> list[str]:
        """The end of a run, each part on lines of its own. An address stays whole, so that it can be followed."""
        width = max(shutil.get_terminal_size().columns - 1, 20)
        outcome = "" if snapshot.outcome in (None, snapshot.state) else f" ({snapshot.outcome})"
        lines = [f"{snapshot.ref}: {snapshot.state or 'not seen'} -> {verdict}{outcome}"]
        for text in (str(snapshot.progress or ""), snapshot.reason or "", unmet):
            indented = textwrap.wrap(printable(text), width - 2, break_on_hyphens=False)
            lines += [f"  {line}" for line in indented]
        return lines + ([f"  {snapshot.url}"] if snapshot.url else [])

    def _write(self, ref: RunRef, end: str, lines: list[str]) -> None:
        self._erase()
        self._open.pop(ref, None)
        self._ends[end] += 1
        if not self._open and self._ends.total() > 1:
            ends = ", ".join(f"{count} {end}" for end, count in self._ends.most_common())
            lines = [*lines, f"{self._ends.total()} runs: {ends}"]
        say("\n".join(self._signs.encodable(printable(line)) for line in lines))
        self.tick()

    def _erase(self) -> None:
        if self._drawn:
            say(f"{self._up(shutil.get_terminal_size().columns)}\r\x1b[J", end="")
            self._drawn = []

    def _up(self, width: int) -> str:
        """To where the first line in place begins; a terminal that was made narrower has wrapped them."""
        rows = sum(max(math.ceil(columns(line) / max(width, 1)), 1) for line in self._drawn)
        return f"\x1b[{rows}A" if rows else ""


class Signs:
    """What lines are drawn with, within what an encoding can spell.

    Args:
        encoding: The terminal's.
        full: A piece of a bar that is done.
        empty: A piece of a bar that is not.
        gap: Stands for what was left out.
    """

    def __init__(self, encoding: str, full: str, empty: str, gap: str) -> None:
        self._encoding = encoding
        self._full = full
        self._empty = empty
        self._gap = gap

    @classmethod
    def for_encoding(cls, encoding: str | None) -> Signs:
        """Blocks where the terminal has them."""
        name = encoding or "ascii"
        try:
            "█·…".encode(name)
        except (UnicodeEncodeError, LookupError):
            return cls(name, "#", ".", "..")
        return cls(name, "█", "·", "…")

    def bar(self, progress: Progress | None, width: int) -> str:
        """How far a run says it is."""
        done = 0.0 if progress is None or not progress.total else progress.done / progress.total
        full = round(width * min(max(done, 0.0), 1.0))
        return self._full * full + self._empty * (width - full)

    def shortened(self, text: str, width: int) -> str:
        """The beginning and the end of a text, within a width."""
        if columns(text) <= width:
            return text
        half = (width - len(self._gap)) // 2
        return f"{text[: width - len(self._gap) - half]}{self._gap}{text[len(text) - half :]}"

    def fit(self, text: str, width: int) -> str:
        """A line that no terminal of this width wraps."""
        line = self.encodable(printable(text))
        while columns(line) > max(width, 1):
            line = line[:-1]
        return line

    def encodable(self, text: str) -> str:
        """A text without what the terminal cannot show; an escape in its place would be of another width."""
        try:
            return text.encode(self._encoding, "replace").decode(self._encoding)
        except LookupError:
            return text


def columns(text: str) -> int:
    """How many columns of a terminal a printable text takes."""
    if text.isascii():
        return len(text)
    return sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _state(snapshot: RunSnapshot | None) -> str:
    if snapshot is None:
        return "not seen yet"
    state = snapshot.state or "not seen"
    return state if state == snapshot.status else f"{state} ({snapshot.status})"
