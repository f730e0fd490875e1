"""The hosts whose pages are shown: the demo's Airflow and Dagster, with runs that tell something. It sees no page."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from demo.airflow_host import RUN_OVER, Airflow
from demo.dagster_host import Dagster
from demo.processes import Component, DemoError, Supervisor, free_port
from demo.scenes import EXAMPLES, ROOT
from demo.screen import Screen
from demo.story import RELEASES, conf, find
from demo.vendors import KEYS, Vendors

ANNOUNCEMENT = "announcement"
"""A DAG run whose task stays deferred."""
PAUSED = "announcement-paused"
"""A DAG run whose external run is paused for a while, and then ends well."""
PORTFOLIO = "portfolio"
"""A DAG run whose task has submitted forty runs, of which some are degraded."""
OLD_KEY = "b3os_old_key"
"""A connection whose key is refused."""
PROJECT = ROOT / "examples" / "dagster" / "src"
LOCATION = "agent_desk.definitions"
MODULE = ("--module-name", LOCATION)
SENSOR = "loads_elsewhere"
REPORTED = "Reported 2 runs"
"""What its tick says that found both loads."""
FIRST_WORKFLOW = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
ANOTHER_WORKFLOW = "0b8f7c52-1d3e-4f6a-8b9c-2d4e6f8a0b1c"
"""OnePin lets one run of a workflow be open at a time."""
MINUTES = 5.0
"""How long a slow machine may take for anything here."""


class AirflowWorld:
    """An Airflow with connections, finished releases and a task that is deferred.

    Args:
        screen: Where progress shows.
        supervisor: Where the processes are started.
        folder: Where Airflow keeps its files.
        vendors: The emulated services.
    """

    def __init__(self, screen: Screen, supervisor: Supervisor, folder: Path, vendors: Vendors) -> None:
        self._screen = screen
        self._supervisor = supervisor
        self._vendors = vendors
        settings = {
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            # What would be the name of this machine and of its user on Airflow's pages.
            "AIRFLOW__CORE__HOSTNAME_CALLABLE": "platform.system",
            "LOGNAME": "airflow",
        }
        dags = {"examples": EXAMPLES}
        self.airflow = Airflow(supervisor, folder / "airflow", dags, {}, settings=settings)
        self.url = self.airflow.url

    def start(self) -> None:
        """Bring everything to where the pictures are taken."""
        self._screen.say("starting Airflow")
        self.airflow.migrate()
        self.airflow.start()
        self.airflow.wait_until_healthy()
        self.airflow.wait_for_dags(["example_release_story", "example_onepin", "example_many_runs"])
        self._screen.say(f"Airflow is up at {self.url}")
        self._save_connections()
        self._announce(ANNOUNCEMENT, script="succeeded", seconds=3600)
        self._announce(PAUSED, script="paused_then_succeeded", seconds=75, workflow_id=ANOTHER_WORKFLOW)
        self._releases()
        self._many_runs()
        self._wait_for_states(
            {(ANNOUNCEMENT, "speak"): "deferred", (PAUSED, "speak"): "success", (PORTFOLIO, "place"): "success"}
        )

    def _save_connections(self) -> None:
        """A connection of each type, and one whose key is refused, as a person saves them on the page."""
        saved = self._vendors.connections()
        saved[OLD_KEY] = {**saved["b3os_default"], "password": "invalid-key"}
        for name, fields in saved.items():
            # Airflow 3.3.1 and 3.3.2 test no connection that has no port.
            self.airflow.save_connection(name, {**fields, "port": urlsplit(fields["host"]).port})

    def _announce(self, run: str, *, script: str, seconds: float, **conf: str) -> None:
        """Start a run of OnePin that goes as told, without a word of it in what is submitted."""
        before = len(self._announcements())
        _control(self._vendors, "defaults", {"provider": "onepin", "script": script, "seconds": seconds})
        self.airflow.trigger("example_onepin", run, conf)
        limit = time.monotonic() + MINUTES * 60
        while len(self._announcements()) == before:
            if time.monotonic() > limit:
                raise DemoError(f"{run} has submitted nothing.")
            self._supervisor.sleep(0.5)
        _control(self._vendors, "defaults", {"provider": "onepin", "script": None, "seconds": None})

    def _many_runs(self) -> None:
        """Submit forty runs by one task: the first few are degraded."""
        with _first_degraded(self._vendors, self._supervisor):
            self.airflow.trigger("example_many_runs", PORTFOLIO, {})

    def _announcements(self) -> list[dict[str, Any]]:
        return [run for run in self._vendors.runs() if run["provider"] == "onepin"]

    def _releases(self) -> None:
        given = {
            key: self._vendors.give_run(find(key), "airflow")
            for name in RELEASES
            for param, (key, argument) in RELEASES[name].items()
            if param == "nekt_run_id" and argument == "run_id"
        }
        for name in RELEASES:
            self.airflow.trigger("example_release_story", name, conf(name, given))
        limit = time.monotonic() + MINUTES * 60
        while not all(self.airflow.dag_run_states().get(run) in RUN_OVER for run in RELEASES):
            if time.monotonic() > limit:
                raise DemoError(f"{', '.join(RELEASES)} did not end in time.")
            self._supervisor.sleep(1.0)

    def _wait_for_states(self, wanted: Mapping[tuple[str, str], str]) -> None:
        limit = time.monotonic() + MINUTES * 60
        while True:
            states = self.airflow.task_states()
            if all(states.get(task) == state for task, state in wanted.items()):
                return
            if time.monotonic() > limit:
                raise DemoError(f"The tasks did not become {wanted}.")
            self._supervisor.sleep(1.0)


class DagsterWorld:
    """``dagster dev`` with the example project, whose assets, check and sensors have met runs of all kinds.

    Args:
        screen: Where progress shows.
        supervisor: Where the processes are started.
        folder: Where Dagster keeps its files.
        vendors: The emulated services.
    """

    def __init__(self, screen: Screen, supervisor: Supervisor, folder: Path, vendors: Vendors) -> None:
        self._screen = screen
        self._supervisor = supervisor
        self._vendors = vendors
        variables = {"PYTHONPATH": str(PROJECT), "AGENT_TOKEN": "NOT-A-REAL-TOKEN", "LOGNAME": "dagster"}
        self._dagster = Dagster(supervisor, folder / "dagster", vendors.variables() | variables)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._command = ["dev", "--host", "127.0.0.1", "--port", str(port), *MODULE]
        self._client = httpx.Client(base_url=self.url, timeout=60.0, trust_env=False)

    def start(self) -> None:
        """Bring everything to where the pictures are taken."""
        self._screen.say("starting dagster dev")
        self._runs_elsewhere()
        self._start("dagster-dev", *self._command)
        self._wait_for("Dagster", self._reachable)
        self._ask("mutation { setNuxSeen }")
        self._screen.say(f"Dagster is up at {self.url}")
        _control(self._vendors, "defaults", {"provider": "nexio", "script": "degraded", "seconds": 6})
        self._materialize("survey,survey_report")
        _control(self._vendors, "defaults", {"provider": "nyx", "script": "succeeded", "seconds": 6})
        self._materialize("security/audit", "--partition", "north")
        self._materialize("agent,agent_release")
        config = json.dumps({"ops": {"portfolio": {"config": {"applicants": 30}}}})
        with _first_degraded(self._vendors, self._supervisor):
            portfolio = self._start(
                "dagster-portfolio", "asset", "materialize", *MODULE, "--select", "portfolio", "--config-json", config
            )
        self._wait_for("the portfolio", lambda: portfolio.process.poll() is not None)
        self._screen.say("the assets are done; waiting for the sensors")
        self._wait_for("the announcement", lambda: "voices/announcement" in self._materialized())
        self._wait_for("a report of the sensor", lambda: self._tick() is not None)

    def _runs_elsewhere(self) -> None:
        """Runs that Dagster did not start."""
        for body in (
            {"provider": "onepin", "script": "succeeded", "parents": {"workflow_id": FIRST_WORKFLOW}},
            {"provider": "nekt", "script": "succeeded", "parents": {"pipeline": "crm-orders"}},
            {"provider": "nekt", "script": "failed", "parents": {"pipeline": "crm-customers"}},
            {"provider": "nyx", "script": "succeeded", "parents": {"config_name": "agent-nightly"}},
        ):
            _control(self._vendors, "runs", {"seconds": 90, "age_seconds": 80, **body})

    def _materialize(self, assets: str, *more: str) -> None:
        name = f"dagster-{assets.replace('/', '-')}"
        component = self._start(name, "asset", "materialize", *MODULE, "--select", assets, *more, may_fail=True)
        self._wait_for(assets, lambda: component.process.poll() is not None)

    def _start(self, name: str, *arguments: str, may_fail: bool = False) -> Component:
        command = [sys.executable, "-m", "dagster", *arguments]
        return self._supervisor.start(
            name, command, environment=self._dagster.environment, folder=self._dagster.home, may_fail=may_fail
        )

    def _reachable(self) -> bool:
        try:
            return self._client.get("/server_info").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def _materialized(self) -> set[str]:
        nodes = self._ask("{ assetNodes { assetKey { path } assetMaterializations(limit: 1) { runId } } }")[
            "assetNodes"
        ]
        return {"/".join(node["assetKey"]["path"]) for node in nodes if node["assetMaterializations"]}

    def _ask(self, query: str) -> Any:
        return self._client.post("/graphql", json={"query": query}).raise_for_status().json()["data"]

    def _wait_for(self, what: str, there: Callable[[], bool]) -> None:
        limit = time.monotonic() + MINUTES * 60
        while not there():
            if time.monotonic() > limit:
                raise DemoError(f"{what} did not come in time.")
            self._supervisor.sleep(1.0)

    def runs(self) -> dict[str, str]:
        """The id of the newest run for each set of assets, by their keys with commas between."""
        answer = self._ask("{ runsOrError { ... on Runs { results { runId assetSelection { path } } } } }")
        found: dict[str, str] = {}
        for run in answer["runsOrError"]["results"]:
            keys = sorted("/".join(key["path"]) for key in run["assetSelection"] or [])
            found.setdefault(",".join(keys), run["runId"])
        return found

    def tick_that_reported(self) -> int:
        """How many ticks of the sensor ago it reported runs."""
        ago = self._tick()
        if ago is None:
            raise DemoError(f"No tick of {SENSOR} reported what it should.")
        return ago

    def _tick(self) -> int | None:
        where = f'repositoryName: "__repository__", repositoryLocationName: "{LOCATION}", sensorName: "{SENSOR}"'
        asked = "... on Sensor { sensorState { ticks(limit: 100) { skipReason } } }"
        answer = self._ask(f"{{ sensorOrError(sensorSelector: {{{where}}}) {{ {asked} }} }}")
        reasons = [tick["skipReason"] or "" for tick in answer["sensorOrError"]["sensorState"]["ticks"]]
        return next((ago for ago, reason in enumerate(reasons) if REPORTED in reason), None)


@contextmanager
def _first_degraded(vendors: Vendors, supervisor: Supervisor) -> Generator[None]:
    """The first Nexio runs that are submitted meanwhile are degraded, all later ones succeed."""

    def submitted() -> int:
        return sum(run["provider"] == "nexio" for run in vendors.runs())

    before, limit = submitted(), time.monotonic() + MINUTES * 60
    _control(vendors, "defaults", {"provider": "nexio", "script": "degraded", "seconds": 12})
    yield
    while submitted() < before + 2:
        if time.monotonic() > limit:
            raise DemoError("Nothing was submitted to Nexio.")
        supervisor.sleep(0.05)
    _control(vendors, "defaults", {"provider": "nexio", "script": "succeeded", "seconds": 12})


def _control(vendors: Vendors, path: str, body: Mapping[str, Any]) -> Any:
    answer = httpx.post(f"{vendors.url}/_control/{path}", json=dict(body), timeout=30.0, trust_env=False)
    return answer.raise_for_status().json()


def secrets() -> list[str]:
    """What no page may show."""
    return list(KEYS.values())
