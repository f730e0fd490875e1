"""The Airflow side of runops: hooks, sensors, operators, one trigger. No host is loaded before a class is used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runops.airflow.discovery import RunDiscoverySensor
    from runops.airflow.hook import RunHook
    from runops.airflow.operator import RunOperator
    from runops.airflow.providers.b3os import B3osHook, B3osRunOperator, B3osRunSensor, B3osWorkflowSensor
    from runops.airflow.providers.nekt import NektHook, NektPipelineSensor, NektRunSensor
    from runops.airflow.providers.nexio import NexioHook, NexioRunOperator, NexioRunSensor
    from runops.airflow.providers.nyx import NyxConfigSensor, NyxHook, NyxRunOperator, NyxRunSensor
    from runops.airflow.providers.onepin import OnepinHook, OnepinRunOperator, OnepinRunSensor, OnepinWorkflowSensor
    from runops.airflow.retry import runops_retry_policy
    from runops.airflow.sensor import RunSensor
    from runops.airflow.trigger import RunTrigger
    from runops.airflow.watcher import RunFinishedTrigger

_HOMES = {
    "B3osHook": "providers.b3os",
    "B3osRunOperator": "providers.b3os",
    "B3osRunSensor": "providers.b3os",
    "B3osWorkflowSensor": "providers.b3os",
    "NektHook": "providers.nekt",
    "NektPipelineSensor": "providers.nekt",
    "NektRunSensor": "providers.nekt",
    "NexioHook": "providers.nexio",
    "NexioRunOperator": "providers.nexio",
    "NexioRunSensor": "providers.nexio",
    "NyxConfigSensor": "providers.nyx",
    "NyxHook": "providers.nyx",
    "NyxRunOperator": "providers.nyx",
    "NyxRunSensor": "providers.nyx",
    "OnepinHook": "providers.onepin",
    "OnepinRunOperator": "providers.onepin",
    "OnepinRunSensor": "providers.onepin",
    "OnepinWorkflowSensor": "providers.onepin",
    "RunDiscoverySensor": "discovery",
    "RunFinishedTrigger": "watcher",
    "RunHook": "hook",
    "RunOperator": "operator",
    "RunSensor": "sensor",
    "RunTrigger": "trigger",
    "runops_retry_policy": "retry",
}

__all__ = [
    "B3osHook",
    "B3osRunOperator",
    "B3osRunSensor",
    "B3osWorkflowSensor",
    "NektHook",
    "NektPipelineSensor",
    "NektRunSensor",
    "NexioHook",
    "NexioRunOperator",
    "NexioRunSensor",
    "NyxConfigSensor",
    "NyxHook",
    "NyxRunOperator",
    "NyxRunSensor",
    "OnepinHook",
    "OnepinRunOperator",
    "OnepinRunSensor",
    "OnepinWorkflowSensor",
    "RunDiscoverySensor",
    "RunFinishedTrigger",
    "RunHook",
    "RunOperator",
    "RunSensor",
    "RunTrigger",
    "runops_retry_policy",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        found = getattr(import_module(f"{__name__}.{home}"), name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "airflow":
            raise
        raise ImportError(
            f"{name} needs apache-airflow 3.1 or newer, which is not installed here: pip install 'runops[airflow]'"
        ) from error
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
