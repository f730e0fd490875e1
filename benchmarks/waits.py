"""One scenario in one process: many waits in one loop, and what they cost. ``__main__`` starts it beside a server."""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import logging
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from array import array
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from ssl import create_default_context
from typing import Any, cast

from benchmarks import OVER_LONG_AGO
from benchmarks.figures import Lag, cpu, quantile, resident

ROOT = Path(__file__).resolve().parent.parent
Wait = Callable[[int], Awaitable[None]]
LIVE_FROM, LIVE_TO = 5.0, 19.0
"""Seconds after the beginning between which all waits are alive: the first rush is over and no run has ended."""


@dataclass
class Scenario:
    """What to run.

    Args:
        name: What people select it by.
        waits: How many.
        what: Whose waits: ``runops``, ``runops-set``, ``dbt-cloud``, ``databricks``, ``http-sensor``, ``http-event`` or
            ``nothing``.
        provider: For runops: whose runs.
        cadence: Seconds between two looks.
        server: Options of the server; see ``server.Options``.
        client: Further settings of the runops clients.
        tls: Whether to speak TLS on loopback.
        lean: Whether runops may use httptools; else plain httpx.
        keys: Credentials among which the waits are dealt, in turn. With two places, the second goes to the second.
        places: 1, or 2 for two hosts (ports).
        at_once: For rolling runs: how many waits go on at the same time; None for all.
        seconds: End after so long, whether or not the runs are over; None to wait for all.
        measure_from: For ``seconds``: when the figures begin.
        watch_lag: Whether to measure the loop's lag, which costs more than a thousand idle waits.
        busy: Whether another process computes on the core of the waits, all the time.
    """

    name: str
    waits: int
    what: str = "runops"
    provider: str = "nexio"
    cadence: float = 5.0
    server: dict[str, Any] = field(default_factory=dict[str, Any])
    client: dict[str, Any] = field(default_factory=dict[str, Any])
    tls: bool = True
    lean: bool = True
    keys: int = 1
    places: int = 1
    at_once: int | None = None
    seconds: float | None = None
    measure_from: float = 0.0
    watch_lag: bool = True
    busy: bool = False


# --- the waits -------------------------------------------------------------------------------------------------


class Runops:
    """Waits of runops, as an application starts them."""

    def __init__(self, scenario: Scenario, urls: list[str]) -> None:
        from runops.core import AsyncRunClient, find
        from runops.core.waiting.options import WaitOptions

        if not scenario.lean:
            # As if it were not installed.
            cast("dict[str, Any]", sys.modules)["httptools"] = None
        self.scenario = scenario
        self.provider = find(scenario.provider)
        self.parents = {"workflow_id": "wf_1"} if scenario.provider == "onepin" else None
        self.Patience = WaitOptions
        self.clients = [
            AsyncRunClient(
                self.provider,
                token=f"key-{number}",
                base_url=f"{urls[number % scenario.places]}/{scenario.provider}",
                **scenario.client,
            )
            for number in range(scenario.keys)
        ]

    def patience(self) -> Any:
        cadence = self.scenario.cadence
        return self.Patience.build(
            self.provider, now=time.time(), interval=cadence, factor=1.0, ceiling=cadence, error_budget=3600
        )

    def ref(self, number: int) -> Any:
        return self.provider.ref(f"{number:032x}", self.parents)

    async def wait(self, number: int) -> None:
        client = self.clients[number % len(self.clients)]
        last = await client.wait(self.ref(number), patience=self.patience())
        if last.outcome is None or last.outcome.value != "succeeded":
            raise AssertionError(f"run {number} ended as {last.outcome}")

    async def close(self) -> None:
        for client in self.clients:
            await client.close()


