"""Each code has a page, each page a code, and all pages say the same kinds of things in the same order."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pkgutil import walk_packages

import pytest

from runops.core.model.codes import Code, Coded
from scripts.error_index import INDEX, exceptions, members, rendered
from tests.error_pages import DOCS, samples

PAGES = sorted(path.stem for path in (DOCS / "errors").glob("*.md") if path.name != "index.md")
HEADINGS = ["What happened", "Why runops does so", "What to do", "What was sent", "Where it shows", "See also"]
INSIDE = frozenset({"PhaseEntered", "_Encrypted", "_Seen", "_NotOver", "OutOfTimeError"})
"""Exceptions that are no error to anybody: one part of the code raises them for another."""
WITH_A_TEXT_OF_ITS_OWN = frozenset({"OutputError", "WrongField"})
"""Those that end their texts with a code without being :class:`Coded`."""


@cache
def classes() -> tuple[type[BaseException], ...]:
    """All exception classes of the core, both hosts and the command line."""

    def found() -> Iterator[type[BaseException]]:
        for package in ("core", "airflow", "dagster", "cli", "testing"):
            root = import_module(f"runops.{package}")
            for info in walk_packages(root.__path__, f"{root.__name__}."):
                module = import_module(info.name)
                for kind in vars(module).values():
                    if inspect.isclass(kind) and issubclass(kind, BaseException) and kind.__module__ == info.name:
                        yield kind

    return tuple(sorted(set(found()), key=lambda kind: (kind.__module__, kind.__name__)))


def test_every_exception_has_a_code() -> None:
    assert len(classes()) > 40
    for kind in classes():
        if not issubclass(kind, Coded) and kind.__name__ not in INSIDE | WITH_A_TEXT_OF_ITS_OWN:
            pytest.fail(f"{kind.__module__}.{kind.__name__} has no code")


def test_an_exception_of_airflow_has_the_code_of_its_twin_in_the_core() -> None:
    from runops.airflow import exceptions as of_airflow
    from runops.core.model import errors

    twins = {name for name in vars(errors) if issubclass(type(getattr(of_airflow, name, None)), type)}
    coded = [name for name in twins if issubclass(getattr(errors, name), Coded) and name != "RunopsException"]
    assert len(coded) >= 7
    for name in coded:
        assert getattr(of_airflow, name).error_code is getattr(errors, name).error_code, name


def test_every_code_has_a_page_and_every_page_a_code() -> None:
    assert sorted(PAGES) == sorted(Code)


def test_the_index_is_made_from_the_sources() -> None:
    text = INDEX.read_text(encoding="utf-8")
    assert rendered(text) == text, "run: python -m scripts.error_index"
    assert [code for _, code, _, _ in members()] == [code.value for code in Code], "each code says what it means"
    known = {kind.__name__ for kind in classes()}
    for names in exceptions().values():
        assert {re.findall(r"`(\w+)`", name)[0] for name in names} <= known


@pytest.mark.parametrize("code", PAGES)
def test_a_page_has_the_parts_of_all_and_a_text_that_ends_with_its_code(code: str) -> None:
    text = (DOCS / "errors" / f"{code}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# `{code}`\n\n")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == HEADINGS
    assert all(len(line) <= 120 for line in text.splitlines())
    shown = samples(f"errors/{code}.md")
    assert shown
    for sample in shown:
        assert sample.endswith(f"[{code}]")
        assert [other for other in Code if f"[{other}]" in sample] == [code]
        assert sample.count(f"[{code}]") == 1


@pytest.mark.parametrize("page", ["skipped", "failed", "waiting", "left_behind"])
def test_a_page_of_whys_leads_from_a_code_to_its_page(page: str) -> None:
    text = (DOCS / "why" / f"{page}.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\[([a-z]+(?:-[a-z]+)*)\]$", "\n".join(samples(f"why/{page}.md")), re.MULTILINE))
    assert named
    assert named <= set(Code)
    for code in named:
        assert f"(../errors/{code}.md)" in text, f"{code} is shown and not linked"
