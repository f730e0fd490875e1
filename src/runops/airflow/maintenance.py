"""What a maintenance DAG does about runs that tasks have left behind: the command ``runops orphans``, in a task."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import BaseHook
from airflow.sdk.log import mask_secret

from runops.airflow.exceptions import in_airflow_terms
from runops.airflow.hook import RunHook, base_url
from runops.airflow.orphans import AirflowTasks
from runops.airflow.rest import AirflowApi, open_api
from runops.core import ConfigurationError, RunClient
from runops.core.client.orphans import OrphanReview
from runops.core.model.secret import Secret

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
        token as the password. The user must be allowed to read task instances and XComs, and for a clear with
        ``on_clear="reattach"`` to write task states.
    :param since: Task instances that have not changed for longer are not looked at.
    :param cancel: False only lists.
    :return: What was found, as ``runops orphans --json`` prints it.
    """
    with in_airflow_terms(), _api(api_conn_id) as api:
        tasks = AirflowTasks(AirflowApi(api), since=datetime.now(UTC) - since)
        with OrphanReview(tasks, _client) as review:
            found = [review.cancel(each) if cancel else each for each in review.find()]
    for orphan in found:
        what = orphan.ref or f"A submit to {orphan.suspect.provider}"
        acted = "" if orphan.act is None else f", {orphan.act}"
        level = logging.INFO if orphan.settled else logging.WARNING
        logger.log(level, "%s (%s%s): %s. %s", what, orphan.standing, acted, orphan.suspect.why, orphan.message)
    return [orphan.to_result() for orphan in found]


def _client(provider: str, credential: str | None) -> RunClient:
    return RunHook(credential, provider=provider).client()


def _api(conn_id: str) -> Any:
    connection = BaseHook.get_connection(conn_id)
    address, username = base_url(connection), connection.login or None
    secret = Secret(connection.password)
    extra = connection.extra_dejson
    # Airflow's own object shows the password in its repr, so no frame keeps it.
    del connection
    if address is None:
        raise ConfigurationError(f"The connection {conn_id!r} has no host: put the address of the API server there.")
    mask_secret(secret.reveal())
    return open_api(
        address,
        token=Secret("") if username else secret,
        username=username,
        password=secret if username else None,
        origin=f"connection {conn_id!r}",
        allow_http=str(extra.get("allow_http", "")).lower() in ("1", "true", "yes"),
    )
