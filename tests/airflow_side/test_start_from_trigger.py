"""A sensor that begins in the triggerer: what Airflow is given, what the trigger makes of it, and when it is not so."""

from __future__ import annotations

import asyncio
import json
import threading
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from airflow.sdk import DAG, Param, XComArg
from pytest_mock import MockerFixture

from runops.airflow import NexioRunSensor, OnepinRunSensor, RunSensor, RunTrigger, trigger_base
from runops.airflow._compat import AirflowSkipException, renders_in_triggerer
from runops.airflow.exceptions import TriggerCrashed

pytestmark = [
    pytest.mark.skipif(not renders_in_triggerer(), reason="needs Airflow 3.3 or newer"),
    pytest.mark.promise("a sensor begins in the triggerer (`start_from_trigger`)"),
]

WORKFLOW = "7c9e6679-7425-40de-944b-e07fc1f90ae7"


def begun(task: Any, *, environment: bool = True, **rendered: str) -> RunTrigger:
    """The trigger as the triggerer makes it: from a row, with the task's fields rendered."""
    given = task.start_trigger_args
    assert given.trigger_cls == "runops.airflow.trigger.RunTrigger"
    waits = RunTrigger(**json.loads(json.dumps(given.trigger_kwargs, allow_nan=False)))
    waits.task_instance = SimpleNamespace(task_id=task.task_id, task=task)  # pyright: ignore[reportAttributeAccessIssue]
    # What the end is judged by is rendered where that is done: on the worker.
    assert {*waits.template_fields, "expect"} == set(task.template_fields)
    waits.render_template_fields({"params": rendered}, task.get_template_env() if environment else None)
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


@pytest.mark.parametrize(
    "template",
    [
        "a-run",
        "{{ params.run }}",
        "{{ dag_run.conf['run'] }}",
        "{{ dag_run['conf'].run }}",
        "{{ ds_nodash }}-{{ ts }}-{{ logical_date | ds }}-{{ data_interval_end }}",
        "{{ ti.task_id }}-{{ task_instance.run_id }}-{{ task.task_id }}-{{ dag.dag_id }}",
        "{{ macros.ds_add(ds, -1) }}",
        "{{ var.value.run }}{{ var.json.runs.nightly }}",
        "{% for run in params.runs %}{{ loop.index }}{{ run }}{% endfor %}",
        "{% set run = params.run %}{{ run | upper }}",
        "{{ range(3) | join }}",
    ],
)
def test_what_a_triggerer_renders_as_a_worker_does_begins_there(template: str) -> None:
    with DAG("d", schedule=None, user_defined_macros={"mine": str}, user_defined_filters={"mine": str}):
        task = NexioRunSensor(task_id="w", run_id=template, deferrable=True, start_from_trigger=True)
    assert task.start_trigger_args is not None
    assert task.start_from_trigger is True


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{{ ti.xcom_pull('a') }}", "run_id: ti.xcom_pull needs a worker"),
        ("{{ ti['xcom_pull']('a') }}", "run_id: ti.xcom_pull needs a worker"),
        ("{{ task_instance.xcom_pull('a') }}", "task_instance.xcom_pull"),
        ("{{ ti }}", "ti needs a worker"),
        ("{{ ti | attr('xcom_pull') }}", "ti needs a worker"),
        ("{% set t = ti %}{{ t.xcom_pull('a') }}", "ti needs a worker"),
        ("{% if params.a %}{{ ti.xcom_pull('a') }}{% endif %}", "ti.xcom_pull"),
        ("{% macro m(t) %}{{ t.xcom_pull('a') }}{% endmacro %}{{ m(ti) }}", "ti needs a worker"),
        ("{{ prev_start_date_success }}", "prev_start_date_success"),
        ("{{ prev_end_date_success | ds }}", "prev_end_date_success"),
        ("{{ prev_data_interval_end_success }}", "prev_data_interval_end_success"),
        ("{{ ti.try_number }}", "ti.try_number"),
        ("{{ dag_run.get_task_instances() }}", "dag_run.get_task_instances"),
        ("{{ dag.params }}", "dag.params"),
        ("{{ task.retries }}", "task.retries"),
        ("{{ conn.nexio_default.host }}", "conn.nexio_default"),
        ("{{ inlet_events }}", "inlet_events"),
        ("{{ triggering_asset_events }}", "triggering_asset_events"),
        ("{{ task_state_store.get('a') }}", "task_state_store"),
        ("{{ mine('a') }}", "mine needs a worker"),
        ("{{ lipsum() }}", "lipsum is a macro of the DAG"),
        ("{{ params.a | mine }}", "No filter named 'mine'"),
        ("{{ params.a | upper }}", "upper is a filter of the DAG"),
        ("{% do params.a %}", "unknown tag 'do'"),
        ("{% include 'a.txt' %}", "a template file"),
        ("{{ params.", "its template cannot be read"),
    ],
)
def test_what_needs_a_worker_begins_on_one_and_the_log_says_why(
    host: Any, capsys: pytest.CaptureFixture[str], template: str, why: str
) -> None:
    macros: dict[str, Any] = {"mine": str, "lipsum": str}
    with DAG("d", schedule=None, user_defined_macros=macros, user_defined_filters={"mine": str, "upper": str}):
        task = NexioRunSensor(task_id="w", run_id=template, deferrable=True, start_from_trigger=True)
        nested = RunSensor(
            task_id="n", provider="onepin", run_id="r", parents={"workflow_id": template}, deferrable=True,
            start_from_trigger=True,
        )  # fmt: skip
    for each in (task, nested):
        assert each.start_trigger_args is None
        assert each.start_from_trigger is False
    rendered_on_a_worker(task, run_id=host.made("nexio")["run_id"])
    assert host.run(task).result["outcome"] == "succeeded"
    out = capsys.readouterr().out
    assert out.count("start_from_trigger is set, but the task begins on a worker: ") == 1
    assert why in out


