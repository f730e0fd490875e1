"""build_run_sensor: every run reported once, whatever happens to ticks, cursors, clocks and single targets."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest

from runops.core import ConfigurationError, RunRef
from runops.dagster import build_run_sensor
from runops.dagster.tick.cursor import Cursor

PARENTS = {"nyx": "config_name", "onepin": "workflow_id", "b3os": "workflow_id", "nekt": "pipeline"}
FIRST = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
SECOND = "1a9e6679-7425-40de-944b-e07fc1f90ae7"


class Daemon:
    """What Dagster's daemon does with a sensor: it writes the events one by one, then partitions, then the cursor."""

    def __init__(self, runs: Any, sensor: dg.SensorDefinition, instance: dg.DagsterInstance) -> None:
        self.runs, self.sensor, self.instance = runs, sensor, instance
        self.cursor: str | None = None
        self.requested: list[dg.RunRequest] = []

    def evaluate(self) -> Any:
        context = dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, resources={self.runs.provider.name: self.runs.resource}
        )
        return self.sensor.evaluate_tick(context)

    def tick(self, dies_after: int | None = None) -> Any:
        data = self.evaluate()
        for event in data.asset_events[:dies_after]:
            self.instance.report_runless_asset_event(event)
        if dies_after is not None:
            return data
        for request in data.dynamic_partitions_requests or []:
            self.instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))
        keys = {request.run_key for request in self.requested}
        self.requested += [request for request in data.run_requests or [] if request.run_key not in keys]
        self.cursor = data.cursor
        return data

    def reported(self, key: str) -> Counter[str]:
        """How often each run was reported to an asset, as a materialisation or an observation."""
        found: list[Any] = []
        for fetch in (self.instance.fetch_materializations, self.instance.fetch_observations):
            records = fetch(dg.AssetKey.from_user_string(key), limit=5000).records
            found += [record.asset_materialization or record.event_log_entry.asset_observation for record in records]
        return Counter(event.metadata["runops/run_id"].value for event in found if "runops/run_id" in event.metadata)

    def judged(self, key: str) -> Counter[str]:
        """How often the check of an asset was evaluated for each run."""
        check = dg.AssetCheckKey(dg.AssetKey.from_user_string(key), "runops_outcome")
        records = self.instance.event_log_storage.get_asset_check_execution_history(check, limit=5000)
        found = [
            r.event.dagster_event.asset_check_evaluation_data for r in records if r.event and r.event.dagster_event
        ]
        return Counter(str(data.metadata["runops/run_id"].value) for data in found)


@pytest.fixture
def daemon(service: Callable[[str], Any]) -> Any:
    """``daemon("nyx", targets=...)``: a sensor of its own, with an instance of its own."""
    made: list[dg.DagsterInstance] = []

    def make(name: str, **options: Any) -> Daemon:
        instance = dg.DagsterInstance.ephemeral()
        made.append(instance)
        sensor = build_run_sensor(name="runs", resource_key=name, **options)
        return Daemon(service(name), sensor, instance)

    yield make
    for instance in made:
        instance.dispose()


def events(data: Any, kind: type[Any]) -> list[Any]:
    return [event for event in data.asset_events if isinstance(event, kind)]


@pytest.mark.parametrize(("name", "kind"), PARENTS.items())
def test_runs_of_a_parent_are_reported_once_each_when_they_end(daemon: Any, clock: Any, name: str, kind: str) -> None:
    watch = daemon(name, targets={"outside/report": {kind: FIRST}})
    runs = watch.runs
    assert watch.tick().asset_events == []
    ours = [runs.made(script=script, seconds=60, parents={kind: FIRST}) for script in ("succeeded", "failed")]
    runs.made(script="succeeded", seconds=60, parents={kind: SECOND})
    still_open = watch.tick()
    assert still_open.asset_events == []
    clock.now += 120
    data = watch.tick()
    (materialization,) = events(data, dg.AssetMaterialization)
    (observation,) = events(data, dg.AssetObservation)
    assert materialization.metadata["runops/run_id"].value == ours[0].run_id
    assert materialization.tags["dagster/data_version"] == f"{name}:{ours[0].run_id}"
    assert observation.metadata["runops/run_id"].value == ours[1].run_id
    checks = {event.metadata["runops/run_id"].value: event for event in events(data, dg.AssetCheckEvaluation)}
    assert checks[ours[0].run_id].passed
    assert (checks[ours[1].run_id].passed, checks[ours[1].run_id].severity) == (False, dg.AssetCheckSeverity.ERROR)
    clock.now += 30
    assert watch.tick().asset_events == []
    assert watch.reported("outside/report") == {ref.run_id: 1 for ref in ours}


