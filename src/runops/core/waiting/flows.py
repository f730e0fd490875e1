"""What runops does with a run, as generators that ask for sends and sleeps. They decide; the clients only obey."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, TypedDict, Unpack

from runops.core.declaration import Observation, Page, Provider, Request
from runops.core.declaration.decode import check_json
from runops.core.model.cadence import backoff
from runops.core.model.errors import (
    AnswerError,
    AuthError,
    ConflictError,
    FinalError,
    MalformedAnswer,
    NotSupported,
    RunNotFound,
    RunopsError,
    TransientError,
    UnknownStateError,
)
from runops.core.model.policy import EXPECTED_OF
from runops.core.model.run import Outcome, Phase, RunRef, RunSnapshot
from runops.core.transport.keys import KeyRead
from runops.core.waiting.listing import born
from runops.core.waiting.options import WaitOptions
from runops.core.waiting.refused_key import RefusedKey
from runops.core.waiting.state import WaitProgress, WaitState
from runops.core.waiting.steps import Clock, Flow, Read, ReadKey, Reply, Send, Sleep, renewed

logger = logging.getLogger("runops")

READ_TRIES = 4
UNAUTHORIZED = 401


class WaitContext(TypedDict, total=False):
    """What a wait takes over from an earlier part of it, and whom it informs."""

    submitted_at: float | None
    """When the run was submitted, in unix seconds, where that is known."""
    seen: bool
    """Whether an earlier part of this wait has seen the run, so that a 404 is a passing error."""
    past: WaitProgress | None
    """All that an earlier part of this wait has learnt, kept up to date; takes the place of ``seen``."""
    on_update: Callable[[RunSnapshot], None] | None
    """Given the snapshot of every good read, and the last one. What it raises ends the wait."""


def get(provider: Provider, ref: RunRef, wanted: Collection[str] = ()) -> Flow[RunSnapshot]:
    """One look.

    Args:
        provider: The run's provider.
        ref: The run.
        wanted: Details that its end is judged by; see :class:`WaitOptions`.
    """
    return (yield from renewed(look(provider, ref, wanted=wanted))).snapshot


def wait(
    provider: Provider,
    ref: RunRef,
    options: WaitOptions,
    *,
    clock: Clock,
    **context: Unpack[WaitContext],
) -> Flow[RunSnapshot]:
    """Look until the run is over or a clock ends the wait; the last snapshot.

    Args:
        provider: The run's provider.
        ref: The run.
        options: The clocks of the wait.
        clock: Where the flow reads the time.
        context: See :class:`WaitContext`.
    """
    on_update = context.get("on_update")
    state = WaitState(
        provider,
        ref,
        options,
        began=clock(),
        submitted_at=context.get("submitted_at"),
        seen=context.get("seen", False),
        past=context.get("past"),
    )
    while True:
        snapshot = yield from next_update(state, clock)
        if on_update is not None:
            on_update(snapshot)
        if snapshot.outcome is not None:
            return snapshot


def next_update(state: WaitState, clock: Clock) -> Flow[RunSnapshot]:
    """The snapshot of a wait's next good read, or its last one when a clock has ended it."""
    while True:
        now = clock()
        if state.was_read:
            ended = state.expired(now)
            if ended is not None:
                return ended
            yield Sleep(state.pause(now), for_key=state.holds)
            now = clock()
        if state.holds and not (yield from may_send(state, clock)):
            continue
        try:
            # As look does. Most looks of all are these, and a generator more would cost as much as the rest here.
            observation: Observation = yield Read(state.ref, by := state.latest_read)
            if observation.snapshot.outcome is not None:
                observation = yield from _completed(state.provider, observation, by, state.options.wanted)
        except AnswerError as error:
            state.failed(error, clock(), began=now)
        else:
            state.observed(observation, clock())
            assert state.last is not None
            return state.last


def may_send(state: WaitState, clock: Clock) -> Flow[bool]:
    """Whether a wait may send its next request: where its key was refused, it has the key read again first.

    Raises:
        AuthError: The wait is over.
    """
    if state.key is None or not state.key.holds:
        return True
    reply: KeyRead = yield ReadKey(state.key.mark)
    return state.key.was_read(reply, clock())


