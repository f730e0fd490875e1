"""All rows of a set, as it is recorded: in pages of 100, of which a change rewrites one. Pure.

A host keeps the pages where its records are kept, each under its number, and a small header that says how many rows
there are. A page that was never written has rows of which nothing was ever sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, cast, overload

from runops.core.declaration import Call
from runops.core.many.row_json import from_json, to_json
from runops.core.many.rows import NO_PARENTS, Row, RowState
from runops.core.many.tally import Tally
from runops.core.model.codes import Code
from runops.core.model.errors import ConfigurationError
from runops.core.model.run import RunRef
from runops.core.waiting.intent import fingerprint

PAGE_ROWS = 100
VERSION = 1
Page = dict[str, Any]
"""``{"version": 1, "parents": [...], "rows": [...]}``: JSON primitives."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What one write has to hold: all that has changed since the last one that succeeded.

    Args:
        ledger: Of which they are.
        indices: The rows that have changed.
        version: That of the ledger when they were taken.
    """

    ledger: Ledger
    indices: frozenset[int]
    version: int

    def pages(self) -> dict[int, Page]:
        """The pages that have changed, whole, by their number: for hosts that overwrite what they have."""
        return {number: self.ledger.page(number) for number in sorted({index // PAGE_ROWS for index in self.indices})}


class Ledger(Sequence[Row]):
    """See the module.

    Args:
        rows: All of them, in the order of the list that the user gave.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = list(rows)
        if any(row.index != place for place, row in enumerate(self._rows)):
            raise ValueError("The rows of a ledger stand at their index.")
        self.tally = Tally(self._rows)
        self.version = 0
        """Grows with each change."""
        self._changed: set[int] = set()

    @classmethod
    def plan(cls, keys: Iterable[str]) -> Ledger:
        """The ledger of a new set, of which nothing was sent.

        Args:
            keys: Those of its calls; see :func:`key_of_call`.
        """
        return cls(Row(index=index, key=key) for index, key in enumerate(keys))

    @classmethod
    def of_refs(cls, refs: Iterable[RunRef], *, submitted_at: float | None = None) -> Ledger:
        """The ledger of runs that were given: they are waited for and never cancelled.

        Args:
            refs: The runs.
            submitted_at: When they were submitted, in unix seconds, where that is known.
        """
        return cls(
            Row(index=index, key=key_of_ref(ref)).submitted(ref, submitted_at, attached=True)
            for index, ref in enumerate(refs)
        )

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        return self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    def set(self, row: Row, *, record: bool = True) -> bool:
        """Put a row in the place of what it was; whether anything has changed.

        Args:
            row: As it is now.
            record: Whether that is to be written soon; False for what goes with the next write of its page.
        """
        before = self._rows[row.index]
        if row == before:
            return False
        self._rows[row.index] = row
        self.tally.change(before, row)
        self.version += 1
        if record:
            self._changed.add(row.index)
        return True

    # --- what is to be written ---

    def take_changes(self) -> Changes:
        """What has changed since the last time; from now on that counts as written."""
        changes = Changes(self, frozenset(self._changed), self.version)
        self._changed.clear()
        return changes

    def put_back(self, changes: Changes) -> None:
        """Note that a write has failed."""
        self._changed |= changes.indices

    # --- pages ---

    @property
    def page_count(self) -> int:
        """How many pages there may be."""
        return -(-len(self._rows) // PAGE_ROWS)

    def page(self, number: int) -> Page:
        """One page as JSON primitives."""
        parents: list[dict[str, str]] = []
        places: dict[tuple[tuple[str, str], ...], int] = {}
        rows: list[dict[str, Any]] = []
        for row in self._rows[number * PAGE_ROWS : (number + 1) * PAGE_ROWS]:
            form = to_json(row)
            if row.parents:
                place = places.setdefault(tuple(sorted(row.parents.items())), len(parents))
                if place == len(parents):
                    parents.append(dict(row.parents))
                form["p"] = place
            rows.append(form)
        return {"version": VERSION, **({"parents": parents} if parents else {}), "rows": rows}

    def to_pages(self) -> dict[int, Page]:
        """All pages that hold more than plans."""
        begun = {row.index // PAGE_ROWS for row in self._rows if row.state is not RowState.PLANNED or row.spent_before}
        return {number: self.page(number) for number in sorted(begun)}

    @staticmethod
    def rows_from_pages(pages: Mapping[Any, object]) -> list[Row]:
        """The rows of pages that were written, in this version or another one, by any process.

        Args:
            pages: By number; a text that spells one will do.

        Raises:
            ConfigurationError: A page is none: nothing may be submitted on its strength.
        """
        rows: list[Row] = []
        for number, page in sorted(((_number_of(name), page) for name, page in pages.items()), key=itemgetter(0)):
            try:
                rows += _rows_of(number * PAGE_ROWS, cast("Mapping[str, Any]", page))
            except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
                raise _unreadable(f"page {number}", error) from None
        return rows


def _number_of(name: Any) -> int:
    try:
        return int(name)
    except (TypeError, ValueError) as error:
        raise _unreadable(f"page {name!r}", error) from None


def key_of_call(call: Call, root: str) -> str:
    """What a submission is known by when the list is rendered again.

    Args:
        call: The submission.
        root: The address of the API, which is part of what makes two submissions the same.
    """
    return fingerprint(call, root)[:16]


def key_of_ref(ref: RunRef) -> str:
    """What a run that was given is known by."""
    return "/".join((*(ref.parents[name] for name in sorted(ref.parents)), ref.run_id))


def _rows_of(first: int, page: Mapping[str, Any]) -> Iterator[Row]:
    parents = cast("list[Mapping[str, str]]", page.get("parents") or [])
    for place, form in enumerate(page["rows"]):
        of = parents[int(form["p"])] if "p" in form else NO_PARENTS
        yield from_json(first + place, form, of)


def _unreadable(what: str, error: Exception) -> ConfigurationError:
    return ConfigurationError(
        f"The record of this set of runs cannot be read ({what}: {type(error).__name__}), so nobody knows what was "
        "submitted, and nothing is. Look for its runs at the provider, and clear the task to begin anew.",
        error_code=Code.RECORD_UNREADABLE,
    )