@pytest.mark.parametrize(
    ("ticks", "ahead", "seed"),
    [(30, 30, 11), (30, -30, 12), pytest.param(200, 30, 13, marks=pytest.mark.slow)],
)
def test_five_runs_a_tick_over_many_bad_ticks_are_reported_once_each(
    daemon: Any, clock: Any, ticks: int, ahead: float, seed: int
) -> None:
    chance = random.Random(seed)
    keys = ["alpha", "beta", "gamma"]
    targets = {key: {"workflow_id": f"wf_{key}"} for key in keys}
    watch = daemon("b3os", targets={**targets, "poisoned": {"workflow_id": "missing-workflow"}})
    runs = watch.runs
    # The service's clock is half a minute away from the daemon's.
    runs.emulator.now = lambda: clock.now + ahead
    made: dict[str, str] = {}
    watch.tick()
    for tick in range(ticks):
        for _ in range(5):
            key = chance.choice(keys)
            script = chance.choice(["succeeded", "failed", "cancelled", "succeeded"])
            ref = runs.made(script=script, seconds=chance.choice([1, 40, 400, 4000]), parents=targets[key])
            made[ref.run_id] = key
        clock.now += 30
        match tick % 10:
            case 3:
                watch.tick(dies_after=chance.randrange(4))
            case 5:
                watch.tick(dies_after=10_000)
            case 7:
                runs.emulator.add_fault(kind="status", status=503, provider="b3os", count=4)
                try:
                    watch.tick()
                except dg.Failure:
                    continue
            case _:
                watch.tick()
    assert runs.emulator.reset(only=("faults",)) is None
    clock.now += 5000
    found: dict[str, str] = {}
    for _ in range(30):
        clock.now += 30
        if watch.tick().asset_events:
            # The log of a thousand runs is read once none is left, not after each tick.
            continue
        found = {run_id: key for key in keys for run_id in watch.reported(key)}
        if found == made:
            break
    assert found == made
    assert watch.tick().asset_events == []
    assert {count for key in keys for count in watch.reported(key).values()} == {1}
    assert all(watch.judged(key) == watch.reported(key) for key in keys)
    assert len(made) == 5 * ticks


def test_two_hundred_targets_all_get_their_turn_and_a_tick_stays_within_its_time(daemon: Any, clock: Any) -> None:
    targets = {f"report_{nth:03}": {"workflow_id": f"wf_{nth}"} for nth in range(200)}
    watch = daemon("b3os", targets=targets, tick_seconds=36)
    runs = watch.runs
    for parent in targets.values():
        runs.made(script="succeeded", seconds=1, parents=parent)
    clock.now += 10
    # Each list takes a second.
    real = runs.emulator.now

    def slow() -> float:
        clock.now += 0.5
        return real()

    runs.emulator.now = slow
    ticks = 0
    left = list(targets)
    while left:
        began = clock.now
        data = watch.tick()
        assert clock.now - began <= 36 + 9
        assert "looked at" in data.skip_message
        ticks += 1
        assert ticks <= 12
        left = [key for key in left if not watch.reported(key)]
    assert ticks > 2
    assert all(sum(watch.reported(key).values()) == 1 for key in targets)


def test_targets_that_share_a_list_share_its_pages(daemon: Any) -> None:
    watch = daemon("nyx", targets={f"audit_{nth}": f"config-{nth}" for nth in range(50)})
    watch.tick()
    assert len(watch.runs.emulator.requests(provider="nyx", action="list")) == 1


