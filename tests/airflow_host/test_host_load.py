"""300 waits at once in the real triggerers: each end is noticed in time, and resuming costs what it must."""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pytest

from demo.processes import Supervisor
from tests.airflow_host.host import TASK_OVER, Host, Outside, Task, until
from tests.airflow_host.load import FOLDER, mark_of
from tests.airflow_host.postgres import Postgres, programs
from tests.airflow_host.secrets_search import leaks_of, places, written_by
from tests.leaks.private_fields import PAYLOADS, WORKFLOW

pytestmark = pytest.mark.slow

DAG, EMPTY_DAG = "load", "load_empty"
DAG_RUNS = 25
OURS = {"nexio": 3, "nyx": 3, "onepin": 2, "b3os": 2, "nekt": 2}
"""Waits for each provider in one DAG run."""
EMPTY = 4
WINDOW_SECONDS = 200.0
"""For so long runs end, at moments drawn with a fixed seed."""
DEFERRED_SECONDS = 120.0
END_SECONDS = 300.0
NOTICED_SECONDS = 15.0
RATIO = 1.2


UNHURRIED = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "300",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "120",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "300",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "120",
    "AIRFLOW__TRIGGERER__RUNNER_HEALTH_CHECK_THRESHOLD": "60",
}
"""Nothing is killed here, and a machine that is busy must not look dead."""


@dataclass
class Load:
    """When each wait could end, and what the host made of it."""

    ended: dict[Task, float] = field(default_factory=dict)
    recorded: dict[Task, float] = field(default_factory=dict)
    resumed: dict[Task, float] = field(default_factory=dict)
    over: dict[Task, float] = field(default_factory=dict)
    states: dict[Task, str] = field(default_factory=dict)

    def noticed_after(self, tasks: Iterable[Task]) -> list[float]:
        """Seconds from the end to the recorded event, sorted."""
        return sorted(self.recorded[task] - self.ended[task] for task in tasks)

    def resumed_after(self, tasks: Iterable[Task]) -> list[float]:
        """Seconds from the recorded event to the worker's first line, sorted."""
        return sorted(self.resumed[task] - self.recorded[task] for task in tasks)

    def over_after(self, tasks: Iterable[Task]) -> list[float]:
        """Seconds from the recorded event to the end of the task, sorted."""
        return sorted(self.over[task] - self.recorded[task] for task in tasks)

    @property
    def ours(self) -> list[Task]:
        return [task for task in self.ended if task.dag_id == DAG]

    @property
    def empty(self) -> list[Task]:
        return [task for task in self.ended if task.dag_id == EMPTY_DAG]


@pytest.fixture(scope="module")
def busy_host(supervisor: Supervisor, folder: Path, outside: Outside, postgres: Postgres) -> Iterator[Host]:
    """Airflow with two triggerers, as the other tests have it, on a database of its own and without their hurry."""
    own = folder / "load"
    marks = own / "marks"
    marks.mkdir(parents=True)
    database = Postgres(supervisor, programs())
    database.start()
    host = Host(
        supervisor,
        own,
        outside.connections(),
        database=database,
        triggerers=2,
        settings=UNHURRIED | {FOLDER: str(marks)},
    )
    host.migrate()
    host.start()
    host.wait_until_healthy()
    yield host
    host.kill(*[name for name, component in host.components.items() if component.process.poll() is None])
    host.close()
    database.stop()


@pytest.fixture(scope="module")
def load(busy_host: Host, outside: Outside) -> Load:
    """All tasks defer, then their waits end one after the other, ours and the empty ones mixed."""
    host = busy_host
    host.wait_for_dags([DAG, EMPTY_DAG])
    load = Load()
    runs: dict[Task, tuple[str, str]] = {}
    for number in range(DAG_RUNS):
        run_id, conf = f"load_{number}", {}
        for provider, count in OURS.items():
            for which in range(count):
                made = outside.tell(
                    "runs", provider=provider, script="succeeded", seconds=3600, held=True, fields=PAYLOADS[provider],
                    parents={"workflow_id": WORKFLOW} if provider == "onepin" else None,
                )  # fmt: skip
                conf[f"{provider}_{which}"] = made["run_id"]
                runs[Task(DAG, run_id, f"{provider}_{which}")] = provider, made["run_id"]
        host.trigger(DAG, run_id, conf)
        host.trigger(EMPTY_DAG, run_id, {})
    everything = [*runs, *(Task(EMPTY_DAG, f"load_{n}", f"empty_{k}") for n in range(DAG_RUNS) for k in range(EMPTY))]
    began = time.monotonic()
    until(
        "all tasks are deferred", DEFERRED_SECONDS,
        lambda: _count(host, "deferred") == len(everything), pause=1.0,
    )  # fmt: skip
    until(
        "each trigger has begun, and told how its run stands", DEFERRED_SECONDS,
        lambda: all(host.log(task).count("\n") >= 2 for task in runs), pause=2.0,
    )  # fmt: skip
    print(f"\n{len(everything)} tasks deferred and watched after {time.monotonic() - began:.0f} s")
    _end_all(host, outside, runs, everything, load)
    until("all tasks are over", END_SECONDS, lambda: _count(host, *TASK_OVER) == len(everything), pause=1.0)
    _read(host, load)
    return load


