"""What the end of a set of runs becomes in Airflow: XComs, and a return, a warning, a skip or an exception.

The only place that does it, for sensors and operators alike. A run is judged as a single one is; what the whole means
says :class:`~runops.core.many.tally.Tally`:

- enough runs ended well (succeed, warn or skip), and one at least by succeed or warn: the task succeeds, with a warning
  where any run was a warning or a failure;
- enough ended well, and all of them are skips: the task is skipped, as that of a single run is;
- too few: the task fails. Another try follows where runs that it may repeat or wait for again could make up for it;
  otherwise the exception is a final one. Its kind is that of the most runs that decide it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runops.airflow._compat import AirflowException, AirflowSkipException
from runops.airflow.asset_events import name_in_events, set_in_event
from runops.airflow.exceptions import (
    RunCancelled,
    RunEnded,
    RunFailed,
    RunopsException,
    RunRejected,
    RunTimedOut,
    meaning_of,
)
from runops.airflow.link import RUN_URL
from runops.airflow.metrics import METER
from runops.airflow.task_record import TaskRecord
from runops.airflow.traces import TaskTrace, another_try_follows
from runops.airflow.verdicts import RUN
from runops.core import Outcome, Provider, RunResult, Verdict
from runops.core.many.ledger import Ledger
from runops.core.many.results import ManyResult, compact, summary
from runops.core.many.rows import PASSING, Row
from runops.core.many.rules import ManyRules
from runops.core.model.codes import Code, with_code
from runops.core.model.run import RunRef

RUNS = "runs"
"""The XCom key of one compact row for each run."""
MOST_NAMED = 3
"""So many runs are named in the text of an exception."""


@dataclass(frozen=True, kw_only=True)
class SetEnd:
    """How a set of runs ended.

    :param provider: Whose runs they are.
    :param ledger: All rows.
    :param rules: What was required.
    :param full: The last snapshots of runs that failed, as results, by index, as far as they are known in full.
    :param kept: Results of an earlier try that stand.
    :param reported: The rows whose end an earlier try has reported.
    :param submitted: Runs that this try has submitted.
    """

    provider: Provider
    ledger: Ledger
    rules: ManyRules
    full: Mapping[int, RunResult] = field(default_factory=dict[int, RunResult])
    kept: int = 0
    reported: frozenset[int] = frozenset()
    submitted: int = 0

    @property
    def verdict(self) -> Verdict:
        """What it means for the task."""
        return self.ledger.tally.verdict(self.rules.require)

    @property
    def line(self) -> str:
        """The whole in one line."""
        return self.ledger.tally.line(self.provider)

    @property
    def bad(self) -> list[Row]:
        """The runs that count against what was required: a fail verdict, or an error."""
        return [row for row in self.ledger if row.is_over and (row.verdict is Verdict.FAIL or row.error is not None)]

    def result(self) -> ManyResult:
        """All of it as plain data."""
        return summary(
            self.ledger,
            self.provider,
            self.rules,
            results=self.full,
            stopped_early=any(row.ended_by == "stop_early" for row in self.ledger),
            kept=self.kept,
            submitted=self.submitted,
        )


def sensor_may_change(row: Row) -> bool:
    """Whether another try of a sensor may see a run end otherwise: it reads the same one again.

    :param row: A run that did not end well.
    """
    return row.error in PASSING or row.ended_by == "execution_timeout" or not row.is_over


def publish_set(context: Mapping[str, Any], end: SetEnd) -> ManyResult:
    """Push how a set stands: ``run`` has the counts, ``runs`` one row for each run. For every end, errors included.

    :param context: The task's context.
    :param end: How it ended, or how it stood when an error ended it.
    """
    result, ti = end.result(), context["ti"]
    ti.xcom_push(key=RUN, value=dict(result))
    ti.xcom_push(key=RUNS, value=[compact(row, end.provider) for row in end.ledger])
    return result


def push_link(context: Mapping[str, Any], ledger: Ledger, provider: Provider) -> None:
    """Have the task's button open the first run that did not end well, or else the first one that is known.

    :param context: The task's context.
    :param ledger: All rows.
    :param provider: Whose runs they are.
    """
    url = link_of(ledger, provider)
    if url is not None:
        context["ti"].xcom_push(key=RUN_URL, value=url)


def link_of(ledger: Ledger, provider: Provider) -> str | None:
    """The page of the first run that did not end well, or else of the first one that is known.

    :param ledger: All rows.
    :param provider: Whose runs they are.
    """
    known = [row for row in ledger if row.run_id is not None]
    row = next((row for row in known if row.is_over and not row.good), known[0] if known else None)
    ref = None if row is None else row.ref(provider.name)
    return None if row is None or ref is None else row.url or provider.url(ref)


def apply_set_verdict(
    context: Mapping[str, Any],
    end: SetEnd,
    *,
    log: Any,
    failed: type[RunFailed] = RunFailed,
    timed_out: type[RunTimedOut] = RunTimedOut,
    retry_may_change: Callable[[Row], bool] = lambda row: row.retry_may_change,
    record: TaskRecord | None = None,
) -> ManyResult:
    """End a task as the runs of its set have ended.

    :param context: The task's context.
    :param end: How they ended.
    :param log: Where it says so.
    :param failed: What to raise where the decisive runs failed.
    :param timed_out: What to raise where a clock of the wait ended them.
    :param retry_may_change: Whether another try of the task may bring a run to another end.
    :param record: Who stores the end for the page "External runs".
    :return: What the task returns.
    :raises AirflowSkipException: Enough runs ended well, but each of them says skip.
    :raises RunFailed: Too few ended well; and so RunCancelled, RunTimedOut, RunRejected, PollingError and others.
    """
    result = publish_set(context, end)
    if record is not None:
        record.ended_as_set(end.ledger.tally, str(end.verdict))
    message = f"{end.line}. Required: {_required(end)}."
    error: AirflowException | None = None
    if end.verdict is Verdict.FAIL:
        error = _failure(end, message, result, failed, timed_out, retry_may_change)
    _tell_rows(context, end, log, error, reads_again=retry_may_change is sensor_may_change)
    match end.verdict:
        case Verdict.SUCCEED:
            log.info("%s%s", message, _of_skips(end))
            _name_in_events(context, end, result, log)
        case Verdict.WARN:
            log.warning("%s", with_code(f"{message} The task succeeds.{_named(end.bad, end)}", Code.RUN_WARNED))
            _name_in_events(context, end, result, log)
        case Verdict.SKIP:
            message = f"{message} The task is skipped, because the verdict on every run that ended well is skip."
            message = with_code(message, Code.RUN_SKIPPED)
            log.info("%s", message)
            raise AirflowSkipException(message)
        case Verdict.FAIL:
            assert error is not None
            raise error
    return result


def _tell_rows(
    context: Mapping[str, Any], end: SetEnd, log: Any, error: AirflowException | None, *, reads_again: bool
) -> None:
    """Count and trace how the runs ended, each once: what another try waits for again is told by that one."""
    rows = [row for row in end.ledger if row.index not in end.reported]
    if another_try_follows(context, error):
        rows = [] if reads_again else [row for row in rows if not row.may_be_alive]
    METER.set_ended(end.provider, rows)
    ti = context["ti"]
    TaskTrace(ti, log).set_ended(end.provider, rows, end.verdict, ti.start_date.timestamp)


def _name_in_events(context: Mapping[str, Any], end: SetEnd, result: ManyResult, log: Any) -> None:
    url = link_of(end.ledger, end.provider)
    name_in_events(context, set_in_event(end.provider, result, end.verdict, url), log)


def _failure(
    end: SetEnd,
    message: str,
    result: ManyResult,
    failed: type[RunFailed],
    timed_out: type[RunTimedOut],
    retry_may_change: Callable[[Row], bool],
) -> RunopsException:
    bad = end.bad
    hopeless = [row for row in bad if not retry_may_change(row)]
    helps = len(end.ledger) - len(hopeless) >= end.rules.require.needed(len(end.ledger))
    decisive = [row for row in bad if retry_may_change(row)] if helps else hopeless
    kinds = Counter(_kind(row, failed, timed_out) for row in decisive)
    # What was not even submitted when a clock ended the set is no reason to give up for good.
    otherwise = RunRejected if all(row.is_over for row in end.ledger) else timed_out
    kind = kinds.most_common(1)[0][0] if kinds else otherwise
    text = f"{message} {_too_few(end)}{_named(decisive, end)}"
    if not helps and len(hopeless) < len(bad):
        text = f"{text} No retry could make up for {len(hopeless):,} of them."
    if issubclass(kind, RunEnded):
        return kind(text, result, error_code=Code.TOO_FEW_RUNS)
    return kind(text, error_code=Code.TOO_FEW_RUNS)


def _kind(row: Row, failed: type[RunFailed], timed_out: type[RunTimedOut]) -> type[RunopsException]:
    if row.error is not None:
        return meaning_of(row.error, may_be_found=row.intent is not None and row.intent.mark is not None)
    match row.outcome:
        case Outcome.FAILED:
            return failed
        case Outcome.CANCELLED:
            return RunCancelled
        case Outcome.TIMED_OUT:
            return RunTimedOut if row.ended_by == "execution_timeout" else timed_out
        case _:
            return RunRejected


def _required(end: SetEnd) -> str:
    needed, total = end.rules.require.needed(len(end.ledger)), len(end.ledger)
    return f"{end.rules.require} ({needed:,} of {total:,})"


def _too_few(end: SetEnd) -> str:
    return f"{end.ledger.tally.good:,} ended well, which is too few."


def _of_skips(end: SetEnd) -> str:
    skipped = end.ledger.tally.verdicts[Verdict.SKIP]
    return f" The verdict on {skipped:,} of them is skip." if skipped else ""


def _named(rows: Sequence[Row], end: SetEnd) -> str:
    """The first runs that decide it, for people."""
    named = [_in_words(row, end.provider) for row in rows[:MOST_NAMED]]
    if not named:
        return ""
    more = f"; and {len(rows) - len(named):,} more, in the XCom {RUNS}" if len(rows) > len(named) else ""
    return f" {'; '.join(named)}{more}."


def _in_words(row: Row, provider: Provider) -> str:
    ref = row.ref(provider.name)
    status = row.error or row.ended_by or str(row.outcome or row.state)
    shown = f"[{row.index}] {_run(ref)} {status}"
    url = row.url or (provider.url(ref) if ref else None)
    return shown + (f", {row.reason.rstrip('.')}" if row.reason else "") + (f" ({url})" if url else "")


def _run(ref: RunRef | None) -> str:
    return "not submitted:" if ref is None else f"{ref}:"
