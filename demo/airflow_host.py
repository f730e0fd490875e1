"""A real Airflow on this machine: scheduler, triggerer, dag-processor and API server. It knows no provider."""

from __future__ import annotations

import json
import secrets
import sqlite3
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx

from demo.processes import DemoError, Supervisor, clean_environment, free_port

START_SECONDS = 600.0
"""How long a slow machine may take until Airflow is there."""

BUSY_SECONDS = 120.0
"""How long Airflow may be too busy to take a new DAG run."""

LOCK_SECONDS = 120
"""How long a component waits for another one that writes to sqlite; by default it fails after 5 s."""
LOCK_SECONDS_OF_THE_API = 5
"""The API server can wait for itself: a request that holds the lock, for one that holds the event loop. Then one of
them has to fail soon; whoever asked tries again."""

RUN_OVER = frozenset({"success", "failed"})
"""The states in which a DAG run has ended."""


def _settings(home: Path, dags: Mapping[str, Path], port: int) -> dict[str, str]:
    """Airflow for one person and a few minutes: small, quick to notice things, and closed to the outside."""
    bundles = [
        {
            "name": name,
            "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
            "kwargs": {"path": str(folder), "refresh_interval": 3600},
        }
        for name, folder in dags.items()
    ]
    address = f"http://127.0.0.1:{port}"
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "6",
        "AIRFLOW__CORE__MAX_ACTIVE_RUNS_PER_DAG": "32",
        "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "32",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "300",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(next(iter(dags.values()))),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{address}/execution/",
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles),
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "3600",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
        "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
        "AIRFLOW__DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "300",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db?timeout={LOCK_SECONDS}",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": address,
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__SECRET_KEY": secrets.token_hex(16),
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "120",
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "120",
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
    }


