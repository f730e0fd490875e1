"""Tell somebody when a run waits for a person, and go on waiting without a worker.

A B3OS workflow that pays out may wait for an approval. ``tell`` is called once each time that it does, on a worker that
is started for the call alone; in between the triggerer waits. What ``tell`` raises is logged and changes nothing.

Set the environment variable ``APPROVALS_WEBHOOK`` to an address that takes a JSON text by POST, such as an incoming
webhook of a chat; without it the task's log says it.

Connection: ``b3os_default`` (type B3OS, the API key as password).
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.request import Request, urlopen

from airflow.sdk import Param, dag

from runops.airflow import B3osRunOperator

log = logging.getLogger(__name__)


def tell(context: Any, run: Mapping[str, Any]) -> None:
    """Say which run waits, since when, and where somebody can decide."""
    text = f"{context['ti'].task_id}: {run['run_id']} is {run['phase']} since {run['phase_since']}, see {run['url']}"
    log.info("%s", text)
    address = os.environ.get("APPROVALS_WEBHOOK")
    if address:
        body = json.dumps({"text": text}).encode()
        with urlopen(Request(address, body, {"Content-Type": "application/json"}), timeout=10):
            log.info("Told.")


@dag(
    schedule=None,
    params={
        "workflow_id": Param("wf_payout", type="string", description="The published workflow"),
        "payload": Param({"amount": 10}, type="object", description="The payload of its trigger"),
    },
    render_template_as_native_obj=True,
    doc_md=__doc__,
    tags=["runops", "b3os"],
)
def example_phases() -> None:
    B3osRunOperator(
        task_id="pay_out",
        workflow_id="{{ params.workflow_id }}",
        payload="{{ params.payload }}",
        on_phase={"waiting": tell},
        max_paused=timedelta(days=1),
        timeout=timedelta(days=2),
        deferrable=True,
    )


example_phases()
