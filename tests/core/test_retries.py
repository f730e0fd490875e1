"""A retry of a failed run: a submit in all but its route. Over real connections, in both clients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import pytest

from runops.core import (
    PROVIDERS,
    AuthError,
    ConfigurationError,
    ConflictError,
    NotSupported,
    Outcome,
    RunRef,
    SubmitUncertainError,
    WrongState,
)
from runops.core.model.errors import TransientError
from runops.core.waiting.retry_call import following, retry_call

RETRIERS = [name for name, provider in PROVIDERS.items() if provider.retry is not None]
PARENT = {"workflow_id": "wf_1"}
LOST = [
    {"kind": "reset", "when": "after"},
    {"kind": "half_body"},
    {"kind": "status", "status": 502, "when": "after"},
    {"kind": "html", "status": 200, "when": "after"},
    {"kind": "json", "status": 200, "body": {"data": {}}, "when": "after"},
]


@pytest.fixture
def runs(runs_of: Callable[..., Any]) -> Any:
    return runs_of("b3os")


def failed(runs: Any, **options: Any) -> RunRef:
    ref = runs.made(script="failed", parents=PARENT, **options)
    runs.emulator.advance(None, run_id=ref.run_id)
    return ref


def posts(runs: Any) -> int:
    return len(runs.requests(method="POST"))


def others(runs: Any, *known: RunRef) -> list[Mapping[str, Any]]:
    """The runs that the service has beside those that a test has made."""
    names = {ref.run_id for ref in known}
    return [run for run in runs.emulator.runs(provider="b3os") if run["run_id"] not in names]


def test_one_service_documents_a_retry() -> None:
    assert RETRIERS == ["b3os"]


def test_a_failed_run_goes_on_as_a_new_run_that_can_be_waited_for(runs: Any) -> None:
    ref = failed(runs)
    again = runs("retry", ref)
    assert again.run_id != ref.run_id
    last = runs("wait", again, 600)
    assert last.outcome is Outcome.SUCCEEDED
    assert last.details["sourceRunId"] == ref.run_id
    assert runs("get", ref).outcome is Outcome.FAILED
    assert posts(runs) == 1


def test_the_new_run_may_fail_as_well_and_be_retried_in_its_turn(runs: Any) -> None:
    first = failed(runs, on_retry="failed")
    second = runs("retry", first)
    assert runs("wait", second, 600).outcome is Outcome.FAILED
    third = runs("retry", second)
    assert len({first.run_id, second.run_id, third.run_id}) == 3


@pytest.mark.parametrize("script", ["running", "waiting", "succeeded", "cancelled"])
def test_a_run_that_has_not_failed_is_refused_by_its_state_before_anything_is_sent(runs: Any, script: str) -> None:
    ref = runs.made(script=script, parents=PARENT)
    runs.emulator.advance(None)
    with pytest.raises(WrongState, match=r"only one that failed can be retried\. Nothing was submitted") as caught:
        runs("retry", ref)
    assert f"{ref} is {caught.value.snapshot.state}" in str(caught.value)
    assert posts(runs) == 0


def test_the_list_of_the_workflow_is_read_before_the_post_and_the_post_goes_out_alone(runs: Any) -> None:
    ref = failed(runs)
    runs("retry", ref)
    actions = [entry["action"] for entry in runs.requests()]
    assert actions[-2:] == ["list", "retry"]
    reads = {entry["client"] for entry in runs.requests(action="get")}
    (post,) = runs.requests(action="retry")
    assert post["client"] not in reads, "a connection that has stood idle could swallow it"


@pytest.mark.parametrize("trouble", LOST, ids=lambda trouble: str(trouble["kind"]))
def test_a_lost_answer_is_uncertain_with_the_candidates_and_nothing_is_sent_again(
    runs: Any, trouble: dict[str, Any]
) -> None:
    ref = failed(runs)
    runs.emulator.add_fault(provider="b3os", action="retry", **trouble)
    with pytest.raises(SubmitUncertainError) as caught:
        runs("retry", ref)
    (made,) = others(runs, ref)
    assert [each.run_id for each in caught.value.candidates] == [made["run_id"]]
    assert not caught.value.may_be_found
    assert posts(runs) == 1


def test_a_source_that_a_run_names_proves_nothing(runs: Any) -> None:
    """What that field says is documented nowhere: another's retry of the same run would show it too."""
    ref = failed(runs)
    runs.emulator.add_fault(kind="reset", when="after", provider="b3os", action="retry")
    with pytest.raises(SubmitUncertainError):
        runs("retry", ref)
    (made,) = others(runs, ref)
    assert made["fields"]["sourceRunId"] == ref.run_id


def test_with_adopt_uncertain_the_single_new_run_is_taken_after_the_whole_grace(runs: Any) -> None:
    ref = failed(runs)
    runs.emulator.add_fault(kind="reset", when="after", provider="b3os", action="retry")
    again = runs("retry", ref, adopt_uncertain=True, submit_grace=60)
    assert [again.run_id] == [run["run_id"] for run in others(runs, ref)]
    assert runs.clock.passed >= 60
    assert posts(runs) == 1


