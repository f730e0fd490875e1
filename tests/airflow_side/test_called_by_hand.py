"""A sensor or operator can be called in a plain unit test, with ``{}``, a mock or nothing as its context."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from runops.airflow import NektPipelineSensor, NektRunSensor, NexioRunsOperator
from runops.airflow._compat import AirflowSkipException, TaskDeferred
from runops.airflow.by_hand import whole
from runops.airflow.exceptions import AuthError, RunFailed
from tests.services import CALLS, PROVIDERS, SUBMITTING


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_sensor_s_poke_says_whether_its_run_is_over_and_gives_the_result(
    host: Any, sensors: Any, provider: str
) -> None:
    run = host.made(provider, seconds=60)
    sensor = sensors[provider](task_id="a_task", **run)
    assert not sensor.poke({}).is_done
    host.clock.now += 120
    poked = sensor.poke({})
    assert poked.is_done
    assert (poked.xcom_value["outcome"], poked.xcom_value["run_id"]) == ("succeeded", run["run_id"])


@pytest.mark.parametrize("provider", SUBMITTING)
def test_an_operator_s_execute_submits_waits_and_returns_the_result(host: Any, operators: Any, provider: str) -> None:
    context: dict[str, Any] = {}
    result = operators[provider](task_id="a_task", **CALLS[provider]).execute(context=context)
    assert (result["outcome"], result["verdict"]) == ("succeeded", "succeed")
    assert context["ti"].xcoms["run_id"] == result["run_id"]
    assert len(host.emulator.requests(provider=provider, action="submit")) == 1


def test_what_ends_a_task_otherwise_is_raised_as_airflow_would_see_it(host: Any, operators: Any, connect: Any) -> None:
    for script, error, options in (
        ("failed", RunFailed, {}),
        ("degraded", AirflowSkipException, {}),
        ("failed", AirflowSkipException, {"soft_fail": True}),
    ):
        host.emulator.set_defaults(provider="nexio", script=script)
        with pytest.raises(error):
            operators["nexio"](task_id="a_task", **CALLS["nexio"], **options).execute({})
    with pytest.raises(AuthError, match="nobody_made_me"):
        operators["nexio"](task_id="a_task", **CALLS["nexio"], nexio_conn_id="nobody_made_me").execute({})
    host.emulator.set_defaults(provider="nexio", script="succeeded", seconds=600)
    with pytest.raises(TaskDeferred):
        operators["nexio"](task_id="a_task", **CALLS["nexio"], deferrable=True).execute({})


def test_a_search_and_many_runs_can_be_called_too(host: Any) -> None:
    host.made("nekt", parents={"pipeline": "orders"}, seconds=0)
    assert NektPipelineSensor(task_id="a_task", pipeline="orders").execute({})["outcome"] == "succeeded"
    calls = [{"engine_slug": "e", "input": {"n": n}} for n in range(3)]
    assert NexioRunsOperator(task_id="a_task", calls=calls, deferrable=False).execute({})["total"] == 3


@pytest.mark.parametrize("context", [None, {"ti": MagicMock()}, MagicMock()], ids=["none", "mocked ti", "mock"])
def test_a_mock_for_a_context_works_and_hears_of_xcoms(host: Any, context: Any) -> None:
    ti = context["ti"] if isinstance(context, dict) else None
    run = host.made("nekt", seconds=0)
    assert NektRunSensor(task_id="a_task", **run).execute(context)["run_id"] == run["run_id"]
    if ti is not None:
        ti.xcom_push.assert_any_call(key="run_id", value=run["run_id"])


def test_what_stands_in_for_airflow_remembers_as_airflow_does() -> None:
    task: Any = SimpleNamespace(task_id="t", dag_id="d")
    context = whole(task, {})
    ti, store, run = context["ti"], context["task_state_store"], context["dag_run"]
    assert context["task_instance"] is ti
    assert (context["task"], whole(task, context)) == (task, context)
    told = (ti.task, ti.task_id, ti.dag_id, ti.run_id, ti.map_index, ti.try_number, ti.max_tries, ti.state)
    assert told == (task, "t", "d", "by_hand", -1, 1, 0, "running")
    assert ti.get_task_states() == {"by_hand": {"t": "running"}}
    assert ti.get_first_reschedule_date(context) is None
    assert (run.run_id, run.conf, abs(run.run_after - ti.start_date) < timedelta(minutes=1)) == ("by_hand", {}, True)
    ti.xcom_push("return_value", (1, 2))
    assert (ti.xcom_pull(task_ids="t"), ti.xcom_pull(key="other")) == ([1, 2], None)
    assert store.get("k", "default") == "default"
    store.set("k", {"a": (1,)})
    assert store.get("k") == {"a": [1]}
    store.delete("k")
    store.delete("k")
    assert store.get("k") is None


def test_what_a_context_has_of_its_own_stays() -> None:
    mine = {"dag_run": "mine", "task_state_store": "mine", "task": "mine"}
    context = whole(SimpleNamespace(task_id="t", dag_id="d"), dict(mine))
    assert {name: context[name] for name in mine} == mine
