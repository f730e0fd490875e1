"""A policy that travels as JSON judges every end as the one that it was made of."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from runops.core import PROVIDERS, ConfigurationError, Outcome, OutcomePolicy, RunRef, RunSnapshot, Verdict
from runops.core.model.policy import DEFAULT_VERDICTS

POLICIES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "soft_fail": {"soft_fail": True},
    "on_outcome": {"on_outcome": {"degraded": "warn", "exhausted": "succeed", "succeeded": "fail"}},
    "on_outcome_over_soft_fail": {"soft_fail": True, "on_outcome": {"failed": "fail", "timed_out": "warn"}},
    "provider": {"provider_verdicts": {Outcome.DEGRADED: Verdict.WARN}},
    "expect": {"expect": {"attempts": ">= 1", "stage": ["a", "b"], "flag": True, "name": "!= x"}, "on_unmet": "skip"},
    "expect_fails": {"expect": {"spent": "< 2.5"}, "soft_fail": True},
}
DETAILS: list[dict[str, Any]] = [
    {},
    {"attempts": 1, "stage": "b", "flag": True, "name": "y", "spent": 2},
    {"attempts": 0, "stage": "c", "flag": "false", "name": "x", "spent": 2.5},
    {"attempts": 3, "stage": "a", "flag": "True", "name": "z", "spent": "1"},
]


def travelled(policy: OutcomePolicy) -> OutcomePolicy:
    return OutcomePolicy.from_dict(json.loads(json.dumps(policy.to_dict())))


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_that_travelled_judges_every_end_alike(name: str) -> None:
    policy = OutcomePolicy.build(**POLICIES[name])
    arrived = travelled(policy)
    assert arrived == policy
    for outcome, details in itertools.product(Outcome, DETAILS):
        ended_by = "timeout" if outcome is Outcome.TIMED_OUT else None
        ref = RunRef(provider="nyx", run_id="r-1")
        snapshot = RunSnapshot(ref=ref, state="x", outcome=outcome, details=details, ended_by=ended_by)
        expected = policy.judge(snapshot)
        assert arrived.judge(snapshot) == expected
        assert arrived.judge(snapshot).because == expected.because
        assert arrived.judge(snapshot).result(snapshot) == expected.result(snapshot)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_providers_own_policy_travels(provider: str) -> None:
    policy = PROVIDERS[provider].policy({"cancelled": "skip"})
    assert travelled(policy) == policy


def test_an_execution_timeout_fails_whatever_the_policy_that_travelled_says() -> None:
    policy = travelled(OutcomePolicy.build({"timed_out": "warn"}, soft_fail=True))
    ref = RunRef(provider="nyx", run_id="r-1")
    snapshot = RunSnapshot(ref=ref, state=None, outcome=Outcome.TIMED_OUT, ended_by="execution_timeout")
    assert policy.judge(snapshot).verdict is Verdict.FAIL


def test_what_a_later_version_adds_to_explain_is_left_out_and_what_is_missing_is_the_default() -> None:
    later = {
        "verdicts": {"failed": "skip", "evaporated": "fail"},
        "rules": {"failed": "weather", "evaporated": "on_outcome"},
        "colour": "blue",
    }
    policy = OutcomePolicy.from_dict(later)
    assert dict(policy.verdicts) == {**DEFAULT_VERDICTS, Outcome.FAILED: Verdict.SKIP}
    assert not policy.rules
    assert policy.on_unmet is Verdict.FAIL
    assert OutcomePolicy.from_dict({}) == OutcomePolicy.build()


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (None, "NoneType"),
        ([1], "list"),
        ({"verdicts": "all"}, "verdicts"),
        ({"verdicts": {"failed": "shrug"}}, "shrug"),
        ({"on_unmet": "shrug"}, "shrug"),
        ({"expect": {"a": {"sign": "~", "values": [1]}}}, "~"),
        ({"expect": {"a": {"sign": "=="}}}, "=="),
        ({"expect": {"a": ">= 1"}}, "condition"),
        ({"rules": [1]}, "rules"),
    ],
)
def test_what_would_judge_by_something_else_than_the_task_says_is_refused(value: object, names: str) -> None:
    with pytest.raises(ConfigurationError, match=names):
        OutcomePolicy.from_dict(value)
