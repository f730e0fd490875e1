"""Serves the emulator: in a background thread, from the command line, on a free port.

starlette and uvicorn are imported when a server is wanted, not before, so that this module can be
imported without the ``emulator`` extra.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import math
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

    import uvicorn
    from starlette.applications import Starlette

    from runops.emulator.api import Api
    from runops.emulator.store import Emulator

HOST = "127.0.0.1"
START_SECONDS = 20.0
HIGHEST_PORT = 65_535
USAGE = 2
COULD_NOT_SERVE = 4
DESCRIPTION = """\
Serve the emulated run APIs on this machine, each below the name of its provider.

Any key is taken but invalid-... (401) and forbidden-... (403). A submitted run
follows a script that a field of its body chooses; requests below /_control make
runs, move their clocks, plan faults and list what was received."""
MISSING_EXTRA = "the emulator needs starlette and uvicorn: pip install 'runops[emulator]'"


def require_extra() -> None:
    """Check that the emulator's extra is installed.

    Raises:
        ImportError: If it is not; the message names it.
    """
    if any(importlib.util.find_spec(name) is None for name in ("starlette", "uvicorn")):
        raise ImportError(MISSING_EXTRA)


@dataclass(frozen=True)
class Server:
    """A running emulator.

    ``url`` has no trailing slash; ``emulator`` can be used from any thread.
    """

    host: str
    port: int
    app: Starlette
    emulator: Emulator

    @property
    def url(self) -> str:
        """Where the server listens."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def base_url(self, provider: str) -> str:
        """Return the URL that stands for a provider's host."""
        return f"{self.url}/{provider}"


@contextlib.contextmanager
def running(
    seed: int = 0,
    port: int = 0,
    *,
    host: str = HOST,
    seconds: float = 2.0,
    apis: Iterable[type[Api]] | None = None,
) -> Iterator[Server]:
    """Serve the emulator in a background thread for as long as the context lasts.

    Args:
        seed: Where ids and random faults start from.
        port: The port; 0 takes a free one.
        host: The address to bind.
        seconds: How long a named script lasts when a run does not say so.
        apis: The services; the five that come with runops if None.

    Raises:
        ImportError: If the ``emulator`` extra is not installed.
        OSError: If the port is taken.
        RuntimeError: If the server did not start.
    """
    require_extra()
    from runops.emulator.app import create_app

    app = create_app(seed, apis=apis, seconds=seconds, hosts=(host,))
    listener = _listen(host, port)
    started = threading.Event()
    uvicorn_server = _uvicorn_server(app, started.set)
    thread = threading.Thread(
        target=uvicorn_server.run, kwargs={"sockets": [listener]}, name="runops-emulator", daemon=True
    )
    thread.start()
    try:
        if not started.wait(START_SECONDS):
            raise RuntimeError("the emulator did not start")
        yield Server(host, listener.getsockname()[1], app, app.state.emulator)
    finally:
        uvicorn_server.should_exit = True
        thread.join(START_SECONDS)
        listener.close()


def serve(
    seed: int = 0,
    port: int = 0,
    *,
    host: str = HOST,
    seconds: float = 2.0,
    allowed_hosts: Sequence[str] = (),
    more: Sequence[str] = (),
) -> None:
    """Serve the emulator until SIGINT or SIGTERM; prints one JSON line when it listens.

    Args:
        seed: Where ids and random faults start from.
        port: The port; 0 takes a free one.
        host: The address to bind.
        seconds: How long a named script lasts when a run does not say so.
        allowed_hosts: Further names under which clients may call it; see :mod:`runops.emulator.guard`.
        more: Services to serve beside the five that come with runops, as ``package.module:NAME``.

    Raises:
        ImportError: If the ``emulator`` extra is not installed.
        OSError: If the port is taken.
        ValueError: If one of ``more`` is no emulated service, or has the name of another.
    """
    require_extra()
    from runops.emulator.app import create_app
    from runops.emulator.services import default_apis, find_api

    apis = [*default_apis(), *map(find_api, more)]
    app = create_app(seed, apis=apis, seconds=seconds, hosts=(host, *allowed_hosts))
    with contextlib.closing(_listen(host, port)) as listener:
        server = Server(host, listener.getsockname()[1], app, app.state.emulator)
        line = {"event": "listening", "host": host, "port": server.port, "url": server.url}
        _uvicorn_server(app, lambda: print(json.dumps(line), flush=True)).run(sockets=[listener])


