"""What a DAG author may pass by name: known to type checkers, and refused by its right name when a DAG is built."""

from __future__ import annotations

import inspect
import re
from datetime import datetime, timedelta
from typing import Any

import pytest
from airflow import __version__ as airflow_version
from airflow.sdk import DAG, BaseOperator, BaseSensorOperator

import runops.airflow
from runops.airflow import (
    NexioRunOperator,
    NyxConfigSensor,
    NyxRunSensor,
    RunFinishedTrigger,
    RunOperator,
    RunSensor,
    RunsOperator,
    RunsSensor,
)
from runops.airflow.arguments import (
    DiscoverySettings,
    HookSettings,
    OperatorSettings,
    RunSensorSettings,
    RunsOperatorSettings,
    SensorArguments,
    SetSensorSettings,
    TaskArguments,
    names_of,
)
from runops.airflow.providers import RECORDS
from runops.core import ConfigurationError
from runops.core.waiting.options import SubmitSettings, WaitSettings
from tests.services import CALLS

TESTED = "3.3."
"""The versions of Airflow whose arguments are listed; others may have some more, or not all of them yet."""
REQUIRED: dict[str, dict[str, Any]] = {
    "B3osRunOperator": {"workflow_id": "w"},
    "B3osRunSensor": {"run_id": "r"},
    "B3osWorkflowSensor": {"workflow_id": "w"},
    "NektPipelineSensor": {"pipeline": "p"},
    "NektRunSensor": {"run_id": "r"},
    "NexioRunOperator": {"engine_slug": "e", "input": {}},
    "NexioRunSensor": {"run_id": "r"},
    "NyxConfigSensor": {"config_name": "c"},
    "NyxRunOperator": {
        "config_name": "c", "name": "n", "target": {}, "objective": "o", "budget_usd": 1, "severity_target": "low",
    },
    "NyxRunSensor": {"run_id": "r"},
    "OnepinRunOperator": {"workflow_id": "w"},
    "OnepinRunSensor": {"workflow_id": "w", "run_id": "r"},
    "OnepinWorkflowSensor": {"workflow_id": "w"},
    "RunDiscoverySensor": {"provider": "nyx", "parent": "c"},
    "RunOperator": {"provider": "nexio"},
    "B3osRunsOperator": {"calls": [{"workflow_id": "w"}]},
    "B3osRunsSensor": {"run_ids": ["r"]},
    "NektRunsSensor": {"run_ids": ["r"]},
    "NexioRunsOperator": {"calls": [{"engine_slug": "e", "input": {}}]},
    "NexioRunsSensor": {"run_ids": ["r"]},
    "NyxRunsOperator": {
        "calls": [
            {"config_name": "c", "name": "n", "target": {"url": "https://a.example"}, "objective": "o",
             "budget_usd": 1, "severity_target": "low"},
        ],
    },
    "NyxRunsSensor": {"run_ids": ["r"]},
    "OnepinRunsOperator": {"calls": [{"workflow_id": "w"}]},
    "OnepinRunsSensor": {"workflow_id": "w", "run_ids": ["r"]},
    "RunsSensor": {"provider": "nyx", "run_ids": ["r"]},
    "RunsOperator": {"provider": "onepin", "calls": [{"workflow_id": "w"}]},
    "RunSensor": {"provider": "nyx", "run_id": "r"},
}  # fmt: skip
TASKS = [name for name in runops.airflow.__all__ if name.endswith(("Sensor", "Operator"))]


def refused(name: str, wrong: str, right: str) -> Any:
    text = f"{name} takes no argument {wrong!r}. Did you mean {right!r}?"
    return pytest.raises(ConfigurationError, match=f"^{re.escape(text)}")


def parameters(kind: Any) -> set[str]:
    found = inspect.signature(kind.__init__).parameters.values()
    return {each.name for each in found if each.kind is each.KEYWORD_ONLY}


def test_the_test_knows_every_task() -> None:
    assert sorted(REQUIRED) == sorted(TASKS)


