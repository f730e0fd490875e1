"""Nekt in Airflow: names and signatures. What Nekt's words mean stands in ``runops.core.providers.nekt``."""

from __future__ import annotations

from typing import Unpack

from runops.airflow.arguments import DiscoverySettings, HookSettings, RunIds, RunSensorSettings, SetSensorSettings
from runops.airflow.discovery import RunDiscoverySensor
from runops.airflow.hook import RunHook
from runops.airflow.runs_sensor import RunsSensor
from runops.airflow.sensor import RunSensor


class NektHook(RunHook, provider="nekt"):
    """The connection to Nekt.

    :param nekt_conn_id: The connection, of type ``nekt``; its password is the API key.
    """

    def __init__(self, nekt_conn_id: str = "nekt_default", **kwargs: Unpack[HookSettings]) -> None:
        super().__init__(nekt_conn_id, provider="nekt", **kwargs)


class NektRunSensor(RunSensor, provider="nekt"):
    """Wait for a Nekt run. See :class:`~runops.airflow.sensor.RunSensor`.

    There is no operator: Nekt documents no way to start a run over its API.

    :param run_id: The run's id (templated).
    :param nekt_conn_id: The connection (templated).
    """

    def __init__(self, *, run_id: str, nekt_conn_id: str = "nekt_default", **kwargs: Unpack[RunSensorSettings]) -> None:
        super().__init__(provider="nekt", run_id=run_id, conn_id=nekt_conn_id, **kwargs)


class NektPipelineSensor(RunDiscoverySensor, provider="nekt"):
    """Wait for a run of a pipeline, which Nekt's own scheduler starts.

    See :class:`~runops.airflow.discovery.RunDiscoverySensor`, also for ``since`` and ``which``. Exactly one of the
    first four is given, as an id or a slug; which of them Nekt's list of runs names depends on the age of the account.

    :param pipeline: The pipeline (templated).
    :param source: The source (templated).
    :param destination: The destination (templated).
    :param transformation: The transformation (templated).
    :param nekt_conn_id: The connection (templated).
    """

    def __init__(
        self,
        *,
        pipeline: str | None = None,
        source: str | None = None,
        destination: str | None = None,
        transformation: str | None = None,
        nekt_conn_id: str = "nekt_default",
        **kwargs: Unpack[DiscoverySettings],
    ) -> None:
        super().__init__(provider="nekt", conn_id=nekt_conn_id, **kwargs)
        self.pipeline = pipeline
        self.source = source
        self.destination = destination
        self.transformation = transformation
        self.check_one_parent()


class NektRunsSensor(RunsSensor, provider="nekt"):
    """Wait for many Nekt runs that something else started, as one task.

    See :class:`~runops.airflow.runs_sensor.RunsSensor`, also for ``require`` and ``stop_early``.

    :param run_ids: The runs' ids (templated): a list, or another task's output that is one.
    :param nekt_conn_id: The connection (templated).
    """

    def __init__(
        self,
        *,
        run_ids: RunIds,
        nekt_conn_id: str = "nekt_default",
        **kwargs: Unpack[SetSensorSettings],
    ) -> None:
        super().__init__(provider="nekt", run_ids=run_ids, conn_id=nekt_conn_id, **kwargs)