class Airflow:
    """The four components of Airflow and its REST API.

    Args:
        supervisor: Where the processes are started.
        home: ``AIRFLOW_HOME``; created.
        dags: Folders of DAGs by the name of their bundle.
        connections: Connections by id, each a mapping such as ``{"conn_type": ..., "host": ...}``.
        settings: Further environment variables, which win over those chosen here.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        home: Path,
        dags: Mapping[str, Path],
        connections: Mapping[str, Mapping[str, Any]],
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._supervisor = supervisor
        self._home = home
        home.mkdir()
        connected = {f"AIRFLOW_CONN_{name.upper()}": json.dumps(fields) for name, fields in connections.items()}
        self._environment = clean_environment(**_settings(home, dags, self.port) | connected | dict(settings or {}))
        self._client = httpx.Client(base_url=self.url, timeout=120.0, trust_env=False)

    def close(self) -> None:
        """Close the connections to the API."""
        self._client.close()

    def migrate(self) -> None:
        """Create the metadata database.

        Raises:
            DemoError: That failed.
        """
        self._supervisor.run(
            "airflow-db-migrate", self._command("db", "migrate"), environment=self._environment, folder=self._home
        )
        database = self._home / "airflow.db"
        if database.exists():
            with closing(sqlite3.connect(database)) as connection:
                # Kept in the file: who reads and who writes no longer wait for each other.
                connection.execute("PRAGMA journal_mode=WAL")

    def start(self) -> None:
        """Start the four components; :meth:`wait_until_healthy` tells when they are there."""
        components = {
            "airflow-api-server": ("api-server",),
            # The log servers would listen on every address of the machine, and nobody asks them here.
            "airflow-scheduler": ("scheduler", "--skip-serve-logs"),
            "airflow-triggerer": ("triggerer", "--skip-serve-logs"),
            "airflow-dag-processor": ("dag-processor",),
        }
        for name, arguments in components.items():
            environment = dict(self._environment)
            if "api-server" in arguments:
                key = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
                environment[key] = environment[key].replace(
                    f"?timeout={LOCK_SECONDS}", f"?timeout={LOCK_SECONDS_OF_THE_API}"
                )
            self._supervisor.start(name, self._command(*arguments), environment=environment, folder=self._home)

    def wait_until_healthy(self) -> None:
        """Wait for the API server, the scheduler, the triggerer and the dag-processor.

        Raises:
            DemoError: They did not come in time, or one of them has ended.
        """
        limit = time.monotonic() + START_SECONDS
        while time.monotonic() < limit:
            self._supervisor.sleep(0.5)
            try:
                answer = self._client.get("/api/v2/monitor/health")
            except httpx.TransportError:
                continue
            if answer.status_code != 200:
                continue
            health = answer.json()
            if all(health[part]["status"] == "healthy" for part in ("scheduler", "triggerer", "dag_processor")):
                self._client.headers["Authorization"] = f"Bearer {self._token()}"
                return
        raise DemoError(f"Airflow did not come up within {START_SECONDS:.0f} s.")

    def _token(self) -> str:
        """What lets us ask its API: here everybody is an administrator."""
        return str(self._client.get("/auth/token").raise_for_status().json()["access_token"])

    def wait_for_dags(self, wanted: Iterable[str]) -> None:
        """Wait until the dag-processor has read these DAGs.

        Raises:
            DemoError: A DAG file cannot be imported, or a DAG did not come in time.
        """
        limit = time.monotonic() + START_SECONDS
        missing = set(wanted)
        while time.monotonic() < limit:
            errors = self._get("/api/v2/importErrors")["import_errors"]
            if errors:
                raise DemoError(f"{errors[0]['filename']} cannot be imported:\n{errors[0]['stack_trace']}")
            missing -= {dag["dag_id"] for dag in self._get("/api/v2/dags", limit=100)["dags"]}
            if not missing:
                return
            self._supervisor.sleep(0.5)
        raise DemoError(f"Airflow has not read {', '.join(sorted(missing))}.")

    def save_connection(self, name: str, fields: Mapping[str, Any]) -> None:
        """Save a connection in Airflow's database, as the page for connections does.

        Args:
            name: The connection's id.
            fields: A mapping such as ``{"conn_type": ..., "host": ..., "password": ...}``.
        """
        answer = self._client.post("/api/v2/connections", json={"connection_id": name, **fields})
        if answer.status_code != httpx.codes.CREATED:
            raise DemoError(f"Airflow refused the connection {name} ({answer.status_code}).")

    def trigger(self, dag_id: str, run_id: str, conf: Mapping[str, Any]) -> None:
        """Start a DAG run.

        Args:
            dag_id: The DAG.
            run_id: The name of the new run.
            conf: Values for the DAG's params.
        """
        body = {"dag_run_id": run_id, "logical_date": None, "conf": dict(conf)}
        limit = time.monotonic() + BUSY_SECONDS
        answer = self._client.post(f"/api/v2/dags/{dag_id}/dagRuns", json=body)
        refused_before = False
        while answer.status_code >= 500 and time.monotonic() < limit:
            # One sqlite file serves four components; now and then it is locked.
            refused_before = True
            self._supervisor.sleep(1.0)
            answer = self._client.post(f"/api/v2/dags/{dag_id}/dagRuns", json=body)
        there_already = refused_before and answer.status_code == 409
        if answer.status_code != 200 and not there_already:
            raise DemoError(f"Airflow refused a run of {dag_id} ({answer.status_code}): {answer.text[:500]}")

    def dag_run_states(self) -> dict[str, str]:
        """How the DAG runs stand, by the name of the run."""
        found = self._get("/api/v2/dags/~/dagRuns", limit=100)
        return {run["dag_run_id"]: run["state"] for run in found["dag_runs"]}

    def task_states(self) -> dict[tuple[str, str], str]:
        """The state of every task of all DAG runs, by the name of the run and the task; ``none`` before it is due."""
        found: dict[tuple[str, str], str] = {}
        while True:
            page = self._get("/api/v2/dags/~/dagRuns/~/taskInstances", limit=100, offset=len(found))
            tasks = page["task_instances"]
            found |= {(task["dag_run_id"], task["task_id"]): task["state"] or "none" for task in tasks}
            if not tasks or len(found) >= page["total_entries"]:
                return found

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str) -> Any:
        """A value that a task has left, or None."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        answer = self._client.get(path, params={"deserialize": "true"})
        if answer.status_code == 404:
            return None
        return answer.raise_for_status().json()["value"]

    def _get(self, path: str, **query: Any) -> Any:
        return self._client.get(path, params=query).raise_for_status().json()

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "airflow", *arguments]
