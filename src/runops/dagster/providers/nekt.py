"""Nekt for Dagster: what its resource can do, with runs that Nekt starts itself. All behaviour is in resource.py."""

from __future__ import annotations

from typing import ClassVar

from runops.core import ConfigurationError, RunSnapshot
from runops.dagster.resource import CancellableRunsResource


class NektResource(CancellableRunsResource):
    """Nekt data pipelines. How a run is started over the API is documented nowhere: wait for runs instead."""

    service: ClassVar[str] = "nekt"

    def recent(
        self,
        pipeline: str | None = None,
        *,
        source: str | None = None,
        destination: str | None = None,
        transformation: str | None = None,
    ) -> list[RunSnapshot]:
        """The newest runs of a parent, newest first: a pipeline, or in the newer API one of the three others.

        Args:
            pipeline: The pipeline's id.
            source: The source's id or slug.
            destination: The destination's id or slug.
            transformation: The transformation's id or slug.

        Raises:
            ConfigurationError: None or several are given, or the API answers in a shape that lacks this kind.
        """
        given = {
            "pipeline": pipeline,
            "source": source,
            "destination": destination,
            "transformation": transformation,
        }
        chosen = {kind: value for kind, value in given.items() if value is not None}
        if len(chosen) != 1:
            raise ConfigurationError("recent needs exactly one of pipeline, source, destination, transformation.")
        return self._recent(chosen)
