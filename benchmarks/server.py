"""The fake services: raw asyncio in a process of its own, so that what is measured in the client is the client.

It answers the status routes of the five providers and the lists of four, dbt Cloud's and Databricks' status routes and
a plain one for the http provider. Runs begin when they are told to and end after a seeded time. Nexio, Nyx, dbt Cloud
and Databricks take submits too: such a run begins with its submit.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import socket
import ssl
import struct
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from benchmarks import OVER_LONG_AGO

BORN = datetime(2026, 1, 1, tzinfo=UTC)
LIST_PAGE = 100
SUBMITTED = 200_000
"""The number of the first run that somebody submits; those that others ask for lie below."""


@dataclass
class Options:
    """How the services behave. Times are seconds after the runs began.

    Args:
        run_seconds: Between which two numbers a run lasts.
        rolling: Each run begins when it is submitted or first asked for, not when it is told to.
        latency: Seconds before each answer.
        per_minute: Requests that each key may make in any 60 s; more are answered 429.
        faults: Shares of answers by kind: ``error`` (500), ``reset``, ``cut`` (half a body), ``hang`` (never).
        limited: For each key name, from when to when all its requests are answered 429.
        retry_after: What ``Retry-After`` says beside a 429, or None for no such header.
        down: From when to when the second port refuses connections.
        certificate: PEM file with key and certificate, for TLS.
        seed: For the lengths of runs and for the faults.
    """

    run_seconds: tuple[float, float] = (20.0, 60.0)
    rolling: bool = False
    latency: float = 0.0
    per_minute: int | None = None
    faults: dict[str, float] = field(default_factory=dict[str, float])
    limited: dict[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])
    retry_after: int | None = None
    down: tuple[float, float] | None = None
    certificate: str | None = None
    seed: int = 1


class Services:
    """The runs, and what was asked about them."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.random = random.Random(options.seed)
        self.count = 0
        self.began: float | None = None
        self.has_begun = asyncio.Event()
        self.submitted = 0
        self.given: dict[int, dict[str, Any]] = {}
        self.newest: dict[str, int] = {}
        self.ends: dict[int, float] = {}
        self.told: dict[int, float] = {}
        self.requests: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.per_second: dict[str, Counter[int]] = {}
        self.statuses: Counter[int] = Counter()
        self.faults: Counter[str] = Counter()
        self.recent: dict[str, deque[float]] = {}
        self.connections: dict[str, set[Connection]] = {"a": set(), "b": set()}
        self.opened: Counter[str] = Counter()
        self.most_open = 0
        self.open_per_second: dict[int, int] = {}
        self.worked = 0.0

    def begin(self, count: int) -> None:
        """All runs begin now; figures are counted from here."""
        self.began = time.monotonic()
        self.has_begun.set()
        self.count = count
        self.requests.clear()
        self.kinds.clear()
        self.opened.clear()
        self.most_open = 0
        self.worked = 0.0
        if not self.options.rolling:
            self.ends = {number: self.began + self.length(number) for number in range(count)}

    def length(self, number: int) -> float:
        return random.Random(self.options.seed * 1_000_003 + number).uniform(*self.options.run_seconds)

    def submit(self, body: dict[str, Any]) -> int:
        """A run begins now; its number. What it shows again of its body is kept."""
        number = SUBMITTED + self.submitted
        self.submitted += 1
        self.ends[number] = time.monotonic() + self.length(number)
        if "config_name" in body:
            self.given[number] = {"config_name": body["config_name"], "name": body["name"]}
            self.newest[body["config_name"]] = number
        return number

    def show(self, make: Callable[[int, bool], dict[str, Any]], number: int) -> dict[str, Any]:
        """A run as its service shows it now."""
        return {**make(number, self.is_over(number)), **self.given.get(number, {})}

    @property
    def age(self) -> float:
        return 0.0 if self.began is None else time.monotonic() - self.began

    def is_over(self, number: int) -> bool:
        if number >= OVER_LONG_AGO:
            return True
        now = time.monotonic()
        end = self.ends.get(number)
        if end is None:
            if self.began is None or not self.options.rolling:
                return False
            end = self.ends[number] = now + self.length(number)
        if now < end:
            return False
        self.told.setdefault(number, now)
        return True

    def note(self, key: str) -> None:
        self.requests[key] += 1
        self.per_second.setdefault(key, Counter())[int(self.age)] += 1

    def is_over_the_limit(self, key: str) -> bool:
        window = self.options.limited.get(key)
        if window is not None and self.began is not None and window[0] <= self.age < window[1]:
            return True
        if self.options.per_minute is None or self.began is None:
            return False
        recent = self.recent.setdefault(key, deque())
        now = time.monotonic()
        while recent and recent[0] <= now - 60:
            recent.popleft()
        recent.append(now)
        return len(recent) > self.options.per_minute

    def fault(self) -> str | None:
        drawn = self.random.random() if self.options.faults and self.began is not None else 1.0
        for kind, share in self.options.faults.items():
            if drawn < share:
                self.faults[kind] += 1
                return kind
            drawn -= share
        return None

    def figures(self) -> dict[str, Any]:
        return {
            "age": self.age,
            "requests": sum(self.requests.values()),
            "submitted": self.submitted,
            "kinds": dict(self.kinds),
            "requests_by_key": dict(self.requests),
            "per_second": {key: dict(seconds) for key, seconds in self.per_second.items()},
            "statuses": {str(status): count for status, count in self.statuses.items()},
            "faults": dict(self.faults),
            "open": {place: len(found) for place, found in self.connections.items()},
            "opened": sum(self.opened.values()),
            "most_open": self.most_open,
            "open_per_second": self.open_per_second,
            "latency": self.options.latency + self.worked / max(sum(self.requests.values()), 1),
            "ends": self.ends,
            "told": self.told,
        }


