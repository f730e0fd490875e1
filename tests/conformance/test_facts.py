"""A declaration beside its answers: which route, run and parent each is about, and what a folder shows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runops.conformance.facts import Facts, changed, holes_in, names_of, replaced
from runops.conformance.report import Finding, Report
from runops.core import ConfigurationError, ConflictError, Provider, RunNotFound
from runops.core.declaration import AuthScheme, Route
from tests.conformance.acme_runs import ACME, AcmeJob
from tests.conformance.folders import GONE, Changes, answer, folder
from tests.conformance.variants import EVERY_ROUTE, asked, listing, other

LATEST = asked("GET", "/v3/plants/{plant}/jobs/latest")


def facts_of(provider: Provider = ACME, changes: Changes | None = None) -> Facts:
    return Facts(provider, folder(changes))


def file_of(facts: Facts, name: str) -> Any:
    return next(each for each in facts.answers if each.file == name)


# --- routes, runs and parents ------------------------------------------------------------------------------------


def test_answers_are_found_by_their_routes_and_by_how_they_came() -> None:
    facts = facts_of()
    assert [each.file for each in facts.of("submit")] == ["submit.json", "submit_conflict.json"]
    assert [each.file for each in facts.of("submit", ok=True)] == ["submit.json"]
    assert [each.file for each in facts.of("submit", ok=False)] == ["submit_conflict.json"]
    assert [each.file for each in facts.of("probe", "cancel", ok=True)] == ["cancel.json", "probe.json"]
    assert facts.of() == []


def test_each_name_leads_to_its_declared_route() -> None:
    facts = facts_of(replace(listing(latest=LATEST), **EVERY_ROUTE))
    paths = {name: getattr(facts.route(name), "path", None) for name in ("status", "cancel", "probe", *EVERY_ROUTE)}
    assert paths == {
        "status": "/v3/jobs/{run_id}",
        "cancel": "/v3/jobs/{run_id}",
        "probe": "/v3/me",
        "resume": "/v3/jobs/{run_id}/resume",
        "retry": "/v3/jobs/{run_id}/retry",
        "explain": "/v3/jobs/{run_id}/why",
        "result": "/v3/jobs/{run_id}/result",
    }
    assert facts.route("list") == Route("GET", "/v3/plants/{plant}/jobs")
    assert facts.route("latest") == LATEST
    assert facts.route("submit") is None
    bare = facts_of(other(listing=None))
    assert [bare.route(name) for name in ("list", "latest", "retry", "explain", "result")] == [None] * 5


@pytest.mark.parametrize(
    ("path", "ids"),
    [
        ("/v3/plants/north/jobs", {"plant": "north"}),
        ("/v3/plants/a%20b/jobs", {"plant": "a b"}),
        ("/v3/plants//jobs", None),
        ("/v3/plants/a/b/jobs", None),
        ("/v3/plants/north/jobs/1", None),
        ("/x/v3/plants/north/jobs", None),
    ],
)
def test_the_holes_of_a_route_are_filled_by_one_segment_each(path: str, ids: dict[str, str] | None) -> None:
    assert holes_in(Route("GET", "/v3/plants/{plant}/jobs"), path) == ids


def test_a_dot_of_a_route_is_a_dot() -> None:
    assert holes_in(Route("GET", "/v3.1/{run_id}"), "/v3.1/J-1") == {"run_id": "J-1"}
    assert holes_in(Route("GET", "/v3.1/{run_id}"), "/v3x1/J-1") is None


def test_an_answer_is_about_the_run_and_the_parent_of_its_address() -> None:
    facts = facts_of()
    assert facts.ref(file_of(facts, "3_done.json")) == ACME.ref("J-1")
    assert facts.ref(file_of(facts, "list_1.json")) is None
    assert facts.ref(file_of(facts, "submit.json")) is None
    assert facts.parent(file_of(facts, "list_1.json")) == {"plant": "north"}
    assert facts.parent(file_of(facts, "3_done.json")) == {}
    elsewhere = facts_of(other(status=asked("GET", "/v3/runs/{run_id}")))
    assert elsewhere.ref(file_of(elsewhere, "3_done.json")) is None
    assert elsewhere.readable == elsewhere.phases == elsewhere.ends == []


def test_what_a_file_says_of_a_parent_goes_before_its_address() -> None:
    facts = facts_of(changes={"list_1.json": {"read_as.parent": {"site": "a"}}})
    assert facts.parent(file_of(facts, "list_1.json")) == {"site": "a"}
    bare = facts_of(other(listing=None))
    assert bare.parent(file_of(bare, "list_1.json")) == {}


def test_a_submit_is_built_anew_from_its_arguments() -> None:
    facts = facts_of()
    submitted = file_of(facts, "submit.json")
    call = facts.call(submitted)
    assert call is not None
    assert (call.path, call.json, call.parent) == (
        "/v3/plants/north/jobs",
        {"amount": 2, "label": "weekly"},
        {"plant": "north"},
    )
    assert facts_of(other(submit=None)).call(submitted) is None
    bare = facts_of(changes={"submit.json": {"request.arguments": GONE}})
    assert bare.call(file_of(bare, "submit.json")) is None
    assert bare.submits == []
    odd = facts_of(changes={"submit.json": {"request.arguments": {"plant": ""}}})
    with pytest.raises(ConfigurationError):
        odd.call(file_of(odd, "submit.json"))


# --- what a folder shows -----------------------------------------------------------------------------------------


def test_the_runs_that_can_be_played_are_told_from_those_that_are_over() -> None:
    facts = facts_of(changes={"6_bad.json": answer("status", "GET /v3/jobs/J-1", error="MalformedAnswer")})
    assert [each.file for each in facts.phases] == ["1_queued.json", "2_active.json"]
    assert [each.file for each in facts.ends] == ["3_done.json", "4_broken.json", "5_stopped.json"]
    assert facts.readable == [*facts.phases, *facts.ends]
    assert [each.file for each in facts.submits] == ["submit.json"]


def test_an_error_bears_the_status_the_code_and_the_class_of_its_answer() -> None:
    facts = facts_of()
    error = facts.error(file_of(facts, "submit_conflict.json"))
    assert (type(error), error.status, error.code) == (ConflictError, 409, "busy")
    assert facts.refuses_second
    assert not facts_of(changes={"submit_conflict.json": GONE}).refuses_second
    names = names_of(error)
    assert (names[0], names[-1]) == ("ConflictError", "RunopsError")
    assert "AnswerError" in names
    assert "Exception" not in names
    assert type(facts.error(file_of(facts, "not_found.json"))) is RunNotFound


@pytest.mark.parametrize(
    ("alias", "changes", "shown"),
    [
        ("label", {}, True),
        ("parts", {}, False),
        ("label", {"1_queued.json": {"body.answer.job.label": GONE}}, False),
        ("label", {"list_2.json": {"body.jobs.0.label": GONE}}, False),
        ("label", {"list_1.json": {"body.jobs.0": "no run"}}, False),
        ("label", {"list_1.json": {"body.jobs": None}}, True),
    ],
)
def test_a_field_is_shown_where_all_runs_and_entries_have_it(alias: str, changes: Changes, shown: bool) -> None:
    assert facts_of(changes=changes).shows(alias) is shown


def test_a_folder_without_runs_shows_nothing() -> None:
    assert not Facts(ACME, ()).shows("label")
    without = {"list_1.json": GONE, "list_2.json": GONE}
    assert Facts(other(listing=None), folder(without)).shows("label")
    assert (Facts(ACME, ()).items, Facts(other(listing=None), ()).items) == (("jobs",), ())


@pytest.mark.parametrize(
    ("name", "alias"), [("run_id", "job_id"), ("finished_at", "ended"), ("plant", "plant"), ("none", "none")]
)
def test_a_field_of_the_body_is_known_by_its_key_in_an_answer(name: str, alias: str) -> None:
    assert name == "none" or name in AcmeJob.model_fields
    assert facts_of().alias(name) == alias


@pytest.mark.parametrize(("prefixes", "key"), [(("acme_", "old_"), "acme_x"), ((), "x")])
def test_a_made_up_key_begins_as_the_service_s_keys_do(prefixes: tuple[str, ...], key: str) -> None:
    assert facts_of(other(auth=AuthScheme("X-Acme-Key", key_prefixes=prefixes))).key("x") == key


def test_the_outermost_keys_are_those_of_an_object() -> None:
    facts = facts_of(changes={"probe.json": {"body": [1]}})
    assert facts.keys(file_of(facts, "3_done.json")) == ["answer"]
    assert facts.keys(file_of(facts, "probe.json")) == []


# --- copies ------------------------------------------------------------------------------------------------------


def test_a_change_is_made_in_a_copy() -> None:
    body = {"a": {"b": {"c": 1, "d": 2}}}
    assert changed(body, ("a", "b"), c=None, e=3) == {"a": {"b": {"c": None, "d": 2, "e": 3}}}
    assert changed(body, ("a", "none"), c=3) == body == {"a": {"b": {"c": 1, "d": 2}}}
    assert changed([1], (), c=3) == [1]


def test_whole_texts_and_numbers_are_replaced_and_parts_and_flags_are_not() -> None:
    given = {"a": ["x", "xx", 1, True, 1.0, None], "x": {"b": "x"}}
    made = {"a": ["y", "xx", "2", True, 1.0, None], "x": {"b": "y"}}
    assert replaced(given, {"x": "y", "1": "2", "True": "no", "None": "no", "1.0": "no"}) == made
    assert given["x"] == {"b": "x"}


# --- the report --------------------------------------------------------------------------------------------------


def finding(problem: str, file: str = "", level: Any = "wrong") -> Finding:
    return Finding("words", "states", problem, "Mend it", file, level)


def test_a_report_counts_what_went_well_and_tells_alike_findings_once() -> None:
    report = Report("acme")
    report.add("words", [finding("a", "1"), finding("a", "1"), finding("a", "2"), finding("b", level="unproven")], 5)
    report.add("times", [finding("a", "3"), finding("c")], 1)
    report.add("lists", [], 4)
    assert [str(each) for each in report.findings] == [
        "wrong  words: states (1 and 1 more): a. Mend it.",
        "unproven  words: states: b. Mend it.",
        "wrong  words: states: c. Mend it.",
    ]
    assert report.passed == {"words": 3, "times": 0, "lists": 4}
    assert not report.ok
    assert report.lines()[-1] == "acme: 2 wrong, 1 unproven (passed: words 3, times 0, lists 4)"
    assert report.lines()[:2] == [str(each) for each in report.wrong]
    assert report.to_dict() == {
        "provider": "acme",
        "conforms": False,
        "findings": [each.to_dict() for each in report.findings],
        "passed": report.passed,
    }
    assert report.findings[1].to_dict() == {
        "level": "unproven",
        "check": "words",
        "field": "states",
        "file": "",
        "problem": "b",
        "advice": "Mend it",
    }


def test_a_report_without_a_fault_says_that_it_conforms() -> None:
    report = Report("acme")
    report.add("words", [finding("b", level="unproven")], 1)
    assert report.ok
    assert report.lines() == ["unproven  words: states: b. Mend it.", "acme: conforms, 1 unproven (passed: words 1)"]
    assert Report("acme").lines() == ["acme: conforms (passed: )"]
