"""What a declaration says of itself, and that it is believed: ids, words, names, pages. No service is special here."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from runops.core import ConfigurationError, Outcome, Phase, Provider, RunClient, StateTable, WrongState, find
from runops.core.declaration import (
    BEARER,
    AuthScheme,
    Call,
    Explanation,
    Listing,
    Request,
    Retry,
    Route,
    RunBody,
    Spend,
    Submission,
    Text,
)
from runops.core.declaration.address import caseless
from runops.core.model.cadence import Cadence
from runops.core.model.codes import Code
from runops.core.model.errors import MalformedAnswer, SubmitUncertainError
from runops.core.model.redaction import clean
from runops.core.transport.session import Session
from runops.core.waiting.flows import Send
from runops.core.waiting.listing import Listed, listed


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
    assert (reading.meaning, reading.known, reading.state, reading.full_state) == (
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
    assert (reading.meaning, reading.full_state) == (Outcome.SUCCEEDED, "Ended+Good")
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


# --- names -----------------------------------------------------------------------------------------------------

DECLARED = """
from runops.core import Outcome, Phase, Provider, StateTable
from runops.core.model.cadence import Cadence
from runops.core.model.codes import Code
from runops.core.declaration import Route, RunBody

ONE = Provider(
    name="{name}", title="{title}", docs="https://d.test", base_url="https://a.test", version_path="", key_variable="K",
    body=RunBody, states=StateTable({{"ok": Outcome.SUCCEEDED, "bad": Outcome.FAILED}}),
    status=Route("GET", "/jobs/{{run_id}}"), probe=Route("GET", "/me"), cadence=Cadence(1, 1, 1), link="https://a.test",
)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes a module that declares a provider; it is gone from this process after the test."""
    monkeypatch.syspath_prepend(tmp_path)
    made: list[str] = []

    def write(module: str, name: str, title: str = "One") -> str:
        (tmp_path / f"{module}.py").write_text(DECLARED.format(name=name, title=title))
        made.append(module)
        return f"{module}:ONE"

    yield write
    for each in made:
        sys.modules.pop(each, None)


def installed(tmp_path: Path, package: str, **points: str) -> None:
    """What an installed package leaves behind."""
    info = tmp_path / f"{package}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n")
    lines = "".join(f"{name} = {path}\n" for name, path in points.items())
    (info / "entry_points.txt").write_text(f"[runops.providers]\n{lines}")


def test_a_provider_found_by_path_is_found_by_what_its_runs_name(module: Any) -> None:
    path = module("mod_found", "found_once")
    with pytest.raises(ConfigurationError, match="no provider 'found_once'"):
        find("found_once")
    ref = find(path).ref("1")
    assert ref.provider == "found_once"
    assert find(ref.provider) is find(path)


def test_a_package_declares_a_provider_by_an_entry_point(module: Any, tmp_path: Path) -> None:
    path = module("mod_packed", "packed")
    installed(tmp_path, "packed-runs", packed=path)
    assert find("packed") is find(path)
    with pytest.raises(ConfigurationError, match=r"Also known here: .*packed.* Did you mean 'packed'\?"):
        find("pakced")


def test_an_entry_point_and_its_provider_bear_one_name(module: Any, tmp_path: Path) -> None:
    installed(tmp_path, "other-runs", other_name=module("mod_other", "its_own_name"))
    with pytest.raises(ConfigurationError, match=r"other_name.*whose name is 'its_own_name'"):
        find("other_name")


def test_two_packages_that_declare_one_name_are_an_error_that_names_both(module: Any, tmp_path: Path) -> None:
    installed(tmp_path, "first-runs", twofold=module("mod_first", "twofold", "First"))
    installed(tmp_path, "second-runs", twofold=module("mod_second", "twofold", "Second"))
    with pytest.raises(ConfigurationError, match="declared twice, differently, in mod_first and mod_second"):
        find("twofold")


def test_two_modules_that_declare_one_name_are_an_error_by_path_too(module: Any) -> None:
    find(module("mod_one", "shared_name", "One"))
    with pytest.raises(
        ConfigurationError, match="'shared_name' is declared twice, differently, in mod_one and mod_two"
    ):
        find(module("mod_two", "shared_name", "Two"))
    with pytest.raises(ConfigurationError, match="mod_one and mod_two"):
        find("shared_name")


def test_a_module_that_is_loaded_again_declares_the_same_provider(module: Any) -> None:
    path = module("mod_again", "again", "Before")
    before = find(path)
    sys.modules.pop("mod_again")
    assert find(path) is not before
    assert find("again") is find(path)
    sys.modules.pop("mod_again")
    module("mod_again", "again", "Now longer")
    assert find(path).title == find("again").title == "Now longer"


def test_a_variant_made_in_passing_does_not_take_the_name_of_what_a_module_holds(module: Any) -> None:
    held = find(module("mod_held", "held"))
    replace(held, title="Variant")
    assert find("held") is held


def test_the_name_of_a_shipped_provider_cannot_be_taken(module: Any, tmp_path: Path) -> None:
    path = module("mod_nexio", "nexio", "Mine")
    installed(tmp_path, "nexio-runs", nexio=path)
    with pytest.raises(ConfigurationError, match="'nexio', which a provider that runops ships bears"):
        find(path)
    assert find("nexio").title == "Nexio"


# --- what can never work ---------------------------------------------------------------------------------------


class Shown(RunBody):
    """A run with a parent and a detail."""

    DETAILS = ("stage",)
    stage: Text = None
    recipe: Text = None


def mistaken(value: Any) -> Any:
    """A value of a type that the field does not take."""
    return value


class Misspelled(RunBody):
    """A detail that is no field."""

    DETAILS = ("stadium",)


def positional(recipe: str, /) -> Call:
    """Takes its argument by place only."""
    return Call("plain", recipe)


def by_place_or_name(recipe: str) -> Call:
    """Takes its argument in either way."""
    return Call("plain", recipe)


RUNS = Route("GET", "/v2/recipes/{recipe}/jobs")
ALL = Route("GET", "/v2/jobs")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: declared(name="Plain"), "name='Plain' is not a name in lower case"),
        (lambda: declared(name="a:b"), "name='a:b'"),
        (lambda: declared(title=" "), "title=' ' is not the name that people know"),
        (lambda: declared(base_url="plain"), None),
        (lambda: declared(base_url="http://plain.test"), None),
        (lambda: declared(base_url="ftp://plain"), "base_url 'ftp://plain' is not a web address"),
        (lambda: declared(version_path="v2/"), "version_path='v2/'"),
        (lambda: declared(key_variable="PLAIN-KEY"), "key_variable='PLAIN-KEY'"),
        (lambda: declared(body=Misspelled), "body.DETAILS='stadium' is no field of Misspelled"),
        (lambda: declared(envelope=("a", 5)), r"envelope=\"\('a', 5\)\" is not a tuple of names"),
        (lambda: declared(options={"team": "X Team"}), "options.'team'.='X Team' is not the name of a header"),
        (lambda: declared(options={"team": "authorization"}), "is the header of the key"),
        (lambda: declared(status=Route("GET", "/v2/jobs")), "status='/v2/jobs' names no run"),
        (lambda: declared(cancel=Route("PUT", "/v2/jobs/{runid}")), "cancel=.*hole 'runid'.*Did you mean 'run_id'"),
        (lambda: declared(result=Route("GET", "/v2/{job}")), "result=.*hole 'job', which nothing fills; holes: run_id"),
        (lambda: declared(explain=Explanation(Route("GET", "/{x}"), bytes.decode)), "explain=.*hole 'x'"),
        (lambda: declared(probe=Route("GET", "/v2/{run_id}")), "probe=.*hole 'run_id'.*holes: none here"),
        (lambda: declared(link="https://p.test/{stage}"), "link=.*hole 'stage'"),
        (lambda: declared(body=Shown, link="https://p.test/{stage}"), None),
        (lambda: declared(link="p.test"), "link='p.test' is not a web address"),
        (lambda: declared(submit=Submission(start, ("id",), mark="name")), "submit.mark='name' is no field of RunBody"),
        (lambda: declared(body=Shown, submit=Submission(start, ("id",), mark="stage")), None),
        (lambda: Submission(start, mistaken("job_id")), r"run_id='job_id' is not a tuple.*write run_id=\('job_id',\)"),
        (lambda: Submission(start, ()), "run_id='.*' is not a tuple"),
        (lambda: Submission(by_place_or_name, ("id",)), None),
        (lambda: Submission(positional, ("id",)), "takes 'recipe', which cannot be given"),
        (lambda: AuthScheme("X Key"), "header='X Key' is not the name of a header"),
        (lambda: AuthScheme("X-Key\n"), "header="),
        (lambda: AuthScheme("X-Key", "Täg "), "prefix='Täg '"),
        (lambda: Route("get", "/x"), "method='get' is not an HTTP method in capitals"),
        (lambda: Route("HEAD", "/x"), "method='HEAD'"),
        (lambda: Route("GET", "x"), "path='x' is not a path that begins with a slash"),
        (lambda: Route("GET", "/x?y=1"), "path="),
        (lambda: Route("GET", "/x/{run_id"), "path=.*braces that hold no name"),
        (lambda: Route("GET", "/x/{}"), "braces that hold no name"),
        (lambda: Route("GET", "/x", query=mistaken({"n": 1})), "query.'n'.='1' is no text"),
        (lambda: Route("POST", "/x", json={"n": b""}), "nothing that JSON can carry"),
        (lambda: declared(body=Shown, listing=Listing(RUNS, ("jobs",), ("recipe",))), None),
        (lambda: declared(body=Shown, listing=Listing(ALL, (), ("recipe",), filtered=True)), None),
        (lambda: declared(listing=Listing(ALL, ("jobs",), ("recipe",))), "shows the runs of all parents alike"),
        (lambda: declared(listing=Listing(RUNS, ("jobs",), ("receipt",))), "listing.route=.*hole 'recipe'"),
        (lambda: declared(listing=Listing(ALL, ("jobs",), ("recipe",), filtered=True)), "is no field of RunBody"),
        (
            lambda: declared(listing=Listing(RUNS, ("jobs",), ("recipe",), parent_detail="recipe")),
            "listing.parent_detail='recipe' is no detail of RunBody",
        ),
        (lambda: declared(listing=Listing(RUNS, ("jobs",), ("recipe", "shop"))), "are several"),
        (lambda: declared(listing=Listing(RUNS, ("jobs",), ("recipe",), latest=Route("GET", "/{x}"))), "latest"),
        (
            lambda: declared(status=Route("GET", "/{shop}/{run_id}"), listing=Listing(RUNS, ("jobs",), ("recipe",))),
            "do not name what the address of a run needs: shop",
        ),
        (lambda: Listing(ALL, ("jobs",), ()), "kinds='.*' is not a tuple of names"),
        (lambda: Listing(ALL, mistaken("jobs"), ("recipe",)), r"items='jobs'.*write items=\('jobs',\)"),
        (lambda: Listing(ALL, ("jobs",), ("recipe",), paging="offset"), "page_size='None' gives no offset"),
        (lambda: Listing(ALL, ("jobs",), ("recipe",), paging="cursor"), "next='.*' is not a tuple"),
        (lambda: Listing(ALL, ("jobs",), ("recipe",), paging="page", next=("n",)), "not used by paging='page'"),
        (lambda: Listing(ALL, ("jobs",), ("recipe",), paging=mistaken("curser")), "Did you mean 'cursor'"),
    ],
)  # fmt: skip
def test_what_can_never_work_is_refused_by_field_and_value(make: Callable[[], Any], said: str | None) -> None:
    if said is None:
        make()
        return
    with pytest.raises(ConfigurationError, match=said) as caught:
        make()
    if "is not a web address" not in said:
        assert caught.value.error_code is Code.BAD_DECLARATION


def test_what_a_declaration_leaves_out_is_as_documented() -> None:
    plain = declared(submit=None)
    left_out = ("result", "cancel", "resume", "retry", "explain", "listing", "spend", "envelope", "trace_header")
    assert [getattr(plain, name) for name in left_out] == [None] * len(left_out)
    assert (plain.position, plain.auth, plain.options, plain.verdicts) == (100, BEARER, {}, {})
    assert (plain.probe_absent, plain.id_key, plain.taught, plain.envelope_path) == (False, caseless, {}, ())
    listing = Listing(ALL, ("jobs",), ("recipe",))
    left_out = ("latest", "page_size", "paging", "parent_detail", "parameter")
    assert [getattr(listing, name) for name in left_out] == [None] * len(left_out)
    assert (listing.filtered, listing.complete, listing.next, listing.follows) == (False, False, (), False)
    submission = Submission(start, ("id",))
    assert (submission.one_at_a_time, submission.mark) == (False, None)
    assert (submission.account, submission.turned_away, Retry(AGAIN, ("id",)).turned_away) == ((), (), ())
    call = Call("plain", "/x")
    assert (call.json, call.parents, call.parent, call.query) == (None, {}, {}, {})
    assert (call.method, call.retry_of) == ("POST", None)
    request = Request("GET", "/x", "x")
    assert (request.query, request.json, request.absent) == ({}, None, "There is no such run")
    assert (request.about, request.parent, request.alone, request.url) == (None, None, False, "")


def test_a_request_about_a_run_bears_all_that_its_route_declares() -> None:
    route = Route("PUT", "/v2/{shop}/{run_id}", {"a": "1"}, {"b": 2})
    plain = declared(status=Route("GET", "/v2/{shop}/{run_id}"), probe=Route("OPTIONS", "/v2", {"a": "1"}, {"b": 2}))
    ref = plain.ref("r 1", {"shop": "s/1".replace("/", "_")})
    assert plain.request(route, ref, "stop") == Request(
        "PUT", "/v2/s_1/r%201", "stop of plain run r 1", {"a": "1"}, {"b": 2}, about=ref
    )
    assert plain.probe_request() == Request(
        "OPTIONS",
        "/v2",
        "connection test of Plain",
        {"a": "1"},
        {"b": 2},
        absent="There is no such API at this address",
    )
    retry = Retry(route, ("id",))
    assert retry.call(ref, {"recipe": "c"}) == Call(
        "plain", "/v2/s_1/r%201", {"b": 2}, {"shop": "s_1"}, {"recipe": "c"}, "PUT", {"a": "1"}, "r 1"
    )


def test_a_mark_ends_a_text_whatever_stands_there() -> None:
    for given, marked in (({"name": "n", "x": 1}, "n [m]"), ({"x": 1}, "[m]"), ({"name": None, "x": 1}, "[m]")):
        call = Call("plain", "/x", given, parent={"recipe": "c"}, query={"a": "1"})
        assert call.marked("name", "[m]") == replace(call, json={"name": marked, "x": 1})
    assert Call("plain", "/x").marked("name", "[m]").json == {"name": "[m]"}


@pytest.mark.parametrize(
    ("details", "spent"),
    [({"a": 1, "b": 2.5}, 3.5), ({"a": 0}, 0.0), ({"b": None, "c": 5}, None), ({"a": "1", "b": 2}, 2.0), ({}, None)],
)
def test_what_a_run_has_spent_is_the_sum_of_what_it_says(details: dict[str, Any], spent: float | None) -> None:
    found = Spend("EUR", ("a", "b")).of(details)
    assert (found, type(found)) == (spent, type(spent))


def test_a_wrong_submit_argument_names_the_right_one() -> None:
    with pytest.raises(
        ConfigurationError, match=r"unknown arguments: recipee; it takes recipe\. Did you mean 'recipe'\?"
    ):
        declared().call(recipee="r")


# --- methods and envelopes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("envelope", [None, "data", ("data",), ("answer", "job", "status")])
def test_a_run_is_read_out_of_any_envelope(envelope: Any) -> None:
    def wrapped(run: Any) -> Any:
        for key in reversed((envelope,) if isinstance(envelope, str) else envelope or ()):
            run = {"other": 1, key: run}
        return run

    with client_of(declared(envelope=envelope), lambda request: wrapped({"run_id": "j1", "status": "ok"})) as client:
        assert client.get(client.ref("j1")).outcome is Outcome.SUCCEEDED
        assert client.fetch_result(client.ref("j1")) == {"run_id": "j1", "status": "ok"}
    other = client_of(declared(envelope=envelope), lambda request: wrapped({"run_id": "j2", "status": "ok"}))
    with other, pytest.raises(MalformedAnswer, match="about another run"):
        other.get(other.ref("j1"))


def test_any_method_is_sent_as_declared() -> None:
    sent: list[tuple[str, str, bytes]] = []

    def answer(request: httpx.Request) -> Any:
        sent.append((request.method, request.url.path, request.content))
        return {"run_id": "j1", "status": "on", "job_id": "j1"}

    def put(*, recipe: str) -> Call:
        return Call("plain", f"/v2/jobs/{recipe}", {"n": 1}, method="PUT")

    plain = declared(
        status=Route("POST", "/v2/look/{run_id}", json={"deep": False}),
        cancel=Route("DELETE", "/v2/jobs/{run_id}"),
        probe=Route("OPTIONS", "/v2", json={"a": 1}),
        submit=Submission(put, ("job_id",)),
    )
    with client_of(plain, answer) as client:
        client.get(client.submit(plain.call(recipe="r")))
        client.cancel(client.ref("j1"))
        client.probe()
    assert sent == [
        ("PUT", "/v2/jobs/r", b'{"n": 1}'),
        ("POST", "/v2/look/j1", b'{"deep": false}'),
        ("DELETE", "/v2/jobs/j1", b""),
        ("OPTIONS", "/v2", b'{"a": 1}'),
    ]


# --- pages -----------------------------------------------------------------------------------------------------


def turned(listing: Listing, service: Callable[[httpx.Request], Any], base_url: str | None = None) -> Listed:
    """All that a look at a list shows, over as many pages as the declaration knows to turn."""
    plain = declared(body=Shown, listing=listing)
    session = Session(plain, token="k", base_url=base_url)
    flow = listed(plain, {"recipe": "r"}, since=0.0)
    effect = next(flow)
    while True:
        assert isinstance(effect, Send)
        try:
            effect = flow.send(json.dumps(service(session.prepare(effect.request))).encode())
        except StopIteration as stop:
            return stop.value


def jobs(first: int, last: int) -> list[dict[str, Any]]:
    return [{"run_id": f"j{number}", "status": "on", "recipe": "r"} for number in range(first, last)]


def ids(found: Listed) -> list[str]:
    return [run.ref.run_id for run in found.runs]


SEVEN = [f"j{number}" for number in range(7)]


@pytest.mark.parametrize(
    ("listing", "asked"),
    [
        (Listing(RUNS, ("jobs",), ("recipe",), page_size=3, paging="offset"), ["", "offset=3", "offset=6"]),
        (Listing(RUNS, ("jobs",), ("recipe",), page_size=3, paging="page"), ["", "page=2", "page=3"]),
        (
            Listing(RUNS, ("jobs",), ("recipe",), page_size=3, paging="offset", parameter="skip"),
            ["", "skip=3", "skip=6"],
        ),
        (
            Listing(RUNS, ("jobs",), ("recipe",), paging="cursor", parameter="after", next=("meta", "next")),
            ["", "after=c%203", "after=c%206"],
        ),
        (Listing(RUNS, ("jobs",), ("recipe",), paging="next", next=("next_url",)), ["", "at=3", "at=6"]),
    ],
    ids=["offset", "page", "named offset", "cursor", "next"],
)
def test_a_list_is_turned_in_each_way_to_its_end(listing: Listing, asked: list[str]) -> None:
    sent: list[str] = []

    def service(request: httpx.Request) -> Any:
        sent.append(request.url.query.decode().replace("+", "%20"))
        first = 3 * (len(sent) - 1)
        more = first + 3 < 7
        return {
            "jobs": jobs(first, min(first + 3, 7)),
            "meta": {"next": f"c {first + 3}" if more else None},
            "next_url": f"?at={first + 3}" if more else "",
        }

    found = turned(listing, service)
    assert (ids(found), found.whole, sent) == (SEVEN, True, asked)


def test_an_empty_page_with_a_cursor_does_not_end_a_list() -> None:
    pages = iter([{"jobs": [], "next": 5}, {"jobs": jobs(0, 2), "next": None}])
    found = turned(Listing(RUNS, ("jobs",), ("recipe",), paging="cursor", next=("next",)), lambda request: next(pages))
    assert (ids(found), found.whole) == (["j0", "j1"], True)


def test_a_list_that_is_asked_for_by_a_body_is_turned_in_it() -> None:
    sent: list[Any] = []

    def service(request: httpx.Request) -> Any:
        sent.append((request.method, request.url.query, json.loads(request.content)))
        return {"jobs": jobs(len(sent), len(sent) + 1), "next": 17 if len(sent) == 1 else None}

    search = Route("POST", "/v2/recipes/{recipe}/search", json={"size": 1})
    turned(Listing(search, ("jobs",), ("recipe",), paging="cursor", next=("next",)), service)
    assert sent == [("POST", b"", {"size": 1}), ("POST", b"", {"size": 1, "cursor": 17})]


NEXT = Listing(RUNS, ("jobs",), ("recipe",), paging="next", next=("next",))


@pytest.mark.parametrize(
    "url",
    [
        "https://gate.test:8443/in/v2/more?a=1&b=%2F",
        "/in/v2/more?a=1&b=%2F",
        "../../more?a=1&b=%2F#part",
    ],
)
def test_the_address_of_the_next_page_is_followed_below_the_same_root(url: str) -> None:
    sent: list[httpx.Request] = []

    def service(request: httpx.Request) -> Any:
        sent.append(request)
        return {"jobs": jobs(len(sent), len(sent) + 1), "next": url if len(sent) == 1 else None}

    turned(NEXT, service, "https://gate.test:8443/in")
    assert str(sent[1].url) == "https://gate.test:8443/in/v2/more?a=1&b=%2F"
    assert sent[1].headers["authorization"] == "Bearer k"


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.test/in/v2/more",
        "//evil.test/in/v2/more",
        "https://gate.test/in/v2/more",
        "http://gate.test:8443/in/v2/more",
        "https://gate.test:8443/out/v2/more",
        "https://gate.test:8443/inside/v2/more",
        "/v2/more",
        "/in/%2e%2e/out",
        "/in/%252e%252e/out",
        "../../../../out",
        "https://user@gate.test:8443/in/v2/more",
        "https://gate.test:8443@evil.test/in/v2/more",
        "javascript:alert(1)",
        "https://[::1",
    ],
)
def test_a_key_never_follows_the_address_of_a_next_page_elsewhere(url: str) -> None:
    sent: list[httpx.Request] = []

    def service(request: httpx.Request) -> Any:
        sent.append(request)
        return {"jobs": jobs(0, 1), "next": url}

    with pytest.raises(MalformedAnswer, match="list of Plain runs of recipe r names a next page"):
        turned(NEXT, service, "https://gate.test:8443/in")
    assert len(sent) == 1


# --- keys ------------------------------------------------------------------------------------------------------


def test_the_keys_of_a_provider_from_elsewhere_are_removed_from_what_people_see() -> None:

    assert "Plainkey_abc" in (clean("key Plainkey_abc is wrong") or "")
    declared(auth=AuthScheme("X-Key", key_prefixes=("plainkey_",)))
    assert clean("key Plainkey_abc is wrong") == "key [removed] is wrong"


@pytest.mark.parametrize("prefixes", ["acme_", ("a_",), ("acme",), ("",), (".*_",), ("acme key_",)])
def test_what_no_key_begins_with_is_refused(prefixes: Any) -> None:
    with pytest.raises(ConfigurationError, match="key_prefixes"):
        AuthScheme("X-Key", key_prefixes=prefixes)


# --- resume and retry ------------------------------------------------------------------------------------------


def test_a_declaration_with_both_can_do_both_with_no_edit_of_anything_else() -> None:
    state = {"run_id": "j1", "status": "held"}

    def service(request: httpx.Request) -> Any:
        if request.url.path == "/v2/jobs/j1/go":
            state["status"] = "on"
        if request.method == "PATCH":
            assert request.url.query == b"from=failed"
            assert json.loads(request.content) == {"again": True}
            return {"job": "j2"}
        return state

    plain = declared(
        body=RunBody,
        states=StateTable({"on": Phase.RUNNING, "held": Phase.WAITING, "ok": Outcome.SUCCEEDED, "bad": Outcome.FAILED}),
        resume=Route("PUT", "/v2/jobs/{run_id}/go"),
        retry=Retry(Route("PATCH", "/v2/jobs/{run_id}", {"from": "failed"}, {"again": True}), run_id=("job",)),
    )
    with client_of(plain, service) as client:
        assert client.resume(plain.ref("j1")).phase is Phase.RUNNING
        state["status"] = "bad"
        assert client.retry(plain.ref("j1")).run_id == "j2"


def test_a_run_that_is_stopping_is_not_resumed() -> None:
    words = {"on": Phase.RUNNING, "ending": Phase.STOPPING, "ok": Outcome.SUCCEEDED, "bad": Outcome.FAILED}
    plain = declared(states=StateTable(words), resume=Route("POST", "/v2/jobs/{run_id}/go"))

    def service(request: httpx.Request) -> Any:
        assert request.method == "GET"
        return {"run_id": "j1", "status": "ending"}

    with client_of(plain, service) as client, pytest.raises(WrongState, match=r"ending \(stopping\)"):
        client.resume(plain.ref("j1"))


def test_a_retry_needs_no_submit() -> None:
    plain = declared(submit=None, retry=Retry(Route("POST", "/v2/jobs/{run_id}/again"), run_id=("job",)))
    with client_of(plain, lambda request: {"run_id": "j1", "status": "bad", "job": "j2"}) as client:
        assert client.retry(plain.ref("j1")).run_id == "j2"


AGAIN = Route("POST", "/v2/jobs/{run_id}/again")


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: declared(resume=Route("GET", "/v2/jobs/{run_id}/go")), "resume='GET /v2/jobs/{run_id}/go' acts on"),
        (lambda: declared(resume=Route("POST", "/v2/go")), "resume='/v2/go' names no run"),
        (lambda: declared(resume=Route("POST", "/v2/{job_id}/{run_id}")), "hole 'job_id', which nothing fills"),
        (lambda: declared(retry=Retry(Route("GET", "/v2/jobs/{run_id}"), run_id=("id",))), "retry='GET"),
        (lambda: declared(retry=Retry(Route("POST", "/v2/{x}/{run_id}"), run_id=("id",))), "hole 'x', which nothing"),
        (lambda: declared(cancel=Route("GET", "/v2/jobs/{run_id}/stop")), "cancel='GET"),
        (lambda: Retry(Route("POST", "/v2/again"), run_id=("id",)), "Retry: route='/v2/again' names no run"),
        (lambda: Retry(AGAIN, run_id=()), "run_id"),
        (lambda: Retry(AGAIN, run_id="id"), "run_id"),  # type: ignore[arg-type]
    ],
)
def test_what_can_never_resume_or_retry_is_refused_as_it_is_made(made: Callable[[], Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        made()
    assert said in str(caught.value)


class Named(RunBody):
    """A run that shows the text of its submit again."""

    name: Text = None


def test_no_mark_goes_along_with_a_retry_even_where_a_submit_has_one() -> None:
    bodies: list[bytes] = []

    def service(request: httpx.Request) -> Any:
        if request.method == "POST":
            bodies.append(request.content)
        return {"run_id": "j1", "status": "bad", "job": "j2"}

    plain = declared(
        body=Named,
        submit=Submission(start, run_id=("job_id",), mark="name"),
        retry=Retry(AGAIN, run_id=("job",)),
    )
    with client_of(plain, service) as client:
        client.retry(plain.ref("j1"))
    assert bodies == [b""]


@pytest.mark.parametrize(("turned_away", "posts"), [(((503, "busy"),), 3), ((), 1)])
def test_what_a_retry_declares_as_turned_away_is_sent_again_and_nothing_else(
    turned_away: tuple[tuple[int, str], ...], posts: int
) -> None:
    sent: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json={"run_id": "j1", "status": "bad"})
        sent.append(request.url.path)
        if len(sent) < 3:
            return httpx.Response(503, json={"code": "busy"})
        return httpx.Response(200, json={"job": "j2"})

    plain = declared(retry=Retry(AGAIN, run_id=("job",), turned_away=turned_away))
    client = RunClient(plain, token="k", transport=httpx.MockTransport(answer), sleep=lambda seconds: None)
    with client:
        if turned_away:
            assert client.retry(plain.ref("j1")).run_id == "j2"
        else:
            with pytest.raises(SubmitUncertainError):
                client.retry(plain.ref("j1"), submit_grace=0)
    assert len(sent) == posts
