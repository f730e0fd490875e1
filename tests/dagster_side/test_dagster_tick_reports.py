"""What a tick reports, whole: the events of a run, requests, gaps, runs that are gone, and the texts of the tick."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from runops.core import ConfigurationError, Outcome, RunNotFound, RunRef, RunSnapshot, Verdict
from runops.dagster import verdicts
from runops.dagster.tick.cursor import Cursor
from runops.dagster.tick.events import Report, ReportedRuns, events_of
from runops.dagster.tick.plan import SensorPlan

KEY = dg.AssetKey(["out", "audit"])
REF = RunRef(provider="nyx", run_id="r1")
ENDED = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
NOW = ENDED.timestamp() + 60


def run(run_id: str = "r1", **fields: Any) -> RunSnapshot:
    given: dict[str, Any] = {"state": "completed", "outcome": Outcome.SUCCEEDED, "finished_at": ENDED}
    return RunSnapshot(ref=RunRef(provider="nyx", run_id=run_id), **{**given, **fields})


def configured(snapshot: RunSnapshot) -> dict[str, Any]:
    return {"ops": {"take": {"config": {"of": snapshot.ref.run_id}}}}


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def report(instance: dg.DagsterInstance, caplog: pytest.LogCaptureFixture) -> Callable[..., Report]:
    """``report(requests=True)``: of a tick whose plan says so, and whose log is in ``caplog``."""

    def make(**plan: Any) -> Report:
        repository = plan.pop("repository", None)
        context = dg.build_sensor_context(instance=instance, repository_def=repository)
        context.log.addHandler(caplog.handler)
        given: dict[str, Any] = {"resource_key": "audits", "targets": {KEY: "nightly"}, "seconds": 30.0}
        return Report(context, SensorPlan(**{**given, **plan}), NOW)

    return make


@pytest.fixture
def log(instance: dg.DagsterInstance) -> ReportedRuns:
    return ReportedRuns(instance, KEY, 0)


def result(report: Report, visited: int = 1) -> dg.SensorResult:
    return report.result(Cursor(), visited)


# --- the events of a run ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdict", "materialised", "severity"),
    [
        (Verdict.SUCCEED, True, "WARN"),
        (Verdict.WARN, True, "WARN"),
        (Verdict.SKIP, False, "WARN"),
        (Verdict.FAIL, False, "ERROR"),
    ],
)
def test_a_run_is_reported_with_all_that_is_known_of_it_and_with_a_check(
    log: ReportedRuns, verdict: Verdict, materialised: bool, severity: str
) -> None:
    unmet: Any = {"findings_count": {"expected": "0", "found": 2}}
    event, check = events_of(log, KEY, run(), (verdict, unmet), "monday", "d1")
    metadata = verdicts.metadata(run(), verdict, unmet, dagster_runs={"submitted_in": "d1"})
    metadata["dagster/last_updated_timestamp"] = dg.MetadataValue.timestamp(ENDED)
    assert isinstance(event, dg.AssetMaterialization if materialised else dg.AssetObservation)
    assert (event.asset_key, event.partition, event.description) == (KEY, "monday", "nyx run r1: completed (succeeded)")
    assert event.metadata == metadata
    if materialised:
        assert event.tags is not None
        assert event.tags["dagster/data_version"] == "nyx:r1"
    assert isinstance(check, dg.AssetCheckEvaluation)
    assert (check.asset_key, check.check_name) == (KEY, "runops_outcome")
    assert (check.passed, check.severity.value) == (verdict is Verdict.SUCCEED, severity)
    assert check.description == verdicts.judged(run(), verdict, unmet)
    assert check.metadata == metadata


def test_a_run_of_which_no_end_and_no_submitter_is_known_is_reported_without_them(log: ReportedRuns) -> None:
    event, _ = events_of(log, KEY, run(finished_at=None), (Verdict.SUCCEED, {}))
    assert isinstance(event, dg.AssetMaterialization)
    assert {"dagster/last_updated_timestamp", "runops/submitted_in"}.isdisjoint(event.metadata)
    assert event.partition is None


def test_what_the_log_shows_already_is_not_reported_again(instance: dg.DagsterInstance) -> None:
    event, check = events_of(ReportedRuns(instance, KEY, 0), KEY, run(), (Verdict.FAIL, {}))
    instance.report_runless_asset_event(event)
    again = list(events_of(ReportedRuns(instance, KEY, 0), KEY, run(), (Verdict.FAIL, {})))
    assert [type(each) for each in again] == [dg.AssetCheckEvaluation]
    instance.report_runless_asset_event(check)
    assert list(events_of(ReportedRuns(instance, KEY, 0), KEY, run(), (Verdict.FAIL, {}))) == []
    assert len(list(events_of(ReportedRuns(instance, KEY, 0), KEY, run("r2"), (Verdict.FAIL, {})))) == 2


def test_the_runs_that_a_log_shows_are_given_from_its_newest_event_on(instance: dg.DagsterInstance) -> None:
    for number in range(4):
        for event in events_of(ReportedRuns(instance, KEY, 0), KEY, run(f"r{number}"), (Verdict.SUCCEED, {})):
            instance.report_runless_asset_event(event)
    instance.report_runless_asset_event(dg.AssetObservation(KEY, metadata={"other": 1}))
    log = ReportedRuns(instance, KEY, 0)
    assert list(log.read_so_far(10)) == []
    assert REF in log
    assert [ref.run_id for ref in log.read_so_far(2)] == ["r2", "r3"]
    later = ReportedRuns(instance, KEY, log.newest)
    assert REF not in later
    assert later.newest == log.newest > 0


# --- requests --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("url", "more"), [(None, {}), ("https://x.test/r1", {"runops/url": "https://x.test/r1"})])
def test_a_requested_run_bears_what_it_is_for(
    report: Callable[..., Report], log: ReportedRuns, url: str | None, more: dict[str, str]
) -> None:
    made = report(
        requests=True,
        job="take",
        partition_key=lambda snapshot: f"p-{snapshot.ref.run_id}",
        run_config=configured,
    )
    made.add_run(KEY, run(url=url), (Verdict.WARN, {}), log)
    found = result(made)
    (request,) = found.run_requests or []
    assert request.run_key == "nyx:r1"
    assert request.run_config == {"ops": {"take": {"config": {"of": "r1"}}}}
    assert request.partition_key == "p-r1"
    ours = {name: value for name, value in request.tags.items() if name.startswith("runops/")}
    assert ours == {
        "runops/provider": "nyx",
        "runops/run_id": "r1",
        "runops/outcome": "succeeded",
        "runops/verdict": "warn",
        **more,
    }
    assert found.skip_reason is None
    assert list(found.asset_events) == []


@pytest.mark.parametrize("verdict", [Verdict.SKIP, Verdict.FAIL])
def test_a_run_that_ended_badly_requests_nothing_which_the_log_says(
    report: Callable[..., Report], log: ReportedRuns, verdict: Verdict, caplog: pytest.LogCaptureFixture
) -> None:
    made = report(requests=True, job="take")
    made.add_run(KEY, run(), (verdict, {}), log)
    assert not result(made).run_requests
    assert made.runs == 0
    assert f"nyx run r1: completed (succeeded); verdict {verdict}: no run is requested." in caplog.text


def test_what_ended_last_is_requested_last_and_what_nobody_dates_ends_now(
    report: Callable[..., Report], log: ReportedRuns
) -> None:
    made = report(requests=True, job="take")
    ends = {"undated": None, "late": ENDED + timedelta(seconds=59), "early": ENDED}
    for run_id, moment in ends.items():
        made.add_run(KEY, run(run_id, finished_at=moment), (Verdict.SUCCEED, {}), log)
    found = result(made)
    assert [request.run_key for request in found.run_requests or []] == ["nyx:early", "nyx:late", "nyx:undated"]


# --- what is said of the tick ----------------------------------------------------------------------------------


def test_a_tick_says_how_many_runs_it_has_reported_of_how_many_targets(
    report: Callable[..., Report], log: ReportedRuns
) -> None:
    made = report(targets={KEY: "nightly", dg.AssetKey("b"): "weekly"})
    for run_id in ("r1", "r2"):
        made.add_run(KEY, run(run_id), (Verdict.SUCCEED, {}), log)
    found = result(made)
    assert str(found.skip_reason and found.skip_reason.skip_message) == ("Reported 2 runs; looked at 1 of 2 targets.")
    assert found.cursor == Cursor().dump()
    assert len(found.asset_events) == 4
    assert not found.run_requests
    assert not found.dynamic_partitions_requests


@pytest.mark.parametrize(("broken", "more"), [(1, ""), (3, ""), (4, " and 1 more"), (5, " and 2 more")])
def test_a_tick_names_the_first_three_that_failed_and_counts_the_others(
    report: Callable[..., Report], broken: int, more: str, caplog: pytest.LogCaptureFixture
) -> None:
    made = report()
    for number in range(broken):
        made.add_broken(f"t{number}", ValueError("no") if number else RunNotFound("It is gone."))
    names = ["t0: It is gone.", "t1: ValueError: no", "t2: ValueError: no"][:broken]
    text = f"Resource 'audits': {broken} failed: {'; '.join(names)}{more}"
    assert made.broken_text() == text
    found = result(made, visited=0)
    assert str(found.skip_reason and found.skip_reason.skip_message) == (
        f"Reported 0 runs; looked at 0 of 1 targets. {text}"
    )
    assert "t0: It is gone." in caplog.text


@pytest.mark.parametrize("requests", [False, True])
def test_a_gap_is_an_observation_and_a_warning_where_assets_are_reported(
    report: Callable[..., Report], requests: bool, caplog: pytest.LogCaptureFixture
) -> None:
    made = report(requests=requests)
    made.add_gap(KEY, {"config_name": "nightly", "region": "eu"})
    text = "More runs of config_name nightly, region eu came than the service lists: some may be missing here (a gap)."
    assert f"out/audit: {text}" in caplog.text
    found = list(result(made).asset_events)
    if requests:
        assert found == []
        return
    (event,) = found
    assert isinstance(event, dg.AssetObservation)
    assert (event.asset_key, event.description) == (KEY, text)
    assert {name: value.value for name, value in event.metadata.items()} == {
        "runops/gap": True,
        "runops/parent": {"config_name": "nightly", "region": "eu"},
    }


def test_a_run_that_is_gone_is_an_observation_that_says_so(report: Callable[..., Report]) -> None:
    made = report()
    made.add_lost(KEY, REF, RunNotFound("404."))
    (event,) = result(made).asset_events
    assert isinstance(event, dg.AssetObservation)
    assert event.description == (
        "nyx run r1 is gone: it was open, and cannot be found any more. How it ended is not known. 404."
    )
    assert {name: value.value for name, value in event.metadata.items()} == {
        "runops/run_id": "r1",
        "runops/gap": True,
    }


def test_a_new_partition_is_added_once_and_one_that_exists_is_not(
    report: Callable[..., Report], log: ReportedRuns, instance: dg.DagsterInstance
) -> None:
    partitions = dg.DynamicPartitionsDefinition(name="audits")
    instance.add_dynamic_partitions("audits", ["r1"])
    made = report(partitions=partitions, partition_key=lambda snapshot: snapshot.ref.run_id[:2])
    for run_id in ("r1", "r2", "r2x"):
        made.add_run(KEY, run(run_id), (Verdict.SUCCEED, {}), log)
    (request,) = result(made).dynamic_partitions_requests or []
    assert (request.partitions_def_name, list(request.partition_keys)) == ("audits", ["r2"])


# --- partitions that do not exist ------------------------------------------------------------------------------


@dg.asset(key=KEY, partitions_def=dg.StaticPartitionsDefinition(["monday", "tuesday"]))
def in_days() -> None: ...


@dg.asset(key=KEY)
def whole() -> None: ...


@dg.job(partitions_def=dg.StaticPartitionsDefinition(["monday"]))
def take() -> None: ...


NO_PARTITIONS = "asset out/audit has no partitions."


@pytest.mark.parametrize(
    ("asset", "key", "missing"),
    [
        (in_days, "monday", None),
        (in_days, "mondy", "asset out/audit has no partition 'mondy'; there is 'monday'."),
        (in_days, "zzz", "asset out/audit has no partition 'zzz'."),
        (whole, "monday", NO_PARTITIONS),
        (None, "monday", None),
    ],
)
def test_a_run_of_a_partition_that_does_not_exist_is_reported_with_a_warning(
    report: Callable[..., Report],
    log: ReportedRuns,
    caplog: pytest.LogCaptureFixture,
    asset: Any,
    key: str,
    missing: str | None,
) -> None:
    repository = dg.Definitions(assets=[asset] if asset else []).get_repository_def()
    made = report(repository=repository, partition_key=lambda snapshot: key)
    made.add_run(KEY, run(), (Verdict.SUCCEED, {}), log)
    found = result(made)
    assert next(iter(found.asset_events)).partition == key
    told = str(found.skip_reason and found.skip_reason.skip_message)
    if missing is None:
        assert told == "Reported 1 runs; looked at 1 of 1 targets."
        assert caplog.text == ""
        return
    assert told == (
        f"Reported 1 runs; looked at 1 of 1 targets. 1 without a partition that exists: nyx run r1: {missing}"
    )
    assert (
        f"partition_key gives {key!r} for nyx run r1, but {missing} It is reported all the same, and shows once there "
        "is one."
    ) in caplog.text


def test_a_run_of_a_partition_that_the_job_lacks_is_not_requested(
    report: Callable[..., Report], log: ReportedRuns
) -> None:
    repository = dg.Definitions(assets=[in_days], jobs=[take]).get_repository_def()
    made = report(repository=repository, requests=True, job="take", partition_key=lambda snapshot: "tuesday")
    with pytest.raises(ConfigurationError) as raised:
        made.add_run(KEY, run(), (Verdict.SUCCEED, {}), log)
    assert raised.value.text == (
        "partition_key gives 'tuesday' for nyx run r1, but job take has no partition 'tuesday'."
    )


def test_a_run_of_no_partition_is_reported_without_one(report: Callable[..., Report], log: ReportedRuns) -> None:
    made = report(partition_key=lambda snapshot: None)
    made.add_run(KEY, run(), (Verdict.SUCCEED, {}), log)
    event, _ = result(made).asset_events
    assert event.partition is None
