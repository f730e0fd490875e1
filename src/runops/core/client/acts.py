"""What both clients do to a run beside submitting it: cancel, resume, retry. Each is one flow; the client drives it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TypeVar, Unpack

from runops.core.client.base import Client, SubmitArguments
from runops.core.model.run import RunRef, RunSnapshot
from runops.core.waiting import flows
from runops.core.waiting.resume import resume
from runops.core.waiting.steps import Flow

R = TypeVar("R")


class Acts(Client, ABC):
    """Acts on runs, for plain Python."""

    @abstractmethod
    def drive(self, flow: Flow[R]) -> R:
        """Do what a flow asks for, and give its result."""

    def cancel(self, ref: RunRef) -> None:
        """Ask the provider to stop a run; one that is over is left alone.

        Raises:
            NotSupported: The provider cannot.
            AnswerError: The request failed, and the run is not known to be over.
        """
        self.drive(flows.cancel(self.provider, ref))

    def resume(self, ref: RunRef) -> RunSnapshot:
        """Have a run that is paused or waiting go on; one that goes on already is left as it is.

        A read decides whether it took, so it may be called again after any error.

        Returns:
            The run as it was read last. Its phase is still ``paused`` where the provider took the request, and the run
            does not go on after 30 s.

        Raises:
            NotSupported: The provider cannot.
            WrongState: The run is over; nothing was sent.
            ConflictError: Something is in the way, and the run stays paused; ``active`` has the runs that can be seen.
            AnswerError: The request failed, or the run could not be read.
        """
        return self.drive(resume(self.provider, ref, clock=self.clock))

    def retry(self, ref: RunRef, **settings: Unpack[SubmitArguments]) -> RunRef:
        """Have a run that failed go on from its point of failure, as a new run; once, as every submit.

        Args:
            ref: The run that failed.
            settings: What :meth:`RunClient.submit` takes. No mark goes along, so after a lost answer nothing proves
                which run is the new one.

        Returns:
            The new run.

        Raises:
            NotSupported: The provider cannot.
            WrongState: The run has not failed; nothing was submitted.
            ConflictError: Something is active there.
            SubmitUncertainError: The answer is lost; the candidates are in the error.
            AnswerError: Nothing was started.
        """
        self._check("retry", settings, SubmitArguments)
        return self.drive(self._retried(ref, settings))


class AsyncActs(Client, ABC):
    """The same, for asyncio."""

    @abstractmethod
    async def drive(self, flow: Flow[R]) -> R:
        """As :meth:`Acts.drive`."""

    async def cancel(self, ref: RunRef) -> None:
        """As :meth:`Acts.cancel`."""
        await self.drive(flows.cancel(self.provider, ref))

    async def resume(self, ref: RunRef) -> RunSnapshot:
        """As :meth:`Acts.resume`."""
        return await self.drive(resume(self.provider, ref, clock=self.clock))

    async def retry(self, ref: RunRef, **settings: Unpack[SubmitArguments]) -> RunRef:
        """As :meth:`Acts.retry`."""
        self._check("retry", settings, SubmitArguments)
        return await self.drive(self._retried(ref, settings))
