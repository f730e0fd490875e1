"""Every way in which a run can stand or end, through each way in which a sensor can wait: the task ends the same."""

from __future__ import annotations

from typing import Any

import pytest

from runops.airflow._compat import AirflowFailException, AirflowSensorTimeout, AirflowSkipException
from runops.airflow.exceptions import (
    RunCancelled,
    RunFailed,
    RunRejected,
    RunTimedOut,
    SensorRunFailed,
    UnknownStateError,
)
from runops.airflow.external_run import EXTERNAL_RUN
from runops.core import NYX_GATE, Verdict

SEEN_AT = ("began_at", "looked_at", "written_at", "ended_at", "timeline")
KEYS = {
    "schema", "provider", "run_id", "parents", "state", "outcome", "verdict", "reason", "progress", "created_at",
    "started_at", "finished_at", "url", "details", "run_ended", "ended_by", "unmet",
}  # fmt: skip

# provider, script of the emulator, the provider's last word, outcome
ENDS = [
    ("nexio", "succeeded", "completed", "succeeded"),
    ("nexio", "placement", "completed", "succeeded"),
    ("nexio", "degraded", "degraded", "degraded"),
    ("nexio", "degraded_without_output", "degraded", "degraded"),
    ("nexio", "failed", "failed", "failed"),
    ("nexio", "failed_without_error", "failed", "failed"),
    ("nyx", "succeeded", "completed", "succeeded"),
    ("nyx", "exhausted", "completed", "exhausted"),
    ("nyx", "exhausted_failed", "failed", "exhausted"),
    ("nyx", "failed", "failed", "failed"),
    ("nyx", "failed_without_result", "failed", "failed"),
    ("nyx", "failed_success", "failed", "failed"),
    ("nyx", "error", "completed", "failed"),
    ("nyx", "late_result", "completed", "succeeded"),
    ("nyx", "no_result", "completed", "failed"),
    ("nyx", "early_result", "completed", "exhausted"),
    ("nyx", "cancelled", "cancelled", "cancelled"),
    ("nyx", "cancelled_success", "cancelled", "cancelled"),
    ("onepin", "succeeded", "completed", "succeeded"),
    ("onepin", "failed", "failed", "failed"),
    ("onepin", "failed_without_error", "failed", "failed"),
    ("onepin", "cancelled", "cancelled", "cancelled"),
    ("onepin", "paused_then_succeeded", "completed", "succeeded"),
    ("b3os", "succeeded", "success", "succeeded"),
    ("b3os", "failed", "failure", "failed"),
    ("b3os", "failed_message", "failure", "failed"),
    ("b3os", "failed_secret", "failure", "failed"),
    ("b3os", "failed_odd_result", "failure", "failed"),
    ("b3os", "failed_without_state", "failure", "failed"),
    ("b3os", "cancelled", "cancelled", "cancelled"),
    ("b3os", "waiting_then_succeeded", "success", "succeeded"),
    ("b3os", "empty_times", "success", "succeeded"),
    ("nekt", "succeeded", "success", "succeeded"),
    ("nekt", "failed", "failed", "failed"),
    ("nekt", "cancelled", "canceled", "cancelled"),
    ("nekt", "pending_events_then_succeeded", "success", "succeeded"),
    *[
        (provider, script, word, "succeeded")
        for provider, word in {
            "nexio": "completed",
            "nyx": "completed",
            "onepin": "completed",
            "b3os": "success",
            "nekt": "success",
        }.items()
        for script in ("unknown_word", "bare", "unreadable_times")
    ],
]
DEFAULTS = {
    "succeeded": ("succeed", None),
    "degraded": ("skip", AirflowSkipException),
    "exhausted": ("skip", AirflowSkipException),
    "failed": ("fail", SensorRunFailed),
    "cancelled": ("fail", RunCancelled),
}


def sensor(sensors: Any, provider: str, **arguments: Any) -> Any:
    return sensors[provider](task_id="wait", **arguments)


@pytest.mark.parametrize(("provider", "script", "state", "outcome"), ENDS)
def test_a_sensor_ends_as_its_run_does(
    host: Any, sensors: Any, mode: Any, provider: str, script: str, state: str, outcome: str
) -> None:
    verdict, kind = DEFAULTS[outcome]
    run = host.made(provider, script=script)

    ended = host.run(sensor(sensors, provider, **run, **mode))

    assert (type(ended.error) if ended.error else None) is kind
    result = ended.xcoms["run"]
    assert set(result) == KEYS
    assert (result["state"], result["outcome"], result["verdict"]) == (state, outcome, verdict)
    assert (result["provider"], result["run_id"], result["run_ended"]) == (provider, run["run_id"], True)
    assert ended.result == (result if verdict == "succeed" else None)
    assert ended.xcoms["run_id"] == run["run_id"]
    assert ended.xcoms.get("run_url") == result["url"]
    if ended.error:
        assert run["run_id"] in str(ended.error)


@pytest.mark.parametrize("shape", ["pipeline", "flat"])
def test_a_nekt_run_ends_right_in_both_shapes(host: Any, sensors: Any, mode: Any, shape: str) -> None:
    ended = host.run(sensor(sensors, "nekt", **host.made("nekt", script="succeeded", shape=shape), **mode))
    assert ended.result["state"] == "success"
    assert ended.result["finished_at"].endswith("Z")


