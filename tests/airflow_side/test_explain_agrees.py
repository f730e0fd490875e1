"""``runops explain`` agrees with what a task did, in every case of the matrix of ends and of good ends."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from runops.cli import settings
from runops.core import PROVIDERS
from tests.airflow_host.matrix import ENDS, SOFT_ENDS
from tests.explained import agrees, explained
from tests.good_ends import CASES, Case
from tests.services import PARENTS

SCRIPTS = {"timed_out": "forever"}


@pytest.fixture
def told(host: Any, served: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """``told("nyx", run, said)``: what explain says of a run that the task has waited for."""
    for name, provider in PROVIDERS.items():
        monkeypatch.setenv(provider.key_variable, "k")
        monkeypatch.setenv(f"{name.upper()}_BASE_URL", served.base_url(name))
    monkeypatch.setattr(settings, "connect", partial(settings.connect, clock=host.clock, sleep=host.clock.sleep))

    def ask(provider: str, run: dict[str, str], said: dict[str, Any]) -> dict[str, Any]:
        return explained(capsys, provider, run["run_id"], PARENTS.get(provider, {}), said)

    return ask


@pytest.mark.parametrize(
    ("provider", "scenario", "said"),
    [
        *((*end, said) for end in ENDS for said in ({}, {"on_outcome": {"degraded": "warn"}})),
        *((provider, scenario, {"soft_fail": True}) for provider, scenario in SOFT_ENDS),
        ("nyx", "succeeded", {"on_outcome": {"succeeded": "fail", "exhausted": "succeed"}}),
        ("nyx", "exhausted", {"on_outcome": {"succeeded": "fail", "exhausted": "succeed"}}),
    ],
)
def test_explain_agrees_with_every_end_of_the_matrix(
    provider: str, scenario: str, said: dict[str, Any], host: Any, sensors: Any, told: Any
) -> None:
    run = host.made(provider, script=SCRIPTS.get(scenario, scenario))
    ended = host.run(sensors[provider](task_id="w", **run, timeout=300, deferrable=False, **said))
    result = ended.xcoms["run"]
    assert result["outcome"] == scenario
    agrees(told(provider, run, said), result)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_explain_agrees_with_every_good_end(case: Case, host: Any, sensors: Any, told: Any) -> None:
    said = {
        name: {detail: wanted for detail, wanted in value.items() if not isinstance(wanted, list)}
        if name == "expect"
        else value
        for name, value in case.said().items()
    }
    run = host.made(case.provider, **case.run())
    ended = host.run(sensors[case.provider](task_id="w", **run, deferrable=False, **said))
    agrees(told(case.provider, run, said), ended.xcoms["run"])