# --- bodies ----------------------------------------------------------------------------------------------------


def moment(number: int) -> str:
    return (BORN + timedelta(seconds=number % OVER_LONG_AGO)).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def run_id(number: int) -> str:
    return f"{number:032x}"


def nexio(number: int, over: bool) -> dict[str, Any]:
    return {
        "run_id": run_id(number),
        "engine_slug": "risk-score",
        "engine_version": "1.3",
        "environment": "production",
        "status": "completed" if over else "processing",
        "stage": None if over else "evaluation",
        "created_at": moment(number),
        "started_at": moment(number + 1),
        "completed_at": moment(number + 60) if over else None,
        "duration_ms": 59_000 if over else None,
        "error": None,
        "output": {"score": 0.42, "degradation_reason": None} if over else None,
    }


def nyx(number: int, over: bool) -> dict[str, Any]:
    return {
        "run_id": run_id(number),
        "config_name": f"config-{number}",
        "name": "Nightly audit",
        "status": "completed" if over else "running",
        "result": "success" if over else None,
        "budget_usd": 25.0,
        "spent_usd": 25.0 if over else 3.5,
        "attempts_completed": 12,
        "findings_count": 1 if over else 0,
        "created_at": moment(number),
        "started_at": moment(number + 1),
        "completed_at": moment(number + 60) if over else None,
    }


def b3os(number: int, over: bool) -> dict[str, Any]:
    return {
        "id": run_id(number),
        "workflowId": "wf_1",
        "workflowVersion": 3,
        "status": "success" if over else "running",
        "triggerSource": "api",
        "totalCu": 12.5 if over else 0,
        "isSimulation": False,
        "isDustTest": False,
        "startedAt": moment(number),
        "finishedAt": moment(number + 60) if over else None,
    }


def onepin(number: int, over: bool) -> dict[str, Any]:
    return {
        "id": run_id(number),
        "run_number": number,
        "status": "completed" if over else "running",
        "token_cost": 1200,
        "total_nodes": 7,
        "finished_nodes": 7 if over else 2,
        "pause_requested_at": None,
        "created_at": moment(number),
        "started_at": moment(number + 1),
        "completed_at": moment(number + 60) if over else None,
        "error": None,
    }


def nekt(number: int, over: bool) -> dict[str, Any]:
    return {
        "id": run_id(number),
        "source": {"id": "src-1", "slug": "orders"},
        "status": "success" if over else "running",
        "trigger_type": "schedule",
        "number": number,
        "created_at": moment(number),
        "started_at": moment(number + 1),
        "ended_at": moment(number + 60) if over else None,
        "duration_seconds": 59 if over else None,
        "full_sync": False,
        "credit_charge_status": "charged",
    }


def dbt_cloud(number: int, over: bool) -> dict[str, Any]:
    return {
        "status": {"code": 200, "is_success": True, "user_message": "Success!", "developer_message": ""},
        "data": {
            "id": number,
            "account_id": 1,
            "project_id": 2,
            "job_id": 3,
            "href": f"https://example.com/#/accounts/1/projects/2/runs/{number}/",
            "status": 10 if over else 3,
            "status_humanized": "Success" if over else "Running",
            "created_at": moment(number),
            "started_at": moment(number + 1),
            "finished_at": moment(number + 60) if over else None,
            "in_progress": not over,
            "is_complete": over,
        },
    }


