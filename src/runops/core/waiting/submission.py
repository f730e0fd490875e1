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

import hashlib
import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self, cast

from runops.core.declaration import Call, Observation, Page, Provider, Request
from runops.core.declaration.routes import no_such
from runops.core.model.errors import (
    AnswerError,
    ConfigurationError,
    ConflictError,
    NotSupported,
    RunopsError,
    SubmitUncertainError,
)
from runops.core.model.run import RunRef, RunSnapshot
from runops.core.transport.retry import submit_is_uncertain, submit_may_repeat
from runops.core.waiting.flows import latest_page, list_page, newest_page, patient_read, pause_after
from runops.core.waiting.options import SUBMIT_GRACE
from runops.core.waiting.steps import Clock, Flow, Send, Sleep

logger = logging.getLogger("runops")

_CONSONANTS = "bcdfghjklmnpqrstvwxz"
SUBMIT_PATIENCE = 300.0
"""Seconds for which a submit that certainly started nothing is repeated."""
PAUSES = (2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds between two looks for it; the last one again and again."""
READ_SECONDS = 30.0
"""So long after the grace a last look may still go on."""


@dataclass(frozen=True, slots=True)
class Intent:
    """What is known before a submit is sent. A host records it, so that any later process can find the run.

    Args:
        mark: What the run's text ends with, which no other run bears; None where runs cannot be marked.
        ids_before: The ids that the parent's list showed; None where there is no list, or it could not be read whole.
        clock: The moment at which that list was read, by the service's own clock in unix seconds, or the newest time
            on it if that is later; None where it bore no date.
    """

    mark: str | None = None
    ids_before: frozenset[str] | None = None
    clock: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON primitives, without any payload or secret."""
        ids = None if self.ids_before is None else sorted(self.ids_before)
        return {"mark": self.mark, "ids_before": ids, "clock": self.clock}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any] | None) -> Self:
        """What :meth:`to_dict` wrote. Anything else says nothing, so that no run is taken for ours by it."""
        record = record or {}
        mark, ids, clock = record.get("mark"), record.get("ids_before"), record.get("clock")
        return cls(
            mark=mark if isinstance(mark, str) and mark else None,
            ids_before=frozenset(map(str, cast("list[object]", ids))) if isinstance(ids, list) else None,
            clock=float(clock) if isinstance(clock, (int, float)) else None,
        )


def new_mark(identity: str | None = None) -> str:
    """A mark of 15 characters: seven say who submits, six are for this submit alone.

    Consonants only: they spell nothing, and cannot look like a key, which would be taken out where the text is shown.

    Args:
        identity: What names the submitter for good, such as a task of a DAG run; None for nobody in particular.
    """
    who = secrets.token_bytes(8) if identity is None else hashlib.sha256(identity.encode()).digest()
    return f"[{_consonants(who, 7)}{_consonants(secrets.token_bytes(8), 6)}]"


def _consonants(octets: bytes, count: int) -> str:
    number = int.from_bytes(octets)
    letters: list[str] = []
    for _ in range(count):
        number, rest = divmod(number, len(_CONSONANTS))
        letters.append(_CONSONANTS[rest])
    return "".join(letters)


