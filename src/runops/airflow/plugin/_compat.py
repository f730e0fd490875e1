"""All private API of Airflow's API server that the page uses, and what differs between the versions from 3.1 on.

A plugin is handed no session, no user and no auth manager by a documented way, and what "mark as failed" does is a
route's business: so these are taken from where Airflow's own routes take them. Nothing here knows a provider.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.resource_details import ConnectionDetails, DagAccessEntity, DagDetails
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.datamodels.task_instances import PatchTaskInstanceBody
from airflow.api_fastapi.core_api.routes.public.task_instances import patch_task_instance
from airflow.api_fastapi.core_api.security import GetUserDep
from airflow.configuration import conf
from airflow.models import Connection, DagModel, Log, xcom
from airflow.models.dagbag import DBDagBag
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState
from sqlalchemy import ColumnElement, select

__all__ = [
    "BaseUser",
    "Connection",
    "DagAccessEntity",
    "DagRun",
    "GetUserDep",
    "Log",
    "SessionDep",
    "StoredXCom",
    "TaskInstance",
    "XComModel",
    "connection",
    "create_session",
    "mark_failed",
    "may_edit_task",
    "may_see_connection",
    "may_see_tasks",
    "readable_dags",
    "root_path",
    "rows_of_task",
    "stored_place",
    "stored_xcom",
    "task_state_store_model",
]

StoredXCom: Any = getattr(xcom, "XComModelV2", XComModel)
"""The table that XComs are written to. From 3.4 on they belong to one try of a task, and XComModel only shows them. No
public way to write one compares it with what was read."""

LIVE_STATES = frozenset(
    str(state)
    for state in (
        TaskInstanceState.DEFERRED,
        TaskInstanceState.QUEUED,
        TaskInstanceState.RESTARTING,
        TaskInstanceState.RUNNING,
        TaskInstanceState.SCHEDULED,
        TaskInstanceState.UP_FOR_RESCHEDULE,
    )
)
"""The states of a task that works, or is about to: somebody may wait for its run. Between two tries nobody does."""

OVER_STATES = frozenset(
    str(state)
    for state in (
        TaskInstanceState.FAILED,
        TaskInstanceState.REMOVED,
        TaskInstanceState.SKIPPED,
        TaskInstanceState.SUCCESS,
        TaskInstanceState.UPSTREAM_FAILED,
    )
)
"""The states of a task that is over, and of no try that is still to come."""


def root_path() -> str:
    """The path under which the API server is reached from outside, with a slash at its end."""
    path = urlsplit(conf.get("api", "base_url", fallback="") or "").path
    return path if path.endswith("/") else f"{path}/"


def own_hosts() -> frozenset[str]:
    """The host, with its port, that Airflow is configured to be reached at; empty where nothing says it."""
    host = urlsplit(conf.get("api", "base_url", fallback="") or "").netloc
    return frozenset({host} - {""})


# --- rights ---


def readable_dags(user: BaseUser) -> set[str]:
    """The DAGs that a person may read."""
    return get_auth_manager().get_authorized_dag_ids(user=user, method="GET")


def may_see_tasks(user: BaseUser, dag_id: str | None = None) -> bool:
    """Whether a person may read task instances: of a DAG, or at all."""
    return _task_instances("GET", user, dag_id)


def may_edit_task(user: BaseUser, dag_id: str) -> bool:
    """Whether a person may change the task instances of a DAG, as Airflow's own route asks."""
    return _task_instances("PUT", user, dag_id)


def _task_instances(method: Any, user: BaseUser, dag_id: str | None) -> bool:
    team = DagModel.get_team_name(dag_id) if dag_id and _multi_team() else None
    return get_auth_manager().is_authorized_dag(
        method=method,
        access_entity=DagAccessEntity.TASK_INSTANCE,
        details=DagDetails(id=dag_id, team_name=team),
        user=user,
    )


def may_see_connection(user: BaseUser, conn_id: str) -> bool:
    """Whether a person may read a connection."""
    team = Connection.get_team_name(conn_id) if _multi_team() else None
    return get_auth_manager().is_authorized_connection(
        method="GET", details=ConnectionDetails(conn_id=conn_id, team_name=team), user=user
    )


