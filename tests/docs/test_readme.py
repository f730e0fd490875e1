"""The README is one screen of purpose with a picture, two quick starts, and the way in."""

from __future__ import annotations

import re

import dagster as dg

from scripts.documentation.blocks import ROOT, blocks_of

README = (ROOT / "README.md").read_text(encoding="utf-8")
STARTS = [block for block in blocks_of("README.md") if block.language == "python"]


def test_it_stays_short() -> None:
    assert len(README.splitlines()) <= 120
    prose = re.sub(r"^```.*?^```|^<!--.*?-->$", "", README, flags=re.MULTILINE | re.DOTALL)
    assert len(prose.split()) <= 450


def test_it_has_one_picture_and_a_quick_start_for_each_host() -> None:
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)
    assert len(pictures) == 1
    assert (ROOT / pictures[0]).is_file()
    assert ["airflow" in block.text for block in STARTS] == [True, False]
    assert all(block.path and block.reason is None for block in STARTS)


def test_the_assets_of_the_dagster_start_depend_on_each_other() -> None:
    names = {"__name__": "readme"}
    exec(compile(STARTS[1].padded, "README.md", "exec"), names)
    graph = names["defs"].resolve_asset_graph()  # pyright: ignore[reportAttributeAccessIssue]
    assert graph.get(dg.AssetKey("audit_report")).parent_keys == {dg.AssetKey("audit")}
