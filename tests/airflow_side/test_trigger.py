"""The trigger: one event at every end, nothing secret in its row, and a kill only where a person wants one."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.execution_time.comms import XComResult
from airflow.triggers.base import TriggerEvent
from pytest_mock import MockerFixture

from runops.airflow._compat import TaskDeferred, kills_in_triggerer
from runops.airflow.events import read_end
from runops.airflow.exceptions import AuthError, PollingError, RunNotFound, TriggerCrashed, UnknownStateError
from runops.airflow.trigger import RunTrigger
from runops.core import RunSnapshot

OLD_ROW = {
    "version": 1,
    "provider": "nexio",
    "conn_id": "nexio_default",
    "ref": {"provider": "nexio", "run_id": "a-run", "parents": {}},
    "patience": {
        "deadline": 4102444800.0,
        "error_budget": 900.0,
        "max_paused": None,
        "cadence": {"first": 2.0, "factor": 1.5, "ceiling": 30.0},
    },
    "not_before": 0.0,
    "submitted_at": None,
    "execution_ends": None,
    "cancel_on_kill": True,
    "on_clear": "submit",
}
"""What a deferred task of the first release left in Airflow's database; it must load for ever."""


def fired(trigger: RunTrigger) -> dict[str, Any]:
    async def collect() -> list[TriggerEvent]:
        return [event async for event in trigger.run()]

    (event,) = asyncio.run(collect())
    return json.loads(json.dumps(event.payload, allow_nan=False))


def row(**changes: Any) -> RunTrigger:
    return RunTrigger(**{**OLD_ROW, **changes})


def test_a_row_of_the_first_release_loads_and_writes_itself_back() -> None:
    assert row().serialize() == ("runops.airflow.trigger.RunTrigger", OLD_ROW)


def test_arguments_that_this_version_does_not_know_are_ignored() -> None:
    assert row(of_a_later_release={"a": 1}).serialize()[1] == OLD_ROW


def test_a_row_with_only_the_oldest_arguments_loads() -> None:
    oldest = {name: OLD_ROW[name] for name in ("provider", "conn_id", "ref", "patience")}
    assert RunTrigger(**oldest).serialize()[1]["not_before"] == 0.0


