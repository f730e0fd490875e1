"""How Airflow's processes load the plugin, and what of it each of them gets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from pytest_mock import MockerFixture

from runops.airflow import page_extra
from tests.airflow_side.page.people import Person

LOADS = """
import importlib, json, sys
{before}
from airflow import plugins_manager
import airflow.listeners.listener
names = (
    "ensure_plugins_loaded", "get_timetables_plugins", "get_global_operator_extra_links", "get_operator_extra_links",
    "integrate_macros_plugins", "get_priority_weight_strategy_plugins", "initialize_timetables_plugins",
    "initialize_extra_operators_links_plugins", "initialize_priority_weight_strategy_plugins",
    "initialize_hook_lineage_readers_plugins",
)
for name in names:
    if hasattr(plugins_manager, name):
        getattr(plugins_manager, name)()
airflow.listeners.listener.get_listener_manager()
{after}
ours = sorted(name for name in sys.modules if name.startswith("runops.airflow"))
print("FOUND" + json.dumps([ours, "limits" in sys.modules]))
"""
WITHOUT_EXTRA = """
class Missing:
    def find_spec(self, name, *_):
        if name.partition(".")[0] == "limits":
            raise ImportError(name)
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "limits" else real(name, *rest)
sys.meta_path.insert(0, Missing())
"""
SERVES = """
plugin = importlib.import_module("runops.airflow.plugin").RunopsPlugin()
assert plugin.fastapi_apps == [] and plugin.external_views == []
"""


def loaded(home: Path, before: str = "", after: str = "") -> tuple[list[str], bool]:
    (home / "plugins").mkdir()
    if not entry_points(group="airflow.plugins", name="runops"):
        (home / "plugins" / "page.py").write_text("from runops.airflow.plugin import RunopsPlugin\n")
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(home / "plugins"),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, "-c", LOADS.format(before=before, after=after)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    ours, limits = json.loads(done.stdout.rpartition("FOUND")[2])
    return ours, limits


OTHERS = ("runops.airflow.external_run", "runops.airflow.hook", "runops.airflow.records")
"""What the server of the page needs beside its own modules."""


def of_the_page(modules: list[str]) -> list[str]:
    return [name for name in modules if name.startswith(("runops.airflow.plugin", *OTHERS))]


def test_a_scheduler_a_worker_or_a_dag_processor_loads_a_name_and_nothing_else(tmp_path: Path) -> None:
    ours, limits = loaded(tmp_path)
    assert of_the_page(ours) == ["runops.airflow.plugin"]
    assert not limits


def test_without_the_extra_nothing_is_imported_served_or_shown(tmp_path: Path) -> None:
    ours, limits = loaded(tmp_path, WITHOUT_EXTRA, SERVES)
    assert of_the_page(ours) == ["runops.airflow.plugin"]
    assert not limits


def test_without_the_extra_the_plugin_brings_nothing(mocker: MockerFixture) -> None:
    from runops.airflow.plugin import RunopsPlugin

    mocker.patch.object(page_extra, "installed", return_value=False)
    plugin = RunopsPlugin()
    assert (plugin.fastapi_apps, plugin.external_views) == ([], [])


def test_the_plugin_brings_one_application_and_its_views_and_no_more(server: Any) -> None:
    from airflow.plugins_manager import AirflowPlugin

    from runops.airflow.plugin import RunopsPlugin

    assert {name for name in vars(RunopsPlugin) if hasattr(AirflowPlugin, name) and not name.startswith("__")} == {
        "name", "fastapi_apps", "external_views",
    }  # fmt: skip
    plugin = RunopsPlugin()
    assert [app["url_prefix"] for app in plugin.fastapi_apps] == ["/runops"]
    # Airflow takes a view that it cannot use out of this list.
    assert plugin.external_views is plugin.external_views


def test_the_web_interface_is_told_where_to_show_the_page(server: Any, person: Any) -> None:
    ada: Person = person("ada")
    answer = ada.client.get("/api/v2/plugins")
    assert answer.status_code == 200
    ours = next(plugin for plugin in answer.json()["plugins"] if plugin["name"] == "runops")
    views = {view["destination"]: view for view in ours["external_views"]}
    assert set(views) == {"nav", "dag", "dag_run", "task", "task_instance"}
    assert len({view["url_route"] for view in views.values()}) == 5
    assert {view["name"] for view in views.values()} == {"External runs"}
    assert views["nav"]["href"] == "/runops/"
    assert views["task_instance"]["href"] == (
        "/runops/#dag_id={DAG_ID}&dag_run_id={RUN_ID}&task_id={TASK_ID}&map_index={MAP_INDEX}"
    )
    assert views["dag"]["href"] == "/runops/#dag_id={DAG_ID}"
    assert views["dag_run"]["href"] == "/runops/#dag_id={DAG_ID}&dag_run_id={RUN_ID}"
    assert views["task"]["href"] == "/runops/#dag_id={DAG_ID}&task_id={TASK_ID}"
    for icon in ("icon", "icon_dark_mode"):
        assert ada.client.get(views["nav"][icon]).headers["content-type"].startswith("image/svg")


def test_behind_a_path_the_views_lead_below_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from runops.airflow.plugin import RunopsPlugin

    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://example.com/team/airflow")
    assert RunopsPlugin().external_views[0]["href"] == "/team/airflow/runops/"


def test_no_route_of_airflow_is_changed_and_none_of_ours_stands_elsewhere(server: Any) -> None:
    ours = [route for route in server.routes if "runops" in getattr(route, "path", "")]
    assert [route.path for route in ours] == ["/runops"]
