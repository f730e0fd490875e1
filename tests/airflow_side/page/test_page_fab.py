"""The same rights as Airflow's FAB auth manager gives them: its own roles, and one that may read a single DAG.

It needs ``apache-airflow-providers-fab``, which is in no lock, and is skipped without it. To run it, install that and
what the tests need beside Airflow into an environment, and call its pytest with ``PYTHONPATH=src``.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest

from runops.emulator.store import Emulator
from tests.airflow_side.page.database import Database, record

pytest.importorskip("airflow.providers.fab.auth_manager.fab_auth_manager", reason="needs the FAB provider")

# What the provider and Flask themselves warn of.
pytestmark = pytest.mark.filterwarnings("default")
HOST = "http://airflow.test"
ROLES = {"vera": "Viewer", "uma": "User", "otto": "Op", "ada": "Admin", "nora": "Alpha", "olga": "NoTasks"}


@pytest.fixture(scope="module")
def people(airflow_database: Database) -> Iterator[dict[str, Any]]:
    """A browser of each, at an API server with that auth manager."""
    from airflow.api_fastapi import app as api
    from airflow.utils.session import create_session
    from fastapi.testclient import TestClient

    manager = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"
    before = api._AuthManagerState.instance
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("AIRFLOW__CORE__AUTH_MANAGER", manager)
        fab = "airflow.providers.fab.auth_manager"
        with create_session() as session:
            import_module(f"{fab}.models.db").FABDBManager(session).create_db_from_orm()
        server = api.create_app(apps="core")
        found: dict[str, Any] = {}
        with import_module(f"{fab}.cli_commands.utils").get_application_builder() as builder:
            security = builder.sm
            security.sync_roles()
            one = [("can_read", "DAG:alpha"), ("can_edit", "DAG:alpha")]
            tasks = [(do, what) for do in ("can_read", "can_edit") for what in ("DAG Runs", "Task Instances")]
            security.bulk_sync_roles([{"role": "Alpha", "perms": [*one, *tasks]}, {"role": "NoTasks", "perms": one}])
            for name, role in ROLES.items():
                user = security.add_user(name, name, name, f"{name}@x.org", security.find_role(role), password="x")
                assert user, name
                client = TestClient(server, base_url=HOST, raise_server_exceptions=False)
                client.cookies.set("_token", api.get_auth_manager().generate_jwt(user))
                found[name] = client
        yield found
        for client in found.values():
            client.close()
    api._AuthManagerState.instance = before


def act(client: Any, what: str, task: dict[str, Any]) -> int:
    headers = {"x-runops": "1", "sec-fetch-site": "same-origin", "origin": HOST}
    return client.post(f"/runops/api/{what}", json=task, headers=headers).status_code


MAY = {
    # Whom: whether they see alpha and beta, and may look and cancel at alpha.
    "vera": (2, False, False),
    "uma": (2, False, True),
    "otto": (2, True, True),
    "ada": (2, True, True),
    "nora": (1, False, True),
    "olga": (0, False, False),
}


@pytest.mark.parametrize("name", MAY)
def test_the_roles_of_fab_see_look_and_cancel_as_airflow_lets_them(
    name: str, people: dict[str, Any], emulator: Emulator, database: Database
) -> None:
    seen, look, cancel = MAY[name]
    alpha = database.add(record(run_id=emulator.create_run("nyx")))
    beta = database.add(record(run_id="r-2"), dag_id="beta")
    client = people[name]
    answer = client.get("/runops/api/runs", params={"sort": "dag_id"})
    assert answer.status_code == 200, answer.text
    rows = answer.json()["runs"]
    assert (answer.json()["total"], len(rows)) == (seen, seen)
    if seen:
        assert rows[0]["may"] == {"look": look, "cancel": cancel}
        assert ("conn_id" in rows[0]) is look
    assert act(client, "look", alpha) == (200 if look else 403 if seen else 404)
    if seen < 2:
        assert act(client, "cancel", beta) == 404
    assert act(client, "cancel", alpha) == (200 if cancel else 403 if seen else 404)
    assert database.state_of(alpha) == ("failed" if cancel else "deferred")
    assert database.state_of(beta) == "deferred"
