"""Runs that nobody waits for any more: what a host suspects, and what one look at the provider shows of it.

A host (Airflow, Dagster) knows what it has submitted and what still waits; it gives a :class:`Suspect` for each run, or
each submit whose answer is lost, that nothing of it waits for. :func:`examine` looks at the provider once:

- a run that is not over is left behind; one that is over is nobody's business;
- of a lost submit the run that bears its mark is ours. Where no mark can prove it, the runs that have appeared since
  are named as candidates, and none is ever cancelled;
- what cannot be read is said to be so: it may be another account's.

Nothing here sends a cancel; :mod:`runops.core.client.orphans` does, after the host has looked again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from runops.core.declaration import Observation, Page, Provider
from runops.core.model.errors import AnswerError, RunopsError, UnknownStateError
from runops.core.model.run import RunRef, RunSnapshot
from runops.core.waiting.flows import get, list_page
from runops.core.waiting.intent import Intent, submitter_of_mark
from runops.core.waiting.ownership import RunSearch, Sighting
from runops.core.waiting.steps import Clock, Flow


class Standing(StrEnum):
    """What is known of a run, or of a lost submit, that nobody waits for."""

    LEFT = "left"
    """It is ours, and is not over."""
    UNREADABLE = "unreadable"
    """The provider did not show it to this key."""
    UNCERTAIN = "uncertain"
    """A submit may have started a run; which one, nothing proves."""


class Act(StrEnum):
    """What became of a cancel."""

    CANCELLED = "cancelled"
    """The provider was asked to stop it."""
    TAKEN_UP = "taken_up"
    """Right before the cancel it had ended, or something waited for it again: nothing was sent."""
    FAILED = "failed"
    """The provider cannot, or did not take the request: it may go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """What a host has submitted and does not wait for. One of ``ref``, ``intent`` and ``submitter`` says what it is.

    Args:
        provider: The provider's name, or ``"package.module:NAME"``.
        holder: What submitted it, such as a task instance: JSON primitives, for people and programs.
        why: Why nothing waits for it, in words.
        credential: The name of the credential that submitted it, such as a connection id; None where it is not known.
        ref: The run.
        parent: Under which a list shows the run of a lost submit.
        intent: What was known before a submit whose answer is lost.
        submitter: What every mark of the holder begins with: any run with such a mark is meant.
        spared: Ids of runs that are not meant, since the holder waits for them, or has given them to others.
    """

    provider: str
    holder: Mapping[str, Any]
    why: str
    credential: str | None = None
    ref: RunRef | None = None
    parent: Mapping[str, str] = field(default_factory=dict[str, str])
    intent: Intent | None = None
    submitter: str | None = None
    spared: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    """What a look at a suspect showed.

    Args:
        suspect: The suspect.
        standing: What is known.
        snapshot: The run, where it was seen.
        message: Why it cannot be read or told; empty otherwise.
        candidates: Runs of which one may be that of the lost submit.
        act: What became of its cancel; None where none was wanted.
    """

    suspect: Suspect
    standing: Standing
    snapshot: RunSnapshot | None = None
    message: str = ""
    candidates: tuple[RunRef, ...] = ()
    act: Act | None = None

    @property
    def ref(self) -> RunRef | None:
        """The run, where it is known which one it is."""
        return self.snapshot.ref if self.snapshot is not None else self.suspect.ref

    @property
    def settled(self) -> bool:
        """Whether all is known of it, and done that was wanted."""
        return self.standing is Standing.LEFT and self.act is not Act.FAILED

    @property
    def goes_on(self) -> bool:
        """Whether its run is left behind and may go on: it was neither cancelled nor taken up meanwhile."""
        return self.standing is Standing.LEFT and self.act not in (Act.CANCELLED, Act.TAKEN_UP)

    def to_result(self) -> dict[str, Any]:
        """The orphan as JSON primitives. Keys are only ever added."""
        ref, snapshot = self.ref, self.snapshot
        result = None if snapshot is None else snapshot.to_result()
        return {
            "schema": 1,
            "standing": str(self.standing),
            "provider": self.suspect.provider if ref is None else ref.provider,
            "run_id": None if ref is None else ref.run_id,
            "parents": dict(self.suspect.parent if ref is None else ref.parents),
            "state": None if result is None else result["state"],
            "phase": None if snapshot is None or snapshot.phase is None else str(snapshot.phase),
            "created_at": None if result is None else result["created_at"],
            "url": None if snapshot is None else snapshot.url,
            "credential": self.suspect.credential,
            "holder": dict(self.suspect.holder),
            "why": self.suspect.why,
            "message": self.message,
            "candidates": [each.run_id for each in self.candidates],
            "act": None if self.act is None else str(self.act),
        }


