"""A real Airflow with users of every role and 300 external runs of five services, for the page that shows them."""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx

from demo.processes import Supervisor
from tests.airflow_host.host import Host, Outside, Task, until
from tests.airflow_host.matrix import SUBMITS
from tests.airflow_host.page_browser import Visit, visiting
from tests.airflow_host.page_cases import (
    HOSTILE,
    OPERATED,
    PRIVATE,
    SENSED,
    SENSED_RUNS,
    SENSED_SECONDS,
    SET_SIZE,
    SETS,
    TURNS,
    USERS,
    WAITING,
    provider_of,
)
from tests.airflow_host.secrets_search import KEY_STEM
from tests.leaks.private_fields import WORKFLOW, script

DAGS = Path(__file__).resolve().parent / "page_dags"
OPERATED_RUN, WAITING_RUN, FAILING_RUN = "operated", "waiting", "failing"
OWN_KEYS = {name: f"{provider}-{KEY_STEM}-{name}" for name, provider in (("limited", "nekt"), ("refused", "b3os"))}
"""Keys that only one wait has, so that what holds it up holds up no other."""
PARENTS = {"onepin": {"workflow_id": WORKFLOW}}
OPEN = frozenset({"queued", "running", "paused", "pausing", "waiting", "cancelling", "pending_events"})
"""Scripts that never end."""
BEGIN_SECONDS = 420.0
"""How long a busy machine may take for all tasks."""


