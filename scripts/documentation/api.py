"""Pages of the public names: an entry for each name that a module exports, made from its docstring and signature.

A page of ``docs/reference/api`` says ``{public-names} package.module`` where the names of that module are to stand.
"""

from __future__ import annotations

import ast
import enum
import importlib
import inspect
import re
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.ext.napoleon.docstring import GoogleDocstring

from scripts.argument_tables import arguments_of

MODULES = (
    "runops.core",
    "runops.core.declaration",
    "runops.airflow",
    "runops.airflow.exceptions",
    "runops.dagster",
    "runops.emulator",
    "runops.testing",
    "runops.conformance",
)
"""Those whose names a release may not take away without saying so first."""
WHOLE = frozenset({"RunClient", "AsyncRunClient"})
"""Classes that are shown with what they inherit."""
ROOT = Path(__file__).resolve().parents[2]
_ROLE = re.compile(r"(?P<role>:(?:class|exc|meth|func|attr|data):`)~?(?P<name>[A-Z]\w*(?:\.\w+)?)(?P<end>`)")
_MODULE = re.compile(r":mod:`~?([\w.]+)`")
_RAISES = re.compile(r"^(?P<role>:raises )(?P<name>[A-Z]\w*)(?P<end>:)")
_PARAM = re.compile(r"\s*:param (?:[^:]* )?[\\*]*(\w+):")
_TICKS = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_KEPT: dict[str, list[str]] = {}
_FENCE = re.compile(r"^```\{public-names\} (?P<module>[\w.]+)\n```$", re.MULTILINE)


@cache
def public_names(module: str) -> dict[str, Any]:
    """What a module exports, by name: ``__all__``, or the classes that it defines itself where there is none."""
    loaded = importlib.import_module(module)
    listed = getattr(loaded, "__all__", None)
    if listed is None:
        own = (name for name, value in vars(loaded).items() if inspect.isclass(value) and value.__module__ == module)
        listed = [name for name in own if not name.startswith("_")]
    return {name: getattr(loaded, name) for name in sorted(listed)}


def directive_of(value: Any) -> str:
    """How Sphinx describes such a value."""
    if inspect.isclass(value):
        return "autoexception" if issubclass(value, BaseException) else "autoclass"
    return "autofunction" if inspect.isroutine(value) else "autodata"


def entries(module: str) -> str:
    """The directives of all public names of a module, in reStructuredText; one that stands elsewhere leads there."""
    homes = _homes()
    return "\n".join(
        _entry(module, name, value)
        if homes[name, id(value)] == module
        else f":py:obj:`{name} <{homes[name, id(value)]}.{name}>`\n"
        for name, value in public_names(module).items()
    )


@cache
def _homes() -> dict[tuple[str, int], str]:
    """The first module that exports a value. Also imports all of them before Sphinx describes the first one, which
    changes the annotations of the classes that others derive from."""
    homes: dict[tuple[str, int], str] = {}
    for module in MODULES:
        for name, value in public_names(module).items():
            homes.setdefault((name, id(value)), module)
    return homes


def _entry(module: str, name: str, value: Any) -> str:
    directive = directive_of(value)
    if directive == "autodata":
        said = [f"   {line}" for line in _said_of(name, value).splitlines()]
        return "\n".join([f".. py:data:: {module}.{name}", "", *said]) + "\n"
    lines = [f".. {directive}:: {module}.{name}"]
    if directive != "autofunction":
        lines += ["   :members:", "   :show-inheritance:"]
        if name in WHOLE:
            lines.append("   :inherited-members:")
    return "\n".join(lines) + "\n"


def _read(app: Sphinx, name: str, content: list[str]) -> None:
    content[0] = _FENCE.sub(lambda found: f"```{{eval-rst}}\n{entries(found['module'])}```", content[0])


# --- docstrings ---


