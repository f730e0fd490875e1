"""Which small changes a source file allows: each a span of its text and what would stand there instead."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

COMPARISONS = {
    "==": "!=", "!=": "==", "<": "<=", "<=": "<", ">": ">=", ">=": ">",
    "is": "is not", "is not": "is", "in": "not in", "not in": "in",
}  # fmt: skip
ARITHMETIC = {ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "/"), ast.Div: ("/", "*")}
WORD = re.compile(r"[\w.-]+")


@dataclass(frozen=True, order=True)
class Change:
    """One change: ``text[start:end]`` of a file becomes ``new``."""

    path: str
    start: int
    end: int
    new: str
    kind: str
    line: int
    runs: tuple[int, int]
    """The first and the last of the lines that run when it does: from where its statement begins to its own end."""

    def applied(self, text: str) -> str:
        """The whole text with the change made."""
        return text[: self.start] + self.new + text[self.end :]

    def lines(self, text: str) -> tuple[str, str]:
        """The lines that it touches, before and after, without their indentation."""
        first, end = text.rfind("\n", 0, self.start) + 1, text.find("\n", self.end)
        before, after = text[first:end], text[first : self.start] + self.new + text[self.end : end]
        return tuple("\n".join(line.strip() for line in part.splitlines()) for part in (before, after))  # pyright: ignore[reportReturnType]


def changes_of(path: str, text: str) -> list[Change]:
    """All changes that a file allows, in its order.

    Args:
        path: The file's name in the tree.
        text: What stands in it.
    """
    return sorted(set(_Finder(path, text).found()))


class _Finder:
    """Walks one tree past what no test could notice: annotations, decorators, docstrings, what only types read."""

    def __init__(self, path: str, text: str) -> None:
        self._path = path
        self._text = text
        self._lines = [0]
        for line in text.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))
        self._begins = 1
        self._ends: set[ast.stmt] = set()
        """The last statements of functions, where to return nothing is what happens anyway."""
        self._encoded = [line.encode() for line in text.splitlines(keepends=True)]

    def found(self) -> Iterator[Change]:
        for node in self._walk(ast.parse(self._text)):
            yield from self._changes(node)

    def _walk(self, node: ast.AST) -> Iterator[ast.AST]:
        outer = self._begins
        self._begins = node.lineno if isinstance(node, ast.stmt | ast.ExceptHandler) else outer
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            self._ends.add(node.body[-1])
        yield node
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list", "type_comment"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST) and not _read_by_types_alone(child):
                    yield from self._walk(child)
        self._begins = outer

    def _changes(self, node: ast.AST) -> Iterator[Change]:
        match node:
            case ast.Compare():
                for left, right in zip([node.left, *node.comparators], node.comparators, strict=False):
                    yield from self._between(left, right, COMPARISONS, "comparison")
                for word in (node.left, *node.comparators):
                    yield from self._word(word)
            case ast.BoolOp():
                for left, right in zip(node.values, node.values[1:], strict=False):
                    yield from self._between(left, right, {"and": "or", "or": "and"}, "and/or")
            case ast.BinOp() if type(node.op) in ARITHMETIC:
                old, new = ARITHMETIC[type(node.op)]
                yield from self._between(node.left, node.right, {old: new}, "arithmetic")
            case ast.UnaryOp(op=ast.Not()):
                start = self._start(node)
                yield self._change(node, start, start + len("not "), "", "dropped not")
            case ast.If() | ast.IfExp() | ast.While():
                yield self._whole(node.test, f"not ({self._source(node.test)})", "condition")
            case ast.Constant():
                yield from self._constant(node)
            case ast.Subscript():
                yield from self._word(node.slice)
            case ast.Dict():
                for key in filter(None, node.keys):
                    yield from self._word(key)
            case ast.Call():
                yield from self._dropped_keywords(node)
            case ast.ExceptHandler(type=ast.expr() as kind):
                yield self._whole(kind, "()", "except")
            case ast.stmt():
                yield from self._statement(node)
            case _:
                pass

    def _statement(self, node: ast.stmt) -> Iterator[Change]:
        match node:
            case ast.Return(value=ast.expr() as value) if not (isinstance(value, ast.Constant) and value.value is None):
                yield self._whole(value, "None", "return")
            case ast.Raise():
                yield self._whole(node, "pass", "exception not raised")
            case ast.Return() if node in self._ends:
                pass
            case ast.Continue() | ast.Break() | ast.AugAssign() | ast.Delete() | ast.Return():
                yield self._whole(node, "pass", "removed statement")
            case ast.Expr(value=ast.Call() | ast.Await() | ast.YieldFrom()):
                yield self._whole(node, "pass", "removed statement")
            case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
                yield self._whole(node, "pass", "removed statement")
            case _:
                pass

    def _constant(self, node: ast.Constant) -> Iterator[Change]:
        if isinstance(node.value, bool):
            yield self._whole(node, str(not node.value), "constant")
        elif isinstance(node.value, int | float):
            yield self._whole(node, repr(node.value + 1), "constant")
            yield self._whole(node, f"({node.value - 1!r})", "constant")

    def _word(self, node: ast.expr) -> Iterator[Change]:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and WORD.fullmatch(node.value):
            yield self._whole(node, repr(f"XX{node.value}"), "word")

    def _dropped_keywords(self, node: ast.Call) -> Iterator[Change]:
        for keyword in node.keywords:
            if keyword.arg is not None:
                start, end = self._start(keyword), self._end(keyword)
                comma = re.match(r"\s*,[ \t]*", self._text[end:])
                yield self._change(keyword, start, end + (comma.end() if comma else 0), "", "dropped keyword")

    def _between(self, left: ast.expr, right: ast.expr, swaps: dict[str, str], kind: str) -> Iterator[Change]:
        start, end = self._end(left), self._start(right)
        longest_first = sorted(swaps, key=len, reverse=True)
        pattern = "|".join(rf"(?<!\w){re.escape(old)}(?!\w)" for old in longest_first)
        operator = re.search(pattern, self._text[start:end])
        if operator:
            yield self._change(left, start + operator.start(), start + operator.end(), swaps[operator[0]], kind)

    def _whole(self, node: ast.expr | ast.stmt, new: str, kind: str) -> Change:
        return self._change(node, self._start(node), self._end(node), new, kind)

    def _change(self, node: ast.expr | ast.stmt | ast.keyword, start: int, end: int, new: str, kind: str) -> Change:
        runs = (self._begins, node.end_lineno or node.lineno)
        return Change(self._path, start, end, new, kind, self._text.count("\n", 0, start) + 1, runs)

    def _source(self, node: ast.expr) -> str:
        return self._text[self._start(node) : self._end(node)]

    def _start(self, node: ast.expr | ast.stmt | ast.keyword) -> int:
        return self._position(node.lineno, node.col_offset)

    def _end(self, node: ast.expr | ast.stmt | ast.keyword) -> int:
        return self._position(node.end_lineno or node.lineno, node.end_col_offset or node.col_offset)

    def _position(self, line: int, offset: int) -> int:
        return self._lines[line - 1] + len(self._encoded[line - 1][:offset].decode())


def _read_by_types_alone(node: ast.AST) -> bool:
    match node:
        case ast.If(test=ast.Name(id="TYPE_CHECKING")) | ast.Assign(targets=[ast.Name(id="__all__")]):
            return True
        case ast.Call(func=ast.Name(id="TypeVar" | "ParamSpec" | "NewType")):
            return True
        case ast.Subscript(value=ast.Name(id="Literal")):
            return True
        case ast.FunctionDef(decorator_list=decorators) | ast.AsyncFunctionDef(decorator_list=decorators):
            return any(isinstance(each, ast.Name) and each.id == "overload" for each in decorators)
        case ast.keyword(arg="total"):
            return True  # Of a TypedDict, which may extend another one.
        case ast.ClassDef(bases=bases):
            return any(isinstance(each, ast.Name) and each.id in ("Protocol", "TypedDict") for each in bases)
        case _:
            return False