def _multi_team() -> bool:
    return conf.getboolean("core", "multi_team", fallback=False) and hasattr(Connection, "get_team_name")


# --- what is asked of Airflow ---


def connection(conn_id: str, dag_id: str) -> Any:
    """A connection as it stands now, from the secrets backends and the database, as a task of the DAG would get it.

    :param conn_id: Which.
    :param dag_id: The DAG, whose team the connection may belong to.
    :raises AirflowNotFoundException: There is none.
    """
    if _multi_team() and (team := DagModel.get_team_name(dag_id)):
        return Connection.get_connection_from_secrets(conn_id, team_name=team)
    return Connection.get_connection_from_secrets(conn_id)


def mark_failed(task: Mapping[str, Any], *, user: BaseUser, session: Any) -> None:
    """Mark a task instance failed as Airflow's own route does it, with its listeners and what follows of it.

    :param task: dag_id, dag_run_id, task_id, map_index.
    :param user: Who does it.
    :param session: The database.
    :raises HTTPException: It is failed already (409), or the DAG does not know it any more (404).
    """
    patch_task_instance(
        **task,
        dag_bag=DBDagBag(),
        body=PatchTaskInstanceBody(new_state=TaskInstanceState.FAILED),
        user=user,
        session=session,
        update_mask=["new_state"],
    )


def audit(event: str, *, user: BaseUser, task: Mapping[str, Any], session: Any, extra: str) -> None:
    """Write a line of Airflow's audit log.

    :param event: What was done.
    :param user: By whom.
    :param task: dag_id, dag_run_id, task_id, map_index.
    :param session: The database.
    :param extra: What else belongs to it; never a secret.
    """
    line = Log(
        event=event,
        owner=user.get_name(),
        owner_display_name=user.get_name(),
        extra=extra,
        dag_id=task["dag_id"],
        run_id=task["dag_run_id"],
        task_id=task["task_id"],
    )
    line.map_index = task["map_index"]
    session.add(line)


def task_state_store_model() -> Any:
    """The table in which tasks keep what they know over their tries; None below Airflow 3.3."""
    try:
        from airflow.models.task_state_store import TaskStateStoreModel
    except ImportError:
        return None
    return TaskStateStoreModel


def rows_of_task(model: Any, task: Mapping[str, Any]) -> tuple[ColumnElement[bool], ...]:
    """Which rows of a table of Airflow's are those of a task instance: of itself, of its XComs, or of its state store.

    :param model: The table. Airflow 3.4 has renamed the column of the map index in the task state store.
    :param task: dag_id, dag_run_id, task_id, map_index.
    """
    return (
        model.dag_id == task["dag_id"],
        model.run_id == task["dag_run_id"],
        model.task_id == task["task_id"],
        (model.map_index if hasattr(model, "map_index") else model.region_index) == task["map_index"],
    )


def stored_xcom(task: Mapping[str, Any], key: str) -> tuple[ColumnElement[bool], ...]:
    """Which row of :data:`StoredXCom` is an XCom of a task instance.

    :param task: dag_id, dag_run_id, task_id, map_index.
    :param key: The key of the XCom.
    """
    if StoredXCom is XComModel:
        return (*rows_of_task(XComModel, task), XComModel.key == key)
    return (StoredXCom.task_instance_id == _last_try(task), StoredXCom.key == key)


def stored_place(task: Mapping[str, Any], number: int) -> dict[str, Any]:
    """What a new row of :data:`StoredXCom` says about whose it is.

    :param task: dag_id, dag_run_id, task_id, map_index.
    :param number: The number of the DAG run in the database.
    """
    if StoredXCom is XComModel:
        return {**task, "run_id": task["dag_run_id"], "dag_run_id": number}
    return {"task_instance_id": _last_try(task)}


def _last_try(task: Mapping[str, Any]) -> Any:
    """The number of a task instance where each try has one, which is so from Airflow 3.4 on."""
    model: Any = TaskInstance
    return select(model.id).where(*rows_of_task(model, task), model.working_set.is_(True)).scalar_subquery()
