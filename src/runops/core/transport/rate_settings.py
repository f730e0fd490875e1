"""The limit of requests as a person sets it: how many in a minute, by how many processes, and where they share it."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Self
from urllib.parse import parse_qsl, unquote, urlsplit

from runops.core.declaration.arguments import positive
from runops.core.declaration.registry import nearest
from runops.core.model.codes import Code
from runops.core.model.errors import ConfigurationError
from runops.core.model.secret import Secret

RATE_SETTINGS = ("requests_per_minute", "processes", "rate_store")
"""What a person may set, in every place: connection, resource, component, client and command line."""

_SCHEMES = ("redis", "rediss")
_OPTIONS = ("db", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
"""What may stand behind the question mark: nothing that lengthens a wait for the store, or leaves a check out."""
_WRITE = "write redis://user:password@host:6379/0, or rediss:// for TLS"


@dataclass(frozen=True, slots=True)
class RateSettings:
    """How many requests a minute may leave, here and in other processes that share the key.

    Args:
        requests_per_minute: The limit of all of them together; None for none.
        processes: How many there are.
        store: The address of the Redis where they share it, which may hold a password; empty for none.
    """

    requests_per_minute: float | None = None
    processes: int = 1
    store: Secret = field(default_factory=lambda: Secret(""))

    @classmethod
    def of(
        cls,
        *,
        requests_per_minute: object = None,
        processes: object = None,
        rate_store: object = None,
        origin: str = "",
    ) -> Self:
        """The settings as a person gives them, checked.

        Args:
            requests_per_minute: A number above 0.
            processes: A whole number from 1 on.
            rate_store: ``redis://[user:password@]host:port/db``, or ``rediss://`` for TLS.
            origin: Where they were set, such as ``connection 'nexio_default'``.

        Raises:
            ConfigurationError: One cannot be used. No text holds the address of the store as it was given.
        """
        where = f" of {origin}" if origin else ""
        if rate_store is not None and not isinstance(rate_store, (str, Secret)):
            raise ConfigurationError(
                f"rate_store{where} must be an address, not {type(rate_store).__name__}: {_WRITE}.",
                error_code=Code.BAD_CONNECTION,
            )
        settings = cls(
            None if requests_per_minute is None else positive(f"requests_per_minute{where}", requests_per_minute),
            1 if processes is None else _whole(f"processes{where}", processes),
            Secret(rate_store),
        )
        if settings.requests_per_minute is None:
            for name, given in {"processes": processes is not None, "rate_store": bool(settings.store)}.items():
                if given:
                    raise ConfigurationError(
                        f"{name}{where} is set without requests_per_minute: set the limit that the processes share.",
                        error_code=Code.BAD_CONNECTION,
                    )
        if settings.store:
            _check_address(settings.store, f"rate_store{where}")
            _check_library(f"rate_store{where}")
        return settings

    @property
    def alone(self) -> float | None:
        """Requests a minute that this process may send by itself."""
        return None if self.requests_per_minute is None else self.requests_per_minute / self.processes

    @property
    def pace(self) -> float | None:
        """Requests a minute that this process may send at the most: all of them, where the others need none."""
        return self.requests_per_minute if self.store else self.alone

    @property
    def key(self) -> tuple[object, ...]:
        """What two sessions must share to share places; the address only as a hash."""
        return (self.requests_per_minute, self.processes, self.store.fingerprint if self.store else "")


NO_LIMIT = RateSettings()
"""What holds where nothing is set."""


def _whole(name: str, value: object) -> int:
    number = positive(name, value)
    if number != int(number):
        raise ConfigurationError(
            f"{name} must be a whole number from 1 on, not {value!r}.", error_code=Code.BAD_CONNECTION
        )
    return int(number)


def _check_library(named: str) -> None:
    if find_spec("redis") is None:
        raise ConfigurationError(
            f"{named} needs the Redis client of Python: pip install 'runops[redis]'.", error_code=Code.BAD_CONNECTION
        )


def _check_address(address: Secret, named: str) -> None:
    """Refuse what is no address of a Redis, without quoting it."""
    problem = _problem_of(address)
    if problem:
        raise ConfigurationError(f"{named} {problem}", error_code=Code.BAD_CONNECTION)


def _problem_of(address: Secret) -> str:
    # It raises nothing: the parts of an address that holds a password must stand in no frame of an error.
    try:
        parts = urlsplit(address.reveal())
        readable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        parts, readable = urlsplit("redis:"), False
    if parts.scheme not in _SCHEMES:
        return f"has a scheme that is none of {', '.join(_SCHEMES)}: {_WRITE}."
    database = parts.path.strip("/")
    if not readable or parts.fragment or (database and not database.isdigit()):
        # What stands behind the host is most often the end of a password.
        return f"is no address: {_WRITE}, with %XX for special letters."
    for name, _ in parse_qsl(parts.query, keep_blank_values=True):
        if name not in _OPTIONS:
            return f"has an option that is none of {', '.join(_OPTIONS)}.{nearest(name, _OPTIONS)}"
    return ""


def secrets_of(store: object) -> tuple[Secret, ...]:
    """What a host must mask where somebody has set a store: its address and the password in it, as it is meant too."""
    if not isinstance(store, Secret) or not store:
        return ()
    try:
        password = Secret(urlsplit(store.reveal()).password)
    except ValueError:
        password = Secret("")
    return tuple(each for each in (store, password, Secret(unquote(password.reveal()))) if each)


def host_and_port(address: Secret) -> str:
    """The address of a store for messages, without the user and the password."""
    parts = urlsplit(address.reveal())
    host = parts.hostname or ""
    return f"{f'[{host}]' if ':' in host else host}:{parts.port or 6379}"
