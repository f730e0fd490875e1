"""How a fault looks on the wire: the answer that it spoils or takes the place of."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
import zlib
from collections.abc import Callable
from email.utils import formatdate

from starlette.types import Receive, Scope, Send

from runops.emulator.faults import Fault
from runops.emulator.wire import Answer

#: Where the server puts the connection of a request in its ASGI scope's state.
CONNECTION_KEY = "runops_connection"
CHUNK = 1_048_576
HTML_PAGE = b"<!DOCTYPE html><html><head><title>Error</title></head><body><h1>Bad gateway</h1></body></html>"


class Connection:
    """The transport under a request, for faults that no HTTP answer can express."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def reset(self) -> None:
        """Drop the connection with an RST instead of a FIN."""
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def close(self) -> None:
        """Close the connection after what was written has left."""
        self._transport.close()


async def befall(
    fault: Fault,
    *,
    carry_out: Callable[[], Answer],
    write_error: Callable[[int, str, str | None], Answer],
    note_status: Callable[[int | None], None],
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    """Answer a request as its fault demands.

    Args:
        fault: What goes wrong.
        carry_out: Does what the request asks for and returns the usual answer.
        write_error: Writes an error in the provider's own form.
        note_status: Is told the status, None for a reset, before the client can know it.
        scope: The ASGI scope of the request.
        receive: Its ASGI receive.
        send: Its ASGI send.

    Raises:
        RuntimeError: If the fault needs a connection and there is none.
    """
    connection = _connection_of(scope, fault.kind) if fault.kind in ("reset", "half_body") else None
    usual = carry_out() if fault.when == "after" else None
    settings = fault.settings
    if connection is not None and fault.kind == "reset":
        note_status(None)
        connection.reset()
        await _until_disconnected(receive)
        return
    if fault.kind == "gzip_bomb":
        note_status(200)
        await _send_bomb(int(settings.get("bytes", 100_000_000)), send)
        return
    if fault.kind == "delay":
        await asyncio.sleep(float(settings.get("seconds", 1.0)))
    if fault.kind in ("delay", "drip"):
        answer = usual or carry_out()
    elif fault.kind == "half_body":
        answer = usual or Answer(200, b'{"emulated":"answer"}', {"content-type": "application/json"})
    else:
        answer = _replacement(fault, write_error)
    note_status(answer.status)
    if connection is not None:
        await _send_half(answer, connection, receive, send)
    elif fault.kind == "drip":
        await _drip(answer, float(settings.get("bytes_per_second", 10)), send)
    else:
        await answer.send(send)


def _replacement(fault: Fault, write_error: Callable[[int, str, str | None], Answer]) -> Answer:
    settings = fault.settings
    headers = {str(name): str(value) for name, value in (settings.get("headers") or {}).items()}
    if fault.kind == "html":
        return Answer(
            int(settings.get("status", 502)),
            HTML_PAGE,
            {"content-type": "text/html; charset=utf-8", **headers},
        )
    if fault.kind == "json":
        return Answer.json(int(settings.get("status", 200)), settings.get("body"), headers)
    if fault.kind == "empty":
        return Answer(int(settings.get("status", 200)), b"", headers)
    if fault.kind == "redirect":
        return Answer(int(settings.get("status", 302)), b"", {"location": settings["location"], **headers})
    status = int(settings["status"])
    if "retry_after" in settings:
        headers["retry-after"] = str(settings["retry_after"])
    if "retry_after_date" in settings:
        headers["retry-after"] = formatdate(time.time() + float(settings["retry_after_date"]), usegmt=True)
    if "body" in settings:
        body = settings["body"]
        text = body if isinstance(body, str) else json.dumps(body)
        kind = "text/plain; charset=utf-8" if isinstance(body, str) else "application/json"
        return Answer(status, text.encode(), {"content-type": kind, **headers})
    answer = write_error(status, str(settings.get("message", "Planned by the emulator")), settings.get("code"))
    answer.headers.update(headers)
    return answer


def _connection_of(scope: Scope, kind: str) -> Connection:
    connection: Connection | None = scope.get("state", {}).get(CONNECTION_KEY)
    if connection is None:
        raise RuntimeError(
            f"the fault {kind!r} needs a real connection: serve the emulator with "
            "runops.emulator.server.running() instead of calling the ASGI app in process"
        )
    return connection


async def _until_disconnected(receive: Receive) -> None:
    message = await receive()
    while message["type"] != "http.disconnect":
        message = await receive()


async def _send_half(answer: Answer, connection: Connection, receive: Receive, send: Send) -> None:
    half = answer.body[: len(answer.body) // 2]
    await send(answer.head(max(len(answer.body), 2)))
    await send({"type": "http.response.body", "body": half, "more_body": True})
    connection.close()
    await _until_disconnected(receive)


async def _drip(answer: Answer, bytes_per_second: float, send: Send) -> None:
    await send(answer.head())
    size = max(1, round(bytes_per_second / 10))
    for start in range(0, len(answer.body), size):
        await send({"type": "http.response.body", "body": answer.body[start : start + size], "more_body": True})
        await asyncio.sleep(size / bytes_per_second)
    await send({"type": "http.response.body", "body": b""})


async def _send_bomb(size: int, send: Send) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-encoding", b"gzip")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    compressor = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    left = size - 2
    blank = b" " * CHUNK
    while left > 0:
        part = compressor.compress(blank[: min(left, CHUNK)])
        left -= CHUNK
        if part:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await asyncio.sleep(0)
    last = compressor.compress(b"{}") + compressor.flush()
    await send({"type": "http.response.body", "body": last})
