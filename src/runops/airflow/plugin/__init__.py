"""The plugin that brings the page "External runs": loaded by every process of Airflow, so it imports next to nothing.

What it brings is made when the API server asks for it, and only where the extra ``page`` is installed. No other process
asks: the scheduler, the workers, the triggerers and the processors of DAG files load the plugin, see that it has no
timetable, listener or macro, and import nothing else of it.
"""

from __future__ import annotations

import sys
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any

from runops.airflow import page_extra

if TYPE_CHECKING:
    from airflow.plugins_manager import AirflowPlugin
else:
    # Tasks are run by Airflow's task SDK, which has a manager of its own: the core's would be imported for nothing.
    AirflowPlugin = (
        sys.modules.get("airflow.sdk.plugins_manager") or import_module("airflow.plugins_manager")
    ).AirflowPlugin

PREFIX = "/runops"
"""Where the API server serves the page, below its own path."""
NAME = "External runs"


class RunopsPlugin(AirflowPlugin):
    """The page "External runs", in the navigation and as a tab of DAGs, DAG runs, tasks and task instances."""

    name = "runops"

    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The server of the page; empty without the extra ``page``."""
        if not page_extra.installed():
            return []
        # Here, because only an API server asks for it.
        app = import_module("runops.airflow.plugin.app")
        return [{"name": "runops", "app": app.create_app(), "url_prefix": PREFIX}]

    @cached_property
    def external_views(self) -> list[dict[str, Any]]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Where the page is shown; empty without the extra ``page``."""
        if not page_extra.installed():
            return []
        return import_module("runops.airflow.plugin.views").views(PREFIX, NAME)
