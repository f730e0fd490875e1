"""docs/project/architecture.md speaks of files and names that are there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import runops

PACKAGE = Path(runops.__file__).parent
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "project" / "architecture.md").read_text()
FILES = sorted(set(re.findall(r"`((?:core|airflow|dagster)/[\w/]+\.py)`", PAGE)))
NAMES = sorted(set(re.findall(r"`([A-Z]\w+)\.(\w+)`", PAGE)))


@cache
def methods() -> set[tuple[str, str]]:
    """Of all classes of the package, by class and name."""
    return {
        (node.name, each.name)
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
        for each in node.body
        if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef))
    }


def test_there_is_something_to_check() -> None:
    assert len(FILES) > 20
    assert len(NAMES) > 5


@pytest.mark.parametrize("file", FILES)
def test_a_file_of_the_walks_is_there(file: str) -> None:
    assert (PACKAGE / file).is_file()


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES, ids=".".join)
def test_a_method_of_the_walks_is_there(name: tuple[str, str]) -> None:
    assert name in methods()