def list_before_submit(
    provider: Provider, call: Call, *, identity: str | None = None, mark_runs: bool = True
) -> Flow[Intent]:
    """What must be known, and recorded, before a submit is sent.

    A list that cannot be read does not stop the submit: a key may be allowed to start runs and not to list them. Then
    a lost answer is uncertain unless a mark proves whose a run is.

    Args:
        provider: The provider.
        call: What will be submitted.
        identity: As :func:`new_mark` takes it.
        mark_runs: Whether the run's text may be given a mark, where the provider shows one.
    """
    _check_call(provider, call)
    mark = new_mark(identity) if mark_runs and provider.submit is not None and provider.submit.mark else None
    if provider.listing is None or not call.parent:
        return Intent(mark)
    try:
        # Without a mark all depends on what was there before, and a page says more of it than the newest run.
        page = yield from (newest_page if mark else list_page)(provider, call.parent)
    except (AnswerError, ConfigurationError) as error:
        logger.warning(
            "The runs of %s could not be listed before the submit (%s). The run is submitted all the same; should "
            "the answer get lost, %s.",
            provider.title,
            error,
            "it is found by its mark" if mark else "nobody can tell whether it was started",
        )
        return Intent(mark)
    ids = None if page.unread else frozenset(look.snapshot.ref.run_id for look in page.observations)
    return Intent(mark, ids, _clock_of(page))


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

    Raises:
        ConflictError: Something is active; the text says what, where it can be seen.
        SubmitUncertainError: The answer is lost, and so whether a run exists is not known.
        AnswerError: Nothing was started.
    """
    _check_call(provider, call)
    text_field = provider.submit.mark if provider.submit and intent.mark else None
    marked = call.marked(text_field, cast("str", intent.mark)) if text_field else call
    search = _Search(provider, call.parent, intent, adopt_uncertain, (marked.json or {}).get(text_field or ""), clock)
    sent_again = False
    while True:
        error: AnswerError | None = None
        if not lost:
            try:
                return provider.submitted(call, (yield from _post(provider, marked, clock)))
            except ConflictError as conflict:
                return (yield from _in_the_way(search, conflict, grace if sent_again else None))
            except AnswerError as failure:
                if not submit_is_uncertain(failure, turned_away(provider)):
                    raise
                error = failure
                if grace:
                    logger.warning("%s Its run is looked for, for up to %.0f s.", _lost(provider, error), grace)
        seen = yield from search.look_until_found(grace)
        if seen.ours is not None:
            return seen.ours
        if sent_again or not resubmit or not search.proves_absence(seen):
            raise search.uncertain(seen, error)
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
) -> Flow[RunRef]:
    """The run of a submit whose answer never reached us, if it can be told; nothing is sent but reads.

    Args:
        provider: The provider.
        parent: The call's ``family``.
        intent: What was recorded before the submit.
        clock: Where the flow reads the time.
        adopt_uncertain: As :func:`submit` takes it.
        grace: As :func:`submit` takes it.

    Raises:
        SubmitUncertainError: It cannot be told.
    """
    search = _Search(provider, parent, intent, adopt_uncertain, None, clock)
    seen = yield from search.look_until_found(grace)
    if seen.ours is None:
        raise search.uncertain(seen, None)
    return seen.ours


# --- the POST ----------------------------------------------------------------------------------------------------


def _check_call(provider: Provider, call: Call) -> None:
    if call.provider != provider.name:
        raise ConfigurationError(f"This call is for {call.provider}, not for {provider.title}.")
    if provider.submit is None:
        raise NotSupported(f"{provider.title} documents no way to start a run.")


def _post(provider: Provider, call: Call, clock: Clock) -> Flow[bytes]:
    """Send it, again only where it was surely turned away unread."""
    request = Request(
        call.method, call.path, f"submit to {provider.title}", json=call.json, absent=no_such(call.parent)
    )
    began, attempt = clock(), 0
    while True:
        attempt += 1
        try:
            content: bytes = yield Send(request, fresh=True)
            return content
        except AnswerError as error:
            pause = pause_after(error, attempt)
            if not submit_may_repeat(error, turned_away(provider)) or clock() + pause - began > SUBMIT_PATIENCE:
                raise
            logger.info("Nothing was submitted to %s: %s The next try is in %.1f s.", provider.title, error, pause)
            yield Sleep(pause)


def turned_away(provider: Provider) -> tuple[tuple[int, str], ...]:
    """The answers by which a provider says that it has not begun with a submit; see ``Submission.turned_away``."""
    return provider.submit.turned_away if provider.submit else ()


def _in_the_way(search: _Search, error: ConflictError, grace: float | None) -> Flow[RunRef]:
    """Our own run, where it is the one in the way: a lost submit got through, or something repeated the request.

    Args:
        search: The look for it.
        error: The refusal.
        grace: Seconds for which our run is looked for, where an earlier submit is lost; None where none is.

    Raises:
        ConflictError: Another run is in the way.
        SubmitUncertainError: An earlier submit is lost, and nobody can see whether its run is the one in the way.
    """
    seen = yield from search.look()
    if grace is not None and not seen.active:
        seen = yield from search.look_until_found(grace)
    if seen.ours is not None and search.intent.mark:
        return seen.ours
    if grace is not None and not seen.active:
        raise search.uncertain(seen, error) from None
    named = ", ".join(f"run {run.ref.run_id} ({run.state})" for run in seen.active[:5])
    text = f"{error} Active now: {named}." if named else str(error)
    raise ConflictError(text, status=error.status, code=error.code) from None


# --- whose run it is ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one look for a run showed.

    Args:
        looks: The parent's newest runs.
        whole: Whether everything that could be read was, down to the last entry.
        ours: The run that is proven to be ours, or is taken for it.
        candidates: Runs that appeared since the submit.
    """

    looks: tuple[Observation, ...] = ()
    whole: bool = False
    ours: RunRef | None = None
    candidates: tuple[RunRef, ...] = ()

    @property
    def active(self) -> list[RunSnapshot]:
        """The runs that are not over yet."""
        return [look.snapshot for look in self.looks if look.snapshot.phase is not None]


