"""Keeps API keys out of everything that Dagster shows or stores: a resource field holds a token that stands for one.

Dagster writes the configured values of a resource into the repository snapshot. A variable named by ``dg.EnvVar``
appears there by its name; a key given as plain text would appear as it is, so its place is taken by a token.
"""

from __future__ import annotations

import hashlib
import os

import dagster as dg

from runops.core import ConfigurationError
from runops.core.model.secret import Secret

_PREFIX = "hidden-"
_held: dict[str, Secret] = {}
_variables: set[str] = set()


def hide(value: object) -> object:
    """What may stand in a field in place of a key: variables as they are, a token for anything else."""
    if isinstance(value, dg.EnvVar):
        _variables.add(value.env_var_name)
        return value
    if not isinstance(value, str) or not value or value.startswith(_PREFIX):
        return value
    stands_for = _PREFIX + hashlib.sha256(value.encode()).hexdigest()[:16]
    _held[stands_for] = Secret(value)
    return stands_for


def is_known(value: str) -> bool:
    """Whether this process knows what a field stands for, without looking at a variable."""
    return not isinstance(value, dg.EnvVar) and (not value.startswith(_PREFIX) or value in _held)


def reveal(value: str, *, field: str, what: str = "API key") -> tuple[Secret, str]:
    """The key behind a field, and a text that names where a person set it.

    Args:
        value: What the field holds.
        field: The field as a message names it, such as ``api_key of NexioResource``.
        what: What it is, in words.

    Raises:
        ConfigurationError: The variable is not set, or the token was made by another process for another key.
    """
    if isinstance(value, dg.EnvVar):
        name = value.env_var_name
        key = Secret(value.get_value())
        if not key:
            raise ConfigurationError(f"The environment variable {name} ({field}) is not set: put the {what} there.")
        return key, f"environment variable {name}"
    if value.startswith(_PREFIX) and value not in _held:
        raise ConfigurationError(
            f"{field} holds a stand-in for a text that this process was never given: use dg.EnvVar for the {what}."
        )
    key = _held.get(value) or Secret(value)
    # A variable that is not set is not where an empty key comes from.
    named = [name for name in sorted(_variables) if name in os.environ and Secret(os.environ[name]) == key]
    return key, f"environment variable {named[0]}" if named else field
