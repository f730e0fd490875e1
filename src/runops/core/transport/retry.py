"""Which failures deserve another try, and after how long. Pure: it reads answers and exceptions and sends nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, cast

from runops.core.declaration.routes import NO_SUCH_RUN
from runops.core.model.errors import (
    AnswerError,
    AuthError,
    ConflictError,
    ConnectionFailed,
    FinalError,
    RequestRefused,
    RunNotFound,
    ServerTrouble,
    TransientError,
)
from runops.core.model.redaction import clean, code, cut
from runops.core.model.secret import Secret
from runops.core.transport.base import Answer, number

LONGEST_HELD = 900.0
"""Seconds: an asked-for pause is honoured up to here."""

LARGEST_ERROR = 100_000
"""Bytes up to which the body of an error is read: its message must not hold an event loop."""

TRANSIENT_STATUSES = frozenset({408, 425, 429})
RATE_LIMITED = 429


def from_answer(
    answer: Answer, *, origin: str, description: str, absent: str = NO_SUCH_RUN, secrets: tuple[str | Secret, ...] = ()
) -> AnswerError:
    """The error that a non-2xx answer means.

    Args:
        answer: The answer.
        origin: Where the credential was set, for 401 and 403.
        description: The request in words, such as ``GET nexio run 1f...``; no query, no header.
        absent: What a 404 means, in words.
        secrets: Texts that must not appear in the error.
    """
    provider_code, message = _code_and_message(answer.content, secrets)
    status = answer.status
    parts = [f"{description} was answered {status}"]
    if provider_code:
        parts.append(f"({provider_code})")
    if message:
        parts.append(f"- {message}")
    text = " ".join(parts).rstrip(".") + "."
    if status in TRANSIENT_STATUSES or status >= 500:
        return ServerTrouble(text, status=status, code=provider_code, retry_after=requested_pause(answer))
    kind: type[FinalError] = _FINAL.get(status, RequestRefused)
    advice = _ADVICE.get(status, "").format(origin=origin, absent=absent)
    # Nothing is held back by it, but who waits for a turn asks no sooner than the service wants to be asked.
    retry_after = requested_pause(answer) if kind is ConflictError else None
    is_json = _json_object(answer.content) is not None
    return kind(text + advice, status=status, code=provider_code, retry_after=retry_after, is_json=is_json)


_FINAL: Mapping[int, type[FinalError]] = {
    401: AuthError,
    403: AuthError,
    404: RunNotFound,
    409: ConflictError,
}
_ADVICE: Mapping[int, str] = {
    401: " Check the key in {origin}: it is missing, wrong, revoked or expired.",
    402: " The account has no balance left for this.",
    403: " The key in {origin} lacks a right, or belongs to another workspace or organisation.",
    404: " {absent}, or the key belongs to another environment or account.",
    409: " Something else is active there right now; try again later.",
    426: " The service asks for a newer client: check for a newer runops.",
}


def requested_pause(answer: Answer, *, now: float | None = None) -> float | None:
    """Seconds that ``Retry-After`` (seconds or a date) or ``X-RateLimit-Reset`` (unix seconds) asks for, capped."""
    moment = time.time() if now is None else now
    seconds = _retry_after(answer.headers.get("retry-after"), moment)
    if seconds is None and answer.status == RATE_LIMITED:
        # Some services send the reset time with every answer; only here does it ask for a pause.
        reset = number(answer.headers.get("x-ratelimit-reset"))
        seconds = None if reset is None else reset - moment if reset > 1e9 else reset
    return None if seconds is None else min(max(seconds, 0.0), LONGEST_HELD)


def submit_may_repeat(error: AnswerError, turned_away: Collection[tuple[int, str]] = ()) -> bool:
    """Whether a request that starts a run surely started none: nothing was sent, or it was turned away unread.

    Args:
        error: The failure.
        turned_away: What the provider declares, see ``Submission.turned_away``.
    """
    if isinstance(error, ConnectionFailed):
        return True
    return error.status == RATE_LIMITED or (error.status, error.code) in turned_away


def submit_is_uncertain(error: AnswerError, turned_away: Collection[tuple[int, str]] = ()) -> bool:
    """Whether a run may exist although the answer to its submit is lost; arguments as in :func:`submit_may_repeat`."""
    return isinstance(error, TransientError) and not submit_may_repeat(error, turned_away)


def may_pass(error: FinalError) -> bool:
    """Whether a final error can be a passing one in a wait: a run not visible yet, a detour of a gateway."""
    return isinstance(error, RunNotFound) or (error.status is not None and 300 <= error.status < 400)


def _retry_after(value: str | None, now: float) -> float | None:
    if value is None:
        return None
    seconds = number(value)
    if seconds is not None:
        return seconds
    try:
        return parsedate_to_datetime(value).timestamp() - now
    except (ValueError, TypeError, OverflowError):
        return None


def _code_and_message(content: bytes, secrets: tuple[str | Secret, ...]) -> tuple[str | None, str | None]:
    """The code and message of an error body, in any of the shapes that the five APIs use; neither must be there."""
    outer = _json_object(content)
    if outer is None:
        return None, None
    inner: Any = outer.get("error")
    source = cast("dict[str, Any]", inner) if isinstance(inner, dict) else outer
    found_code = code(source.get("code"), *secrets) or code(source.get("type"), *secrets)
    for name in ("message", "error", "detail"):
        text = clean(source.get(name), *secrets)
        if text:
            return found_code, text
    return found_code, _fields(outer.get("detail") or source.get("details"), secrets)


def _json_object(content: bytes) -> dict[str, Any] | None:
    if len(content) > LARGEST_ERROR:
        return None
    try:
        body: Any = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", body) if isinstance(body, dict) else None


def _fields(problems: Any, secrets: tuple[str | Secret, ...]) -> str | None:
    """The names of the fields that a validation error complains about; never their values."""
    if not isinstance(problems, list):
        return None
    names: list[str] = []
    for problem in cast("list[Any]", problems)[:5]:
        if isinstance(problem, dict):
            found = cast("dict[str, Any]", problem)
            place = found.get("loc") or found.get("field")
            parts = cast("list[Any]", place)[:8] if isinstance(place, list) else [place]
            name = ".".join(filter(None, (_field(part, secrets) for part in parts)))
            if name:
                names.append(name)
    return cut(f"fields: {', '.join(names)}") if names else None


def _field(part: object, secrets: tuple[str | Secret, ...]) -> str | None:
    """A part of a field's place, where it can be a name or an index: services put keys and values of payloads there."""
    if isinstance(part, int):
        return str(part) if 0 <= part < 10_000 else "?"
    return (code(part, *secrets) or "?") if isinstance(part, str) else None
