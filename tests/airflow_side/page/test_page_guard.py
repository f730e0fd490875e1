"""What a page of another site, a stranger's text or a flood may try: each is tried."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pytest_mock import MockerFixture

from tests.airflow_side.page.database import Database, record
from tests.airflow_side.page.people import HOST, Person

Opens = Callable[[str | None], Person]


# --- headers ---


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("ada", "/"), ("ada", "/api/runs"), ("ada", "/api/runs?limit=x"), ("ada", "/api/none"), ("ada", "/assets/none"),
        (None, "/"), (None, "/api/runs"),
    ],
)  # fmt: skip
def test_every_answer_has_the_headers_that_browsers_obey(
    name: str | None, path: str, database: Database, person: Opens
) -> None:
    answer = person(name).client.get(f"/runops{path}")
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == policy["frame-ancestors"] == "'self'"
    assert policy["base-uri"] == policy["form-action"] == "'none'"
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "SAMEORIGIN"
    assert answer.headers["referrer-policy"] == "no-referrer"
    if "/api/" in path:
        assert answer.headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in answer.headers


def test_an_error_of_ours_has_them_too_and_tells_nothing(
    database: Database, person: Opens, mocker: MockerFixture
) -> None:
    mocker.patch("runops.airflow.plugin.app.stored", side_effect=RuntimeError("canary of a traceback"))
    database.add()
    answer = person("ada").get("/api/runs")
    assert answer.status_code == 500
    assert "canary" not in answer.text
    assert "frame-ancestors 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"


# --- cross-site requests ---

FOREIGN: dict[str, dict[str, str | None]] = {
    "of a form": {"content_type": "application/x-www-form-urlencoded"},
    "of a form that looks like JSON": {"content_type": "text/plain"},
    "without a content type": {"content_type": ""},
    "without our header": {"x_runops": None},
    "with another value of it": {"x_runops": "0"},
    "of another site": {"sec_fetch_site": "cross-site", "origin": "https://evil.example"},
    "of another site, by its origin alone": {"sec_fetch_site": None, "origin": "https://evil.example"},
    "of a site beside it": {"sec_fetch_site": "same-site", "origin": "https://other.airflow.test"},
    "typed by a person": {"sec_fetch_site": "none"},
    "of a sandboxed page": {"sec_fetch_site": None, "origin": "null"},
    "with our name in it": {"sec_fetch_site": None, "origin": "http://airflow.test.evil.example"},
    "on another port": {"sec_fetch_site": None, "origin": "http://airflow.test:8443"},
    "that does not say from where": {"sec_fetch_site": None, "origin": None},
}


@pytest.mark.parametrize("what", ["look", "cancel"])
@pytest.mark.parametrize("how", FOREIGN)
def test_an_action_of_another_site_is_refused(how: str, what: str, database: Database, person: Opens) -> None:
    task = database.add()
    answer = person("ada").act(what, task, **FOREIGN[how])
    assert answer.status_code in (403, 415)
    assert database.state_of(task) == "deferred"
    assert database.audit() == []


@pytest.mark.parametrize("method", ["get", "put", "patch", "delete", "options", "head"])
def test_an_action_is_no_other_method(method: str, database: Database, person: Opens) -> None:
    assert person("ada").client.request(method, "/runops/api/cancel").status_code in (404, 405)


def test_a_program_with_a_token_needs_no_browser_s_headers(database: Database, person: Opens) -> None:
    from tests.airflow_side.page.people import token_of

    task = database.add()
    answer = person(None).act(
        "cancel", task, sec_fetch_site=None, origin=None, authorization=f"Bearer {token_of('ada')}"
    )
    assert answer.status_code == 200


def test_the_address_that_airflow_is_configured_with_is_its_own(
    database: Database, person: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.com/prod")
    task = database.add()
    origin = "https://airflow.example.com"
    assert person("ada").act("cancel", task, sec_fetch_site=None, origin=origin).status_code == 200


# --- strangers' texts ---

TEXTS = {
    "html": "<img src=x onerror=alert(1)><script>alert(2)</script>",
    "ansi": "\x1b[31mred\x1b[0m\x1b]8;;https://evil.example\x07link",
    "rtl": "safe\u202egpj.exe\u2066\u200f",
    "attributes": "\"' onmouseover='alert(1)",
    "lines": "one\r\nSet-Cookie: a=b",
    "null": "a\x00b",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_stranger_s_text_travels_as_json_only_and_without_control_signs(
    text: str, database: Database, person: Opens
) -> None:
    task = database.add(
        record(run_id="r-1", reason=text, state=text, holds="turn", holds_for=text, details={"stage": text}),
        xcoms={"runs": [{"index": 0, "run_id": text, "error": text, "url": f"javascript:{text}"}]},
    )
    ada = person("ada")
    for answer in (ada.get("/api/runs"), ada.get("/api/run", **task), ada.get("/api/rows", **task)):
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "javascript:" not in answer.text
        assert "set-cookie" not in answer.headers
        for sign in "\x1b\r\n\x00\x07\u202e\u2066\u200f":
            assert sign not in answer.text
            assert sign not in str(answer.json())


@pytest.mark.parametrize(
    "url",
    ["javascript:alert(1)", "data:text/html,x", "//evil.example", "https://a@evil.example", "http:\\\\evil", "/x"],
)
def test_an_address_that_is_none_of_the_web_is_not_passed_on(url: str, database: Database, person: Opens) -> None:
    task = database.add(record(url=url), xcoms={"runs": [{"index": 0, "run_id": "r", "url": url}]})
    assert "url" not in person("ada").runs()["runs"][0]
    assert "url" not in person("ada").get("/api/rows", **task).json()["rows"][0]


# --- questions that nobody asks by accident ---

ODD: list[dict[str, Any]] = [
    {"limit": 0}, {"limit": 201}, {"limit": -1}, {"limit": "x"}, {"limit": 10**30}, {"offset": -1}, {"offset": 10**7},
    {"sort": "value"}, {"sort": "--began_at"}, {"sort": "began_at; DROP TABLE xcom"}, {"sort": ["a", "b"] * 30},
    {"q": "x" * 201}, {"phase": "none"}, {"outcome": "running"}, {"verdict": "maybe"}, {"holds": "<b>"},
    {"open": "perhaps"}, {"dag_id": "x" * 300}, {"dag_id": ["x"] * 51}, {"dag_id": ""}, {"map_index": 2**40},
    {"unknown": 1}, {"Limit": 1},
]  # fmt: skip


@pytest.mark.parametrize("asked", ODD, ids=str)
def test_a_question_out_of_bounds_is_refused_and_not_repeated(
    asked: dict[str, Any], database: Database, person: Opens
) -> None:
    database.add()
    answer = person("ada").get("/api/runs", **asked)
    assert answer.status_code == 422, answer.text
    detail = answer.json()["detail"]
    assert isinstance(detail, str)
    assert len(detail) < 1000
    for value in asked.values():
        assert len(str(value)) < 3 or str(value) not in detail


def test_a_question_may_hold_any_sign(database: Database, person: Opens) -> None:
    ada = person("ada")
    for text in ("' OR 1=1 --", "%00", "\\", "%%%", "\N{PARROT}", "\N{RIGHT-TO-LEFT OVERRIDE}", "\x1b[0m"):
        assert ada.client.get("/runops/api/runs", params={"q": text, "dag_id": text}).status_code == 200
    assert ada.client.get("/runops/api/runs?q=%ff%fe&dag_id=%ff").status_code == 200
    # But the one that PostgreSQL takes in no text.
    for field in ("q", "dag_id", "provider", "dag_run_id"):
        assert ada.client.get(f"/runops/api/runs?{field}=a%00").status_code == 422


BODIES = [None, [], "x", 3, {}, {"dag_id": "a"}, {"dag_id": 1, "dag_run_id": [], "task_id": {}, "map_index": "x"}]


@pytest.mark.parametrize("body", BODIES, ids=str)
def test_a_body_that_names_no_task_is_refused(body: Any, database: Database, person: Opens) -> None:
    answer = person("ada").act("cancel", body)
    assert answer.status_code == 422
    assert isinstance(answer.json()["detail"], str)


def test_a_body_that_is_cut_off_or_too_deep_is_refused(database: Database, person: Opens) -> None:
    headers = {"content-type": "application/json", "x-runops": "1", "origin": HOST}
    for content in (b'{"dag_id": "a', b"[" * 100_000, b"\xff\xfe"):
        answer = person("ada").client.post("/runops/api/cancel", content=content, headers=headers)
        assert answer.status_code in (400, 422), content[:20]


# --- files ---

OUTSIDE = (
    "../index.html", "..%2findex.html", "%2e%2e/index.html", "%2e%2e%2fapp.py", "....//app.py", "..\\app.py", "%00",
    "/etc/passwd", "%2fetc%2fpasswd", "..%5capp.py", "%252e%252e%252fapp.py", "..%2f..%2f__init__.py", ".", "",
)  # fmt: skip


@pytest.mark.parametrize("path", OUTSIDE)
def test_no_file_outside_the_assets_is_served(path: str, person: Opens) -> None:
    answer = person(None).client.get(f"/runops/assets/{path}", follow_redirects=False)
    assert answer.status_code in (401, 404)
    assert "import" not in answer.text
    assert "root:" not in answer.text


def test_the_page_and_what_it_needs_are_served_and_kept_as_they_may_be(person: Opens) -> None:
    import re

    ada, nobody = person("ada"), person(None)
    page = ada.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["cache-control"] == "no-cache"
    needed = re.findall(r'(?:src|href)="(assets/[^"]+)"', page.text)
    assert needed
    for path in needed:
        answer = nobody.get(f"/{path}")
        assert answer.status_code == 200, path
        hashed = re.search(r"-[0-9a-f]{8,}\.", path) is not None
        assert ("immutable" in answer.headers["cache-control"]) is hashed
    # Nothing in the page that the policy would refuse, and nothing from elsewhere.
    assert not re.search(r"<script(?![^>]*src=)|<style|\son\w+=|\sstyle=|https?://", page.text)


@pytest.mark.parametrize(
    "path", ["//evil.example", "/%2f%2fevil.example", "/\\evil.example", "/..//evil.example/%2e%2e"]
)
def test_nothing_leads_elsewhere(path: str, person: Opens) -> None:
    for name in ("ada", None):
        answer = person(name).client.get(f"/runops{path}", follow_redirects=False)
        assert "evil" not in answer.headers.get("location", "")


def test_there_is_no_list_of_routes_to_read(person: Opens) -> None:
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert person("ada").get(path).status_code == 404


# --- floods ---


def test_a_flood_of_questions_is_stopped_and_others_go_on(
    database: Database, person: Opens, mocker: MockerFixture
) -> None:
    from runops.airflow.plugin import guard

    mocker.patch.object(guard, "READS_PER_MINUTE", 5)
    otto, ada = person("otto"), person("ada")
    answers = [otto.get("/api/facets") for _ in range(8)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 3
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
    assert ada.get("/api/facets").status_code == 200


def test_a_flood_of_actions_is_stopped_before_anything_is_done(
    database: Database, person: Opens, mocker: MockerFixture
) -> None:
    from runops.airflow.plugin import guard

    mocker.patch.object(guard, "ACTIONS_PER_MINUTE", 2)
    tasks = [database.add(record(run_id=f"r-{number}")) for number in range(4)]
    ada = person("ada")
    assert [ada.act("cancel", task).status_code for task in tasks] == [200, 200, 429, 429]
    assert [database.state_of(task) for task in tasks] == ["failed", "failed", "deferred", "deferred"]


def test_a_person_has_one_measure_however_many_browsers_they_use(
    database: Database, person: Opens, mocker: MockerFixture
) -> None:
    from runops.airflow.plugin import guard

    mocker.patch.object(guard, "READS_PER_MINUTE", 4)
    answers = [person("ada").get("/api/facets").status_code for _ in range(6)]
    assert answers == [200] * 4 + [429] * 2
