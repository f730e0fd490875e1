"""The wait of a step for many external runs, from their submits to the verdict on the whole.

As ``wait_for_run`` it is one plain call without a ``yield``. The runs are submitted and waited for in an event loop of
their own (core/polling/side_loop.py) by what all hosts share (core/client/many_runs.py); this thread writes the records
(records.py) and hears of Terminate, upon which all that is active is cancelled.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

import dagster as dg

from runops.core import Call, ConfigurationError, Provider, RunopsError, RunRef, Verdict
from runops.core.declaration.arguments import check_names, one_of, seconds
from runops.core.many.ledger import Ledger, key_of_call, key_of_ref
from runops.core.many.retry import take_up
from runops.core.many.rules import check_calls, check_run_ids
from runops.core.model.codes import Code, with_code
from runops.core.model.run import RunResult as RunData
from runops.core.telemetry import METER
from runops.core.waiting.options import ON_CONFLICT, SUBMIT_GRACE
from runops.dagster import _compat
from runops.dagster.many.beside import Beside, cancel_all
from runops.dagster.many.records import SetRecords, changed_rows
from runops.dagster.many.result import RunsResult
from runops.dagster.many.verdicts import judged, shown_of_many
from runops.dagster.options import (
    RunsStepSettings,
    check_only_of_one,
    many_rules,
    names_of,
    policy_of,
    turn_rules,
    wait_options,
)
from runops.dagster.resource import ProviderResource, key_of
from runops.dagster.run_ends import tell_error, tell_set, tried_again
from runops.dagster.step.interrupts import INTERRUPTS, HeldInterrupts
from runops.dagster.step.last_failure import LeavesNothing
from runops.dagster.step.live_run import AWAITED, CANCEL_REQUEST_TIMEOUT, CANCEL_SECONDS, SUBMITTED, core_warnings_in
from runops.dagster.step.submission import OVER, refuse_when_over, status_of_run

if TYPE_CHECKING:
    from runops.core import AsyncRunClient
    from runops.core.client.many_plan import End, ManyPlan

R = TypeVar("R")
_DECIDED = "decided"
"""``End.DECIDED``, whose module loads the HTTP library."""


def wait_for_runs(
    context: _compat.StepContext,
    resource: ProviderResource,
    *,
    calls: Sequence[Call | Mapping[str, Any]] | None = None,
    refs: Sequence[RunRef] | None = None,
    **settings: Unpack[RunsStepSettings],
) -> RunsResult:
    """Submit many runs, or take many that exist, and wait in this one step until all are over.

    At most ``max_active`` (20) of them are active at a time. How each run ends gets a verdict, by ``on_outcome`` and
    ``expect``; the whole is good if as many as ``require`` says (all) have ended with succeed, warn or skip. With
    ``stop_early`` the rest is cancelled as soon as that is decided. ``max_spend`` bounds the sum of what they spend.

    A step that is retried, or re-executed from failure, goes on where the one before was: it takes up what may be
    alive, keeps the results of what is over, and submits anew only what has failed. A re-execution of all steps
    submits all anew that is over. No run is submitted twice while an earlier one of it may be alive. Terminate cancels
    all that are active and were submitted here.

    Call it from a plain function, not from an ``async`` one: Dagster cannot interrupt those cleanly.

    Args:
        context: The context of the op, asset or asset check.
        resource: The service.
        calls: What to submit: a list of what ``resource.call(...)`` gives, or of its arguments. No two may be equal.
        refs: Runs that exist, from ``resource.ref(...)``; give this or ``calls``.
        settings: ``max_active``, ``require`` and ``stop_early``; and all that ``wait_for_run`` takes, for each run:
            see :class:`runops.dagster.options.RunsStepSettings`.

    Returns:
        The rows of all runs, the counts and the verdict, which is succeed, warn or skip.

    Raises:
        dagster.Failure: Too few runs have ended well, no run could be read or started, or the Dagster run is being
            terminated. ``allow_retries`` is set where a retry can help.
        ConfigurationError: An argument is wrong, and the text names its place in the list; nothing was sent.
    """
    check_names("wait_for_runs", settings, names_of(RunsStepSettings) | {"context", "resource", "calls", "refs"})
    check_only_of_one(settings)
    ended = end_of_runs(context, resource, calls=calls, refs=refs, **settings)
    if ended.verdict is Verdict.FAIL:
        raise shown_of_many(ended).failure()
    return ended


def end_of_runs(
    context: _compat.StepContext,
    resource: ProviderResource,
    *,
    calls: object = None,
    refs: object = None,
    **settings: Unpack[RunsStepSettings],
) -> RunsResult:
    """As :func:`wait_for_runs`, for those who have something to do before a fail verdict fails the step.

    Raises:
        dagster.Failure: No run could be read or started, or the Dagster run is being terminated.
        ConfigurationError: An argument is wrong; nothing was sent.
    """
    if (calls is None) == (refs is None):
        raise ConfigurationError("wait_for_runs needs either calls= (to submit runs) or refs= (to wait for them).")
    provider = resource.declaration.with_states(settings.get("states"))
    wanted = Wanted(
        calls=None if calls is None else check_calls(provider, calls),
        refs=() if refs is None else check_run_ids(provider, refs, field="refs"),
    )
    wait = StepWaits(context, resource, provider, settings, wanted)
    refuse_when_over(context)
    with core_warnings_in(context):
        ended = wait.leaving_nothing(wait.to_the_end)
        if ended.verdict is Verdict.FAIL:
            wait.leave_nothing(shown_of_many(ended).failure())
    return ended


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a set is made of.

    Args:
        calls: What is submitted; None where the runs are given.
        refs: The runs that are given.
    """

    calls: Sequence[Call] | None
    refs: Sequence[RunRef] = ()

    def keys(self, root: str) -> list[str]:
        """What each run is known by, also where the list comes in another order.

        Args:
            root: The address of the API, which is part of what makes two submissions the same.
        """
        if self.calls is None:
            return [key_of_ref(ref) for ref in self.refs]
        return [key_of_call(call, root) for call in self.calls]


