"""Runs every wait and every submit of a plan as a real DAG run, and shows all that it can. For a process of its own.

The plan is in the file LEAKS_PLAN; everything is written under LEAKS_FOLDER, Airflow's own database included.
"""

# ruff: noqa: E402 - a host reads its settings when it is imported, so they are set before

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(os.environ["LEAKS_FOLDER"])
DAGS = FOLDER / "dags"
os.environ.update(
    AIRFLOW_HOME=str(FOLDER),
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__CORE__DAGS_FOLDER=str(DAGS),
    # A busy machine may take long to read a DAG file, and to let go of the database.
    AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT="300",
    AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{FOLDER / 'airflow.db'}?timeout=120",
    AIRFLOW__LOGGING__LOGGING_LEVEL="DEBUG",
    AIRFLOW__LOGGING__NAMESPACE_LEVELS="httpx=DEBUG,httpcore=DEBUG,asyncio=DEBUG,runops=DEBUG",
)

import json
import pickle
import shutil
import traceback
import urllib.request
from typing import Any

PLAN: dict[str, Any] = json.loads(Path(os.environ["LEAKS_PLAN"]).read_text())


def main() -> None:
    DAGS.mkdir()
    shutil.copy(Path(__file__).with_name("airflow_dags.py"), DAGS / "waits_and_submits.py")
    from airflow.utils.db import initdb

    initdb()
    import airflow.api_fastapi.execution_api.app  # noqa: F401 - slow, and no task should wait for it
    from airflow.dag_processing.dagbag import DagBag

    from runops.airflow import task_base, tasks
    from runops.airflow.trigger import RunTrigger

    hurry()
    tasks.WORKER_SECONDS = 0.02
    task_base.EARLIEST_SECONDS = 0.0
    task_base.heartbeat_seconds = lambda: 0.0
    show_triggers(RunTrigger)
    bag = DagBag(DAGS)
    assert not bag.import_errors, bag.import_errors
    told: dict[str, Any] = {"states": {}}
    for dag_id in (f"waits_{shape}" for shape in PLAN["waits"]):
        told["states"] |= states(bag.dags[dag_id].test())
    for submit in PLAN["submits"]:
        for route, body in submit["before"]:
            control(route, body)
        told["states"] |= states(bag.dags[f"submits_{submit['name']}"].test())
    told["hooks"] = hooks()
    (FOLDER / "told.json").write_text(json.dumps(told))


def states(dag_run: Any) -> dict[str, str]:
    return {f"{ti.dag_id}.{ti.task_id}": str(ti.state) for ti in dag_run.get_task_instances()}


def show_triggers(trigger: type[Any]) -> None:
    """Keep what Airflow stores of each trigger, and each event."""
    from airflow.models.trigger import Trigger
    from airflow.utils.session import create_session

    run = trigger.run

    async def shown(self: Any) -> Any:
        with create_session() as session:
            row = Trigger.from_object(self)
            session.add(row)
            show("triggers.txt", repr(self), self.serialize(), row.kwargs, vars(self))
        async for event in run(self):
            show("triggers.txt", event, event.payload)
            yield event

    trigger.run = shown


def hooks() -> list[tuple[bool, str]]:
    """What a person sees of the connections."""
    import runops.airflow
    from runops.airflow import B3osHook, NektHook, NexioHook, NyxHook, OnepinHook

    answers: list[tuple[bool, str]] = []
    for hook in (NexioHook(), NyxHook(), OnepinHook(), B3osHook(), NektHook()):
        answers.append(hook.test_connection())
        show("hooks.txt", hook, vars(hook).keys(), hook.get_conn(), answers[-1])
    show("hooks.txt", *(getattr(runops.airflow, name) for name in runops.airflow.__all__))
    return answers


def hurry() -> None:
    """Let no pause between two looks take long."""
    from runops.core.waiting import ownership
    from runops.core.waiting.state import WaitState

    pause = WaitState.pause
    WaitState.pause = lambda self, now: min(pause(self, now), 0.1)
    look = ownership.RunSearch.look_until_found
    ownership.RunSearch.look_until_found = lambda self, grace: look(self, min(grace, 0.4))


def show(name: str, *things: Any) -> None:
    with (FOLDER / name).open("a") as file:
        for thing in things:
            file.write(f"{thing!r}\n{thing}\n")


def failed(context: Any) -> None:
    """A callback of every task: what it could tell of the failure."""
    error = context["exception"]
    if isinstance(error, BaseException):
        told = "".join(traceback.format_exception(error))
        show("failures.txt", error, told, vars(error), pickle.dumps(error), context["ti"], context["ti"].task)


def control(route: str, body: dict[str, Any]) -> None:
    request = urllib.request.Request(
        f"{PLAN['control']}/{route}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    urllib.request.urlopen(request, timeout=10).close()


if __name__ == "__main__":
    main()
