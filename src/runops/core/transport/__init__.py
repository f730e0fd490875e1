"""How one request gets to a service and its answer back: connections, limits, authentication, what an answer means.

:func:`open_pool` chooses the pool. What reads an answer without sending anything imports no httpx, so nothing here does
before a pool is wanted.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runops.core.transport.base import Pool
    from runops.core.transport.failures import Peer
    from runops.core.transport.http1_pool import Http1Pool
    from runops.core.transport.httpx_pool import AsyncTransport
    from runops.core.transport.network_settings import NetworkSettings

STRICT = [0, 6, 3]
"""The first version of httptools that refuses a header without a name, and one with a space before its colon."""


def open_pool(
    root: str,
    *,
    max_connections: int,
    transport: AsyncTransport | None = None,
    lean: bool = True,
    peer: Peer | None = None,
    network: NetworkSettings | None = None,
) -> Pool:
    """A pool for one root. It opens no connection before the first exchange.

    Args:
        root: The address of the service.
        max_connections: The most connections.
        transport: Takes the place of real connections; the pool does not close it.
        lean: Use the HTTP/1.1 pool where it serves: httptools 0.6.3 is installed, and there is no proxy.
        peer: Whom requests go to, for messages.
        network: Certificates and proxy; by default what the environment says.

    Raises:
        ConfigurationError: The proxy or a file of certificates cannot be used.
    """
    from runops.core.transport.httpx_pool import HttpxPool
    from runops.core.transport.network_settings import BY_ENVIRONMENT

    network = network or BY_ENVIRONMENT
    if lean and transport is None and not network.proxy_for(root)[0] and (pool := lean_pool()) is not None:
        return pool(root, max_connections=max_connections, peer=peer, network=network)
    return HttpxPool(root, max_connections=max_connections, transport=transport, peer=peer, network=network)


def lean_pool() -> type[Http1Pool] | None:
    """The HTTP/1.1 pool; None where httptools, whose parser it uses, is missing or too old."""
    try:
        import httptools

        from runops.core.transport.http1_pool import Http1Pool
    except ModuleNotFoundError as error:
        if error.name != "httptools":
            raise
        return None
    version = [int(number) for number in re.findall(r"\d+", httptools.__version__)[:3]]
    return Http1Pool if version >= STRICT else None
