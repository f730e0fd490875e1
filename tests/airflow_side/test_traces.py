"""One span for each external run, whatever the mode; and what a process that traces nothing is spared."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from runops.airflow import NexioRunOperator, NyxRunOperator, NyxRunSensor, NyxRunsSensor, traces
from runops.airflow._compat_traces import id_of_try
from runops.airflow.traces import TaskTrace, another_try_follows
from runops.core import find
from tests.airflow_side.sets import SetHost, calls_of, sets
from tests.airflow_side.triggerer import Triggerer
from tests.collector import Collector
from tests.open_telemetry import Spans, said, spans
from tests.services import CALLS

__all__ = ["sets", "spans"]

RETRIES = 2


@pytest.fixture(autouse=True)
def no_tracer_of_another_test() -> Iterator[None]:
    traces._own_tracer.cache_clear()
    yield
    traces._own_tracer.cache_clear()


@pytest.fixture
def task_span(spans: Spans) -> dict[str, str]:
    """What Airflow keeps with a task instance: the span of the task, which ends when the task has."""
    carrier: dict[str, str] = {}
    with spans.provider.get_tracer("airflow").start_as_current_span("task"):
        TraceContextTextMapPropagator().inject(carrier)
    return carrier


def traced(host: Any, carrier: dict[str, str]) -> dict[str, Any]:
    context = host.context()
    context["ti"].context_carrier = carrier
    return context


def test_a_run_is_one_span_below_its_task_s_in_every_mode(
    host: Any, sensors: Any, mode: Any, spans: Spans, task_span: dict[str, str]
) -> None:
    run = host.made("nyx", script="exhausted", seconds=100)
    context = traced(host, task_span)
    ended = host.run(sensors["nyx"](task_id="w", on_outcome={"exhausted": "warn"}, **run, **mode), context)
    assert ended.error is None
    span = spans.only()
    told = said(span)
    assert told["provider"] == "nyx"
    assert (told["run_id"], told["outcome"], told["verdict"]) == (run["run_id"], "exhausted", "warn")
    assert told["spend_unit"] == "USD"
    _, trace_id, span_id, _ = task_span["traceparent"].split("-")
    assert span.parent is not None
    assert (f"{span.parent.trace_id:032x}", f"{span.parent.span_id:016x}") == (trace_id, span_id)


@pytest.mark.parametrize(("script", "verdict"), [("failed", "fail"), ("succeeded", "succeed"), ("cancelled", "fail")])
def test_the_span_of_a_bad_end_is_an_error_s(
    host: Any, sensors: Any, mode: Any, spans: Spans, script: str, verdict: str
) -> None:
    host.run(sensors["nexio"](task_id="w", **host.made("nexio", script=script), **mode) if script != "cancelled"
             else sensors["nyx"](task_id="w", **host.made("nyx", script=script), **mode))  # fmt: skip
    span = spans.only()
    assert said(span)["verdict"] == verdict
    assert span.status.is_ok is (verdict != "fail")


@pytest.mark.parametrize("deferrable", [False, True])
def test_an_error_is_told_by_the_last_try_alone(
    host: Any, sensors: Any, connect: Any, spans: Spans, deferrable: bool
) -> None:
    connect("nexio_gone", "nexio", host="http://127.0.0.1:9")
    context = host.context()
    context["ti"].max_tries = RETRIES
    for left in range(RETRIES, -1, -1):
        task = sensors["nexio"](
            task_id="w", run_id="a-run", nexio_conn_id="nexio_gone", error_budget=60, deferrable=deferrable
        )
        host.run(task, context)
        assert len(spans.of_runs()) == (0 if left else 1)
        context["ti"].next_try()
    assert said(spans.only())["error"] == "PollingError"


def test_a_run_that_a_retry_takes_up_again_is_one_span_since_its_submit(host: Any, spans: Spans) -> None:
    host.emulator.set_defaults("nexio", script="succeeded", seconds=300)
    context = host.context()
    context["ti"].max_tries = 1
    began = host.clock.now
    host.emulator.add_fault(provider="nexio", action="get", kind="status", status=500, count=12)
    task = NexioRunOperator(task_id="s", **CALLS["nexio"], error_budget=60, deferrable=False)
    assert host.run(task, context).error is not None
    assert spans.of_runs() == []
    context["ti"].next_try()
    ended = host.run(NexioRunOperator(task_id="s", **CALLS["nexio"], deferrable=False), context)
    assert ended.error is None
    span = spans.only()
    assert span.start_time is not None
    assert abs(span.start_time / 1e9 - began) < 5
    assert len(host.emulator.requests(provider="nexio", action="submit")) == 1


def test_a_run_that_is_submitted_anew_is_another_span(host: Any, spans: Spans) -> None:
    host.emulator.set_defaults("nexio", script="failed", seconds=20)
    context = host.context()
    context["ti"].max_tries = 1
    task = NexioRunOperator(task_id="s", **CALLS["nexio"], deferrable=False)
    host.run(task, context)
    context["ti"].next_try()
    host.run(NexioRunOperator(task_id="s", **CALLS["nexio"], deferrable=False), context)
    ids = [said(span)["run_id"] for span in spans.of_runs()]
    assert len(ids) == len(set(ids)) == 2


def test_a_wait_for_a_turn_is_no_span_of_its_own(host: Any, spans: Spans) -> None:
    host.emulator.create_run("nyx", parents={"config_name": "nightly"}, script="succeeded", seconds=300)
    ended = host.run(NyxRunOperator(task_id="s", **CALLS["nyx"], deferrable=True))
    assert ended.error is None
    assert said(spans.only())["run_id"] == ended.result["run_id"]


@pytest.mark.parametrize("deferrable", [False, True])
def test_each_run_of_a_set_is_a_span(host: Any, spans: Spans, deferrable: bool) -> None:
    ids = [host.emulator.create_run("nyx", script="succeeded", seconds=30) for _ in range(4)]
    ended = host.run(NyxRunsSensor(task_id="w", run_ids=ids, deferrable=deferrable))
    assert ended.error is None
    assert sorted(said(span)["run_id"] for span in spans.of_runs()) == sorted(ids)


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_set_that_is_tried_again_tells_each_run_once(sets: SetHost, spans: Spans, deferrable: bool) -> None:
    calls = calls_of("b3os", 6)
    calls[2]["payload"] = {"emulator": {"script": "failed", "seconds": 0.3}}
    context = sets.context()
    context["ti"].max_tries = 1
    for expected in (6, 7):
        sets.run(sets.made("b3os", 6, calls=calls, deferrable=deferrable, retries=1), context)
        ids = [said(span)["run_id"] for span in spans.of_runs()]
        assert sorted(ids) == sorted(run["run_id"] for run in sets.emulator.runs(provider="b3os"))
        assert len(set(ids)) == len(ids) == expected
        context["ti"].next_try()


def test_a_task_that_the_triggerer_ends_is_one_span_too(
    host: Any, spans: Spans, task_span: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = traced(host, task_span)
    triggerer = Triggerer(monkeypatch, context)
    run = host.made("nyx", script="succeeded", seconds=100)
    task = NyxRunSensor(task_id="w", **run, deferrable=True, end_from_trigger=True)
    ended = triggerer.run(task)
    assert ended.error is None
    assert triggerer.ended_here == 1
    span = spans.only()
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" in task_span["traceparent"]
    assert (said(span)["outcome"], said(span)["verdict"]) == ("succeeded", "succeed")
    assert said(spans.only())["run_id"] == run["run_id"]


@pytest.mark.skipif(find_spec("airflow.traces") is None, reason="Airflow 3.1 alone has a tracer of its own")
def test_the_tracer_of_airflow_3_1_is_used_where_it_is_on(
    host: Any, sensors: Any, mode: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector = Collector()
    monkeypatch.setenv("AIRFLOW__TRACES__OTEL_ON", "True")
    monkeypatch.setenv("AIRFLOW__TRACES__OTEL_HOST", "127.0.0.1")
    monkeypatch.setenv("AIRFLOW__TRACES__OTEL_PORT", str(collector.port))
    trace_id, span_id = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    run = host.made("nyx", script="succeeded", seconds=100)
    context = traced(host, {"traceparent": f"00-{trace_id}-{span_id}-01"})
    host.run(sensors["nyx"](task_id="w", **run, **mode), context)
    collector.close()
    (span,) = collector.of_runs(run["run_id"])
    assert (span["trace"], span["parent"]) == (trace_id, span_id)
    assert span["attributes"]["runops.verdict"] == "succeed"


def test_nothing_is_asked_of_airflow_where_nothing_is_traced(host: Any) -> None:
    def began() -> float:
        raise AssertionError("asked")

    class Log:
        def debug(self, *_: Any, **__: Any) -> None:
            raise AssertionError("tried")

    snapshot = SimpleNamespace(ref=SimpleNamespace(run_id="x", provider="nexio"))
    TaskTrace(host.context()["ti"], Log()).ended(find("nexio"), snapshot, "succeed", began)  # pyright: ignore[reportArgumentType]


def test_what_goes_wrong_in_a_span_ends_no_task(host: Any, sensors: Any, spans: Spans) -> None:
    context = host.context()
    context["ti"].context_carrier = {"traceparent": 7}
    assert host.run(sensors["nexio"](task_id="w", **host.made("nexio", script="succeeded")), context).error is None


def test_another_try_follows_as_retries_say() -> None:
    from runops.airflow.exceptions import AuthError, PollingError, SensorTimedOut

    def follows(error: Exception | None, tries: int, most: int) -> bool:
        return another_try_follows({"ti": SimpleNamespace(try_number=tries, max_tries=most)}, error)

    assert follows(PollingError("x"), 1, 1)
    assert not follows(PollingError("x"), 2, 1)
    assert not follows(None, 1, 1)
    assert not follows(AuthError("x"), 1, 1)
    assert not follows(SensorTimedOut("x", None), 1, 1)


def test_the_id_of_a_try_is_that_of_a_trace() -> None:
    ti = SimpleNamespace(id="0198a5b0-3c1e-7d3a-9c52-0b8a3ce7f001")
    assert id_of_try(ti) == "0198a5b03c1e7d3a9c520b8a3ce7f001"
    assert id_of_try(SimpleNamespace(id=None)) is None
    assert id_of_try() is None


def test_the_worker_and_the_triggerer_send_one_id(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = host.made("nyx", script="succeeded", seconds=100)
    instance = SimpleNamespace(id=TRY)
    monkeypatch.setattr("runops.airflow._compat_traces.get_current_context", lambda: {"ti": instance})
    monkeypatch.setattr("runops.airflow.trigger.RunTrigger.task_instance", instance, raising=False)
    host.run(NyxRunSensor(task_id="w", **run, deferrable=True))
    requests = host.emulator.requests(run_id=run["run_id"])
    assert len(requests) >= 2
    assert {each["trace_id"] for each in requests} == {TRY.replace("-", "")}


TRY = "0198a5b0-3c1e-7d3a-9c52-0b8a3ce7f001"
