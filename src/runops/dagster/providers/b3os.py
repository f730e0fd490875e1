"""B3OS for Dagster: a resource with the arguments of its runs. All behaviour is in resource.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from runops.core import Call, Provider, RunRef, RunSnapshot, find
from runops.dagster.resource import PlainRunsResource


class B3osResource(PlainRunsResource):
    """B3OS workflow automation. Runs of one workflow may overlap."""

    org_id: str | None = Field(
        default=None, description="The organisation, for user sessions only: an API key carries its own."
    )

    @property
    def declaration(self) -> Provider:
        """The service's declaration."""
        return find("b3os")

    @property
    def client_options(self) -> dict[str, str | None]:
        """The service's own settings, by the names of its declaration."""
        return {"org_id": self.org_id}

    def call(self, *, workflow_id: str, payload: Mapping[str, Any] | None = None) -> Call:
        """A run of a published workflow, checked and not yet sent.

        Args:
            workflow_id: The workflow.
            payload: The trigger payload, a JSON object.

        Raises:
            ConfigurationError: An argument is wrong.
        """
        return self.declaration.call(workflow_id=workflow_id, payload=payload)

    def submit(
        self, *, workflow_id: str, payload: Mapping[str, Any] | None = None, adopt_uncertain: bool = False
    ) -> RunRef:
        """Start a run, once; arguments as in :meth:`call`.

        Args:
            workflow_id: The workflow.
            payload: The trigger payload, a JSON object.
            adopt_uncertain: After a lost answer, take a single new run of the workflow for ours.

        Raises:
            ConflictError: Something is active there.
            SubmitUncertainError: The answer is lost; the candidates are in the error.
            AnswerError: Nothing was started.
        """
        return self._submit(self.call(workflow_id=workflow_id, payload=payload), adopt_uncertain)

    def cancel(self, run_id: str | RunRef) -> None:
        """Ask B3OS to stop a run; one that is over is left alone.

        Raises:
            AnswerError: The request failed, and the run is not known to be over.
        """
        self._cancel(self.ref(run_id))

    def recent(self, workflow_id: str) -> list[RunSnapshot]:
        """The newest runs of a workflow, newest first."""
        return self._recent({"workflow_id": workflow_id})
