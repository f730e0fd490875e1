"""Each argument of a sensor is in the plan of its ticks, and one that is left out means what the pages say."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import dagster as dg
import pytest
from pytest_mock import MockerFixture

from runops.core import Outcome, RunRef, RunSnapshot
from runops.dagster import build_completion_sensor, build_run_sensor
from runops.dagster.tick.plan import SensorPlan

KEY = dg.AssetKey(["out", "audit"])
REF = RunRef(provider="nyx", run_id="r1")


def configured(snapshot: RunSnapshot) -> dict[str, Any]:
    return {"ops": {"take": {"config": {"of": snapshot.ref.run_id}}}}


def ended(run_id: str) -> RunSnapshot:
    return RunSnapshot(ref=RunRef(provider="nyx", run_id=run_id), state="completed", outcome=Outcome.SUCCEEDED)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def planned(
    mocker: MockerFixture, builder: str, sensor: dg.SensorDefinition, instance: dg.DagsterInstance
) -> SensorPlan:
    """The plan by which a tick of a sensor works."""
    tick = mocker.patch(f"runops.dagster.builders.{builder}.SensorTick")
    tick.return_value.result.return_value = dg.SensorResult(skip_reason="nothing")
    resources = {key: dg.ResourceDefinition.none_resource() for key in sensor.required_resource_keys}
    sensor.evaluate_tick(dg.build_sensor_context(instance=instance, resources=resources))
    ((_, plan), _) = tick.call_args
    return plan


def test_each_argument_of_a_sensor_is_in_its_plan(mocker: MockerFixture, instance: dg.DagsterInstance) -> None:
    partitions = dg.DynamicPartitionsDefinition(name="audits")
    sensor = build_run_sensor(
        name="runs",
        resource_key="nyx",
        targets={"out/audit": "nightly"},
        minimum_interval_seconds=21,
        lookback=timedelta(seconds=22),
        default_status=dg.DefaultSensorStatus.RUNNING,
        request_job="take",
        on_outcome={"degraded": "warn"},
        states={"half": "degraded"},
        expect={"findings_count": 0},
        on_unmet="warn",
        max_stalled=23,
        max_spend=24,
        soft_fail=True,
        partition_key=str,
        dynamic_partitions=partitions,
        run_config=configured,
        tick_seconds=25,
        required_resource_keys={"other"},
        tags={"a": "b"},
    )
    assert (sensor.minimum_interval_seconds, sensor.default_status) == (21, dg.DefaultSensorStatus.RUNNING)
    assert sensor.required_resource_keys == {"nyx", "other"}
    assert sensor.tags["a"] == "b"
    assert planned(mocker, "sensor", sensor, instance) == SensorPlan(
        resource_key="nyx",
        targets={KEY: "nightly"},
        seconds=25.0,
        lookback=22.0,
        on_outcome={"degraded": "warn"},
        end={"states": {"half": "degraded"}, "expect": {"findings_count": 0}, "on_unmet": "warn", "soft_fail": True},
        limits={"max_stalled": 23, "max_spend": 24},
        requests=True,
        job="take",
        partition_key=str,
        partitions=partitions,
        run_config=configured,
    )


def test_a_sensor_of_which_little_is_said_has_the_plan_of_the_pages(
    mocker: MockerFixture, instance: dg.DagsterInstance
) -> None:
    sensor = build_run_sensor(name="runs", resource_key="nyx", targets={"out/audit": "nightly"})
    assert (sensor.minimum_interval_seconds, sensor.default_status) == (30, dg.DefaultSensorStatus.STOPPED)
    assert planned(mocker, "sensor", sensor, instance) == SensorPlan(
        resource_key="nyx",
        targets={KEY: "nightly"},
        seconds=36.0,
        lookback=86_400.0,
        end={"states": None, "expect": None, "on_unmet": "fail", "soft_fail": False},
        limits={"max_stalled": None, "max_spend": None},
        own=False,
        cancel_on_timeout=False,
    )


def pending(instance: dg.DagsterInstance, ref: RunRef, **tags: str) -> str:
    """A Dagster run that has submitted an external one."""
    made = dg.DagsterRun(job_name="start")
    tags = {"runops/pending": "true", "runops/pending_run": ref.model_dump_json(), **tags}
    instance.add_run(made.with_tags(tags))
    return made.run_id


def test_a_completion_sensor_waits_for_what_the_job_s_runs_have_submitted(
    mocker: MockerFixture, instance: dg.DagsterInstance
) -> None:
    other = RunRef(provider="nyx", run_id="r2")
    first = pending(instance, REF, **{"runops/submitted_at": "100.5", "dagster/partition": "monday"})
    second = pending(instance, other, **{"runops/submitted_at": "200", "runops/attached": "true"})
    sensor = build_completion_sensor(
        name="ends",
        job="start",
        asset="out/audit",
        resource_key="nyx",
        minimum_interval_seconds=21,
        timeout=timedelta(seconds=60),
        cancel_on_timeout=False,
        default_status=dg.DefaultSensorStatus.RUNNING,
        on_outcome={"degraded": "warn"},
        states={"half": "degraded"},
        expect={"findings_count": 0},
        on_unmet="skip",
        max_stalled=23,
        max_spend=24,
        soft_fail=True,
        tick_seconds=25,
        tags={"a": "b"},
    )
    assert (sensor.minimum_interval_seconds, sensor.default_status) == (21, dg.DefaultSensorStatus.RUNNING)
    assert (sensor.required_resource_keys, sensor.tags["a"]) == ({"nyx"}, "b")
    plan = planned(mocker, "deferred", sensor, instance)
    assert plan.partition_key is not None
    assert [plan.partition_key(ended(run_id)) for run_id in ("r1", "r2", "r3")] == ["monday", None, None]
    assert plan == SensorPlan(
        resource_key="nyx",
        targets={KEY: [REF, other]},
        seconds=25.0,
        on_outcome={"degraded": "warn"},
        end={"states": {"half": "degraded"}, "expect": {"findings_count": 0}, "on_unmet": "skip", "soft_fail": True},
        limits={"max_stalled": 23, "max_spend": 24},
        partition_key=plan.partition_key,
        own=True,
        deadlines={REF: 160.5, other: 260.0},
        attached=frozenset({other}),
        cancel_on_timeout=False,
        submitted_in={REF: first, other: second},
    )


def test_a_completion_sensor_of_which_little_is_said_has_the_plan_of_the_pages(
    mocker: MockerFixture, instance: dg.DagsterInstance, clock: Any
) -> None:
    submitted = pending(instance, REF)
    sensor = build_completion_sensor(name="ends", job="start", asset="out/audit", resource_key="nyx")
    assert (sensor.minimum_interval_seconds, sensor.default_status) == (30, dg.DefaultSensorStatus.STOPPED)
    plan = planned(mocker, "deferred", sensor, instance)
    assert plan == SensorPlan(
        resource_key="nyx",
        targets={KEY: [REF]},
        seconds=36.0,
        end={"states": None, "expect": None, "on_unmet": "fail", "soft_fail": False},
        limits={"max_stalled": None, "max_spend": None},
        partition_key=plan.partition_key,
        own=True,
        deadlines={REF: clock.now + 604_800},
        cancel_on_timeout=True,
        submitted_in={REF: submitted},
    )


def test_a_completion_sensor_without_a_run_to_wait_for_says_so(instance: dg.DagsterInstance) -> None:
    pending(instance, REF, **{"runops/pending_in": "another-run"})
    sensor = build_completion_sensor(name="ends", job="start", asset="out/audit", resource_key="nyx")
    context = dg.build_sensor_context(instance=instance, resources={"nyx": dg.ResourceDefinition.none_resource()})
    assert sensor.evaluate_tick(context).skip_message == "No run is pending."
