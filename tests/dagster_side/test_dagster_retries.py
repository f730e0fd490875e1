"""Never a second run while the first may be alive: retries, re-attachment, lost answers and clocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run
from pytest_mock import MockerFixture

from runops.core import NYX_GATE, Outcome, RunClient, Verdict
from runops.dagster import build_run_asset, wait_for_run
from tests.services import CALLS

TWO_RETRIES = dg.RetryPolicy(max_retries=2)


def asset_of(provider: str, **options: Any) -> dg.AssetsDefinition:
    options.setdefault("retry_policy", TWO_RETRIES)
    return build_run_asset(key="external", resource_key=provider, call=CALLS[provider], **options)


@pytest.fixture
def dying(mocker: MockerFixture) -> Callable[..., None]:
    """``dying("wait")``: the next call of this method of a client ends as if the process had broken down in it."""

    def arrange(method: str, *, after: bool = False) -> None:
        real = getattr(RunClient, method)
        left = iter([True])

        def broken(self: RunClient, *args: Any, **options: Any) -> Any:
            if next(left, False):
                if after:
                    real(self, *args, **options)
                raise RuntimeError("out of memory")
            return real(self, *args, **options)

        mocker.patch.object(RunClient, method, broken)

    return arrange


def test_a_retry_after_a_failed_run_submits_anew(service: Callable[[str], Any]) -> None:
    runs = service("nexio")
    runs.emulator.set_defaults("nexio", script="failed")
    ended = runs.materialize(asset_of("nexio"))
    assert not ended.success
    assert runs.submits == 3


@pytest.mark.parametrize(
    ("provider", "script", "on_outcome"),
    [
        ("nyx", "succeeded", NYX_GATE),
        ("nyx", "exhausted", {"exhausted": "fail"}),
        ("nyx", "cancelled", None),
        ("nexio", "degraded", {"degraded": "fail"}),
    ],
)
def test_any_other_rejected_outcome_is_final(
    service: Callable[[str], Any], provider: str, script: str, on_outcome: Mapping[str, str] | None
) -> None:
    runs = service(provider)
    runs.emulator.set_defaults(provider, script=script)
    ended = runs.materialize(asset_of(provider, on_outcome=on_outcome))
    assert not ended.success
    assert ended.of(dg.DagsterEventType.STEP_UP_FOR_RETRY) == []
    assert runs.submits == 1


@pytest.mark.parametrize("provider", ["nexio", "nyx", "onepin", "b3os"])
def test_a_retry_after_a_crash_takes_the_run_up_again(
    service: Callable[[str], Any], dying: Callable[..., None], provider: str
) -> None:
    runs = service(provider)
    dying("wait")
    ended = runs.materialize(asset_of(provider))
    assert ended.materialized == ["external"]
    assert runs.submits == 1
    assert runs.cancels == 0
    assert "Took up" in ended.log


def test_a_retry_after_a_crash_has_the_deadline_of_the_wait_that_it_goes_on_with(
    service: Callable[[str], Any], clock: Any
) -> None:
    runs = service("nyx")
    runs.emulator.set_defaults("nyx", script="forever")

    def die(seconds: float) -> None:
        if clock.now - clock.began > 60:
            clock.on_sleep = lambda seconds: None
            raise RuntimeError("out of memory")

    clock.on_sleep = die
    ended = runs.materialize(asset_of("nyx", timeout=100, retry_policy=dg.RetryPolicy(max_retries=1)))
    assert not ended.success
    assert (runs.submits, runs.cancels) == (1, 1)
    assert clock.now - clock.began == pytest.approx(100, abs=5)


def test_reattach_off_submits_on_every_try(service: Callable[[str], Any], dying: Callable[..., None]) -> None:
    runs = service("b3os")
    dying("wait")
    runs.materialize(asset_of("b3os", reattach=False))
    assert runs.submits == 2


@pytest.fixture
def lost_record(mocker: MockerFixture) -> None:
    """The process breaks down between the answer to the first submit and its record."""
    from runops.dagster.step.records import Records

    real, left = Records.submitted, iter([True])

    def broken(self: Records, *args: Any, **options: Any) -> None:
        if next(left, False):
            raise RuntimeError("out of memory")
        real(self, *args, **options)

    mocker.patch.object(Records, "submitted", broken)


@pytest.mark.usefixtures("lost_record")
def test_a_run_whose_record_was_lost_is_found_by_its_mark(service: Callable[[str], Any]) -> None:
    runs = service("nyx")
    ended = runs.materialize(asset_of("nyx"))
    assert ended.materialized == ["external"]
    assert runs.submits == 1


@pytest.mark.usefixtures("lost_record")
@pytest.mark.parametrize(("provider", "candidates"), [("nexio", 0), ("b3os", 1), ("onepin", 1)])
def test_a_run_whose_record_was_lost_and_that_cannot_be_told_ends_uncertain(
    service: Callable[[str], Any], provider: str, candidates: int
) -> None:
    runs = service(provider)
    ended = runs.materialize(asset_of(provider))
    assert not ended.success
    assert runs.submits == 1
    assert ended.failure.metadata["runops/error"].value == "SubmitUncertainError"
    assert len(ended.failure.metadata["runops/candidates"].value) == candidates


@pytest.mark.usefixtures("lost_record")
def test_a_run_whose_record_was_lost_and_that_bears_no_mark_ends_uncertain(service: Callable[[str], Any]) -> None:
    runs = service("nyx")
    ended = runs.materialize(asset_of("nyx", mark_runs=False))
    assert ended.failure.metadata["runops/error"].value == "SubmitUncertainError"
    assert (runs.submits, runs.cancels) == (1, 0)


@pytest.mark.usefixtures("lost_record")
@pytest.mark.parametrize("provider", ["b3os", "onepin"])
def test_the_only_candidate_is_taken_where_the_user_says_so(service: Callable[[str], Any], provider: str) -> None:
    runs = service(provider)
    ended = runs.materialize(asset_of(provider, adopt_uncertain=True))
    assert ended.materialized == ["external"]
    assert runs.submits == 1


@pytest.mark.parametrize("provider", ["nexio", "b3os"])
def test_a_lost_answer_to_a_submit_is_never_repeated(service: Callable[[str], Any], provider: str) -> None:
    runs = service(provider)
    runs.emulator.add_fault(kind="reset", provider=provider, action="submit", when="after")
    ended = runs.materialize(asset_of(provider))
    assert not ended.success
    assert runs.submits == 1
    assert ended.of(dg.DagsterEventType.STEP_UP_FOR_RETRY) == []
    assert ended.failure.metadata["runops/error"].value == "SubmitUncertainError"


def test_a_retry_after_a_refused_submit_submits_anew(service: Callable[[str], Any]) -> None:
    runs = service("nyx")
    other = runs.made(script="succeeded", parents={"config_name": "nightly"}, seconds=50)
    ended = runs.materialize(asset_of("nyx", retry_policy=None, on_conflict="fail"))
    assert other.run_id in ended.failure.description

    runs.emulator.advance(None)
    runs.emulator.add_fault(kind="status", status=409, provider="nyx", action="submit")
    ended = runs.materialize(asset_of("nyx", on_conflict="fail"))
    assert len(ended.of(dg.DagsterEventType.STEP_UP_FOR_RETRY)) == 1
    assert ended.materialized == ["external"]


def test_a_run_that_cannot_be_read_is_neither_cancelled_nor_submitted_again(
    service: Callable[[str], Any], clock: Any
) -> None:
    runs = service("nyx")
    storm = runs.emulator.add_fault(kind="status", status=503, provider="nyx", action="get", count=None)
    assert storm
    ended = runs.materialize(asset_of("nyx", error_budget=900))
    assert not ended.success
    assert clock.now - clock.began >= 3 * 900
    assert len(ended.of(dg.DagsterEventType.STEP_RESTARTED)) == 2
    assert (runs.submits, runs.cancels) == (1, 0)
    assert "could not be read for 9" in ended.failure.description


def test_a_timed_out_run_is_cancelled_and_a_retry_submits_after_it_is_over(service: Callable[[str], Any]) -> None:
    runs = service("nyx")
    runs.emulator.set_defaults("nyx", script="forever")
    ended = runs.materialize(asset_of("nyx", timeout=60, retry_policy=dg.RetryPolicy(max_retries=1)))
    assert not ended.success
    assert (runs.submits, runs.cancels) == (2, 2)
    assert {run["status"] for run in runs.emulator.runs(provider="nyx")} == {"cancelled"}


def test_a_timed_out_run_that_nobody_cancels_is_taken_up_again_with_a_fresh_deadline(
    service: Callable[[str], Any],
) -> None:
    runs = service("nexio")
    runs.emulator.set_defaults("nexio", script="succeeded", seconds=90)
    ended = runs.materialize(asset_of("nexio", timeout=60))
    assert runs.submits == 1
    assert len(ended.of(dg.DagsterEventType.STEP_RESTARTED)) >= 1
    assert ended.materialized == ["external"]


def test_a_run_given_by_reference_is_cancelled_only_on_request(service: Callable[[str], Any]) -> None:
    runs = service("b3os")
    ref = runs.made(script="forever")
    soft = {"timed_out": "warn"}
    assert runs.wait(ref=ref, timeout=30, on_outcome=soft).snapshot.outcome is Outcome.TIMED_OUT
    assert runs.cancels == 0
    runs.wait(ref=ref, timeout=30, on_outcome=soft, cancel_on_timeout=True)
    assert runs.cancels == 1


def test_the_same_submission_twice_in_one_step_is_two_runs_also_after_a_retry(
    service: Callable[[str], Any],
) -> None:
    runs = service("b3os")
    broken = iter([True])
    seen: list[list[str]] = []

    @dg.op(required_resource_keys={"b3os"}, retry_policy=TWO_RETRIES)
    def twice(context) -> None:
        resource = context.resources.b3os
        pair = [wait_for_run(context, resource, call=resource.call(**CALLS["b3os"])) for _ in range(2)]
        seen.append([ended.snapshot.ref.run_id for ended in pair])
        if next(broken, False):
            raise RuntimeError("after both")

    @dg.job(resource_defs={"b3os": runs.resource})
    def job() -> None:
        twice()

    assert job.execute_in_process(instance=runs.instance).success
    assert seen[0] == seen[1]
    assert len(set(seen[0])) == 2
    assert runs.submits == 2


def test_partitions_and_new_runs_do_not_take_up_each_other(service: Callable[[str], Any]) -> None:
    runs = service("b3os")
    asset = asset_of("b3os", partitions_def=dg.StaticPartitionsDefinition(["a", "b"]))
    for partition in ("a", "b", "a"):
        assert runs.materialize(asset, partition_key=partition).success
    assert runs.submits == 3


def test_nothing_is_submitted_while_the_dagster_run_is_being_terminated(service: Callable[[str], Any]) -> None:
    runs = service("b3os")

    @dg.asset(required_resource_keys={"b3os"}, retry_policy=TWO_RETRIES)
    def external(context) -> None:
        context.instance.report_run_canceling(context.run)
        resource = context.resources.b3os
        wait_for_run(context, resource, call=resource.call(**CALLS["b3os"]))

    ended = runs.materialize(external)
    assert "being terminated" in ended.log
    assert ended.of(dg.DagsterEventType.STEP_UP_FOR_RETRY) == []
    assert runs.submits == 0


def failing_before(mocker: MockerFixture, method: str, *, after: bool = False) -> None:
    """The Dagster run is marked as failed before a record is written, or right after it."""
    from runops.dagster.step.records import Records

    real = getattr(Records, method)

    def marked(self: Records, *args: Any, **options: Any) -> None:
        if after:
            real(self, *args, **options)
        assert self._run is not None
        self._context.instance.report_run_failed(self._run)
        if not after:
            real(self, *args, **options)

    mocker.patch.object(Records, method, marked)


@pytest.mark.parametrize("after", [False, True])
def test_a_step_that_outlives_its_dagster_run_submits_nothing_beside_a_re_execution(
    service: Callable[[str], Any], mocker: MockerFixture, after: bool
) -> None:
    failing_before(mocker, "submitting", after=after)
    runs = service("b3os")
    ended = runs.materialize(asset_of("b3os"))
    assert "The Dagster run is over already" in ended.log
    assert "B3OS started nothing" in ended.log
    assert ended.of(dg.DagsterEventType.STEP_UP_FOR_RETRY) == []
    assert runs.submits == 0


@pytest.mark.parametrize("options", [{}, {"cancel_on_timeout": False, "cancel_on_failure": True}], ids=["time", "end"])
def test_a_step_that_outlives_its_dagster_run_cancels_nothing_when_its_own_time_is_up(
    service: Callable[[str], Any], mocker: MockerFixture, options: dict[str, Any]
) -> None:
    failing_before(mocker, "submitted", after=True)
    runs = service("b3os")
    runs.emulator.set_defaults("b3os", script="forever")
    ended = runs.materialize(asset_of("b3os", timeout=60, retry_policy=None, **options))
    assert "is not cancelled" in ended.log
    assert (runs.submits, runs.cancels) == (1, 0)


FROM_FAILURE = {"dagster/is_resume_retry": "true"}
BY_THE_DAEMON = {"dagster/retry_number": "1"}


@pytest.mark.parametrize(
    ("tags", "died", "submits"),
    [
        (FROM_FAILURE, "in the wait", 1),
        (BY_THE_DAEMON, "in the wait", 1),
        ({}, "in the wait", 1),
        (FROM_FAILURE, "after it", 1),
        (BY_THE_DAEMON, "after it", 2),
        ({}, "after it", 2),
    ],
    ids=lambda value: ",".join(value) or "all-steps" if isinstance(value, dict) else str(value),
)
def test_a_run_that_may_be_alive_gets_no_second_one_from_any_re_execution_of_the_dagster_run(
    service: Callable[[str], Any], dying: Callable[..., None], tags: dict[str, str], died: str, submits: int
) -> None:
    runs = service("b3os")
    broken = iter([True])

    @dg.op(required_resource_keys={"b3os"})
    def external(context) -> None:
        resource = context.resources.b3os
        wait_for_run(context, resource, call=resource.call(**CALLS["b3os"]))
        if next(broken, False):
            raise RuntimeError("what follows the wait")

    @dg.job(resource_defs={"b3os": runs.resource}, executor_def=dg.in_process_executor)
    def job() -> None:
        external()

    if died == "in the wait":
        dying("wait")
    instance = runs.instance
    first = instance.create_run_for_job(job)
    assert not execute_run(InMemoryJob(job), first, instance, raise_on_error=False).success
    if died == "in the wait":
        assert next(broken)
    again = instance.create_run_for_job(job, parent_run_id=first.run_id, root_run_id=first.run_id, tags=tags)
    assert execute_run(InMemoryJob(job), again, instance, raise_on_error=False).success
    assert (runs.submits, runs.cancels) == (submits, 0)


def test_a_call_that_differs_from_try_to_try_is_said_to_lose_the_run(
    service: Callable[[str], Any], dying: Callable[..., None]
) -> None:
    runs = service("b3os")
    tries = iter(range(9))
    dying("wait")
    asset = build_run_asset(
        key="external",
        resource_key="b3os",
        call=lambda context: {"workflow_id": "wf_1", "payload": {"try": next(tries)}},
        retry_policy=TWO_RETRIES,
    )
    ended = runs.materialize(asset)
    (first, _) = runs.emulator.runs(provider="b3os")
    assert f"An earlier try of this step submitted b3os run {first['run_id']} with other arguments" in ended.log
    assert "the same on every try" in ended.log


def test_a_storm_of_a_quarter_of_an_hour_neither_cancels_nor_resubmits(
    service: Callable[[str], Any], clock: Any
) -> None:
    runs = service("b3os")
    runs.emulator.set_defaults("b3os", script="succeeded", seconds=300)
    began: list[float] = []

    def weather(seconds: float) -> None:
        if runs.submits and not began:
            began.append(clock.now)
            runs.emulator.add_fault(kind="status", status=503, provider="b3os", count=None)
        elif began and clock.now - began[0] >= 840:
            runs.emulator.reset(only=("faults",))

    clock.on_sleep = weather
    ended = runs.materialize(asset_of("b3os"))
    refused = runs.emulator.requests(provider="b3os", status=503)
    assert refused[-1]["time"] - refused[0]["time"] > 800
    assert len(refused) > 15
    assert ended.materialized == ["external"]
    assert ended.of(dg.DagsterEventType.STEP_UP_FOR_RETRY) == []
    assert (runs.submits, runs.cancels) == (1, 0)


def test_a_wait_without_call_or_ref_or_with_a_call_of_another_service_is_refused(
    service: Callable[[str], Any],
) -> None:
    from runops.core import ConfigurationError, find

    runs = service("b3os")
    with pytest.raises(ConfigurationError, match="either call"):
        runs.wait()
    with pytest.raises(ConfigurationError, match="use succeeded"):
        runs.wait(ref=runs.made(), on_outcome={"degredad": "warn"})
    with pytest.raises(ConfigurationError, match="timeout"):
        runs.wait(ref=runs.made(), timeout=0)
    with pytest.raises(dg.Failure, match="call of nexio"):
        runs.wait(call=find("nexio").call(**CALLS["nexio"]))
    with pytest.raises(dg.Failure, match="not a run of B3OS"):
        runs.wait(ref=find("nexio").ref("r"))


def test_a_wait_works_in_a_function_that_is_called_directly(service: Callable[[str], Any]) -> None:
    runs = service("nyx")
    result = runs.wait(call=runs.resource.call(**CALLS["nyx"]))
    assert result.verdict is Verdict.SUCCEED
    assert runs.submits == 1
