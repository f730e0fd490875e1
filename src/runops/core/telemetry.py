"""OpenTelemetry, where the process has set it up: one span for each external run, the list of metrics, the trace's id.

Its API is used and never imported on our own account: who has set up a provider has imported it. The one exception is
a process whose provider the environment names, which the API sets up at its first use. So nothing of it is loaded
where nobody wants it, and without the package nothing changes. No error of it reaches a wait.

A span is made when the wait is over, with the moment of its begin as its start: there is nothing to keep over a
deferral, a crash or a move to another process. It bears no payload, no reason and no address: what a service says in
free words stays out. The id that goes along with requests stands in transport/trace_id.py.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from runops import __version__
from runops.core.metrics import Meter, Metric
from runops.core.model.policy import Verdict
from runops.core.model.run import RunRef, RunSnapshot

if TYPE_CHECKING:
    from runops.core.declaration import Provider
    from runops.core.many.rows import Row

logger = logging.getLogger("runops")

MOST_SPANS = 100
"""A larger set has one span for all of it."""
_NAME = "runops"
_NANO = 1_000_000_000
_NAMED_BY = {"trace": "OTEL_PYTHON_TRACER_PROVIDER", "metrics": "OTEL_PYTHON_METER_PROVIDER"}
"""The variables by which the environment names a provider."""


def _api(part: str) -> Any:
    """The API's module for traces or for metrics; None where this process cannot have a provider."""
    name = f"opentelemetry.{part}"
    found = sys.modules.get(name)
    if found is None and os.environ.get(_NAMED_BY[part]):
        try:
            found = import_module(name)
        except ImportError:
            return None
    return found


# --- traces ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnd:
    """How the wait for a run, or for a set of runs, ended: what its span says.

    Args:
        provider: The service's name.
        run_id: The run; None for a set.
        began: When the wait began, in unix seconds.
        ended: When it was over, in unix seconds.
        outcome: How it ended.
        verdict: What was decided about that.
        ended_by: Which clock or limit ended the wait.
        spend: What the run has spent.
        unit: In which unit.
        error: The name of the error that ended it.
        counts: Further numbers, by name.
    """

    provider: str
    run_id: str | None
    began: float
    ended: float
    outcome: str | None = None
    verdict: str | None = None
    ended_by: str | None = None
    spend: float | None = None
    unit: str | None = None
    error: str | None = None
    counts: Mapping[str, int] | None = None

    @classmethod
    def of(cls, provider: Provider, last: RunSnapshot, verdict: str | None, *, began: float, ended: float) -> RunEnd:
        """The end of the wait for one run, from its last snapshot."""
        spent = provider.spend.of(last.details) if provider.spend else None
        return cls(
            provider=last.ref.provider,
            run_id=last.ref.run_id,
            began=began,
            ended=ended,
            outcome=None if last.outcome is None else str(last.outcome),
            verdict=None if verdict is None else str(verdict),
            ended_by=last.ended_by,
            spend=spent,
            unit=provider.spend.unit if provider.spend and spent is not None else None,
        )

    @classmethod
    def unknown(cls, ref: RunRef, error: BaseException, *, began: float, ended: float) -> RunEnd:
        """The end of a wait by an error: how the run ended is not known."""
        name = type(error).__name__
        return cls(provider=ref.provider, run_id=ref.run_id or None, began=began, ended=ended, error=name)

    @property
    def fails(self) -> bool:
        """Whether its span is an error's."""
        return self.error is not None or self.verdict == Verdict.FAIL

    def attributes(self) -> dict[str, str | int | float]:
        """What its span bears."""
        found: dict[str, str | int | float | None] = {
            "runops.provider": self.provider,
            "runops.run_id": self.run_id,
            "runops.outcome": self.outcome,
            "runops.verdict": self.verdict,
            "runops.ended_by": self.ended_by,
            "runops.waited_seconds": round(max(self.ended - self.began, 0.0), 3),
            "runops.spend": self.spend,
            "runops.spend_unit": self.unit,
            "runops.error": self.error,
            **{f"runops.{name}": count for name, count in (self.counts or {}).items()},
        }
        return {name: value for name, value in found.items() if value is not None}


