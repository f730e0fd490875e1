"""All that is private or bound to a version of Airflow stands in one module of the side."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import BaseHook, BaseOperator, BaseOperatorLink, BaseSensorOperator
from airflow.triggers.base import BaseEventTrigger, BaseTrigger

import runops.airflow

SIDE = Path(runops.airflow.__file__).parent
MODULES = sorted(
    path.relative_to(SIDE).as_posix()
    for path in SIDE.rglob("*.py")
    if path.name not in ("_compat.py", "_provider_info.py")
)
BASES: tuple[type[Any], ...] = (
    BaseHook, BaseOperator, BaseOperatorLink, BaseSensorOperator, BaseTrigger, BaseEventTrigger,
)  # fmt: skip
PUBLIC = ("airflow", "airflow.plugins_manager", "airflow.sdk", "airflow.sdk.log", "airflow.triggers.base")
OPTIONAL = ("airflow.providers.openlineage.extractors",)


def private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def parsed(module: str) -> ast.Module:
    return ast.parse((SIDE / module).read_text(encoding="utf-8"))


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_airflow_documents(module: str) -> None:
    for node in ast.walk(parsed(module)):
        if isinstance(node, ast.Import):
            assert not [each.name for each in node.names if each.name.partition(".")[0] == "airflow"]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "airflow":
            assert node.module in (*PUBLIC, *OPTIONAL)
            assert not [each.name for each in node.names if private(each.name) and not each.name.startswith("__")]


@pytest.mark.parametrize("module", MODULES)
def test_a_class_uses_and_replaces_nothing_private_of_airflows(module: str) -> None:
    theirs = {name for base in BASES for name in dir(base) if private(name)}
    loaded = import_module(".".join(["runops.airflow", *Path(module).with_suffix("").parts]).removesuffix(".__init__"))
    for node in parsed(module).body:
        if isinstance(node, ast.ClassDef) and issubclass(getattr(loaded, node.name), BASES):
            names = {each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute)}
            names |= {each.name for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
            assert names & theirs == set(), node.name


def test_the_one_module_says_of_each_use_why_nothing_public_serves() -> None:
    source = (SIDE / "_compat.py").read_text(encoding="utf-8")
    for function in ("supervisor", "task_state_of", "asset_state_stores", "template_environment", "RenderedTask"):
        node = next(node for node in ast.parse(source).body if getattr(node, "name", None) == function)
        assert "Private" in (ast.get_source_segment(source, node) or ""), function
