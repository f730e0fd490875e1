"""What Dagster's pages show of a definition where the user says nothing: its description, and the kind of an asset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from runops.core import PROVIDERS, RunRef
from runops.dagster.tick.plan import Watched

MOST_NAMED = 5
"""Targets that a sensor's description names."""


def kinds_of(resource_key: str) -> set[str]:
    """The kinds of an asset: its provider, where its resource stands under the name of one; none otherwise.

    Dagster shows an icon for the kinds that it knows, and the name of the others.

    Args:
        resource_key: The key of the runops resource.
    """
    return {resource_key} if resource_key in PROVIDERS else set()


def with_kinds(spec: dg.AssetSpec, kinds: set[str]) -> dg.AssetSpec:
    """An asset with these kinds, where the user gives none.

    Args:
        spec: The asset.
        kinds: Ours.
    """
    return spec if spec.kinds or not kinds else spec.replace_attributes(kinds=kinds)


def description_of_step(source: str, resource_key: str) -> str:
    """Of an asset or op that waits for runs.

    Args:
        source: ``call``, ``calls``, ``run_id`` or ``run_ids``.
        resource_key: The key of the runops resource.
    """
    through = f"through the resource `{resource_key}`"
    match source:
        case "call":
            return f"Submits an external run {through} and waits until it is over."
        case "calls":
            return f"Submits many external runs {through} and waits until they are over."
        case "run_ids":
            return f"Waits {through} for external runs that something else starts."
        case _:
            return f"Waits {through} for an external run that something else starts."


def description_of_submit_job(resource_key: str) -> str:
    """Of a job that only submits."""
    return (
        f"Submits an external run through the resource `{resource_key}` and ends. The tags of its Dagster run show how "
        "the external one ended, once a sensor of build_completion_sensor has reported it."
    )


def description_of_completion_sensor(job: str, asset_key: dg.AssetKey) -> str:
    """Of the sensor that reports what such a job has submitted."""
    return f"Reports to {_named(asset_key)} how the external runs ended that the job `{job}` has submitted."


def description_of_sensor(targets: Mapping[dg.AssetKey, Watched], job: str | None) -> str:
    """Of a sensor that reports the runs of its targets.

    Args:
        targets: What is watched, by the asset that it feeds.
        job: The job of which it requests runs, if it does.
    """
    named = [f"{_named(key)} ({_watched(watched)})" for key, watched in list(targets.items())[:MOST_NAMED]]
    more = f" and {len(targets) - MOST_NAMED} more" if len(targets) > MOST_NAMED else ""
    act = f"Requests a run of the job `{job}` for" if job else "Reports to its asset"
    return f"{act} each external run that is over, of: {', '.join(named)}{more}."


def with_defaults(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments for Dagster with ours where the user says nothing.

    An older argument of Dagster's that says what a kind is keeps ours away.

    Args:
        given: What the user gave.
        defaults: Ours.
    """
    ours = {name: value for name, value in defaults.items() if value}
    if "compute_kind" in given:
        ours.pop("kinds", None)
    return {**ours, **given}


def _named(asset_key: dg.AssetKey) -> str:
    return f"`{asset_key.to_user_string()}`"


def _watched(watched: Watched) -> str:
    match watched:
        case str():
            return watched
        case RunRef():
            return "one run"
        case Mapping():
            return ", ".join(f"{kind} {value}" for kind, value in watched.items())
        case Sequence():
            return f"{len(watched)} runs"
