"""How the extra of an Airflow connection is read. What may be secret in it is hidden at once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from runops.core import Provider
from runops.core.model.codes import Code
from runops.core.model.errors import ConfigurationError
from runops.core.model.secret import Secret

SECRET_EXTRAS = ("proxy", "rate_store")
"""The keys of the extra whose values may hold a password."""


def extra_of(written: Secret, origin: str) -> Mapping[str, Any]:
    """The extra of a connection, with what may be secret in it hidden.

    :param written: Its JSON.
    :param origin: The connection, as a message names it.
    :raises ConfigurationError: It is no JSON object.
    """
    # Airflow's own reader masks each value by a call that is not safe on an event loop.
    try:
        extra = json.loads(written.reveal() or "{}")
    except ValueError:
        extra = None
    if not isinstance(extra, dict):
        del extra
        raise unusable(f"The extra of {origin} is no JSON object.")
    for name in SECRET_EXTRAS:
        if isinstance(extra.get(name), str):
            extra[name] = Secret(extra[name])
    return extra


def states_of(provider: Provider, value: object, origin: str) -> Mapping[str, str] | None:
    """The words that a connection teaches: a JSON object, or the text of one.

    :param provider: Whose runs report them.
    :param value: What stands in the extra.
    :param origin: The connection, as a message names it.
    :raises ConfigurationError: It is none, or teaches wrongly.
    """
    if value is None or value == "":
        return None
    states = cast("Mapping[str, str]", value)
    try:
        states = json.loads(value) if isinstance(value, str) else states
    except ValueError:
        raise unusable(f"The extra of {origin}: states is no JSON object of words.") from None
    try:
        provider.with_states(states)
    except ConfigurationError as error:
        raise unusable(f"The extra of {origin}: {error.text}") from None
    return states


def unusable(text: str) -> ConfigurationError:
    """A refusal of what a connection says.

    :param text: The connection, the field, and what to do.
    """
    return ConfigurationError(text, error_code=Code.BAD_CONNECTION)


def text(value: object) -> str | None:
    """A value as text; None where it is empty.

    :param value: What stands in the extra.
    """
    return None if value is None or value == "" else str(value)


def flag(value: object) -> bool:
    """A yes or no, also where it is written as a text.

    :param value: What stands in the extra.
    """
    return value.strip().lower() in ("1", "true", "yes", "on") if isinstance(value, str) else bool(value)
