"""OnePin in Airflow: names and signatures. What OnePin's words mean stands in ``runops.core.providers.onepin``."""

from __future__ import annotations

from typing import ClassVar, Unpack

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
from runops.core import RunResult


class OnepinHook(RunHook, provider="onepin"):
    """The connection to OnePin.

    :param onepin_conn_id: The connection, of type ``onepin``; its password is the API key, its extra may hold
        ``workspace_id``.
    """

    def __init__(self, onepin_conn_id: str = "onepin_default", **kwargs: Unpack[HookSettings]) -> None:
        super().__init__(onepin_conn_id, provider="onepin", **kwargs)

    def resume(self, run_id: str, workflow_id: str) -> RunResult:
        """Have a run that is paused go on; one that goes on already is left as it is. How it stands then, for XCom.

        A read decides whether it took, so it may be called again after any error. A pause that begins later is
        another one: a task that calls it after a person's decision has ``retries=0``, so that it ends no other.

        :param run_id: The run.
        :param workflow_id: The workflow of the run.
        :raises RequestRefused: The run is over; nothing was sent.
        :raises ConflictError: Another run of the workflow is active, or the workspace is at its limit; the run stays
            paused.
        :raises ServiceUnavailable: The request did not get through, or the run could not be read.
        """
        return self._resume(run_id, {"workflow_id": workflow_id})


class OnepinRunSensor(RunSensor, provider="onepin"):
    """Wait for a OnePin run that something else started. See :class:`~runops.airflow.sensor.RunSensor`.

    :param workflow_id: The workflow of the run (templated).
    :param run_id: The run's id (templated).
    :param onepin_conn_id: The connection (templated).
    """

    def __init__(
        self,
        *,
        workflow_id: str,
        run_id: str,
        onepin_conn_id: str = "onepin_default",
        **kwargs: Unpack[RunSensorSettings],
    ) -> None:
        super().__init__(provider="onepin", run_id=run_id, conn_id=onepin_conn_id, **kwargs)
        self.workflow_id = workflow_id


class OnepinWorkflowSensor(RunDiscoverySensor, provider="onepin"):
    """Wait for a run of a workflow that something else starts.

    See :class:`~runops.airflow.discovery.RunDiscoverySensor`, also for ``since`` and ``which``.

    :param workflow_id: The workflow (templated).
    :param onepin_conn_id: The connection (templated).
    """

    def __init__(
        self, *, workflow_id: str, onepin_conn_id: str = "onepin_default", **kwargs: Unpack[DiscoverySettings]
    ) -> None:
        super().__init__(provider="onepin", conn_id=onepin_conn_id, **kwargs)
        self.workflow_id = workflow_id


class OnepinRunOperator(RunOperator, provider="onepin"):
    """Start a run of a OnePin workflow and wait for it. See :class:`~runops.airflow.operator.RunOperator`.

    :param workflow_id: The workflow; one run of it may be active (templated).
    :param script_text: The script, where the workflow takes one (templated).
    :param source_language: The script's language (templated).
    :param onepin_conn_id: The connection (templated).
    """

    payload_fields: ClassVar[tuple[str, ...]] = ("script_text",)

    def __init__(
        self,
        *,
        workflow_id: str,
        script_text: str | None = None,
        source_language: str | None = None,
        onepin_conn_id: str = "onepin_default",
        **kwargs: Unpack[OperatorSettings],
    ) -> None:
        super().__init__(provider="onepin", conn_id=onepin_conn_id, **kwargs)
        self.workflow_id = workflow_id
        self.script_text = script_text
        self.source_language = source_language


class OnepinRunsSensor(RunsSensor, provider="onepin"):
    """Wait for many OnePin runs that something else started, as one task.

    See :class:`~runops.airflow.runs_sensor.RunsSensor`, also for ``require`` and ``stop_early``.

    :param workflow_id: The workflow of all runs, or a list with that of each (templated).
    :param run_ids: The runs' ids (templated): a list, or another task's output that is one.
    :param onepin_conn_id: The connection (templated).
    """

    def __init__(
        self,
        *,
        workflow_id: str | RunIds,
        run_ids: RunIds,
        onepin_conn_id: str = "onepin_default",
        **kwargs: Unpack[SetSensorSettings],
    ) -> None:
        super().__init__(provider="onepin", run_ids=run_ids, conn_id=onepin_conn_id, **kwargs)
        self.workflow_id = workflow_id


class OnepinRunsOperator(RunsOperator, provider="onepin"):
    """Start many OnePin runs, each once, and wait for all of them, as one task.

    See :class:`~runops.airflow.runs_operator.RunsOperator`, also for ``max_active``, ``require`` and ``stop_early``.

    :param calls: A list of the arguments of each submit (templated), as a :class:`OnepinRunOperator` takes them:
        ``workflow_id`` at least.
    :param onepin_conn_id: The connection (templated).
    """

    def __init__(
        self,
        *,
        calls: Calls,
        onepin_conn_id: str = "onepin_default",
        **kwargs: Unpack[RunsOperatorSettings],
    ) -> None:
        super().__init__(provider="onepin", calls=calls, conn_id=onepin_conn_id, **kwargs)
