"""B3OS in Airflow: names and signatures. What B3OS's words mean stands in ``runops.core.providers.b3os``."""

from __future__ import annotations

from collections.abc import Mapping
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
from runops.core.waiting.options import SubmitOptions


class B3osHook(RunHook, provider="b3os"):
    """The connection to B3OS.

    :param b3os_conn_id: The connection, of type ``b3os``; its password is the API key, its extra may hold ``org_id``.
    """

    def __init__(self, b3os_conn_id: str = "b3os_default", **kwargs: Unpack[HookSettings]) -> None:
        super().__init__(b3os_conn_id, provider="b3os", **kwargs)

    def retry(self, run_id: str, **settings: Unpack[SubmitOptions]) -> str:
        """Have a run that failed go on from the node that failed, as a new run; the id of that, for a sensor.

        It starts a run, and nothing remembers that it did: a task that calls it must have ``retries=0``, and cancels
        nothing when it is killed. ``B3osRunOperator(retry_of=...)`` does all of that.

        :param run_id: The run that failed.
        :param settings: ``adopt_uncertain``, ``submit_grace``, ``on_conflict`` and ``timeout``, as a
            :class:`B3osRunOperator` takes them.
        :raises RequestRefused: The run has not failed; nothing was submitted.
        :raises SubmitUncertainError: The answer is lost, and so whether a run was started is not known.
        :raises ConflictError: Something is active there.
        :raises ServiceUnavailable: Nothing was started.
        """
        return self._retry(run_id, None, settings)


class B3osRunSensor(RunSensor, provider="b3os"):
    """Wait for a B3OS run that something else started. See :class:`~runops.airflow.sensor.RunSensor`.

    :param run_id: The run's id (templated).
    :param b3os_conn_id: The connection (templated).
    """

    def __init__(self, *, run_id: str, b3os_conn_id: str = "b3os_default", **kwargs: Unpack[RunSensorSettings]) -> None:
        super().__init__(provider="b3os", run_id=run_id, conn_id=b3os_conn_id, **kwargs)


class B3osWorkflowSensor(RunDiscoverySensor, provider="b3os"):
    """Wait for a run of a workflow that something else starts.

    See :class:`~runops.airflow.discovery.RunDiscoverySensor`, also for ``since`` and ``which``.

    :param workflow_id: The workflow (templated).
    :param b3os_conn_id: The connection (templated).
    """

    def __init__(
        self, *, workflow_id: str, b3os_conn_id: str = "b3os_default", **kwargs: Unpack[DiscoverySettings]
    ) -> None:
        super().__init__(provider="b3os", conn_id=b3os_conn_id, **kwargs)
        self.workflow_id = workflow_id


class B3osRunOperator(RunOperator, provider="b3os"):
    """Run a published B3OS workflow and wait for it. See :class:`~runops.airflow.operator.RunOperator`.

    Runs of one workflow may overlap, so after a lost answer to the submit a new run is taken for ours only with
    ``adopt_uncertain=True``.

    :param workflow_id: The workflow (templated).
    :param payload: The trigger payload, a JSON object (templated).
    :param retry_of: The id of a run of this workflow that failed (templated): it goes on from the node that failed, as
        a new run, instead of a run from the beginning. Then ``payload`` is left out.
    :param b3os_conn_id: The connection (templated).
    """

    shared_fields: ClassVar[tuple[str, ...]] = ("retry_of",)
    payload_fields: ClassVar[tuple[str, ...]] = ("payload",)

    def __init__(
        self,
        *,
        workflow_id: str,
        payload: Mapping[str, Any] | str | None = None,
        retry_of: str | None = None,
        b3os_conn_id: str = "b3os_default",
        **kwargs: Unpack[OperatorSettings],
    ) -> None:
        super().__init__(provider="b3os", retry_of=retry_of, conn_id=b3os_conn_id, **kwargs)
        self.workflow_id = workflow_id
        self.payload = payload


class B3osRunsSensor(RunsSensor, provider="b3os"):
    """Wait for many B3OS runs that something else started, as one task.

    See :class:`~runops.airflow.runs_sensor.RunsSensor`, also for ``require`` and ``stop_early``.

    :param run_ids: The runs' ids (templated): a list, or another task's output that is one.
    :param b3os_conn_id: The connection (templated).
    """

    def __init__(
        self,
        *,
        run_ids: RunIds,
        b3os_conn_id: str = "b3os_default",
        **kwargs: Unpack[SetSensorSettings],
    ) -> None:
        super().__init__(provider="b3os", run_ids=run_ids, conn_id=b3os_conn_id, **kwargs)


class B3osRunsOperator(RunsOperator, provider="b3os"):
    """Start many B3OS runs, each once, and wait for all of them, as one task.

    See :class:`~runops.airflow.runs_operator.RunsOperator`, also for ``max_active``, ``require`` and ``stop_early``.

    :param calls: A list of the arguments of each submit (templated), as a :class:`B3osRunOperator` takes them:
        ``workflow_id`` at least.
    :param b3os_conn_id: The connection (templated).
    """

    def __init__(
        self,
        *,
        calls: Calls,
        b3os_conn_id: str = "b3os_default",
        **kwargs: Unpack[RunsOperatorSettings],
    ) -> None:
        super().__init__(provider="b3os", calls=calls, conn_id=b3os_conn_id, **kwargs)
