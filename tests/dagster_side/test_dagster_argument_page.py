"""The page of arguments: made from the signatures, complete, and with words for each argument of ours."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import runops.dagster
from runops.dagster.builders import arguments
from runops.dagster.options import names_of
from scripts import argument_tables

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "arguments_dagster.md"
LIKE_NEXIO = {"NyxResource", "NektResource"}
"""Resources without a field of their own."""
NOT_CALLED = {"ProviderResource", "RunResult", "RunsResult"}
"""A base class, and what functions give."""
SHOWN = sorted(set(runops.dagster.__all__) - LIKE_NEXIO - NOT_CALLED)
DAGSTERS = tuple(
    f"runops.dagster.builders.arguments.{name}"
    for name in (
        "AssetArguments", "MultiAssetArguments", "OpArguments", "CheckArguments", "JobArguments", "SensorArguments",
    )
)  # fmt: skip

ROWS = {
    found[1]: {row[1]: row[2] for row in re.finditer(r"^\| `(\w+)` .*\| ([^|]*) \|$", found[2], re.MULTILINE)}
    for found in re.finditer(r"<!-- arguments: ([\w.]+).*?-->\n(.*?)<!-- end -->", PAGE.read_text(), re.DOTALL)
}
"""What stands on the page: for each table the arguments, and what the last column says of them."""


def test_the_page_is_the_one_that_the_signatures_give() -> None:
    text = PAGE.read_text()
    assert argument_tables.rendered(text) == text, "run: python -m scripts.argument_tables"


def test_the_page_shows_every_public_function_and_resource() -> None:
    asked = {name.removeprefix("runops.dagster.") for name in ROWS}
    assert sorted(name for name in asked if "." not in name) == SHOWN


@pytest.mark.parametrize("name", sorted(LIKE_NEXIO))
def test_resources_that_share_a_table_have_the_same_fields(name: str) -> None:
    kind: Any = getattr(runops.dagster, name)
    assert set(kind.model_fields) == set(runops.dagster.NexioResource.model_fields)


@pytest.mark.parametrize(
    ("builder", "kind"),
    [
        ("build_run_asset", arguments.RunAssetArguments),
        ("build_run_multi_asset", arguments.RunMultiAssetArguments),
        ("build_run_op", arguments.RunOpArguments),
        ("build_run_check", arguments.RunCheckArguments),
        ("build_submit_job", arguments.SubmitJobArguments),
    ],
)
def test_what_a_builder_takes_stands_in_its_tables(builder: str, kind: type) -> None:
    tables = (
        f"runops.dagster.{builder}",
        "runops.dagster.options.StepSettings",
        "runops.core.many.rules.ManySettings",
        *DAGSTERS,
    )
    shown = {argument for table in tables for argument in ROWS[table]}
    assert names_of(kind) <= shown


@pytest.mark.parametrize("name", [name for name in ROWS if name not in DAGSTERS])
def test_a_table_says_what_each_argument_is(name: str) -> None:
    assert [argument for argument, says in ROWS[name].items() if len(says) < 10] == []


def test_durations_have_their_unit_and_defaults_are_shown() -> None:
    rows = {row.name: row for row in argument_tables.arguments_of(runops.dagster.build_completion_sensor)}
    assert (rows["timeout"].unit, rows["timeout"].default) == ("s", "`604800`")
    assert rows["asset"].default == "required"
