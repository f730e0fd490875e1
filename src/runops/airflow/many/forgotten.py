"""What a try does about the many runs of earlier ones that Airflow remembers nothing of; see forgotten.py for one run.

Each run of a set bears a mark of its own, which begins with a hash of its task and its call. One look at the list of
each parent tells all of them. Where runs bear no mark, what holds for one run of a parent holds for all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from runops.airflow.forgotten import EarlierTries, Forgotten
from runops.core import AnswerError, RunClient, RunopsError, RunSnapshot
from runops.core.declaration import Call
from runops.core.many.rows import Row
from runops.core.model.codes import Code, with_code
from runops.core.waiting.own_runs import marked_runs, shows_marks


@dataclass(frozen=True, kw_only=True, slots=True)
class ForgottenSet:
    """The runs of a set of which Airflow remembers nothing.

    :param client: The client.
    :param calls: What the task submits.
    :param keys: What each of them is known by, in the same order.
    :param identity: Names the task instance over its tries.
    :param tries: The tries before.
    :param remembers: Whether Airflow remembers anything of a task, as long as nobody clears it.
    :param log: The task's log.
    """

    client: RunClient
    calls: Sequence[Call]
    keys: Sequence[str]
    identity: str
    tries: EarlierTries
    remembers: bool
    log: Any

    @property
    def may_be(self) -> bool:
        """Whether an earlier try may have left runs of which there is no record."""
        return self._one(0).may_be

    def found(self) -> list[Row]:
        """The rows of the runs that an earlier try has left, to go on with; the rest may be submitted.

        :raises SubmitUncertainError: One of them may be alive, and nothing proves which one it is.
        """
        if not shows_marks(self.client.provider):
            for indices in self._by_parent():
                self._one(indices[0]).found()
            return []
        rows = [
            Row(index=index, key=self.keys[index]).submitted(run.ref, None)
            for index, (run, *_) in self._marked(must=True)
        ]
        self.log.info("Found by their marks: %d runs, which earlier tries submitted.", len(rows))
        for _ in rows:
            self.client.meter.adopted(self.client.provider.name)
        return rows

    def cancel(self) -> None:
        """Cancel the runs that the tries before a clear have left, and say where nobody can tell them."""
        if not shows_marks(self.client.provider):
            self._one(0).cancel()
            return
        live = [run for _, runs in self._marked(must=False) for run in runs if not run.run_ended]
        if live:
            self.log.info("The task was cleared: cancelling %d runs of before, found by their marks.", len(live))
        for run in live:
            try:
                self.client.cancel(run.ref)
            except RunopsError as error:
                text = f"{run.ref} of before could not be cancelled and may go on: {error.text}"
                self.log.warning("%s", with_code(text, Code.LEFT_BEHIND))

    def _marked(self, *, must: bool) -> Iterator[tuple[int, tuple[RunSnapshot, ...]]]:
        """The runs that bear a mark of this task, by the place of their call; those that are not over come first.

        :param must: Whether a list that cannot be read ends the try; otherwise it is said and passed over.
        :raises SubmitUncertainError: It does.
        """
        client = self.client
        for indices in self._by_parent():
            flow = marked_runs(client.provider, self.calls[indices[0]].parent, clock=client.clock)
            try:
                seen = client.drive(flow)
            except AnswerError as error:
                if must and self.remembers:
                    raise self._one(indices[0]).unread(error) from None
                self.log.warning("Whether earlier tries have left runs is not known: %s", error)
                continue
            for index in indices:
                runs = seen.of(f"{self.identity}/{self.keys[index]}").ours
                if runs:
                    yield index, runs

    def _by_parent(self) -> list[list[int]]:
        """The places of the calls of each parent."""
        groups: dict[tuple[tuple[str, str], ...], list[int]] = {}
        for index, call in enumerate(self.calls):
            groups.setdefault(tuple(sorted(call.parent.items())), []).append(index)
        return list(groups.values())

    def _one(self, index: int) -> Forgotten:
        return Forgotten(
            client=self.client,
            call=self.calls[index],
            identity=f"{self.identity}/{self.keys[index]}",
            tries=self.tries,
            remembers=self.remembers,
            log=self.log,
        )
