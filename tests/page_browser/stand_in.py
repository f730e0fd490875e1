"""A stand-in for the page's server, on this machine only: the built files, made runs, and faults on demand.

``python -m tests.page_browser.stand_in`` serves it for people who work on ``ui/``: at /runops/ alone, and at
/plugin/external-runs in a frame as Airflow makes it.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.page_browser.made_runs import PROVIDERS, charts_of, iso, made_runs, set_rows

STATIC = Path(__file__).resolve().parents[2] / "src" / "runops" / "airflow" / "plugin" / "static"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
IDS = ("dag_id", "dag_run_id", "task_id", "map_index")
# As Airflow 3.1 to 3.3 make it.
FRAME = """<!doctype html><html class="{theme}" lang="en"><head><title>Airflow</title></head>
<body style="margin:0"><iframe sandbox="allow-scripts allow-same-origin allow-forms allow-downloads" src="{src}"
style="border:none;display:block;height:100vh;width:100%" title="External runs"></iframe></body></html>"""


@dataclass
class World:
    """What the stand-in answers with; a test may change it while it is served.

    Args:
        rows: The runs.
        faults: By the path below ``api/``: the status, and the seconds of Retry-After.
        requests: What came in: method, path, body.
        tab: The address of the frame in :data:`FRAME`.
        theme: The class of the frame's parent.
    """

    rows: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    faults: dict[str, tuple[int, int | None]] = field(default_factory=dict[str, tuple[int, int | None]])
    requests: list[tuple[str, str, Any]] = field(default_factory=list[tuple[str, str, Any]])
    tab: str = "/runops/"
    theme: str = "light"
    set_total: int = 120

    def asked(self, path: str) -> int:
        """How often a path below ``api/`` was asked for."""
        return sum(urlsplit(each).path == f"/runops/api/{path}" for _, each, _ in self.requests)

    def find(self, ids: dict[str, Any]) -> dict[str, Any] | None:
        """The row of a task instance."""
        wanted = [str(ids.get(name)) for name in IDS]
        return next((row for row in self.rows if [str(row[name]) for name in IDS] == wanted), None)


class Refused(Exception):
    """An answer that is none.

    Args:
        status: The HTTP status.
        detail: What the body says.
    """

    def __init__(self, status: int, detail: str) -> None:
        self.status, self.detail = status, detail


def runs(world: World, query: dict[str, list[str]]) -> dict[str, Any]:
    """The route ``runs``."""
    found = [row for row in world.rows if _matches(row, query)]
    sort = query.get("sort", ["-began_at"])[0]
    name = sort.removeprefix("-")
    found.sort(key=lambda row: _value(row, name), reverse=sort.startswith("-"))
    found.sort(key=lambda row: _value(row, name) == _NOTHING)
    limit, offset = int(query["limit"][0]), int(query["offset"][0])
    return {"runs": found[offset : offset + limit], "total": len(found), "now": iso(datetime.now(UTC))}


_NOTHING = (2, 0.0, "")


def _value(row: dict[str, Any], name: str) -> tuple[int, float, str]:
    value = row.get("outcome") or row.get("phase") if name == "status" else row.get(name)
    if isinstance(value, dict):
        value = value["done"] / value["total"] if value.get("total") else None
    if isinstance(value, int | float):
        return (0, float(value), "")
    return (1, 0.0, str(value)) if value is not None else _NOTHING


def _matches(row: dict[str, Any], query: dict[str, list[str]]) -> bool:
    for name in ("provider", "phase", "outcome", "verdict", "holds", *IDS):
        if name in query and str(row.get(name)) not in query[name]:
            return False
    if "open" in query and (query["open"][0] == "true") == bool(row.get("outcome")):
        return False
    words = query.get("q", [""])[0].lower().split()
    text = " ".join(str(row.get(name, "")) for name in (*IDS, "run_id", "state", "reason", "provider")).lower()
    return all(word in text for word in words)


def run(world: World, query: dict[str, list[str]]) -> dict[str, Any]:
    """The route ``run``."""
    found = world.find({name: values[0] for name, values in query.items()})
    if found is None:
        raise Refused(404, "There is no such run, or you may not see it.")
    return found


def rows(world: World, query: dict[str, list[str]]) -> dict[str, Any]:
    """The route ``rows``."""
    part, outcomes = query.get("q", [""])[0], query.get("outcome", [])
    found = [row for row in set_rows(world.set_total) if part in row["run_id"]]
    found = [row for row in found if not outcomes or row.get("outcome") in outcomes]
    offset = int(query["offset"][0])
    return {"rows": found[offset : offset + int(query["limit"][0])], "total": len(found)}


def facets(world: World, query: dict[str, list[str]]) -> dict[str, Any]:
    """The route ``facets``."""
    return {
        "providers": [{"name": name, "title": title} for name, title in PROVIDERS.items()],
        "dags": sorted({row["dag_id"] for row in world.rows}),
        "tasks": sorted({row["task_id"] for row in world.rows}),
    }


def charts(world: World, query: dict[str, list[str]]) -> dict[str, Any]:
    """The route ``charts``."""
    chosen = [row for row in world.rows if _matches(row, query)]
    return charts_of(chosen, datetime.now(UTC), int(query["days"][0]))


def act(world: World, what: str, ids: dict[str, Any]) -> dict[str, Any]:
    """The routes ``look`` and ``cancel``."""
    found = world.find(ids)
    if found is None:
        raise Refused(404, "There is no such run, or you may not see it.")
    if not found["may"].get(what):
        raise Refused(403, "This is not yours to do.")
    found["record_age_seconds"] = 0.0
    if what == "cancel":
        found |= {
            "outcome": "cancelled",
            "verdict": "fail",
            "task_state": "failed",
            "may": {"look": False, "cancel": False},
        }
        found.pop("phase", None)
    return found


ROUTES: dict[str, Callable[[World, dict[str, list[str]]], dict[str, Any]]] = {
    "runs": runs,
    "run": run,
    "rows": rows,
    "facets": facets,
    "charts": charts,
}


class _Handler(BaseHTTPRequestHandler):
    world: World

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        self.world.requests.append(("GET", self.path, None))
        if address.path.startswith("/runops/api/"):
            self._api(address.path.removeprefix("/runops/api/"), parse_qs(address.query), None)
        elif address.path.startswith("/runops/"):
            self._file(address.path.removeprefix("/runops/") or "index.html")
        elif address.path.startswith("/plugin/"):
            self._send(
                200, "text/html", FRAME.format(theme=self.world.theme, src=self.world.tab).encode(), policy=False
            )
        else:
            self._send(200, "text/html", b"<!doctype html><title>A page of Airflow</title>", policy=False)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.world.requests.append(("POST", self.path, body))
        if self.headers.get("x-runops") != "1" or self.headers.get("content-type") != "application/json":
            self._json(403, {"detail": "The header X-Runops is missing."})
            return
        self._api(urlsplit(self.path).path.removeprefix("/runops/api/"), {}, body)

    def _api(self, name: str, query: dict[str, list[str]], body: Any) -> None:
        status, after = self.world.faults.get(name, (200, None))
        if status != 200:
            self._json(status, {"detail": f"refused with {status}"}, after)
            return
        try:
            answer = ROUTES[name](self.world, query) if body is None else act(self.world, name, body)
        except Refused as refused:
            self._json(refused.status, {"detail": refused.detail})
            return
        self._json(200, answer)

    def _json(self, status: int, body: Any, after: int | None = None) -> None:
        self._send(status, "application/json", json.dumps(body).encode(), after=after)

    def _file(self, name: str) -> None:
        path = (STATIC / name).resolve()
        if not path.is_relative_to(STATIC) or not path.is_file():
            self._json(404, {"detail": "Not Found"})
            return
        self._send(200, TYPES[path.suffix], path.read_bytes())

    def _send(self, status: int, kind: str, body: bytes, *, policy: bool = True, after: int | None = None) -> None:
        self.send_response(status)
        self.send_header("content-type", f"{kind}; charset=utf-8")
        self.send_header("content-length", str(len(body)))
        self.send_header("x-content-type-options", "nosniff")
        self.send_header("cache-control", "no-store")
        if policy:
            self.send_header("content-security-policy", POLICY)
        if after is not None:
            self.send_header("retry-after", str(after))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away is no error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def served(world: World, port: int = 0) -> Iterator[str]:
    """Serve a world on this machine.

    Args:
        world: What it answers with.
        port: 0 for a free one.

    Yields:
        Its address, without a slash at the end.
    """
    server = _Server(("127.0.0.1", port), type("Handler", (_Handler,), {"world": world}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    with served(World(rows=made_runs(options.runs, datetime.now(UTC))), options.port) as address:
        print(f"{address}/runops/ and {address}/plugin/external-runs; Ctrl-C ends it")
        threading.Event().wait()


if __name__ == "__main__":
    main()
