"""How a row is stored: JSON primitives under short names, without what is not known. Fields are only ever added."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runops.core.many.rows import NO_PARENTS, Row, RowState
from runops.core.model.policy import Verdict
from runops.core.model.run import Outcome
from runops.core.waiting.intent import Intent
from runops.core.waiting.turns import Turn


def to_json(row: Row) -> dict[str, Any]:
    """JSON primitives. The index and the parents are said by whoever stores them."""
    form: dict[str, Any] = {
        "k": None if row.key == row.run_id else row.key,
        "s": str(row.state),
        "i": row.run_id,
        "n": row.intent and _bare(row.intent.to_dict()),
        "t": row.turn and _bare(row.turn.to_dict()),
        "a": row.submitted_at,
        "x": int(row.attached) or None,
        "c": int(row.stopped) or None,
        "o": row.outcome and str(row.outcome),
        "v": row.verdict and str(row.verdict),
        "m": row.spend,
        "b": row.spent_before or None,
        "e": row.ended_by,
        "r": row.reason,
        "u": row.url,
        "f": row.error,
    }
    return _bare(form)


def from_json(index: int, form: Mapping[str, Any], parents: Mapping[str, str] = NO_PARENTS) -> Row:
    """Read what :func:`to_json` wrote; fields that this version does not know do no harm.

    Args:
        index: The row's place.
        form: What was written.
        parents: What the run's address needs beside its id.

    Raises:
        KeyError, TypeError, ValueError: It is something else.
    """
    intent, turn = form.get("n"), form.get("t")
    return Row(
        index=index,
        key=form.get("k") or form["i"],
        state=RowState(form["s"]),
        run_id=form.get("i"),
        parents=parents,
        intent=None if intent is None else Intent.from_dict(intent),
        turn=None if turn is None else Turn.from_dict(turn),
        submitted_at=form.get("a"),
        attached=bool(form.get("x")),
        stopped=bool(form.get("c")),
        outcome=Outcome(form["o"]) if "o" in form else None,
        verdict=Verdict(form["v"]) if "v" in form else None,
        spend=form.get("m"),
        spent_before=form.get("b", 0.0),
        ended_by=form.get("e"),
        reason=form.get("r"),
        url=form.get("u"),
        error=form.get("f"),
    )


def _bare(value: Mapping[str, Any]) -> dict[str, Any]:
    return {name: each for name, each in value.items() if each is not None}