def main(argv: Sequence[str] | None = None, *, examples: str = "") -> int:
    """Run the emulator from the command line and return its exit code.

    Args:
        argv: The arguments; ``sys.argv[1:]`` if None.
        examples: The end of the help text.

    Returns:
        0 after SIGINT or SIGTERM, 2 for arguments or an installation that cannot do, 4 where the port cannot be had.
    """
    options = command_line(examples).parse_args(argv)
    if not 0 <= options.port <= HIGHEST_PORT:
        return _refused(f"--port takes 0 to {HIGHEST_PORT}, not {options.port}")
    if not (math.isfinite(options.seconds) and options.seconds >= 0):
        return _refused(f"--seconds takes a number of seconds from 0 up, not {options.seconds}")
    try:
        serve(
            options.seed,
            options.port,
            host=options.host,
            seconds=options.seconds,
            allowed_hosts=options.allow_host,
            more=options.api,
        )
    except UnicodeError as problem:
        return _refused(f"cannot serve on {options.host} port {options.port}: {problem}", COULD_NOT_SERVE)
    except (ImportError, ValueError) as problem:
        return _refused(str(problem))
    except OSError as problem:
        reason = problem.strerror or problem
        return _refused(f"cannot serve on {options.host} port {options.port}: {reason}", COULD_NOT_SERVE)
    return 0


def command_line(examples: str = "") -> argparse.ArgumentParser:
    """What ``runops emulate`` accepts.

    Args:
        examples: The end of its help text.
    """
    parser = argparse.ArgumentParser(
        prog="runops emulate",
        description=DESCRIPTION,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=8642, help="port to listen on; 0 takes a free one (default 8642)")
    parser.add_argument("--host", default=HOST, help=f"address to bind (default {HOST})")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same ids and random faults (default 0)")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long a named script lasts (default 2)")
    parser.add_argument(
        "--allow-host",
        metavar="NAME",
        action="append",
        default=[],
        help="a name under which other machines or containers call it; others than this machine's are refused",
    )
    parser.add_argument(
        "--api",
        metavar="MODULE:NAME",
        action="append",
        default=[],
        help="an emulated service of your own to serve beside the five, a subclass of runops.emulator.api.Api",
    )
    return parser


def _refused(problem: str, code: int = USAGE) -> int:
    print(f"runops emulate: {problem}", file=sys.stderr)
    return code


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio switches Nagle's algorithm off only where the protocol is named; with it answers wait 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def _uvicorn_server(app: Starlette, on_started: Callable[[], Any]) -> uvicorn.Server:
    import uvicorn

    class EmulatorServer(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            on_started()

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            """Stop on a signal without raising it again, which would make a clean stop look like a crash."""
            if threading.current_thread() is not threading.main_thread():
                yield
                return
            before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
            try:
                yield
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)

        def _stop(self, number: int, frame: FrameType | None) -> None:
            self.should_exit = True

    config = uvicorn.Config(
        app,
        http=_protocol_class(),
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=0,
        server_header=False,
        # The emulated services tell their own time.
        date_header=False,
    )
    return EmulatorServer(config)


def _protocol_class() -> type[asyncio.Protocol]:
    """Return uvicorn's HTTP protocol, made to hand its transport on to the faults."""
    from uvicorn.protocols.http.auto import AutoHTTPProtocol

    from runops.emulator.befall import CONNECTION_KEY, Connection

    base: Any = AutoHTTPProtocol

    class ConnectionProtocol(base):
        def connection_made(self, transport: asyncio.Transport) -> None:
            self.app_state = {**self.app_state, CONNECTION_KEY: Connection(transport)}
            super().connection_made(transport)

    return ConnectionProtocol
