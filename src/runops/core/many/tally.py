"""How a set of runs stands as a whole: counts, what is spent, the line for people, and whether enough ended well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from enum import StrEnum
from typing import Any

from runops.core.declaration import Provider
from runops.core.many.rows import OVER, Row, RowState
from runops.core.many.rules import Requirement
from runops.core.model.policy import Verdict
from runops.core.model.run import Outcome

_TROUBLES = (RowState.REFUSED, RowState.UNCLEAR, RowState.UNREAD)
_UNDER_WAY = {
    RowState.SUBMITTED: "running",
    RowState.ATTACHED: "running",
    RowState.SUBMITTING: "being submitted",
    RowState.AWAITING_TURN: "waiting for a turn",
}


class Standing(StrEnum):
    """Whether what is required of a set is decided."""

    OPEN = "open"
    MET = "met"
    MISSED = "missed"
    """It cannot be met any more, whatever becomes of the rest."""


class Tally:
    """The counts of a set, kept up to date row by row.

    Args:
        rows: All of its rows.
    """

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self.total = 0
        self.states: Counter[RowState] = Counter()
        self.outcomes: Counter[Outcome] = Counter()
        self.verdicts: Counter[Verdict] = Counter()
        self.hopeless = 0
        """Rows that count against the requirement, and that a retry of the task could not bring to another end."""
        self._spend = 0.0
        self._says_spend = 0
        for row in rows:
            self.total += 1
            self._count(row, 1)

    def change(self, before: Row, after: Row) -> None:
        """Take in what has become of a row."""
        self._count(before, -1)
        self._count(after, 1)

    def _count(self, row: Row, by: int) -> None:
        self.states[row.state] += by
        if row.outcome is not None:
            self.outcomes[row.outcome] += by
        if row.verdict is not None:
            self.verdicts[row.verdict] += by
        if row.is_over and not row.good and not row.retry_may_change:
            self.hopeless += by
        if row.spend is not None or row.spent_before:
            self._spend += by * row.spent
            self._says_spend += by

    # --- counts ---

    @property
    def over(self) -> int:
        """Runs whose wait is over, however."""
        return sum(self.states[state] for state in OVER)

    @property
    def running(self) -> int:
        """Runs that are waited for."""
        return self.states[RowState.SUBMITTED] + self.states[RowState.ATTACHED]

    @property
    def active(self) -> int:
        """Runs that are waited for or being submitted: what ``max_active`` bounds."""
        return self.running + self.states[RowState.SUBMITTING]

    @property
    def unsent(self) -> int:
        """Runs that were not submitted yet."""
        return self.states[RowState.PLANNED] + self.states[RowState.AWAITING_TURN]

    @property
    def good(self) -> int:
        """Runs that count for what is required: their verdict is succeed, warn or skip."""
        return sum(self.verdicts[verdict] for verdict in (Verdict.SUCCEED, Verdict.WARN, Verdict.SKIP))

    @property
    def bad(self) -> int:
        """Runs that count against it: a fail verdict, or an error. Not those that this side has given up itself."""
        return self.verdicts[Verdict.FAIL] + sum(self.states[state] for state in _TROUBLES)

    @property
    def given_up(self) -> int:
        """Runs that this side waits for no more, without knowing how they end."""
        return self.states[RowState.ENDED] - sum(self.outcomes.values())

    @property
    def spend(self) -> float | None:
        """What all runs have spent, in the provider's unit; None where none of them says it."""
        # What was added and taken away again leaves the dust of binary fractions.
        return round(self._spend, 9) if self._says_spend else None

    # --- decisions ---

    def decided(self, require: Requirement) -> Standing:
        """Whether enough runs have ended well, or cannot any more.

        Args:
            require: What is required.
        """
        needed = require.needed(self.total)
        if self.good >= needed:
            return Standing.MET
        return Standing.MISSED if self.total - self.bad < needed else Standing.OPEN

    def verdict(self, require: Requirement) -> Verdict:
        """What the whole means for its task. With skips only the task is skipped, as that of a single run would be.

        Args:
            require: What is required.
        """
        if self.good < require.needed(self.total):
            return Verdict.FAIL
        if not self.verdicts[Verdict.SUCCEED] and not self.verdicts[Verdict.WARN]:
            return Verdict.SKIP
        return Verdict.WARN if self.verdicts[Verdict.WARN] or self.bad else Verdict.SUCCEED

    def retry_may_help(self, require: Requirement) -> bool:
        """Whether a retry of the task, which repeats or takes up again what it may, could still meet it.

        Args:
            require: What is required.
        """
        return self.total - self.hopeless >= require.needed(self.total)

    # --- words ---

    def line(self, provider: Provider | None = None) -> str:
        """The whole in one line, such as ``312/1,000: 290 succeeded, 20 degraded, 2 failed, 41 running, 12.40 USD``.

        Args:
            provider: Says in which unit its runs spend.
        """
        parts = [f"{self.outcomes[outcome]:,} {outcome.replace('_', ' ')}" for outcome in Outcome]
        parts += [f"{self.states[state]:,} {state}" for state in _TROUBLES]
        parts.append(f"{self.given_up:,} given up")
        under_way: Counter[str] = Counter()
        for state, word in _UNDER_WAY.items():
            under_way[word] += self.states[state]
        parts += [f"{count:,} {word}" for word, count in under_way.items()]
        shown = [part for part in parts if not part.startswith("0 ")]
        if self.spend is not None and provider is not None and provider.spend is not None:
            shown.append(amount(self.spend, provider.spend.unit))
        return f"{self.over:,}/{self.total:,}: {', '.join(shown) or 'none begun'}"

    def to_dict(self) -> dict[str, Any]:
        """The counts as JSON primitives, for results, metadata and records: only those above 0."""
        return {
            "total": self.total,
            "over": self.over,
            "states": {str(state): count for state, count in sorted(self.states.items()) if count},
            "outcomes": {str(outcome): count for outcome, count in sorted(self.outcomes.items()) if count},
            "verdicts": {str(verdict): count for verdict, count in sorted(self.verdicts.items()) if count},
            "spend": self.spend,
        }


class LineThrottle:
    """Decides when the line of a set may be said: a change at once, but no more often than every few seconds.

    Args:
        every: Seconds between two lines at the least; the last one of all is said by who ends the set.
    """

    def __init__(self, every: float = 10.0) -> None:
        self._every = every
        self._last_line = ""
        self._last_line_at = float("-inf")

    def due_in(self, now: float) -> float:
        """Seconds until a line may be said, 0 for now.

        Args:
            now: In seconds of any clock that goes on.
        """
        return max(self._last_line_at + self._every - now, 0.0)

    def is_news(self, line: str, now: float) -> bool:
        """Whether a line is to be said, since it is another one than the last; then it counts as said."""
        if line == self._last_line:
            return False
        self._last_line, self._last_line_at = line, now
        return True


def amount(value: float, unit: str) -> str:
    """What is spent, for people: whole numbers as they are, others with two decimals."""
    return f"{value:,.0f} {unit}" if value == int(value) else f"{value:,.2f} {unit}"
