"""What OpenTelemetry is told: one span for each external run, and the list of metrics, of both clients."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runops.core import PollingError, find, telemetry
from runops.core.declaration.provider import Provider
from runops.core.many.ledger import Ledger
from runops.core.many.rows import Row, RowState
from runops.core.metrics import METRICS, POLLS, Meter, table
from runops.core.model.policy import Verdict
from runops.core.model.run import Outcome
from runops.core.telemetry import METER, MOST_SPANS, RunEnd, record, record_set
from tests.open_telemetry import Numbers, Spans, numbers, said, spans
from tests.services import CALLS

__all__ = ["numbers", "spans"]

DOCS = Path(__file__).resolve().parents[2] / "docs" / "reference" / "metrics.md"


def test_a_wait_is_one_span_from_its_begin_to_its_end(runs_of: Callable[..., Any], spans: Spans) -> None:
    runs = runs_of("nyx")
    ref = runs.made(script="succeeded", seconds=20)
    before = time.time()
    runs("wait", ref)
    span = spans.only()
    assert span.name == "nyx run"
    told = said(span)
    assert told.pop("waited_seconds") >= 0
    spent = told.pop("spend")
    assert isinstance(spent, float)
    assert told == {"provider": "nyx", "run_id": ref.run_id, "outcome": "succeeded", "spend_unit": "USD"}
    assert span.start_time is not None
    assert span.end_time is not None
    assert before * 1e9 - 1e9 <= span.start_time <= span.end_time <= time.time() * 1e9
    assert span.parent is None


def test_a_watch_is_one_span_too(runs_of: Callable[..., Any], spans: Spans) -> None:
    runs = runs_of("nexio")
    runs("watch", runs.made(script="failed"))
    assert said(spans.only())["outcome"] == "failed"


def test_the_span_of_a_wait_is_a_child_of_the_one_that_is_current(runs_of: Callable[..., Any], spans: Spans) -> None:
    runs = runs_of("nexio")
    ref = runs.made(script="succeeded")
    with spans.provider.get_tracer("users").start_as_current_span("theirs") as theirs:
        runs("wait", ref)
    parent = spans.only().parent
    assert parent is not None
    assert parent.span_id == theirs.get_span_context().span_id


def test_a_wait_that_ends_in_an_error_is_a_span_that_says_which(
    runs_of: Callable[..., Any], spans: Spans, numbers: Numbers
) -> None:
    runs = runs_of("nexio")
    runs.emulator.add_fault(provider="nexio", kind="status", status=500, count=1000)
    ref = runs.made(script="succeeded")
    with pytest.raises(PollingError):
        runs("wait", ref, error_budget=60)
    span = spans.only()
    assert said(span)["error"] == "PollingError"
    assert "outcome" not in said(span)
    assert not span.status.is_ok
    assert numbers.of("runops.errors") == {("nexio", "PollingError"): 1}


def test_the_numbers_of_a_wait(runs_of: Callable[..., Any], numbers: Numbers) -> None:
    runs = runs_of("nyx")
    runs("wait", runs.made(script="succeeded", seconds=20))
    assert numbers.of("runops.polls")[("nyx",)] >= 2
    assert numbers.of("runops.waits") == {("nyx", "succeeded", "None"): 1}
    assert numbers.of("runops.detection_latency") == {("nyx",): 1}
    assert numbers.of("runops.spend")[("nyx", "USD")] > 0


def test_a_turn_is_counted_once_however_often_it_is_refused(runs_of: Callable[..., Any], numbers: Numbers) -> None:
    runs = runs_of("nyx")
    runs.made(script="succeeded", parents={"config_name": "nightly"}, seconds=300)
    runs("submit", find("nyx").call(**CALLS["nyx"]))
    assert numbers.of("runops.turns") == {("nyx",): 1}
    assert numbers.of("runops.adoptions") == {}


def test_a_run_whose_submit_was_not_answered_is_counted_as_adopted(
    runs_of: Callable[..., Any], numbers: Numbers
) -> None:
    runs = runs_of("nyx")
    runs.emulator.add_fault(provider="nyx", action="submit", kind="reset", when="after", count=1)
    runs("submit", find("nyx").call(**CALLS["nyx"]))
    assert numbers.of("runops.adoptions") == {("nyx",): 1}


def test_nothing_that_a_provider_says_in_words_is_in_a_span(runs_of: Callable[..., Any], spans: Spans) -> None:
    runs = runs_of("nyx")
    runs("wait", runs.made(script="failed"))
    allowed = {"provider", "run_id", "outcome", "waited_seconds", "spend", "spend_unit", "verdict", "ended_by", "error"}
    span = spans.only()
    assert said(span).keys() <= allowed
    assert not span.events
    assert "canary" not in span.to_json()


def test_an_exporter_that_breaks_reaches_no_wait(
    runs_of: Callable[..., Any], spans: Spans, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG, "runops")

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no collector")

    monkeypatch.setattr(spans.provider, "get_tracer", broken)
    monkeypatch.setattr(telemetry, "METER", Meter(broken))
    runs = runs_of("nexio")
    assert runs("wait", runs.made(script="succeeded")).outcome is Outcome.SUCCEEDED
    assert "could not be made" in caplog.text


def test_a_sink_that_breaks_reaches_no_wait() -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError

    Meter(broken).emit(POLLS, 1, provider="nexio")


# --- sets ---------------------------------------------------------------------------------------------------------


def rows(count: int, provider: Provider) -> Ledger:
    return Ledger(
        Row(
            index=index,
            key=str(index),
            state=RowState.ENDED,
            run_id=f"run-{index}",
            outcome=Outcome.FAILED if index % 10 == 0 else Outcome.SUCCEEDED,
            verdict=Verdict.FAIL if index % 10 == 0 else Verdict.SUCCEED,
            spend=1.0 if provider.spend else None,
        )
        for index in range(count)
    )


def test_each_run_of_a_small_set_has_a_span(spans: Spans) -> None:
    provider = find("nyx")
    record_set(provider, rows(MOST_SPANS, provider), "warn", began=1.0, ended=5.0)
    assert sorted(said(span)["run_id"] for span in spans.of_runs()) == sorted(f"run-{i}" for i in range(MOST_SPANS))


def test_a_large_set_has_one_span_with_its_counts(spans: Spans) -> None:
    provider = find("nyx")
    record_set(provider, rows(MOST_SPANS + 1, provider), "fail", began=1.0, ended=5.0)
    span = spans.only()
    assert span.name == "nyx runs"
    assert said(span) == {
        "provider": "nyx",
        "verdict": "fail",
        "waited_seconds": 4.0,
        "spend": 101.0,
        "spend_unit": "USD",
        "runs": 101,
        "runs_failed": 11,
        "runs_unknown": 0,
    }


def test_the_numbers_of_a_set_are_those_of_its_runs(numbers: Numbers) -> None:
    provider = find("nyx")
    METER.set_ended(provider, rows(20, provider))
    assert numbers.of("runops.waits") == {("nyx", "succeeded", "succeed"): 18, ("nyx", "failed", "fail"): 2}
    assert numbers.of("runops.spend") == {("nyx", "USD"): 20.0}


# --- where nobody wants it ------------------------------------------------------------------------------------------

WITHOUT = """
import asyncio, sys, json
from runops.core import AsyncRunClient, RunClient, find
from runops.core.telemetry import RunEnd, METER, record, is_on
from runops.core.metrics import POLLS
import runops.cli, runops.dagster, runops.airflow
record(RunEnd(provider="nexio", run_id="x", began=0.0, ended=1.0))
METER.emit(POLLS, 1, provider="nexio")
RunClient(find("nyx"), token="x")._session.trace_id.here()
assert not is_on()
loaded = [name for name in sys.modules if name.partition(".")[0] == "opentelemetry"]
assert loaded == [], loaded
"""


@pytest.mark.long
def test_nothing_of_open_telemetry_is_imported_where_nobody_has_set_it_up() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


NAMED = """
from runops.core.telemetry import is_on
assert is_on()
"""


@pytest.mark.long
def test_a_provider_that_the_environment_names_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_PYTHON_TRACER_PROVIDER", "sdk_tracer_provider")
    done = subprocess.run([sys.executable, "-c", NAMED], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_no_span_is_made_without_a_provider(runs_of: Callable[..., Any]) -> None:
    assert not telemetry.is_on()
    runs = runs_of("nexio")
    assert runs("wait", runs.made(script="succeeded")).outcome is Outcome.SUCCEEDED


def test_a_span_never_begins_after_its_end(spans: Spans) -> None:
    record(RunEnd(provider="nexio", run_id="x", began=10.0, ended=5.0))
    span = spans.only()
    assert span.start_time == span.end_time == 5_000_000_000
    assert said(span)["waited_seconds"] == 0


# --- the documentation ----------------------------------------------------------------------------------------------


def test_the_documented_table_is_the_list() -> None:
    assert table() in DOCS.read_text(encoding="utf-8")


def test_the_names_are_those_that_people_have_dashboards_of() -> None:
    assert [metric.name for metric in METRICS] == [
        "runops.polls",
        "runops.waits",
        "runops.errors",
        "runops.turns",
        "runops.adoptions",
        "runops.orphans",
        "runops.detection_latency",
        "runops.spend",
    ]
