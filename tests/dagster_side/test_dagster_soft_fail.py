"""``soft_fail`` in Dagster: failed, cancelled and timed_out are skips, in steps, in sensors and from ``defs.yaml``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest

from runops.core import ConfigurationError
from runops.dagster import build_run_asset, build_run_sensor
from runops.dagster.component.model import RunAssets
from tests.dagster_side.test_dagster_sensors import Daemon

WARNED = (False, dg.AssetCheckSeverity.WARN)


def asset(script: str, **options: Any) -> dg.AssetsDefinition:
    call = {"engine_slug": "placement", "input": {"emulator": {"script": script, "seconds": 5}}}
    return build_run_asset(key="external", resource_key="nexio", call=call, **options)


def test_a_failed_run_of_a_soft_asset_leaves_the_asset_and_a_green_run(service: Callable[[str], Any]) -> None:
    ended = service("nexio").materialize(asset("failed", soft_fail=True))
    assert (ended.success, ended.materialized, ended.checks_of) == (True, [], {"external": WARNED})
    assert not service("nexio").materialize(asset("failed")).success


def test_a_soft_wait_that_times_out_is_a_skip_and_on_outcome_wins(service: Callable[[str], Any]) -> None:
    ended = service("nexio").materialize(asset("forever", soft_fail=True, timeout=60))
    assert (ended.success, ended.materialized) == (True, [])
    hard = service("nexio").materialize(asset("failed", soft_fail=True, on_outcome={"failed": "fail"}))
    assert not hard.success


def test_a_soft_sensor_reports_a_failed_run_as_a_skip(service: Callable[[str], Any], clock: Any) -> None:
    runs = service("nyx")
    parent = {"config_name": "playground"}
    runs.made(script="failed", seconds=1, parents=parent)
    clock.now += 60
    for soft, severity in ((True, dg.AssetCheckSeverity.WARN), (False, dg.AssetCheckSeverity.ERROR)):
        sensor = build_run_sensor(name=f"sees_{soft}", resource_key="nyx", targets={"audit": parent}, soft_fail=soft)
        data = Daemon(runs, sensor, runs.instance).evaluate()
        (check,) = [event for event in data.asset_events if isinstance(event, dg.AssetCheckEvaluation)]
        assert (check.passed, check.severity) == (False, severity)


def test_soft_fail_is_a_field_of_defs_yaml_and_anything_else_than_a_truth_value_is_refused() -> None:
    assert "soft_fail" in RunAssets.model_fields
    with pytest.raises(ConfigurationError, match=r"soft_fail must be True or False, not 'no'\."):
        asset("failed", soft_fail="no")
