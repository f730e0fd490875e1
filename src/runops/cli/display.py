"""How runs are shown: live bars on a terminal, plain lines in a pipe, JSON for programs. It decides nothing."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from typing import Protocol, TextIO

from runops.core import OutcomePolicy, Progress, RunRef, RunSnapshot, Verdict
from runops.core.watch import News

BAR = 20
"""Characters of a progress bar."""


class Display(Protocol):
    """What a wait tells of its runs."""

    live: bool
    """Whether :meth:`tick` is wanted."""

    def saw(self, snapshot: RunSnapshot) -> None:
        """A good look."""
        ...

    def ended(self, snapshot: RunSnapshot) -> None:
        """The last look."""
        ...

    def failed(self, ref: RunRef, error: Exception) -> None:
        """How the run stands cannot be told."""
        ...

    def tick(self) -> None:
        """Some time has passed."""
        ...


def display_for(refs: list[RunRef], policy: OutcomePolicy, *, as_json: bool) -> Display:
    """The display that fits the output."""
    if as_json:
        return JsonLines(policy)
    if sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        return Bars(refs, policy, sys.stdout)
    return Lines(policy)


class JsonLines:
    """One line for each run, when it is over."""

    live = False

    def __init__(self, policy: OutcomePolicy) -> None:
        self._policy = policy

    def saw(self, snapshot: RunSnapshot) -> None:
        """Nothing: programs read the end."""

    def ended(self, snapshot: RunSnapshot) -> None:
        """The line."""
        print_json(snapshot, _verdict(self._policy, snapshot))

    def failed(self, ref: RunRef, error: Exception) -> None:
        """A line on standard error."""
        complain(error)

    def tick(self) -> None:
        """Nothing."""


class Lines:
    """A line for each change, and one every few minutes when nothing changes."""

    live = False

    def __init__(self, policy: OutcomePolicy) -> None:
        self._policy = policy
        self._news: dict[RunRef, News] = {}

    def saw(self, snapshot: RunSnapshot) -> None:
        """A line if it is news; the end is told by :meth:`ended`."""
        news = self._news.setdefault(snapshot.ref, News())
        if snapshot.outcome is None and news.worth_saying(snapshot, time.monotonic()):
            print(printable(snapshot.summary()), flush=True)

    def ended(self, snapshot: RunSnapshot) -> None:
        """The line with the verdict."""
        print_run(snapshot, _verdict(self._policy, snapshot))

    def failed(self, ref: RunRef, error: Exception) -> None:
        """A line on standard error."""
        complain(error)

    def tick(self) -> None:
        """Nothing."""


class Bars:
    """One line for each run, drawn anew in place.

    Args:
        refs: The runs, in the order of their lines.
        policy: What an outcome is worth.
        terminal: Where to draw.
    """

    live = True

    def __init__(self, refs: list[RunRef], policy: OutcomePolicy, terminal: TextIO) -> None:
        self._policy = policy
        self._terminal = terminal
        self._began = time.monotonic()
        self._seen: dict[RunRef, RunSnapshot] = {}
        self._final: dict[RunRef, str] = {}
        self._refs = refs
        self._drawn = 0

    def saw(self, snapshot: RunSnapshot) -> None:
        """Draw it."""
        self._seen[snapshot.ref] = snapshot
        self.tick()

    def ended(self, snapshot: RunSnapshot) -> None:
        """Draw it with its verdict, for good."""
        self._seen[snapshot.ref] = snapshot
        verdict = _verdict(self._policy, snapshot)
        reason = f": {snapshot.reason}" if snapshot.reason else ""
        self._final[snapshot.ref] = self._line(snapshot.ref, f"{snapshot.state or 'not seen'} -> {verdict}{reason}")
        self.tick()

    def failed(self, ref: RunRef, error: Exception) -> None:
        """Draw it as unknown, and say why below."""
        self._final[ref] = self._line(ref, "could not tell")
        self.tick()
        complain(error)
        self._drawn = 0

    def tick(self) -> None:
        """Draw all lines over those drawn before."""
        width = max(shutil.get_terminal_size().columns - 1, 20)
        lines = [printable(self._final.get(ref) or self._line(ref, self._told(ref)))[:width] for ref in self._refs]
        up = f"\x1b[{self._drawn}A" if self._drawn else ""
        self._terminal.write(up + "".join(f"\r\x1b[2K{line}\n" for line in lines))
        self._terminal.flush()
        self._drawn = len(lines)

    def _told(self, ref: RunRef) -> str:
        snapshot = self._seen.get(ref)
        return "..." if snapshot is None else f"{snapshot.state} ({snapshot.status})"

    def _line(self, ref: RunRef, told: str) -> str:
        snapshot = self._seen.get(ref)
        over = snapshot is not None and snapshot.run_ended
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        bar = _bar(snapshot.progress if snapshot else None, over=over)
        return f"{ref}  {bar}  {minutes:d}:{seconds:02d}  {told}"


def print_json(snapshot: RunSnapshot, verdict: Verdict | None) -> None:
    """One run as a line of JSON."""
    print(json.dumps(snapshot.to_result(verdict)), flush=True)


def print_run(snapshot: RunSnapshot, verdict: Verdict | None) -> None:
    """One run for a person: a line, and the page to look at."""
    print(printable(snapshot.summary() + (f" -> {verdict}" if verdict else "")))
    if snapshot.url:
        print(f"  {printable(snapshot.url)}", flush=True)


def complain(error: Exception) -> None:
    """One line on standard error."""
    print(f"runops: {printable(str(error))}", file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """What a provider says must not steer the terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _verdict(policy: OutcomePolicy, snapshot: RunSnapshot) -> Verdict | None:
    return None if snapshot.outcome is None else policy.decide(snapshot.outcome)


def _bar(progress: Progress | None, *, over: bool) -> str:
    if progress is None or not progress.total:
        return ("█" if over else "·") * BAR + ("" if progress is None else f" {progress}")
    full = round(BAR * min(max(progress.done / progress.total, 0.0), 1.0))
    return "█" * full + "·" * (BAR - full) + f" {progress}"
