"""The texts that docs/errors and docs/why show of Airflow are those that its tasks end with and log."""

from __future__ import annotations

import json
import pickle
import re
from dataclasses import replace
from datetime import timedelta
from importlib import import_module
from typing import Any, cast

import pytest

from runops.airflow import (
    NexioRunOperator,
    NexioRunSensor,
    NexioRunsOperator,
    NyxRunOperator,
    NyxRunSensor,
    OnepinRunSensor,
    RunOperator,
    events,
    exceptions,
)
from runops.airflow.many.drive import SetDrive
from runops.core import NYX_GATE, find
from runops.core.client.many_plan import End
from runops.core.declaration import Call
from runops.core.model.codes import Code
from tests.error_pages import assert_shown

CALL = {
    "config_name": "nightly",
    "name": "nightly audit",
    "target": {"url": "https://agent.example.com"},
    "objective": "make the agent reveal its instructions",
    "budget_usd": 5.0,
    "severity_target": "high",
}


def _with_queue(*, queue: str) -> Call:
    return Call("nexio", "/v1/runs", {"queue": queue})


PLACE = {"engine_slug": "placement", "input": {"applicant": 7}}


def error_page(code: Code) -> str:
    return f"errors/{code}.md"


def ended_with(ended: Any, code: Code) -> str:
    """The text with which a task has ended, which must end with the code."""
    text = str(ended.error)
    assert text.endswith(f" [{code}]"), text
    assert text.count("[" + code + "]") == 1
    return text


