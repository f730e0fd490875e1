"""A task that the triggerer ends: as on a worker, where nothing is lost by it, and on a worker where something is."""

from __future__ import annotations

import json
from datetime import timedelta
from types import ModuleType
from typing import Any

import pytest
from airflow.sdk import DAG, Asset, BaseOperator, BaseOperatorLink

from runops.airflow import (
    NexioRunSensor,
    NyxConfigSensor,
    NyxRunOperator,
    NyxRunSensor,
    RunSensor,
    end_in_trigger,
    page_extra,
    trigger,
)
from runops.airflow._compat import AirflowSkipException, TaskDeferred, renders_in_triggerer
from runops.airflow.exceptions import RunTimedOut
from runops.airflow.external_run import EXTERNAL_RUN
from runops.airflow.trigger import RunTrigger
from runops.core import ConfigurationError
from tests.airflow_side.conftest import stored
from tests.airflow_side.triggerer import Triggerer

pytestmark = pytest.mark.promise("the triggerer ends a task where nothing is lost by it (`end_from_trigger`)")

STARTS = [False, pytest.param(True, marks=pytest.mark.skipif(not renders_in_triggerer(), reason="needs Airflow 3.3"))]

# What a run does, what the sensor is told, whether the triggerer ends the task.
ENDS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "succeeds": ("succeeded", {}, True),
    "meets what is expected": ("succeeded", {"expect": {"attempts_completed": ">= 0"}}, True),
    "is degraded": ("exhausted", {}, True),
    "is degraded with a warning": ("exhausted", {"on_outcome": {"exhausted": "warn"}}, True),
    "does not meet what is expected, softly": (
        "succeeded",
        {"expect": {"findings_count": 99}, "on_unmet": "skip"},
        True,
    ),
    "fails softly": ("failed", {"soft_fail": True}, True),
    "fails with a warning": ("failed", {"on_outcome": {"failed": "warn"}}, True),
    "times out softly": ("forever", {"soft_fail": True, "timeout": 60}, True),
    "fails": ("failed", {}, False),
    "is cancelled": ("cancelled", {}, False),
    "is a finding that fails the gate": ("succeeded", {"on_outcome": {"succeeded": "fail"}}, False),
    "does not meet what is expected": ("succeeded", {"expect": {"attempts_completed": ">= 99"}}, False),
    "times out": ("forever", {"timeout": 60}, False),
}


@pytest.fixture(autouse=True)
def the_page_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_extra, "installed", lambda: True)


@pytest.fixture
def triggerer(host: Any, monkeypatch: pytest.MonkeyPatch) -> Triggerer:
    return Triggerer(monkeypatch, host.context())


@pytest.mark.parametrize("starts", STARTS)
@pytest.mark.parametrize("case", ENDS)
def test_every_end_is_that_of_a_worker(host: Any, monkeypatch: pytest.MonkeyPatch, case: str, starts: bool) -> None:
    script, told, here = ENDS[case]
    run_id = "11111111-2222-4333-8444-555555555555"
    ends: list[Any] = []
    triggerers: list[Triggerer] = []
    modes: list[dict[str, Any]] = [{}, {"end_from_trigger": True, "start_from_trigger": starts}]
    for flags in modes:
        host.emulator.reset()
        host.clock.now = host.clock.began
        run = host.made("nyx", script=script, run_id=run_id, seconds=40)
        triggerers.append(Triggerer(monkeypatch, host.context()))
        task = NyxRunSensor(task_id="a_task", **run, deferrable=True, **told, **flags)
        ends.append(triggerers[-1].run(task))
    on_worker, in_triggerer = ends
    assert [each.ended_here for each in triggerers] == [0, int(here)]
    assert type(in_triggerer.error) is type(on_worker.error)
    assert in_triggerer.result == on_worker.result
    # The buttons of a task are filled by Airflow's own worker, and here by us.
    links = {key: value for key, value in in_triggerer.xcoms.items() if key.startswith("_link_")}
    assert links == ({"_link_NyxRunLink": in_triggerer.xcoms["run_url"]} if here else {})
    records = [each.xcoms.pop(EXTERNAL_RUN) for each in (on_worker, in_triggerer)]
    ends_alike = ("provider", "run_id", "own", "outcome", "verdict", "reason", "run_ended", "ended_by", "try_number")
    assert [{name: each.get(name) for name in ends_alike} for each in records[:1]] == [
        {name: each.get(name) for name in ends_alike} for each in records[1:]
    ]
    assert {key: value for key, value in in_triggerer.xcoms.items() if key not in links} == on_worker.xcoms
    assert ("return_value" in in_triggerer.xcoms) == (on_worker.error is None)


