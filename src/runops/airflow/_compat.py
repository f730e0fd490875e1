"""What differs between the Airflow versions from 3.1 on, found by looking for it. Nothing here knows a provider."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from airflow.sdk import BaseHook, Connection
from airflow.triggers.base import BaseTrigger

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
    "StateStore",
    "TaskDeferralError",
    "TaskDeferralTimeout",
    "TaskDeferred",
    "asset_state_stores",
    "conf",
    "connection_of",
    "heartbeat_seconds",
    "renders_in_triggerer",
    "state_in",
    "stats",
    "supervisor",
    "task_state_of",
    "task_state_store",
    "template_environment",
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


def state_in(task_states: Mapping[str, Mapping[str, Any]], ti: Any) -> str | None:
    """The state of a task instance in Airflow's answer about the states of tasks."""
    mapped = ti.map_index is not None and ti.map_index >= 0
    state = task_states[ti.run_id][f"{ti.task_id}_{ti.map_index}" if mapped else ti.task_id]
    return None if state is None else str(getattr(state, "value", state))


def supervisor() -> Any:
    """The connection of this process to the supervisor that speaks to Airflow for it; None outside of a triggerer.

    Private: a trigger has no public way to learn the state of its own task, which alone tells a kill by a person from
    a move to another triggerer.
    """
    from airflow.sdk.execution_time import task_runner

    return getattr(task_runner, "SUPERVISOR_COMMS", None)


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


def asset_state_stores(trigger: Any) -> list[Any]:
    """The memory of each asset that a trigger watches; none on Airflow below 3.3, or outside of a triggerer."""
    accessors = getattr(trigger, "asset_state_store", None)
    if accessors is None:
        return []
    # A trigger is told of its assets by this value only, which gives them out by name only, and refuses if several.
    several = [*getattr(accessors, "_by_name", {}).values(), *getattr(accessors, "_by_uri", {}).values()]
    return several or [accessors]


async def connection_of(conn_id: str) -> Any:
    """A connection, read without holding up the event loop.

    Before Airflow 3.3.2 ``aget_connection`` masks secrets by a call that can end in a deadlock error on the loop's
    own thread, so there the plain call runs in a thread. ``aextra_dejson`` came with the fix.
    """
    if hasattr(Connection, "aextra_dejson"):
        return await BaseHook.aget_connection(conn_id)
    return await asyncio.to_thread(BaseHook.get_connection, conn_id)


def heartbeat_seconds() -> float:
    """Seconds after which a supervisor is sure to have noticed that its task's process has ended."""
    return conf.getfloat("workers", "min_heartbeat_interval", fallback=5.0)


def renders_in_triggerer() -> bool:
    """Whether a triggerer fills templates, so that a task may begin there."""
    return hasattr(BaseTrigger, "render_template_fields")


def template_environment(**options: Any) -> Environment:
    """The Jinja environment in which a triggerer renders: without the macros, filters and files of any DAG.

    :param options: As Jinja's ``Environment`` takes them.
    """
    from airflow.sdk.definitions._internal.templater import SandboxedEnvironment

    return SandboxedEnvironment(cache_size=0, **options)


def stats() -> Any:
    """Airflow's metrics: something with ``incr`` and ``timing``, configured for this process or silent."""
    try:
        from airflow.sdk.observability.stats import Stats
    except ImportError:  # Airflow 3.1 has them in its core
        from airflow.stats import Stats
    return Stats
