"""The Dagster side of runops, by name. Importing it loads no host; asking for a name does."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from runops.dagster.providers import RESOURCES

if TYPE_CHECKING:
    from runops.dagster.builders.asset import build_run_asset as build_run_asset
    from runops.dagster.builders.asset import build_run_op as build_run_op
    from runops.dagster.builders.check import build_run_check as build_run_check
    from runops.dagster.builders.deferred import build_completion_sensor as build_completion_sensor
    from runops.dagster.builders.deferred import build_submit_job as build_submit_job
    from runops.dagster.builders.multi_asset import build_run_multi_asset as build_run_multi_asset
    from runops.dagster.builders.sensor import build_run_sensor as build_run_sensor
    from runops.dagster.component import RunopsComponent as RunopsComponent
    from runops.dagster.many.result import RunsResult as RunsResult
    from runops.dagster.many.step import wait_for_runs as wait_for_runs
    from runops.dagster.orphans import cancel_orphans as cancel_orphans
    from runops.dagster.providers.b3os import B3osResource as B3osResource
    from runops.dagster.providers.nekt import NektResource as NektResource
    from runops.dagster.providers.nexio import NexioResource as NexioResource
    from runops.dagster.providers.nyx import NyxResource as NyxResource
    from runops.dagster.providers.onepin import OnepinResource as OnepinResource
    from runops.dagster.resource import ProviderResource as ProviderResource
    from runops.dagster.run_resource import RunResource as RunResource
    from runops.dagster.step.wait import RunResult as RunResult
    from runops.dagster.step.wait import wait_for_run as wait_for_run

_MODULES = {name: f"providers.{module}" for name, module in RESOURCES.items()} | {
    "ProviderResource": "resource",
    "RunResource": "run_resource",
    "RunResult": "step.wait",
    "RunsResult": "many.result",
    "RunopsComponent": "component",
    "build_completion_sensor": "builders.deferred",
    "build_run_asset": "builders.asset",
    "build_run_check": "builders.check",
    "build_run_multi_asset": "builders.multi_asset",
    "build_run_op": "builders.asset",
    "build_run_sensor": "builders.sensor",
    "build_submit_job": "builders.deferred",
    "cancel_orphans": "orphans",
    "wait_for_run": "step.wait",
    "wait_for_runs": "many.step",
}
__all__ = sorted(_MODULES)  # pyright: ignore[reportUnsupportedDunderAll] - derived, as is what a type checker cannot see


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{module}"), name)
    except ModuleNotFoundError as error:
        if error.name != "dagster":
            raise
        raise ImportError(f"{__name__}.{name} needs Dagster: pip install 'runops[dagster]'") from None


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
