"""Nekt in Airflow: names and signatures. What Nekt's words mean stands in ``runops.core.providers.nekt``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from runops.airflow.hook import RunHook
from runops.airflow.link import NektRunLink
from runops.airflow.sensor import RunSensor


class NektHook(RunHook):
    """The connection to Nekt.

    :param nekt_conn_id: The connection, of type ``nekt``; its password is the API key.
    """

    conn_name_attr: ClassVar[str] = "nekt_conn_id"
    default_conn_name: ClassVar[str] = "nekt_default"
    conn_type: ClassVar[str] = "nekt"
    hook_name: ClassVar[str] = "Nekt"

    def __init__(self, nekt_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(nekt_conn_id, provider="nekt", **kwargs)


class NektRunSensor(RunSensor):
    """Wait for a Nekt run. See :class:`~runops.airflow.sensor.RunSensor`.

    There is no operator: Nekt documents no way to start a run over its API.

    :param run_id: The run's id (templated).
    :param nekt_conn_id: The connection (templated).
    """

    template_fields: Sequence[str] = ("run_id", "nekt_conn_id")
    operator_extra_links = (NektRunLink(),)
    conn_id_field: ClassVar[str] = "nekt_conn_id"

    def __init__(self, *, run_id: str, nekt_conn_id: str = NektHook.default_conn_name, **kwargs: Any) -> None:
        super().__init__(provider="nekt", run_id=run_id, conn_id=nekt_conn_id, **kwargs)
        self.nekt_conn_id = nekt_conn_id
