"""A provider's words, as one table that means a Phase or an Outcome. What to do about it lives in policy.py."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar, cast

from runops.core.model.codes import Code
from runops.core.model.errors import ConfigurationError
from runops.core.model.redaction import clean
from runops.core.model.refusal import nearest
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
        taught: Whether a user has taught it, and no documentation.
    """

    meaning: Meaning
    reason: str | None = None
    grace_seconds: float | None = None
    taught: bool = False


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
        taught: Whether a user has taught it. That a run goes on is not believed of one that has ended.
    """

    state: str
    full_state: str
    meaning: Meaning | None
    reason: str | None = None
    grace_seconds: float | None = None
    known: bool = True
    taught: bool = False


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
            raise ConfigurationError(
                "timed_out is our own outcome; no provider's word may mean it.", error_code=Code.BAD_DECLARATION
            )
        if not {Outcome.SUCCEEDED, Outcome.FAILED} <= meanings:
            raise ConfigurationError(
                "A state table needs a word for success and a word for failure.", error_code=Code.BAD_DECLARATION
            )

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
            spelled = _shown(*self._spelled[key, second])
            if row.taught and ended and isinstance(row.meaning, Phase):
                return StateReading(state.strip(), spelled, None, known=False, taught=True)
            return StateReading(state.strip(), spelled, row.meaning, row.reason, row.grace_seconds, taught=row.taught)
        over = ended or self._over(key)
        cleaned = clean(state) or "?"
        return StateReading(cleaned, _shown(cleaned, clean(second)), None if over else Phase.RUNNING, known=False)

    def with_words(self, states: Mapping[str, str]) -> StateTable:
        """The same table with words that stand in no documentation.

        Args:
            states: Word to the phase or outcome that it means. Where a second field decides too, a word is spelled as
                :attr:`known` shows it: ``completed+partial`` is the result ``partial`` beside the status ``completed``.

        Raises:
            ConfigurationError: A word is documented and means something else, or a meaning is no phase or outcome;
                names both.
        """
        if not isinstance(states, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            kind = type(cast("object", states)).__name__
            raise ConfigurationError(f"states must be a mapping such as {{'partial': 'degraded'}}, not {kind}.")
        table = object.__new__(StateTable)
        table._cells, table._spelled = dict(self._cells), dict(self._spelled)
        table._qualified = set(self._qualified)
        for word in states:
            if not isinstance(word, str):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise ConfigurationError(f"states[{word!r}] is no word of a provider: write it as a text.")
        for word in _distinct(states):
            meaning = meaning_of(word, states[word])
            state, qualifier = self._split(word)
            if self._is_documented(word, state, qualifier, meaning):
                continue
            if qualifier is not None:
                table._qualified.add(_key(state))
            table._add(state, qualifier, StateRow(meaning, taught=True))
        return table

    def _split(self, word: str) -> tuple[str, str | None]:
        """The status and the second field of a word, which a table without second fields does not look for."""
        state, plus, qualifier = (part.strip() for part in word.partition("+"))
        return (state, qualifier or None) if plus and self._qualified else (word.strip(), None)

    def _is_documented(self, word: str, state: str, qualifier: str | None, meaning: Meaning) -> bool:
        """Whether a word means that already.

        Raises:
            ConfigurationError: It means something else already.
        """
        key, second = _key(state), None if qualifier is None else _key(qualifier)
        row = self._cells.get((key, second))
        if row is None and key not in self._qualified:
            row = self._cells.get((key, None))
        if row is None or row.meaning is meaning:
            return row is not None
        advice = "to change what becomes of the task, use on_outcome"
        if second is None and key in self._qualified:
            advice = f"teach what came beside it, as in '{state}+WORD'"
        raise ConfigurationError(
            f"states[{word[:80]!r}]={meaning.value!r} changes a documented word: {word.strip()[:80]!r} means "
            f"{row.meaning.value}; {advice}."
        )

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
            raise ConfigurationError(
                f"A state table cannot hold the word {word!r}{other}; take it out.", error_code=Code.BAD_DECLARATION
            )
        spelled[key] = word
    return list(spelled.values())


def meaning_of(word: object, name: object) -> Meaning:
    """The phase or outcome that a word is taught to mean.

    Raises:
        ConfigurationError: It is none, or ``timed_out``, which is no end of a run.
    """
    allowed: dict[str, Meaning] = {each.value: each for kind in (Outcome, Phase) for each in kind}
    del allowed[Outcome.TIMED_OUT]
    meaning = allowed.get(str(name))
    if meaning is None:
        near = "" if name == Outcome.TIMED_OUT else nearest(name, allowed)
        why = "is what our own wait may end as, and no run" if name == Outcome.TIMED_OUT else "is no phase or outcome"
        raise ConfigurationError(
            f"states[{str(word)[:80]!r}]={str(name)[:80]!r} {why}; use {', '.join(allowed)}.{near}",
            error_code=Code.UNKNOWN_NAME,
        )
    return meaning


def _row(cell: Cell) -> StateRow:
    return cell if isinstance(cell, StateRow) else StateRow(cell)


def _shown(state: str, qualifier: str | None) -> str:
    return state if qualifier is None else f"{state}+{qualifier}"
