"""Sensors that report external runs which Dagster did not start. What a tick of one does is in tick/."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Unpack

import dagster as dg

from runops.core import ConfigurationError, RunRef, RunSnapshot
from runops.core.declaration import arguments, check_id
from runops.dagster import _compat
from runops.dagster.builders.arguments import SensorArguments, check_arguments
from runops.dagster.builders.plan import Seconds, asset_key_of, caller_of, check_parent, checked_resource_key
from runops.dagster.builders.shown import description_of_sensor, with_defaults
from runops.dagster.options import RulesOfRuns, check_values
from runops.dagster.tick.plan import SensorPlan, Watched
from runops.dagster.tick.reader import default_tick_seconds
from runops.dagster.tick.tick import SensorTick

DEFAULT_LOOKBACK = 86_400.0
"""Seconds that the first tick looks back."""


def build_run_sensor(
    *,
    name: str,
    resource_key: str,
    targets: Mapping[Any, Watched],
    minimum_interval_seconds: int = 30,
    lookback: Seconds = DEFAULT_LOOKBACK,
    request_job: Any = None,
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.STOPPED,
    on_outcome: Mapping[str, str] | None = None,
    states: Mapping[str, str] | None = None,
    expect: Mapping[str, Any] | None = None,
    on_unmet: Literal["succeed", "warn", "skip", "fail"] = "fail",
    max_stalled: Seconds | None = None,
    max_spend: float | None = None,
    soft_fail: bool = False,
    partition_key: Callable[[RunSnapshot], str] | None = None,
    dynamic_partitions: dg.DynamicPartitionsDefinition | None = None,
    run_config: Callable[[RunSnapshot], Mapping[str, Any]] | None = None,
    tick_seconds: Seconds | None = None,
    required_resource_keys: set[str] | None = None,
    **sensor_arguments: Unpack[SensorArguments],
) -> dg.SensorDefinition:
    """A sensor that reports each run of its targets once it is over, except those that Dagster itself submitted.

    succeed materialises the target's asset; warn does too, with a failed check; skip and fail leave an observation
    and a failed check, of severity WARN or ERROR. The check is named ``runops_outcome``; Dagster shows it once
    something defines it for the asset, as ``build_run_check`` does. With ``request_job``, succeed and warn request a
    run of it instead, and nothing else is reported.

    No run is lost and none is reported twice, over failed and repeated ticks, restarts of the daemon and clocks that
    disagree. If more runs came than the service lists, an observation and the tick's log show it.

    Args:
        name: The sensor's name.
        resource_key: The key of the runops resource.
        targets: Asset key to what is watched for it: a parent, whose runs are all reported, or a reference to a run
            (or several) from ``resource.ref(...)``. Keys in text are split at their slashes.
        minimum_interval_seconds: The shortest time between two ticks.
        lookback: Seconds (or a timedelta): the first tick reports what ended since then.
        request_job: A job, or the name of one, to run for each run instead of reporting it to an asset.
        default_status: Whether the sensor runs unless somebody switches it.
        on_outcome: Outcome to verdict, such as ``{"degraded": "warn"}``.
        states: Words that no documentation has, and the phase or outcome that each means.
        expect: What a succeeded or degraded run must show in its details, such as ``{"findings_count": 0}``.
        on_unmet: The verdict on a run that does not.
        max_stalled: Seconds (or a timedelta) without any change of an open run after which it counts as timed out. That
            is reported once, and cancels nothing.
        max_spend: What an open run may spend, in its provider's unit, before it counts as timed out likewise.
        soft_fail: Report failed, cancelled and timed_out as a skip; an entry in ``on_outcome`` wins over it.
        partition_key: A function of the snapshot that gives the partition it belongs to.
        dynamic_partitions: Where the partitions are dynamic: new ones are added. Without ``partition_key`` each
            run is a partition, named by its id.
        run_config: With ``request_job``, a function of the snapshot that gives the run's configuration.
        tick_seconds: Seconds for a tick; by default 60 % of the time after which Dagster gives a tick up. Targets
            that it does not get round to come first in the next.
        required_resource_keys: Further resources that the functions use.
        sensor_arguments: Anything of ``dagster.sensor``: description, tags, metadata, owners, ...

    Raises:
        ConfigurationError: An argument is wrong.
    """
    caller = caller_of(build_run_sensor, name)
    own = inspect.signature(build_run_sensor).parameters
    check_arguments(caller, sensor_arguments, own, dg.sensor, decided=("job", "job_name"))
    rules = RulesOfRuns(states, expect, on_unmet, max_stalled, max_spend, soft_fail)
    own_values = {"lookback": lookback, "on_outcome": on_outcome, "tick_seconds": tick_seconds}
    check_values(caller, {**own_values, **rules.end, **rules.limits})
    if run_config is not None and request_job is None:
        raise ConfigurationError(f"{caller}: run_config belongs to request_job=.")
    if dynamic_partitions is not None and dynamic_partitions.name is None:
        raise ConfigurationError(f"{caller}: dynamic_partitions needs a name.")
    plan = SensorPlan(
        resource_key=checked_resource_key(caller, resource_key),
        targets=_checked_targets(caller, targets),
        seconds=arguments.optional_seconds("tick_seconds", tick_seconds) or default_tick_seconds(),
        lookback=arguments.seconds("lookback", lookback),
        on_outcome=on_outcome,
        end=rules.end,
        limits=rules.limits,
        requests=request_job is not None,
        job=request_job if request_job is None or isinstance(request_job, str) else request_job.name,
        partition_key=partition_key or ((lambda run: run.ref.run_id) if dynamic_partitions else None),
        partitions=dynamic_partitions,
        run_config=run_config,
    )

    @dg.sensor(
        name=name,
        minimum_interval_seconds=minimum_interval_seconds,
        default_status=default_status,
        required_resource_keys={resource_key, *(required_resource_keys or ())},
        **({"job_name": request_job} if isinstance(request_job, str) else {"job": request_job}),
        **with_defaults(sensor_arguments, {"description": description_of_sensor(plan.targets, plan.job)}),
    )
    # Whoever calls a sensor, as a unit test does, gives the function its resources by name; they are the context's.
    def run_sensor(context: dg.SensorEvaluationContext, **resources: object) -> dg.SensorResult:
        _compat.give_instance(context)
        return SensorTick(context, plan).result()

    return run_sensor


def _checked_targets(caller: str, targets: object) -> dict[dg.AssetKey, Watched]:
    if not isinstance(targets, Mapping) or not targets:
        raise ConfigurationError(f"{caller}: targets must map asset keys to what is watched for them, one at least.")
    checked: dict[dg.AssetKey, Watched] = {}
    for key, watched in targets.items():
        asset_key = asset_key_of(key)
        place = f"{caller}: targets[{asset_key.to_user_string()!r}]"
        if isinstance(watched, (str, Mapping)):
            check_parent(place, watched)
        else:
            _check_runs(place, [watched] if isinstance(watched, RunRef) else watched)
        checked[asset_key] = watched
    return checked


def _check_runs(place: str, refs: object) -> None:
    given = list(refs) if isinstance(refs, Sequence) else []
    if not given or not all(isinstance(ref, RunRef) for ref in given):
        raise ConfigurationError(f"{place} must be a parent or a reference to a run, not {type(refs).__name__}.")
    try:
        for ref in given:
            check_id("run_id", ref.run_id)
    except ConfigurationError as error:
        raise error.at(place) from None
