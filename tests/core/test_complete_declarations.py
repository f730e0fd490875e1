"""What a declaration says of itself, and that it is believed: ids, words, names, pages. No service is special here."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import pytest

from runops.core import ConfigurationError, Outcome, Phase, Provider, RunClient, StateTable
from runops.core.cadence import Cadence
from runops.core.errors import SubmitUncertainError
from runops.core.provider import Call, Route, RunBody, Submission


def start(*, recipe: str) -> Call:
    """A run of a recipe."""
    return Call("plain", "/v2/jobs", {"recipe": recipe})


WORDS = StateTable({"on": Phase.RUNNING, "ok": Outcome.SUCCEEDED, "bad": Outcome.FAILED})


def declared(**changes: Any) -> Provider:
    """A declaration that is complete, but for what a test changes."""
    whole: dict[str, Any] = {
        "name": "plain",
        "title": "Plain",
        "docs": "https://docs.plain.test",
        "base_url": "https://api.plain.test",
        "version_path": "/v2",
        "key_variable": "PLAIN_KEY",
        "body": RunBody,
        "states": WORDS,
        "status": Route("GET", "/v2/jobs/{run_id}"),
        "submit": Submission(start, run_id=("job_id",)),
        "probe": Route("GET", "/v2/me"),
        "cadence": Cadence(first=1, factor=1, ceiling=1),
        "link": "https://plain.test/{run_id}",
    }
    return Provider(**{**whole, **changes})


def client_of(provider: Provider, answer: Callable[[httpx.Request], Any]) -> RunClient:
    """A client of a service that answers JSON."""

    def service(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=httpx.ByteStream(json.dumps(answer(request)).encode()))

    return RunClient(provider, token="k", transport=httpx.MockTransport(service))


# --- the id of a new run ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        (("job_id",), {"job_id": "j1", "id": "another", "run_id": "a third"}),
        (("job", "ids", "run"), {"job": {"ids": {"run": "j1"}}}),
        (("data", "runId"), {"runId": "another", "data": {"runId": "j1"}}),
        (("id",), {"id": "j1"}),
    ],
)
def test_the_id_of_a_new_run_is_read_where_the_declaration_says(path: tuple[str, ...], answer: Any) -> None:
    plain = declared(submit=Submission(start, run_id=path))
    with client_of(plain, lambda request: answer) as client:
        assert client.submit(plain.call(recipe="r")).run_id == "j1"


@pytest.mark.parametrize("answer", [{"run_id": "j1"}, {"job_id": None}, {"job_id": True}, {"job_id": "../x"}, ["j1"]])
def test_an_id_elsewhere_in_the_answer_is_not_taken_for_it(answer: Any) -> None:
    plain = declared()
    with client_of(plain, lambda request: answer) as client, pytest.raises(SubmitUncertainError, match="at job_id"):
        client.submit(plain.call(recipe="r"), submit_grace=0.01)


# --- words -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("came", ["DONE", "done", " Done "])
def test_words_in_capitals_are_known_however_they_come(came: str) -> None:
    table = StateTable({"ACTIVE": Phase.RUNNING, "DONE": Outcome.SUCCEEDED, "BROKEN": Outcome.FAILED})
    reading = table.read(came)
    assert (reading.meaning, reading.known, reading.state, reading.word) == (
        Outcome.SUCCEEDED,
        True,
        came.strip(),
        "DONE",
    )
    assert table.known == ("ACTIVE", "DONE", "BROKEN")


@pytest.mark.parametrize(("word", "result"), [("ENDED", "Good"), ("ended", "GOOD"), ("Ended", " good ")])
def test_second_words_are_known_however_they_come(word: str, result: str) -> None:
    table = StateTable({"Ended": {"Good": Outcome.SUCCEEDED, None: Outcome.FAILED}})
    reading = table.read(word, result)
    assert (reading.meaning, reading.word) == (Outcome.SUCCEEDED, "Ended+Good")
    assert table.read(word).meaning is Outcome.FAILED


ENDS = {"ok": Outcome.SUCCEEDED, "bad": Outcome.FAILED}


@pytest.mark.parametrize(
    "words",
    [
        {**ENDS, "OK": Outcome.FAILED},
        {**ENDS, " ok": Outcome.SUCCEEDED},
        {**ENDS, "Ok": {"x": Outcome.SUCCEEDED}},
        {**ENDS, "end": {"A": Outcome.SUCCEEDED, "a": Outcome.FAILED}},
        {**ENDS, "": Phase.RUNNING},
        {**ENDS, "end": {" ": Outcome.SUCCEEDED}},
    ],
)
def test_two_words_that_are_one_and_a_word_that_is_none_are_refused(words: Mapping[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="cannot hold the word"):
        StateTable(words)
