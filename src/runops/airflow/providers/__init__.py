"""The named classes of each provider: one record each of what Airflow reads at its start, and the module beside it.

A sixth provider is one such module and one record, with its import for type checkers. Nothing is imported here at
runtime: every Airflow process loads this.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from runops.airflow.providers.b3os import B3osHook as B3osHook
    from runops.airflow.providers.b3os import B3osRunOperator as B3osRunOperator
    from runops.airflow.providers.b3os import B3osRunSensor as B3osRunSensor
    from runops.airflow.providers.b3os import B3osRunsOperator as B3osRunsOperator
    from runops.airflow.providers.b3os import B3osRunsSensor as B3osRunsSensor
    from runops.airflow.providers.b3os import B3osWorkflowSensor as B3osWorkflowSensor
    from runops.airflow.providers.nekt import NektHook as NektHook
    from runops.airflow.providers.nekt import NektPipelineSensor as NektPipelineSensor
    from runops.airflow.providers.nekt import NektRunSensor as NektRunSensor
    from runops.airflow.providers.nekt import NektRunsSensor as NektRunsSensor
    from runops.airflow.providers.nexio import NexioHook as NexioHook
    from runops.airflow.providers.nexio import NexioRunOperator as NexioRunOperator
    from runops.airflow.providers.nexio import NexioRunSensor as NexioRunSensor
    from runops.airflow.providers.nexio import NexioRunsOperator as NexioRunsOperator
    from runops.airflow.providers.nexio import NexioRunsSensor as NexioRunsSensor
    from runops.airflow.providers.nyx import NyxConfigSensor as NyxConfigSensor
    from runops.airflow.providers.nyx import NyxHook as NyxHook
    from runops.airflow.providers.nyx import NyxRunOperator as NyxRunOperator
    from runops.airflow.providers.nyx import NyxRunSensor as NyxRunSensor
    from runops.airflow.providers.nyx import NyxRunsOperator as NyxRunsOperator
    from runops.airflow.providers.nyx import NyxRunsSensor as NyxRunsSensor
    from runops.airflow.providers.onepin import OnepinHook as OnepinHook
    from runops.airflow.providers.onepin import OnepinRunOperator as OnepinRunOperator
    from runops.airflow.providers.onepin import OnepinRunSensor as OnepinRunSensor
    from runops.airflow.providers.onepin import OnepinRunsOperator as OnepinRunsOperator
    from runops.airflow.providers.onepin import OnepinRunsSensor as OnepinRunsSensor
    from runops.airflow.providers.onepin import OnepinWorkflowSensor as OnepinWorkflowSensor


class Record(NamedTuple):
    """What Airflow shows of a provider before any of its classes is loaded."""

    title: str
    classes: tuple[str, ...]
    """Their names, which begin with the provider's own: ``Hook`` and ``RunSensor`` at least."""
    docs: str
    base_url: str
    key_placeholder: str
    key: str = "API key"
    options: Mapping[str, Any] = MappingProxyType({})
    """Fields of its own in the form of a connection, by the key of the extra that each fills."""


RECORDS = {
    "nexio": Record(
        title="Nexio",
        classes=("Hook", "RunSensor", "RunOperator", "RunsSensor", "RunsOperator"),
        docs="https://docs.usenexio.com",
        base_url="https://api.usenexio.com",
        key_placeholder="nx_..., of the environment whose runs these are",
    ),
    "nyx": Record(
        title="Nyx",
        classes=("Hook", "RunSensor", "ConfigSensor", "RunOperator", "RunsSensor", "RunsOperator"),
        docs="https://docs.fabraix.com",
        base_url="https://api.fabraix.com",
        key="Verification token",
        key_placeholder="nyx_..., the token that Fabraix gave you",
    ),
    "onepin": Record(
        title="OnePin",
        classes=("Hook", "RunSensor", "WorkflowSensor", "RunOperator", "RunsSensor", "RunsOperator"),
        docs="https://docs.onepin.ai",
        base_url="https://api.onepin.ai",
        key_placeholder="op_live_..., of the workspace whose runs these are",
        options={
            "workspace_id": {
                "label": "Workspace id",
                "description": "Only for a key of several workspaces; an id that is not the key's own is refused.",
                "schema": {"type": ["string", "null"]},
            }
        },
    ),
    "b3os": Record(
        title="B3OS",
        classes=("Hook", "RunSensor", "WorkflowSensor", "RunOperator", "RunsSensor", "RunsOperator"),
        docs="https://docs.b3os.org",
        base_url="https://api.b3os.org",
        key_placeholder="b3sk_..., of your organisation",
        options={
            "org_id": {
                "label": "Organisation id",
                "description": "Only for user sessions; an API key carries its organisation.",
                "schema": {"type": ["string", "null"]},
            }
        },
    ),
    "nekt": Record(
        title="Nekt",
        classes=("Hook", "RunSensor", "PipelineSensor", "RunsSensor"),
        docs="https://docs.nekt.com",
        base_url="https://api.nekt.ai",
        key_placeholder="From app.nekt.ai, Settings, API keys",
    ),
}
