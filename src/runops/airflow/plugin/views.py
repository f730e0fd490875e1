"""Where the web interface shows the page: in the navigation, and as a tab with the ids of what the tab belongs to."""

from __future__ import annotations

from typing import Any

from runops.airflow.plugin._compat import root_path

# What the web interface fills in. Airflow 3.1 does not encode it, so it stands behind a hash: what is in a query would
# lose the plus signs that run ids are full of.
TABS = {
    "dag": {"dag_id": "{DAG_ID}"},
    "dag_run": {"dag_id": "{DAG_ID}", "dag_run_id": "{RUN_ID}"},
    "task": {"dag_id": "{DAG_ID}", "task_id": "{TASK_ID}"},
    "task_instance": {
        "dag_id": "{DAG_ID}",
        "dag_run_id": "{RUN_ID}",
        "task_id": "{TASK_ID}",
        "map_index": "{MAP_INDEX}",
    },
}
"""The tabs, and the filters that the page begins with there."""


def views(prefix: str, name: str) -> list[dict[str, Any]]:
    """The views as Airflow takes them.

    :param prefix: Where the server of the page is mounted.
    :param name: What people read.
    """
    page = f"{root_path()}{prefix.strip('/')}/"
    icons = {"icon": f"{page}assets/icon.svg", "icon_dark_mode": f"{page}assets/icon-dark.svg"}
    made = [
        {"name": name, "href": page, "destination": "nav", "url_route": "external-runs", "category": "browse", **icons}
    ]
    for destination, filters in TABS.items():
        href = page + "#" + "&".join(f"{field}={hole}" for field, hole in filters.items())
        route = f"external-runs-{destination.replace('_', '-')}"
        made.append({"name": name, "href": href, "destination": destination, "url_route": route, **icons})
    return made
