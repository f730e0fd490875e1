"""Every public name has an entry in the documentation, and each of its parameters says what it is."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from runops.core.waiting.options import SubmitOptions
from scripts.argument_tables import arguments_of
from scripts.documentation.api import MODULES, entries, public_names
from scripts.documentation.blocks import DOCS

PAGES = {page: page.read_text(encoding="utf-8") for page in sorted((DOCS / "reference" / "api").glob("*.md"))}
NAMES = [(module, name) for module in MODULES for name in public_names(module)]
WITH_METHODS = frozenset({"RunClient", "AsyncRunClient", "RunHook"})
"""Classes of which people call methods, beside the resources."""


def described(module: str, name: str) -> Iterator[tuple[str, Any]]:
    """A class or function and the public methods of ours that it has, by name."""
    value = public_names(module)[name]
    if inspect.isroutine(value) or inspect.isclass(value):
        yield name, value
    if name in WITH_METHODS or name.endswith("Resource"):
        for method, function in vars(value).items():
            plain = inspect.unwrap(getattr(function, "__func__", function))
            if not method.startswith("_") and inspect.isfunction(plain) and plain.__module__.startswith("runops."):
                yield f"{name}.{method}", plain


@cache
def said_elsewhere(module: str) -> frozenset[str]:
    """What the host itself describes, and what one class of ours says for others that take the same."""
    hosts: list[Any] = []
    ours: list[Any] = []
    if module == "runops.airflow":
        from airflow.sdk import BaseHook, BaseOperator, BaseSensorOperator

        hosts = [BaseOperator, BaseSensorOperator, BaseHook]
        ours = [public_names(module)[name] for name in ("RunOperator", "RunSensor")]
    if module == "runops.dagster":
        import dagster as dg
        from dagster import asset, asset_check, multi_asset, op

        hosts = [asset, asset_check, multi_asset, op, dg.SensorDefinition, dg.JobDefinition, dg.define_asset_job]
        hosts += [dg.GraphDefinition.to_job, dg.sensor, dg.job]
        # The submit of a resource takes what its call takes, and says so.
        ours = [
            getattr(value, "call", None) for name, value in public_names(module).items() if name.endswith("Resource")
        ]
        ours = [SubmitOptions, *(call for call in ours if call is not None)]
    if module == "runops.core":
        ours = [function for name, function in described(module, "RunClient") if "." in name]
    said = {each.name for target in ours for each in arguments_of(target) if each.says}
    return frozenset(said.union(*(inspect.signature(host).parameters for host in hosts)))


@pytest.mark.parametrize("module", MODULES)
def test_each_module_has_a_page_with_all_its_names(module: str) -> None:
    (page,) = [page for page, text in PAGES.items() if f"```{{public-names}} {module}\n" in text]
    written = entries(module)
    for name in public_names(module):
        assert f"{module}.{name}\n" in written or f"`{name} <runops." in written, f"{page.name} lacks {name}"


@pytest.mark.parametrize(("module", "name"), NAMES, ids=lambda part: part)
def test_a_public_name_says_what_it_is_and_so_does_each_parameter(module: str, name: str) -> None:
    missing: list[str] = []
    for shown, value in described(module, name):
        if not inspect.getdoc(value):
            missing.append(f"{shown} says nothing")
        if inspect.isclass(value) and issubclass(value, BaseException):
            continue
        missing += [
            f"{shown}({each.name})"
            for each in arguments_of(value)
            if not each.says and each.name not in said_elsewhere(module) and each.name != "cls"
        ]
    assert not missing, "no description: " + ", ".join(missing)
