"""What a StatsD server is sent by a process like a worker's or a triggerer's: every metric that the table names."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from typing import Any

import pytest

from runops.core.metrics import METRICS
from tests.progress import STUCK_SECONDS, until

pytest.importorskip("statsd", reason="needs the client that apache-airflow[statsd] brings")

pytestmark = pytest.mark.slow

SIGNS = {"counter": "c", "timer": "ms", "gauge": "g"}
"""How StatsD marks each kind."""

PROCESS = """
import asyncio, sys, time
from datetime import UTC, datetime
from types import SimpleNamespace

import airflow.jobs.triggerer_job_runner
from runops.airflow import NexioRunSensor, RunTrigger
from runops.airflow.exceptions import AuthError
from runops.airflow.metrics import METER
from runops.core.metrics import SPEND
from runops.core import find
from runops.core.waiting.options import WaitOptions

in_worker, in_trigger = sys.argv[1:]
ti = SimpleNamespace(max_tries=0, start_date=datetime.now(UTC), xcom_push=lambda key, value: None)

sensor = NexioRunSensor(task_id="w", run_id=in_worker, poke_interval=0.1, deferrable=False)
assert sensor.execute({"ti": ti})["outcome"] == "succeeded"

try:
    NexioRunSensor(task_id="x", run_id=in_worker, nexio_conn_id="nexio_wrong", deferrable=False).execute({"ti": ti})
except AuthError:
    pass

async def wait():
    patience = WaitOptions.build(find("nexio"), now=time.time(), timeout=600, interval=0.1).to_dict()
    ref = {"provider": "nexio", "run_id": in_trigger}
    trigger = RunTrigger(provider="nexio", conn_id="nexio_default", ref=ref, patience=patience)
    return [event.payload async for event in trigger.run()]

(event,) = asyncio.run(wait())
assert sensor.execute_complete({"ti": ti}, event)["run_id"] == in_trigger

# Of what these runs have no part in, only the way is shown.
METER.turn("nyx")
METER.adopted("nyx")
METER.orphans(["nyx"], [])
METER.emit(SPEND, 1.5, provider="nyx", unit="USD")
"""


def datagrams(receiver: socket.socket) -> list[str]:
    receiver.setblocking(False)
    sent: list[str] = []
    while True:
        try:
            sent.append(receiver.recv(65_536).decode())
        except BlockingIOError:
            return sent


def test_every_metric_of_the_table_is_sent_with_its_kind_and_tags(served: Any, connect: Any) -> None:
    connect("nexio_wrong", "nexio", host=served.base_url("nexio"), password="invalid-key-1234")
    served.emulator.reset()
    emulator = served.emulator
    runs = [emulator.create_run("nexio", script="succeeded", held=True) for _ in range(2)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_000_000)
        settings = {
            "AIRFLOW__METRICS__STATSD_ON": "True",
            "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
            "AIRFLOW__METRICS__STATSD_PORT": str(receiver.getsockname()[1]),
            "AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "True",
        }
        command = [sys.executable, "-c", PROCESS, *runs]
        with subprocess.Popen(command, env={**os.environ, **settings}, stderr=subprocess.PIPE, text=True) as process:
            for run_id in runs:
                # Each run ends once it was seen under way, whenever that is.
                until("the wait begins", lambda run_id=run_id: process.poll() or emulator.requests(run_id=run_id))
                emulator.advance(run_id=run_id)
            _, complaints = process.communicate(timeout=STUCK_SECONDS)
        sent = [line for line in datagrams(receiver) if line.startswith("airflow.runops.")]
    assert process.returncode == 0, complaints[-2000:]
    for metric in METRICS:
        lines = [line for line in sent if re.match(rf"airflow\.{re.escape(metric.name)}[,:]", line)]
        assert lines, (metric.name, sent)
        for line in lines:
            told, _, value = line.rpartition(":")
            assert value.endswith(f"|{SIGNS[metric.kind]}"), line
            assert {tag.partition("=")[0] for tag in told.split(",")[1:]} == set(metric.tags), line
    waits = [line for line in sent if line.startswith("airflow.runops.waits")]
    # One ended in the worker, one in the triggerer; neither name nor tag tells which run it was.
    assert len(waits) == 2
    assert not any(run_id in line for run_id in runs for line in sent)
