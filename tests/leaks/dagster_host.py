"""Materialises an asset for every wait and every submit of a plan, and shows all that it can. For its own process.

The plan is in the file LEAKS_PLAN; Dagster's home is LEAKS_FOLDER, with its event log, run storage and compute logs.
"""

# ruff: noqa: E402 - a host reads its settings when it is imported, so they are set before

from __future__ import annotations

import json
import os
import pickle
import traceback
import urllib.request
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ["LEAKS_FOLDER"])
os.environ["DAGSTER_HOME"] = str(FOLDER)
(FOLDER / "dagster.yaml").write_text(
    """
telemetry:
  enabled: false
python_logs:
  python_log_level: DEBUG
  managed_python_loggers: [root, httpx, httpcore, asyncio, runops]
"""
)

import dagster as dg
from dagster._core.remote_representation.external_data import RepositorySnap

import runops.dagster
from runops.core.waiting import ownership
from runops.core.waiting.state import WaitState
from runops.dagster import B3osResource, NektResource, NexioResource, NyxResource, OnepinResource, build_run_asset
from runops.dagster.resource import ProviderResource
from tests import dagster_storage  # noqa: F401 - what it writes waits for no disk

PLAN: dict[str, Any] = json.loads(Path(os.environ["LEAKS_PLAN"]).read_text())
KINDS: dict[str, type[ProviderResource]] = {
    "nexio": NexioResource,
    "nyx": NyxResource,
    "onepin": OnepinResource,
    "b3os": B3osResource,
    "nekt": NektResource,
}
RESOURCES: dict[str, ProviderResource] = {
    name: kind(api_key=dg.EnvVar(PLAN["key_variables"][name]), base_url=dg.EnvVar(f"{name.upper()}_BASE_URL"))
    for name, kind in KINDS.items()
}


def variables(value: Any) -> Any:
    """The same, with each variable that the plan names as Dagster's."""
    if isinstance(value, dict):
        return {name: variables(item) for name, item in value.items()}
    if isinstance(value, list):
        return [variables(item) for item in value]
    if isinstance(value, str) and value.startswith("$env:"):
        return dg.EnvVar(value.removeprefix("$env:"))
    return value


def asset(name: str, provider: str, scenario: str, **source: Any) -> dg.AssetsDefinition:
    return build_run_asset(
        key=name.replace("-", "_"),
        resource_key=provider,
        timeout=0.3 if scenario == "timed_out" else 60,
        poll_interval=0.1,
        on_outcome={"cancelled": "skip"},
        **source,
    )


WAITS = [
    asset(f"{shape}_{name}", provider, wait["scenario"], run_id=wait["run_id"], parents=wait["parents"] or None)
    for shape, waits in PLAN["waits"].items()
    for provider in [shape.removesuffix("-flat")]
    for name, wait in waits.items()
]
SUBMITS = {
    submit["name"]: [
        asset(f"{submit['name']}_{provider}", provider, submit["scenario"], call=variables(arguments))
        for provider, arguments in submit["calls"].items()
    ]
    for submit in PLAN["submits"]
}
plain_key = NexioResource(api_key=os.environ["NEXIO_API_KEY"], base_url=os.environ["NEXIO_BASE_URL"])


def plain_keys() -> dg.Definitions:
    """A key that stands in the code as it is."""
    return dg.Definitions(assets=[asset("plain", "nexio", "succeeded", run_id="x")], resources={"nexio": plain_key})


definitions = dg.Definitions(
    assets=[*WAITS, *(made for group in SUBMITS.values() for made in group)],
    jobs=[
        dg.define_asset_job("waits", selection=WAITS, executor_def=dg.in_process_executor),
        *(
            dg.define_asset_job(f"submits_{name}", selection=group, executor_def=dg.in_process_executor)
            for name, group in SUBMITS.items()
        ),
    ],
    resources=RESOURCES,
)


def waits_job() -> dg.JobDefinition:
    return definitions.resolve_job_def("waits")


def submits_job(name: str) -> dg.JobDefinition:
    return definitions.resolve_job_def(f"submits_{name}")


def main() -> None:
    hurry()
    told: dict[str, Any] = {"states": {}}
    with dg.DagsterInstance.get() as instance:
        with dg.execute_job(dg.reconstructable(waits_job), instance) as result:
            told["states"] |= states(result)
        for submit in PLAN["submits"]:
            for route, body in submit["before"]:
                control(route, body)
            job = dg.build_reconstructable_job(
                "dagster_host",
                "submits_job",
                reconstructable_args=(submit["name"],),
                reconstructor_working_directory=".",
            )
            with dg.execute_job(job, instance) as result:
                told["states"] |= states(result)
        for run in instance.get_runs():
            for entry in instance.all_logs(run.run_id):
                show("events.txt", entry, entry.user_message)
                data = getattr(entry.dagster_event, "event_specific_data", None)
                show("events.txt", data)
    for given in (definitions, plain_keys()):
        repository = given.get_repository_def()
        snapshot = RepositorySnap.from_def(repository)
        show("repository.txt", dg.serialize_value(snapshot), snapshot, repository)
    for resource in (*RESOURCES.values(), plain_key):
        show("resources.txt", resource, resource.model_dump(), resource.model_dump_json(), vars(resource))
        show("resources.txt", resource.client(), vars(resource.client()))
    show("resources.txt", *(getattr(runops.dagster, name) for name in runops.dagster.__all__))
    (FOLDER / "told.json").write_text(json.dumps(told))


def states(result: Any) -> dict[str, str]:
    kinds = {
        dg.DagsterEventType.STEP_FAILURE: "failed",
        dg.DagsterEventType.ASSET_MATERIALIZATION: "success",
        dg.DagsterEventType.STEP_SUCCESS: "skipped",
    }
    found: dict[str, str] = {}
    for event in result.all_events:
        if event.event_type in kinds and event.step_key:
            # A step with a materialisation succeeds too, afterwards.
            found.setdefault(event.step_key, kinds[event.event_type])
    return found


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
            if isinstance(thing, BaseException):
                file.write("".join(traceback.format_exception(thing)) + repr(pickle.dumps(thing)))


def control(route: str, body: dict[str, Any]) -> None:
    request = urllib.request.Request(
        f"{PLAN['control']}/{route}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    urllib.request.urlopen(request, timeout=10).close()


if __name__ == "__main__":
    import dagster_host

    dagster_host.main()