class PageHost(Host):
    """Airflow on sqlite or PostgreSQL whose users have the roles of the simple auth manager.

    Args:
        supervisor: Where the processes are started.
        folder: For its home and its logs.
        connections: Connections by id.
        workers: Processes of the API server.
        **rest: As for :class:`Host`.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        folder: Path,
        connections: Mapping[str, Mapping[str, Any]],
        *,
        workers: int = 2,
        settings: Mapping[str, str] | None = None,
        **rest: Any,
    ) -> None:
        self.passwords = {name: secrets.token_hex(8) for name in USERS}
        kept = folder / "passwords.json"
        kept.write_text(json.dumps(self.passwords))
        users = ",".join(f"{name}:{role}" for name, role in USERS.items())
        own = {
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": users,
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(kept),
            "AIRFLOW__API__WORKERS": str(workers),
        }
        super().__init__(supervisor, folder, connections, settings=own | dict(settings or {}), **rest)

    def _token(self) -> str:
        return self.token("admin")

    def token(self, user: str) -> str:
        """A token of this user for the API, which is also what the cookie of a browser holds."""
        body = {"username": user, "password": self.passwords[user]}
        answer = self._client.post("/auth/token", json=body).raise_for_status()
        return str(answer.json()["access_token"])

    def records(self) -> dict[Task, dict[str, Any]]:
        """What is stored for the page, straight from the database."""
        rows = self._rows("SELECT dag_id, run_id, task_id, map_index, value FROM xcom WHERE key = 'external_run'")
        return {Task(*names): json.loads(value) if isinstance(value, str | bytes) else value for *names, value in rows}

    def began(self) -> dict[Task, str]:
        """When the present try of each task began, as texts that sort as the times do."""
        rows = self._rows("SELECT dag_id, run_id, task_id, map_index, start_date FROM task_instance")
        return {Task(*names): str(moment) for *names, moment in rows}

    def _rows(self, asked: str) -> list[Any]:
        if self.database is not None:
            return self.database.query(asked)
        with closing(sqlite3.connect(f"file:{self.home}/airflow.db?mode=ro", uri=True, timeout=60)) as database:
            return database.execute(asked).fetchall()


def connections(outside: Outside) -> dict[str, dict[str, Any]]:
    """Those of the five services, and one for each wait that is held by its key or its limit."""
    given: dict[str, dict[str, Any]] = dict(outside.connections())
    for name, provider in (("nekt_limited", "nekt"), ("b3os_refused", "b3os")):
        given[name] = {**given[f"{provider}_default"], "password": OWN_KEYS[name.partition("_")[2]]}
    # Its wait would look every few seconds.
    given["nekt_limited"]["extra"] = json.dumps({"requests_per_minute": 1})
    return given


class World:
    """All runs, and where they stand.

    Args:
        host: Airflow, up.
        outside: The emulator.
    """

    def __init__(self, host: PageHost, outside: Outside) -> None:
        self.host = host
        self.outside = outside
        self.given: dict[Task, str] = {}
        """The ids of runs that tasks were given."""
        self.heard: list[tuple[str, bytes]] = []
        """All that browsers and other clients were told, and kept, by the name of its place."""
        self.console: list[str] = []

    def begin(self, sensed: int = SENSED_RUNS) -> None:
        """Start everything, and wait until each task has left a record.

        Args:
            sensed: DAG runs of sensors; each has 35.
        """
        self.host.wait_for_dags(["page_sensed", "page_failing", "page_operated", "page_waiting"])
        self._sense("page_failing", FAILING_RUN)
        for number in range(sensed):
            self._sense("page_sensed", f"sensed_{number}")
        self._wait()
        self.host.trigger("page_operated", OPERATED_RUN, {})
        self._hold()
        tasks = self.tasks()
        until(
            f"a record of each of {len(tasks)} tasks", BEGIN_SECONDS, lambda: tasks <= set(self.host.records()), pause=2
        )
        until("all runs stand as their scripts say", BEGIN_SECONDS, self._settled, pause=2.0)

    def tasks(self) -> set[Task]:
        """All tasks that wait, or have waited, for an external run."""
        more = [(OPERATED_RUN, "page_operated", name) for name in (*OPERATED, *TURNS, *self._submits())]
        more += [(WAITING_RUN, "page_waiting", name) for name in SETS]
        return set(self.given) | {Task(dag_id, run_id, name) for run_id, dag_id, name in more}

    def _submits(self) -> list[str]:
        return [f"private_submit_{provider}" for provider in SUBMITS]

    def operated(self, task_id: str) -> Task:
        """A task that has submitted a run of its own."""
        return Task("page_operated", OPERATED_RUN, task_id)

    def waiting(self, task_id: str) -> Task:
        """A task that waits for a run of somebody else."""
        return Task("page_waiting", WAITING_RUN, task_id)

    def run_of(self, task: Task) -> dict[str, Any]:
        """A task's run, as the emulator has it."""
        run_id = self.given.get(task) or self.host.records()[task]["run_id"]
        return next(run for run in self.outside.runs() if run["run_id"] == run_id)

    # --- who looks ---

    @contextmanager
    def visit(self, user: str = "admin", **window: Any) -> Iterator[Visit]:
        """A browser of this user; what it was told is kept."""
        with visiting(self.host.url, self.host.token(user), **window) as visit:
            yield visit
            visit.settle()
            self.heard += [(f"answer to {name}", body.encode()) for name, body in visit.bodies.items()]
            self.heard += [(f"storage of {frame.url}", visit.stored(frame).encode()) for frame in visit.frames()]
            self.console += visit.console

    def ask(self, user: str, method: str, path: str, **more: Any) -> httpx.Response:
        """Ask a route of the page as its own script does."""
        headers = {"X-Runops": "1", "Sec-Fetch-Site": "same-origin", **more.pop("headers", {})}
        cookies = {"_token": self.host.token(user)}
        with httpx.Client(base_url=self.host.url, timeout=60, trust_env=False, cookies=cookies) as client:
            answer = client.request(method, f"/runops{path}", headers=headers, **more)
        self.heard.append((f"answer to {method} {path}", answer.content))
        return answer

    def row(self, user: str, task: Task) -> dict[str, Any]:
        """A run as the page's server describes it to this user."""
        return self.ask(user, "GET", "/api/run", params=ids_of(task)).raise_for_status().json()

    def act(self, user: str, what: str, task: Task) -> httpx.Response:
        """``look`` or ``cancel``."""
        return self.ask(user, "POST", f"/api/{what}", json=ids_of(task))

    def runs(self, user: str = "admin", **filters: Any) -> dict[str, Any]:
        """One page of the list."""
        return self.ask(user, "GET", "/api/runs", params=filters).raise_for_status().json()

    # --- how it begins ---

    def _make(self, provider: str, how: Any, **more: Any) -> str:
        body = {
            "provider": provider,
            "script": how,
            "seconds": SENSED_SECONDS,
            "parents": PARENTS.get(provider),
            **more,
        }
        made = self.outside.tell("runs", **{key: value for key, value in body.items() if value is not None})
        return str(made["run_id"])

    def _begin(self, dag_id: str, run_id: str, conf: Mapping[str, str]) -> None:
        self.given |= {Task(dag_id, run_id, task_id): given for task_id, given in conf.items()}
        self.host.trigger(dag_id, run_id, conf)

    def _sense(self, dag_id: str, run_id: str) -> None:
        conf = {
            f"{provider}_{how}": self._make(provider, how) for provider, scripts in SENSED.items() for how in scripts
        }
        self._begin(dag_id, run_id, conf)

    def _wait(self) -> None:
        conf = {task_id: self._make(provider_of(task_id), "running") for task_id in WAITING}
        conf |= {
            f"private_{provider}": self._make(provider, script(provider, "failed", seconds=20)) for provider in PRIVATE
        }
        conf |= {task_id: self._make("b3os", _failing(text)) for task_id, text in HOSTILE.items()}
        for number in range(SET_SIZE):
            how = ("failed", "cancelled", "succeeded", "running")[number % 4]
            self._make("b3os", how, run_id=f"set-{number}")
        self.outside.tell("defaults", provider="nexio", script="running", seconds=7200)
        self._begin("page_waiting", WAITING_RUN, conf)

    def _hold(self) -> None:
        """Refuse a key once its run was read with it."""
        refused = self.waiting("refused_b3os")
        until("it is read", BEGIN_SECONDS, lambda: refused in self._looked_at(), pause=1.0)
        self.outside.tell("keys", provider="b3os", key=OWN_KEYS["refused"], state="revoked")

    def _looked_at(self) -> set[Task]:
        return {task for task, record in self.host.records().items() if record.get("looked_at")}

    def _settled(self) -> bool:
        """Whether nobody's record is behind its script, and all holds show."""
        records = self.host.records()
        holds = {record.get("holds") for record in records.values()}
        late = [
            task
            for task, record in records.items()
            if task.dag_id in ("page_sensed", "page_failing") and _ends(task) and not record.get("outcome")
        ]
        return not late and {"paused", "waiting", "turn", "rate_limit", "key"} <= holds


def _ends(task: Task) -> bool:
    return task.task_id.partition("_")[2] not in OPEN


def _failing(text: str) -> list[dict[str, Any]]:
    """A run of B3OS that fails with this text as its reason."""
    state = {"pay": {"type": "send-token", "status": "failure", "result": {"error": text}}}
    return [
        {"at": 0, "set": {"status": "running"}},
        {"at": SENSED_SECONDS / 2, "set": {"status": "failure", "executionState": state, "finishedAt": "$now"}},
    ]


def ids_of(task: Task) -> dict[str, Any]:
    """What the page's server calls a task instance."""
    return {"dag_id": task.dag_id, "dag_run_id": task.run_id, "task_id": task.task_id, "map_index": task.map_index}
