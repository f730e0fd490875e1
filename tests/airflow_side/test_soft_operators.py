"""``soft_fail`` of operators: it means what it means for a sensor, in every mode, for one run and for many."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from runops.airflow import NexioRunOperator, NyxRunOperator, RunsOperator
from runops.airflow._compat import AirflowSkipException
from runops.airflow.exceptions import AuthError, RunFailed, RunRejected, RunTimedOut
from runops.core import ConfigurationError
from tests.services import CALLS, SUBMITTING

WAYS = ({"deferrable": False}, {"deferrable": True})


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("provider", SUBMITTING)
def test_a_failed_run_skips_a_soft_operator_and_leaves_its_result(
    host: Any, operators: Any, provider: str, way: Any
) -> None:
    host.emulator.set_defaults(provider=provider, script="failed", seconds=100)
    ended = host.run(operators[provider](task_id="a_task", **CALLS[provider], soft_fail=True, **way))
    assert type(ended.error) is AirflowSkipException
    assert (ended.xcoms["run"]["outcome"], ended.xcoms["run"]["verdict"]) == ("failed", "skip")
    hard = host.run(operators[provider](task_id="a_task", **CALLS[provider], **way))
    assert type(hard.error) is RunFailed


@pytest.mark.parametrize("way", WAYS)
def test_a_soft_operator_that_times_out_is_skipped_and_cancels_its_run(host: Any, way: Any) -> None:
    host.emulator.set_defaults(provider="nyx", script="running")
    ended = host.run(NyxRunOperator(task_id="a_task", **CALLS["nyx"], soft_fail=True, timeout=60, **way))
    assert type(ended.error) is AirflowSkipException
    assert len(host.emulator.requests(provider="nyx", action="cancel")) == 1


@pytest.mark.parametrize("way", WAYS)
def test_soft_fail_softens_no_wrong_key_no_unmet_expectation_and_no_execution_timeout(
    host: Any, connect: Any, way: Any
) -> None:
    soft: dict[str, Any] = {"task_id": "a_task", "soft_fail": True, **way}
    connect("nexio_other", "nexio", password="invalid-key", host=connections_host(host, "nexio"))
    wrong = NexioRunOperator(**CALLS["nexio"], nexio_conn_id="nexio_other", **soft)
    assert isinstance(host.run(wrong).error, AuthError)
    unmet = NyxRunOperator(**CALLS["nyx"], expect={"findings_count": 0}, **soft)
    assert type(host.run(unmet).error) is RunRejected
    host.emulator.set_defaults(provider="nyx", script="running")
    limited = NyxRunOperator(**CALLS["nyx"], execution_timeout=timedelta(seconds=60), **soft)
    if way["deferrable"]:
        assert type(host.run(limited).error) is RunTimedOut


def test_a_word_of_on_outcome_wins_over_soft_fail(host: Any) -> None:
    host.emulator.set_defaults(provider="nexio", script="failed")
    task = NexioRunOperator(task_id="a_task", **CALLS["nexio"], soft_fail=True, on_outcome={"failed": "fail"})
    assert type(host.run(task).error) is RunFailed


def test_many_runs_of_a_soft_operator_that_all_fail_are_skipped(host: Any) -> None:
    host.emulator.set_defaults(provider="nexio", script="failed", seconds=0.2)
    calls = [{"engine_slug": "placement", "input": {"nth": nth}} for nth in range(3)]
    task = RunsOperator(task_id="a_task", provider="nexio", calls=calls, soft_fail=True, deferrable=False)
    ended = host.run(task)
    assert type(ended.error) is AirflowSkipException
    assert ended.xcoms["run"]["verdicts"] == {"skip": 3}


def test_soft_fail_is_true_or_false_and_is_checked_when_the_dag_is_built() -> None:
    with pytest.raises(ConfigurationError, match=r"^soft_fail must be True or False, not 'false'\."):
        NexioRunOperator(task_id="a_task", **CALLS["nexio"], soft_fail="false")  # pyright: ignore[reportArgumentType]


def connections_host(host: Any, provider: str) -> str:
    from runops.airflow import RunHook

    return RunHook(provider=provider).get_connection(f"{provider}_default").host or ""
