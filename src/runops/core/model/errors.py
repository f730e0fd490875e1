"""Everything that runops raises. No text in here ever holds a key or a payload; each ends with its code.

::

    RunopsError
    ├── ConfigurationError (also a ValueError)   bad input, refused before anything is sent
    │   └── NotSupported                         the provider has no such ability
    ├── AnswerError                              the provider answered, or failed to
    │   ├── TransientError                       worth another try
    │   │   ├── ConnectionFailed                 nothing was sent: no connection, no TLS
    │   │   ├── AnswerLost                       sent, but the answer never came whole
    │   │   ├── MalformedAnswer                  HTML, cut-off JSON, no id, no status, too large
    │   │   │   └── AnotherRun                   an answer about another run than the one asked for
    │   │   └── ServerTrouble                    408, 425, 429, 5xx
    │   └── FinalError                           another try would end the same way
    │       ├── AuthError                        401, 403
    │       ├── RunNotFound                      404
    │       ├── ConflictError                    409
    │       └── RequestRefused                   402, 422, 426 and any other 3xx or 4xx
    │           └── WrongState                   the run is in no state for that: not sent at all
    ├── UnknownStateError                        the run is over, in a word that nobody documented
    ├── PollingError                             the error budget is used up
    └── SubmitUncertainError                     the answer to a submit is lost; nobody may repeat it
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TypeVar

from runops.core.model.codes import Code
from runops.core.model.refusal import ConfigurationError, RunopsError
from runops.core.model.run import RunRef, RunSnapshot

MOST_CANDIDATES = 10
"""So many runs are named in one message."""

E = TypeVar("E", bound=BaseException)


def without_frames(error: E) -> E:
    """An error without the frames that it came through and the errors behind it.

    Their variables hold requests, bodies and headers, which error trackers collect. Raise it outside of any handler,
    so that no error stands behind it again.
    """
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


class NotSupported(ConfigurationError):
    """The provider's API has no such ability."""

    error_code = Code.NOT_SUPPORTED


class AnswerError(RunopsError):
    """A request that did not lead to a usable answer.

    Args:
        message: One line for a person.
        status: The HTTP status, where there was one.
        code: The provider's own error code, where the body held one.
        retry_after: Seconds that the provider asked us to wait, or None.
        is_json: Whether the body was a JSON object, as the errors of the service itself are. The page of a gateway
            in between is none.
        error_code: Our own code, where that of the class does not lead to what to do. ``code`` is the provider's.
    """

    error_code = Code.SERVICE_UNAVAILABLE

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        retry_after: float | None = None,
        is_json: bool = False,
        error_code: Code | None = None,
    ) -> None:
        super().__init__(message)
        if error_code is not None:
            self.error_code = error_code
        self.status = status
        self.code = code
        self.retry_after = retry_after
        self.is_json = is_json


class TransientError(AnswerError):
    """Worth another try: says nothing about the run."""


class ConnectionFailed(TransientError):
    """No connection or no TLS: not a byte of the request was sent."""

    error_code = Code.NO_CONNECTION


class AnswerLost(TransientError):
    """The request may have arrived; its answer never came whole."""

    error_code = Code.ANSWER_LOST


class MalformedAnswer(TransientError):
    """The answer is not what the API documents: HTML, cut-off JSON, no id, no status, too large."""

    error_code = Code.MALFORMED_ANSWER


class AnotherRun(MalformedAnswer):
    """The answer is about another run, or another parent's runs: it says nothing about the one asked for."""

    error_code = Code.ANOTHER_RUN


class ServerTrouble(TransientError):
    """408, 425, 429 or 5xx."""

    error_code = Code.SERVER_TROUBLE


class FinalError(AnswerError):
    """Another try would end the same way."""

    error_code = Code.REQUEST_REFUSED


class AuthError(FinalError):
    """401 or 403: the credential is missing, wrong, expired or lacks a right."""

    error_code = Code.KEY_REFUSED

    origin: str = ""
    """Where the credential was set, such as ``connection 'nexio_default'``."""
    key_mark: str = ""
    """Tells the refused credential from others; see ``Secret.mark``."""


class RunNotFound(FinalError):
    """404: no such run, or no such parent of runs, or not visible with this credential; the text says which."""

    error_code = Code.RUN_NOT_FOUND


class ConflictError(FinalError):
    """409: something is in the way right now; trying later may work. A submit that was answered so started nothing."""

    error_code = Code.CONFLICT

    active: tuple[RunSnapshot, ...] = ()
    """The runs that are active there, as far as they can be seen."""


class RequestRefused(FinalError):
    """402, 422, 426 and any other 3xx or 4xx."""


class WrongState(RequestRefused):
    """A run is in no state for what was to be done with it, as a read has shown; nothing else was sent.

    Args:
        message: One line for a person.
        snapshot: The run as it was read.
    """

    error_code = Code.WRONG_STATE

    def __init__(self, message: str, snapshot: RunSnapshot) -> None:
        super().__init__(message)
        self.snapshot = snapshot


class UnknownStateError(RunopsError):
    """The run is over in a state that the provider never documented.

    Args:
        ref: The run.
        state: The provider's own word.
        known: The documented states.
        taught: Whether a user has taught the word to mean a phase, which a run that is over cannot be in.
    """

    error_code = Code.UNKNOWN_STATE

    def __init__(self, ref: RunRef, state: str, known: Collection[str], *, taught: bool = False) -> None:
        problem = "that states= takes for one that goes on" if taught else "that is not documented"
        super().__init__(
            f"{ref} is over in a state {problem}: {state!r}. Known: {', '.join(sorted(known))}. "
            "Look at the run in the provider's own interface, and check for a newer runops; until there is one, "
            f"states={{{state!r}: 'failed'}} or another outcome says what it means."
        )
        self.ref = ref
        self.state = state
        self.known = tuple(sorted(known))


class PollingError(RunopsError):
    """The run could not be read for longer than the error budget; how the run stands is not known.

    Args:
        ref: The run.
        seconds: How long the reads have failed in a row.
        last: The last failure.
    """

    error_code = Code.POLLING_FAILED

    def __init__(self, ref: RunRef, seconds: float, last: AnswerError) -> None:
        lasted = f"{seconds:.0f}" if seconds >= 10 else f"{seconds:.1g}"
        super().__init__(
            f"{ref} could not be read for {lasted} s; the last answer was: {last.text} "
            "The run itself may well go on: it was neither cancelled nor submitted again."
        )
        self.ref = ref
        self.seconds = seconds
        self.last = last


class SubmitUncertainError(RunopsError):
    """The answer to a submit is lost, so a run may exist. Nobody may repeat it without a look.

    Args:
        message: What happened.
        candidates: Runs that appeared since the submit; one of them may be ours.
        may_be_found: Whether looking again later can find the run: it would bear our mark.
    """

    error_code = Code.SUBMIT_UNCERTAIN

    candidates: tuple[RunRef, ...] = ()
    may_be_found: bool = False

    def __init__(self, message: str, *, candidates: Sequence[RunRef] = (), may_be_found: bool = False) -> None:
        names = ", ".join(ref.run_id for ref in candidates[:MOST_CANDIDATES])
        more = f" and {len(candidates) - MOST_CANDIDATES} more" if len(candidates) > MOST_CANDIDATES else ""
        seen = f"Runs that appeared since: {names}{more}." if names else "No run of it could be found so far."
        super().__init__(f"{message} {seen} Check at the provider before you submit again.")
        self.candidates = tuple(candidates)
        self.may_be_found = may_be_found
