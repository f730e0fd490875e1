"""Starts the processes of the demo and sees to it that none survives it. It knows nothing of what they do."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

GRACE = 6.0
"""Seconds that a process has to stop by itself, if nothing else is given."""

INHERITED = frozenset({"PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "SYSTEMROOT"})
"""What the processes get of our own environment; a user's settings for Airflow or Dagster stay outside."""


STILL_SECONDS = 400.0
"""After so long without any change something is stuck. A slow or busy machine may take as long as it needs."""


class DemoError(Exception):
    """The demo cannot go on; the text says why."""


class Interrupted(BaseException):
    """Somebody wants the demo to stop."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class StopSignal:
    """Turns SIGINT, SIGTERM and SIGHUP into an exception at places where it is safe to stop.

    A signal handler that raised could lose a process between its start and our note of it.
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self._number: int | None = None

    def install(self) -> None:
        """Take the three signals over. Only the main thread may call this."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._received)

    def _received(self, number: int, frame: object) -> None:
        if self._number is None:
            self._number = number
        self._event.set()

    def check(self) -> None:
        """Raise if a signal has come.

        Raises:
            Interrupted: One has.
        """
        if self._number is not None:
            raise Interrupted(self._number)

    def sleep(self, seconds: float) -> None:
        """Wait, unless a signal comes.

        Raises:
            Interrupted: One came.
        """
        self._event.wait(seconds)
        self.check()


class Standstill:
    """Tells when what is waited for has not changed for too long."""

    def __init__(self) -> None:
        self._state: object = None
        self._since = time.monotonic()

    def reached(self, state: object) -> bool:
        """Whether ``state`` has been the same for :data:`STILL_SECONDS`."""
        if state != self._state:
            self._state, self._since = state, time.monotonic()
        return time.monotonic() - self._since > STILL_SECONDS


def clean_environment(**settings: str) -> dict[str, str]:
    """An environment for a child: little of ours, and the settings given.

    Args:
        **settings: Variables to add.
    """
    kept = {name: value for name, value in os.environ.items() if name in INHERITED}
    # A proxy for the outside world must not stand between programs of this machine.
    return {**kept, "NO_PROXY": "*", "no_proxy": "*", "PYTHONUNBUFFERED": "1", **settings}


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Component:
    """A process that runs in a session of its own, so that all it starts can be found again."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    may_fail: bool

    def last_lines(self, count: int = 25) -> str:
        """The end of what it wrote."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-count:])


class Supervisor:
    """All processes of the demo. A context manager: on leaving, every one of them is gone.

    A guard, which is a process too, does the same if the demo itself is killed and can do nothing any more.

    Args:
        logs: A folder for what they write.
        stop: Where a wish to stop shows.
        grace: Seconds that a process has to stop by itself.
    """

    def __init__(self, logs: Path, stop: StopSignal, *, grace: float = GRACE) -> None:
        self._logs = logs
        self._stop = stop
        self._grace = grace
        self._components: list[Component] = []
        self._files: list[IO[bytes]] = []
        self._guard = subprocess.Popen(
            [sys.executable, "-m", "demo.guard", str(grace)],
            stdin=subprocess.PIPE,
            env=clean_environment(),
            cwd=Path(__file__).resolve().parent.parent,
            start_new_session=True,
        )

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_all()

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: Path,
        may_fail: bool = False,
    ) -> Component:
        """Start a process.

        Args:
            name: What people call it; also the name of its log.
            command: The program and its arguments.
            environment: All of its environment.
            folder: Its working directory.
            may_fail: Whether a bad exit code is an answer, and not an end that ends the demo.
        """
        path = self._logs / f"{name}.log"
        output = path.open("ab")
        self._files.append(output)
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd=folder,
            start_new_session=True,
        )
        component = Component(name, process, path, may_fail)
        self._components.append(component)
        assert self._guard.stdin is not None
        self._guard.stdin.write(f"{process.pid}\n".encode())
        self._guard.stdin.flush()
        return component

    def run(self, name: str, command: Sequence[str], *, environment: Mapping[str, str], folder: Path) -> None:
        """Start a process and wait for its end.

        Raises:
            DemoError: It failed; the text ends with its last words.
            Interrupted: Somebody wants us to stop.
        """
        component = self.start(name, command, environment=environment, folder=folder)
        while component.process.poll() is None:
            self._stop.sleep(0.1)
        if component.process.returncode != 0:
            raise DemoError(f"{name} failed (exit code {component.process.returncode}):\n{component.last_lines()}")

    def check(self) -> None:
        """See whether all components that should be running still are.

        Raises:
            DemoError: One has ended by itself.
            Interrupted: Somebody wants us to stop.
        """
        self._stop.check()
        for component in self._components:
            if not component.may_fail and component.process.poll() not in (None, 0):
                code = component.process.returncode
                raise DemoError(f"{component.name} has ended (exit code {code}):\n{component.last_lines()}")

    def sleep(self, seconds: float) -> None:
        """Wait a while; raises as :meth:`check` does."""
        self._stop.sleep(seconds)
        self.check()

    def stop_all(self) -> None:
        """Stop all components and all that they started: politely at first, then for good."""
        # The last started is the first to go; all are asked at once, because each takes its time.
        sessions = [component.process.pid for component in reversed(self._components)]
        end_sessions(sessions, self._grace, while_waiting=self._reap)
        for file in self._files:
            file.close()
        self._components.clear()
        self._files.clear()
        # Its input ends, and so does the guard.
        self._guard.communicate()

    def _reap(self) -> None:
        for component in self._components:
            component.process.poll()


def end_sessions(sessions: Sequence[int], grace: float, *, while_waiting: Callable[[], None] = lambda: None) -> None:
    """Stop all processes of these sessions: politely at first, then for good.

    Args:
        sessions: Each is the id of the process that opened it.
        grace: Seconds until the end comes without asking.
        while_waiting: Called again and again.
    """
    for session in sessions:
        _signal_all(_members([session]), signal.SIGTERM)
    limit = time.monotonic() + grace
    while survivors := _members(sessions):
        if time.monotonic() > limit:
            _signal_all(survivors, signal.SIGKILL)
        while_waiting()
        time.sleep(0.1)
    while_waiting()


def _members(sessions: Sequence[int]) -> list[int]:
    """The processes of these sessions, zombies left out: also those whose parent is gone."""
    found: list[int] = []
    for pid in psutil.pids():
        try:
            if os.getsid(pid) in sessions and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
        except (ProcessLookupError, PermissionError, psutil.Error):
            continue
    return found


def _signal_all(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
