"""Definitions for Dagster with one asset for each run that the release story does not tell. Dagster loads this file."""

from __future__ import annotations

import json
import os
from typing import Any

import dagster as dg

from demo.story import GIVEN_RUNS, PROMISES, Promise
from runops.dagster import B3osResource, NektResource, NexioResource, NyxResource, OnepinResource, build_run_asset


def _asset(promise: Promise, given: dict[str, str]) -> dg.AssetsDefinition:
    run: dict[str, Any] = (
        {"run_id": given.get(promise.key, "unknown")} if promise.given else {"call": promise.arguments("dagster")}
    )
    run |= promise.clocks
    return build_run_asset(key=promise.asset[1], resource_key=promise.provider, on_outcome=promise.on_outcome, **run)


def _definitions() -> dg.Definitions:
    given = json.loads(os.environ.get(GIVEN_RUNS, "{}"))
    return dg.Definitions(
        assets=[_asset(promise, given) for promise in PROMISES if promise.asset[0] == "matrix"],
        jobs=[dg.define_asset_job("matrix", selection=dg.AssetSelection.all())],
        resources={
            "nexio": NexioResource(api_key=dg.EnvVar("NEXIO_API_KEY"), base_url=os.environ.get("NEXIO_BASE_URL")),
            "nyx": NyxResource(api_key=dg.EnvVar("NYX_TOKEN"), base_url=os.environ.get("NYX_BASE_URL")),
            "onepin": OnepinResource(api_key=dg.EnvVar("ONEPIN_API_KEY"), base_url=os.environ.get("ONEPIN_BASE_URL")),
            "b3os": B3osResource(api_key=dg.EnvVar("B3OS_API_KEY"), base_url=os.environ.get("B3OS_BASE_URL")),
            "nekt": NektResource(api_key=dg.EnvVar("NEKT_API_KEY"), base_url=os.environ.get("NEKT_BASE_URL")),
        },
    )


defs = _definitions()
