"""A provider's words, as one table that means a Phase or an Outcome. What to do about it lives in policy.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from runops.core.redaction import clean
from runops.core.run import Outcome, Phase

Meaning = Phase | Outcome


@dataclass(frozen=True, slots=True)
class Row:
    """What one word means, where the meaning alone does not say everything.

    Args:
        meaning: The phase or outcome.
        reason: Why, for words that need an explanation.
        settles_after: Seconds for which the word is read again, as a running phase, before it is believed.
            For a status that is written before the result that belongs to it.
    """

    meaning: Meaning
    reason: str | None = None
    settles_after: float | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """How the table read one answer.

    Args:
        state: The provider's own word; an unknown one is cleaned, since it may be anything.
        word: The same with its qualifier where one counts, as shown to people.
        meaning: Its meaning. An unknown word of a run that has not ended reads as running.
        reason: The table's own reason, if any.
        settles_after: As in :class:`Row`.
        known: Whether the table holds the word. An unknown word with an end time has no meaning at all.
    """

    state: str
    word: str
    meaning: Meaning | None
    reason: str | None = None
    settles_after: float | None = None
    known: bool = True


Cell = Meaning | Row
Words = Mapping[str, Cell | Mapping[str | None, Cell]]


class StateTable:
    """All documented words of a provider. Nothing else in runops compares a status.

    Args:
        words: Word to meaning. Where a second field decides too (a result beside a status), the word maps to
            a table of that field's values, in which None stands for "absent".

    Raises:
        ValueError: A cell means ``timed_out`` (our own word), or the table lacks a success or a failure.
    """

    def __init__(self, words: Words) -> None:
        self._cells: dict[tuple[str, str | None], Row] = {}
        self._qualified: set[str] = set()
        for word, cell in words.items():
            if isinstance(cell, Mapping):
                self._qualified.add(word)
                for qualifier, inner in cell.items():
                    self._cells[word, qualifier] = _row(inner)
            else:
                self._cells[word, None] = _row(cell)
        meanings = {row.meaning for row in self._cells.values()}
        if Outcome.TIMED_OUT in meanings:
            raise ValueError("timed_out is our own outcome; no provider's word may mean it.")
        if not {Outcome.SUCCEEDED, Outcome.FAILED} <= meanings:
            raise ValueError("A state table needs a word for success and a word for failure.")

    def __iter__(self) -> Iterator[tuple[str, str | None, Row]]:
        """Every documented cell: word, qualifier, row."""
        return ((word, qualifier, row) for (word, qualifier), row in self._cells.items())

    @property
    def known(self) -> tuple[str, ...]:
        """The documented words, with their qualifiers, as people read them."""
        return tuple(_shown(word, qualifier) for word, qualifier in self._cells)

    def read(self, word: str, qualifier: str | None = None, *, ended: bool = False) -> Reading:
        """What the provider meant.

        Args:
            word: The status as it came. Compared exactly, but for surrounding space and case.
            qualifier: The second field, where the provider has one.
            ended: Whether the answer carries an end time, which an unknown word is judged by.
        """
        key = word.strip().lower()
        second = (qualifier or "").strip().lower() or None if key in self._qualified else None
        row = self._cells.get((key, second))
        if row is not None:
            return Reading(word.strip(), _shown(key, second), row.meaning, row.reason, row.settles_after)
        over = ended or self._over(key)
        state, second = clean(word) or "?", clean(second)
        return Reading(state, _shown(state, second), None if over else Phase.RUNNING, known=False)

    def _over(self, word: str) -> bool:
        """Whether a known word means the end whatever stands beside it."""
        rows = [row.meaning for (known, _), row in self._cells.items() if known == word]
        return bool(rows) and all(isinstance(meaning, Outcome) for meaning in rows)


def _row(cell: Cell) -> Row:
    return cell if isinstance(cell, Row) else Row(cell)


def _shown(word: str, qualifier: str | None) -> str:
    return word if qualifier is None else f"{word}+{qualifier}"
