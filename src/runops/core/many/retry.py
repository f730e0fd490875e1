"""What a new try makes of the record of an earlier one: what is kept, taken up again, or submitted anew. Pure.

A row is known by its key, wherever the list has it now. What is left over on both sides goes together where it stands
at the same place: a template that renders otherwise on each try must not start a second run beside one that may live.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from runops.core.many.ledger import Ledger
from runops.core.many.rows import Row, RowState


@dataclass(frozen=True, slots=True)
class TakenUp:
    """A ledger with what an earlier try has left, and what that means.

    Args:
        ledger: It goes on from here.
        kept: How many results stand.
        waited: How many runs are waited for again.
        again: Of a new try, the indices of those: one that is found over at the first look, in a way that a retry
            repeats, gives way to a new one.
        searched: How many submits whose answer is not known are looked for.
        anew: How many failed, or could not be submitted, and are submitted again.
        unsent: How many were never sent.
        changed: How many stand for a call that is not the one that was submitted at their place.
        left: What no row of the new list stands for, and may go on at the service.
    """

    ledger: Ledger
    kept: int = 0
    waited: int = 0
    again: frozenset[int] = frozenset()
    searched: int = 0
    anew: int = 0
    unsent: int = 0
    changed: int = 0
    left: tuple[Row, ...] = ()

    def line(self) -> str:
        """What the new try does, for people."""
        parts = [
            f"{count:,} {words}"
            for count, words in (
                (self.kept, "of an earlier try are kept"),
                (self.waited, "are waited for again"),
                (self.searched, "are looked for, since the answer to their submit is lost"),
                (self.anew, "are submitted anew"),
                (self.unsent, "are submitted for the first time"),
            )
            if count
        ]
        return f"Of {len(self.ledger):,} runs {', '.join(parts)}."


def take_up(rows: Iterable[Row], keys: Sequence[str], *, retry: bool = True) -> TakenUp:
    """The ledger of a try that goes on where an earlier one has left off.

    Args:
        rows: What was recorded.
        keys: The keys of the list as it is now.
        retry: Whether a new try of the task begins. False for the same one in another process, as after a deferral:
            then what is over stays over.
    """
    earlier, changed, left = _matched(list(rows), keys)
    made: list[Row] = []
    again: set[int] = set()
    counts = {"kept": 0, "waited": 0, "searched": 0, "anew": 0, "unsent": 0}
    for index, key in enumerate(keys):
        before = earlier.get(index) or Row(index=index, key=key)
        row = _for_new_try(before) if retry else before
        made.append(row)
        if row.is_running:
            counts["waited"] += 1
            if retry:
                again.add(index)
        elif row.is_over:
            counts["kept"] += 1
        elif row.state is RowState.SUBMITTING:
            counts["searched"] += 1
        else:
            counts["anew" if before.is_over or row.spent_before else "unsent"] += 1
    ledger = Ledger(made)
    return TakenUp(ledger, again=frozenset(again), changed=changed, left=left, **counts)


def _for_new_try(row: Row) -> Row:
    """What a new try does about a row: by the rules for single runs."""
    match row.state:
        case RowState.ENDED if row.fails_anew:
            return row.planned_anew()
        case RowState.REFUSED:
            # Nothing was started.
            return row.planned_anew()
        case RowState.UNCLEAR:
            return replace(row, state=RowState.SUBMITTING, error=None, reason=None)
        case RowState.ENDED | RowState.UNREAD if row.run_id is not None and row.may_be_alive:
            return row.waited_for_again()
        case _:
            return row


def _matched(rows: list[Row], keys: Sequence[str]) -> tuple[dict[int, Row], int, tuple[Row, ...]]:
    """The earlier rows by the index that they have now, how many stand for another call, and those that are left."""
    places = {key: index for index, key in enumerate(keys)}
    found: dict[int, Row] = {}
    rest: list[Row] = []
    for row in rows:
        index = places.get(row.key)
        if index is None or index in found:
            rest.append(row)
        else:
            found[index] = row if row.index == index else replace(row, index=index)
    changed, left = 0, list[Row]()
    for row in rest:
        if row.state is RowState.PLANNED and not row.spent_before:
            continue
        if row.index < len(keys) and row.index not in found:
            found[row.index] = replace(row, key=keys[row.index])
            changed += 1
        elif row.may_be_alive:
            left.append(row)
    return found, changed, tuple(left)
