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
    "stats",
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
