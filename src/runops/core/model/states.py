"""A provider's words, as one table that means a Phase or an Outcome. What to do about it lives in policy.py."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from runops.core.model.errors import ConfigurationError
from runops.core.model.redaction import clean
from runops.core.model.run import Outcome, Phase

Meaning = Phase | Outcome
W = TypeVar("W", str, str | None)


@dataclass(frozen=True, slots=True)
class StateRow:
    """What one state means, where the meaning alone does not say everything.

    Args:
        meaning: The phase or outcome.
        reason: Why, for states that need an explanation.
        grace_seconds: Seconds for which the state is provisional: it is read again, as running, before it is believed.
            For a status that is written before the result that belongs to it.
    """

    meaning: Meaning
    reason: str | None = None
    grace_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class StateReading:
    """How the table read one answer.

    Args:
        state: The provider's own word; an unknown one is cleaned, since it may be anything.
        full_state: The same with its qualifier where one counts, as shown to people.
        meaning: Its meaning. An unknown state of a run that has not ended reads as running.
        reason: The table's own reason, if any.
        grace_seconds: As in :class:`StateRow`.
        known: Whether the table holds the state. An unknown one with an end time has no meaning at all.
    """

    state: str
    full_state: str
    meaning: Meaning | None
    reason: str | None = None
    grace_seconds: float | None = None
    known: bool = True


Cell = Meaning | StateRow
Words = Mapping[str, Cell | Mapping[str | None, Cell]]


class StateTable:
    """All documented words of a provider. Nothing else in runops compares a status.

    Args:
        words: Word to meaning. Where a second field decides too (a result beside a status), the word maps to
            a table of that field's values, in which None stands for "absent".

    Raises:
        ConfigurationError: A cell means ``timed_out`` (our own word), two words are one when upper and lower case and
            surrounding space do not count, or the table lacks a success or a failure.
    """

    def __init__(self, words: Words) -> None:
        self._cells: dict[tuple[str, str | None], StateRow] = {}
        self._spelled: dict[tuple[str, str | None], tuple[str, str | None]] = {}
        self._qualified: set[str] = set()
        for word in _distinct(words):
            cell = words[word]
            if isinstance(cell, Mapping):
                self._qualified.add(_key(word))
                for qualifier in _distinct(cell):
                    self._add(word, qualifier, cell[qualifier])
            else:
                self._add(word, None, cell)
        meanings = {row.meaning for row in self._cells.values()}
        if Outcome.TIMED_OUT in meanings:
            raise ConfigurationError("timed_out is our own outcome; no provider's word may mean it.")
        if not {Outcome.SUCCEEDED, Outcome.FAILED} <= meanings:
            raise ConfigurationError("A state table needs a word for success and a word for failure.")

    def _add(self, state: str, qualifier: str | None, cell: Cell) -> None:
        key = _key(state), None if qualifier is None else _key(qualifier)
        self._cells[key], self._spelled[key] = _row(cell), (state, qualifier)

    def __iter__(self) -> Iterator[tuple[str, str | None, StateRow]]:
        """Every documented cell: state, qualifier, row."""
        return ((*self._spelled[key], row) for key, row in self._cells.items())

    @property
    def known(self) -> tuple[str, ...]:
        """The documented states, with their qualifiers, as people read them."""
        return tuple(_shown(*spelled) for spelled in self._spelled.values())

    def read(self, state: str, qualifier: str | None = None, *, ended: bool = False) -> StateReading:
        """What the provider meant.

        Args:
            state: The status as it came. Compared exactly, but for surrounding space and case.
            qualifier: The second field, where the provider has one.
            ended: Whether the answer carries an end time, which an unknown state is judged by.
        """
        key = _key(state)
        second = _key(qualifier or "") or None if key in self._qualified else None
        row = self._cells.get((key, second))
        if row is not None:
            spelled = self._spelled[key, second]
            return StateReading(state.strip(), _shown(*spelled), row.meaning, row.reason, row.grace_seconds)
        over = ended or self._over(key)
        cleaned = clean(state) or "?"
        return StateReading(cleaned, _shown(cleaned, clean(second)), None if over else Phase.RUNNING, known=False)

    def _over(self, key: str) -> bool:
        """Whether a known state means the end whatever stands beside it."""
        rows = [row.meaning for (known, _), row in self._cells.items() if known == key]
        return bool(rows) and all(isinstance(meaning, Outcome) for meaning in rows)


def _key(state: str) -> str:
    """What all spellings of one state share, in the table and in answers alike."""
    return state.strip().lower()


def _distinct(words: Iterable[W]) -> list[W]:
    """The words of a table, no two of which may be one."""
    spelled: dict[str | None, W] = {}
    for word in words:
        key = None if word is None else _key(word)
        if key == "" or key in spelled:
            other = f": {spelled[key]!r} stands there too, and case does not count" if key else ""
            raise ConfigurationError(f"A state table cannot hold the word {word!r}{other}; take it out.")
        spelled[key] = word
    return list(spelled.values())


def _row(cell: Cell) -> StateRow:
    return cell if isinstance(cell, StateRow) else StateRow(cell)


def _shown(state: str, qualifier: str | None) -> str:
    return state if qualifier is None else f"{state}+{qualifier}"
