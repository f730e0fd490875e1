"""What a maintenance DAG does about runs that tasks have left behind: the command ``runops orphans``, in a task."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from runops.airflow.exceptions import in_airflow_terms
from runops.airflow.hook import RunHook, api_settings
from runops.airflow.metrics import METER
from runops.airflow.orphans import AirflowTasks
from runops.airflow.rest import AirflowApi, open_api
from runops.core import PROVIDERS, RunClient
from runops.core.client.orphans import OrphanReview

logger = logging.getLogger(__name__)

WEEK = timedelta(days=7)


def cancel_orphans(
    api_conn_id: str = "airflow_api", *, since: timedelta = WEEK, cancel: bool = True
) -> list[dict[str, Any]]:
    """Cancel the runs that tasks of this Airflow have submitted and that no task waits for.

    What ``runops orphans airflow --cancel`` does, with connections in place of the environment's keys: each run is
    read and cancelled with the connection that has submitted it. It is looked at again right before its cancel, and
    may be run as often as one likes. A task has no way to Airflow's database, so Airflow's REST API is read.

    :param api_conn_id: A connection to Airflow's API server: its host, and a user with a password, or no user and a
        token as the password. The extra may hold ``allow_http``, ``verify``, ``client_cert``, ``client_key`` and
        ``proxy``, as that of any connection of runops. The user must be allowed to read DAG runs, task instances and
        XComs and, for a clear with ``on_clear="reattach"`` to submit a new run, to write task states.
    :param since: Task instances that have not changed for longer are not looked at.
    :param cancel: False only lists.
    :return: What was found, as ``runops orphans --json`` prints it.
    """
    with in_airflow_terms(), open_api(**api_settings(api_conn_id)) as api:
        tasks = AirflowTasks(AirflowApi(api), since=datetime.now(UTC) - since)
        with OrphanReview(tasks, _client) as review:
            found = [review.cancel(each) if cancel else each for each in review.find()]
    METER.orphans(PROVIDERS, (each.suspect.provider for each in found if each.goes_on))
    for orphan in found:
        what = orphan.ref or f"A submit to {orphan.suspect.provider}"
        acted = "" if orphan.act is None else f", {orphan.act}"
        level = logging.INFO if orphan.settled else logging.WARNING
        logger.log(level, "%s (%s%s): %s. %s", what, orphan.standing, acted, orphan.suspect.why, orphan.message)
    return [orphan.to_result() for orphan in found]


def _client(provider: str, credential: str | None) -> RunClient:
    return RunHook(credential, provider=provider).client()
