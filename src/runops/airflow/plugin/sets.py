"""The runs of a set: at its end from the XCom ``runs``, before from the pages of its ledger as its worker left them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, cast

from sqlalchemy import select

from runops.airflow.external_run import web_page
from runops.airflow.plugin._compat import XComModel, rows_of_task, task_state_store_model
from runops.airflow.plugin.queries import is_of
from runops.airflow.plugin.questions import Address, RowsQuestion
from runops.airflow.plugin.rights import declared
from runops.airflow.plugin.rows import Stored
from runops.airflow.records import KEY, MANY, SUBMITTED_RUN, Span, page_key
from runops.core.many.ledger import Ledger
from runops.core.many.results import compact
from runops.core.model.errors import ConfigurationError

RUNS = "runs"
"""The XCom with a row for each run."""
MOST_PAGES = 1_000
"""Of one ledger: a hundred runs each."""
TEXTS = ("run_id", "outcome", "verdict", "error", "ended_by", "state", "reason")


def rows_of_set(record: Stored, question: RowsQuestion, session: Any) -> dict[str, Any]:
    """One page of the runs of a set.

    :param record: The set's.
    :param question: Which.
    :param session: The database.
    """
    rows = _ended(record.address, session) or list(_under_way(record, session))
    words = question.q.lower().split()
    outcomes = frozenset(map(str, question.outcome))
    shown = [
        row
        for row in rows
        if (not outcomes or row.get("outcome") in outcomes)
        and all(any(word in str(row.get(name, "")).lower() for name in TEXTS) for word in words)
    ]
    return {"rows": shown[question.offset : question.offset + question.limit], "total": len(shown)}


def _ended(address: Address, session: Any) -> list[dict[str, Any]]:
    rows = _value(session.scalar(select(XComModel.value).where(*is_of(address), XComModel.key == RUNS)))
    return [_checked(each) for each in rows if isinstance(each, Mapping)] if isinstance(rows, list) else []


def _under_way(record: Stored, session: Any) -> Iterator[dict[str, Any]]:
    provider = declared(record.run)
    for number, page in _pages(record.address, session):
        try:
            rows = Ledger.rows_from_pages({number: page})
        except ConfigurationError:
            # What another version has written, or a hand: the others can be shown.
            continue
        for row in rows:
            extra = {"state": str(row.state), "reason": row.reason}
            yield _checked({**compact(row, provider), **{name: each for name, each in extra.items() if each}})


def _pages(address: Address, session: Any) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The pages of the newest set, by their number in it: from the task state store, or else from XComs."""
    state = task_state_store_model()
    for model, key in ((state, KEY), (XComModel, SUBMITTED_RUN)):
        if model is None:
            continue
        of = rows_of_task(model, address.to_dict())
        header = _value(session.scalar(select(model.value).where(*of, model.key == key)))
        if not isinstance(header, Mapping) or header.get("state") != MANY:
            continue
        span = Span.of(cast("Mapping[str, Any]", header))
        keys = {page_key(key, span.first + number): number for number in range(min(span.pages, MOST_PAGES))}
        found = {
            keys[name]: _value(value)
            for name, value in session.execute(select(model.key, model.value).where(*of, model.key.in_(keys)))
        }
        yield from ((number, page) for number, page in sorted(found.items()) if isinstance(page, Mapping))
        return


def _value(stored: Any) -> Any:
    """A stored value, which may be the JSON text of one."""
    for _ in range(2):
        if not isinstance(stored, str):
            break
        try:
            stored = json.loads(stored)
        except (ValueError, RecursionError):
            return None
    return stored


def _checked(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A row whose fields are what they are said to be: anybody may have written the XCom."""
    made: dict[str, Any] = {}
    for name in TEXTS:
        if isinstance(each := row.get(name), str):
            made[name] = "".join(sign if sign.isprintable() else " " for sign in each[:1_000])
    for name in ("index", "spend"):
        each = row.get(name)
        if isinstance(each, int | float) and not isinstance(each, bool):
            made[name] = each
    return made if (url := web_page(row.get("url"))) is None else {**made, "url": url}
