"""Looking now and cancelling: who is asked how often, what is stored, and how a task ends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pytest_mock import MockerFixture

from runops.airflow.external_run import ExternalRun, iso
from runops.core import find
from runops.emulator.store import Emulator
from tests.airflow_side.conftest import KEY
from tests.airflow_side.page.database import Database, ended, record
from tests.airflow_side.page.people import Person

Opens = Callable[[str | None], Person]


@pytest.fixture
def outside(emulator: Emulator) -> str:
    """A run that goes on at the service."""
    return emulator.create_run("nyx")


def cancels(emulator: Emulator) -> int:
    return len(emulator.requests(action="cancel"))


# --- look now ---


def test_a_look_asks_the_service_once_and_stores_what_it_says_for_all(
    outside: str, emulator: Emulator, database: Database, person: Opens
) -> None:
    task = database.add(record(run_id=outside, state="queued", phase="queued", looked_at=None))
    answer = person("otto").act("look", task)
    assert answer.status_code == 200
    row = answer.json()
    assert row["looked_at"] is not None
    assert row["record_age_seconds"] < 30
    assert len(emulator.requests()) == 1
    seen = person("vera").get("/api/run", **task).json()
    assert {name: seen.get(name) for name in ("state", "phase", "looked_at")} == {
        name: row.get(name) for name in ("state", "phase", "looked_at")
    }


def test_however_many_press_the_service_is_asked_once_in_five_seconds(
    outside: str, emulator: Emulator, database: Database, person: Opens
) -> None:
    task = database.add(record(run_id=outside))
    same = database.add(record(run_id=outside), dag_id="beta")
    people = [person(("otto", "ada")[number % 2]) for number in range(8)]
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda each: each[1].act("look", (task, same)[each[0] % 2]), enumerate(people)))
    # Airflow's sqlite may be busy for one of them; none may ask twice.
    assert {answer.status_code for answer in answers} == {200}
    assert len(emulator.requests()) == 1
    assert database.xcom(task)["looked_at"] == database.xcom(same)["looked_at"]


def test_after_five_seconds_the_service_is_asked_again(
    outside: str, emulator: Emulator, database: Database, person: Opens
) -> None:
    task = database.add(record(run_id=outside))
    otto = person("otto")
    otto.act("look", task)
    otto.act("look", task)
    assert len(emulator.requests()) == 1
    database.age(task, "external_run_look", 5.0)
    otto.act("look", task)
    assert len(emulator.requests()) == 2


def test_the_five_seconds_count_from_the_answer_not_from_the_claim(
    outside: str, emulator: Emulator, database: Database, person: Opens
) -> None:
    task = database.add(record(run_id=outside))
    emulator.add_fault(kind="delay", seconds=1.0)
    began = datetime.now(UTC)
    assert person("otto").act("look", task).status_code == 200
    assert database.written(task, "external_run_look") - began >= timedelta(seconds=1)


def test_the_claim_is_compared_and_set_by_the_database_so_other_processes_hold_it(
    outside: str, database: Database
) -> None:
    from types import SimpleNamespace

    from runops.airflow.plugin.claims import claim, release

    task = database.add(record())
    holder = SimpleNamespace(
        dag_run_id=database.number_of(task), dag_id=task["dag_id"], run_id=task["dag_run_id"], task_id="wait",
        map_index=-1,
    )  # fmt: skip
    barrier, won = threading.Barrier(6), []

    def press() -> None:
        barrier.wait()
        won.append(claim(holder, "external_run_look", 5.0, "somebody"))

    threads = [threading.Thread(target=press) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False] * 5 + [True]
    release(holder, "external_run_look")
    assert claim(holder, "external_run_look", 5.0, "somebody")
    # A clock that was far ahead holds nobody up for long.
    database.age(task, "external_run_look", -3600.0)
    assert claim(holder, "external_run_look", 5.0, "somebody")


def test_a_look_never_undoes_what_the_task_has_written_meanwhile(outside: str, database: Database) -> None:
    from runops.airflow.plugin.looked import store
    from runops.airflow.plugin.questions import Address

    now = datetime.now(UTC)
    task = database.add(ended(run_id="r-1", looked_at=iso(now.timestamp())), state="success")
    provider = find("nyx")
    snapshot = provider.read(
        _ref("r-1"), b'{"run_id": "r-1", "status": "running", "created_at": "2026-01-01T00:00:00Z"}'
    ).snapshot
    before = database.xcom(task)
    store(Address(**task), provider, snapshot, now - timedelta(seconds=1), now)
    assert database.xcom(task) == before
    store(Address(**task), provider, _ref_changed(snapshot), now + timedelta(seconds=1), now)
    assert database.xcom(task) == before


def _ref(run_id: str) -> Any:
    from runops.core import RunRef

    return RunRef(provider="nyx", run_id=run_id)


def _ref_changed(snapshot: Any) -> Any:
    return replace(snapshot, ref=_ref("of-another"))


def test_a_look_at_a_run_whose_wait_is_over_leaves_how_that_ended(outside: str) -> None:
    from runops.airflow.plugin.looked import with_look

    provider = find("nyx")
    run = ExternalRun.from_dict(
        ended(run_id="r-1", outcome="timed_out", verdict="fail", ended_by="timeout", run_ended=False, state="running")
    )
    assert run is not None
    over = provider.read(_ref("r-1"), b'{"run_id": "r-1", "status": "completed", "result": "success"}').snapshot
    seen = with_look(run, provider, over, 1_900_000_000.0)
    assert (seen.outcome, seen.verdict, seen.ended_by, seen.ended_at) == ("timed_out", "fail", "timeout", run.ended_at)
    assert (seen.run_ended, seen.state) == (True, "completed")
    assert seen.timeline[-1].status == "succeeded"


def test_a_look_adds_what_it_has_read_of_the_run_to_what_was_known(outside: str) -> None:
    from runops.airflow.plugin.looked import with_look

    provider = find("nyx")
    run = ExternalRun.from_dict(record(run_id="r-1", details={"stage": "probing", "severity_found": "low"}))
    assert run is not None
    body = b'{"run_id": "r-1", "status": "running", "stage": "reporting"}'
    snapshot = replace(provider.read(_ref("r-1"), body).snapshot, details={"stage": "reporting"})
    seen = with_look(run, provider, snapshot, 1_900_000_000.0)
    assert seen.details == {"stage": "reporting", "severity_found": "low"}


@pytest.mark.parametrize(("state", "status"), [("failed", 200), ("deferred", 200)])
def test_a_look_works_whatever_becomes_of_the_task(
    state: str, status: int, outside: str, database: Database, person: Opens
) -> None:
    task = database.add(record(run_id=outside), state=state)
    assert person("ada").act("look", task).status_code == status


PROBLEMS = {
    "no such connection": ({"conn_id": "missing"}, 424, "There is no connection 'missing'"),
    "no connection named": ({"conn_id": None}, 409, "names no connection"),
    "no run yet": ({"run_id": None}, 409, "no run yet"),
    "a set": ({"kind": "set", "counts": {"total": 3}}, 409, "set"),
    "no such run": ({"run_id": "gone"}, 424, "gone"),
    "a provider that is not installed": ({"provider": "acme_runs:GONE"}, 424, "acme_runs"),
}


@pytest.mark.parametrize("what", PROBLEMS)
def test_what_stands_in_the_way_of_a_look_is_said(
    what: str, emulator: Emulator, database: Database, person: Opens
) -> None:
    fields, status, words = PROBLEMS[what]
    task = database.add(record(**fields))
    answer = person("ada").act("look", task)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["detail"]


def test_a_service_that_does_not_answer_holds_a_person_up_for_seconds_only(
    outside: str, emulator: Emulator, database: Database, person: Opens, mocker: MockerFixture
) -> None:
    from runops.airflow.plugin import service

    mocker.patch.object(service, "REQUEST_SECONDS", 0.3)
    mocker.patch.object(service, "ALL_SECONDS", 0.5)
    emulator.add_fault(provider="nyx", kind="delay", seconds=5.0, count=10)
    task = database.add(record(run_id=outside))
    began = datetime.now(UTC)
    answer = person("ada").act("look", task)
    assert (datetime.now(UTC) - began).total_seconds() < 4.5
    assert answer.status_code == 424


def test_only_a_few_services_are_asked_at_once(
    outside: str, database: Database, person: Opens, mocker: MockerFixture
) -> None:
    from runops.airflow.plugin import service

    mocker.patch.object(service, "_under_way", threading.BoundedSemaphore(1))
    assert service._under_way.acquire(blocking=False)
    task = database.add(record(run_id=outside))
    answer = person("ada").act("look", task)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")


# --- cancel ---


def test_where_the_end_of_the_task_cancels_the_task_is_marked_failed_and_nothing_else_is_done(
    outside: str, emulator: Emulator, database: Database, person: Opens
) -> None:
    task = database.add(record(run_id=outside, cancels=True))
    answer = person("uma").act("cancel", task)
    assert answer.status_code == 200, answer.text
    assert answer.json()["task_state"] == "failed"
    assert database.state_of(task) == "failed"
    assert emulator.requests() == []


def test_a_mapped_task_is_ended_alone(outside: str, database: Database, person: Opens) -> None:
    tasks = [database.add(record(run_id=f"r-{index}"), run="mapped", map_index=index) for index in range(3)]
    assert person("ada").act("cancel", tasks[1]).status_code == 200
    assert [database.state_of(task) for task in tasks] == ["deferred", "failed", "deferred"]


def test_otherwise_it_is_cancelled_through_the_connection_and_a_live_task_is_ended(
    outside: str, emulator: Emulator, database: Database, person: Opens
) -> None:
    task = database.add(record(run_id=outside, own=False, cancels=False))
    answer = person("ada").act("cancel", task)
    assert answer.status_code == 200, answer.text
    assert cancels(emulator) == 1
    assert database.state_of(task) == "failed"
    over = database.add(record(run_id=emulator.create_run("nyx"), cancels=True), state="skipped")
    assert person("ada").act("cancel", over).status_code == 200
    assert cancels(emulator) == 2
    assert database.state_of(over) == "skipped"


@pytest.mark.parametrize("by_task", [True, False])
def test_two_people_who_cancel_one_run_cancel_it_once(
    by_task: bool, outside: str, emulator: Emulator, database: Database, person: Opens
) -> None:
    task = database.add(record(run_id=outside, cancels=by_task))
    first, second = person("ada").act("cancel", task), person("otto").act("cancel", task)
    assert (first.status_code, second.status_code) == (200, 409)
    assert cancels(emulator) == (0 if by_task else 1)


def test_a_run_that_is_over_meanwhile_is_not_cancelled(
    outside: str, emulator: Emulator, database: Database, person: Opens
) -> None:
    emulator.advance(provider="nyx", run_id=outside)
    task = database.add(record(run_id=outside, cancels=False), state="failed")
    answer = person("ada").act("cancel", task)
    assert answer.status_code == 200
    assert cancels(emulator) == 0
    assert answer.json()["run_ended"] is True


def test_a_service_without_a_cancel_says_so(emulator: Emulator, database: Database, person: Opens) -> None:
    run = emulator.create_run("nexio")
    task = database.add(record(provider="nexio", conn_id="nexio_default", run_id=run, cancels=False))
    ada = person("ada")
    assert ada.get("/api/run", **task).json()["may"]["cancel"] is False
    answer = ada.act("cancel", task)
    assert (answer.status_code, answer.json()["detail"]) == (409, "Nexio documents no way to cancel a run.")
    assert database.state_of(task) == "deferred"
    assert emulator.requests() == []


def test_a_cancel_that_fails_can_be_tried_again_at_once_and_leaves_the_task(
    outside: str, emulator: Emulator, database: Database, person: Opens
) -> None:
    emulator.add_fault(provider="nyx", kind="status", status=403, count=1)
    task = database.add(record(run_id=outside, cancels=False))
    ada = person("ada")
    assert ada.act("cancel", task).status_code == 424
    assert database.state_of(task) == "deferred"
    assert ada.act("cancel", task).status_code == 200
    assert cancels(emulator) == 1


def test_a_set_whose_task_is_over_cannot_be_cancelled_here(database: Database, person: Opens) -> None:
    fields = {"kind": "set", "run_id": None, "counts": {"total": 3, "ended": 1, "active": 2}}
    alive, over = database.add(record(**fields)), database.add(record(**fields), state="failed")
    assert person("ada").act("cancel", over).status_code == 409
    assert person("ada").act("cancel", alive).status_code == 200
    assert database.state_of(alive) == "failed"


# --- what is left of it ---


def test_both_are_in_the_audit_log_with_who_did_it(outside: str, database: Database, person: Opens) -> None:
    task = database.add(record(run_id=outside))
    person("otto").act("look", task)
    person("uma").act("cancel", task)
    person("vera").act("cancel", task)
    lines = [(line.event, line.owner, line.dag_id, line.task_id, line.run_id) for line in database.audit()]
    ids = (task["dag_id"], task["task_id"], task["dag_run_id"])
    assert lines == [("look_at_external_run", "otto", *ids), ("cancel_external_run", "uma", *ids)]


def test_the_key_is_in_no_answer_log_or_database(
    outside: str, emulator: Emulator, database: Database, person: Opens, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    ada = person("ada")
    answers = []
    for fault in (None, {"status": 401}, {"status": 500}, {"status": 403}):
        if fault is not None:
            emulator.add_fault(provider="nyx", kind="status", count=9, message=KEY, **fault)
        task = database.add(record(run_id=emulator.create_run("nyx"), cancels=False))
        answers += [ada.act("look", task), ada.act("cancel", task), ada.get("/api/run", **task)]
        answers.append(database.xcom(task))
    answers += [ada.get(path) for path in ("/api/runs", "/api/facets", "/api/charts")]
    told = [each if isinstance(each, dict) else (each.text, dict(each.headers)) for each in answers]
    assert KEY not in repr(told)
    assert KEY not in repr(database.audit())
    assert KEY not in caplog.text


def test_no_frame_of_a_failed_look_holds_the_key(
    outside: str, emulator: Emulator, database: Database, mocker: MockerFixture
) -> None:
    from fastapi import HTTPException

    from runops.airflow.plugin.questions import Address
    from runops.airflow.plugin.rows import Stored
    from runops.airflow.plugin.service import client_for, ref_of

    emulator.add_fault(provider="nyx", kind="status", status=401, count=9)
    task = database.add(record(run_id=outside))
    run = ExternalRun.from_dict(database.xcom(task))
    assert run is not None
    stored = Stored(Address(**task), run, datetime.now(UTC), "deferred")
    with pytest.raises(HTTPException) as raised, client_for(stored) as client:
        client.get(ref_of(stored))
    error: BaseException | None = raised.value
    while error is not None:
        frame = error.__traceback__
        while frame is not None:
            if "/runops/" in frame.tb_frame.f_code.co_filename:
                assert KEY not in repr({name: str(each) for name, each in frame.tb_frame.f_locals.items()})
            frame = frame.tb_next
        error = error.__cause__ or error.__context__
