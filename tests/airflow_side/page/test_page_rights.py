"""Who sees what and who may do what: Airflow's auth manager decides, and the routes ask it again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pytest_mock import MockerFixture

from runops.emulator.store import Emulator
from tests.airflow_side.page.database import Database, ended, record
from tests.airflow_side.page.people import Person

Opens = Callable[[str | None], Person]
EVERYBODY = ("vera", "uma", "otto", "ada")


@pytest.mark.parametrize("path", ["/", "/api/runs", "/api/run", "/api/rows", "/api/facets", "/api/charts"])
def test_nobody_sees_nothing(path: str, database: Database, person: Opens) -> None:
    database.add(record(run_id="r-1"))
    answer = person(None).get(path)
    assert answer.status_code == 401
    assert "r-1" not in answer.text


@pytest.mark.parametrize("what", ["look", "cancel"])
def test_nobody_does_nothing(what: str, database: Database, person: Opens) -> None:
    task = database.add(record())
    assert person(None).act(what, task).status_code == 401
    assert database.state_of(task) == "deferred"


@pytest.mark.parametrize("name", EVERYBODY)
def test_everybody_who_may_read_the_dags_sees_the_runs(name: str, database: Database, person: Opens) -> None:
    task = database.add(record(run_id="r-1"))
    somebody = person(name)
    assert somebody.get("/").status_code == 200
    assert somebody.runs()["total"] == 1
    for path in ("/api/run", "/api/rows"):
        assert somebody.get(path, **task).status_code == 200


@pytest.mark.parametrize(("name", "seen"), [("vera", False), ("uma", False), ("otto", True), ("ada", True)])
def test_the_name_of_a_connection_is_shown_to_those_who_may_read_it(
    name: str, seen: bool, database: Database, person: Opens
) -> None:
    task = database.add(record(conn_id="nyx_default"))
    somebody = person(name)
    for answer in (somebody.get("/api/runs"), somebody.get("/api/run", **task), somebody.get("/api/facets")):
        assert ("nyx_default" in answer.text) is (seen and "facets" not in str(answer.url))


MAY = {
    # Whom: (look, cancel by the task, cancel through the connection)
    "vera": (False, False, False),
    "uma": (False, True, False),
    "otto": (True, True, True),
    "ada": (True, True, True),
}


@pytest.mark.parametrize("name", MAY)
def test_a_row_says_what_one_may_and_the_routes_hold_it(
    name: str, emulator: Emulator, database: Database, person: Opens
) -> None:
    run = emulator.create_run("nyx")
    look, by_task, outside = MAY[name]
    alive = database.add(record(run_id=run))
    orphan = database.add(record(run_id=run), state="failed")
    somebody = person(name)
    assert somebody.get("/api/run", **alive).json()["may"] == {"look": look, "cancel": by_task}
    assert somebody.get("/api/run", **orphan).json()["may"] == {"look": look, "cancel": outside}
    assert somebody.act("look", alive).status_code == (200 if look else 403)
    assert len(emulator.requests()) == int(look)
    assert somebody.act("cancel", orphan).status_code == (200 if outside else 403)
    assert len(emulator.requests(action="cancel")) == int(outside)
    if not outside:
        # Otherwise the claim of the first cancel holds.
        assert somebody.act("cancel", alive).status_code == (200 if by_task else 403)
        assert database.state_of(alive) == ("failed" if by_task else "deferred")


def test_what_is_over_offers_no_cancel(database: Database, person: Opens) -> None:
    task = database.add(ended(), state="success")
    assert person("ada").get("/api/run", **task).json()["may"] == {"look": True, "cancel": False}
    assert person("ada").act("cancel", task).status_code == 409


# --- rights of one DAG, as auth managers with finer roles give them ---


@pytest.fixture
def only_alpha(server: Any, mocker: MockerFixture) -> None:
    """Everybody may read alpha and beta and change alpha; nobody may do anything with gamma."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.models.resource_details import ConnectionDetails, DagDetails

    def dag(*, method: str, user: Any, access_entity: Any = None, details: DagDetails | None = None) -> bool:
        dag_id = details.id if details else None
        return dag_id in ((None, "alpha", "beta") if method == "GET" else ("alpha",))

    def connection(*, method: str, user: Any, details: ConnectionDetails | None = None) -> bool:
        return details is not None and details.conn_id == "nyx_default"

    mocker.patch.object(get_auth_manager(), "is_authorized_dag", dag)
    mocker.patch.object(get_auth_manager(), "is_authorized_connection", connection)


def test_a_dag_that_one_may_not_read_is_not_there(only_alpha: None, database: Database, person: Opens) -> None:
    database.add(record(run_id="r-a"))
    hidden = database.add(ended(run_id="r-g", state="secret word"), dag_id="gamma", task_id="many", state="success")
    ada = person("ada")
    assert [row["run_id"] for row in ada.runs()["runs"]] == ["r-a"]
    assert ada.runs()["total"] == 1
    assert ada.runs(dag_id="gamma")["total"] == 0
    assert ada.runs(q="secret")["total"] == 0
    assert ada.get("/api/facets").json()["dags"] == ["alpha"]
    assert ada.get("/api/charts").json() == {"days": [], "tasks": [], "truncated": False}
    for answer in (ada.get("/api/run", **hidden), ada.get("/api/rows", **hidden)):
        assert answer.status_code == 404
        assert answer.json() == {"detail": "There is no such run, or you may not see it."}
    for what in ("look", "cancel"):
        assert ada.act(what, hidden).status_code == 404


def test_a_dag_that_one_may_only_read_takes_no_action(only_alpha: None, database: Database, person: Opens) -> None:
    task = database.add(record(), dag_id="beta")
    ada = person("ada")
    assert ada.get("/api/run", **task).json()["may"] == {"look": False, "cancel": False}
    for what in ("look", "cancel"):
        assert ada.act(what, task).status_code == 403
    assert database.state_of(task) == "deferred"


def test_a_connection_that_one_may_not_read_is_neither_named_nor_used(
    only_alpha: None, database: Database, person: Opens
) -> None:
    task = database.add(record(conn_id="of_others"))
    ada = person("ada")
    row = ada.get("/api/run", **task).json()
    assert "conn_id" not in row
    assert row["may"] == {"look": False, "cancel": True}
    assert ada.act("look", task).status_code == 403
    assert "of_others" not in ada.act("look", task).text


def test_who_may_not_read_task_instances_sees_none(
    server: Any, mocker: MockerFixture, database: Database, person: Opens
) -> None:
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity

    def dag(*, method: str, user: Any, access_entity: Any = None, details: Any = None) -> bool:
        return access_entity is not DagAccessEntity.TASK_INSTANCE

    mocker.patch.object(get_auth_manager(), "is_authorized_dag", dag)
    task = database.add(record())
    assert person("ada").runs()["total"] == 0
    assert person("ada").get("/api/run", **task).status_code == 404


def test_rights_are_asked_for_once_for_each_dag_and_connection_of_a_page(
    server: Any, mocker: MockerFixture, database: Database, person: Opens
) -> None:
    from airflow.api_fastapi.app import get_auth_manager

    for _ in range(20):
        database.add(record())
    ada = person("ada")
    asked = mocker.spy(get_auth_manager(), "is_authorized_connection")
    edited = mocker.spy(get_auth_manager(), "is_authorized_dag")
    assert ada.runs()["total"] == 20
    assert asked.call_count == 1
    assert sum(call.kwargs["method"] == "PUT" for call in edited.call_args_list) == 1
