"""What the routes share: who asks, the record they ask about, and a row of the answer."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from fastapi import HTTPException

from runops.airflow.plugin._compat import BaseUser
from runops.airflow.plugin.queries import RunQueries
from runops.airflow.plugin.questions import Address
from runops.airflow.plugin.rights import Rights
from runops.airflow.plugin.rows import Stored, shown, usual_seconds


def of_person(user: BaseUser, session: Any) -> tuple[Rights, RunQueries]:
    """What somebody may do, and the questions to the database that show them no more than they may see.

    :param user: Who.
    :param session: The database.
    """
    rights = Rights(user)
    return rights, RunQueries(session.get_bind().dialect.name, rights.dags)


def found(address: Address, rights: Rights, queries: RunQueries, session: Any) -> Stored:
    """The record of a task instance.

    :raises HTTPException: 404, where there is none or this person may not see it: which of both is not said.
    """
    row = session.execute(queries.one(address)).one_or_none() if rights.sees(address.dag_id) else None
    record = None if row is None else Stored.of(row)
    if record is None:
        raise HTTPException(404, "There is no such run, or you may not see it.")
    return record


def row_of(record: Stored, rights: Rights, queries: RunQueries, session: Any) -> dict[str, Any]:
    """A record as the page shows it."""
    return shown(record, rights, datetime.now(UTC), usual_seconds(queries, [record], session))
