"""The tables of arguments in docs/reference, from signatures and docstrings: ``python -m scripts.argument_tables``.

A page asks for a table by a comment and its end, and what stands between them is written anew:

    <!-- arguments: runops.airflow.NexioRunSensor without runops.airflow.arguments.RunSensorSettings -->
    <!-- end -->

The first name is a class, a function or a TypedDict; what the TypedDicts behind ``without`` have is left out, since
another table shows it. ``--check`` compares and writes nothing. A package whose host is not installed cannot be asked.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any, is_typeddict

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs" / "reference"
_MARK = re.compile(r"(<!-- arguments: ([\w.]+)(?: without ([\w., ]+?))? -->\n).*?(<!-- end -->)", re.DOTALL)
_FIELD = re.compile(r"^\s*:param (\w+):(.*)$")
_GOOGLE = re.compile(r"^(\w+(?:, \w+)*):(.*)$")
_DEFAULT = re.compile(r"\s*\bDefault: (.+?)\.(?=\s|$)")
_ROLE = re.compile(r":\w+:`~?([^`]+)`")
_UNPACK = re.compile(r"Unpack\[(\w+)\]")
_PLAIN_SECONDS = re.compile(r"\b(Seconds|timedelta)\b")
UNITS = {
    "budget_usd": "USD",
    "max_active": "runs",
    "max_response_bytes": "bytes",
    "max_spend": "the provider's unit",
    "request_timeout": "s",
    "requests_per_minute": "requests",
}
"""Units that no type shows; durations are known by their type."""


@dataclass(frozen=True)
class Argument:
    """One argument as people read of it.

    Args:
        name: As it is written.
        type: The annotation, with its aliases resolved.
        default: The default, or ``required``.
        says: What its docstring says, as Markdown.
        templated: Whether Airflow's templates fill it; None where nothing is templated.
    """

    name: str
    type: str
    default: str
    says: str
    templated: bool | None = None

    @property
    def unit(self) -> str:
        """The unit of its number; empty where it has none."""
        return "s" if _PLAIN_SECONDS.search(self.type) else UNITS.get(self.name, "")


def arguments_of(target: Any, without: Iterable[type] = ()) -> list[Argument]:
    """The arguments of a class, a function or a TypedDict, in their order, those of a ``**`` mapping by name behind.

    Args:
        target: What takes them.
        without: TypedDicts whose names are left out.
    """
    left_out = {name for each in without for name in each.__annotations__}
    templated = frozenset(getattr(target, "template_fields", ())) if hasattr(target, "template_fields") else None
    texts = _texts(target)
    found: dict[str, Argument] = {}
    for name, annotation, default, says in (*_own(target), *_of_mapping(target)):
        if name in found or name in left_out:
            continue
        text = _markdown(texts.get(name) or says)
        stated = _DEFAULT.search(text)
        if default is not inspect.Parameter.empty:
            shown = stated[1] if stated else f"`{_plain(default)}`"
        else:
            shown = stated[1] if stated else "required" if _is_required(target, name) else ""
        mark = None if templated is None else name in templated
        found[name] = Argument(name, annotation, shown, _DEFAULT.sub("", text).strip(), mark)
    return list(found.values())


def table(name: str, without: str | None = None) -> str:
    """A table in Markdown.

    Args:
        name: The whole name of what takes the arguments.
        without: Whole names of TypedDicts, with commas between them.
    """
    rows = arguments_of(_found(name), [_found(each.strip()) for each in (without or "").split(",") if each.strip()])
    header = ["argument", "type", "unit", "default", "templated", "what it is"]
    if any(row.says for row in rows):
        rows = [row if row.says else replace(row, says=_hosts_own(name)) for row in rows]
    lines = [[f"`{row.name}`", f"`{row.type}`", row.unit, row.default, _yes(row.templated), row.says] for row in rows]
    dropped = {index for index in (2, 3, 4, 5) if all(not line[index] for line in lines)}
    shown = [[cell for index, cell in enumerate(line) if index not in dropped] for line in (header, *lines)]
    shown.insert(1, ["---"] * len(shown[0]))
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in shown)


def rendered(text: str) -> str:
    """A page with every table that it asks for written anew."""
    return _MARK.sub(lambda found: f"{found[1]}{table(found[2], found[3])}\n{found[4]}", text)


def asked_for(text: str) -> list[str]:
    """The whole names of what a page shows tables of."""
    return [found[2] for found in _MARK.finditer(text)]


def main(arguments: list[str]) -> int:
    """Write the pages that are named, or all; or only compare them."""
    names = [Path(each) for each in arguments if not each.startswith("-")]
    pages = names or sorted(page for page in PAGES.glob("*.md") if "<!-- arguments: " in page.read_text())
    stale = 0
    for page in pages:
        text = page.read_text()
        fresh = rendered(text)
        if fresh != text:
            stale += 1
            if "--check" not in arguments:
                page.write_text(fresh)
    return int(bool(stale and "--check" in arguments))


# --- what is read ---


def _own(target: Any) -> Iterator[tuple[str, str, Any, str]]:
    """What signatures name: a class's own first, then those of the classes that it passes further ones on to."""
    if is_typeddict(target):
        return
    if hasattr(target, "model_fields"):
        yield from _of_model(target)
        return
    for function in _functions(target):
        aliases = _aliases_of(inspect.getmodule(function))
        for each in inspect.signature(function).parameters.values():
            if each.name != "self" and each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY):
                if isinstance(target, type) and function is not target.__init__ and each.name not in _names(target):
                    continue
                yield each.name, _type(each.annotation, aliases), each.default, ""


