"""The five run APIs served on this machine; nothing here knows how runops reads them.

Users test their DAGs and Dagster definitions against it, and so does runops itself::

    from runops.emulator.server import running

    with running(seed=1) as server:
        run_id = server.emulator.create_run("nexio", script="degraded")
        ...  # point a client at server.base_url("nexio")

From a shell: ``runops emulate --port 8642`` or ``python -m runops.emulator --port 8642``.
The control API is described in :mod:`runops.emulator.control`; how a submitted run chooses
its script is described in the module of each provider.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = ["create_app"]


def create_app(seed: int = 0, *, seconds: float = 2.0, **settings: Any) -> Starlette:
    """Build the ASGI app; see :func:`runops.emulator.app.create_app`.

    Args:
        seed: Where ids and random faults start from. The same seed gives the same behaviour.
        seconds: How long a named script lasts when a run does not say so.
        **settings: Handed on to :func:`runops.emulator.app.create_app`.

    Raises:
        ImportError: If starlette is not installed; the message names the extra.
    """
    from runops.emulator.server import require_extra

    require_extra()
    from runops.emulator.app import create_app as build

    return build(seed, seconds=seconds, **settings)
