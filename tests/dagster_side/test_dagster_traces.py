"""One span for each external run of a step, a set or a completion sensor, and the list of metrics by OpenTelemetry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest

from runops.dagster import build_run_asset
from tests.open_telemetry import Numbers, Spans, numbers, said, spans
from tests.services import CALLS

__all__ = ["numbers", "spans"]

pytestmark = pytest.mark.usefixtures("clock")
ONE_RETRY = dg.RetryPolicy(max_retries=1)


def asset_of(provider: str = "nyx", **options: Any) -> dg.AssetsDefinition:
    return build_run_asset(key="external", resource_key=provider, call=CALLS[provider], **options)


@pytest.mark.parametrize(("script", "verdict"), [("succeeded", "succeed"), ("exhausted", "skip"), ("failed", "fail")])
def test_a_step_is_one_span_and_counts(
    service: Callable[[str], Any], spans: Spans, numbers: Numbers, script: str, verdict: str
) -> None:
    runs = service("nyx")
    runs.emulator.set_defaults("nyx", script=script, seconds=60)
    runs.materialize(asset_of())
    span = spans.only()
    (submitted,) = [run for run in runs.emulator.runs(provider="nyx") if run["submitted"]]
    told = said(span)
    assert (told["run_id"], told["verdict"], told["spend_unit"]) == (submitted["run_id"], verdict, "USD")
    assert span.status.is_ok is (verdict != "fail")
    assert list(numbers.of("runops.waits")) == [("nyx", told["outcome"], verdict)]
    assert numbers.of("runops.polls")[("nyx",)] >= 2
    assert numbers.of("runops.detection_latency") == {("nyx",): 1}
    assert numbers.of("runops.spend")[("nyx", "USD")] == told["spend"]


def test_a_run_that_a_retry_takes_up_again_is_one_span(
    service: Callable[[str], Any], spans: Spans, numbers: Numbers
) -> None:
    runs = service("nexio")
    runs.emulator.set_defaults("nexio", script="succeeded", seconds=300)
    runs.emulator.add_fault(provider="nexio", action="get", kind="status", status=500, count=12)
    ended = runs.materialize(asset_of("nexio", error_budget=60, retry_policy=ONE_RETRY))
    assert ended.materialized == ["external"]
    assert len(runs.emulator.requests(action="submit")) == 1
    assert (said(spans.only())["outcome"], said(spans.only())["verdict"]) == ("succeeded", "succeed")
    assert numbers.of("runops.errors") == {("nexio", "PollingError"): 1}


def test_an_error_of_the_last_try_is_a_span(service: Callable[[str], Any], spans: Spans) -> None:
    runs = service("nexio")
    runs.emulator.set_defaults("nexio", script="succeeded", seconds=3000)
    runs.emulator.add_fault(provider="nexio", action="get", kind="status", status=500, count=1000)
    runs.materialize(asset_of("nexio", error_budget=60))
    assert said(spans.only())["error"] == "PollingError"
    assert not spans.only().status.is_ok


def test_turns_are_counted(service: Callable[[str], Any], numbers: Numbers) -> None:
    runs = service("nyx")
    runs.made(script="succeeded", seconds=300, parents={"config_name": "nightly"})
    runs.materialize(asset_of())
    assert numbers.of("runops.turns") == {("nyx",): 1}


def test_a_lost_submit_is_counted_as_adopted(service: Callable[[str], Any], numbers: Numbers, spans: Spans) -> None:
    runs = service("nyx")
    runs.emulator.add_fault(provider="nyx", action="submit", kind="reset", when="after", count=1)
    runs.materialize(asset_of())
    assert numbers.of("runops.adoptions") == {("nyx",): 1}
    assert len(spans.of_runs()) == 1


def test_a_span_is_a_child_of_the_step_s_own_where_a_user_has_one(service: Callable[[str], Any], spans: Spans) -> None:
    from runops.dagster import wait_for_run

    runs = service("nexio")
    ids: list[int] = []

    @dg.op(required_resource_keys={"nexio"})
    def waits(context) -> None:
        with spans.provider.get_tracer("users").start_as_current_span("step") as step:
            ids.append(step.get_span_context().span_id)
            wait_for_run(context, context.resources.nexio, call=context.resources.nexio.call(**CALLS["nexio"]))

    @dg.job(resource_defs={"nexio": runs.resource})
    def waiting() -> None:
        waits()

    assert waiting.execute_in_process(instance=runs.instance).success
    parent = spans.only().parent
    assert parent is not None
    assert [parent.span_id] == ids


def test_nothing_is_traced_or_counted_without_a_provider(service: Callable[[str], Any]) -> None:
    runs = service("nexio")
    assert runs.materialize(asset_of("nexio")).materialized == ["external"]
