"""What a DAG author may pass by name, for editors and type checkers, and the check of it when a DAG is built.

Airflow's own arguments are listed too: without them an editor could not tell ``poke_intervall`` from one of them. They
are those of the newest Airflow that is supported; an older one refuses what it does not know.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, Required, Self, TypeAlias, TypedDict

from airflow.sdk import BaseOperator, XComArg

from runops.core import ConfigurationError, Provider, RunInPhase
from runops.core.declaration.registry import nearest
from runops.core.many.rules import ManySettings, Require
from runops.core.model.codes import Code
from runops.core.waiting.options import Seconds, SubmitSettings, WaitSettings

if TYPE_CHECKING:
    from airflow.sdk import DAG, Context, TaskGroup

    Callbacks = Callable[[Context], None] | list[Callable[[Context], None]] | None
    PhaseCallback = Callable[[Context, RunInPhase], object]


OnPhase: TypeAlias = "Mapping[str, PhaseCallback | Sequence[PhaseCallback]]"
"""Whom a task calls when its run enters a phase: phase to a function of the context and the run, or to a list."""


RunIds: TypeAlias = Sequence[str] | XComArg
"""A list of run ids, a template that gives one as JSON, or another task's output that is one."""


Calls: TypeAlias = Sequence[Mapping[str, Any]] | XComArg
"""A list of the arguments of submits, a template that gives one as JSON, or another task's output that is one."""


class TaskArguments(TypedDict, total=False):
    """What Airflow's ``BaseOperator`` takes."""

    task_id: Required[str]
    allow_nested_operators: bool
    dag: DAG | None
    default_args: dict[str, Any] | None
    depends_on_past: bool
    do_xcom_push: bool
    doc: str | None
    doc_json: str | None
    doc_md: str | None
    doc_rst: str | None
    doc_yaml: str | None
    email: str | Sequence[str] | None
    email_on_failure: bool
    email_on_retry: bool
    end_date: datetime | None
    execution_timeout: timedelta | None
    executor: str | None
    executor_config: dict[str, Any] | None
    ignore_first_depends_on_past: bool
    inlets: Any
    logger_name: str | None
    map_index_template: str | None
    max_active_tis_per_dag: int | None
    max_active_tis_per_dagrun: int | None
    max_retry_delay: Seconds | None
    multiple_outputs: bool
    on_execute_callback: Callbacks
    on_failure_callback: Callbacks
    on_retry_callback: Callbacks
    on_skipped_callback: Callbacks
    on_success_callback: Callbacks
    outlets: Any
    owner: str
    params: MutableMapping[str, Any] | None
    pool: str | None
    pool_slots: int
    post_execute: Callable[[Context, Any], None] | None
    pre_execute: Callable[[Context], None] | None
    priority_weight: int
    queue: str
    render_template_as_native_obj: bool | None
    resources: dict[str, Any] | None
    retries: int | None
    retry_delay: Seconds
    retry_exponential_backoff: float
    retry_policy: Any
    run_as_user: str | None
    sla: timedelta | None
    start_date: datetime | None
    task_display_name: str | None
    task_group: TaskGroup | None
    trigger_rule: str
    wait_for_downstream: bool
    wait_for_past_depends_before_skipping: bool
    weight_rule: Any


class SensorArguments(TaskArguments, total=False):
    """What Airflow's ``BaseSensorOperator`` takes, but for ``poke_interval``, which ours reads itself."""

    exponential_backoff: bool
    """Double the time between two reads each time, up to ``max_wait``. Default: False."""
    max_wait: Seconds | None
    """The longest time between two reads under ``exponential_backoff``. Default: an hour."""
    mode: Literal["poke", "reschedule"]
    """How to wait where the sensor is not deferrable: on a worker, or on one only for each look. Default: poke."""
    never_fail: bool
    """Turn every failure into a skip, a wrong key too; not together with ``soft_fail``. Default: False."""
    silent_fail: bool
    """Let reads fail until ``timeout``, whatever ``error_budget`` says. It hides no final error. Default: False."""
    soft_fail: bool
    """Turn failed, cancelled and timed_out into a skip; an entry in ``on_outcome`` wins over it. Default: False."""
    timeout: Seconds | None
    """The whole wait, from the first try. Default: Airflow's ``sensors.default_timeout``, which is a week."""


class EndSettings(TypedDict, total=False):
    """What every task may say of a good end; see :class:`~runops.airflow.sensor.RunSensor`."""

    expect: Mapping[str, Any] | None
    max_paused: Seconds | None
    max_spend: float | None
    max_stalled: Seconds | None
    on_outcome: Mapping[str, str] | None
    on_unmet: Literal["succeed", "warn", "skip", "fail"]
    states: Mapping[str, str] | None


class SensorSettings(SensorArguments, EndSettings, total=False):
    """What every sensor takes beside the run; see :class:`~runops.airflow.sensor.RunSensor`."""

    auth_grace: Seconds
    deferrable: bool
    error_budget: Seconds
    poke_interval: Seconds | None


class AnySensorSettings(SensorSettings, total=False):
    """What the base of all sensors takes."""

    conn_id: str | None
    provider: Required[str]


class OneRunSettings(SensorSettings, total=False):
    """What every sensor of one run takes beside it."""

    end_from_trigger: bool
    on_phase: OnPhase | None


