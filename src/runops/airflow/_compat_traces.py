"""What differs between the Airflow versions in how they trace tasks, and the private API that tracing needs.

As in _compat.py, each use of what is private says which public way is missing.
"""

from __future__ import annotations

import uuid
from importlib import import_module
from typing import Any

from airflow.sdk import get_current_context

from runops.airflow._compat import conf


def tracer_of_its_own(*, on_loop: bool) -> Any:
    """The tracer of Airflow 3.1, which keeps one of its own; None from 3.2 on, where it is that of the process, or off.

    :param on_loop: Whether spans are made on an event loop, where none may be sent at once.
    """
    try:
        # By name: no type checker finds it from 3.2 on.
        otel_tracer: Any = import_module("airflow.traces.otel_tracer")
        tracer: Any = import_module("airflow.traces.tracer")
    except ImportError:
        return None
    if not conf.getboolean("traces", "otel_on", fallback=False):
        return None
    made = otel_tracer.get_otel_tracer(tracer.Trace, use_simple_processor=not on_loop)
    return made.get_otel_tracer_provider().get_tracer("runops")


def task_trace(ti: Any) -> Any:
    """The span of a task, as the parent of others: it lasts over all that workers and triggerers do for it.

    Private: Airflow makes a worker's and a trigger's own span the current one, each of which ends with its process, and
    has no public way to the one above both.
    """
    carrier = getattr(ti, "context_carrier", None)
    if not carrier:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract(carrier)


def id_of_try(ti: Any = None) -> str | None:
    """The id of a try of a task, as the id of a trace: 32 hex digits, the same in the worker and in the triggerer.

    :param ti: The task instance; None for that of this worker. None is given where there is none.
    """
    try:
        instance: Any = get_current_context().get("ti") if ti is None else ti
        return uuid.UUID(str(getattr(instance, "id", None))).hex
    except (RuntimeError, ValueError):
        return None