def test_a_target_that_hangs_or_fails_does_not_keep_the_others_from_their_turn(daemon: Any, clock: Any) -> None:
    watch = daemon("b3os", targets={"bad": {"workflow_id": "missing-1"}, "good": {"workflow_id": "wf_1"}})
    run = watch.runs.made(script="succeeded", seconds=1, parents={"workflow_id": "wf_1"})
    clock.now += 10
    data = watch.tick()
    assert watch.reported("good") == {run.run_id: 1}
    assert "1 failed: bad: " in data.skip_message


def test_a_tick_fails_only_if_every_target_does_and_then_keeps_its_cursor(daemon: Any) -> None:
    watch = daemon("b3os", targets={"one": {"workflow_id": "missing-1"}, "two": {"workflow_id": "missing-2"}})
    with pytest.raises(dg.Failure, match="No target could be read"):
        watch.tick()
    assert watch.cursor is None


def test_a_daemon_that_dies_between_events_and_cursor_reports_nothing_twice(daemon: Any, clock: Any) -> None:
    watch = daemon("nyx", targets={"audit": "nightly"})
    refs = [watch.runs.made(script="succeeded", seconds=1, parents={"config_name": "nightly"}) for _ in range(4)]
    clock.now += 60
    for written in (1, 3, 5, 8):
        watch.tick(dies_after=written)
    watch.tick()
    assert watch.reported("audit") == {ref.run_id: 1 for ref in refs}
    assert watch.judged("audit") == {ref.run_id: 1 for ref in refs}


def test_a_partition_is_added_even_if_the_daemon_died_after_the_events(daemon: Any, clock: Any) -> None:
    partitions = dg.DynamicPartitionsDefinition(name="audits")
    watch = daemon("nyx", targets={"audit": "nightly"}, dynamic_partitions=partitions)
    ref = watch.runs.made(script="succeeded", seconds=1, parents={"config_name": "nightly"})
    clock.now += 60
    watch.tick(dies_after=10)
    assert not watch.instance.has_dynamic_partition("audits", ref.run_id)
    watch.tick()
    assert watch.instance.get_dynamic_partitions("audits") == [ref.run_id]
    assert watch.instance.get_materialized_partitions(dg.AssetKey("audit")) == {ref.run_id}
    assert watch.reported("audit") == {ref.run_id: 1}


def test_partitions_may_be_given_by_a_function_and_are_added_once(daemon: Any, clock: Any) -> None:
    watch = daemon(
        "nyx",
        targets={"audit": "nightly"},
        dynamic_partitions=dg.DynamicPartitionsDefinition(name="days"),
        partition_key=lambda run: run.created_at.date().isoformat(),
    )
    for _ in range(3):
        watch.runs.made(script="succeeded", seconds=1, parents={"config_name": "nightly"})
    clock.now += 60
    data = watch.tick()
    (request,) = data.dynamic_partitions_requests
    assert len(request.partition_keys) == 1
    assert watch.tick().dynamic_partitions_requests == []


def test_the_first_tick_looks_back_and_no_further(daemon: Any, clock: Any) -> None:
    watch = daemon("nyx", targets={"audit": "nightly"}, lookback=3600)
    parents = {"config_name": "nightly"}
    watch.runs.made(script="succeeded", seconds=60, age_seconds=7200, parents=parents)
    recent = watch.runs.made(script="succeeded", seconds=60, age_seconds=1800, parents=parents)
    long_open = watch.runs.made(script="succeeded", seconds=90_000, age_seconds=86_400, parents=parents)
    watch.tick()
    assert watch.reported("audit") == {recent.run_id: 1}
    clock.now += 10_000
    watch.tick()
    assert watch.reported("audit") == {recent.run_id: 1, long_open.run_id: 1}


def test_runs_that_dagster_submitted_are_left_out(daemon: Any, clock: Any) -> None:
    watch = daemon("nyx", targets={"audit": "nightly"})
    own, other = (watch.runs.made(script="succeeded", seconds=1, parents={"config_name": "nightly"}) for _ in range(2))
    run = dg.DagsterRun(job_name="audit_job", tags={f"runops.nyx/{own.run_id}": "submitted"})
    watch.instance.add_run(run)
    clock.now += 60
    watch.tick()
    assert watch.reported("audit") == {other.run_id: 1}