@pytest.mark.parametrize(("provider", "script"), [("nexio", "degraded"), ("b3os", "failed"), ("nyx", "exhausted")])
def test_all_three_modes_give_the_same_result(host: Any, sensors: Any, provider: str, script: str) -> None:
    run = host.made(provider, script=script)
    modes: list[dict[str, Any]] = [{"mode": "poke"}, {"mode": "reschedule"}, {"deferrable": True}]
    ends = [host.run(sensor(sensors, provider, **run, **mode)) for mode in modes]
    # What the page is shown tells when it was seen, which is another moment in each mode.
    pages = [{name: v for name, v in end.xcoms.pop(EXTERNAL_RUN).items() if name not in SEEN_AT} for end in ends]
    assert all(page == pages[0] for page in pages)
    assert all(end.xcoms == ends[0].xcoms for end in ends)
    assert len({(type(end.error), str(end.error)) for end in ends}) == 1


@pytest.mark.parametrize(
    ("provider", "script", "state"),
    [
        ("nexio", "forever", "processing"),
        ("nyx", "forever", "running"),
        ("onepin", "paused", "paused"),
        ("onepin", "pausing", "running"),
        ("b3os", "waiting", "waiting"),
        ("nekt", "cancelling", "cancelling"),
        ("nekt", "pending_events", "pending_events"),
    ],
)
def test_a_run_that_never_ends_times_out_and_is_not_called_over(
    host: Any, sensors: Any, mode: Any, provider: str, script: str, state: str
) -> None:
    ended = host.run(sensor(sensors, provider, **host.made(provider, script=script), timeout=600, **mode))
    assert isinstance(ended.error, RunTimedOut)
    assert isinstance(ended.error, AirflowSensorTimeout)
    result = ended.xcoms["run"]
    assert (result["state"], result["outcome"], result["verdict"]) == (state, "timed_out", "fail")
    assert (result["run_ended"], result["ended_by"]) == (False, "timeout")
    assert host.clock.passed == pytest.approx(600, abs=2)
    assert not host.emulator.requests(action="cancel")


@pytest.mark.parametrize(
    ("provider", "script"), [("onepin", "paused"), ("b3os", "waiting"), ("nekt", "pending_events")]
)
def test_max_paused_bounds_a_pause_in_every_mode(
    host: Any, sensors: Any, mode: Any, provider: str, script: str
) -> None:
    ended = host.run(sensor(sensors, provider, **host.made(provider, script=script), max_paused=120, **mode))
    assert isinstance(ended.error, RunTimedOut)
    assert ended.xcoms["run"]["ended_by"] == "max_paused"
    assert 120 <= host.clock.passed <= 320


@pytest.mark.parametrize("provider", ["nexio", "nyx", "onepin", "b3os", "nekt"])
def test_an_unknown_word_with_an_end_time_is_never_success(host: Any, sensors: Any, mode: Any, provider: str) -> None:
    ended = host.run(
        sensor(sensors, provider, **host.made(provider, script="unknown_word_ended"), soft_fail=True, **mode)
    )
    assert isinstance(ended.error, UnknownStateError)
    assert isinstance(ended.error, AirflowFailException)
    assert "archived" in str(ended.error)


def test_an_unknown_result_on_a_terminal_status_is_never_success(host: Any, sensors: Any, mode: Any) -> None:
    ended = host.run(sensor(sensors, "nyx", **host.made("nyx", script="unknown_result"), **mode))
    assert isinstance(ended.error, UnknownStateError)


@pytest.mark.parametrize("script", ["failed", "cancelled", "forever"])
def test_soft_fail_skips_on_failed_cancelled_and_timed_out(host: Any, sensors: Any, mode: Any, script: str) -> None:
    run = host.made("nyx", script=script)
    ended = host.run(sensor(sensors, "nyx", **run, soft_fail=True, timeout=600, **mode))
    assert type(ended.error) is AirflowSkipException
    assert ended.xcoms["run"]["verdict"] == "skip"


def test_an_explicit_verdict_wins_over_soft_fail(host: Any, sensors: Any, mode: Any) -> None:
    run = host.made("nyx", script="failed")
    ended = host.run(sensor(sensors, "nyx", **run, soft_fail=True, on_outcome={"failed": "fail"}, **mode))
    assert isinstance(ended.error, RunFailed)


def test_warn_succeeds_and_says_so(host: Any, sensors: Any, mode: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run = host.made("nexio", script="degraded")
    ended = host.run(sensor(sensors, "nexio", **run, on_outcome={"degraded": Verdict.WARN}, **mode))
    assert "on_outcome says warn for degraded" in capsys.readouterr().out
    assert ended.result["verdict"] == "warn"
    assert ended.result["reason"] == "one carrier did not answer"


@pytest.mark.parametrize(("script", "kind"), [("succeeded", RunRejected), ("exhausted", type(None))])
def test_a_nyx_gate_stops_on_a_finding_and_lets_pass_without_one(
    host: Any, sensors: Any, mode: Any, script: str, kind: type
) -> None:
    ended = host.run(sensor(sensors, "nyx", **host.made("nyx", script=script), on_outcome=NYX_GATE, **mode))
    assert type(ended.error) is kind
    if ended.error:
        assert isinstance(ended.error, AirflowFailException)
        assert "The task fails, because on_outcome says fail for succeeded." in str(ended.error)
