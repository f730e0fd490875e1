"""The home of Airflow that the kit makes, and what it says of the next thing that is due; no DAG runs here."""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing, nullcontext
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import sqlalchemy.exc
from pytest_mock import MockerFixture

from runops.testing import airflow_due, airflow_home

NOW = 1_800_000_000.0


def config(root: Path, **more: Any) -> Any:
    return SimpleNamespace(rootpath=root, **more)


class Airflow:
    """What stands in the place of a module of Airflow, which is slow to import, with one name in it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch

    def has(self, path: str, what: Any) -> None:
        module, _, name = path.rpartition(".")
        made = ModuleType(module)
        setattr(made, name, what)
        self.monkeypatch.setitem(sys.modules, module, made)


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> Airflow:
    return Airflow(monkeypatch)


@pytest.fixture
def environment(mocker: MockerFixture) -> None:
    mocker.patch.dict(os.environ)


@pytest.fixture
def at_exit(mocker: MockerFixture) -> Any:
    return mocker.patch("atexit.register")


@pytest.mark.usefixtures("environment")
def test_airflow_is_led_to_a_home_of_the_session_that_goes_with_it(
    tmp_path: Path, mocker: MockerFixture, monkeypatch: pytest.MonkeyPatch, at_exit: Any
) -> None:
    monkeypatch.delitem(sys.modules, "airflow", raising=False)
    home = tmp_path / "home"
    made = mocker.patch("tempfile.mkdtemp", return_value=str(home))
    (tmp_path / "my_dags").mkdir()
    airflow_home.make_home(config(tmp_path), "my_dags")
    assert {name: os.environ[name] for name in os.environ if name.startswith("AIRFLOW")}.items() >= {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path / "my_dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
    }.items()
    made.assert_called_once_with(prefix="runops-airflow-")
    (call,) = at_exit.call_args_list
    assert (call.args[1], call.kwargs) == (home, {"ignore_errors": True})


@pytest.mark.usefixtures("environment")
def test_a_home_without_its_folder_or_after_airflow_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = dict(os.environ)
    with pytest.raises(pytest.UsageError) as raised:
        airflow_home.make_home(config(tmp_path), "none")
    assert str(raised.value) == f"runops_airflow_dags names 'none', and there is no folder {tmp_path / 'none'}."
    monkeypatch.setitem(sys.modules, "airflow", ModuleType("airflow"))
    (tmp_path / "dags").mkdir()
    with pytest.raises(pytest.UsageError, match=r"^runops_airflow_dags comes too late: a plugin or an option -p has "):
        airflow_home.make_home(config(tmp_path), "dags")
    assert dict(os.environ) == before


def rows_of(database: Path) -> list[Any]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute("select name from one").fetchall()


def database(place: Path, name: str) -> None:
    with closing(sqlite3.connect(place)) as connection:
        connection.execute("create table one (name text)")
        connection.execute("insert into one values (?)", (name,))
        connection.commit()


class Cache:
    """pytest's own, as far as the kit uses it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def mkdir(self, name: str) -> Path:
        (self.root / name).mkdir(exist_ok=True)
        return self.root / name


@pytest.fixture
def kept(tmp_path: Path, mocker: MockerFixture) -> Path:
    mocker.patch.object(airflow_home, "version", lambda name: {"apache-airflow-core": "3.9.1"}[name])
    (tmp_path / "home").mkdir()
    mocker.patch.dict(os.environ, {"AIRFLOW_HOME": str(tmp_path / "home")})
    return tmp_path / "runops-airflow" / "3.9.1.db"


def test_a_database_that_an_earlier_session_has_made_is_copied(tmp_path: Path, kept: Path, airflow: Airflow) -> None:
    kept.parent.mkdir()
    database(kept, "earlier")
    airflow.has("airflow.utils.db.initdb", pytest.fail)
    airflow_home.make_database(config(tmp_path, cache=Cache(tmp_path)))
    assert rows_of(tmp_path / "home" / "airflow.db") == [("earlier",)]


@pytest.mark.parametrize("cached", [True, False])
def test_a_database_is_made_once_and_kept_where_there_is_a_cache(
    tmp_path: Path, kept: Path, airflow: Airflow, cached: bool
) -> None:
    airflow.has("airflow.utils.db.initdb", lambda: database(tmp_path / "home" / "airflow.db", "new"))

    airflow_home.make_database(config(tmp_path, **({"cache": Cache(tmp_path)} if cached else {})))
    assert rows_of(tmp_path / "home" / "airflow.db") == [("new",)]
    assert kept.exists() is cached
    if cached:
        assert rows_of(kept) == [("new",)]
        assert [path.name for path in kept.parent.iterdir()] == ["3.9.1.db"]


