"""What runops does with a run, as generators that ask for sends and sleeps. They decide; the clients only obey."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

from runops.core.declaration.provider import Observation, Page, Provider, Request
from runops.core.model.cadence import backoff
from runops.core.model.errors import (
    AnswerError,
    AuthError,
    ConflictError,
    FinalError,
    NotSupported,
    RunNotFound,
    RunopsError,
    TransientError,
    UnknownStateError,
)
from runops.core.model.run import Outcome, Phase, RunRef, RunSnapshot
from runops.core.waiting.options import WaitOptions
from runops.core.waiting.state import WaitProgress, WaitState

logger = logging.getLogger("runops")

READ_TRIES = 4


@dataclass(frozen=True, slots=True)
class Send:
    """Ask for an answer. A 2xx comes back as its body; everything else is raised as an :class:`AnswerError`."""

    request: Request
    fresh: bool = False
    """On a connection of its own, so that a stale kept one cannot swallow a submit."""
    read: Callable[[bytes], Any] | None = None
    """What the body becomes before it comes back, as the driver sees fit: an event loop has it done in a thread."""
    by: float | None = None
    """Unix seconds: fail with a :class:`TransientError` rather than be held back for longer than this. An exchange that
    is under way then has ``LAST_LOOK_SECONDS`` (session.py) left."""
    dated: bool = False
    """Whether the reply is a :class:`Reply`, which tells the service's own clock beside the body."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A good answer and when it was given, by the service's own clock."""

    content: bytes = field(repr=False)
    date: float | None
    """Unix seconds, or None where the answer bears no date."""


@dataclass(frozen=True, slots=True)
class Read:
    """Ask how a run stands, as a :class:`Observation`. Where from is the driver's affair: its own route, or a list."""

    ref: RunRef
    by: float | None = None
    """As in :class:`Send`."""


@dataclass(frozen=True, slots=True)
class Sleep:
    """Ask for a pause."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Seen:
    """Tell of a snapshot on the way."""

    snapshot: RunSnapshot


@dataclass(frozen=True, slots=True)
class Time:
    """Ask for the present, in unix seconds."""


R = TypeVar("R")
Effect = Send | Read | Sleep | Seen | Time
Flow = Generator[Effect, Any, R]


def get(provider: Provider, ref: RunRef) -> Flow[RunSnapshot]:
    """One look."""
    return (yield from _look(provider, ref)).snapshot


def wait(
    provider: Provider,
    ref: RunRef,
    patience: WaitOptions,
    *,
    submitted_at: float | None = None,
    seen: bool = False,
    past: WaitProgress | None = None,
) -> Flow[RunSnapshot]:
    """Look until the run is over or a clock ends the wait; the last snapshot. Each good read is ``Seen``."""
    began: float = yield Time()
    watch = WaitState(provider, ref, patience, began=began, submitted_at=submitted_at, seen=seen, past=past)
    while True:
        started: float = yield Time()
        try:
            look = yield from _look(provider, ref, by=watch.latest_look)
        except AnswerError as error:
            now: float = yield Time()
            watch.failed(error, now, began=started)
        else:
            now = yield Time()
            last = watch.saw(look, now)
            yield Seen(watch.last or look.snapshot)
            if last is not None:
                return last
        ended = watch.expired(now)
        if ended is not None:
            yield Seen(ended)
            return ended
        yield Sleep(watch.pause(now))


def _look(provider: Provider, ref: RunRef, *, by: float | None = None) -> Flow[Observation]:
    """The status, and where a run failed and the provider can say why, the reason."""
    look: Observation = yield Read(ref, by)
    explain = provider.explain
    if explain is None or look.snapshot.outcome is not Outcome.FAILED or look.snapshot.reason:
        return look
    try:
        reason: str | None = yield Send(provider.request(explain.route, ref), read=explain.read, by=by)
    except AnswerError:
        # Only the reason is missing; how the run ended is known.
        return look
    return replace(look, snapshot=look.snapshot.model_copy(update={"reason": reason}))


def within(flow: Flow[R], by: float) -> Flow[R]:
    """A flow whose requests fail rather than outlast a moment by more than a last look may.

    Args:
        flow: Any flow.
        by: Unix seconds; see :class:`Send`.
    """
    reply: Any = None
    error: AnswerError | None = None
    while True:
        try:
            effect = flow.send(reply) if error is None else flow.throw(error)
        except StopIteration as stop:
            return cast("R", stop.value)
        reply, error = None, None
        try:
            reply = yield replace(effect, by=by) if isinstance(effect, Send) and effect.by is None else effect
        except AnswerError as failure:
            error = failure


def payload(provider: Provider, ref: RunRef) -> Flow[dict[str, Any]]:
    """The whole payload of a run, as the provider sends it."""
    reply = yield from patient_read(provider.request(provider.result or provider.status, ref))
    return provider.payload(reply.content)


def recent(provider: Provider, parent: str | Mapping[str, str]) -> Flow[list[RunSnapshot]]:
    """The runs on the first page of a parent's list, newest first."""
    page = yield from list_page(provider, provider.family(parent))
    return [look.snapshot for look in page.looks]