def test_a_worker_is_not_needed_at_all_where_a_task_begins_and_ends_there(host: Any, triggerer: Triggerer) -> None:
    if not renders_in_triggerer():
        pytest.skip("needs Airflow 3.3 or newer")
    run = host.made("nexio", script="succeeded")
    task = NexioRunSensor(task_id="a_task", **run, deferrable=True, start_from_trigger=True, end_from_trigger=True)
    ended = triggerer.run(task)
    assert (ended.pokes, ended.deferrals, triggerer.ended_here) == (0, [], 1)
    assert ended.result["outcome"] == "succeeded"


def test_what_is_expected_may_be_a_template_that_the_triggerer_fills(host: Any, triggerer: Triggerer) -> None:
    if not renders_in_triggerer():
        pytest.skip("needs Airflow 3.3 or newer")
    run = host.made("nyx", script="succeeded")
    task = NyxRunSensor(
        task_id="a_task",
        **run,
        deferrable=True,
        start_from_trigger=True,
        end_from_trigger=True,
        expect={"attempts_completed": "{{ '>= 99' }}"},
        on_unmet="skip",
    )
    given: Any = task.start_trigger_args
    assert given.trigger_kwargs["expect"] == {"attempts_completed": "{{ '>= 99' }}"}
    trigger = RunTrigger(**json.loads(json.dumps(given.trigger_kwargs)))
    trigger.expect = {"attempts_completed": ">= 99"}  # pyright: ignore[reportAttributeAccessIssue]
    event = triggerer.event(trigger, task)
    assert type(event).__name__ == "TaskSkippedEvent"
    assert triggerer.context["ti"].xcoms["run"]["unmet"]["attempts_completed"]["expected"] == ">= 99"


def test_an_expectation_that_no_one_can_read_sends_nothing_and_fails_on_a_worker(
    host: Any, triggerer: Triggerer
) -> None:
    if not renders_in_triggerer():
        pytest.skip("needs Airflow 3.3 or newer")
    run = host.made("nyx", script="succeeded")
    task = NyxRunSensor(
        task_id="a_task", **run, deferrable=True, start_from_trigger=True, end_from_trigger=True,
        expect={"attempts_completed": "{{ params.a }}"},
    )  # fmt: skip
    given: Any = task.start_trigger_args
    trigger = RunTrigger(**json.loads(json.dumps(given.trigger_kwargs)))
    trigger.expect = {"attempts_completed": ">= many"}  # pyright: ignore[reportAttributeAccessIssue]
    event = triggerer.event(trigger, task)
    assert (event.payload["kind"], event.payload["error"]) == ("error", "ConfigurationError")
    assert host.emulator.requests() == []


@pytest.mark.parametrize("script", ["exhausted", "succeeded"])
def test_a_later_try_is_ended_by_a_worker_and_has_no_return_value_of_the_one_before(
    host: Any, triggerer: Triggerer, capsys: pytest.CaptureFixture[str], script: str
) -> None:
    """No worker has begun it, so Airflow keeps the end time and the XComs of the try before."""
    if not renders_in_triggerer():
        pytest.skip("needs Airflow 3.3 or newer")
    ti = triggerer.context["ti"]
    ti.try_number = 2
    ti.xcoms["return_value"] = {"run_id": "of-before"}
    run = host.made("nyx", script=script)
    task = NyxRunSensor(task_id="a_task", **run, deferrable=True, start_from_trigger=True, end_from_trigger=True)
    ended = triggerer.run(task)
    assert triggerer.ended_here == 0
    assert "keep the end time of the try before" in capsys.readouterr().out
    if script == "exhausted":
        assert isinstance(ended.error, AirflowSkipException)
        assert "return_value" not in ti.xcoms
    else:
        assert ti.xcoms["return_value"]["run_id"] == run["run_id"]


