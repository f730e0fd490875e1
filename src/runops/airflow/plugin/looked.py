"""What one look adds to a stored record, and how it is stored without undoing what somebody else has written since."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select, update

from runops.airflow.external_run import EXTERNAL_RUN, ExternalRun, Moment, iso, shortened
from runops.airflow.plugin._compat import StoredXCom, XComModel, create_session, stored_xcom
from runops.airflow.plugin.queries import is_record_of
from runops.airflow.plugin.questions import Address
from runops.core import Provider, RunSnapshot
from runops.core.model.run import PAUSED_OR_WAITING

TRIES = 3
"""How often a record is read and written anew, where somebody else has written in between."""
_PAUSES = frozenset(map(str, PAUSED_OR_WAITING))


def with_look(run: ExternalRun, provider: Provider, snapshot: RunSnapshot, now: float) -> ExternalRun:
    """A record after a look at its run.

    Where the wait is over, its end stays as it was judged: the look says how the run stands since.

    :param run: The record.
    :param provider: The provider.
    :param snapshot: What the look has shown.
    :param now: When, unix seconds.
    """
    spent = provider.spend.of(snapshot.details) if provider.spend else None
    phase = None if snapshot.phase is None else str(snapshot.phase)
    made = replace(
        run,
        state=snapshot.state,
        progress=run.progress if snapshot.progress is None else snapshot.progress.model_dump(),
        spend=run.spend if spent is None else spent,
        spend_unit=provider.spend.unit if provider.spend and spent is not None else run.spend_unit,
        url=snapshot.url or run.url,
        details={**run.details, **snapshot.details},
        looked_at=iso(now),
        written_at=iso(now),
        run_ended=snapshot.run_ended,
        timeline=_noted(run, snapshot, now),
        **{
            name: iso(each.timestamp())
            for name in ("created_at", "started_at", "finished_at")
            if (each := getattr(snapshot, name)) is not None
        },
    )
    if run.ended_at is not None:
        return made
    holds = phase if phase in _PAUSES else None if run.holds in _PAUSES else run.holds
    outcome = None if snapshot.outcome is None else str(snapshot.outcome)
    held = {"holds": holds, "holds_for": run.holds_for if holds == run.holds else None}
    return replace(made, phase=phase, outcome=outcome, reason=snapshot.reason, **held)


def _noted(run: ExternalRun, snapshot: RunSnapshot, now: float) -> tuple[Moment, ...]:
    status = str(snapshot.status)
    last = run.timeline[-1] if run.timeline else None
    if last is not None and (last.state, last.status) == (snapshot.state, status):
        return run.timeline
    return shortened([*run.timeline, Moment(iso(now), snapshot.state, status)])


def store(address: Address, provider: Provider, snapshot: RunSnapshot, began_at: datetime, now: datetime) -> None:
    """Store a look in the record of a task instance, unless somebody has looked later.

    :param address: The task instance.
    :param provider: The provider.
    :param snapshot: What the look has shown.
    :param began_at: When it began.
    :param now: When it was answered.
    """
    for _ in range(TRIES):
        with create_session(scoped=False) as session:
            row = session.execute(
                select(XComModel.value, XComModel.timestamp).where(*is_record_of(address))
            ).one_or_none()
            run = None if row is None else ExternalRun.from_dict(row.value)
            if row is None or run is None or run.run_id != snapshot.ref.run_id:
                return
            if run.looked_at is not None and run.looked_at > iso(began_at.timestamp()):
                return
            value = with_look(run, provider, snapshot, now.timestamp()).to_dict()
            written: Any = session.execute(
                update(StoredXCom)
                .where(*stored_xcom(address.to_dict(), EXTERNAL_RUN), StoredXCom.timestamp == row.timestamp)
                .values(value=value, timestamp=datetime.now(UTC))
                .execution_options(synchronize_session=False)
            )
            if written.rowcount == 1:
                return
