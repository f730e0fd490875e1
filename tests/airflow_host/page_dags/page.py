"""The tasks that the page "External runs" is tried with."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import dag

from runops.airflow import (
    B3osRunSensor,
    NektRunSensor,
    NexioRunSensor,
    NexioRunsOperator,
    NyxRunSensor,
    OnepinRunSensor,
    RunsSensor,
)
from tests.airflow_host.matrix import SUBMITS, workflow_of
from tests.airflow_host.moments import KINDS, TEMPLATED_PARENT, arguments
from tests.airflow_host.page_cases import (
    HOSTILE,
    OPERATED,
    PRIVATE,
    SENSED,
    SET_SIZE,
    TURNS,
    WAITING,
    provider_of,
)
from tests.leaks.private_fields import CANARIES, WORKFLOW

SENSORS: dict[str, type[Any]] = {
    "nexio": NexioRunSensor,
    "nyx": NyxRunSensor,
    "onepin": OnepinRunSensor,
    "b3os": B3osRunSensor,
    "nekt": NektRunSensor,
}
PARENTS: dict[str, dict[str, str]] = {"onepin": {"workflow_id": WORKFLOW}}
LAST = timedelta(hours=2)
SOFT = dict.fromkeys(("failed", "cancelled", "degraded", "exhausted"), "warn")


def sensor_of(task_id: str, provider: str, **more: Any) -> Any:
    """A sensor on the run that the DAG run's conf names for this task."""
    given: dict[str, Any] = {"poke_interval": 5, "max_wait": timedelta(seconds=10), "timeout": LAST.total_seconds()}
    return SENSORS[provider](
        task_id=task_id, run_id=f"{{{{ dag_run.conf['{task_id}'] }}}}", **{**given, **PARENTS.get(provider, {}), **more}
    )


def sensed(dag_id: str, **how: Any) -> None:
    @dag(dag_id=dag_id, schedule=None, catchup=False)
    def of_all_services() -> None:
        for provider, scripts in SENSED.items():
            for script in scripts:
                sensor_of(
                    f"{provider}_{script}", provider,
                    deferrable=True, start_from_trigger=True, end_from_trigger=True, **how,
                )  # fmt: skip

    of_all_services()


sensed("page_sensed", on_outcome=SOFT)
sensed("page_failing")


@dag(
    schedule=None,
    catchup=False,
    default_args={"retries": 3, "retry_delay": timedelta(seconds=1)},
    # Templates: what a DAG says in plain words Airflow keeps with it.
    user_defined_macros={"private": CANARIES, "workflow_of": workflow_of},
)
def page_operated() -> None:
    """Tasks that can be looked at and cancelled; a kill by a person ends them without a retry."""
    for task_id in OPERATED:
        provider = provider_of(task_id)
        KINDS[provider](
            task_id=task_id, deferrable=not task_id.startswith("worker"), poll_interval=5,
            cancel_on_kill=not task_id.startswith("spared"), timeout=LAST,
            **arguments(provider, TEMPLATED_PARENT, seconds=7200),
        )  # fmt: skip
    for task_id in TURNS:
        KINDS["nyx"](
            task_id=task_id, deferrable=True, poll_interval=5, timeout=LAST,
            **arguments("nyx", "{{ run_id }}-turns", seconds=7200),
        )  # fmt: skip
    for provider, submit in SUBMITS.items():
        KINDS[provider](
            task_id=f"private_submit_{provider}", deferrable=True, poll_interval=5, timeout=LAST, **submit,
        )  # fmt: skip


@dag(schedule=None, catchup=False, default_args={"retries": 0})
def page_waiting() -> None:
    """Waits in every mode and held by everything, private payloads and texts of strangers."""
    hows: dict[str, dict[str, Any]] = {
        "slow_nexio": {"deferrable": True, "poke_interval": 1800, "max_wait": timedelta(hours=1)},
        "limited_nekt": {"deferrable": True, "nekt_conn_id": "nekt_limited"},
        "refused_b3os": {"deferrable": True, "b3os_conn_id": "b3os_refused", "auth_grace": timedelta(hours=2)},
        "poke_nexio": {"mode": "poke"},
        "reschedule_nyx": {"mode": "reschedule", "poke_interval": 20},
    }
    for task_id in WAITING:
        sensor_of(task_id, provider_of(task_id), **hows.get(task_id, {"deferrable": True}))
    for provider in PRIVATE:
        sensor_of(f"private_{provider}", provider, deferrable=True, on_outcome=SOFT)
    for task_id in HOSTILE:
        sensor_of(task_id, "b3os", deferrable=True, on_outcome=SOFT)
    NexioRunsOperator(
        task_id="set_operator",
        calls=[{"engine_slug": "set", "input": {"number": number}} for number in range(SET_SIZE)],
        deferrable=True,
        timeout=LAST,
        poll_interval=5,
    )
    RunsSensor(
        task_id="set_sensor",
        provider="b3os",
        run_ids=[f"set-{number}" for number in range(SET_SIZE)],
        deferrable=True,
        poke_interval=5,
        max_wait=timedelta(seconds=10),
        timeout=LAST.total_seconds(),
    )


page_operated()
page_waiting()
