"""Real DAGs through Airflow's own task runner, trigger runner and database, in one process."""

from __future__ import annotations

import importlib
import json
import logging
import re
import shutil
import sqlite3
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pytest_mock import MockerFixture

from runops.airflow._compat import has_task_state_store
from runops.core.model.cadence import Cadence
from tests.services import Clock, on_clock

pytestmark = pytest.mark.slow
EXAMPLES = Path(__file__).resolve().parents[2] / "example_dags"

DAGS = """
from datetime import UTC, datetime

from airflow.sdk import DAG, Asset, AssetWatcher, task
try:
    from airflow.sdk.exceptions import AirflowFailException
except ImportError:
    from airflow.exceptions import AirflowFailException

from runops.airflow import (
    B3osRunOperator,
    NektRunSensor,
    NektRunsSensor,
    NexioRunOperator,
    NexioRunSensor,
    NexioRunsOperator,
    NyxConfigSensor,
    NyxRunOperator,
    OnepinRunOperator,
    RunFinishedTrigger,
    RunSensor,
)
from runops.core import NYX_GATE

with DAG("modes", schedule=None) as modes:
    arguments = {"run_id": "{{ params.run_id }}"}
    NexioRunSensor(task_id="poke", poke_interval=0.1, **arguments)
    NexioRunSensor(task_id="deferrable", deferrable=True, poke_interval=0.1, **arguments)
    both = {"start_from_trigger": True, "end_from_trigger": True}
    NexioRunSensor(task_id="both_ends", deferrable=True, poke_interval=0.1, **both, **arguments)
    NexioRunSensor(task_id="generic_reschedule", mode="reschedule", poke_interval=0.5, **arguments)
    modes.params = {"run_id": ""}

with DAG("submits", schedule=None) as submits:
    common = {"poll_interval": 0.1, "deferrable": True}
    run = NexioRunOperator(
        task_id="nexio", engine_slug="placement", input={"note": "{{ params.canary }}"}, **common
    )
    NyxRunOperator(
        task_id="nyx_gate", config_name="nightly", name="Nightly", objective="o", budget_usd=5,
        target={"url": "https://agent.example.com"}, severity_target="high", on_outcome=NYX_GATE,
        hints=["emulator:script=exhausted", "emulator:seconds=0.3"], **common
    )
    OnepinRunOperator(task_id="onepin", workflow_id="7c9e6679-7425-40de-944b-e07fc1f90ae7", **common)
    B3osRunOperator(
        task_id="b3os_fails", workflow_id="wf_1",
        payload={"emulator": {"script": "failed_secret", "seconds": 0.3}}, **common
    )
    NexioRunSensor(task_id="waits_again", run_id=run.output["run_id"], poke_interval=0.1)
    submits.params = {"canary": ""}

with DAG("mapped", schedule=None) as mapped:
    @task
    def ids(**context):
        return context["params"]["run_ids"]

    NektRunSensor.partial(task_id="wait", poke_interval=0.1).expand(run_id=ids())
    mapped.params = {"run_ids": []}

with DAG("sets", schedule=None) as sets:
    @task
    def run_ids(**context):
        return context["params"]["run_ids"]

    given = run_ids()
    set_of = {"require": 0.5, "run_ids": given, "poke_interval": 0.2}
    NektRunsSensor(task_id="poke", **set_of)
    NektRunsSensor(task_id="deferrable", deferrable=True, **set_of)
    NektRunsSensor(task_id="reschedule", mode="reschedule", **set_of)
    text = "{{ params.run_ids | tojson }}"
    both = {"deferrable": True, "start_from_trigger": True}
    NektRunsSensor(task_id="started", run_ids=text, require=0.5, poke_interval=0.2, **both)
    NexioRunsOperator(
        task_id="submits", calls=[{"engine_slug": "placement", "input": {"n": n}} for n in range(5)],
        max_active=2, poll_interval=0.1, deferrable=True,
    )
    sets.params = {"run_ids": []}

with DAG("finds", schedule="@daily", start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False) as finds:
    NyxConfigSensor(task_id="poke", config_name="nightly", poke_interval=0.1)
    NyxConfigSensor(task_id="deferrable", config_name="nightly", poke_interval=0.1, deferrable=True)
    NyxConfigSensor(task_id="reschedule", config_name="nightly", poke_interval=0.5, mode="reschedule")
    an_hour_ago = "{{ dag_run.run_after - macros.timedelta(hours=1) }}"
    NyxConfigSensor(task_id="given", config_name="{{ 'nightly' }}", since=an_hour_ago)

watched = Asset("audits", watchers=[
    AssetWatcher(name="nightly", trigger=RunFinishedTrigger(provider="nyx", parent={"config_name": "nightly"}))
])
with DAG("after_audits", schedule=watched) as after_audits:
    NyxConfigSensor(task_id="find", config_name="nightly", poke_interval=0.1)

ORDERS = {name: Asset(f"orders_{name}", uri=f"runops-test://orders/{name}") for name in ("poke", "deferrable")}
with DAG("named", schedule=None) as named:
    sensors = [
        NexioRunSensor(
            task_id=name, run_id="{{ params.run_id }}", poke_interval=0.1, deferrable=name == "deferrable",
            outlets=[asset],
        )
        for name, asset in ORDERS.items()
    ]

    @task(inlets=list(ORDERS.values()))
    def read(*, inlet_events):
        return [inlet_events[asset][-1].extra for asset in ORDERS.values()]

    sensors >> read()
    named.params = {"run_id": ""}

with DAG("soft", schedule=None) as soft:
    NexioRunSensor(task_id="skips", run_id="{{ params.failed }}", soft_fail=True, poke_interval=0.1, deferrable=True)
    NexioRunSensor(task_id="fails", run_id="{{ params.failed }}", nexio_conn_id="nexio_wrong", soft_fail=True)
    soft.params = {"failed": ""}

def gives_up(context, result=None):
    raise AirflowFailException("no other try, please")

with DAG("leaves", schedule=None) as leaves:
    forever = {"workflow_id": "wf_1", "payload": {"emulator": {"script": "forever"}}, "cancel_on_failure": True}
    short = {"timeout": 0.5, "poll_interval": 0.1, "cancel_on_timeout": False}
    B3osRunOperator(task_id="worker", **forever, **short)
    B3osRunOperator(task_id="deferrable", deferrable=True, **forever, **short)
    B3osRunOperator(task_id="for_good", wait=False, retries=3, post_execute=gives_up, **forever)
    B3osRunOperator(task_id="succeeds", wait=False, **forever)
    B3osRunOperator(task_id="retried", retries=1, retry_delay=0, **forever, **short)
"""


