"""A full run of every service through every host, each in a process of its own that logs all it can."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from runops.core import PROVIDERS
from runops.emulator.server import Server, running
from tests.leaks import private_fields as private
from tests.leaks import written
from tests.progress import until_it_ends

HERE = Path(__file__).parent
SCENARIOS = ("succeeded", "soft", "failed", "cancelled", "timed_out", "wrong_key", "trouble")
WAITS = {"airflow": ("worker", "deferred"), "dagster": ("step",), "plain": ("sync", "async", "command")}
KEY_VARIABLES = {name: provider.key_variable for name, provider in PROVIDERS.items()}


# Where DAG.test() stands in for a supervisor, Airflow itself writes at DEBUG each secret that it is told to mask: the
# password of any connection that is read, whoever reads it. A real supervisor leaves the body of such a message out.
NOT_OURS = re.compile(rb"[^\n]*Sending request +loc=supervisor\.py:\d+ msg=MaskSecret\([^\n]*")


@dataclass
class FullRun:
    """What a host did, and where it wrote."""

    host: str
    folder: Path
    plan: Mapping[str, Any]
    told: Mapping[str, Any]
    """What the host's own script says of its tasks."""
    served: list[Mapping[str, Any]]
    """What the services held of the runs that they were asked for."""
    submitted: list[Mapping[str, Any]]
    """What the services were sent."""
    submitted_ids: list[str]

    def leaks(self) -> list[str]:
        """Every canary that was written, with its place and what stands around it."""
        return [
            f"{', '.join(named(around)) or 'a part of a canary'} in {place}: ...{around}..."
            for place, around in written.places_of(private.STEM, self.texts)
        ]

    def holds(self, text: str, *places: str) -> bool:
        """Whether a text was written at a place whose name matches one of some patterns."""
        return any(
            text.encode() in content
            for place, content in self.texts
            if any(re.search(pattern, place) for pattern in places)
        )

    @cached_property
    def texts(self) -> list[tuple[str, bytes]]:
        """All that was written, by the names of its places."""
        return [
            (place, NOT_OURS.sub(b"", content) if place == "stdout.txt" else content)
            for place, content in written.everything_under(self.folder)
        ]


def named(around: str) -> list[str]:
    return [name for name, canary in private.CANARIES.items() if canary in around]


@pytest.fixture(scope="session")
def served() -> Iterator[Server]:
    with running(seed=13, seconds=0.3) as server:
        yield server


@pytest.fixture(scope="session")
def full_run(served: Server, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], FullRun]:
    """``full_run("airflow")``: everything that a host does, done once."""
    done: dict[str, FullRun] = {}

    def run(host: str) -> FullRun:
        if host not in done:
            done[host] = _run(host, served, tmp_path_factory)
        return done[host]

    return run


@pytest.fixture(scope="session")
def canaries() -> Mapping[str, str]:
    return private.CANARIES


@pytest.fixture(scope="session")
def search() -> Any:
    """The module that finds a word in what was written."""
    return written


@pytest.fixture(scope="session")
def fields() -> Any:
    """The module of the private fields."""
    return private


def _run(host: str, served: Server, folders: pytest.TempPathFactory) -> FullRun:
    folder, outside = folders.mktemp(f"{host}-written"), folders.mktemp(f"{host}-plan")
    emulator = served.emulator
    emulator.reset()
    plan = _plan(host, served)
    (outside / "plan.json").write_text(json.dumps(plan))
    environment = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
        **_environment(host, served),
        "LEAKS_PLAN": str(outside / "plan.json"),
        "LEAKS_FOLDER": str(folder),
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PYTHONASYNCIODEBUG": "1",
    }
    with (folder / "stdout.txt").open("wb") as out, (folder / "stderr.txt").open("wb") as err:
        command = [sys.executable, str(HERE / f"{host}_host.py")]
        with subprocess.Popen(command, env=environment, cwd=folder, stdout=out, stderr=err) as process:
            # At DEBUG it writes all the time.
            until_it_ends(process, (folder / "stdout.txt", folder / "stderr.txt"))
    told = folder / "told.json"
    if not told.exists():
        pytest.fail(f"the {host} process did not finish:\n{(folder / 'stderr.txt').read_text()[-3000:]}")
    runs = emulator.runs()
    return FullRun(
        host=host,
        folder=folder,
        plan=plan,
        told=json.loads(told.read_text()),
        served=[run["fields"] for run in runs if run["reads"]],
        submitted=[run["body"] for run in runs if run["submitted"]],
        submitted_ids=[run["run_id"] for run in runs if run["submitted"]],
    )


def _environment(host: str, served: Server) -> dict[str, str]:
    keys = {provider: private.key(host, provider) for provider in PROVIDERS}
    inputs = {_variable(name): canary for name, canary in private.CANARIES.items()}
    if host == "airflow":
        connections = {
            f"AIRFLOW_CONN_{provider.upper()}_DEFAULT": json.dumps(
                {"conn_type": provider, "password": key, "host": served.base_url(provider)}
            )
            for provider, key in keys.items()
        }
        return connections | {f"AIRFLOW_VAR_{name}": value for name, value in inputs.items()}
    bases = {f"{provider.upper()}_BASE_URL": served.base_url(provider) for provider in PROVIDERS}
    return bases | inputs | {KEY_VARIABLES[provider]: key for provider, key in keys.items()}