def _plain(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Hide an attribute's docstring from napoleon, which takes the words before its first colon for a type."""
    if what in ("attribute", "property", "data"):
        _KEPT[name] = list(lines)
        lines.clear()


def _whole(app: Sphinx, what: Any, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """After napoleon: what ``__init__`` says, the arguments that a ``**`` mapping brings along, and whole names."""
    if what in ("attribute", "property", "data"):
        lines[:] = _KEPT.pop(name)
    made = vars(value).get("__init__") if isinstance(value, type) else None
    text = inspect.cleandoc(getattr(made, "__doc__", None) or "")
    if text:
        lines += ["", *GoogleDocstring(text, app.config, app, what, name, value, options).lines()]
    if what == "module":
        # Modules are described where a page asks for one; a mention of another one leads nowhere.
        lines[:] = [_MODULE.sub(r"``\1``", line) for line in lines]
    if what in ("class", "function", "method"):
        _add_arguments(name, value, lines)
    lines[:] = [_RAISES.sub(lambda found: _qualified(found, name), line) for line in lines]
    lines[:] = [_ROLE.sub(lambda found: _qualified(found, name), line) for line in lines]


def _said_of(name: str, value: Any) -> str:
    """The string below the assignment of a constant, wherever in the package that is."""
    for path in sorted((ROOT / "src" / "runops").rglob("*.py")):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        for node, after in pairwise(body):
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            is_it = any(isinstance(each, ast.Name) and each.id == name for each in targets)
            if is_it and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                return inspect.cleandoc(str(after.value.value))
    raise LookupError(f"no text stands below {name}")


def _add_arguments(name: str, value: Any, lines: list[str]) -> None:
    if isinstance(value, type) and issubclass(value, (enum.Enum, BaseException)):
        return
    if name.startswith("runops.airflow."):
        if getattr(value, "__name__", None) in _tabled():
            lines += ["", f":doc:`Every argument </reference/arguments_airflow>` of ``{value.__name__}``.", ""]
        return
    said = {found[1] for line in lines if (found := _PARAM.match(line))}
    missing = [each for each in arguments_of(value) if each.name not in said and each.says]
    if not missing:
        return
    while lines and not lines[-1].strip():
        lines.pop()
    if not any(line.startswith(":") for line in lines):
        lines.append("")
    for each in missing:
        default = f" Default: {each.default}." if each.default not in ("", "required") else ""
        text = _TICKS.sub(r"``\1``", f"{each.says}{default}".replace("&lt;", "<")).replace(" http:// ", " ``http://`` ")
        lines += [f":param {each.name}: {text}", f":type {each.name}: ``{each.type}``"]
    lines.append("")


@cache
def _tabled() -> frozenset[str]:
    """The classes whose arguments have a table."""
    page = ROOT / "docs" / "reference" / "arguments_airflow.md"
    return frozenset(re.findall(r"<!-- arguments: runops\.airflow\.(\w+)", page.read_text(encoding="utf-8")))


def _qualified(found: re.Match[str], side: str) -> str:
    """A role or field with the whole name of a public class: its own side's where both have one of that name.

    What is not public has no entry: its name stands there as it is.
    """
    name, _, member = found["name"].partition(".")
    role, end = found["role"], found["end"]
    order = [each for each in MODULES if each.startswith(".".join(side.split(".")[:2]))]
    for module in (*order, *(each for each in MODULES if "airflow" not in each)):
        if name in public_names(module):
            tilde = "~" if end == "`" else ""
            return f"{role}{tilde}{module}.{name}" + (f".{member}" if member else "") + end
    return f"``{found['name']}``" if end == "`" else found[0]


def setup(app: Sphinx) -> dict[str, Any]:
    """What Sphinx calls."""
    app.connect("builder-inited", lambda app: _homes())
    app.connect("source-read", _read)
    app.connect("autodoc-process-docstring", _plain, priority=100)
    app.connect("autodoc-process-docstring", _whole, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
