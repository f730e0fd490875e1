"""What Airflow stores of tasks and their runs, written by its own models: DAGs, DAG runs, task instances, XComs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from runops.airflow.external_run import iso

DAGS = ("alpha", "beta", "gamma")
TASKS = ("wait", "submit", "many")
NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)


def record(**fields: Any) -> dict[str, Any]:
    """A stored record as a worker leaves it; fields that are None are left out."""
    now = datetime.now(UTC).timestamp()
    made = {
        "schema": 1, "kind": "run", "provider": "nyx", "conn_id": "nyx_default", "run_id": "run-1", "parents": {},
        "url": "https://app.fabraix.com/nyx/runs/run-1", "own": True, "cancels": True, "try_number": 1,
        "state": "running", "phase": "running", "began_at": iso(now - 600), "created_at": iso(now - 590),
        "looked_at": iso(now - 5), "written_at": iso(now - 5), "run_ended": False, "details": {"stage": "probing"},
        "timeline": [{"at": iso(now - 590), "state": "running", "phase": "running"}],
    } | fields  # fmt: skip
    return {name: value for name, value in made.items() if value is not None}


def ended(outcome: str = "succeeded", seconds: float = 100.0, **fields: Any) -> dict[str, Any]:
    """The record of a run that is over."""
    now = datetime.now(UTC).timestamp()
    return record(
        **{
            "state": "completed", "phase": None, "outcome": outcome, "verdict": "succeed", "run_ended": True,
            "created_at": iso(now - 10 - seconds), "began_at": iso(now - 10 - seconds), "finished_at": iso(now - 10),
            "ended_at": iso(now - 5), **fields,
        }
    )  # fmt: skip


class Database:
    """Airflow's database on sqlite."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self.versions: dict[str, Any] = {}

    def create(self) -> None:
        """The tables, and the DAGs as a DAG processor leaves them."""
        from airflow import settings
        from airflow.models import import_all_models
        from airflow.models.base import Base

        import_all_models()
        assert settings.engine is not None
        tables: Any = Base
        tables.metadata.create_all(settings.engine)
        self._write_dags()

    def _write_dags(self) -> None:
        from airflow.models import Connection, DagModel
        from airflow.models.dag_version import DagVersion
        from airflow.models.dagbundle import DagBundleModel
        from airflow.models.pool import Pool
        from airflow.models.serialized_dag import SerializedDagModel
        from airflow.sdk import DAG
        from airflow.utils.session import create_session
        from sqlalchemy import select

        from runops.airflow import NyxRunSensor

        with create_session() as session:
            session.add(DagBundleModel(name="tests"))
            # Another test of this process may have had Airflow make the same database.
            if session.scalar(select(Pool.id).where(Pool.pool == "default_pool")) is None:
                session.add(Pool(pool="default_pool", slots=128, description="", include_deferred=False))
            session.flush()
            for dag_id in DAGS:
                with DAG(dag_id, schedule=None) as dag:
                    for task_id in TASKS:
                        NyxRunSensor(task_id=task_id, run_id="given", deferrable=True)
                session.add(DagModel(dag_id=dag_id, bundle_name="tests", fileloc="tests.py", is_paused=False))
                session.flush()
                SerializedDagModel.write_dag(lazy(dag), bundle_name="tests", session=session)
                session.flush()
                self.versions[dag_id] = session.scalar(select(DagVersion.id).where(DagVersion.dag_id == dag_id))
            session.add(Connection(conn_id="nyx_default", conn_type="nyx", password="canary-key-of-the-page-5b1f"))

    def clear(self) -> None:
        """No DAG run, task instance or XCom."""
        from airflow.models import Log
        from airflow.models.dagrun import DagRun
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.session import create_session

        from runops.airflow.plugin._compat import StoredXCom

        with create_session() as session:
            for model in (StoredXCom, TaskInstance, DagRun, Log):
                session.query(model).delete()

    def add(
        self,
        value: Any = None,
        *,
        dag_id: str = "alpha",
        task_id: str = "wait",
        run: str | None = None,
        map_index: int = -1,
        state: str | None = "deferred",
        try_number: int = 1,
        ago: float = 60.0,
        xcoms: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """A task instance and the record of its run; gives its four ids.

        Args:
            value: What stands in the XCom; :func:`record` if None.
            dag_id: One of :data:`DAGS`.
            task_id: One of :data:`TASKS`.
            run: The DAG run; one of its own if None.
            map_index: The task's.
            state: The task's.
            try_number: The task's.
            ago: How long ago the record was written, s.
            xcoms: Others of the task.
        """
        from airflow.utils.session import create_session
        from sqlalchemy import insert

        from runops.airflow.plugin._compat import StoredXCom, stored_place

        number = next(self._numbers)
        run = run or f"manual__{number}"
        now = datetime.now(UTC)
        task = {"dag_id": dag_id, "dag_run_id": run, "task_id": task_id, "map_index": map_index}
        with create_session() as session:
            dag_run_id = self._dag_run(dag_id, run, session)
            session.execute(self._task(dag_id, task_id, run, map_index, state, try_number))
            for key, each in {"external_run": record() if value is None else value, **(xcoms or {})}.items():
                place = stored_place(task, dag_run_id)
                written = now - timedelta(seconds=ago)
                session.execute(insert(StoredXCom).values(**place, key=key, value=each, timestamp=written))
        return task

    def _dag_run(self, dag_id: str, run: str, session: Any) -> int:
        from airflow.models.dagrun import DagRun
        from airflow.utils.types import DagRunTriggeredByType
        from sqlalchemy import select

        known = session.scalar(select(DagRun.id).where(DagRun.dag_id == dag_id, DagRun.run_id == run))
        if known is not None:
            return known
        session.execute(
            DagRun.__table__.insert().values(
                dag_id=dag_id, run_id=run, run_type="manual", triggered_by=DagRunTriggeredByType.REST_API,
                state="running", run_after=NOW, conf={}, created_dag_version_id=self.versions[dag_id],
            )
        )  # fmt: skip
        return session.scalar(select(DagRun.id).where(DagRun.dag_id == dag_id, DagRun.run_id == run))

    def _task(self, dag_id: str, task_id: str, run: str, map_index: int, state: str | None, try_number: int) -> Any:
        import uuid

        from airflow.models.taskinstance import TaskInstance

        now = datetime.now(UTC)
        over = state in ("success", "failed", "skipped")
        # Airflow below 3.2 keeps the number as text.
        number = TaskInstance.__table__.c.id.type.python_type(str(uuid.uuid4()))
        # Airflow from 3.4 on has renamed the column.
        index = "map_index" if "map_index" in TaskInstance.__table__.c else "region_index"
        return TaskInstance.__table__.insert().values(
            id=number, task_id=task_id, dag_id=dag_id, run_id=run, **{index: map_index}, state=state,
            start_date=now - timedelta(minutes=10), end_date=now if over else None, try_number=try_number, max_tries=0,
            hostname="", unixname="", pool="default_pool", pool_slots=1, queue="default", priority_weight=1,
            operator="NyxRunSensor", executor_config={}, task_display_name=task_id,
            dag_version_id=self.versions[dag_id],
        )  # fmt: skip

    def raw(self, value: str, **task: Any) -> dict[str, Any]:
        """As :meth:`add`, and the record's column is set to this text as it stands."""
        from airflow.utils.session import create_session
        from sqlalchemy import literal_column, update

        from runops.airflow.plugin._compat import StoredXCom, stored_xcom

        made = self.add(**task)
        quoted = literal_column("'" + value.replace("'", "''") + "'")
        with create_session() as session:
            of = stored_xcom(made, "external_run")
            session.execute(
                update(StoredXCom).where(*of).values(value=quoted).execution_options(synchronize_session=False)
            )
        return made

    def state_of(self, task: Mapping[str, Any]) -> str | None:
        """How a task instance stands."""
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.session import create_session
        from sqlalchemy import select

        with create_session() as session:
            return session.scalar(select(TaskInstance.state).where(*_ids(TaskInstance, task)))

    def xcom(self, task: Mapping[str, Any], key: str = "external_run") -> Any:
        """A stored value."""
        from airflow.models.xcom import XComModel
        from airflow.utils.session import create_session
        from sqlalchemy import select

        with create_session() as session:
            return session.scalar(select(XComModel.value).where(*_ids(XComModel, task), XComModel.key == key))

    def written(self, task: Mapping[str, Any], key: str) -> datetime:
        """When an XCom was written."""
        from airflow.models.xcom import XComModel
        from airflow.utils.session import create_session
        from sqlalchemy import select

        with create_session() as session:
            of = (*_ids(XComModel, task), XComModel.key == key)
            return session.scalars(select(XComModel.timestamp).where(*of)).one()

    def age(self, task: Mapping[str, Any], key: str, seconds: float) -> None:
        """Let so many seconds pass over an XCom."""
        from airflow.utils.session import create_session
        from sqlalchemy import update

        from runops.airflow.plugin._compat import StoredXCom, stored_xcom

        before = self.written(task, key) - timedelta(seconds=seconds)
        with create_session() as session:
            of = stored_xcom(task, key)
            session.execute(
                update(StoredXCom).where(*of).values(timestamp=before).execution_options(synchronize_session=False)
            )

    def number_of(self, task: Mapping[str, Any]) -> int:
        """The number of a task instance's DAG run."""
        from airflow.models.dagrun import DagRun
        from airflow.utils.session import create_session
        from sqlalchemy import select

        with create_session() as session:
            of = (DagRun.dag_id == task["dag_id"], DagRun.run_id == task["dag_run_id"])
            return session.scalars(select(DagRun.id).where(*of)).one()

    def audit(self) -> list[Any]:
        """The audit log."""
        from airflow.models import Log
        from airflow.utils.session import create_session
        from sqlalchemy import select

        with create_session() as session:
            return list(session.execute(select(Log.event, Log.owner, Log.dag_id, Log.task_id, Log.run_id, Log.extra)))


def lazy(dag: Any) -> Any:
    """A DAG as a DAG processor hands it to the database."""
    from airflow.serialization.serialized_objects import LazyDeserializedDAG

    return LazyDeserializedDAG.from_dag(dag)


def _ids(model: Any, task: Mapping[str, Any]) -> list[Any]:
    return [
        model.dag_id == task["dag_id"], model.run_id == task["dag_run_id"], model.task_id == task["task_id"],
        model.map_index == task["map_index"],
    ]  # fmt: skip
