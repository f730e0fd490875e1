"""What a naive client of five run APIs gets wrong: one named test for each trap, over real HTTP, in both clients.

Where a test does not go through a client, its docstring says why.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from runops.core import (
    NYX_AUDIT,
    NYX_GATE,
    PROVIDERS,
    AuthError,
    ConfigurationError,
    ConflictError,
    NotSupported,
    Outcome,
    Phase,
    RequestRefused,
    RunNotFound,
    SubmitUncertainError,
    UnknownStateError,
    Verdict,
)
from runops.core.model.errors import MalformedAnswer

ALL = ["nexio", "nyx", "onepin", "b3os", "nekt"]
WORKFLOW = "7c9e6679-7425-40de-944b-e07fc1f90ae7"


def answering(runs_of: Callable[..., Any], provider: str, body: Any, **settings: Any) -> Any:
    """Runs of a provider whose every answer is ``body``."""
    runs = runs_of(provider, **settings)
    runs.emulator.reset(["faults"])
    runs.emulator.add_fault(kind="json", body=body, provider=provider, count=None)
    return runs


# --- states ----------------------------------------------------------------------------------------------------


def test_trap_01_cancelled_is_spelled_in_two_ways_and_nexio_has_no_such_word(runs_of: Callable[..., Any]) -> None:
    for provider, word in {"nyx": "cancelled", "onepin": "cancelled", "b3os": "cancelled", "nekt": "canceled"}.items():
        runs = runs_of(provider)
        last = runs("wait", runs.made(script="cancelled"))
        assert (last.state, last.outcome) == (word, Outcome.CANCELLED)
    meanings = {row.meaning for _, _, row in PROVIDERS["nexio"].states}
    assert Outcome.CANCELLED not in meanings


def test_trap_02_success_and_failure_have_two_words_each(runs_of: Callable[..., Any]) -> None:
    words = {
        "nexio": ("completed", "failed"),
        "nyx": ("completed", "failed"),
        "onepin": ("completed", "failed"),
        "b3os": ("success", "failure"),
        "nekt": ("success", "failed"),
    }
    for provider, (good, bad) in words.items():
        runs = runs_of(provider)
        ended = [runs("wait", runs.made(script=script)) for script in ("succeeded", "failed")]
        assert [(run.state, run.outcome) for run in ended] == [(good, Outcome.SUCCEEDED), (bad, Outcome.FAILED)]


def test_trap_03_nyx_needs_status_and_result(runs_of: Callable[..., Any], payload: Callable[[str, str], Any]) -> None:
    expected = {
        ("completed", "success"): Outcome.SUCCEEDED,
        ("completed", "exhausted"): Outcome.EXHAUSTED,
        ("completed", "error"): Outcome.FAILED,
        ("completed", None): Phase.RUNNING,
        ("completed", ""): Phase.RUNNING,
        ("failed", "exhausted"): Outcome.EXHAUSTED,
        ("failed", "success"): Outcome.FAILED,
        ("failed", "error"): Outcome.FAILED,
        ("failed", None): Outcome.FAILED,
        ("cancelled", "success"): Outcome.CANCELLED,
        ("running", "success"): Phase.RUNNING,
        ("queued", "exhausted"): Phase.QUEUED,
    }
    for (status, result), meaning in expected.items():
        body = {**payload("nyx", "running"), "status": status, "result": result}
        runs = answering(runs_of, "nyx", body)
        assert runs("get", runs.ref_of(body)).status is meaning, (status, result)
    runs = answering(runs_of, "nyx", {"run_id": "r_1", "status": "completed"})
    assert runs("wait", runs.ref("r_1")).outcome is Outcome.FAILED
    assert runs.clock.passed >= 60


def test_trap_04_a_finding_of_nyx_can_be_good_news_or_stop_a_release(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("nyx")
    found = runs("wait", runs.made(script="succeeded")).outcome
    nothing = runs("wait", runs.made(script="exhausted")).outcome
    policies = {name: runs.provider.policy(words) for name, words in {"audit": NYX_AUDIT, "gate": NYX_GATE}.items()}
    verdicts = {name: (policy.decide(found), policy.decide(nothing)) for name, policy in policies.items()}
    assert verdicts == {"audit": (Verdict.SUCCEED, Verdict.SKIP), "gate": (Verdict.FAIL, Verdict.SUCCEED)}


def test_trap_05_degraded_is_over_and_its_reason_may_be_missing(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("nexio")
    told = runs("wait", runs.made(script="degraded"))
    silent = runs("wait", runs.made(script="degraded_without_output"))
    assert (told.outcome, told.reason) == (Outcome.DEGRADED, "one carrier did not answer")
    assert (silent.outcome, silent.reason) == (Outcome.DEGRADED, None)


@pytest.mark.parametrize(
    ("provider", "script", "phase"),
    [
        ("onepin", "paused", Phase.PAUSED),
        ("onepin", "pausing", Phase.PAUSED),
        ("b3os", "waiting", Phase.WAITING),
        ("nekt", "pending_events", Phase.WAITING),
        ("nekt", "cancelling", Phase.STOPPING),
    ],
)
def test_trap_06_some_states_never_end_by_themselves(
    runs_of: Callable[..., Any], provider: str, script: str, phase: Phase
) -> None:
    runs = runs_of(provider)
    ref = runs.made(script=script)
    seen = runs("watch", ref, 120)
    assert phase in [snapshot.phase for snapshot in seen]
    assert (seen[-1].outcome, seen[-1].ended_by) == (Outcome.TIMED_OUT, "timeout")
    if phase is not Phase.STOPPING:
        assert runs("wait", ref, 3600, max_paused=30).ended_by == "max_paused"


def test_trap_07_a_cancel_is_an_order_and_not_yet_the_end(runs_of: Callable[..., Any]) -> None:
    nekt = runs_of("nekt")
    ref = nekt.made(script="forever")
    nekt("cancel", ref)
    assert nekt("get", ref).phase is Phase.STOPPING
    assert nekt("wait", ref).outcome is Outcome.CANCELLED
    for provider in ("nyx", "onepin", "b3os", "nekt"):
        runs = runs_of(provider)
        over = runs.made(script="succeeded")
        runs.emulator.advance(None)
        runs("cancel", over)
        assert runs("get", over).outcome is Outcome.SUCCEEDED
    with pytest.raises(NotSupported):
        runs_of("nexio")("cancel", runs_of("nexio").made(script="forever"))


@pytest.mark.parametrize("provider", ALL)
def test_trap_08_words_that_nobody_documented_will_come(runs_of: Callable[..., Any], provider: str) -> None:
    runs = runs_of(provider)
    assert runs("wait", runs.made(script="unknown_word")).outcome is Outcome.SUCCEEDED
    endless = runs("wait", runs.made(script="unknown_word_forever"), 120)
    assert (endless.outcome, endless.run_ended) == (Outcome.TIMED_OUT, False)
    with pytest.raises(UnknownStateError):
        runs("wait", runs.made(script="unknown_word_ended"))


def test_trap_08_words_are_compared_without_space_and_case(runs_of: Callable[..., Any]) -> None:
    runs = answering(runs_of, "nexio", {"run_id": "x", "status": " Completed\n"})
    assert runs("get", runs.ref("x")).outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("provider", ["nyx", "onepin", "b3os", "nekt"])
def test_trap_09_no_status_is_ever_sent_as_a_filter(runs_of: Callable[..., Any], provider: str) -> None:
    runs = runs_of(provider)
    parent = {"nyx": {"config_name": "a"}, "nekt": {"pipeline": "a"}}.get(provider, {"workflow_id": WORKFLOW})
    runs("recent", parent)
    assert all("status" not in (entry["query"] or "") for entry in runs.requests())


# --- shape -----------------------------------------------------------------------------------------------------


def test_trap_10_envelopes_differ_and_data_must_be_there(
    runs_of: Callable[..., Any], payload: Callable[[str, str], Any]
) -> None:
    for provider in ("onepin", "b3os"):
        body = payload(provider, "running")
        runs = answering(runs_of, provider, body)
        assert runs("get", runs.ref_of(body)).phase is Phase.RUNNING
        for broken in ({**body, "data": None}, {key: value for key, value in body.items() if key != "data"}):
            runs = answering(runs_of, provider, broken)
            with pytest.raises(MalformedAnswer, match="data"):
                runs("get", runs.ref("x"))
    for code in (200, 0, 500, "odd", None):
        body = {**payload("b3os", "running"), "code": code, "message": "success"}
        runs = answering(runs_of, "b3os", body)
        assert runs("get", runs.ref_of(body)).phase is Phase.RUNNING
    parents = {"nyx": {"config_name": "a"}, "onepin": {"workflow_id": WORKFLOW}, "b3os": {"workflow_id": "w"}}
    for provider, parent in {**parents, "nekt": {"pipeline": "a"}}.items():
        runs = runs_of(provider)
        runs.emulator.reset(["faults"])
        run_id = runs.emulator.create_run(provider, script="running", parents=parent)
        assert [run.ref.run_id for run in runs("recent", parent)] == [run_id]


def test_trap_11_ids_have_three_names_and_any_form(
    runs_of: Callable[..., Any], calls: Mapping[str, dict[str, Any]]
) -> None:
    for provider, arguments in calls.items():
        runs = runs_of(provider)
        ref = runs("submit", runs.provider.call(**arguments))
        assert runs("get", ref).ref == ref
    runs = runs_of("nyx")
    for odd in ("r_01H2X3Y4Z5", "run 7", "50%", "a?b#c", "läuf", "a+b&c=d", "{run_id}", "a;b,c:d@e"):
        runs.emulator.create_run("nyx", run_id=odd, script="running")
        assert runs("get", runs.ref(odd)).phase is Phase.RUNNING
        assert runs.requests(action="get")[-1]["run_id"] == odd


def test_trap_12_a_onepin_run_needs_its_workflow_too(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("onepin")
    ref = runs.made(script="running")
    assert type(ref).model_validate_json(ref.model_dump_json()) == ref
    assert ref.parents == {"workflow_id": WORKFLOW}
    with pytest.raises(ConfigurationError, match="workflow_id is missing"):
        runs.provider.ref(ref.run_id)
    assert runs("get", ref).ref == ref


@pytest.mark.parametrize("nothing", ["absent", None, "", "0001-01-01T00:00:00Z", "0", 0, {}, "9999-99-99"])
def test_trap_13_an_end_time_has_three_names_and_many_ways_to_be_missing(
    runs_of: Callable[..., Any], payload: Callable[[str, str], Any], nothing: Any
) -> None:
    fields = {"nexio": "completed_at", "nyx": "completed_at", "onepin": "completed_at", "nekt": "ended_at"}
    for provider, field in {**fields, "b3os": "finishedAt"}.items():
        body = payload(provider, "processing" if provider == "nexio" else "running")
        run = body.get("data", body)
        run["status"] = "some_new_word"
        run.pop(field, None)
        if nothing != "absent":
            run[field] = nothing
        runs = answering(runs_of, provider, body)
        snapshot = runs("get", runs.ref_of(body))
        assert (snapshot.phase, snapshot.finished_at) == (Phase.RUNNING, None)
        for moment in ("2026-05-02T08:05:00Z", "2026-05-02T10:05:00.25+02:00", "2026-05-02T08:05:00"):
            runs = answering(
                runs_of,
                provider,
                {**body, **({"data": {**run, field: moment}} if run is not body else {field: moment})},
            )
            with pytest.raises(UnknownStateError):
                runs("get", runs.ref_of(body))


def test_trap_14_error_texts_stand_in_different_places_or_nowhere(runs_of: Callable[..., Any]) -> None:
    reasons = {
        "nexio": "The engine could not evaluate the input",
        "nyx": "The run's result is error.",
        "onepin": "Node node-6 failed: the voice is not available",
        "b3os": "swap (send-token): insufficient funds for gas",
        "nekt": None,
    }
    for provider, reason in reasons.items():
        runs = runs_of(provider)
        assert runs("wait", runs.made(script="failed")).reason == reason
    onepin = runs_of("onepin")
    assert onepin("wait", onepin.made(script="paused"), 60).details["pause_reason"]


@pytest.mark.parametrize("relation", ["text", 12, None, {"id": "x", "slug": "s"}, ["odd"], {"id": None}, {}])
def test_trap_15_relations_come_as_objects_scalars_or_null(
    runs_of: Callable[..., Any], payload: Callable[[str, str], Any], relation: Any
) -> None:
    names = ("pipeline", "source", "destination", "transformation", "triggered_by", "triggered_by_token", "trigger")
    for shape in ("success", "flat_success"):
        body = {**payload("nekt", shape), **dict.fromkeys((*names, "log"), relation), "added_later": {"a": [1]}}
        runs = answering(runs_of, "nekt", body)
        assert runs("get", runs.ref_of(body)).outcome is Outcome.SUCCEEDED


def test_trap_15_two_generations_of_a_page_both_parse(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("nekt")
    for shape in ("pipeline", "flat"):
        assert runs("wait", runs.made(script="succeeded", shape=shape)).outcome is Outcome.SUCCEEDED
    for provider in ALL:
        bare = runs_of(provider)
        assert bare("wait", bare.made(script="bare")).outcome is Outcome.SUCCEEDED


def test_trap_16_costs_keep_their_own_names(runs_of: Callable[..., Any]) -> None:
    names = {"nyx": {"spent_usd", "budget_usd"}, "onepin": {"token_cost"}, "b3os": {"totalCu"}}
    for provider, costs in names.items():
        runs = runs_of(provider)
        details = runs("wait", runs.made(script="succeeded")).details
        assert {name for name in details if re.search(r"cost|usd|cu$", name, re.IGNORECASE)} == costs
    nekt = runs_of("nekt")
    assert nekt("wait", nekt.made(script="succeeded", shape="flat")).details["el_cost_usd"] == 0.12


def test_trap_17_progress_of_onepin_counts_nodes_and_decides_nothing(
    runs_of: Callable[..., Any], payload: Callable[[str, str], Any]
) -> None:
    body = payload("onepin", "running_with_nodes")
    runs = answering(runs_of, "onepin", body)
    assert str(runs("get", runs.ref_of(body)).progress) == "6/15 nodes"
    done = {"data": {**body["data"], "finished_nodes": 15, "finished_steps": 120, "has_export": True}}
    runs = answering(runs_of, "onepin", done)
    assert runs("get", runs.ref_of(body)).phase is Phase.RUNNING
    runs = answering(runs_of, "onepin", payload("onepin", "running"))
    assert str(runs("get", runs.ref_of(body)).progress) == "45/120 steps"


# --- addresses and headers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", ALL)
@pytest.mark.parametrize("ending", ["", "/", "/v1", "/v1/", "/api", "/api/v1", "/api/v1/"])
def test_trap_18_a_base_url_may_or_may_not_hold_the_version(
    runs_of: Callable[..., Any], served: Any, provider: str, ending: str
) -> None:
    if "/api" in ending and "/api" not in PROVIDERS[provider].version_path:
        ending = ending.replace("/api", "")
    runs = runs_of(provider, base_url=served.base_url(provider) + ending)
    assert runs("get", runs.made(script="running")).phase is Phase.RUNNING


def test_trap_19_only_nekt_paths_end_in_a_slash(
    runs_of: Callable[..., Any], calls: Mapping[str, dict[str, Any]]
) -> None:
    for provider in ALL:
        runs = runs_of(provider)
        ref = runs.made(script="forever")
        runs("get", ref)
        if runs.provider.cancel is not None:
            runs("cancel", ref)
        if provider in calls:
            runs("submit", runs.provider.call(**calls[provider]))
        runs("probe")
        slashes = {entry["path"].endswith("/") for entry in runs.requests()}
        assert slashes == {provider == "nekt"}
        assert not [entry for entry in runs.requests() if entry["status"] == 301]


def test_trap_20_each_provider_has_its_own_header_for_the_key(
    runs_of: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    headers = {"nexio": "authorization", "nyx": "x-verification-token", "onepin": "authorization"}
    every = {"authorization", "x-verification-token", "x-api-key"}
    for provider, header in {**headers, "b3os": "authorization", "nekt": "x-api-key"}.items():
        runs = runs_of(provider)
        with caplog.at_level(logging.DEBUG):
            runs("get", runs.made(script="running"))
        (entry,) = runs.requests()
        assert entry["key"] == "accepted"
        assert every & {name.lower() for name in entry["headers"]} == {header}
    assert "canary-key" not in caplog.text


def test_trap_21_workspace_and_organisation_are_sent_only_when_set(runs_of: Callable[..., Any]) -> None:
    for provider, option, header in (("onepin", "workspace_id", "x-workspace-id"), ("b3os", "org_id", "x-org-id")):
        for options in ({}, {option: None}, {option: ""}):
            runs = runs_of(provider, options=options)
            runs("get", runs.made(script="running"))
            assert header not in [name.lower() for name in runs.requests()[-1]["headers"]]
        runs = runs_of(provider, options={option: "5b1f0a52-7c1d-4a0e-9c39-0d1f6a7b8c9d"})
        runs("get", runs.made(script="running"))
        assert header in [name.lower() for name in runs.requests()[-1]["headers"]]
        with pytest.raises(ConfigurationError, match=option):
            runs_of(provider, options={option: "a\r\nX-Injected: 1"})("probe")


@pytest.mark.parametrize("key", ["nx_staging_" + "0" * 64, "nx_live_x", "op_test_1", "sk", "no prefix at all", "b3sk_"])
def test_trap_22_no_form_of_a_key_is_refused(runs_of: Callable[..., Any], key: str) -> None:
    for provider in ALL:
        runs = runs_of(provider, token=key)
        assert runs("get", runs.made(script="running")).phase is Phase.RUNNING


def test_trap_23_b3os_is_polled_by_summary_and_read_whole_once_on_failure(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("b3os")
    last = runs("wait", runs.made(script="failed"))
    assert last.reason == "swap (send-token): insufficient funds for gas"
    queries = [entry["query"] for entry in runs.requests()]
    assert len(queries) > 2
    assert queries[:-1] == ["summary=true"] * (len(queries) - 1)
    assert queries[-1] == ""


def test_trap_24_no_redirect_is_followed_and_no_other_client_is_imitated(runs_of: Callable[..., Any]) -> None:
    """What arrives at the other host, nothing at all, is shown in test_faults."""
    for provider in ALL:
        runs = runs_of(provider)
        ref = runs.made(script="running")
        runs.emulator.add_fault(kind="redirect", location=f"/{provider}/stolen", provider=provider)
        with pytest.raises(RequestRefused, match="302"):
            runs("get", ref)
        assert [entry["status"] for entry in runs.requests()] == [302]
        assert runs.requests()[0]["user_agent"].startswith("runops/")


# --- errors of HTTP --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ({"code": "invalid_request", "message": "no such engine"}, "invalid_request", "no such engine"),
        ({"error": {"code": "invalid", "message": "no such engine", "details": []}}, "invalid", "no such engine"),
        ({"error": "no such engine"}, None, "no such engine"),
        ({"message": "no such engine"}, None, "no such engine"),
        ({"detail": "no such engine"}, None, "no such engine"),
        ({"detail": [{"loc": ["body", "name"], "msg": "secret", "type": "missing"}]}, None, "fields: body.name"),
        ({"error": {"message": "no such engine", "type": "bad_type", "code": None}}, "bad_type", "no such engine"),
        ({"error": {"code": "VALIDATION_ERROR", "details": [{"field": "name"}]}}, "VALIDATION_ERROR", "fields: name"),
        ({"code": 404, "message": "no such engine", "requestId": "abc"}, None, "no such engine"),
        ({"success": False, "error": {"message": "no such engine", "code": "E_1"}}, "E_1", "no such engine"),
        ({"success": False, "error": "no such engine"}, None, "no such engine"),
        ("<html>no such engine</html>", None, None),
        (None, None, None),
        ([], None, None),
        ([{"detail": "x"}], None, None),
        ({"error": None, "detail": None}, None, None),
        ({"error": {"error": {"error": {}}}}, None, None),
    ],
    ids=lambda value: json.dumps(value)[:40] if not isinstance(value, str) else value[:20],
)
def test_trap_25_error_bodies_have_many_shapes(
    runs_of: Callable[..., Any], body: Any, code: str | None, said: str | None
) -> None:
    runs = runs_of("nexio")
    runs.emulator.add_fault(kind="status", status=422, body=body, provider="nexio")
    with pytest.raises(RequestRefused) as caught:
        runs("get", runs.ref("x"))
    assert (caught.value.status, caught.value.code) == (422, code)
    assert "422" in str(caught.value)
    assert said is None or said in str(caught.value)
    assert "secret" not in str(caught.value)


def test_trap_26_one_status_has_several_meanings(
    runs_of: Callable[..., Any], calls: Mapping[str, dict[str, Any]]
) -> None:
    for provider, parent in (("nyx", {"config_name": "nightly"}), ("onepin", {"workflow_id": WORKFLOW})):
        runs = runs_of(provider)
        runs.made(script="forever", parents=parent)
        with pytest.raises(ConflictError, match="409"):
            runs("submit", runs.provider.call(**calls[provider]), on_conflict="fail")
    for status, error in ((402, RequestRefused), (426, RequestRefused), (403, AuthError)):
        runs = runs_of("b3os")
        runs.emulator.add_fault(kind="status", status=status, provider="b3os")
        with pytest.raises(error, match=str(status)):
            runs("wait", runs.made(script="succeeded"))
    for trouble in ({"status": 425}, {"status": 503, "code": "auth_unavailable"}, {"status": 409}):
        runs = runs_of("nexio")
        runs.emulator.reset(["faults"])
        runs.emulator.add_fault(kind="status", provider="nexio", skip=1, **trouble)
        ref = runs.made(script="succeeded")
        if trouble["status"] == 409:
            with pytest.raises(ConflictError):
                runs("wait", ref)
        else:
            assert runs("wait", ref).outcome is Outcome.SUCCEEDED


def test_trap_27_a_pause_is_asked_for_in_three_ways_and_capped(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("nexio")

    def first_pause(**asked: Any) -> float:
        runs.emulator.add_fault(kind="status", status=429, provider="nexio", **asked)
        runs.clock.sleeps.clear()
        runs("wait", runs.made(script="succeeded"))
        return runs.clock.sleeps[0]

    assert first_pause(retry_after=40) == pytest.approx(40)
    assert first_pause(retry_after_date=40) == pytest.approx(40, abs=2)
    reset = {"X-RateLimit-Reset": str(int(time.time()) + 40)}
    assert first_pause(headers=reset) == pytest.approx(40, abs=2)
    assert first_pause(retry_after=25, headers=reset) == pytest.approx(25)
    assert first_pause(headers={"X-RateLimit-Reset": "12"}) == pytest.approx(12)
    assert first_pause(retry_after=10**7) == pytest.approx(900)
    for nonsense in ("soon", "-3", "NaN", "inf", "Infinity", "1e999", "Mon, 99 Foo", "", "0x10"):
        assert first_pause(headers={"Retry-After": nonsense}) <= 1.0


def test_trap_28_reads_are_repeated_and_submits_are_not(
    runs_of: Callable[..., Any], calls: Mapping[str, dict[str, Any]]
) -> None:
    for provider, arguments in calls.items():
        runs = runs_of(provider)
        for trouble in ({"kind": "reset"}, {"kind": "status", "status": 500}):
            runs.emulator.reset()
            runs.emulator.add_fault(provider=provider, method="GET", skip=1, count=2, **trouble)
            runs("wait", runs.made(script="succeeded"))
            runs.emulator.reset()
            runs.emulator.add_fault(provider=provider, method="POST", **trouble)
            if runs.provider.submit.mark:
                # Its run would bear our mark, and a second active one be refused: when neither shows, one more is safe.
                began = runs.clock.now
                runs("submit", runs.provider.call(**arguments))
                assert len(runs.requests(method="POST")) == 2
                assert runs.clock.now - began >= 300
                assert len(runs.emulator.runs(provider=provider)) == 1
            else:
                with pytest.raises(SubmitUncertainError):
                    runs("submit", runs.provider.call(**arguments))
                assert len(runs.requests(method="POST")) == 1


def test_trap_29_a_run_may_be_invisible_for_a_moment_but_not_for_long(runs_of: Callable[..., Any]) -> None:
    for provider in ALL:
        runs = runs_of(provider)
        now = runs.clock.now
        assert runs("wait", runs.made(script="succeeded", hidden_seconds=15), submitted_at=now).run_ended
        before = runs.clock.now
        with pytest.raises(RunNotFound):
            runs("wait", runs.ref("3fa85f64-5717-4562-b3fc-2c963f66afa6"), submitted_at=before - 60)
        assert runs.clock.now == before
        known = runs.made(script="succeeded")
        runs.emulator.add_fault(kind="status", status=404, provider=provider, skip=1, count=5)
        assert runs("wait", known).outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("provider", ALL)
def test_trap_30_a_wait_reads_its_run_by_id_and_trusts_no_list(runs_of: Callable[..., Any], provider: str) -> None:
    runs = runs_of(provider)
    ref = runs.made(script="succeeded", seconds=60)
    for _ in range(120):
        runs.made(script="running")
    assert runs("wait", ref).outcome is Outcome.SUCCEEDED
    assert {(entry["action"], entry["run_id"]) for entry in runs.requests()} == {("get", ref.run_id)}


# --- secrets and cadence ---------------------------------------------------------------------------------------


def test_trap_31_nothing_of_a_payload_is_shown_but_what_is_on_the_list(
    runs_of: Callable[..., Any], payload: Callable[[str, str], Any]
) -> None:
    """The search for canaries in every log and text is test_secrets; here: what nobody listed is left out."""
    for provider in ALL:
        name = "completed" if provider in ("nexio", "onepin") else "failure_full" if provider == "b3os" else "queued"
        body = payload(provider, name)
        run = body.get("data", body)
        listed = set(PROVIDERS[provider].body.DETAILS) | {"pipeline", "source", "destination", "transformation"}
        run.update({f"unlisted_{n}": f"canary-{n}" for n in range(3)})
        runs = answering(runs_of, provider, body)
        result = runs("get", runs.ref_of(body)).to_result()
        assert set(result["details"]) <= listed
        assert "canary" not in json.dumps(result)


def test_trap_32_each_provider_has_its_own_pace(runs_of: Callable[..., Any]) -> None:
    pace = {"nexio": (2, 33), "nyx": (5, 5.5), "onepin": (2, 16.5), "b3os": (2, 22), "nekt": (5, 33)}
    for provider, (shortest, longest) in pace.items():
        runs = runs_of(provider)
        runs.clock.sleeps.clear()
        runs("wait", runs.made(script="succeeded", seconds=300))
        assert min(runs.clock.sleeps) >= shortest
        assert max(runs.clock.sleeps) <= longest


@pytest.mark.parametrize("provider", ALL)
def test_trap_32_a_users_interval_is_never_undercut(runs_of: Callable[..., Any], provider: str) -> None:
    runs = runs_of(provider)
    runs("wait", runs.made(script="succeeded", seconds=400), poll_interval=40)
    assert min(runs.clock.sleeps) >= 40
