"""What a good end is, in Airflow: every case of the table in every way to wait, and what is refused in a DAG."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import DAG

from runops.airflow import B3osWorkflowSensor, NektPipelineSensor, NyxConfigSensor, OnepinWorkflowSensor
from runops.airflow._compat import AirflowFailException, AirflowSkipException, TaskDeferred, renders_in_triggerer
from runops.airflow.exceptions import ConfigurationError as RefusedInTask
from runops.airflow.exceptions import RunRejected, RunTimedOut, SensorTimedOut
from runops.airflow.watcher import RunFinishedTrigger
from runops.core import ConfigurationError
from tests.good_ends import CASES, SERVICES, WRONG, Case
from tests.services import PARENTS, WORKFLOW

pytestmark = pytest.mark.promise("words taught, expectations, and limits of stalling and spending")

DISCOVERY: dict[str, tuple[Any, dict[str, str]]] = {
    "nyx": (NyxConfigSensor, {"config_name": "nightly"}),
    "onepin": (OnepinWorkflowSensor, {"workflow_id": WORKFLOW}),
    "b3os": (B3osWorkflowSensor, {"workflow_id": "wf_1"}),
    "nekt": (NektPipelineSensor, {"source": "shop"}),
}


def check(case: Case, ended: Any) -> None:
    """The task ended as the case says, and its result tells so."""
    result = ended.xcoms["run"]
    assert (result["outcome"], result["verdict"], result["ended_by"]) == (case.outcome, case.verdict, case.ended_by)
    unmet = result["unmet"] or {}
    assert {name: each["found"] for name, each in unmet.items()} == (case.unmet or {})
    if case.verdict in ("succeed", "warn"):
        assert ended.error is None
        assert ended.result == result
    elif case.verdict == "skip":
        assert type(ended.error) is AirflowSkipException
    elif case.outcome == "timed_out":
        assert isinstance(ended.error, RunTimedOut)
        if case.ended_by != "max_paused":
            assert " of at most " in str(ended.error)
    else:
        assert type(ended.error) is RunRejected
        assert isinstance(ended.error, AirflowFailException)
    for name in case.unmet or {}:
        assert name in str(ended.error) or case.verdict == "warn"


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_sensor_ends_as_the_case_says_and_never_cancels(case: Case, host: Any, sensors: Any, mode: Any) -> None:
    task = sensors[case.provider](task_id="w", **host.made(case.provider, **case.run()), **case.said(), **mode)
    check(case, host.run(task))
    assert host.emulator.requests(provider=case.provider, action="cancel") == []


@pytest.mark.parametrize("case", [case for case in CASES if case.provider in DISCOVERY], ids=str)
def test_a_sensor_that_finds_its_run_ends_as_the_case_says(case: Case, host: Any, mode: Any) -> None:
    kind, parent = DISCOVERY[case.provider]
    host.emulator.create_run(case.provider, parents=parent, **case.run())
    check(case, host.run(kind(task_id="w", **parent, **case.said(), **mode)))


@pytest.mark.parametrize("case", [case for case in CASES if case.provider != "nekt"], ids=str)
@pytest.mark.parametrize("deferrable", [False, True])
def test_an_operator_ends_as_the_case_says_and_cancels_what_ran_into_a_limit(
    case: Case, deferrable: bool, host: Any, operators: Any, calls: Any
) -> None:
    host.emulator.set_defaults(provider=case.provider, script=case.run()["script"])
    task = operators[case.provider](task_id="w", **calls[case.provider], **case.said(), deferrable=deferrable)
    ended = host.run(task)
    check(case, ended)
    limited = case.ended_by is not None and case.provider != "nexio"
    assert len(host.emulator.requests(provider=case.provider, action="cancel")) == limited
    assert len(host.emulator.requests(provider=case.provider, action="submit")) == 1
    if case.ended_by:
        assert type(ended.error) is RunTimedOut


@pytest.mark.skipif(not renders_in_triggerer(), reason="needs Airflow 3.3 or newer")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_sensor_that_begins_in_the_triggerer_ends_as_the_case_says(case: Case, host: Any, sensors: Any) -> None:
    from runops.airflow import RunTrigger
    from tests.airflow_side.conftest import Ended, only_event

    run = host.made(case.provider, **case.run())
    with DAG("d"):
        task = sensors[case.provider](task_id="w", **run, **case.said(), deferrable=True, start_from_trigger=True)
    given = task.start_trigger_args
    waits = RunTrigger(**json.loads(json.dumps(given.trigger_kwargs, allow_nan=False)))
    event = json.loads(json.dumps(asyncio.run(only_event(waits))))
    context = host.context()
    ended = Ended(xcoms=context["ti"].xcoms)
    try:
        ended.result = task.resume_execution("execute_complete", {"event": event}, context)
    except Exception as error:
        ended.error = error
    check(case, ended)


# --- refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("provider", "said", "texts"), WRONG)
def test_a_dag_with_what_is_wrong_is_refused(
    provider: str, said: dict[str, Any], texts: tuple[str, ...], sensors: Any, operators: Any, calls: Any
) -> None:
    def sensor() -> None:
        sensors[provider](task_id="w", run_id="r", **PARENTS.get(provider, {}), **said)

    builds: list[Callable[[], Any]] = [sensor]
    if provider in operators:
        builds.append(lambda: operators[provider](task_id="w", **calls[provider], **said))
    if provider in DISCOVERY:
        kind, parent = DISCOVERY[provider]
        builds.append(lambda: kind(task_id="w", **parent, **said))
    for build in builds:
        with pytest.raises(ConfigurationError) as refused:
            build()
        for text in texts:
            assert text in str(refused.value)


@pytest.mark.parametrize("kind", ["operator", "sensor", "discovery sensor"])
def test_a_template_is_checked_by_its_name_at_once_and_by_its_value_before_anything_is_sent(
    host: Any, operators: Any, sensors: Any, calls: Any, kind: str
) -> None:
    made, given = {
        "operator": (operators["nyx"], calls["nyx"]),
        "sensor": (sensors["nyx"], {"run_id": "r_1", "deferrable": False}),
        "discovery sensor": (NyxConfigSensor, {"config_name": "nightly", "deferrable": False}),
    }[kind]
    with pytest.raises(ConfigurationError, match="Did you mean 'findings_count'"):
        made(task_id="w", **given, expect={"finding_count": "{{ params.n }}"})
    task = made(task_id="w", **given, expect={"findings_count": "{{ params.n }}"})
    task.render_template_fields({"params": {"n": "no number"}})
    assert task.expect == {"findings_count": "no number"}
    ended = host.run(task)
    assert type(ended.error) is RefusedInTask
    assert "expect['findings_count']='no number'" in str(ended.error)
    assert host.emulator.requests() == []


def test_a_template_is_filled_with_a_text_and_compared_as_a_number(host: Any, sensors: Any, mode: Any) -> None:
    task = sensors["nyx"](
        task_id="w",
        **host.made("nyx", script="succeeded"),
        expect={"findings_count": ">= {{ params.n }}", "attempts_completed": ["{{ params.n }}", 14]},
        **mode,
    )
    task.render_template_fields({"params": {"n": 1}})
    assert host.run(task).error is None


# --- words -----------------------------------------------------------------------------------------------------


def test_the_words_of_a_connection_reach_every_way_to_wait_and_those_of_the_task_win(
    host: Any, sensors: Any, mode: Any, connect: Any, served: Any
) -> None:
    taught = {"states": {"partial": "failed", "archived": "cancelled"}}
    connect("nexio_taught", "nexio", host=served.base_url("nexio"), extra=json.dumps(taught))
    word, fields = SERVICES["nexio"].word
    script = [{"at": 0, "set": {"status": "queued"}}, {"at": 40, "set": dict(fields)}]
    for said, outcome in (({}, "failed"), ({"states": {word: "degraded"}}, "degraded")):
        task = sensors["nexio"](
            task_id="w", **host.made("nexio", script=script), nexio_conn_id="nexio_taught", **said, **mode
        )
        assert host.run(task).xcoms["run"]["outcome"] == outcome


@pytest.mark.parametrize(
    ("states", "text"),
    [({"failed": "succeeded"}, "changes a documented word"), ("{broken", "no JSON object"), (["a"], "a mapping")],
)
def test_a_connection_that_teaches_wrongly_is_named(
    states: Any, text: str, host: Any, sensors: Any, connect: Any, served: Any
) -> None:
    connect("nexio_taught", "nexio", host=served.base_url("nexio"), extra=json.dumps({"states": states}))
    ended = host.run(sensors["nexio"](task_id="w", run_id="r", nexio_conn_id="nexio_taught", deferrable=False))
    assert type(ended.error) is RefusedInTask
    assert "connection 'nexio_taught'" in str(ended.error)
    assert text in str(ended.error)


def test_the_words_travel_in_the_arguments_of_the_trigger(host: Any, sensors: Any) -> None:
    task = sensors["nexio"](
        task_id="w", **host.made("nexio", script="forever"), states={"partial": "degraded"}, deferrable=True
    )
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(host.context())
    _, arguments = deferred.value.trigger.serialize()
    assert arguments["patience"]["states"] == {"partial": "degraded"}
    assert "states" not in sensors["nexio"](task_id="v", run_id="r")._patience(task._clocks(deadline=0.0))


def test_a_watch_that_teaches_nothing_is_the_one_that_it_was() -> None:
    plain = RunFinishedTrigger(provider="nyx", parent="nightly").serialize()[1]
    assert "states" not in plain
    taught = RunFinishedTrigger(provider="nyx", parent="nightly", states={"completed+partial": "degraded"})
    assert RunFinishedTrigger(**taught.serialize()[1]).states == {"completed+partial": "degraded"}
    assert taught._hook()._states == {"completed+partial": "degraded"}
    with pytest.raises(TypeError, match="means failed"):
        RunFinishedTrigger(provider="nyx", parent="nightly", states={"failed": "succeeded"})


# --- limits ----------------------------------------------------------------------------------------------------


def test_the_stall_clock_of_a_deferred_wait_goes_on_where_the_worker_began_it(host: Any, sensors: Any) -> None:
    task = sensors["b3os"](task_id="w", **host.made("b3os", script="running"), max_stalled=300, deferrable=True)
    ended = host.run(task)
    assert type(ended.error) is SensorTimedOut
    assert len(ended.deferrals) == 1
    assert host.clock.passed == pytest.approx(300, abs=2)


def test_a_spend_limit_that_is_reached_while_deferred_cancels_once_and_a_retry_submits_anew(
    host: Any, operators: Any, calls: Any
) -> None:
    steps = [{"at": 0, "set": {"status": "running", "spent_usd": 1}}, {"at": 60, "set": {"spent_usd": 4.5}}]
    host.emulator.set_defaults(provider="nyx", script=steps)
    task, context = operators["nyx"](task_id="w", **calls["nyx"], max_spend=4, deferrable=True), host.context()
    ended = host.run(task, context)
    assert (len(ended.deferrals), ended.xcoms["run"]["ended_by"]) == (1, "max_spend")
    assert "4.5 of at most 4 USD are spent" in str(ended.error)
    assert len(host.emulator.requests(provider="nyx", action="cancel")) == 1
    context["ti"].next_try()
    host.emulator.set_defaults(provider="nyx", script="succeeded", seconds=20)
    assert host.run(task, context).result["outcome"] == "succeeded"
    assert len(host.emulator.requests(provider="nyx", action="submit")) == 2


def deferred(task: Any, context: Any) -> Any:
    """The deferral of a task, whose trigger the dead triggerer had."""
    with pytest.raises(TaskDeferred) as raised:
        task.execute(context)
    return raised.value


def resumed(task: Any, context: Any, host: Any, from_row: Any) -> Any:
    """How the task ends once a trigger is made of its row again."""
    with pytest.raises(Exception, match="of at most") as ended:
        task.resume_execution(from_row.method_name, {"event": host.fired(from_row)}, context)
    return ended.value


def test_a_spend_limit_that_is_reached_while_no_triggerer_lives_ends_the_wait_at_the_first_look_of_the_next(
    host: Any, operators: Any, calls: Any
) -> None:
    steps = [{"at": 0, "set": {"status": "running", "spent_usd": 1}}, {"at": 600, "set": {"spent_usd": 4.5}}]
    host.emulator.set_defaults(provider="nyx", script=steps)
    task, context = operators["nyx"](task_id="w", **calls["nyx"], max_spend=4, deferrable=True), host.context()
    from_row = deferred(task, context)
    host.clock.now += 3600
    began = host.clock.now
    assert type(resumed(task, context, host, from_row)) is RunTimedOut
    assert host.clock.now - began < 30
    assert len(host.emulator.requests(provider="nyx", action="cancel")) == 1


@pytest.mark.parametrize("provider", ["b3os", "nyx"])
def test_a_run_that_stalls_while_triggerers_come_and_go_is_called_stalled_in_time(
    host: Any, sensors: Any, provider: str
) -> None:
    task = sensors[provider](
        task_id="w", **host.made(provider, script="running"), max_stalled=3600, deferrable=True, timeout=100_000
    )
    context = host.context()
    began = host.clock.now
    from_row = deferred(task, context)
    # A triggerer that dies sooner than the limit, again and again, leaves the row as it was.
    host.clock.now = began + 3000
    error = resumed(task, context, host, from_row)
    assert type(error) is SensorTimedOut
    assert host.clock.now - began == pytest.approx(3600, abs=60)


def test_a_last_read_after_execution_timeout_reads_what_is_expected_too(host: Any, sensors: Any) -> None:
    run = host.made("nyx", script="succeeded", seconds=100)
    task = sensors["nyx"](
        task_id="w",
        **run,
        expect={"findings_count": 0},
        deferrable=True,
        execution_timeout=timedelta(seconds=60),
    )
    context = host.context()
    deferred(task, context)
    host.clock.now += 3600
    with pytest.raises(RunRejected, match="findings_count is 1"):
        task.resume_execution("__fail__", {"error": "Trigger timeout"}, context)


def test_with_cancel_on_timeout_false_a_limit_leaves_the_run_and_a_retry_re_attaches(
    host: Any, operators: Any, calls: Any
) -> None:
    host.emulator.set_defaults(provider="nyx", script="running")
    task = operators["nyx"](task_id="w", **calls["nyx"], max_spend=0.4, cancel_on_timeout=False, deferrable=False)
    context = host.context()
    assert type(host.run(task, context).error) is RunTimedOut
    context["ti"].next_try()
    assert type(host.run(task, context).error) is RunTimedOut
    assert len(host.emulator.requests(provider="nyx", action="submit")) == 1
    assert host.emulator.requests(provider="nyx", action="cancel") == []


def test_soft_fail_softens_a_limit_and_no_unmet_expectation(host: Any, sensors: Any, mode: Any) -> None:
    run = host.made("nyx", script="running")
    soft = host.run(sensors["nyx"](task_id="w", **run, max_spend=0.4, soft_fail=True, **mode))
    assert type(soft.error) is AirflowSkipException
    run = host.made("nyx", script="succeeded")
    hard = host.run(sensors["nyx"](task_id="w", **run, expect={"findings_count": 0}, soft_fail=True, **mode))
    assert type(hard.error) is RunRejected
