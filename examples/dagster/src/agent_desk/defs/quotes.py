"""Assets downstream of a Nexio run, and both forms of the soft-fail.

``survey`` is skipped when an engine answers in part: it yields no output and a check that warns, ``survey_report`` is
skipped, and the Dagster run stays green. ``quotes`` has partitions, and Dagster counts a partition that a backfill
skips as failed: there the same outcome materialises the asset, with a check that warns.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import dagster as dg

from agent_desk.defs.shared import REGIONS
from runops.dagster import build_run_asset

ENGINE = {
    "engine_slug": dg.Field(str, default_value="small-business-liability"),
    "input": dg.Field(dict, default_value={"company": "Example Bakery"}),
}
"""What the launchpad shows: the names are the arguments of the submission."""


def configured(context: dg.AssetExecutionContext) -> dict[str, Any]:
    """What to submit, as the launchpad was told."""
    return dict(context.op_execution_context.op_config)


def for_region(context: dg.AssetExecutionContext) -> dict[str, Any]:
    """What to submit for a partition."""
    told = configured(context)
    return {**told, "input": {**told["input"], "region": context.partition_key}}


survey = build_run_asset(
    key="survey",
    resource_key="nexio",
    call=configured,
    config_schema=ENGINE,
    timeout=timedelta(hours=1),
    group_name="quotes",
    kinds={"nexio"},
)

quotes = build_run_asset(
    key="quotes",
    resource_key="nexio",
    call=for_region,
    config_schema=ENGINE,
    on_outcome={"degraded": "warn"},
    timeout=timedelta(hours=1),
    partitions_def=REGIONS,
    # Only runs that failed are submitted anew; after a lost connection or a crash the same run is taken up again.
    retry_policy=dg.RetryPolicy(max_retries=2, delay=30, backoff=dg.Backoff.EXPONENTIAL),
    pool="nexio",
    group_name="quotes",
    owners=["team:pricing"],
    kinds={"nexio"},
)


@dg.asset(deps=["survey"], group_name="quotes")
def survey_report() -> None:
    """Needs a whole survey: a soft failure of ``survey`` skips it."""


@dg.asset(deps=["quotes"], partitions_def=REGIONS, group_name="quotes")
def price_list() -> None:
    """Made of whatever quotes there are."""


# With the audits of the same regions, which are in audits/defs.yaml.
regions = dg.define_asset_job("regions", selection=["quotes", "price_list", "security/audit"], partitions_def=REGIONS)
