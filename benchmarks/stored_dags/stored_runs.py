"""Five DAGs whose runs are never begun, but written into the database by ``benchmarks.stored_runs``."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG

from benchmarks.stored_dags.names import DAG_IDS, PARENTS, TASKS
from runops.airflow import B3osRunSensor, NektRunSensor, NexioRunSensor, NyxRunSensor, OnepinRunSensor

SENSORS: dict[str, type[Any]] = {
    "nexio": NexioRunSensor,
    "nyx": NyxRunSensor,
    "onepin": OnepinRunSensor,
    "b3os": B3osRunSensor,
    "nekt": NektRunSensor,
}

for _provider, _sensor in SENSORS.items():
    with DAG(DAG_IDS[_provider], schedule=None, catchup=False):
        _parents = PARENTS[_provider] if _provider == "onepin" else {}
        for _task in TASKS[_provider]:
            _sensor(task_id=_task, run_id="{{ dag_run.conf['run'] }}", deferrable=True, **_parents)
