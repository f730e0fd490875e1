"""How the page asks a service and Airflow itself: with which connection, in which time, and under whose rights."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_mock import MockerFixture

from runops.airflow._compat import AirflowException
from runops.airflow.external_run import ExternalRun
from runops.core import NotSupported, Outcome, RunRef, RunSnapshot
from runops.core.model.run import Phase
from tests.airflow_side.page.database import record

TASK = {"dag_id": "alpha", "dag_run_id": "run", "task_id": "wait", "map_index": 3}


def stored_of(*, task_state: str | None = "deferred", **fields: Any) -> Any:
    from runops.airflow.plugin.questions import Address
    from runops.airflow.plugin.rows import Stored

    run = ExternalRun.from_dict(record(**fields))
    assert run is not None
    return Stored(Address("alpha", "run", "wait", 3), run, datetime.now(UTC), task_state)


# --- the service ---


@pytest.fixture
def hooks(mocker: MockerFixture) -> Any:
    """Stands for the connection to a service."""
    from runops.airflow.plugin import service

    return mocker.patch.object(service, "ServerHook")


@pytest.mark.parametrize(("conn_id", "given"), [("nyx_other", "nyx_other"), (None, "")])
def test_a_service_is_asked_through_the_task_s_connection_and_in_bounded_time(
    conn_id: str | None, given: str, hooks: Any
) -> None:
    from runops.airflow.plugin import service

    with service.client_for(stored_of(conn_id=conn_id)) as client:
        assert client is hooks.return_value.client.return_value.__enter__.return_value
    hooks.assert_called_once_with(given, provider="nyx", dag_id="alpha")
    asked = hooks.return_value.client.call_args.kwargs
    assert set(asked) == {"reread", "request_timeout", "sleep"}
    assert (asked["reread"], asked["request_timeout"]) == (None, 8.0)


def test_all_requests_of_one_look_take_sixteen_seconds_together(hooks: Any, mocker: MockerFixture) -> None:
    from runops.airflow.plugin import service

    clock, slept = SimpleNamespace(now=100.0), list[float]()
    time = SimpleNamespace(monotonic=lambda: clock.now, sleep=slept.append)
    mocker.patch.object(service, "time", time)
    with service.client_for(stored_of()):
        pass
    sleep = hooks.return_value.client.call_args.kwargs["sleep"]
    sleep(16.0)
    clock.now = 110.0
    sleep(6.0)
    with pytest.raises(service.OutOfTimeError) as raised:
        sleep(6.01)
    assert slept == [16.0, 6.0]
    assert raised.value.error_code == "service-unavailable"


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (NotSupported("it has no such thing."), "it has no such thing. [not-supported]"),
        (AirflowException("no connection"), "no connection"),
        (AirflowException(), "AirflowException"),
    ],
    ids=repr,
)
def test_what_a_service_fails_with_is_the_answer_without_its_cause(hooks: Any, error: Exception, detail: str) -> None:
    from fastapi import HTTPException

    from runops.airflow.plugin import service

    hooks.return_value.client.return_value.__exit__.return_value = False
    with pytest.raises(HTTPException) as raised, service.client_for(stored_of()):
        raise error
    assert (raised.value.status_code, raised.value.detail) == (424, detail)
    assert raised.value.__cause__ is None


def test_an_error_of_ours_is_no_answer_of_the_service_and_leaves_its_place_to_the_next(
    hooks: Any, mocker: MockerFixture
) -> None:
    from fastapi import HTTPException

    from runops.airflow.plugin import service

    mocker.patch.object(service, "_under_way", threading.BoundedSemaphore(1))
    hooks.return_value.client.return_value.__exit__.return_value = False
    for error in (KeyError("ours"), HTTPException(409, "no run")):
        with pytest.raises(type(error)), service.client_for(stored_of()):
            raise error
    with service.client_for(stored_of()), pytest.raises(HTTPException) as raised, service.client_for(stored_of()):
        pytest.fail("two at once")
    assert raised.value.status_code == 429
    assert raised.value.headers == {"retry-after": "2"}
    assert raised.value.detail == "Too many services are being asked: again in 2 s."


def test_four_services_are_asked_at_once() -> None:
    from runops.airflow.plugin import service

    held = [service._under_way.acquire(blocking=False) for _ in range(5)]
    for each in held:
        if each:
            service._under_way.release()
    assert held == [True, True, True, True, False]


def test_the_connection_is_read_as_it_stands_now_for_the_dag(mocker: MockerFixture) -> None:
    from runops.airflow.plugin import service

    asked = mocker.patch.object(service._compat, "connection", return_value="it")
    hook = service.ServerHook("nyx_other", provider="nyx", dag_id="beta")
    assert (hook.get_connection("nyx_other"), hook.conn_id, hook.provider.name) == ("it", "nyx_other", "nyx")
    asked.assert_called_once_with("nyx_other", "beta")


def test_the_address_of_a_run_has_its_parents() -> None:
    from runops.airflow.plugin.service import ref_of

    parents = {"workflow_id": "w"}
    found = ref_of(stored_of(provider="onepin", run_id="r", parents=parents))
    assert found == RunRef(provider="onepin", run_id="r", parents=parents)


# --- a cancel ---


class Client:
    """A service whose run stands first in one way and then in another."""

    def __init__(self, *snapshots: RunSnapshot) -> None:
        self.did: list[Any] = []
        self._snapshots = list(snapshots)

    def get(self, ref: RunRef) -> RunSnapshot:
        self.did.append(("get", ref.run_id))
        return self._snapshots.pop(0)

    def cancel(self, ref: RunRef) -> None:
        self.did.append(("cancel", ref.run_id))


def seen(**fields: Any) -> RunSnapshot:
    return RunSnapshot(**{"ref": RunRef(provider="nyx", run_id="r"), "state": "x", "phase": Phase.RUNNING, **fields})


OVER = seen(phase=None, outcome=Outcome.CANCELLED)


@pytest.mark.parametrize(
    ("snapshots", "did"),
    [
        ((seen(), OVER), ["get", "cancel", "get"]),
        ((seen(phase=Phase.PAUSED), seen(phase=Phase.STOPPING)), ["get", "cancel", "get"]),
        ((seen(phase=Phase.STOPPING),), ["get"]),
        ((OVER,), ["get"]),
    ],
)
def test_a_run_is_cancelled_unless_it_is_stopping_or_over_and_all_see_how_it_stands(
    snapshots: tuple[RunSnapshot, ...], did: list[str], mocker: MockerFixture
) -> None:
    from runops.airflow.plugin import actions

    client, stored = Client(*snapshots), mocker.patch.object(actions, "store")

    @contextmanager
    def client_for(_: Any) -> Any:
        yield client

    mocker.patch.object(actions, "client_for", client_for)
    same: Any = [SimpleNamespace(dag_id="d", run_id="r", task_id=name, map_index=-1) for name in ("t", "u")]
    before = datetime.now(UTC)
    actions._cancel_outside(stored_of(run_id="r"), same)
    assert client.did == [(what, "r") for what in did]
    for call, task_id in zip(stored.call_args_list, ("t", "u"), strict=True):
        address, provider, snapshot, began_at, now = call.args
        assert (address.task_id, provider.name, snapshot) == (task_id, "nyx", snapshots[-1])
        assert before <= began_at <= now


def test_what_a_service_says_whose_declaration_is_gone_is_stored_nowhere(mocker: MockerFixture) -> None:
    from runops.airflow.plugin import actions

    stored, now = mocker.patch.object(actions, "store"), datetime.now(UTC)
    same: Any = [SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=-1)]
    actions._store(same, stored_of(provider="acme:GONE"), seen(), now)
    assert stored.call_count == 0


# --- Airflow itself ---


@pytest.mark.parametrize(
    ("url", "path", "hosts"),
    [
        ("", "/", []),
        ("http://airflow.example:8080", "/", ["airflow.example:8080"]),
        ("https://airflow.example/", "/", ["airflow.example"]),
        ("https://airflow.example/team/a", "/team/a/", ["airflow.example"]),
        ("https://airflow.example/team/", "/team/", ["airflow.example"]),
    ],
)
def test_the_place_of_the_api_server_is_that_of_its_base_url(
    url: str, path: str, hosts: list[str], mocker: MockerFixture
) -> None:
    from runops.airflow.plugin import _compat

    asked = mocker.patch.object(_compat, "conf")
    asked.get.return_value = url
    assert (_compat.root_path(), _compat.own_hosts()) == (path, frozenset(hosts))
    assert {call.args for call in asked.get.call_args_list} == {("api", "base_url")}
    asked.get.return_value = None
    assert (_compat.root_path(), _compat.own_hosts()) == ("/", frozenset())


def test_a_task_lives_or_is_over_by_its_state() -> None:
    from runops.airflow.plugin._compat import LIVE_STATES, OVER_STATES

    assert {"deferred", "queued", "restarting", "running", "scheduled", "up_for_reschedule"} == LIVE_STATES
    assert {"failed", "removed", "skipped", "success", "upstream_failed"} == OVER_STATES


@pytest.mark.parametrize("teams", [False, True])
def test_the_auth_manager_is_asked_as_airflow_s_own_routes_ask_it(teams: bool, mocker: MockerFixture) -> None:
    from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity

    from runops.airflow.plugin import _compat

    manager = mocker.patch.object(_compat, "get_auth_manager").return_value
    mocker.patch.object(_compat, "_multi_team", return_value=teams)
    dag, connection = mocker.patch.object(_compat, "DagDetails"), mocker.patch.object(_compat, "ConnectionDetails")
    dags, connections = mocker.patch.object(_compat, "DagModel"), mocker.patch.object(_compat, "Connection")
    dags.get_team_name.return_value = connections.get_team_name.return_value = "red"
    user: Any = object()
    team = "red" if teams else None
    for ask, method, dag_id in (
        (lambda: _compat.may_see_tasks(user, "alpha"), "GET", "alpha"),
        (lambda: _compat.may_see_tasks(user), "GET", None),
        (lambda: _compat.may_edit_task(user, "alpha"), "PUT", "alpha"),
    ):
        assert ask() is manager.is_authorized_dag.return_value
        manager.is_authorized_dag.assert_called_with(
            method=method, access_entity=DagAccessEntity.TASK_INSTANCE, details=dag.return_value, user=user
        )
        dag.assert_called_with(id=dag_id, team_name=team if dag_id else None)
    assert _compat.may_see_connection(user, "c") is manager.is_authorized_connection.return_value
    manager.is_authorized_connection.assert_called_once_with(method="GET", details=connection.return_value, user=user)
    connection.assert_called_once_with(conn_id="c", team_name=team)
    assert _compat.readable_dags(user) is manager.get_authorized_dag_ids.return_value
    manager.get_authorized_dag_ids.assert_called_once_with(user=user, method="GET")
    assert {call.args for call in dags.get_team_name.call_args_list} == ({("alpha",)} if teams else set())


@pytest.mark.parametrize(("team", "given"), [("red", {"team_name": "red"}), (None, {}), ("off", {})])
def test_a_connection_is_that_of_the_team_of_the_dag(
    team: str | None, given: dict[str, str], mocker: MockerFixture
) -> None:
    from runops.airflow.plugin import _compat

    mocker.patch.object(_compat, "_multi_team", return_value=team != "off")
    mocker.patch.object(_compat, "DagModel").get_team_name.return_value = team
    connections = mocker.patch.object(_compat, "Connection")
    assert _compat.connection("c", "alpha") is connections.get_connection_from_secrets.return_value
    connections.get_connection_from_secrets.assert_called_once_with("c", **given)


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("has", [True, False])
def test_there_are_teams_where_airflow_has_them_and_is_configured_so(
    wanted: bool, has: bool, mocker: MockerFixture
) -> None:
    from runops.airflow.plugin import _compat

    asked = mocker.patch.object(_compat, "conf")
    asked.getboolean.return_value = wanted
    mocker.patch.object(_compat, "Connection", mocker.Mock(spec=["get_team_name"] if has else []))
    assert _compat._multi_team() is (wanted and has)
    asked.getboolean.assert_called_once_with("core", "multi_team", fallback=False)


def test_a_task_is_marked_failed_and_a_line_of_the_audit_log_written_as_airflow_does_it(mocker: MockerFixture) -> None:
    from airflow.utils.state import TaskInstanceState

    from runops.airflow.plugin import _compat

    route, bag = mocker.patch.object(_compat, "patch_task_instance"), mocker.patch.object(_compat, "DBDagBag")
    user, session = mocker.Mock(), mocker.Mock()
    user.get_name.return_value = "ada"
    _compat.mark_failed(TASK, user=user, session=session)
    asked = dict(route.call_args.kwargs)
    assert asked.pop("body").new_state is TaskInstanceState.FAILED
    assert asked == {
        **TASK, "dag_bag": bag.return_value, "user": user, "session": session, "update_mask": ["new_state"],
    }  # fmt: skip
    _compat.audit("looked", user=user, task=TASK, session=session, extra="{}")
    (line,) = session.add.call_args.args
    assert {name: getattr(line, name) for name in ("event", "owner", "owner_display_name", "extra")} == {
        "event": "looked", "owner": "ada", "owner_display_name": "ada", "extra": "{}",
    }  # fmt: skip
    assert (line.dag_id, line.run_id, line.task_id, line.map_index) == tuple(TASK.values())


def literally(expression: Any) -> str:
    return " ".join(str(expression.compile(compile_kwargs={"literal_binds": True})).split())


def test_from_airflow_3_4_on_an_xcom_is_that_of_the_last_try_of_its_task(mocker: MockerFixture) -> None:
    from sqlalchemy import Boolean, column, table

    from runops.airflow.plugin import _compat

    names = ("id", "dag_id", "run_id", "task_id", "region_index", "task_instance_id", "key")
    columns = table("ti", *map(column, names), column("working_set", Boolean)).c
    mocker.patch.object(_compat, "TaskInstance", columns)
    mocker.patch.object(_compat, "StoredXCom", columns)
    last = (
        "(SELECT ti.id FROM ti WHERE ti.dag_id = 'alpha' AND ti.run_id = 'run' AND ti.task_id = 'wait' "
        "AND ti.region_index = 3 AND ti.working_set IS true)"
    )
    place = _compat.stored_place(TASK, 5)
    assert {name: literally(each) for name, each in place.items()} == {"task_instance_id": last}
    mocker.patch.object(_compat, "_last_try", return_value=7)
    found = [literally(each) for each in _compat.stored_xcom(TASK, "external_run")]
    assert found == ["ti.task_instance_id = 7", "ti.key = 'external_run'"]


def test_below_it_is_that_of_the_task_instance_by_its_four_ids(mocker: MockerFixture) -> None:
    from runops.airflow.plugin import _compat

    mocker.patch.object(_compat, "StoredXCom", _compat.XComModel)
    assert _compat.stored_place(TASK, 5) == {**TASK, "run_id": "run", "dag_run_id": 5}
    found = [literally(each).partition(".")[2] for each in _compat.stored_xcom(TASK, "external_run")]
    ids = ["dag_id = 'alpha'", "run_id = 'run'", "task_id = 'wait'", "map_index = 3"]
    assert found == [*ids, "key = 'external_run'"]


# --- what goes wrong ---


def test_a_question_that_cannot_be_read_at_all_is_refused_in_words() -> None:
    from runops.airflow.plugin import app

    answer = app._refused(None, ValueError("secret"))  # pyright: ignore[reportArgumentType]
    assert (answer.status_code, bytes(answer.body)) == (422, b'{"detail":"This cannot be read."}')


def test_an_error_of_ours_is_said_to_be_one_and_kept_nowhere() -> None:
    from runops.airflow.plugin import app

    answer = app._broken(None, ValueError("secret"))  # pyright: ignore[reportArgumentType]
    detail = "The page met an error of its own; the log of the API server has it."
    assert (answer.status_code, bytes(answer.body).decode()) == (500, f'{{"detail":"{detail}"}}')
    assert {name: answer.headers[name] for name in app.HEADERS} == app.HEADERS
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("name", "hashed"),
    [
        ("app-0123abcd.js", True), ("app-0123abcdef.css", True), ("app-0123abc.js", False), ("app-0123abcX.js", False),
        ("app.js", False), ("app-0123abcd", False), ("app-0123abcd.js.map", False),
    ],
)  # fmt: skip
def test_a_name_changes_with_its_file_where_it_ends_with_a_hash(name: str, hashed: bool) -> None:
    from runops.airflow.plugin.app import HASHED

    assert bool(HASHED.search(f"/static/assets/{name}")) is hashed
