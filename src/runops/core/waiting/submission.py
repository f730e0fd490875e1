"""How a run is started at most once, and found again when the answer to its submit is lost. It sends nothing itself.

Before the POST an :class:`Intent` is made, and the host records it: a mark that only this submit bears, the ids that
the parent's list showed, and the service's own clock. After a lost answer the list is read for ``submit_grace`` s:

* a run that bears the mark is ours, and no other is, however alone it may stand;
* where the provider shows no text of ours, nothing proves whose a run is. Only with ``adopt_uncertain`` is one
  adopted: the single run that, by the service's own clock, began after the POST, that nobody else is shown to have
  started, and beside which no other has appeared when the whole grace is over;
* where the provider itself refuses a second active run, and neither its list nor its route of the newest run shows
  the mark, one more POST is safe, and is sent.

Everything else ends in :class:`SubmitUncertainError`: nothing is sent while a lost run may live.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import cast

from runops.core.declaration import Call, Provider, Request
from runops.core.declaration.routes import NO_SUCH_RUN, no_such
from runops.core.model.codes import Code, with_code
from runops.core.model.errors import AnswerError, ConflictError
from runops.core.model.run import RunRef
from runops.core.transport.retry import submit_is_uncertain, submit_may_repeat
from runops.core.waiting.flows import pause_after
from runops.core.waiting.intent import Intent, check_call
from runops.core.waiting.options import SUBMIT_GRACE
from runops.core.waiting.ownership import RunSearch, lost_answer
from runops.core.waiting.steps import Clock, Flow, Send, Sleep

logger = logging.getLogger("runops")

SUBMIT_SECONDS = 300.0
"""Seconds for which a submit that certainly started nothing is repeated."""


def submit(
    provider: Provider,
    call: Call,
    intent: Intent,
    *,
    clock: Clock,
    lost: bool = False,
    adopt_uncertain: bool = False,
    grace: float = SUBMIT_GRACE,
    resubmit: bool = True,
    adopted: Callable[[], None] | None = None,
    until: float | None = None,
) -> Flow[RunRef]:
    """Start a run, once.

    Args:
        provider: The provider.
        call: What to start.
        intent: What :func:`list_before_submit` gave, recorded by now.
        clock: Where the flow reads the time.
        lost: Whether an earlier process may have sent this very submit already: then its run is looked for first.
        adopt_uncertain: Where no mark proves whose a run is, take the single new one for ours.
        grace: Seconds for which the run of a lost answer is looked for; 0 for a single look.
        resubmit: Whether the grace is over then, so that one more POST may be sent where that is safe. False for
            those who go on looking elsewhere.
        adopted: Called where the run of a lost answer is found, once.
        until: The moment in unix seconds after which nobody waits for a turn: a look at what is in the way is held
            back for no longer.

    Raises:
        ConflictError: Something is active; the text says what, where it can be seen.
        SubmitUncertainError: The answer is lost, and so whether a run exists is not known.
        AnswerError: Nothing was started.
    """
    check_call(provider, call)
    text_field = provider.submit.mark if provider.submit and intent.mark else None
    marked = call.marked(text_field, cast("str", intent.mark)) if text_field else call
    search = RunSearch(provider, call.parent, intent, adopt_uncertain, (marked.json or {}).get(text_field or ""), clock)
    sent_again = False
    while True:
        error: AnswerError | None = None
        if not lost:
            try:
                return provider.submitted(call, (yield from _post(provider, marked, clock)))
            except ConflictError as conflict:
                ref = yield from _in_the_way(search, conflict, grace if sent_again else None, until)
                return _adopt(ref, adopted)
            except AnswerError as failure:
                if not submit_is_uncertain(failure, turned_away(provider, call)):
                    raise
                error = failure
                if grace:
                    text = f"{lost_answer(provider, error)} Its run is looked for, for up to {grace:.0f} s."
                    logger.warning("%s", with_code(text, Code.SEARCHING_RUN))
        sighting = yield from search.look_until_found(grace)
        if sighting.ours is not None:
            return _adopt(sighting.ours, adopted)
        if sent_again or not resubmit or not search.proves_absence(sighting):
            raise search.uncertain(sighting, error)
        logger.warning(
            "%s shows no run with the mark %s and refuses a second active one: submitting once more.",
            provider.title,
            intent.mark,
        )
        lost, sent_again = False, True


def find_submitted(
    provider: Provider,
    parent: Mapping[str, str],
    intent: Intent,
    *,
    clock: Clock,
    adopt_uncertain: bool = False,
    grace: float = SUBMIT_GRACE,
    adopted: Callable[[], None] | None = None,
) -> Flow[RunRef]:
    """The run of a submit whose answer never reached us, if it can be told; nothing is sent but reads.

    Args:
        provider: The provider.
        parent: The call's ``parent``.
        intent: What was recorded before the submit.
        clock: Where the flow reads the time.
        adopt_uncertain: As :func:`submit` takes it.
        grace: As :func:`submit` takes it.
        adopted: As :func:`submit` takes it.

    Raises:
        SubmitUncertainError: It cannot be told.
    """
    search = RunSearch(provider, parent, intent, adopt_uncertain, None, clock)
    sighting = yield from search.look_until_found(grace)
    if sighting.ours is None:
        raise search.uncertain(sighting, None)
    return _adopt(sighting.ours, adopted)


def _adopt(ref: RunRef, adopted: Callable[[], None] | None) -> RunRef:
    if adopted is not None:
        adopted()
    return ref


# --- the POST ----------------------------------------------------------------------------------------------------


def _post(provider: Provider, call: Call, clock: Clock) -> Flow[bytes]:
    """Send it, again only where it was surely turned away unread."""
    what, absent = f"submit to {provider.title}", no_such(call.parent)
    if call.retry_of is not None:
        what, absent = f"retry of {provider.name} run {call.retry_of}", NO_SUCH_RUN
    request = Request(call.method, call.path, what, call.query, call.json, absent=absent)
    began, attempt = clock(), 0
    while True:
        attempt += 1
        try:
            content: bytes = yield Send(request, fresh=True)
            return content
        except AnswerError as error:
            pause = pause_after(error, attempt)
            if not submit_may_repeat(error, turned_away(provider, call)) or clock() + pause - began > SUBMIT_SECONDS:
                raise
            logger.info("Nothing was submitted to %s: %s The next try is in %.1f s.", provider.title, error.text, pause)
            yield Sleep(pause)


def turned_away(provider: Provider, call: Call) -> tuple[tuple[int, str], ...]:
    """The answers by which a provider says that it has not begun with a submit; see ``Submission.turned_away``."""
    declared = provider.submit if call.retry_of is None else provider.retry
    return declared.turned_away if declared else ()


def _in_the_way(search: RunSearch, error: ConflictError, grace: float | None, until: float | None) -> Flow[RunRef]:
    """Our own run, where it is the one in the way: a lost submit got through, or something repeated the request.

    Args:
        search: The look for it.
        error: The refusal.
        grace: Seconds for which our run is looked for, where an earlier submit is lost; None where none is.
        until: As :func:`submit` takes it.

    Raises:
        ConflictError: Another run is in the way.
        SubmitUncertainError: An earlier submit is lost, and nobody can see whether its run is the one in the way.
    """
    sighting = yield from search.look(by=until)
    if grace is not None and not sighting.active:
        sighting = yield from search.look_until_found(grace)
    if sighting.ours is not None and search.intent.mark:
        return sighting.ours
    if grace is not None and not sighting.active:
        raise search.uncertain(sighting, error) from None
    named = ", ".join(f"run {run.ref.run_id} ({run.state})" for run in sighting.active[:5])
    text = f"{error.text} Active now: {named}." if named else error.text
    conflict = ConflictError(text, status=error.status, code=error.code, retry_after=error.retry_after)
    conflict.active = tuple(sighting.active)
    raise conflict from None
