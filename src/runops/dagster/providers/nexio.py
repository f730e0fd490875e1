"""Nexio for Dagster: a resource with the arguments of its runs. All behaviour is in resource.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runops.core import Call, Provider, RunRef, find
from runops.dagster.resource import PlainRunsResource


class NexioResource(PlainRunsResource):
    """Nexio decision engines. Runs of it can be neither listed nor cancelled over the API."""

    @property
    def declaration(self) -> Provider:
        """The service's declaration."""
        return find("nexio")

    def call(
        self,
        *,
        engine_slug: str,
        input: Mapping[str, Any],
        offerings: Sequence[Mapping[str, Any]] | None = None,
        engine_version: str | None = None,
    ) -> Call:
        """A run of an engine, checked and not yet sent.

        Args:
            engine_slug: The engine.
            input: The engine's input, a JSON object.
            offerings: JSON objects, for placement engines only.
            engine_version: ``"1.3"`` or ``"1.x"``; without it the engine's current configuration runs.

        Raises:
            ConfigurationError: An argument is wrong.
        """
        return self.declaration.call(
            engine_slug=engine_slug, input=input, offerings=offerings, engine_version=engine_version
        )

    def submit(
        self,
        *,
        engine_slug: str,
        input: Mapping[str, Any],
        offerings: Sequence[Mapping[str, Any]] | None = None,
        engine_version: str | None = None,
    ) -> RunRef:
        """Start a run, once; arguments as in :meth:`call`.

        Raises:
            ConflictError: Something is active there.
            SubmitUncertainError: The answer is lost; Nexio lists no runs to look for it.
            AnswerError: Nothing was started.
        """
        return self._submit(
            self.call(engine_slug=engine_slug, input=input, offerings=offerings, engine_version=engine_version)
        )