class Triggers:
    """Triggers of official providers, as tasks of one loop, the way a triggerer runs them."""

    def __init__(self, scenario: Scenario, urls: list[str]) -> None:
        self.scenario = scenario
        host = urls[0].removeprefix("https://")
        port = int(host.rpartition(":")[2])
        connections = {
            "dbt-cloud": {"conn_type": "dbt_cloud", "login": "1", "password": "key-0", "host": host},
            "databricks": {"conn_type": "databricks", "password": "key-0", "host": "127.0.0.1", "port": port},
            "http-sensor": {"conn_type": "http", "host": "https://127.0.0.1", "port": port},
        }
        connections["http-event"] = connections["http-sensor"]
        os.environ["AIRFLOW_CONN_BENCH"] = json.dumps(connections[scenario.what])
        self.make: Callable[[int], Any] = getattr(self, scenario.what.replace("-", "_"))()

    def dbt_cloud(self) -> Callable[[int], Any]:
        trigger = released("dbt.cloud.triggers.dbt", "DbtCloudRunJobTrigger")
        return lambda number: trigger("bench", number, time.time() + 86_400, self.scenario.cadence, 1)

    def databricks(self) -> Callable[[int], Any]:
        trigger = released("databricks.triggers.databricks", "DatabricksExecutionTrigger")
        return lambda number: trigger(number, "bench", self.scenario.cadence)

    def http_sensor(self) -> Callable[[int], Any]:
        trigger = released("http.triggers.http", "HttpSensorTrigger")
        return lambda number: trigger(f"http/runs/{number}", "bench", poke_interval=self.scenario.cadence)

    def http_event(self) -> Callable[[int], Any]:
        trigger = released("http.triggers.http", "HttpEventTrigger")
        return lambda number: trigger(
            "benchmarks.ended.ended",
            "bench",
            endpoint=f"http/runs/{number}?event=1",
            poll_interval=self.scenario.cadence,
        )

    async def wait(self, number: int) -> None:
        async for event in self.make(number).run():
            payload = event.payload
            if isinstance(payload, dict) and payload.get("status") == "error":
                raise AssertionError(f"run {number}: {payload.get('message')}")
            return

    async def close(self) -> None:
        """They close what they have opened themselves."""


def released(module: str, name: str) -> Callable[..., Any]:
    """A class of an official provider, which only the environment of the benchmarks has."""
    return getattr(importlib.import_module(f"airflow.providers.{module}"), name)


class Nothing:
    """Tasks that wait for nothing: what a wait costs before it does anything."""

    def __init__(self, scenario: Scenario, urls: list[str]) -> None:
        del scenario, urls

    async def wait(self, number: int) -> None:
        del number
        await asyncio.get_running_loop().create_future()

    async def close(self) -> None:
        """Nothing is open."""


# --- one scenario ----------------------------------------------------------------------------------------------


