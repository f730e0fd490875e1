"""What the control API and submissions may ask for: each check names the field, what it takes and what it got."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from runops.emulator.runs import SHARE, ScriptError, Step

LONGEST_SECONDS = 1_000_000_000.0
"""About 31 years: far enough from where dates end."""
LONGEST_TEXT = 4_096
DEEPEST = 64
"""Levels of objects and lists in each other."""


def number(
    name: str, value: Any, *, least: float = 0.0, most: float = LONGEST_SECONDS, exclusive: bool = False
) -> float:
    """A finite number; a text that spells one is taken, because some providers' inputs carry only texts.

    Raises:
        ScriptError: It is none, or out of bounds.
    """
    found = math.nan
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        with contextlib.suppress(ValueError, OverflowError):
            found = float(value)
    if not least <= found <= most or (exclusive and found == least):
        above = "above" if exclusive else "from"
        raise ScriptError(f"{name} is a number {above} {least:g} to {most:g}; got {shown(value)}")
    return found


def seconds(name: str, value: Any, *, least: float = 0.0) -> float:
    """A duration.

    Raises:
        ScriptError: It is none.
    """
    return number(f"{name} (seconds)", value, least=least)


def whole(name: str, value: Any, *, least: int = 0, most: int = 1_000_000_000) -> int:
    """A whole number.

    Raises:
        ScriptError: It is none, or out of bounds.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ScriptError(f"{name} is a whole number from {least} to {most}; got {shown(value)}")
    return value


def flag(name: str, value: Any) -> bool:
    """True or false.

    Raises:
        ScriptError: It is neither.
    """
    if not isinstance(value, bool):
        raise ScriptError(f"{name} is true or false; got {shown(value)}")
    return value


def text(name: str, value: Any) -> str:
    """A text that is not empty.

    Raises:
        ScriptError: It is none, or too long, or no Unicode text.
    """
    if not isinstance(value, str) or not value or len(value) > LONGEST_TEXT or not _encodable(value):
        raise ScriptError(f"{name} is a text of 1 to {LONGEST_TEXT} characters; got {shown(value)}")
    return value


def header(name: str, value: Any) -> str:
    """A text that can stand in a header.

    Raises:
        ScriptError: It cannot.
    """
    if not isinstance(value, str) or len(value) > LONGEST_TEXT or not (value.isascii() and value.isprintable()):
        raise ScriptError(f"{name} is at most {LONGEST_TEXT} printable ASCII characters; got {shown(value)}")
    return value


def texts(name: str, value: Any) -> list[str]:
    """A list of texts.

    Raises:
        ScriptError: It is none.
    """
    if isinstance(value, str) or not isinstance(value, Collection) or isinstance(value, Mapping):
        raise ScriptError(f"{name} is a list of texts; got {shown(value)}")
    return [text(f"an entry of {name}", entry) for entry in value]


def mapping(name: str, value: Any) -> dict[str, Any]:
    """An object, whose values may be any JSON.

    Raises:
        ScriptError: It is none, or nested too deep, or holds what JSON or UTF-8 cannot carry, or a share that is none.
    """
    if not isinstance(value, Mapping):
        raise ScriptError(f"{name} is an object; got {shown(value)}")
    json_value(name, value)
    for key, each in value.items():
        if isinstance(each, Mapping) and SHARE in each:
            _share(f"{name}.{key}", each)
    return dict(value)


def _share(name: str, value: Mapping[str, Any]) -> None:
    if set(value) != {SHARE, "of"}:
        raise ScriptError(f'{name} is a share such as {{"{SHARE}": 0.5, "of": "budget_usd"}}; got {sorted(value)}')
    fraction = value[SHARE]
    if isinstance(fraction, str):
        raise ScriptError(f"{name}.{SHARE} is a number; got {shown(fraction)}")
    number(f"{name}.{SHARE}", fraction)
    text(f"{name}.of", value["of"])


def steps(name: str, script: Any) -> list[Step]:
    """A script as the control API takes it.

    Args:
        name: What the script is called in an error.
        script: ``[{"after": seconds since the previous step, "set": {...}, "unset": [...]}, ...]``;
            ``"at"`` instead of ``"after"`` counts from the run's creation.

    Raises:
        ScriptError: A step is not of that form; the text says which.
    """
    found: list[Step] = []
    due = 0.0
    for index, entry in enumerate(script):
        place = f"{name}[{index}]"
        if not isinstance(entry, Mapping) or not set(entry) <= {"after", "at", "set", "unset"}:
            raise ScriptError(f"{place}: a step is an object with after | at, set and unset; got {shown(entry)}")
        if "at" in entry:
            due = seconds(f"{place}.at", entry["at"])
        else:
            due = seconds(f"{place}: the sum of after", due + seconds(f"{place}.after", entry.get("after", 0)))
        changes = mapping(f"{place}.set", entry.get("set", {}))
        found.append(Step(due, changes, tuple(texts(f"{place}.unset", entry.get("unset", [])))))
    return sorted(found, key=lambda step: step.due)


def json_value(name: str, value: Any) -> None:
    """Anything that can be sent as JSON.

    Raises:
        ScriptError: It cannot.
    """
    level: list[Any] = [value]
    for _ in range(DEEPEST):
        inner: list[Any] = []
        for entry in level:
            if isinstance(entry, Mapping):
                inner += [*entry.keys(), *entry.values()]
            elif isinstance(entry, str):
                if not _encodable(entry):
                    raise ScriptError(f"{name} holds a text that is no Unicode text: {shown(entry)}")
            elif isinstance(entry, Sequence):
                inner += entry
            elif isinstance(entry, float) and not math.isfinite(entry):
                raise ScriptError(f"{name} holds {entry}, which is no JSON")
            elif not isinstance(entry, (bool, int, float)) and entry is not None:
                raise ScriptError(f"{name} holds what is no JSON: {shown(entry)}")
        if not inner:
            return
        level = inner
    raise ScriptError(f"{name} is nested more than {DEEPEST} levels deep")


def names(what: str, given: Iterable[str], allowed: Collection[str]) -> None:
    """Names of which each must be known.

    Raises:
        ScriptError: One is not.
    """
    unknown = sorted(set(given) - set(allowed))
    if unknown:
        raise ScriptError(f"unknown {what} {', '.join(map(shown, unknown[:5]))}; allowed: {sorted(allowed)}")


def shown(value: Any) -> str:
    """A value in an error, short and in ASCII."""
    if isinstance(value, (Mapping, Sequence)) and not isinstance(value, str):
        return f"a {'list' if isinstance(value, Sequence) else 'object'}"
    found = ascii(value) if not isinstance(value, int) or abs(value) < 10**30 else "a huge number"
    return found if len(found) <= 80 else f"{found[:77]}..."


def _encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
