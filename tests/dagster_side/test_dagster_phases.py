"""on_phase in Dagster: who is called, what the event log and the run's tag show, and what a later try remembers."""

from __future__ import annotations

import json
import re
import runpy
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from runops.core import ConfigurationError, RunSnapshot
from runops.dagster import (
    build_run_asset,
    build_run_check,
    build_run_multi_asset,
    build_run_op,
    wait_for_run,
    wait_for_runs,
)
from runops.dagster.component.callbacks import callbacks_of
from runops.dagster.step.phases import ENTRY, PHASE
from tests.services import CALLS

pytestmark = pytest.mark.promise("on_phase calls once each time that a run enters a phase")

ROOT = Path(__file__).resolve().parents[2]
RUNNING, WAITING, OVER = {"status": "running"}, {"status": "waiting"}, {"status": "success"}
FLAPPING = [(0, RUNNING), (300, WAITING), (600, RUNNING), (900, WAITING), (1200, RUNNING), (1500, OVER)]


class Calls:
    """A callback that remembers what it was called with."""

    def __init__(self) -> None:
        self.snapshots: list[RunSnapshot] = []
        self.tags: list[str | None] = []
        self.raises: BaseException | None = None
        self.then: Callable[[], object] = lambda: None

    def __call__(self, context: Any, snapshot: RunSnapshot) -> None:
        self.snapshots.append(snapshot)
        run = context.instance.get_run_by_id(context.run.run_id)
        self.tags.append(run.tags.get(PHASE))
        self.then()
        if self.raises is not None:
            raise self.raises

    @property
    def phases(self) -> list[str]:
        return [str(snapshot.phase) for snapshot in self.snapshots]


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture
def b3os(service: Any) -> Any:
    return service("b3os")


def tells(
    service: Any, clock: Any, steps: Sequence[tuple[float, Mapping[str, Any]]], run_id: str | None = None
) -> None:
    """What a run does, by the seconds after now; without an id, the one that is submitted yet."""
    left, began = list(steps), clock.now
    service.emulator.set_defaults(provider="b3os", script="running")

    def tell(seconds: float) -> None:
        runs = service.emulator.runs(provider="b3os")
        while runs and left and left[0][0] <= clock.now + seconds - began:
            service.emulator.set_fields("b3os", run_id or runs[-1]["run_id"], left.pop(0)[1])

    clock.on_sleep = tell
    if run_id is not None:
        tell(0)


