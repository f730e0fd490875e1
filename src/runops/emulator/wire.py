"""Requests and answers as plain values; no provider's format and no server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

from starlette.types import Receive, Scope, Send

from runops.emulator.checks import json_value
from runops.emulator.runs import ScriptError


class BadJsonError(ValueError):
    """The body of a request is not the JSON it should be."""


def parse_json(body: bytes) -> Any:
    """Read a body as JSON and nothing but JSON, which no ``NaN`` and no half of a character is.

    Raises:
        BadJsonError: If it is none.
    """
    try:
        value = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise BadJsonError("the body is not valid JSON") from None
    try:
        for name, inner in value.items() if isinstance(value, dict) else [("the body", value)]:
            json_value("a name in the body", name)
            json_value(name, inner)
    except ScriptError as problem:
        raise BadJsonError(str(problem)) from None
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


class TooLargeError(ValueError):
    """The body of a request is larger than anything the emulator is for."""


BODILESS = frozenset({204, 304})
LARGEST_BODY = 10_000_000
"""Bytes."""


@dataclass
class Request:
    """One request as an API's handlers see it; header names are in lower case."""

    method: str
    path: str
    segments: list[str]
    query: dict[str, str]
    query_text: str
    headers: dict[str, str]
    body: bytes
    root_url: str
    root_path: str
    client: str
    params: dict[str, str] = field(default_factory=dict)
    key: str = ""

    def json_object(self, *, empty_allowed: bool = False) -> dict[str, Any]:
        """Read the body as a JSON object.

        Raises:
            BadJsonError: If it is none.
        """
        if not self.body.strip() and empty_allowed:
            return {}
        value = parse_json(self.body)
        if value is None and empty_allowed:
            return {}
        if not isinstance(value, dict):
            raise BadJsonError("the body is not a JSON object")
        return value


@dataclass
class Answer:
    """One answer, whole."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    created_run_id: str | None = None

    @classmethod
    def json(cls, status: int, payload: Any, headers: Mapping[str, str] | None = None) -> Answer:
        """Write a payload as a JSON answer."""
        body = json.dumps(payload, separators=(",", ":")).encode()
        return cls(status, body, {"content-type": "application/json", **(headers or {})})

    def creating(self, run_id: str) -> Answer:
        """Return this answer, noted to be the one that gives out a new run's id."""
        self.created_run_id = run_id
        return self

    def head(self, length: int | None = None) -> dict[str, Any]:
        """Return the ASGI message that starts this answer; ``length`` overrides content-length."""
        headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in self.headers.items()]
        if self.status not in BODILESS:
            size = len(self.body) if length is None else length
            headers.append((b"content-length", str(size).encode()))
        return {"type": "http.response.start", "status": self.status, "headers": headers}

    async def send(self, send: Send) -> None:
        """Send this answer in one piece."""
        await send(self.head())
        await send({"type": "http.response.body", "body": b"" if self.status in BODILESS else self.body})


async def read_body(receive: Receive, limit: int) -> bytes:
    """Read the body of a request.

    Raises:
        TooLargeError: It has more than ``limit`` bytes.
    """
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise TooLargeError(f"the body is larger than {limit} bytes")
        more = message.get("more_body", False)
    return b"".join(parts)


async def read_request(scope: Scope, receive: Receive) -> Request:
    """Read a whole request; the path is split before it is unquoted, so ids may hold slashes.

    Raises:
        TooLargeError: Its body is.
    """
    body = await read_body(receive, LARGEST_BODY)
    root_path: str = scope.get("root_path", "")
    raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
    path = raw_path.partition(b"?")[0].decode("latin-1").removeprefix(root_path) or "/"
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    host = headers.get("host", "127.0.0.1")
    query_text = scope.get("query_string", b"").decode("latin-1")
    client = scope.get("client")
    return Request(
        method=scope["method"],
        path=path,
        segments=[unquote(segment) for segment in path.split("/")[1:]],
        query=dict(parse_qsl(query_text, keep_blank_values=True)),
        query_text=query_text,
        headers=headers,
        body=body,
        root_url=f"{scope.get('scheme', 'http')}://{host}{root_path}",
        root_path=root_path,
        client=f"{client[0]}:{client[1]}" if client else "",
    )
