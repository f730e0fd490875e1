"""Whose run it is: the look for the run of a submit whose answer is lost, and what counts as proof.

A look reads the parent's list, and the route of its newest run where there is one. Then:

- with a mark, the run that bears it is ours, and no other is. The look ends as soon as it shows up;
- without one, nothing is proven. Only with ``adopt_uncertain`` is a run taken for ours: the single one that is not
  among the ids from before, that began between the list before the POST and now by the service's own clock, and that
  the provider does not show to be started by another account. That takes the whole grace: a second one may show up;
- what cannot be read leaves a look incomplete, and proves nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

from runops.core.declaration import Observation, Page, Provider
from runops.core.model.errors import AnswerError, RunopsError, SubmitUncertainError
from runops.core.model.run import RunRef, RunSnapshot
from runops.core.waiting.flows import latest_page, list_page, patient_read
from runops.core.waiting.intent import Intent
from runops.core.waiting.listing import born
from runops.core.waiting.steps import Clock, Flow, Sleep, renewed

logger = logging.getLogger("runops")

PAUSES = (2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds between two looks; the last one again and again."""
READ_SECONDS = 30.0
"""Seconds after the grace for which a last look may go on."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """What one look for a run showed.

    Args:
        observations: The parent's newest runs.
        whole: Whether everything that could be read was, down to the last entry.
        ours: The run that is proven to be ours, or is taken for it.
        candidates: Runs that appeared since the submit.
    """

    observations: tuple[Observation, ...] = ()
    whole: bool = False
    ours: RunRef | None = None
    candidates: tuple[RunRef, ...] = ()

    @property
    def active(self) -> list[RunSnapshot]:
        """The runs that are not over yet."""
        return [each.snapshot for each in self.observations if each.snapshot.phase is not None]


@dataclass(frozen=True, slots=True)
class RunSearch:
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

    def look_until_found(self, grace: float) -> Flow[Sighting]:
        """Look for ``grace`` seconds; what the last look showed."""
        began = now = self.clock()
        turn = 0
        while True:
            sighting = yield from self.look(by=began + grace + READ_SECONDS)
            over = now - began >= grace
            if sighting.ours is not None and (over or self.intent.mark):
                return sighting
            # Without a mark a second run may still appear, and nothing but the wait is gained by it.
            hopeless = not self.intent.mark and not self.adopt_uncertain and bool(sighting.candidates)
            if over or hopeless or not self._listed():
                return sighting
            pause = PAUSES[min(turn, len(PAUSES) - 1)]
            yield Sleep(min(pause, max(began + grace - now, 0.0)))
            now, turn = self.clock(), turn + 1

    def look(self, *, by: float | None = None) -> Flow[Sighting]:
        """One look at all that shows the parent's newest runs. What cannot be read leaves it incomplete."""
        if not self._listed():
            return Sighting()
        reads = [list_page, *([latest_page] if self.provider.pages.latest_request(self.parent) else [])]
        pages: list[Page] = []
        for read in reads:
            try:
                page = yield from read(self.provider, self.parent, by=by, clock=self.clock)
            except RunopsError as error:
                logger.info("The runs of %s could not be listed: %s", self.provider.title, error)
            else:
                pages += [page] if page else []
        observations = {each.snapshot.ref.run_id: each for page in reversed(pages) for each in page.observations}
        whole = len(pages) == len(reads) and not any(page.unread for page in pages)
        if self.intent.mark:
            return self._by_mark(tuple(observations.values()), whole)
        dates = [page.date for page in pages if page.date is not None]
        return (yield from self._by_clock(tuple(observations.values()), whole, max(dates, default=None)))

    def _listed(self) -> bool:
        return self.provider.listing is not None and bool(self.parent)

    def _by_mark(self, observations: tuple[Observation, ...], whole: bool) -> Sighting:
        """The run that bears our mark. Several do where something on the way has repeated our request."""
        ours = [each.snapshot for each in observations if self.intent.mark and self.intent.mark in (each.label or "")]
        alive = [run for run in ours if run.phase is not None] or ours
        if len(ours) > 1:
            names = ", ".join(run.ref.run_id for run in ours)
            logger.warning("Several runs of %s bear the mark of one submit: %s.", self.provider.title, names)
        return Sighting(
            observations,
            whole,
            alive[0].ref if alive else None,
            tuple(each.snapshot.ref for each in self._new(observations)),
        )

    def _by_clock(self, observations: tuple[Observation, ...], whole: bool, date: float | None) -> Flow[Sighting]:
        """The run that may be taken for ours: the only new one, begun since the POST by the service's own clock."""
        new = self._new(observations)
        sighting = Sighting(observations, whole, None, self._candidates(observations))
        # An entry that names no run may be ours just as well as the one that does.
        if not (self.adopt_uncertain and whole and len(new) == 1 and self._began_since(new[0], date)):
            return sighting
        if (yield from self._started_by_another(new[0])):
            return sighting
        return replace(sighting, ours=new[0].snapshot.ref)

    def _candidates(self, observations: tuple[Observation, ...]) -> tuple[RunRef, ...]:
        return tuple(each.snapshot.ref for each in self._new(observations))

    def _new(self, observations: tuple[Observation, ...]) -> list[Observation]:
        """The runs that may have appeared since the submit. An old one may move up when another is deleted."""
        before, clock = self.intent.ids_before, self.intent.clock
        if before is None:
            return []
        new = [each for each in observations if each.snapshot.ref.run_id not in before]
        return [each for each in new if clock is None or (born(each.snapshot) or clock) >= clock]

    def _began_since(self, observation: Observation, date: float | None) -> bool:
        """Whether a run surely began after the submit's list was read, and surely before now; both clocks theirs."""
        began, ended, clock = born(observation.snapshot), observation.snapshot.finished_at, self.intent.clock
        if clock is None or date is None or began is None:
            return False
        ended_before = ended is not None and ended.timestamp() < clock
        # A date of HTTP is in whole seconds.
        return not ended_before and clock <= began <= date + 1.0

    def _started_by_another(self, observation: Observation) -> Flow[bool]:
        """Whether the provider shows that another account started a run; a doubt counts as that it does."""
        declared = self.provider.submit
        if observation.started_by is None or declared is None or not declared.account:
            return False
        try:
            reply = yield from renewed(patient_read(self.provider.probe_request()))
            return self.provider.account(reply.content) != observation.started_by
        except RunopsError as error:
            logger.info("Whose key this is could not be asked: %s", error)
            return True

    def proves_absence(self, sighting: Sighting) -> bool:
        """Whether no run of this submit is alive: the provider refuses a second one, and nothing shows our mark."""
        declared = self.provider.submit
        if declared is None or not declared.one_at_a_time or not self.intent.mark or not sighting.whole:
            return False
        if self.label is None:
            return False
        # A text that the provider cut short may have lost its mark.
        new = sighting.observations if self.intent.ids_before is None else self._new(sighting.observations)
        bare = self.label.removesuffix(self.intent.mark).rstrip()
        return not any(each.label and each.label != bare and self.label.startswith(each.label) for each in new)

    def uncertain(self, sighting: Sighting, error: AnswerError | None) -> SubmitUncertainError:
        """The error that says what is not known, and which runs may be ours."""
        why = lost_answer(self.provider, error)
        if not self._listed():
            why = f"{why} {self.provider.title} lists no runs to look through."
        elif not sighting.whole:
            why = f"{why} The list of runs could not be read whole."
        elif self.intent.mark is None and self.intent.ids_before is None:
            why = f"{why} There is no whole list from before the submit to compare with."
        return SubmitUncertainError(why, candidates=sighting.candidates, may_be_found=bool(self.intent.mark))


def lost_answer(provider: Provider, error: AnswerError | None) -> str:
    """What a message about a lost answer begins with."""
    why = f" ({error.text.removesuffix('.')})" if error else ""
    return f"The answer to a submit to {provider.title} is lost{why}."
