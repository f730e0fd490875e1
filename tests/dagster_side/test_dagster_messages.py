"""What people read when a step ends badly: who failed, which argument or resource, and what a retry would do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest

from runops.dagster import (
    build_run_asset,
    build_run_check,
    build_run_multi_asset,
    build_run_op,
    build_submit_job,
    wait_for_run,
)

CALL = {"workflow_id": "wf_1", "payload": {"amount": 3}}
THREE_TRIES = dg.RetryPolicy(max_retries=2)
LEAK = "no quote for https://user:hunter2@example.com with token=abc123"


def region(context: Any) -> dict[str, Any]:
    return {"workflow_id": {"north": "wf_1"}["eastern"]}


def leaking(context: Any) -> Any:
    raise ValueError(LEAK)


def ended(runs: Any, *assets: Any, **options: Any) -> Any:
    return runs.materialize(*assets, **options)


def job_around(op: Any, runs: Any) -> dg.JobDefinition:
    @dg.job(resource_defs={runs.provider.name: runs.resource})
    def job() -> None:
        op()

    return job


def failure_of_job(runs: Any, job: dg.JobDefinition) -> Any:
    result = job.execute_in_process(instance=runs.instance, raise_on_error=False)
    (failed,) = [event for event in result.all_events if event.event_type is dg.DagsterEventType.STEP_FAILURE]
    tries = [e for e in result.all_events if e.event_type is dg.DagsterEventType.STEP_UP_FOR_RETRY]
    return failed.step_failure_data.user_failure_data, len(tries) + 1


# --- functions of the user -------------------------------------------------------------------------------------


@pytest.mark.parametrize("argument", ["call", "run_id"])
def test_a_function_that_raises_is_named_with_its_asset_argument_and_text(
    service: Callable[[str], Any], argument: str
) -> None:
    runs = service("b3os")
    given: Any = {argument: region}
    failure = ended(runs, build_run_asset(key="desk/quote", resource_key="b3os", **given)).failure
    assert failure.description.startswith(f"build_run_asset('desk/quote'): {argument} raised KeyError: 'eastern'"), (
        failure.description
    )
    assert runs.submits == 0


def test_the_text_of_a_function_that_raises_shows_no_secret(service: Callable[[str], Any]) -> None:
    runs = service("b3os")
    failure = ended(runs, build_run_asset(key="quote", resource_key="b3os", call=leaking)).failure
    assert "call raised ValueError: no quote for" in failure.description
    assert "hunter2" not in failure.description
    assert "abc123" not in failure.description


def test_a_function_that_raises_may_work_at_the_next_try(service: Callable[[str], Any]) -> None:
    runs = service("b3os")
    tries = iter([True])

    def call(context: Any) -> Any:
        if next(tries, False):
            raise TimeoutError("the table of workflows is locked")
        return CALL

    asset = build_run_asset(key="quote", resource_key="b3os", call=call, retry_policy=THREE_TRIES)
    assert ended(runs, asset).materialized == ["quote"]
    assert runs.submits == 1


def test_what_a_function_raises_to_steer_dagster_passes_as_it_is(service: Callable[[str], Any]) -> None:
    runs = service("b3os")

    def call(context: Any) -> Any:
        raise dg.Failure("the desk is closed", allow_retries=False)

    asset = build_run_asset(key="quote", resource_key="b3os", call=call, retry_policy=THREE_TRIES)
    assert ended(runs, asset).failure.description == "the desk is closed"


def test_every_builder_names_itself_where_a_function_raises(service: Callable[[str], Any]) -> None:
    runs = service("b3os")
    tables = build_run_multi_asset(name="tables", specs=[dg.AssetSpec("t")], resource_key="b3os", call=region)
    assert ended(runs, tables).failure.description.startswith("build_run_multi_asset('tables'): call raised KeyError")
    parts = build_run_multi_asset(
        name="parts", specs=[dg.AssetSpec("p")], resource_key="b3os", call=CALL, made=lambda snapshot, read: {}["none"]
    )
    assert ended(runs, parts).failure.description.startswith("build_run_multi_asset('parts'): made raised KeyError")
    op = build_run_op(name="ask", resource_key="b3os", call=region)
    failure, _ = failure_of_job(runs, job_around(op, runs))
    assert failure.description.startswith("build_run_op('ask'): call raised KeyError: 'eastern'")
    start = build_submit_job(name="start", resource_key="b3os", call=region, resource_defs={"b3os": runs.resource})
    failure, _ = failure_of_job(runs, start)
    assert failure.description.startswith("build_submit_job('start'): call raised KeyError: 'eastern'")


# --- resources -------------------------------------------------------------------------------------------------


def refused(runs: Any) -> Any:
    return type(runs.resource)(api_key="invalid-key", base_url=runs.base_url)


def test_an_error_of_the_service_names_the_resource(service: Callable[[str], Any]) -> None:
    runs = service("b3os")
    asset = build_run_asset(key="quote", resource_key="quotes_eu", call=CALL)
    description = ended(runs, asset, resources={"quotes_eu": refused(runs)}).failure.description
    assert description.startswith("Resource 'quotes_eu': ")
    assert "401" in description

    check = build_run_check(asset="quote", name="newest", resource_key="quotes_eu", parent="wf_1")
    failed = ended(
        runs, asset, check, resources={"quotes_eu": refused(runs)}, selection=dg.AssetSelection.checks(check)
    )
    assert failed.failure.description.startswith("Resource 'quotes_eu': ")


def test_an_error_in_a_step_of_one_s_own_names_the_resource_too(service: Callable[[str], Any]) -> None:
    runs = service("b3os")

    @dg.asset(required_resource_keys={"quotes_eu"})
    def quote(context) -> None:
        resource = context.resources.quotes_eu
        wait_for_run(context, resource, call=resource.call(**CALL))

    description = ended(runs, quote, resources={"quotes_eu": refused(runs)}).failure.description
    assert description.startswith("Resource 'quotes_eu': ")


def test_a_variable_that_is_not_set_is_said_with_the_resource(
    service: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = service("b3os")
    monkeypatch.setenv("QUOTES_KEY", "")
    resource = type(runs.resource)(api_key=dg.EnvVar("QUOTES_KEY"), base_url=runs.base_url)
    asset = build_run_asset(key="quote", resource_key="quotes_eu", call=CALL)
    description = ended(runs, asset, resources={"quotes_eu": resource}).failure.description
    assert description.startswith("Resource 'quotes_eu': ")
    assert "QUOTES_KEY" in description


# --- what a retry would do -------------------------------------------------------------------------------------


def waiting_on(provider: str, **options: Any) -> dg.AssetsDefinition:
    return build_run_asset(key="external", resource_key=provider, retry_policy=THREE_TRIES, **options)


def reads_of(runs: Any, run_id: str) -> int:
    return len([each for each in runs.emulator.requests(provider=runs.provider.name) if each["run_id"] == run_id])


@pytest.mark.parametrize("as_function", [False, True])
def test_a_given_run_that_failed_is_not_read_again_by_a_retry_policy(
    service: Callable[[str], Any], as_function: bool
) -> None:
    runs = service("b3os")
    ref = runs.made(script="failed")
    result = ended(runs, waiting_on("b3os", run_id=(lambda context: ref) if as_function else ref.run_id))
    assert result.of(dg.DagsterEventType.STEP_UP_FOR_RETRY) == []
    assert "submits a new run" not in result.failure.description
    assert "only waits for the run it is given" in result.failure.description
    assert runs.submits == 0


def test_a_given_run_that_failed_is_not_read_again_by_an_op_s_retry_policy(service: Callable[[str], Any]) -> None:
    runs = service("b3os")
    op = build_run_op(
        name="ask", resource_key="b3os", run_id=runs.made(script="failed").run_id, retry_policy=THREE_TRIES
    )
    failure, tries = failure_of_job(runs, job_around(op, runs))
    assert tries == 1
    assert "only waits for the run it is given" in failure.description


def test_a_given_run_that_does_not_exist_is_not_asked_for_again(service: Callable[[str], Any]) -> None:
    runs = service("b3os")
    result = ended(runs, waiting_on("b3os", run_id="never-was"))
    assert result.of(dg.DagsterEventType.STEP_UP_FOR_RETRY) == []


def test_a_given_run_that_takes_too_long_is_waited_for_again(service: Callable[[str], Any]) -> None:
    runs = service("b3os")
    ref = runs.made(script="succeeded", seconds=90)
    result = ended(runs, waiting_on("b3os", run_id=ref.run_id, timeout=60))
    assert len(result.of(dg.DagsterEventType.STEP_UP_FOR_RETRY)) == 1
    assert result.materialized == ["external"]


def test_a_check_that_cannot_read_its_run_does_not_ask_again_where_that_cannot_help(
    service: Callable[[str], Any],
) -> None:
    runs = service("b3os")

    @dg.asset
    def quote() -> None: ...

    check = build_run_check(asset=quote, resource_key="b3os", run_id="never-was", retry_policy=THREE_TRIES)
    result = ended(runs, quote, check)
    assert result.of(dg.DagsterEventType.STEP_UP_FOR_RETRY) == []
    assert result.failure.description.startswith("Resource 'b3os': ")


def test_a_run_that_the_step_submitted_says_what_a_retry_does(service: Callable[[str], Any]) -> None:
    runs = service("b3os")
    runs.emulator.set_defaults("b3os", script="failed")
    result = ended(runs, build_run_asset(key="external", resource_key="b3os", call=CALL))
    assert "A retry submits a new run." in result.failure.description


# --- skips -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["asset", "op", "tables"])
def test_the_reason_of_a_skip_is_in_the_log_of_the_step(service: Callable[[str], Any], kind: str) -> None:
    runs = service("nexio")
    run_id = runs.made(script="degraded", seconds=1, age_seconds=600).run_id
    reason = runs.resource.get(run_id).reason
    assert reason
    if kind == "op":
        op = build_run_op(name="ask", resource_key="nexio", run_id=run_id)
        result = job_around(op, runs).execute_in_process(instance=runs.instance)
    elif kind == "asset":
        result = ended(runs, build_run_asset(key="external", resource_key="nexio", run_id=run_id)).result
    else:
        tables = build_run_multi_asset(name="t", specs=[dg.AssetSpec("t")], resource_key="nexio", run_id=run_id)
        result = ended(runs, tables).result
    lines = [entry.user_message for entry in runs.instance.all_logs(result.run_id)]
    assert any("verdict: skip" in line and reason in line for line in lines), lines
