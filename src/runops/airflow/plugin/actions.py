"""What a person may have done: one look at a run now, and the end of a run. Rights are checked here again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, HTTPException

from runops.airflow.plugin import _compat
from runops.airflow.plugin._compat import SessionDep
from runops.airflow.plugin.answers import found, of_person, row_of
from runops.airflow.plugin.claims import CANCEL, CANCEL_SECONDS, LOOK, LOOK_SECONDS, claim, release, renew
from runops.airflow.plugin.guard import Actor
from runops.airflow.plugin.looked import store
from runops.airflow.plugin.queries import RunQueries
from runops.airflow.plugin.questions import Address, TaskQuestion
from runops.airflow.plugin.rights import Rights, declared, ends_with_task, is_cancellable
from runops.airflow.plugin.rows import Stored
from runops.airflow.plugin.service import client_for, ref_of
from runops.core import RunSnapshot
from runops.core.model.run import Phase

routes = APIRouter()


@routes.post("/api/look")
def look(task: TaskQuestion, user: Actor, session: SessionDep) -> dict[str, Any]:
    """Ask the service how a run stands, unless somebody did within the last seconds; all see what it says."""
    rights, queries = of_person(user, session)
    record = found(Address.of(task), rights, queries, session)
    _must_edit(rights, record)
    _must_see_connection(rights, record)
    if record.run.kind != "run":
        raise HTTPException(409, "The runs of a set are looked at by their task only.")
    ref = ref_of(record)
    same = _same_run(queries, record, session)
    if claim(same[0], LOOK, LOOK_SECONDS, user.get_name()):
        _log("look_at_external_run", rights, record, session)
        began_at = datetime.now(UTC)
        with client_for(record) as client:
            snapshot = client.get(ref)
        # Between the claim and the request there may have been seconds.
        renew(same[0], LOOK)
        _store(same, record, snapshot, began_at)
    return row_of(found(record.address, rights, queries, session), rights, queries, session)


@routes.post("/api/cancel")
def cancel(task: TaskQuestion, user: Actor, session: SessionDep) -> dict[str, Any]:
    """Cancel a run: by the end of its task where that does it, otherwise through the task's connection."""
    rights, queries = of_person(user, session)
    record = found(Address.of(task), rights, queries, session)
    _must_edit(rights, record)
    if record.run.run_ended:
        raise HTTPException(409, "The run is over.")
    by_task = ends_with_task(record.run, record.task_state)
    if not by_task:
        _must_be_cancellable(record)
        _must_see_connection(rights, record)
    same = _same_run(queries, record, session)
    if not claim(same[0], CANCEL, CANCEL_SECONDS, user.get_name()):
        raise HTTPException(409, f"Somebody had it cancelled within the last {CANCEL_SECONDS:.0f} s.")
    try:
        if not by_task:
            _cancel_outside(record, same)
        if by_task or record.task_state in _compat.LIVE_STATES:
            _compat.mark_failed(record.address.to_dict(), user=user, session=session)
    except Exception:
        session.rollback()
        release(same[0], CANCEL)
        raise
    _log("cancel_external_run", rights, record, session)
    return row_of(found(record.address, rights, queries, session), rights, queries, session)


def _cancel_outside(record: Stored, same: list[Any]) -> None:
    """Cancel through the connection, unless a look shows that nothing is left to cancel."""
    ref, began_at = ref_of(record), datetime.now(UTC)
    with client_for(record) as client:
        snapshot = client.get(ref)
        if not snapshot.run_ended and snapshot.phase is not Phase.STOPPING:
            client.cancel(ref)
            began_at = datetime.now(UTC)
            snapshot = client.get(ref)
    _store(same, record, snapshot, began_at)


def _store(same: list[Any], record: Stored, snapshot: RunSnapshot, began_at: datetime) -> None:
    provider, now = declared(record.run), datetime.now(UTC)
    if provider is not None:
        for each in same:
            store(Address.of_xcom(each), provider, snapshot, began_at, now)


def _same_run(queries: RunQueries, record: Stored, session: Any) -> list[Any]:
    """The task instances that wait, or have waited, for the same run through the same connection; the first holds the
    claims. This ends the transaction: none may be open while a service is asked."""
    run = record.run
    same = list(session.execute(queries.same_run(run.provider, run.conn_id, run.run_id, record.address)))
    session.commit()
    if not same:
        raise HTTPException(404, "There is no such run any more.")
    return same


def _must_edit(rights: Rights, record: Stored) -> None:
    if not rights.edits(record.address.dag_id):
        raise HTTPException(403, "Airflow does not let you change tasks of this DAG.")


def _must_see_connection(rights: Rights, record: Stored) -> None:
    if record.run.conn_id is None:
        raise HTTPException(409, "The record names no connection.")
    if not rights.sees_connection(record.run.conn_id):
        raise HTTPException(403, "This needs the task's connection, which Airflow does not let you see.")


def _must_be_cancellable(record: Stored) -> None:
    provider = declared(record.run)
    if provider is None:
        raise HTTPException(409, "The provider is not known to the API server.")
    if record.run.kind != "run":
        raise HTTPException(
            409, "The task does not wait any more, and only it knows which runs of the set are its own."
        )
    if not is_cancellable(record.run):
        raise HTTPException(409, f"{provider.title} documents no way to cancel a run.")
    ref_of(record)


def _log(event: str, rights: Rights, record: Stored, session: Any) -> None:
    run = record.run
    extra = f'{{"provider": "{run.provider}"}}'
    _compat.audit(event, user=rights.user, task=record.address.to_dict(), session=session, extra=extra)
    session.commit()
