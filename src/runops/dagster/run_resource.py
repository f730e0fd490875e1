"""The resource of any service: one of the shipped ones by its name, or one of your own by its import path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from pydantic import Field

from runops.core import Call, Provider, RunRef, RunSnapshot, find
from runops.core.declaration.arguments import check_names
from runops.core.waiting.options import SubmitOptions, WaitSettings
from runops.core.waiting.retry_call import retry_call
from runops.dagster.options import names_of
from runops.dagster.resource import ProviderResource


class RunResource(ProviderResource):
    """Any service that runops has a declaration of, also one of your own.

    Args:
        provider: A name such as ``"nexio"``, or an import path such as ``"acme_runs:ACME"``.
        options: The service's own settings, by the names of its declaration.

    An ability that the service lacks raises ``NotSupported``.
    """

    provider: str = Field(description="Name of the service, or package.module:NAME of a declaration.")
    options: dict[str, str] = Field(default={}, description="The service's own settings, such as a workspace.")

    @property
    def declaration(self) -> Provider:
        """The service's declaration, with the words that the resource teaches."""
        return find(self.provider).with_states(self.states)

    @property
    def client_options(self) -> dict[str, str | None]:
        """The service's own settings, by the names of its declaration."""
        return {**self.options}

    def call(self, **arguments: Any) -> Call:
        """A submission, checked and not yet sent.

        Args:
            arguments: What the service's submit takes.

        Raises:
            ConfigurationError: An argument is wrong.
            NotSupported: The service documents no submit.
        """
        return self.declaration.call(**arguments)

    def submit(self, call: Call, **settings: Unpack[SubmitOptions]) -> RunRef:
        """Start a run, once.

        Args:
            call: From :meth:`call`.
            settings: See :class:`SubmitOptions`: adopt_uncertain, submit_grace, on_conflict and timeout.

        Raises:
            ConflictError: Something is active there, and still is after ``timeout`` or is not to be waited for.
            SubmitUncertainError: The answer is lost; the candidates are in the error.
            AnswerError: Nothing was started.
        """
        check_names(f"{type(self).__name__}.submit", settings, names_of(SubmitOptions))
        return self._submit(call, **settings)

    def get(self, run_id: str | RunRef, parents: Mapping[str, str] | None = None) -> RunSnapshot:
        """Read a run once.

        Args:
            run_id: The run.
            parents: Further ids that its address needs.

        Raises:
            AnswerError: The read failed.
            UnknownStateError: The run is over in a state that is not documented.
        """
        return self._get(self.ref(run_id, parents))

    def wait(
        self,
        run_id: str | RunRef,
        parents: Mapping[str, str] | None = None,
        **settings: Unpack[WaitSettings],
    ) -> RunSnapshot:
        """Wait until a run is over; see :meth:`PlainRunsResource.wait`.

        Args:
            run_id: The run.
            parents: Further ids that its address needs.
            settings: As there.
        """
        return self._wait(self.ref(run_id, parents), settings)

    def cancel(self, run_id: str | RunRef, parents: Mapping[str, str] | None = None) -> None:
        """Ask the service to stop a run; one that is over is left alone.

        Args:
            run_id: The run.
            parents: Further ids that its address needs.

        Raises:
            NotSupported: The service cannot.
            AnswerError: The request failed, and the run is not known to be over.
        """
        self._cancel(self.ref(run_id, parents))

    def resume(self, run_id: str | RunRef, parents: Mapping[str, str] | None = None) -> RunSnapshot:
        """Have a run that is paused or waiting go on; see :meth:`runops.core.RunClient.resume`.

        Args:
            run_id: The run.
            parents: Further ids that its address needs.

        Raises:
            NotSupported: The service cannot.
            WrongState: The run is over; nothing was sent.
            ConflictError: Something is in the way, and the run stays paused.
            AnswerError: The request failed, or the run could not be read.
        """
        return self._resume(self.ref(run_id, parents))

    def retry(
        self, run_id: str | RunRef, parents: Mapping[str, str] | None = None, **settings: Unpack[SubmitOptions]
    ) -> RunRef:
        """Have a run that failed go on from its point of failure, as a new run. In a step, prefer :meth:`retry_call`.

        Args:
            run_id: The run that failed.
            parents: Further ids that its address needs.
            settings: As :meth:`submit` takes them.

        Raises:
            NotSupported: The service cannot.
            WrongState: The run has not failed; nothing was submitted.
            SubmitUncertainError: The answer is lost; the candidates are in the error.
            AnswerError: Nothing was started.
        """
        return self._retry(self.ref(run_id, parents), settings)

    def retry_call(self, run_id: str | RunRef, parent: Mapping[str, str] | None = None) -> Call:
        """The same retry as a submission, for ``wait_for_run`` and ``build_run_asset``, which remember it.

        Args:
            run_id: The run that failed.
            parent: The parent under which the service lists its runs, such as ``{"workflow_id": ...}``.

        Raises:
            NotSupported: The service cannot.
            ConfigurationError: An id is unusable.
        """
        parents = {name: value for name, value in (parent or {}).items() if name in self.declaration.parents}
        return retry_call(self.declaration, self.ref(run_id, parents), parent)

    def recent(self, parent: str | Mapping[str, str]) -> list[RunSnapshot]:
        """The newest runs of a parent, newest first.

        Args:
            parent: The parent's id or name, or ``{kind: id}`` where the service knows several kinds.

        Raises:
            NotSupported: The service lists no runs.
        """
        return self._recent(parent)

    def fetch_result(self, run_id: str | RunRef, parents: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The whole payload of a run. It may hold personal data and secrets: nothing else reads it.

        Args:
            run_id: The run.
            parents: Further ids that its address needs.

        Raises:
            AnswerError: The read failed.
        """
        return self._fetch_result(self.ref(run_id, parents))