def _count(host: Host, *states: str) -> int:
    assert host.database is not None
    (row,) = host.database.query("SELECT count(*) FROM task_instance WHERE state = ANY(%s)", list(states))
    return row[0]


def _end_all(
    host: Host, outside: Outside, runs: dict[Task, tuple[str, str]], everything: list[Task], load: Load
) -> None:
    drawn = random.Random(4)
    moments = sorted(drawn.uniform(0, WINDOW_SECONDS) for _ in everything)
    began = time.monotonic()
    for task, moment in zip(drawn.sample(everything, len(everything)), moments, strict=True):
        time.sleep(max(began + moment - time.monotonic(), 0.0))
        if task in runs:
            provider, run_id = runs[task]
            outside.tell("hold", held=False, provider=provider, run_id=run_id)
            outside.tell("advance", provider=provider, run_id=run_id)
        else:
            (host.folder / "marks" / mark_of(task.run_id, task.task_id)).touch()
        load.ended[task] = time.time()


def _read(host: Host, load: Load) -> None:
    assert host.database is not None
    rows = host.database.query("SELECT dag_id, run_id, task_id, state, scheduled_dttm, end_date FROM task_instance")
    for dag_id, run_id, task_id, state, recorded, over in rows:
        task = Task(dag_id, run_id, task_id)
        load.states[task] = state
        load.recorded[task] = recorded.timestamp()
        load.over[task] = over.timestamp()
        folder = host.home / "logs" / f"dag_id={dag_id}" / f"run_id={run_id}" / f"task_id={task_id}"
        first = (folder / "attempt=1.log").read_text().splitlines()[0]
        load.resumed[task] = datetime.fromisoformat(json.loads(first)["timestamp"]).timestamp()


def _told(what: str, seconds: list[float]) -> None:
    middle, mean = statistics.median(seconds), statistics.mean(seconds)
    last = seconds[int(len(seconds) * 0.99)]
    print(
        f"{what}, {len(seconds)} tasks: median {middle:.2f} s, mean {mean:.2f}, p99 {last:.2f}, all {seconds[-1]:.2f}"
    )


def test_all_waits_end_well(load: Load) -> None:
    assert len(load.ours) == DAG_RUNS * sum(OURS.values()) == 300
    assert set(load.states.values()) == {"success"}


def test_each_end_is_recorded_in_time(load: Load) -> None:
    _told("from the end of a run to the recorded event, ours", load.noticed_after(load.ours))
    _told("from the mark to the recorded event, empty operator", load.noticed_after(load.empty))
    assert load.noticed_after(load.ours)[-1] <= NOTICED_SECONDS


def test_resuming_takes_hardly_longer_than_for_an_empty_operator(load: Load) -> None:
    for name, tasks in (("ours", load.ours), ("empty operator", load.empty)):
        _told(f"from the recorded event to the resumed process, {name}", load.resumed_after(tasks))
        _told(f"from the recorded event to the end of the task, {name}", load.over_after(tasks))
    resumed = [statistics.mean(load.resumed_after(tasks)) for tasks in (load.ours, load.empty)]
    over = [statistics.mean(load.over_after(tasks)) for tasks in (load.ours, load.empty)]
    print(f"ratio of the means: {resumed[0] / resumed[1]:.2f} until resumed, {over[0] / over[1]:.2f} until over")
    assert resumed[0] / resumed[1] <= RATIO


def test_neither_the_dumped_database_nor_any_log_holds_a_key_or_a_private_text(
    load: Load, busy_host: Host, folder: Path
) -> None:
    looked_at = places(written_by(busy_host, folder / "logs"))
    assert {"table xcom", "table trigger", "table task_instance", "airflow-triggerer-2.log"} <= looked_at
    assert any("dag_id=load" in place and ".log.trigger" in place for place in looked_at)
    assert leaks_of(busy_host, folder / "logs") == []
