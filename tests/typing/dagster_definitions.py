"""How users type against the Dagster side: checked by pyright in ``make check``, never run."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, assert_type

import dagster as dg

from runops.core import Call, RunRef, RunSnapshot, Verdict
from runops.dagster import (
    B3osResource,
    NektResource,
    NexioResource,
    NyxResource,
    OnepinResource,
    RunResource,
    RunResult,
    RunsResult,
    build_completion_sensor,
    build_run_asset,
    build_run_check,
    build_run_multi_asset,
    build_run_op,
    build_run_sensor,
    build_submit_job,
    cancel_orphans,
    wait_for_run,
    wait_for_runs,
)

KEY = dg.EnvVar("NEXIO_API_KEY")


def tell(context: dg.OpExecutionContext, snapshot: RunSnapshot) -> None:
    """A callback."""


@dg.asset
def decision(context: dg.AssetExecutionContext, nexio: NexioResource) -> dict[str, object]:
    call = nexio.call(engine_slug="credit", input={"applicant": 1})
    assert_type(call, Call)
    result = wait_for_run(
        context,
        nexio,
        call=call,
        timeout=3600,
        error_budget=timedelta(minutes=5),
        auth_grace=timedelta(minutes=2),
        poll_interval=10,
        max_paused=None,
        max_stalled=600,
        max_spend=None,
        on_outcome={"degraded": "warn"},
        states={"partial": "degraded"},
        expect={"duration_ms": "< 5000", "stage": ["DECIDE"]},
        on_unmet="warn",
        soft_fail=True,
        cancel_on_interrupt=True,
        cancel_on_timeout=False,
        cancel_on_failure=True,
        adopt_uncertain=True,
        mark_runs=False,
        submit_grace=60,
        on_conflict="wait",
        reattach=False,
        on_phase={"waiting": tell, "paused": [tell, lambda context, snapshot: snapshot.url]},
    )
    assert_type(result, RunResult)
    assert_type(result.snapshot, RunSnapshot)
    assert_type(result.verdict, Verdict)
    wait_for_run(context, nexio, call=call, time_out=3600)  # pyright: ignore[reportCallIssue]
    wait_for_run(context, nexio, call=call, on_phase={"waiting": "tell"})  # pyright: ignore[reportArgumentType]
    wait_for_run(context, nexio, call=call, timeout="an hour")  # pyright: ignore[reportArgumentType]
    wait_for_run(context, nexio, call={"engine_slug": "credit"})  # pyright: ignore[reportArgumentType]
    return dict(result.snapshot.to_result(result.verdict))


@dg.asset
def decisions(context: dg.AssetExecutionContext, nexio: NexioResource) -> dict[str, Any]:
    calls = [nexio.call(engine_slug="credit", input={"applicant": number}) for number in range(9)]
    ended = wait_for_runs(
        context,
        nexio,
        calls=calls,
        max_active=3,
        require=0.95,
        stop_early=True,
        max_spend=None,
        timeout=timedelta(hours=1),
        on_outcome={"degraded": "warn"},
        reattach=True,
    )
    assert_type(ended, RunsResult)
    assert_type(ended.verdict, Verdict)
    assert_type(ended.spend, float | None)
    assert_type(ended.rows[0].run_id, str | None)
    assert_type(ended.submitted, int)
    wait_for_runs(context, nexio, calls=[{"engine_slug": "credit", "input": {}}], require="any")
    wait_for_runs(context, nexio, refs=[nexio.ref("r_1")], require="all")
    wait_for_runs(context, nexio, calls=calls, require="most")  # pyright: ignore[reportArgumentType]
    wait_for_runs(context, nexio, calls=calls, max_activ=3)  # pyright: ignore[reportCallIssue]
    wait_for_runs(context, nexio, calls=calls, max_active="three")  # pyright: ignore[reportArgumentType]
    return ended.to_dict()


# --- resources -------------------------------------------------------------------------------------------------


def by_hand(
    nexio: NexioResource, nyx: NyxResource, onepin: OnepinResource, b3os: B3osResource, nekt: NektResource
) -> None:
    assert_type(nexio.submit(engine_slug="credit", input={}), RunRef)
    assert_type(onepin.submit(workflow_id="w", script_text="Hello"), RunRef)
    assert_type(onepin.call(workflow_id="w"), Call)
    assert_type(b3os.submit(workflow_id="w", payload={}, adopt_uncertain=True), RunRef)
    assert_type(nexio.get("r_1"), RunSnapshot)
    assert_type(onepin.get("r_1", workflow_id="w"), RunSnapshot)
    assert_type(onepin.wait("r_1", "w", timeout=timedelta(hours=1)), RunSnapshot)
    assert_type(nyx.wait("r_1", error_budget=60, poll_interval=5, max_paused=None, auth_grace=0), RunSnapshot)
    assert_type(nyx.recent("nightly"), list[RunSnapshot])
    assert_type(nekt.recent(source="crm"), list[RunSnapshot])
    nekt.cancel("r_1")


def wrong_by_hand(nexio: NexioResource, nyx: NyxResource, b3os: B3osResource, nekt: NektResource) -> None:
    nexio.submit(input={})  # pyright: ignore[reportCallIssue]
    nexio.call(engine_slg="credit", input={})  # pyright: ignore[reportCallIssue]
    nyx.submit(config_name="nightly")  # pyright: ignore[reportCallIssue]
    b3os.call(workflow_id=7)  # pyright: ignore[reportArgumentType]
    nexio.wait("r_1", time_out=60)  # pyright: ignore[reportCallIssue]
    nexio.resume("r_1")  # pyright: ignore[reportUnknownMemberType]
    b3os.retry("r_1", adopt=True)  # pyright: ignore[reportCallIssue]
    assert_type(b3os.retry("r_1", adopt_uncertain=True, timeout=timedelta(hours=1)), RunRef)
    assert_type(b3os.retry_call("r_1", "w"), Call)
    nexio.cancel("r_1")  # pyright: ignore[reportUnknownMemberType]
    nekt.submit(pipeline="orders")  # pyright: ignore[reportUnknownMemberType]


resources = {
    "nexio": NexioResource(
        api_key=KEY, request_timeout=10, requests_per_minute=60, processes=3, rate_store=KEY, allow_http=True
    ),
    "nyx": NyxResource(api_key="key", base_url="http://127.0.0.1:8642/nyx", mark_runs=False),
    "onepin": OnepinResource(api_key=KEY, workspace_id="w"),
    "b3os": B3osResource(api_key=KEY, org_id="o", verify="/ca.pem", client_cert="/c.pem", proxy=KEY),
    "nekt": NektResource(api_key=KEY, max_response_bytes=1_000_000),
    "acme": RunResource(provider="acme_runs:ACME", api_key=KEY, options={"team": "t"}),
}
NexioResource(api_key=KEY, base_ulr="https://api.example.com")  # pyright: ignore[reportCallIssue]
NyxResource(api_key_file=7)  # pyright: ignore[reportArgumentType]
OnepinResource(api_key=KEY, workspace=1)  # pyright: ignore[reportCallIssue]
RunResource(api_key=KEY)  # pyright: ignore[reportCallIssue]
assert_type(OnepinResource(api_key=KEY).resume("r", "w"), RunSnapshot)
generic = RunResource(provider="acme_runs:ACME", api_key=KEY)
assert_type(generic.resume("r"), RunSnapshot)
assert_type(generic.retry("r", {"team": "t"}, on_conflict="fail"), RunRef)
assert_type(generic.retry_call("r", {"job": "j"}), Call)


# --- builders --------------------------------------------------------------------------------------------------

audit = build_run_asset(
    key="audit",
    resource_key="nyx",
    call={"config_name": "release", "name": "n", "target": {"url": "https://agent.example.com"}},
    on_outcome={"succeeded": "fail", "exhausted": "succeed"},
    timeout=timedelta(hours=2),
    mark_runs=False,
    deps=["orders"],
    group_name="security",
    kinds={"nyx"},
    owners=["team:security"],
    retry_policy=dg.RetryPolicy(max_retries=2),
    partitions_def=dg.DailyPartitionsDefinition("2026-01-01"),
)
assert_type(audit, dg.AssetsDefinition)
build_run_asset(key="audit", resource_key="nyx", run_id="r", grop_name="security")  # pyright: ignore[reportCallIssue]
build_run_asset(key="audit", resource_key="nyx", run_id="r", error_budgt=60)  # pyright: ignore[reportCallIssue]
build_run_asset(key="audit", resource_key="nyx", run_id="r", reattach="no")  # pyright: ignore[reportArgumentType]
build_run_asset(key="audit", run_id="r")  # pyright: ignore[reportCallIssue]

sweep = build_run_asset(
    key="sweep",
    resource_key="nyx",
    calls=[{"config_name": "checkout"}, {"config_name": "search"}],
    max_active=2,
    require="any",
    stop_early=True,
    group_name="security",
)
assert_type(sweep, dg.AssetsDefinition)
build_run_asset(key="sweep", resource_key="nyx", calls=lambda context: [{"config_name": "checkout"}], require=0.5)
build_run_asset(key="sweep", resource_key="nyx", run_ids=["r_1", "r_2"], parents={"workflow_id": "w"})
build_run_asset(key="sweep", resource_key="nyx", calls={"config_name": "c"})  # pyright: ignore[reportArgumentType]
build_run_asset(key="sweep", resource_key="nyx", calls=[], max_activ=3)  # pyright: ignore[reportCallIssue]
assert_type(build_run_op(name="sweep", resource_key="nyx", calls=[{}], max_active=3), dg.OpDefinition)

load = build_run_multi_asset(
    name="load",
    specs=[dg.AssetSpec("orders"), dg.AssetSpec("customers")],
    resource_key="nekt",
    run_id=lambda context: "r_1",
    made=lambda snapshot, read: ["orders"],
    max_paused=600,
    can_subset=True,
    pool="nekt",
)
assert_type(load, dg.AssetsDefinition)
build_run_multi_asset(name="load", specs=[], resource_key="nekt", can_subst=True)  # pyright: ignore[reportCallIssue]

start = build_run_op(
    name="start", resource_key="b3os", call={"workflow_id": "w"}, submit_grace=60, pool="b3os", tags={"team": "pay"}
)
assert_type(start, dg.OpDefinition)
build_run_op(name="start", resource_key="b3os", run_id="r", retrypolicy=None)  # pyright: ignore[reportCallIssue]

gate = build_run_check(
    asset="release", resource_key="nyx", parent="nightly", blocking=True, on_outcome={"degraded": "warn"}, timeout=600
)
assert_type(gate, dg.AssetChecksDefinition)
# A check submits nothing and cancels nothing.
build_run_check(asset="a", resource_key="nyx", run_id="r", cancel_on_timeout=True)  # pyright: ignore[reportCallIssue]

job = build_submit_job(
    name="submit", resource_key="b3os", call={"workflow_id": "w"}, adopt_uncertain=True, reattach=False, tags={"a": "b"}
)
assert_type(job, dg.JobDefinition)
build_submit_job(name="submit", resource_key="b3os", call={}, timeout=60)  # pyright: ignore[reportCallIssue]

ends = build_completion_sensor(
    name="ends", job=job, asset="report", resource_key="b3os", timeout=3600, cancel_on_timeout=False, tags={"a": "b"}
)
assert_type(ends, dg.SensorDefinition)
build_completion_sensor(name="ends", job=job, asset="a", resource_key="b3os", tgs={})  # pyright: ignore[reportCallIssue]

watch = build_run_sensor(
    name="watch", resource_key="nyx", targets={"a": "nightly"}, lookback=timedelta(days=1), description="All audits."
)
assert_type(watch, dg.SensorDefinition)
build_run_sensor(name="w", resource_key="nyx", targets={"a": "n"}, look_back=60)  # pyright: ignore[reportCallIssue]

definitions = dg.Definitions(
    assets=[decision, audit, load], asset_checks=[gate], jobs=[job], sensors=[ends, watch], resources=resources
)


@dg.op(required_resource_keys={"nexio"})
def maintain(context: dg.OpExecutionContext) -> None:
    nexio = NexioResource(api_key=KEY)
    assert_type(cancel_orphans(context, {"nexio": nexio}, cancel=False), list[dict[str, Any]])
    cancel_orphans(context, [nexio])  # pyright: ignore[reportArgumentType]