class RunSensorSettings(OneRunSettings, total=False):
    """What a sensor of a given run takes beside it."""

    start_from_trigger: bool


class SetSensorSettings(SensorSettings, total=False):
    """What a sensor of many runs takes beside them; see :class:`~runops.airflow.runs_sensor.RunsSensor`."""

    require: Require
    start_from_trigger: bool
    stop_early: bool


class DiscoverySettings(OneRunSettings, total=False):
    """What a sensor that finds its run takes beside the parent."""

    since: datetime | timedelta | str | None
    which: Literal["latest", "next"]


class SubmittingSettings(TaskArguments, WaitSettings, SubmitSettings, EndSettings, total=False):
    """What every operator takes beside its submits; see :class:`~runops.airflow.operator.RunOperator`."""

    cancel_on_failure: bool
    cancel_on_kill: bool
    cancel_on_timeout: bool
    deferrable: bool
    durable: bool
    mark_runs: bool | None
    on_clear: Literal["submit", "reattach"]
    soft_fail: bool


class OperatorSettings(SubmittingSettings, total=False):
    """What every operator of one run takes beside its submit."""

    end_from_trigger: bool
    on_phase: OnPhase | None
    wait: bool


class RunsOperatorSettings(SubmittingSettings, ManySettings, total=False):
    """What every operator of many runs takes beside its calls; see
    :class:`~runops.airflow.runs_operator.RunsOperator`.
    """


class HookSettings(TypedDict, total=False):
    """What every hook takes beside its connection."""

    logger_name: str | None
    states: Mapping[str, str] | None
    trace_id: str | None


class NoSettings(TypedDict):
    """Nothing."""


GENERIC = frozenset({"provider", "conn_id", "arguments", "calls", "parent", "parents", "retry_of"})
"""What the generic classes take, and a named one says for itself."""


_OF_ONE_RUN: Mapping[str, str] = {
    "on_phase": " Phases belong to one run, and a task of many would call once for each of thousands: give on_phase to "
    "a sensor of one run, and map it over the ids (.expand(run_id=...)).",
}
"""What only tasks of one run take, and why, as the rest of a message."""


@cache
def names_of(kind: type) -> frozenset[str]:
    """The names that a class takes: those of its ``__init__``, and of each that it passes further ones on to."""
    taken: set[str] = set()
    for each in reversed(kind.__mro__):
        if "__init__" in vars(each):
            parameters = inspect.signature(each.__init__).parameters.values()
            own = {one.name for one in parameters if one.kind in (one.KEYWORD_ONLY, one.POSITIONAL_OR_KEYWORD)}
            taken = (taken - GENERIC if _is_named(each) else taken) | own - {"self"}
    return frozenset(taken)


def check_names(kind: type, given: Iterable[str]) -> None:
    """Refuse names that a public class does not take.

    :param kind: The class.
    :param given: The names.
    :raises ConfigurationError: Names the class, and the nearest right name.
    """
    known = names_of(kind)
    for name in given:
        # Airflow passes arguments of its own to the tasks that it makes from mapped ones.
        if name not in known and not name.startswith("_"):
            why = _OF_ONE_RUN.get(name) or nearest(name, sorted(known))
            raise ConfigurationError(f"{kind.__name__} takes no argument {name!r}.{why}", error_code=Code.UNKNOWN_NAME)


def check_submit(kind: type, service: Provider, given: Iterable[str]) -> None:
    """Refuse what no template mends: a submit's argument that Airflow takes for its own, or one that it lacks.

    :param kind: The generic operator.
    :param service: The provider; one that takes submits.
    :param given: What is given.
    :raises ConfigurationError: Names the argument.
    """
    takes = service.submit.arguments if service.submit else ()
    clash = sorted(set(takes) & _names_taken_by(kind))
    if clash:
        raise ConfigurationError(
            f"A submit to {service.title} takes {clash[0]!r}, which is an argument of Airflow's operators or of "
            "RunOperator too: it would go there without a word. Give it another name in the provider's declaration.",
            error_code=Code.NAME_CLASH,
        )
    unknown = [name for name in given if name not in takes]
    if unknown:
        raise ConfigurationError(
            f"arguments={unknown[0]!r} is none that a submit to {service.title} takes: {', '.join(takes)}."
            f"{nearest(unknown[0], takes)}",
            error_code=Code.UNKNOWN_NAME,
        )


@cache
def _names_taken_by(kind: type) -> frozenset[str]:
    """What Airflow and the operator take by name, which a submit's argument cannot be called."""
    named = {*inspect.signature(BaseOperator.__init__).parameters, *names_of(kind)}
    return frozenset(named) - {"self", "args", "kwargs"} | {"context", "task"}


class NamesChecked:
    """Refuses a wrong name before anything else, such as a right name that is missing for it."""

    if not TYPE_CHECKING:  # the signature is that of __init__

        def __new__(cls, *positional: Any, **named: Any) -> Self:
            """Refuse a name that the class does not take."""
            # A class of somebody else's may take out of **kwargs what nothing declares.
            if cls.__module__.startswith("runops."):
                check_names(cls, named)
            return super().__new__(cls)


def _is_named(kind: type) -> bool:
    return kind.__module__.startswith("runops.airflow.providers.")