@pytest.fixture(scope="module")
def dags() -> Mapping[str, Any]:
    """The DAGs above, in Airflow's own folder and database."""
    from airflow.configuration import conf
    from airflow.utils.db import initdb

    folder = Path(conf.get("core", "dags_folder"))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stories.py").write_text(DAGS)
    for example in ("example_many_runs", "example_phases"):
        shutil.copy(EXAMPLES / f"{example}.py", folder)
    initdb()
    with warnings.catch_warnings():
        # Airflow imports a test client of starlette that deprecates itself.
        warnings.simplefilter("ignore")
        importlib.import_module("airflow.api_fastapi.execution_api.app")
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(folder)
    assert not bag.import_errors
    return bag.dags


@pytest.fixture
def run_dag(dags: Mapping[str, Any], served: Any, mocker: MockerFixture) -> Iterator[Callable[..., dict[str, Any]]]:
    """``run_dag("modes", {...})`` runs a DAG; its task instances by task id (and map index)."""
    from runops.airflow import runs_sensor, task_base, tasks
    from runops.airflow.many import drive as set_drive

    mocker.patch.object(tasks, "WORKER_SECONDS", 0.1)
    mocker.patch.object(runs_sensor, "WORKER_SECONDS", 0.1)
    mocker.patch.object(set_drive, "WORKER_SECONDS", 0.1)
    mocker.patch.object(task_base, "EARLIEST_SECONDS", 0.0)
    mocker.patch.object(task_base, "heartbeat_seconds", return_value=0.0)
    served.emulator.reset()

    def run(dag_id: str, params: dict[str, Any], **of_the_run: Any) -> dict[str, Any]:
        dag_run = dags[dag_id].test(run_conf=params, **of_the_run)
        return {
            ti.task_id if ti.map_index < 0 else f"{ti.task_id}[{ti.map_index}]": ti
            for ti in dag_run.get_task_instances()
        }

    yield run
    served.emulator.reset()


def xcom(ti: Any, key: str = "return_value") -> Any:
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    with create_session() as session:
        row = (
            session.query(XComModel)
            .filter_by(dag_id=ti.dag_id, run_id=ti.run_id, task_id=ti.task_id, map_index=ti.map_index, key=key)
            .one()
        )
        return XComModel.deserialize_value(row)