def rendered_on_a_worker(task: Any, run_id: str) -> None:
    """Let the task's templates be rendered to this, whatever they say."""
    with pytest.MonkeyPatch.context() as patch:
        fields = {"run_id": run_id}
        patch.setattr(type(task), "render_template", lambda self, value, *_: fields.get(name_of(self, value), value))
        task.render_template_fields({})


def name_of(task: Any, value: Any) -> str:
    return next(name for name in task.template_fields if getattr(task, name) is value)


def test_a_setting_of_the_dag_that_changes_how_templates_are_rendered_needs_a_worker() -> None:
    import jinja2

    made: list[Any] = []
    settings: list[dict[str, Any]] = [
        {"render_template_as_native_obj": True},
        {"jinja_environment_kwargs": {"variable_start_string": "<<"}},
        {"template_undefined": jinja2.DebugUndefined},
    ]
    for setting in settings:
        with DAG("d", schedule=None, **setting):
            made.append(NexioRunSensor(task_id="w", run_id="<<run>>", deferrable=True, start_from_trigger=True))
    assert [task.start_trigger_args for task in made] == [None, None, None]


PARAMS: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {
    "plain": ({"a": 1}, {"b": 2}, True),
    "with a default": ({"a": Param("x", type="string")}, {}, True),
    "null is allowed": ({"a": Param(None, type=["null", "string"])}, {}, True),
    "no default": ({"a": Param(type="string")}, {}, False),
    "no valid default": ({"a": Param(None, type="string")}, {}, False),
    "a task's own with a schema": ({}, {"b": Param(1, type="integer")}, False),
    "a task's own without a default": ({}, {"b": Param()}, False),
}


