"""What may know what, read from the source: the rules that an import linter cannot see."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import runops
from runops.core import PROVIDERS

PACKAGE = Path(runops.__file__).parent
GENERIC = {
    "airflow": {f"runops.airflow.{name}" for name in ("discovery", "hook", "link", "operator", "sensor")},
    "dagster": {"runops.dagster.resource"},
}
WORDS = frozenset(word for provider in PROVIDERS.values() for word, _, _ in provider.states)


def modules(*but: str) -> list[str]:
    """All modules of the package, by their path in it, but those under the given places."""
    found = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
    return [name for name in found if not name.startswith(but)]


def tree(module: str) -> ast.Module:
    return ast.parse((PACKAGE / module).read_text(encoding="utf-8"), filename=module)


def compared(module: ast.Module) -> Iterator[tuple[int, str]]:
    """Every text that a module compares something with, in a comparison or a match, and its line."""
    for node in ast.walk(module):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
        elif isinstance(node, ast.match_case):
            sides = [node.pattern]
        else:
            continue
        for side in sides:
            for leaf in ast.walk(side):
                if isinstance(leaf, ast.Constant) and isinstance(leaf.value, str):
                    yield leaf.lineno, leaf.value


def imported(module: ast.Module) -> Iterator[str]:
    """Every module that a module imports from."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_there_is_something_to_check() -> None:
    assert {"core/model/run.py", "core/providers/nexio.py", "cli/__init__.py"} <= set(modules())
    assert {"processing", "completed", "waiting", "pending_events"} <= WORDS


@pytest.mark.parametrize(("side", "generic"), GENERIC.items())
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_thin_module_imports_only_its_generic_parents_and_the_core(
    side: str, generic: set[str], provider: str
) -> None:
    ours = {name for name in imported(tree(f"{side}/providers/{provider}.py")) if name.startswith("runops.")}
    strange = {name for name in ours if not name.startswith("runops.core")} - generic
    assert strange == set()


@pytest.mark.parametrize("module", modules("core/providers/", "core/model/states.py", "emulator/"))
def test_no_status_word_is_compared_outside_the_declarations(module: str) -> None:
    assert [(line, text) for line, text in compared(tree(module)) if text in WORDS] == []


@pytest.mark.parametrize("module", modules("core/providers/", "emulator/"))
def test_no_code_path_depends_on_a_provider_s_name(module: str) -> None:
    assert [(line, text) for line, text in compared(tree(module)) if text in PROVIDERS] == []


@pytest.mark.parametrize("module", modules())
def test_no_error_is_swallowed_unseen(module: str) -> None:
    swallowed = [
        node.lineno
        for node in ast.walk(tree(module))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or (isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException")))
        and all(isinstance(statement, ast.Pass) for statement in node.body)
    ]
    assert swallowed == []


@pytest.mark.parametrize("module", modules())
def test_every_module_says_what_lives_in_it(module: str) -> None:
    assert ast.get_docstring(tree(module)), module


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("if status == 'completed': pass", True),
        ("if 'completed' in seen: pass", True),
        ("match status:\n    case 'completed': pass", True),
        ("done = status in ('failed', 'completed')", True),
        ("word = 'completed'", False),
    ],
)
def test_the_check_itself_finds_each_form_of_comparison(source: str, found: bool) -> None:
    assert ("completed" in [text for _, text in compared(ast.parse(source))]) is found
