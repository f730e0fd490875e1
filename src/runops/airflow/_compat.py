"""What differs between the Airflow versions from 3.1 on, and all private API of Airflow that the side uses.

Each use of what is private says which public way is missing. Versions are told apart by what is there. Nothing here
knows a provider.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from airflow import __version__ as airflow_version
from airflow.sdk import BaseHook, BaseOperator, Connection
from airflow.sdk.bases.xcom import BaseXCom
from airflow.sdk.definitions.asset import AssetRef
from airflow.sdk.execution_time import context as task_context
from airflow.sdk.execution_time.xcom import XCom
from airflow.triggers.base import BaseTrigger

from runops.airflow.crowds import shared

if TYPE_CHECKING:
    from airflow.sdk import conf
    from airflow.sdk.exceptions import (
        AirflowException,
        AirflowFailException,
        AirflowNotFoundException,
        AirflowRescheduleException,
        AirflowSensorTimeout,
        AirflowSkipException,
        AirflowTaskTimeout,
        TaskDeferralError,
        TaskDeferralTimeout,
        TaskDeferred,
    )
    from jinja2 import Environment
else:
    try:
        from airflow.sdk import conf
        from airflow.sdk.exceptions import (
            AirflowException,
            AirflowFailException,
            AirflowNotFoundException,
            AirflowRescheduleException,
            AirflowSensorTimeout,
            AirflowSkipException,
            AirflowTaskTimeout,
            TaskDeferralError,
            TaskDeferralTimeout,
            TaskDeferred,
        )
    except ImportError:  # Airflow 3.1 has them in its core
        from airflow.configuration import conf
        from airflow.exceptions import (
            AirflowException,
            AirflowFailException,
            AirflowNotFoundException,
            AirflowRescheduleException,
            AirflowSensorTimeout,
            AirflowSkipException,
            AirflowTaskTimeout,
            TaskDeferralError,
            TaskDeferralTimeout,
            TaskDeferred,
        )

__all__ = [
    "AirflowException",
    "AirflowFailException",
    "AirflowNotFoundException",
    "AirflowRescheduleException",
    "AirflowSensorTimeout",
    "AirflowSkipException",
    "AirflowTaskTimeout",
    "AssetRef",
    "RenderedTask",
    "StateStore",
    "TaskDeferralError",
    "TaskDeferralTimeout",
    "TaskDeferred",
    "answers_in_turn",
    "asset_state_stores",
    "conf",
    "connection_of",
    "delete_xcom",
    "discards_on_clear",
    "get_xcom",
    "has_task_state_store",
    "heartbeat_seconds",
    "kills_in_triggerer",
    "listeners_to_tasks",
    "makes_dag_result",
    "maps_over",
    "may_set_xcom",
    "pushed",
    "render_of_map_index",
    "renders_in_triggerer",
    "set_xcom",
    "state_in",
    "stats",
    "stores_xcoms_elsewhere",
    "supervisor",
    "task_state_of",
    "task_state_store",
    "template_environment",
    "trigger_bytes",
]


class StateStore(Protocol):
    """The part of Airflow's task state store that is used."""

    def get(self, key: str, default: Any = None) -> Any:
        """The value under a key."""

    def set(self, key: str, value: Any) -> None:
        """Keep a value under a key."""

    def delete(self, key: str) -> None:
        """Forget a key."""


def task_state_store(context: Mapping[str, Any]) -> StateStore | None:
    """The memory that a task instance keeps over its tries, or None on Airflow below 3.3."""
    return context.get("task_state_store")


def has_task_state_store() -> bool:
    """Whether tasks of this Airflow have such a memory. Private: only the context of a running task shows it."""
    return hasattr(task_context, "TaskStateStoreAccessor")


def discards_on_clear() -> bool:
    """Whether Airflow forgets what a task remembers when a person clears it, unless told otherwise: from 3.4 on.

    By the version: what is there does not show it, since the API server does it.
    """
    major, minor, *_ = airflow_version.split(".")
    return (int(major), int(minor)) >= (3, 4)


def state_in(task_states: Mapping[str, Mapping[str, Any]], ti: Any) -> str | None:
    """The state of a task instance in Airflow's answer about the states of tasks."""
    mapped = ti.map_index is not None and ti.map_index >= 0
    state = task_states[ti.run_id][f"{ti.task_id}_{ti.map_index}" if mapped else ti.task_id]
    return None if state is None else str(getattr(state, "value", state))


