"""A resume: a run that is paused goes on, under its own id. A read decides whether it took, never the answer alone.

- The run is read first. One that goes on already is left as it is; one that is over, or stopping, is refused.
- The request is sent. A run may show its pause for a moment longer, so it is read for ``RESUME_GRACE`` seconds until
  it shows another state, or another pause than the one that was to end.
- Where the answer is lost, the same reads tell whether it took; only where the same pause is shown to the end is the
  request sent again. That starts nothing, and a run that goes on refuses it.
- A 409 says that the run stays paused: the error names what is in the way, where a list shows it.

Nothing here is ever asked for but by a person, or by the program that a person wrote.
"""

from __future__ import annotations

import logging

from runops.core.declaration import Observation, Provider
from runops.core.model.errors import (
    AnswerError,
    AuthError,
    ConflictError,
    FinalError,
    NotSupported,
    RunopsError,
    TransientError,
    WrongState,
)
from runops.core.model.run import PAUSED_OR_WAITING, Phase, RunRef, RunSnapshot
from runops.core.transport.retry import submit_may_repeat
from runops.core.waiting.flows import READ_TRIES, list_page, patient_read, pause_after
from runops.core.waiting.retry_call import parent_of
from runops.core.waiting.steps import Clock, Flow, Send, Sleep, renewed

logger = logging.getLogger("runops")

RESUME_GRACE = 30.0
"""Seconds for which a run may still show the pause that was ended."""
PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds between two looks; the last one again and again."""


def resume(provider: Provider, ref: RunRef, *, clock: Clock, grace: float = RESUME_GRACE) -> Flow[RunSnapshot]:
    """Have a paused run go on; how it stands then.

    Args:
        provider: The run's provider.
        ref: The run.
        clock: Where the flow reads the time.
        grace: Seconds for which it may still show its pause.

    Raises:
        NotSupported: The provider documents no resume.
        WrongState: The run is over, or stopping; nothing was sent.
        ConflictError: Something is in the way, so that it stays paused; ``active`` says what, where it can be seen.
        AnswerError: The request failed, or the run could not be read.
    """
    if provider.resume is None:
        raise NotSupported(f"{provider.title} documents no way to resume a run.")
    before = yield from _look(provider, ref)
    run = before.snapshot
    if run.phase is None or run.phase is Phase.STOPPING:
        raise WrongState(f"{run.summary()}: only a run that is paused can be resumed. Nothing was sent.", run)
    if run.phase not in PAUSED_OR_WAITING:
        logger.info("%s goes on already: there is nothing to resume.", run.summary())
        return run
    return (yield from _resume(provider, before, clock, grace))


def _resume(provider: Provider, before: Observation, clock: Clock, grace: float) -> Flow[RunSnapshot]:
    assert provider.resume is not None
    ref = before.snapshot.ref
    request = provider.request(provider.resume, ref, "resume")
    attempt, lost = 0, False
    while True:
        attempt += 1
        try:
            yield from renewed(_send(Send(request)))
        except TransientError as error:
            if not submit_may_repeat(error):
                lost = True
                logger.info("%s Whether it took, the run itself tells.", error.text)
                now = yield from _until_moved(provider, before, clock, grace)
                if not _is_same_pause(before, now):
                    return now.snapshot
            if attempt == READ_TRIES:
                raise
            yield Sleep(pause_after(error, attempt))
        except AuthError:
            raise
        except FinalError as error:
            now = yield from _look(provider, ref)
            if not _is_same_pause(before, now) and (lost or now.snapshot.phase is not None):
                return now.snapshot
            raise (yield from _refusal(provider, now.snapshot, error)) from None
        else:
            now = yield from _until_moved(provider, before, clock, grace)
            if _is_same_pause(before, now):
                logger.warning("%s: the resume was accepted, but the run does not go on yet.", now.snapshot.summary())
            return now.snapshot


def _until_moved(provider: Provider, before: Observation, clock: Clock, grace: float) -> Flow[Observation]:
    """The run once it shows no longer the pause that was to end, or when the grace is over."""
    began, turn = clock(), 0
    while True:
        failure: AnswerError | None = None
        now = before
        try:
            now = yield from _look(provider, before.snapshot.ref)
        except TransientError as error:
            failure = error
        if failure is None and not _is_same_pause(before, now):
            return now
        left = began + grace - clock()
        if left <= 0:
            if failure is not None:
                raise failure
            return now
        yield Sleep(min(PAUSES[min(turn, len(PAUSES) - 1)], left))
        turn += 1


def _is_same_pause(before: Observation, now: Observation) -> bool:
    """Whether a run still shows the pause of before; any pause counts where it does not say since when it lasts."""
    if now.snapshot.phase not in PAUSED_OR_WAITING:
        return False
    known = before.paused_since is not None and now.paused_since is not None
    return not known or before.paused_since == now.paused_since


def _look(provider: Provider, ref: RunRef) -> Flow[Observation]:
    reply = yield from renewed(patient_read(provider.request(provider.status, ref)))
    return provider.read(ref, reply.content)


def _send(effect: Send) -> Flow[bytes]:
    return (yield effect)


def _refusal(provider: Provider, run: RunSnapshot, error: FinalError) -> Flow[FinalError]:
    """What a refusal is to people: why the run stays as it is, and what is in its way."""
    if run.phase is None:
        return WrongState(f"{run.summary()}: only a run that is paused can be resumed.", run)
    if not isinstance(error, ConflictError):
        return error
    parent = parent_of(provider, run)
    active: list[RunSnapshot] = []
    if parent:
        try:
            page = yield from list_page(provider, parent)
        except RunopsError as failure:
            logger.info("What is in the way could not be listed: %s", failure)
        else:
            others = [each.snapshot for each in page.observations if each.snapshot.ref.run_id != run.ref.run_id]
            active = [each for each in others if each.phase is not None]
    named = ", ".join(f"run {each.ref.run_id} ({each.state})" for each in active[:5])
    there = f"Active there now: {named}." if named else "No other active run can be seen there."
    conflict = ConflictError(
        f"{error.text} {run.ref} stays {run.state}. {there}",
        status=error.status,
        code=error.code,
        retry_after=error.retry_after,
    )
    conflict.active = tuple(active)
    return conflict
