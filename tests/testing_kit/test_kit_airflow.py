"""What the kit does with an Airflow that runs in the test: one asks it at a time, and its database is looked into."""

from __future__ import annotations

import sys
import threading
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from pytest_mock import MockerFixture

from runops.testing import airflow_channel, airflow_due, airflow_home

NOW = 1_700_000_000.0


def without_airflow(mocker: MockerFixture, **modules: Any) -> None:
    """Nothing of Airflow is imported, but for modules that stand for some of it."""
    left = {name: sys.modules[name] for name in sys.modules if name.partition(".")[0] != "airflow"}
    named = {name.replace("__", "."): module for name, module in modules.items()}
    parents = {name[:at] for name in named for at, sign in enumerate(name) if sign == "."}
    mocker.patch.dict(sys.modules, {**left, **{name: ModuleType(name) for name in parents}, **named}, clear=True)


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(NOW + seconds, UTC)


@pytest.fixture
def config(tmp_path: Path) -> Any:
    """The session's, with a cache of its own."""

    def mkdir(name: str) -> Path:
        (tmp_path / "cache" / name).mkdir(parents=True, exist_ok=True)
        return tmp_path / "cache" / name

    return SimpleNamespace(rootpath=tmp_path, cache=SimpleNamespace(mkdir=mkdir))


def test_two_threads_ask_one_after_the_other_and_a_thread_may_ask_within_its_turn() -> None:
    inside: list[int] = []
    most: list[int] = []
    entered, leave = threading.Event(), threading.Event()

    def act(wait: bool) -> str:
        inside.append(1)
        most.append(len(inside))
        entered.set()
        assert not wait or leave.wait(10)
        inside.pop()
        return "done"

    asking = airflow_channel.one_at_a_time(act)
    assert getattr(asking, airflow_channel.MARK)
    assert airflow_channel.one_at_a_time(lambda: asking(False))() == "done"
    first = threading.Thread(target=asking, args=(True,))
    entered.clear()
    first.start()
    assert entered.wait(10)
    second = threading.Thread(target=asking, args=(False,))
    second.start()
    second.join(0.05)
    leave.set()
    first.join()
    second.join()
    assert most == [1, 1, 1]


def test_the_record_of_a_set_waits_its_turn_once_and_is_as_before_afterwards(mocker: MockerFixture) -> None:
    class Store:
        def save(self) -> str:
            return "saved"

    save = Store.save
    stand_in = SimpleNamespace(LedgerStore=Store)
    mocker.patch.dict(sys.modules, {"runops.airflow.many.ledger_store": stand_in})
    with ExitStack() as patches:
        airflow_channel.keep_threads_apart(patches)
        apart = Store.save
        assert getattr(apart, airflow_channel.MARK)
        airflow_channel.keep_threads_apart(patches)
        assert Store.save is apart
        assert Store().save() == "saved"
    assert Store.save is save


def test_the_database_that_is_kept_is_that_of_this_airflow(mocker: MockerFixture, config: Any, tmp_path: Path) -> None:
    asked = mocker.patch.object(airflow_home, "version", return_value="3.1.8")
    assert airflow_home._kept(config) == tmp_path / "cache" / "runops-airflow" / "3.1.8.db"
    asked.assert_called_once_with("apache-airflow-core")
    assert airflow_home._kept(SimpleNamespace(cache=None)) is None  # pyright: ignore[reportArgumentType]


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
