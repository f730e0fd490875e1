"""What is refused of arguments, ids, addresses and declarations: by name, with what to do, and with its code."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from runops.core import ConfigurationError, Outcome, Provider, RunRef, StateTable, find
from runops.core.declaration.address import check_id
from runops.core.declaration.arguments import (
    check_names,
    grace,
    header_value,
    json_object,
    json_objects,
    mapping,
    one_of,
    optional_seconds,
    optional_text,
    positive,
    required_text,
    seconds,
    texts,
    trace_id,
)
from runops.core.model.cadence import Cadence, RateLimiter
from runops.core.model.refusal import TextRefused

NEXIO, NYX, ONEPIN, B3OS, NEKT = (find(name) for name in ("nexio", "nyx", "onepin", "b3os", "nekt"))
ENDS = {"ok": Outcome.SUCCEEDED, "bad": Outcome.FAILED}


def mistaken(value: Any) -> Any:
    """A value of a type that is not taken."""
    return value


@pytest.mark.parametrize(
    ("refused", "said"),
    [
        (lambda: check_names("RunClient.wait", ["ref", "intervall"], ["interval", "ref", "timeout"]),
         ("RunClient.wait takes no argument 'intervall'. Did you mean 'interval'? It takes interval, ref, "
         "timeout. [unknown-name]")),
        (lambda: check_names("RunClient", ["zzzzzz"], ["token"]),
         "RunClient takes no argument 'zzzzzz'. It takes token. [unknown-name]"),
        (lambda: required_text("field", ""), "field must be a non-empty text, not empty. [bad-argument]"),
        (lambda: required_text("field", " "), "field must be a non-empty text, not str. [bad-argument]"),
        (lambda: required_text("field", None), "field must be a non-empty text, not NoneType. [bad-argument]"),
        (lambda: optional_text("field", 5), "field must be a text, not int. [bad-argument]"),
        (lambda: header_value("field", "a\nb"),
         "field holds a character that cannot stand in a header. [bad-argument]"),
        (lambda: header_value("field", "ä"), "field holds a character that cannot stand in a header. [bad-argument]"),
        (lambda: trace_id("0" * 32),
         (f"trace_id must be 32 hex digits that are not all 0, not '{'0' * 32}'. "
         "[bad-argument]")),
        (lambda: trace_id("g" * 32),
         (f"trace_id must be 32 hex digits that are not all 0, not '{'g' * 32}'. "
         "[bad-argument]")),
        (lambda: trace_id("1" * 31),
         (f"trace_id must be 32 hex digits that are not all 0, not '{'1' * 31}'. "
         "[bad-argument]")),
        (lambda: trace_id("1" * 33),
         (f"trace_id must be 32 hex digits that are not all 0, not '{'1' * 33}'. "
         "[bad-argument]")),
        (lambda: trace_id("x" * 90),
         ("trace_id must be 32 hex digits that are not all 0, not "
         f"'{'x' * 80}'. "
         "[bad-argument]")),
        (lambda: trace_id(None), "trace_id must be 32 hex digits that are not all 0, not 'None'. [bad-argument]"),
        (lambda: texts("field", "words"),
         "field must be a list of texts, not a text that is not the JSON of one. [needs-json]"),
        (lambda: texts("field", ("a", 5)), "field[1] must be a text, not int. [bad-argument]"),
        (lambda: texts("field", b"ab"), "field must be a list of texts, not bytes. [bad-argument]"),
        (lambda: texts("field", {"a": 1}), "field must be a list of texts, not dict. [bad-argument]"),
        (lambda: json_object("field", "[1]"),
         "field must be a JSON object (a dict), not a text that is not the JSON of one. [needs-json]"),
        (lambda: json_object("field", "{"),
         "field must be a JSON object (a dict), not a text that is not the JSON of one. [needs-json]"),
        (lambda: json_object("field", 5), "field must be a JSON object (a dict), not int. [bad-argument]"),
        (lambda: json_object("field", {"a": {1}}),
         ("field holds what JSON cannot carry (a date, bytes, NaN or an object): turn it into text first. "
         "[bad-argument]")),
        (lambda: json_objects("field", [{}, 5]), "field[1] must be a JSON object (a dict), not int. [bad-argument]"),
        (lambda: json_objects("field", '{"a": 1}'),
         "field must be a list of JSON objects, not a text that is not the JSON of one. [needs-json]"),
        (lambda: one_of("field", "d" * 90, ("a", "b")),
         (f"field='{'d' * 80}' is "
         "not one of a, b. [unknown-name]")),
        (lambda: positive("field", "many"), "field must be a number above 0, not 'many'. [bad-argument]"),
        (lambda: positive("field", 0), "field must be a number above 0, not 0. [bad-argument]"),
        (lambda: seconds("field", timedelta(0)), "field must be a number above 0, not 0.0. [bad-argument]"),
        (lambda: seconds("field", True), "field must be a number above 0, not True. [bad-argument]"),
        (lambda: grace("field", -0.5), "field must be a number of seconds, 0 or more, not -0.5. [bad-argument]"),
        (lambda: grace("field", timedelta(seconds=-1)),
         ("field must be a number of seconds, 0 or more, not datetime.timedelta(days=-1, seconds=86399). "
         "[bad-argument]")),
        (lambda: grace("field", "inf"), "field must be a number of seconds, 0 or more, not 'inf'. [bad-argument]"),
        (lambda: optional_seconds("field", 0), "field must be a number above 0, not 0. [bad-argument]"),
        (lambda: check_id("run_id", 5), "run_id must be a text, not int. [bad-argument]"),
        (lambda: check_id("run_id", " "), "run_id is empty: give the id as the provider shows it. [bad-argument]"),
        (lambda: check_id("run_id", "/" + "a" * 90),
         (f"run_id='/{'a' * 79}' "
         "cannot be an id: it holds '..', a slash or a control character. [bad-argument]")),
        (lambda: check_id("run_id", "%25252e%25252e"),
         "run_id='%25252e%25252e' cannot be an id: it holds '..', a slash or a control character. [bad-argument]"),
        (lambda: NEXIO.root("ftp://user:secret@" + "h" * 130),
         ("base_url "
         f"'ftp://{'h' * 114}' "
         "is not a web address such as https://api.usenexio.com. [bad-connection]")),
        (lambda: NEXIO.root("https://user@host"),
         ("base_url for host must hold no user, password, query or fragment: the key has a field of its "
         "own. [bad-connection]")),
        (lambda: NEXIO.root("https://:secret@host"),
         ("base_url for host must hold no user, password, query or fragment: the key has a field of its "
         "own. [bad-connection]")),
        (lambda: NEXIO.root("https://host?a=b"),
         ("base_url for host must hold no user, password, query or fragment: the key has a field of its "
         "own. [bad-connection]")),
        (lambda: NEXIO.root("http://host:80/v1"),
         ("base_url http://host would send the key in the clear: use https://, or set allow_http if you "
         "know the network. [bad-connection]")),
        (lambda: NEXIO.ref("r", {"b": "x", "a": "y"}),
         "Nexio runs have no parent a, b; parents expected: none. [unknown-name]"),
        (lambda: ONEPIN.ref("r", {"workflow": "x"}),
         "OnePin runs have no parent workflow; parents expected: workflow_id. [unknown-name]"),
        (lambda: NEXIO.call(slug="a", inputs={}),
         ("A submit to Nexio has unknown arguments: slug, inputs; it takes engine_slug, input, offerings, "
         "engine_version. [unknown-name]")),
        (lambda: NEXIO.call(),
         ("A submit to Nexio has missing arguments: engine_slug, input; it takes engine_slug, input, "
         "offerings, engine_version. [bad-argument]")),
        (lambda: NEXIO.call(engine_slug="e", inputt={}),
         ("A submit to Nexio has unknown arguments: inputt; it takes engine_slug, input, offerings, "
         "engine_version. Did you mean 'input'? [unknown-name]")),
        (lambda: NEKT.call(), "Nekt documents no way to start a run: wait for its runs instead. [not-supported]"),
        (lambda: NEXIO.pages, "Nexio documents no list of runs. [not-supported]"),
        (lambda: NEKT.pages.parent({"pipelines": "x"}),
         ("A parent of Nekt runs is one of pipeline, source, destination, transformation, not "
         "['pipelines']. [unknown-name]")),
        (lambda: NEKT.pages.parent({"pipeline": "x", "source": "y"}),
         ("A parent of Nekt runs is one of pipeline, source, destination, transformation, not "
         "['pipeline', 'source']. [unknown-name]")),
        (lambda: NEKT.pages.parent({}),
         ("A parent of Nekt runs is one of pipeline, source, destination, transformation, not []. "
         "[unknown-name]")),
        (lambda: NEXIO.request(NEXIO.status, NYX.ref("r")), "nyx run r is not a run of Nexio. [bad-argument]"),
        (lambda: StateTable({"ok": Outcome.SUCCEEDED, "late": Outcome.TIMED_OUT, "bad": Outcome.FAILED}),
         "timed_out is our own outcome; no provider's word may mean it. [bad-declaration]"),
        (lambda: StateTable({"ok": Outcome.SUCCEEDED}),
         "A state table needs a word for success and a word for failure. [bad-declaration]"),
        (lambda: StateTable({"bad": Outcome.FAILED}),
         "A state table needs a word for success and a word for failure. [bad-declaration]"),
        (lambda: StateTable({**ENDS, " OK ": Outcome.FAILED}),
         ("A state table cannot hold the word ' OK ': 'ok' stands there too, and case does not count; "
         "take it out. [bad-declaration]")),
        (lambda: StateTable({**ENDS, " ": Outcome.FAILED}),
         "A state table cannot hold the word ' '; take it out. [bad-declaration]"),
        (lambda: B3OS.with_states(mistaken(5)),
         "states must be a mapping such as {'partial': 'degraded'}, not int. [bad-argument]"),
        (lambda: B3OS.with_states(mistaken({5: "failed"})),
         "states[5] is no word of a provider: write it as a text. [bad-argument]"),
        (lambda: B3OS.with_states({"late": "timed_out"}),
         ("states['late']='timed_out' is what our own wait may end as, and no run; use succeeded, "
         "degraded, exhausted, failed, cancelled, queued, running, paused, waiting, stopping. "
         "[unknown-name]")),
        (lambda: B3OS.with_states({"w" * 90: "n" * 90}),
         (f"states['{'w' * 80}']='nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn' "
         "is no phase or outcome; use succeeded, degraded, exhausted, failed, cancelled, queued, "
         "running, paused, waiting, stopping. [unknown-name]")),
        (lambda: B3OS.with_states({"late": "runing"}),
         ("states['late']='runing' is no phase or outcome; use succeeded, degraded, exhausted, failed, "
         "cancelled, queued, running, paused, waiting, stopping. Did you mean 'running'? [unknown-name]")),
        (lambda: B3OS.with_states({" Success ": "failed"}),
         ("states[' Success ']='failed' changes a documented word: 'Success' means succeeded; to change "
         "what becomes of the task, use on_outcome. [bad-argument]")),
        (lambda: NYX.with_states({"completed": "succeeded"}),
         ("states['completed']='succeeded' changes a documented word: 'completed' means failed; teach "
         "what came beside it, as in 'completed+WORD'. [bad-argument]")),
        (lambda: Cadence(first=2, factor=1, ceiling=1),
         ("A cadence needs 0 < first <= ceiling and factor >= 1, not first=2, factor=1, ceiling=1. "
         "[bad-declaration]")),
        (lambda: Cadence(first=0, factor=1, ceiling=1),
         ("A cadence needs 0 < first <= ceiling and factor >= 1, not first=0, factor=1, ceiling=1. "
         "[bad-declaration]")),
        (lambda: Cadence(first=1, factor=0.9, ceiling=1),
         ("A cadence needs 0 < first <= ceiling and factor >= 1, not first=1, factor=0.9, ceiling=1. "
         "[bad-declaration]")),
        (lambda: find("acme_runs:ACME"),
         ("The provider 'acme_runs:ACME' cannot be imported: No module named 'acme_runs'. "
         "[unknown-provider]")),
        (lambda: find("json:nothing"),
         ("The provider 'json:nothing' cannot be imported: module 'json' has no attribute 'nothing'. "
         "[unknown-provider]")),
        (lambda: find("nexoi"),
         ("There is no provider 'nexoi'; use one of nexio, nyx, onepin, b3os, nekt, or "
         "'package.module:NAME'. Did you mean 'nexio'? [unknown-provider]")),
        (lambda: RateLimiter(0), "requests_per_minute must be more than 0, not 0. [bad-argument]"),
        (lambda: RunRef.parse({"provider": 5, "parents": []}),
         "This is not the address of a run; unreadable: provider, run_id, parents. [bad-argument]"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("shipped_alone")
def test_what_is_refused_says_which_name_and_what_to_do(refused: Callable[[], object], said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        refused()
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("taken", "becomes"),
    [
        (lambda: required_text("field", " a "), " a "),
        (lambda: optional_text("field", ""), ""),
        (lambda: header_value("field", " ~a !"), "~a !"),
        (lambda: trace_id("0" * 31 + "F"), "0" * 31 + "f"),
        (lambda: texts("field", '["a", ""]'), ["a", ""]),
        (lambda: texts("field", ("a",)), ["a"]),
        (lambda: mapping("field", '{"a": 1}'), {"a": 1}),
        (lambda: json_object("field", {"a": (1, None)}), {"a": [1, None]}),
        (lambda: json_objects("field", '[{"a": 1}, {}]'), [{"a": 1}, {}]),
        (lambda: one_of("field", "b", ("a", "b")), "b"),
        (lambda: positive("field", " 0.5 "), 0.5),
        (lambda: positive("field", 1e-9), 1e-9),
        (lambda: seconds("field", timedelta(minutes=1)), 60.0),
        (lambda: grace("field", 0), 0.0),
        (lambda: grace("field", timedelta(0)), 0.0),
        (lambda: grace("field", "1.5"), 1.5),
        (lambda: optional_seconds("field", None), None),
        (lambda: optional_seconds("field", timedelta(seconds=2)), 2.0),
        (lambda: check_names("RunClient", ["a", "b"], iter(["b", "a"])), None),
        (lambda: check_id("run_id", " a%b "), "a%b"),
    ],
)
def test_what_is_taken_becomes_what_it_says(taken: Callable[[], object], becomes: object) -> None:
    assert taken() == becomes


def test_a_text_that_is_no_json_is_refused_as_one() -> None:
    for refused in (lambda: texts("field", "{}"), lambda: mapping("field", "[]")):
        with pytest.raises(TextRefused):
            refused()


@pytest.mark.parametrize(
    ("address", "root"),
    [
        ("host", "https://host"),
        ("https://host:8443/api/v1/", "https://host:8443"),
        ("https://host/api/v1/api/v1", "https://host/api/v1"),
        ("https://host/gate/v1", "https://host/gate"),
        ("https://host/gate/api", "https://host/gate"),
        ("https://host/gate/apis", "https://host/gate/apis"),
        ("http://127.0.0.1:80", "http://127.0.0.1:80"),
        ("http://[::1]/api", "http://[::1]"),
        ("https://[::1]:8443/x", "https://[::1]:8443/x"),
    ],
)
def test_a_root_keeps_all_but_the_version(address: str, root: str) -> None:
    assert NEXIO.root(address) == root


@pytest.mark.parametrize("provider", [NEXIO, NYX], ids=repr)
def test_two_spellings_are_one_id_only_where_the_provider_says_so(provider: Provider) -> None:
    dashed, plain = "7c9e6679-7425-40de-944b-e07fc1f90ae7", "7C9E6679742540DE944BE07FC1F90AE7"
    assert provider.same_id(dashed, plain) is (provider is NEXIO)
    assert provider.same_id(dashed, f"{{{dashed.upper()}}}") is (provider is NEXIO)
    assert provider.same_id(" Abc", "aBC ")
    assert not provider.same_id("abc", "abd")
