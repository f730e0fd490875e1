"""How a service is reached, by what a person has set or the environment says: certificates and the proxy."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Self, cast
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from runops.core.model.codes import Code
from runops.core.model.errors import ConfigurationError
from runops.core.model.secret import Secret
from runops.core.transport.certificates import Certificates
from runops.core.transport.failures import Peer

NETWORK_SETTINGS = ("verify", "client_cert", "client_key", "proxy")
"""What a person may set, in every place: connection, resource, component, client and command line."""

PathSetting = str | os.PathLike[str] | bool | None
"""The path of a file. True and None for what the environment says."""

_PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")
_NAMED_BY_ENVIRONMENT = "that the environment names (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY)"
_LONGEST_QUOTED = 200


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """How connections to a service are made. What is not set is as the environment says.

    Args:
        certificates: The files of TLS.
        proxy: The address of a proxy, which may hold a password; empty for what the environment says.
        origin: Where a person set them, for messages.
    """

    certificates: Certificates = field(default_factory=Certificates)
    proxy: Secret = field(default_factory=lambda: Secret(""))
    origin: str = field(default="", compare=False)

    @classmethod
    def of(
        cls,
        *,
        verify: PathSetting = None,
        client_cert: PathSetting = None,
        client_key: PathSetting = None,
        proxy: str | Secret | None = None,
        origin: str = "",
    ) -> Self:
        """The settings as a person gives them, checked as far as it takes no file.

        Args:
            verify: A file of the authorities that are accepted.
            client_cert: A file with our certificate.
            client_key: A file with its key.
            proxy: ``scheme://[user:password@]host:port``.
            origin: Where they were set, such as ``connection 'nexio_default'``.

        Raises:
            ConfigurationError: One cannot be used. No text holds the address of the proxy as it was given.
        """
        where = f" of {origin}" if origin else ""
        paths = {
            "verify": _authorities(verify, where),
            "client_cert": _path("client_cert", client_cert, where),
            "client_key": _path("client_key", client_key, where),
        }
        if paths["client_key"] and not paths["client_cert"]:
            raise ConfigurationError(
                f"client_key{where} is set without client_cert: name the file of the certificate.",
                error_code=Code.BAD_CONNECTION,
            )
        settings = cls(Certificates(**paths, origin=origin), _address(proxy, where), origin)
        if settings.proxy:
            _check_address(settings.proxy, settings._named_proxy)
        return settings

    @property
    def key(self) -> tuple[str, ...]:
        """What two sessions must share to share connections; the proxy only as a hash."""
        files = self.certificates
        return (files.verify, files.client_cert, files.client_key, self.proxy.fingerprint if self.proxy else "")

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """What must be cut out of any text before a person sees it."""
        if not self.proxy:
            return ()
        # As it is written, and as it is meant: a proxy may repeat either.
        written = [Secret(urlsplit(self.proxy.reveal()).password)]
        return tuple(each for each in (self.proxy, *written, *(Secret(unquote(s.reveal())) for s in written)) if each)

    def proxy_for(self, root: str) -> tuple[Secret, str]:
        """The address of the proxy for a root, or an empty one, and how messages name it.

        A proxy that was set is used whatever NO_PROXY says.

        Raises:
            ConfigurationError: It is no address.
        """
        address, named = self.proxy, self._named_proxy
        if not address:
            address, named = Secret(proxy_of_environment(root)), _NAMED_BY_ENVIRONMENT
        if address:
            _check_address(address, named)
        return address, named

    @property
    def _named_proxy(self) -> str:
        return f"in proxy of {self.origin}" if self.origin else "in proxy"

    def peer(self, root: str, name: str = "the service", *, origin: str = "") -> Peer:
        """Whom the requests to an address go to, in words.

        Args:
            root: The address of the service.
            name: The service's name.
            origin: Where a person set the address.
        """
        proxy = self.proxy.reveal() or proxy_of_environment(root)
        return Peer(
            f"{name} at {_host_and_port(root)}",
            origin,
            proxy=_host_and_port(proxy) if proxy else "",
            proxy_setting=f"proxy of {self.origin}" if self.proxy and self.origin else "proxy" if self.proxy else "",
            accepts=self.certificates.text("verify"),
            shows=self.certificates.text("client_cert"),
            secrets=self.secrets,
        )


BY_ENVIRONMENT = NetworkSettings()
"""What holds where nothing is set."""


def _authorities(value: PathSetting, where: str) -> str:
    word = value.strip().lower() if isinstance(value, str) else value
    if word in (True, "true"):
        return ""
    if word in (False, "false"):
        raise ConfigurationError(
            f"verify{where} is false: the key would go to whoever answers, so certificates are always checked. Name "
            "the file of the authority that signs those of the service, or set verify to true for the usual ones.",
            error_code=Code.BAD_CONNECTION,
        )
    return _path("verify", value, where)


def _path(name: str, value: object, where: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, (str, os.PathLike)):
        raise ConfigurationError(
            f"{name}{where} must be the path of a PEM file, not {type(value).__name__}.", error_code=Code.BAD_CONNECTION
        )
    path = os.fspath(cast("str | os.PathLike[str]", value)).strip()
    if "-----BEGIN" in path or "\n" in path or len(path) > 4 * _LONGEST_QUOTED:
        # Not repeated: it may be a key.
        raise ConfigurationError(
            f"{name}{where} holds a certificate or key itself: name the path of a file with it.",
            error_code=Code.BAD_CONNECTION,
        )
    return os.path.expanduser(path)  # noqa: PTH111 - pathlib raises where there is no home


def _address(value: object, where: str) -> Secret:
    if value is not None and not isinstance(value, (str, Secret)):
        raise ConfigurationError(
            f"proxy{where} must be an address such as http://host:3128, not {_kind(value)}.",
            error_code=Code.BAD_CONNECTION,
        )
    address = Secret(value)
    return Secret(_with_scheme(address.reveal())) if address else address


def _kind(value: object) -> str:
    return type(value).__name__


def _with_scheme(address: str) -> str:
    return address if "://" in address else f"http://{address}"


def proxy_of_environment(root: str) -> str:
    """The proxy that the environment names for an address; empty for none."""
    parts = urlsplit(root)
    host = parts.hostname or ""
    if host in ("localhost", "::1") or host.startswith("127.") or proxy_bypass(host):
        return ""
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return _with_scheme(proxy) if proxy else ""


def refused_proxy(address: Secret, named: str) -> str:
    """How a message about a proxy begins. It never quotes its whole address: that may hold a password."""
    scheme = address.reveal().partition("://")[0].lower()
    return f"The proxy {scheme}://{_host_and_port(address.reveal())} {named} cannot be used"


def _check_address(address: Secret, named: str) -> None:
    """Refuse what is no address of a proxy.

    Raises:
        ConfigurationError: It is none.
    """
    scheme = address.reveal().partition("://")[0].lower()
    if not scheme.isalnum() or not _is_host_alone(address.reveal()):
        raise ConfigurationError(
            f"The proxy {named} cannot be used: write scheme://user:password@host:port, with %XX for each letter of "
            "user and password that is neither a letter nor a digit.",
            error_code=Code.BAD_CONNECTION,
        )
    if scheme not in _PROXY_SCHEMES:
        raise ConfigurationError(
            f"{refused_proxy(address, named)}: its scheme is none of {', '.join(_PROXY_SCHEMES)}. Correct or unset it.",
            error_code=Code.BAD_CONNECTION,
        )
    if not _host_of(address.reveal()):
        raise ConfigurationError(
            f"{refused_proxy(address, named)}: it is no address. Correct or unset it.", error_code=Code.BAD_CONNECTION
        )


def _is_host_alone(address: str) -> bool:
    """Whether nothing stands behind the host: where something does, it is most often the end of a password."""
    try:
        parts = urlsplit(address)
    except ValueError:
        # It is refused as no address.
        return True
    return parts.path in ("", "/") and not parts.query and not parts.fragment


def _host_of(address: str) -> str:
    try:
        parts = urlsplit(address)
        # An unreadable port says so when it is asked for.
        return (parts.hostname or "") if parts.port != 0 else ""
    except ValueError:
        return ""


def _host_and_port(address: str) -> str:
    """Without the user and the password that the address of a proxy may hold."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return "an address that cannot be read"
    host = f"[{host}]" if ":" in host else host
    return host if port is None else f"{host}:{port}"
