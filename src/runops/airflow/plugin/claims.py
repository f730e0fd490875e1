"""Who may do something to a run next: one XCom for each, compared and set in the database, over all API servers.

An XCom, because it is in every database of Airflow, is gone with its task instance, and needs no table of ours. Several
task instances may wait for one run: the first of them, in the order of their ids, holds the claim for all.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from runops.airflow.external_run import iso
from runops.airflow.plugin._compat import StoredXCom, create_session, stored_place, stored_xcom
from runops.airflow.plugin.questions import Address

LOOK = "external_run_look"
CANCEL = "external_run_cancel"
LOOK_SECONDS = 5.0
"""Between two looks at a run, however many people press."""
CANCEL_SECONDS = 60.0
"""Between two cancels of a run: what the first one began is under way for so long at the most."""
CLOCKS_DIFFER = timedelta(minutes=1)
"""A claim that far in the future was made by a clock that was wrong."""


def claim(holder: Any, key: str, every: float, who: str) -> bool:
    """Whether it is ours now. It is stored when this returns.

    :param holder: The task instance that holds it: ``dag_run_id``, ``dag_id``, ``run_id``, ``task_id``, ``map_index``.
    :param key: What for.
    :param every: For how many seconds nobody else gets it.
    :param who: The name of who claims it.
    """
    now = datetime.now(UTC)
    value = {"at": iso(now.timestamp()), "by": who}
    free = or_(StoredXCom.timestamp <= now - timedelta(seconds=every), StoredXCom.timestamp > now + CLOCKS_DIFFER)
    try:
        with create_session(scoped=False) as session:
            taken: Any = session.execute(
                update(StoredXCom)
                .where(*_row(holder, key), free)
                .values(timestamp=now, value=value)
                .execution_options(synchronize_session=False)
            )
            if taken.rowcount == 1:
                return True
            if session.scalar(select(StoredXCom.key).where(*_row(holder, key))) is not None:
                return False
            place = stored_place(Address.of_xcom(holder).to_dict(), holder.dag_run_id)
            session.execute(insert(StoredXCom).values(**place, key=key, value=value, timestamp=now))
    except IntegrityError:
        # Somebody else has made the row in the same moment.
        return False
    return True


def renew(holder: Any, key: str) -> None:
    """Let a claim count from now on: what it was made for has only just been done.

    :param holder: As for :func:`claim`.
    :param key: What for.
    """
    with create_session(scoped=False) as session:
        session.execute(
            update(StoredXCom)
            .where(*_row(holder, key))
            .values(timestamp=datetime.now(UTC))
            .execution_options(synchronize_session=False)
        )


def release(holder: Any, key: str) -> None:
    """Let go of a claim, because nothing came of it.

    :param holder: As :func:`claim` takes it.
    :param key: What for.
    """
    with create_session(scoped=False) as session:
        session.execute(delete(StoredXCom).where(*_row(holder, key)).execution_options(synchronize_session=False))


def _row(holder: Any, key: str) -> tuple[Any, ...]:
    return stored_xcom(Address.of_xcom(holder).to_dict(), key)
