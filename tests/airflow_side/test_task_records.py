"""The record that a task's own process keeps of its wait, from its begin to its end; and the room for a trigger."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.fernet import Fernet
from pytest_mock import MockerFixture

from runops.airflow._compat import AirflowRescheduleException, AirflowSkipException
from runops.airflow.external_run import ExternalRun, iso
from runops.airflow.many import trigger_size
from runops.airflow.task_record import begin, go_on, recording_errors
from runops.core import ConfigurationError, RunRef, RunSnapshot, find
from runops.core.many.ledger import Ledger
from runops.core.model.run import Phase
from runops.core.waiting.turns import Turn

REF = RunRef(provider="nyx", run_id="r1")
OPEN = RunSnapshot(ref=REF, state="running", phase=Phase.RUNNING)


class Ti:
    """A task instance and its XComs."""

    task_id, map_index, max_tries = "t", -1, 0

    def __init__(self, try_number: int = 1) -> None:
        self.try_number = try_number
        self.xcoms: dict[str, Any] = {}
        self.fails = False

    def xcom_push(self, key: str, value: Any) -> None:
        if self.fails:
            raise OSError("no database")
        self.xcoms[key] = json.loads(json.dumps(value))

    def xcom_pull(self, task_ids: str, key: str, map_indexes: int) -> Any:
        assert (task_ids, map_indexes) == ("t", -1)
        return self.xcoms.get(key)

    @property
    def stored(self) -> dict[str, Any]:
        return self.xcoms["external_run"]


def task() -> Any:
    """What a record asks of a task."""
    return SimpleNamespace(
        service=find("nyx"), conn_id_in_use="c", log=logging.getLogger("a_task"), run_record=None,
        whose_runs=lambda _: {"own": True, "cancels": True},
    )  # fmt: skip


def test_a_wait_for_a_run_is_stored_at_its_begin_with_whose_it_is() -> None:
    ti, mine = Ti(3), task()
    record = begin(mine, {"ti": ti}, REF)
    assert mine.run_record is record
    names = ("provider", "kind", "conn_id", "run_id", "own", "cancels", "try_number", "url")
    assert [ti.stored[name] for name in names] == [
        "nyx", "run", "c", "r1", True, True, 3, "https://app.fabraix.com/nyx/runs/r1",
    ]  # fmt: skip
    assert go_on(mine, {"ti": ti}) is begin(mine, {"ti": ti}, REF) is record


def test_a_set_is_stored_as_one_and_its_own_before_any_run_is_known() -> None:
    ti = Ti()
    begin(task(), {"ti": ti}, kind="set")
    assert (ti.stored["kind"], ti.stored["own"], ti.stored["cancels"]) == ("set", True, True)
    alone = Ti()
    begin(task(), {"ti": alone})
    assert (alone.stored["kind"], alone.stored["own"], alone.stored["cancels"]) == ("run", False, False)


def test_a_wait_for_a_turn_is_held_up_by_it_until_the_run_is_there() -> None:
    ti, mine = Ti(), task()
    turn = Turn(parent={"config_name": "c"}, since=1.0, until=9.0, in_the_way="r0")
    begin(mine, {"ti": ti}, turn=turn)
    assert (ti.stored["holds"], ti.stored["holds_for"]) == ("turn", "r0")
    begin(mine, {"ti": ti})
    assert not {"holds", "holds_for"} & ti.stored.keys()
    begin(mine, {"ti": ti}, turn=turn)
    begin(mine, {"ti": ti}, REF)
    assert (ti.stored["run_id"], "holds" in ti.stored) == ("r1", False)


def test_a_resumed_process_goes_on_with_what_its_try_has_stored_and_with_no_other_try_s() -> None:
    ti = Ti()
    record = begin(task(), {"ti": ti}, REF)
    assert record is not None
    record.observed(OPEN)
    began, timeline = ti.stored["began_at"], ti.stored["timeline"]
    ti.xcoms["external_run"]["conn_id"] = "of before"
    resumed = task()
    later = go_on(resumed, {"ti": ti})
    assert later is not None
    assert resumed.run_record is later
    later.failed(ValueError("broke"))
    assert (ti.stored["began_at"], ti.stored["timeline"], ti.stored["conn_id"]) == (began, timeline, "c")
    assert (ti.stored["error"], ti.stored["reason"], later.is_over) == ("ValueError", "broke", True)
    ti.try_number = 2
    assert go_on(task(), {"ti": ti}) is None


def test_a_poke_keeps_the_begin_of_the_wait_and_stores_once_at_its_end() -> None:
    ti = Ti()
    record = begin(task(), {"ti": ti}, REF, began=1_700_000_000.0)
    assert record is not None
    record.observed(OPEN)
    assert ti.xcoms == {}
    record.leave()
    assert (ti.stored["began_at"], ti.stored["state"]) == (iso(1_700_000_000.0), "running")


def test_that_nothing_can_be_stored_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    ti = Ti()
    ti.fails = True
    record = begin(task(), {"ti": ti}, REF)
    assert record is not None
    record.observed(OPEN)
    record.let_go()
    assert caplog.text.count("What the page External runs shows could not be stored: OSError") == 1


@pytest.mark.parametrize(
    "error", [ValueError("broke"), AirflowSkipException("skipped"), AirflowRescheduleException(None)]
)
def test_an_error_that_ends_the_wait_is_stored_but_no_skip_and_no_next_poke(error: Exception) -> None:
    ti, mine = Ti(), task()
    begin(mine, {"ti": ti}, REF)
    with pytest.raises(type(error)), recording_errors(mine, {"ti": ti}):
        raise error
    assert ti.stored.get("error") == ("ValueError" if isinstance(error, ValueError) else None)


def test_an_error_after_an_end_was_stored_changes_nothing_of_it() -> None:
    ti, mine = Ti(), task()
    record = begin(mine, {"ti": ti}, REF)
    assert record is not None
    record.let_go()
    with pytest.raises(ValueError, match="late"), recording_errors(mine, {"ti": ti}):
        raise ValueError("late")
    assert "error" not in ti.stored
    assert ExternalRun.from_dict(ti.stored) is not None
    with pytest.raises(ValueError, match="alone"), recording_errors(task(), {"ti": Ti()}):
        raise ValueError("alone")


def test_a_count_is_stored_in_a_thread_of_its_own_that_holds_up_no_exit(mocker: MockerFixture) -> None:
    from runops.airflow import task_record

    mocker.patch.object(task_record, "answers_in_process", return_value=False)
    record = begin(task(), {"ti": Ti()}, kind="set")
    assert record is not None
    mocker.patch.object(record._recording, "owes", return_value=0.0)
    thread = mocker.patch.object(task_record.threading, "Thread")
    record.counted_beside(Ledger.of_refs([REF]).tally)
    assert thread.call_args.kwargs.keys() == {"target", "name", "daemon"}
    assert (thread.call_args.kwargs["name"], thread.call_args.kwargs["daemon"]) == ("runops-record", True)
    thread.return_value.start.assert_called_once_with()


# --- the room for a trigger ---


@pytest.mark.parametrize("letters", [0, 1, 6, 7, 8, 22, 23, 24, 39, 40, 1000])
def test_what_arguments_take_is_what_airflow_s_encryption_makes_of_them(letters: int) -> None:
    arguments = {"a": "x" * letters}
    encrypted = Fernet(Fernet.generate_key()).encrypt(json.dumps(arguments).encode())
    assert trigger_size.stored(arguments) == len(encrypted)


@pytest.mark.parametrize(("room", "fits"), [(None, True), (140, True), (139, False)])
def test_a_trigger_for_which_there_is_no_room_is_refused_with_how_many_runs_would_fit(
    room: int | None, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    trigger: Any = SimpleNamespace(serialize=lambda: ("a.Trigger", {"a": "x" * 30}))
    assert trigger_size.stored(trigger.serialize()[1]) == 140
    monkeypatch.setattr(trigger_size, "trigger_bytes", lambda: room)
    why = trigger_size.too_large(trigger.serialize()[1])
    if fits:
        trigger_size.check_size(trigger, 10, field="run_ids")
        assert why is None
        return
    assert why == "its trigger would take 140 bytes and more, and this Airflow's database keeps 139"
    with pytest.raises(ConfigurationError) as raised:
        trigger_size.check_size(trigger, 10, field="run_ids")
    assert str(raised.value).startswith(
        "run_ids names so many runs that the trigger for 10 of them takes 140 bytes, and this Airflow's database keeps "
        "139 of one. About 9 fit: give each task fewer runs, or wait with deferrable=False"
    )
    monkeypatch.setattr(trigger_size, "trigger_bytes", lambda: 1)
    with pytest.raises(ConfigurationError, match="About 1 fit"):
        trigger_size.check_size(trigger, 10, field="run_ids")
