"""Write the table of all codes into docs/errors/index.md; ``--check`` only compares. Nothing else.

It is made from the sources: what a code means is the text below it in ``core/model/codes.py``, and its exceptions are
the classes that bear it and those that are made with it.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "runops"
CODES = SOURCE / "core" / "model" / "codes.py"
INDEX = ROOT / "docs" / "errors" / "index.md"
HOSTS = {
    "core": "",
    "airflow": " (Airflow)",
    "dagster": " (Dagster)",
    "cli": " (command line)",
    "testing": " (testing kit)",
}
_TABLE = re.compile(r"(<!-- codes -->\n).*?(<!-- end -->)", re.DOTALL)
_GROUP = re.compile(r"^    # --- (.*) ---$")


def members() -> Iterator[tuple[str, str, str, int]]:
    """Of each code its name in the source, how it is written, what it means in one line, and its line."""
    (codes,) = [node for node in ast.parse(CODES.read_text()).body if getattr(node, "name", None) == "Code"]
    assert isinstance(codes, ast.ClassDef)
    for node, text in zip(codes.body, codes.body[1:], strict=False):
        if isinstance(node, ast.Assign) and isinstance(text, ast.Expr):
            (name,) = node.targets
            assert isinstance(name, ast.Name)
            yield name.id, ast.literal_eval(node.value), " ".join(ast.literal_eval(text.value).split()), node.lineno


def _code(node: ast.expr | None) -> str | None:
    owner = node.value if isinstance(node, ast.Attribute) else None
    return node.attr if isinstance(node, ast.Attribute) and isinstance(owner, ast.Name) and owner.id == "Code" else None


Classes = dict[tuple[str, str], tuple[list[str], str | None]]
"""By part and name of a class: the names of its bases, and its own code."""


def _class(node: ast.ClassDef) -> tuple[list[str], str | None]:
    own = [_code(part.value) for part in node.body if isinstance(part, (ast.Assign, ast.AnnAssign))]
    bases = [base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "") for base in node.bases]
    return bases, next((code for code in own if code is not None), None)


def _made(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """A code, by its name, and the exception that is made with it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            given = {_code(each.value) for each in node.keywords if each.arg == "error_code"} - {None}
            made = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if made[:1].isupper():
                yield from ((str(code), made) for code in given)


def _inherited(classes: Classes, part: str, name: str) -> str | None:
    """The code of a class: its own, or that of the first base that has one."""
    bases, own = classes.get((part, name)) or classes.get(("core", name)) or ([], None)
    if own is not None:
        return own
    found = (_inherited(classes, part, base) for base in bases if base != name)
    return next((code for code in found if code is not None), None)


def exceptions() -> dict[str, list[str]]:
    """Of each code, by its name, the exceptions whose text ends with it."""
    found: dict[str, set[tuple[int, str]]] = defaultdict(set)
    classes: Classes = {}
    for path in sorted(SOURCE.rglob("*.py")):
        part = path.relative_to(SOURCE).parts[0]
        if part not in HOSTS:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        classes |= {(part, node.name): _class(node) for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
        for code, name in _made(tree):
            found[code].add((list(HOSTS).index(part), f"`{name}`{HOSTS[part]}"))
    for part, name in classes:
        code = _inherited(classes, part, name)
        if code is not None and name != "Coded" and not name.startswith("_"):
            found[code].add((list(HOSTS).index(part), f"`{name}`{HOSTS[part]}"))
    return {code: [name for _, name in sorted(names)] for code, names in found.items()}


def markdown() -> str:
    """The table, under the headings of the source."""
    groups = {number: found[1] for number, line in enumerate(CODES.read_text().splitlines(), 1)
              if (found := _GROUP.match(line))}  # fmt: skip
    bearers = exceptions()
    lines: list[str] = []
    group = ""
    for name, code, meaning, line in members():
        above = groups[max(number for number in groups if number < line)]
        if above != group:
            group = above
            title = group[0].upper() + group[1:]
            lines += ["", f"## {title}", "", "| code | means | exceptions |", "| --- | --- | --- |"]
        lines.append(f"| [`{code}`]({code}.md) | {meaning.replace('``', '`')} | {', '.join(bearers.get(name, []))} |")
    return "\n".join(lines[1:])


def rendered(text: str) -> str:
    """The page with the table written anew."""
    return _TABLE.sub(lambda found: f"{found[1]}{markdown()}\n{found[2]}", text)


def main() -> int:
    fresh = rendered(INDEX.read_text(encoding="utf-8"))
    if "--check" in sys.argv:
        return int(fresh != INDEX.read_text(encoding="utf-8"))
    INDEX.write_text(fresh, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