def test_all_modes_give_the_same_xcom(run_dag: Any, served: Any) -> None:
    run_id = served.emulator.create_run("nexio", script="succeeded", seconds=1)
    tasks = run_dag("modes", {"run_id": run_id})
    assert {ti.state for ti in tasks.values()} == {"success"}
    results = [xcom(ti) for ti in tasks.values()]
    assert results[0]["outcome"] == "succeeded"
    assert all(result == results[0] for result in results)
    for ti in tasks.values():
        assert xcom(ti, "run") == results[0]
        assert xcom(ti, "_link_NexioRunLink") == results[0]["url"]


def test_a_stored_asset_event_names_the_run_and_a_later_task_reads_it(run_dag: Any, served: Any) -> None:
    run_id = served.emulator.create_run("nexio", script="succeeded", seconds=1)
    tasks = run_dag("named", {"run_id": run_id})
    assert {name: str(ti.state) for name, ti in tasks.items()} == dict.fromkeys(tasks, "success")
    result = xcom(tasks["poke"])
    names = {
        **{name: result[name] for name in ("provider", "run_id", "url", "outcome", "verdict")},
        "spend": None, "spend_unit": None,
    }  # fmt: skip
    assert names["run_id"] == run_id
    assert xcom(tasks["read"]) == [{"runops": names}, {"runops": names}]


