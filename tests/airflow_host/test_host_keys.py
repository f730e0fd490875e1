"""Keys that are rotated under 200 deferred waits in real triggerers, which are killed on the way: no task is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from demo.processes import Supervisor
from demo.vendors import KEYS
from tests.airflow_host.host import TASK_OVER, Host, Outside, Task, until
from tests.airflow_host.postgres import Postgres, programs
from tests.airflow_host.secrets_search import KEY_STEM
from tests.leaks.private_fields import WORKFLOW

DAGS = {"keys_begun": 15, "keys_handed_over": 5}
"""DAG runs of ten waits each: begun in the triggerer, or handed over by a worker."""
EACH = 2
FEW = ("operator_deferred", "operator_deferred_too", "operator_on_a_worker", "poke", "reschedule")
NEW = {provider: f"nx-{KEY_STEM}-new-{provider}" for provider in KEYS}
UNUSED_AFTER = 60.0
"""Seconds after the connections are changed from which nothing bears the old key."""
UNHURRIED = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "300",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "120",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "300",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "15",
    "AIRFLOW__TRIGGERER__RUNNER_HEALTH_CHECK_THRESHOLD": "60",
}
"""A triggerer that is gone is noticed soon; all else may be busy."""


@dataclass
class Rotation:
    """What happened when, in unix seconds, and what became of the tasks."""

    revoked: float = 0.0
    changed: float = 0.0
    ended: float = 0.0
    moved: dict[str, dict[Task, int]] = field(default_factory=dict)
    """By the kill, the waits that another triggerer process began anew, and its job."""
    states: dict[Task, str] = field(default_factory=dict)
    uses: list[dict[str, Any]] = field(default_factory=list)
    """The requests with an old key since it was revoked."""
    accepted: list[dict[str, Any]] = field(default_factory=list)
    """Those with a new one."""


@pytest.fixture(scope="module")
def keyed_host(supervisor: Supervisor, folder: Path, outside: Outside, postgres: Postgres) -> Iterator[Host]:
    """Airflow with two triggerers, and connections that stand in its database."""
    own = folder / "keys"
    own.mkdir()
    # Its connections must not be those of the other tests.
    database = Postgres(supervisor, programs())
    database.start()
    host = Host(supervisor, own, {}, database=database, triggerers=2, settings=UNHURRIED)
    host.migrate()
    host.start()
    host.wait_until_healthy()
    for name, fields in outside.connections().items():
        host.save_connection(name, fields)
    yield host
    host.kill(*[name for name, component in host.components.items() if component.process.poll() is None])
    host.close()
    database.stop()


@pytest.fixture(scope="module")
def rotation(keyed_host: Host, outside: Outside) -> Iterator[Rotation]:
    """All wait; the keys are revoked, a triggerer dies; the connections are changed, the other one dies; all end."""
    host, rotation = keyed_host, Rotation()
    outside.tell("reset", only=["requests", "keys"])
    for provider, key in KEYS.items():
        outside.tell("keys", provider=provider, key=key, state="accepted", label="old")
        outside.tell("keys", provider=provider, key=NEW[provider], state="accepted", label="new")
    tasks = _begin(host, outside)
    _rotate(host, outside, rotation)
    time.sleep(max(rotation.changed + UNUSED_AFTER + 5 - time.time(), 0.0))
    rotation.ended = time.time()
    outside.tell("hold", held=False)
    outside.tell("advance")
    until("all tasks are over", 240, lambda: _count(host, *TASK_OVER) == len(tasks), pause=1.0)
    rotation.states = {task: state for dag_id in (*DAGS, "keys_few") for task, state in host.states(dag_id).items()}
    rotation.uses = [each for each in outside.requests(key_label="old") if each["time"] >= rotation.revoked]
    rotation.accepted = outside.requests(key_label="new")
    yield rotation
    outside.tell("reset", only=["keys"])
    outside.tell("defaults", script=None)


def _begin(host: Host, outside: Outside) -> list[Task]:
    host.wait_for_dags([*DAGS, "keys_few"])
    outside.tell("defaults", script="succeeded", seconds=3600)
    tasks: list[Task] = []
    for dag_id, count in DAGS.items():
        for number in range(count):
            conf = {
                f"{provider}_{which}": _held(outside, provider, "onepin" if provider == "onepin" else None)
                for provider in KEYS
                for which in range(EACH)
            }
            tasks += [Task(dag_id, f"keys_{number}", task_id) for task_id in conf]
            host.trigger(dag_id, f"keys_{number}", conf)
    few = [Task("keys_few", "keys", task_id) for task_id in FEW]
    host.trigger("keys_few", "keys", {"nyx": _held(outside, "nyx")})
    began = time.monotonic()
    deferred = len(tasks) + sum("deferred" in task.task_id for task in few)
    until("all waits are deferred", 180, lambda: _count(host, "deferred") == deferred, pause=1.0)
    until(
        "each trigger has read its run",
        120,
        lambda: all(host.log(task).count("\n") >= 2 for task in tasks if task.dag_id == "keys_begun"),
        pause=2.0,
    )
    until("the others wait", 60, lambda: all("goes on" in host.log(task) or _waits(host, task) for task in few))
    print(f"\n{deferred} waits deferred and read after {time.monotonic() - began:.0f} s, {len(few)} others beside them")
    return [*tasks, *few]


def _held(outside: Outside, provider: str, parent: str | None = None) -> str:
    parents = {"workflow_id": WORKFLOW} if parent else None
    made = outside.tell("runs", provider=provider, script="succeeded", seconds=3600, held=True, parents=parents)
    return str(made["run_id"])


def _waits(host: Host, task: Task) -> bool:
    return host.state(task) in ("running", "up_for_reschedule", "deferred") and host.log(task).count("\n") >= 2


def _rotate(host: Host, outside: Outside, rotation: Rotation) -> None:
    rotation.revoked = time.time()
    for provider, key in KEYS.items():
        outside.tell("keys", provider=provider, key=key, state="revoked", label="old")
    until("somebody is refused", 30, lambda: outside.requests(status=401, key_label="old"))
    rotation.moved["before the change"] = _kill_under_waits(host, "airflow-triggerer-1", "airflow-triggerer-2")
    until("the waits that begin anew are refused", 60, lambda: _are_refused(host, rotation.moved["before the change"]))
    rotation.changed = time.time()
    for provider, key in NEW.items():
        body = {"connection_id": f"{provider}_default", "conn_type": provider, "password": key}
        host.ask("PATCH", f"/api/v2/connections/{provider}_default", body=body, update_mask="password")
    rotation.moved["after the change"] = _kill_under_waits(host, "airflow-triggerer-2", "airflow-triggerer-1")


def _kill_under_waits(host: Host, *names: str) -> dict[Task, int]:
    """Kill one triggerer after another until waits of both kinds began anew: Airflow chooses who has which."""
    moved: dict[Task, int] = {}
    for name in names:
        moved |= _kill(host, name)
        if _are_many(moved):
            break
    return moved


def _kill(host: Host, name: str) -> dict[Task, int]:
    """Kill a triggerer and start it again; the waits that began anew by that, with the job that has them now."""
    before = _triggers(host)
    host.kill(name)
    host.restart(name)
    until(
        "others have what the dead one had",
        90,
        lambda: {*before.values()} - {*_triggers(host).values()} and None not in _triggers(host).values(),
        pause=1.0,
    )
    return {task: job for task, job in _triggers(host).items() if job is not None and job != before.get(task)}


def _triggers(host: Host) -> dict[Task, int | None]:
    """The job of the triggerer that has each deferred task."""
    assert host.database is not None
    rows = host.database.query(
        "SELECT dag_id, run_id, task_id, triggerer_id FROM task_instance JOIN trigger ON trigger.id = trigger_id "
        "WHERE state = 'deferred'"
    )
    return {Task(*names): job for *names, job in rows}


def _are_refused(host: Host, moved: dict[Task, int]) -> bool:
    def log_of(task: Task, job: int) -> Path:
        folder = host.home / "logs" / f"dag_id={task.dag_id}" / f"run_id={task.run_id}" / f"task_id={task.task_id}"
        return folder / f"attempt=1.log.trigger.{job}.log"

    logs = [log_of(task, job) for task, job in moved.items()]
    return all(log.exists() and "was refused (401)" in log.read_text() for log in logs)


def _count(host: Host, *states: str) -> int:
    assert host.database is not None
    (row,) = host.database.query("SELECT count(*) FROM task_instance WHERE state = ANY(%s)", list(states))
    return row[0]


def _begun(moved: dict[Task, int]) -> int:
    return sum(task.dag_id == "keys_begun" for task in moved)


def _are_many(moved: dict[Task, int]) -> bool:
    return 20 <= _begun(moved) < len(moved)


def test_no_task_is_lost(rotation: Rotation) -> None:
    waits = [task for task in rotation.states if task.dag_id in DAGS]
    assert len(waits) == 200
    assert len(rotation.states) == 200 + len(FEW)
    assert set(rotation.states.values()) == {"success"}


def test_the_triggerers_were_killed_under_many_waits_before_the_change_and_after_it(rotation: Rotation) -> None:
    for when, moved in rotation.moved.items():
        print(f"\n{when}: {len(moved)} waits began anew in another process, {_begun(moved)} of them never on a worker")
        assert _are_many(moved)


def test_the_old_key_is_not_used_any_more_a_minute_after_the_change(rotation: Rotation) -> None:
    last = max(each["time"] for each in rotation.uses) - rotation.changed
    print(
        f"\n{len(rotation.uses)} requests with a revoked key, the last one {last:.1f} s after the connections were "
        f"changed, which was {rotation.changed - rotation.revoked:.0f} s after the revocation"
    )
    assert [each for each in rotation.uses if each["time"] > rotation.changed + UNUSED_AFTER] == []
    assert {each["status"] for each in rotation.uses} == {401}


def test_all_services_were_read_with_their_new_keys_meanwhile(rotation: Rotation) -> None:
    reads = {each["provider"] for each in rotation.accepted if each["time"] < rotation.ended and each["status"] == 200}
    assert reads == set(KEYS)