@pytest.mark.parametrize(
    ("kind", "typed", "read_by_ours"),
    [(BaseOperator, TaskArguments, set[str]()), (BaseSensorOperator, SensorArguments, {"poke_interval"})],
)
def test_airflows_own_arguments_are_those_of_the_installed_airflow(kind: Any, typed: Any, read_by_ours: Any) -> None:
    named = set(typed.__annotations__) - (set() if kind is BaseOperator else set(TaskArguments.__annotations__))
    theirs = parameters(kind) - read_by_ours
    assert len(theirs & named) > 0.9 * len(theirs)
    if airflow_version.startswith(TESTED):
        assert named == theirs


@pytest.mark.parametrize("name", TASKS)
def test_what_is_typed_is_what_a_class_takes(name: str) -> None:
    kind: Any = getattr(runops.airflow, name)
    typed: Any = OperatorSettings if issubclass(kind, RunOperator) else RunSensorSettings
    if issubclass(kind, RunsOperator):
        typed = RunsOperatorSettings
    if issubclass(kind, RunsSensor):
        typed = SetSensorSettings
    if issubclass(kind, runops.airflow.RunDiscoverySensor):
        typed = DiscoverySettings
    ours = set(typed.__annotations__) - set(TaskArguments.__annotations__)
    own = {name for name in parameters(kind) if not name.startswith("_")}
    assert names_of(kind) == ours | own | parameters(BaseOperator) | ({"conn_id"} if kind in GENERIC else set())


GENERIC = (RunSensor, RunOperator, RunsOperator, RunsSensor, runops.airflow.RunDiscoverySensor)


def test_what_a_user_may_say_about_a_wait_is_what_the_core_says() -> None:
    for settings in (WaitSettings, SubmitSettings):
        assert set(settings.__annotations__) <= names_of(RunOperator)
    assert set(HookSettings.__annotations__) == parameters(runops.airflow.RunHook) - {"provider"}


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("retires", "retries"),
        ("on_outcomes", "on_outcome"),
        ("max_pause", "max_paused"),
        ("eror_budget", "error_budget"),
    ],
)
@pytest.mark.parametrize("name", TASKS)
def test_a_wrong_name_is_refused_with_the_class_and_the_right_name(name: str, wrong: str, right: str) -> None:
    kind = getattr(runops.airflow, name)
    for given in ({**REQUIRED[name], wrong: 1}, {wrong: 1}):
        with refused(name, wrong, right):
            kind(task_id="t", **given)
    with refused(name, wrong, right):
        kind.partial(task_id="t", **{wrong: 1})


@pytest.mark.parametrize("name", TASKS)
def test_the_pace_has_one_name_for_sensors_and_one_for_operators_and_the_other_is_refused_with_it(name: str) -> None:
    right, wrong = ("poke_interval", "poll_interval") if name.endswith("Sensor") else ("poll_interval", "poke_interval")
    kind = getattr(runops.airflow, name)
    kind(task_id="t", **REQUIRED[name], **{right: 5})
    with refused(name, wrong, right):
        kind(task_id="t", **REQUIRED[name], **{wrong: 5})


def test_a_wrong_name_in_place_of_a_required_one_is_what_the_error_is_about() -> None:
    with refused("NexioRunOperator", "inputs", "input"):
        NexioRunOperator(task_id="t", engine_slug="e", inputs={})  # pyright: ignore[reportCallIssue]
    with refused("NyxRunSensor", "conn_id", "nyx_conn_id"):
        NyxRunSensor(task_id="t", run_id="r", conn_id="c")  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize("name", [name for name in runops.airflow.__all__ if name.endswith("Hook")])
def test_a_hook_refuses_a_wrong_name(name: str) -> None:
    with refused(name, "loger_name", "logger_name"):
        getattr(runops.airflow, name)("c", loger_name="l")


