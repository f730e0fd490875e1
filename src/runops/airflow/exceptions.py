"""What a task raises when its run does not end well. All are Airflow exceptions; none ever holds a key or a payload.

``str`` of each ends with its ``error_code``, such as ``[submit-uncertain]``, which names a page of the documentation.

==========================  =======================================  ===================  =======================
exception                   raised when                              retried by Airflow   softened by soft_fail
==========================  =======================================  ===================  =======================
``RunFailed``               the run of an operator failed, or the    yes; an operator     yes
                            latest one that a discovery sensor       submits anew, a
                            found                                    sensor looks anew
``SensorRunFailed``         the run of any other sensor failed (a    no                   yes
                            ``RunFailed`` too)
``RunCancelled``            the run was cancelled                    no                   yes
``RunTimedOut``             ``timeout``, ``max_paused``,             yes; an operator     yes, but never when it
                            ``max_stalled`` or ``max_spend`` ended   re-attaches          was ``execution_timeout``
                            an operator's wait, or
                            ``execution_timeout`` any wait
``SensorTimedOut``          ``timeout``, ``max_paused``,             no                   yes
                            ``max_stalled`` or ``max_spend`` ended
                            a sensor's wait (a ``RunTimedOut`` too)
``RunRejected``             a fail verdict on any other outcome, or  no                   no
                            a run that does not meet ``expect``
``PollingError``            reads failed for ``error_budget``        yes; an operator     no
                                                                     re-attaches
``ServiceUnavailable``      the service could not be reached, and    yes                  no
                            nothing was started
``ConflictError``           something is active where a run should   yes                  no
                            start: no turn came within ``timeout``,
                            ``on_conflict`` is ``"fail"``, or there
                            is no one run to attach to
``TriggerCrashed``          the trigger met an error of its own      yes; an operator     no
                                                                     re-attaches
``UnknownStateError``       the run is over in an undocumented word  no                   no
``AuthError``               the key or the connection is missing,    no                   no
                            wrong, or lacks a right
``RunNotFound``             there is no such run, or no such parent  no                   no
                            of runs, with this key
``SubmitUnconfirmed``       a run may have been started, and its     yes; the retry       no
                            mark could not be looked for             looks for it
``SubmitUncertainError``    a run may have been started, and         no                   no
                            nothing can prove whose a run is
``RequestRefused``          any other refusal (402, 422, 426, ...),  no                   no
                            or a run that is in no state for what
                            a hook or ``retry_of`` asks for
``ConfigurationError``      an argument or a connection field is     no                   no
                            unusable
==========================  =======================================  ===================  =======================

"No" in the third column means that the class is an ``AirflowFailException`` or ``AirflowSensorTimeout`` too, both of
which end a task whatever its ``retries`` are. A ``soft_fail`` verdict is raised as ``AirflowSkipException``, so none
of these is ever seen where the table says "softened".
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

from runops.airflow._compat import AirflowException, AirflowFailException, AirflowSensorTimeout
from runops.core.model import errors
from runops.core.model.codes import Code, Coded
from runops.core.model.refusal import TextRefused

FROM_TEMPLATES = (
    "Templates render to text: let this one give JSON ({{ ... | tojson }}), pass another task's output as it is "
    "(task.output), or set render_template_as_native_obj=True on the DAG."
)
"""What a DAG author does about a text that should be a dict or a list."""


class RunopsException(Coded, AirflowException):
    """What all exceptions of this module are. Its text ends with its code.

    :param message: One line for a person.
    :param error_code: The code, where that of the class does not lead to what to do.
    """

    def __init__(self, message: object = "", *, error_code: str | None = None) -> None:
        super().__init__(message)
        if error_code in set(Code):
            self.error_code = Code(error_code)

    def serialize(self) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
        """What Airflow makes the same exception of, in another process."""
        kind = type(self)
        return f"{kind.__module__}.{kind.__name__}", (self.text,), {"error_code": self.error_code.value}


class RunEnded(RunopsException):
    """A fail verdict on how a run ended.

    :param message: One line for a person.
    :param result: The run's last snapshot as plain data, or that of a set of runs, for callbacks; None after a trip
        between processes.
    :param error_code: The code, where that of the class does not lead to what to do.
    """

    def __init__(
        self, message: object = "", result: Mapping[str, Any] | None = None, *, error_code: str | None = None
    ) -> None:
        super().__init__(message, error_code=error_code)
        self.result = result


class RunFailed(RunEnded):
    """The run failed. A retry of an operator submits anew."""

    error_code = Code.RUN_FAILED


class SensorRunFailed(RunFailed, AirflowFailException):
    """The run that a sensor waits for failed. A retry would read the same run, so there is none."""


class RunCancelled(RunEnded, AirflowFailException):
    """The run was cancelled, which was somebody's will: not retried."""

    error_code = Code.RUN_CANCELLED


class RunTimedOut(RunEnded):
    """The wait ended, not the run. A retry of an operator re-attaches."""

    error_code = Code.RUN_TIMED_OUT


