"""Keeps both web interfaces up for people to look around. It plays no part in the story."""

from __future__ import annotations

import importlib.util
import signal
import sys
import time

import httpx

from demo.dagster_project import LOCATION, MODULE
from demo.processes import DemoError, Interrupted, Supervisor, free_port
from demo.scenes import STORY, Demo
from demo.screen import Screen

START_SECONDS = 300.0


def check() -> None:
    """See whether Dagster's web interface is installed, before minutes are spent.

    Raises:
        DemoError: It is not.
    """
    if importlib.util.find_spec("dagster_webserver") is None:
        raise DemoError("Dagster's web interface is not installed: run make setup, or pip install dagster-webserver.")


def serve(screen: Screen, supervisor: Supervisor, demo: Demo) -> None:
    """Start Dagster's web interface beside Airflow's, print both addresses, and stay until Ctrl-C.

    Raises:
        DemoError: It does not start, or a component has ended.
        Interrupted: A signal other than that of Ctrl-C wants us to stop.
    """
    port = free_port()
    screen.say("starting Dagster's web interface")
    workspace = demo.dagster.write_workspace(
        "webserver",
        {"python_module": {"module_name": MODULE, "location_name": LOCATION}},
        {"python_file": {"relative_path": str(STORY), "working_directory": str(STORY.parent)}},
    )
    supervisor.start(
        "dagster-webserver",
        [sys.executable, "-m", "dagster_webserver", "--host", "127.0.0.1", "--port", str(port), "-w", str(workspace)],
        environment=demo.dagster.environment,
        folder=demo.dagster.home,
    )
    address = f"http://127.0.0.1:{port}"
    _wait_for(f"{address}/server_info", supervisor)
    screen.print(
        f"\n  Airflow    {demo.airflow.url}\n  Dagster    {address}\n  emulator   {demo.vendors.url}/_control/runs\n"
    )
    screen.print("Both show the runs of the table above, and more can be started there. Ctrl-C stops everything.")
    try:
        while True:
            supervisor.sleep(1.0)
    except Interrupted as wish:
        if wish.number != signal.SIGINT:
            raise


def _wait_for(address: str, supervisor: Supervisor) -> None:
    limit = time.monotonic() + START_SECONDS
    with httpx.Client(timeout=10.0, trust_env=False) as client:
        while time.monotonic() < limit:
            supervisor.sleep(0.5)
            try:
                if client.get(address).status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                continue
    raise DemoError(f"Dagster's web interface did not come up within {START_SECONDS:.0f} s.")