def _of_model(target: Any) -> Iterator[tuple[str, str, Any, str]]:
    """The fields of a pydantic model, such as a Dagster resource."""
    for name, field in target.model_fields.items():
        kind = field.annotation
        shown = kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind)
        shown = re.sub(r"\b(?:typing|collections\.abc|[\w.]+)\.(?=[A-Za-z])", "", shown)
        # What a host reads beside a type, such as a resolver of Dagster's.
        shown = re.sub(r"Annotated\[([^<\[\]]+), <[^<>]*>\]", r"\1", shown)
        shown = re.sub(r"^Optional\[(.*)\]$", r"\1 | None", shown)
        shown = re.sub(r"^Union\[(.*), NoneType\]$", r"\1 | None", shown)
        default = inspect.Parameter.empty if field.is_required() else field.get_default(call_default_factory=True)
        yield name, shown, default, field.description or ""


def _of_mapping(target: Any) -> Iterator[tuple[str, str, Any, str]]:
    """What a TypedDict names: the target itself, or the one that the target unpacks."""
    for kind in [target] if is_typeddict(target) else _unpacked(target):
        for declared, name, annotation, says in _declared(kind):
            yield name, _type(annotation, _aliases_of(declared)), inspect.Parameter.empty, says


def _functions(target: Any) -> list[Any]:
    if not isinstance(target, type):
        return [target]
    ours = [each for each in target.__mro__ if each.__module__.startswith("runops.") and "__init__" in vars(each)]
    return [vars(each)["__init__"] for each in ours]


def _unpacked(target: Any) -> list[type]:
    kinds: list[type] = []
    for function in [] if hasattr(target, "model_fields") else _functions(target)[:1]:
        for each in inspect.signature(function).parameters.values():
            named = _UNPACK.search(str(each.annotation)) if each.kind is each.VAR_KEYWORD else None
            kind = None if named is None else vars(inspect.getmodule(function)).get(named[1])
            if is_typeddict(kind):
                kinds.append(typing.cast("type", kind))
    return kinds


@cache
def _names(target: type) -> frozenset[str]:
    """All names that a class takes: its own, and those of the mapping that it unpacks."""
    own = inspect.signature(target.__init__).parameters
    return frozenset({*own, *(name for kind in _unpacked(target) for name in kind.__annotations__)})


def _is_required(target: Any, name: str) -> bool:
    if is_typeddict(target):
        return name in target.__required_keys__
    if hasattr(target, "model_fields"):
        return target.model_fields[name].is_required()
    for function in _functions(target):
        found = inspect.signature(function).parameters.get(name)
        if found is not None:
            return found.default is found.empty
    return any(name in kind.__required_keys__ for kind in _unpacked(target))


