"""The Airflow side of runops: hooks, sensors, operators, one trigger. No host is loaded before a class is used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from runops.airflow.providers import RECORDS

if TYPE_CHECKING:
    from runops.airflow.discovery import RunDiscoverySensor as RunDiscoverySensor
    from runops.airflow.hook import RunHook as RunHook
    from runops.airflow.maintenance import cancel_orphans as cancel_orphans
    from runops.airflow.operator import RunOperator as RunOperator
    from runops.airflow.providers import *  # noqa: F403 - the named classes, for type checkers
    from runops.airflow.retry import runops_retry_policy as runops_retry_policy
    from runops.airflow.runs_operator import RunsOperator as RunsOperator
    from runops.airflow.runs_sensor import RunsSensor as RunsSensor
    from runops.airflow.runs_trigger import RunsTrigger as RunsTrigger
    from runops.airflow.sensor import RunSensor as RunSensor
    from runops.airflow.trigger import RunTrigger as RunTrigger
    from runops.airflow.watcher import RunFinishedTrigger as RunFinishedTrigger

_HOMES = {
    "RunDiscoverySensor": "discovery",
    "RunFinishedTrigger": "watcher",
    "RunHook": "hook",
    "RunOperator": "operator",
    "RunSensor": "sensor",
    "RunTrigger": "trigger",
    "RunsOperator": "runs_operator",
    "RunsSensor": "runs_sensor",
    "RunsTrigger": "runs_trigger",
    "cancel_orphans": "maintenance",
    "runops_retry_policy": "retry",
    **{f"{name.capitalize()}{kind}": f"providers.{name}" for name, each in RECORDS.items() for kind in each.classes},
}

if not TYPE_CHECKING:  # a type checker reads the imports above
    __all__ = sorted(_HOMES)


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
    return sorted({*globals(), *_HOMES})
