"""A job around many external runs, for a process of its own: ``many_job.py run`` or ``many_job.py retry RUN_ID``.

The service is MANY_PROVIDER at EXTERNAL_URL, how many runs says MANY_RUNS, the instance is that of DAGSTER_HOME.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import dagster as dg

from runops.dagster import B3osResource, NyxResource, build_run_op

PROVIDER, COUNT = os.environ.get("MANY_PROVIDER", "nyx"), int(os.environ.get("MANY_RUNS", "60"))
KINDS: dict[str, Any] = {"nyx": NyxResource, "b3os": B3osResource}


def calls(context: Any) -> list[dict[str, Any]]:
    """What to submit."""
    if PROVIDER == "b3os":
        return [{"workflow_id": "wf", "payload": {"number": number}} for number in range(COUNT)]
    same = {"target": {"url": "https://agent.example.com"}, "objective": "talk", "budget_usd": 5}
    return [
        {"config_name": f"config-{number}", "name": "audit", "severity_target": "high", **same}
        for number in range(COUNT)
    ]


many_runs = build_run_op(
    name="many_runs",
    resource_key="service",
    calls=calls,
    max_active=COUNT,
    poll_interval=0.5,
    submit_grace=1,
    # B3OS shows no mark: the single run that has begun since the POST is taken for ours.
    adopt_uncertain=PROVIDER == "b3os",
)


@dg.job(
    resource_defs={"service": KINDS[PROVIDER](api_key="a-key", base_url=dg.EnvVar("EXTERNAL_URL"))},
    executor_def=dg.in_process_executor,
)
def many_job() -> None:
    many_runs()


if __name__ == "__main__":
    with dg.DagsterInstance.get() as instance:
        options = dg.ReexecutionOptions.from_failure(sys.argv[2], instance) if sys.argv[1] == "retry" else None
        with dg.execute_job(dg.reconstructable(many_job), instance, reexecution_options=options) as result:
            sys.exit(0 if result.success else 1)
