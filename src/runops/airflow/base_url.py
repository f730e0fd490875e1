"""The address that the fields of an Airflow connection spell together."""

from __future__ import annotations

from typing import Any

SCHEMES = ("http", "https")


def base_url(connection: Any) -> str | None:
    """The address that host, port and schema spell together, or None for the public one.

    The schema is the scheme where it is ``http`` or ``https``, and a path otherwise, as in a connection URI.
    """
    host = (connection.host or "").strip()
    if not host:
        return None
    schema = (connection.schema or "").strip().strip("/")
    scheme, separator, rest = host.partition("://")
    if not separator:
        scheme, rest = (schema if schema in SCHEMES else "https"), host
    authority, slash, path = rest.partition("/")
    if connection.port and not authority.rpartition("]")[2].count(":"):
        authority = f"{authority}:{connection.port}"
    if schema and schema not in SCHEMES:
        path = f"{path.rstrip('/')}/{schema}" if path.strip("/") else schema
        slash = "/"
    return f"{scheme}://{authority}{slash}{path}"
