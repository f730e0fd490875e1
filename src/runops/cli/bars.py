"""The live display: a line with a bar for each run that goes on and one for all, in place, and the ends above them.

Of many runs only those are written above that did not end as a plain success; the table at the end names them again.
What is drawn in place is never higher than the terminal: what has scrolled away cannot be drawn over, so that each
new drawing would leave a copy behind. Before a line is written for good, the lines in place are erased. There is no
colour, so nothing for NO_COLOR to turn off.
"""

from __future__ import annotations

import math
import shutil
import textwrap
import time
from collections import Counter

from runops.cli.display import judgement_of, unmet_of
from runops.cli.output import complain, printable, say
from runops.cli.signs import Signs, columns
from runops.cli.table import table
from runops.cli.whole import Whole
from runops.core import OutcomePolicy, Progress, RunRef, RunSnapshot
from runops.core.model.policy import Verdict
from runops.core.model.run import Phase

WIDEST_BAR = 20
"""Columns."""
NARROWEST_BAR = 4
WIDEST_TOTAL = 40
NARROWEST_TOTAL = 10
ROWS_FOR_TOTAL = 2
"""Rows from which on the whole has one of them."""
ROWS_FOR_TOTAL_BAR = 6
"""Rows from which on its bar may have a second one."""
SHORTEST_ID = 13
SHORTEST_PAUSE = 0.1
"""Seconds between two drawings, if nothing has ended."""