def newest(provider: Provider, parent: str | Mapping[str, str]) -> Flow[list[RunSnapshot]]:
    """The newest runs of a parent, newest first, by the route that shows them most surely: one at least, if any."""
    page = yield from newest_page(provider, provider.family(parent))
    return [look.snapshot for look in page.looks]


def cancel(provider: Provider, ref: RunRef) -> Flow[None]:
    """Ask the provider to stop a run. A run that is over already is left as it is."""
    if provider.cancel is None:
        raise NotSupported(f"{provider.title} documents no way to cancel a run.")
    request = provider.request(provider.cancel, ref, "cancel")
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
        look = yield from _look(provider, ref)
    except UnknownStateError:
        return True
    except RunopsError:
        return False
    return look.snapshot.run_ended or look.snapshot.phase is Phase.STOPPING


def probe(provider: Provider) -> Flow[None]:
    """A harmless read that only a good credential gets through.

    Raises:
        AuthError: The credential is bad.
        AnswerError: The service cannot be reached or answers something else.
    """
    try:
        content: bytes = yield Send(provider.probe_request())
    except RunNotFound:
        if not provider.probe_absent:
            raise
    else:
        provider.check_json(content)


# --- lists ----------------------------------------------------------------------------------------------------


def newest_page(provider: Provider, parent: Mapping[str, str]) -> Flow[Page]:
    """The newest runs of a parent, newest first, by the route that shows them most surely: one at least, if any."""
    listing = provider.listing
    if listing is None or not provider.shows_latest(parent):
        return (yield from list_page(provider, parent))
    return (yield from latest_page(provider, parent))


def latest_page(provider: Provider, parent: Mapping[str, str], *, by: float | None = None) -> Flow[Page]:
    """What the route of a parent's newest run shows: one run or, where the service itself answers 404, none."""
    try:
        reply = yield from patient_read(provider.latest_request(parent), by=by)
    except RunNotFound as error:
        # The page of a gateway that does not know the address says nothing about the parent.
        if not error.is_json:
            raise
        return Page([])
    return Page(provider.newest(reply.content, parent), date=reply.date)


def list_page(provider: Provider, parent: Mapping[str, str], *, by: float | None = None) -> Flow[Page]:
    """The first page of a parent's list, newest first."""
    request = provider.page_request(parent)
    reply = yield from patient_read(request, by=by)
    page = provider.page(reply.content, parent)
    if page.unread:
        logger.warning("The %s has %s; the others are used.", request.asked, unreadable(len(page.unread)))
    return Page(sorted(page.looks, key=_age, reverse=True), page.unread, reply.date)


def unreadable(entries: int) -> str:
    """In words, how many entries of a list cannot be read."""
    return f"{entries} {'entry' if entries == 1 else 'entries'} without a readable run id"


def _age(look: Observation) -> float:
    born = look.snapshot.created_at or look.snapshot.started_at
    return born.timestamp() if born else 0.0


def patient_read(request: Request, *, by: float | None = None) -> Flow[Reply]:
    """A read that is tried a few times, until ``by`` in unix seconds; the last failure is raised."""
    attempt = 0
    while True:
        attempt += 1
        try:
            reply: Reply = yield Send(request, by=by, dated=True)
            return reply
        except TransientError as error:
            pause = pause_after(error, attempt)
            now: float = yield Time()
            if attempt == READ_TRIES or (by is not None and now + pause > by):
                raise
            logger.debug("The %s failed: %s The next try is in %.1f s.", request.asked, error, pause)
            yield Sleep(pause)


def pause_after(error: AnswerError, attempt: int) -> float:
    """Seconds before the next try of a request, after its failure number ``attempt``."""
    return max(error.retry_after or 0.0, backoff(attempt, first=0.5, ceiling=30.0))
