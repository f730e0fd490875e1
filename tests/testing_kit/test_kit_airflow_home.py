"""The home of Airflow that a session of pytest gets, and when Airflow has something to do again, without an Airflow."""

from __future__ import annotations

import atexit
import os
import shutil
import sqlite3
import sys
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from pytest_mock import MockerFixture
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

from runops.testing import airflow_due, airflow_home


def without_airflow(mocker: MockerFixture, **modules: Any) -> None:
    """Nothing of Airflow is imported, but for modules that stand for some of it."""
    left = {name: sys.modules[name] for name in sys.modules if name.partition(".")[0] != "airflow"}
    named = {name.replace("__", "."): module for name, module in modules.items()}
    parents = {name[:at] for name in named for at, sign in enumerate(name) if sign == "."}
    mocker.patch.dict(sys.modules, {**left, **{name: ModuleType(name) for name in parents}, **named}, clear=True)


@pytest.fixture
def config(tmp_path: Path) -> Any:
    """The session's, with a cache of its own."""
    (tmp_path / "dags").mkdir()
    cache = SimpleNamespace(mkdir=lambda name: made_folder(tmp_path / "cache" / name))
    return SimpleNamespace(rootpath=tmp_path, cache=cache)


def made_folder(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


# --- the home ---


def test_airflow_finds_its_home_its_dags_and_its_database_and_the_home_is_gone_at_the_end(
    mocker: MockerFixture, config: Any, tmp_path: Path
) -> None:
    without_airflow(mocker)
    mocker.patch.dict(os.environ)
    ends = mocker.patch.object(atexit, "register")
    airflow_home.make_home(config, "dags")
    home = Path(os.environ["AIRFLOW_HOME"])
    try:
        assert home.is_dir()
        assert home.name.startswith("runops-airflow-")
        assert os.environ["AIRFLOW__CORE__DAGS_FOLDER"] == str(tmp_path / "dags")
        assert os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] == "False"
        assert os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == f"sqlite:///{home}/airflow.db"
    finally:
        ends.call_args.args[0](*ends.call_args.args[1:], **ends.call_args.kwargs)
    assert not home.exists()
    ends.assert_called_once_with(shutil.rmtree, home, ignore_errors=True)


def test_a_folder_of_dags_that_is_none_is_refused(mocker: MockerFixture, config: Any, tmp_path: Path) -> None:
    without_airflow(mocker)
    environment = dict(os.environ)
    with pytest.raises(pytest.UsageError) as error:
        airflow_home.make_home(config, "nowhere")
    assert str(error.value) == f"runops_airflow_dags names 'nowhere', and there is no folder {tmp_path / 'nowhere'}."
    (tmp_path / "file").write_text("")
    with pytest.raises(pytest.UsageError):
        airflow_home.make_home(config, "file")
    assert dict(os.environ) == environment


def test_a_home_comes_too_late_once_airflow_is_imported(mocker: MockerFixture, config: Any) -> None:
    without_airflow(mocker, airflow=ModuleType("airflow"))
    made = mocker.patch("tempfile.mkdtemp")
    with pytest.raises(pytest.UsageError, match="runops_airflow_dags comes too late"):
        airflow_home.make_home(config, "dags")
    made.assert_not_called()


# --- the database ---


def rows(database: Path) -> list[Any]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute("SELECT name FROM made").fetchall()


def filled(database: Path, name: str) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE made (name TEXT)")
        connection.execute("INSERT INTO made VALUES (?)", (name,))
        connection.commit()


@pytest.fixture
def home(mocker: MockerFixture, tmp_path: Path) -> Any:
    """Gives a new home, and counts how often Airflow makes its database."""
    made: list[Path] = []

    def new(name: str) -> Path:
        folder = made_folder(tmp_path / name)

        def initdb() -> None:
            made.append(folder)
            warnings.warn("of Airflow itself", DeprecationWarning, stacklevel=1)
            filled(folder / "airflow.db", name)

        without_airflow(mocker, airflow__utils__db=SimpleNamespace(initdb=initdb))
        mocker.patch.dict(os.environ, {"AIRFLOW_HOME": str(folder)})
        return folder

    new.made = made  # pyright: ignore[reportFunctionMemberAccess]
    mocker.patch.object(airflow_home, "version", return_value="3.9.9")
    return new


def test_a_database_is_made_once_and_copied_for_each_session_after_it(home: Any, config: Any, tmp_path: Path) -> None:
    first = home("first")
    airflow_home.make_database(config)
    assert rows(first / "airflow.db") == [("first",)]
    kept = tmp_path / "cache" / "runops-airflow"
    assert [path.name for path in kept.iterdir()] == ["3.9.9.db"]
    second = home("second")
    airflow_home.make_database(config)
    assert rows(second / "airflow.db") == [("first",)]
    assert home.made == [first]


@pytest.mark.parametrize("why", ["no cache", "no package"])
def test_where_nothing_can_be_kept_each_session_makes_its_database(
    mocker: MockerFixture, home: Any, config: Any, tmp_path: Path, why: str
) -> None:
    if why == "no cache":
        config = SimpleNamespace(rootpath=tmp_path)
    else:
        mocker.patch.object(airflow_home, "version", side_effect=PackageNotFoundError)
    for name in ("first", "second"):
        folder = home(name)
        airflow_home.make_database(config)
        assert rows(folder / "airflow.db") == [(name,)]
    assert len(home.made) == 2


