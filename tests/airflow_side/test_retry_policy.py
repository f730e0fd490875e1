"""The retry policy: how soon a try follows which exception, and what it says on an Airflow that knows no policies."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

import runops.airflow
from runops.airflow import exceptions
from runops.core.model.errors import ConfigurationError

pytestmark = pytest.mark.promise("`runops_retry_policy()`")

sdk: Any = pytest.importorskip("airflow.sdk")
knows_policies = pytest.mark.skipif(not hasattr(sdk, "ExceptionRetryPolicy"), reason="needs Airflow 3.3 or newer")


@knows_policies
@pytest.mark.parametrize(
    ("kind", "delay"),
    [
        ("RunTimedOut", 30),
        ("PollingError", 30),
        ("TriggerCrashed", 30),
        ("ConflictError", 300),
        ("ServiceUnavailable", 300),
        ("RunFailed", None),
    ],
)
def test_the_policy_retries_soon_where_a_retry_re_attaches(kind: str, delay: float | None) -> None:
    policy = runops.airflow.runops_retry_policy()
    decision = policy.evaluate(getattr(exceptions, kind)("told"), try_number=1, max_tries=3)
    assert decision.action.value == ("default" if delay is None else "retry")
    assert decision.retry_delay == (None if delay is None else timedelta(seconds=delay))


@knows_policies
def test_the_policy_survives_the_serialisation_of_a_dag() -> None:
    policy = runops.airflow.runops_retry_policy(busy_delay=timedelta(seconds=7))
    again = type(policy).deserialize(policy.serialize())
    decision = again.evaluate(exceptions.ConflictError("told"), try_number=1, max_tries=3)
    assert decision.retry_delay == timedelta(seconds=7)


@knows_policies
def test_other_exceptions_are_left_to_the_task() -> None:
    decision = runops.airflow.runops_retry_policy().evaluate(ValueError("other"), try_number=1, max_tries=3)
    assert decision.action.value == "default"


def test_below_3_3_the_policy_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(sdk, "ExceptionRetryPolicy", raising=False)
    lazy = dict(getattr(sdk, "__lazy_imports", {}))
    lazy.pop("ExceptionRetryPolicy", None)
    monkeypatch.setattr(sdk, "__lazy_imports", lazy, raising=False)
    with pytest.raises(ConfigurationError, match=r"needs Airflow 3\.3 or newer, and this is 3\."):
        runops.airflow.runops_retry_policy()
