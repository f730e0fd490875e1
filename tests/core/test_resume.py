"""A resume: what a read decides of it, over real connections, in both clients, at the only service that has one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from runops.core import PROVIDERS, AnswerError, AuthError, ConflictError, NotSupported, Outcome, Phase, WrongState
from runops.core.model.errors import TransientError
from runops.core.waiting.resume import RESUME_GRACE
from tests.services import WORKFLOW

RESUMERS = [name for name, provider in PROVIDERS.items() if provider.resume is not None]
LOST = [
    {"kind": "reset", "when": "after"},
    {"kind": "half_body"},
    {"kind": "status", "status": 502, "when": "after"},
    {"kind": "html", "status": 200, "when": "after"},
]


@pytest.fixture
def runs(runs_of: Callable[..., Any]) -> Any:
    return runs_of("onepin")


def paused(runs: Any, **options: Any) -> Any:
    ref = runs.made(script="paused", **options)
    runs.emulator.advance(15, provider="onepin")
    assert runs("get", ref).phase is Phase.PAUSED
    return ref


def sent(runs: Any) -> int:
    return len(runs.requests(action="resume"))


def test_one_service_documents_a_resume() -> None:
    assert RESUMERS == ["onepin"]


def test_a_paused_run_goes_on_under_its_own_id_and_ends_well(runs: Any) -> None:
    ref = paused(runs)
    now = runs("resume", ref)
    assert (now.ref, now.phase, now.state) == (ref, Phase.RUNNING, "running")
    assert runs("wait", ref, 600).outcome is Outcome.SUCCEEDED
    assert sent(runs) == 1


@pytest.mark.parametrize("script", ["queued", "running"])
def test_a_run_that_goes_on_already_is_left_as_it_is(runs: Any, script: str) -> None:
    ref = runs.made(script=script)
    runs.emulator.advance(None)
    assert runs("resume", ref).phase in (Phase.QUEUED, Phase.RUNNING)
    assert sent(runs) == 0


@pytest.mark.parametrize("script", ["succeeded", "failed", "cancelled"])
def test_a_run_that_is_over_is_refused_by_its_state_before_anything_is_sent(runs: Any, script: str) -> None:
    ref = runs.made(script=script)
    runs.emulator.advance(None)
    with pytest.raises(WrongState, match=r"only a run that is paused can be resumed\. Nothing was sent") as caught:
        runs("resume", ref)
    assert caught.value.snapshot.run_ended
    assert str(caught.value.snapshot.state) in str(caught.value)
    assert sent(runs) == 0


def test_a_run_that_shows_its_pause_a_moment_longer_is_looked_at_until_it_goes_on(runs: Any) -> None:
    late = [{"after": 5, "set": {"status": "running", "paused_at": None}}]
    ref = paused(runs, on_resume=late)
    now = runs("resume", ref)
    assert now.phase is Phase.RUNNING
    assert 5 <= runs.clock.passed < RESUME_GRACE
    assert sent(runs) == 1


def test_a_resume_that_was_accepted_and_changes_nothing_is_told_as_what_it_is(
    runs: Any, caplog: pytest.LogCaptureFixture
) -> None:
    ref = paused(runs, on_resume="ignored")
    now = runs("resume", ref)
    assert now.phase is Phase.PAUSED
    assert "was accepted, but the run does not go on yet" in caplog.text
    assert sent(runs) == 1
    assert RESUME_GRACE <= runs.clock.passed < RESUME_GRACE + 1


def test_a_run_that_pauses_again_at_once_is_known_by_its_new_pause(runs: Any) -> None:
    again = [
        {"after": 0, "set": {"status": "running", "paused_at": None}},
        {"after": 0.1, "set": {"status": "paused", "paused_at": "$now", "pause_reason": "provider_billing"}},
    ]
    ref = paused(runs, on_resume=again)
    runs.emulator.add_fault(kind="reset", when="after", provider="onepin", action="resume")
    runs.emulator.add_fault(kind="reset", provider="onepin", action="get", skip=1)
    now = runs("resume", ref)
    assert now.phase is Phase.PAUSED
    assert sent(runs) == 1, "nobody has asked for the second pause to end"


@pytest.mark.parametrize("trouble", LOST, ids=lambda trouble: str(trouble["kind"]))
def test_after_a_lost_answer_a_read_tells_that_it_took(runs: Any, trouble: dict[str, Any]) -> None:
    ref = paused(runs)
    runs.emulator.add_fault(provider="onepin", action="resume", **trouble)
    assert runs("resume", ref).phase is Phase.RUNNING
    assert sent(runs) == 1


def test_after_a_lost_answer_a_run_that_has_ended_by_then_was_resumed(runs: Any) -> None:
    ended = [{"after": 0, "set": {"status": "completed", "completed_at": "$now"}}]
    ref = paused(runs, on_resume=ended)
    runs.emulator.add_fault(kind="reset", when="after", provider="onepin", action="resume")
    assert runs("resume", ref).outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize(
    "trouble",
    [{"kind": "reset"}, {"kind": "status", "status": 500}, {"kind": "status", "status": 429, "retry_after": 3}],
    ids=["reset", "500", "429"],
)
def test_a_resume_that_did_not_take_is_asked_for_again(runs: Any, trouble: dict[str, Any]) -> None:
    ref = paused(runs)
    runs.emulator.add_fault(provider="onepin", action="resume", **trouble)
    assert runs("resume", ref).phase is Phase.RUNNING
    assert sent(runs) == 2
    assert runs.emulator.runs(run_id=ref.run_id)[0]["resumes"] == 1


def test_a_429_is_waited_out_as_the_service_asks_and_no_longer(runs: Any) -> None:
    ref = paused(runs)
    before = runs.clock.passed
    runs.emulator.add_fault(kind="status", status=429, retry_after=3, provider="onepin", action="resume")
    runs("resume", ref)
    assert 3 <= runs.clock.passed - before < RESUME_GRACE / 2


def test_a_run_that_is_over_when_the_second_request_comes_was_resumed_by_the_first(runs: Any) -> None:
    late = [{"after": RESUME_GRACE + 0.2, "set": {"status": "completed", "completed_at": "$now"}}]
    ref = paused(runs, on_resume=late)
    runs.emulator.add_fault(kind="reset", when="after", provider="onepin", action="resume")
    assert runs("resume", ref).outcome is Outcome.SUCCEEDED
    assert sent(runs) == 2


def test_a_resume_that_never_gets_through_is_an_error(runs: Any) -> None:
    ref = paused(runs)
    runs.emulator.add_fault(kind="status", status=503, provider="onepin", action="resume", count=None)
    with pytest.raises(TransientError, match="503"):
        runs("resume", ref)
    assert runs("get", ref).phase is Phase.PAUSED


def test_a_409_names_the_run_in_the_way_and_that_the_run_stays_paused(runs: Any) -> None:
    ref = paused(runs)
    other = runs.made(script="running")
    with pytest.raises(ConflictError, match=rf"stays paused. Active there now: run {other.run_id}") as caught:
        runs("resume", ref)
    assert [run.ref for run in caught.value.active] == [other]
    assert sent(runs) == 1


def test_a_409_for_the_limit_of_the_workspace_says_that_nothing_else_can_be_seen(runs: Any) -> None:
    ref = paused(runs, on_resume="refused")
    with pytest.raises(ConflictError, match=r"stays paused\. No other active run can be seen there") as caught:
        runs("resume", ref)
    assert caught.value.active == ()


@pytest.mark.parametrize("trouble", [{"kind": "status", "status": 403}, {"kind": "html", "status": 500}])
def test_a_409_stays_one_where_the_list_cannot_be_read(runs: Any, trouble: dict[str, Any]) -> None:
    ref = paused(runs, on_resume="refused")
    runs.emulator.add_fault(provider="onepin", action="list", count=None, **trouble)
    with pytest.raises(ConflictError, match="stays paused"):
        runs("resume", ref)


def test_a_409_because_somebody_else_was_first_is_no_error(runs: Any) -> None:
    ref = paused(runs)
    runs.emulator.add_fault(kind="status", status=409, when="after", provider="onepin", action="resume")
    assert runs("resume", ref).phase is Phase.RUNNING


@pytest.mark.parametrize("status", [400, 404, 422])
def test_a_refusal_while_the_run_stays_paused_is_the_service_s_own(runs: Any, status: int) -> None:
    ref = paused(runs)
    runs.emulator.add_fault(kind="status", status=status, provider="onepin", action="resume")
    with pytest.raises(AnswerError, match=str(status)) as caught:
        runs("resume", ref)
    assert not isinstance(caught.value, WrongState)
    assert runs("get", ref).phase is Phase.PAUSED


def test_a_pause_that_is_still_on_its_way_is_asked_to_end_like_one_that_has_come(runs: Any) -> None:
    ref = runs.made(script="pausing")
    runs.emulator.advance(None)
    with pytest.raises(ConflictError, match="stays running"):
        runs("resume", ref)
    assert sent(runs) == 1


def test_a_bad_key_is_an_auth_error_and_nothing_is_sent(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("onepin", token="forbidden-key")
    with pytest.raises(AuthError):
        runs("resume", runs.made(script="paused"))
    assert sent(runs) == 0


def test_a_read_that_fails_leads_to_no_resume(runs: Any) -> None:
    ref = paused(runs)
    runs.emulator.add_fault(kind="reset", provider="onepin", action="get", count=None)
    with pytest.raises(TransientError):
        runs("resume", ref)
    assert sent(runs) == 0


@pytest.mark.parametrize("provider", [name for name in PROVIDERS if name not in RESUMERS])
def test_the_others_document_none_and_nothing_is_sent(runs_of: Callable[..., Any], provider: str) -> None:
    runs = runs_of(provider)
    with pytest.raises(NotSupported, match="documents no way to resume a run"):
        runs("resume", runs.made(script="running"))
    assert runs.requests() == []


def test_a_wait_never_resumes_by_itself(runs: Any) -> None:
    ref = runs.made(script="paused")
    assert runs("wait", ref, 600, max_paused=60).ended_by == "max_paused"
    assert runs.requests(method="POST") == []
    assert ref.parents == {"workflow_id": WORKFLOW}