def test_the_database_that_is_kept_is_that_of_this_airflow(mocker: MockerFixture, config: Any, tmp_path: Path) -> None:
    asked = mocker.patch.object(airflow_home, "version", return_value="3.1.8")
    assert airflow_home._kept(config) == tmp_path / "cache" / "runops-airflow" / "3.1.8.db"
    asked.assert_called_once_with("apache-airflow-core")
    assert airflow_home._kept(SimpleNamespace(cache=None)) is None  # pyright: ignore[reportArgumentType]


# --- what is due ---

NOW = 1_700_000_000.0


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(NOW + seconds, UTC)


@pytest.fixture
def session(mocker: MockerFixture) -> Any:
    """The session that Airflow gives."""
    given = mocker.MagicMock()

    @contextmanager
    def create_session() -> Iterator[Any]:
        yield given

    without_airflow(mocker, airflow__utils__session=SimpleNamespace(create_session=create_session))
    return given


@pytest.mark.parametrize(
    ("pokes", "retries", "due"),
    [
        ([], [], None),
        ([30.0], [], 30.001),
        ([], [20.0], 20.001),
        ([30.0, 40.0], [50.0], 30.001),
        ([30.0], [0.5, 50.0], 0.501),
        ([-1.0], [7.0], 7.001),
        ([-1.0, 0.0], [-2.0], None),
    ],
)
def test_the_next_poke_or_retry_that_is_still_ahead_is_due(
    mocker: MockerFixture, session: Any, pokes: list[float], retries: list[float], due: float | None
) -> None:
    asked = [
        mocker.patch.object(airflow_due, name, return_value=map(moment, ahead))
        for name, ahead in (("_pokes", pokes), ("_retries", retries))
    ]
    assert airflow_due.seconds_until_due(NOW) == (None if due is None else pytest.approx(due, abs=1e-6))
    assert [each.call_args.args for each in asked] == [(session,)] * 2


@pytest.mark.parametrize(
    ("kind", "raised"), [(OperationalError, False), (ProgrammingError, False), (IntegrityError, True)]
)
def test_without_tables_of_airflow_nothing_is_due(mocker: MockerFixture, session: Any, kind: Any, raised: bool) -> None:
    mocker.patch.object(airflow_due, "_pokes", side_effect=kind("SELECT", {}, Exception("no such table")))
    if raised:
        with pytest.raises(kind):
            airflow_due.seconds_until_due(NOW)
    else:
        assert airflow_due.seconds_until_due(NOW) is None


def test_of_each_waiting_sensor_the_newest_moment_is_its_next_poke(mocker: MockerFixture) -> None:
    model = mocker.MagicMock()
    without_airflow(mocker, airflow__models__taskreschedule=SimpleNamespace(TaskReschedule=model))
    instances = [SimpleNamespace(id=number) for number in range(3)]
    waiting = mocker.patch.object(airflow_due, "_waiting", return_value=instances)
    session = mocker.MagicMock()
    found = [[(moment(1),), (moment(9),), (moment(5),)], [], [(moment(2),)]]
    session.query.return_value.filter.side_effect = found
    assert list(airflow_due._pokes(session)) == [moment(9), moment(2)]
    waiting.assert_called_once_with(session, "up_for_reschedule")
    session.query.assert_called_with(model.reschedule_date)
    assert session.query.return_value.filter.call_count == 3


def test_a_retry_is_due_when_its_dag_says_so(mocker: MockerFixture) -> None:
    model = mocker.MagicMock()
    without_airflow(mocker, airflow__models__serialized_dag=SimpleNamespace(SerializedDagModel=model))
    instances = [
        SimpleNamespace(dag_id=dag, task_id=task, next_retry_datetime=lambda number=number: moment(number))
        for number, (dag, task) in enumerate((("a", "t"), ("gone", "t"), ("a", "gone"), ("a", "u")))
    ]
    waiting = mocker.patch.object(airflow_due, "_waiting", return_value=instances)
    dag = SimpleNamespace(has_task=lambda task: task != "gone", get_task=lambda task: f"the task {task}")
    model.get_dag.side_effect = lambda dag_id, *, session: dag if (dag_id, session) == ("a", "s") else None
    assert list(airflow_due._retries("s")) == [moment(0), moment(3)]
    assert [getattr(each, "task", None) for each in instances] == ["the task t", None, None, "the task u"]
    waiting.assert_called_once_with("s", "up_for_retry")


def test_only_tasks_of_dag_runs_that_go_on_are_looked_at(mocker: MockerFixture) -> None:
    class Column:
        """Shows what it is compared to."""

        def __init__(self, name: str) -> None:
            self.name = name

        def __eq__(self, other: object) -> Any:
            return (self.name, other.name if isinstance(other, Column) else other)

        __hash__ = None  # type: ignore[assignment]

    instances = SimpleNamespace(run_id=Column("ti.run_id"), state=Column("ti.state"))
    runs = SimpleNamespace(run_id=Column("run.run_id"), state=Column("run.state"))
    states = SimpleNamespace(
        DagRunState=SimpleNamespace(RUNNING="running"), TaskInstanceState=lambda name: f"S({name})"
    )
    without_airflow(
        mocker,
        airflow__models__dagrun=SimpleNamespace(DagRun=runs),
        airflow__models__taskinstance=SimpleNamespace(TaskInstance=instances),
        airflow__utils__state=states,
    )
    session = mocker.MagicMock()
    joined = session.query.return_value.join
    chosen = joined.return_value.filter
    assert airflow_due._waiting(session, "up_for_retry") is chosen.return_value.all.return_value
    session.query.assert_called_once_with(instances)
    assert joined.call_args.args == (runs, ("ti.run_id", "run.run_id"))
    assert chosen.call_args.args == (("ti.state", "S(up_for_retry)"), ("run.state", "running"))
