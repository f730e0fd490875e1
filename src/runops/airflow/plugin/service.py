"""Asking the service itself, in the API server and for a person: through the task's connection, in bounded time.

The key is read at that moment, is in no answer, record or log, and goes when the client is closed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import HTTPException

from runops.airflow._compat import AirflowException
from runops.airflow.hook import RunHook
from runops.airflow.plugin import _compat
from runops.airflow.plugin.rows import Stored
from runops.core import RunClient, RunRef
from runops.core.model.codes import Code
from runops.core.model.errors import RunopsError

REQUEST_SECONDS = 8.0
"""For one request."""
ALL_SECONDS = 16.0
"""For all requests of a look or a cancel: after that no other one is begun."""
AT_ONCE = 4
"""Looks and cancels under way in one process: the API server's threads are not ours."""
FAILED = 424
"""The status of an answer that failed because the service, or its connection, did."""

_under_way = threading.BoundedSemaphore(AT_ONCE)


class ServerHook(RunHook):
    """A connection as the API server reads it: from the secrets backends and the database, without a task's supervisor.

    :param conn_id: The connection.
    :param provider: The provider's name.
    :param dag_id: The DAG whose task has that connection.
    """

    def __init__(self, conn_id: str, *, provider: str, dag_id: str) -> None:
        super().__init__(conn_id, provider=provider)
        self.dag_id = dag_id

    def get_connection(self, conn_id: str) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The connection as it stands now."""
        return _compat.connection(conn_id, self.dag_id)


class OutOfTimeError(RunopsError):
    """The service has not answered in the time that a person waits."""

    error_code = Code.SERVICE_UNAVAILABLE


@contextmanager
def client_for(record: Stored) -> Iterator[RunClient]:
    """A client of the service, for as long as the block.

    :param record: Whose connection.
    :raises HTTPException: 424, the connection or the service fails; 429, too many are asked at once.
    """
    if not _under_way.acquire(blocking=False):
        raise HTTPException(429, "Too many services are being asked: again in 2 s.", headers={"retry-after": "2"})
    problem: str | None = None
    try:
        run = record.run
        hook = ServerHook(run.conn_id or "", provider=run.provider, dag_id=record.address.dag_id)
        ends = time.monotonic() + ALL_SECONDS
        # What the hook has read stays with it: no name of this frame has it.
        with hook.client(reread=None, request_timeout=REQUEST_SECONDS, sleep=_until(ends)) as client:
            yield client
    except (RunopsError, AirflowException) as error:
        problem = str(error) or type(error).__name__
    finally:
        _under_way.release()
    if problem is not None:
        # Outside the handler: a cause would bring the frames that spoke to the service along.
        raise HTTPException(FAILED, problem)


def _until(ends: float) -> Any:
    def sleep(seconds: float) -> None:
        if time.monotonic() + seconds > ends:
            raise OutOfTimeError(
                f"The service has not answered within {ALL_SECONDS:.0f} s, or its limit of requests is used up."
            )
        time.sleep(seconds)

    return sleep


def ref_of(record: Stored) -> RunRef:
    """The run's address.

    :raises HTTPException: 409, there is none.
    """
    run = record.run
    if not run.run_id:
        raise HTTPException(409, "There is no run yet.")
    return RunRef(provider=run.provider, run_id=run.run_id, parents=dict(run.parents))
