"""A list that a template, another task's output or the DAG itself gives, as a list. It knows no run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from runops.core import ConfigurationError
from runops.core.declaration.arguments import mapping
from runops.core.model.refusal import TextRefused

Parents = Mapping[str, Any] | Sequence[Mapping[str, str]] | str | None


def list_of(value: object, *, field: str = "run_ids") -> object:
    """What is to be a list: one as it is, another task's output as one, or the JSON text of one.

    What is something else stays what it is, for the check that says what it should be.

    :param value: What the field holds, rendered.
    :param field: How the user calls it.
    :raises ConfigurationError: It is a text, and no JSON list.
    """
    if isinstance(value, str):
        try:
            found: object = json.loads(value)
        except ValueError:
            found = None
        if not isinstance(found, list):
            raise TextRefused(f"{field} is a text and no list.")
        return cast("list[object]", found)
    if isinstance(value, (bytes, Mapping, list)) or not isinstance(value, Sequence):
        return cast("Any", value)
    return list(cast("Sequence[object]", value))


def written(value: object) -> bool:
    """Whether a field says in the DAG itself what it is, so that it can be checked there.

    :param value: The field.
    """
    match value:
        case str():
            return "{{" not in value and "{%" not in value
        case Mapping():
            return all(written(each) for each in cast("Mapping[str, object]", value).values())
        case list() | tuple():
            return all(written(each) for each in cast("list[object]", value))
        case _:
            return not hasattr(value, "resolve")


def parents_of(named: Mapping[str, Any], parents: Parents) -> Any:
    """What the addresses of runs need beside their ids: one mapping for all of them, or a list of one for each.

    :param named: The fields of a named class, each a text for all runs, or a list of one for each.
    :param parents: The field of a generic one.
    :raises ConfigurationError: The lists are of different lengths.
    """
    given = {name: value for name, value in named.items() if value is not None}
    if not given:
        if isinstance(parents, str) and parents.lstrip().startswith("{"):
            return mapping("parents", parents)
        return parents if parents is None or isinstance(parents, Mapping) else list_of(parents, field="parents")
    lists = {name: cast("list[Any]", list_of(value, field=name)) for name, value in given.items() if _is_list(value)}
    if not lists:
        return given
    lengths = {len(each) for each in lists.values()}
    if len(lengths) > 1:
        raise ConfigurationError(f"{', '.join(lists)} must be lists of the same length, with one entry for each run.")
    return [{**given, **{name: each[place] for name, each in lists.items()}} for place in range(lengths.pop())]


def _is_list(value: object) -> bool:
    if isinstance(value, str):
        return value.lstrip().startswith("[")
    return isinstance(value, Sequence) and not isinstance(value, bytes)
