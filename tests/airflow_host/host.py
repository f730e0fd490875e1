"""A real Airflow whose parts can be killed one by one, with the emulator as the outside. It knows no promise."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import psutil

from demo.airflow_host import Airflow
from demo.processes import Component, Supervisor
from demo.vendors import Vendors
from tests.airflow_host.postgres import Postgres

ROOT = Path(__file__).resolve().parents[2]
DAGS = Path(__file__).resolve().parent / "dags"
SOURCES = os.pathsep.join((str(ROOT), str(ROOT / "src")))
"""An environment of another version of Airflow has no runops of its own."""

NOTICED = {
    # A task whose worker is gone is noticed after this.
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "2",
    # A scheduler that is gone, by the next one.
    "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "1",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "3",
    "AIRFLOW__SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "3",
    # A triggerer that is gone or whose loop is blocked, by the other one.
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "12",
    "AIRFLOW__TRIGGERER__RUNNER_HEALTH_CHECK_THRESHOLD": "8",
}
"""Airflow with short heartbeats, so that a kill is noticed in seconds."""

ROOMY = {
    "AIRFLOW__CORE__PARALLELISM": "24",
    "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "400",
    "AIRFLOW__CORE__MAX_ACTIVE_RUNS_PER_DAG": "400",
    "AIRFLOW__CORE__DEFAULT_POOL_TASK_SLOT_COUNT": "400",
    "AIRFLOW__SCHEDULER__MAX_TIS_PER_QUERY": "64",
    "AIRFLOW__SCHEDULER__MAX_DAGRUNS_TO_CREATE_PER_LOOP": "50",
    "AIRFLOW__SCHEDULER__PARSING_PRE_IMPORT_MODULES": "True",
    "AIRFLOW__LOGGING__DAG_PROCESSOR_LOG_TARGET": "stdout",
}

KILL_FOLDER = "RUNOPS_TEST_PAUSES"
"""The environment variable that names the folder in which paused tasks leave their marks."""

ANSWER_SECONDS = 90.0
"""How long the API may be away, because something has just been killed."""

TASK_OVER = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})


class HostError(Exception):
    """The host does not do what a test waits for; the text says what was seen."""


def until(what: str, seconds: float, look: Callable[[], Any], *, pause: float = 0.25) -> Any:
    """What ``look`` gives as soon as it is true.

    Args:
        what: What is waited for, for the message.
        seconds: How long.
        look: Called again and again.
        pause: Seconds between two looks.

    Raises:
        HostError: It never was.
    """
    limit = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > limit:
            raise HostError(f"not within {seconds:.0f} s: {what}")
        time.sleep(pause)


@dataclasses.dataclass(frozen=True)
class Task:
    """A task instance's address."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1

    @property
    def path(self) -> str:
        """Its path in the API."""
        mapped = "" if self.map_index < 0 else f"/{self.map_index}"
        return f"/api/v2/dags/{self.dag_id}/dagRuns/{self.run_id}/taskInstances/{self.task_id}{mapped}"


class Outside(Vendors):
    """The emulator, in a process of its own, and what it was asked."""

    environment = MappingProxyType({"PYTHONPATH": SOURCES})

    def tell(self, action: str, /, **body: Any) -> dict[str, Any]:
        """Post to the control API: ``runs``, ``faults``, ``hold``, ``advance``, ``defaults``, ``set``, ``reset``."""
        return self._client.post(f"{self.url}/_control/{action}", json=body).raise_for_status().json()

    def requests(self, **filters: Any) -> list[dict[str, Any]]:
        """The requests received, oldest first."""
        answer = self._client.get(f"{self.url}/_control/requests", params=filters).raise_for_status()
        return list(answer.json()["requests"])

    def submitted(self, provider: str, **parents: str) -> list[dict[str, Any]]:
        """The runs that somebody submitted for this parent."""
        return [
            run
            for run in self.runs()
            if run["provider"] == provider and run["submitted"] and parents.items() <= run["parents"].items()
        ]

    def reads(self) -> dict[str, int]:
        """How often each run was read, by its parent; of runs that share one, the newest counts."""
        return {str(*run["parents"].values()): run["reads"] for run in self.runs() if len(run["parents"]) == 1}

    def finish(self, run_id: str) -> None:
        """Let one run, wherever its clock stands, come to its end."""
        run = next(run for run in self.runs() if run["run_id"] == run_id)
        self.tell("hold", held=False, provider=run["provider"], run_id=run_id)
        self.tell("advance", provider=run["provider"], run_id=run_id)