@pytest.mark.parametrize("case", PARAMS)
def test_params_that_would_end_a_whole_triggerer_need_a_worker(case: str) -> None:
    of_dag, of_task, there = PARAMS[case]
    params: Any = of_dag
    with DAG("d", schedule=None, params=params) as dag:
        task = NexioRunSensor(task_id="w", run_id="r", deferrable=True, start_from_trigger=True, params=of_task)
    assert task.start_from_trigger is there
    if there:
        # What is not caught here leaves every other trigger without its triggerer.
        context_in_triggerer(dag, "w", {"a": "x", "b": "y"})


def context_in_triggerer(dag: Any, task_id: str, conf: dict[str, Any]) -> Any:
    """The context that a triggerer builds for a task before it calls its trigger."""
    from airflow.jobs.triggerer_job_runner import TriggerRunner
    from airflow.serialization.serialized_objects import DagSerialization

    now = datetime.now(UTC).isoformat()
    moments = dict.fromkeys(("logical_date", "data_interval_start", "data_interval_end", "end_date"))
    given = {"dag_id": "d", "task_id": task_id, "run_id": "r", "map_index": -1, "id": uuid4(), "try_number": 1}
    ti: Any = SimpleNamespace(task_id=task_id, model_dump=lambda exclude_unset: given)
    run = {
        "dag_id": "d", "run_id": "r", "run_after": now, "start_date": now, "run_type": "manual", "state": "running",
        "conf": conf, "consumed_asset_events": [], "partition_key": None, **moments,
    }  # fmt: skip
    stored = json.loads(json.dumps(DagSerialization.to_dict(dag)))
    return TriggerRunner.create_runtime_ti(ti, stored, run).get_template_context()


def test_a_task_that_begins_on_a_worker_is_none_that_a_triggerer_builds_a_context_for() -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    params: Any = {"a": Param(type="string")}
    with DAG("d", schedule=None, params=params) as dag:
        NexioRunSensor(task_id="w", run_id="{{ params.a }}", deferrable=True, start_from_trigger=True)
        NexioRunSensor.partial(task_id="m", deferrable=True, start_from_trigger=True).expand(run_id=["r"])
    stored: Any = DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(dag))))
    assert stored.get_task("w").start_from_trigger is False
    assert stored.get_task("m").start_from_trigger is False
    with pytest.raises(ValueError, match="no default value"):
        context_in_triggerer(dag, "w", {"a": "x"})


def test_a_template_file_needs_a_worker() -> None:
    class FromFile(NexioRunSensor):
        template_ext = (".txt",)

    task = FromFile(task_id="w", run_id="runs/nightly.txt", deferrable=True, start_from_trigger=True)
    assert task.start_trigger_args is None


def test_a_name_that_is_not_there_is_an_error_in_the_triggerer_too_and_nothing_is_sent(host: Any) -> None:
    task = NexioRunSensor(task_id="w", run_id="run-{{ params.other }}", deferrable=True, start_from_trigger=True)
    waits = begun(task, run="a-run", environment=False)
    event = asyncio.run(payload_of(waits))
    assert (event["kind"], event["error"]) == ("error", "TriggerCrashed")
    assert "has no attribute 'other'" in event["message"]
    assert host.emulator.requests() == []
    with pytest.raises(TriggerCrashed, match="could not be rendered in the triggerer: UndefinedError"):
        task.resume_execution("execute_complete", {"event": event}, host.context())


def test_a_template_that_waits_for_an_answer_that_never_comes_ends_and_says_so(
    host: Any, mocker: MockerFixture
) -> None:
    class Silent:
        @property
        def run(self) -> str:
            threading.Event().wait()
            return "never"

    mocker.patch.object(trigger_base, "AIRFLOW_SECONDS", 0.2)
    task = NexioRunSensor(task_id="w", run_id="{{ params.run }}", deferrable=True, start_from_trigger=True)
    waits = begun(task, environment=False)
    waits.render_template_fields({"params": Silent()})
    event = asyncio.run(payload_of(waits))
    assert (event["kind"], event["error"]) == ("error", "TriggerCrashed")
    assert "did not answer within 0.2 s when asked for what the task's templates name" in event["message"]
    assert host.emulator.requests() == []
