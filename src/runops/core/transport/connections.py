"""httpx transports over our own network streams, with the certificates and the proxy of network_settings.py."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, cast

import httpcore
import httpx

from runops.core.model.codes import Code
from runops.core.model.errors import ConfigurationError
from runops.core.transport.async_network import AsyncBackend
from runops.core.transport.network import Backend
from runops.core.transport.network_settings import BY_ENVIRONMENT, NetworkSettings, refused_proxy

KEPT_CONNECTIONS = 100
YOUNG_SECONDS = 1.0


def sync_transport(root: str, *, keep: bool = True, network: NetworkSettings = BY_ENVIRONMENT) -> httpx.BaseTransport:
    """A transport for one root, each of whose exchanges ``send`` of httpx_pool.py bounds as a whole.

    Args:
        root: The address of the service.
        keep: Whether connections are kept; otherwise each request has a fresh one.
        network: Certificates and proxy.

    Raises:
        ConfigurationError: The proxy or a file of certificates cannot be used.
    """
    proxy = _proxy(root, network)
    shared = _shared_settings(root, network, _limits(keep), Backend(speaks_http=not _by_socks(proxy)))
    if proxy is None:
        return _Transport(httpcore.ConnectionPool(**shared))
    kind = httpcore.SOCKSProxy if _by_socks(proxy) else httpcore.HTTPProxy
    return _Transport(kind(**shared, **_proxy_settings(proxy, network)))


def async_transport(
    root: str,
    *,
    keep: bool = True,
    limits: httpx.Limits | None = None,
    network: NetworkSettings = BY_ENVIRONMENT,
) -> httpx.AsyncBaseTransport:
    """The same for asyncio, where the caller bounds the time. ``limits`` takes the place of ``keep``."""
    proxy = _proxy(root, network)
    shared = _shared_settings(root, network, limits or _limits(keep), AsyncBackend(speaks_http=not _by_socks(proxy)))
    if proxy is None:
        return _AsyncTransport(httpcore.AsyncConnectionPool(**shared))
    kind = httpcore.AsyncSOCKSProxy if _by_socks(proxy) else httpcore.AsyncHTTPProxy
    return _AsyncTransport(kind(**shared, **_proxy_settings(proxy, network)))


def check_network(root: str, network: NetworkSettings) -> None:
    """Refuse at once what no connection can be made with, and not between the record of a submit and its POST.

    Args:
        root: The address of the service.
        network: Certificates and proxy.

    Raises:
        ConfigurationError: The proxy or a file of certificates cannot be used.
    """
    proxy = _proxy(root, network)
    if root.startswith("https:"):
        network.certificates.context()
    if proxy is not None and proxy.url.scheme == "https":
        network.certificates.to_proxy().context()


def _proxy(root: str, network: NetworkSettings) -> httpx.Proxy | None:
    """The proxy for an address, checked. No error quotes its address: that may hold a password.

    Raises:
        ConfigurationError: It cannot be used.
    """
    address, named = network.proxy_for(root)
    if not address:
        return None
    if address.reveal().lower().startswith("socks") and find_spec("socksio") is None:
        refused = refused_proxy(address, named)
        raise ConfigurationError(
            f"{refused}: that takes the package socksio. Install httpx[socks].", error_code=Code.BAD_CONNECTION
        )
    try:
        return httpx.Proxy(address.reveal())
    except (httpx.InvalidURL, ValueError):
        refused = refused_proxy(address, named)
    raise ConfigurationError(f"{refused}: it is no address. Correct or unset it.", error_code=Code.BAD_CONNECTION)


def _by_socks(proxy: httpx.Proxy | None) -> bool:
    return proxy is not None and proxy.url.scheme.startswith("socks")


def _shared_settings(
    root: str, network: NetworkSettings, limits: httpx.Limits, backend: Backend | AsyncBackend
) -> dict[str, Any]:
    return {
        "network_backend": backend,
        # Each connection asks for the one of its moment: the streams do, by `latest`.
        "ssl_context": network.certificates.context() if root.startswith("https:") else None,
        "max_connections": limits.max_connections,
        "max_keepalive_connections": limits.max_keepalive_connections,
        "keepalive_expiry": limits.keepalive_expiry,
    }


def _proxy_settings(proxy: httpx.Proxy, network: NetworkSettings) -> dict[str, Any]:
    url = proxy.url
    address = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
    settings: dict[str, Any] = {"proxy_url": address, "proxy_auth": proxy.raw_auth}
    if url.scheme == "https":
        settings["proxy_ssl_context"] = network.certificates.to_proxy().context()
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


def young_only() -> httpx.Limits:
    """Of a pool whose connections are used again within a second, and never after that.

    A service closes connections that stand idle, the hastiest of them after two seconds. On one that is being closed a
    submit would get lost, and nobody could tell whether it was read.
    """
    return httpx.Limits(max_keepalive_connections=KEPT_CONNECTIONS, keepalive_expiry=YOUNG_SECONDS)


def _limits(keep: bool) -> httpx.Limits:
    if keep:
        return httpx.Limits(max_connections=KEPT_CONNECTIONS, max_keepalive_connections=KEPT_CONNECTIONS)
    return httpx.Limits(max_keepalive_connections=0)
