"""What all other files use: the services, the partitions, and how steps are run."""

from __future__ import annotations

import os

import dagster as dg

from runops.dagster import B3osResource, NektResource, NexioResource, NyxResource, OnepinResource

REGIONS = dg.StaticPartitionsDefinition(["north", "south"])


@dg.definitions
def shared() -> dg.Definitions:
    """What belongs to no single file."""
    return dg.Definitions(
        # A key is named and never held: Dagster shows the variable's name and nothing else. Each address may be
        # that of the emulator; without the variable it is the public one.
        resources={
            "nexio": NexioResource(api_key=dg.EnvVar("NEXIO_API_KEY"), base_url=os.environ.get("NEXIO_BASE_URL")),
            "nyx": NyxResource(api_key=dg.EnvVar("NYX_TOKEN"), base_url=os.environ.get("NYX_BASE_URL")),
            "b3os": B3osResource(api_key=dg.EnvVar("B3OS_API_KEY"), base_url=os.environ.get("B3OS_BASE_URL")),
            "onepin_by_hand": OnepinResource(
                api_key=dg.EnvVar("ONEPIN_API_KEY"), base_url=os.environ.get("ONEPIN_BASE_URL")
            ),
            "nekt": NektResource(api_key=dg.EnvVar("NEKT_API_KEY"), base_url=os.environ.get("NEKT_BASE_URL")),
        },
        # The steps mostly wait, so that a process of its own for each would be wasted.
        executor=dg.in_process_executor,
        # Dagster's own sensor for automation conditions does not run unless somebody switches it on.
        sensors=[
            dg.AutomationConditionSensorDefinition(
                "automation", target=dg.AssetSelection.all(), default_status=dg.DefaultSensorStatus.RUNNING
            )
        ],
    )
