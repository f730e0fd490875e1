"""The code location of the host tests: one op for each service in jobs by executor, and assets for every outcome.

Services are taken from HOST_URL, files are exchanged in HOST_FOLDER. A step parks where a test has asked for it, so
that it can be killed at that very moment; nothing else differs from a user's code location.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from runops.core import RunRef, RunSnapshot
from runops.dagster import (
    B3osResource,
    NektResource,
    NexioResource,
    NyxResource,
    OnepinResource,
    build_run_asset,
    build_run_check,
    build_run_op,
)
from runops.dagster.many.records import SetRecords
from runops.dagster.step.records import Records

FOLDER = Path(os.environ["HOST_FOLDER"])
URL = os.environ["HOST_URL"]
EXECUTORS: dict[str, Any] = {
    "in_process": dg.in_process_executor,
    "multiprocess": dg.multiprocess_executor.configured({"max_concurrent": 2}),
    "forked": dg.multiprocess_executor.configured(
        {
            "max_concurrent": 2,
            "start_method": {"forkserver": {"preload_modules": ["dagster", "runops.dagster.builders.asset"]}},
        }
    ),
}
EVERYBODY = 20
"""Steps that run at once in the jobs of turns."""
EXECUTORS["everybody"] = dg.multiprocess_executor.configured(
    {
        "max_concurrent": EVERYBODY,
        "start_method": {"forkserver": {"preload_modules": ["dagster", "runops.dagster.builders.asset"]}},
    }
)
CALLS: dict[str, Callable[[str], dict[str, Any]]] = {
    "nexio": lambda parent: {"engine_slug": parent, "input": {}},
    "nyx": lambda parent: {
        "config_name": parent,
        "name": "Nightly audit",
        "target": {"url": "https://agent.example.com"},
        "objective": "make it tell its instructions",
        "budget_usd": 5,
        "severity_target": "high",
    },
    "onepin": lambda parent: {"workflow_id": parent},
    "b3os": lambda parent: {"workflow_id": parent},
}
ENDS: dict[str, list[str]] = {
    "nexio": ["succeeded", "degraded", "failed"],
    "nyx": ["succeeded", "exhausted", "failed", "cancelled"],
    "onepin": ["succeeded", "failed", "cancelled"],
    "b3os": ["succeeded", "failed", "cancelled"],
    "nekt": ["succeeded", "failed", "cancelled"],
}
RESOURCES: dict[str, Any] = {
    name: kind(api_key="a-key", base_url=f"{URL}/{name}")
    for name, kind in {
        "nexio": NexioResource,
        "nyx": NyxResource,
        "onepin": OnepinResource,
        "b3os": B3osResource,
        "nekt": NektResource,
    }.items()
}


# --- a step that stops where a test wants it -------------------------------------------------------------------


def park(moment: str, records: Records | SetRecords) -> None:
    """Stand still if a test has asked for it: the file with our process id says that we do."""
    context: Any = records._context
    parent = context.op_config["parent"]
    order, here = FOLDER / f"{parent}.{moment}", FOLDER / f"{parent}.parked"
    if order.exists():
        order.unlink()
        written = FOLDER / f"{parent}.writing"
        written.write_text(str(os.getpid()))
        written.rename(here)
        while here.exists():
            time.sleep(0.02)


def parking(name: str, before: str, after: str) -> None:
    real = getattr(Records, name)

    def parked(self: Records, *args: Any, **options: Any) -> None:
        park(before, self)
        real(self, *args, **options)
        park(after, self)

    setattr(Records, name, parked)


parking("submitting", "unrecorded", "recorded")
parking("submitted", "answered", "noted")


# --- jobs that submit ------------------------------------------------------------------------------------------


def submission(provider: str) -> Callable[[Any], Mapping[str, Any]]:
    return lambda context: CALLS[provider](context.op_config["parent"])


def jobs_of(provider: str, *, retries: int) -> list[dg.JobDefinition]:
    ending = "_retrying" if retries else ""
    op = build_run_op(
        name=f"{provider}_run{ending}",
        resource_key=provider,
        call=submission(provider),
        poll_interval=0.2,
        # The look for a lost run is to end while a test waits for it.
        submit_grace=15,
        config_schema={"parent": str},
        retry_policy=dg.RetryPolicy(max_retries=retries) if retries else None,
    )

    def job_of(executor: str) -> dg.JobDefinition:
        @dg.job(name=f"{provider}_{executor}{ending}", executor_def=EXECUTORS[executor])
        def job() -> None:
            op.alias("external_run")()

        return job

    return [job_of(executor) for executor in ("in_process", "multiprocess")]


# --- jobs of many runs -----------------------------------------------------------------------------------------


MANY = 200
"""External runs of one step."""
THE_37TH = 37


def park_at_the_37th(name: str, when: str) -> None:
    """Stand still right before, or after, the record of the 37th submit is written."""
    real = SetRecords.changed
    seen_of: dict[int, set[int]] = {}

    def changed(self: SetRecords, rows: Any, message: str) -> None:
        seen = seen_of.setdefault(id(self), set())
        before = len(seen)
        seen |= {row.index for row in rows if str(row.state) == name}
        now = before < THE_37TH <= len(seen)
        if now and when == "before":
            park(f"{name}.{when}", self)
        real(self, rows, message)
        if now and when == "after":
            park(f"{name}.{when}", self)

    SetRecords.changed = changed


for _state, _when in (("submitting", "before"), ("submitting", "after"), ("submitted", "before")):
    park_at_the_37th(_state, _when)


def many_calls(provider: str) -> Callable[[Any], list[dict[str, Any]]]:
    def calls(context: Any) -> list[dict[str, Any]]:
        parent = context.op_config["parent"]
        if provider == "nyx":
            return [CALLS["nyx"](f"{parent}-{number}") for number in range(MANY)]
        return [{**CALLS[provider](parent), "payload": {"number": number}} for number in range(MANY)]

    return calls


def many_of(provider: str) -> list[dg.JobDefinition]:
    op = build_run_op(
        name=f"{provider}_many",
        resource_key=provider,
        calls=many_calls(provider),
        max_active=60,
        poll_interval=1,
        submit_grace=4,
        # B3OS shows no mark: the single run that has begun since the POST is taken for ours.
        adopt_uncertain=provider == "b3os",
        config_schema={"parent": str},
    )

    def job_of(executor: str) -> dg.JobDefinition:
        @dg.job(name=f"many_{provider}_{executor}", executor_def=EXECUTORS[executor])
        def job() -> None:
            op.alias("external_run")()

        return job

    return [job_of(executor) for executor in ("in_process", "multiprocess")]


# --- a job whose run waits for somebody ------------------------------------------------------------------------


def note_phase(context: Any, snapshot: RunSnapshot) -> None:
    """Leave a line for each call."""
    with (FOLDER / "phases.calls").open("a") as file:
        file.write(f"{snapshot.ref.run_id} {snapshot.phase}\n")


def phases_job() -> dg.JobDefinition:
    op = build_run_op(
        name="b3os_phases",
        resource_key="b3os",
        call=submission("b3os"),
        poll_interval=0.2,
        on_phase={"waiting": note_phase},
        config_schema={"parent": str},
    )

    @dg.job(name="phases", executor_def=EXECUTORS["multiprocess"])
    def job() -> None:
        op.alias("external_run")()

    return job


# --- jobs that take turns --------------------------------------------------------------------------------------


def turns_of(provider: str) -> dg.JobDefinition:
    """Twenty steps at once on one parent that takes one run at a time."""
    op = build_run_op(
        name=f"{provider}_turn",
        resource_key=provider,
        call=submission(provider),
        poll_interval=1,
        config_schema={"parent": dg.Field(str, default_value=TURNS[provider])},
    )

    @dg.job(name=f"turns_{provider}", executor_def=EXECUTORS["everybody"])
    def job() -> None:
        for number in range(EVERYBODY):
            op.alias(f"turn_{number}")()

    return job


TURNS = {"nyx": "turns", "onepin": "7c9e6679-7425-40de-944b-e07fc1f90ae7"}


# --- jobs under which keys are rotated -------------------------------------------------------------------------


KEY_VARIABLE = "HOST_ROTATED_KEY"
"""Stands in the ``.env`` file that Dagster's own secrets loader reads."""
ROTATED: dict[str, Any] = {
    **{
        f"{name}_file": type(resource)(api_key_file=str(FOLDER / "key"), base_url=f"{URL}/{name}")
        for name, resource in RESOURCES.items()
    },
    **{
        f"{name}_variable": type(resource)(api_key=dg.EnvVar(KEY_VARIABLE), base_url=f"{URL}/{name}")
        for name, resource in RESOURCES.items()
    },
}


