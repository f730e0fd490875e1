"""What a sensor of external runs does, as its builder was given it. It reads nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from runops.core import Provider, RunRef, RunSnapshot

Watched = str | Mapping[str, str] | RunRef | Sequence[RunRef]
"""What a target watches: a parent (an id or name, or ``{kind: id}``), or runs that are given."""


@dataclass(frozen=True, kw_only=True)
class SensorPlan:
    """What a sensor watches and how it reports a run.

    Args:
        resource_key: The key of the runops resource.
        targets: What is watched for each asset.
        seconds: Seconds that a tick may take.
        lookback: Seconds that the first tick looks back.
        on_outcome: Outcome to verdict, as the user gave it.
        end: What else the user says of the end: ``states``, ``expect``, ``on_unmet``, ``soft_fail``.
        limits: What bounds a run that is open: ``max_stalled`` and ``max_spend``.
        requests: Whether runs of a job are requested, and nothing is reported to an asset.
        job: The job whose runs are requested.
        partition_key: The partition that a run belongs to, or None for no partitions.
        partitions: Dynamic partitions to which new keys are added.
        run_config: The configuration of a requested run.
        own: Whether runs that Dagster submitted are reported too.
        deadlines: When the wait for a run ends, in unix seconds, where it has an end.
        cancel_on_timeout: Whether a run is cancelled when its wait ends.
        attached: Runs that somebody else has started, which are never cancelled.
        submitted_in: The ids of the Dagster runs that have submitted the runs, where that is known.
    """

    resource_key: str
    targets: Mapping[dg.AssetKey, Watched]
    seconds: float
    lookback: float = 0.0
    on_outcome: Mapping[str, str] | None = None
    end: Mapping[str, Any] = field(default_factory=dict[str, Any])
    limits: Mapping[str, Any] = field(default_factory=dict[str, Any])
    requests: bool = False
    job: str | None = None
    partition_key: Callable[[RunSnapshot], str | None] | None = None
    partitions: dg.DynamicPartitionsDefinition | None = None
    run_config: Callable[[RunSnapshot], Mapping[str, Any]] | None = None
    own: bool = False
    deadlines: Mapping[RunRef, float] = field(default_factory=dict[RunRef, float])
    cancel_on_timeout: bool = False
    attached: frozenset[RunRef] = frozenset()
    submitted_in: Mapping[RunRef, str] = field(default_factory=dict[RunRef, str])


def given_runs(watched: Watched) -> Sequence[RunRef] | None:
    """The runs of a target that names runs; None where it names a parent."""
    if isinstance(watched, RunRef):
        return [watched]
    return None if isinstance(watched, (str, Mapping)) else watched


def fingerprint(provider: Provider, watched: Watched) -> str:
    """Short and equal for equal parents; all lists of given runs share one, so that adding a run forgets none."""
    if given_runs(watched) is not None:
        return "runs"
    parent = provider.pages.parent(watched)  # pyright: ignore[reportArgumentType]
    return hashlib.sha256(json.dumps([provider.name, parent], sort_keys=True).encode()).hexdigest()[:16]
