"""Nexio in Airflow: names and signatures. What Nexio's words mean stands in ``runops.core.providers.nexio``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Unpack

from runops.airflow.arguments import (
    Calls,
    HookSettings,
    OperatorSettings,
    RunIds,
    RunSensorSettings,
    RunsOperatorSettings,
    SetSensorSettings,
)
from runops.airflow.hook import RunHook
from runops.airflow.operator import RunOperator
from runops.airflow.runs_operator import RunsOperator
from runops.airflow.runs_sensor import RunsSensor
from runops.airflow.sensor import RunSensor


class NexioHook(RunHook, provider="nexio"):
    """The connection to Nexio.

    :param nexio_conn_id: The connection, of type ``nexio``; its password is the API key.
    """

    def __init__(self, nexio_conn_id: str = "nexio_default", **kwargs: Unpack[HookSettings]) -> None:
        super().__init__(nexio_conn_id, provider="nexio", **kwargs)


class NexioRunSensor(RunSensor, provider="nexio"):
    """Wait for a Nexio run that something else submitted. See :class:`~runops.airflow.sensor.RunSensor`.

    :param run_id: The run's id (templated).
    :param nexio_conn_id: The connection (templated).
    """

    def __init__(
        self, *, run_id: str, nexio_conn_id: str = "nexio_default", **kwargs: Unpack[RunSensorSettings]
    ) -> None:
        super().__init__(provider="nexio", run_id=run_id, conn_id=nexio_conn_id, **kwargs)


class NexioRunOperator(RunOperator, provider="nexio"):
    """Submit a run of a Nexio engine and wait for it. See :class:`~runops.airflow.operator.RunOperator`.

    Nexio has no way to cancel a run and lists none, so a submit whose answer is lost ends in
    ``SubmitUncertainError``.

    :param engine_slug: The engine (templated).
    :param input: The engine's input, a JSON object (templated).
    :param offerings: JSON objects, for placement engines only (templated).
    :param engine_version: ``"1.3"`` or ``"1.x"``; without it the engine's current configuration runs (templated).
    :param nexio_conn_id: The connection (templated).
    """

    payload_fields: ClassVar[tuple[str, ...]] = ("input", "offerings")

    def __init__(
        self,
        *,
        engine_slug: str,
        input: Mapping[str, Any] | str,
        offerings: Sequence[Mapping[str, Any]] | str | None = None,
        engine_version: str | None = None,
        nexio_conn_id: str = "nexio_default",
        **kwargs: Unpack[OperatorSettings],
    ) -> None:
        super().__init__(provider="nexio", conn_id=nexio_conn_id, **kwargs)
        self.engine_slug = engine_slug
        self.input = input
        self.offerings = offerings
        self.engine_version = engine_version


class NexioRunsSensor(RunsSensor, provider="nexio"):
    """Wait for many Nexio runs that something else started, as one task.

    See :class:`~runops.airflow.runs_sensor.RunsSensor`, also for ``require`` and ``stop_early``.

    :param run_ids: The runs' ids (templated): a list, or another task's output that is one.
    :param nexio_conn_id: The connection (templated).
    """

    def __init__(
        self,
        *,
        run_ids: RunIds,
        nexio_conn_id: str = "nexio_default",
        **kwargs: Unpack[SetSensorSettings],
    ) -> None:
        super().__init__(provider="nexio", run_ids=run_ids, conn_id=nexio_conn_id, **kwargs)


class NexioRunsOperator(RunsOperator, provider="nexio"):
    """Start many Nexio runs, each once, and wait for all of them, as one task.

    See :class:`~runops.airflow.runs_operator.RunsOperator`, also for ``max_active``, ``require`` and ``stop_early``.

    :param calls: A list of the arguments of each submit (templated), as a :class:`NexioRunOperator` takes them:
        ``engine_slug`` and ``input`` at least.
    :param nexio_conn_id: The connection (templated).
    """

    def __init__(
        self,
        *,
        calls: Calls,
        nexio_conn_id: str = "nexio_default",
        **kwargs: Unpack[RunsOperatorSettings],
    ) -> None:
        super().__init__(provider="nexio", calls=calls, conn_id=nexio_conn_id, **kwargs)