def test_more_runs_than_a_list_shows_are_said_to_be_a_gap(
    daemon: Any, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runops.core.waiting.listing.MOST_PAGES", 1)
    watch = daemon("b3os", targets={"report": {"workflow_id": "wf_1"}})
    watch.tick()
    for _ in range(101):
        watch.runs.made(script="succeeded", seconds=1, parents={"workflow_id": "wf_1"})
    clock.now += 7200
    data = watch.tick()
    (gap,) = [event for event in events(data, dg.AssetObservation) if "runops/gap" in event.metadata]
    assert "more runs of workflow_id wf_1" in gap.description.lower()
    assert watch.reported("report").total() == 100
    assert [e for e in events(watch.tick(), dg.AssetObservation) if "runops/gap" in e.metadata] == []


def test_the_run_that_ended_last_is_the_last_to_be_reported(daemon: Any, clock: Any) -> None:
    watch = daemon("nyx", targets={"audit": "nightly"})
    long, short = (
        watch.runs.made(script="succeeded", seconds=seconds, parents={"config_name": "nightly"})
        for seconds in (600, 60)
    )
    watch.tick()
    clock.now += 1000
    found = [event.metadata["runops/run_id"].value for event in events(watch.tick(), dg.AssetMaterialization)]
    assert found == [short.run_id, long.run_id]


def test_a_burst_is_reported_over_several_ticks(daemon: Any, clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runops.dagster.tick.tick.MOST_RUNS", 5)
    watch = daemon("nyx", targets={"audit": "nightly", "other": "weekly"})
    for parent in ["nightly"] * 12 + ["weekly"]:
        watch.runs.made(script="succeeded", seconds=1, parents={"config_name": parent})
    clock.now += 60
    reported = [len(events(watch.tick(), dg.AssetMaterialization)) for _ in range(5)]
    assert max(reported) == 5
    assert sum(reported) == 13
    assert set(watch.reported("audit").values()) | set(watch.reported("other").values()) == {1}


def test_neither_the_cursor_nor_an_event_holds_a_key(daemon: Any, clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = daemon("b3os", targets={"report": "wf_1"})
    monkeypatch.setenv("CANARY", "canary-key-9d41")
    watch.runs.resource = type(watch.runs.resource)(api_key=dg.EnvVar("CANARY"), base_url=watch.runs.base_url)
    watch.runs.made(script="failed_secret", seconds=1, parents={"workflow_id": "wf_1"})
    clock.now += 60
    data = watch.tick()
    written = data.cursor + "".join(dg.serialize_value(event) for event in data.asset_events)
    assert watch.reported("report").total() == 1
    assert "canary" not in written
    assert "sk_live" not in written
    assert "jane.doe" not in written


FIRST_CURSOR = (
    '{"version":1,"first":"audit","targets":{"audit":{"watches":"%s","trail":{"version":1,"horizon":1763800000.5,'
    '"open":{"r_1":1763800001.0},"done":{"r_0":1763800000.5},"gap":false},"doubtful":{"r_1":1763800002.0},'
    '"newest_event":7}}}'
)


def test_a_cursor_of_the_first_release_is_read() -> None:
    memory = Cursor.parse(FIRST_CURSOR % "abc").memory("audit", "abc")
    assert (memory.runs.horizon, memory.newest_event) == (1763800000.5, 7)
    assert (set(memory.runs.open), set(memory.runs.done)) == ({"r_1"}, {"r_0"})
    assert memory.doubted_for("r_1", 1763800012.0) == 10
    assert not Cursor.parse(FIRST_CURSOR % "abc").memory("audit", "another").runs.begun


def test_given_runs_are_followed_to_their_end(daemon: Any, service: Callable[[str], Any], clock: Any) -> None:
    runs = service("nexio")
    one, two = runs.made(script="succeeded", seconds=60), runs.made(script="degraded", seconds=600)
    watch = daemon("nexio", targets={"scores": [one, two]}, on_outcome={"degraded": "warn"})
    assert watch.tick().asset_events == []
    clock.now += 100
    watch.tick()
    assert watch.reported("scores") == {one.run_id: 1}
    clock.now += 1000
    watch.tick()
    watch.tick()
    assert watch.reported("scores") == {one.run_id: 1, two.run_id: 1}


def test_a_result_that_comes_late_is_waited_for_and_one_that_never_comes_is_a_failure(daemon: Any, clock: Any) -> None:
    watch = daemon("nyx", targets={"audit": "nightly"})
    run = watch.runs.made(script="no_result", seconds=1, parents={"config_name": "nightly"})
    clock.now += 10
    assert watch.tick().asset_events == []
    clock.now += 30
    assert watch.tick().asset_events == []
    clock.now += 31
    (observation,) = events(watch.tick(), dg.AssetObservation)
    assert observation.metadata["runops/outcome"].value == "failed"
    assert watch.reported("audit") == {run.run_id: 1}


def test_a_word_that_nobody_documented_is_reported_as_a_failure_and_never_as_success(daemon: Any, clock: Any) -> None:
    watch = daemon("nekt", targets={"load": {"pipeline": "p1"}})
    run = watch.runs.made(script="unknown_word_ended", seconds=1, parents={"pipeline": "p1"})
    clock.now += 60
    data = watch.tick()
    assert events(data, dg.AssetMaterialization) == []
    assert "not documented" in events(data, dg.AssetObservation)[0].metadata["runops/reason"].value
    assert not events(data, dg.AssetCheckEvaluation)[0].passed
    assert watch.reported("load") == {run.run_id: 1}


def test_the_reason_of_a_failure_is_read(daemon: Any, clock: Any) -> None:
    watch = daemon("b3os", targets={"report": "wf_1"})
    watch.runs.made(script="failed", seconds=1, parents={"workflow_id": "wf_1"})
    clock.now += 60
    (observation,) = events(watch.tick(), dg.AssetObservation)
    assert observation.metadata["runops/reason"].value


@dg.op(config_schema={"run_id": str})
def take(context) -> None: ...


@dg.job
def take_over() -> None:
    take()


def test_runs_of_a_job_are_requested_with_a_key_that_makes_them_unique(daemon: Any, clock: Any) -> None:
    watch = daemon(
        "nyx",
        targets={"audit": "nightly"},
        request_job=take_over,
        run_config=lambda run: {"ops": {"take": {"config": {"run_id": run.ref.run_id}}}},
    )
    parents = {"config_name": "nightly"}
    good = watch.runs.made(script="succeeded", seconds=1, parents=parents)
    watch.runs.made(script="failed", seconds=1, parents=parents)
    clock.now += 60
    watch.tick(dies_after=0)
    data = watch.tick()
    (request,) = data.run_requests
    assert request.run_key == f"nyx:{good.run_id}"
    assert request.run_config["ops"]["take"]["config"]["run_id"] == good.run_id
    assert request.tags["runops/run_id"] == good.run_id
    assert data.asset_events == []
    assert watch.tick().run_requests == []


def test_a_function_that_fails_keeps_its_run_open_until_it_works(daemon: Any, clock: Any) -> None:
    answers: dict[str, str] = {}
    watch = daemon("nyx", targets={"audit": "nightly"}, partition_key=lambda run: answers[run.ref.run_id])
    one, two = (watch.runs.made(script="succeeded", seconds=1, parents={"config_name": "nightly"}) for _ in range(2))
    answers[two.run_id] = "second"
    clock.now += 60
    data = watch.tick()
    assert "KeyError" in data.skip_message
    assert watch.reported("audit") == {two.run_id: 1}
    answers[one.run_id] = "first"
    watch.tick()
    assert watch.reported("audit") == {one.run_id: 1, two.run_id: 1}


def test_a_run_that_vanishes_is_said_to_be_lost_after_a_while(daemon: Any, clock: Any) -> None:
    watch = daemon("nyx", targets={"audit": [RunRef(provider="nyx", run_id="never-was")]})
    assert watch.tick().asset_events == []
    clock.now += 1000
    (observation,) = watch.tick().asset_events
    assert "is gone" in observation.description
    assert watch.tick().asset_events == []


def test_a_tick_with_only_events_does_not_look_empty(daemon: Any, clock: Any) -> None:
    watch = daemon("nyx", targets={"audit": "nightly"})
    watch.runs.made(script="succeeded", seconds=1, parents={"config_name": "nightly"})
    clock.now += 60
    assert watch.tick().skip_message == "Reported 1 runs; looked at 1 of 1 targets."


@pytest.mark.parametrize("cursor", ["nonsense", "[]", '{"version": 1}', '{"version": 3, "targets": {}, "first": null}'])
def test_an_unreadable_cursor_fails_the_tick_and_does_not_begin_anew(daemon: Any, cursor: str) -> None:
    watch = daemon("nyx", targets={"audit": "nightly"})
    watch.cursor = cursor
    with pytest.raises(Exception, match=r"cursor") as raised:
        watch.tick()
    assert "anew" in str(raised.value.__cause__ or raised.value)


def test_a_target_that_watches_another_parent_begins_anew_and_one_that_is_gone_is_forgotten(
    daemon: Any, clock: Any
) -> None:
    before = daemon("nyx", targets={"audit": "nightly", "other": "weekly"})
    before.tick()
    after = daemon("nyx", targets={"audit": "hourly"})
    after.cursor = before.cursor
    run = after.runs.made(script="succeeded", seconds=1, age_seconds=600, parents={"config_name": "hourly"})
    after.tick()
    assert after.reported("audit") == {run.run_id: 1}
    assert list(json.loads(after.cursor)["targets"]) == ["audit"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"targets": {}}, "targets must map"),
        ({"targets": {"a": 3}}, "targets\\['a'\\] must be a parent"),
        ({"targets": {"a": []}}, "targets\\['a'\\] must be a parent"),
        ({"targets": {"a": ""}}, "parent is empty"),
        ({"targets": {"a": {"config_name": "../x"}}}, "config_name"),
        ({"targets": {"a": "b"}, "lookback": -1}, "lookback"),
        ({"targets": {"a": "b"}, "tick_seconds": 0}, "tick_seconds"),
        ({"targets": {"a": "b"}, "on_outcome": {"failed": "maybe"}}, "maybe"),
        ({"targets": {"a": "b"}, "run_config": dict}, "run_config belongs"),
        ({"targets": {"a": "b"}, "resource_key": "a b"}, "resource_key"),
    ],
)
def test_bad_arguments_of_a_sensor_are_refused_when_it_is_built(options: dict[str, Any], told: str) -> None:
    given: dict[str, Any] = {"name": "runs", "resource_key": "nyx", **options}
    with pytest.raises(ConfigurationError, match=told) as raised:
        build_run_sensor(**given)
    assert str(raised.value).startswith("build_run_sensor('runs')")