def databricks(number: int, over: bool) -> dict[str, Any]:
    return {
        "run_id": number,
        "job_id": 3,
        "run_name": "nightly",
        "start_time": 1_767_225_600_000,
        "state": {
            "life_cycle_state": "TERMINATED" if over else "RUNNING",
            "state_message": "",
            **({"result_state": "SUCCESS"} if over else {}),
        },
        "run_page_url": "https://example.com/?o=1#job/3/run/1",
    }


STATUS = {
    re.compile(r"/nexio/api/v1/runs/(\w+)"): (nexio, None),
    re.compile(r"/nyx/v1/nyx/runs/(\w+)"): (nyx, None),
    re.compile(r"/b3os/v1/runs/(\w+)"): (b3os, "data"),
    re.compile(r"/onepin/api/v1/workflows/\w+/runs/(\w+)/status"): (onepin, "data"),
    re.compile(r"/nekt/api/v1/runs/(\w+)/"): (nekt, None),
}
LISTS = {
    "/nyx/v1/nyx/runs": (nyx, lambda items, total: {"runs": items, "total": total}),
    "/b3os/v1/workflows/wf_1/runs": (b3os, lambda items, total: {"data": {"items": items, "total": total}}),
    "/onepin/api/v1/workflows/wf_1/runs": (onepin, lambda items, total: {"data": items, "total": total}),
    "/nekt/api/v1/runs/": (nekt, lambda items, total: {"count": total, "results": items}),
}
DBT_CLOUD = re.compile(r"/api/v2/accounts/\d+/runs/(\d+)/?")
DATABRICKS = re.compile(r"/api/2\.\d/jobs/runs/get")
PLAIN = re.compile(r"/http/runs/(\d+)")


SUBMITS: dict[re.Pattern[str], tuple[int, Callable[[int], Any]]] = {
    re.compile(r"/nexio/api/v1/engines/[\w-]+/runs"): (202, lambda number: nexio(number, False)),
    re.compile(r"/nyx/v1/nyx/runs"): (201, lambda number: nyx(number, False)),
    re.compile(r"/api/v2/accounts/\d+/jobs/\d+/run/"): (200, lambda number: dbt_cloud(number, False)),
    re.compile(r"/api/2\.\d/jobs/runs/submit"): (200, lambda number: {"run_id": number}),
}
BY_CONFIG = re.compile(r"/nyx/v1/nyx/runs/by-config/([\w-]+)")


def submitted(services: Services, target: str, body: bytes) -> tuple[int, Any]:
    """Status and body of one POST."""
    for pattern, (status, make) in SUBMITS.items():
        if pattern.fullmatch(target):
            return status, make(services.submit(json.loads(body)))
    return 404, {"error": {"code": "not_found", "message": target}}


def answer(services: Services, target: str, body: bytes) -> tuple[int, Any]:
    """Status and body of one request that only reads."""
    parts = urlsplit(target)
    query = dict(parse_qsl(parts.query))
    if parts.path == "/_begin":
        services.begin(int(query["count"]))
        return 200, {}
    if parts.path == "/_figures":
        return 200, services.figures()
    for pattern, (make, envelope) in STATUS.items():
        found = pattern.fullmatch(parts.path)
        if found:
            run = services.show(make, int(found[1], 16))
            return 200, run if envelope is None else {envelope: run}
    if parts.path in LISTS:
        make, wrap = LISTS[parts.path]
        start = int(query.get("offset", 0)) or LIST_PAGE * (int(query.get("page", 1)) - 1)
        size = int(query.get("limit", LIST_PAGE))
        first, count = (SUBMITTED, services.submitted) if services.submitted else (0, services.count)
        newest = range(first + count - 1 - start, first + max(count - 1 - start - size, -1), -1)
        return 200, wrap([services.show(make, number) for number in newest], count)
    if found := BY_CONFIG.fullmatch(parts.path):
        number = services.newest.get(found[1])
        return (404, {"detail": "no run"}) if number is None else (200, services.show(nyx, number))
    if found := DBT_CLOUD.fullmatch(parts.path):
        return 200, dbt_cloud(int(found[1]), services.is_over(int(found[1])))
    if DATABRICKS.fullmatch(parts.path):
        number = int(json.loads(body)["run_id"] if body else query["run_id"])
        return 200, databricks(number, services.is_over(number))
    if found := PLAIN.fullmatch(parts.path):
        over = services.is_over(int(found[1]))
        return (200 if over or "event" in query else 404), {"over": over}
    return 404, {"error": {"code": "not_found", "message": parts.path}}


# --- the wire --------------------------------------------------------------------------------------------------