class Bench:
    """One scenario, measured from inside the process of the waits."""

    def __init__(self, scenario: Scenario, urls: list[str], certificate: str | None) -> None:
        self.scenario = scenario
        self.urls = urls
        self.context = create_default_context(cafile=certificate) if certificate else None
        from benchmarks.sets import RunsOfASet

        kinds: dict[str, Any] = {"runops": Runops, "runops-set": RunsOfASet, "nothing": Nothing}
        self.subject = kinds.get(scenario.what, Triggers)(scenario, urls)
        # Made at once, so that the soak does not see it grow.
        self.events = array("d", bytes(8 * scenario.waits))
        self.finished = 0
        self.errors: list[str] = []
        self.lag = Lag()
        self.logged: list[str] = []
        self.resident_by_minute: list[int] = []
        self.resident_at: dict[int, int] = {}
        self.objects_at: dict[int, int] = {}

    async def ask(self, path: str) -> Any:
        def asked() -> Any:
            with urllib.request.urlopen(self.urls[0] + path, context=self.context, timeout=60) as answer:
                return json.load(answer)

        return await asyncio.to_thread(asked)

    async def one(self, number: int) -> None:
        try:
            await self.subject.wait(number)
        except Exception as error:  # noqa: BLE001 - an error of a wait is a figure of the benchmark
            self.errors.append(f"{type(error).__name__}: {error}"[:200])
        else:
            self.events[number] = time.monotonic()
            self.finished += 1

    async def warm_up(self) -> None:
        """Imports, trust store and first buffers are no cost of a wait."""
        await self.ask("/_figures")
        if self.scenario.what != "nothing":
            await asyncio.gather(*(self.subject.wait(OVER_LONG_AGO + number) for number in range(3)))

    async def all_at_once(self) -> set[asyncio.Task[None]]:
        if self.scenario.what == "runops-set":
            return {asyncio.create_task(self.as_one_set())}
        return {asyncio.create_task(self.one(number)) for number in range(self.scenario.waits)}

    async def as_one_set(self) -> None:
        def ended(number: int) -> None:
            self.events[number] = time.monotonic()
            self.finished += 1

        try:
            await self.subject.carry(self.scenario.waits, ended)
        except Exception as error:  # noqa: BLE001 - an error of the set is a figure of the benchmark
            self.errors.append(f"{type(error).__name__}: {error}"[:200])

    async def rolling(self, at_once: int) -> None:
        numbers = iter(range(self.scenario.waits))

        async def lane() -> None:
            for number in numbers:
                await self.one(number)
                if self.finished % 10_000 == 0 and self.finished not in self.resident_at:
                    self.resident_at[self.finished] = resident()
                    self.objects_at[self.finished] = len(gc.get_objects())

        await asyncio.gather(*(lane() for _ in range(at_once)))

    async def sample(self) -> None:
        while True:
            self.resident_by_minute.append(resident())
            await asyncio.sleep(60)

    async def run(self) -> dict[str, Any]:
        """Do it, and say what it cost."""
        scenario = self.scenario
        keep_logs(self.logged)
        await self.warm_up()
        before = resident()
        watching = asyncio.create_task(self.lag.watch() if scenario.watch_lag else asyncio.sleep(0))
        sampling = asyncio.create_task(self.sample())
        await self.ask(f"/_begin?count={scenario.waits}")
        began, used = time.monotonic(), cpu()
        live: dict[str, Any] = {}
        if scenario.at_once is not None:
            await self.rolling(scenario.at_once)
        else:
            tasks = await self.all_at_once()
            live = await self.live(before)
            left = None if scenario.seconds is None else max(scenario.seconds - (time.monotonic() - began), 0)
            _, pending = await asyncio.wait(tasks, timeout=left)
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
            del tasks
        ended, used = time.monotonic(), cpu() - used
        late = self.lag.between(began, ended)
        watching.cancel()
        sampling.cancel()
        figures = await self.ask("/_figures")
        await self.subject.close()
        await asyncio.gather(watching, sampling, return_exceptions=True)
        await asyncio.sleep(0.5)
        ends = {int(number): end for number, end in figures["ends"].items()}
        detected = {number: seen - ends[number] for number, seen in enumerate(self.events) if seen and number in ends}
        return {
            "scenario": asdict(scenario),
            "seconds": ended - began,
            "finished": self.finished,
            "errors": len(self.errors),
            "first_errors": self.errors[:3],
            "requests": figures["requests"],
            "requests_by_key": figures["requests_by_key"],
            "statuses": figures["statuses"],
            "faults": figures["faults"],
            "cpu_ms_per_poll": used / max(figures["requests"], 1) * 1000,
            "cpu_ms_per_run": used / max(self.finished, 1) * 1000,
            "requests_per_run": figures["requests"] / max(self.finished, 1),
            "connections_opened": figures["opened"],
            "connections_most": figures["most_open"],
            "detection_p50": quantile(list(detected.values()), 0.5),
            "detection_p99": quantile(list(detected.values()), 0.99),
            "detection_most": max(detected.values(), default=None),
            "detection_by_key": self.by_key(detected),
            "lag_p50": quantile(late, 0.5),
            "lag_p99": quantile(late, 0.99),
            "lag_most": max(late, default=None),
            "busy": used / (ended - began),
            **live,
            "resident_by_minute": self.resident_by_minute,
            "resident_at": self.resident_at,
            "objects_at": self.objects_at,
            "left_tasks": len(asyncio.all_tasks()) - 1,
            "left_connections": sum((await self.ask("/_figures"))["open"].values()),
            "left_kb": (resident() - before) / 1024,
            "logged": len(self.logged),
            "logs": self.logged[:20],
            "requests_per_second": figures["per_second"],
        }

    async def live(self, before: int) -> dict[str, Any]:
        """Figures of the time in which all waits are alive, without the first rush."""
        scenario = self.scenario
        start = scenario.measure_from or LIVE_FROM
        end = scenario.seconds or LIVE_TO
        await asyncio.sleep(start)
        first, began, used = await self.ask("/_figures"), time.monotonic(), cpu()
        await asyncio.sleep(max(end - start - 1.0, 1.0))
        ended, used = time.monotonic(), cpu() - used
        last = await self.ask("/_figures")
        polls = last["requests"] - first["requests"]
        late = self.lag.between(began, ended)
        open_now = sum(last["open"].values())
        memory = resident()
        return {
            "live_polls_per_second": polls / (ended - began),
            "live_cpu_ms_per_poll": used / max(polls, 1) * 1000,
            "live_busy": used / (ended - began),
            "live_lag_p50": quantile(late, 0.5),
            "live_lag_p99": quantile(late, 0.99),
            "live_connections": open_now,
            "service_ms": last["latency"] * 1000,
            # A fifth of a millisecond is the way there and back on loopback, through TLS.
            "connections_needed": max(4.0, polls / (ended - began) * (last["latency"] + 0.0002)),
            "kb_per_wait": (memory - before) / 1024 / scenario.waits,
            "alive": scenario.waits - self.finished - len(self.errors),
        }

    def by_key(self, detected: dict[int, float]) -> dict[str, list[float | None]]:
        keys = self.scenario.keys
        dealt = [[late for number, late in detected.items() if number % keys == key] for key in range(keys)]
        return {
            f"key-{key}": [quantile(values, 0.5), quantile(values, 0.99)]
            for key, values in enumerate(dealt)
            if keys > 1
        }