def record(end: RunEnd, *, parent: Any = None, tracer: Any = None) -> None:
    """Make the span of a run that is not waited for any more. It never raises.

    Args:
        end: How the wait ended.
        parent: The context of OpenTelemetry that it belongs to; None for the current one.
        tracer: Who makes it; None for that of the process.
    """
    api = _api("trace")
    if api is None:
        return
    try:
        maker = tracer or api.get_tracer(_NAME, __version__)
        what = "runs" if end.run_id is None and end.counts else "run"
        began = int(min(end.began, end.ended) * _NANO)
        span = maker.start_span(f"{end.provider} {what}", context=parent, start_time=began, kind=api.SpanKind.CLIENT)
        if span.is_recording():
            span.set_attributes(end.attributes())
            if end.fails:
                span.set_status(api.Status(api.StatusCode.ERROR, end.error or end.outcome))
        span.end(int(end.ended * _NANO))
    except Exception:
        logger.debug("The span of a %s run could not be made.", end.provider, exc_info=True)


def record_set(
    provider: Provider,
    rows: Iterable[Row],
    verdict: str | None,
    *,
    began: float,
    ended: float,
    parent: Any = None,
    tracer: Any = None,
) -> None:
    """Make the spans of a set of runs whose wait is over: one each, or one for all where there are many.

    Args:
        provider: The service.
        rows: Those of this try.
        verdict: What was decided about the whole.
        began: When the wait for the whole began, in unix seconds.
        ended: When it was over, in unix seconds.
        parent: As :func:`record` takes it.
        tracer: As :func:`record` takes it.
    """
    if tracer is None and not is_on():
        return
    over = [row for row in rows if row.is_over]
    unit = provider.spend.unit if provider.spend else None
    if len(over) > MOST_SPANS:
        counts = {"runs": len(over), "runs_failed": sum(row.verdict is Verdict.FAIL for row in over)}
        counts["runs_unknown"] = sum(row.error is not None for row in over)
        spent = [row.spend for row in over if row.spend is not None]
        ends = [
            RunEnd(
                provider=provider.name,
                run_id=None,
                began=began,
                ended=ended,
                verdict=None if verdict is None else str(verdict),
                spend=sum(spent) if spent else None,
                unit=unit if spent else None,
                counts=counts,
            )
        ]
    else:
        ends = [
            RunEnd(
                provider=provider.name,
                run_id=row.run_id,
                began=row.submitted_at or began,
                ended=ended,
                outcome=None if row.outcome is None else str(row.outcome),
                verdict=None if row.verdict is None else str(row.verdict),
                ended_by=row.ended_by,
                spend=row.spend,
                unit=None if row.spend is None else unit,
                error=row.error,
            )
            for row in over
            if row.run_id is not None or row.error is not None
        ]
    for end in ends:
        record(end, parent=parent, tracer=tracer)


def is_on() -> bool:
    """Whether this process has a provider of traces, as far as can be told without loading one."""
    api = _api("trace")
    return api is not None and not isinstance(api.get_tracer_provider(), api.ProxyTracerProvider)


# --- metrics -----------------------------------------------------------------------------------------------------


class OpenTelemetrySink:
    """Sends the list by OpenTelemetry, where this process has set it up by then; drops it otherwise."""

    def __call__(self, metric: Metric, value: float, tags: Mapping[str, str]) -> None:
        """Take one value."""
        api = _api("metrics")
        if api is None:
            return
        instrument = _instrument(api, metric)
        if metric.kind == "counter":
            instrument.add(value, dict(tags))
        elif metric.kind == "timer":
            instrument.record(value, dict(tags))
        else:
            instrument.set(value, dict(tags))


@cache
def _instrument(api: Any, metric: Metric) -> Any:
    """The instrument of a metric; the API lets one that was made early find the provider that is set later."""
    meter = api.get_meter(_NAME, __version__)
    make = {"counter": meter.create_counter, "timer": meter.create_histogram, "gauge": meter.create_gauge}
    unit = "s" if metric.unit == "seconds" else "1" if metric.unit == "tag" else f"{{{metric.unit}}}"
    return make[metric.kind](metric.name, unit=unit, description=metric.help)


METER = Meter(OpenTelemetrySink())
"""Who counts where no host says otherwise."""


def now() -> float:
    """The present, in unix seconds: a span's own time, whatever clock a wait is given."""
    return time.time()
