"""Nexio for Dagster: what its resource can do. All behaviour is in resource.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from runops.core.providers import nexio
from runops.dagster.resource import PlainRunsResource, calls, submits


class NexioResource(PlainRunsResource):
    """Nexio decision engines. Runs of it can be neither listed nor cancelled over the API."""

    service: ClassVar[str] = "nexio"
    example: ClassVar[Mapping[str, Any]] = {"engine_slug": "your-engine", "input": {}}

    call = calls(nexio.submit)
    submit = submits(nexio.submit)