REGIONS = dg.StaticPartitionsDefinition(["north", "south"])


def with_definitions(watch: Any, definitions: dg.Definitions) -> Any:
    """One tick of a sensor that knows its code location."""
    context = dg.build_sensor_context(
        instance=watch.instance,
        cursor=watch.cursor,
        definitions=definitions,
        resources={watch.runs.provider.name: watch.runs.resource},
    )
    return watch.sensor.evaluate_tick(context)


def located(watch: Any, *assets: Any, jobs: Any = ()) -> dg.Definitions:
    return dg.Definitions(
        assets=list(assets), jobs=list(jobs), sensors=[watch.sensor], resources={"nyx": watch.runs.resource}
    )


def test_a_partition_key_that_raises_is_named_with_its_text_and_shows_no_secret(daemon: Any, clock: Any) -> None:
    def region(run: Any) -> str:
        return {"north": "n"}["eastern"]

    def leaking(run: Any) -> str:
        raise ValueError("no region for https://user:hunter2@example.com with token=abc123")

    for function, text in (
        (region, "partition_key raised KeyError: 'eastern'"),
        (leaking, "raised ValueError: no reg"),
    ):
        watch = daemon("nyx", targets={"audit": "nightly"}, partition_key=function)
        watch.runs.made(script="succeeded", seconds=1, parents={"config_name": "nightly"})
        clock.now += 60
        said = watch.tick().skip_message
        assert text in said
        assert "audit" in said
        assert "hunter2" not in said
        assert "abc123" not in said


