"""What may know what, and how large it may be, read from the source: the rules that an import linter cannot see."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

import runops
from runops.core import PROVIDERS

PACKAGE = Path(runops.__file__).parent
GENERIC = {
    "airflow": {
        f"runops.airflow.{name}"
        for name in ("arguments", "discovery", "hook", "operator", "runs_operator", "runs_sensor", "sensor")
    },
    "dagster": {"runops.dagster.resource"},
}
LARGEST = {"file": 400, "function": 45, "class": 20, "attributes": 15}
"""Lines of a file and of a function's body without its docstring; methods of a class, and attributes of ``self``."""
STILL_TOO_LARGE = {
    # Airflow stores and shows a task by its arguments: each is an attribute under the same name.
    ("attributes", "airflow/submitting.py:Submitting"): 18,
    # As frozen as the rows in Airflow's database: each argument is an attribute that is stored again.
}
"""What is not taken apart yet, and how large it is today: no entry may grow, and one that is not needed must go."""
LOOKED_AT = (
    *(ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom, ast.ExceptHandler),
    *(ast.Compare, ast.match_case, ast.Constant, ast.Expr),
)
"""What the rules look at; most of a module is names and places that none does."""
WORDS = frozenset(word for provider in PROVIDERS.values() for word, _, _ in provider.states)


def modules(*but: str) -> list[str]:
    """All modules of the package, by their path in it, but those under the given places."""
    found = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
    return [name for name in found if not name.startswith(but)]


@cache
def tree(module: str) -> ast.Module:
    return ast.parse((PACKAGE / module).read_text(encoding="utf-8"), filename=module)


@cache
def nodes(module: str) -> tuple[ast.AST, ...]:
    """Everything in a module that a rule looks at, as :func:`ast.walk` gives it: each module is walked once."""
    return tuple(node for node in ast.walk(tree(module)) if isinstance(node, LOOKED_AT))


@cache
def compared(module: str) -> list[tuple[int, str]]:
    """Every text that a module compares something with, in a comparison or a match, and its line."""
    return list(_compared(nodes(module)))


def _compared(found: Iterable[ast.AST]) -> Iterator[tuple[int, str]]:
    for node in found:
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


def imported(module: str) -> Iterator[str]:
    """Every module that a module imports from."""
    for node in nodes(module):
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
    ours = {name for name in imported(f"{side}/providers/{provider}.py") if name.startswith("runops.")}
    strange = {name for name in ours if not name.startswith("runops.core")} - generic
    assert strange == set()


@pytest.mark.long
@pytest.mark.parametrize("module", modules("core/providers/", "core/model/states.py", "emulator/"))
def test_no_status_word_is_compared_outside_the_declarations(module: str) -> None:
    assert [(line, text) for line, text in compared(module) if text in WORDS] == []


@pytest.mark.parametrize("module", modules("core/providers/", "emulator/"))
def test_no_code_path_depends_on_a_provider_s_name(module: str) -> None:
    assert [(line, text) for line, text in compared(module) if text in PROVIDERS] == []


def texts(module: str) -> Iterator[str]:
    """Every text in a module but its docstrings."""
    standing = {id(node.value) for node in nodes(module) if isinstance(node, ast.Expr)}
    for node in nodes(module):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in standing:
            yield node.value


@pytest.mark.parametrize("module", [name for name in modules("core/providers/") if name.startswith(("core/", "cli/"))])
def test_no_text_of_the_core_and_the_command_line_names_a_provider(module: str) -> None:
    named = re.compile(rf"\b({'|'.join(PROVIDERS)})(\b|_$)", re.IGNORECASE)
    assert [text for text in texts(module) if named.search(text)] == []


@pytest.mark.parametrize("module", modules())
def test_no_error_is_swallowed_unseen(module: str) -> None:
    swallowed = [
        node.lineno
        for node in nodes(module)
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
    assert ("completed" in [text for _, text in _compared(ast.walk(ast.parse(source)))]) is found


def module_name(path: str) -> str:
    return ".".join(["runops", *Path(path).with_suffix("").parts]).removesuffix(".__init__")


def edges(path: str, known: frozenset[str]) -> set[str]:
    """The modules of the package that a file imports, wherever in it: in functions and for types only as well."""
    found: set[str] = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno} imports by dots"
            whole = f"{node.module}"
            found |= {f"{whole}.{each.name}" if f"{whole}.{each.name}" in known else whole for each in node.names}
    return (found & known) - {module_name(path)}


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Every group of modules that reach each other."""
    reached: dict[str, set[str]] = {}
    for start in graph:
        seen: set[str] = set()
        ahead = list(graph[start])
        while ahead:
            module = ahead.pop()
            if module not in seen:
                seen.add(module)
                ahead += graph[module]
        reached[start] = seen
    groups = {frozenset(each for each in reached[start] if start in reached[each]) for start in graph}
    return sorted(sorted(group) for group in groups if group)


def sizes(path: str) -> Iterator[tuple[str, str, int]]:
    """The kind, the name and the size of everything in a file that has a bound."""
    yield "file", path, len((PACKAGE / path).read_text(encoding="utf-8").splitlines())
    for node in nodes(path):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            yield "function", f"{path}:{node.name}", (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
        elif isinstance(node, ast.ClassDef):
            methods = [each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
            yield "class", f"{path}:{node.name}", len(methods)
            yield "attributes", f"{path}:{node.name}", len(set(stored(node)))


def stored(node: ast.ClassDef) -> Iterator[str]:
    """Every attribute that a class sets on ``self``."""
    for each in ast.walk(node):
        match each:
            case ast.Attribute(value=ast.Name(id="self"), ctx=ast.Store()):
                yield each.attr
            case _:
                pass


@pytest.mark.long
def test_no_files_import_each_other_in_a_circle() -> None:
    known = frozenset(module_name(path) for path in modules())
    graph = {module_name(path): edges(path, known) for path in modules()}
    assert graph["runops.core.client.base"] >= {"runops.core.transport.session", "runops.core.model.run"}
    assert circles(graph) == []


def test_the_check_itself_finds_circles() -> None:
    graph: dict[str, set[str]] = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"a"}}
    assert circles(graph) == [["b", "c"]]


@pytest.mark.long
def test_everything_is_small_enough_to_be_read() -> None:
    found = sorted((size, kind, name) for path in modules() for kind, name, size in sizes(path))
    large = {(kind, name): size for size, kind, name in found if size > LARGEST[kind]}
    grown = {key: size for key, size in large.items() if size > STILL_TOO_LARGE.get(key, 0)}
    assert grown == {}, "take these apart"
    assert STILL_TOO_LARGE.keys() - large.keys() == set(), "these are small enough now: delete their entries"
    assert len(found) > 1_000