class Bars:
    """Runs on a terminal.

    Args:
        refs: The runs, in the order of their lines.
        policy: What an outcome is worth.
        encoding: The terminal's.
        whole: The counts of all.
    """

    live = True

    def __init__(self, refs: list[RunRef], policy: OutcomePolicy, encoding: str | None, whole: Whole) -> None:
        self._policy = policy
        self._whole = whole
        self._began = time.monotonic()
        self._open: dict[RunRef, RunSnapshot | None] = dict.fromkeys(refs)
        self._ends: Counter[str] = Counter()
        self._drawn: list[str] = []
        self._drawn_at = 0.0
        self._stays = False
        self._signs = Signs.for_encoding(encoding)

    def saw(self, snapshot: RunSnapshot) -> None:
        """Draw it, soon: many runs may be seen at once."""
        if snapshot.ref in self._open:
            self._open[snapshot.ref] = snapshot
            self._whole.saw(snapshot)
            self._draw_soon()

    def ended(self, snapshot: RunSnapshot) -> None:
        """Write its verdict, its reason and its page, for good."""
        judgement = judgement_of(self._policy, snapshot)
        verdict = str(judgement and judgement.verdict)
        self._whole.ended(snapshot)
        untold = self._whole.many and judgement is not None and judgement.verdict is Verdict.SUCCEED
        self._write(snapshot.ref, verdict, [] if untold else self._report(snapshot, verdict, unmet_of(judgement)))
        self._conclude()

    def failed(self, ref: RunRef, why: str) -> None:
        """Write that it is not known how it stands, and why on standard error."""
        self._whole.failed(ref, why)
        self._write(ref, "could not tell", [f"{ref}: could not tell"])
        self.note(why)
        self._conclude()

    def note(self, text: str) -> None:
        """A line on standard error, which may be this very terminal."""
        self._erase()
        complain(text)
        self.tick()

    def tick(self) -> None:
        """Draw the lines in place anew."""
        size = shutil.get_terminal_size()
        whole = self._total(size.columns - 1, size.lines) if self._open else []
        # The last line of the whole stands where the cursor stays, so its row is none less for the others.
        room = max(size.lines - 1, 1) - max(len(whole) - 1, 0)
        lines = [self._signs.fit(line, size.columns - 1) for line in [*self._bars(size.columns - 1, room), *whole]]
        if lines or self._drawn:
            drawn = "\n".join(f"\r\x1b[2K{line}" for line in lines) + ("" if whole or not lines else "\n")
            say(f"{self._up(size.columns)}{drawn}\x1b[J", end="")
        self._drawn, self._stays, self._drawn_at = lines, bool(whole), time.monotonic()

    def leave(self) -> None:
        """Nothing more is drawn: whoever writes next finds the beginning of a line."""
        if self._stays:
            say("")
        self._drawn, self._stays = [], False

    def _draw_soon(self) -> None:
        """Draw, unless that was done a moment ago: the next tick does it then."""
        if time.monotonic() - self._drawn_at >= SHORTEST_PAUSE:
            self.tick()

    def _bars(self, width: int, room: int) -> list[str]:
        """Those of runs at work come first. The last line counts the runs without one."""
        refs = sorted(self._open, key=lambda ref: _rank(self._open[ref]))
        shown = refs if len(refs) <= room else refs[: room - 1]
        lines = [self._line(ref, width) for ref in shown]
        left_out = Counter(_state(self._open[ref]) for ref in refs[len(shown) :])
        if left_out:
            states = ", ".join(f"{count} {state}" for state, count in left_out.most_common())
            lines.append(f"... and {left_out.total()} more: {states}")
        return lines

    def _total(self, width: int, rows: int) -> list[str]:
        """The bar and the counts of all: on one line where both fit, else on two, or the counts alone."""
        if not self._whole.several or rows < ROWS_FOR_TOTAL:
            return []
        counts, spent = self._whole.line(), self._elapsed()
        left = width - columns(counts) - columns(spent) - len("   ")
        if left >= NARROWEST_TOTAL:
            return [f"{self._signs.bar(self._whole.share, min(left, WIDEST_BAR))} {counts}  {spent}"]
        if rows < ROWS_FOR_TOTAL_BAR:
            return [counts]
        share = f" {self._whole.share:.0%}  {spent}"
        return [self._signs.bar(self._whole.share, min(max(width - len(share), 1), WIDEST_TOTAL)) + share, counts]

    def _elapsed(self) -> str:
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        return f"{minutes}:{seconds:02d}"

    def _line(self, ref: RunRef, width: int) -> str:
        """The bar is as wide as the rest lets it be; where even that is too much, the middle of the id goes."""
        snapshot = self._open[ref]
        progress = snapshot.progress if snapshot else None
        tail = "  ".join(filter(None, [f"{progress or ''}", self._elapsed(), _state(snapshot)]))
        left = width - columns(ref.run_id) - len("  ") - len(" ") - columns(tail)
        if left >= NARROWEST_BAR:
            return f"{ref.run_id}  {self._signs.bar(_done(progress), min(left, WIDEST_BAR))} {tail}"
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
        self._open.pop(ref, None)
        self._ends[end] += 1
        if lines or not self._open:
            self._erase()
            self._say(lines)
            self.tick()
        else:
            self._draw_soon()

    def _say(self, lines: list[str]) -> None:
        if lines:
            say("\n".join(self._signs.encodable(printable(line)) for line in lines))

    def _conclude(self) -> None:
        """Write the table of the runs and the counts, once all are over."""
        if self._open or not self._whole.several:
            return
        ends = ", ".join(f"{count} {end}" for end, count in self._ends.most_common())
        rows = table(self._whole, self._signs, max(shutil.get_terminal_size().columns - 1, 20))
        counts = [self._whole.line(), f"{self._ends.total()} runs: {ends}"]
        self._say(["", *rows, "", *counts] if rows else counts)

    def _erase(self) -> None:
        if self._drawn:
            say(f"{self._up(shutil.get_terminal_size().columns)}\r\x1b[J", end="")
            self._drawn, self._stays = [], False

    def _up(self, width: int) -> str:
        """To where the first line in place begins; a terminal that was made narrower has wrapped them."""
        rows = sum(max(math.ceil(columns(line) / max(width, 1)), 1) for line in self._drawn) - self._stays
        return f"\x1b[{rows}A" if rows > 0 else ""


def _state(snapshot: RunSnapshot | None) -> str:
    if snapshot is None:
        return "not seen yet"
    state = snapshot.state or "not seen"
    return state if state == snapshot.status else f"{state} ({snapshot.status})"


def _done(progress: Progress | None) -> float:
    return 0.0 if progress is None or not progress.total else progress.done / progress.total


def _rank(snapshot: RunSnapshot | None) -> int:
    """Where a run stands in the lines: those at work first, then those that wait for it, then those not seen yet."""
    if snapshot is None:
        return 2
    return 1 if snapshot.status is Phase.QUEUED else 0
