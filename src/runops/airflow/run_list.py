"""A list that a template, another task's output or the DAG itself gives, as a list. It knows no run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from runops.core import ConfigurationError


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
            raise ConfigurationError(
                f"{field} is a text and no list: pass another task's output as it is (task.output), or let a template "
                "give JSON ({{ ... | tojson }})."
            )
        return cast("list[object]", found)
    if isinstance(value, (bytes, Mapping, list)) or not isinstance(value, Sequence):
        return cast("Any", value)
    return list(cast("Sequence[object]", value))
