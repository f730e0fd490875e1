"""httpx transports over our own network streams, and what the environment says of proxies and certificates."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpcore
import httpx

from runops.core.model.errors import ConfigurationError
from runops.core.transport.async_network import AsyncBackend
from runops.core.transport.failures import Peer
from runops.core.transport.network import Backend

KEPT_CONNECTIONS = 100
_PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")


@cache
def ssl_context() -> ssl.SSLContext:
    """One context per process: loading the trust store costs more than a hundred polls.

    Raises:
        ConfigurationError: The certificates that the environment names cannot be loaded.
    """
    try:
        if authorities := os.environ.get("SSL_CERT_FILE"):
            # Older versions of httpx take what they know in the place of a file that is not there.
            Path(authorities).open("rb").close()
        context = httpx.create_ssl_context()
    except OSError as error:
        named = [name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE") if os.environ.get(name)]
        where = ", ".join(f"{name}={os.environ[name]!r}" for name in named) or "the trust store of this Python"
        why = "it holds no certificate that can be read" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigurationError(
            f"The certificates for TLS cannot be loaded from {where} ({why}): name a file of PEM certificates that "
            "can be read, or unset the variable."
        ) from None
    context.set_alpn_protocols(["http/1.1"])
    return context


def proxy_for(root: str) -> str | None:
    """The proxy that the environment names for an address, or None."""
    parts = urlsplit(root)
    host = parts.hostname or ""
    if host in ("localhost", "::1") or host.startswith("127.") or proxy_bypass(host):
        return None
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


def peer_of(root: str, name: str = "the service", *, origin: str = "") -> Peer:
    """Whom the requests to an address go to, in words.

    Args:
        root: The address of the service.
        name: The service's name.
        origin: Where a person set the address.
    """
    proxy = proxy_for(root)
    return Peer(f"{name} at {_host_and_port(root)}", origin, _host_and_port(proxy) if proxy else "")


def _host_and_port(address: str) -> str:
    """Without the user and the password that the address of a proxy may hold."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return "an address that cannot be read"
    host = f"[{host}]" if ":" in host else host
    return host if port is None else f"{host}:{port}"


def check_environment(root: str) -> None:
    """Refuse at once what no connection can be made with, and not between the record of a submit and its POST.

    Args:
        root: The address of the service.

    Raises:
        ConfigurationError: The proxy or the certificates that the environment names cannot be used.
    """
    _proxy(root)
    if root.startswith("https:"):
        ssl_context()


def sync_transport(root: str, *, keep: bool = True) -> httpx.BaseTransport:
    """A transport for one root, each of whose exchanges ``send`` of httpx_pool.py bounds as a whole.

    Args:
        root: The address of the service.
        keep: Whether connections are kept; otherwise each request has a fresh one.

    Raises:
        ConfigurationError: The proxy or the certificates that the environment names cannot be used.
    """
    proxy = _proxy(root)
    shared = _shared_settings(root, _limits(keep), Backend(speaks_http=not _by_socks(proxy)))
    if proxy is None:
        return _Transport(httpcore.ConnectionPool(**shared))
    kind = httpcore.SOCKSProxy if _by_socks(proxy) else httpcore.HTTPProxy
    return _Transport(kind(**shared, **_proxy_settings(proxy)))


def async_transport(root: str, *, keep: bool = True, limits: httpx.Limits | None = None) -> httpx.AsyncBaseTransport:
    """The same for asyncio, where the caller bounds the time. ``limits`` takes the place of ``keep``."""
    proxy = _proxy(root)
    shared = _shared_settings(root, limits or _limits(keep), AsyncBackend(speaks_http=not _by_socks(proxy)))
    if proxy is None:
        return _AsyncTransport(httpcore.AsyncConnectionPool(**shared))
    kind = httpcore.AsyncSOCKSProxy if _by_socks(proxy) else httpcore.AsyncHTTPProxy
    return _AsyncTransport(kind(**shared, **_proxy_settings(proxy)))


