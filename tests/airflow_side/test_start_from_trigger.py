"""A sensor that begins in the triggerer: what Airflow is given, what the trigger makes of it, and when it is not so."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, XComArg

from runops.airflow import NexioRunSensor, OnepinRunSensor, RunSensor, RunTrigger
from runops.airflow._compat import AirflowSkipException, renders_in_triggerer

pytestmark = pytest.mark.skipif(not renders_in_triggerer(), reason="needs Airflow 3.3 or newer")

WORKFLOW = "7c9e6679-7425-40de-944b-e07fc1f90ae7"


def begun(task: Any, **rendered: str) -> RunTrigger:
    """The trigger as the triggerer makes it: from a row, with the task's fields rendered."""
    given = task.start_trigger_args
    assert given.trigger_cls == "runops.airflow.trigger.RunTrigger"
    waits = RunTrigger(**json.loads(json.dumps(given.trigger_kwargs, allow_nan=False)))
    waits.task_instance = SimpleNamespace(task_id=task.task_id, task=task)  # pyright: ignore[reportAttributeAccessIssue]
    assert set(waits.template_fields) == set(task.template_fields)
    waits.render_template_fields({"params": rendered}, task.get_template_env())
    return waits


async def payload_of(waits: RunTrigger) -> Any:
    (event,) = [event async for event in waits.run()]
    return json.loads(json.dumps(event.payload, allow_nan=False))


@pytest.mark.parametrize("script", ["succeeded", "failed"])
def test_templates_are_rendered_in_the_triggerer_and_the_end_is_that_of_any_sensor(host: Any, script: str) -> None:
    run_id = host.emulator.create_run("onepin", script=script, seconds=30, parents={"workflow_id": WORKFLOW})
    task = OnepinRunSensor(
        task_id="w",
        workflow_id="{{ params.workflow }}",
        run_id="{{ params.run }}",
        deferrable=True,
        soft_fail=True,
        start_from_trigger=True,
    )
    event = asyncio.run(payload_of(begun(task, workflow=WORKFLOW, run=run_id)))
    context = host.context()
    if script == "failed":
        with pytest.raises(AirflowSkipException):
            task.resume_execution("execute_complete", {"event": event}, context)
    else:
        assert task.resume_execution("execute_complete", {"event": event}, context)["run_id"] == run_id
    assert context["ti"].xcoms["run_id"] == run_id
    assert context["ti"].xcoms["run"]["outcome"] == script


def test_the_generic_sensor_begins_in_the_triggerer_too(host: Any) -> None:
    run_id = host.emulator.create_run("onepin", script="succeeded", seconds=5, parents={"workflow_id": WORKFLOW})
    task = RunSensor(
        task_id="w",
        provider="onepin",
        run_id="{{ params.run }}",
        parents={"workflow_id": "{{ params.workflow }}"},
        deferrable=True,
        start_from_trigger=True,
    )
    assert asyncio.run(payload_of(begun(task, workflow=WORKFLOW, run=run_id)))["kind"] == "ended"


def test_the_timeout_counts_from_the_beginning_in_the_triggerer(host: Any) -> None:
    run_id = host.emulator.create_run("nexio", script="forever")
    task = NexioRunSensor(task_id="w", run_id=run_id, deferrable=True, start_from_trigger=True, timeout=300)
    host.clock.sleep(1000)
    began = host.clock.now
    event = asyncio.run(payload_of(begun(task)))
    assert event["snapshot"]["ended_by"] == "timeout"
    assert host.clock.now - began == pytest.approx(300, abs=1)
    timeout: Any = task.start_trigger_args
    assert timeout.timeout.total_seconds() > 300


def test_an_unusable_run_id_is_an_event_and_nothing_is_sent(host: Any) -> None:
    task = NexioRunSensor(task_id="w", run_id="../other", deferrable=True, start_from_trigger=True)
    event = asyncio.run(payload_of(begun(task)))
    assert (event["kind"], event["error"]) == ("error", "ConfigurationError")
    assert host.emulator.requests() == []


def test_what_cannot_begin_in_the_triggerer_begins_on_a_worker() -> None:
    assert NexioRunSensor(task_id="a", run_id="r", deferrable=True).start_trigger_args is None
    assert NexioRunSensor(task_id="b", run_id="r", deferrable=False, start_from_trigger=True).start_trigger_args is None
    with DAG("d", schedule=None):
        first = NexioRunSensor(task_id="first", run_id="r")
        output: Any = XComArg(first, key="run_id")
        later = NexioRunSensor(task_id="later", run_id=output, deferrable=True, start_from_trigger=True)
        mapped = NexioRunSensor.partial(task_id="mapped", deferrable=True, start_from_trigger=True).expand(run_id=["r"])
    assert later.start_trigger_args is None
    assert mapped.start_trigger_args is None


def test_a_dag_with_it_can_be_stored_by_airflow() -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    with DAG("d", schedule=None) as dag:
        NexioRunSensor(task_id="w", run_id="{{ params.run }}", deferrable=True, start_from_trigger=True)
        NexioRunSensor.partial(task_id="m", deferrable=True, start_from_trigger=True).expand(run_id=["r"])
    again: Any = DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(dag))))
    stored = again.get_task("w")
    assert stored.start_from_trigger is True
    assert stored.start_trigger_args.trigger_cls == "runops.airflow.trigger.RunTrigger"
