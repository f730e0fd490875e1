"""The README's Dagster examples load as they stand."""

from __future__ import annotations

from typing import Any

import dagster as dg


def test_the_readme_s_dagster_example_loads_and_its_assets_depend_on_each_other(readme_examples: list[str]) -> None:
    (example,) = [example for example in readme_examples if "runops.dagster" in example]
    names: dict[str, Any] = {"__name__": "readme"}
    exec(compile(example, "README.md", "exec"), names)
    graph = names["defs"].resolve_asset_graph()
    audit = dg.AssetKey(["security", "audit"])
    assert graph.get(dg.AssetKey("audit_report")).parent_keys == {audit}