def until_read(key: RefusedKey, clock: Clock) -> Flow[None]:
    """Have a refused key read again until it is to be sent.

    Raises:
        AuthError: It is the end of whatever waits for it.
    """
    while key.holds:
        reply: KeyRead = yield ReadKey(key.mark)
        if not key.was_read(reply, clock()):
            yield Sleep(key.pause(clock()), for_key=True)


def next_change(state: WaitState, clock: Clock) -> Flow[RunSnapshot]:
    """The next snapshot of a wait that differs from the last one in what people follow; the last one in any case."""
    before = state.last
    while True:
        snapshot = yield from next_update(state, clock)
        if snapshot.changed_from(before) or snapshot.progress != (before and before.progress):
            return snapshot


def look(
    provider: Provider, ref: RunRef, *, by: float | None = None, wanted: Collection[str] = ()
) -> Flow[Observation]:
    """The status; where a run failed and the provider can say why, the reason; and where it ended well, what is wanted.

    Args:
        provider: The run's provider.
        ref: The run.
        by: As in :class:`Send`.
        wanted: Details that the end is judged by.
    """
    observation: Observation = yield Read(ref, by)
    if observation.snapshot.outcome is None:
        return observation
    return (yield from _completed(provider, observation, by, wanted))


def _completed(
    provider: Provider, observation: Observation, by: float | None, wanted: Collection[str]
) -> Flow[Observation]:
    """The observation of a run that is over, with what it lacks and the provider can be asked for."""
    observation = yield from with_details(provider, observation, by=by, wanted=wanted)
    explain = provider.explain
    snapshot = observation.snapshot
    if explain is None or snapshot.outcome is not Outcome.FAILED or snapshot.reason:
        return observation
    try:
        why = Send(provider.request(explain.route, snapshot.ref), read=explain.read, by=by)
        reason: str | None = yield from renewed(_send(why))
    except AnswerError:
        # Only the reason is missing; how the run ended is known.
        return observation
    return replace(observation, snapshot=replace(snapshot, reason=reason))


def with_details(
    provider: Provider, observation: Observation, *, by: float | None = None, wanted: Collection[str] = ()
) -> Flow[Observation]:
    """An observation with the details that its end is judged by: the whole run is read where one is missing.

    An entry of a list, and an answer that leaves parts out, may lack what the whole run shows. A read that fails as
    reads of the wait may fail is one of those; a refusal, or an answer that is none, leaves the detail missing.

    Args:
        provider: The run's provider.
        observation: What was read.
        by: As in :class:`Send`.
        wanted: The details.

    Raises:
        TransientError: The read failed.
        AuthError: The key is not accepted any more.
    """
    snapshot = observation.snapshot
    if snapshot.outcome not in EXPECTED_OF or all(snapshot.details.get(name) is not None for name in wanted):
        return observation
    request = provider.request(provider.result or provider.status, snapshot.ref)
    try:
        read = Send(request, read=partial(provider.read, snapshot.ref), by=by)
        whole: Observation = yield from renewed(_send(read))
    except (FinalError, MalformedAnswer, UnknownStateError) as error:
        if isinstance(error, AuthError) and error.status == UNAUTHORIZED:
            # Not of this read alone: the wait holds until the key is accepted again.
            raise
        return observation
    return replace(observation, snapshot=replace(snapshot, details={**whole.snapshot.details, **snapshot.details}))


def _send(effect: Send) -> Flow[Any]:
    return (yield effect)


def payload(provider: Provider, ref: RunRef) -> Flow[dict[str, Any]]:
    """The whole payload of a run, as the provider sends it."""
    reply = yield from renewed(patient_read(provider.request(provider.result or provider.status, ref)))
    return provider.payload(reply.content)


def recent(provider: Provider, parent: str | Mapping[str, str]) -> Flow[list[RunSnapshot]]:
    """The runs on the first page of a parent's list, newest first."""
    page = yield from list_page(provider, provider.pages.parent(parent))
    return [each.snapshot for each in page.observations]


def newest(provider: Provider, parent: str | Mapping[str, str]) -> Flow[list[RunSnapshot]]:
    """The newest runs of a parent, newest first, by the route that shows them most surely: one at least, if any."""
    page = yield from newest_page(provider, provider.pages.parent(parent))
    return [each.snapshot for each in page.observations]


