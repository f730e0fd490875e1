"""A Redis of the distribution for the length of a test: on 127.0.0.1, at a free port, ended by its pid."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

REQUIRED = "RUNOPS_REQUIRE_REDIS"
"""With this variable set to 1 a missing Redis is a failure; otherwise what needs one is skipped."""
START_SECONDS = 20.0


def program(*, install: bool = False) -> str:
    """The path of ``redis-server``; the test is skipped, or fails where one is required, if there is none.

    Args:
        install: Whether to take it from the distribution where that is possible.
    """
    missing = "" if importlib.util.find_spec("redis") else "redis-py is not installed: the extra redis"
    found = shutil.which("redis-server")
    if not missing and found is None and install and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "redis-server"]):
            subprocess.run(command, env=environment, check=False, capture_output=True)
        found = shutil.which("redis-server")
    if not missing and found is None:
        missing = "redis-server is not in PATH: apt-get install redis-server"
    if missing and os.environ.get(REQUIRED) == "1":
        pytest.fail(f"{REQUIRED}=1, but {missing}")
    if missing:
        pytest.skip(missing)
    assert found is not None
    return found


class RedisServer:
    """One server. A context manager; it may be killed and started again on its port.

    Args:
        binary: From :func:`program`.
        password: What it asks for, if anything.
        keeps: Whether it remembers over a kill what it has answered to.
        more: Further options, such as ``("--tls-port", "1234")``.
    """

    def __init__(self, binary: str, *, password: str = "", keeps: bool = False, more: tuple[str, ...] = ()) -> None:
        self.port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="runops-redis-"))
        keep = ["--appendonly", "yes", "--appendfsync", "always"] if keeps else ["--appendonly", "no"]
        self._command = [
            binary, "--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--dir", str(self._folder),
            "--daemonize", "no", *keep, *(["--requirepass", password] if password else []), *more,
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.go_on()
            self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def url(self) -> str:
        """Its address, without a password."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1.0) as connection:
                    connection.sendall(b"PING\r\n")
                    # -NOAUTH will do; -LOADING will not.
                    if connection.recv(64)[:5] in (b"+PONG", b"-NOAU"):
                        return
            except OSError:
                pass
            time.sleep(0.02)
        raise AssertionError(f"redis-server does not start: {(self._folder / 'log').read_text()[-500:]}")

    def kill(self) -> None:
        """End it as a crash does."""
        self._signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait(20)
        self._process = None

    def hang(self) -> None:
        """Let it take connections and answer nothing."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it answer again."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
