"""Where Airflow has no task state store: what works all the same, and that the warnings say what does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runops.airflow import RunOperator, RunSensor
from runops.airflow._compat import TaskDeferred
from runops.airflow.exceptions import ConflictError, TriggerCrashed

PAGE = Path(__file__).parents[2] / "docs" / "project" / "versions.md"


def died_after_the_submit(host: Any, task: Any, context: Any) -> str:
    """A first try that submitted and then died while it waited; its run goes on."""

    def die(seconds: float) -> None:
        raise SystemExit

    host.clock.on_sleep = die
    with pytest.raises(SystemExit):
        task.execute(context)
    host.clock.on_sleep = lambda seconds: None
    first = context["ti"].xcoms["run_id"]
    context["ti"].next_try()
    return first


@pytest.fixture
def made(host: Any, operators: Any, calls: Any) -> Any:
    def make(provider: str, **arguments: Any) -> Any:
        host.emulator.set_defaults(provider=provider, script="succeeded", seconds=60)
        return operators[provider](task_id="a_task", **calls[provider], **arguments)

    return make


@pytest.mark.parametrize("provider", ["nexio", "b3os"])
def test_a_retry_after_a_crash_submits_anew_and_each_try_warns_of_it(
    host: Any, made: Any, provider: str, capsys: pytest.CaptureFixture[str]
) -> None:
    task, context = made(provider), host.context(store=False)
    first = died_after_the_submit(host, task, context)
    assert capsys.readouterr().out.count("here a retry after a crash submits anew") == 1
    ended = host.run(task, context)
    assert capsys.readouterr().out.count("here a retry after a crash submits anew") == 1
    assert ended.result["run_id"] != first
    assert len(host.emulator.runs(provider=provider)) == 2


@pytest.mark.parametrize(("provider", "named"), [("nyx", {"mark_runs": False}), ("onepin", {})])
def test_nyx_and_onepin_refuse_a_second_run_while_the_first_goes_on(
    host: Any, made: Any, provider: str, named: dict[str, Any]
) -> None:
    task, context = made(provider, on_conflict="fail", **named), host.context(store=False)
    first = died_after_the_submit(host, task, context)
    ended = host.run(task, context)
    assert type(ended.error) is ConflictError
    assert first in str(ended.error)
    assert [run["run_id"] for run in host.emulator.runs(provider=provider)] == [first]


def test_a_deferral_and_its_resume_need_no_memory(host: Any, made: Any) -> None:
    ended = host.run(made("nexio", deferrable=True), host.context(store=False))
    assert len(ended.deferrals) == 1
    assert ended.result["outcome"] == "succeeded"
    assert len(host.emulator.requests(action="submit")) == 1


def test_a_crashed_trigger_whose_run_goes_on_fails_the_try_retryably(host: Any, made: Any) -> None:
    task, context = made("b3os", deferrable=True), host.context(store=False)
    with pytest.raises(TaskDeferred):
        task.execute(context)
    with pytest.raises(TriggerCrashed):
        task.resume_execution("__fail__", {"error": "Trigger failure"}, context)
    assert host.emulator.requests(action="cancel") == []


def test_a_reschedule_sensor_outlasts_a_gateway_between_its_pokes(host: Any, sensors: Any) -> None:
    run = host.made("nexio", script="succeeded", seconds=900)
    for kind in ({"kind": "status", "status": 404}, {"kind": "redirect", "location": "https://login.example.com/"}):
        host.emulator.add_fault(provider="nexio", action="get", skip=2, count=2, **kind)
    context = host.context(store=False)
    first = context["ti"].start_date
    context["ti"].get_first_reschedule_date = lambda context: first
    waits = sensors["nexio"](task_id="w", **run, mode="reschedule")

    def next_poke(seconds: float) -> None:
        context["ti"].start_date = first + (host.clock.now - host.clock.began + seconds) * (first.resolution * 1e6)

    host.clock.on_sleep = next_poke
    ended = host.run(waits, context)
    assert ended.error is None
    assert ended.result["outcome"] == "succeeded"
    assert ended.pokes > 5


def test_max_paused_says_where_it_is_not_applied_and_holds_where_the_provider_says_since_when(
    host: Any, sensors: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for provider, told in (("b3os", True), ("onepin", False)):
        script = "waiting" if provider == "b3os" else "paused"
        run = host.made(provider, script=script, seconds=1, age_seconds=50)
        context = host.context(store=False)
        first = context["ti"].start_date
        context["ti"].get_first_reschedule_date = lambda context, first=first: first
        task = sensors[provider](task_id="w", **run, mode="reschedule", max_paused=300, timeout=900)
        ended = host.run(task, context)
        said = capsys.readouterr().out
        assert ("max_paused needs Airflow 3.3 or newer" in said) == told
        assert ended.xcoms["run"]["ended_by"] == ("timeout" if told else "max_paused")


def test_the_words_say_what_the_code_does() -> None:
    # Python 3.13 and newer take the indentation away.
    assert "below, each try submits" in " ".join((RunOperator.__doc__ or "").split())
    assert "reschedule mode needs Airflow 3.3 or newer" in " ".join((RunSensor.__doc__ or "").split())
    page = PAGE.read_text(encoding="utf-8")
    assert "Nyx: by its mark; else it submits anew, and one warning says so (OnePin refuses a second run: " in page
