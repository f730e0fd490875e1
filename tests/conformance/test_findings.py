"""What each check that sends nothing says of a declaration that does not fit, word for word as in findings.txt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runops.conformance.facts import Facts
from runops.conformance.lists import lists
from runops.conformance.reading import routes, times_and_details, words
from runops.conformance.report import Finding
from runops.conformance.submits import _evidence, _ids
from runops.core import Outcome, Phase, Provider, StateTable
from runops.core.declaration import AuthScheme, Explanation, Retry, Route
from tests.conformance.acme_runs import ACME, submission
from tests.conformance.folders import ACME_ANSWERS, GONE, Changes, answer, folder
from tests.conformance.variants import (
    EVERY_ROUTE,
    JOB,
    NAME,
    Believed,
    Contact,
    Deadline,
    Defaults,
    Guessing,
    Spelled,
    asked,
    listing,
    nothing,
    orphan,
    other,
    states,
    submitting,
)

Check = Callable[[Facts], Any]
RUN = "body.answer.job"
EXPECTED = Path(__file__).with_name("findings.txt")


FEW: Changes = {path.name: GONE for path in ACME_ANSWERS.glob("*.json") if path.name != "3_done.json"}
"""Nothing but the run that succeeded."""
SHOWN: Changes = {
    "6_resume.json": answer("resume", "POST /v3/jobs/J-1/resume"),
    "7_retry.json": answer("retry", "POST /v3/jobs/J-1/retry", {"job": {"job_id": "J-2"}}, run_id="J-2"),
    "8_explain.json": answer("explain", "GET /v3/jobs/J-1/why"),
    "9_result.json": answer(
        "result",
        "GET /v3/jobs/J-1/result",
        {"answer": {"job": {"job_id": "J-1", "state": "DONE"}}},
        outcome="succeeded",
    ),
}

LATE_FAILS = StateTable(
    {
        "QUEUED": Phase.QUEUED,
        "ACTIVE": {None: Phase.RUNNING, "late": Outcome.FAILED},
        "DONE": Outcome.SUCCEEDED,
        "BROKEN": Outcome.FAILED,
        "STOPPED": Outcome.CANCELLED,
    }
)
ROUTES: dict[str, tuple[Provider, Changes]] = {
    "as it is": (ACME, {}),
    "no cancel is declared": (other(cancel=None), {}),
    "another method of a cancel": (other(cancel=asked("POST")), {}),
    "another path of a cancel": (other(cancel=asked("DELETE", "/v3/runs/{run_id}")), {}),
    "another method of the probe": (other(probe=asked("POST", "/v3/me")), {}),
    "another path of the probe": (other(probe=asked("GET", "/v3/you")), {}),
    "a query that was not sent": (
        other(status=asked(view="all", deep="1")),
        {
            "3_done.json": {"request.query": {"view": "all", "deep": "2"}},
            "2_active.json": {"request.query": {"a": "b"}},
        },
    ),
    "the query that was sent": (other(status=asked(view="all")), {"3_done.json": {"request.query": {"view": "all"}}}),
    "another query of the probe": (
        other(probe=asked("GET", "/v3/me", view="all")),
        {"probe.json": {"request.query": {"view": "own"}}},
    ),
    "a query where none is written down": (other(status=asked(view="all")), {}),
    "no submit is declared": (other(submit=None), {}),
    "arguments that are refused": (other(), {"submit.json": {"request.arguments": {"plant": ""}}}),
    "a submit without its arguments": (other(), {"submit.json": {"request.arguments": GONE}}),
    "a call of another provider": (other(submit=ACME.submit), {}),
    "a submit by another path": (other(), {"submit.json": {"request.path": "/v3/plants/south/jobs"}}),
    "a submit by another method": (other(), {"submit.json": {"request.method": "PUT"}}),
    "a submit of another body": (other(), {"submit.json": {"request.json": {"amount": 3, "label": "weekly", "x": 1}}}),
    "a submit of a body that lacks a field": (other(), {"submit.json": {"request.json": {"amount": 2}}}),
    "a submit whose body is not written down": (other(), {"submit.json": {"request.json": GONE}}),
    "a submit without a parent": (submitting(build=orphan), {}),
    "a submit without a parent and without a list": (other(submit=submission(NAME, build=orphan), listing=None), {}),
    "routes that no answer shows": (
        other(**EVERY_ROUTE),
        dict.fromkeys(("cancel.json", "submit.json", "submit_conflict.json", "list_1.json", "list_2.json"), GONE),
    ),
    "all routes are shown": (other(**EVERY_ROUTE), SHOWN),
    "another version": (other(version_path="/v2"), {}),
    "half of the version": (other(version_path="/v"), {}),
    "no version": (other(version_path=""), {}),
    "a key in a query": (
        other(
            probe=asked("GET", "/v3/me", Token="1"),
            status=Route("GET", JOB, {"x-acme-key": "1"}),
            result=asked("GET", f"{JOB}/result", a="acme_1"),
            cancel=asked("DELETE", b="acm"),
            resume=asked("POST", f"{JOB}/resume", key="1"),
        ),
        {**SHOWN},
    ),
    "a key in the query of a list": (
        listing(
            route=asked("GET", "/v3/plants/{plant}/jobs", secret="1"),
            latest=asked("GET", "/v3/plants/{plant}/jobs/latest", password="1"),
        ),
        {},
    ),
    "a key in the query of a retry": (
        other(
            retry=Retry(asked("POST", f"{JOB}/retry", auth="1"), ("job", "job_id")),
            explain=Explanation(asked("GET", f"{JOB}/why", apikey="1"), nothing),
        ),
        SHOWN,
    ),
    "keys without a beginning in a query": (other(auth=AuthScheme("X-Acme-Key"), status=asked(view="acme_1")), FEW),
    "another header of the key": (other(auth=AuthScheme("X-Acme-Token", key_prefixes=("acme_",))), FEW),
    "another prefix of the key": (other(auth=AuthScheme("X-Acme-Key", "Bearer ", key_prefixes=("acme_",))), FEW),
    "another beginning of the key": (other(auth=AuthScheme("X-Acme-Key", key_prefixes=("amce_", "other_"))), FEW),
    "one of several beginnings": (
        other(auth=AuthScheme("X-Acme-Key", key_prefixes=("amce_", "ACME_"))),
        FEW,
    ),
    "a header in other letters": (other(auth=AuthScheme("x-acme-KEY", key_prefixes=("acme_",))), FEW),
    "a key without a beginning": (ACME, {"3_done.json": {"request.headers": {"X-Acme-Key": "stand-in"}}}),
    "no header at all": (ACME, {"3_done.json": {"request.headers": {}}}),
    "headers without the key": (ACME, {"3_done.json": {"request.headers": {"X-One": "1", "X-Two": "2"}}}),
}

WORDS: dict[str, tuple[Provider, Changes]] = {
    "as it is": (ACME, {}),
    "a word is missing": (other(states=states(DONE=None, READY=Outcome.SUCCEEDED)), {}),
    "a word means a phase": (other(states=states(STOPPED=Phase.STOPPING)), {}),
    "a word means another end": (other(states=states(STOPPED=Outcome.FAILED)), {}),
    "another id in the answer": (ACME, {"3_done.json": {"read_as.run_id": "J-2"}}),
    "the id of another run": (ACME, {"3_done.json": {f"{RUN}.job_id": "J-2"}}),
    "no reason": (ACME, {"3_done.json": {"read_as.reason": "because"}}),
    "a reason": (ACME, {"4_broken.json": {"read_as.reason": None}}),
    "another reason": (ACME, {"4_broken.json": {"read_as.reason": "because"}}),
    "no object": (ACME, {"3_done.json": {"body": {"b": 1, "a": 2}}, "2_active.json": {"body": {}}}),
    "no word in the answer": (ACME, {"3_done.json": {f"{RUN}.state": GONE}}),
    "an answer that is to be an error": (
        ACME,
        {
            "3_done.json": {"read_as": {"error": "MalformedAnswer"}},
            "2_active.json": {"read_as": {"error": "AnswerError"}, f"{RUN}.state": GONE},
        },
    ),
    "another error than the one that comes": (
        ACME,
        {"3_done.json": {"read_as": {"error": "RunNotFound"}, f"{RUN}.state": GONE}},
    ),
    "a class of errors": (ACME, {"not_found.json": {"read_as.error": "AnswerError"}}),
    "another error than that of the status": (
        ACME,
        {"not_found.json": {"read_as.error": "RateLimited"}, "submit_conflict.json": {"read_as.error": "RunNotFound"}},
    ),
    "no success": (ACME, {"3_done.json": GONE}),
    "words that nothing shows": (
        other(states=LATE_FAILS, body=Believed),
        {"1_queued.json": GONE},
    ),
    "a word that another text changes": (
        other(states=LATE_FAILS, body=Believed),
        {"2_active.json": {f"{RUN}.note": "late"}},
    ),
    "a word in small letters": (other(body=Spelled), FEW),
    "an id and a word by default": (other(body=Defaults), FEW),
    "other words are failures": (other(body=Guessing), FEW),
    "an id that ends with a zero": (
        ACME,
        {**FEW, "3_done.json": {"request.path": "/v3/jobs/J-10", f"{RUN}.job_id": "J-10", "read_as.run_id": "J-10"}},
    ),
    "all ids are one": (other(id_key=lambda _: "one"), {}),
    "ids are told apart by their beginnings": (other(id_key=lambda value: value[:-1]), {}),
    "another address": (other(status=asked("GET", "/v3/runs/{run_id}")), FEW),
}

TIMES: dict[str, tuple[Provider, Changes]] = {
    "as it is": (ACME, {}),
    "a time that is none": (ACME, {"3_done.json": {f"{RUN}.began": None}}),
    "other times": (
        ACME,
        {
            "3_done.json": {f"{RUN}.made": "2026-03-01T09:00:00Z", "read_as.created_at": "2026-03-01T10:00:00Z"},
            "4_broken.json": {"read_as.started_at": None, "read_as.created_at": None},
        },
    ),
    "times that read_as leaves out": (
        ACME,
        {"3_done.json": {"read_as.started_at": GONE, "read_as.finished_at": GONE, f"{RUN}.began": None}},
    ),
    "the end of a run that goes on": (
        other(body=Deadline),
        {"2_active.json": {"read_as.finished_at": GONE}, "3_done.json": GONE},
    ),
    "an end before the start": (
        ACME,
        {"3_done.json": {f"{RUN}.ended": "2026-03-01T10:00:59Z", "read_as.finished_at": GONE}},
    ),
    "an end before the run was made": (
        ACME,
        {
            "3_done.json": {
                f"{RUN}.ended": "2026-03-01T09:59:59Z",
                f"{RUN}.began": None,
                "read_as.finished_at": GONE,
                "read_as.started_at": GONE,
            }
        },
    ),
    "an end at the start": (
        ACME,
        {"3_done.json": {f"{RUN}.ended": "2026-03-01T10:01:00Z", "read_as.finished_at": GONE}},
    ),
    "other details": (
        ACME,
        {
            "3_done.json": {"read_as.details": {"plant": "south", "owner": "x", "b": 1}},
            "2_active.json": {"read_as.details": {}},
        },
    ),
    "a whole object": (other(body=Contact, spend=None), {"3_done.json": {"read_as.details": GONE}}),
    "another page of the run": (other(link="https://acme.test/{run_id}/{plant}"), {}),
    "a page of the run that is not compared": (
        other(link="https://acme.test/{run_id}/{plant}"),
        {"3_done.json": {"read_as.url": GONE, f"{RUN}.plant": "a{b"}},
    ),
    "an answer that cannot be read": (ACME, {"3_done.json": {f"{RUN}.state": GONE}}),
}

LATEST = asked("GET", "/v3/plants/{plant}/jobs/latest")
NEWEST: dict[str, Any] = {"answer": {"job": {"job_id": "J-1", "state": "DONE", "plant": "north"}}}


def latest(**read_as: Any) -> dict[str, Any]:
    return answer("latest", "GET /v3/plants/north/jobs/latest", NEWEST["answer"]["job"], **read_as)


LISTS: dict[str, tuple[Provider, Changes]] = {
    "as it is": (ACME, {}),
    "no list": (other(listing=None), {}),
    "another parent": (ACME, {"list_1.json": {"read_as.parent": {"site": "a"}}}),
    "two parents": (ACME, {"list_1.json": {"read_as.parent": {"plant": "north", "site": "a"}}}),
    "a parent of another kind": (ACME, {"list_1.json": {"read_as.parent": {"owner": "o"}}}),
    "no array": (listing(items=("job",)), {}),
    "an entry that cannot be read": (ACME, {"list_1.json": {"body.jobs.0.job_id": GONE}}),
    "an entry that nobody expects": (ACME, {"list_1.json": {"read_as.runs": [{"run_id": "J-1", "phase": "running"}]}}),
    "entries in another order": (ACME, {"list_1.json": {"read_as.runs": [{"run_id": "J-2"}, {"run_id": "J-1"}]}}),
    "an entry of another meaning": (
        ACME,
        {
            "list_1.json": {
                "read_as.runs": [{"run_id": "J-1", "outcome": "failed"}, {"run_id": "J-2", "phase": "paused"}]
            }
        },
    ),
    "entries whose meaning is not said": (
        ACME,
        {"list_1.json": {"read_as.runs": [{"run_id": "J-1"}, {"run_id": "J-2"}]}},
    ),
    "a detail that names no parent": (listing(parent_detail="parts"), {}),
    "one page": (ACME, {"list_2.json": GONE, "list_1.json": {"read_as.more": False, "body.next_cursor": None}}),
    "no detail of a parent": (listing(parent_detail=None), {}),
    "a parent of another name": (ACME, {"list_1.json": {"body.jobs.0.plant": "south"}}),
    "no further page is found": (ACME, {"list_1.json": {"body.next_cursor": None}}),
    "a further page after the last": (ACME, {"list_2.json": {"body.next_cursor": "c-3"}}),
    "a cursor that is none": (ACME, {"list_1.json": {"body.next_cursor": {"a": 1}}}),
    "it is not said whether a page follows": (ACME, {"list_1.json": {"read_as.more": GONE, "body.next_cursor": None}}),
    "another parameter": (listing(parameter="cursor"), {}),
    "another cursor": (ACME, {"list_2.json": {"request.query": {"after": "c-9"}}}),
    "one page of several": (listing(paging=None, next=()), {}),
    "pages of numbers": (listing(paging="page", next=(), parameter="page"), {}),
    "full pages": (
        listing(paging="page", next=(), parameter="page", page_size=2),
        {"list_2.json": {"request.query": {"page": "2"}}},
    ),
    "short pages": (listing(paging="page", next=(), parameter="page", page_size=3), {}),
    "short pages of several parents": (
        listing(paging="page", next=(), parameter="page", page_size=3, filtered=True),
        {},
    ),
    "pages by offset": (
        listing(paging="offset", next=(), parameter="offset", page_size=2),
        {"list_2.json": {"request.query": {"offset": "2"}}},
    ),
    "pages by address": (
        listing(paging="next", parameter=None),
        {"list_1.json": {"body.next_cursor": "https://api.acme.test/v3/plants/north/jobs?after=c-2"}},
    ),
    "pages of two parents": (ACME, {"list_2.json": {"request.path": "/v3/plants/south/jobs"}}),
    "the newest run": (listing(latest=LATEST), {"latest.json": latest(outcome="succeeded")}),
    "the newest run means something else": (listing(latest=LATEST), {"latest.json": latest(outcome="failed")}),
    "the newest run cannot be read": (
        listing(latest=LATEST),
        {"latest.json": {**latest(outcome="failed"), "body": {"state": "DONE"}}},
    ),
    "the newest run is an error": (
        listing(latest=LATEST),
        {"latest.json": {**latest(error="MalformedAnswer"), "body": {"state": "DONE"}}},
    ),
    "the newest run at another address": (
        listing(latest=asked("GET", "/v3/plants/{plant}/newest")),
        {"latest.json": latest(outcome="failed")},
    ),
}

REFUSED: dict[str, Any] = {"status": 503, "body": {"code": "busy", "message": "later"}, "read_as.error": "ServiceError"}
EVIDENCE: dict[str, tuple[Provider, Changes]] = {
    "as it is": (ACME, {}),
    "no submit": (other(submit=None), {}),
    "no proof of one at a time": (ACME, {"submit_conflict.json": GONE}),
    "no claim of one at a time": (submitting(one_at_a_time=False), {"submit_conflict.json": GONE}),
    "a conflict is sent again": (submitting(turned_away=((409, "busy"),)), {}),
    "a shown answer is sent again": (
        submitting(turned_away=((503, "busy"),)),
        {"submit_conflict.json": REFUSED},
    ),
    "another code": (submitting(turned_away=((503, "late"),)), {"submit_conflict.json": REFUSED}),
    "another status": (submitting(turned_away=((502, "busy"),)), {"submit_conflict.json": REFUSED}),
    "a mark that no run shows": (submitting(mark="error"), {}),
    "a mark that one run lacks": (ACME, {"3_done.json": {f"{RUN}.label": GONE}}),
    "a mark that one entry lacks": (ACME, {"list_2.json": {"body.jobs.0.label": GONE}}),
    "a mark that no submit sends": (submitting(mark="plant"), {}),
    "no mark": (submitting(mark=None), {}),
}
IDS: dict[str, tuple[Provider, Changes]] = {
    "as it is": (ACME, {}),
    "the id elsewhere": (submitting(run_id=("queue_id",)), {}),
    "no id there": (submitting(run_id=("job", "id")), {}),
    "an id that stands nowhere": (ACME, {"submit.json": {"read_as.run_id": "J-9"}}),
    "no submit": (other(submit=None), {}),
    "arguments that are refused": (
        other(),
        {"submit.json": {"request.arguments": {"plant": ""}, "read_as.run_id": "J-9"}},
    ),
    "a submit without its arguments": (submitting(run_id=("queue_id",)), {"submit.json": {"request.arguments": GONE}}),
    "the id of a retry": (other(**EVERY_ROUTE), SHOWN),
    "the id of a retry elsewhere": (
        other(retry=Retry(asked("POST", f"{JOB}/retry"), ("job", "id"))),
        {"7_retry.json": SHOWN["7_retry.json"]},
    ),
}
TABLES: dict[str, tuple[Check, dict[str, tuple[Provider, Changes]]]] = {
    "routes": (routes, ROUTES),
    "words": (words, WORDS),
    "times": (times_and_details, TIMES),
    "lists": (lists, LISTS),
    "evidence": (_evidence, EVIDENCE),
    "ids": (_ids, IDS),
}
CASES = [(table, name) for table, (_, cases) in TABLES.items() for name in cases]


def found(table: str, name: str) -> str:
    check, cases = TABLES[table]
    provider, changes = cases[name]
    findings: list[Finding] = list(check(Facts(provider, folder(changes))))
    return "".join(f"{each}\n" for each in findings)


def expected() -> dict[str, str]:
    parts = EXPECTED.read_text(encoding="utf-8").split("## ")[1:]
    return {heading: lines for heading, _, lines in (part.rstrip("\n").partition("\n") for part in parts)}


@pytest.mark.parametrize(("table", "name"), CASES)
def test_a_check_says_what_does_not_fit_and_what_to_do(table: str, name: str) -> None:
    assert found(table, name).rstrip("\n") == expected()[f"{table}: {name}"]


def test_no_words_are_kept_of_a_case_that_is_gone() -> None:
    assert list(expected()) == [f"{table}: {name}" for table, name in CASES]
