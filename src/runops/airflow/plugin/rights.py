"""What a person may do on the page: Airflow's auth manager decides, for each DAG and for each connection.

| what | needs |
|---|---|
| see a run | to read the DAG, and to read task instances |
| see the connection's name | to read that connection |
| look now | to change task instances of the DAG, and to read the connection |
| cancel | to change task instances of the DAG; where the page itself must ask the service, to read the connection too |
"""

from __future__ import annotations

from functools import cached_property

from runops.airflow.external_run import ExternalRun
from runops.airflow.plugin import _compat
from runops.core import Provider, find
from runops.core.model.errors import ConfigurationError


class Rights:
    """The rights of one person during one request: nothing is asked twice.

    :param user: Who.
    """

    def __init__(self, user: _compat.BaseUser) -> None:
        self.user = user
        self._editable: dict[str, bool] = {}
        self._connections: dict[str, bool] = {}
        self._readable: dict[str, bool] = {}

    @cached_property
    def dags(self) -> set[str]:
        """The DAGs whose runs this person sees."""
        return _compat.readable_dags(self.user) if _compat.may_see_tasks(self.user) else set()

    def sees(self, dag_id: str) -> bool:
        """Whether this person sees the runs of a DAG."""
        if dag_id not in self._readable:
            self._readable[dag_id] = dag_id in self.dags and _compat.may_see_tasks(self.user, dag_id)
        return self._readable[dag_id]

    def edits(self, dag_id: str) -> bool:
        """Whether this person may change the tasks of a DAG."""
        if dag_id not in self._editable:
            self._editable[dag_id] = _compat.may_edit_task(self.user, dag_id)
        return self._editable[dag_id]

    def sees_connection(self, conn_id: str | None) -> bool:
        """Whether this person may read a connection; none is nobody's."""
        if conn_id is None:
            return False
        if conn_id not in self._connections:
            self._connections[conn_id] = _compat.may_see_connection(self.user, conn_id)
        return self._connections[conn_id]

    def may_look(self, run: ExternalRun, dag_id: str) -> bool:
        """Whether this person may have the service asked how a run stands."""
        return run.kind == "run" and bool(run.run_id) and self.edits(dag_id) and self.sees_connection(run.conn_id)

    def may_cancel(self, run: ExternalRun, dag_id: str, task_state: str | None) -> bool:
        """Whether this person may cancel a run, and whether that can do anything."""
        if run.run_ended or not self.edits(dag_id):
            return False
        if ends_with_task(run, task_state):
            return True
        return run.kind == "run" and bool(run.run_id) and is_cancellable(run) and self.sees_connection(run.conn_id)


def ends_with_task(run: ExternalRun, task_state: str | None) -> bool:
    """Whether marking the task failed cancels the run by itself.

    :param run: The record.
    :param task_state: Of its task instance.
    """
    return run.cancels and run.ended_at is None and task_state in _compat.LIVE_STATES


def declared(run: ExternalRun) -> Provider | None:
    """The declaration of the service; None where this process cannot find it."""
    try:
        return find(run.provider)
    except ConfigurationError:
        return None


def is_cancellable(run: ExternalRun) -> bool:
    """Whether the service documents a cancel."""
    provider = declared(run)
    return provider is not None and provider.cancel is not None
