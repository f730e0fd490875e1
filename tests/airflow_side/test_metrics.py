"""What Airflow's metrics and OpenLineage are told of a wait."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from pytest_mock import MockerFixture

from runops.airflow import metrics


class Stats:
    """Airflow's metrics, written down."""

    def __init__(self) -> None:
        self.counted: list[tuple[str, dict[str, str]]] = []
        self.added: list[tuple[str, float, dict[str, str]]] = []
        self.timed: list[tuple[str, float, dict[str, str]]] = []
        self.shown: list[tuple[str, float, dict[str, str]]] = []

    def incr(self, name: str, count: float = 1, *, tags: dict[str, str]) -> None:
        self.counted.append((name, tags))
        self.added.append((name, count, tags))

    def gauge(self, name: str, value: float, *, tags: dict[str, str]) -> None:
        self.shown.append((name, value, tags))

    def timing(self, name: str, took: Any, *, tags: dict[str, str]) -> None:
        self.timed.append((name, took.total_seconds(), tags))

    def of(self, name: str) -> list[dict[str, str]]:
        return [tags for counted, tags in self.counted if counted == name]


@pytest.fixture
def stats(host: Any, mocker: MockerFixture) -> Stats:
    recorded = Stats()
    mocker.patch.object(metrics, "stats", return_value=recorded)
    return recorded


def test_a_wait_counts_its_looks_its_end_and_how_late_it_saw_that(
    host: Any, sensors: Any, mode: Any, stats: Stats
) -> None:
    ended = host.run(sensors["nexio"](task_id="w", **host.made("nexio", script="succeeded", seconds=100), **mode))
    assert ended.error is None
    assert len(stats.of("runops.polls")) >= 2
    assert stats.of("runops.waits") == [{"provider": "nexio", "outcome": "succeeded", "verdict": "succeed"}]
    assert stats.of("runops.errors") == []
    if mode.get("mode") != "reschedule":
        ((name, late, tags),) = stats.timed
        assert (name, tags) == ("runops.detection_latency", {"provider": "nexio"})
        assert 0 <= late <= 40


def test_a_run_that_was_over_before_tells_nothing_of_latency(host: Any, sensors: Any, mode: Any, stats: Stats) -> None:
    run = host.made("nyx", script="succeeded", seconds=1, age_seconds=5000)
    host.run(sensors["nyx"](task_id="w", **run, **mode))
    assert stats.timed == []
    assert len(stats.of("runops.waits")) == 1


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_wait_that_ends_in_an_error_is_counted_by_its_kind(
    host: Any, sensors: Any, connect: Any, stats: Stats, deferrable: bool
) -> None:
    connect("nexio_gone", "nexio", host="http://127.0.0.1:9")
    task = sensors["nexio"](
        task_id="w", run_id="a-run", nexio_conn_id="nexio_gone", error_budget=60, deferrable=deferrable
    )
    host.run(task)
    assert stats.of("runops.errors") == [{"provider": "nexio", "error": "PollingError"}]
    assert stats.of("runops.waits") == []


def test_airflows_own_metrics_take_what_is_sent() -> None:
    from runops.airflow._compat import stats

    stats().incr("runops.polls", tags={"provider": "nexio"})


def test_open_lineage_is_told_of_the_external_run(
    host: Any, sensors: Any, mode: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The package is not among the tests' own: what stands here is the shape of its documented names.
    extractors: Any = ModuleType("airflow.providers.openlineage.extractors")
    extractors.OperatorLineage = lambda **facets: SimpleNamespace(**facets)
    facet: Any = ModuleType("openlineage.client.facet_v2")
    facet.external_query_run = SimpleNamespace(ExternalQueryRunFacet=lambda **fields: fields)
    for module in (ModuleType("airflow.providers.openlineage"), extractors, ModuleType("openlineage")):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(sys.modules, "openlineage.client", ModuleType("openlineage.client"))
    monkeypatch.setitem(sys.modules, facet.__name__, facet)

    for script in ("succeeded", "failed"):
        run = host.made("nexio", script=script)
        task = sensors["nexio"](task_id="w", **run, **mode)
        assert task.get_openlineage_facets_on_complete(None) is None
        host.run(task)
        told = task.get_openlineage_facets_on_complete(None)
        assert told.run_facets == {"externalQuery": {"externalQueryId": run["run_id"], "source": "nexio"}}
