"""How runs are shown: plain lines in a pipe, JSON for programs; see also :mod:`runops.cli.bars`. It decides nothing."""

from __future__ import annotations

import json
import time
from typing import Protocol

from runops.cli.output import complain, printable, say
from runops.cli.whole import Whole
from runops.core import OutcomePolicy, RunRef, RunSnapshot
from runops.core.many.tally import LineThrottle
from runops.core.model.expectation import in_words
from runops.core.model.policy import Judgement
from runops.core.waiting.state import LogThrottle


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

    def failed(self, ref: RunRef, why: str) -> None:
        """How the run stands cannot be told."""
        ...

    def note(self, text: str) -> None:
        """Something to say on standard error that is not about how a run stands."""
        ...

    def tick(self) -> None:
        """Some time has passed."""
        ...

    def leave(self) -> None:
        """No run is watched any more, whatever the reason."""
        ...


class JsonLines:
    """One line for each run, when it is over."""

    live = False

    def __init__(self, policy: OutcomePolicy) -> None:
        self._policy = policy

    def saw(self, snapshot: RunSnapshot) -> None:
        """Nothing: programs read the end."""

    def ended(self, snapshot: RunSnapshot) -> None:
        """The line."""
        print_json(snapshot, judgement_of(self._policy, snapshot))

    def failed(self, ref: RunRef, why: str) -> None:
        """A line on standard error."""
        complain(why)

    def note(self, text: str) -> None:
        """A line on standard error."""
        complain(text)

    def tick(self) -> None:
        """Nothing."""

    def leave(self) -> None:
        """Nothing."""


class Lines:
    """A line for each change, and one every few minutes when nothing changes; of several runs also their counts.

    Of many runs only the ends and the counts are said.

    Args:
        policy: What an outcome is worth.
        whole: The counts of all.
    """

    live = False

    def __init__(self, policy: OutcomePolicy, whole: Whole) -> None:
        self._policy = policy
        self._whole = whole
        self._counts = LineThrottle()
        self._news: dict[RunRef, LogThrottle] = {}

    def saw(self, snapshot: RunSnapshot) -> None:
        """A line if it is news; the end is told by :meth:`ended`."""
        self._whole.saw(snapshot)
        if snapshot.outcome is not None or self._whole.many:
            return
        news = self._news.setdefault(snapshot.ref, LogThrottle())
        if news.worth_saying(snapshot, time.monotonic()):
            say(printable(snapshot.summary()))

    def ended(self, snapshot: RunSnapshot) -> None:
        """The line with the verdict."""
        self._whole.ended(snapshot)
        print_run(snapshot, judgement_of(self._policy, snapshot))
        self._count()

    def failed(self, ref: RunRef, why: str) -> None:
        """A line on standard error."""
        self._whole.failed(ref, why)
        complain(why)
        self._count()

    def note(self, text: str) -> None:
        """A line on standard error."""
        complain(text)

    def tick(self) -> None:
        """Nothing."""

    def leave(self) -> None:
        """Nothing."""

    def _count(self) -> None:
        """The counts, if some time has passed since they were said last, or all is over."""
        now, line = time.monotonic(), self._whole.line()
        due = self._whole.over or not self._counts.due_in(now)
        if self._whole.several and due and self._counts.is_news(line, now):
            say(line)


def print_json(snapshot: RunSnapshot, judgement: Judgement | None) -> None:
    """One run as a line of JSON."""
    say(json.dumps(snapshot.to_result() if judgement is None else judgement.result(snapshot)))


def print_run(snapshot: RunSnapshot, judgement: Judgement | None) -> None:
    """One run for a person: a line, and the page to look at."""
    line = printable(snapshot.summary() + (f" -> {judgement.verdict}" if judgement else ""))
    for text in (unmet_of(judgement), snapshot.url):
        line += f"\n  {printable(text)}" if text else ""
    say(line)


def judgement_of(policy: OutcomePolicy, snapshot: RunSnapshot) -> Judgement | None:
    """The verdict on a run that is over, or whose wait is."""
    return None if snapshot.outcome is None else policy.judge(snapshot)


def unmet_of(judgement: Judgement | None) -> str:
    """What was expected and not met, for a person."""
    return f"not met: {in_words(judgement.unmet)}" if judgement and judgement.unmet else ""
