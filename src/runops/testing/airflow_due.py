"""When Airflow has something to do again: ``dag.test()`` looks every second until a poke or a retry is due."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

ENOUGH = 0.001
"""Seconds by which a moment must have passed."""


def seconds_until_due(now: float) -> float | None:
    """Seconds until the next poke of a sensor in reschedule mode, or the next try of a task.

    Args:
        now: Unix seconds.

    Returns:
        None where nothing waits for a moment that is known.
    """
    from airflow.utils.session import create_session
    from sqlalchemy.exc import OperationalError, ProgrammingError

    try:
        with create_session() as session:
            due = [moment.timestamp() - now for moment in (*_pokes(session), *_retries(session))]
    except (OperationalError, ProgrammingError):
        # Airflow is loaded beside Dagster, and its database was never made: no DAG runs here.
        return None
    # One that is due already belongs to a DAG run that nobody works on any more.
    ahead = [seconds for seconds in due if seconds > 0]
    return min(ahead) + ENOUGH if ahead else None


def _waiting(session: Any, state: str) -> list[Any]:
    """The tasks in a state, of the DAG runs that go on."""
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.state import DagRunState, TaskInstanceState

    instances = session.query(TaskInstance).join(DagRun, TaskInstance.run_id == DagRun.run_id)
    return instances.filter(TaskInstance.state == TaskInstanceState(state), DagRun.state == DagRunState.RUNNING).all()


def _pokes(session: Any) -> Iterator[datetime]:
    from airflow.models.taskreschedule import TaskReschedule

    for ti in _waiting(session, "up_for_reschedule"):
        moments = session.query(TaskReschedule.reschedule_date).filter(TaskReschedule.ti_id == ti.id)
        newest = max((moment for (moment,) in moments), default=None)
        if newest is not None:
            yield newest


def _retries(session: Any) -> Iterator[datetime]:
    from airflow.models.serialized_dag import SerializedDagModel

    for ti in _waiting(session, "up_for_retry"):
        dag = SerializedDagModel.get_dag(ti.dag_id, session=session)
        if dag is not None and dag.has_task(ti.task_id):
            ti.task = dag.get_task(ti.task_id)
            yield ti.next_retry_datetime()
