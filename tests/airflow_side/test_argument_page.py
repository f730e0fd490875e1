"""The page of arguments says of each class what it takes: every name, as the signatures and docstrings have it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import runops.airflow
from runops.airflow.arguments import names_of

argument_tables = pytest.importorskip(
    "scripts.argument_tables", reason="the page is made in the project's own environment, where scripts can be imported"
)
PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "arguments_airflow.md"
NOT_FOR_USERS = {"RunTrigger", "RunsTrigger"}
"""What tasks defer to: made from rows of Airflow's database, never by hand."""
SHOWN = [name for name in runops.airflow.__all__ if name not in NOT_FOR_USERS]
ARGUMENTS = "runops.airflow.arguments."
TASKS = [name for name in SHOWN if name.endswith(("Sensor", "Operator"))]

ROWS = {
    found[1]: {row[1]: row[2] for row in re.finditer(r"^\| `(\w+)` .*\| ([^|]*) \|$", found[2], re.MULTILINE)}
    for found in re.finditer(r"<!-- arguments: ([\w.]+).*?-->\n(.*?)<!-- end -->", PAGE.read_text(), re.DOTALL)
}
"""What stands on the page: for each table the arguments, and what the last column says of them."""


def test_the_page_is_the_one_that_the_classes_give() -> None:
    text = PAGE.read_text()
    assert argument_tables.rendered(text) == text, "run: python -m scripts.argument_tables"


def test_the_page_shows_every_public_class_and_function() -> None:
    asked = argument_tables.asked_for(PAGE.read_text())
    assert sorted(name.removeprefix("runops.airflow.") for name in asked if ".arguments." not in name) == sorted(SHOWN)


@pytest.mark.parametrize("name", TASKS)
def test_the_tables_of_a_class_and_of_what_it_is_like_name_all_that_it_takes(name: str) -> None:
    kind: Any = getattr(runops.airflow, name)
    single, of_host = (
        ("RunSensor", {ARGUMENTS + "SensorArguments"}) if name.endswith("Sensor") else ("RunOperator", set())
    )
    alike = {each.__name__ for each in kind.__mro__ if each.__name__ in SHOWN} | {single}
    tables = [f"runops.airflow.{each}" for each in alike] + sorted(of_host) + [ARGUMENTS + "TaskArguments"]
    shown = {argument for table in tables for argument in ROWS[table]}
    assert names_of(kind) <= shown


@pytest.mark.parametrize("name", ROWS)
def test_a_table_says_what_each_argument_is_but_for_airflows_own(name: str) -> None:
    if name != ARGUMENTS + "TaskArguments":
        silent = [argument for argument, says in ROWS[name].items() if len(says) < 10 and argument != "logger_name"]
        assert silent == []


def test_defaults_units_and_templates_are_read_from_the_class() -> None:
    rows = {row.name: row for row in argument_tables.arguments_of(runops.airflow.NyxRunOperator)}
    assert (rows["config_name"].default, rows["config_name"].templated) == ("required", True)
    assert (rows["budget_usd"].unit, rows["budget_usd"].type) == ("USD", "float | str")
    assert (rows["error_budget"].unit, rows["error_budget"].templated) == ("s", False)
    assert rows["nyx_conn_id"].default == '`"nyx_default"`'
    assert rows["deferrable"].default == "Airflow's `operators.default_deferrable`"


def test_a_table_that_is_not_as_the_class_is_made_anew() -> None:
    name = "runops.airflow.NexioHook"
    page = f"<!-- arguments: {name} without runops.airflow.arguments.HookSettings -->\n| stale |\n<!-- end -->\n"
    made = argument_tables.rendered(page)
    assert "stale" not in made
    assert '| `nexio_conn_id` | `str` | `"nexio_default"` |' in made
