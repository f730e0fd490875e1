"""Run APIs served on this machine: five, and those that are handed in. Nothing here knows how runops reads them.

Users test their DAGs and Dagster definitions against it, and so does runops itself::

    from runops.emulator.server import running

    with running(seed=1) as server:
        run_id = server.emulator.create_run("nexio", script="degraded")
        ...  # point a client at server.base_url("nexio")

From a shell: ``runops emulate --port 8642`` or ``python -m runops.emulator --port 8642``.
The control API is described in :mod:`runops.emulator.control`; how a submitted run chooses its script is described
in the file of each provider in :mod:`runops.emulator.services`. A service of your own is a subclass of
:class:`runops.emulator.api.Api`: ``create_app(apis=[AcmeApi])``, or ``runops emulate --api acme.emulated:AcmeApi``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from runops.emulator.api import Api

__all__ = ["create_app"]


def create_app(
    seed: int = 0, *, apis: Iterable[type[Api]] | None = None, seconds: float = 2.0, **settings: Any
) -> Starlette:
    """Build the ASGI app; see :func:`runops.emulator.app.create_app`.

    Args:
        seed: Where ids and random faults start from. The same seed gives the same behaviour.
        apis: The services; the five that come with runops if None.
        seconds: How long a named script lasts when a run does not say so.
        **settings: Handed on to :func:`runops.emulator.app.create_app`.

    Raises:
        ImportError: If starlette is not installed; the message names the extra.
        ValueError: If two of the services have one name.
    """
    from runops.emulator.server import require_extra

    require_extra()
    from runops.emulator.app import create_app as build

    return build(seed, apis=apis, seconds=seconds, **settings)
