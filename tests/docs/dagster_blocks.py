"""Uses what a block made of Dagster: materialises its assets, executes its jobs, evaluates its sensors."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster.components.testing import create_defs_folder_sandbox

import runops.dagster
from runops.core import PROVIDERS
from runops.dagster.component import RunopsComponent
from scripts.documentation.blocks import Block
from tests.dagster_storage import local_instance
from tests.docs.world import World

ASSETS = "assets"
"""The run in which all assets are materialised."""


def resources() -> dict[str, Any]:
    """The five resources under the names of their services."""
    return {
        name: getattr(runops.dagster, f"{name.capitalize()}Resource")(api_key=dg.EnvVar(provider.key_variable))
        for name, provider in PROVIDERS.items()
    }


def definitions_of(made: Iterable[Any]) -> list[dg.Definitions]:
    """What a block made, as definitions: its own, or all that stands in none with the five resources."""
    values = list(made)
    own = [value for value in values if isinstance(value, dg.Definitions)]
    if own:
        return own
    jobs = [value for value in values if isinstance(value, (dg.JobDefinition, UnresolvedAssetJobDefinition))]
    jobs += [_job_of(value) for value in values if isinstance(value, dg.OpDefinition)]
    parts: dict[str, Any] = {
        "assets": [value for value in values if isinstance(value, (dg.AssetsDefinition, dg.AssetSpec))],
        "asset_checks": [value for value in values if isinstance(value, dg.AssetChecksDefinition)],
        "jobs": jobs,
        "sensors": [value for value in values if isinstance(value, dg.SensorDefinition)],
        "schedules": [value for value in values if isinstance(value, dg.ScheduleDefinition)],
    }
    parts["assets"] = [value for value in parts["assets"] if not any(value is check for check in parts["asset_checks"])]
    return [dg.Definitions(**parts, resources=resources())] if any(parts.values()) else []


def _job_of(op: dg.OpDefinition) -> dg.JobDefinition:
    return dg.GraphDefinition(name=f"job_of_{op.name}", node_defs=[op]).to_job()


def use(definitions: dg.Definitions, block: Block, world: World) -> None:
    """Materialise, execute and evaluate everything; runs succeed where the comment does not say otherwise.

    Raises:
        AssertionError: They do not.
    """
    only = block.options.get("only")

    def wanted(name: str) -> bool:
        return only is None or name in only

    repository = definitions.get_repository_def()
    ends: dict[str, str] = {}
    with local_instance(world.folder / "dagster" / block.name) as instance:
        settings: dict[str, Any] = {"instance": instance, "raise_on_error": False}
        for job in repository.get_all_jobs():
            name = ASSETS if job.name.startswith("__ASSET_JOB") else job.name
            if not wanted(name) or not job.nodes:
                continue
            if name == ASSETS or block.options.get("run_config"):
                settings["partition_key"] = block.options.get("partition")
            config = world.filled(block.options.get("run_config", {})) if name != ASSETS else {}
            result = job.execute_in_process(run_config=config, **settings)
            ends[name] = "success" if result.success else "failed"
        for sensor in repository.sensor_defs:
            if wanted(sensor.name):
                sensor.evaluate_tick(
                    dg.build_sensor_context(
                        instance=instance, repository_def=repository, resources=repository.get_top_level_resources()
                    )
                )
                ends[sensor.name] = "success"
        for schedule in repository.schedule_defs:
            if wanted(schedule.name):
                schedule.evaluate_tick(dg.build_schedule_context(instance=instance, repository_def=repository))
                ends[schedule.name] = "success"
    expected = dict.fromkeys(ends, "success") | block.options.get("ends", {})
    assert ends == expected, f"{block.where}: runs end otherwise than the page says"


def use_file(block: Block, world: World) -> None:
    """Load a ``defs.yaml`` as Dagster does, and use what it describes."""
    with create_defs_folder_sandbox() as sandbox:
        path = sandbox.scaffold_component(RunopsComponent, defs_path=block.name)
        (Path(path) / "defs.yaml").write_text(block.text, encoding="utf-8")
        with sandbox.build_all_defs() as definitions:
            use(definitions, block, world)
