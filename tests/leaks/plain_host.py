"""Every wait and submit of a plan in plain Python, asyncio and the command line, showing all that it can.

The plan is in the file LEAKS_PLAN; everything is written under LEAKS_FOLDER or to the standard streams.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import os
import pickle
import traceback
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import runops.core
from runops.cli import main as command
from runops.cli import settings
from runops.core import Call, Provider, RunopsError, RunRef, RunSnapshot, find
from runops.core.waiting import ownership
from runops.core.waiting.state import WaitState

FOLDER = Path(os.environ["LEAKS_FOLDER"])
PLAN: dict[str, Any] = json.loads(Path(os.environ["LEAKS_PLAN"]).read_text())


def main() -> None:
    logging.basicConfig(
        level=logging.DEBUG, filename=FOLDER / "debug.log", format="%(asctime)s %(name)s %(message)s %(args)s"
    )
    hurry()
    told: dict[str, Any] = {"states": {}}
    for shape, waits in PLAN["waits"].items():
        told["states"] |= waited(shape, waits)
    for submit in PLAN["submits"]:
        for route, body in submit["before"]:
            control(route, body)
        for provider, arguments in submit["calls"].items():
            told["states"][f"{submit['name']}.{provider}"] = submitted(provider, submit, plain(arguments))
    show("public.txt", *(getattr(runops.core, name) for name in runops.core.__all__))
    show("public.txt", *(vars(provider) for provider in runops.core.PROVIDERS.values()))
    (FOLDER / "told.json").write_text(json.dumps(told))


def waited(shape: str, waits: dict[str, Any]) -> dict[str, str]:
    """How the waits of a kind of run ended: those of plain Python, those of asyncio, and those of the command line."""
    declared = find(shape.removesuffix("-flat"))
    found: dict[str, str] = {}
    for name, wait in waits.items():
        if wait["way"] == "sync":
            found[f"{shape}.{name}"] = outcome(partial(sync_wait, declared, *address(declared, wait)))
        elif wait["way"] == "command":
            found[f"{shape}.{name}"] = commanded(declared, wait)
    together = {name: address(declared, wait) for name, wait in waits.items() if wait["way"] == "async"}
    ends = asyncio.run(async_waits(declared, list(together.values())))
    for name, end in zip(together, ends, strict=True):
        found[f"{shape}.{name}"] = outcome(partial(result_of, end))
    return found


def address(declared: Provider, wait: dict[str, Any]) -> tuple[RunRef, float]:
    ref = declared.ref(wait["run_id"], wait["parents"])
    show("values.txt", ref, declared)
    return ref, 0.3 if wait["scenario"] == "timed_out" else 60.0


def sync_wait(declared: Provider, ref: RunRef, limit: float) -> RunSnapshot:
    with settings.connect(declared) as client:
        show("values.txt", client, vars(client))
        return client.wait(
            ref, timeout=limit, poll_interval=0.1, on_update=lambda snapshot: show("values.txt", snapshot)
        )


async def async_waits(declared: Provider, runs: list[tuple[RunRef, float]]) -> list[Any]:
    async with settings.connect_async(declared) as client:
        show("values.txt", client, vars(client))
        waits = (client.wait(ref, timeout=limit, poll_interval=0.1) for ref, limit in runs)
        return await asyncio.gather(*waits, return_exceptions=True)


def result_of(end: Any) -> Any:
    if isinstance(end, BaseException):
        raise end
    return end


def commanded(declared: Provider, wait: dict[str, Any]) -> str:
    run = [declared.name, wait["run_id"]]
    run += [option for name, value in wait["parents"].items() for option in ("--parent", f"{name}={value}")]
    limit = "0.3" if wait["scenario"] == "timed_out" else "60"
    code = command(["watch", *run, "--timeout", limit, "--poll-interval", "0.1"])
    command(["get", *run])
    command(["get", *run, "--json"])
    command(["cancel", *run])
    return str(code)


def submitted(provider: str, submit: dict[str, Any], arguments: dict[str, Any]) -> str:
    limit = "0.3" if submit["scenario"] == "timed_out" else "60"
    if submit["way"] == "command":
        flags = [
            option
            for name, value in arguments.items()
            for option in (f"--{name.replace('_', '-')}", value if isinstance(value, str) else json.dumps(value))
        ]
        patience = ["--timeout", limit, "--poll-interval", "0.1"]
        return str(command(["submit", provider, *flags, "--wait", *patience]))
    declared = find(provider)
    call = declared.call(**arguments)
    show("values.txt", call, dataclasses.replace(call), [call])
    if submit["way"] == "async":
        return outcome(lambda: asyncio.run(async_submit(declared, call, float(limit))))
    return outcome(lambda: sync_submit(declared, call, float(limit)))


def sync_submit(declared: Provider, call: Call, limit: float) -> RunSnapshot:
    with settings.connect(declared) as client:
        return client.wait(client.submit(call), timeout=limit, poll_interval=0.1)


async def async_submit(declared: Provider, call: Call, limit: float) -> RunSnapshot:
    async with settings.connect_async(declared) as client:
        return await client.wait(await client.submit(call), timeout=limit, poll_interval=0.1)


def outcome(act: Callable[[], Any]) -> str:
    try:
        snapshot = act()
    except RunopsError as error:
        show("errors.txt", error, vars(error), "".join(traceback.format_exception(error)), pickle.dumps(error))
        logging.getLogger("runops").error("it ended with an error", exc_info=error)
        return type(error).__name__
    show("values.txt", snapshot, snapshot.summary(), snapshot.to_result(), snapshot.to_dict())
    return str(snapshot.outcome)


def plain(value: Any) -> Any:
    """The same, with what the variables hold that the plan names."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, str) and value.startswith("$env:"):
        return os.environ[value.removeprefix("$env:")]
    return value


def hurry() -> None:
    """Let no pause between two looks take long."""
    pause = WaitState.pause
    WaitState.pause = lambda self, now: min(pause(self, now), 0.1)
    look = ownership.RunSearch.look_until_found
    ownership.RunSearch.look_until_found = lambda self, grace: look(self, min(grace, 0.4))


def show(name: str, *things: Any) -> None:
    with (FOLDER / name).open("a") as file:
        for thing in things:
            file.write(f"{thing!r}\n{thing}\n")


def control(route: str, body: dict[str, Any]) -> None:
    request = urllib.request.Request(
        f"{PLAN['control']}/{route}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    urllib.request.urlopen(request, timeout=10).close()


if __name__ == "__main__":
    main()