class StepWaits(LeavesNothing):
    """One call of :func:`wait_for_runs`.

    Args:
        context: The step's context.
        resource: The service.
        provider: Its declaration, with the words that the step teaches.
        settings: What the user chose.
        wanted: The runs.
    """

    def __init__(
        self,
        context: _compat.StepContext,
        resource: ProviderResource,
        provider: Provider,
        settings: RunsStepSettings,
        wanted: Wanted,
    ) -> None:
        super().__init__(context, resource, settings)
        self._provider = provider
        self._wanted = wanted
        self._began = time.time()
        self._rules = many_rules(settings)
        self._policy = policy_of(provider, settings)
        self._options = wait_options(provider, settings, now=time.time(), wanted=self._policy.expect.details)
        self._submit_grace = seconds("submit_grace", settings.get("submit_grace", SUBMIT_GRACE))
        one_of("on_conflict", settings.get("on_conflict", "wait"), ON_CONFLICT)
        self._submits = wanted.calls is not None
        self._ledger: Ledger | None = None
        self._records_of_set: SetRecords | None = None

    # --- from the first submit to the last end ---

    def to_the_end(self) -> RunsResult:
        """Submit and wait, in a loop beside this thread.

        Raises:
            RunopsError: No run could be read or started.
            dagster.Failure: The Dagster run is being terminated, or is over.
        """
        client = self._client()
        records = self._records(client.root)
        ledger, kept, again = self._taken_up(records, client.root)
        known = {row.run_id for row in ledger if row.run_id is not None}
        self._ledger = ledger
        reported = {row.index for row in ledger if row.is_over}
        end, results = self._carried(client, records, ledger, again)
        submitted = sum(not row.attached and row.run_id is not None and row.run_id not in known for row in ledger)
        ended = RunsResult(
            provider=self._provider,
            ledger=ledger,
            rules=self._rules,
            given=not self._submits,
            submitted=submitted,
            kept=kept,
            stopped_early=end == _DECIDED,
            results=results,
        )
        records.ended(judged(ended))
        self._report(ended, reported)
        self.log(judged(ended), logging.INFO if ended.verdict is Verdict.SUCCEED else logging.WARNING)
        return ended

    def _report(self, ended: RunsResult, reported: Collection[int]) -> None:
        """Count and trace the runs whose end was seen here; those of an earlier try were told by that."""
        fails = ended.verdict is Verdict.FAIL
        tell_set(
            self._provider,
            [row for row in ended.ledger if row.index not in reported],
            ended.verdict,
            began=self._began,
            another=lambda: fails and tried_again(self._context, shown_of_many(ended).failure()),
        )

    def _tell_error(self, error: RunopsError, failure: BaseException) -> None:
        tell_error(self._provider, None, error, began=self._began, another=lambda: True)

    def _carried(
        self, client: AsyncRunClient, records: SetRecords, ledger: Ledger, again: frozenset[int]
    ) -> tuple[End, Mapping[int, RunData]]:
        """Carry the set to its end: why that has come, and what is known in full. On Terminate all is cancelled."""
        on_interrupt = self._settings.get("cancel_on_interrupt")
        cancels = self._submits if on_interrupt is None else on_interrupt
        self._records_of_set = records
        beside = Beside(self._context, client, records, ledger, self._plan(records, again), cancel_on_interrupt=cancels)
        try:
            return beside.run(), beside.results
        except INTERRUPTS:
            with HeldInterrupts(drop=True):
                if cancels:
                    # Such as what was left because a submit has read first that the Dagster run is being terminated.
                    self._cancel_left()
                self._say_what_is_left(ledger, cancels=cancels)
            raise
        except dg.Failure:
            if cancels and status_of_run(self._context) not in OVER:
                # Terminated: a submit has read it before the interrupt was here.
                self._cancel_left()
            raise

    def _taken_up(self, records: SetRecords, root: str) -> tuple[Ledger, int, frozenset[int]]:
        """The ledger that this try goes on with, of how many runs the results are kept, and which are looked at again.

        What is taken over is recorded before anything is sent.
        """
        reattach = self._settings.get("reattach", True)
        earlier = records.earlier() if reattach else None
        rows = earlier.rows if earlier else {}
        keys = self._wanted.keys(root)
        wanted = set(keys)
        deadline = (earlier.deadline if earlier else None) or self._options.deadline
        self._options = replace(self._options, deadline=deadline)
        if self._submits:
            # Of another submission only a run that may be alive matters: its result is that of another submission.
            matching = [row for row in rows.values() if row.key in wanted or row.may_be_alive]
            taken = take_up(matching, keys)
            ledger, kept, again = taken.ledger, taken.kept, taken.again
            message = taken.line() if rows else f"Submitting {len(ledger):,} runs to {self._provider.title}."
            for row in taken.left[:1]:
                self.log(
                    f"{len(taken.left):,} runs of an earlier try may be alive and are not among these calls any more, "
                    f"such as {row.ref(self._provider.name)}. `runops orphans dagster` lists them.",
                    logging.WARNING,
                )
        else:
            given = Ledger.of_refs(self._wanted.refs)
            over = {row.key: row for row in rows.values() if row.is_over and not row.may_be_alive}
            ledger = Ledger(replace(over.get(row.key, row), index=row.index) for row in given)
            kept, again = sum(row.is_over for row in ledger), frozenset[int]()
            message = f"Waiting for {len(ledger) - kept:,} runs of {self._provider.title}; {kept:,} are over already."
        records.tag(SUBMITTED if self._submits else AWAITED)
        here = earlier is not None and earlier.here
        records.begin(changed_rows({}, ledger), here=here, deadline=deadline, message=message)
        if rows:
            self.log(message)
        return ledger, kept, again

    # --- where it fails ---

    def _may_leave(self) -> bool:
        cancels = self._submits and self._settings.get("cancel_on_failure", False)
        return cancels and any(row.ours_to_cancel for row in self._ledger or ())

    def _cancel_what_is_left(self) -> None:
        try:
            over = status_of_run(self._context) in OVER
        except Exception as error:  # noqa: BLE001 - a storage raises what it likes
            self.log(f"The Dagster run could not be looked up ({type(error).__name__}): nothing is cancelled.")
            return
        if over:
            self.log("The Dagster run is over already: its external runs are not cancelled.", logging.WARNING)
        else:
            self._cancel_left()

    def _cancel_left(self) -> None:
        """Have cancelled all that is ours and may go on. That this fails must not hide why the wait ended."""
        ledger = self._ledger
        left = [row for row in ledger or () if row.ours_to_cancel]
        if ledger is None or not left:
            return
        if self._provider.cancel is None:
            text = f"{self._provider.title} has no way to cancel a run: {len(left):,} go on."
            self.log(with_code(text, Code.LEFT_BEHIND), logging.WARNING)
            return
        with HeldInterrupts():
            client = self._client(request_timeout=min(CANCEL_REQUEST_TIMEOUT, self._resource.request_timeout))
            cancelled = cancel_all(client, left, CANCEL_SECONDS)
            for row in cancelled:
                ledger.set(row)
            if self._records_of_set is not None and cancelled:
                self._records_of_set.changed(cancelled, f"Asked for {len(cancelled):,} runs to be cancelled.")
        self.log(f"Asked {self._provider.title} to cancel {len(cancelled):,} of {len(left):,} runs that were left.")

    def _say_what_is_left(self, ledger: Ledger, *, cancels: bool) -> None:
        """After an interrupt."""
        stopped = sum(row.stopped for row in ledger)
        left = sum(row.may_be_alive and not row.stopped for row in ledger)
        if stopped:
            self.log(f"Asked {self._provider.title} to cancel {stopped:,} runs.")
        if left and cancels:
            text = f"{left:,} runs may go on. `runops orphans dagster` lists them."
            self.log(with_code(text, Code.LEFT_BEHIND), logging.ERROR)
        elif left:
            text = f"Interrupted; {left:,} runs go on: this wait is not to cancel them."
            self.log(with_code(text, Code.LEFT_BEHIND), logging.WARNING)

    # --- with what ---

    def _client(self, **settings: Any) -> AsyncRunClient:
        mark_runs = self._settings.get("mark_runs")
        marks = {} if mark_runs is None else {"mark_runs": mark_runs}
        refresh = partial(_compat.reload_environment, self._context)
        states = self._settings.get("states")
        return self._resource.async_client(states=states, refresh=refresh, meter=METER, **marks, **settings)

    def _records(self, root: str) -> SetRecords:
        calls = self._wanted.calls or ()
        return SetRecords(
            self._context,
            provider=self._provider.name,
            credential=key_of(self._context.resources, self._resource),
            listed_under={key_of_call(call, root): call.parent for call in calls},
        )

    def _plan(self, records: SetRecords, again: frozenset[int]) -> ManyPlan:
        # Only who talks to a service loads the HTTP library; a code location that is loaded does not.
        from runops.core.client.many_plan import ManyPlan, SubmitPlan

        settings, options = self._settings, self._options
        on_timeout = settings.get("cancel_on_timeout")
        submits = None
        if self._wanted.calls is not None:
            submits = SubmitPlan(
                calls=self._wanted.calls,
                turns=turn_rules(settings, options),
                identity=records.identity,
                adopt_uncertain=settings.get("adopt_uncertain", False),
                grace=self._submit_grace,
            )
        return ManyPlan(
            rules=self._rules,
            policy=self._policy,
            wait=options,
            submits=submits,
            again=again,
            cancel_on_timeout=self._submits if on_timeout is None else on_timeout,
        )
