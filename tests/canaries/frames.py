"""What tools that collect the locals of frames would show of an error: error trackers, rich, capture_locals."""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from types import TracebackType
from typing import Any

DEEPEST = 4
MOST_ITEMS = 200


def errors_of(error: BaseException) -> Iterator[BaseException]:
    """An error and all that stand behind or in it, whether a traceback would print them or not."""
    left: list[BaseException | None] = [error]
    seen: set[int] = set()
    while left:
        one = left.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        left += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]


def collected(error: BaseException, *, without: str = "", only: str = "") -> dict[str, str]:
    """What is shown of each local of each frame, by its place.

    Args:
        error: Walked with all that stand behind it.
        without: A file whose frames are left out: the test's own, which knows the secrets.
        only: A part of the path of the files whose frames count; empty for all.
    """
    found: dict[str, str] = {}
    for number, one in enumerate(errors_of(error)):
        found[f"{number} {type(one).__name__}"] = f"{one!r} {one} {vars(one)!r}"
        for step, frame in enumerate(_frames(one.__traceback__)):
            file = frame.f_code.co_filename
            if file == without or only not in file:
                continue
            place = f"{number} {step} {Path(file).name}:{frame.f_code.co_name}"
            for name, value in frame.f_locals.items():
                found[f"{place} {name}"] = " ".join(shown(value))
        if not without and not only:
            told = traceback.TracebackException.from_exception(one, capture_locals=True)
            found[f"{number} capture_locals"] = "".join(told.format())
    return found


def _frames(trace: TracebackType | None) -> Iterator[Any]:
    while trace is not None:
        yield trace.tb_frame
        trace = trace.tb_next


def shown(value: Any, depth: int = DEEPEST) -> Iterator[str]:
    """What a tool that looks into containers, data classes and models shows of a value."""
    for show in (repr, str, _rich):
        try:
            yield show(value)
        except Exception as error:
            yield repr(error)
    if depth:
        for inner in list(_inside(value))[:MOST_ITEMS]:
            yield from shown(inner, depth - 1)


def _rich(value: Any) -> str:
    try:
        from rich.pretty import pretty_repr
    except ImportError:
        return ""
    return pretty_repr(value, max_depth=DEEPEST, max_string=80, max_length=10)


def _inside(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield from value.keys()
        yield from value.values()
    elif isinstance(value, (list, tuple, AbstractSet)):
        yield from value
    elif isinstance(value, bytes):
        # Tools shorten what is long.
        yield value[:20]
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from (getattr(value, field.name, None) for field in dataclasses.fields(value) if field.repr)
    elif hasattr(type(value), "__rich_repr__"):
        yield from getattr(value, "__rich_repr__")()  # noqa: B009 - few classes have it
    elif hasattr(type(value), "__attrs_attrs__"):
        yield from (getattr(value, field.name, None) for field in getattr(type(value), "__attrs_attrs__") if field.repr)  # noqa: B009
