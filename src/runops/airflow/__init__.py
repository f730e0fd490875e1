"""The Airflow side of runops: hooks, sensors, operators, one trigger. No host is loaded before a class is used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runops.airflow.b3os import B3osHook, B3osRunOperator, B3osRunSensor
    from runops.airflow.hook import RunHook
    from runops.airflow.nekt import NektHook, NektRunSensor
    from runops.airflow.nexio import NexioHook, NexioRunOperator, NexioRunSensor
    from runops.airflow.nyx import NyxHook, NyxRunOperator, NyxRunSensor
    from runops.airflow.onepin import OnepinHook, OnepinRunOperator, OnepinRunSensor
    from runops.airflow.operator import RunOperator
    from runops.airflow.sensor import RunSensor
    from runops.airflow.trigger import RunTrigger

_HOMES = {
    "B3osHook": "b3os",
    "B3osRunOperator": "b3os",
    "B3osRunSensor": "b3os",
    "NektHook": "nekt",
    "NektRunSensor": "nekt",
    "NexioHook": "nexio",
    "NexioRunOperator": "nexio",
    "NexioRunSensor": "nexio",
    "NyxHook": "nyx",
    "NyxRunOperator": "nyx",
    "NyxRunSensor": "nyx",
    "OnepinHook": "onepin",
    "OnepinRunOperator": "onepin",
    "OnepinRunSensor": "onepin",
    "RunHook": "hook",
    "RunOperator": "operator",
    "RunSensor": "sensor",
    "RunTrigger": "trigger",
}

__all__ = [
    "B3osHook",
    "B3osRunOperator",
    "B3osRunSensor",
    "NektHook",
    "NektRunSensor",
    "NexioHook",
    "NexioRunOperator",
    "NexioRunSensor",
    "NyxHook",
    "NyxRunOperator",
    "NyxRunSensor",
    "OnepinHook",
    "OnepinRunOperator",
    "OnepinRunSensor",
    "RunHook",
    "RunOperator",
    "RunSensor",
    "RunTrigger",
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
