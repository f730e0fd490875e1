"""Sensors that find a run by themselves: which one they choose, how they stay with it, and how they end without."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from runops.airflow import (
    B3osWorkflowSensor,
    NektPipelineSensor,
    NyxConfigSensor,
    OnepinWorkflowSensor,
    RunDiscoverySensor,
)
from runops.airflow._compat import (
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    TaskDeferred,
    has_task_state_store,
)
from runops.airflow.discovery import moment_of
from runops.airflow.exceptions import (
    AuthError,
    ConfigurationError,
    PollingError,
    RunFailed,
    RunNotFound,
    SensorTimedOut,
)
from runops.core.model.errors import ConfigurationError as RefusedInDag
from runops.core.model.errors import NotSupported

needs_a_store = pytest.mark.skipif(not has_task_state_store(), reason="nothing outlives a poke")
WORKFLOW = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
SENSORS: dict[str, tuple[Any, dict[str, str]]] = {
    "nyx": (NyxConfigSensor, {"config_name": "nightly"}),
    "onepin": (OnepinWorkflowSensor, {"workflow_id": WORKFLOW}),
    "b3os": (B3osWorkflowSensor, {"workflow_id": "wf_1"}),
    "nekt": (NektPipelineSensor, {"pipeline": "orders"}),
    "nekt-source": (NektPipelineSensor, {"source": "shop"}),
    "nekt-destination": (NektPipelineSensor, {"destination": "lake"}),
    "nekt-transformation": (NektPipelineSensor, {"transformation": "daily"}),
}


@pytest.fixture(params=sorted(SENSORS))
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def start(host: Any, kind: str) -> Any:
    """``start(script=...)`` lets something else start a run of the parent; its id."""
    provider = kind.partition("-")[0]

    def started(**options: Any) -> str:
        options.setdefault("script", "succeeded")
        options.setdefault("seconds", 60)
        options.setdefault("parents", SENSORS[kind][1])
        return host.emulator.create_run(provider, **options)

    return started


@pytest.fixture
def sensor(kind: str) -> Any:
    """``sensor(since=...)`` makes the sensor of the parent."""
    made, parent = SENSORS[kind]
    return lambda **arguments: made(task_id="find", **parent, **arguments)


def test_the_newest_run_since_a_moment_is_waited_for(host: Any, start: Any, sensor: Any, mode: Any) -> None:
    start(age_seconds=3000)
    newest = start(age_seconds=10)
    ended = host.run(sensor(since=timedelta(hours=1), **mode))
    assert ended.error is None
    assert ended.result["run_id"] == ended.xcoms["run_id"] == newest
    assert (ended.result["outcome"], ended.result["verdict"]) == ("succeeded", "succeed")
    assert ended.xcoms["run"] == ended.result


def test_the_next_run_is_the_first_since_a_moment(host: Any, start: Any, sensor: Any, mode: Any) -> None:
    start(age_seconds=7300)
    first = start(age_seconds=3000)
    start(age_seconds=10)
    ended = host.run(sensor(since=timedelta(hours=1), which="next", **mode))
    assert ended.error is None
    assert ended.result["run_id"] == first


def test_a_run_that_starts_later_is_found_and_then_followed_by_its_id(
    host: Any, start: Any, sensor: Any, mode: Any
) -> None:
    begun: list[str] = []

    def pass_time(seconds: float) -> None:
        if host.clock.passed >= 100 and not begun:
            begun.append(start(script="succeeded", seconds=400))
        if host.clock.passed >= 250 and len(begun) == 1:
            # A newer one changes nothing any more.
            begun.append(start(script="failed"))

    host.clock.on_sleep = pass_time
    ended = host.run(sensor(since=timedelta(0), **mode))
    assert ended.error is None
    assert ended.result["run_id"] == begun[0]
    assert len(begun) == 2
    if mode["deferrable"]:
        assert [event["kind"] for event in ended.events] == ["found", "ended"]


@pytest.mark.parametrize("soft_fail", [False, True])
def test_a_wait_for_a_run_that_never_comes_times_out(
    host: Any, sensor: Any, start: Any, mode: Any, soft_fail: bool
) -> None:
    start(age_seconds=7300)
    ended = host.run(sensor(since=timedelta(hours=1), timeout=600, soft_fail=soft_fail, **mode))
    assert type(ended.error) is (AirflowSkipException if soft_fail else SensorTimedOut)
    assert isinstance(ended.error, AirflowSensorTimeout) != soft_fail
    assert "never came" in str(ended.error)
    assert 599 <= host.clock.passed <= 700
    run = ended.xcoms["run"]
    assert (run["run_id"], run["outcome"], run["run_ended"], run["ended_by"]) == ("", "timed_out", False, "timeout")


def test_a_run_that_failed_fails_the_sensor_and_a_retry_looks_anew(
    host: Any, start: Any, sensor: Any, mode: Any
) -> None:
    start(script="failed", age_seconds=10)
    task, context = sensor(since=timedelta(hours=1), **mode), host.context()
    assert type(host.run(task, context).error) is RunFailed
    again = start(script="succeeded")
    context["ti"].next_try()
    ended = host.run(task, context)
    assert ended.error is None
    assert ended.result["run_id"] == again


def test_a_retry_follows_the_run_that_was_chosen_while_it_goes_on(
    host: Any, start: Any, sensor: Any, kind: str, mode: Any
) -> None:
    chosen = start(age_seconds=10, seconds=5000)
    provider = kind.partition("-")[0]
    task, context = sensor(since=timedelta(hours=1), error_budget=200, **mode), host.context()
    host.emulator.add_fault(provider=provider, action="get", kind="status", status=500, count=None)
    assert type(host.run(task, context).error) is PollingError
    host.emulator.reset(only=("faults",))
    start(age_seconds=0, seconds=10)
    context["ti"].next_try()
    ended = host.run(task, context)
    assert ended.error is None
    assert ended.result["run_id"] == chosen


def test_a_list_that_fails_for_a_while_does_not_end_the_wait(
    host: Any, start: Any, sensor: Any, kind: str, mode: Any
) -> None:
    run_id = start(age_seconds=10)
    action = "latest" if kind == "nyx" else "list"
    host.emulator.add_fault(provider=kind.partition("-")[0], action=action, kind="status", status=502, count=3)
    ended = host.run(sensor(since=timedelta(hours=1), **mode))
    assert ended.error is None
    assert ended.result["run_id"] == run_id


def test_a_wrong_key_fails_at_once_whatever_soft_fail_says(
    host: Any, sensor: Any, kind: str, connect: Any, served: Any, mode: Any
) -> None:
    provider = kind.partition("-")[0]
    connect(f"{provider}_other", provider, host=served.base_url(provider), password="invalid-key-1234")
    ended = host.run(sensor(soft_fail=True, **{f"{provider}_conn_id": f"{provider}_other"}, **mode))
    assert type(ended.error) is AuthError
    assert host.clock.passed == 0


@pytest.mark.parametrize("kind", ["onepin", "b3os"], indirect=True)
def test_a_parent_that_does_not_exist_fails_whatever_soft_fail_says(host: Any, kind: str, mode: Any) -> None:
    ended = host.run(SENSORS[kind][0](task_id="find", workflow_id="missing-workflow", soft_fail=True, **mode))
    assert type(ended.error) is RunNotFound


@pytest.mark.parametrize("kind", ["nekt"], indirect=True)
def test_a_list_in_the_other_shape_is_an_error_that_says_so(host: Any, start: Any, mode: Any) -> None:
    start(parents={"source": "shop"})
    ended = host.run(NektPipelineSensor(task_id="find", pipeline="orders", **mode))
    assert type(ended.error) is ConfigurationError
    assert "carries no pipeline" in str(ended.error)


@pytest.mark.parametrize("kind", ["b3os"], indirect=True)
def test_the_next_run_is_found_on_a_later_page(host: Any, start: Any, sensor: Any, mode: Any) -> None:
    first = start(age_seconds=3000)
    for number in range(230):
        start(age_seconds=2000 - number)
    ended = host.run(sensor(since=timedelta(hours=1), which="next", **mode))
    assert ended.result["run_id"] == first


@pytest.mark.parametrize("kind", ["nyx"], indirect=True)
def test_a_runs_page_is_published_when_it_is_chosen(host: Any, start: Any, sensor: Any, mode: Any) -> None:
    run_id = start(age_seconds=5, script="forever")
    ended = host.run(sensor(since=timedelta(hours=1), timeout=300, **mode))
    assert type(ended.error) is SensorTimedOut
    assert ended.xcoms["run_url"].endswith(run_id)
    assert ended.xcoms["run"]["run_id"] == run_id


@pytest.mark.parametrize("kind", ["b3os"], indirect=True)
def test_execution_timeout_ends_a_search_as_a_retryable_failure_whatever_soft_fail_says(
    host: Any, sensor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = {"execution_timeout": timedelta(seconds=100), "soft_fail": True, "since": timedelta(0)}
    ended = host.run(sensor(deferrable=True, **limits))
    assert "execution_timeout" in str(ended.error)
    assert not isinstance(ended.error, (AirflowSkipException, AirflowSensorTimeout))

    def time_is_up(seconds: float) -> None:
        if host.clock.passed >= 100:
            raise AirflowTaskTimeout("Timeout")

    host.clock.began = host.clock.now
    host.clock.on_sleep = time_is_up
    ended = host.run(sensor(deferrable=False, **limits))
    assert "execution_timeout" in str(ended.error)


@pytest.mark.parametrize("kind", ["b3os"], indirect=True)
def test_a_deferral_that_no_trigger_ended_looks_a_last_time(host: Any, start: Any, sensor: Any) -> None:
    task, context = sensor(since=timedelta(0), timeout=600, deferrable=True), host.context()
    with pytest.raises(TaskDeferred):
        task.execute(context)
    run_id = start(seconds=1)
    host.clock.sleep(700)
    result = task.resume_execution("__fail__", {"error": "Trigger timeout"}, context)
    assert (result["run_id"], result["outcome"]) == (run_id, "succeeded")


# --- since ---


def context(**values: Any) -> dict[str, Any]:
    from types import SimpleNamespace

    return {"dag_run": SimpleNamespace(run_after=RUN_AFTER), **values}


RUN_AFTER = datetime(2026, 3, 5, 12, tzinfo=UTC)
EARLIER = datetime(2026, 3, 4, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("since", "expected"),
    [
        (datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)),
        (datetime.fromisoformat("2026-03-01"), datetime(2026, 3, 1, tzinfo=UTC)),
        ("2026-03-01T06:00:00Z", datetime(2026, 3, 1, 6, tzinfo=UTC)),
        ("2026-03-01 06:00:00+02:00", datetime(2026, 3, 1, 4, tzinfo=UTC)),
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC)),
        (timedelta(hours=2), RUN_AFTER - timedelta(hours=2)),
        (None, EARLIER),
    ],
)
def test_since_is_a_moment_or_a_time_before_run_after_or_the_previous_interval(since: Any, expected: datetime) -> None:
    assert moment_of(since, context(prev_data_interval_end_success=EARLIER))[0] == expected


@pytest.mark.parametrize("values", [{}, {"prev_data_interval_end_success": None}])
def test_without_an_earlier_success_a_search_goes_back_a_day(values: Any) -> None:
    moment, why = moment_of(None, context(**values))
    assert moment == RUN_AFTER - timedelta(hours=24)
    assert why == "24 h before the run_after"


@pytest.mark.parametrize("since", ["yesterday", "None", "", 7])
def test_a_since_that_is_no_moment_is_refused_and_says_what_would_be_one(since: Any) -> None:
    from runops.core.model.errors import ConfigurationError

    with pytest.raises(ConfigurationError, match="ISO-8601"):
        moment_of(since, context())


def test_the_chosen_moment_is_logged_once_and_stays_over_a_retry(host: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run = host.context()
    run["prev_data_interval_end_success"] = EARLIER
    task = NyxConfigSensor(task_id="find", config_name="nightly", timeout=100, mode="reschedule")
    host.run(task, run)
    run["prev_data_interval_end_success"] = RUN_AFTER
    run["ti"].next_try()
    host.run(task, run)
    told = [line for line in capsys.readouterr().out.splitlines() if "created since" in line]
    assert len(told) == 1
    assert "since 2026-03-04T00:00:00Z: the end of the previous successful DAG run's data interval." in told[0]


def test_in_reschedule_mode_a_list_that_is_too_short_is_told_once_and_not_at_each_look(
    host: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("runops.core.waiting.listing.MOST_PAGES", 1)
    for _ in range(120):
        host.emulator.create_run("nyx", script="running", parents={"config_name": "theirs"})
    task = NyxConfigSensor(task_id="find", config_name="nightly", which="next", timeout=600, mode="reschedule")
    host.run(task, host.context())
    assert len(host.emulator.requests(provider="nyx", action="list")) > 5
    assert caplog.text.count("does not go back as far as") == 1


# --- what a DAG may say ---


def test_a_dag_that_names_no_or_several_pipelines_is_refused() -> None:
    both: dict[str, Any] = {"pipeline": "a", "source": "b"}
    for parents in ({}, both):
        with pytest.raises(RefusedInDag, match="exactly one of pipeline, source, destination, transformation"):
            NektPipelineSensor(task_id="find", **parents)


def test_a_dag_with_an_unknown_which_is_refused() -> None:
    with pytest.raises(RefusedInDag, match="latest, next"):
        NyxConfigSensor(task_id="find", config_name="nightly", which="newest")  # pyright: ignore[reportArgumentType]


def test_a_provider_without_a_list_has_no_discovery() -> None:
    with pytest.raises(NotSupported, match="no list of runs"):
        RunDiscoverySensor(task_id="find", provider="nexio", parent="placement")


def test_the_generic_sensor_takes_a_parent_by_name_or_by_kind(host: Any, mode: Any) -> None:
    run_id = host.emulator.create_run("b3os", script="succeeded", seconds=5, parents={"workflow_id": "wf_1"})
    for parent in ("wf_1", {"workflow_id": "wf_1"}):
        ended = host.run(RunDiscoverySensor(task_id="find", provider="b3os", parent=parent, **mode))
        assert ended.result["run_id"] == run_id


def test_parents_and_since_are_templated() -> None:
    for made, parent in SENSORS.values():
        assert {*parent, "since"} <= set(made.template_fields)


@needs_a_store
def test_the_next_run_that_a_retry_finds_does_not_inherit_the_clocks_of_the_one_before(host: Any) -> None:
    parents = {"workflow_id": "wf_1"}
    host.emulator.create_run("b3os", script="failed", seconds=100, age_seconds=10, parents=parents)
    task = B3osWorkflowSensor(
        task_id="f", workflow_id="wf_1", since=timedelta(hours=1), mode="reschedule", max_stalled=600, timeout=50_000
    )
    context = host.context()
    assert type(host.run(task, context).error) is RunFailed
    store = context["task_state_store"].get("runops")
    learnt = ("chosen", "seen", "parked_since", "changed_at", "signature", "failing_since", "refused_since")
    assert {name: store.get(name) for name in learnt} == dict.fromkeys(learnt)
    host.clock.sleep(5000)
    host.emulator.create_run("b3os", script="succeeded", seconds=100, parents=parents)
    context["ti"].next_try()
    ended = host.run(task, context)
    assert ended.error is None
    assert ended.result["outcome"] == "succeeded"
