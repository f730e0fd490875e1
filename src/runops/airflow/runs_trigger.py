"""The trigger of a set of runs: it waits for all of them in the triggerer. What their ends mean for the task it leaves.

It judges each run, since ``stop_early`` and the sum of what is spent are decided here; the task applies the verdict on
the whole. Where it begins anew, as after a restart of the triggerer, it reads again what it waits for.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from runops.airflow import events
from runops.airflow._compat import may_have_begun_before
from runops.airflow.events import VERSION
from runops.airflow.exceptions import as_airflow
from runops.airflow.many.rows import addresses, clocks, ends, merged, runs_at, waits
from runops.airflow.many.run_list import list_of
from runops.airflow.trigger_base import TriggerBase
from runops.core import AsyncRunClient, OutcomePolicy, RunopsError, find
from runops.core.client.many_cancels import cancel_rows
from runops.core.client.many_plan import ManyPlan
from runops.core.client.many_runs import ManyRuns
from runops.core.many.ledger import Ledger
from runops.core.many.rows import Row
from runops.core.many.rules import ManyRules, check_run_ids
from runops.core.many.tally import Tally
from runops.core.model.codes import Code, with_code
from runops.core.model.expectation import Expectations
from runops.core.waiting.state import WaitProgress

STOP_SECONDS = 10.0
"""For cancels that ``stop_early``, a clock or a limit asks for; what is left then is told in the log."""


class RunsTrigger(TriggerBase):
    """Wait until all runs of a set are over, or for less where that decides it; then fire one event, whatever happens.

    It fires when all of them have ended, when so many have that the task may submit more, when ``require`` is decided
    under ``stop_early``, when all runs together have spent what they may, or when a clock ends.

    All arguments are JSON primitives without any secret: Airflow keeps them in its database as they are. Rows outlive
    deploys, so arguments that this version does not know are ignored, and new ones have defaults.

    :param version: Of these arguments.
    :param provider: A shipped provider's name, or ``"package.module:NAME"``.
    :param conn_id: The connection.
    :param rows: The set: ``total``; under ``open`` the runs that are waited for; under ``done`` those that are over,
        which the event tells again; under ``others`` how the rest stands; under ``clocks`` what the waits have learnt,
        and ``began``.
    :param patience: The clocks and limits of each wait; under ``states`` the words that the task teaches, and under
        ``shown`` what the worker has stored for the page "External runs".
    :param plan: ``rules`` and ``policy`` of the set; ``fire_after``: so many ends let the task submit more;
        ``look_again_at``: unix seconds at which the task wants to look by itself; ``cancel_on_timeout``.
    :param not_before: Unix seconds before which no event is fired.
    :param execution_ends: Unix seconds at which the task's ``execution_timeout`` is over, or None.
    :param cancel_on_kill: Cancel what the task has submitted when a person kills it.
    :param on_clear: ``"reattach"`` lets the runs live when a person clears the task.
    :param start: Where a task begins here: its ``timeout`` in seconds, and the names of its fields for the connection
        and the parents.
    :param fields: Those fields, which templates fill. Others are of a later version, and ignored.
    """

    def __init__(
        self,
        *,
        version: int = VERSION,
        provider: str,
        conn_id: str | None = None,
        rows: Mapping[str, Any] | None = None,
        patience: Mapping[str, Any],
        plan: Mapping[str, Any],
        not_before: float = 0.0,
        execution_ends: float | None = None,
        cancel_on_kill: bool = False,
        on_clear: str = "submit",
        start: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> None:
        super().__init__(cancel_on_kill=cancel_on_kill, on_clear=on_clear)
        self.version = version
        self.provider = provider
        self.conn_id = conn_id
        self.rows = None if rows is None else dict(rows)
        self.patience = dict(patience)
        self.plan = dict(plan)
        self.not_before = not_before
        self.execution_ends = execution_ends
        self.start = None if start is None else dict(start)
        self._waited: Ledger | None = None
        """The set while it is waited for."""
        self._fields = self._own_fields(self.start, fields, "run_ids")
        for name, value in self._fields.items():
            setattr(self, name, value)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The path of this class, which is frozen, and its arguments."""
        known = {} if self.rows is None else {"rows": self.rows}
        started = {} if self.start is None else {"start": self.start, **self._fields}
        return "runops.airflow.runs_trigger.RunsTrigger", {
            "version": self.version,
            "provider": self.provider,
            "conn_id": self.conn_id,
            "patience": self.patience,
            "plan": self.plan,
            "not_before": self.not_before,
            "execution_ends": self.execution_ends,
            "cancel_on_kill": self.cancel_on_kill,
            "on_clear": self.on_clear,
            **known,
            **started,
        }

    # --- a kill ---

    def _own(self) -> str | None:
        own = self._to_cancel()
        return f"{len(own):,} runs of the set" if own else None

    async def _cancel(self, client: AsyncRunClient) -> None:
        """Cancel all that the task has submitted and that may go on, several at once."""
        own = self._to_cancel()
        left = await cancel_rows(client, own)
        self.log.info("Cancelled %d of %d runs of the set.", len(own) - len(left), len(own))
        for row in own:
            if row.index in left:
                text = f"Not cancelled, and may go on: {row.ref(self.provider)}: {left[row.index]}"
                self.log.warning("%s", with_code(text, Code.LEFT_BEHIND))

    def _to_cancel(self) -> list[Row]:
        rows: Iterable[Row] = self._waited or runs_at((self.rows or {}).get("open") or (), self.provider)
        return [row for row in rows if row.ours_to_cancel]

    # --- the wait ---

    async def _end(self) -> dict[str, Any]:
        if self.start is not None:
            await self._fill_templates()
            self._begin(self.start)
        hook = self._hook()
        async with await hook.async_client() as client:
            kept = self.rows or {}
            own = runs_at(kept.get("open") or (), self.provider)
            ledger = self._waited = self._ledger(kept, own)
            past = waits(kept.get("clocks") or {}, own, began=kept.get("began"), now=time.time())
            self._keep_record(hook, kind="set", own=any(not row.attached for row in own))
            many = self._many(client, ledger, len(own), past)
            try:
                end = await many.run()
            except RunopsError as error:
                return {**self._error(as_airflow(error)), **self._standing(many, own)}
        self.log.info("%s", ledger.tally.line(client.provider))
        return {**events.runs(str(end)), **self._standing(many, own)}

    def _many(self, client: AsyncRunClient, ledger: Ledger, own: int, past: dict[int, WaitProgress]) -> ManyRuns:
        over_before = ledger.tally.over
        fire_after = min(self.plan.get("fire_after") or own, own)
        look_again_at = self.plan.get("look_again_at")

        def until(now: Ledger) -> bool:
            if now.tally.over - over_before >= fire_after:
                return True
            return look_again_at is not None and client.clock() >= look_again_at

        def progress(tally: Tally) -> None:
            self.log.info("%s", tally.line(client.provider))
            if self.record is not None:
                self.record.counted(tally)

        return ManyRuns(client, ledger, self._plan(), progress=progress, until=until, past=past)

    def _plan(self) -> ManyPlan:
        options, clock = self._clocks()
        return ManyPlan(
            rules=ManyRules.from_dict(self.plan["rules"]),
            policy=OutcomePolicy.from_dict(self.plan["policy"]),
            wait=options,
            clock=clock,
            cancel_on_timeout=bool(self.plan.get("cancel_on_timeout")),
            # Whoever cancels a trigger may only be moving it; a kill is told to it otherwise.
            cancel_on_kill=False,
            stop_seconds=STOP_SECONDS,
        )

    def _ledger(self, kept: Mapping[str, Any], own: list[Row]) -> Ledger:
        """The whole set, so that what is required and spent is counted over all of it."""
        total = kept.get("total") or len(own)
        rows = [Row(index=index, key=str(index)) for index in range(total)]
        for row in (*own, *merged(kept.get("done") or (), rows), *merged(kept.get("others") or (), rows)):
            rows[row.index] = row
        return Ledger(rows)

    def _standing(self, many: ManyRuns, own: list[Row]) -> dict[str, Any]:
        """What the worker does not know yet, and what it told itself to be told again."""
        rows = [many.ledger[row.index] for row in own]
        over = [row for row in rows if row.is_over]
        learnt = clocks(many.past, [row for row in rows if not row.is_over], time.time())
        done = (self.rows or {}).get("done") or []
        results = {str(index): dict(result) for index, result in many.results.items()}
        return {"rows": [*done, *ends(over)], "results": results, "clocks": learnt}

    # --- a task that begins here ---

    def _begin(self, start: Mapping[str, Any]) -> None:
        """Do what a worker does before a deferral, with the rendered fields."""
        service = find(self.provider)
        fields, parents = self._filled(start)
        refs = check_run_ids(service, list_of(fields["run_ids"]), parents)
        expect = Expectations.build(fields.get("expect"), service.body.detail_kinds(), title=f"{service.title} runs")
        policy = replace(OutcomePolicy.from_dict(self.plan["policy"]), expect=expect)
        self.plan["policy"] = policy.to_dict()
        now = time.time()
        learnt = {"accepted": may_have_begun_before(self.task_instance, now), "unseen": f"0-{len(refs) - 1}"}
        given = Ledger.of_refs(refs)
        self.rows = {"total": len(refs), "open": addresses(given), "clocks": learnt}
        # Should this trigger begin anew elsewhere, the clock that Airflow keeps for it ends it in time all the same.
        self.patience["deadline"] = now + start["timeout"]
