"""Real sockets for the tests of TLS and proxies: TLS in front of a service, and a proxy that tunnels by CONNECT."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Serving:
    """Servers on the loop of a thread.

    ``serve(handler, tls)`` starts one and gives its port.
    """

    loop: asyncio.AbstractEventLoop
    servers: list[asyncio.Server] = field(default_factory=list)
    refused: list[Exception] = field(default_factory=list)
    """What failed in handshakes, as the servers see it."""

    def serve(self, handler: Handler, tls: ssl.SSLContext | None = None) -> int:
        starting = asyncio.start_server(handler, "127.0.0.1", 0, ssl=tls)
        server = asyncio.run_coroutine_threadsafe(starting, self.loop).result(10)
        self.servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        for server in self.servers:
            server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # A transport that is aborted is gone in one of the next rounds.
        for _ in range(10):
            await asyncio.sleep(0)


@contextmanager
def serving() -> Iterator[Serving]:
    """A loop in a thread, for servers."""
    loop = asyncio.new_event_loop()
    servers = Serving(loop)
    # A handshake that fails is what is tested; asyncio would write it to the log.
    loop.set_exception_handler(lambda _, context: servers.refused.append(context.get("exception") or OSError()))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield servers
    finally:
        asyncio.run_coroutine_threadsafe(servers.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def forwarding(port: int) -> Handler:
    """What leads a connection to a port of this machine, such as TLS to a service that speaks none."""

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        with suppress(asyncio.CancelledError):
            await asyncio.gather(_pump(reader, back), _pump(there, writer))

    return forward


@contextmanager
def alerting(port: int, tls: ssl.SSLContext) -> Iterator[int]:
    """TLS in front of a port, as most servers do it: whom they refuse, they say so to. Those of asyncio only close."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=lead, args=(connection,), daemon=True).start()

        def lead(connection: socket.socket) -> None:
            try:
                with tls.wrap_socket(connection, server_side=True) as encrypted:
                    asyncio.run(_lead(encrypted, port))
            except OSError:
                connection.close()

        threading.Thread(target=serve, daemon=True).start()
        yield int(server.getsockname()[1])
        server.shutdown(socket.SHUT_RDWR)


async def _lead(encrypted: ssl.SSLSocket, port: int) -> None:
    """Hand requests on as they come: small ones, each in one piece, and their answers."""
    there, back = await asyncio.open_connection("127.0.0.1", port)

    async def answers() -> None:
        while piece := await there.read(65_536):
            await asyncio.to_thread(encrypted.sendall, piece)

    task = asyncio.create_task(answers())
    while piece := await asyncio.to_thread(encrypted.recv, 65_536):
        back.write(piece)
    task.cancel()
    back.close()


@dataclass
class Proxy:
    """A proxy for CONNECT that leads all to one port, and notes the heads that it was sent.

    Args:
        port: Where it leads.
        login: ``user:password`` that it asks for; empty for none.
    """

    port: int
    login: str = ""
    heads: list[bytes] = field(default_factory=list)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.transport.abort()
            return
        self.heads.append(head)
        wanted = b"Proxy-Authorization: Basic " + b64encode(self.login.encode())
        if self.login and wanted.lower() not in head.lower():
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            writer.close()
            return
        if not head.startswith(b"CONNECT "):
            there, back = await asyncio.open_connection("127.0.0.1", self.port)
            back.write(_to_origin(head))
        else:
            there, back = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with suppress(asyncio.CancelledError):
            await asyncio.gather(_pump(reader, back), _pump(there, writer))


def _to_origin(head: bytes) -> bytes:
    """A request to a proxy as the service takes it."""
    method, target, rest = head.split(b" ", 2)
    path = b"/" + target.split(b"/", 3)[3]
    return b" ".join((method, path, rest))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(65_536):
            writer.write(piece)
            await writer.drain()
    except (asyncio.CancelledError, ConnectionError, ssl.SSLError):
        return
    finally:
        writer.transport.abort()
