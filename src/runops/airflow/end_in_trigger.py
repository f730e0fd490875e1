"""The end of a task in the triggerer, without a worker, where nothing is lost by it; everything else ends on a worker.

An event that ends a task has Airflow set the task's state, and little else: no callback, no asset event, no listener.
It knows no failure that is not retried either (Airflow 3.3), or none that is (3.1). So a fail verdict, and every error,
is always told on a worker, which costs one only then. What the task says at its end otherwise is stored here first, in
the form in which a worker stores it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

from airflow.triggers.base import TaskSkippedEvent, TaskSuccessEvent, TriggerEvent

from runops.airflow._compat import delete_xcom, listeners_to_tasks, set_xcom, stores_xcoms_elsewhere
from runops.airflow.bounds import AIRFLOW_SECONDS, in_own_thread, within
from runops.airflow.crowds import shared
from runops.airflow.external_run import EXTERNAL_RUN
from runops.airflow.link import RUN_URL
from runops.airflow.metrics import METER
from runops.airflow.traces import Began, TaskTrace
from runops.airflow.verdicts import tell, verdict_message, xcoms_of
from runops.core import OutcomePolicy, Provider, RunSnapshot, Verdict, find
from runops.core.model.expectation import Expectations
from runops.core.model.policy import Judgement

RETURN_VALUE = "return_value"


@dataclass(frozen=True)
class EndInTrigger:
    """What a trigger needs to end its task by itself; it crosses processes as JSON.

    :param policy: What becomes of each outcome.
    :param returns: Whether the task pushes what it returns (``do_xcom_push``).
    :param links: The keys of the XComs that the buttons of the task read.
    :param ended_only: Leave to a worker the end of a wait whose run may go on.
    :param worker: Why a worker ends the task all the same, as the rest of a sentence; None where none needs to.
    """

    policy: OutcomePolicy
    returns: bool = True
    links: tuple[str, ...] = ()
    ended_only: bool = False
    worker: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON primitives that :meth:`from_dict` reads."""
        return {
            "policy": self.policy.to_dict(),
            "returns": self.returns,
            "links": list(self.links),
            "ended_only": self.ended_only,
            "worker": self.worker,
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` wrote, in this version or another one.

        :raises ConfigurationError: It holds no policy that this version knows.
        """
        return cls(
            OutcomePolicy.from_dict(value.get("policy")),
            returns=bool(value.get("returns", True)),
            links=tuple(value.get("links") or ()),
            ended_only=bool(value.get("ended_only")),
            worker=value.get("worker"),
        )

    def expecting(self, expect: object, service: Provider) -> Self:
        """The same, with what templates have made of ``expect``.

        :param expect: As the task says it, rendered.
        :param service: Whose runs these are.
        :raises ConfigurationError: It cannot be read; names the detail.
        """
        expectations = Expectations.build(expect, service.body.detail_kinds(), title=f"{service.title} runs")
        return replace(self, policy=replace(self.policy, expect=expectations))

    async def event(
        self, trigger: Any, snapshot: RunSnapshot, *, began: Began, began_here: bool
    ) -> TriggerEvent | None:
        """What ends the task of a trigger; None where a worker must do it.

        :param trigger: The trigger.
        :param snapshot: The last snapshot.
        :param began: When the wait began.
        :param began_here: Whether no worker has begun this try, and so ended the one before for good.
        """
        judgement = self.policy.judge(snapshot)
        if judgement.verdict is Verdict.FAIL or (self.ended_only and not snapshot.run_ended):
            return None
        reason = self.worker or await _reason(trigger, began_here)
        if reason is not None:
            trigger.log.info("end_from_trigger is set, but the task ends on a worker: %s.", reason)
            return None
        await self._push(trigger, snapshot, judgement)
        provider = find(snapshot.ref.provider)
        METER.ended(provider, snapshot, judgement.verdict)
        TaskTrace(trigger.task_instance, trigger.log, on_loop=True).ended(provider, snapshot, judgement.verdict, began)
        tell(trigger.log, verdict_message(snapshot, judgement), judgement)
        return TaskSkippedEvent() if judgement.verdict is Verdict.SKIP else TaskSuccessEvent()

    async def _push(self, trigger: Any, snapshot: RunSnapshot, judgement: Judgement) -> None:
        result = judgement.result(snapshot)
        xcoms = xcoms_of(snapshot, result)
        if RUN_URL in xcoms:
            xcoms |= dict.fromkeys(self.links, xcoms[RUN_URL])
        if self.returns and judgement.verdict is not Verdict.SKIP:
            xcoms[RETURN_VALUE] = dict(result)
        stored = None if trigger.record is None else await trigger.record.last(snapshot, judgement)
        if stored is not None:
            xcoms[EXTERNAL_RUN] = stored
        for key, value in xcoms.items():
            await within(AIRFLOW_SECONDS, "an XCom to be stored", set_xcom(trigger.task_instance, key, value))


async def _reason(trigger: Any, began_here: bool) -> str | None:
    """Why a worker must end a task, as far as only the triggerer shows it."""
    if trigger.trigger_id is None or trigger.task_instance is None:
        return "this trigger does not run in a triggerer"
    if began_here and trigger.task_instance.try_number > 1:
        # A worker removes the XComs of the try before as it begins; whether this one returns something is not said yet.
        await within(AIRFLOW_SECONDS, "an XCom to be removed", delete_xcom(trigger.task_instance, RETURN_VALUE))
        return "here Airflow would keep the end time of the try before"
    if stores_xcoms_elsewhere():
        return "this Airflow has an XCom backend of its own"
    # The first one loads all plugins.
    heard = await shared("listeners to tasks", partial(in_own_thread, listeners_to_tasks))
    if heard:
        return f"listeners are told of ends there: {', '.join(heard)}"
    return None
