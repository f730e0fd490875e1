"""A job that only submits, and the sensor that reports how its runs ended: no worker is held in between."""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, Unpack

import dagster as dg

from runops.core import ConfigurationError, RunRef
from runops.core.declaration import arguments
from runops.core.waiting.options import DEFAULT_TIMEOUT
from runops.dagster import _compat, verdicts
from runops.dagster.builders.arguments import SensorArguments, SubmitJobArguments, check_arguments
from runops.dagster.builders.plan import CallSource, Plan, Seconds, asset_key_of, caller_of, checked_resource_key
from runops.dagster.builders.shown import description_of_completion_sensor, description_of_submit_job, with_defaults
from runops.dagster.functions import FunctionFailed
from runops.dagster.options import RulesOfRuns, StepSubmitSettings, check_values
from runops.dagster.resource import resource_of
from runops.dagster.step.wait import submit_run
from runops.dagster.tick.cursor import Cursor
from runops.dagster.tick.plan import SensorPlan
from runops.dagster.tick.reader import default_tick_seconds
from runops.dagster.tick.tick import SensorTick

PENDING = "runops/pending"
"""A tag of the Dagster run: whether the end of the external run that it submitted is still to be reported."""
PENDING_RUN = "runops/pending_run"
PENDING_IN = "runops/pending_in"
"""The Dagster run that submitted it: a re-execution takes over the tags of its parent before it submits anything."""
SUBMITTED_AT = "runops/submitted_at"
ATTACHED = "runops/attached"
"""Whether the external run was active already, so that nobody here cancels it."""
MOST_PENDING = 1000
"""Runs that a tick may have in view; the oldest come first."""
_PARTITION = "dagster/partition"


def build_submit_job(
    *,
    name: str,
    resource_key: str,
    call: CallSource,
    required_resource_keys: set[str] | None = None,
    retry_policy: dg.RetryPolicy | None = None,
    pool: str | None = None,
    **more: Unpack[SubmitJobArguments],
) -> dg.JobDefinition:
    """A job that submits an external run and ends: how the run ends is reported by ``build_completion_sensor``.

    The run is submitted once, as a run asset does: a retry takes it up again, and so does a re-execution of any kind
    while it may be alive.

    Args:
        name: The job's name. It must not be the name of an asset.
        resource_key: The key of the runops resource.
        call: What to submit: the arguments of the resource's ``call``, or a function of the context.
        required_resource_keys: Further resources that a function of the context uses.
        retry_policy: The retry policy of the one step.
        pool: The pool of the one step.
        more: How the run is submitted once: all of :class:`runops.dagster.options.StepSubmitSettings`. And anything of
            ``dagster.job``: partitions_def, tags, description, resource_defs, ...

    Raises:
        ConfigurationError: An argument is wrong.
    """
    plan = Plan.of(
        build_submit_job,
        name,
        more,
        decorator=dg.job,
        decided=(),
        resource_key=resource_key,
        sources={"call": call},
        settings=StepSubmitSettings,
        choice="call= (to submit a run)",
    )

    @dg.op(
        name=f"{name}_submit",
        required_resource_keys={resource_key, *(required_resource_keys or ())},
        out=dg.Out(dagster_type=dict),
        retry_policy=retry_policy,
        pool=pool,
    )
    # Dagster reads the annotation of a context as it stands, and here it would stand as text.
    def submit(context) -> dict[str, Any]:
        try:
            resource = resource_of(context.resources, resource_key)
            submission = plan.submission(context, resource)
            ref = submit_run(context, resource, submission, keep=partial(_keep, context), **plan.settings)
        except (ConfigurationError, FunctionFailed) as error:
            raise verdicts.failure_of(error, plan.name) from error
        return ref.model_dump(mode="json")

    @dg.job(name=name, **with_defaults(plan.passed_on, {"description": description_of_submit_job(resource_key)}))
    def submit_job() -> None:
        submit()

    return submit_job