def _plan(host: str, served: Server) -> dict[str, Any]:
    """What a host is to do. Private texts stand in it by the names of variables only, but for the planned faults."""
    return {
        "control": f"{served.url}/_control",
        "waits": {shape: _waits(host, shape, served.emulator) for shape in private.PAYLOADS},
        "submits": _submits(host),
        "key_variables": KEY_VARIABLES,
    }


def _waits(host: str, shape: str, emulator: Any) -> dict[str, dict[str, Any]]:
    provider = shape.removesuffix("-flat")
    found: dict[str, dict[str, Any]] = {}
    for scenario in SCENARIOS:
        if scenario == "cancelled" and scenario not in private.ENDS[shape]:
            continue
        for way in _ways(host, shape, scenario):
            parents = _parents(provider, shape)
            run_id = emulator.create_run(
                provider,
                script=private.script(shape, scenario, seconds=1),
                age_seconds=5,
                parents=parents,
                **({"shape": "flat" if shape.endswith("-flat") else "pipeline"} if provider == "nekt" else {}),
            )
            for fault in _faults(host, provider, scenario, way):
                emulator.add_fault(provider=provider, run_id=run_id, **fault)
            addressed = parents if provider == "onepin" else {}
            found[f"{scenario}_{way}"] = {"run_id": run_id, "parents": addressed, "scenario": scenario, "way": way}
    return found


def _ways(host: str, shape: str, scenario: str) -> tuple[str, ...]:
    """All ways to wait where most is said; else they take turns over services and scenarios, which saves time."""
    ways = WAITS[host]
    if scenario == "failed":
        return ways
    turn = list(private.PAYLOADS).index(shape) + SCENARIOS.index(scenario)
    return (ways[turn % len(ways)],)


def _faults(host: str, provider: str, scenario: str, way: str) -> list[dict[str, Any]]:
    secret = private.key(host, provider)
    if scenario == "wrong_key":
        # A wait that begins with a passing error goes on in the triggerer.
        first = private.troubles(secret)[:1] if way == "deferred" else []
        return [*first, {"kind": "status", "status": 401, "body": private.refusal(secret), "count": None}]
    if scenario == "trouble":
        return private.troubles(secret)
    return private.troubles(secret)[:1] if way == "deferred" else []


def _parents(provider: str, shape: str) -> dict[str, str] | None:
    if provider == "onepin":
        return {"workflow_id": str(uuid.uuid4())}
    return {"source": "orders"} if shape.endswith("-flat") else None


def _submits(host: str) -> list[dict[str, Any]]:
    """Submits in their order: what to tell the emulator before, and the arguments, private texts as ``$env:NAME``."""
    found: list[dict[str, Any]] = []
    for scenario in ("succeeded", "soft", "failed", "timed_out", "wrong_key", "refused", "uncertain", "lost"):
        # A submit is the same in all ways to wait; the ends that say most are met in each.
        for way in WAITS[host] if scenario in ("succeeded", "failed") else WAITS[host][-1:]:
            before: list[tuple[str, dict[str, Any]]] = []
            calls: dict[str, Any] = {}
            for provider, arguments in private.SUBMITS.items():
                life = private.script(provider, scenario, seconds=0.2)
                before.append(("defaults", {"provider": provider, "script": life}))
                fault = _submit_fault(scenario, private.key(host, provider), arguments)
                if fault:
                    before.append(("faults", {"provider": provider, "action": "submit", **fault}))
                own = {
                    "nexio": {},
                    "nyx": {"config_name": f"{scenario}-{way}"},
                    "onepin": {"workflow_id": str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{host}.{scenario}.{way}"))},
                    "b3os": {"workflow_id": f"wf_{scenario}_{way}"},
                }
                calls[provider] = _by_variable({**arguments, **own[provider]})
            found.append(
                {"name": f"{scenario}_{way}", "scenario": scenario, "way": way, "before": before, "calls": calls}
            )
    return found


def _submit_fault(scenario: str, secret: str, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    echo = private.refusal(secret, echoed=arguments)
    faults: dict[str, dict[str, Any]] = {
        "wrong_key": {"kind": "status", "status": 401, "body": echo},
        "refused": {"kind": "status", "status": 422, "body": echo},
        "uncertain": {"kind": "status", "status": 500, "body": echo},
        "lost": {"kind": "reset", "when": "after"},
    }
    return faults.get(scenario)


def _by_variable(value: Any) -> Any:
    """The same, with each canary replaced by the name of the variable that holds it."""
    if isinstance(value, dict):
        return {name: _by_variable(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_by_variable(item) for item in value]
    names = [name for name, canary in private.CANARIES.items() if canary == value]
    return f"$env:{_variable(names[0])}" if names else value


def _variable(name: str) -> str:
    return re.sub(r"\W", "_", f"leaks_{name}").upper()
