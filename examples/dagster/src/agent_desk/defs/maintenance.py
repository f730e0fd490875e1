"""Every hour, cancel the runs that steps have submitted and that nothing waits for any more.

A step that dies with its Dagster run has nobody left to cancel its run. It is the same as
``runops orphans dagster --cancel`` from a cron job. The schedule is off until somebody switches it on.
"""

from __future__ import annotations

import dagster as dg

from runops.dagster import cancel_orphans

KEYS = ("nexio", "nyx", "b3os")


@dg.op(required_resource_keys=set(KEYS))
def cancel_what_is_left(context) -> int:
    """How many runs were left; the log names each."""
    resources = {key: getattr(context.resources, key) for key in KEYS}
    return len(cancel_orphans(context, resources))


@dg.job
def maintenance() -> None:
    """Look after what was left behind."""
    cancel_what_is_left()


every_hour = dg.ScheduleDefinition(job=maintenance, cron_schedule="0 * * * *")
