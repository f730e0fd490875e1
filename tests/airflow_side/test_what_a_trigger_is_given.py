"""What a deferral hands to its trigger: each clock, word and limit of the task, and when Airflow ends it by itself."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from runops.airflow.trigger import RunTrigger

SETTINGS: dict[str, Any] = {
    "timeout": 1000,
    "poke_interval": 7,
    "execution_timeout": timedelta(seconds=700),
    "states": {"odd": "degraded"},
    "max_paused": 50,
    "max_stalled": 600,
    "max_spend": 3.5,
    "error_budget": 80,
    "auth_grace": 90,
    "expect": {"result": "x"},
}


def given(ended: Any) -> dict[str, Any]:
    path, arguments = ended.deferrals[0].trigger.serialize()
    assert path == "runops.airflow.trigger.RunTrigger"
    return json.loads(json.dumps(arguments, allow_nan=False))


def test_a_sensor_hands_over_all_that_bounds_its_wait(
    host: Any, sensors: dict[str, Any], connect: Any, served: Any
) -> None:
    connect("mine", "nyx", host=served.base_url("nyx"))
    made = host.made("nyx", seconds=500)
    began = host.clock.began
    ended = host.run(sensors["nyx"](task_id="a_task", deferrable=True, nyx_conn_id="mine", **SETTINGS, **made))
    arguments = given(ended)
    about = {name: arguments.pop(name) for name in ("not_before", "execution_ends", "past", "patience")}
    assert arguments == {
        "version": 1,
        "provider": "nyx",
        "conn_id": "mine",
        "ref": {"provider": "nyx", "run_id": made["run_id"], "parents": {}},
        "submitted_at": None,
        "cancel_on_kill": False,
        "on_clear": "submit",
    }
    patience = about["patience"]
    assert patience.pop("deadline") == pytest.approx(began + 1000)
    assert patience == {
        "error_budget": 80.0,
        "max_paused": 50.0,
        "max_stalled": 600.0,
        "max_spend": 3.5,
        "auth_grace": 90.0,
        "cadence": {"first": 7.0, "factor": 1.0, "ceiling": 7.0},
        "wanted": ["result"],
        "states": {"odd": "degraded"},
        "shown": {"state": "queued", "status": "queued"},
    }
    assert (about["not_before"], about["execution_ends"]) == (pytest.approx(began + 20), pytest.approx(began + 700))
    assert (about["past"]["seen"], about["past"]["began"]) == (True, pytest.approx(began))


@pytest.mark.parametrize(("limit", "seconds"), [(700, 750), (None, 1050), (5000, 1050)])
def test_airflow_ends_a_deferral_a_minute_after_the_first_clock_of_the_task(
    limit: int | None, seconds: float, host: Any, sensors: dict[str, Any]
) -> None:
    clocks = {"timeout": 1000, "execution_timeout": None if limit is None else timedelta(seconds=limit)}
    task = sensors["nyx"](task_id="a_task", deferrable=True, **clocks, **host.made("nyx", seconds=100))
    (deferral,) = host.run(task).deferrals
    assert deferral.method_name == "execute_complete"
    assert deferral.timeout.total_seconds() == pytest.approx(seconds, abs=1)


@pytest.mark.parametrize("settings", [{}, {"cancel_on_kill": False}, {"on_clear": "reattach"}], ids=str)
def test_an_operator_hands_over_what_a_kill_or_a_clear_does_to_its_run(
    settings: dict[str, Any], host: Any, operators: dict[str, Any], calls: dict[str, Any]
) -> None:
    host.emulator.set_defaults("nyx", seconds=100)
    began = host.clock.began
    ended = host.run(operators["nyx"](task_id="a_task", deferrable=True, timeout=900, **calls["nyx"], **settings))
    arguments = given(ended)
    wanted = {"cancel_on_kill": True, "on_clear": "submit", **settings}
    assert {name: arguments[name] for name in wanted} == wanted
    assert arguments["submitted_at"] == pytest.approx(began, abs=1)
    assert (arguments["conn_id"], arguments["execution_ends"]) == ("nyx_default", None)
    assert arguments["patience"]["deadline"] == pytest.approx(began + 900, abs=1)
    assert arguments["ref"]["run_id"] == ended.xcoms["run_id"]
    assert not {"search", "lost", "turn", "start", "end"} & arguments.keys()


OPTIONAL: dict[str, Any] = {
    "ref": {"provider": "nyx", "run_id": "r", "parents": {}}, "search": {"a": 1}, "lost": {"a": 2}, "turn": {"a": 3},
    "past": {"a": 4}, "end": {"a": 5}, "submitted_at": 6.0, "not_before": 7.0, "execution_ends": 8.0,
    "cancel_on_kill": True, "on_clear": "reattach", "version": 9, "conn_id": "c",
}  # fmt: skip
BARE = {
    "version": 1, "provider": "nyx", "conn_id": None, "ref": None, "patience": {"deadline": 1.0}, "not_before": 0.0,
    "submitted_at": None, "execution_ends": None, "cancel_on_kill": False, "on_clear": "submit",
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONAL)
def test_an_argument_of_a_trigger_is_written_back_as_it_was_given_and_nothing_beside_it(name: str) -> None:
    made = RunTrigger(provider="nyx", patience={"deadline": 1.0}, **{name: OPTIONAL[name]})
    assert made.serialize()[1] == {**BARE, name: OPTIONAL[name]}


def test_a_trigger_that_begins_a_task_has_the_fields_that_it_fills_and_no_others() -> None:
    start = {"timeout": 9.0, "conn_id": "nyx_conn_id", "parents": ["config_name"], "fields": ["expect"]}
    fields = {"run_id": "{{ x }}", "nyx_conn_id": "c", "config_name": "{{ y }}", "expect": None, "later": 1}
    made = RunTrigger(provider="nyx", patience={"deadline": 1.0}, start=start, **fields)
    del fields["later"]
    assert made.serialize()[1] == {**BARE, "start": start, **fields}
    plain = {"timeout": 9.0, "conn_id": "conn_id", "parents": None}
    generic = RunTrigger(
        provider="nyx", patience={"deadline": 1.0}, start=plain, conn_id="c", run_id="r", parents={"a": "b"}
    )
    assert generic.serialize()[1] == {**BARE, "conn_id": "c", "start": plain, "run_id": "r", "parents": {"a": "b"}}


def test_words_for_a_kill_name_the_run_or_the_lost_submit_and_nothing_for_a_turn() -> None:
    def own(**arguments: Any) -> str | None:
        return RunTrigger(provider="nyx", patience={}, **arguments)._own()

    assert own(ref=OPTIONAL["ref"]) == "nyx run r"
    assert own(lost={}) == "the run of the lost submit"
    assert own(turn={}) is None
