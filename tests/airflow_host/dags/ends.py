"""Sensors that the triggerer ends, each with another end; and what an event of Airflow's own loses."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Asset, BaseOperator, Context, dag, task

from runops.airflow import NyxConfigSensor, NyxRunSensor
from tests.airflow_host.end_events import EventTrigger, mark_of
from tests.airflow_host.ends import MEASURED, SENSORS, Kind

BOTH: dict[str, Any] = {"start_from_trigger": True, "end_from_trigger": True}
FLAGS: dict[Kind, dict[str, Any]] = {"worker": {}, "end": {"end_from_trigger": True}, "both": BOTH}


@task(trigger_rule="all_done")
def form(of: str, ti: Any = None) -> str:
    """What a later task gets of an earlier one's result."""
    value = ti.xcom_pull(task_ids=of)
    return f"{type(value).__name__} {value['outcome'] if isinstance(value, dict) else value}"


@dag(schedule=None, catchup=False, default_args={"retries": 0, "retry_delay": timedelta(seconds=1)})
def ends() -> None:
    for name, (kind, script, more) in SENSORS.items():
        sensor = NyxRunSensor(
            task_id=name, run_id=f"{{{{ dag_run.conf['{script}'] }}}}", deferrable=True, **FLAGS[kind], **more
        )
        sensor >> form.override(task_id=f"after_{name}")(name)
    found = NyxConfigSensor(
        task_id="found", config_name="ends", since=timedelta(days=1), deferrable=True, end_from_trigger=True
    )
    found >> form.override(task_id="after_found")("found")

    @task
    def several(dag_run: Any = None) -> list[str]:
        return [dag_run.conf["succeeded"], dag_run.conf["exhausted"]]

    NyxRunSensor.partial(task_id="mapped", deferrable=True, end_from_trigger=True).expand(run_id=several())
    source = several.override(task_id="source")()
    pulled = "{{ ti.xcom_pull(task_ids='source')[0] }}"
    source >> NyxRunSensor(task_id="pulled", run_id=pulled, deferrable=True, **BOTH)


class Measured(BaseOperator):
    """Ends by an event of Airflow's own, with everything that our sensors refuse."""

    def execute(self, context: Context) -> None:
        self.defer(trigger=EventTrigger(), method_name="resumed")

    def resumed(self, context: Context, event: Any) -> None:
        raise RuntimeError("No worker is to end this task.")


def called(context: Context) -> None:
    mark_of("on_success_callback").touch()


@dag(schedule=None, catchup=False)
def events_of_airflow() -> None:
    measured = Measured(task_id=MEASURED, outlets=[Asset("ends-measured")], on_success_callback=called)
    measured >> form(MEASURED)


ends()
events_of_airflow()