class Kept(logging.Handler):
    """Keeps what runops says."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.INFO)
        self.lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def keep_logs(lines: list[str]) -> None:
    logger = logging.getLogger("runops")
    logger.setLevel(logging.INFO)
    logger.addHandler(Kept(lines))
    # Some triggers log each poll; a line costs more than the poll, and they are measured without it.
    logging.getLogger("airflow").setLevel(logging.WARNING)
    logging.getLogger("airflow.task").setLevel(logging.WARNING)


# --- from outside ----------------------------------------------------------------------------------------------


def certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1, made for this run."""
    path = folder / "server.pem"
    subprocess.run(
        f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout {folder}/key.pem "
        f"-out {folder}/only.pem -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1".split(),
        check=True,
        capture_output=True,
    )
    path.write_bytes((folder / "key.pem").read_bytes() + (folder / "only.pem").read_bytes())
    return path


def measure(
    scenario: Scenario, python: Path, *, module: str = "benchmarks.waits", patience: float = 3600
) -> dict[str, Any]:
    """Run a scenario in a process of its own beside a server in another; its figures."""
    with tempfile.TemporaryDirectory() as folder:
        pem = certificate(Path(folder)) if scenario.tls else None
        environment = {
            **{
                name: value
                for name, value in os.environ.items()
                if not re.match("AIRFLOW|RUNOPS|.*_proxy$", name, re.I)
            },
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}",
            "AIRFLOW_HOME": folder,
            "BENCH_INSIDE": "1",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
            **({"SSL_CERT_FILE": f"{folder}/only.pem"} if pem else {}),
        }
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        options = {**scenario.server, **({"certificate": str(pem)} if pem else {})}
        with subprocess.Popen(
            [python, "-m", "benchmarks.server", json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=ROOT,
        ) as server:
            assert server.stdout is not None
            assert server.stdin is not None
            ports = json.loads(server.stdout.readline())["ports"]
            try:
                with busy_neighbour(python) if scenario.busy else nullcontext():
                    done = subprocess.run(
                        [python, "-m", module],
                        input=json.dumps({"scenario": asdict(scenario), "ports": ports, "folder": folder}),
                        stdout=subprocess.PIPE,
                        text=True,
                        env=environment,
                        cwd=ROOT,
                        timeout=patience,
                        check=True,
                    )
            finally:
                server.stdin.close()
        return json.loads(done.stdout.splitlines()[-1])


@contextmanager
def busy_neighbour(python: Path) -> Generator[None]:
    """A process that computes on the core of the waits for as long as this lasts."""
    work = "import os\nos.sched_setaffinity(0, {max(os.sched_getaffinity(0))})\nwhile True: pass"
    with subprocess.Popen([python, "-c", work]) as neighbour:
        try:
            yield
        finally:
            neighbour.kill()


def machine() -> dict[str, Any]:
    """The machine, by what matters and no more."""
    return {"cores": os.cpu_count(), "python": platform.python_version()}


def main() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    given = json.loads(sys.stdin.read())
    scenario = Scenario(**given["scenario"])
    scheme = "https" if scenario.tls else "http"
    urls = [f"{scheme}://127.0.0.1:{port}" for port in given["ports"]]
    bench = Bench(scenario, urls, f"{given['folder']}/only.pem" if scenario.tls else None)
    gc.collect()
    print(json.dumps(asyncio.run(bench.run())))


if __name__ == "__main__":
    main()
