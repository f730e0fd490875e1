"""A B3OS that fails in every way, and writes private texts into all of its answers. An id says how it fails."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "hunter2-canary-key"
PAYLOAD = "canary-payload"
BODY: dict[str, Any] = {"id": PAYLOAD, "error": f"refused api_key={KEY}", "deep": {"deeper": [{"text": PAYLOAD}]}}
STATUSES = ("s400", "s401", "s403", "s404", "s409", "s422", "s500", "s503")
BROKEN = ("html", "no_status", "no_object", "no_items", "unknown_word", "too_large", "bad_gzip", "cut_off", "no_http")
WAYS = (*STATUSES, *BROKEN, "slow", "closed", "tls")
"""Every way to fail; the last two are addresses: see :func:`address`."""
SECONDS = 0.1
"""The time of a request; ``slow`` takes longer."""
LIMIT = 5_000
"""Bytes that a body may have; ``too_large`` has more."""


def document(way: str, run_id: str) -> Any:
    if way == "no_status":
        return {"data": {**BODY, "id": run_id}}
    if way == "no_object":
        return [BODY]
    if way == "no_items":
        return {"data": {"entries": [BODY], **BODY, "id": run_id}}
    if way == "unknown_word":
        return {"data": {**BODY, "id": run_id, "status": "melted", "finishedAt": "2026-01-01T00:00:00Z"}}
    if way == "too_large":
        return {"data": [PAYLOAD] * LIMIT}
    return {"data": {**BODY, "id": run_id, "status": "running", "items": []}}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        parts = self.path.partition("?")[0].split("/")
        way = next((part for part in parts if part in (*STATUSES, *BROKEN, "slow")), "")
        if way == "slow":
            time.sleep(3 * SECONDS)
        if way == "no_http":
            self.wfile.write(f"{PAYLOAD}\r\n\r\n".encode())
            self.close_connection = True
            return
        content = json.dumps(document(way, way)).encode()
        if way == "html":
            content = f"<html>{PAYLOAD} {KEY}</html>".encode()
        elif way == "bad_gzip":
            content = f"{PAYLOAD} {KEY}".encode() * 20
        elif way in STATUSES:
            content = json.dumps({**BODY, "detail": [{"loc": ["body", PAYLOAD, KEY]}]}).encode()
        self.send_response(int(way[1:]) if way in STATUSES else 200)
        self.send_header("Content-Length", str(len(content) + (50 if way == "cut_off" else 0)))
        self.send_header("Set-Cookie", PAYLOAD)
        if way == "bad_gzip":
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(content)
        if way == "cut_off":
            self.close_connection = True

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Whoever gave up has gone."""


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """Its address."""
    server = _Server(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def settings(root: str, way: str) -> dict[str, Any]:
    """What a client is given to meet this way to fail."""
    return {"base_url": address(root, way), "request_timeout": SECONDS, "max_response_bytes": LIMIT}


def address(root: str, way: str) -> str:
    """The service's address; for ``closed`` and ``tls`` one at which nobody answers rightly."""
    if way == "closed":
        return closed_address()
    return root.replace("http:", "https:") if way == "tls" else root


def closed_address() -> str:
    """An address at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"
