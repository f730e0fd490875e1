"""Three triggerers' loops and fifty Dagster steps on one key, in processes of their own, and a Redis that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from runops.emulator.server import Server, running
from tests import redis_server
from tests.dagster_host.conftest import until
from tests.redis_server import RedisServer

LIMIT, TRIGGERERS, STEPS, WAITS = 1000, 3, 50, 400
STEADY, DOWN, AFTER = 65.0, 10.0, 70.0
"""Seconds: whole minutes before and after the store is lost, each with all processes at work."""
ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


class Limited:
    """The processes, and what the emulator has seen of them."""

    def __init__(self, server: Server, redis: RedisServer, folder: Path) -> None:
        self.redis = redis
        self._url = server.url
        self._emulator = server.emulator
        self.steps = [self._run() for _ in range(STEPS)]
        self.waits = {f"triggerer {number}": [self._run() for _ in range(WAITS)] for number in range(TRIGGERERS)}
        self._folder = folder
        told = {
            "base_url": server.base_url("nexio"),
            "store": redis.url,
            "limit": LIMIT,
            "processes": TRIGGERERS + STEPS,
            "steps": self.steps,
            "waits": self.waits,
        }
        (folder / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
        environment = {
            **os.environ,
            "RUNOPS_TEST_LIMITED": json.dumps(told),
            "DAGSTER_HOME": str(folder),
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "src"))),
        }
        module = "tests.dagster_host.limited_processes"
        job = f"import dagster as dg; from {module} import limited\n"
        job += "with dg.DagsterInstance.get() as instance, dg.execute_job("
        job += "dg.reconstructable(limited), instance=instance, raise_on_error=False) as result:\n"
        job += "    print('ENDED', result.success)"
        self.job = self._start("job", ["-c", job], environment)
        self.triggerers = [
            self._start(name, ["-m", module, name, str(folder / f"{name}.json")], environment) for name in self.waits
        ]

    def _run(self) -> str:
        return self._emulator.create_run("nexio", script="succeeded", seconds=1, held=True)

    def _start(self, name: str, command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        with (self._folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, *command], env=environment, cwd=ROOT, stdout=log, stderr=log, start_new_session=True
            )

    def log(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text(errors="replace")

    @property
    def processes(self) -> list[subprocess.Popen[bytes]]:
        return [self.job, *self.triggerers]

    def requests(self) -> list[dict[str, Any]]:
        """The emulator's log."""
        answer = httpx.get(f"{self._url}/_control/requests", params={"provider": "nexio"}, timeout=60, trust_env=False)
        found: dict[str, Any] = answer.json()
        assert not found.get("dropped")
        return found["requests"]

    def let_steps_end(self) -> None:
        for run_id in self.steps:
            self._emulator.hold(False, run_id=run_id)

    def ended_before_they_were_told(self) -> list[str]:
        for each in self.triggerers:
            each.send_signal(signal.SIGTERM)
        for each in self.triggerers:
            each.wait(60)
        return [over for name in self.waits for over in json.loads((self._folder / f"{name}.json").read_text())]

    def close(self) -> None:
        for each in self.processes:
            try:
                # Whatever it has started is in its session.
                os.killpg(each.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            each.wait(20)


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[Limited]:
    with running() as server, RedisServer(redis_server.program(install=True)) as redis:
        processes = Limited(server, redis, tmp_path)
        yield processes
        processes.close()


def test_no_minute_has_more_than_the_limit_and_nobody_starves_and_no_wait_ends_while_redis_is_killed(
    limited: Limited,
) -> None:
    def all_have_begun() -> bool:
        assert limited.job.poll() is None, limited.log("job")[-3000:]
        return {*limited.steps} <= {entry["run_id"] for entry in limited.requests()}

    until(all_have_begun, "every step has looked once", 240)
    begun = time.time()
    time.sleep(STEADY)
    limited.redis.kill()
    lost = time.time()
    time.sleep(DOWN)
    limited.redis.start()
    back = time.time()
    time.sleep(AFTER)
    requests = limited.requests()
    assert [each.poll() for each in limited.processes] == [None] * 4
    limited.let_steps_end()
    assert limited.ended_before_they_were_told() == []
    limited.job.wait(120)
    assert "ENDED True" in limited.log("job"), limited.log("job")[-3000:]

    moments = sorted(entry["time"] for entry in requests)
    most = most_in_a_minute(moments)
    whose = {run_id: name for name, runs in limited.waits.items() for run_id in runs}
    whose |= {run_id: f"step {number}" for number, run_id in enumerate(limited.steps)}
    steady: dict[str, list[float]] = defaultdict(list)
    later: dict[str, list[float]] = defaultdict(list)
    for entry in requests:
        if begun < entry["time"] < lost:
            steady[whose[entry["run_id"]]].append(entry["time"])
        elif entry["time"] > lost:
            later[whose[entry["run_id"]]].append(entry["time"])
    longest = {name: max(b - a for a, b in pairwise([begun, *seen, lost])) for name, seen in steady.items()}
    over_the_loss = {name: max(b - a for a, b in pairwise([lost, *seen, back + AFTER])) for name, seen in later.items()}
    figures = {
        "requests": len(moments),
        "most in a minute": most,
        "in the last minute": len([moment for moment in moments if moment > back + AFTER - 60]),
        "in the minute before the loss": len([moment for moment in moments if lost - 60 < moment < lost]),
        "longest gap of a step": round(max(longest[f"step {n}"] for n in range(STEPS)), 1),
        "longest gap of a triggerer": round(max(longest[f"triggerer {n}"] for n in range(TRIGGERERS)), 1),
        "longest gap over the loss": round(max(over_the_loss.values()), 1),
        "each triggerer": [len(steady[f"triggerer {n}"]) for n in range(TRIGGERERS)],
        "fewest and most of a step": [f(len(steady[f"step {n}"]) for n in range(STEPS)) for f in (min, max)],
        "processes that said it was lost": limited.log("job").count("cannot be used")
        + sum(limited.log(name).count("cannot be used") for name in limited.waits),
    }
    print(json.dumps(figures))
    assert most <= 1.02 * LIMIT
    # The limit is used, before and after.
    assert figures["in the minute before the loss"] >= 0.85 * LIMIT
    assert figures["in the last minute"] >= 0.85 * LIMIT
    # Nobody starves: a step that would look every 5 s waits for a place behind one round of all others.
    assert len(longest) == len(over_the_loss) == TRIGGERERS + STEPS
    assert figures["longest gap of a step"] < 20
    assert figures["longest gap over the loss"] < 45
    assert min(figures["each triggerer"]) > 0.5 * max(figures["each triggerer"])


def most_in_a_minute(moments: list[float]) -> int:
    """The most requests in any 60 s."""
    return max(bisect_right(moments, moment + 60.0) - index for index, moment in enumerate(moments))
