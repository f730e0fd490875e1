"""Checks of what users pass to a submit or a wait: each refuses with the field's name. They know no provider."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, cast

from runops.core.declaration.registry import nearest
from runops.core.model.codes import Code
from runops.core.model.errors import ConfigurationError
from runops.core.model.refusal import TextRefused

DEFAULT_REQUEST_TIMEOUT = 30.0
"""Seconds for one whole request."""
DEFAULT_MAX_RESPONSE_BYTES = 10_000_000
"""The largest answer, decompressed, that is read."""


def check_names(owner: str, given: Iterable[str], allowed: Iterable[str]) -> None:
    """Refuse names that a public class or function does not take, as a type checker does for those who have one.

    Args:
        owner: What takes them, as users write it: ``"RunClient"``, ``"RunClient.wait"``.
        given: The names that were given; a ``**settings`` mapping will do.
        allowed: The names that it takes; a TypedDict's ``__annotations__`` will do.

    Raises:
        ConfigurationError: A name is none of them; the text names the owner and the nearest right name, no value.
    """
    known = list(allowed)
    for name in given:
        if name not in known:
            raise ConfigurationError(
                f"{owner} takes no argument {name!r}.{nearest(name, known)} It takes {', '.join(sorted(known))}.",
                error_code=Code.UNKNOWN_NAME,
            )


def required_text(field: str, value: object) -> str:
    """A non-empty text.

    Args:
        field: Its name, for the error.
        value: What was given.

    Raises:
        ConfigurationError: It is none; the text names the field.
    """
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError(f"{field} must be a non-empty text, not {_kind(value)}.")
    return value


def optional_text(field: str, value: object) -> str:
    """A text that may be empty.

    Args:
        field: Its name, for the error.
        value: What was given.

    Raises:
        ConfigurationError: It is none; the text names the field.
    """
    if not isinstance(value, str):
        raise ConfigurationError(f"{field} must be a text, not {_kind(value)}.")
    return value


def header_value(field: str, value: object) -> str:
    """A text that can stand in an HTTP header."""
    text = required_text(field, value).strip()
    if not text.isascii() or not text.isprintable():
        raise ConfigurationError(f"{field} holds a character that cannot stand in a header.")
    return text


def trace_id(value: object) -> str:
    """The id of a trace: 32 hex digits that are not all 0, in lower case."""
    text = value.lower() if isinstance(value, str) else ""
    if len(text) != 32 or set(text) - set("0123456789abcdef") or not text.strip("0"):
        raise ConfigurationError(f"trace_id must be 32 hex digits that are not all 0, not {str(value)[:80]!r}.")
    return text


def texts(field: str, value: object) -> list[str]:
    """A list of texts, or the JSON text of one.

    Args:
        field: Its name, for the error.
        value: What was given.

    Raises:
        ConfigurationError: It is none; the text names the field.
    """
    items = _sequence(field, value, "texts")
    return [optional_text(f"{field}[{index}]", item) for index, item in enumerate(items)]


def mapping(field: str, value: object) -> dict[str, Any]:
    """A mapping, or the JSON text of one: templates render to text. Its content never appears in the error."""
    if isinstance(value, str):
        value = _from_json(value)
        if not isinstance(value, dict):
            raise TextRefused(f"{field} must be a JSON object (a dict), not a text that is not the JSON of one.")
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{field} must be a JSON object (a dict), not {_kind(value)}.")
    return dict(cast("Mapping[str, Any]", value))


def json_object(field: str, value: object) -> dict[str, Any]:
    """A mapping that JSON can carry, or the JSON text of one. Its content never appears in the error.

    Args:
        field: Its name, for the error.
        value: What was given.

    Raises:
        ConfigurationError: It is none; the text names the field.
    """
    return cast("dict[str, Any]", _as_json(field, mapping(field, value)))


def json_objects(field: str, value: object) -> list[dict[str, Any]]:
    """A list of mappings that JSON can carry, or the JSON text of one.

    Args:
        field: Its name, for the error.
        value: What was given.

    Raises:
        ConfigurationError: It is none; the text names the field.
    """
    items = _sequence(field, value, "JSON objects")
    return [json_object(f"{field}[{index}]", item) for index, item in enumerate(items)]


def one_of(field: str, value: object, allowed: Sequence[str]) -> str:
    """One of a few words.

    Args:
        field: Its name, for the error.
        value: What was given.
        allowed: The words.

    Raises:
        ConfigurationError: It is none; the text names the field.
    """
    if value not in allowed:
        raise ConfigurationError(
            f"{field}={str(value)[:80]!r} is not one of {', '.join(allowed)}.", error_code=Code.UNKNOWN_NAME
        )
    return cast("str", value)


def positive(field: str, value: object) -> float:
    """A finite number above 0. A text that spells one is taken: templates render to text.

    Args:
        field: Its name, for the error.
        value: What was given.

    Raises:
        ConfigurationError: It is none; the text names the field.
    """
    number = _number(value)
    if number is None or not number > 0:
        raise ConfigurationError(f"{field} must be a number above 0, not {value!r}.")
    return number


def seconds(field: str, value: object) -> float:
    """A duration above 0, as seconds or a timedelta."""
    return positive(field, value.total_seconds() if isinstance(value, timedelta) else value)


def grace(field: str, value: object) -> float:
    """A duration of 0 or more, as seconds or a timedelta."""
    number = _number(value.total_seconds() if isinstance(value, timedelta) else value)
    if number is None or number < 0:
        raise ConfigurationError(f"{field} must be a number of seconds, 0 or more, not {value!r}.")
    return number


def optional_seconds(field: str, value: object) -> float | None:
    """A duration above 0, or None."""
    return None if value is None else seconds(field, value)


def _sequence(field: str, value: object, of: str) -> Sequence[object]:
    """A list, or the JSON text of one. Another text or a mapping would be read letter by letter, or by its keys."""
    if isinstance(value, str):
        value = _from_json(value)
        if not isinstance(value, list):
            raise TextRefused(f"{field} must be a list of {of}, not a text that is not the JSON of one.")
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise ConfigurationError(f"{field} must be a list of {of}, not {_kind(value)}.")
    return cast("Sequence[object]", value)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _from_json(text: str) -> object:
    """What a text says as JSON; None where it is none, so that no error stands that would hold the text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _as_json(field: str, value: object) -> Any:
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        raise ConfigurationError(
            f"{field} holds what JSON cannot carry (a date, bytes, NaN or an object): turn it into text first."
        ) from None


def _kind(value: object) -> str:
    return "empty" if value == "" else type(value).__name__