def cancel(provider: Provider, ref: RunRef) -> Flow[None]:
    """Ask the provider to stop a run. A run that is over already is left as it is."""
    if provider.cancel is None:
        raise NotSupported(f"{provider.title} documents no way to cancel a run.")
    return (yield from renewed(_cancel(provider, ref, provider.request(provider.cancel, ref, "cancel"))))


def _cancel(provider: Provider, ref: RunRef, request: Request) -> Flow[None]:
    for attempt in range(1, READ_TRIES + 1):
        try:
            yield Send(request)
        except (TransientError, ConflictError) as error:
            if attempt == READ_TRIES:
                raise
            if (yield from _is_over(provider, ref)):
                return
            yield Sleep(pause_after(error, attempt))
        except AuthError:
            raise
        except FinalError:
            # What a provider answers to the cancel of a finished run is documented nowhere: look.
            if (yield from _is_over(provider, ref)):
                return
            raise
        else:
            return


def _is_over(provider: Provider, ref: RunRef) -> Flow[bool]:
    try:
        now = yield from look(provider, ref)
    except UnknownStateError:
        return True
    except RunopsError:
        return False
    return now.snapshot.run_ended or now.snapshot.phase is Phase.STOPPING


def probe(provider: Provider) -> Flow[None]:
    """A harmless read that only a good credential gets through.

    Raises:
        AuthError: The credential is bad.
        AnswerError: The service cannot be reached or answers something else.
    """
    try:
        content: bytes = yield from renewed(_send(Send(provider.probe_request())))
    except RunNotFound:
        if not provider.probe_absent:
            raise
    else:
        check_json(content)


# --- lists ----------------------------------------------------------------------------------------------------


def newest_page(provider: Provider, parent: Mapping[str, str]) -> Flow[Page]:
    """The newest runs of a parent, newest first, by the route that shows them most surely: one at least, if any."""
    return (yield from latest_page(provider, parent)) or (yield from list_page(provider, parent))


def latest_page(
    provider: Provider, parent: Mapping[str, str], *, by: float | None = None, clock: Clock = time.time
) -> Flow[Page | None]:
    """What the route of a parent's newest run shows: one run or, where the service itself answers 404, none.

    None where the provider has no such route.
    """
    request = provider.pages.latest_request(parent)
    if request is None:
        return None
    try:
        reply = yield from renewed(patient_read(request, by=by, clock=clock))
    except RunNotFound as error:
        # The page of a gateway that does not know the address says nothing about the parent.
        if not error.is_json:
            raise
        return Page([])
    return Page([provider.pages.read_latest(reply.content, parent)], date=reply.date)


def list_page(
    provider: Provider, parent: Mapping[str, str], *, by: float | None = None, clock: Clock = time.time
) -> Flow[Page]:
    """The first page of a parent's list, newest first."""
    request = provider.pages.request(parent)
    reply = yield from renewed(patient_read(request, by=by, clock=clock))
    page = provider.pages.read(reply.content, parent)
    if page.unread:
        logger.warning("The %s has %s; the others are used.", request.description, unreadable(len(page.unread)))
    return Page(sorted(page.observations, key=_age, reverse=True), page.unread, reply.date)


def unreadable(entries: int) -> str:
    """In words, how many entries of a list cannot be read."""
    return f"{entries} {'entry' if entries == 1 else 'entries'} without a readable run id"


def _age(observation: Observation) -> float:
    return born(observation.snapshot) or 0.0


def patient_read(request: Request, *, by: float | None = None, clock: Clock = time.time) -> Flow[Reply]:
    """A read that is tried a few times, until ``by`` in unix seconds of ``clock``; the last failure is raised."""
    attempt = 0
    while True:
        attempt += 1
        try:
            reply: Reply = yield Send(request, by=by, dated=True)
            return reply
        except TransientError as error:
            pause = pause_after(error, attempt)
            if attempt == READ_TRIES or (by is not None and clock() + pause > by):
                raise
            logger.debug("The %s failed: %s The next try is in %.1f s.", request.description, error.text, pause)
            yield Sleep(pause)


def pause_after(error: AnswerError, attempt: int) -> float:
    """Seconds before the next try of a request, after its failure number ``attempt``."""
    return max(error.retry_after or 0.0, backoff(attempt, first=0.5, ceiling=30.0))
