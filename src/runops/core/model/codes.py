"""The short codes that end what people read, such as ``[submit-uncertain]``: each is the name of a page of the docs.

An error, the end of a task or step, and a log line about a wait that is held end with one code. A text that quotes
another error quotes it by its ``text``, which has no code, so that a code stands once and at the end. What is stored or
read by programs (XComs, events, records, JSON) holds such texts too, and a code as a field of its own or not at all.
"""

from __future__ import annotations

from enum import StrEnum, unique


@unique
class Code(StrEnum):
    """All codes. They are part of the contract: added to, never renamed and never given another meaning."""

    # --- refused before anything was sent ---
    BAD_ARGUMENT = "bad-argument"
    """An argument has a value that cannot be used."""
    NEEDS_JSON = "needs-json"
    """A text stands where a dict or a list should be, as templates render to text, and it is not the JSON of one."""
    UNKNOWN_NAME = "unknown-name"
    """A name (an argument, an outcome, a verdict, a detail, an option) does not exist."""
    UNKNOWN_PROVIDER = "unknown-provider"
    """No provider is called so, or its module cannot be imported."""
    NAME_CLASH = "name-clash"
    """A provider calls an argument like something of the host."""
    BAD_CONNECTION = "bad-connection"
    """A setting of a connection, a resource or the environment cannot be used: address, certificate, proxy, limit."""
    MISSING_KEY = "missing-key"
    """There is no connection, or no key in it."""
    BAD_DECLARATION = "bad-declaration"
    """The declaration of a provider cannot work."""
    RECORD_UNREADABLE = "record-unreadable"
    """What an earlier try or tick has recorded cannot be read, so nobody knows what was submitted."""
    BAD_DEFS_FILE = "bad-defs-file"
    """A field of a ``defs.yaml`` cannot be used."""
    NOT_SUPPORTED = "not-supported"
    """The provider, or this version of the host, has no such ability."""

    # --- what the provider answered, or did not ---
    KEY_REFUSED = "key-refused"
    """401 or 403."""
    RUN_NOT_FOUND = "run-not-found"
    """404."""
    CONFLICT = "conflict"
    """409: something is active where the run should start."""
    REQUEST_REFUSED = "request-refused"
    """402, 422, 426 and any other 3xx or 4xx."""
    WRONG_STATE = "wrong-state"
    """The run is in no state for what was asked."""
    NO_CONNECTION = "no-connection"
    """No connection or no TLS; nothing was sent."""
    ANSWER_LOST = "answer-lost"
    """Sent, and the answer never came whole."""
    MALFORMED_ANSWER = "malformed-answer"
    """The answer is not what the API documents."""
    ANOTHER_RUN = "another-run"
    """The answer is about another run."""
    SERVER_TROUBLE = "server-trouble"
    """408, 425, 429 or 5xx."""
    SERVICE_UNAVAILABLE = "service-unavailable"
    """There was no usable answer, whatever the reason."""

    # --- what is not known ---
    UNKNOWN_STATE = "unknown-state"
    """The run is over in a word that is not documented."""
    POLLING_FAILED = "polling-failed"
    """Reads failed for longer than the error budget."""
    SUBMIT_UNCERTAIN = "submit-uncertain"
    """The answer to a submit is lost, and nothing proves which run is ours."""
    SUBMIT_UNCONFIRMED = "submit-unconfirmed"
    """The answer to a submit is lost, and a later look may find its run by the mark."""
    TRIGGER_CRASHED = "trigger-crashed"
    """The trigger of an Airflow task met an error of its own."""
    UNEXPECTED_ERROR = "unexpected-error"
    """An error that nobody has foreseen."""

    # --- how a run, or the wait for it, ended ---
    RUN_FAILED = "run-failed"
    """The run failed, and the verdict on that is fail."""
    RUN_CANCELLED = "run-cancelled"
    """The run was cancelled, and the verdict on that is fail."""
    RUN_TIMED_OUT = "run-timed-out"
    """``timeout``, ``max_paused``, ``max_stalled`` or ``max_spend`` ended the wait."""
    EXECUTION_TIMEOUT = "execution-timeout"
    """Airflow's clock for one try ended the wait."""
    RUN_REJECTED = "run-rejected"
    """The policy calls a failure what the provider does not."""
    EXPECT_UNMET = "expect-unmet"
    """The run does not meet ``expect``."""
    TOO_FEW_RUNS = "too-few-runs"
    """Fewer runs of a set ended well than ``require`` asks for."""
    RUN_SKIPPED = "run-skipped"
    """The verdict on a degraded, exhausted or succeeded run is skip."""
    SOFT_FAILED = "soft-failed"
    """``soft_fail=True`` or ``on_outcome`` made a skip of a failed, cancelled or timed-out run."""
    NEVER_FAIL = "never-fail"
    """``never_fail=True`` of a sensor made a skip of an error."""
    TASK_ENDED = "task-ended"
    """A person has ended the task while its runs went on."""
    RUN_WARNED = "run-warned"
    """The verdict is warn: the task or step succeeds."""

    # --- a wait that is held, and what goes on ---
    WAITING_FOR_TURN = "waiting-for-turn"
    """Something else is active where the run should start."""
    RUN_PAUSED = "run-paused"
    """The run waits for a person or an outside event."""
    LOOKS_DELAYED = "looks-delayed"
    """A limit of requests lets each look come later than planned."""
    KEY_REREAD = "key-reread"
    """A key was refused in the middle of a wait, and is read again."""
    SEARCHING_RUN = "searching-run"
    """The answer to a submit is lost, and its run is looked for."""
    UNKNOWN_WORD = "unknown-word"
    """A run that goes on reports a word that is not documented."""
    LEFT_BEHIND = "left-behind"
    """A run goes on, or may go on, and nothing waits for it any more."""

    # --- your own functions, and Dagster ---
    FUNCTION_FAILED = "function-failed"
    """A function of the user's raised."""
    NO_RUN_YET = "no-run-yet"
    """A check is to judge a parent's newest run, and there is none."""
    DAGSTER_RUN_OVER = "dagster-run-over"
    """The Dagster run has ended or is being terminated, while a step of it goes on."""
    TARGETS_UNREADABLE = "targets-unreadable"
    """A tick of a sensor could read none of its targets."""

    # --- the command line, and the testing kit ---
    OUTPUT_BROKEN = "output-broken"
    """Standard output takes nothing more."""
    TESTING_REFUSED = "testing-refused"
    """A test asks the kit for what cannot be, or would reach a real service."""


def with_code(text: str, code: Code | None) -> str:
    """A text that ends with a code, exactly once.

    Args:
        text: The text.
        code: The code; None leaves the text as it is.
    """
    ending = "" if code is None else f"[{code}]"
    if text.endswith(ending):
        return text
    return f"{text} {ending}" if text else ending


class Coded:
    """An exception whose text ends with its code."""

    error_code: Code = Code.UNEXPECTED_ERROR
    """The code: of the class, or where an answer differs, of this error."""
    args: tuple[object, ...]

    @property
    def text(self) -> str:
        """The text without the code, for texts that go on behind it and for what is stored."""
        return str(self.args[0]) if self.args else ""

    def __str__(self) -> str:
        return with_code(self.text, self.error_code)


def text_of(error: BaseException) -> str:
    """What an error says, without the code of one of ours."""
    return error.text if isinstance(error, Coded) else str(error)