def build_completion_sensor(
    *,
    name: str,
    job: dg.JobDefinition | str,
    asset: dg.AssetKey | str | Sequence[str],
    resource_key: str,
    minimum_interval_seconds: int = 30,
    timeout: Seconds = DEFAULT_TIMEOUT,
    cancel_on_timeout: bool = True,
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.STOPPED,
    on_outcome: Mapping[str, str] | None = None,
    states: Mapping[str, str] | None = None,
    expect: Mapping[str, Any] | None = None,
    on_unmet: Literal["succeed", "warn", "skip", "fail"] = "fail",
    max_stalled: Seconds | None = None,
    max_spend: float | None = None,
    soft_fail: bool = False,
    tick_seconds: Seconds | None = None,
    **sensor_arguments: Unpack[SensorArguments],
) -> dg.SensorDefinition:
    """A sensor that reports to an asset how the runs ended that a job of ``build_submit_job`` has submitted.

    succeed materialises the asset, in the partition of the job's run; warn does too, with a failed check; skip and
    fail leave an observation and a failed check. ``AutomationCondition.eager()`` downstream acts on the former.

    Args:
        name: The sensor's name.
        job: The job, or its name.
        asset: The asset that the runs feed: an ``AssetSpec`` of the definitions.
        resource_key: The key of the runops resource.
        minimum_interval_seconds: The shortest time between two ticks.
        timeout: Seconds (or a timedelta) from the submit after which a run counts as timed out.
        cancel_on_timeout: Cancel it then.
        default_status: Whether the sensor runs unless somebody switches it.
        on_outcome: Outcome to verdict, such as ``{"degraded": "warn"}``.
        states: Words that no documentation has, and the phase or outcome that each means.
        expect: What a succeeded or degraded run must show in its details, such as ``{"findings_count": 0}``.
        on_unmet: The verdict on a run that does not.
        max_stalled: Seconds (or a timedelta) without any change of an open run after which it counts as timed out, and
            is cancelled as ``cancel_on_timeout`` says.
        max_spend: What an open run may spend, in its provider's unit, before it counts as timed out likewise.
        soft_fail: Report failed, cancelled and timed_out as a skip; an entry in ``on_outcome`` wins over it.
        tick_seconds: Seconds for a tick; by default 60 % of the time after which Dagster gives a tick up.
        sensor_arguments: Anything of ``dagster.sensor``: description, tags, metadata, owners, ...

    Raises:
        ConfigurationError: An argument is wrong.
    """
    caller = caller_of(build_completion_sensor, name)
    own = inspect.signature(build_completion_sensor).parameters
    check_arguments(caller, sensor_arguments, own, dg.sensor, decided=())
    rules = RulesOfRuns(states, expect, on_unmet, max_stalled, max_spend, soft_fail)
    own_values = {"timeout": timeout, "on_outcome": on_outcome, "tick_seconds": tick_seconds}
    check_values(caller, {**own_values, **rules.end, **rules.limits})
    wait_seconds = arguments.seconds("timeout", timeout)
    tick = arguments.optional_seconds("tick_seconds", tick_seconds) or default_tick_seconds()
    checked_resource_key(caller, resource_key)
    asset_key = asset_key_of(asset)
    job_name = job if isinstance(job, str) else job.name

    @dg.sensor(
        name=name,
        minimum_interval_seconds=minimum_interval_seconds,
        default_status=default_status,
        required_resource_keys={resource_key},
        **with_defaults(sensor_arguments, {"description": description_of_completion_sensor(job_name, asset_key)}),
    )
    # Whoever calls a sensor, as a unit test does, gives the function its resources by name; they are the context's.
    def completion_sensor(context: dg.SensorEvaluationContext, **resources: object) -> dg.SensorResult | dg.SkipReason:
        _compat.give_instance(context)
        pending = _pending(context, job_name, asset_key)
        if not pending:
            return dg.SkipReason("No run is pending.")
        plan = SensorPlan(
            resource_key=resource_key,
            targets={asset_key: [each.ref for each in pending]},
            seconds=tick,
            on_outcome=on_outcome,
            end=rules.end,
            limits=rules.limits,
            partition_key=_partitions(pending),
            own=True,
            deadlines={each.ref: each.submitted_at + wait_seconds for each in pending},
            attached=frozenset(each.ref for each in pending if each.attached),
            cancel_on_timeout=cancel_on_timeout,
            submitted_in={each.ref: each.dagster_run for each in pending},
        )
        return SensorTick(context, plan).result()

    return completion_sensor


class Pending(NamedTuple):
    """A run whose end is to be reported."""

    ref: RunRef
    submitted_at: float
    """Unix seconds."""
    partition: str | None
    attached: bool
    dagster_run: str
    """The id of the Dagster run that has submitted it."""


def _keep(context: _compat.StepContext, ref: RunRef, submitted_at: float, attached: bool) -> None:
    run = _compat.run_of(context)
    if run is not None:
        tags = {
            PENDING: "true",
            PENDING_RUN: ref.model_dump_json(),
            PENDING_IN: run.run_id,
            SUBMITTED_AT: f"{submitted_at:.3f}",
            ATTACHED: "true" if attached else "false",
        }
        _compat.tag_run(context.instance, run.run_id, tags)


def _pending(context: dg.SensorEvaluationContext, job_name: str, asset_key: dg.AssetKey) -> list[Pending]:
    """The runs whose end is to be reported. Those that an earlier tick has reported, and kept so, are marked."""
    memory = Cursor.parse(context.cursor).targets.get(asset_key.to_user_string())
    reported = memory.runs.done if memory else {}
    wanted = dg.RunsFilter(job_name=job_name, tags={PENDING: "true"})
    found: list[Pending] = []
    for record in context.instance.get_run_records(wanted, limit=MOST_PENDING, ascending=True):
        run = record.dagster_run
        if run.tags.get(PENDING_IN, run.run_id) != run.run_id:
            continue
        ref = RunRef.parse(json.loads(run.tags[PENDING_RUN]))
        if ref.run_id in reported:
            _compat.tag_run(context.instance, run.run_id, {PENDING: "false"})
        else:
            submitted_at = float(run.tags.get(SUBMITTED_AT) or time.time())
            attached = run.tags.get(ATTACHED) == "true"
            found.append(Pending(ref, submitted_at, run.tags.get(_PARTITION), attached, run.run_id))
    return found


def _partitions(pending: Sequence[Pending]) -> Callable[[Any], str | None]:
    by_run = {each.ref: each.partition for each in pending}
    return lambda snapshot: by_run.get(snapshot.ref)
