"""What runops does with a run, as generators that ask for sends and sleeps. They decide; the clients only obey."""

from __future__ import annotations

import logging
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from runops.core.cadence import backoff
from runops.core.errors import (
    AnswerError,
    AuthError,
    ConfigurationError,
    ConflictError,
    FinalError,
    MalformedAnswer,
    NotSupported,
    RunNotFound,
    RunopsError,
    SubmitUncertainError,
    TransientError,
    UnknownStateError,
)
from runops.core.provider import Call, Look, Provider, Request, Route, detail
from runops.core.retry import submit_is_uncertain, submit_may_repeat
from runops.core.run import Outcome, Phase, RunRef, RunSnapshot
from runops.core.watch import Past, Patience, Watch

logger = logging.getLogger("runops")

SUBMIT_PATIENCE = 300.0
"""Seconds for which a submit that certainly started nothing is repeated."""
READ_TRIES = 4
LOOKS_AFTER_LOST = (0.0, 2.0, 4.0, 8.0)
"""Seconds before each look for a run whose submit was answered by nothing."""


@dataclass(frozen=True, slots=True)
class Send:
    """Ask for an answer. A 2xx comes back as its body; everything else is raised as an :class:`AnswerError`."""

    request: Request
    fresh: bool = False
    """On a connection of its own, so that a stale kept one cannot swallow a submit."""
    by: float | None = None
    """Unix seconds: fail with a :class:`TransientError` rather than be held back for longer than this."""


@dataclass(frozen=True, slots=True)
class Read:
    """Ask how a run stands, as a :class:`Look`. Where from is the driver's affair: its own route, or a list."""

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
    patience: Patience,
    *,
    submitted_at: float | None = None,
    seen: bool = False,
    past: Past | None = None,
) -> Flow[RunSnapshot]:
    """Look until the run is over or a clock ends the wait; the last snapshot. Each good read is ``Seen``."""
    began: float = yield Time()
    watch = Watch(provider, ref, patience, began=began, submitted_at=submitted_at, seen=seen, past=past)
    while True:
        try:
            look = yield from _look(provider, ref, by=watch.latest_look)
        except AnswerError as error:
            now: float = yield Time()
            watch.failed(error, now)
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


def _look(provider: Provider, ref: RunRef, *, by: float | None = None) -> Flow[Look]:
    """The status, and where a run failed and the provider can say why, the reason."""
    look: Look = yield Read(ref, by)
    explain = provider.explain
    if explain is None or look.snapshot.outcome is not Outcome.FAILED or look.snapshot.reason:
        return look
    try:
        told: bytes = yield Send(provider.request(explain.route, ref), by=by)
    except AnswerError:
        # Only the reason is missing; how the run ended is known.
        return look
    return replace(look, snapshot=look.snapshot.model_copy(update={"reason": explain.read(told)}))


def payload(provider: Provider, ref: RunRef) -> Flow[dict[str, Any]]:
    """The whole payload of a run, as the provider sends it."""
    content = yield from _patient_read(provider.request(provider.result or provider.status, ref))
    return provider.payload(content)


def recent(provider: Provider, parent: str | Mapping[str, str]) -> Flow[list[RunSnapshot]]:
    """The runs on the first page of a parent's list, newest first."""
    return (yield from _page(provider, provider.family(parent))).runs


def newest(provider: Provider, parent: str | Mapping[str, str]) -> Flow[list[RunSnapshot]]:
    """The newest runs of a parent, newest first, by the route that shows them most surely: one at least, if any."""
    return (yield from _newest(provider, provider.family(parent))).runs


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
            yield Sleep(_pause(error, attempt))
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
    route = provider.probe
    try:
        content: bytes = yield Send(
            Request(route.method, route.path, f"connection test of {provider.title}", route.query)
        )
    except RunNotFound:
        if not provider.probe_absent:
            raise
    else:
        provider.check_json(content)


# --- submit ----------------------------------------------------------------------------------------------------


def survey(provider: Provider, call: Call) -> Flow[frozenset[str] | None]:
    """The ids of the newest runs of a call's parent, before it is submitted.

    None where there is no list, or where an entry of it names no run: nobody could tell later that it is not ours.
    """
    _check_call(provider, call)
    if provider.listing is None or not call.family:
        return None
    found = yield from _newest(provider, call.family)
    return None if found.unread else frozenset(run.ref.run_id for run in found.runs)


def submit(
    provider: Provider, call: Call, *, known: frozenset[str] | None, adopt_uncertain: bool = False
) -> Flow[RunRef]:
    """Start a run, once.

    Args:
        provider: The provider.
        call: What to start.
        known: What :func:`survey` found.
        adopt_uncertain: After a lost answer, take a single new run for ours even where runs may overlap.

    Raises:
        ConflictError: Something is active; the text says what, where it can be seen.
        SubmitUncertainError: The answer is lost, and so whether a run exists is not known.
        AnswerError: Nothing was started.
    """
    _check_call(provider, call)
    request = Request("POST", call.path, f"submit to {provider.title}", json=call.json)
    began: float = yield Time()
    attempt = 0
    while True:
        attempt += 1
        try:
            content: bytes = yield Send(request, fresh=True)
            return _submitted(provider, call, content)
        except ConflictError as error:
            raise (yield from _told_what_is_active(provider, call, error)) from None
        except AnswerError as error:
            if submit_is_uncertain(error):
                return (yield from _reconcile(provider, call, known, adopt_uncertain, error))
            now: float = yield Time()
            pause = _pause(error, attempt)
            if not submit_may_repeat(error) or now + pause - began > SUBMIT_PATIENCE:
                raise
            yield Sleep(pause)