@pytest.mark.parametrize("provider", ["nexio", "nyx", "onepin", "b3os", "nekt"])
def test_a_row_holds_json_primitives_and_no_secret(host: Any, sensors: Any, key: str, provider: str) -> None:
    task = sensors[provider](task_id="w", **host.made(provider, script="forever"), deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(host.context())
    _, arguments = deferred.value.trigger.serialize()
    written = json.dumps(arguments, allow_nan=False)
    assert json.loads(written) == arguments
    assert key not in written
    assert key not in repr(deferred.value.trigger)


@pytest.mark.parametrize(
    ("password", "kind"), [("invalid-key-1234", AuthError), ("forbidden-key-1234", AuthError), ("", AuthError)]
)
def test_a_wrong_key_is_an_event_that_names_the_connection(
    host: Any, connect: Any, served: Any, password: str, kind: type[Exception]
) -> None:
    connect("nexio_other", "nexio", host=served.base_url("nexio"), password=password)
    event = fired(row(conn_id="nexio_other"))
    assert (event["version"], event["kind"], event["error"]) == (1, "error", "AuthError")
    with pytest.raises(kind, match="nexio_other"):
        read_end(event)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"conn_id": "nobody_made_me"}, AuthError),
        ({"ref": {"provider": "nexio", "run_id": "no-such-run"}}, RunNotFound),
        ({"ref": {"run_id": "no-provider"}}, Exception),
        ({"patience": {}}, TriggerCrashed),
        ({"provider": "a_module_that_is_gone:NAME"}, Exception),
    ],
)
def test_whatever_goes_wrong_is_one_event(host: Any, changes: dict[str, Any], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        read_end(fired(row(**changes)))


def test_an_unreachable_service_is_a_polling_error_after_the_error_budget(host: Any, connect: Any) -> None:
    connect("nexio_gone", "nexio", host="http://127.0.0.1:9")
    with pytest.raises(PollingError, match="a-run"):
        read_end(fired(row(conn_id="nexio_gone")))
    assert host.clock.passed == pytest.approx(900, abs=70)


def test_an_unknown_end_is_an_event(host: Any) -> None:
    run_id = host.emulator.create_run("nexio", script="unknown_word_ended", seconds=1)
    with pytest.raises(UnknownStateError, match="archived"):
        read_end(fired(row(ref={"provider": "nexio", "run_id": run_id})))


def test_an_error_of_our_own_becomes_an_event_and_its_text_stays_in_the_log(host: Any, mocker: MockerFixture) -> None:
    async def broken(self: RunTrigger) -> RunSnapshot:
        raise ZeroDivisionError("a text that may hold anything")

    mocker.patch.object(RunTrigger, "_wait", broken)
    event = fired(row())
    assert event["error"] == "TriggerCrashed"
    assert "may hold anything" not in json.dumps(event)


def test_a_cancelled_trigger_fires_nothing_and_closes_its_connections(host: Any) -> None:
    run_id = host.emulator.create_run("nexio", script="forever")
    events: list[Any] = []

    async def start_and_stop() -> None:
        async def collect() -> None:
            async for event in row(ref={"provider": "nexio", "run_id": run_id}).run():
                events.append(event)

        task = asyncio.create_task(collect())
        host.clock.on_sleep = lambda seconds: task.cancel() and None
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(start_and_stop())
    assert len(host.emulator.requests(action="get")) == 1
    assert events == []


def test_the_trigger_logs_changes_and_a_line_every_few_minutes(host: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run_id = host.emulator.create_run("nexio", script="forever", seconds=10)
    deadline = host.clock.now + 3600
    patience = {**OLD_ROW["patience"], "deadline": deadline}
    fired(row(ref={"provider": "nexio", "run_id": run_id}, patience=patience))
    lines = [line for line in capsys.readouterr().out.splitlines() if run_id in line]
    assert 10 <= len(lines) <= 16
    assert len(host.emulator.requests(action="get")) > 100


class Triggerer:
    """What Airflow's triggerer answers when it is asked about a task."""

    def __init__(self, states: Any, left: Any = None) -> None:
        self.states = states
        self.left = left

    def send(self, asked: Any) -> Any:
        assert (type(asked).__name__, asked.key, asked.task_id) == ("GetXCom", "run_submitted", "a_task")
        if isinstance(self.left, Exception):
            raise self.left
        return XComResult(key=asked.key, value=self.left)

    async def asend(self, asked: Any) -> Any:
        assert (asked.dag_id, asked.task_ids, asked.run_ids) == ("a_dag", ["a_task"], ["a_run"])
        if isinstance(self.states, Exception):
            raise self.states
        return SimpleNamespace(task_states=self.states)


def test_a_trigger_opens_the_way_to_the_state_of_its_task_once_in_a_process_where_it_hears_of_kills(
    host: Any, mocker: MockerFixture
) -> None:
    from airflow.sdk.execution_time import task_runner

    kinds: list[str] = []

    class Slow(Triggerer):
        async def asend(self, asked: Any) -> Any:
            kinds.append(type(asked).__name__)
            raise ConnectionError("not yet")

    mocker.patch.object(task_runner, "SUPERVISOR_COMMS", Slow({}), create=True)
    mocker.patch.object(RunTrigger, "_channel", None)
    run_id = host.emulator.create_run("b3os", script="succeeded")
    for _ in range(2):
        trigger = row(provider="b3os", conn_id="b3os_default", ref={"provider": "b3os", "run_id": run_id})
        trigger.task_instance = SimpleNamespace(  # pyright: ignore[reportAttributeAccessIssue]
            dag_id="a_dag", task_id="a_task", run_id="a_run", map_index=-1
        )
        assert fired(trigger)["kind"] == "ended"
    # Where no trigger hears of a kill, nothing is asked that nothing needs.
    assert kinds.count("GetTaskStates") == int(kills_in_triggerer())


def killed(
    host: Any, mocker: MockerFixture, states: Any, *, map_index: int = -1, left: Any = "its run", **changes: Any
) -> int:
    from airflow.sdk.execution_time import task_runner

    run_id = host.emulator.create_run("b3os", script="forever")
    left = {"ref": {"provider": "b3os", "run_id": run_id}} if left == "its run" else left
    mocker.patch.object(task_runner, "SUPERVISOR_COMMS", Triggerer(states, left), create=True)
    trigger = row(provider="b3os", conn_id="b3os_default", ref={"provider": "b3os", "run_id": run_id}, **changes)
    trigger.task_instance = SimpleNamespace(  # pyright: ignore[reportAttributeAccessIssue]
        dag_id="a_dag", task_id="a_task", run_id="a_run", map_index=map_index
    )
    asyncio.run(trigger.on_kill())
    return len(host.emulator.requests(action="cancel"))


@pytest.mark.parametrize(
    ("state", "on_clear", "cancelled"),
    [
        ("failed", "submit", 1),
        ("success", "submit", 1),
        ("skipped", "submit", 1),
        (None, "submit", 1),
        ("scheduled", "submit", 1),
        ("deferred", "submit", 0),
        ("running", "submit", 0),
        # Another triggerer has fired meanwhile, and the next try wants its run back.
        ("up_for_retry", "submit", 0),
        ("failed", "reattach", 1),
        (None, "reattach", 0),
        ("scheduled", "reattach", 0),
    ],
)
def test_a_kill_by_a_person_cancels_and_a_move_to_another_triggerer_does_not(
    host: Any, mocker: MockerFixture, state: str | None, on_clear: str, cancelled: int
) -> None:
    assert killed(host, mocker, {"a_run": {"a_task": state}}, on_clear=on_clear) == cancelled


@pytest.mark.parametrize("left", [None, {"ref": {"run_id": "another"}}, {}, ConnectionError("gone")])
def test_a_clear_that_reattaches_never_cancels_where_the_next_try_has_failed_before_the_triggerer_heard_of_it(
    host: Any, mocker: MockerFixture, left: Any
) -> None:
    states = {"a_run": {"a_task": "failed"}}
    assert killed(host, mocker, states, left=left, on_clear="reattach") == 0
    # A clear that means a new run wants the run of before gone, whatever the next try has come to.
    assert killed(host, mocker, states, left=left, on_clear="submit") == 1


def test_a_mapped_task_is_told_from_its_siblings(host: Any, mocker: MockerFixture) -> None:
    states = {"a_run": {"a_task_0": "deferred", "a_task_1": "failed"}}
    assert killed(host, mocker, states, map_index=0) == 0
    assert killed(host, mocker, states, map_index=1) == 1


@pytest.mark.parametrize("states", [ConnectionError("gone"), {}, {"a_run": {}}])
def test_a_state_that_cannot_be_read_leaves_the_run_alone(host: Any, mocker: MockerFixture, states: Any) -> None:
    assert killed(host, mocker, states) == 0


def test_a_run_is_left_alone_where_nobody_asked_for_its_cancellation(host: Any, mocker: MockerFixture) -> None:
    assert killed(host, mocker, {"a_run": {"a_task": "failed"}}, cancel_on_kill=False) == 0