def keys_job() -> dg.JobDefinition:
    """Twenty steps at once: for each service two with a key in a file, and two with one in a variable."""
    ops = {
        f"{key}_{number}": build_run_op(
            name=f"{key}_{number}", resource_key=key, run_id=run_named(f"{key}_{number}"), poll_interval=1
        )
        for key in ROTATED
        for number in range(2)
    }

    @dg.job(name="keys", executor_def=EXECUTORS["everybody"])
    def job() -> None:
        for op in ops.values():
            op()

    return job


# --- assets that wait ------------------------------------------------------------------------------------------


def run_named(name: str) -> Callable[[Any], RunRef]:
    return lambda context: RunRef.parse(json.loads((FOLDER / "runs.json").read_text())[name])


WARNED = {"nexio": {"degraded": "warn"}, "nyx": {"exhausted": "warn"}}
ASSETS: dict[str, dg.AssetsDefinition] = {
    **{
        f"{provider}_{script}": build_run_asset(
            key=f"{provider}_{script}", resource_key=provider, run_id=run_named(f"{provider}_{script}")
        )
        for provider, scripts in ENDS.items()
        for script in scripts
    },
    **{
        f"{provider}_{script}_warned": build_run_asset(
            key=f"{provider}_{script}_warned",
            resource_key=provider,
            run_id=run_named(f"{provider}_{script}"),
            on_outcome={script: word},
        )
        for provider, verdicts in WARNED.items()
        for script, word in verdicts.items()
    },
}
CHECKS = [
    build_run_check(
        asset=f"{provider}_succeeded",
        name="judged",
        resource_key=provider,
        run_id=run_named(f"{provider}_{scripts[-1]}"),
    )
    for provider, scripts in ENDS.items()
]


OPS = [
    build_run_op(name=f"op_{provider}_{script}", resource_key=provider, run_id=run_named(f"{provider}_{script}"))
    for provider, scripts in ENDS.items()
    for script in scripts
]


def ends_of_ops(executor: str) -> dg.JobDefinition:
    @dg.job(name=f"ops_{executor}", executor_def=EXECUTORS[executor])
    def job() -> None:
        for op in OPS:
            op()

    return job


defs = dg.Definitions(
    assets=list(ASSETS.values()),
    asset_checks=CHECKS,
    jobs=[
        *(job for provider in CALLS for retries in (0, 2) for job in jobs_of(provider, retries=retries)),
        *(
            dg.define_asset_job(f"assets_{executor}", selection=list(ASSETS.values()), executor_def=EXECUTORS[executor])
            for executor in ("in_process", "forked")
        ),
        *(job for provider in ("nyx", "b3os") for job in many_of(provider)),
        *(turns_of(provider) for provider in TURNS),
        keys_job(),
        phases_job(),
        *(ends_of_ops(executor) for executor in ("in_process", "forked")),
    ],
    resources={**RESOURCES, **ROTATED},
)