def test_operators_submit_once_and_end_as_their_runs_do(
    run_dag: Any, served: Any, key: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    served.emulator.set_defaults(script="succeeded", seconds=0.3)
    canary = "canary-of-an-input-77"
    tasks = run_dag("submits", {"canary": canary})
    states = {name: str(ti.state) for name, ti in tasks.items()}
    assert states == {
        "nexio": "success", "nyx_gate": "success", "onepin": "success", "b3os_fails": "failed", "waits_again": "success"
    }  # fmt: skip
    assert xcom(tasks["nyx_gate"])["outcome"] == "exhausted"
    assert xcom(tasks["waits_again"]) == xcom(tasks["nexio"])
    assert xcom(tasks["b3os_fails"], "run")["outcome"] == "failed"
    assert len(served.emulator.requests(action="submit")) == 4

    written = capsys.readouterr()
    assert key not in written.out + written.err + caplog.text
    xcoms = json.dumps([xcom(ti, "run") for ti in tasks.values()])
    assert canary not in xcoms + written.out
    assert served.url not in xcoms


def test_the_example_of_many_runs_submits_each_once_and_tells_which_went_wrong(run_dag: Any, served: Any) -> None:
    served.emulator.set_defaults("nexio", script="succeeded", seconds=0.5)
    tasks = run_dag("example_many_runs", {"count": 30})
    assert {name: str(ti.state) for name, ti in tasks.items()} == dict.fromkeys(tasks, "success")
    result = xcom(tasks["place"])
    assert (result["total"], result["submitted"], result["outcomes"]) == (30, 30, {"succeeded": 30})
    assert len(served.emulator.requests(action="submit")) == 30
    assert xcom(tasks["tell"]) == []


def test_the_example_of_phases_tells_once_and_waits_on(
    run_dag: Any, served: Any, caplog: Any, mocker: MockerFixture
) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()

    def soon(cadence: Cadence, age: float, *, jitter: float = 0.0) -> float:
        """A look moves the service's time on by a second, and waits for none."""
        clock.sleep(1.0)
        return 0.05

    mocker.patch.object(Cadence, "delay", soon)
    with on_clock(served, clock) as emulator:
        emulator.set_defaults("b3os", script="waiting_then_succeeded", seconds=20)
        tasks = run_dag("example_phases", {"workflow_id": "wf_payout", "payload": {"amount": 10}})
        assert str(tasks["pay_out"].state) == "success"
        assert xcom(tasks["pay_out"])["outcome"] == "succeeded"
        assert len(emulator.requests(action="submit")) == 1
        assert len(emulator.requests(action="get")) > 10
    assert sum("is waiting since" in record.getMessage() for record in caplog.records) == 1


def test_a_sensor_maps_over_run_ids(run_dag: Any, served: Any) -> None:
    run_ids = [served.emulator.create_run("nekt", script=script, seconds=0.2) for script in ("succeeded", "failed")]
    tasks = run_dag("mapped", {"run_ids": run_ids})
    assert (str(tasks["wait[0]"].state), str(tasks["wait[1]"].state)) == ("success", "failed")


def test_many_runs_are_one_task_in_every_mode(run_dag: Any, served: Any) -> None:
    made = [("succeeded", 0.1), ("succeeded", 3), ("failed", 2)]
    run_ids = [served.emulator.create_run("nekt", script=script, seconds=seconds) for script, seconds in made]
    served.emulator.set_defaults(script="succeeded", seconds=0.3)
    tasks = run_dag("sets", {"run_ids": run_ids})
    assert {ti.state for ti in tasks.values()} == {"success"}
    waits = [xcom(tasks[name]) for name in ("poke", "deferrable", "reschedule", "started")]
    assert waits[0]["outcomes"] == {"succeeded": 2, "failed": 1}
    assert waits[0]["failed"][0]["run_id"] == run_ids[2]
    assert all(result == waits[0] for result in waits)
    rows = [xcom(tasks[name], "runs") for name in ("poke", "deferrable", "reschedule", "started")]
    assert [row["run_id"] for row in rows[0]] == run_ids
    assert all(each == rows[0] for each in rows)
    assert xcom(tasks["submits"])["outcomes"] == {"succeeded": 5}
    assert len(served.emulator.requests(action="submit")) == 5


def test_soft_fail_skips_on_a_failed_run_and_never_on_a_wrong_key(run_dag: Any, served: Any, connect: Any) -> None:
    connect("nexio_wrong", "nexio", host=served.base_url("nexio"), password="invalid-key-1234")
    tasks = run_dag("soft", {"failed": served.emulator.create_run("nexio", script="failed", seconds=0.5)})
    assert {name: str(ti.state) for name, ti in tasks.items()} == {"skips": "skipped", "fails": "failed"}


def test_a_search_begins_where_the_kind_of_its_dag_run_says(
    run_dag: Any, served: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    parents = {"config_name": "nightly"}
    days_ago = served.emulator.create_run("nyx", script="failed", age_seconds=50 * 3600, parents=parents)
    newest = served.emulator.create_run("nyx", script="succeeded", seconds=1, parents=parents)
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)

    def moments(dag_id: str, **of_the_run: Any) -> set[str]:
        tasks = run_dag(dag_id, {}, **of_the_run)
        assert {str(ti.state) for ti in tasks.values()} == {"success"}
        assert {xcom(ti, "run_id") for ti in tasks.values()} == {newest} != {days_ago}
        written = capsys.readouterr().out
        return set(re.findall(r"created since \S+: (.*?)\.", written))

    # A manual run, and one that an asset starts, has no logical date, and so no earlier one to go by.
    assert moments("finds") == {"24 h before the run_after", "as since says"}
    assert moments("after_audits") == {"24 h before the run_after"}
    # A cron run and a backfill have one: the first knows no success before, the second the first's.
    assert "24 h before the run_after" in moments("finds", logical_date=today - timedelta(days=1))
    previous = "the end of the previous successful DAG run's data interval"
    assert previous in moments("finds", logical_date=today)


def test_airflows_database_holds_no_key(run_dag: Any, served: Any, key: str) -> None:
    run_dag("modes", {"run_id": served.emulator.create_run("nexio", script="succeeded", seconds=0.3)})
    from airflow.configuration import conf

    path = conf.get("database", "sql_alchemy_conn").removeprefix("sqlite:///").partition("?")[0]
    with closing(sqlite3.connect(path)) as database:
        dump = "\n".join(database.iterdump())
    assert "succeeded" in dump
    assert key not in dump


def test_a_run_whose_task_has_no_try_left_by_airflows_own_count_is_cancelled(run_dag: Any, served: Any) -> None:
    tasks = run_dag("leaves", {})
    states = {name: str(ti.state) for name, ti in tasks.items()}
    assert states == {
        "worker": "failed", "deferrable": "failed", "for_good": "failed", "succeeds": "success", "retried": "failed"
    }  # fmt: skip
    asked = str([request["path"] for request in served.emulator.requests(action="cancel")])
    # A task that succeeded may leave its run.
    assert {name for name, ti in tasks.items() if xcom(ti, "run_id") in asked} == set(tasks) - {"succeeds"}
    if has_task_state_store():
        # The retry took its run up, which its first try therefore left alone.
        assert asked.count("run_") == 4
        assert len(served.emulator.requests(action="submit")) == 5
