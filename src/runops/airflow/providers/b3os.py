"""B3OS in Airflow: names and signatures. What B3OS's words mean stands in ``runops.core.providers.b3os``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from runops.airflow.discovery import RunDiscoverySensor
from runops.airflow.hook import RunHook
from runops.airflow.link import B3osRunLink
from runops.airflow.operator import RunOperator
from runops.airflow.sensor import RunSensor


class B3osHook(RunHook):
    """The connection to B3OS.

    :param b3os_conn_id: The connection, of type ``b3os``; its password is the API key, its extra may hold ``org_id``.
    """

    conn_name_attr: ClassVar[str] = "b3os_conn_id"
    default_conn_name: ClassVar[str] = "b3os_default"
    conn_type: ClassVar[str] = "b3os"
    hook_name: ClassVar[str] = "B3OS"

    def __init__(self, b3os_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(b3os_conn_id, provider="b3os", **kwargs)


class B3osRunSensor(RunSensor):
    """Wait for a B3OS run that something else started. See :class:`~runops.airflow.sensor.RunSensor`.

    :param run_id: The run's id (templated).
    :param b3os_conn_id: The connection (templated).
    """

    template_fields: Sequence[str] = ("run_id", "b3os_conn_id")
    operator_extra_links = (B3osRunLink(),)
    conn_id_field: ClassVar[str] = "b3os_conn_id"

    def __init__(self, *, run_id: str, b3os_conn_id: str = B3osHook.default_conn_name, **kwargs: Any) -> None:
        super().__init__(provider="b3os", run_id=run_id, conn_id=b3os_conn_id, **kwargs)
        self.b3os_conn_id = b3os_conn_id


class B3osWorkflowSensor(RunDiscoverySensor):
    """Wait for a run of a workflow that something else starts.

    See :class:`~runops.airflow.discovery.RunDiscoverySensor`, also for ``since`` and ``which``.

    :param workflow_id: The workflow (templated).
    :param b3os_conn_id: The connection (templated).
    """

    template_fields: Sequence[str] = ("workflow_id", "since", "b3os_conn_id")
    operator_extra_links = (B3osRunLink(),)
    conn_id_field: ClassVar[str] = "b3os_conn_id"
    parent_fields: ClassVar[tuple[str, ...]] = ("workflow_id",)

    def __init__(self, *, workflow_id: str, b3os_conn_id: str = B3osHook.default_conn_name, **kwargs: Any) -> None:
        super().__init__(provider="b3os", conn_id=b3os_conn_id, **kwargs)
        self.workflow_id = workflow_id
        self.b3os_conn_id = b3os_conn_id


class B3osRunOperator(RunOperator):
    """Run a published B3OS workflow and wait for it. See :class:`~runops.airflow.operator.RunOperator`.

    Runs of one workflow may overlap, so after a lost answer to the submit a new run is taken for ours only with
    ``adopt_uncertain=True``.

    :param workflow_id: The workflow (templated).
    :param payload: The trigger payload, a JSON object (templated).
    :param b3os_conn_id: The connection (templated).
    """

    template_fields: Sequence[str] = ("workflow_id", "payload", "b3os_conn_id")
    template_fields_renderers: ClassVar[dict[str, str]] = {"payload": "json"}
    operator_extra_links = (B3osRunLink(),)
    conn_id_field: ClassVar[str] = "b3os_conn_id"
    call_fields: ClassVar[tuple[str, ...]] = ("workflow_id", "payload")
    payload_fields: ClassVar[tuple[str, ...]] = ("payload",)

    def __init__(
        self,
        *,
        workflow_id: str,
        payload: Mapping[str, Any] | str | None = None,
        b3os_conn_id: str = B3osHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(provider="b3os", conn_id=b3os_conn_id, **kwargs)
        self.workflow_id = workflow_id
        self.payload = payload
        self.b3os_conn_id = b3os_conn_id
