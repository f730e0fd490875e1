"""B3OS for Dagster: what its resource can do. All behaviour is in resource.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Unpack

from pydantic import Field

from runops.core import Call, RunRef, RunSnapshot
from runops.core.providers import b3os
from runops.core.waiting.options import SubmitOptions
from runops.core.waiting.retry_call import retry_call
from runops.dagster.resource import CancellableRunsResource, calls


class B3osResource(CancellableRunsResource):
    """B3OS workflow automation. Runs of one workflow may overlap."""

    service: ClassVar[str] = "b3os"
    example: ClassVar[Mapping[str, Any]] = {"workflow_id": "your-workflow", "payload": {}}

    org_id: str | None = Field(
        default=None, description="The organisation, for user sessions only: an API key carries its own."
    )

    call = calls(b3os.submit)

    def submit(
        self, *, workflow_id: str, payload: Mapping[str, Any] | None = None, **settings: Unpack[SubmitOptions]
    ) -> RunRef:
        """Start a run, once; arguments as in ``call``.

        Args:
            workflow_id: The workflow.
            payload: The trigger payload, a JSON object.
            settings: ``adopt_uncertain`` (after a lost answer, take a single new run of the workflow for ours),
                ``submit_grace``, ``on_conflict`` and ``timeout``.

        Raises:
            ConflictError: Something is active there.
            SubmitUncertainError: The answer is lost; the candidates are in the error.
            AnswerError: Nothing was started.
        """
        return self._submit(self.call(workflow_id=workflow_id, payload=payload), **settings)

    def retry(self, run_id: str | RunRef, **settings: Unpack[SubmitOptions]) -> RunRef:
        """Have a run that failed go on from the node that failed, as a new run. In a step, prefer ``retry_call``.

        It starts a run, and nothing remembers that it did.

        Args:
            run_id: The run that failed.
            settings: As ``submit`` takes them.

        Raises:
            WrongState: The run has not failed; nothing was submitted.
            SubmitUncertainError: The answer is lost; the candidates are in the error.
            AnswerError: Nothing was started.
        """
        return self._retry(self.ref(run_id), settings)

    def retry_call(self, run_id: str | RunRef, workflow_id: str) -> Call:
        """The same retry as a submission, for ``wait_for_run`` and ``build_run_asset``, which remember it.

        Args:
            run_id: The run that failed.
            workflow_id: The workflow of the run, where the new one is listed.

        Raises:
            ConfigurationError: An id is unusable.
        """
        return retry_call(self.declaration, self.ref(run_id), {"workflow_id": workflow_id})

    def recent(self, workflow_id: str) -> list[RunSnapshot]:
        """The newest runs of a workflow, newest first.

        Args:
            workflow_id: Whose runs.
        """
        return self._recent({"workflow_id": workflow_id})
