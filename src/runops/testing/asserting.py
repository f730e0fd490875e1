"""What is asserted of a finished run of a host: how its tasks or steps ended, and how their external runs did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from runops.testing.errors import TestingError

SHOWN = ("provider", "run_id", "state", "outcome", "verdict", "reason", "ended_by", "run_ended", "url")
"""What :func:`ends` gives of a run of Dagster, as far as its metadata has it."""
METADATA = "runops/"
_STEP_STATES = {"STEP_SUCCESS": "success", "STEP_FAILURE": "failed", "STEP_SKIPPED": "skipped"}


def states(run: Any) -> dict[str, str]:
    """How each task or step ended.

    Args:
        run: What ``dag.test()`` of Airflow has returned, or ``materialize`` or ``execute_in_process`` of Dagster.

    Returns:
        Of Airflow, its own states by task id, a mapped task as ``wait[0]``: success, skipped, failed,
        upstream_failed, ... Of Dagster success, skipped or failed by the step's key, which of an asset is its key with
        ``__`` for each slash. Steps that never began are left out.

    Raises:
        TestingError: It is neither.
    """
    if hasattr(run, "get_task_instances"):
        return {_task(ti): str(ti.state) for ti in run.get_task_instances()}
    return {
        str(event.step_key): _STEP_STATES[event.event_type_value]
        for event in _events(run)
        if event.event_type_value in _STEP_STATES
    }


def ends(run: Any) -> dict[str, dict[str, Any]]:
    """How the external run of each task or step ended, as far as it has one: outcome, verdict, run_id, ...

    Args:
        run: As :func:`states` takes it.

    Returns:
        Of Airflow, what is under the XCom key ``run``. Of Dagster, what the metadata of the materialisation or of the
        check says, or what the failure or the op's output does. By the same names as :func:`states`.

    Raises:
        TestingError: It is neither.
    """
    if hasattr(run, "get_task_instances"):
        found = ((_task(ti), _xcom(ti)) for ti in run.get_task_instances())
        return {name: value for name, value in found if value is not None}
    ended: dict[str, dict[str, Any]] = {}
    for step, metadata in _metadata(run):
        shown = {name: _plain(metadata[METADATA + name]) for name in SHOWN if METADATA + name in metadata}
        if shown:
            ended.setdefault(step, {}).update(shown)
    return ended


def _task(ti: Any) -> str:
    return ti.task_id if ti.map_index < 0 else f"{ti.task_id}[{ti.map_index}]"


def _xcom(ti: Any) -> Any:
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    about = {name: getattr(ti, name) for name in ("dag_id", "run_id", "task_id", "map_index")}
    with create_session() as session:
        row = session.query(XComModel).filter_by(key="run", **about).one_or_none()
        return None if row is None else XComModel.deserialize_value(row)


def _events(run: Any) -> list[Any]:
    events = getattr(run, "all_events", None)
    if events is None:
        raise TestingError(
            f"A {type(run).__name__} is no run of a host: give what dag.test(), materialize() or execute_in_process() "
            "has returned."
        )
    return list(events)


def _metadata(run: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for event in _events(run):
        data = event.event_specific_data
        failure = getattr(data, "user_failure_data", None)
        for each in (data, getattr(data, "materialization", None), failure):
            metadata = getattr(each, "metadata", None)
            if event.step_key and isinstance(metadata, Mapping):
                yield event.step_key, metadata


def _plain(value: Any) -> Any:
    return getattr(value, "value", value)
