"""What a trigger takes in Airflow's database, and whether that has room for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from airflow.triggers.base import BaseTrigger

from runops.airflow._compat import trigger_bytes
from runops.core import ConfigurationError

_TOKEN = 57
"""Of Airflow's encryption: a version, a time, an initial vector and a signature."""
_BLOCK = 16


def stored(arguments: Mapping[str, Any]) -> int:
    """How many bytes a trigger's arguments take as Airflow keeps them: as JSON, encrypted, in base 64.

    :param arguments: As the trigger gives them for storage.
    """
    plain = len(json.dumps(arguments))
    return 4 * -(-(_TOKEN + _BLOCK * (plain // _BLOCK + 1)) // 3)


def too_large(arguments: Mapping[str, Any]) -> str | None:
    """Why a task cannot begin in the triggerer, as the rest of a sentence: the database has no room for what it needs.

    :param arguments: The largest part of the trigger's arguments.
    """
    room = trigger_bytes()
    if room is None or (taken := stored(arguments)) <= room:
        return None
    return f"its trigger would take {taken:,} bytes and more, and this Airflow's database keeps {room:,}"


def check_size(trigger: BaseTrigger, runs: int, *, field: str) -> None:
    """Refuse a deferral for which the database has no room: Airflow would fail the task with an error of its server.

    :param trigger: What is to be stored.
    :param runs: How many runs it waits for.
    :param field: What names them.
    :raises ConfigurationError: It does not fit; says how many runs would.
    """
    room = trigger_bytes()
    if room is None or (taken := stored(trigger.serialize()[1])) <= room:
        return
    raise ConfigurationError(
        f"{field} names so many runs that the trigger for {runs:,} of them takes {taken:,} bytes, and this Airflow's "
        f"database keeps {room:,} of one. About {max(runs * room // taken, 1):,} fit: give each task fewer runs, or "
        'wait with deferrable=False and mode="reschedule".'
    )
