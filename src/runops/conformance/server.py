"""The played service on a real connection of this machine: whole answers, resets, half bodies and slow ones."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from runops.conformance.service import Reply, Service

DRIP_SECONDS = 0.02
"""Between two bytes of a slow body."""


class _Server(ThreadingHTTPServer):
    """One thread for each connection; it says nothing."""

    daemon_threads = True
    block_on_close = False
    service: Service

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is no news."""


class _Handler(BaseHTTPRequestHandler):
    """Hands a request to the service."""

    protocol_version = "HTTP/1.1"
    # Without it the head and the body of an answer wait for each other's acknowledgement.
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is written."""

    def handle_any(self) -> None:
        """Answer one request of any method."""
        server = self.server
        assert isinstance(server, _Server)
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        parts = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = json.loads(raw) if raw.strip() else None
        reply = server.service.answer(self.command, parts.path, dict(parse_qsl(parts.query)), headers, body)
        self._send(reply)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815 - as http.server calls them

    def _send(self, reply: Reply) -> None:
        if reply.kind == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            # The parser's own files keep the socket open otherwise.
            self.rfile.close()
            self.wfile.close()
            self.connection.close()
            return
        self.send_response_only(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(reply.body)))
        self.end_headers()
        if reply.kind == "half":
            self.wfile.write(reply.body[: len(reply.body) // 2])
            self.close_connection = True
        elif reply.kind == "drip":
            self._drip(reply.body)
        else:
            self.wfile.write(reply.body)

    def _drip(self, body: bytes) -> None:
        for byte in body:
            self.wfile.write(bytes((byte,)))
            self.wfile.flush()
            time.sleep(DRIP_SECONDS)


@contextmanager
def served() -> Generator[tuple[_Server, str]]:
    """A server on a free port of this machine, and its address; set its ``service`` before it is asked."""
    server = _Server(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
