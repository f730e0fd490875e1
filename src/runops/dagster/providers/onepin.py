"""OnePin for Dagster: what its resource can do. All behaviour is in resource.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Unpack

from pydantic import Field

from runops.core import RunRef, RunSnapshot
from runops.core.providers import onepin
from runops.core.waiting.options import WaitSettings
from runops.dagster.resource import NamedResource, calls, submits


class OnepinResource(NamedResource):
    """OnePin voice workflows. A run's address needs its workflow; one run per workflow may be active."""

    service: ClassVar[str] = "onepin"
    example: ClassVar[Mapping[str, Any]] = {"workflow_id": "your-workflow"}

    workspace_id: str | None = Field(default=None, description="The workspace, only where it is not the key's own.")

    call = calls(onepin.submit)
    submit = submits(onepin.submit)

    def get(self, run_id: str | RunRef, workflow_id: str | None = None) -> RunSnapshot:
        """Read a run once.

        Args:
            run_id: The run; a reference holds its workflow already.
            workflow_id: The run's workflow.

        Raises:
            ConfigurationError: The workflow is missing.
            AnswerError: The read failed.
            UnknownStateError: The run is over in a state that is not documented.
        """
        return self._get(self.ref(run_id, _parents(workflow_id)))

    def wait(
        self, run_id: str | RunRef, workflow_id: str | None = None, **settings: Unpack[WaitSettings]
    ) -> RunSnapshot:
        """Wait until a run is over, as the other resources do.

        Args:
            run_id: The run; a reference holds its workflow already.
            workflow_id: The run's workflow.
            settings: ``timeout``, ``error_budget``, ``poll_interval`` and ``max_paused``, in seconds or as timedeltas.

        Raises:
            ConfigurationError: The workflow is missing, or a setting is wrong.
            RunopsError: As there.
        """
        return self._wait(self.ref(run_id, _parents(workflow_id)), settings)

    def cancel(self, run_id: str | RunRef, workflow_id: str | None = None) -> None:
        """Ask OnePin to stop a run; one that is over is left alone.

        Args:
            run_id: The run; a reference holds its workflow already.
            workflow_id: The run's workflow.

        Raises:
            ConfigurationError: The workflow is missing.
            AnswerError: The request failed, and the run is not known to be over.
        """
        self._cancel(self.ref(run_id, _parents(workflow_id)))

    def resume(self, run_id: str | RunRef, workflow_id: str | None = None) -> RunSnapshot:
        """Have a run that is paused go on; one that goes on already is left as it is.

        A read decides whether it took, so it may be called again after any error. A pause that begins later is another
        one, which a retry of the step would end too.

        Args:
            run_id: The run; a reference holds its workflow already.
            workflow_id: The run's workflow.

        Raises:
            ConfigurationError: The workflow is missing.
            WrongState: The run is over; nothing was sent.
            ConflictError: Another run of the workflow is active, or the workspace is at its limit; it stays paused.
            AnswerError: The request failed, or the run could not be read.
        """
        return self._resume(self.ref(run_id, _parents(workflow_id)))

    def recent(self, workflow_id: str) -> list[RunSnapshot]:
        """The newest runs of a workflow, newest first.

        Args:
            workflow_id: Whose runs.
        """
        return self._recent({"workflow_id": workflow_id})

    def fetch_result(self, run_id: str | RunRef, workflow_id: str | None = None) -> dict[str, Any]:
        """The whole payload of a run. It may hold personal data and secrets: nothing else reads it.

        Args:
            run_id: The run; a reference holds its workflow already.
            workflow_id: The run's workflow.

        Raises:
            ConfigurationError: The workflow is missing.
            AnswerError: The read failed.
        """
        return self._fetch_result(self.ref(run_id, _parents(workflow_id)))


def _parents(workflow_id: str | None) -> Mapping[str, str] | None:
    return None if workflow_id is None else {"workflow_id": workflow_id}
