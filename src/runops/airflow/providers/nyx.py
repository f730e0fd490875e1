"""Nyx in Airflow: names and signatures. What Nyx's words mean stands in ``runops.core.providers.nyx``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Unpack

from runops.airflow.arguments import (
    Calls,
    DiscoverySettings,
    HookSettings,
    OperatorSettings,
    RunIds,
    RunSensorSettings,
    RunsOperatorSettings,
    SetSensorSettings,
)
from runops.airflow.discovery import RunDiscoverySensor
from runops.airflow.hook import RunHook
from runops.airflow.operator import RunOperator
from runops.airflow.runs_operator import RunsOperator
from runops.airflow.runs_sensor import RunsSensor
from runops.airflow.sensor import RunSensor


class NyxHook(RunHook, provider="nyx"):
    """The connection to Nyx.

    :param nyx_conn_id: The connection, of type ``nyx``; its password is the verification token.
    """

    def __init__(self, nyx_conn_id: str = "nyx_default", **kwargs: Unpack[HookSettings]) -> None:
        super().__init__(nyx_conn_id, provider="nyx", **kwargs)


class NyxRunSensor(RunSensor, provider="nyx"):
    """Wait for a Nyx run that something else submitted. See :class:`~runops.airflow.sensor.RunSensor`.

    :param run_id: The run's id (templated).
    :param nyx_conn_id: The connection (templated).
    """

    def __init__(self, *, run_id: str, nyx_conn_id: str = "nyx_default", **kwargs: Unpack[RunSensorSettings]) -> None:
        super().__init__(provider="nyx", run_id=run_id, conn_id=nyx_conn_id, **kwargs)


class NyxConfigSensor(RunDiscoverySensor, provider="nyx"):
    """Wait for a run of an audit that something else submits.

    See :class:`~runops.airflow.discovery.RunDiscoverySensor`, also for ``since`` and ``which``.

    :param config_name: Stable name of the audit (templated). One that does not exist cannot be told from one
        that has no runs yet.
    :param nyx_conn_id: The connection (templated).
    """

    def __init__(
        self, *, config_name: str, nyx_conn_id: str = "nyx_default", **kwargs: Unpack[DiscoverySettings]
    ) -> None:
        super().__init__(provider="nyx", conn_id=nyx_conn_id, **kwargs)
        self.config_name = config_name


class NyxRunOperator(RunOperator, provider="nyx"):
    """Submit a Nyx audit and wait for it. See :class:`~runops.airflow.operator.RunOperator`.

    ``runops.core.NYX_GATE`` as ``on_outcome`` lets a vulnerability that was found stop what follows;
    ``runops.core.NYX_AUDIT`` takes a finding for what was sought.

    :param config_name: Stable name of the audit; one run of it may be active (templated).
    :param name: What people call this run (templated).
    :param target: ``{"url": ..., "endpoint": ..., "credentials": ...}``, with one of url and endpoint at least
        (templated). What it is rendered to is stored nowhere, but the text of a DAG is: take credentials from a
        Variable or connection.
    :param objective: What the audit should try to make the target do (templated).
    :param budget_usd: The most that it may spend, in USD (templated).
    :param severity_target: One of low, medium, high, critical (templated).
    :param hints: Free texts for the audit (templated).
    :param extra: Further fields of the request (templated).
    :param nyx_conn_id: The connection (templated).
    """

    payload_fields: ClassVar[tuple[str, ...]] = ("target", "objective", "hints", "extra")

    def __init__(
        self,
        *,
        config_name: str,
        name: str,
        target: Mapping[str, Any] | str,
        objective: str,
        budget_usd: float | str,
        severity_target: str,
        hints: Sequence[str] | str | None = None,
        extra: Mapping[str, Any] | str | None = None,
        nyx_conn_id: str = "nyx_default",
        **kwargs: Unpack[OperatorSettings],
    ) -> None:
        super().__init__(provider="nyx", conn_id=nyx_conn_id, **kwargs)
        self.config_name = config_name
        self.name = name
        self.target = target
        self.objective = objective
        self.budget_usd = budget_usd
        self.severity_target = severity_target
        self.hints = hints
        self.extra = extra


class NyxRunsSensor(RunsSensor, provider="nyx"):
    """Wait for many Nyx runs that something else started, as one task.

    See :class:`~runops.airflow.runs_sensor.RunsSensor`, also for ``require`` and ``stop_early``.

    :param run_ids: The runs' ids (templated): a list, or another task's output that is one.
    :param nyx_conn_id: The connection (templated).
    """

    def __init__(
        self,
        *,
        run_ids: RunIds,
        nyx_conn_id: str = "nyx_default",
        **kwargs: Unpack[SetSensorSettings],
    ) -> None:
        super().__init__(provider="nyx", run_ids=run_ids, conn_id=nyx_conn_id, **kwargs)


class NyxRunsOperator(RunsOperator, provider="nyx"):
    """Start many Nyx runs, each once, and wait for all of them, as one task.

    See :class:`~runops.airflow.runs_operator.RunsOperator`, also for ``max_active``, ``require`` and ``stop_early``.

    :param calls: A list of the arguments of each submit (templated), as a :class:`NyxRunOperator` takes them:
        ``config_name``, ``name``, ``target``, ``objective``, ``budget_usd`` and ``severity_target`` at least.
    :param nyx_conn_id: The connection (templated).
    """

    def __init__(
        self,
        *,
        calls: Calls,
        nyx_conn_id: str = "nyx_default",
        **kwargs: Unpack[RunsOperatorSettings],
    ) -> None:
        super().__init__(provider="nyx", calls=calls, conn_id=nyx_conn_id, **kwargs)
