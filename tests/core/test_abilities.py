"""Cancel, recent, fetch_result and probe: what each provider can, over real connections, in both clients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from runops.core import (
    AuthError,
    Call,
    ConfigurationError,
    NotSupported,
    Outcome,
    Phase,
    RequestRefused,
    RunNotFound,
    TransientError,
)
from runops.core.model.errors import ConnectionFailed, MalformedAnswer
from tests.services import PROVIDERS

CANCELLERS = ["nyx", "onepin", "b3os", "nekt"]
PARENT = {
    "nyx": {"config_name": "nightly"},
    "onepin": {"workflow_id": "7c9e6679-7425-40de-944b-e07fc1f90ae7"},
    "b3os": {"workflow_id": "wf_1"},
    "nekt": {"pipeline": "orders"},
}


@pytest.mark.parametrize("provider", CANCELLERS)
def test_a_cancelled_run_ends_as_cancelled(runs_of: Callable[..., Any], provider: str) -> None:
    runs = runs_of(provider)
    ref = runs.made(script="forever")
    runs("cancel", ref)
    assert len(runs.requests(action="cancel")) == 1
    assert runs("wait", ref, 600).outcome is Outcome.CANCELLED


@pytest.mark.parametrize("provider", CANCELLERS)
@pytest.mark.parametrize("script", ["succeeded", "failed", "cancelled"])
def test_a_cancel_of_a_finished_run_is_quiet(runs_of: Callable[..., Any], provider: str, script: str) -> None:
    runs = runs_of(provider)
    ref = runs.made(script=script)
    runs.emulator.advance(None)
    before = runs("get", ref)
    runs("cancel", ref)
    assert runs("get", ref) == before


def test_nexio_has_no_cancel_and_nothing_is_sent(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("nexio")
    with pytest.raises(NotSupported, match="documents no way to cancel"):
        runs("cancel", runs.made(script="forever"))
    assert runs.requests() == []


@pytest.mark.parametrize("provider", CANCELLERS)
@pytest.mark.parametrize(
    "trouble",
    [
        {"kind": "reset"},
        {"kind": "reset", "when": "after"},
        {"kind": "status", "status": 500},
        {"kind": "status", "status": 429, "retry_after": 3},
        {"kind": "status", "status": 409},
        {"kind": "html"},
    ],
    ids=lambda trouble: "_".join(str(part) for part in trouble.values()),
)
def test_a_cancel_that_meets_trouble_is_asked_for_again(
    runs_of: Callable[..., Any], provider: str, trouble: dict[str, Any]
) -> None:
    runs = runs_of(provider)
    ref = runs.made(script="forever")
    runs.emulator.add_fault(provider=provider, action="cancel", **trouble)
    runs("cancel", ref)
    assert runs("wait", ref, 600).outcome is Outcome.CANCELLED


def test_a_cancel_whose_answer_is_lost_is_done_once_the_run_is_stopping(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("nekt")
    ref = runs.made(script="forever")
    runs.emulator.add_fault(kind="reset", when="after", provider="nekt", action="cancel")
    runs("cancel", ref)
    assert len(runs.requests(action="cancel")) == 1


@pytest.mark.parametrize("provider", CANCELLERS)
def test_a_cancel_that_is_refused_while_the_run_goes_on_is_an_error(runs_of: Callable[..., Any], provider: str) -> None:
    runs = runs_of(provider)
    ref = runs.made(script="forever")
    runs.emulator.add_fault(kind="status", status=400, provider=provider, action="cancel", count=None)
    with pytest.raises(RequestRefused, match="400"):
        runs("cancel", ref)


@pytest.mark.parametrize("provider", CANCELLERS)
@pytest.mark.parametrize("status", [400, 404, 409, 500])
@pytest.mark.parametrize("script", ["succeeded", "unknown_word_ended"])
def test_a_cancel_that_is_refused_because_the_run_has_ended_is_quiet(
    runs_of: Callable[..., Any], provider: str, status: int, script: str
) -> None:
    """In whatever word it has ended: there is nothing left to cancel."""
    runs = runs_of(provider)
    ref = runs.made(script=script)
    runs.emulator.advance(None)
    runs.emulator.add_fault(kind="status", status=status, provider=provider, action="cancel", count=None)
    runs("cancel", ref)
    assert len(runs.requests(action="cancel")) == 1
    assert runs.clock.sleeps == []


def test_nekt_starts_no_run_and_nothing_is_sent(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("nekt")
    with pytest.raises(NotSupported, match="documents no way to start a run"):
        runs("submit", Call("nekt", "/api/v1/runs/", {}))
    assert runs.requests() == []


@pytest.mark.parametrize("provider", ["nexio", "nyx", "onepin", "b3os", "nekt"])
def test_a_probe_that_meets_no_page_fails_unless_its_run_is_meant_to_be_absent(
    runs_of: Callable[..., Any], provider: str
) -> None:
    runs = runs_of(provider)
    runs.emulator.add_fault(kind="status", status=404, provider=provider, count=None)
    if runs.provider.probe_absent:
        runs("probe")
    else:
        with pytest.raises(RunNotFound):
            runs("probe")


@pytest.mark.parametrize("provider", CANCELLERS)
def test_a_cancel_with_a_bad_key_is_an_auth_error(runs_of: Callable[..., Any], provider: str) -> None:
    runs = runs_of(provider, token="forbidden-key")
    with pytest.raises(AuthError, match="connection 'test'"):
        runs("cancel", runs.made(script="forever"))
    assert len(runs.requests()) == 1


def test_a_cancel_of_a_run_that_nobody_knows_is_an_error(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("nyx")
    with pytest.raises(RunNotFound):
        runs("cancel", runs.ref("r_unknown"))


def test_a_cancel_that_is_never_answered_is_an_error(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("nyx")
    runs.emulator.add_fault(kind="reset", provider="nyx", count=None)
    with pytest.raises(TransientError):
        runs("cancel", runs.made(script="forever"))


@pytest.mark.parametrize("provider", CANCELLERS)
def test_a_failed_read_leads_to_no_cancel(runs_of: Callable[..., Any], provider: str) -> None:
    runs = runs_of(provider)
    ref = runs.made(script="forever")
    runs.emulator.add_fault(kind="reset", provider=provider, skip=1, count=4)
    runs("wait", ref, 120)
    assert runs.requests(method="POST") == []


# --- lists -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", CANCELLERS)
def test_recent_runs_come_newest_first_and_of_one_parent_only(runs_of: Callable[..., Any], provider: str) -> None:
    runs = runs_of(provider)
    other = dict.fromkeys(PARENT[provider], "somebody-elses")
    runs.emulator.create_run(provider, script="running", parents=other)
    made = [
        runs.emulator.create_run(provider, script=script, age_seconds=age, parents=PARENT[provider])
        for script, age in (("succeeded", 300), ("failed", 200), ("cancelled", 100), ("running", 0))
    ]
    found = runs("recent", PARENT[provider])
    assert [run.ref.run_id for run in found] == made[::-1]
    assert [run.status for run in found] == [Phase.RUNNING, Outcome.CANCELLED, Outcome.FAILED, Outcome.SUCCEEDED]
    assert all(runs("get", run.ref).state == run.state for run in found)


@pytest.mark.parametrize("provider", ["nyx", "onepin", "b3os"])
def test_a_parent_of_the_only_kind_needs_no_kind(runs_of: Callable[..., Any], provider: str) -> None:
    runs = runs_of(provider)
    run_id = runs.emulator.create_run(provider, script="running", parents=PARENT[provider])
    (value,) = PARENT[provider].values()
    assert [run.ref.run_id for run in runs("recent", value)] == [run_id]


@pytest.mark.parametrize("kind_of_parent", ["source", "destination", "transformation"])
def test_nekt_runs_are_found_by_each_relation_of_the_newer_shape(
    runs_of: Callable[..., Any], kind_of_parent: str
) -> None:
    runs = runs_of("nekt")
    wanted = runs.emulator.create_run("nekt", script="running", parents={kind_of_parent: "crm"})
    runs.emulator.create_run("nekt", script="running", parents={kind_of_parent: "erp"})
    assert [run.ref.run_id for run in runs("recent", {kind_of_parent: "crm"})] == [wanted]


def test_a_nekt_list_in_the_other_shape_is_an_error_that_names_it(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("nekt")
    runs.emulator.create_run("nekt", script="running", parents={"source": "crm"})
    with pytest.raises(ConfigurationError, match="carries no pipeline"):
        runs("recent", {"pipeline": "orders"})


def test_a_parent_without_runs_has_an_empty_list(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("onepin")
    assert runs("recent", "7c9e6679-7425-40de-944b-e07fc1f90ae7") == []


@pytest.mark.parametrize(
    ("provider", "parent", "said"),
    [
        ("nexio", "x", "documents no list"),
        ("nyx", {"workflow_id": "x"}, "one of config_name"),
        ("nekt", {"pipeline": "a", "source": "b"}, "one of pipeline, source"),
        ("nekt", {}, "one of pipeline, source"),
        ("b3os", "../x", "cannot be an id"),
        ("b3os", "", "workflow_id is empty"),
    ],
)
def test_a_wrong_parent_is_refused_before_anything_is_sent(
    runs_of: Callable[..., Any], provider: str, parent: Any, said: str
) -> None:
    runs = runs_of(provider)
    with pytest.raises(ConfigurationError, match=said):
        runs("recent", parent)
    assert runs.requests() == []


def test_an_unknown_word_does_not_spoil_a_list(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("b3os")
    runs.emulator.create_run("b3os", script="unknown_word_ended", age_seconds=60, parents={"workflow_id": "wf_1"})
    runs.emulator.create_run("b3os", script="running", parents={"workflow_id": "wf_1"})
    assert [run.state for run in runs("recent", "wf_1")] == ["running", "archived"]


@pytest.mark.parametrize("body", [None, [], {}, {"data": None}, {"data": {"items": None}}, {"data": {"items": [1]}}])
def test_a_list_that_is_none_is_tried_again_and_then_an_error(runs_of: Callable[..., Any], body: Any) -> None:
    runs = runs_of("b3os")
    runs.emulator.add_fault(kind="json", body=body, provider="b3os", action="list", count=None)
    with pytest.raises(MalformedAnswer):
        runs("recent", "wf_1")


def test_a_list_survives_passing_trouble(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("onepin")
    ref = runs.made(script="running")
    runs.emulator.add_fault(kind="status", status=502, provider="onepin", action="list", count=2)
    assert [run.ref for run in runs("recent", ref.parents)] == [ref]


# --- whole payloads --------------------------------------------------------------------------------------------


def test_fetch_result_brings_the_whole_payload_out_of_its_envelope(runs_of: Callable[..., Any]) -> None:
    whole = {
        "nexio": ("output", "placement"),
        "nyx": ("config_name", "succeeded"),
        "onepin": ("definition_snapshot", "succeeded"),
        "b3os": ("executionState", "succeeded"),
        "nekt": ("triggered_by_token", "succeeded"),
    }
    for provider, (field, script) in whole.items():
        runs = runs_of(provider)
        ref = runs.made(script=script)
        runs.emulator.advance(None)
        assert field in runs("fetch_result", ref), provider


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_wait_never_fetches_the_whole_payload_of_a_run_that_succeeded(
    runs_of: Callable[..., Any], provider: str
) -> None:
    runs = runs_of(provider)
    runs("wait", runs.made(script="succeeded"))
    assert {entry["action"] for entry in runs.requests()} == {"get"}
    if provider == "b3os":
        assert {entry["query"] for entry in runs.requests()} == {"summary=true"}


@pytest.mark.parametrize("trouble", [{"kind": "json", "body": None}, {"kind": "json", "body": []}, {"kind": "html"}])
def test_fetch_result_gives_nothing_but_an_object(runs_of: Callable[..., Any], trouble: dict[str, Any]) -> None:
    runs = runs_of("onepin")
    runs.emulator.add_fault(provider="onepin", count=None, status=200, **trouble)
    with pytest.raises(MalformedAnswer):
        runs("fetch_result", runs.made(script="succeeded"))


# --- the connection test ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", PROVIDERS)
def test_probe_accepts_a_good_key_and_tells_a_bad_one(runs_of: Callable[..., Any], provider: str) -> None:
    good = runs_of(provider)
    assert good("probe") is None
    assert [entry["method"] for entry in good.requests()] == ["GET"]
    for token, status in (("invalid-key", 401), ("forbidden-key", 403)):
        with pytest.raises(AuthError) as caught:
            runs_of(provider, token=token)("probe")
        assert caught.value.status == status


@pytest.mark.parametrize("provider", PROVIDERS)
def test_probe_tells_a_service_that_cannot_be_reached(runs_of: Callable[..., Any], provider: str) -> None:
    with pytest.raises(ConnectionFailed):
        runs_of(provider, base_url="http://127.0.0.1:9")("probe")


@pytest.mark.parametrize("provider", PROVIDERS)
def test_probe_takes_no_web_page_for_the_service(runs_of: Callable[..., Any], provider: str) -> None:
    runs = runs_of(provider)
    runs.emulator.add_fault(kind="html", status=200, provider=provider)
    with pytest.raises(MalformedAnswer):
        runs("probe")


def test_a_workspace_that_is_not_the_keys_own_is_refused(runs_of: Callable[..., Any]) -> None:
    own = "5b1f0a52-7c1d-4a0e-9c39-0d1f6a7b8c9d"
    assert runs_of("onepin", options={"workspace_id": own})("probe") is None
    with pytest.raises(AuthError, match="another workspace"):
        runs_of("onepin", options={"workspace_id": "other"})("probe")
