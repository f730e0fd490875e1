"""The runs of one submitter, by what its marks begin with: for a host that has no record of them. It sends only reads.

A mark proves whose a run is, and nothing else does: where runs bear none, only what is active can be told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from runops.core.declaration import Page, Provider
from runops.core.model.run import RunSnapshot
from runops.core.waiting.flows import latest_page, list_page
from runops.core.waiting.intent import submitter, submitter_of_mark
from runops.core.waiting.steps import Clock, Flow


@dataclass(frozen=True, slots=True)
class OwnRuns:
    """What a look at the list of a parent showed.

    Args:
        whole: Whether it could be read down to the last entry. False where the provider has no list too.
        ours: The runs that bear a mark of the submitter, newest first, those that are not over before the others.
        active: All runs that are not over, whosever they are.
    """

    whole: bool = False
    ours: tuple[RunSnapshot, ...] = ()
    active: tuple[RunSnapshot, ...] = ()


def shows_marks(provider: Provider) -> bool:
    """Whether runs of a provider can be told by a mark."""
    return provider.listing is not None and provider.submit is not None and provider.submit.mark is not None


@dataclass(frozen=True, slots=True)
class MarkedRuns:
    """What a look at the list of a parent showed, of all submitters.

    Args:
        whole: As :class:`OwnRuns` has it.
        by_submitter: The runs that bear a mark, by what :func:`submitter` gives; in the order of :class:`OwnRuns`.
        active: As :class:`OwnRuns` has it.
    """

    whole: bool = False
    by_submitter: Mapping[str, tuple[RunSnapshot, ...]] = field(default_factory=dict[str, "tuple[RunSnapshot, ...]"])
    active: tuple[RunSnapshot, ...] = ()

    def of(self, identity: str) -> OwnRuns:
        """What it showed of one submitter.

        Args:
            identity: What names the submitter, as its submits were given it.
        """
        return OwnRuns(self.whole, self.by_submitter.get(submitter(identity), ()), self.active)


def marked_runs(provider: Provider, parent: Mapping[str, str], *, clock: Clock) -> Flow[MarkedRuns]:
    """Look once for the marked runs under a parent.

    Args:
        provider: The provider.
        parent: The call's ``parent``.
        clock: Where the flow reads the time.

    Raises:
        AnswerError: The list could not be had.
    """
    if provider.listing is None or not parent:
        return MarkedRuns()
    pages: list[Page] = [(yield from list_page(provider, parent, clock=clock))]
    latest = yield from latest_page(provider, parent, clock=clock)
    pages += [latest] if latest else []
    looks = {look.snapshot.ref.run_id: look for page in pages for look in page.observations}
    ours: dict[str, list[RunSnapshot]] = {}
    for look in looks.values():
        who = submitter_of_mark(look.label or "")
        if who is not None:
            ours.setdefault(who, []).append(look.snapshot)
    return MarkedRuns(
        whole=not any(page.unread for page in pages),
        # Sorting keeps the order of the list among equals.
        by_submitter={who: tuple(sorted(runs, key=lambda run: run.run_ended)) for who, runs in ours.items()},
        active=tuple(look.snapshot for look in looks.values() if look.snapshot.phase is not None),
    )


def runs_of(provider: Provider, parent: Mapping[str, str], identity: str, *, clock: Clock) -> Flow[OwnRuns]:
    """Look once for the runs that a submitter has started under a parent.

    Args:
        provider: The provider.
        parent: The call's ``parent``.
        identity: What names the submitter, as its submits were given it.
        clock: Where the flow reads the time.

    Raises:
        AnswerError: The list could not be had.
    """
    return (yield from marked_runs(provider, parent, clock=clock)).of(identity)