def test_nothing_is_kept_of_an_airflow_that_is_not_installed(tmp_path: Path, mocker: MockerFixture) -> None:
    mocker.patch.object(airflow_home, "version", side_effect=PackageNotFoundError("apache-airflow-core"))
    assert airflow_home._kept(config(tmp_path, cache=Cache(tmp_path))) is None
    assert airflow_home._kept(config(tmp_path, cache=None)) is None


# --- what is due -------------------------------------------------------------------------------------------------


def at(*seconds: float) -> list[datetime]:
    return [datetime.fromtimestamp(NOW + each, UTC) for each in seconds]


@pytest.mark.parametrize(
    ("pokes", "retries", "due"),
    [
        ((), (), None),
        ((60,), (), 60.001),
        ((), (30,), 30.001),
        ((60, 20), (30,), 20.001),
        ((60,), (5, 30), 5.001),
        ((-1, 0), (60,), 60.001),
        ((-1,), (0,), None),
        ((0.5,), (), 0.501),
    ],
)
def test_the_next_poke_or_try_that_lies_ahead_is_due(
    mocker: MockerFixture, airflow: Airflow, pokes: tuple[float, ...], retries: tuple[float, ...], due: float | None
) -> None:
    session = object()
    airflow.has("airflow.utils.session.create_session", lambda: nullcontext(session))
    asked = [mocker.patch.object(airflow_due, "_pokes", return_value=at(*pokes))]
    asked.append(mocker.patch.object(airflow_due, "_retries", return_value=at(*retries)))
    found = airflow_due.seconds_until_due(NOW)
    assert found == (None if due is None else pytest.approx(due, abs=1e-5))
    assert [each.call_args.args for each in asked] == [(session,), (session,)]


@pytest.mark.parametrize("kind", ["OperationalError", "ProgrammingError"])
def test_without_a_database_nothing_is_due(mocker: MockerFixture, airflow: Airflow, kind: str) -> None:
    airflow.has("airflow.utils.session.create_session", lambda: nullcontext(None))
    error = getattr(sqlalchemy.exc, kind)("select", {}, Exception("no such table"))
    mocker.patch.object(airflow_due, "_pokes", side_effect=error)
    assert airflow_due.seconds_until_due(NOW) is None


class Asked:
    """A session of a database, by what it answers to each of its questions."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def query(self, *_: Any) -> Any:
        return SimpleNamespace(filter=lambda *_: self.answers.pop(0))


def test_of_the_moments_of_a_sensor_the_newest_counts(mocker: MockerFixture, airflow: Airflow) -> None:
    columns = SimpleNamespace(reschedule_date=None, ti_id=None)
    airflow.has("airflow.models.taskreschedule.TaskReschedule", columns)
    tasks = [SimpleNamespace(id=number) for number in range(2)]
    waiting = mocker.patch.object(airflow_due, "_waiting", return_value=tasks)
    session = Asked([(moment,) for moment in at(5, 9, 7)], [])
    assert list(airflow_due._pokes(session)) == at(9)
    waiting.assert_called_once_with(session, "up_for_reschedule")


def test_a_task_that_its_dag_no_longer_has_is_not_tried_again(mocker: MockerFixture, airflow: Airflow) -> None:
    class Dag:
        def has_task(self, task_id: str) -> bool:
            return task_id == "there"

        def get_task(self, task_id: str) -> str:
            return f"the task {task_id}"

    def get_dag(dag_id: str, *, session: Any) -> Dag | None:
        read.append(session)
        return Dag() if dag_id == "a" else None

    read: list[Any] = []
    airflow.has("airflow.models.serialized_dag.SerializedDagModel", SimpleNamespace(get_dag=get_dag))
    due = {"task": None, "next_retry_datetime": lambda: at(7)[0]}
    names = [("a", "there"), ("a", "gone"), ("none", "there")]
    tasks = [SimpleNamespace(dag_id=dag, task_id=task, **due) for dag, task in names]
    waiting = mocker.patch.object(airflow_due, "_waiting", return_value=tasks)
    session = object()
    assert list(airflow_due._retries(session)) == at(7)
    assert [each.task for each in tasks] == ["the task there", None, None]
    assert read == [session] * 3
    waiting.assert_called_once_with(session, "up_for_retry")
