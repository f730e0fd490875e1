"""A file of a folder of answers: what it must say, what is refused and by which words, and what it is as an answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runops.conformance.answers import RecordedAnswer, read_file, read_folder, read_json
from runops.core import ConfigurationError, Outcome, Phase

ASKED = {"method": "GET", "path": "/v3/jobs/J-1"}


def written(folder: Path, **given: Any) -> Path:
    file = folder / "one.json"
    whole = {"schema": 1, "route": "status", "request": ASKED, "status": 200, "read_as": {"phase": "running"}}
    file.write_text(json.dumps({**whole, **given}))
    return file


def refusal(file: Path) -> str:
    with pytest.raises(ConfigurationError) as raised:
        read_file(file)
    return raised.value.text


ABOUT_A_RUN = "one.json: read_as needs one of phase, outcome and error: it says how the run stands."
ONE_ERROR = "one.json: read_as needs 'error', such as ConflictError for a 409: the answer is a {}."
AN_ID = "one.json: read_as needs 'run_id', the id of the run that was started."
RUNS = "one.json: read_as needs 'runs', the runs on this page."


@pytest.mark.parametrize(
    ("route", "status", "read_as", "problem"),
    [
        ("status", 200, {}, ABOUT_A_RUN),
        ("result", 200, {"run_id": "J-1"}, ABOUT_A_RUN),
        ("latest", 200, {}, ABOUT_A_RUN),
        ("status", 404, {}, ABOUT_A_RUN),
        ("status", 200, {"phase": "running", "error": "RunNotFound"}, "only one of phase and error"),
        ("status", 200, {"outcome": "failed", "error": "RunNotFound"}, "only one of outcome and error"),
        (
            "latest",
            200,
            {"phase": "running", "outcome": "failed", "error": "RunNotFound"},
            "one.json: read_as needs only one of phase and outcome and error: it says how the run stands.",
        ),
        ("probe", 401, {}, ONE_ERROR.format(401)),
        ("submit", 409, {"run_id": "J-1"}, ONE_ERROR.format(409)),
        ("list", 300, {"runs": []}, ONE_ERROR.format(300)),
        ("submit", 201, {}, AN_ID),
        ("retry", 200, {}, AN_ID),
        ("list", 299, {}, RUNS),
        (
            "status",
            200,
            {"outcome": "timed_out"},
            "one.json: read_as.outcome: timed_out is an end of a wait, and of no run.",
        ),
    ],
)
def test_a_file_that_does_not_say_how_it_is_to_be_read_is_refused(
    tmp_path: Path, route: str, status: int, read_as: Any, problem: str
) -> None:
    assert problem in refusal(written(tmp_path, route=route, status=status, read_as=read_as))


@pytest.mark.parametrize(
    ("route", "status", "read_as"),
    [
        ("status", 404, {"error": "RunNotFound"}),
        ("result", 200, {"outcome": "failed"}),
        ("latest", 200, {"phase": "queued"}),
        ("probe", 200, {}),
        ("cancel", 299, {}),
        ("resume", 200, {}),
        ("explain", 200, {}),
        ("probe", 401, {"error": "AuthenticationFailed"}),
        ("submit", 201, {"run_id": "J-1"}),
        ("submit", 200, {"error": "MalformedAnswer"}),
        ("retry", 200, {"run_id": "J-1"}),
        ("retry", 200, {"error": "MalformedAnswer"}),
        ("list", 200, {"runs": []}),
        ("list", 200, {"error": "MalformedAnswer"}),
    ],
)
def test_a_file_that_says_how_it_is_to_be_read_is_taken(
    tmp_path: Path, route: str, status: int, read_as: dict[str, Any]
) -> None:
    found = read_file(written(tmp_path, route=route, status=status, read_as=read_as))
    assert (found.route, found.status, found.file) == (route, status, "one.json")
    assert found.ok is (status < 300)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"status": 199}, "one.json: status: Input should be greater than or equal to 200."),
        ({"status": 600}, "one.json: status: Input should be less than or equal to 599."),
        ({"schema": 2}, "one.json: schema: Input should be 1."),
        ({"staus": 1}, "one.json: staus: Extra inputs are not permitted. Did you mean 'status'?"),
        (
            {"request": {**ASKED, "jsn": {}}},
            "one.json: request.jsn: Extra inputs are not permitted. Did you mean 'json'?",
        ),
        ({"request": {"method": "GET"}}, "one.json: request.path: Field required."),
        (
            {"read_as": {"phase": "running", "reasn": "x"}},
            "one.json: read_as.reasn: Extra inputs are not permitted. Did you mean 'reason'?",
        ),
        ({"zzzzzzzz": 1}, "one.json: zzzzzzzz: Extra inputs are not permitted."),
    ],
)
def test_a_field_that_is_not_as_it_should_be_is_named_and_its_value_is_not(
    tmp_path: Path, given: dict[str, Any], problem: str
) -> None:
    assert refusal(written(tmp_path, **given)) == problem


@pytest.mark.parametrize("status", [200, 599])
def test_the_first_and_the_last_status_are_taken(tmp_path: Path, status: int) -> None:
    read_as = {"error": "ServiceError"}
    assert read_file(written(tmp_path, route="probe", status=status, read_as=read_as)).status == status


ROUTES = "status, result, submit, cancel, resume, retry, explain, list, latest, probe"


@pytest.mark.parametrize("text", ["[]", "3", '"route"', "{}", '["route"]'])
def test_json_that_is_no_answer_is_told_what_it_needs(tmp_path: Path, text: str) -> None:
    file = tmp_path / "a.json"
    file.write_text(text)
    assert refusal(file) == f"a.json is no answer of a folder: it needs 'route', one of {ROUTES}."


@pytest.mark.parametrize("content", [b"{", b"\xff", b"", b"[" * 100_000])
def test_what_is_no_json_is_said_to_be_none(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"^the sample is no JSON\. ") as raised:
        read_json(file, "the sample")
    assert raised.value.__suppress_context__


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"^the sample cannot be read: No such file or directory\. "):
        read_json(tmp_path / "none.json", "the sample")


def test_a_folder_is_read_in_the_order_of_its_names_without_its_script(tmp_path: Path) -> None:
    for name in ("b.json", "a.json", "script.json", "c.txt"):
        written(tmp_path).rename(tmp_path / name)
    assert [each.file for each in read_folder(str(tmp_path))] == ["a.json", "b.json"]


def test_a_folder_that_is_none_and_one_without_answers_are_told_apart(tmp_path: Path) -> None:
    none = tmp_path / "none"
    with pytest.raises(ConfigurationError) as raised:
        read_folder(none)
    assert raised.value.text == f"--answers: there is no folder {str(none)!r}; runops record writes one."
    written(tmp_path).rename(tmp_path / "script.json")
    with pytest.raises(ConfigurationError) as raised:
        read_folder(tmp_path)
    assert raised.value.text == f"--answers: {str(tmp_path)!r} holds no .json file; runops record writes them."


@pytest.mark.parametrize(
    ("given", "content"),
    [
        ({"body": {"a": [1, "ä"]}}, b'{"a":[1,"\\u00e4"]}'),
        ({"body": None}, b"null"),
        ({}, b""),
        ({"text": "<html>ä"}, "<html>ä".encode()),
        ({"text": "", "body": {"a": 1}}, b""),
    ],
)
def test_the_body_comes_as_it_stands_there(tmp_path: Path, given: dict[str, Any], content: bytes) -> None:
    assert read_file(written(tmp_path, **given)).content == content


@pytest.mark.parametrize(
    ("read_as", "meaning"),
    [({"phase": "running"}, Phase.RUNNING), ({"outcome": "failed"}, Outcome.FAILED), ({"error": "RunNotFound"}, None)],
)
def test_an_answer_means_what_its_file_says(tmp_path: Path, read_as: dict[str, Any], meaning: Any) -> None:
    assert read_file(written(tmp_path, read_as=read_as)).meaning is meaning


def test_only_what_a_file_says_is_compared(tmp_path: Path) -> None:
    read_as = read_file(written(tmp_path, read_as={"phase": "running", "reason": None})).read_as
    assert (read_as.says("reason"), read_as.says("url")) == (True, False)


def test_an_answer_is_written_as_it_was_read(tmp_path: Path) -> None:
    given = {"request": {**ASKED, "json": {"ä": None}}, "body": {"b": None}, "read_as": {"phase": "running"}}
    file = written(tmp_path, **given)
    text = read_file(file).to_json()
    assert json.loads(text) == json.loads(file.read_text())
    assert text.startswith('{\n  "schema": 1,\n  "route": "status",\n')
    assert text.endswith("}\n")
    assert '"ä": null' in text
    without = RecordedAnswer.model_validate({"route": "probe", "request": ASKED, "status": 200, "read_as": {}})
    assert json.loads(without.to_json())["schema"] == 1