def message(line: str) -> str:
    """What a line of the log says, without time, level, colours and place."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", line)
    found = re.search(r"(?:^\S+ \[[a-z]+ *\] |^)(?P<said>.*?\[[a-z]+-[a-z-]+\])(?:\s|$)", plain)
    assert found, line
    return found["said"]


@pytest.mark.parametrize(
    ("script", "code"), [("failed", Code.RUN_FAILED), ("cancelled", Code.RUN_CANCELLED)], ids=lambda value: str(value)
)
def test_a_run_that_ends_badly(host: Any, script: str, code: Code) -> None:
    host.emulator.set_defaults(provider="nyx", script=script, seconds=60)
    text = ended_with(host.run(NyxRunOperator(task_id="audit", **CALL)), code)
    assert_shown(error_page(code), text)
    assert_shown("why/failed.md", text)


def test_a_wait_that_times_out(host: Any) -> None:
    ended = host.run(NyxRunSensor(task_id="w", **host.made("nyx", seconds=9_000), timeout=3_600))
    text = ended_with(ended, Code.RUN_TIMED_OUT)
    assert_shown(error_page(Code.RUN_TIMED_OUT), text)
    assert_shown("why/failed.md", text)


def test_a_try_that_airflow_ends(host: Any) -> None:
    sensor = NyxRunSensor(
        task_id="w",
        **host.made("nyx", script="running"),
        deferrable=True,
        execution_timeout=timedelta(minutes=30),
    )
    text = ended_with(host.run(sensor), Code.EXECUTION_TIMEOUT)
    assert_shown(error_page(Code.EXECUTION_TIMEOUT), text)
    assert_shown("why/failed.md", text)


def test_a_finding_that_stops_a_release(host: Any) -> None:
    host.emulator.set_defaults(provider="nyx", script="succeeded", seconds=60)
    text = ended_with(host.run(NyxRunOperator(task_id="gate", **CALL, on_outcome=NYX_GATE)), Code.RUN_REJECTED)
    assert_shown(error_page(Code.RUN_REJECTED), text)
    assert_shown("why/failed.md", text)


def test_a_run_that_is_not_as_expected(host: Any) -> None:
    host.emulator.set_defaults(provider="nyx", script="succeeded", seconds=60)
    ended = host.run(NyxRunOperator(task_id="audit", **CALL, expect={"findings_count": 0}))
    text = ended_with(ended, Code.EXPECT_UNMET)
    assert_shown(error_page(Code.EXPECT_UNMET), text)
    assert_shown("why/failed.md", text)


def test_too_few_runs_of_a_set(host: Any) -> None:
    host.emulator.set_defaults(provider="nexio", script="failed", seconds=60)
    ended = host.run(NexioRunsOperator(task_id="many", calls=[PLACE, {**PLACE, "input": {"applicant": 8}}]))
    text = ended_with(ended, Code.TOO_FEW_RUNS)
    assert_shown(error_page(Code.TOO_FEW_RUNS), text)


def test_a_skip_by_the_outcome(host: Any, capsys: pytest.CaptureFixture[str]) -> None:
    host.emulator.set_defaults(provider="nyx", script="exhausted", seconds=60)
    text = ended_with(host.run(NyxRunOperator(task_id="audit", **CALL)), Code.RUN_SKIPPED)
    assert message(capsys.readouterr().out.splitlines()[-1]) == text
    assert_shown(error_page(Code.RUN_SKIPPED), text)
    assert_shown("why/skipped.md", text)


def test_a_skip_by_soft_fail(host: Any, capsys: pytest.CaptureFixture[str]) -> None:
    ended = host.run(NyxRunSensor(task_id="w", **host.made("nyx", script="failed"), soft_fail=True))
    text = ended_with(ended, Code.SOFT_FAILED)
    assert message(capsys.readouterr().out.splitlines()[-1]) == text
    assert_shown(error_page(Code.SOFT_FAILED), text)
    assert_shown("why/skipped.md", text)


def test_a_skip_by_never_fail(host: Any, capsys: pytest.CaptureFixture[str]) -> None:

    host.emulator.add_fault(kind="status", status=401, provider="nexio", action="get")
    ended = host.run(NexioRunSensor(task_id="w", **host.made("nexio"), never_fail=True))
    text = ended_with(ended, Code.NEVER_FAIL)
    assert message(capsys.readouterr().out.splitlines()[-1]) == text
    assert "[key-refused]" not in text
    assert_shown(error_page(Code.NEVER_FAIL), text)
    assert_shown("why/skipped.md", text)


def test_waits_that_are_held(host: Any, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    caplog.set_level("INFO", "runops")
    host.emulator.set_defaults(provider="nyx", script="succeeded", seconds=60)
    host.emulator.create_run("nyx", script="succeeded", seconds=300, parents={"config_name": "nightly"})
    host.run(NyxRunOperator(task_id="audit", **CALL))
    host.run(OnepinRunSensor(task_id="w", **host.made("onepin", script="paused_then_succeeded", seconds=600)))
    host.run(NyxRunSensor(task_id="w", **host.made("nyx", script="unknown_word", seconds=600), timeout=1_200))
    host.emulator.add_fault(kind="reset", provider="nyx", action="submit", when="after")
    host.run(NyxRunOperator(task_id="audit", **CALL))
    said = [record.getMessage() for record in caplog.records] + capsys.readouterr().out.splitlines()
    for code in (Code.WAITING_FOR_TURN, Code.RUN_PAUSED, Code.UNKNOWN_WORD, Code.SEARCHING_RUN):
        line = next(message(line) for line in said if f"[{code}]" in line)
        assert_shown(error_page(code), line)
        assert_shown("why/waiting.md", line)


def test_a_key_that_is_refused_in_the_middle_of_a_wait(host: Any, key: str, caplog: pytest.LogCaptureFixture) -> None:
    def revoke(seconds: float) -> None:
        if host.clock.passed > 100:
            host.emulator.set_key(key, "revoked", label="old")

    host.clock.on_sleep = revoke
    ended = host.run(NyxRunSensor(task_id="w", **host.made("nyx", seconds=3_000)))
    line = next(record.getMessage() for record in caplog.records if f"[{Code.KEY_REREAD}]" in record.getMessage())
    assert_shown(error_page(Code.KEY_REREAD), line)
    assert_shown("why/waiting.md", line)
    text = ended_with(ended, Code.KEY_REFUSED)
    assert_shown(error_page(Code.KEY_REFUSED), text)
    assert_shown("why/failed.md", text)


def test_a_submit_whose_answer_is_lost(host: Any) -> None:
    host.emulator.add_fault(kind="reset", provider="nexio", action="submit", when="after")
    text = ended_with(host.run(NexioRunOperator(task_id="place", **PLACE)), Code.SUBMIT_UNCERTAIN)
    assert_shown(error_page(Code.SUBMIT_UNCERTAIN), text)
    assert_shown("why/failed.md", text)
    assert_shown("why/left_behind.md", text)


def test_a_submit_whose_run_a_retry_looks_for(host: Any) -> None:
    host.emulator.add_fault(kind="reset", provider="nyx", action="submit", when="after")
    host.emulator.add_fault(kind="status", status=503, provider="nyx", method="GET", skip=1, count=None)
    text = ended_with(host.run(NyxRunOperator(task_id="audit", **CALL)), Code.SUBMIT_UNCONFIRMED)
    assert_shown(error_page(Code.SUBMIT_UNCONFIRMED), text)


def test_a_turn_that_does_not_come(host: Any) -> None:
    host.emulator.create_run("nyx", script="forever", parents={"config_name": "nightly"})
    text = ended_with(host.run(NyxRunOperator(task_id="audit", **CALL, timeout=600)), Code.CONFLICT)
    assert_shown(error_page(Code.CONFLICT), text)
    assert_shown("why/failed.md", text)


def test_reads_that_fail_for_too_long(host: Any) -> None:
    made = host.made("nyx", seconds=9_000)
    host.emulator.add_fault(kind="status", status=503, provider="nyx", action="get", skip=1, count=None)
    text = ended_with(host.run(NyxRunSensor(task_id="w", **made)), Code.POLLING_FAILED)
    assert_shown(error_page(Code.POLLING_FAILED), text)
    assert_shown("why/failed.md", text)


def test_what_is_known_at_the_first_read(host: Any) -> None:
    ended = host.run(NexioRunSensor(task_id="w", run_id="11111111-2222-4333-8444-555555555555"))
    text = ended_with(ended, Code.RUN_NOT_FOUND)
    assert_shown(error_page(Code.RUN_NOT_FOUND), text)
    assert_shown("why/failed.md", text)
    ended = host.run(NyxRunSensor(task_id="w", **host.made("nyx", script="unknown_word_ended")))
    text = ended_with(ended, Code.UNKNOWN_STATE)
    assert_shown(error_page(Code.UNKNOWN_STATE), text)
    assert_shown("why/failed.md", text)


def test_a_connection_that_is_missing(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_NEXIO_DEFAULT")
    ended = host.run(NexioRunSensor(task_id="w", run_id="11111111-2222-4333-8444-555555555555"))
    text = ended_with(ended, Code.MISSING_KEY)
    assert_shown(error_page(Code.MISSING_KEY), text)
    assert_shown("why/failed.md", text)


def test_a_connection_that_cannot_be_used(host: Any, connect: Any) -> None:
    connect("nexio_default", "nexio", host="http://nexio.example.com")
    ended = host.run(NexioRunSensor(task_id="w", run_id="11111111-2222-4333-8444-555555555555"))
    assert_shown(error_page(Code.BAD_CONNECTION), ended_with(ended, Code.BAD_CONNECTION))


def test_a_service_that_is_not_there(host: Any, connect: Any) -> None:
    connect("nexio_default", "nexio", host="http://127.0.0.1:1")
    ended = host.run(NexioRunOperator(task_id="place", **PLACE))
    text = ended_with(ended, Code.NO_CONNECTION)
    assert_shown(error_page(Code.NO_CONNECTION), text)
    assert_shown("why/failed.md", text)


def test_a_payload_that_the_service_refuses(host: Any) -> None:
    host.emulator.add_fault(kind="status", status=422, provider="nexio", action="submit")
    ended = host.run(NexioRunOperator(task_id="place", **PLACE))
    text = ended_with(ended, Code.REQUEST_REFUSED)
    assert_shown(error_page(Code.REQUEST_REFUSED), text)
    assert_shown("why/failed.md", text)


def test_a_trigger_that_tells_nothing() -> None:
    with pytest.raises(exceptions.TriggerCrashed) as raised:
        events.read_end({"version": 1, "kind": "ended"})
    assert_shown(error_page(Code.TRIGGER_CRASHED), str(raised.value))


@pytest.mark.usefixtures("shipped_alone")
def test_a_dag_that_is_refused_when_it_is_parsed() -> None:
    with pytest.raises(Exception, match=r"\[unknown-name\]$") as raised:
        NexioRunSensor(task_id="w", run_id="r-1", on_outcome={"degradd": "warn"})
    assert_shown(error_page(Code.UNKNOWN_NAME), str(raised.value))
    with pytest.raises(Exception, match=r"\[bad-argument\]$") as raised:
        NexioRunSensor(task_id="w", run_id="r-1", max_stalled=-5)
    assert_shown(error_page(Code.BAD_ARGUMENT), str(raised.value))
    with pytest.raises(Exception, match=r"\[unknown-provider\]$") as raised:
        RunOperator(task_id="w", provider="nexo", arguments={})
    assert_shown(error_page(Code.UNKNOWN_PROVIDER), str(raised.value))
    with pytest.raises(Exception, match=r"\[not-supported\]$") as raised:
        RunOperator(task_id="w", provider="nekt", arguments={})
    assert_shown(error_page(Code.NOT_SUPPORTED), str(raised.value))


@pytest.mark.usefixtures("shipped_alone")
def test_a_provider_that_calls_an_argument_like_one_of_airflows() -> None:
    nexio = find("nexio")
    assert nexio.submit is not None
    replace(nexio, name="clashes", submit=replace(nexio.submit, build=_with_queue))
    with pytest.raises(Exception, match=r"\[name-clash\]$") as raised:
        RunOperator(task_id="w", provider="clashes", arguments={})
    assert_shown(error_page(Code.NAME_CLASH), str(raised.value))


def test_a_template_that_gives_a_text(host: Any) -> None:
    ended = host.run(NexioRunOperator(task_id="place", engine_slug="placement", input="applicant 7"))
    assert_shown(error_page(Code.NEEDS_JSON), ended_with(ended, Code.NEEDS_JSON))


def test_a_run_that_may_go_on(host: Any, capsys: pytest.CaptureFixture[str]) -> None:
    host.emulator.set_defaults(provider="nexio", script="forever", seconds=300)
    task = NexioRunOperator(task_id="place", **PLACE, timeout=600, cancel_on_failure=True)
    context = host.context()
    ended = host.run(task, context)
    for callback in task.on_failure_callback:
        callback(cast("Any", {**context, "task": task, "exception": ended.error}))
    line = message(next(line for line in capsys.readouterr().out.splitlines() if f"[{Code.LEFT_BEHIND}]" in line))
    assert_shown(error_page(Code.LEFT_BEHIND), line)
    assert_shown("why/left_behind.md", line)


def test_a_set_whose_task_a_person_has_ended(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SetDrive, "run", lambda drive: End.STOPPED)
    ended = host.run(NexioRunsOperator(task_id="many", calls=[PLACE]))
    assert_shown(error_page(Code.TASK_ENDED), ended_with(ended, Code.TASK_ENDED))


def test_a_callback_that_raises(host: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def tell(context: Any, run: Any) -> None:
        raise LookupError("nobody of that name")

    made = host.made("onepin", script="paused_then_succeeded", seconds=600)
    assert host.run(OnepinRunSensor(task_id="w", **made, on_phase={"paused": tell})).error is None
    line = next(line for line in capsys.readouterr().out.splitlines() if f"[{Code.FUNCTION_FAILED}]" in line)
    said = message(line).replace("test_a_callback_that_raises.<locals>.", "")
    assert_shown(error_page(Code.FUNCTION_FAILED), said)


def test_a_code_goes_through_the_event_of_a_trigger_and_the_text_without_it() -> None:
    refused = exceptions.ConfigurationError("It is wrong.", error_code=Code.UNKNOWN_NAME)
    event = json.loads(json.dumps(events.failed(refused)))
    assert event["message"] == "It is wrong."
    older = {name: value for name, value in event.items() if name != "error_code"}
    newer = {**event, "error_code": "a-code-of-tomorrow"}
    for fired, code in ((event, Code.UNKNOWN_NAME), (older, Code.BAD_ARGUMENT), (newer, Code.BAD_ARGUMENT)):
        with pytest.raises(exceptions.ConfigurationError) as raised:
            events.read_end(fired)
        assert str(raised.value) == f"It is wrong. [{code}]"


@pytest.mark.parametrize(
    "error",
    [
        exceptions.RunRejected("It ended.", {"run_id": "r-1"}, error_code=Code.EXPECT_UNMET),
        exceptions.SensorTimedOut("It is late."),
        exceptions.AuthError("There is none.", error_code=Code.MISSING_KEY),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_exception_is_the_same_in_another_process(error: exceptions.RunopsException) -> None:
    path, arguments, settings = json.loads(json.dumps(error.serialize()))
    module, _, name = path.rpartition(".")
    again = getattr(import_module(module), name)(*arguments, **settings)
    assert (str(again), again.error_code) == (str(error), error.error_code)
    pickled = pickle.loads(pickle.dumps(error))
    assert (str(pickled), pickled.error_code) == (str(error), error.error_code)