def test_a_watch_refuses_a_wrong_name_of_an_author_but_not_of_a_row_from_a_later_version() -> None:
    wrong: dict[str, Any] = {"provider": "nyx", "parent": "c", "poll_intervall": 60}
    with refused("RunFinishedTrigger", "poll_intervall", "poll_interval"):
        RunFinishedTrigger(**wrong)
    assert RunFinishedTrigger(**wrong, version=2).serialize()[1]["version"] == 2


def test_default_args_reach_our_classes_and_names_of_others_in_them_are_no_error() -> None:
    defaults = {
        "on_outcome": {"degraded": "warn"},
        "error_budget": timedelta(minutes=1),
        "poll_interval": 7,
        "retries": 3,
        "nexio_conn_id": "eu",
        "which": "next",
        "bash_command": "true",
    }
    with DAG("defaults", start_date=datetime(2026, 1, 1), schedule=None, default_args=defaults):  # noqa: DTZ001
        operator = NexioRunOperator(task_id="o", engine_slug="e", input={})
        sensor = NyxConfigSensor(task_id="s", config_name="c", error_budget=60)
        waits = NyxRunSensor(task_id="w", run_id="r")
    assert (operator.on_outcome, operator.error_budget, operator.poll_interval, operator.retries) == (
        {"degraded": "warn"}, timedelta(minutes=1), 7, 3,
    )  # fmt: skip
    assert vars(operator)["nexio_conn_id"] == "eu"
    assert (sensor.on_outcome, sensor.error_budget, sensor.which) == ({"degraded": "warn"}, 60, "next")
    assert (waits.on_outcome, waits.error_budget) == ({"degraded": "warn"}, timedelta(minutes=1))


def test_a_mapped_task_takes_every_argument_on_either_side() -> None:
    with DAG("mapped", start_date=datetime(2026, 1, 1), schedule=None) as dag:  # noqa: DTZ001
        NexioRunOperator.partial(task_id="o", input={}, error_budget=60, pool="p").expand(engine_slug=["a", "b"])
        NyxRunSensor.partial(task_id="s", soft_fail=True, max_paused=60).expand(run_id=["a", "b"])
    made: Any = dag.get_task("o")
    task = made.unmap({"engine_slug": "a"})
    assert (task.engine_slug, task.error_budget, task.pool) == ("a", 60, "p")
    waits: Any = dag.get_task("s")
    assert waits.unmap({"run_id": "b"}).max_paused == 60


def test_a_class_of_somebody_elses_may_take_what_nothing_declares() -> None:
    class Mine(NexioRunOperator):
        def __init__(self, **kwargs: Any) -> None:
            self.mine = kwargs.pop("mine")
            super().__init__(**kwargs)

    assert Mine(task_id="t", mine=1, engine_slug="e", input={}).mine == 1


def _of_services() -> list[tuple[str, str]]:
    return [(service, service.capitalize() + kind) for service, record in RECORDS.items() for kind in record.classes]


@pytest.mark.parametrize(("service", "name"), _of_services(), ids=lambda each: each)
@pytest.mark.parametrize("given", [True, False], ids=["given", "default"])
def test_every_class_of_a_service_uses_the_connection_that_it_is_given(service: str, name: str, given: bool) -> None:
    kind = getattr(runops.airflow, name)
    told = {f"{service}_conn_id": "elsewhere"} if given else {}
    expected = "elsewhere" if given else f"{service}_default"
    if kind.__name__.endswith("Hook"):
        assert (kind(**told).conn_id, kind(**told).provider.name) == (expected, service)
        return
    required = inspect.signature(kind.__init__).parameters.values()
    values = {"calls": [CALLS.get(service, {})], "run_ids": ["r"], "source": "shop", **CALLS.get(service, {})}
    asked = {each.name for each in required if each.kind is each.KEYWORD_ONLY and each.default is each.empty}
    if kind.__name__ == "NektPipelineSensor":
        asked.add("source")
    task = kind(task_id="a_task", **{each: values.get(each, "an-id") for each in asked}, **told)
    assert (task._hook().conn_id, task._hook().provider.name, task.service.name) == (expected, service, service)
