"""No worker is held while a B3OS workflow waits for an approval, which may take days.

The job ``pay_out`` submits the run and ends. The sensor tells the asset ``payouts`` how the run ended, in the
partition of the job's run.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import dagster as dg

from runops.dagster import build_completion_sensor, build_run_check, build_submit_job

DAYS = dg.DailyPartitionsDefinition("2026-11-01")


def payout(context: dg.OpExecutionContext) -> dict[str, Any]:
    """What to submit for a day."""
    return {"workflow_id": "wf_payout", "payload": {"day": context.partition_key}}


payouts = dg.AssetSpec("payouts", partitions_def=DAYS, group_name="payouts", kinds={"b3os"})

pay_out = build_submit_job(name="pay_out", resource_key="b3os", call=payout, partitions_def=DAYS)

payouts_made = build_completion_sensor(
    name="payouts_made",
    job=pay_out,
    asset="payouts",
    resource_key="b3os",
    timeout=timedelta(days=3),
    minimum_interval_seconds=15,
    default_status=dg.DefaultSensorStatus.RUNNING,
)

# What the sensor says of the asset shows on its page once a check of that name is defined.
last_payout = build_run_check(asset="payouts", resource_key="b3os", parent="wf_payout")