@cache
def _declared(kind: type) -> list[tuple[ModuleType, str, str, str]]:
    """The keys of a TypedDict, those of its bases first: where it stands, name, annotation, what is said of it."""
    module = sys.modules[kind.__module__]
    body = next(node for node in _tree(module).body if isinstance(node, ast.ClassDef) and node.name == kind.__name__)
    # Python 3.11 does not remember the bases of a TypedDict.
    bases = [vars(module).get(ast.unparse(base)) for base in body.bases]
    rows = [row for base in bases if is_typeddict(base) for row in _declared(typing.cast("type", base))]
    for node, after in zip(body.body, [*body.body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            text = ""
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                text = inspect.cleandoc(str(after.value.value))
            rows.append((module, node.target.id, ast.unparse(node.annotation), text))
    return rows


@cache
def _tree(module: ModuleType) -> ast.Module:
    return ast.parse(inspect.getsource(module))


@cache
def _aliases_of(module: ModuleType | None) -> Mapping[str, str]:
    """The names that a module has for types, and what each stands for; those that it imports from ours too."""
    if module is None:
        return {}
    found: dict[str, str] = {}
    for node in _tree(module).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("runops."):
            theirs = _own_aliases(import_module(node.module or ""))
            found |= {each.name: theirs[each.name] for each in node.names if each.name in theirs}
    return {**found, **_own_aliases(module)}


@cache
def _own_aliases(module: ModuleType) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for node in _tree(module).body:
        match node:
            case ast.AnnAssign(
                target=ast.Name(id=name), annotation=ast.Name(id="TypeAlias"), value=ast.expr() as value
            ):
                found[name] = _unquoted(value)
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Subscript() | ast.BinOp() as value):
                text = _unquoted(value)
                if name[:1].isupper() and re.match(r"(\w+ \||Literal\[|Mapping\[|Sequence\[)", text):
                    found[name] = text
            case _:
                pass
    return found


def _unquoted(value: ast.expr) -> str:
    is_text = isinstance(value, ast.Constant) and isinstance(value.value, str)
    return str(value.value) if is_text else ast.unparse(value)  # pyright: ignore[reportAttributeAccessIssue]


def _type(annotation: Any, aliases: Mapping[str, str]) -> str:
    text = str(annotation)
    for _ in range(3):  # an alias may name another one
        text = re.sub(r"(?<![\w.'\"])[A-Z]\w*", lambda found: aliases.get(found[0], found[0]), text)
    return re.sub(r"^Required\[(.*)\]$", r"\1", text).replace("'", '"')


# --- what is said ---


def _texts(target: Any) -> dict[str, str]:
    """What docstrings say of arguments by name; a class's own wins over those of its parents."""
    found: dict[str, str] = {}
    kinds = target.__mro__ if isinstance(target, type) else (target,)
    for kind in kinds if not is_typeddict(target) else ():
        if str(getattr(kind, "__module__", "")).startswith("runops."):
            for each in (kind, vars(kind).get("__init__")):
                for names, text in _fields(inspect.cleandoc(getattr(each, "__doc__", None) or "").splitlines()):
                    for name in names.split(", "):
                        found.setdefault(name, text)
            for name, text in _attributes(kind) if isinstance(kind, type) else ():
                found.setdefault(name, text)
    return found


def _attributes(kind: type) -> Iterator[tuple[str, str]]:
    """The strings below the fields of a dataclass or model."""
    for node in _tree(sys.modules[kind.__module__]).body:
        if isinstance(node, ast.ClassDef) and node.name == kind.__name__:
            for each, after in pairwise(node.body):
                is_field = isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
                if is_field and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                    name = typing.cast("ast.Name", typing.cast("ast.AnnAssign", each).target).id
                    yield name, " ".join(inspect.cleandoc(str(after.value.value)).split())


def _fields(lines: list[str]) -> Iterator[tuple[str, str]]:
    """``:param name: text`` and the entries below ``Args:``, each with the lines that go on with it."""
    name, text, deep = "", list[str](), None
    for line in lines:
        indent = len(line) - len(line.lstrip())
        field = _FIELD.match(line)
        entry = _GOOGLE.match(line.strip()) if deep is not None and indent == deep else None
        begun = field or entry
        if begun:
            if name:
                yield name, " ".join(text)
            name, text = begun[1], [begun[2].strip()]
        elif line.strip() and indent > (deep or 0) and name:
            text.append(line.strip())
        else:
            if name and (line.strip() or deep is None):
                yield name, " ".join(text)
                name, text = "", []
            deep = 4 if line.strip() == "Args:" else deep if indent or not line.strip() else None
    if name:
        yield name, " ".join(text)


def _markdown(text: str) -> str:
    shown = _ROLE.sub(lambda found: f"`{found[1].rpartition('.')[2]}`", text).replace("``", "`")
    plain = "".join(
        part if index % 2 else part.replace("<", "&lt;") for index, part in enumerate(re.split("(`[^`]*`)", shown))
    )
    return " ".join(plain.split())


def _plain(default: object) -> str:
    if isinstance(default, timedelta):
        default = default.total_seconds()
    if isinstance(default, float) and default.is_integer():
        return str(int(default))
    return repr(default).replace("'", '"')


def _hosts_own(name: str) -> str:
    return "Airflow's own" if name.startswith("runops.airflow.") else "Dagster's own"


def _yes(templated: bool | None) -> str:
    return "" if templated is None else "yes" if templated else "no"


def _found(name: str) -> Any:
    home, _, own = name.rpartition(".")
    return getattr(import_module(home), own)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