def test_a_lost_answer_that_started_nothing_is_uncertain_all_the_same(runs: Any) -> None:
    ref = failed(runs)
    runs.emulator.add_fault(kind="reset", provider="b3os", action="retry")
    with pytest.raises(SubmitUncertainError, match="No run of it could be found"):
        runs("retry", ref, adopt_uncertain=True)
    assert posts(runs) == 1


def test_an_answer_with_the_id_of_the_old_run_is_not_taken_for_the_new_one(runs: Any) -> None:
    ref = failed(runs)
    body = {"data": {"runId": ref.run_id}}
    runs.emulator.add_fault(kind="json", status=200, body=body, provider="b3os", action="retry")
    with pytest.raises(SubmitUncertainError, match="no usable run id"):
        runs("retry", ref)


def test_429_is_sent_again_when_the_service_wants_it(runs: Any) -> None:
    ref = failed(runs)
    runs.emulator.add_fault(kind="status", status=429, retry_after=7, provider="b3os", action="retry", count=2)
    runs("retry", ref)
    assert posts(runs) == 3
    assert len(others(runs, ref)) == 1
    assert runs.clock.passed >= 14


def test_409_is_waited_out_and_the_run_is_read_again_before_each_post(runs: Any) -> None:
    ref = failed(runs)
    runs.emulator.add_fault(kind="status", status=409, provider="b3os", action="retry", count=2)
    runs("retry", ref, timeout=600)
    actions = [entry["action"] for entry in runs.requests() if entry["action"] in ("get", "retry")]
    assert actions.count("retry") == 3
    assert [before for before, after in pairwise(actions) if after == "retry"] == ["get"] * 3


def test_409_with_fail_is_a_conflict(runs: Any) -> None:
    ref = failed(runs)
    runs.emulator.add_fault(kind="status", status=409, provider="b3os", action="retry", count=None)
    with pytest.raises(ConflictError):
        runs("retry", ref, on_conflict="fail")
    assert posts(runs) == 1


def test_a_list_that_cannot_be_read_does_not_stop_the_retry(runs: Any) -> None:
    ref = failed(runs)
    runs.emulator.add_fault(kind="status", status=403, provider="b3os", action="list", count=None)
    assert runs("retry", ref).run_id != ref.run_id


def test_a_run_that_cannot_be_read_does(runs: Any) -> None:
    ref = failed(runs)
    runs.emulator.add_fault(kind="reset", provider="b3os", action="get", count=None)
    with pytest.raises(TransientError):
        runs("retry", ref)
    assert posts(runs) == 0


def test_a_bad_key_is_an_auth_error_and_nothing_is_sent(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("b3os", token="invalid-key")
    with pytest.raises(AuthError):
        runs("retry", failed(runs))
    assert posts(runs) == 0


@pytest.mark.parametrize("provider", [name for name in PROVIDERS if name not in RETRIERS])
def test_the_others_document_none_and_nothing_is_sent(runs_of: Callable[..., Any], provider: str) -> None:
    runs = runs_of(provider)
    with pytest.raises(NotSupported, match="documents no way to retry a run"):
        runs("retry", runs.made(script="failed"))
    assert runs.requests() == []


def test_a_wrong_name_is_refused_with_the_nearest_right_one(runs: Any) -> None:
    with pytest.raises(ConfigurationError, match="adopt_uncertain"):
        runs("retry", failed(runs), adopt_uncertan=True)
    assert posts(runs) == 0


def test_a_wait_for_a_failed_run_never_retries_it(runs: Any) -> None:
    assert runs("wait", failed(runs), 600).outcome is Outcome.FAILED
    assert posts(runs) == 0


# --- as a call, which hosts submit -----------------------------------------------------------------------------


def test_a_retry_is_a_call_that_every_host_can_submit(runs: Any) -> None:
    ref = failed(runs)
    call = retry_call(runs.provider, ref, PARENT)
    assert (call.parent, call.retry_of, call.json) == (PARENT, ref.run_id, None)
    assert runs("submit", call).run_id != ref.run_id


def test_the_run_of_another_workflow_is_refused_before_the_post(runs: Any) -> None:
    call = retry_call(runs.provider, failed(runs), {"workflow_id": "wf_2"})
    with pytest.raises(ConfigurationError, match="is of workflow_id 'wf_1', not of workflow_id 'wf_2'"):
        runs("submit", call)
    assert posts(runs) == 0


def test_what_follows_a_retry_that_failed_is_a_retry_of_its_own_run(runs: Any) -> None:
    """The first run failed earlier: to retry it again would repeat what the second one has done."""
    first = retry_call(runs.provider, runs.ref("run_1"), PARENT)
    second = following(runs.provider, first, runs.ref("run_2"))
    assert (second.retry_of, second.path, second.parent) == ("run_2", "/v1/runs/run_2/retry", PARENT)
    plain = runs.provider.call(workflow_id="wf_1")
    assert following(runs.provider, plain, runs.ref("run_2")) is plain


def test_a_process_that_died_after_the_post_is_followed_by_a_look_and_no_post(runs: Any) -> None:
    ref = failed(runs)
    call = retry_call(runs.provider, ref, PARENT)
    kept: list[Any] = []
    runs("submit", call, before=kept.append)
    with pytest.raises(SubmitUncertainError):
        runs("submit_again", call, kept[0], submit_grace=0)
    assert posts(runs) == 1
