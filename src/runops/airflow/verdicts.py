"""Where a verdict becomes Airflow's word: a return, a warning, a skip or an exception. The only place that does it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runops.airflow._compat import AirflowSkipException
from runops.airflow.asset_events import name_in_events, run_in_event
from runops.airflow.exceptions import RunCancelled, RunEnded, RunFailed, RunRejected, RunTimedOut
from runops.airflow.link import RUN_URL
from runops.airflow.metrics import METER
from runops.airflow.traces import Began, TaskTrace, another_try_follows
from runops.core import Outcome, RunRef, RunResult, RunSnapshot, Verdict, find
from runops.core.model.codes import with_code
from runops.core.model.policy import Judgement, Rule
from runops.core.waiting.turns import Turn

RUN = "run"
RUN_ID = "run_id"
ATTACHED = "attached"
"""True where the run was active already, and the task has attached to it."""
TURN = "turn"


def apply_verdict(
    context: Mapping[str, Any],
    snapshot: RunSnapshot,
    judgement: Judgement,
    *,
    log: Any,
    failed: type[RunFailed] = RunFailed,
    timed_out: type[RunTimedOut] = RunTimedOut,
    began: Began | None = None,
) -> RunResult:
    """End a task as its policy says about the last snapshot of its run.

    The snapshot as plain data goes to the XCom key ``run`` on every end, a skip and a failure included.

    :param context: The task's context.
    :param snapshot: The last snapshot; it has an outcome.
    :param judgement: What to do about it, and why.
    :param log: Where it says how the run ended.
    :param failed: What to raise when the run failed.
    :param timed_out: What to raise when a clock of the wait ended it.
    :param began: When the wait began; by default when this try did.
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
    for key, value in xcoms_of(snapshot, result).items():
        ti.xcom_push(key=key, value=value)
    provider = find(snapshot.ref.provider)
    METER.ended(provider, snapshot, verdict)
    message = verdict_message(snapshot, judgement)
    error: RunEnded | None = None
    if verdict is Verdict.FAIL:
        by_airflow = judgement.rule is Rule.EXECUTION_TIMEOUT
        failure = _failure(outcome, failed, RunTimedOut if by_airflow else timed_out)
        text = message if failure is RunRejected else end_message(snapshot)
        error = failure(text, result, error_code=judgement.code)
    # A run that goes on is told by the try that sees its end.
    if snapshot.run_ended or not another_try_follows(context, error):
        TaskTrace(ti, log).ended(provider, snapshot, verdict, began or ti.start_date.timestamp)
    match verdict:
        case Verdict.SUCCEED | Verdict.WARN:
            tell(log, message, judgement)
            name_in_events(context, run_in_event(provider, snapshot, verdict), log)
        case Verdict.SKIP:
            # Airflow logs it too, but in a group that its log page does not open.
            tell(log, message, judgement)
            raise AirflowSkipException(with_code(message, judgement.code))
        case Verdict.FAIL:
            assert error is not None
            raise error
    return result


def xcoms_of(snapshot: RunSnapshot, result: RunResult) -> dict[str, Any]:
    """What every end pushes beside the return value, by key, whoever pushes it.

    :param snapshot: The last snapshot.
    :param result: It as plain data, with the verdict.
    """
    page = _page(snapshot.ref, snapshot.url) if snapshot.ref.run_id else {}
    return {**page, RUN: dict(result)}


def verdict_message(snapshot: RunSnapshot, judgement: Judgement) -> str:
    """How a run ended and what becomes of its task, in one line for a person.

    :param snapshot: The last snapshot.
    :param judgement: What to do about it.
    """
    becomes = {
        Verdict.SUCCEED: "",
        Verdict.WARN: "The task succeeds",
        Verdict.SKIP: "The task is skipped",
        Verdict.FAIL: "The task fails",
    }[judgement.verdict]
    return end_message(snapshot, f"{becomes}, because {judgement.because}." if becomes else "")


def tell(log: Any, message: str, judgement: Judgement) -> None:
    """Log the end of a task that does not fail: a warning where the verdict is one.

    :param log: The log.
    :param message: The line.
    :param judgement: What becomes of the task.
    """
    write = log.warning if judgement.verdict is Verdict.WARN else log.info
    write("%s", with_code(message, judgement.code))


def publish(context: Mapping[str, Any], ref: RunRef, url: str | None, *, own: bool = True) -> None:
    """Push ``run_id``, and ``run_url`` where it is known, for the link button and for later tasks.

    :param context: The task's context.
    :param ref: The run.
    :param url: Its page.
    :param own: Whether the task has submitted it, and not attached to one that was active.
    """
    attached = {} if own else {ATTACHED: True}
    for key, value in {**_page(ref, url), **attached}.items():
        context["ti"].xcom_push(key=key, value=value)


def _page(ref: RunRef, url: str | None) -> dict[str, Any]:
    return {RUN_ID: ref.run_id, **({} if url is None else {RUN_URL: url})}


def published(context: Mapping[str, Any]) -> Any:
    """The ``run_id`` that this try has pushed, as a resumed process finds it; None where it has not."""
    return _pulled(context, RUN_ID)


def is_own(context: Mapping[str, Any]) -> bool:
    """Whether the published run was submitted by the task, so that it is the task's to cancel."""
    return _pulled(context, ATTACHED) is not True


def keep_turn(context: Mapping[str, Any], turn: Turn | None) -> None:
    """Keep the wait for a turn of this try where nothing else does, for when its trigger tells nothing.

    :param context: The task's context.
    :param turn: The wait; None where the task state store keeps it, or it is over.
    """
    if turn is not None or _pulled(context, TURN) is not None:
        context["ti"].xcom_push(key=TURN, value=None if turn is None else turn.to_dict())


def kept_turn(context: Mapping[str, Any]) -> Turn | None:
    """What :func:`keep_turn` has kept."""
    kept = _pulled(context, TURN)
    return Turn.from_dict(kept) if isinstance(kept, Mapping) else None


def _pulled(context: Mapping[str, Any], key: str) -> Any:
    ti = context["ti"]
    return ti.xcom_pull(task_ids=ti.task_id, key=key, map_indexes=ti.map_index)


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
