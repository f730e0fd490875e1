"""The page "External runs" in Airflow, with no run, 30 and 10,000, and its pictures in every look."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from demo.airflow_host import Airflow
from demo.processes import DemoError, Supervisor
from demo.scenes import ROOT
from demo.screen import Screen
from scripts.screenshots.browser import NARROW, WIDTH, Camera, camera

DAGS = ROOT / "benchmarks" / "stored_dags"
SET = {"dag_id": "insurance_desk", "task_id": "place_homes"}
LOOKS = (("", WIDTH, False), ("_dark", WIDTH, True), ("_narrow", NARROW, False), ("_narrow_dark", NARROW, True))
"""What a picture's name ends with, the width in pixels, and whether it is dark."""
SHOWN = frozenset(
    {
        "external_runs_none", "external_runs_30", "external_runs_30_dark", "external_runs_30_narrow",
        "external_runs_10000", "external_runs_10000_narrow_dark", "external_run", "external_run_narrow",
        "external_run_set", "external_runs_charts", "external_runs_charts_dark", "external_runs_tab",
    }
)  # fmt: skip
"""The pictures of the docs; the others are taken too where ``--every`` is said, to be looked at."""


class PageWorld:
    """An API server of Airflow over a database into which external runs are written; nothing else runs.

    Args:
        screen: Where progress shows.
        supervisor: Where the processes are started.
        folder: Where Airflow keeps its files.
    """

    def __init__(self, screen: Screen, supervisor: Supervisor, folder: Path) -> None:
        self._screen = screen
        self._supervisor = supervisor
        self._folder = folder / "external-runs"
        settings = {
            "AIRFLOW__CORE__HOSTNAME_CALLABLE": "platform.system",
            "LOGNAME": "airflow",
            "PYTHONPATH": str(ROOT),
        }
        self._airflow = Airflow(supervisor, self._folder, {"stored": DAGS}, {}, settings=settings)
        self.url = self._airflow.url
        self.token = ""
        self._client = httpx.Client(base_url=self.url, timeout=120.0, trust_env=False)

    def start(self) -> None:
        """Bring an empty Airflow up."""
        self._screen.say("starting Airflow's API server")
        self._airflow.migrate()
        self._run("read", "airflow", "dags", "reserialize")
        self._supervisor.start(
            "airflow-page",
            self._command("airflow", "api-server"),
            environment=self._airflow._environment,
            folder=self._folder,
        )
        limit = time.monotonic() + 300
        while not self.token:
            if time.monotonic() > limit:
                raise DemoError("Airflow's API server did not come up.")
            self._supervisor.sleep(0.5)
            try:
                self.token = self._client.get("/auth/token").json()["access_token"]
            except httpx.TransportError:
                continue
        self._client.headers["Authorization"] = f"Bearer {self.token}"

    def write(self, count: int, live: int) -> None:
        """Write so many external runs into the database."""
        self._screen.say(f"writing {count:,} external runs")
        self._run(f"write-{count}", "benchmarks.stored_runs", "--count", str(count), "--live", str(live))

    def first(self, **filters: Any) -> dict[str, Any]:
        """The newest run of these."""
        found = self._client.get("/runops/api/runs", params={"limit": 1, **filters}).raise_for_status().json()
        return found["runs"][0]

    def _run(self, name: str, *command: str) -> None:
        self._supervisor.run(
            f"airflow-{name}", self._command(*command), environment=self._airflow._environment, folder=ROOT
        )

    def _command(self, *command: str) -> list[str]:
        return [sys.executable, "-m", *command]


def take(world: PageWorld, into: Path, *, every: bool = False) -> list[str]:
    """All pictures; their names.

    Args:
        world: Airflow, empty.
        into: The folder for the pictures.
        every: Take those too that the docs do not show.
    """
    taken: list[str] = []

    def all_looks(*surfaces: tuple[str, str, tuple[str, ...], int]) -> None:
        for ending, width, dark in LOOKS:
            wanted = [each for each in surfaces if every or each[0] + ending in SHOWN]
            if wanted:
                with _window(into, world, width, dark) as held:
                    for name, path, texts, height in wanted:
                        _shoot(held, world, f"{name}{ending}", path, texts, height if width > NARROW else height + 220)
                    taken.extend(held.taken)

    all_looks(("external_runs_none", "/runops/", ("No external run yet.",), 360))
    world.write(30, 12)
    row = (
        world.first(provider="onepin", outcome="failed") if _some(world, "onepin", "failed") else world.first(open=True)
    )
    all_looks(
        ("external_runs_30", "/runops/", ("30 runs",), 820),
        ("external_run", f"/runops/{_hash(row)}", ("Timeline",), 640),
        ("external_runs_tab", _tab(row), (), 760),
    )
    world.write(10_000, 200)
    of_set = world.first(**SET, open=False)
    all_looks(
        ("external_runs_10000", "/runops/", (" of 10,030 runs",), 820),
        ("external_run_set", f"/runops/{_hash(of_set)}", ("Runs of the set",), 900),
        ("external_runs_charts", "/runops/#/charts", ("Outcomes, runs a day",), 900),
        ("external_runs_nav", "/plugin/external-runs", (), 760),
    )
    return taken


def _some(world: PageWorld, provider: str, outcome: str) -> bool:
    asked = {"provider": provider, "outcome": outcome, "limit": 1}
    return world._client.get("/runops/api/runs", params=asked).raise_for_status().json()["total"] > 0


@contextmanager
def _window(into: Path, world: PageWorld, width: int, dark: bool) -> Iterator[Camera]:
    with camera(into, (), width=width, dark=dark) as held:
        held.page.context.add_cookies([{"name": "_token", "value": world.token, "url": world.url}])
        yield held


def _shoot(held: Camera, world: PageWorld, name: str, path: str, texts: tuple[str, ...], height: int) -> None:
    held.size(height)
    # From elsewhere, for a change of the hash alone loads nothing.
    held.open(f"{world.url}/runops/assets/icon.svg")
    held.open(f"{world.url}{path}")
    if not texts:
        # Airflow has put the page into a frame.
        held.page.frame_locator("iframe").first.get_by_text("Up to date").first.wait_for()
    held.shoot(name, *texts)


def _hash(row: dict[str, Any]) -> str:
    names = ("dag_id", "dag_run_id", "task_id", "map_index")
    return "#/run?" + str(httpx.QueryParams({name: row[name] for name in names}))


def _tab(row: dict[str, Any]) -> str:
    return f"/dags/{row['dag_id']}/runs/{row['dag_run_id']}/tasks/{row['task_id']}/plugin/external-runs-task-instance"
