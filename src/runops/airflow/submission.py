"""One task's submit: started once, or found again by a later try. It never waits for the end of a run.

What a try does depends on the record that the task state store keeps of the one before:

- none: submit. ``before`` writes what identifies the submit down (``submitting``) before anything is sent.
- ``submitting``: an earlier try died between that and the answer, so its run is looked for; nothing is sent while it
  may live.
- ``submitted``: re-attach, unless the policy lets a new run follow the end of the earlier one, which a read must show.
- ``attached``: the same, to a run that somebody else has started, and that is never cancelled here.
- ``awaiting turn``: an earlier try was refused, and waited for its turn. Nothing of it is under way; the wait goes on.
- one of before a person's clear: cancel its run, where that is wanted, and submit;
- none, although there were tries before that may have left a run: forgotten.py looks for it.

Where the answer is lost, the run is looked for: on the worker for some seconds, then, where the task is deferrable and
the provider lists runs, in the triggerer (:class:`LostSubmit`). Where it is refused because something is active there,
a deferrable task waits for its :class:`~runops.core.waiting.turns.Turn` in the triggerer too, and any other one here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from runops.airflow import records
from runops.airflow.forgotten import EarlierTries, Forgotten
from runops.airflow.lost_submit import LostSubmit
from runops.airflow.records import ATTACHED, AWAITING_TURN, REFUSED, SUBMITTED, SUBMITTING
from runops.airflow.retry_chain import kept, taken_over
from runops.airflow.task_state import TaskState
from runops.core import AnswerError, ConflictError, Outcome, RunClient, RunopsError, RunRef, SubmitUncertainError
from runops.core.declaration.routes import Call
from runops.core.model.codes import Code, text_of, with_code
from runops.core.waiting.intent import Intent
from runops.core.waiting.retry_call import following
from runops.core.waiting.submit_in_turn import TurnRules
from runops.core.waiting.turns import Turn, expired

WORKER_SECONDS = 10.0
"""For so long a deferrable task does itself what the triggerer goes on with, so that short waits never defer."""


@dataclass(frozen=True, slots=True)
class Submitted:
    """The run to wait for.

    :param ref: The run.
    :param at: Unix seconds of its submit, where those are known.
    :param own: Whether it is ours to cancel.
    :param taken_up: Whether an earlier try had it already.
    """

    ref: RunRef
    at: float | None
    own: bool = True
    taken_up: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class SubmitRules:
    """What a task says about its submit.

    :param adopt_uncertain: Take the single new run for ours where no mark can prove it.
    :param grace: Seconds for which the run of a lost submit is looked for.
    :param deferrable: Whether the triggerer may look for it.
    :param cancels: Whether the run of before a person's clear is cancelled.
    :param may_follow: Whether a new run may be submitted after an earlier one that ended so; None for never.
    :param turns: What is done where something is active already.
    :param about: What is recorded with each submit, so that whoever finds the record can read the run: how the task
        names its provider, and its connection; and whether the task waits for the run.
    :param tries: The tries before; None where none of them is to be remembered.
    :param reattach: Whether a person's clear means the run of before.
    :param on_turn: Told of each refusal for which a turn is waited for, and of each run that is in the way.
    """

    adopt_uncertain: bool
    grace: float
    deferrable: bool
    cancels: bool
    may_follow: Callable[[Outcome], bool] | None
    turns: TurnRules
    about: Mapping[str, Any] = field(default_factory=dict[str, Any])
    tries: EarlierTries | None = None
    reattach: bool = False
    on_turn: Callable[[Turn], None] | None = None

    @property
    def defers_turns(self) -> bool:
        """Whether the triggerer waits for a turn."""
        return self.deferrable and self.turns.on_conflict == "wait"

    def here(self) -> TurnRules:
        """What the worker itself does where something is active already."""
        return replace(self.turns, on_conflict="fail") if self.defers_turns else self.turns


class Submission:
    """Submit a call once over all tries of a task.

    :param call: What is submitted.
    :param identity: Names the task instance over its tries.
    :param task_state: What the task remembers.
    :param rules: What the task says.
    :param log: The task's log.
    :param crashes: How many triggers have broken in a row that waited for this task's turn.
    """

    def __init__(
        self, call: Call, *, identity: str, task_state: TaskState, rules: SubmitRules, log: Any, crashes: int = 0
    ) -> None:
        self.intent: Intent | None = None
        """What identifies the submit that is under way; None before there is one."""
        self._submitted_at = 0.0
        self._attached = False
        self._crashes = crashes
        self._given_call = self._call = call
        self._identity = identity
        self._task_state = task_state
        self._rules = rules
        self._log = log
        self._left: list[dict[str, Any]] = []

    def start(self, client: RunClient) -> Submitted | LostSubmit | Turn:
        """The run to wait for: a new one, or that of an earlier try."""
        record = self._task_state.load()
        earlier = record or self._task_state.load_any()
        self._left = records.left_of(earlier)
        self._call = taken_over(client.provider, self._given_call, earlier)
        turn: Turn | None = None
        if record is None:
            found = self._find_forgotten(client) if earlier is None else None
            if found is not None and not self._may_submit_after(client, found, given_up=False):
                return self._remember(found)
            self._leave(client, earlier)
        elif record.get("state") == SUBMITTING:
            self._log.info("An earlier try may have submitted; looking for its run.")
            found = self._submit(client, record)
            return self._unless_given_up(client, found, record) if isinstance(found, Submitted) else found
        elif record.get("state") in (SUBMITTED, ATTACHED):
            ref, own = RunRef.parse(record["ref"]), record["state"] == SUBMITTED
            given_up = bool(record.get("given_up")) or self._task_state.was_stopped(ref.run_id)
            if not self._may_submit_after(client, ref, given_up=given_up):
                self._log.info(
                    "Re-attached to %s, which an earlier try %s.", ref, "submitted" if own else "found active"
                )
                return Submitted(ref, record.get("submitted_at"), own, taken_up=True)
        elif record.get("state") == AWAITING_TURN and not record.get("given_up"):
            turn = Turn.from_dict(record["turn"])
            self._log.info("An earlier try waited for its turn; the wait goes on.")
        return self._submit(client, None, turn)

    def take_turn(
        self, client: RunClient, event: Mapping[str, Any], execution_ends: float | None
    ) -> Submitted | LostSubmit | Turn:
        """Submit after the triggerer has waited for this task's turn, or until the wait was over.

        :param client: The client.
        :param event: What the trigger fired.
        :param execution_ends: Unix seconds at which Airflow's clock for this try is over, or None.
        :raises ConflictError: The wait is over.
        """
        record = self._task_state.load()
        if record is not None and record.get("state") != AWAITING_TURN:
            # An earlier process has resumed from the same event, and died.
            return self.start(client)
        self._left = records.left_of(record)
        self._call = taken_over(client.provider, self._given_call, record)
        turn = Turn.from_dict((record or event)["turn"])
        now = client.clock()
        if now >= turn.until:
            self._task_state.forget()
            raise expired(client.provider, turn, now)
        if execution_ends is not None and now >= execution_ends:
            # Another try goes on at the same place.
            raise expired(client.provider, turn, now, "execution_timeout")
        return self._submit(client, None, turn)

    @property
    def waits_for_turn(self) -> bool:
        """Whether the record says that this task waits for its turn."""
        return (self._task_state.load() or {}).get("state") == AWAITING_TURN

    def take_up(
        self, client: RunClient, found: RunRef | None, event: Mapping[str, Any]
    ) -> Submitted | LostSubmit | Turn:
        """Go on after the triggerer has looked for the run of a lost submit.

        :param client: The client.
        :param found: The run, if it was found.
        :param event: What the trigger fired; without a record it says what was known before the submit.
        """
        record = self._task_state.load() or event
        self._left = records.left_of(record)
        self._call = taken_over(client.provider, self._given_call, record)
        if found is None:
            submitted = self._submit(client, record, grace=0.0)
            return self._unless_given_up(client, submitted, record) if isinstance(submitted, Submitted) else submitted
        self._log.info("Took up %s, whose submit was not answered.", found)
        return self._unless_given_up(client, self._remember(found), record)

    def find(self, client: RunClient) -> RunRef | None:
        """The run of a submit that was not answered, if it bears our mark; None where nothing was submitted.

        :raises SubmitUncertainError: It does not show up.
        """
        if self.intent is None:
            return None
        return client.find_submitted(self._call.parent, self.intent, submit_grace=0.0)

    def _submit(
        self,
        client: RunClient,
        record: Mapping[str, Any] | None,
        turn: Turn | None = None,
        *,
        grace: float | None = None,
    ) -> Submitted | LostSubmit | Turn:
        """Submit, or where an earlier try may have done so, look for its run; where to defer, in the triggerer."""
        self._submitted_at = (record or {}).get("submitted_at") or time.time()
        whole = self._rules.grace if grace is None else grace
        left = min(max(self._submitted_at + whole - time.time(), 0.0), whole)
        elsewhere = self._rules.deferrable and left > WORKER_SECONDS and client.provider.listing is not None
        settings: dict[str, Any] = {
            "adopt_uncertain": self._rules.adopt_uncertain and not elsewhere,
            "submit_grace": WORKER_SECONDS if elsewhere else left,
            "resubmit": not elsewhere,
            "rules": self._rules.here(),
            "before": self._before,
            "waiting": self._waits,
            "attached": self._attach,
        }
        self._attached = False
        try:
            if record is None:
                ref = client.submit(self._call, identity=self._identity, turn=turn, **settings)
            else:
                self.intent = Intent.from_dict(record.get("intent"))
                ref = client.submit_again(self._call, self.intent, **settings)
        except SubmitUncertainError:
            if not elsewhere or self.intent is None:
                raise
            adopt = self._rules.adopt_uncertain
            return LostSubmit(self._call.parent, self.intent, self._submitted_at + whole, adopt)
        except RunopsError as error:
            mark = self.intent and self.intent.mark
            # Nothing was started, so there is nothing to look for at a kill or at the end of the task either.
            if self._call == self._given_call:
                self._task_state.forget()
            else:
                self._save(state=REFUSED)
            self.intent = None
            if not isinstance(error, ConflictError) or not self._rules.defers_turns:
                raise
            refusal = error
        else:
            if self._attached:
                return Submitted(ref, None, own=False)
            done = "Submitted %s." if record is None else "Took up %s, which an earlier try submitted."
            self._log.info(done, ref)
            return self._remember(ref)
        turn = client.refused(self._rules.turns, self._call, refusal, turn, mark=mark)
        self._waits(turn)
        return turn

    def _before(self, intent: Intent) -> None:
        """Right before a POST."""
        # A new search has a new grace: a wait for a turn may have lasted for days.
        self._submitted_at = time.time()
        self._save(state=SUBMITTING, intent=intent.to_dict(), submitted_at=self._submitted_at)
        self.intent = intent

    def _waits(self, turn: Turn) -> None:
        """A POST was refused: nothing is under way while a turn is waited for."""
        self._save(state=AWAITING_TURN, turn=turn.to_dict(), crashes=self._crashes)
        self.intent = None
        if self._rules.on_turn is not None:
            self._rules.on_turn(turn)

    def _attach(self, ref: RunRef) -> None:
        self._save(state=ATTACHED, ref=ref.model_dump(mode="json"), submitted_at=None)
        self._attached, self.intent = True, None

    def _remember(self, ref: RunRef) -> Submitted:
        # From here on a 404 is forgiven for a while: the run may have been found by a list that is ahead of its page.
        known_at = time.time()
        self._save(state=SUBMITTED, ref=ref.model_dump(mode="json"), submitted_at=known_at)
        return Submitted(ref, known_at)

    def _save(self, **record: Any) -> None:
        left = {"left": self._left[-records.MOST_LEFT :]} if self._left else {}
        about = {**self._rules.about, **kept(self._given_call, self._call)}
        self._task_state.save(**record, parent=dict(self._call.parent), **about, **left)

    def _unless_given_up(
        self, client: RunClient, found: Submitted, record: Mapping[str, Any]
    ) -> Submitted | LostSubmit | Turn:
        """A run that was found again or, where a person has cleared its task and it is cancelled, a new one."""
        if record.get("given_up") and self._may_submit_after(client, found.ref, given_up=True):
            return self._submit(client, None)
        return found

    def _may_submit_after(self, client: RunClient, ref: RunRef, *, given_up: bool) -> bool:
        """Whether the run of an earlier try leaves room for a new one."""
        if self._rules.may_follow is None:
            return False
        try:
            earlier = client.get(ref)
        except AnswerError as error:
            self._log.warning("%s could not be read at once: %s", ref, error)
            return False
        if earlier.outcome is None:
            return False
        if given_up and earlier.outcome is Outcome.CANCELLED:
            return True
        if not self._rules.may_follow(earlier.outcome):
            return False
        self._call = following(client.provider, self._call, ref)
        return True

    def _find_forgotten(self, client: RunClient) -> RunRef | None:
        """The run of an earlier try that Airflow remembers nothing of; one that is not to be taken up is cancelled."""
        tries, remembers = self._rules.tries, self._task_state.exists
        if tries is None:
            return None
        forgotten = Forgotten(
            client=client, call=self._call, identity=self._identity, tries=tries, remembers=remembers, log=self._log
        )
        if not forgotten.may_be:
            return None
        if self._rules.reattach or not (remembers or (tries.cleared and tries.first)):
            return forgotten.found()
        if self._rules.cancels:
            forgotten.cancel()
        return None

    def _leave(self, client: RunClient, record: Mapping[str, Any] | None) -> None:
        """A person cleared the task: see that the run of before does not go on beside the new one.

        Where nobody has seen its end, the new record names it, for ``runops orphans``.
        """
        left = None if record is None else records.left_behind(record)
        if record is None or left is None:
            return
        self._left.append(left)
        if not self._rules.cancels:
            return
        ref: RunRef | str = "The run"
        try:
            if record.get("state") == SUBMITTED:
                ref = RunRef.parse(record["ref"])
            else:
                intent = Intent.from_dict(record.get("intent"))
                ref = client.find_submitted(self._call.parent, intent, submit_grace=0.0)
            if client.get(ref).run_ended:
                self._left.remove(left)
                return
            self._log.info("The task was cleared: cancelling %s of before.", ref)
            client.cancel(ref)
        except RunopsError as error:
            text = f"{ref} of before could not be cancelled and may go on: {text_of(error)}"
            self._log.warning("%s", with_code(text, Code.LEFT_BEHIND))


def identity_of(context: Mapping[str, Any]) -> str:
    """What names a task instance for good, over its tries: a part of the mark of its runs is a hash of it.

    :param context: The task's context.
    """
    ti = context["ti"]
    return records.identity(ti.dag_id, ti.run_id, ti.task_id, ti.map_index)