def _check_call(provider: Provider, call: Call) -> None:
    if call.provider != provider.name:
        raise ConfigurationError(f"This call is for {call.provider}, not for {provider.title}.")
    if provider.submit is None:
        raise NotSupported(f"{provider.title} documents no way to start a run.")


def reconcile(
    provider: Provider, call: Call, known: frozenset[str] | None, *, adopt_uncertain: bool = False
) -> Flow[RunRef]:
    """The run of a submit whose answer never reached us, if it can be told.

    Raises:
        SubmitUncertainError: It cannot.
    """
    return (yield from _reconcile(provider, call, known, adopt_uncertain, None))


def _reconcile(
    provider: Provider,
    call: Call,
    known: frozenset[str] | None,
    adopt_uncertain: bool,
    lost: AnswerError | None,
) -> Flow[RunRef]:
    why = f"The answer to a submit to {provider.title} is lost{f' ({lost})' if lost else ''}."
    if known is None or provider.submit is None:
        lacks = "lists no runs" if provider.listing is None else "showed no whole list of runs before"
        raise SubmitUncertainError(f"{why} {provider.title} {lacks} to compare with.") from None
    appeared: list[RunSnapshot] = []
    whole = True
    for pause in LOOKS_AFTER_LOST:
        yield Sleep(pause)
        try:
            found = yield from _newest(provider, call.family)
        except RunopsError:
            continue
        appeared, whole = _newer(found.runs, known), not found.unread
        if appeared:
            break
    ours = [run.ref for run in appeared if _bears_marks(run, call)]
    # An entry that names no run may be ours just as well as the one that does.
    alone = whole and len(ours) == 1 and len(appeared) == 1
    if alone and (provider.submit.one_at_a_time or adopt_uncertain):
        return ours[0]
    raise SubmitUncertainError(why, candidates=[run.ref for run in appeared]) from None


def _newer(runs: list[RunSnapshot], known: frozenset[str]) -> list[RunSnapshot]:
    """The runs that came after the known ones; an old one may move up on a page when another is deleted."""
    newest_known = max((_age(run) for run in runs if run.ref.run_id in known), default=0.0)
    return [run for run in runs if run.ref.run_id not in known and not 0 < _age(run) < newest_known]


def _bears_marks(run: RunSnapshot, call: Call) -> bool:
    return all(run.details.get(name, detail(mark)) == detail(mark) for name, mark in call.marks.items())


def _submitted(provider: Provider, call: Call, content: bytes) -> RunRef:
    answer = provider.payload(content)
    for key in ("run_id", "id", "runId"):
        run_id = answer.get(key)
        if isinstance(run_id, (str, int)) and not isinstance(run_id, bool):
            try:
                return provider.ref(str(run_id), call.parents)
            except ConfigurationError:
                continue
    raise MalformedAnswer(f"The answer to a submit to {provider.title} holds no usable run id.")


def _told_what_is_active(provider: Provider, call: Call, error: ConflictError) -> Flow[ConflictError]:
    active: list[str] = []
    if provider.listing is not None and call.family:
        try:
            runs = (yield from _newest(provider, call.family)).runs
        except RunopsError:
            runs = []
        active = [f"run {run.ref.run_id} ({run.state})" for run in runs if run.phase is not None]
    told = f" Active now: {', '.join(active[:5])}." if active else ""
    return ConflictError(f"{error}{told}", status=error.status, code=error.code)


@dataclass(frozen=True, slots=True)
class _Newest:
    """The newest runs of a parent, newest first, and what stands for the entries that name no run."""

    runs: list[RunSnapshot]
    unread: tuple[str, ...] = ()


def _newest(provider: Provider, parent: Mapping[str, str]) -> Flow[_Newest]:
    listing = provider.listing
    if listing is None or listing.latest is None or not set(listing.latest.holes) <= set(parent):
        return (yield from _page(provider, parent))
    try:
        content = yield from _patient_read(_parent_request(provider, listing.latest, parent))
    except RunNotFound:
        return _Newest([])
    return _Newest([look.snapshot for look in provider.newest(content, parent)])


def _page(provider: Provider, parent: Mapping[str, str]) -> Flow[_Newest]:
    request = provider.page_request(parent)
    content = yield from _patient_read(request)
    page = provider.page(content, parent)
    if page.unread:
        logger.warning("The %s has %s; the others are used.", request.asked, unreadable(len(page.unread)))
    return _Newest(sorted([look.snapshot for look in page.looks], key=_age, reverse=True), page.unread)


def unreadable(entries: int) -> str:
    """In words, how many entries of a list cannot be read."""
    return f"{entries} {'entry' if entries == 1 else 'entries'} without a readable run id"


def _age(run: RunSnapshot) -> float:
    born = run.created_at or run.started_at
    return born.timestamp() if born else 0.0


def _parent_request(provider: Provider, route: Route, parent: Mapping[str, str]) -> Request:
    named = ", ".join(f"{kind} {value}" for kind, value in parent.items())
    return Request(route.method, route.fill(parent), f"list of {provider.title} runs of {named}", route.query)


def _patient_read(request: Request) -> Flow[bytes]:
    """A read that is tried a few times; the last failure is raised."""
    for attempt in range(1, READ_TRIES):
        try:
            content: bytes = yield Send(request)
            return content
        except TransientError as error:
            yield Sleep(_pause(error, attempt))
    content = yield Send(request)
    return content


def _pause(error: AnswerError, attempt: int) -> float:
    return max(error.retry_after or 0.0, backoff(attempt, first=0.5, ceiling=30.0))
