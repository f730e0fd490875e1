"""Processes that share a limit through a real Redis, and what the emulator's log says of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx

from runops.emulator.server import Server
from tests.redis_server import RedisServer

ROOT = Path(__file__).parents[1]
KEY = "canary-key-5f2b9c7e1d"


class Limited:
    """Some loops with many waits each, and some steps with one wait each, on one key. A context manager.

    Args:
        server: The emulator.
        redis: The store.
        folder: For their logs.
        limit: Requests a minute of all together.
        loops: How many loops, and how many waits each has.
        steps: How many steps.
        intervals: Seconds between two looks of a wait of a loop, and of a step.
        light: Whether the steps are processes of plain Python; otherwise the caller starts them.
    """

    def __init__(
        self,
        server: Server,
        redis: RedisServer,
        folder: Path,
        *,
        limit: float,
        loops: tuple[int, int],
        steps: int,
        intervals: tuple[float, float],
        light: bool = True,
    ) -> None:
        self.redis = redis
        self.folder = folder
        self._url = server.url
        self._emulator = server.emulator
        self.steps = {f"step {number}": [self._run()] for number in range(steps)}
        self.loops = {f"loop {number}": [self._run() for _ in range(loops[1])] for number in range(loops[0])}
        told = {
            "client": {
                "token": KEY,
                "base_url": server.base_url("nexio"),
                "requests_per_minute": limit,
                "processes": loops[0] + steps,
                "rate_store": redis.url,
            },
            "runs": {**self.steps, **self.loops},
            "intervals": intervals,
        }
        sources = os.pathsep.join((str(ROOT), str(ROOT / "src")))
        self.environment = {**os.environ, "RUNOPS_TEST_LIMITED": json.dumps(told), "PYTHONPATH": sources}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        kinds = dict.fromkeys(self.loops, "loop") | (dict.fromkeys(self.steps, "step") if light else {})
        for name, kind in kinds.items():
            self.start(name, ["-m", "tests.limited_waits", kind, name, str(folder / f"{name}.json")])

    def __enter__(self) -> Limited:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self.processes.values():
            try:
                # Whatever it has started is in its session.
                os.killpg(each.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            each.wait(20)

    def _run(self) -> str:
        return self._emulator.create_run("nexio", script="succeeded", seconds=1, held=True)

    def start(self, name: str, command: Sequence[str], **environment: str) -> subprocess.Popen[bytes]:
        """Start a Python in a session of its own."""
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, *command],
                env={**self.environment, **environment},
                cwd=ROOT,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self.processes[name]

    def log(self, name: str) -> str:
        """What a process has written."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def requests(self) -> list[dict[str, Any]]:
        """The emulator's log."""
        answer = httpx.get(f"{self._url}/_control/requests", params={"provider": "nexio"}, timeout=60, trust_env=False)
        found: dict[str, Any] = answer.json()
        assert not found.get("dropped")
        return found["requests"]

    def all_have_begun(self) -> bool:
        """Whether each process has looked once."""
        for name, process in self.processes.items():
            assert process.poll() is None, self.log(name)[-3000:]
        seen = {entry["run_id"] for entry in self.requests()}
        return all(seen & {*runs} for runs in (*self.steps.values(), *self.loops.values()))

    def let_steps_end(self) -> None:
        """Let the runs of the steps go on to their end."""
        for (run_id,) in self.steps.values():
            self._emulator.hold(False, run_id=run_id)

    def ended_before_they_were_told(self) -> list[str]:
        """End the processes without a host; which of their waits were over before that."""
        told = {name: self.processes[name] for name in (*self.loops, *self.steps) if name in self.processes}
        for each in told.values():
            each.send_signal(signal.SIGTERM)
        for each in told.values():
            each.wait(60)
        return [over for name in told for over in json.loads((self.folder / f"{name}.json").read_text())]

    def said(self, text: str) -> int:
        """How many times the processes have said something."""
        return sum(self.log(name).count(text) for name in self.processes)

    def moments(self, requests: Sequence[Mapping[str, Any]], after: float, before: float) -> dict[str, list[float]]:
        """When each process has sent something, between two moments."""
        whose = {run_id: name for name, runs in {**self.steps, **self.loops}.items() for run_id in runs}
        found: dict[str, list[float]] = defaultdict(list)
        for entry in requests:
            if after < entry["time"] < before:
                found[whose[entry["run_id"]]].append(entry["time"])
        return found


def longest_gap(moments: Sequence[float], after: float, before: float) -> float:
    """Seconds for which somebody sent nothing, between two moments."""
    return max(b - a for a, b in pairwise([after, *moments, before]))


def most_within(seconds: float, moments: Sequence[float]) -> int:
    """The most requests in any window of so many seconds."""
    ordered = sorted(moments)
    return max(bisect_right(ordered, moment + seconds) - index for index, moment in enumerate(ordered))
