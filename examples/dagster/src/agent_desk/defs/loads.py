"""Runs that Dagster did not start: a sensor finds the loads that Nekt's own schedule starts, and reports their ends."""

from __future__ import annotations

import dagster as dg

from runops.dagster import build_run_check, build_run_sensor

LOADS = {"crm/orders": {"pipeline": "crm-orders"}, "crm/customers": {"pipeline": "crm-customers"}}
"""An asset outside of Dagster, and whose runs feed it."""


# A load that succeeded materialises its asset, and only a materialisation moves what is downstream.
@dg.asset(
    deps=[dg.AssetKey(["crm", "orders"])], automation_condition=dg.AutomationCondition.eager(), group_name="loads"
)
def orders_report() -> None:
    """Made anew after each load of the orders."""


# In a file with @dg.definitions Dagster takes what the function returns, and nothing else that stands in it.
@dg.definitions
def loads() -> dg.Definitions:
    """The loads, how their last runs ended, and the sensor that tells it."""
    return dg.Definitions(
        assets=[
            *(dg.AssetSpec(key.split("/"), group_name="loads", kinds={"nekt"}) for key in LOADS),
            orders_report,
        ],
        # The sensor's reports show on the asset's page once a check of that name is defined. It can be run by hand
        # too, and then judges the newest run.
        asset_checks=[build_run_check(asset=key, resource_key="nekt", parent=parent) for key, parent in LOADS.items()],
        sensors=[
            build_run_sensor(
                name="loads_elsewhere",
                resource_key="nekt",
                targets=LOADS,
                minimum_interval_seconds=15,
                default_status=dg.DefaultSensorStatus.RUNNING,
            )
        ],
    )
