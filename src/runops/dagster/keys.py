"""Keeps API keys out of everything that Dagster shows or stores: a resource field holds a token that stands for one.

Dagster writes the configured values of a resource into the repository snapshot. A variable named by ``dg.EnvVar``
appears there by its name; a key given as plain text would appear as it is, so its place is taken by a token.

A key may be rotated while a step waits. So what a variable or a file holds is read anew for each client, and again when
the service refuses it. The environment of a process does not change by itself: a key that is to be rotated under
running steps stands in a file (``api_key_file``, such as a mounted secret of Kubernetes, which is kept up to date
there), or in what Dagster's own secrets loader reads, such as a ``.env`` file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from runops.core import ConfigurationError
from runops.core.model.codes import Code
from runops.core.model.secret import Secret

_PREFIX = "hidden-"
_held: dict[str, Secret] = {}
_variables: set[str] = set()
_named: dict[str, str] = {}
"""The one variable that held the key when its token was made: Dagster puts in its place what it holds."""
KeySource = Callable[[], Secret]
LARGEST_FILE = 100_000
"""Bytes."""


@dataclass(frozen=True, slots=True)
class VariableKey:
    """Reads the key that an environment variable holds now.

    Args:
        name: The variable.
    """

    name: str

    def __call__(self) -> Secret:
        """The key; empty where the variable is not set."""
        return Secret(os.environ.get(self.name))


@dataclass(frozen=True, slots=True)
class FileKey:
    """Reads the key that a file holds now.

    Args:
        path: The file.
    """

    path: str

    def __call__(self) -> Secret:
        """The key, without the line break at its end."""
        with Path(self.path).expanduser().open(encoding="utf-8") as file:
            return Secret(file.read(LARGEST_FILE))


class RefreshedKey:
    """Reads a key; where it is the one of before, what brings the process up to date is called first.

    Args:
        read: Reads it.
        refresh: Brings the process up to date.
    """

    def __init__(self, read: KeySource, refresh: Callable[[], None]) -> None:
        self._read = read
        self._refresh = refresh
        self._before = read()

    def __call__(self) -> Secret:
        """The key."""
        key = self._read()
        if key == self._before:
            self._refresh()
            key = self._read()
        self._before = key
        return key


def hide(value: object) -> object:
    """What may stand in a field in place of a key: variables as they are, a token for anything else."""
    if isinstance(value, dg.EnvVar):
        _variables.add(value.env_var_name)
        return value
    if not isinstance(value, str) or not value or value.startswith(_PREFIX):
        return value
    stands_for = _PREFIX + hashlib.sha256(value.encode()).hexdigest()[:16]
    _held[stands_for] = Secret(value)
    named = [name for name in _variables if VariableKey(name)() == _held[stands_for]]
    if len(named) == 1:
        _named.setdefault(stands_for, named[0])
    return stands_for


def check_one(kind: str, api_key: object, api_key_file: object) -> None:
    """Refuse a resource that has no place for its key, or two.

    Dagster builds a resource anew with what its variables hold: an empty one is refused where the key is used, by the
    text that names the resource and the variable.

    Raises:
        ConfigurationError: As it says.
    """
    if (api_key is None and not api_key_file) or (api_key and api_key_file):
        given = "both api_key and api_key_file" if api_key else "neither api_key nor api_key_file"
        raise ConfigurationError(
            f"{kind} has {given}: give one, such as api_key=dg.EnvVar('NAME').", error_code=Code.BAD_CONNECTION
        )


def of_file(path: str, *, field: str) -> tuple[Secret, str, KeySource]:
    """The key in a file, a text that names the file, and how it is read again.

    Raises:
        ConfigurationError: The file cannot be read, or holds nothing.
    """
    try:
        key = FileKey(path)()
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{field}: {path!r} cannot be read ({type(error).__name__}).", error_code=Code.MISSING_KEY
        ) from None
    if not key:
        raise ConfigurationError(f"{field}: {path!r} is empty: put the API key there.", error_code=Code.MISSING_KEY)
    return key, f"file {path!r}", FileKey(path)


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
            raise ConfigurationError(
                f"The environment variable {name} ({field}) is not set: put the {what} there.",
                error_code=Code.MISSING_KEY,
            )
        return key, f"environment variable {name}"
    if value.startswith(_PREFIX) and value not in _held:
        raise ConfigurationError(
            f"{field} holds a stand-in for a text that this process was never given: use dg.EnvVar for the {what}.",
            error_code=Code.BAD_CONNECTION,
        )
    source = source_of(value)
    if source is not None and source():
        return source(), f"environment variable {source.name}"
    key = _held.get(value) or Secret(value)
    # A variable that is not set is not where an empty key comes from.
    named = [name for name in sorted(_variables) if name in os.environ and VariableKey(name)() == key]
    return key, f"environment variable {named[0]}" if named else field


def source_of(value: str) -> VariableKey | None:
    """How the key behind a field is read again; None for a key that stands in the definitions themselves."""
    name = value.env_var_name if isinstance(value, dg.EnvVar) else _named.get(value)
    return None if name is None else VariableKey(name)
