"""The external run of a step: what people see of it, and its cancel when the step is interrupted."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from runops.core import Call, RunopsError, RunRef, TransientError
from runops.core.model.codes import Code, with_code
from runops.core.waiting.intent import Intent
from runops.dagster import _compat
from runops.dagster.resource import ProviderResource
from runops.dagster.step.interrupts import INTERRUPTS, HeldInterrupts
from runops.dagster.step.records import Records

if TYPE_CHECKING:
    from runops.core import RunClient

CANCEL_REQUEST_TIMEOUT = 5.0
"""Seconds for one request of a cancel: whoever pressed Terminate waits for it."""
SUBMITTED, AWAITED = "submitted", "awaited"
"""The values of a Dagster run's tag: what it has to do with an external run."""
CANCEL_SECONDS = 30.0
"""Seconds after which a refused cancel is not tried again, whatever pause the service asks for."""


class LiveRun:
    """What a step knows of its run at any moment, so that an interrupt leaves nothing behind.

    Args:
        context: The step's context.
        resource: The service.
        cancel_on_interrupt: Whether an interrupt cancels the run.
        states: The words that the step teaches.
    """

    def __init__(
        self,
        context: _compat.StepContext,
        resource: ProviderResource,
        *,
        cancel_on_interrupt: bool,
        states: Mapping[str, str] | None = None,
    ) -> None:
        self.ref: RunRef | None = None
        """The run that an interrupt would leave behind."""
        self.lost: tuple[Call, Intent] | None = None
        """The submit that was not answered, while its run is looked for."""
        self.attached = False
        """Whether the run was active already: it is not this step's to cancel, whatever is asked for."""
        self.taken_up_from: str | None = None
        """The Dagster run that waited for it before, where that is another one."""
        self.records: Records | None = None
        self._context = context
        self._resource = resource
        self._provider = resource.declaration
        self._cancel_on_interrupt = cancel_on_interrupt
        self._states = states

    @contextmanager
    def cancelled_on_interrupt(self) -> Generator[None]:
        """Cancel the run when Terminate comes, wherever it strikes."""
        try:
            yield
        except INTERRUPTS:
            with HeldInterrupts(drop=True):
                ref = self.ref or self._lost_run()
                if ref is not None and self._cancel_on_interrupt:
                    self.cancel(ref)
                elif ref is not None:
                    text = f"Interrupted; {ref} goes on: this wait is not to cancel it."
                    self.log(with_code(text, Code.LEFT_BEHIND), logging.WARNING)
            raise

    def cancel_left(self) -> None:
        """Cancel the run that the end of the step leaves, if there is one."""
        with HeldInterrupts():
            ref = self.ref or self._lost_run()
            if ref is not None:
                self.cancel(ref)

    def cancel(self, ref: RunRef) -> None:
        """Cancel a run. That this fails must not hide why the wait ended."""
        if self.attached:
            self.log(f"{ref} was active already when this step came: it goes on.", logging.WARNING)
            return
        if self._provider.cancel is None:
            text = f"{self._provider.title} has no way to cancel a run: {ref} goes on."
            self.log(with_code(text, Code.LEFT_BEHIND), logging.WARNING)
            return
        try:
            with self._hasty_client() as client:
                client.cancel(ref)
        except RunopsError as error:
            text = f"{ref} could not be cancelled and may go on: {error.text} `runops orphans` lists it."
            self.log(with_code(text, Code.LEFT_BEHIND), logging.ERROR)
            return
        self.ref = None
        self.log(f"Asked {self._provider.title} to cancel {ref}.")
        if self.records is not None:
            self.records.stopped(ref)

    def log(self, text: str, level: int = logging.INFO) -> None:
        """Write a line into the step's log."""
        self._context.log.log(level, text)

    def place(self, ref: RunRef) -> str:
        """The end of a line that shows where people find a run."""
        url = self._provider.url(ref)
        return f": {url}" if url else ""

    def tag(self, ref: RunRef, relation: str) -> None:
        """Let people and sensors find the Dagster run by the external one; the wait does not depend on it."""
        run = _compat.run_of(self._context)
        if run is None:
            return
        try:
            _compat.tag_run(self._context.instance, run.run_id, {tag_of(ref): relation})
        except Exception as error:  # noqa: BLE001 - a storage raises what it likes
            self.log(f"The Dagster run could not be tagged with {ref} ({type(error).__name__}).", logging.WARNING)

    def _lost_run(self) -> RunRef | None:
        """The run of the submit that was not answered, if a single search shows its mark."""
        if self.lost is None:
            return None
        call, intent = self.lost
        try:
            with self._hasty_client() as client:
                return client.find_submitted(call.parent, intent, submit_grace=0.0)
        except RunopsError as error:
            self.log(f"The run of the submit that was not answered may yet show up: {error}", logging.ERROR)
            return None

    def _hasty_client(self) -> RunClient:
        """A client for whoever waits for a Terminate to be done."""
        seconds = min(CANCEL_REQUEST_TIMEOUT, self._resource.request_timeout)
        return self._resource.client(request_timeout=seconds, sleep=_bounded_sleep(), states=self._states)


def tag_of(ref: RunRef) -> str:
    """The tag by which Dagster runs are found that have to do with an external run."""
    return f"runops.{ref.provider}/{ref.run_id}"


def _bounded_sleep() -> Callable[[float], None]:
    """A sleep that gives up rather than let somebody wait for long."""
    ends = time.monotonic() + CANCEL_SECONDS

    def sleep(seconds: float) -> None:
        if time.monotonic() + seconds > ends:
            raise TransientError(f"the service asks for a pause of {seconds:.0f} s before the cancel is tried again.")
        time.sleep(seconds)

    return sleep


@contextmanager
def core_warnings_in(
    context: _compat.StepContext, tell: Callable[[Callable[[], object]], None] | None = None
) -> Generator[None]:
    """Show what the core warns of in this thread, such as a state that nobody documented, in the step's log.

    Args:
        context: The step's context.
        tell: Has a function called in the step's own thread, where this is another one.
    """
    handler = _StepLog(context, tell or _now)
    logger = logging.getLogger("runops")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _now(act: Callable[[], object]) -> None:
    act()


class _StepLog(logging.Handler):
    """Hands on the records of this thread."""

    def __init__(self, context: _compat.StepContext, tell: Callable[[Callable[[], object]], None]) -> None:
        super().__init__(logging.WARNING)
        self._log = context.log
        self._tell = tell
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self._tell(partial(self._log.log, record.levelno, record.getMessage()))
