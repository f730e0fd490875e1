"""Wait for a Nekt run that something else has started, and do without its data if it does not end well.

Nekt documents no way to start a run over its API, so this DAG takes the id of a run as a param. With ``soft_fail``
a failed or canceled run skips the sensor instead of failing it: ``build_report`` runs on fresh data,
``build_report_on_old_data`` where the sensor was skipped. No worker is started for the sensor: it begins and ends in
the triggerer (on Airflow 3.1 and 3.2 it begins on a worker), and only a failure would be told on one. To find the
newest run of a pipeline without its id, see ``NektPipelineSensor``.

Connection: ``nekt_default`` (type Nekt, the API key as password).
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import Param, dag

from runops.airflow import NektRunSensor


@dag(
    schedule=None,
    params={"run_id": Param("", type="string", description="The run to wait for")},
    doc_md=__doc__,
    tags=["runops", "nekt"],
)
def example_nekt() -> None:
    orders = NektRunSensor(
        task_id="orders",
        run_id="{{ params.run_id }}",
        soft_fail=True,
        timeout=timedelta(hours=3).total_seconds(),
        deferrable=True,
        start_from_trigger=True,
        end_from_trigger=True,
    )
    orders >> EmptyOperator(task_id="build_report")
    orders >> EmptyOperator(task_id="build_report_on_old_data", trigger_rule="all_skipped")


example_nekt()