Pages = dict[tuple[tuple[str, str], ...], Page]
"""The first page of each parent's list that one key has read, so that many suspects of one parent cost one read."""


def examine(provider: Provider, suspect: Suspect, pages: Pages, *, clock: Clock) -> Flow[list[Orphan]]:
    """Look at a suspect once. Nothing comes back where it is over, or was never started.

    Args:
        provider: Its provider.
        suspect: The suspect.
        pages: What the same key has read already; filled on the way.
        clock: Where the flow reads the time.
    """
    if suspect.ref is not None:
        return (yield from _run(provider, suspect, suspect.ref))
    if suspect.intent is not None:
        return (yield from _lost(provider, suspect, suspect.intent, clock))
    return (yield from _marked(provider, suspect, pages, clock))


def unreadable(suspect: Suspect, error: RunopsError) -> Orphan:
    """What is known where nothing could be read.

    Args:
        suspect: The suspect.
        error: Why not.
    """
    return Orphan(suspect=suspect, standing=Standing.UNREADABLE, message=error.text)


def _run(provider: Provider, suspect: Suspect, ref: RunRef) -> Flow[list[Orphan]]:
    try:
        snapshot = yield from get(provider, ref)
    except UnknownStateError:
        # It is over, in a word that nobody knows.
        return []
    except AnswerError as error:
        return [unreadable(suspect, error)]
    return [] if snapshot.run_ended else [Orphan(suspect=suspect, standing=Standing.LEFT, snapshot=snapshot)]


def _lost(provider: Provider, suspect: Suspect, intent: Intent, clock: Clock) -> Flow[list[Orphan]]:
    """The run of a submit that was not answered: proven by its mark, or not at all."""
    sighting = yield from RunSearch(provider, suspect.parent, intent, False, None, clock).look()
    if sighting.ours is not None:
        ours = next(run for run in _snapshots(sighting) if run.ref == sighting.ours)
        return [] if ours.run_ended else [Orphan(suspect=suspect, standing=Standing.LEFT, snapshot=ours)]
    active = {run.ref for run in sighting.active}
    candidates = tuple(ref for ref in sighting.candidates if ref in active)
    compared = intent.mark is not None or intent.ids_before is not None
    if sighting.whole and compared and (intent.mark or not candidates):
        return []
    if provider.listing is None or not suspect.parent:
        why = f"{provider.title} lists no runs to look through"
    elif not sighting.whole:
        why = "the list of runs could not be read whole"
    else:
        why = "nothing proves which of the runs that have appeared since is ours"
    message = f"The answer to a submit is lost, and {why}."
    return [Orphan(suspect=suspect, standing=Standing.UNCERTAIN, message=message, candidates=candidates)]


def _marked(provider: Provider, suspect: Suspect, pages: Pages, clock: Clock) -> Flow[list[Orphan]]:
    """The runs on a parent's list that bear a mark of the suspect's holder, but those that are spared."""
    key = tuple(sorted(suspect.parent.items()))
    page = pages.get(key)
    if page is None:
        try:
            page = pages[key] = yield from list_page(provider, suspect.parent, clock=clock)
        except AnswerError as error:
            return [unreadable(suspect, error)]
    ours = [each.snapshot for each in page.observations if _is_by(each, suspect.submitter)]
    return [
        Orphan(suspect=replace(suspect, ref=run.ref), standing=Standing.LEFT, snapshot=run)
        for run in ours
        if not run.run_ended and run.ref.run_id not in suspect.spared
    ]


def _is_by(observation: Observation, submitter: str | None) -> bool:
    return submitter is not None and submitter_of_mark(observation.label or "") == submitter


def _snapshots(sighting: Sighting) -> list[RunSnapshot]:
    return [each.snapshot for each in sighting.observations]
