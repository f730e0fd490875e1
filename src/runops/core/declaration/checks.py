"""Checks of what a declaration says: each refuses what can never work, by field and value, and says what to do."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from string import Formatter
from typing import Any, cast

from runops.core.declaration.registry import nearest
from runops.core.model.codes import Code
from runops.core.model.errors import ConfigurationError

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_METHODS = re.compile(r"(?!(HEAD|CONNECT|TRACE)$)[A-Z]+")


def wrong(owner: str, field: str, value: object, problem: str, advice: str) -> ConfigurationError:
    """The error about one field.

    Args:
        owner: Whose field it is, such as ``Provider 'acme'``.
        field: The field.
        value: What stands there.
        problem: Why that cannot work.
        advice: What to do.
    """
    return ConfigurationError(
        f"{owner}: {field}={str(value)[:120]!r} {problem}; {advice}.", error_code=Code.BAD_DECLARATION
    )


def spelled(owner: str, field: str, value: object, pattern: str, what: str) -> None:
    """A text of a certain form.

    Raises:
        ConfigurationError: It is another one.
    """
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        raise wrong(owner, field, value, f"is not {what}", f"write {what}")


def header(owner: str, field: str, value: object) -> None:
    """The name of a header.

    Raises:
        ConfigurationError: No header can be called so.
    """
    spelled(owner, field, value, _TOKEN.pattern, "the name of a header, such as X-Api-Key")


def method(owner: str, value: object) -> None:
    """A method whose answer has a body.

    Raises:
        ConfigurationError: It is another one.
    """
    spelled(owner, "method", value, _METHODS.pattern, "an HTTP method in capitals whose answer has a body, such as GET")


def path(owner: str, field: str, value: object) -> None:
    """A path from the root of an API, with holes.

    Raises:
        ConfigurationError: It does not begin with a slash, holds a query, or its braces do not pair.
    """
    spelled(owner, field, value, r"/[^?#\s]*", "a path that begins with a slash, without '?', '#' or a space")
    _names(owner, field, str(value))


def keys(owner: str, field: str, value: object, *, empty: bool = False) -> None:
    """The keys that lead to a place in an answer.

    Raises:
        ConfigurationError: It is no tuple of texts, or an empty one where that leads nowhere.
    """
    path = cast("tuple[object, ...]", value) if isinstance(value, tuple) else None
    if path is None or not all(isinstance(key, str) and key for key in path) or not (path or empty):
        advice = f"write {field}=({value!r},)" if isinstance(value, str) else f"write such as {field}=('data', 'id')"
        raise wrong(owner, field, cast("object", value), "is not a tuple of names", advice)


def sendable(owner: str, field: str, query: Mapping[str, Any], body: object) -> None:
    """What goes along with a route.

    Raises:
        ConfigurationError: A query parameter is no text, or JSON cannot carry the body.
    """
    for name, value in query.items():
        if not isinstance(value, str):
            raise wrong(
                owner, f"{field}[{name!r}]", value, "is no text", f"write {str(value)!r}, as it goes on the wire"
            )
    try:
        json.dumps(body, allow_nan=False)
    except (TypeError, ValueError):
        raise wrong(owner, "json", type(body).__name__, "is nothing that JSON can carry", "turn it into text") from None


def holes(owner: str, field: str, text: str, fillers: Collection[str]) -> None:
    """A text whose every hole is filled.

    Args:
        owner: Whose field it is.
        field: The field.
        text: What stands there.
        fillers: The names that are known where it is filled.

    Raises:
        ConfigurationError: A hole is filled by none of them.
    """
    for name in _names(owner, field, text):
        if name not in fillers:
            known = ", ".join(sorted(fillers)) or "none here"
            near = nearest(name, fillers)
            raise wrong(owner, field, text, f"has the hole {name!r}, which nothing fills", f"holes: {known}.{near}")


def _names(owner: str, field: str, text: str) -> list[str]:
    try:
        parts = list(Formatter().parse(text))
    except ValueError:
        parts = [("", "", "", None)]
    holes = [(name, spec, conversion) for _, name, spec, conversion in parts if name is not None]
    if any(not name.isidentifier() or spec or conversion for name, spec, conversion in holes):
        raise wrong(owner, field, text, "has braces that hold no name", "write a hole as {run_id}")
    return [name for name, _, _ in holes]
