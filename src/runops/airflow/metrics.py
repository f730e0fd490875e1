"""Where the core's list of metrics goes in Airflow: to Airflow's own, which StatsD or OpenTelemetry take."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from runops.airflow._compat import stats
from runops.core.metrics import Meter, Metric


def send(metric: Metric, value: float, tags: Mapping[str, str]) -> None:
    """Send one value.

    :param metric: Of the core's list.
    :param value: What to add, to note (in seconds) or to show.
    :param tags: What it is told apart by.
    """
    if metric.kind == "counter":
        stats().incr(metric.name, value, tags=tags)
    elif metric.kind == "timer":
        stats().timing(metric.name, timedelta(seconds=value), tags=tags)
    else:
        stats().gauge(metric.name, value, tags=tags)


METER = Meter(send)
"""Who counts on Airflow: in workers, in the triggerer and in the loop beside a task."""
