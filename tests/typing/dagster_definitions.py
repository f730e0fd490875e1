"""How users type against the Dagster side: checked by pyright in ``make check``, never run."""

from __future__ import annotations

from typing import assert_type

import dagster as dg

from runops.core import Call, RunRef, RunSnapshot, Verdict
from runops.dagster import NexioResource, NyxResource, OnepinResource, RunResult, build_run_asset, wait_for_run


@dg.asset
def decision(context: dg.AssetExecutionContext, nexio: NexioResource) -> dict[str, object]:
    call = nexio.call(engine_slug="credit", input={"applicant": 1})
    assert_type(call, Call)
    result = wait_for_run(context, nexio, call=call, timeout=3600, on_outcome={"degraded": "warn"})
    assert_type(result, RunResult)
    assert_type(result.snapshot, RunSnapshot)
    assert_type(result.verdict, Verdict)
    return dict(result.snapshot.to_result(result.verdict))


def by_hand(nexio: NexioResource, onepin: OnepinResource) -> None:
    assert_type(nexio.submit(engine_slug="credit", input={}), RunRef)
    assert_type(nexio.get("r_1"), RunSnapshot)
    assert_type(onepin.get("r_1", workflow_id="w"), RunSnapshot)
    nexio.submit(input={})  # pyright: ignore[reportCallIssue]


audit = build_run_asset(
    key="audit",
    resource_key="nyx",
    call={"config_name": "release", "name": "n", "target": {"url": "https://agent.example.com"}},
    on_outcome={"succeeded": "fail", "exhausted": "succeed"},
)
assert_type(audit, dg.AssetsDefinition)

definitions = dg.Definitions(
    assets=[decision, audit],
    resources={"nexio": NexioResource(api_key=dg.EnvVar("NEXIO_API_KEY")), "nyx": NyxResource(api_key="key")},
)
