"""What a try does where earlier ones have been, and Airflow remembers nothing of what they submitted.

Airflow 3.4 discards what a task remembers when a person clears it (but for ``keep_task_state``), and Airflow below 3.3
never remembers. Then the run is told by our mark, which begins with a hash of the task. Where runs bear none:

- ``on_clear="reattach"`` submits only where the provider shows that nothing is active, or itself refuses a second
  active run; else the task fails and names what is active, before anything is sent;
- ``on_clear="submit"`` says that the run of before may go on: nothing proves which one it is, so none is cancelled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from runops.airflow._compat import discards_on_clear
from runops.core import AnswerError, RunClient, RunopsError, RunRef, SubmitUncertainError
from runops.core.declaration import Call
from runops.core.model.codes import Code, with_code
from runops.core.waiting.own_runs import OwnRuns, runs_of, shows_marks

KEEP = 'clear it with "keep_task_state": true (in the web interface: keep the task state), and it is found'


@dataclass(frozen=True, slots=True)
class EarlierTries:
    """What Airflow says of the tries before this one.

    :param any: Whether there is one.
    :param cleared: Whether a person has cleared the task since its first try.
    :param first: Whether this is the first try, or the first after the last clear.
    """

    any: bool = False
    cleared: bool = False
    first: bool = True

    @classmethod
    def of(cls, context: Mapping[str, Any], retries: int | None) -> Self:
        """What the context of a task tells.

        :param context: The context.
        :param retries: The task's ``retries``: a clear raises ``max_tries`` above it.
        """
        ti = context["ti"]
        number, most = getattr(ti, "try_number", 1) or 1, ti.max_tries or 0
        return cls(any=number > 1, cleared=most > (retries or 0), first=number <= most - (retries or 0) + 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Forgotten:
    """The runs of a task of which Airflow remembers nothing.

    :param client: The client.
    :param call: What the task submits.
    :param identity: Names the task instance over its tries.
    :param tries: The tries before.
    :param remembers: Whether Airflow remembers anything of a task, as long as nobody clears it.
    :param log: The task's log.
    """

    client: RunClient
    call: Call
    identity: str
    tries: EarlierTries
    remembers: bool
    log: Any

    @property
    def may_be(self) -> bool:
        """Whether an earlier try may have left a run of which there is no record."""
        if not self.remembers:
            return self.tries.any and shows_marks(self.client.provider)
        return self.tries.any and self.tries.cleared and discards_on_clear()

    def found(self) -> RunRef | None:
        """The run that an earlier try has left, to attach to; None where a new one may be submitted.

        :raises SubmitUncertainError: A run of it may be alive, and nothing proves which one it is.
        """
        provider = self.client.provider
        try:
            seen = self._look()
        except AnswerError as error:
            if not self.remembers:
                self.log.warning(
                    "Whether an earlier try has left a run is not known (%s): submitting anew.", error.text
                )
                return None
            raise self.unread(error) from None
        if seen.ours:
            self.log.info("Found by its mark: %s, which an earlier try submitted.", seen.ours[0].ref)
            self.client.meter.adopted(provider.name)
            return seen.ours[0].ref
        if not self.remembers or (seen.whole and (self._marked or not seen.active)):
            self.log.info("No run of an earlier try shows up: submitting anew.")
            return None
        if provider.submit is not None and provider.submit.one_at_a_time:
            self.log.warning(
                "The task was cleared, and Airflow has discarded what it remembered of its run: it cannot be attached "
                "to. %s refuses a second active run, so the new one begins once nothing is active.",
                provider.title,
            )
            return None
        if provider.listing is None:
            raise self._uncertain(f"{provider.title} lists no runs to look through")
        raise self._uncertain("Nothing proves which run it is", seen)

    def cancel(self) -> None:
        """Cancel the runs that the tries before a clear have left, and say where nobody can tell them."""
        provider = self.client.provider
        if not shows_marks(provider):
            if self.tries.first:
                self.log.warning(
                    "The task was cleared, and Airflow has discarded what it remembered: whether a run of before goes "
                    "on is not known, and none is cancelled. To have it cancelled, %s; cancel_on_failure=True leaves "
                    "none of a task that has failed.",
                    KEEP,
                )
            return
        try:
            for run in self._look().ours:
                if not run.run_ended:
                    self.log.info("The task was cleared: cancelling %s of before.", run.ref)
                    self.client.cancel(run.ref)
        except RunopsError as error:
            text = f"The run of before could not be cancelled and may go on: {error.text}"
            self.log.warning("%s", with_code(text, Code.LEFT_BEHIND))

    def unread(self, error: AnswerError) -> SubmitUncertainError:
        """What ends a try where the list of runs could not be read."""
        return self._uncertain(
            f"The list of runs could not be read ({error.text.removesuffix('.')})", found_later=self._marked
        )

    @property
    def _marked(self) -> bool:
        """Whether a run of this task would bear a mark."""
        return self.client.marks_runs and shows_marks(self.client.provider)

    def _look(self) -> OwnRuns:
        flow = runs_of(self.client.provider, self.call.parent, self.identity, clock=self.client.clock)
        return self.client.drive(flow)

    def _uncertain(self, why: str, seen: OwnRuns | None = None, *, found_later: bool = False) -> SubmitUncertainError:
        return SubmitUncertainError(
            "The task was cleared, and Airflow has discarded what it remembered of its run, so on_clear='reattach' "
            f"cannot find it. {why}; nothing was submitted. If the run of before is over, or may stand beside a new "
            f"one, clear the task with on_clear='submit'. Should it be needed again, {KEEP}.",
            candidates=[run.ref for run in seen.active] if seen else [],
            may_be_found=found_later,
        )
