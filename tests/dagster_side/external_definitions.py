"""A code location with one sensor, for a daemon of its own. The service is taken from EXTERNAL_URL."""

from __future__ import annotations

import dagster as dg

from runops.dagster import NyxResource, build_run_sensor


@dg.asset(deps=["audit"], automation_condition=dg.AutomationCondition.eager())
def report() -> None: ...


defs = dg.Definitions(
    assets=[dg.AssetSpec("audit"), report],
    sensors=[
        build_run_sensor(
            name="audits",
            resource_key="nyx",
            targets={"audit": "nightly"},
            minimum_interval_seconds=1,
            default_status=dg.DefaultSensorStatus.RUNNING,
        ),
        dg.AutomationConditionSensorDefinition(
            name="follow",
            target=dg.AssetSelection.all(),
            minimum_interval_seconds=1,
            default_status=dg.DefaultSensorStatus.RUNNING,
        ),
    ],
    resources={"nyx": NyxResource(api_key="a-key", base_url=dg.EnvVar("EXTERNAL_URL"))},
)
