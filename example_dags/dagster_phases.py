"""Tell somebody when a run waits for a person, with Dagster: by a callback, and by a sensor over a tag.

``pay_out`` runs a B3OS workflow that may wait for an approval. Each time that it does, ``tell`` is called in the step,
the step's log gets an event, and the Dagster run the tag ``runops/phase: waiting``. ``waiting_runs`` looks for that tag
and needs no callback: it starts ``remind`` once for each run that waits for longer than an hour.

The key comes from the environment variable ``B3OS_API_KEY``, an address that is not the public one from
``B3OS_BASE_URL``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import dagster as dg

from runops.core import RunSnapshot
from runops.dagster import B3osResource, build_run_asset

LONG_SECONDS = 3600


def tell(context: Any, snapshot: RunSnapshot) -> None:
    """Say which run waits, and where somebody can decide."""
    context.log.info("%s is %s: see %s", snapshot.ref, snapshot.phase, snapshot.url)


pay_out = build_run_asset(
    key="pay_out",
    resource_key="b3os",
    call={"workflow_id": "wf_payout", "payload": {"amount": 10}},
    on_phase={"waiting": tell},
    max_paused=timedelta(days=1),
    timeout=timedelta(days=2),
    kinds={"b3os"},
)


@dg.op(config_schema={"run_id": str})
def say(context) -> None:
    """Where a message to a chat would be sent."""
    context.log.warning("The Dagster run %s has waited for a person for an hour.", context.op_config["run_id"])


@dg.job
def remind() -> None:
    """Remind whoever can decide."""
    say()


@dg.sensor(job=remind, minimum_interval_seconds=60)
def waiting_runs(context: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest]:
    """A reminder for each Dagster run whose external run waits, and has been running for long."""
    waits = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED], tags={"runops/phase": "waiting"})
    for record in context.instance.get_run_records(waits):
        if time.time() - (record.start_time or 0) > LONG_SECONDS:
            run_id = record.dagster_run.run_id
            yield dg.RunRequest(run_key=run_id, run_config={"ops": {"say": {"config": {"run_id": run_id}}}})


defs = dg.Definitions(
    assets=[pay_out],
    jobs=[remind],
    sensors=[waiting_runs],
    resources={"b3os": B3osResource(api_key=dg.EnvVar("B3OS_API_KEY"), base_url=os.environ.get("B3OS_BASE_URL"))},
)
