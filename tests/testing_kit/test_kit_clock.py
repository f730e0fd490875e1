"""The clock of the testing kit by itself, and how it reads what hosts have given back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from runops.testing import FakeTime, TestingError
from runops.testing.asserting import ends, states

DAY = 86_400.0


@pytest.fixture
def moved() -> list[float]:
    return []


@pytest.fixture
def clock(moved: list[float]) -> FakeTime:
    return FakeTime(moved.append)


def called_from(module: str) -> Callable[..., Any]:
    """A function that calls another one, as code of a module does."""
    names: dict[str, Any] = {"__name__": module}
    exec("def call(function, *arguments):\n    return function(*arguments)", names)
    return names["call"]


def test_time_passes_at_once_and_each_wait_counts(clock: FakeTime, moved: list[float]) -> None:
    clock.move(5)
    clock.move(0)
    clock.move(-1)
    clock.move(2.5)
    assert (moved, clock.passed, clock.waits, clock.is_real) == ([5, 2.5], 7.5, 2, False)


def test_four_hundred_days_may_pass_and_no_more(clock: FakeTime, moved: list[float]) -> None:
    clock.move(400 * DAY)
    with pytest.raises(TestingError, match=r"^More than 400 days have passed in this test: something waits for ever\."):
        clock.move(1)
    assert moved == [400 * DAY]


def test_a_test_that_waits_for_real_moves_no_time() -> None:
    real = FakeTime(None)
    assert (real.is_real, real.passed, real.waits) == (True, 0.0, 0)
    with pytest.raises(TestingError, match=r"^This test waits for real: time cannot be moved\."):
        real.move(1)


@pytest.mark.parametrize(
    ("module", "due", "passes"),
    [
        ("runops.core.client.plain", 60.0, [1.0]),
        ("airflow.models.dag", None, [1.0]),
        ("airflow.models.dag", 60.0, [60.0]),
        ("dagster.daemon", 0.5, [1.0]),
        ("runops.emulator.app", 60.0, []),
        ("runops.testing.loops", 60.0, []),
        ("airflows", 60.0, []),
        ("users_module", 60.0, []),
    ],
)
def test_only_what_runops_and_the_hosts_sleep_for_passes_at_once(
    clock: FakeTime, moved: list[float], monkeypatch: pytest.MonkeyPatch, module: str, due: float | None, passes: Any
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("runops.testing.clock._sleep", slept.append)
    clock.next_due = lambda now: due
    called_from(module)(clock.sleep, 1.0)
    assert moved == passes
    assert slept == ([] if passes else [1.0])


def test_the_other_clock_of_the_machine_moves_for_runops_alone(clock: FakeTime) -> None:
    clock.move(DAY)
    ours, theirs = called_from("runops.core.waiting"), called_from("airflow.models")
    assert DAY - 60 < ours(clock.monotonic) - theirs(clock.monotonic) < DAY + 60


# --- what hosts give back -----------------------------------------------------------------------------------------


@dataclass
class Event:
    step_key: str | None
    event_type_value: str
    event_specific_data: Any = None


@dataclass
class Result:
    all_events: list[Event] = field(default_factory=list[Event])


def test_steps_of_dagster_are_told_by_their_keys() -> None:
    run = Result([
        Event("a", "STEP_START"), Event("a", "STEP_SUCCESS"), Event("b", "STEP_FAILURE"), Event("c", "STEP_SKIPPED"),
        Event(None, "RUN_SUCCESS"),
    ])  # fmt: skip
    assert states(run) == {"a": "success", "b": "failed", "c": "skipped"}


def test_the_ends_of_dagster_s_runs_are_read_from_all_places_where_they_stand() -> None:
    def said(**metadata: Any) -> Any:
        return SimpleNamespace(metadata={f"runops/{name}": value for name, value in metadata.items()})

    run = Result([
        Event("asset", "ASSET_MATERIALIZATION", SimpleNamespace(
            materialization=said(run_id="r1", outcome=SimpleNamespace(value="succeeded"), polls=3),
        )),
        Event("check", "ASSET_CHECK_EVALUATION", said(run_id="r2")),
        Event("op", "STEP_FAILURE", SimpleNamespace(user_failure_data=said(run_id="r3", verdict="fail"))),
        Event("op", "STEP_OUTPUT", said(url="https://example.com")),
        Event(None, "RUN_FAILURE", said(run_id="r4")),
        Event("bare", "STEP_OUTPUT", SimpleNamespace(metadata={"rows": 1})),
        Event("none", "STEP_OUTPUT", SimpleNamespace(metadata=None)),
    ])  # fmt: skip
    assert ends(run) == {
        "asset": {"run_id": "r1", "outcome": "succeeded"},
        "check": {"run_id": "r2"},
        "op": {"run_id": "r3", "verdict": "fail", "url": "https://example.com"},
    }


def test_tasks_of_airflow_are_told_by_their_ids_and_places() -> None:
    tasks = [
        SimpleNamespace(task_id="wait", map_index=-1, state="success"),
        SimpleNamespace(task_id="each", map_index=0, state="skipped"),
        SimpleNamespace(task_id="each", map_index=11, state=None),
    ]
    run = SimpleNamespace(get_task_instances=lambda: tasks)
    assert states(run) == {"wait": "success", "each[0]": "skipped", "each[11]": "None"}


@pytest.mark.parametrize("read", [states, ends])
def test_what_no_host_gives_is_refused_by_its_type(read: Callable[[Any], Any]) -> None:
    with pytest.raises(TestingError, match=r"^A int is no run of a host: give what dag\.test\(\), materialize\(\) or"):
        read(7)
