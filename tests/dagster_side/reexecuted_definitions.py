"""A job with one external run between two steps, and a partitioned asset, as a code location that is re-executed."""

from __future__ import annotations

import os
from typing import Any

import dagster as dg

from runops.dagster import B3osResource, build_run_asset, wait_for_run

FAIL_AFTER_THE_WAIT = "REEXECUTED_FAILS_AFTER"
FAIL_DOWNSTREAM = "REEXECUTED_FAILS_DOWNSTREAM"


@dg.op
def before() -> None: ...


@dg.op(ins={"begin": dg.In(dg.Nothing)}, out=dg.Out(dg.Nothing), required_resource_keys={"b3os"})
def external(context) -> Any:
    resource = context.resources.b3os
    wait_for_run(context, resource, call=resource.call(workflow_id="wf_1", payload={"amount": 3}))
    if os.environ.get(FAIL_AFTER_THE_WAIT):
        raise RuntimeError("what follows the wait")


@dg.op(ins={"begin": dg.In(dg.Nothing)})
def after() -> None:
    if os.environ.get(FAIL_DOWNSTREAM):
        raise RuntimeError("what follows the step")


# At load, as the variable is set by then: its value is an address, and no secret.
RESOURCES = {"b3os": B3osResource(api_key="a-key", base_url=os.environ.get("REEXECUTED_URL"))}


@dg.job(resource_defs=RESOURCES, executor_def=dg.in_process_executor)
def around() -> None:
    after(external(before()))


regional = build_run_asset(
    key="regional",
    resource_key="b3os",
    call=lambda context: {"workflow_id": "wf_1", "payload": {"region": context.partition_key}},
    partitions_def=dg.StaticPartitionsDefinition(["north", "south"]),
)

defs = dg.Definitions(assets=[regional], jobs=[around], resources=RESOURCES, executor=dg.in_process_executor)
