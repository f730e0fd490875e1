"""OnePin for Dagster: a resource with the arguments of its runs. All behaviour is in resource.py."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pydantic import Field

from runops.core import Call, Provider, RunRef, RunSnapshot, find
from runops.core.waiting.options import DEFAULT_ERROR_BUDGET, DEFAULT_TIMEOUT
from runops.dagster.resource import ProviderResource


class OnepinResource(ProviderResource):
    """OnePin voice workflows. A run's address needs its workflow; one run per workflow may be active."""

    workspace_id: str | None = Field(default=None, description="The workspace, only where it is not the key's own.")

    @property
    def declaration(self) -> Provider:
        """The service's declaration."""
        return find("onepin")

    @property
    def client_options(self) -> dict[str, str | None]:
        """The service's own settings, by the names of its declaration."""
        return {"workspace_id": self.workspace_id}

    def call(self, *, workflow_id: str, script_text: str | None = None, source_language: str | None = None) -> Call:
        """A run of a workflow, checked and not yet sent.

        Args:
            workflow_id: The workflow.
            script_text: The script, where the workflow takes one.
            source_language: The script's language.

        Raises:
            ConfigurationError: An argument is wrong.
        """
        return self.declaration.call(workflow_id=workflow_id, script_text=script_text, source_language=source_language)

    def submit(self, *, workflow_id: str, script_text: str | None = None, source_language: str | None = None) -> RunRef:
        """Start a run, once; arguments as in :meth:`call`.

        Raises:
            ConflictError: A run of this workflow is active.
            SubmitUncertainError: The answer is lost; the candidates are in the error.
            AnswerError: Nothing was started.
        """
        return self._submit(
            self.call(workflow_id=workflow_id, script_text=script_text, source_language=source_language)
        )

    def get(self, run_id: str | RunRef, workflow_id: str | None = None) -> RunSnapshot:
        """One look at a run.

        Args:
            run_id: The run; a reference holds its workflow already.
            workflow_id: The run's workflow.

        Raises:
            ConfigurationError: The workflow is missing.
            AnswerError: The look failed.
            UnknownStateError: The run is over in a word that is not documented.
        """
        return self._get(self.ref(run_id, _parents(workflow_id)))

    def wait(
        self,
        run_id: str | RunRef,
        workflow_id: str | None = None,
        *,
        timeout: float | timedelta = DEFAULT_TIMEOUT,
        error_budget: float | timedelta = DEFAULT_ERROR_BUDGET,
        poll_interval: float | timedelta | None = None,
        max_paused: float | timedelta | None = None,
    ) -> RunSnapshot:
        """Wait until a run is over. In a step, prefer :func:`runops.dagster.wait_for_run`, which minds Terminate.

        Args:
            run_id: The run; a reference holds its workflow already.
            workflow_id: The run's workflow.
            timeout: Seconds (or a timedelta) for the whole wait.
            error_budget: Seconds of failures in a row before the wait gives up.
            poll_interval: The shortest time between two looks, in seconds.
            max_paused: Seconds that the run may stay paused.

        Returns:
            The last snapshot; its outcome is ``timed_out`` when a clock ended the wait.

        Raises:
            PollingError: The error budget is used up.
            FinalError: The run cannot be read: bad key, no such run.
            UnknownStateError: The run is over in a word that is not documented.
        """
        settings = {
            "timeout": timeout,
            "error_budget": error_budget,
            "poll_interval": poll_interval,
            "max_paused": max_paused,
        }
        return self._wait(self.ref(run_id, _parents(workflow_id)), settings)

    def cancel(self, run_id: str | RunRef, workflow_id: str | None = None) -> None:
        """Ask OnePin to stop a run; one that is over is left alone.

        Raises:
            ConfigurationError: The workflow is missing.
            AnswerError: The request failed, and the run is not known to be over.
        """
        self._cancel(self.ref(run_id, _parents(workflow_id)))

    def recent(self, workflow_id: str) -> list[RunSnapshot]:
        """The newest runs of a workflow, newest first."""
        return self._recent({"workflow_id": workflow_id})

    def fetch_result(self, run_id: str | RunRef, workflow_id: str | None = None) -> dict[str, Any]:
        """The whole payload of a run. It may hold personal data and secrets: nothing else reads it.

        Raises:
            ConfigurationError: The workflow is missing.
            AnswerError: The read failed.
        """
        return self._fetch_result(self.ref(run_id, _parents(workflow_id)))


def _parents(workflow_id: str | None) -> Mapping[str, str] | None:
    return None if workflow_id is None else {"workflow_id": workflow_id}
