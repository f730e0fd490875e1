"""The same waits inside Airflow's own trigger runner and supervisor: two real processes, only the database is left out.

``python -m benchmarks.triggerer`` prints a table. The supervisor is Airflow's class; instead of asking the database for
triggers it hands out those of the scenario, and instead of writing events it notes when they come.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
import urllib.request
from dataclasses import asdict
from pathlib import Path
from ssl import create_default_context
from typing import Any
from uuid import UUID

from benchmarks.figures import quantile
from benchmarks.waits import Runops, Scenario, Triggers, machine, measure

RUNS = {"run_seconds": (30, 60)}
EMPTY_SECONDS = 60.0
COLUMNS = (
    ("runner_cpu", "runner CPU s", "{:.1f}"),
    ("supervisor_cpu", "supervisor CPU s", "{:.1f}"),
    ("runner_kb_per_wait", "runner KB/wait", "{:.1f}"),
    ("supervisor_kb_per_wait", "supervisor KB/wait", "{:.1f}"),
    ("detection_p50", "seen by the supervisor p50 s", "{:.2f}"),
    ("detection_p99", "p99 s", "{:.2f}"),
    ("requests_per_run", "requests/run", "{:.2f}"),
    ("connections_most", "most open", "{:d}"),
    ("finished", "finished", "{:d}"),
    ("errors", "errors", "{:d}"),
)


def scenarios() -> dict[str, Scenario]:
    """Every subject with 1,000 and 5,000 waits."""
    found = [
        Scenario(f"{what}-{waits}", waits, what, server=dict(RUNS))
        for waits in (1_000, 5_000)
        for what in ("nothing", "runops", "databricks", "dbt-cloud")
    ]
    found += [Scenario(f"list-b3os-{waits}", waits, provider="b3os", server=dict(RUNS)) for waits in (1_000, 5_000)]
    return {scenario.name: scenario for scenario in found}


# --- inside the supervisor's process ---------------------------------------------------------------------------


class Process:
    """CPU and memory of a process, by its id."""

    def __init__(self, pid: int) -> None:
        self.folder = Path(f"/proc/{pid}")

    def cpu(self) -> float:
        fields = (self.folder / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident(self) -> int:
        return int((self.folder / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def serialized(scenario: Scenario, urls: list[str]) -> list[tuple[str, dict[str, Any]]]:
    """The class and the arguments of each trigger, as Airflow would keep them."""
    if scenario.what == "nothing":
        kwargs = {"moment": time.time() + EMPTY_SECONDS}
        return [("benchmarks.empty.EmptyTrigger", kwargs)] * scenario.waits
    if scenario.what != "runops":
        subject = Triggers(scenario, urls)
        return [subject.make(number).serialize() for number in range(scenario.waits)]
    from runops.airflow.trigger import RunTrigger

    waits = Runops(scenario, urls)
    os.environ["AIRFLOW_CONN_BENCH"] = json.dumps(
        {"conn_type": scenario.provider, "password": "key-0", "host": f"{urls[0]}/{scenario.provider}"}
    )
    return [
        RunTrigger(
            provider=scenario.provider,
            conn_id="bench",
            ref=waits.ref(number).model_dump(mode="json"),
            patience=waits.patience().to_dict(),
        ).serialize()
        for number in range(scenario.waits)
    ]


def run(scenario: Scenario, urls: list[str], folder: Path) -> dict[str, Any]:
    """Start the runner, give it all triggers, and wait for their events."""
    from airflow.executors.workloads.task import TaskInstanceDTO
    from airflow.executors.workloads.trigger import RunTrigger
    from airflow.jobs import triggerer_job_runner as host
    from airflow.models.trigger import Trigger

    seen: dict[int, float] = {}
    failed: list[str] = []
    wanting: list[Any] = []

    class Supervisor(host.TriggerRunnerSupervisor):
        """Airflow's, without a database."""

        def load_triggers(self) -> None:
            while wanting:
                workload = wanting.pop()
                path = str(folder / "logs" / f"{workload.id}.log")
                self.logger_cache[workload.id] = host.TriggerLoggingFactory(log_path=path, ti=workload.ti)
                self.creating_triggers.append(workload)

        def on_trigger_event(self, trigger_id: int, event: Any) -> None:
            seen[trigger_id] = time.monotonic()

        def on_trigger_failure(self, trigger_id: int, exc: list[str] | None) -> None:
            failed.append("".join(exc or ["no event"])[-200:])

        def clean_unused(self) -> None:
            """There are no rows."""

        def heartbeat(self) -> None:
            """Nobody asks for it."""

        def metric_tags(self) -> dict[str, str]:
            return {"hostname": "bench"}

    def workload(number: int, path: str, kwargs: dict[str, Any]) -> Any:
        task = TaskInstanceDTO.model_validate(
            {
                "id": UUID(int=number + 1),
                "dag_version_id": UUID(int=1),
                "task_id": f"wait_{number}",
                "dag_id": "bench",
                "run_id": "bench",
                "try_number": 1,
                "map_index": -1,
                "pool_slots": 1,
                "queue": "default",
                "priority_weight": 1,
            }
        )
        return RunTrigger(id=number + 1, classpath=path, encrypted_kwargs=Trigger.encrypt_kwargs(kwargs), ti=task)

    context = create_default_context(cafile=folder / "only.pem")

    def ask(path: str) -> Any:
        with urllib.request.urlopen(urls[0] + path, context=context, timeout=60) as answer:
            return json.load(answer)

    prepared = [workload(number, *given) for number, given in enumerate(serialized(scenario, urls))]
    supervisor = Supervisor.start(capacity=scenario.waits + 1)
    os.sched_setaffinity(supervisor.pid, {max(os.sched_getaffinity(0))})
    runner, own = Process(supervisor.pid), Process(os.getpid())
    settle = time.monotonic() + 15
    while time.monotonic() < settle:
        supervisor.run_once()
    before = (runner.cpu(), own.cpu(), runner.resident(), own.resident())
    ask(f"/_begin?count={scenario.waits}")
    began = time.monotonic()
    wanting.extend(prepared)
    held: tuple[int, int] | None = None
    gives_up = began + 300
    while len(seen) + len(failed) < scenario.waits and time.monotonic() < gives_up and supervisor.is_alive():
        supervisor.run_once()
        if held is None and time.monotonic() > began + 25:
            held = (runner.resident(), own.resident())
    after = (runner.cpu(), own.cpu())
    figures = ask("/_figures")
    ends = {int(number) + 1: end for number, end in figures["ends"].items()}
    late = [moment - ends[number] for number, moment in seen.items() if number in ends]
    supervisor.kill(force=True)
    kb = 1024 * scenario.waits
    return {
        "scenario": asdict(scenario),
        "seconds": time.monotonic() - began,
        "runner_cpu": after[0] - before[0],
        "supervisor_cpu": after[1] - before[1],
        "runner_kb_per_wait": (held[0] - before[2]) / kb if held else None,
        "supervisor_kb_per_wait": (held[1] - before[3]) / kb if held else None,
        "detection_p50": quantile(late, 0.5) if scenario.what != "nothing" else None,
        "detection_p99": quantile(late, 0.99) if scenario.what != "nothing" else None,
        "requests_per_run": figures["requests"] / max(len(seen), 1),
        "connections_most": figures["most_open"],
        "finished": len(seen),
        "errors": len(failed),
        "first_errors": failed[:3],
    }


def inside() -> None:
    given = json.loads(sys.stdin.read())
    urls = [f"https://127.0.0.1:{port}" for port in given["ports"]]
    asyncio.set_event_loop(asyncio.new_event_loop())
    print(json.dumps(run(Scenario(**given["scenario"]), urls, Path(given["folder"]))))


# --- outside ---------------------------------------------------------------------------------------------------


def main() -> None:
    """Run the scenarios and print a table."""
    from benchmarks.__main__ import environment, table

    known = scenarios()
    parser = argparse.ArgumentParser(prog="benchmarks.triggerer", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(known)}; without: those with 1,000 waits")
    parser.add_argument("--python", type=Path, help="an interpreter with the peers; without: .venv-bench")
    asked = parser.parse_args()
    python = asked.python or environment()
    names = asked.names or [name for name in known if name.endswith("-1000")]
    results = [measure(known[name], python, module="benchmarks.triggerer") for name in names]
    print(table(results, COLUMNS))
    print(f"\n{machine()['cores']} cores, Python {machine()['python']}.")


if __name__ == "__main__":
    if "BENCH_INSIDE" in os.environ:
        inside()
    else:
        main()
