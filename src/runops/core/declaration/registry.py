"""Which declarations this process knows, by name: those made in it, and those that installed packages declare.

It holds them without looking into them, so that a declaration can enter itself as it is made.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, cast

from runops.core.model.refusal import nearest as nearest

GROUP = "runops.providers"
"""The entry point group in which a package declares ``name = "package.module:NAME"``."""

_PASSED_BY = ("dataclasses", "copy", __name__)
"""Modules that make a declaration on behalf of another one."""

_made: dict[str, list[tuple[Any, str]]] = {}
"""By name: the declarations, oldest first, each with the module that made it."""


def enter(name: str, declaration: object) -> None:
    """Remember a declaration that has been made, with the module that made it.

    Args:
        name: Its name.
        declaration: The declaration, a dataclass.
    """
    own = type(declaration).__module__
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__") in (*_PASSED_BY, own):
        frame = frame.f_back
    module = str(frame.f_globals.get("__name__", "")) if frame else ""
    earlier = _made.get(name, [])
    content = likeness(declaration) if earlier else None
    kept = [entry for entry in earlier if entry[1] != module or likeness(entry[0]) != content]
    _made[name] = [*kept, (declaration, module)]


def made(name: str) -> list[tuple[Any, str]]:
    """The different declarations of a name, each with the module that made it.

    A module that is loaded anew, or a cell of a notebook that is run again, makes its declarations again: of several,
    those count that their module still holds.

    Args:
        name: The name.
    """
    entries = _made.get(name, [])
    found = _different(entries)
    held = [entry for entry in entries if _holds(entry[1], entry[0])] if len(found) > 1 else []
    return _different(held) if held else found


def likeness(value: Any) -> Any:
    """What two declarations share that say the same, also where the module that made one was loaded anew."""
    if isinstance(value, type) or callable(value):
        return getattr(value, "__module__", ""), getattr(value, "__qualname__", repr(value))
    if is_dataclass(value):
        return type(value).__qualname__, *(likeness(getattr(value, each.name)) for each in fields(value) if each.init)
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value).items()
        return tuple(sorted(((str(key), likeness(each)) for key, each in items), key=repr))
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        return tuple(likeness(each) for each in cast("Iterable[Any]", value))
    return value


def _different(entries: Sequence[tuple[Any, str]]) -> list[tuple[Any, str]]:
    """The newest of those that say the same."""
    found = [(likeness(each), each, module) for each, module in entries]
    return [
        (each, module)
        for place, (content, each, module) in enumerate(found)
        if all(content != later for later, _, _ in found[place + 1 :])
    ]


def _holds(module: str, declaration: object) -> bool:
    loaded = sys.modules.get(module)
    return loaded is not None and any(value is declaration for value in vars(loaded).values())


def names() -> list[str]:
    """Every name that a declaration made here or an installed package bears."""
    return sorted({*_made, *_installed(tuple(sys.path))})


def installed(name: str) -> list[str]:
    """The import paths that installed packages declare for a name, in the entry point group :data:`GROUP`."""
    return sorted({entry.value for entry in _installed(tuple(sys.path)).get(name, ())})


@lru_cache(maxsize=4)
def _installed(path: tuple[str, ...]) -> dict[str, tuple[EntryPoint, ...]]:
    """The entry points by name. To read them takes long where many packages are installed."""
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for entry in entry_points(group=GROUP):
        found[entry.name] = (*found.get(entry.name, ()), entry)
    return found
