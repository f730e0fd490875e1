"""The played service: what it answers to each request, what befalls one, and what it keeps of them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from runops.conformance.facts import Facts
from runops.conformance.service import Fault, Reply, Seen, Service
from runops.core.declaration import Listing, Route
from tests.conformance.acme_runs import ACME, submit, variant
from tests.conformance.folders import GONE, Changes, answer, folder
from tests.conformance.variants import EVERY_ROUTE, JOB, asked, listing, other

NOW = 1_800_000_000.0
DATE = "Fri, 15 Jan 2027 08:00:00 GMT"
HEADERS = {"content-type": "application/json", "date": DATE}
FIRST_ID = "0f8c1d2e-3b4a-4c5d-8e6f-000000000001"
SECOND_ID = "0f8c1d2e-3b4a-4c5d-8e6f-000000000002"
JOBS = "/v3/plants/north/jobs"
SENT = {"amount": 2, "label": "mine"}


def playing(provider: Any = ACME, changes: Changes | None = None, **settings: Any) -> Service:
    call = submit(plant="north", amount=2, label="mine")
    return Service(Facts(provider, folder(changes)), lambda: NOW, **{"call": call, **settings})


def ask(service: Service, method: str, path: str, body: Any = None, **query: str) -> tuple[int, Any]:
    reply = service.answer(method, path, query, {}, body)
    return reply.status, json.loads(reply.body)


def job(service: Service, run_id: str) -> Any:
    status, body = ask(service, "GET", f"/v3/jobs/{run_id}")
    return status, body["answer"]["job"]


# --- runs --------------------------------------------------------------------------------------------------------


def test_a_run_goes_through_its_answers_one_a_read_and_stays_at_the_last() -> None:
    service = playing()
    facts = service.facts
    service.make("J-1", [*facts.phases, facts.ends[0]])
    states = [job(service, "J-1")[1]["state"] for _ in range(5)]
    assert states == ["QUEUED", "ACTIVE", "DONE", "DONE", "DONE"]
    assert service.count("status") == 5


def test_a_run_of_another_id_is_shown_under_that_id() -> None:
    service = playing()
    service.make("J-7", service.facts.ends[:1])
    assert job(service, "J-7")[1]["job_id"] == "J-7"


def test_a_run_that_was_not_made_is_none() -> None:
    service = playing()
    assert ask(service, "GET", "/v3/jobs/J-9") == (404, {"message": "no such run"})
    service.make("J-9", [])
    assert ask(service, "GET", "/v3/jobs/J-9") == (404, {"message": "no such run"})


def test_the_result_of_a_run_does_not_move_it_on() -> None:
    service = playing(other(result=asked("GET", f"{JOB}/result")))
    service.make("J-1", [service.facts.phases[0], service.facts.ends[0]])
    for _ in range(2):
        assert ask(service, "GET", "/v3/jobs/J-1/result")[1]["answer"]["job"]["state"] == "QUEUED"
    assert job(service, "J-1")[1]["state"] == "QUEUED"
    assert job(service, "J-1")[1]["state"] == "DONE"


# --- submits -----------------------------------------------------------------------------------------------------


def test_a_submit_makes_a_run_that_shows_the_text_that_was_sent() -> None:
    service = playing()
    assert ask(service, "POST", JOBS, SENT) == (201, {"job": {"job_id": FIRST_ID}, "queue_id": "Q-7"})
    assert ask(service, "POST", JOBS, {**SENT, "label": "yours"})[1]["job"] == {"job_id": SECOND_ID}
    assert service.started == [FIRST_ID, SECOND_ID]
    shown = [job(service, FIRST_ID)[1] for _ in range(3)]
    assert [each["state"] for each in shown] == ["QUEUED", "ACTIVE", "DONE"]
    assert {(each["job_id"], each["label"]) for each in shown} == {(FIRST_ID, "mine")}
    assert job(service, SECOND_ID)[1]["label"] == "yours"
    assert service.new_id() == "0f8c1d2e-3b4a-4c5d-8e6f-000000000003"


@pytest.mark.parametrize("refuses", [True, False])
def test_a_second_submit_is_refused_where_the_folder_shows_that(refuses: bool) -> None:
    service = playing(refuses_second=refuses)
    assert ask(service, "POST", JOBS, SENT)[0] == 201
    status, body = ask(service, "POST", JOBS, SENT)
    assert (status, len(service.started)) == ((409, 1) if refuses else (201, 2))
    assert (body.get("code") == "busy") is refuses


def test_a_refusal_that_no_file_shows_is_a_plain_409() -> None:
    changes = {"submit_conflict.json": {"status": 503, "read_as.error": "ServiceError"}}
    service = playing(changes=changes, refuses_second=True)
    ask(service, "POST", JOBS, SENT)
    assert ask(service, "POST", JOBS, SENT) == (409, {"message": "a run is active"})


def test_without_a_call_nothing_is_a_submit() -> None:
    assert ask(playing(call=None), "POST", JOBS, SENT) == (404, {"message": "there is nothing at this address"})


@pytest.mark.parametrize(("mark", "label"), [("label", "mine"), (None, "weekly")])
def test_a_run_shows_a_text_again_only_where_one_is_declared(mark: str | None, label: str) -> None:
    assert ACME.submit is not None
    service = playing(replace(ACME, name="acme_other", submit=replace(ACME.submit, mark=mark)))
    ask(service, "POST", JOBS, SENT)
    assert job(service, FIRST_ID)[1]["label"] == label


def test_a_text_that_not_every_run_shows_is_not_shown_again() -> None:
    service = playing(changes={"5_stopped.json": {"body.answer.job.label": GONE}})
    ask(service, "POST", JOBS, SENT)
    assert job(service, FIRST_ID)[1].get("label") != "mine"


def test_a_run_that_was_made_without_a_submit_keeps_its_text() -> None:
    service = playing()
    service.make("J-1", service.facts.ends[:1])
    assert job(service, "J-1")[1]["label"] == "weekly"


# --- lists -------------------------------------------------------------------------------------------------------


def test_a_list_shows_the_runs_that_were_started_the_newest_first_and_those_of_others_before() -> None:
    service = playing()
    ask(service, "POST", JOBS, SENT)
    ask(service, "POST", JOBS, {**SENT, "label": "later"})
    service.strangers = ["S-1", "S-2"]
    status, page = ask(service, "GET", JOBS)
    assert (status, page["next_cursor"], page["previous_cursor"]) == (200, None, None)
    assert [each["job_id"] for each in page["jobs"]] == ["S-2", "S-1", SECOND_ID, FIRST_ID]
    assert [each["label"] for each in page["jobs"]] == ["weekly", "weekly", "later", "mine"]
    first = page["jobs"][-1]
    moment = "2027-01-15T08:00:00+00:00"
    assert (first["made"], first["began"], first["ended"]) == (moment, moment, None)
    assert (first["state"], first["plant"], first["note"]) == ("QUEUED", "north", "a text of a customer")


@pytest.mark.parametrize("call", [True, False])
def test_an_entry_bears_the_parent_that_was_asked_for(call: bool) -> None:
    service = playing(**({} if call else {"call": None}))
    service.strangers = ["S-1"]
    assert ask(service, "GET", "/v3/plants/south/jobs")[1]["jobs"][0]["plant"] == "south"


def test_an_entry_bears_no_time_that_entries_of_the_folder_lack() -> None:
    changes = {"list_1.json": {"body.jobs.0.began": GONE, "body.jobs.0.ended": GONE}}
    service = playing(changes=changes)
    service.strangers = ["S-1"]
    entry = ask(service, "GET", JOBS)[1]["jobs"][0]
    assert "made" in entry
    assert "began" not in entry
    assert "ended" not in entry


def test_an_entry_is_like_one_of_the_parent_and_not_like_one_of_another() -> None:
    changes = {"list_1.json": {"read_as.runs": [{"run_id": "J-2"}], "body.jobs.1.kind": "second"}}
    service = playing(changes=changes)
    service.strangers = ["S-1"]
    assert ask(service, "GET", JOBS)[1]["jobs"][0]["kind"] == "second"


@pytest.mark.parametrize("changes", [{"list_1.json": GONE, "list_2.json": GONE}])
def test_without_a_page_in_the_folder_an_entry_is_like_the_answer_of_a_run(changes: Changes) -> None:
    service = playing(changes=changes)
    service.strangers = ["S-1"]
    page = ask(service, "GET", JOBS)[1]
    assert (list(page), page["next_cursor"]) == (["jobs", "next_cursor"], None)
    assert page["jobs"][0] | {"made": None, "began": None} == {
        **service.facts.phases[0].body["answer"]["job"],
        "job_id": "S-1",
        "made": None,
        "began": None,
        "ended": None,
    }


@pytest.mark.parametrize(
    ("items", "page"),
    [((), []), (("jobs",), {"jobs": []}), (("data", "of", "jobs"), {"data": {"of": {"jobs": []}}})],
)
def test_a_page_that_no_file_shows_holds_its_items_where_the_declaration_looks(items: Any, page: Any) -> None:
    gone = {"list_1.json": GONE, "list_2.json": GONE}
    bare = Listing(Route("GET", "/v3/plants/{plant}/jobs"), items, ("plant",))
    assert ask(playing(other(listing=bare), gone), "GET", JOBS) == (200, page)


def test_the_place_of_the_next_page_is_empty_wherever_it_stands() -> None:
    deep = listing(items=("jobs",), next=("page", "next"))
    changes = {"list_1.json": {"body.page": {"next": "c", "total": 7}}}
    assert ask(playing(deep, changes), "GET", JOBS)[1]["page"] == {"next": None, "total": 7}


def test_the_newest_run_is_the_first_of_the_list_or_none() -> None:
    service = playing(listing(latest=asked("GET", "/v3/plants/{plant}/jobs/latest")))
    assert ask(service, "GET", f"{JOBS}/latest") == (404, {"message": "no run"})
    ask(service, "POST", JOBS, SENT)
    service.strangers = ["S-1"]
    assert ask(service, "GET", f"{JOBS}/latest")[1]["job_id"] == "S-1"


# --- other routes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "route"),
    [
        ("GET", "/v3/me", "probe"),
        ("GET", JOBS, "list"),
        ("GET", "/v3/jobs/J-1", "status"),
        ("DELETE", "/v3/jobs/J-1", "cancel"),
        ("POST", "/v3/jobs/J-1/resume", "resume"),
        ("POST", "/v3/jobs/J-1/retry", "retry"),
        ("GET", "/v3/jobs/J-1/why", "explain"),
        ("POST", JOBS, "submit"),
        ("POST", "/v3/jobs/J-1", ""),
        ("PUT", JOBS, ""),
        ("POST", "/v3/plants/south/jobs", ""),
    ],
)
def test_a_request_is_known_by_its_method_and_path_and_kept_whole(method: str, path: str, route: str) -> None:
    service = playing(other(**EVERY_ROUTE))
    service.answer(method, path, {"a": "b"}, {"x-acme-key": "k"}, {"c": 1})
    assert service.requests == [Seen(route, method, path, {"a": "b"}, {"x-acme-key": "k"}, {"c": 1})]
    assert (service.count(route), service.count("none")) == (1, 0)


def test_what_the_folder_shows_of_a_route_is_answered_and_else_an_empty_object() -> None:
    changes = {"7.json": answer("resume", "POST /v3/jobs/J-1/resume", {"resumed": 1}, status=202)}
    service = playing(other(**EVERY_ROUTE), {**changes, "probe.json": {"body": {"me": 1}}})
    assert ask(service, "GET", "/v3/me") == (200, {"me": 1})
    assert ask(service, "POST", "/v3/jobs/J-1/resume") == (202, {"resumed": 1})
    assert ask(service, "GET", "/v3/jobs/J-1/why") == (200, {})
    assert ask(playing(changes={"probe.json": GONE}), "GET", "/v3/me") == (200, {})
    refused = {"probe.json": {"status": 401, "read_as": {"error": "AuthenticationFailed"}}}
    assert ask(playing(changes=refused), "GET", "/v3/me") == (200, {})


@pytest.mark.parametrize(
    ("query", "route"),
    [
        ({}, "status"),
        ({"view": "result"}, "result"),
        ({"view": "other"}, "status"),
        ({"view": "result", "a": "b"}, "result"),
    ],
)
def test_of_two_routes_at_one_address_the_query_decides(query: dict[str, str], route: str) -> None:
    service = playing(other(result=asked(view="result")))
    service.answer("GET", "/v3/jobs/J-1", query, {}, None)
    assert service.requests[0].route == route


def test_a_probe_at_an_address_that_could_be_that_of_a_run_is_a_probe() -> None:
    service = playing(variant("acme_other", probe=asked("GET", "/v3/jobs/me", a="1"), result=asked(a="1")))
    service.answer("GET", "/v3/jobs/me", {"a": "1"}, {}, None)
    service.answer("GET", "/v3/jobs/J-1", {"a": "1"}, {}, None)
    assert [each.route for each in service.requests] == ["probe", "result"]


# --- how it answers ----------------------------------------------------------------------------------------------


def test_each_answer_bears_its_type_its_date_and_the_headers_of_its_file() -> None:
    service = playing(changes={"probe.json": {"headers": {"content-type": "text/plain", "x-one": "1"}}})
    service.make("J-1", service.facts.ends[:1])
    assert service.answer("GET", "/v3/jobs/J-1", {}, {}, None).headers == HEADERS
    assert service.answer("GET", "/v3/none", {}, {}, None).headers == HEADERS
    probe = service.answer("GET", "/v3/me", {}, {}, None)
    assert probe.headers == {"content-type": "text/plain", "x-one": "1", "date": DATE}


def test_each_body_can_be_altered_on_its_way() -> None:
    service = playing(alter=lambda body: {"altered": list(body)})
    service.make("J-1", service.facts.ends[:1])
    assert ask(service, "GET", "/v3/jobs/J-1") == (200, {"altered": ["answer"]})


@pytest.mark.parametrize("skip", [0, 1, 2])
def test_a_fault_befalls_the_request_after_those_that_go_well_and_once(skip: int) -> None:
    service = playing()
    service.make("J-1", service.facts.ends[:1])
    fault = Fault("status", Reply(500, b"{}"), skip=skip)
    service.faults = [Fault("probe", Reply(503)), fault]
    statuses = [service.answer("GET", "/v3/jobs/J-1", {}, {}, None).status for _ in range(4)]
    assert statuses == [500 if number == skip else 200 for number in range(4)]
    assert service.faults == [Fault("probe", Reply(503))]


@pytest.mark.parametrize("carried_out", [True, False])
def test_what_a_fault_befalls_is_done_all_the_same_only_where_it_says_so(carried_out: bool) -> None:
    service = playing()
    service.faults = [Fault("submit", Reply(500, b"{}"), carried_out=carried_out)]
    assert ask(service, "POST", JOBS, SENT) == (500, {})
    assert service.started == ([FIRST_ID] if carried_out else [])
    if carried_out:
        assert job(service, FIRST_ID)[1]["label"] == "mine"