class Host(Airflow):
    """Airflow's components, each in a session of its own, and the ways to hurt them.

    Args:
        supervisor: Where the processes are started.
        folder: For its home and its logs; must not hold ``airflow`` yet.
        connections: Connections by id.
        database: A PostgreSQL, or None for sqlite.
        triggerers: How many.
        settings: Further environment variables for all components.
        dags: The folder with the DAGs.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        folder: Path,
        connections: Mapping[str, Mapping[str, Any]],
        *,
        database: Postgres | None = None,
        triggerers: int = 1,
        settings: Mapping[str, str] | None = None,
        dags: Path = DAGS,
    ) -> None:
        self.folder = folder
        self.home = folder / "airflow"
        self.pauses = folder / "pauses"
        self.pauses.mkdir()
        self.database = database
        stored = {} if database is None else {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database.sqlalchemy_url}
        short = NOTICED if database is not None else {}
        own = {"PYTHONPATH": SOURCES, KILL_FOLDER: str(self.pauses)}
        super().__init__(
            supervisor, self.home, {"tests": dags}, connections, ROOMY | short | stored | own | dict(settings or {})
        )
        self.triggerers = [f"airflow-triggerer-{number + 1}" for number in range(triggerers)]
        self.components: dict[str, Component] = {}
        self._left_behind: list[int] = []

    # --- start and stop ---

    def start(self) -> None:
        """Start all components; :meth:`wait_until_healthy` tells when they are there."""
        for name in ("airflow-api-server", "airflow-dag-processor", "airflow-scheduler", *self.triggerers):
            self.start_component(name)

    def start_component(self, name: str) -> None:
        """Start one component: ``airflow-api-server``, ``-scheduler``, ``-dag-processor`` or ``-triggerer-<n>``."""
        kind = name.removeprefix("airflow-").rstrip("-0123456789")
        # The log servers would listen on every address of the machine, and two triggerers on the same port.
        quiet = ("--skip-serve-logs",) if kind in ("scheduler", "triggerer") else ()
        self.components[name] = self._supervisor.start(
            name, self._command(kind, *quiet), environment=self._environment, folder=self.home, may_fail=True
        )

    def wait_until_healthy(self) -> None:
        """Wait for all components, each triggerer included."""
        super().wait_until_healthy()
        until("every triggerer has begun", ANSWER_SECONDS, self._all_triggerers_alive)

    def _all_triggerers_alive(self) -> bool:
        jobs = self.ask("GET", "/api/v2/jobs", job_type="TriggererJob", job_state="running", is_alive="true")
        running = [name for name in self.triggerers if self.components[name].process.poll() is None]
        return jobs["total_entries"] >= len(running)

    # --- kill ---

    def kill(self, *names: str, number: signal.Signals = signal.SIGKILL, alone: bool = False) -> None:
        """Send components a signal, and see those of SIGKILL gone.

        Args:
            *names: Which ones.
            number: The signal; what is not SIGKILL goes to the component's main process only, as from a supervisor.
            alone: Spare what the component has started: its workers go on without it.
        """
        victims: list[psutil.Process] = []
        held: list[int] = []
        for name in names:
            main = psutil.Process(self.components[name].process.pid)
            whole = [main] if alone or number is not signal.SIGKILL else [main, *main.children(recursive=True)]
            victims += whole
            if alone:
                self._left_behind.append(main.pid)
                held += [line.laddr.port for line in main.net_connections("tcp") if line.raddr]
        for victim in victims:
            _send(victim.pid, number)
        if number is signal.SIGKILL:
            for name in names:
                self.components[name].process.wait(20)
        if held and self.database is not None:
            # What is left behind was forked and holds the dead one's connections open, and so the rows it had locked.
            self.database.hang_up(held)

    def bury(self) -> None:
        """Kill what components that were killed alone have left behind."""
        for session in self._left_behind:
            for pid in psutil.pids():
                if _session(pid) == session and _alive(pid):
                    _send(pid, signal.SIGKILL)
        self._left_behind.clear()

    def kill_task(self, task: Task, *, supervisor: bool = True) -> None:
        """``kill -9`` of what runs a task.

        Args:
            task: A running task.
            supervisor: Also the worker process that watches over it: then nobody reports its end.
        """
        runner = self.runner_of(task)
        watching = psutil.Process(runner).ppid()
        if supervisor:
            _send(watching, signal.SIGKILL)
        _send(runner, signal.SIGKILL)

    def evict(self, task: Task) -> None:
        """SIGTERM to the worker process that watches over a task, as a machine that is being shut down sends it."""
        _send(psutil.Process(self.runner_of(task)).ppid(), signal.SIGTERM)

    def runner_of(self, task: Task) -> int:
        """The process that runs a task."""
        pid = self.instance(task)["pid"]
        if pid is None:
            raise HostError(f"{task} has no process")
        return int(pid)

    def restart(self, *names: str) -> None:
        """Start killed components again."""
        for name in names:
            self.start_component(name)

    def triggerer_of(self, task: Task) -> int | None:
        """The id of the triggerer job that has a deferred task's trigger."""
        job = self.instance(task).get("triggerer_job")
        return None if job is None else int(job["id"])

    # --- the API ---

    def ask(self, method: str, path: str, *, body: Any = None, expect: Iterable[int] = (200,), **query: Any) -> Any:
        """Ask the API, again while it is away or its database is locked.

        Raises:
            HostError: It refuses, or is away for too long.
        """
        limit = time.monotonic() + ANSWER_SECONDS
        while True:
            told = "no answer"
            try:
                answer = self._client.request(method, path, json=body, params=query)
            except httpx.TransportError as error:
                told = repr(error)
            else:
                if answer.status_code in expect:
                    return answer.json() if answer.content else None
                told = f"{answer.status_code}: {answer.text[:500]}"
                if answer.status_code < 500:
                    raise HostError(f"{method} {path}: {told}")
            if time.monotonic() > limit:
                raise HostError(f"{method} {path}: {told}")
            time.sleep(0.5)

    def _get(self, path: str, **query: Any) -> Any:
        return self.ask("GET", path, **query)

    def instance(self, task: Task) -> dict[str, Any]:
        """A task instance as the API describes it."""
        return self.ask("GET", task.path)

    def state(self, task: Task) -> str:
        """A task instance's state; ``none`` before it is due."""
        return self.instance(task)["state"] or "none"

    def states(self, dag_id: str = "~", run_id: str = "~") -> dict[Task, str]:
        """The states of all task instances of a DAG run, or of all of them."""
        found: dict[Task, str] = {}
        while True:
            page = self._get(
                f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances", limit=100, offset=len(found), order_by="id"
            )
            for entry in page["task_instances"]:
                task = Task(entry["dag_id"], entry["dag_run_id"], entry["task_id"], entry["map_index"])
                found[task] = entry["state"] or "none"
            if not page["task_instances"] or len(found) >= page["total_entries"]:
                return found

    def wait_for(self, task: Task, wanted: Iterable[str], seconds: float = 90.0) -> str:
        """Wait until a task is in one of these states; which one."""
        names = set(wanted)
        seen = ""

        def look() -> str | None:
            nonlocal seen
            seen = self.state(task)
            return seen if seen in names else None

        try:
            return until("", seconds, look)
        except HostError:
            raise HostError(f"{task} is {seen}, and not one of {sorted(names)}, after {seconds:.0f} s") from None

    def value(self, task: Task, key: str = "run") -> Any:
        """What a task has left as XCom, or None."""
        index = {} if task.map_index < 0 else {"map_index": task.map_index}
        path = f"/api/v2/dags/{task.dag_id}/dagRuns/{task.run_id}/taskInstances/{task.task_id}/xcomEntries/{key}"
        answer = self.ask("GET", path, expect=(200, 404), deserialize="true", **index)
        return answer.get("value")

    def mark(self, task: Task, state: str) -> None:
        """Mark a task ``failed``, ``success`` or ``skipped``, as a person does."""
        self.ask("PATCH", task.path, body={"new_state": state})

    def clear(self, task: Task) -> None:
        """Clear a task, as a person does."""
        body = {
            "dry_run": False,
            "dag_run_id": task.run_id,
            "task_ids": [task.task_id],
            "only_failed": False,
            "reset_dag_runs": True,
        }
        self.ask("POST", f"/api/v2/dags/{task.dag_id}/clearTaskInstances", body=body)

    def mark_dag_run(self, dag_id: str, run_id: str, state: str) -> None:
        """Mark a DAG run ``failed``, ``success`` or ``queued``, as a person does."""
        self.ask("PATCH", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}", body={"state": state})

    def tries(self, task: Task) -> list[dict[str, Any]]:
        """All tries of a task, oldest first."""
        return list(self.ask("GET", f"{task.path}/tries")["task_instances"])

    def log(self, task: Task, attempt: int | None = None) -> str:
        """All that a task has logged in one try or in all, its trigger's lines included."""
        folder = self.home / "logs" / f"dag_id={task.dag_id}" / f"run_id={task.run_id}" / f"task_id={task.task_id}"
        folder = folder if task.map_index < 0 else folder / f"map_index={task.map_index}"
        pattern = "attempt=*.log*" if attempt is None else f"attempt={attempt}.log*"
        files = sorted(folder.glob(pattern), key=lambda path: path.stat().st_mtime)
        return "\n".join(path.read_text(errors="replace") for path in files)

    # --- pauses ---

    def reached(self, task: Task, moment: str) -> bool:
        """Whether a task is held, or was held, at a moment."""
        return (self.pauses / f"{task.run_id}.{task.task_id}.{moment}.reached").exists()

    def release(self, run_id: str) -> None:
        """Let all held tasks of a DAG run go on."""
        (self.pauses / f"{run_id}.go").touch()


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        print(f"process {pid} was gone before {number.name} came", file=sys.stderr)


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return None


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