def _proxy(root: str) -> httpx.Proxy | None:
    """The proxy for an address, checked. No error quotes its address: that may hold a password.

    Raises:
        ConfigurationError: It cannot be used.
    """
    address = proxy_for(root)
    if address is None:
        return None
    scheme, where = address.partition("://")[0].lower(), _host_and_port(address)
    refused = (
        f"The proxy {scheme}://{where} that the environment names (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY) cannot be used"
    )
    if scheme not in _PROXY_SCHEMES:
        raise ConfigurationError(f"{refused}: its scheme is none of {', '.join(_PROXY_SCHEMES)}. Correct or unset it.")
    if scheme.startswith("socks") and find_spec("socksio") is None:
        raise ConfigurationError(f"{refused}: that takes the package socksio. Install httpx[socks].")
    try:
        return httpx.Proxy(address)
    except (httpx.InvalidURL, ValueError):
        raise ConfigurationError(f"{refused}: it is no address. Correct or unset it.") from None


def _by_socks(proxy: httpx.Proxy | None) -> bool:
    return proxy is not None and proxy.url.scheme.startswith("socks")


def _shared_settings(root: str, limits: httpx.Limits, backend: Backend | AsyncBackend) -> dict[str, Any]:
    return {
        "network_backend": backend,
        "ssl_context": ssl_context() if root.startswith("https:") else None,
        "max_connections": limits.max_connections,
        "max_keepalive_connections": limits.max_keepalive_connections,
        "keepalive_expiry": limits.keepalive_expiry,
    }


def _proxy_settings(proxy: httpx.Proxy) -> dict[str, Any]:
    url = proxy.url
    address = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
    settings: dict[str, Any] = {"proxy_url": address, "proxy_auth": proxy.raw_auth}
    if url.scheme == "https":
        settings["proxy_ssl_context"] = ssl_context()
    return settings


class _Transport(httpx.BaseTransport):
    """What httpx.HTTPTransport does, over a pool whose network backend is ours."""

    def __init__(self, pool: httpcore.ConnectionPool) -> None:
        self._pool = pool

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        with _as_httpx():
            answer = self._pool.handle_request(_for_httpcore(request))
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer), extensions=_kept(answer))

    def close(self) -> None:
        self._pool.close()


class _AsyncTransport(httpx.AsyncBaseTransport):
    """The same for asyncio."""

    def __init__(self, pool: httpcore.AsyncConnectionPool) -> None:
        self._pool = pool

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        with _as_httpx():
            answer = await self._pool.handle_async_request(_for_httpcore(request))
        body = _AsyncBody(answer)
        return httpx.Response(answer.status, headers=answer.headers, stream=body, extensions=_kept(answer))

    async def aclose(self) -> None:
        await self._pool.aclose()


class _Body(httpx.SyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer
        # Under the name that it has in httpx.
        self._httpcore_stream = answer.stream

    def __iter__(self) -> Generator[bytes]:
        with _as_httpx():
            yield from self._answer.iter_stream()

    def close(self) -> None:
        with _as_httpx():
            self._answer.close()


class _AsyncBody(httpx.AsyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer
        self._httpcore_stream = answer.stream

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        with _as_httpx():
            async for chunk in self._answer.aiter_stream():
                yield chunk

    async def aclose(self) -> None:
        with _as_httpx():
            await self._answer.aclose()


def _kept(answer: httpcore.Response) -> dict[str, Any]:
    return {**cast("dict[str, Any]", answer.extensions)}  # pyright: ignore[reportUnknownMemberType]


def _for_httpcore(request: httpx.Request) -> httpcore.Request:
    url = request.url
    return httpcore.Request(
        method=request.method,
        url=httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
        headers=request.headers.raw,
        content=request.stream,
        extensions=request.extensions,
    )


_CORE_ERRORS = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
)


@contextmanager
def _as_httpx() -> Generator[None]:
    try:
        yield
    except _CORE_ERRORS as error:
        # The classes of both bear the same names.
        kind: type[httpx.HTTPError] = getattr(httpx, type(error).__name__, httpx.TransportError)
        raise kind(str(error)) from error


def _limits(keep: bool) -> httpx.Limits:
    if keep:
        return httpx.Limits(max_connections=KEPT_CONNECTIONS, max_keepalive_connections=KEPT_CONNECTIONS)
    return httpx.Limits(max_keepalive_connections=0)
