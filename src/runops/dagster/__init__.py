"""The Dagster side of runops, by name. Importing it loads no host; asking for a name does."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runops.dagster.builders.asset import build_run_asset, build_run_op
    from runops.dagster.builders.check import build_run_check
    from runops.dagster.builders.deferred import build_completion_sensor, build_submit_job
    from runops.dagster.builders.multi_asset import build_run_multi_asset
    from runops.dagster.builders.sensor import build_run_sensor
    from runops.dagster.component import RunopsComponent
    from runops.dagster.providers.b3os import B3osResource
    from runops.dagster.providers.nekt import NektResource
    from runops.dagster.providers.nexio import NexioResource
    from runops.dagster.providers.nyx import NyxResource
    from runops.dagster.providers.onepin import OnepinResource
    from runops.dagster.resource import ProviderResource, RunResource
    from runops.dagster.step.wait import RunResult, wait_for_run

__all__ = [
    "B3osResource",
    "NektResource",
    "NexioResource",
    "NyxResource",
    "OnepinResource",
    "ProviderResource",
    "RunResource",
    "RunResult",
    "RunopsComponent",
    "build_completion_sensor",
    "build_run_asset",
    "build_run_check",
    "build_run_multi_asset",
    "build_run_op",
    "build_run_sensor",
    "build_submit_job",
    "wait_for_run",
]

_HOMES = {
    "B3osResource": "providers.b3os",
    "NektResource": "providers.nekt",
    "NexioResource": "providers.nexio",
    "NyxResource": "providers.nyx",
    "OnepinResource": "providers.onepin",
    "ProviderResource": "resource",
    "RunResource": "resource",
    "RunResult": "step.wait",
    "RunopsComponent": "component",
    "build_completion_sensor": "builders.deferred",
    "build_run_asset": "builders.asset",
    "build_run_check": "builders.check",
    "build_run_multi_asset": "builders.multi_asset",
    "build_run_op": "builders.asset",
    "build_run_sensor": "builders.sensor",
    "build_submit_job": "builders.deferred",
    "wait_for_run": "step.wait",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{home}"), name)
    except ModuleNotFoundError as error:
        if error.name != "dagster":
            raise
        raise ImportError(f"{__name__}.{name} needs Dagster: pip install 'runops[dagster]'") from None


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