REASONS = {
    200: b"OK",
    201: b"Created",
    202: b"Accepted",
    404: b"Not Found",
    429: b"Too Many Requests",
    500: b"Internal Server Error",
}
NUMBERS = re.compile(r"\b[0-9a-f]{32}\b|\d+(?=/|$)")
KEY = re.compile(rb"\r\n(?:authorization: (?:bearer|token) |x-verification-token: |x-api-key: )(\S+)", re.IGNORECASE)
LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)


class Connection(asyncio.Protocol):
    """One connection of a client."""

    def __init__(self, services: Services, place: str) -> None:
        self.services = services
        self.place = place
        self.buffer = b""
        self.counted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def count(self) -> None:
        """It has asked about a run: it is one of those that are measured."""
        self.counted = True
        services = self.services
        services.connections[self.place].add(self)
        services.opened[self.place] += 1
        now_open = sum(len(found) for found in services.connections.values())
        services.most_open = max(services.most_open, now_open)
        second = int(services.age)
        services.open_per_second[second] = max(services.open_per_second.get(second, 0), now_open)

    def connection_lost(self, exc: Exception | None) -> None:
        self.services.connections[self.place].discard(self)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, rest = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = LENGTH.search(head)
        wanted = int(length[1]) if length else 0
        if len(rest) < wanted:
            return
        self.buffer = rest[wanted:]
        self.request(head, rest[:wanted])

    def request(self, head: bytes, body: bytes) -> None:
        services, began = self.services, time.perf_counter()
        method, target = head.split(b" ", 2)[:2]
        target = target.decode("ascii")
        if target.startswith("/_"):
            self.say(*answer(services, target, body))
            return
        if not self.counted:
            self.count()
        key = KEY.search(head)
        name = (key[1].decode("ascii") if key else "") or self.place
        services.note(name)
        services.kinds[f"{method.decode('ascii')} {NUMBERS.sub('*', target.partition('?')[0])}"] += 1
        fault = services.fault()
        if fault == "hang":
            return
        if services.is_over_the_limit(name):
            status, said = 429, {"error": {"code": "rate_limited", "message": "Slow down."}}
        elif fault == "error":
            status, said = 500, {"error": {"code": "internal", "message": "Try again."}}
        elif method == b"POST":
            status, said = submitted(services, target, body)
        else:
            status, said = answer(services, target, body)
        services.statuses[status] += 1
        if services.options.latency:
            asyncio.get_running_loop().call_later(services.options.latency, self.say, status, said, fault)
        else:
            self.say(status, said, fault)
        services.worked += time.perf_counter() - began

    def say(self, status: int, said: Any, fault: str | None = None) -> None:
        if self.transport.is_closing():
            return
        if fault == "reset":
            sock: socket.socket = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
            return
        body = json.dumps(said, separators=(",", ":")).encode()
        after = self.services.options.retry_after
        more = b"Retry-After: %d\r\n" % after if status == 429 and after is not None else b""
        self.transport.write(
            b"HTTP/1.1 %d %b\r\nServer: bench\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
            b"Content-Type: application/json\r\nX-Request-Id: 00f067aa0ba902b7\r\nCache-Control: no-store\r\n"
            b"%bContent-Length: %d\r\n\r\n%b"
            % (status, REASONS[status], more, len(body), body[: len(body) // 2] if fault == "cut" else body)
        )
        if fault == "cut":
            self.transport.close()


async def go_down(services: Services, server: asyncio.Server, port: int, tls: ssl.SSLContext | None) -> None:
    """Close the second port for a while: nobody listens, and whoever was connected is cut off."""
    assert services.options.down is not None
    start, end = services.options.down
    await services.has_begun.wait()
    await asyncio.sleep(start - services.age)
    server.close()
    for connection in tuple(services.connections["b"]):
        connection.transport.abort()
    await asyncio.sleep(end - services.age)
    await listen(services, "b", port, tls)


async def listen(services: Services, place: str, port: int, tls: ssl.SSLContext | None) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    return await loop.create_server(
        lambda: Connection(services, place), "127.0.0.1", port, ssl=tls, backlog=4096, reuse_address=True
    )


async def main(options: Options) -> None:
    """Serve until standard input ends."""
    services = Services(options)
    tls = None
    if options.certificate is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(options.certificate)
    servers = [await listen(services, place, 0, tls) for place in ("a", "b")]
    ports = [server.sockets[0].getsockname()[1] for server in servers]
    going = asyncio.ensure_future(go_down(services, servers[1], ports[1], tls)) if options.down else None
    print(json.dumps({"ports": ports}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    if going is not None:
        going.cancel()


if __name__ == "__main__":
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    asyncio.run(main(Options(**json.loads(sys.argv[1]))))
