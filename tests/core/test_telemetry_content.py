"""What each span and each number of OpenTelemetry says: its names, times, units, and whose it is."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.trace import SpanKind, set_span_in_context

from runops import __version__
from runops.core import find
from runops.core.many.ledger import Ledger
from runops.core.many.rows import Row, RowState
from runops.core.metrics import METRICS
from runops.core.model.policy import Verdict
from runops.core.model.run import Outcome, Phase, RunRef, RunSnapshot
from runops.core.telemetry import METER, MOST_SPANS, RunEnd, record, record_set
from tests.open_telemetry import Numbers, Spans, numbers, said, spans

__all__ = ["numbers", "spans"]

REF = RunRef(provider="nyx", run_id="r")
OVER = RunSnapshot(ref=REF, state="completed", outcome=Outcome.FAILED, details={"spent_usd": 2.5}, ended_by="timeout")


def test_the_end_of_a_wait_says_all_that_its_last_snapshot_does() -> None:
    end = RunEnd.of(find("nyx"), OVER, Verdict.FAIL, began=1.0, ended=3.5)
    assert end.attributes() == {
        "runops.provider": "nyx",
        "runops.run_id": "r",
        "runops.outcome": "failed",
        "runops.verdict": "fail",
        "runops.ended_by": "timeout",
        "runops.waited_seconds": 2.5,
        "runops.spend": 2.5,
        "runops.spend_unit": "USD",
    }
    assert (end.began, end.ended, end.fails) == (1.0, 3.5, True)


@pytest.mark.parametrize("provider", ["nyx", "nexio"])
def test_what_a_snapshot_does_not_say_its_span_does_not_either(provider: str) -> None:
    open_run = RunSnapshot(ref=find(provider).ref("r"), state="running", phase=Phase.RUNNING)
    end = RunEnd.of(find(provider), open_run, None, began=1.0, ended=2.00049)
    assert end.attributes() == {
        "runops.provider": provider,
        "runops.run_id": "r",
        "runops.waited_seconds": 1.0,
    }
    assert not end.fails


def test_the_end_of_a_wait_by_an_error_says_which_and_no_outcome() -> None:
    end = RunEnd.unknown(REF, TimeoutError("secret"), began=1.0, ended=1.25)
    assert end.attributes() == {
        "runops.provider": "nyx",
        "runops.run_id": "r",
        "runops.waited_seconds": 0.25,
        "runops.error": "TimeoutError",
    }
    assert end.fails
    assert RunEnd.unknown(RunRef(provider="nyx", run_id=""), KeyError(), began=1.0, ended=2.0).run_id is None


@pytest.mark.parametrize(
    ("end", "status", "kind"),
    [
        ({"verdict": "fail", "outcome": "failed"}, "failed", "nyx run"),
        ({"error": "PollingError", "outcome": "failed"}, "PollingError", "nyx run"),
        ({"verdict": "skip", "outcome": "failed"}, None, "nyx run"),
        ({"run_id": None, "counts": {"runs": 2}}, None, "nyx runs"),
        ({"run_id": None}, None, "nyx run"),
        ({"counts": {"tries": 2}}, None, "nyx run"),
    ],
)
def test_a_span_is_named_by_what_it_is_of_and_fails_as_its_task_does(
    spans: Spans, end: dict[str, Any], status: str | None, kind: str
) -> None:
    record(RunEnd(**{"provider": "nyx", "run_id": "r", "began": 1.5, "ended": 4.0, **end}))
    span = spans.only()
    assert (span.name, span.kind, span.start_time, span.end_time) == (
        kind,
        SpanKind.CLIENT,
        1_500_000_000,
        4_000_000_000,
    )
    assert (span.status.is_ok, span.status.description) == (status is None, status)
    assert span.instrumentation_scope is not None
    assert (span.instrumentation_scope.name, span.instrumentation_scope.version) == ("runops", __version__)


def test_a_span_is_made_by_the_tracer_and_below_the_context_that_are_given(spans: Spans) -> None:
    tracer = spans.provider.get_tracer("theirs")
    with tracer.start_as_current_span("parent") as parent:
        context = set_span_in_context(parent)
    end = RunEnd(provider="nyx", run_id="r", began=1.0, ended=2.0)
    record(end, parent=context, tracer=tracer)
    record_set(
        find("nyx"),
        [Row(index=0, key="a", state=RowState.ENDED, run_id="a")],
        None,
        began=1.0,
        ended=2.0,
        parent=context,
        tracer=tracer,
    )
    for span in spans.of_runs():
        assert span.parent is not None
        assert span.parent.span_id == parent.get_span_context().span_id
        assert span.instrumentation_scope is not None
        assert span.instrumentation_scope.name == "theirs"
    assert len(spans.of_runs()) == 2


def test_the_spans_of_a_small_set_say_what_its_rows_do(spans: Spans) -> None:
    over = {"state": RowState.ENDED, "outcome": Outcome.TIMED_OUT, "verdict": Verdict.WARN, "ended_by": "timeout"}
    ledger = Ledger(
        [
            Row(index=0, key="a", run_id="a", submitted_at=2.0, spend=0.5, **over),
            Row(index=1, key="b", state=RowState.ENDED, error="AnswerLost"),
            Row(index=2, key="c", state=RowState.ENDED),
            Row(index=3, key="d", state=RowState.SUBMITTED, run_id="d"),
            Row(index=4, key="e", state=RowState.ENDED, run_id="e"),
        ]
    )
    record_set(find("nyx"), ledger, "warn", began=1.0, ended=5.0)
    assert [said(span) for span in spans.of_runs()] == [
        {
            "provider": "nyx", "run_id": "a", "outcome": "timed_out", "verdict": "warn", "ended_by": "timeout",
            "waited_seconds": 3.0, "spend": 0.5, "spend_unit": "USD",
        },
        {"provider": "nyx", "error": "AnswerLost", "waited_seconds": 4.0},
        {"provider": "nyx", "run_id": "e", "waited_seconds": 4.0},
    ]  # fmt: skip


@pytest.mark.parametrize(("spend", "error"), [(None, "AnswerLost"), (0.25, None)])
def test_the_one_span_of_a_large_set_counts_its_rows_that_are_over(
    spans: Spans, spend: float | None, error: str | None
) -> None:
    count = MOST_SPANS + 1
    ledger = [Row(index=n, key=str(n), state=RowState.ENDED, spend=spend, error=error) for n in range(count)]
    ledger.append(Row(index=count, key="open", state=RowState.SUBMITTED, run_id="open"))
    record_set(find("nyx"), ledger, None, began=1.0, ended=2.5)
    span = spans.only()
    assert said(span) == {
        "provider": "nyx",
        "waited_seconds": 1.5,
        **({"spend": 0.25 * count, "spend_unit": "USD"} if spend else {}),
        "runs": count,
        "runs_failed": 0,
        "runs_unknown": count if error else 0,
    }
    assert (span.start_time, span.end_time) == (1_000_000_000, 2_500_000_000)


UNITS = {
    "runops.polls": ("{reads}", "Sum"),
    "runops.waits": ("{waits}", "Sum"),
    "runops.errors": ("{waits}", "Sum"),
    "runops.turns": ("{submits}", "Sum"),
    "runops.adoptions": ("{runs}", "Sum"),
    "runops.orphans": ("{runs}", "Gauge"),
    "runops.detection_latency": ("s", "Histogram"),
    "runops.spend": ("1", "Sum"),
}


def test_each_number_is_sent_with_its_unit_as_the_kind_that_it_is(numbers: Numbers) -> None:
    for metric in METRICS:
        METER.emit(metric, 2.0, provider="nyx")
    data = numbers.reader.get_metrics_data()
    assert data is not None
    (scope,) = data.resource_metrics[0].scope_metrics
    assert (scope.scope.name, scope.scope.version) == ("runops", __version__)
    assert {each.name: (each.unit, type(each.data).__name__) for each in scope.metrics} == UNITS
    assert {each.name: each.description for each in scope.metrics} == {each.name: each.help for each in METRICS}
    for each in scope.metrics:
        (point,) = each.data.data_points
        assert point.attributes == {"provider": "nyx"}
        assert 2.0 in (getattr(point, "value", None), getattr(point, "sum", None))