@pytest.mark.parametrize(
    ("asset", "text"),
    [
        (dg.AssetSpec("audit", partitions_def=REGIONS), "asset audit has no partition 'nort'; there is 'north'"),
        (dg.AssetSpec("audit"), "asset audit has no partitions"),
    ],
)
def test_a_partition_that_does_not_exist_is_reported_and_said(
    daemon: Any, clock: Any, asset: dg.AssetSpec, text: str
) -> None:
    watch = daemon("nyx", targets={"audit": "nightly"}, partition_key=lambda run: "nort")
    ref = watch.runs.made(script="succeeded", seconds=1, parents={"config_name": "nightly"})
    clock.now += 60
    data = with_definitions(watch, located(watch, asset))
    (materialization,) = events(data, dg.AssetMaterialization)
    assert (materialization.partition, materialization.metadata["runops/run_id"].value) == ("nort", ref.run_id)
    assert text in data.skip_message
    assert ref.run_id in data.skip_message


AUDITS = dg.DynamicPartitionsDefinition(name="audits")


@pytest.mark.parametrize(
    ("partitions", "options"),
    [(REGIONS, {"partition_key": lambda run: "north"}), (AUDITS, {"dynamic_partitions": AUDITS})],
    ids=["exists", "is-added"],
)
def test_a_partition_that_exists_or_is_being_added_needs_no_word(
    daemon: Any, clock: Any, partitions: Any, options: dict[str, Any]
) -> None:
    watch = daemon("nyx", targets={"audit": "nightly"}, **options)
    watch.runs.made(script="succeeded", seconds=1, parents={"config_name": "nightly"})
    clock.now += 60
    data = with_definitions(watch, located(watch, dg.AssetSpec("audit", partitions_def=partitions)))
    assert len(events(data, dg.AssetMaterialization)) == 1
    assert "partition" not in data.skip_message


