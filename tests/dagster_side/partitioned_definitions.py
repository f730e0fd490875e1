"""Partitioned run assets, as a code location that Dagster's own backfills load."""

from __future__ import annotations

import os
from typing import Any

import dagster as dg

from runops.dagster import NexioResource, build_run_asset, build_run_multi_asset

REGIONS = dg.StaticPartitionsDefinition(["north", "south"])
DAYS = dg.DailyPartitionsDefinition("2026-11-01")
SHOPS = dg.DynamicPartitionsDefinition(name="shops")


def quote(context: Any) -> dict[str, Any]:
    """In the south an engine answers in part."""
    key = context.partition_key
    script = "degraded" if key == "south" else "succeeded"
    return {"engine_slug": "quotes", "input": {"key": key, "emulator": {"script": script}}}


def several(context: Any) -> dict[str, Any]:
    keys = context.partition_key_range
    return {"engine_slug": "quotes", "input": {"key": f"{keys.start}...{keys.end}"}}


skipped = build_run_asset(key="skipped", resource_key="nexio", call=quote, partitions_def=REGIONS)
warned = build_run_asset(
    key="warned", resource_key="nexio", call=quote, partitions_def=REGIONS, on_outcome={"degraded": "warn"}
)
daily = build_run_asset(key="daily", resource_key="nexio", call=quote, partitions_def=DAYS)
at_once = build_run_asset(
    key="at_once",
    resource_key="nexio",
    call=several,
    partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
)
shops = build_run_asset(key="shops", resource_key="nexio", call=quote, partitions_def=SHOPS)
tables = build_run_multi_asset(
    name="tables",
    specs=[dg.AssetSpec("orders", partitions_def=DAYS), dg.AssetSpec("customers", partitions_def=DAYS)],
    resource_key="nexio",
    call=quote,
)


@dg.asset(deps=[warned], partitions_def=REGIONS)
def after_warned() -> None: ...


defs = dg.Definitions(
    assets=[skipped, warned, after_warned, daily, at_once, shops, tables],
    resources={"nexio": NexioResource(api_key="a-key", base_url=os.environ.get("PARTITIONED_URL"))},
    executor=dg.in_process_executor,
)