def supervisor() -> Any:
    """The connection of this process to the supervisor that speaks to Airflow for it; None where neither a task nor a
    triggerer runs.

    Private: a trigger has no public way to learn the state of its own task, which alone tells a kill by a person from
    a move to another triggerer.
    """
    from airflow.sdk.execution_time import task_runner

    return getattr(task_runner, "SUPERVISOR_COMMS", None)


def answers_in_process() -> bool:
    """Whether Airflow answers this task in the task's own process, as in ``dag.test()``.

    While it answers there, it takes its channel away from the whole process, so that a second thread which asks at that
    moment finds none, and may leave none behind. Private: nothing public says where the answers come from.
    """
    return type(supervisor()).__name__ == "InProcessSupervisorComms"


async def task_state_of(ti: Any) -> str | None:
    """The state of a trigger's task, as Airflow has it now. Private for the reason that :func:`supervisor` gives."""
    from airflow.sdk.execution_time.comms import GetTaskStates

    mapped = ti.map_index is not None and ti.map_index >= 0
    question = GetTaskStates(
        dag_id=ti.dag_id,
        task_ids=[ti.task_id],
        run_ids=[ti.run_id],
        map_index=ti.map_index if mapped else None,
    )
    answer: Any = await supervisor().asend(question)
    return state_in(answer.task_states, ti)


BEGUN_BEFORE_SECONDS = 60.0
"""A try that was made longer ago may have begun before."""


def may_have_begun_before(ti: Any, now: float) -> bool:
    """Whether the task of a trigger may have waited already, in a triggerer that is gone.

    Nothing says when a task began there. But the id of each try is a UUID of version 7, which holds the moment at
    which the try was made.

    :param now: In unix seconds.
    """
    try:
        made = uuid.UUID(str(getattr(ti, "id", None)))
    except ValueError:
        return False
    return made.version == 7 and now - (made.int >> 80) / 1000 > BEGUN_BEFORE_SECONDS


def answers_in_turn(channel: Any) -> bool:
    """Whether a channel of a triggerer takes each answer for that to the last request, as that of Airflow 3.1 does.

    Private: nothing public says so. It belongs to one event loop.
    """
    return hasattr(channel, "_async_reader") and not hasattr(channel, "start_reader")


def kills_in_triggerer() -> bool:
    """Whether a triggerer tells a trigger that a person has killed its task."""
    return hasattr(BaseTrigger, "on_kill")


def asset_state_stores(trigger: Any) -> list[Any]:
    """The memory of each asset that a trigger watches; none on Airflow below 3.3, or outside of a triggerer."""
    accessors = getattr(trigger, "asset_state_store", None)
    if accessors is None:
        return []
    # Private: the public way gives the store of an asset by name only, and a trigger learns no name of its assets.
    several = [*getattr(accessors, "_by_name", {}).values(), *getattr(accessors, "_by_uri", {}).values()]
    return several or [accessors]


async def connection_of(conn_id: str) -> Any:
    """A connection, read without holding up the event loop; once for all that ask for it at the same moment.

    Before Airflow 3.3.2 ``aget_connection`` masks secrets by a call that can end in a deadlock error on the loop's
    own thread, so there the plain call runs in a thread. ``aextra_dejson`` came with the fix. Airflow 3.1 has no such
    error, and its channel cannot be used from a thread at all.
    """

    async def read() -> Any:
        if hasattr(Connection, "aextra_dejson") or answers_in_turn(supervisor()):
            return await BaseHook.aget_connection(conn_id)
        return await asyncio.to_thread(BaseHook.get_connection, conn_id)

    return await shared(conn_id, read)


def heartbeat_seconds() -> float:
    """Seconds after which a supervisor is sure to have noticed that its task's process has ended."""
    return conf.getfloat("workers", "min_heartbeat_interval", fallback=5.0)


def renders_in_triggerer() -> bool:
    """Whether a triggerer fills templates, so that a task may begin there."""
    return hasattr(BaseTrigger, "render_template_fields")


def template_environment(**options: Any) -> Environment:
    """The Jinja environment in which a triggerer renders: without the macros, filters and files of any DAG.

    Private: Airflow gives out the environment of a DAG only, which a task that begins in a triggerer has not loaded.

    :param options: As Jinja's ``Environment`` takes them.
    """
    from airflow.sdk.definitions._internal.templater import SandboxedEnvironment

    return SandboxedEnvironment(cache_size=0, **options)


class RenderedTask(BaseOperator):
    """A task that acts right before and after its templates are filled.

    Private: ``render_template_fields`` is public, but Airflow does not call it for a mapped task.
    """

    def before_rendering(self) -> None:
        """Act while the template fields hold what the DAG says."""

    def after_rendering(self) -> None:
        """Act before Airflow stores what the template fields hold."""

    def _do_render_template_fields(self, *arguments: Any, **named: Any) -> None:
        self.before_rendering()
        super()._do_render_template_fields(*arguments, **named)
        self.after_rendering()


