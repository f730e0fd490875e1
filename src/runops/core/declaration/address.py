"""Addresses: the root under which an API stands, ids that may stand in a path, and the holes that they fill."""

from __future__ import annotations

import re
from functools import cache
from urllib.parse import unquote, urlsplit, urlunsplit
from uuid import UUID

from runops.core.model.codes import Code
from runops.core.model.errors import ConfigurationError


@cache
def holes_of(text: str) -> tuple[str, ...]:
    """The names in braces that a path or link is filled with."""
    return tuple(re.findall(r"{(\w+)}", text))


def check_id(name: str, value: object) -> str:
    """An id that may stand in a path.

    Args:
        name: What it is the id of, for the error.
        value: What was given.

    Raises:
        ConfigurationError: It is empty, no string, or could leave its place in the path.
    """
    if not isinstance(value, str):
        raise ConfigurationError(f"{name} must be a text, not {type(value).__name__}.")
    if not value.strip():
        raise ConfigurationError(f"{name} is empty: give the id as the provider shows it.")
    plain = value.strip()
    for _ in range(3):
        plain = unquote(plain)
    if plain == "." or ".." in plain or any(bad in plain for bad in "/\\") or not plain.isprintable():
        raise ConfigurationError(
            f"{name}={value[:80]!r} cannot be an id: it holds '..', a slash or a control character."
        )
    return value.strip()


def caseless(value: str) -> str:
    """What all spellings of one id share where only upper and lower case may differ.

    Args:
        value: The id.
    """
    return value.strip().casefold()


def uuid(value: str) -> str:
    """What all spellings of one UUID share: case, dashes and braces may differ. Other ids are taken as they are.

    Args:
        value: The id.
    """
    try:
        return UUID(value.strip()).hex
    except ValueError:
        return caseless(value)


def root_of(base_url: str, *, example: str, version_path: str, allow_http: bool) -> str:
    """The root under which all routes stand: any of a host, a URL, a path prefix, with or without a version.

    Args:
        base_url: The address.
        example: An address that is right, for messages.
        version_path: What stands before every route, which the address may repeat, whole or in part.
        allow_http: Allow plain HTTP to other machines too.

    Raises:
        ConfigurationError: It is no web address, holds credentials, or sends a key in the clear.
    """
    base_url = base_url.strip()
    try:
        parts = urlsplit(base_url if "://" in base_url else f"https://{base_url}")
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    if parts.scheme not in ("http", "https") or not host or not re.fullmatch(r"[A-Za-z0-9._:%-]+", host):
        raise ConfigurationError(
            f"base_url {_without_userinfo(base_url)!r} is not a web address such as {example}.",
            error_code=Code.BAD_CONNECTION,
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigurationError(
            f"base_url for {host} must hold no user, password, query or fragment: the key has a field of its own.",
            error_code=Code.BAD_CONNECTION,
        )
    if parts.scheme == "http" and not (allow_http or _is_loopback(host)):
        raise ConfigurationError(
            f"base_url http://{host} would send the key in the clear: use https://, or set allow_http if you "
            "know the network.",
            error_code=Code.BAD_CONNECTION,
        )
    path = parts.path.rstrip("/")
    endings = (version_path, f"/{version_path.rsplit('/', 1)[-1]}", version_path.rsplit("/", 1)[0])
    path = next((path.removesuffix(ending) for ending in endings if ending and path.endswith(ending)), path)
    netloc = f"[{host}]" if ":" in host else host
    return urlunsplit((parts.scheme, netloc if port is None else f"{netloc}:{port}", path.rstrip("/"), "", ""))


def address_variable(provider: str) -> str:
    """The environment variable that names another root than the public one of a provider."""
    return f"{provider.upper()}_BASE_URL"


def _is_loopback(host: str) -> bool:
    return host == "localhost" or host == "::1" or bool(re.fullmatch(r"127(\.\d{1,3}){3}", host))


def _without_userinfo(address: str) -> str:
    return re.sub(r"^([a-z]*://)?.*@", r"\1", address, flags=re.IGNORECASE | re.DOTALL)[:120]
