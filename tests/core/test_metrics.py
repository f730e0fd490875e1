"""What is counted of runs and waits: each value, its tags, and what is not counted."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from runops.core import Outcome, RunRef, RunSnapshot, find
from runops.core.metrics import METRICS, Meter, Metric
from runops.core.model.errors import ServerTrouble
from runops.core.model.run import Phase

NYX, NEXIO = find("nyx"), find("nexio")
REF = RunRef(provider="nyx", run_id="r_1")
NOW = 1_800_000_000.0
Told = tuple[str, float, dict[str, str]]


@pytest.fixture
def told() -> list[Told]:
    return []


@pytest.fixture
def meter(told: list[Told]) -> Meter:
    def sink(metric: Metric, value: float, tags: Mapping[str, str]) -> None:
        assert set(tags) == set(metric.tags)
        told.append((metric.name.removeprefix("runops."), value, dict(tags)))

    return Meter(sink)


def over(outcome: Outcome = Outcome.SUCCEEDED, **about: Any) -> RunSnapshot:
    return RunSnapshot(ref=REF, state="x", outcome=outcome, **about)


def going_on() -> RunSnapshot:
    return RunSnapshot(ref=REF, state="running", phase=Phase.RUNNING)


def test_the_list_of_numbers_is_what_dashboards_are_made_of() -> None:
    assert [(each.name, each.kind, each.unit, each.tags) for each in METRICS] == [
        ("runops.polls", "counter", "reads", ("provider",)),
        ("runops.waits", "counter", "waits", ("provider", "outcome", "verdict")),
        ("runops.errors", "counter", "waits", ("provider", "error")),
        ("runops.turns", "counter", "submits", ("provider",)),
        ("runops.adoptions", "counter", "runs", ("provider",)),
        ("runops.orphans", "gauge", "runs", ("provider",)),
        ("runops.detection_latency", "timer", "seconds", ("provider",)),
        ("runops.spend", "counter", "tag", ("provider", "unit")),
    ]


@pytest.mark.parametrize(
    ("details", "ended_by", "spent"),
    [
        ({"spent_usd": 2.5}, None, [2.5]),
        ({"spent_usd": 0}, None, []),
        ({}, None, []),
        ({"spent_usd": 2.5}, "timeout", []),
    ],
)
def test_a_wait_that_ended_is_counted_and_what_its_run_has_spent_once_that_is_over(
    meter: Meter, told: list[Told], details: dict[str, Any], ended_by: Any, spent: list[float]
) -> None:
    outcome = Outcome.TIMED_OUT if ended_by else Outcome.SUCCEEDED
    meter.ended(NYX, over(outcome, details=details, ended_by=ended_by), "succeed")
    counted = {"provider": "nyx", "outcome": str(outcome), "verdict": "succeed"}
    assert told == [
        ("waits", 1, counted),
        *(("spend", value, {"provider": "nyx", "unit": "USD"}) for value in spent),
    ]


def test_where_nobody_decides_the_verdict_is_none(meter: Meter, told: list[Told]) -> None:
    meter.ended(NEXIO, over(), None)
    assert told == [("waits", 1, {"provider": "nyx", "outcome": "succeeded", "verdict": "None"})]


@dataclass
class Row:
    is_over: bool = True
    may_be_alive: bool = False
    outcome: str | None = None
    verdict: str | None = None
    error: str | None = None
    spend: float | None = None


def test_a_set_is_counted_by_its_kinds_of_end(meter: Meter, told: list[Told]) -> None:
    rows = [
        Row(outcome="succeeded", verdict="succeed", spend=1.0),
        Row(outcome="succeeded", verdict="succeed", spend=2.0),
        Row(outcome="failed", verdict="fail"),
        Row(outcome="timed_out", verdict="fail", spend=8.0, may_be_alive=True),
        Row(error="PollingError"),
        Row(),
        Row(is_over=False, outcome="succeeded", spend=16.0),
    ]
    meter.set_ended(NYX, rows)
    assert told == [
        ("waits", 2, {"provider": "nyx", "outcome": "succeeded", "verdict": "succeed"}),
        ("waits", 1, {"provider": "nyx", "outcome": "failed", "verdict": "fail"}),
        ("waits", 1, {"provider": "nyx", "outcome": "timed_out", "verdict": "fail"}),
        ("errors", 1, {"provider": "nyx", "error": "PollingError"}),
        ("spend", 3.0, {"provider": "nyx", "unit": "USD"}),
    ]
    told.clear()
    meter.set_ended(NEXIO, [Row(outcome="succeeded", verdict="succeed", spend=1.0)])
    assert [name for name, _, _ in told] == ["waits"]
    told.clear()
    meter.set_ended(NYX, [Row(outcome="failed", verdict="fail", spend=0.0)])
    assert [name for name, _, _ in told] == ["waits"]


def test_single_events_are_counted_one_by_one(meter: Meter, told: list[Told]) -> None:
    meter.erred("nyx", ServerTrouble("down"))
    meter.turn("onepin")
    meter.adopted("b3os")
    assert told == [
        ("errors", 1, {"provider": "nyx", "error": "ServerTrouble"}),
        ("turns", 1, {"provider": "onepin"}),
        ("adoptions", 1, {"provider": "b3os"}),
    ]


def test_what_has_nothing_left_behind_is_told_too(meter: Meter, told: list[Told]) -> None:
    meter.orphans(["nyx", "b3os"], ["nyx", "nekt", "nyx"])
    assert told == [
        ("orphans", 0, {"provider": "b3os"}),
        ("orphans", 1, {"provider": "nekt"}),
        ("orphans", 2, {"provider": "nyx"}),
    ]


def test_reads_are_counted_and_how_late_an_end_was_seen(meter: Meter, told: list[Told]) -> None:
    heard: list[RunSnapshot] = []
    reads = meter.reads(heard.append, lambda: NOW)
    end = over(finished_at=datetime.fromtimestamp(NOW - 4.5, UTC))
    for snapshot in (going_on(), end, over(Outcome.TIMED_OUT, ended_by="timeout")):
        reads(snapshot)
    assert told == [
        ("polls", 1, {"provider": "nyx"}),
        ("polls", 1, {"provider": "nyx"}),
        ("detection_latency", 4.5, {"provider": "nyx"}),
    ]
    assert len(heard) == 3


@pytest.mark.parametrize(
    ("before", "finished", "late"),
    [(True, NOW + 60, [0.0]), (True, None, []), (False, NOW - 5, []), (True, NOW - 5, [5.0])],
)
def test_an_end_is_late_only_where_the_run_was_seen_open_and_tells_its_time(
    meter: Meter, told: list[Told], before: bool, finished: float | None, late: list[float]
) -> None:
    reads = meter.reads(None, lambda: NOW)
    if before:
        reads(going_on())
    reads(over(finished_at=None if finished is None else datetime.fromtimestamp(finished, UTC)))
    assert [value for name, value, _ in told if name == "detection_latency"] == late


def test_a_sink_that_fails_harms_no_wait(caplog: pytest.LogCaptureFixture) -> None:
    def sink(metric: Metric, value: float, tags: Mapping[str, str]) -> None:
        raise ZeroDivisionError

    with caplog.at_level(logging.DEBUG, "runops"):
        Meter(sink).turn("nyx")
    (record,) = caplog.records
    assert record.getMessage() == "The metric runops.turns could not be sent."
    assert record.exc_info is not None