def pushed(ti_key: Any, key: str) -> Any:
    """The value of an XCom of a task instance; None where there is none.

    Not in ``airflow.sdk`` itself, which names no way to read an XCom by the key of a task instance.
    """
    return XCom.get_value(ti_key=ti_key, key=key)


def trigger_bytes() -> int | None:
    """How many bytes of one trigger's arguments the database keeps; None where that is no limit, or not known here.

    Private: the column is a plain text (``airflow.models.trigger``), which MySQL ends at 64 KiB; others do not.
    """
    address = conf.get("database", "sql_alchemy_conn", fallback=None) or ""
    return 65_535 if address.partition(":")[0].startswith(("mysql", "mariadb")) else None


def stats() -> Any:
    """Airflow's metrics: something with ``incr`` and ``timing``, configured for this process or silent."""
    try:
        from airflow.sdk.observability.stats import Stats
    except ImportError:  # Airflow 3.1 has them in its core
        from airflow.stats import Stats
    return Stats


def stores_xcoms_elsewhere() -> bool:
    """Whether this Airflow has an XCom backend of its own, which may block or need a worker."""
    return XCom is not BaseXCom


async def set_xcom(ti: Any, key: str, value: Any) -> None:
    """Store an XCom of a trigger's task in the form that a worker stores: JSON, not the text of it.

    Private: the public way is the ``xcoms`` of an event that ends a task, and Airflow stores those as a JSON text, so
    that a later task gets a text where a worker's XCom is a dict.

    :param value: JSON primitives.
    """
    from airflow.sdk.execution_time.comms import SetXCom

    await supervisor().asend(SetXCom(key=key, value=value, **_of_xcom(ti)))


async def get_xcom(ti: Any, key: str) -> Any:
    """The value of an XCom of a trigger's task as it is stored; None where there is none. Private: as above."""
    from airflow.sdk.execution_time.comms import GetXCom

    answer: Any = await supervisor().asend(GetXCom(key=key, **_of_xcom(ti)))
    return getattr(answer, "value", None)


def may_set_xcom(ti: Any) -> bool:
    """Whether a trigger can store an XCom of its task as a worker would: not outside of a triggerer."""
    return ti is not None and hasattr(supervisor(), "asend") and not stores_xcoms_elsewhere()


async def delete_xcom(ti: Any, key: str) -> None:
    """Remove an XCom of a trigger's task, which no worker has done before its try began. Private: as above."""
    from airflow.sdk.execution_time.comms import DeleteXCom

    await supervisor().asend(DeleteXCom(key=key, **_of_xcom(ti)))


def _of_xcom(ti: Any) -> dict[str, Any]:
    map_index = -1 if ti.map_index is None else ti.map_index
    return {"dag_id": ti.dag_id, "run_id": ti.run_id, "task_id": ti.task_id, "map_index": map_index}


def listeners_to_tasks() -> list[str]:
    """Who is told by a worker how tasks begin and end, such as OpenLineage: names for a message.

    Private: a plugin registers a listener publicly, but nothing public says which there are. The first call loads all
    plugins, so it belongs in a thread.
    """
    try:
        from airflow.sdk.listener import get_listener_manager
    except ImportError:  # Airflow 3.1 has them in its core
        from airflow.listeners.listener import get_listener_manager
    heard = ("on_task_instance_running", "on_task_instance_success", "on_task_instance_skipped")
    hooks: Any = get_listener_manager().hook
    plugins = [each.plugin for name in heard if hasattr(hooks, name) for each in getattr(hooks, name).get_hookimpls()]
    names = {getattr(each, "__name__", type(each).__name__) for each in plugins}
    # Airflow's example DAGs bring one that prints; who loads them has not asked for it.
    return sorted(name for name in names if not name.startswith("airflow.example_dags."))


def maps_over(task: Any) -> bool:
    """Whether a later task is mapped over what this one returns, so that Airflow must learn how long that is."""
    return task.get_dag() is not None and next(task.iter_mapped_dependants(), None) is not None


def makes_dag_result(task: Any) -> bool:
    """Whether what a task returns is the result of its DAG (Airflow 3.3 and newer), which is a mark on its XCom."""
    return bool(getattr(task, "returns_dag_result", False))


def render_of_map_index(ti: Any) -> str | None:
    """What a worker has made of ``map_index_template`` before the task began; None where that failed, or is not set."""
    return getattr(ti, "rendered_map_index", None)