def test_tasks_that_succeed_end_together_so_that_airflow_reads_their_file_once(
    host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments: set[float] = set()
    for seconds in (40, 41.2, 42.9):
        host.clock.now = host.clock.began
        run = host.made("nexio", script="succeeded", seconds=seconds)
        triggerer = Triggerer(monkeypatch, host.context())
        triggerer.run(NexioRunSensor(task_id="a_task", **run, deferrable=True, end_from_trigger=True, poke_interval=1))
        assert triggerer.ended_here == 1
        moments.add(host.clock.now % trigger.TOGETHER_SECONDS)
    assert moments == {0.0}


def test_without_do_xcom_push_the_result_is_under_its_own_key_only(host: Any, triggerer: Triggerer) -> None:
    run = host.made("nexio", script="succeeded")
    task = NexioRunSensor(task_id="a_task", **run, deferrable=True, end_from_trigger=True, do_xcom_push=False)
    triggerer.run(task)
    assert triggerer.ended_here == 1
    assert set(triggerer.context["ti"].xcoms) == {"run_id", "run_url", "run", "_link_NexioRunLink", EXTERNAL_RUN}


def test_execution_timeout_fails_on_a_worker_also_under_soft_fail(host: Any, triggerer: Triggerer) -> None:
    run = host.made("nexio", script="forever")
    limit = timedelta(seconds=60)
    task = NexioRunSensor(
        task_id="a_task", **run, deferrable=True, end_from_trigger=True, soft_fail=True, execution_timeout=limit
    )
    assert isinstance(triggerer.run(task).error, RunTimedOut)
    assert triggerer.ended_here == 0


def test_a_sensor_that_finds_its_run_is_ended_there_too(host: Any, triggerer: Triggerer) -> None:
    host.emulator.create_run("nyx", script="succeeded", seconds=60, parents={"config_name": "nightly"})
    task = NyxConfigSensor(task_id="a_task", config_name="nightly", deferrable=True, end_from_trigger=True)
    ended = triggerer.run(task)
    assert triggerer.ended_here == 1
    assert ended.result["outcome"] == "succeeded"


def test_a_search_that_finds_nothing_in_time_is_ended_there_when_it_is_soft(host: Any, triggerer: Triggerer) -> None:
    task = NyxConfigSensor(
        task_id="a_task", config_name="nightly", deferrable=True, end_from_trigger=True, soft_fail=True, timeout=60
    )
    assert isinstance(triggerer.run(task).error, AirflowSkipException)
    assert triggerer.ended_here == 1
    assert triggerer.context["ti"].xcoms["run"]["run_id"] == ""


OPERATOR_ENDS = {
    "succeeds": ("succeeded", {}, True),
    "is degraded": ("exhausted", {}, True),
    "fails softly": ("failed", {"on_outcome": {"failed": "skip"}}, True),
    "fails": ("failed", {}, False),
    "times out softly, so that its run is cancelled": (
        "forever",
        {"timeout": 60, "on_outcome": {"timed_out": "skip"}},
        False,
    ),
}


@pytest.mark.parametrize("case", OPERATOR_ENDS)
def test_every_end_of_an_operator_is_that_of_a_worker(
    host: Any, calls: Any, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    script, told, here = OPERATOR_ENDS[case]
    ends: list[Any] = []
    triggerers: list[Triggerer] = []
    cancels: list[int] = []
    modes: list[dict[str, Any]] = [{}, {"end_from_trigger": True}]
    for flags in modes:
        host.emulator.reset()
        host.emulator.set_defaults("nyx", script=script, seconds=40)
        triggerers.append(Triggerer(monkeypatch, host.context()))
        task = NyxRunOperator(task_id="a_task", **calls["nyx"], deferrable=True, **told, **flags)
        ends.append(triggerers[-1].run(task))
        cancels.append(len(host.emulator.requests(action="cancel")))
    on_worker, in_triggerer = ends
    assert [each.ended_here for each in triggerers] == [0, int(here)]
    assert cancels == ([1, 1] if "cancelled" in case else [0, 0])
    assert type(in_triggerer.error) is type(on_worker.error)
    assert (in_triggerer.result is None) == (on_worker.result is None)
    links = {"_link_NyxRunLink"} if here else set[str]()
    assert set(in_triggerer.xcoms) - links == set(on_worker.xcoms)
    verdicts = [each.xcoms["run"]["verdict"] for each in ends]
    assert verdicts[0] == verdicts[1]


# --- where a worker must end the task ---


def on_worker(host: Any, triggerer: Triggerer, capsys: Any, why: str) -> None:
    run = host.made("nexio", script="succeeded")
    task = NexioRunSensor(task_id="a_task", **run, deferrable=True, end_from_trigger=True)
    ended = triggerer.run(task)
    assert triggerer.ended_here == 0
    assert ended.result["outcome"] == "succeeded"
    assert why in capsys.readouterr().out


def test_where_a_listener_is_told_of_ends_a_worker_ends_the_task_and_the_log_names_it(
    host: Any, triggerer: Triggerer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(end_in_trigger, "listeners_to_tasks", lambda: ["OpenLineageListener"])
    on_worker(host, triggerer, capsys, "ends on a worker: listeners are told of ends there: OpenLineageListener.")
    assert triggerer.channel.asked == []


def test_a_listener_that_a_plugin_registers_is_found() -> None:
    from runops.airflow._compat import listeners_to_tasks

    try:
        from airflow.sdk.listener import get_listener_manager
    except ImportError:
        from airflow.listeners.listener import get_listener_manager
    try:
        from airflow.listeners import hookimpl
    except ImportError:
        from airflow.sdk import hookimpl  # pyright: ignore[reportAttributeAccessIssue]

    class Heard:
        @hookimpl
        def on_task_instance_success(self, previous_state: Any, task_instance: Any) -> None: ...

    listener, example = Heard(), ModuleType("airflow.example_dags.plugins.event_listener")
    example.on_task_instance_success = Heard.on_task_instance_success  # pyright: ignore[reportAttributeAccessIssue]
    assert listeners_to_tasks() == []
    get_listener_manager().add_listener(example)
    try:
        assert listeners_to_tasks() == []
        get_listener_manager().add_listener(listener)
        assert listeners_to_tasks() == ["Heard"]
    finally:
        for each in (listener, example):
            get_listener_manager().pm.unregister(each)


@pytest.mark.parametrize(
    "name",
    ["on_task_instance_running", "on_task_instance_success", "on_task_instance_skipped", "on_task_instance_failed"],
)
def test_a_listener_to_any_end_that_a_triggerer_would_hide_is_found(name: str) -> None:
    from runops.airflow._compat import listeners_to_tasks

    try:
        from airflow.sdk.listener import get_listener_manager
    except ImportError:
        from airflow.listeners.listener import get_listener_manager
    manager = get_listener_manager()
    if not hasattr(manager.hook, name):
        pytest.skip(f"this Airflow has no {name}")
    before = listeners_to_tasks()
    listener = ModuleType("heard_elsewhere")
    # An implementation may take fewer arguments than there are, here none.
    setattr(listener, name, lambda: None)
    try:
        from airflow.listeners import hookimpl
    except ImportError:
        from airflow.sdk import hookimpl  # pyright: ignore[reportAttributeAccessIssue]
    setattr(listener, name, hookimpl(getattr(listener, name)))
    manager.add_listener(listener)
    try:
        assert listeners_to_tasks() == (before if name.endswith("failed") else sorted([*before, "heard_elsewhere"]))
    finally:
        manager.pm.unregister(listener)


def test_with_an_xcom_backend_of_its_own_a_worker_ends_the_task(
    host: Any, triggerer: Triggerer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(end_in_trigger, "stores_xcoms_elsewhere", lambda: True)
    on_worker(host, triggerer, capsys, "this Airflow has an XCom backend of its own")


def test_where_an_xcom_cannot_be_stored_a_worker_ends_the_task(
    host: Any, triggerer: Triggerer, capsys: pytest.CaptureFixture[str]
) -> None:
    triggerer.channel.fails = RuntimeError("the database is away")
    on_worker(host, triggerer, capsys, "a worker does it")


def test_outside_of_a_triggerer_as_in_dag_test_the_task_ends_as_it_does_without_it(host: Any) -> None:
    run = host.made("nexio", script="succeeded")
    task = NexioRunSensor(task_id="a_task", **run, deferrable=True, end_from_trigger=True)
    assert host.run(task).result["outcome"] == "succeeded"


def test_a_row_of_an_older_version_and_one_of_a_later_one_end_on_a_worker(host: Any, triggerer: Triggerer) -> None:
    run = host.made("nexio", script="succeeded")
    task = NexioRunSensor(task_id="a_task", **run, deferrable=True, end_from_trigger=True)
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(triggerer.context)
    trigger: Any = stored(deferred.value.trigger)
    trigger.end["policy"]["verdicts"]["succeeded"] = "a verdict of later"
    assert triggerer.event(trigger).payload["kind"] == "ended"
    trigger.end = None
    assert triggerer.event(trigger).payload["kind"] == "ended"


class OtherLink(BaseOperatorLink):
    name = "Other"  # pyright: ignore[reportIncompatibleMethodOverride, reportAssignmentType]

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        return ""


class WithLinks(NexioRunSensor):
    operator_extra_links = (*NexioRunSensor.operator_extra_links, OtherLink())


def test_a_button_of_the_user_s_own_is_filled_by_a_worker(
    host: Any, triggerer: Triggerer, capsys: pytest.CaptureFixture[str]
) -> None:
    run = host.made("nexio", script="succeeded")
    task = WithLinks(task_id="a_task", **run, deferrable=True, end_from_trigger=True)
    triggerer.run(task)
    assert triggerer.ended_here == 0
    assert "links of its own" in capsys.readouterr().out


class Taking(BaseOperator):
    def __init__(self, *, given: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.given = given


def test_a_result_that_a_later_task_is_mapped_over_is_pushed_by_a_worker(
    host: Any, triggerer: Triggerer, capsys: pytest.CaptureFixture[str]
) -> None:
    with DAG("d", schedule=None):
        run = host.made("nexio", script="succeeded")
        task = NexioRunSensor(task_id="a_task", **run, deferrable=True, end_from_trigger=True)
        Taking.partial(task_id="mapped").expand(given=task.output)
    triggerer.run(task)
    assert triggerer.ended_here == 0
    assert "mapped over its result" in capsys.readouterr().out


@pytest.mark.parametrize("rendered", [None, "the first"])
def test_a_name_of_a_mapped_task_that_only_its_end_can_fill_is_filled_by_a_worker(
    host: Any, triggerer: Triggerer, rendered: str | None
) -> None:
    run = host.made("nexio", script="succeeded")
    task = NexioRunSensor(
        task_id="a_task", **run, deferrable=True, end_from_trigger=True, map_index_template="{{ task.run_id }}"
    )
    triggerer.context["ti"].rendered_map_index = rendered
    triggerer.run(task)
    assert triggerer.ended_here == (rendered is not None)


def test_the_result_of_a_dag_is_pushed_by_a_worker(host: Any, triggerer: Triggerer) -> None:
    run = host.made("nexio", script="succeeded")
    task = NexioRunSensor(task_id="a_task", **run, deferrable=True, end_from_trigger=True)
    task.returns_dag_result = True
    triggerer.run(task)
    assert triggerer.ended_here == 0


def test_what_a_policy_of_the_cluster_adds_later_is_not_lost(
    host: Any, triggerer: Triggerer, capsys: pytest.CaptureFixture[str]
) -> None:
    run = host.made("nexio", script="succeeded")
    task = NexioRunSensor(task_id="a_task", **run, deferrable=True, end_from_trigger=True)
    task.on_success_callback = [print]
    triggerer.run(task)
    assert triggerer.ended_here == 0
    assert "it has on_success_callback" in capsys.readouterr().out


# --- what is refused when the DAG is built ---


def callback(*given: Any) -> None: ...


LOST: dict[str, Any] = {
    "outlets": [Asset("an_asset")],
    "on_success_callback": callback,
    "on_skipped_callback": callback,
    "post_execute": callback,
    "multiple_outputs": True,
}
LOST_WITHOUT_WORKER: dict[str, Any] = {
    "on_execute_callback": callback,
    "pre_execute": callback,
    "inlets": [Asset("an_asset")],
}
KEPT: dict[str, Any] = {
    "on_failure_callback": callback,
    "on_retry_callback": callback,
    "retries": 3,
    "soft_fail": True,
    "never_fail": True,
    "do_xcom_push": False,
}


@pytest.mark.parametrize("name", LOST)
def test_what_would_be_lost_is_refused_naming_it_and_what_to_do(name: str) -> None:
    told = rf"end_from_trigger=True would lose {name}, because .*\. Leave end_from_trigger out, or .+"
    with pytest.raises(ConfigurationError, match=told):
        NexioRunSensor(task_id="w", run_id="r", deferrable=True, end_from_trigger=True, **{name: LOST[name]})
    with pytest.raises(ConfigurationError, match=told):
        NexioRunSensor.partial(task_id="w", deferrable=True, end_from_trigger=True, **{name: LOST[name]})
    with pytest.raises(ConfigurationError, match=told):
        NyxConfigSensor(task_id="w", config_name="c", deferrable=True, end_from_trigger=True, **{name: LOST[name]})
    NexioRunSensor(task_id="w", run_id="r", deferrable=True, **{name: LOST[name]})


@pytest.mark.parametrize("name", LOST)
def test_what_default_args_bring_is_refused_too(name: str) -> None:
    with DAG("d", schedule=None, default_args={name: LOST[name]}), pytest.raises(ConfigurationError, match=name):
        NexioRunSensor(task_id="w", run_id="r", deferrable=True, end_from_trigger=True)


@pytest.mark.parametrize("name", LOST_WITHOUT_WORKER)
def test_what_needs_a_worker_at_the_beginning_is_refused_where_there_is_none(name: str) -> None:
    given = {name: LOST_WITHOUT_WORKER[name]}
    told = f"start_from_trigger=True and end_from_trigger=True would lose {name}, because"
    with pytest.raises(ConfigurationError, match=told):
        NexioRunSensor(
            task_id="w", run_id="r", deferrable=True, start_from_trigger=True, end_from_trigger=True, **given
        )
    NexioRunSensor(task_id="w", run_id="r", deferrable=True, end_from_trigger=True, **given)
    NexioRunSensor(task_id="w", run_id="r", deferrable=True, start_from_trigger=True, **given)


@pytest.mark.parametrize("name", KEPT)
def test_what_is_not_lost_is_not_refused(name: str) -> None:
    both: dict[str, Any] = {"start_from_trigger": True, "end_from_trigger": True}
    NexioRunSensor(task_id="w", run_id="r", deferrable=True, **both, **{name: KEPT[name]})


class Afterwards(NexioRunSensor):
    def execute_complete(self, context: Any, event: dict[str, Any] | None = None) -> Any:
        return {**super().execute_complete(context, event), "more": True}


class Before(RunSensor):
    def pre_execute(self, context: Any) -> None: ...


def test_what_a_class_of_the_user_s_own_does_on_a_worker_is_not_lost() -> None:
    with pytest.raises(ConfigurationError, match=r"would lose execute_complete\(\) of Afterwards"):
        Afterwards(task_id="w", run_id="r", deferrable=True, end_from_trigger=True)
    made: dict[str, Any] = {"task_id": "w", "provider": "nexio", "run_id": "r", "deferrable": True}
    Before(**made, end_from_trigger=True)
    with pytest.raises(ConfigurationError, match=r"would lose pre_execute\(\) of Before"):
        Before(**made, end_from_trigger=True, start_from_trigger=True)


def test_without_it_nothing_of_it_travels(host: Any, triggerer: Triggerer) -> None:
    run = host.made("nexio", script="succeeded")
    ended = triggerer.run(NexioRunSensor(task_id="a_task", **run, deferrable=True))
    assert "end" not in ended.deferrals[0].trigger.serialize()[1]


def test_the_log_says_the_verdict_as_on_a_worker(
    host: Any, triggerer: Triggerer, capsys: pytest.CaptureFixture[str]
) -> None:
    run = host.made("nyx", script="exhausted")
    task = NyxRunSensor(
        task_id="a_task", **run, deferrable=True, end_from_trigger=True, on_outcome={"exhausted": "warn"}
    )
    triggerer.run(task)
    out = capsys.readouterr().out
    assert triggerer.ended_here == 1
    assert "The task succeeds, because on_outcome says warn for exhausted." in out
