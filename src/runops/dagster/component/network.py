"""What a ``defs.yaml`` may say of certificates and proxies, checked while it is loaded. Files are read in the step."""

from __future__ import annotations

from typing import Protocol

from runops.core import RunopsError
from runops.core.transport.network_settings import NetworkSettings
from runops.dagster.component.defs_file import WrongField


class NetworkPart(Protocol):
    """The part of a file that is checked."""

    verify: str | None
    client_cert: str | None
    client_key: str | None
    proxy: str | None
    proxy_env_var: str | None
    requests_per_minute: float | None
    processes: int | None
    rate_store_env_var: str | None


def check_network(part: NetworkPart) -> None:
    """Refuse what cannot be used, at its place in the file.

    Raises:
        WrongField: A field is wrong; no text holds a password.
    """
    if part.proxy is not None and part.proxy_env_var is not None:
        raise WrongField(["proxy"], "give proxy or proxy_env_var, not both")
    if part.proxy is not None and "@" in part.proxy:
        raise WrongField(["proxy"], "holds a user or password, which stand in no file: use proxy_env_var")
    for name in ("processes", "rate_store_env_var"):
        if getattr(part, name) is not None and part.requests_per_minute is None:
            raise WrongField([name], "is set without requests_per_minute: set the limit that the processes share")
    for name, settings in {
        "verify": {"verify": part.verify},
        "client_cert": {"client_cert": part.client_cert},
        "client_key": {"client_cert": part.client_cert, "client_key": part.client_key},
        "proxy": {"proxy": part.proxy},
    }.items():
        try:
            NetworkSettings.of(**settings, origin="")
        except RunopsError as error:
            raise WrongField([name], error.text) from None
