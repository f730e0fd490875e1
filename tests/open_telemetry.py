"""OpenTelemetry in this process: what is traced and counted is kept in memory. A provider is set for one test only."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.metrics import _internal as metrics_internal
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from runops.core import telemetry


class Spans:
    """The spans that this process has made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        # The API lets a process set its provider once.
        monkeypatch.setattr(trace, "_TRACER_PROVIDER", self.provider)

    def of_runs(self) -> list[ReadableSpan]:
        """Those of external runs, and of sets of them."""
        return [span for span in self.exporter.get_finished_spans() if span.name.endswith((" run", " runs"))]

    def only(self) -> ReadableSpan:
        """The one that there is."""
        (span,) = self.of_runs()
        return span


class Numbers:
    """The metrics that this process has sent."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reader = InMemoryMetricReader()
        provider = MeterProvider(metric_readers=[self.reader])
        monkeypatch.setattr(metrics_internal, "_METER_PROVIDER", provider)
        telemetry._instrument.cache_clear()
        assert metrics.get_meter_provider() is provider

    def of(self, name: str) -> dict[tuple[str, ...], Any]:
        """The values of one metric: sums and gauges by the values of their tags, and how many times one was noted."""
        data = self.reader.get_metrics_data()
        found: dict[tuple[str, ...], Any] = {}
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.name == name:
                        for point in metric.data.data_points:
                            value = getattr(point, "value", None)
                            found[tuple(map(str, (point.attributes or {}).values()))] = (
                                getattr(point, "count", None) if value is None else value
                            )
        return found


def said(span: ReadableSpan) -> dict[str, Any]:
    """What a span bears, without the prefix of its names."""
    return {name.removeprefix("runops."): value for name, value in (span.attributes or {}).items()}


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Spans:
    """A process that traces."""
    return Spans(monkeypatch)


@pytest.fixture
def numbers(monkeypatch: pytest.MonkeyPatch) -> Numbers:
    """A process that counts by OpenTelemetry."""
    return Numbers(monkeypatch)
