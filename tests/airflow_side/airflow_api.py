"""A stand-in for Airflow's REST API over task instances of the other stand-in, for what a real one rarely does."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import httpx

TOKEN = "airflow-token-canary-3b9d"
PATHS = (
    ("xcom", r"/dags/([^/]+)/dagRuns/([^/]+)/taskInstances/([^/]+)/xcomEntries/([^/]+)"),
    ("stored", r"/dags/([^/]+)/dagRuns/([^/]+)/taskInstances/([^/]+)/state-store/([^/]+)"),
    ("xcoms", r"/dags/~/dagRuns/~/taskInstances/~/xcomEntries"),
    ("instances", r"/dags/~/dagRuns/~/taskInstances"),
    ("instance", r"/dags/([^/]+)/dagRuns/([^/]+)/taskInstances/([^/]+)(?:/(\d+))?"),
    ("dag_run", r"/dags/([^/]+)/dagRuns/([^/]+)"),
)


@dataclass
class Instance:
    """A task instance, as Airflow keeps it."""

    task_id: str
    state: str | None
    operator: str = "NyxRunOperator"
    dag_id: str = "a_dag"
    run_id: str = "a_run"
    map_index: int = -1
    store: dict[str, Any] = field(default_factory=dict)
    xcoms: dict[str, Any] = field(default_factory=dict)
    rendered: dict[str, Any] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        return {
            "dag_id": self.dag_id, "dag_run_id": self.run_id, "task_id": self.task_id, "map_index": self.map_index,
            "state": self.state, "try_number": 1, "operator": self.operator, "rendered_fields": self.rendered,
            "executor_config": "{'secret': 'not for us'}",
        }  # fmt: skip


class FakeAirflow(httpx.BaseTransport):
    """Answers as Airflow 3.3 does, or as 3.1 and 3.2, which have no task state store."""

    def __init__(self, *instances: Instance, page: int = 100, has_store: bool = True) -> None:
        self.instances = list(instances)
        self.dag_runs: dict[str, str] = {}
        self.requests: list[httpx.Request] = []
        self.page = page
        self.has_store = has_store
        self.before: Callable[[httpx.Request], httpx.Response | None] = lambda request: None
        """May answer in its place."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        given = self.before(request)
        if given is not None:
            return given
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return httpx.Response(401, json={"detail": "Not authenticated"})
        path = request.url.raw_path.decode().partition("?")[0].removeprefix("/api/v2")
        for name, pattern in PATHS:
            found = re.fullmatch(pattern, path)
            if found:
                parts = [unquote(part) for part in found.groups() if part is not None]
                return getattr(self, f"_{name}")(request, *parts)
        return httpx.Response(404, json={"detail": "Not Found"})

    def _find(self, request: httpx.Request, *names: str) -> Instance | None:
        index = int(request.url.params.get("map_index", "-1"))
        wanted = [*names, index]
        return next((it for it in self.instances if [it.dag_id, it.run_id, it.task_id, it.map_index] == wanted), None)

    def _instances(self, request: httpx.Request) -> httpx.Response:
        operators = request.url.params.get_list("operator")
        states = request.url.params.get_list("state")
        found = [it for it in self.instances if not operators or it.operator in operators]
        found = [it.body() for it in found if not states or it.state in states]
        return self._page(request, "task_instances", found)

    def _xcoms(self, request: httpx.Request) -> httpx.Response:
        key = request.url.params["xcom_key"]
        found = [
            {"key": key, "dag_id": it.dag_id, "run_id": it.run_id, "task_id": it.task_id, "map_index": it.map_index}
            for it in self.instances
            if key in it.xcoms
        ]
        return self._page(request, "xcom_entries", found)

    def _page(self, request: httpx.Request, name: str, found: list[Any]) -> httpx.Response:
        begin = int(request.url.params["offset"])
        end = begin + min(int(request.url.params["limit"]), self.page)
        return httpx.Response(200, json={name: found[begin:end], "total_entries": len(found)})

    def _instance(self, request: httpx.Request, dag_id: str, run_id: str, task_id: str, index: str = "-1") -> Any:
        wanted = [dag_id, run_id, task_id, int(index)]
        for it in self.instances:
            if [it.dag_id, it.run_id, it.task_id, it.map_index] == wanted:
                return httpx.Response(200, json=it.body())
        return httpx.Response(404, json={"detail": "not found"})

    def _dag_run(self, request: httpx.Request, dag_id: str, run_id: str) -> httpx.Response:
        return httpx.Response(200, json={"dag_run_id": run_id, "state": self.dag_runs.get(run_id, "running")})

    def _xcom(self, request: httpx.Request, dag_id: str, run_id: str, task_id: str, key: str) -> httpx.Response:
        it = self._find(request, dag_id, run_id, task_id)
        if it is None or key not in it.xcoms:
            return httpx.Response(404, json={"detail": "not found"})
        # Versions differ: the mapping itself, or its JSON text.
        value = it.xcoms[key] if self.has_store else json.dumps(it.xcoms[key])
        return httpx.Response(200, json={"key": key, "value": value})

    def _stored(self, request: httpx.Request, dag_id: str, run_id: str, task_id: str, key: str) -> httpx.Response:
        it = self._find(request, dag_id, run_id, task_id)
        if it is None or not self.has_store:
            return httpx.Response(404, json={"detail": "Not Found"})
        if request.method == "PUT":
            it.store[key] = json.loads(request.content)["value"]
            return httpx.Response(204)
        if key not in it.store:
            return httpx.Response(404, json={"detail": "not found"})
        return httpx.Response(200, json={"key": key, "value": it.store[key]})
