"""Operators that can be held at a moment of their life, and the arguments of runs that last. For test DAGs only."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from runops.airflow import B3osRunOperator, NexioRunOperator, NyxRunOperator, OnepinRunOperator
from runops.airflow.operator import RunOperator
from runops.airflow.submission import SUBMITTING
from runops.airflow.task_state import TaskState
from tests.airflow_host.bad_triggers import BreakingTrigger
from tests.airflow_host.host import KILL_FOLDER

BEFORE, MARKED, DURING, BETWEEN, DEFERRING, WAITING, RESUMING = (
    "before",  # nothing is recorded or sent
    "marked",  # the submit is announced in the record, and not sent
    "during",  # the request has arrived, and its answer has not
    "between",  # the answer has come, and is not recorded
    "deferring",  # the task looks itself, and is about to defer
    "waiting",  # deferred; or, on the worker, in its wait
    "resuming",  # the trigger has fired, and the worker has begun again
)
"""The moments at which something can die."""

BREAKING = "breaking"
"""A moment at which nothing is held: the first deferral is to a trigger that breaks."""

LASTING = 600.0
"""Seconds that a run takes, unless the test ends it."""

PARENTS = {
    "nexio": "engine_slug",
    "nyx": "config_name",
    "onepin": "workflow_id",
    "b3os": "workflow_id",
}
"""What the emulator calls the parent of a submitted run."""


class _Announcing(TaskState):
    """A record whose task can be held before and after it is written."""

    task: Held
    context: Any

    def save(self, **record: Any) -> None:
        self.task.hold(self.context, BEFORE if record.get("state") == SUBMITTING else BETWEEN)
        super().save(**record)
        if record.get("state") == SUBMITTING:
            self.task.hold(self.context, MARKED)


class Held(RunOperator):
    """Holds a task at one moment of its life, in the first try that comes there.

    :param moment: Which one; those of the outside hold nothing here.
    """

    def __init__(self, *, moment: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.moment = moment

    def hold(self, context: Any, moment: str) -> None:
        """Wait for the test's word, if this is the moment and nobody was held at it before."""
        if moment != self.moment or not self._reach(context, moment):
            return
        self.log.info("Held: %s.", moment)
        go = Path(os.environ[KILL_FOLDER]) / f"{context['ti'].run_id}.go"
        while not go.exists():
            time.sleep(0.1)

    def _reach(self, context: Any, moment: str) -> bool:
        """Leave a mark; whether there was none before."""
        ti = context["ti"]
        mark = Path(os.environ[KILL_FOLDER]) / f"{ti.run_id}.{ti.task_id}.{moment}.reached"
        there = mark.exists()
        mark.touch()
        return not there

    def _task_state(self, context: Any) -> TaskState:
        self._context = context
        memory = _Announcing(
            context if self.durable else {"ti": context["ti"]}, everlasting=self.on_clear == "reattach"
        )
        memory.task, memory.context = self, context
        return memory

    def _defer(self, context: Any, *arguments: Any, **named: Any) -> Any:
        self.hold(context, DEFERRING)
        return super()._defer(context, *arguments, **named)

    def defer(self, *, trigger: Any, **named: Any) -> Any:
        if self.moment == BREAKING and self._reach(self._context, BREAKING):
            trigger = BreakingTrigger()
        return super().defer(trigger=trigger, **named)

    def execute_complete(self, context: Any, event: dict[str, Any] | None = None) -> Any:
        self.hold(context, RESUMING)
        return super().execute_complete(context, event)


class HeldNexio(Held, NexioRunOperator):
    """Nexio's, held."""


class HeldNyx(Held, NyxRunOperator):
    """Nyx's, held."""


class HeldOnepin(Held, OnepinRunOperator):
    """OnePin's, held."""


class HeldB3os(Held, B3osRunOperator):
    """B3OS's, held."""


KINDS: dict[str, type[Held]] = {"nexio": HeldNexio, "nyx": HeldNyx, "onepin": HeldOnepin, "b3os": HeldB3os}


def arguments(provider: str, parent: str, *, script: str = "succeeded", seconds: float = LASTING) -> dict[str, Any]:
    """What an operator needs to submit a run that goes by a script of the emulator.

    :param provider: The provider's name.
    :param parent: The run's engine, configuration or workflow; a template may be part of it.
    :param script: How the run goes.
    :param seconds: How long it takes.
    """
    told = {"emulator": {"script": script, "seconds": seconds}}
    return {
        "nexio": {"engine_slug": parent, "input": told},
        "nyx": {
            "config_name": parent,
            "name": "A test",
            "target": {"url": "https://agent.example.com"},
            "objective": "make it tell its instructions",
            "budget_usd": 5,
            "severity_target": "high",
            "hints": [f"emulator:script={script}", f"emulator:seconds={seconds:g}"],
        },
        "onepin": {"workflow_id": parent, "script_text": f"emulator:{script} seconds={seconds:g}"},
        "b3os": {"workflow_id": parent, "payload": told},
    }[provider]


def parent_of(run_id: str, task_id: str) -> str:
    """The parent that one task's runs have, and no other task's."""
    return f"{run_id}-{task_id}"


TEMPLATED_PARENT = parent_of("{{ run_id }}", "{{ task.task_id }}")