def test_the_nearest_of_partitions_that_were_added_by_name_is_said(daemon: Any, clock: Any) -> None:
    watch = daemon("nyx", targets={"audit": "nightly"}, partition_key=lambda run: "nort")
    watch.instance.add_dynamic_partitions("audits", ["south", "north"])
    watch.runs.made(script="succeeded", seconds=1, parents={"config_name": "nightly"})
    clock.now += 60
    data = with_definitions(watch, located(watch, dg.AssetSpec("audit", partitions_def=AUDITS)))
    assert "asset audit has no partition 'nort'; there is 'north'" in data.skip_message


def test_a_run_that_would_be_requested_for_a_missing_partition_holds_up_no_other(daemon: Any, clock: Any) -> None:
    @dg.job(partitions_def=REGIONS)
    def take() -> None: ...

    regions: dict[str, str] = {}
    watch = daemon(
        "nyx", targets={"audit": "nightly"}, request_job=take, partition_key=lambda run: regions[run.ref.run_id]
    )
    parents = {"config_name": "nightly"}
    lost, good = (watch.runs.made(script="succeeded", seconds=1, parents=parents) for _ in range(2))
    regions |= {lost.run_id: "nort", good.run_id: "south"}
    clock.now += 60
    data = with_definitions(watch, located(watch, jobs=[take]))
    (request,) = data.run_requests
    assert (request.partition_key, request.run_key) == ("south", f"nyx:{good.run_id}")
    watch.cursor = data.cursor
    data = with_definitions(watch, located(watch, jobs=[take]))
    assert data.run_requests == []
    assert "job take has no partition 'nort'; there is 'north'" in data.skip_message


def test_a_sensor_whose_resource_has_no_key_names_the_resource(
    daemon: Any, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIT_KEY", "")
    watch = daemon("nyx", targets={"audit": "nightly"})
    watch.runs.resource = type(watch.runs.resource)(api_key=dg.EnvVar("AUDIT_KEY"))
    with pytest.raises(ConfigurationError, match=r"Resource 'nyx': .*AUDIT_KEY"):
        watch.tick()


def test_targets_that_cannot_be_read_name_the_resource(daemon: Any, clock: Any) -> None:
    watch = daemon("nyx", targets={"audit": "nightly", "other": "weekly"})
    watch.runs.emulator.add_fault(kind="status", status=500, provider="nyx", count=1)
    said = watch.tick().skip_message
    assert "Resource 'nyx': 1 failed: audit: " in said
