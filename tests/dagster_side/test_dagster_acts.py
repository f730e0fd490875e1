"""Resources that resume and retry, and steps that submit a retry: once, whatever dies in between."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from runops.core import ConflictError, NotSupported, Outcome, Phase, SubmitUncertainError, WrongState
from runops.dagster import B3osResource, NexioResource, OnepinResource, RunResource, build_run_asset
from tests.dagster_side.test_dagster_retries import dying as dying
from tests.services import WORKFLOW

PROJECT = Path(__file__).resolve().parents[2] / "examples" / "dagster" / "src"
PARENT = {"workflow_id": "wf_1"}


@pytest.fixture
def b3os(service: Callable[[str], Any], clock: Any) -> Any:
    return service("b3os")


def failed(b3os: Any, **options: Any) -> str:
    ref = b3os.made(script="failed", parents=PARENT, **options)
    b3os.emulator.advance(None, run_id=ref.run_id)
    return ref.run_id


def posts(b3os: Any) -> list[str]:
    return [entry["run_id"] for entry in b3os.emulator.requests(action="retry")]


def asset_of(b3os: Any, run_id: str, **options: Any) -> dg.AssetsDefinition:
    options.setdefault("retry_policy", dg.RetryPolicy(max_retries=2))
    call = b3os.resource.retry_call(run_id, "wf_1")
    return build_run_asset(key="again", resource_key="b3os", call=lambda context: call, **options)


# --- resources -------------------------------------------------------------------------------------------------


def test_a_resource_has_a_paused_run_go_on(service: Callable[[str], Any], clock: Any) -> None:
    runs = service("onepin")
    ref = runs.made(script="paused")
    runs.emulator.advance(15)
    assert runs.resource.resume(ref.run_id, WORKFLOW).phase is Phase.RUNNING
    assert runs.resource.resume(ref).phase is Phase.RUNNING
    generic = RunResource(provider="onepin", api_key="k", base_url=runs.base_url)
    assert generic.resume(ref.run_id, {"workflow_id": WORKFLOW}).phase is Phase.RUNNING
    assert len(runs.emulator.requests(action="resume")) == 1


def test_a_resource_s_resume_tells_why_it_cannot_be(service: Callable[[str], Any], clock: Any) -> None:
    runs = service("onepin")
    refused, over = runs.made(script="paused", on_resume="refused"), runs.made(script="succeeded")
    runs.emulator.advance(None)
    with pytest.raises(ConflictError, match="stays paused"):
        runs.resource.resume(refused)
    with pytest.raises(WrongState, match="only a run that is paused"):
        runs.resource.resume(over)


def test_a_resource_retries_a_failed_run(b3os: Any) -> None:
    run_id = failed(b3os)
    again = b3os.resource.retry(run_id)
    assert again.run_id != run_id
    assert b3os.resource.wait(again).outcome is Outcome.SUCCEEDED
    generic = RunResource(provider="b3os", api_key="k", base_url=b3os.base_url)
    assert generic.retry(run_id).run_id not in (run_id, again.run_id)
    assert generic.retry_call(run_id, PARENT) == b3os.resource.retry_call(run_id, "wf_1")


def test_a_resource_s_retry_whose_answer_is_lost_is_uncertain(b3os: Any) -> None:
    run_id = failed(b3os)
    b3os.emulator.add_fault(kind="reset", when="after", provider="b3os", action="retry")
    with pytest.raises(SubmitUncertainError):
        b3os.resource.retry(run_id)
    assert posts(b3os) == [run_id]


def test_a_missing_ability_is_a_missing_method() -> None:
    kinds = (NexioResource, OnepinResource, B3osResource)
    found = {kind: [act for act in ("resume", "retry") if hasattr(kind, act)] for kind in kinds}
    assert found == {NexioResource: [], OnepinResource: ["resume"], B3osResource: ["retry"]}
    with pytest.raises(NotSupported, match="Nexio documents no way to resume a run"):
        RunResource(provider="nexio", api_key="k", base_url="http://127.0.0.1:9").resume("x")


# --- steps -----------------------------------------------------------------------------------------------------


def test_a_step_waits_for_the_retry_as_for_its_own_run(b3os: Any) -> None:
    run_id = failed(b3os)
    ended = b3os.materialize(asset_of(b3os, run_id))
    assert ended.materialized == ["again"]
    assert posts(b3os) == [run_id]
    assert b3os.submits == 0


def test_a_step_that_died_in_its_wait_takes_the_new_run_up_again(b3os: Any, dying: Callable[..., None]) -> None:
    run_id = failed(b3os)
    dying("wait")
    ended = b3os.materialize(asset_of(b3os, run_id))
    assert ended.materialized == ["again"]
    assert "Took up" in ended.log
    assert posts(b3os) == [run_id]


def test_a_step_that_lost_the_answer_sends_nothing_again(b3os: Any) -> None:
    run_id = failed(b3os)
    b3os.emulator.add_fault(kind="reset", when="after", provider="b3os", action="retry")
    ended = b3os.materialize(asset_of(b3os, run_id))
    assert not ended.success
    assert posts(b3os) == [run_id]


def test_a_retry_of_the_step_goes_on_from_the_run_that_failed_last(b3os: Any) -> None:
    """The first run failed earlier: to retry it again would repeat what the second one has done since."""
    first = failed(b3os, on_retry="failed")
    b3os.emulator.set_defaults("b3os", script="failed", seconds=20)
    assert not b3os.materialize(asset_of(b3os, first)).success
    known = [run["run_id"] for run in b3os.emulator.runs(provider="b3os")]
    assert posts(b3os) == known[:3]


def test_it_does_so_as_well_after_a_refusal_of_its_own_post(b3os: Any) -> None:
    first = failed(b3os, on_retry="failed")
    b3os.emulator.add_fault(kind="status", status=409, provider="b3os", action="retry", skip=1)
    ended = b3os.materialize(asset_of(b3os, first, on_conflict="fail"))
    assert ended.materialized == ["again"]
    second = b3os.emulator.runs(provider="b3os")[1]["run_id"]
    assert posts(b3os) == [first, second, second]


def test_a_run_that_has_not_failed_fails_the_step_before_anything_is_sent(b3os: Any) -> None:
    ref = b3os.made(script="succeeded", parents=PARENT)
    b3os.emulator.advance(None)
    ended = b3os.materialize(asset_of(b3os, ref.run_id))
    assert not ended.success
    assert "only one that failed can be retried" in ended.log
    assert posts(b3os) == []


# --- the example -----------------------------------------------------------------------------------------------


@pytest.fixture
def decisions(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(PROJECT)
    from agent_desk.defs import decisions

    return decisions


@pytest.mark.parametrize(("go_on", "state"), [(True, "running"), (False, "cancelled")])
def test_the_example_s_job_does_what_a_person_has_decided_of_a_paused_run(
    service: Callable[[str], Any], clock: Any, decisions: Any, go_on: bool, state: str
) -> None:
    runs = service("onepin")
    ref = runs.made(script="paused")
    runs.emulator.advance(15)
    config = {"run_id": ref.run_id, "workflow_id": WORKFLOW, "go_on": go_on}
    ended = decisions.resume_announcement.execute_in_process(
        {"ops": {"go_on_or_stop": {"config": config}}},
        resources={"onepin_by_hand": runs.resource},
        instance=runs.instance,
    )
    assert state in ended.output_for_node("go_on_or_stop")


def test_the_example_s_job_retries_a_failed_run_once_and_waits_for_the_new_one(b3os: Any, decisions: Any) -> None:
    run_id = failed(b3os)
    ended = decisions.retry_payout.execute_in_process(
        {"ops": {"pay_out_again": {"config": {"run_id": run_id, "workflow_id": "wf_1"}}}},
        resources={"b3os": b3os.resource},
        instance=b3os.instance,
    )
    assert ended.output_for_node("pay_out_again") == b3os.emulator.runs(provider="b3os")[1]["run_id"]
    assert posts(b3os) == [run_id]
