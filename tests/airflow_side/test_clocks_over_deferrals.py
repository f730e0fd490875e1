"""The clocks of a wait over its places: the worker's look, the trigger, a restarted triggerer, another trigger."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from runops.airflow._compat import TaskDeferred
from runops.airflow.events import read_end
from runops.airflow.exceptions import PollingError, RunTimedOut, SensorRunFailed

pytestmark = pytest.mark.promise("the clocks of a wait hold over a deferral")


def deferral(task: Any, context: Any) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(context)
    return deferred.value


def paused(host: Any, provider: str) -> dict[str, str]:
    """A run that is paused or waiting from its beginning on, for ever."""
    run = host.made(provider, script="running")
    set_paused(host, provider, run["run_id"])
    return run


def set_paused(host: Any, provider: str, run_id: str) -> None:
    now = datetime.fromtimestamp(host.clock.now, UTC).isoformat()
    fields = {
        "onepin": {"status": "paused", "paused_at": now},
        "b3os": {"status": "waiting"},
        "nekt": {"status": "pending_events"},
    }[provider]
    host.emulator.set_fields(provider, run_id, fields)


def set_running(host: Any, provider: str, run_id: str) -> None:
    fields: dict[str, Any] = {"onepin": {"status": "running", "paused_at": None}}.get(provider, {"status": "running"})
    host.emulator.set_fields(provider, run_id, fields)


@pytest.mark.parametrize("provider", ["onepin", "b3os", "nekt"])
def test_max_paused_is_one_clock_over_the_worker_s_look_and_the_trigger(
    host: Any, sensors: Any, mode: Any, provider: str
) -> None:
    task = sensors[provider](task_id="w", **paused(host, provider), max_paused=300, **mode)
    ended = host.run(task)
    assert isinstance(ended.error, RunTimedOut)
    assert ended.xcoms["run"]["ended_by"] == "max_paused"
    # Reschedule mode looks a minute apart.
    assert 299 <= host.clock.passed <= 301 if mode.get("mode") != "reschedule" else 300 <= host.clock.passed <= 370


def test_a_restarted_triggerer_keeps_max_paused_where_the_provider_says_since_when(host: Any, sensors: Any) -> None:
    run = host.made("onepin", script="running")
    deferred = deferral(sensors["onepin"](task_id="w", **run, max_paused=600, deferrable=True), host.context())
    host.clock.sleep(90)
    set_paused(host, "onepin", run["run_id"])
    since = host.clock.now
    # For so long the first triggerer watched; then another one reads the same row.
    host.clock.sleep(400)
    assert read_end(host.fired(deferred)).ended_by == "max_paused"
    assert host.clock.now - since == pytest.approx(600, abs=2)


def test_elsewhere_a_restarted_triggerer_begins_max_paused_anew_and_never_ends_a_wait_too_early(
    host: Any, sensors: Any
) -> None:
    run = paused(host, "b3os")
    deferred = deferral(sensors["b3os"](task_id="w", **run, max_paused=600, deferrable=True), host.context())
    set_running(host, "b3os", run["run_id"])
    host.clock.sleep(5000)
    set_paused(host, "b3os", run["run_id"])
    restarted = host.clock.now
    assert read_end(host.fired(deferred)).ended_by == "max_paused"
    assert host.clock.now - restarted == pytest.approx(600, abs=2)


def test_another_trigger_after_a_crash_keeps_max_paused_where_the_provider_says_since_when(
    host: Any, operators: Any, calls: Any
) -> None:
    host.emulator.set_defaults(provider="onepin", script="running")
    task = operators["onepin"](task_id="w", **calls["onepin"], max_paused=600, deferrable=True)
    context = host.context()
    deferral(task, context)
    set_paused(host, "onepin", context["ti"].xcoms["run_id"])
    since = host.clock.now
    host.clock.sleep(200)
    with pytest.raises(TaskDeferred) as again:
        task.resume_execution("__fail__", {"error": "Trigger failure"}, context)
    assert read_end(host.fired(again.value)).ended_by == "max_paused"
    assert host.clock.now - since == pytest.approx(600, abs=2)


def test_a_late_result_is_waited_for_once_over_a_deferral(host: Any, sensors: Any) -> None:
    run = host.made("nyx", script="no_result", seconds=10)
    ended = host.run(sensors["nyx"](task_id="w", **run, deferrable=True))
    assert type(ended.error) is SensorRunFailed
    assert len(ended.deferrals) == 1
    first_seen = host.clock.began + 10
    assert 60 <= host.clock.now - first_seen <= 66


def test_a_run_that_the_worker_saw_may_be_missing_in_the_trigger_for_as_long_as_the_error_budget(
    host: Any, sensors: Any, mode: Any
) -> None:
    run = host.made("nexio", script="succeeded", seconds=500)
    host.emulator.add_fault(provider="nexio", kind="status", status=404, skip=5, count=6)
    ended = host.run(sensors["nexio"](task_id="w", **run, poke_interval=2, **mode))
    assert ended.error is None
    assert ended.result["outcome"] == "succeeded"


def test_the_error_budget_is_one_clock_over_the_worker_s_look_and_the_trigger(
    host: Any, sensors: Any, connect: Any
) -> None:
    connect("nexio_gone", "nexio", host="http://127.0.0.1:9")
    task = sensors["nexio"](task_id="w", run_id="r", nexio_conn_id="nexio_gone", error_budget=120, deferrable=True)
    ended = host.run(task)
    assert type(ended.error) is PollingError
    assert len(ended.deferrals) == 1
    assert host.clock.passed == pytest.approx(120, abs=2)


def test_what_the_worker_learnt_travels_as_json_and_rows_without_it_load(host: Any, sensors: Any) -> None:
    deferred = deferral(
        sensors["b3os"](task_id="w", **paused(host, "b3os"), max_paused=600, deferrable=True), host.context()
    )
    _, row = deferred.trigger.serialize()
    assert row["past"]["seen"] is True
    assert row["past"]["parked_since"] == pytest.approx(host.clock.began, abs=1)
    assert json.loads(json.dumps(row)) == row
    del row["past"]
    assert "past" not in type(deferred.trigger)(**row).serialize()[1]