@dataclass(frozen=True, slots=True)
class _Search:
    """The look for the run of one submit.

    Args:
        provider: The provider.
        parent: Under which its list shows the run; empty where there is none.
        intent: What was known before.
        adopt_uncertain: Whether the single new run is taken for ours where no mark can prove it.
        label: The marked text as it was sent, where it is known.
        clock: Unix seconds.
    """

    provider: Provider
    parent: Mapping[str, str]
    intent: Intent
    adopt_uncertain: bool
    label: str | None
    clock: Clock

    def look_until_found(self, grace: float) -> Flow[_Seen]:
        """Look for ``grace`` seconds; what the last look showed."""
        began = now = self.clock()
        turn = 0
        while True:
            seen = yield from self.look(by=began + grace + READ_SECONDS)
            over = now - began >= grace
            if seen.ours is not None and (over or self.intent.mark):
                return seen
            # Without a mark a second run may still appear, and nothing but the wait is gained by it.
            hopeless = not self.intent.mark and not self.adopt_uncertain and bool(seen.candidates)
            if over or hopeless or not self._listed():
                return seen
            pause = PAUSES[min(turn, len(PAUSES) - 1)]
            yield Sleep(min(pause, max(began + grace - now, 0.0)))
            now, turn = self.clock(), turn + 1

    def look(self, *, by: float | None = None) -> Flow[_Seen]:
        """One look at all that shows the parent's newest runs. What cannot be read leaves it incomplete."""
        if not self._listed():
            return _Seen()
        reads = [list_page, *([latest_page] if self.provider.pages.latest_request(self.parent) else [])]
        pages: list[Page] = []
        for read in reads:
            try:
                page = yield from read(self.provider, self.parent, by=by, clock=self.clock)
            except RunopsError as error:
                logger.info("The runs of %s could not be listed: %s", self.provider.title, error)
            else:
                pages += [page] if page else []
        looks = {look.snapshot.ref.run_id: look for page in reversed(pages) for look in page.observations}
        whole = len(pages) == len(reads) and not any(page.unread for page in pages)
        if self.intent.mark:
            return self._by_mark(tuple(looks.values()), whole)
        dates = [page.date for page in pages if page.date is not None]
        return (yield from self._by_clock(tuple(looks.values()), whole, max(dates, default=None)))

    def _listed(self) -> bool:
        return self.provider.listing is not None and bool(self.parent)

    def _by_mark(self, looks: tuple[Observation, ...], whole: bool) -> _Seen:
        """The run that bears our mark. Several do where something on the way has repeated our request."""
        ours = [look.snapshot for look in looks if self.intent.mark and self.intent.mark in (look.label or "")]
        alive = [run for run in ours if run.phase is not None] or ours
        if len(ours) > 1:
            names = ", ".join(run.ref.run_id for run in ours)
            logger.warning("Several runs of %s bear the mark of one submit: %s.", self.provider.title, names)
        return _Seen(
            looks, whole, alive[0].ref if alive else None, tuple(look.snapshot.ref for look in self._new(looks))
        )

    def _by_clock(self, looks: tuple[Observation, ...], whole: bool, date: float | None) -> Flow[_Seen]:
        """The run that may be taken for ours: the only new one, begun since the POST by the service's own clock."""
        new = self._new(looks)
        seen = _Seen(looks, whole, None, self._candidates(looks))
        # An entry that names no run may be ours just as well as the one that does.
        if not (self.adopt_uncertain and whole and len(new) == 1 and self._began_since(new[0], date)):
            return seen
        if (yield from self._started_by_another(new[0])):
            return seen
        return replace(seen, ours=new[0].snapshot.ref)

    def _candidates(self, looks: tuple[Observation, ...]) -> tuple[RunRef, ...]:
        return tuple(look.snapshot.ref for look in self._new(looks))

    def _new(self, looks: tuple[Observation, ...]) -> list[Observation]:
        """The runs that may have appeared since the submit. An old one may move up when another is deleted."""
        before, clock = self.intent.ids_before, self.intent.clock
        if before is None:
            return []
        new = [look for look in looks if look.snapshot.ref.run_id not in before]
        return [look for look in new if clock is None or (_born(look) or clock) >= clock]

    def _began_since(self, look: Observation, date: float | None) -> bool:
        """Whether a run surely began after the submit's list was read, and surely before now; both clocks theirs."""
        born, ended, clock = _born(look), look.snapshot.finished_at, self.intent.clock
        if clock is None or date is None or born is None:
            return False
        ended_before = ended is not None and ended.timestamp() < clock
        # A date of HTTP is in whole seconds.
        return not ended_before and clock <= born <= date + 1.0

    def _started_by_another(self, look: Observation) -> Flow[bool]:
        """Whether the provider shows that another account started a run; a doubt counts as that it does."""
        declared = self.provider.submit
        if look.started_by is None or declared is None or not declared.account:
            return False
        try:
            reply = yield from patient_read(self.provider.probe_request())
            return self.provider.account(reply.content) != look.started_by
        except RunopsError as error:
            logger.info("Whose key this is could not be asked: %s", error)
            return True

    def proves_absence(self, seen: _Seen) -> bool:
        """Whether no run of this submit is alive: the provider refuses a second one, and nothing shows our mark."""
        declared = self.provider.submit
        if declared is None or not declared.one_at_a_time or not self.intent.mark or not seen.whole:
            return False
        if self.label is None:
            return False
        # A text that the provider cut short may have lost its mark.
        new = seen.looks if self.intent.ids_before is None else self._new(seen.looks)
        bare = self.label.removesuffix(self.intent.mark).rstrip()
        return not any(look.label and look.label != bare and self.label.startswith(look.label) for look in new)

    def uncertain(self, seen: _Seen, error: AnswerError | None) -> SubmitUncertainError:
        """The error that says what is not known, and which runs may be ours."""
        why = _lost(self.provider, error)
        if not self._listed():
            why = f"{why} {self.provider.title} lists no runs to look through."
        elif not seen.whole:
            why = f"{why} The list of runs could not be read whole."
        elif self.intent.mark is None and self.intent.ids_before is None:
            why = f"{why} There is no whole list from before the submit to compare with."
        return SubmitUncertainError(why, candidates=seen.candidates, may_be_found=bool(self.intent.mark))


def _lost(provider: Provider, error: AnswerError | None) -> str:
    return f"The answer to a submit to {provider.title} is lost{f' ({error})' if error else ''}."


def _clock_of(page: Page) -> float | None:
    """The service's clock when a page was read. A newer time on the page itself is a clock of the service's too."""
    if page.date is None:
        return None
    runs = [look.snapshot for look in page.observations]
    times = [time for run in runs for time in (run.created_at, run.started_at, run.finished_at) if time is not None]
    return max([page.date, *(time.timestamp() for time in times)])


def _born(look: Observation) -> float | None:
    """When a run was created or, where that is not shown, started, in unix seconds."""
    born = look.snapshot.created_at or look.snapshot.started_at
    return None if born is None else born.timestamp()
