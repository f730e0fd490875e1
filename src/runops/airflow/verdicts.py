"""Where a verdict becomes Airflow's word: a return, a warning, a skip or an exception. The only place that does it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runops.airflow._compat import AirflowSkipException
from runops.airflow.exceptions import RunCancelled, RunFailed, RunRejected, RunTimedOut
from runops.airflow.link import RUN_URL
from runops.airflow.metrics import waited
from runops.core import Outcome, RunRef, RunResult, RunSnapshot, Verdict
from runops.core.model.policy import Judgement, Rule

RUN = "run"
RUN_ID = "run_id"


def apply_verdict(
    context: Mapping[str, Any],
    snapshot: RunSnapshot,
    judgement: Judgement,
    *,
    log: Any,
    failed: type[RunFailed] = RunFailed,
    timed_out: type[RunTimedOut] = RunTimedOut,
) -> RunResult:
    """End a task as its policy says about the last snapshot of its run.

    The snapshot as plain data goes to the XCom key ``run`` on every end, a skip and a failure included.

    :param context: The task's context.
    :param snapshot: The last snapshot; it has an outcome.
    :param judgement: What to do about it, and why.
    :param log: Where it says how the run ended.
    :param failed: What to raise when the run failed.
    :param timed_out: What to raise when a clock of the wait ended it.
    :return: What the task returns.
    :raises AirflowSkipException: The verdict is skip.
    :raises RunFailed: The verdict on ``failed`` is fail; and so RunCancelled, RunTimedOut and RunRejected.
    """
    outcome = snapshot.outcome
    if outcome is None:
        raise ValueError(f"{snapshot.ref} has not ended, so there is no verdict on it.")
    verdict = judgement.verdict
    result = judgement.result(snapshot)
    ti = context["ti"]
    if snapshot.ref.run_id:
        publish(context, snapshot.ref, snapshot.url)
    ti.xcom_push(key=RUN, value=dict(result))
    waited(snapshot, verdict)
    message = end_message(snapshot)
    match verdict:
        case Verdict.SUCCEED:
            log.info("%s", message)
        case Verdict.WARN:
            log.warning("%s", end_message(snapshot, f"The task succeeds, because {judgement.because}."))
        case Verdict.SKIP:
            message = end_message(snapshot, f"The task is skipped, because {judgement.because}.")
            # Airflow logs it too, but in a group that its log page does not open.
            log.info("%s", message)
            raise AirflowSkipException(message)
        case Verdict.FAIL:
            by_airflow = judgement.rule is Rule.EXECUTION_TIMEOUT
            failure = _failure(outcome, failed, RunTimedOut if by_airflow else timed_out)
            if failure is RunRejected:
                message = end_message(snapshot, f"The task fails, because {judgement.because}.")
            raise failure(message, result)
    return result


def publish(context: Mapping[str, Any], ref: RunRef, url: str | None) -> None:
    """Push ``run_id``, and ``run_url`` where it is known, for the link button and for later tasks."""
    ti = context["ti"]
    ti.xcom_push(key=RUN_ID, value=ref.run_id)
    if url is not None:
        ti.xcom_push(key=RUN_URL, value=url)


def published(context: Mapping[str, Any]) -> Any:
    """The ``run_id`` that this try has pushed, as a resumed process finds it; None where it has not."""
    ti = context["ti"]
    return ti.xcom_pull(task_ids=ti.task_id, key=RUN_ID, map_indexes=ti.map_index)


def end_message(snapshot: RunSnapshot, consequence: str = "") -> str:
    """How a run ended, in one line for a person.

    :param snapshot: The run.
    :param consequence: What becomes of the task where the outcome alone does not say so: a sentence.
    """
    parts = [f"{snapshot.summary().rstrip('.')}.", consequence, f"See {snapshot.url}" if snapshot.url else ""]
    return " ".join(part for part in parts if part)


def _failure(outcome: Outcome, failed: type[RunFailed], timed_out: type[RunTimedOut]) -> type[Any]:
    kinds: dict[Outcome, type[Any]] = {
        Outcome.FAILED: failed,
        Outcome.CANCELLED: RunCancelled,
        Outcome.TIMED_OUT: timed_out,
    }
    return kinds.get(outcome, RunRejected)