class SensorTimedOut(RunTimedOut, AirflowSensorTimeout):
    """A sensor's own time is over: as any sensor's timeout, not retried."""


class RunRejected(RunEnded, AirflowFailException):
    """The run ended in a way that the task's policy calls a failure; another run would not change that."""

    error_code = Code.RUN_REJECTED


class PollingError(RunopsException):
    """The run could not be read for longer than the error budget; how it stands is not known."""

    error_code = Code.POLLING_FAILED


class ServiceUnavailable(RunopsException):
    """The service could not be reached, and nothing was started."""

    error_code = Code.SERVICE_UNAVAILABLE


class ConflictError(RunopsException):
    """Something is active where the run should start; nothing was submitted, and a later try may succeed."""

    error_code = Code.CONFLICT


class TriggerCrashed(RunopsException):
    """The trigger met an error that is not the run's; its log in the triggerer says which."""

    error_code = Code.TRIGGER_CRASHED


class UnknownStateError(RunopsException, AirflowFailException):
    """The run is over in a word that the provider never documented."""

    error_code = Code.UNKNOWN_STATE


class AuthError(RunopsException, AirflowFailException):
    """The connection is missing or has no key, or the service refuses the key."""

    error_code = Code.KEY_REFUSED


class RunNotFound(RunopsException, AirflowFailException):
    """A 404: there is no such run, or parent of runs, or it is not visible with this key; the text says which."""

    error_code = Code.RUN_NOT_FOUND


class SubmitUnconfirmed(RunopsException):
    """A run may have been started, and would bear our mark. A retry looks for it; nothing is sent while it may live."""

    error_code = Code.SUBMIT_UNCONFIRMED


class SubmitUncertainError(RunopsException, AirflowFailException):
    """A run may have been started, and no mark can prove which. Check at the provider before you clear the task."""

    error_code = Code.SUBMIT_UNCERTAIN


class RequestRefused(RunopsException, AirflowFailException):
    """The service refused the request, and would again."""

    error_code = Code.REQUEST_REFUSED


class ConfigurationError(RunopsException, AirflowFailException):
    """An argument or a field of the connection is unusable; the text names it."""

    error_code = Code.BAD_ARGUMENT


_MEANINGS: tuple[tuple[type[errors.RunopsError], type[RunopsException]], ...] = (
    (errors.AuthError, AuthError),
    (errors.RunNotFound, RunNotFound),
    (errors.ConflictError, ConflictError),
    (errors.FinalError, RequestRefused),
    (errors.TransientError, ServiceUnavailable),
    (errors.PollingError, PollingError),
    (errors.UnknownStateError, UnknownStateError),
    (errors.SubmitUncertainError, SubmitUncertainError),
    (errors.ConfigurationError, ConfigurationError),
)

_TRAVELLING: dict[str, type[RunopsException]] = {
    kind.__name__: kind for kind in (*(meaning for _, meaning in _MEANINGS), SubmitUnconfirmed, TriggerCrashed)
}


def as_airflow(error: errors.RunopsError) -> AirflowException:
    """An error of the core in Airflow's terms; its text is clean already."""
    if isinstance(error, errors.SubmitUncertainError) and error.may_be_found:
        return SubmitUnconfirmed(error.text)
    advice = f" {FROM_TEMPLATES}" if isinstance(error, TextRefused) else ""
    for kind, meaning in _MEANINGS:
        if isinstance(error, kind):
            return meaning(f"{error.text}{advice}", error_code=error.error_code)
    return RunopsException(error.text, error_code=error.error_code)


def meaning_of(name: str, *, may_be_found: bool = False) -> type[RunopsException]:
    """What an error of the core is called in Airflow, by the name of its class, as a record has it.

    :param name: The name.
    :param may_be_found: Whether a later search may find the run of a submit whose answer is lost.
    """
    found = getattr(errors, name, None)
    if not (isinstance(found, type) and issubclass(found, errors.RunopsError)):
        return TriggerCrashed
    if issubclass(found, errors.SubmitUncertainError) and may_be_found:
        return SubmitUnconfirmed
    return next((meaning for kind, meaning in _MEANINGS if issubclass(found, kind)), RunopsException)


@contextmanager
def in_airflow_terms() -> Generator[None]:
    """Raise errors of the core as Airflow's, without the chain that a log would print."""
    try:
        yield
    except errors.RunopsError as error:
        raise as_airflow(error) from None


def name_of(error: Exception) -> str:
    """The name under which a trigger's event carries an error."""
    name = type(error).__name__
    return name if name in _TRAVELLING else TriggerCrashed.__name__


def named(name: str, message: str, error_code: str | None = None) -> AirflowException:
    """The error that a trigger's event carried.

    :param name: Its name. One that this version does not know counts as a crash.
    :param message: Its text, without the code.
    :param error_code: Its code; None where the event was fired by a runops that had none.
    """
    kind = _TRAVELLING.get(name)
    return TriggerCrashed(message) if kind is None else kind(message, error_code=error_code)
