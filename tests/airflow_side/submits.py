"""A stand-in for the client of one service, and for a task that submits by it: what tests of a submit share."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

from pytest_mock import MockerFixture

from runops.airflow import submission
from runops.airflow.submission import Submission, SubmitRules
from runops.airflow.task_state import TaskState
from runops.core import ConflictError, Outcome, Phase, RunRef, RunSnapshot, find
from runops.core.waiting.intent import Intent
from runops.core.waiting.submit_in_turn import TurnRules
from runops.core.waiting.turns import Turn
from tests.airflow_side.conftest import Store
from tests.services import CALLS, Clock

NOW = 1_700_000_000.0
INTENT = Intent("[bcdfghjklmnpq]", frozenset({"older"}), 5.0)
WAIT = TurnRules(on_conflict="wait", until=NOW + 900)


class Client:
    """Stands for the client of one service: notes what it is asked for, and answers as a test says."""

    def __init__(self, provider: str, clock: Clock) -> None:
        self.provider = find(provider)
        self.clock = clock
        self.asked: list[tuple[Any, ...]] = []
        self.settings: dict[str, Any] = {}
        self.error: Exception | None = None
        self.attaches = False
        self.outcome: Outcome | None = None
        self.unread: Exception | None = None
        self.turn = Turn(parent={"config_name": "nightly"}, since=NOW - 5, until=NOW + 50)

    def run(self, run_id: str = "new") -> RunRef:
        parents = {name: CALLS[self.provider.name][name] for name in self.provider.parents}
        return RunRef(provider=self.provider.name, run_id=run_id, parents=parents)

    def submit(self, call: Any, *, identity: str, turn: Turn | None, **settings: Any) -> RunRef:
        self.asked.append(("submit", call, identity, turn))
        settings["before"](INTENT)
        return self._answer(settings)

    def submit_again(self, call: Any, intent: Intent, **settings: Any) -> RunRef:
        self.asked.append(("submit_again", call, intent))
        return self._answer(settings)

    def _answer(self, settings: dict[str, Any]) -> RunRef:
        self.settings = settings
        error, self.error = self.error, None
        if error is not None:
            raise error
        if self.attaches:
            settings["attached"](self.run("theirs"))
        return self.run("theirs" if self.attaches else "new")

    def refused(self, rules: TurnRules, call: Any, error: ConflictError, turn: Turn | None, *, mark: Any) -> Turn:
        self.asked.append(("refused", rules, call, str(error), turn, mark))
        return self.turn

    def find_submitted(self, parent: Any, intent: Intent, *, submit_grace: float) -> RunRef:
        self.asked.append(("find_submitted", dict(parent), intent, submit_grace))
        return self.run("lost")

    def get(self, ref: RunRef) -> RunSnapshot:
        self.asked.append(("get", ref.run_id))
        if self.unread is not None:
            raise self.unread
        return RunSnapshot(ref=ref, state="x", outcome=self.outcome, phase=None if self.outcome else Phase.RUNNING)

    def cancel(self, ref: RunRef) -> None:
        self.asked.append(("cancel", ref.run_id))


class Task:
    """A task that submits: its store, its service, its clock, and what it says."""

    def __init__(self, clock: Clock) -> None:
        self.store, self.clock = Store(), clock
        self.ti = SimpleNamespace(max_tries=2)
        self.turns: list[Turn] = []
        self.rules: dict[str, Any] = {
            "adopt_uncertain": False, "grace": 300.0, "deferrable": False, "cancels": True, "turns": WAIT,
            "may_follow": lambda outcome: outcome is Outcome.FAILED, "on_turn": self.turns.append,
            "about": {"provider": "of the task", "waits": True},
        }  # fmt: skip
        self.service("nyx")

    def service(self, provider: str, **call: Any) -> None:
        self.client: Any = Client(provider, self.clock)
        self.call = call.get("call") or find(provider).call(**CALLS[provider])

    def submission(self, crashes: int | None = None, **rules: Any) -> Submission:
        return Submission(
            self.call,
            identity="a/b/c/-1",
            task_state=TaskState({"ti": self.ti, "task_state_store": self.store}),
            rules=SubmitRules(**{**self.rules, **rules}),
            log=logging.getLogger("a task"),
            **({} if crashes is None else {"crashes": crashes}),
        )

    def start(self, **rules: Any) -> Any:
        return self.submission(**rules).start(self.client)

    @property
    def record(self) -> Any:
        return self.store.get("runops")

    @record.setter
    def record(self, record: Any) -> None:
        self.store.set("runops", {"version": 1, "generation": 2, **record})

    @property
    def steps(self) -> list[str]:
        return [asked[0] for asked in self.client.asked]


def task_now(mocker: MockerFixture) -> Task:
    """A task whose submits take place at ``NOW``."""
    clock = Clock()
    clock.now = NOW
    mocker.patch.object(submission, "time", SimpleNamespace(time=clock))
    return Task(clock)


def of(task: Task, state: str, **more: Any) -> dict[str, Any]:
    """What a record holds beside its own fields."""
    about = {"provider": "of the task", "waits": True, "parent": dict(task.call.parent)}
    return {"version": 1, "generation": 2, "state": state, **about, **more}


def json_of(task: Task, run_id: str = "new") -> dict[str, Any]:
    return task.client.run(run_id).model_dump(mode="json")