def entries(ended: Any, instance: Any) -> list[dict[str, Any]]:
    found = []
    for entry in instance.all_logs(ended.result.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        metadata = entry.dagster_event.engine_event_data.metadata
        if ENTRY in metadata:
            found.append({**metadata[ENTRY].data, "shown": metadata[PHASE].value, "text": entry.dagster_event.message})
    return found


@pytest.mark.parametrize("own", [True, False])
def test_an_asset_calls_once_for_each_entry_and_shows_it(
    b3os: Any, clock: Any, instance: Any, calls: Calls, own: bool
) -> None:
    ref = None if own else b3os.made(script="running")
    tells(b3os, clock, FLAPPING, ref and ref.run_id)
    source: dict[str, Any] = {"call": CALLS["b3os"]} if ref is None else {"run_id": ref.run_id}
    asset = build_run_asset(key="orders", resource_key="b3os", on_phase={"waiting": calls}, **source)
    ended = b3os.materialize(asset)
    assert ended.success
    assert calls.phases == ["waiting", "waiting"]
    # Whoever looks while the callback runs finds the Dagster run by its tag.
    assert calls.tags == ["waiting", "waiting"]
    assert ended.tags[PHASE] == "over"
    shown = [(entry["shown"], entry["entries"]) for entry in entries(ended, instance)]
    assert shown == [("waiting", 1), ("running", 1), ("waiting", 2), ("running", 2)]
    assert b3os.submits == own


def multi_asset(run_id: str, resources: dict[str, Any], **more: Any) -> Any:
    specs = [dg.AssetSpec("a"), dg.AssetSpec("b")]
    assets = build_run_multi_asset(name="both", specs=specs, resource_key="b3os", run_id=run_id, **more)
    return dg.Definitions(assets=[assets], resources=resources).resolve_implicit_global_asset_job_def()


def check(run_id: str, resources: dict[str, Any], **more: Any) -> Any:
    made = build_run_check(asset="a", resource_key="b3os", run_id=run_id, **more)
    return dg.Definitions(asset_checks=[made], resources=resources).resolve_implicit_global_asset_job_def()


def op(run_id: str, resources: dict[str, Any], **more: Any) -> Any:
    waits = build_run_op(name="waits", resource_key="b3os", run_id=run_id, **more)

    @dg.job(resource_defs=resources)
    def a_job() -> None:
        waits()

    return a_job


@pytest.mark.parametrize("build", [multi_asset, check, op])
def test_every_builder_of_one_run_takes_it(b3os: Any, clock: Any, instance: Any, calls: Calls, build: Any) -> None:
    ref = b3os.made(script="running")
    tells(b3os, clock, [(0, WAITING), (300, OVER)], ref.run_id)
    job = build(ref.run_id, {"b3os": b3os.resource}, on_phase={"waiting": [calls]})
    assert job.execute_in_process(instance=instance).success
    assert calls.phases == ["waiting"]


def test_a_phase_without_a_callback_is_shown_all_the_same(b3os: Any, clock: Any, instance: Any) -> None:
    ref = b3os.made(script="running")
    tells(b3os, clock, [(0, WAITING), (300, OVER)], ref.run_id)
    ended = b3os.materialize(
        build_run_asset(key="orders", resource_key="b3os", run_id=ref.run_id, on_phase={"waiting": []})
    )
    assert [entry["text"] for entry in entries(ended, instance)] == [f"b3os run {ref.run_id} has entered waiting."]


def test_without_it_nothing_is_shown_and_nothing_is_looked_up(b3os: Any, clock: Any, instance: Any) -> None:
    ref = b3os.made(script="running")
    tells(b3os, clock, [(0, WAITING), (300, OVER)], ref.run_id)
    ended = b3os.materialize(build_run_asset(key="orders", resource_key="b3os", run_id=ref.run_id))
    assert PHASE not in ended.tags
    assert entries(ended, instance) == []


@pytest.mark.parametrize("error", [ValueError("with sk_live_0123456789abcdef"), dg.Failure("no"), dg.RetryRequested()])
def test_what_a_callback_raises_is_logged_and_changes_nothing(
    b3os: Any, clock: Any, calls: Calls, error: Exception
) -> None:
    ref, other = b3os.made(script="running"), Calls()
    tells(b3os, clock, [(0, WAITING), (300, OVER)], ref.run_id)
    calls.raises = error
    asset = build_run_asset(key="orders", resource_key="b3os", run_id=ref.run_id, on_phase={"waiting": [calls, other]})
    ended = b3os.materialize(asset)
    assert ended.success
    assert other.phases == ["waiting"]
    assert "Calls failed; the wait goes on." in ended.log
    assert type(error).__name__ in ended.log
    assert Path(__file__).name in ended.log
    assert "sk_live" not in ended.log


@pytest.mark.parametrize("clock_name", ["max_paused", "timeout", "max_stalled"])
def test_no_clock_ends_a_wait_over_a_callback_in_which_the_run_has_gone_on(
    b3os: Any, clock: Any, calls: Calls, clock_name: str
) -> None:
    ref = b3os.made(script="running")
    tells(b3os, clock, [(0, WAITING), (300, RUNNING), (600, OVER)], ref.run_id)
    calls.then = lambda: clock.sleep(2000)
    settings: dict[str, Any] = {clock_name: 700}
    asset = build_run_asset(
        key="orders", resource_key="b3os", run_id=ref.run_id, on_phase={"waiting": calls}, **settings
    )
    assert b3os.materialize(asset).success
    assert calls.phases == ["waiting"]


def test_terminate_in_a_callback_cancels_the_own_run(
    b3os: Any, clock: Any, instance: Any, calls: Calls, terminate_newest: Any
) -> None:
    tells(b3os, clock, [(100, WAITING)])
    calls.then = lambda: terminate_newest(instance)
    asset = build_run_asset(key="orders", resource_key="b3os", call=CALLS["b3os"], on_phase={"waiting": calls})
    assert not b3os.materialize(asset).success
    assert (calls.phases, b3os.submits, b3os.cancels) == (["waiting"], 1, 1)


def waits(ref: Any, calls: Calls, timeouts: list[float], retries: int = 0) -> Any:
    @dg.op(required_resource_keys={"b3os"}, retry_policy=dg.RetryPolicy(max_retries=retries))
    # Dagster reads the annotation of a context as it stands, and here it would stand as text.
    def wait(context) -> None:
        timeout = timeouts.pop(0)
        wait_for_run(context, context.resources.b3os, ref=ref, timeout=timeout, on_phase={"waiting": calls})

    @dg.job
    def a_job() -> None:
        wait()

    return a_job


def test_a_retry_of_the_step_calls_nobody_twice_for_one_entry(
    b3os: Any, clock: Any, instance: Any, calls: Calls
) -> None:
    ref = b3os.made(script="running")
    tells(b3os, clock, [(0, WAITING), (1000, RUNNING), (1500, WAITING), (2000, OVER)], ref.run_id)
    job = waits(ref, calls, [600, 9000], retries=1)
    assert job.execute_in_process(instance=instance, resources={"b3os": b3os.resource}).success
    assert calls.phases == ["waiting", "waiting"]


def test_a_re_execution_calls_nobody_twice_for_one_entry(
    b3os: Any, clock: Any, instance: Any, calls: Calls, mocker: Any
) -> None:
    ref = b3os.made(script="running")
    tells(b3os, clock, [(0, WAITING), (1000, OVER)], ref.run_id)
    given: dict[str, Any] = {"instance": instance, "resources": {"b3os": b3os.resource}}
    first = waits(ref, calls, [600]).execute_in_process(**given, raise_on_error=False)
    assert not first.success
    parent = instance.get_run_by_id(first.run_id)
    mocker.patch("runops.dagster.step.phases._compat.parent_of", return_value=parent)
    assert waits(ref, calls, [9000]).execute_in_process(**given).success
    assert calls.phases == ["waiting"]


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (
            lambda: build_run_asset(key="a", resource_key="b3os", run_id="r", on_phase={"wating": print}),
            r"build_run_asset\('a'\): on_phase='wating' is no phase.*'waiting'",
        ),
        (
            lambda: build_run_asset(key="a", resource_key="b3os", run_ids=["r"], on_phase={"waiting": print}),
            r"build_run_asset\('a'\): on_phase belongs to one run",
        ),
        (
            lambda: build_run_op(name="a", resource_key="b3os", calls=[{}], on_phase={"waiting": print}),
            r"build_run_op\('a'\): on_phase belongs to one run",
        ),
    ],
)
def test_what_could_call_nobody_is_refused_when_definitions_are_loaded(build: Any, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        build()


def test_a_wait_for_many_refuses_it(b3os: Any, instance: Any) -> None:
    with pytest.raises(ConfigurationError, match="on_phase belongs to one run"):
        wait_for_runs(
            dg.build_op_context(instance=instance), b3os.resource, refs=[b3os.made()], on_phase={"waiting": print}
        )


# --- import paths, for defs.yaml ---


@pytest.fixture
def alerts(monkeypatch: Any, calls: Calls) -> ModuleType:
    module = ModuleType("alerts_of_a_project")
    module.tell = calls  # type: ignore[attr-defined]
    module.number = 3  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def test_a_file_names_functions_by_their_import_paths(alerts: Any) -> None:
    path = f"{alerts.__name__}:tell"
    assert callbacks_of({"waiting": path, "paused": [path, path], "running": []}) == {
        "waiting": alerts.tell,
        "paused": [alerts.tell, alerts.tell],
        "running": [],
    }


@pytest.mark.parametrize(
    ("named", "text"),
    [
        ({"waiting": "tell"}, r"on_phase\[waiting\]='tell' is no import path.*package.module:function"),
        ({"waiting": "no_such_module_here:tell"}, "'no_such_module_here' cannot be imported .ModuleNotFoundError"),
        ({"waiting": ["alerts_of_a_project:tel"]}, r"on_phase\[waiting\]\[0\]: .* has no 'tel'.*'tell'"),
        ({"waiting": "alerts_of_a_project:number"}, r"on_phase\[waiting\] must be a function"),
        ({"wait": "alerts_of_a_project:tell"}, "'wait' is no phase.*'waiting'"),
    ],
)
def test_what_a_file_names_wrongly_is_refused_when_it_is_loaded(alerts: Any, named: Any, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        callbacks_of(named)


def test_the_record_is_plain_and_holds_no_key(b3os: Any, clock: Any, instance: Any, calls: Calls) -> None:
    tells(b3os, clock, [(100, WAITING), (300, OVER)])
    ended = b3os.materialize(
        build_run_asset(key="orders", resource_key="b3os", call=CALLS["b3os"], on_phase={"waiting": calls})
    )
    (entry, *_) = entries(ended, instance)
    assert set(json.loads(json.dumps(entry))) == {"version", "ref", "phase", "since", "entries", "shown", "text"}
    assert entry["version"] == 1


# --- what docs/how_to/phases.md says ---


def python_blocks() -> dict[str, Any]:
    """What the Python blocks of the page about Dagster define."""
    page = (ROOT / "docs" / "how_to" / "phases.md").read_text().partition("## Dagster")[2]
    made: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(block, "docs/how_to/phases.md", "exec"), made)
    return made


def test_the_definitions_of_the_page_load() -> None:
    dg.Definitions.validate_loadable(python_blocks()["defs"])


def test_a_callback_can_report_a_check_while_the_step_goes_on(
    b3os: Any, clock: Any, instance: Any, calls: Calls
) -> None:
    warn = python_blocks()["warn_of_waiting"]
    ref = b3os.made(script="running")
    tells(b3os, clock, [(0, WAITING), (300, OVER)], ref.run_id)
    asset = build_run_asset(key="pay_out", resource_key="b3os", run_id=ref.run_id, on_phase={"waiting": [warn, calls]})
    reported: list[Any] = []

    def look() -> None:
        reported.extend(
            instance.event_log_storage.get_asset_check_execution_history(
                dg.AssetCheckKey(dg.AssetKey("pay_out"), "waits_for_nobody"), limit=5
            )
        )

    calls.then = look
    ended = b3os.materialize(asset)
    assert ended.success
    assert "failed; the wait goes on" not in ended.log
    assert len(reported) == 1


def test_the_sensor_of_the_example_finds_what_waits_for_long_once(
    b3os: Any, clock: Any, instance: Any, calls: Calls
) -> None:
    example = runpy.run_path(str(ROOT / "example_dags" / "dagster_phases.py"))
    ref = b3os.made(script="running")
    tells(b3os, clock, [(0, WAITING), (300, OVER)], ref.run_id)
    found: list[list[Any]] = []

    def tick(later: float) -> None:
        example["waiting_runs"]._raw_fn.__globals__["time"] = SimpleNamespace(time=lambda: time.time() + later)
        data = example["waiting_runs"].evaluate_tick(
            dg.build_sensor_context(instance=instance, definitions=example["defs"])
        )
        found.append([request.run_config for request in data.run_requests or []])

    calls.then = lambda: (tick(0), tick(4000))
    ended = b3os.materialize(
        build_run_asset(key="pay_out", resource_key="b3os", run_id=ref.run_id, on_phase={"waiting": calls})
    )
    tick(4000)
    wanted = {"ops": {"say": {"config": {"run_id": ended.result.run_id}}}}
    assert found == [[], [wanted], []]
    assert example["remind"].execute_in_process(run_config=wanted, instance=instance).success
