"""What a provider declares, and what is refused before anything is sent. Pure and fast."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import runops.core
from runops.core import (
    PROVIDERS,
    AsyncRunClient,
    ConfigurationError,
    NotSupported,
    Outcome,
    Provider,
    RunClient,
    RunRef,
    find,
)
from runops.core.declaration import BEARER, AuthScheme, Call, Route, RunBody, arguments
from runops.core.declaration.address import check_id
from runops.core.transport.auth import HeaderAuth

EACH = pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)
PAYLOADS = Path(__file__).resolve().parents[1] / "payloads"
CANARY = "canary-key-3f2e1d"

# The words on the vendors' pages, copied from there and not from our tables.
WORDS = {
    "nexio": {"queued", "processing", "completed", "degraded", "failed"},
    "nyx": {"queued", "running", "completed", "failed", "cancelled"},
    "onepin": {"pending", "running", "paused", "completed", "failed", "cancelled"},
    "b3os": {"running", "waiting", "success", "failure", "cancelled"},
    "nekt": {"pending_events", "queued", "running", "success", "failed", "cancelling", "canceled"},
}
ABILITIES = {
    "nexio": {"submit"},
    "nyx": {"submit", "cancel", "listing"},
    "onepin": {"submit", "cancel", "resume", "listing"},
    "b3os": {"submit", "cancel", "retry", "listing", "explain"},
    "nekt": {"cancel", "listing"},
}


def routes(provider: Provider) -> dict[str, Route]:
    listing = provider.listing
    found = {
        "status": provider.status,
        "result": provider.result,
        "cancel": provider.cancel,
        "resume": provider.resume,
        "retry": provider.retry and provider.retry.route,
        "explain": provider.explain and provider.explain.route,
        "probe": provider.probe,
        "listing": listing and listing.route,
        "latest": listing and listing.latest,
    }
    return {name: route for name, route in found.items() if route}


# --- the declarations ------------------------------------------------------------------------------------------


@EACH
def test_every_documented_word_is_in_the_table_and_no_other(provider: Provider) -> None:
    assert {word for word, _, _ in provider.states} == WORDS[provider.name]
    meanings = {row.meaning for _, _, row in provider.states}
    assert {Outcome.SUCCEEDED, Outcome.FAILED} <= meanings
    assert Outcome.TIMED_OUT not in meanings


@EACH
def test_abilities_are_those_that_are_documented(provider: Provider) -> None:
    names = ("submit", "cancel", "resume", "retry", "listing", "explain")
    assert {name for name in names if getattr(provider, name) is not None} == ABILITIES[provider.name]


@EACH
def test_every_sample_payload_parses(provider: Provider) -> None:
    files = sorted((PAYLOADS / provider.name).glob("*.json"))
    assert len(files) >= 8
    for file in files:
        body = json.loads(file.read_text())
        run = body.get(provider.envelope, body)
        ids = {"run_id": str(run.get("run_id", run.get("id"))), "workflow_id": run.get("workflow_id", "p")}
        ref = RunRef(
            provider=provider.name, run_id=ids["run_id"], parents={name: ids[name] for name in provider.parents}
        )
        snapshot = provider.read(ref, file.read_bytes()).snapshot
        assert json.loads(json.dumps(snapshot.to_result()))["run_id"] == ids["run_id"], file


@EACH
def test_every_hole_of_a_route_is_filled_by_an_address_or_a_parent(provider: Provider) -> None:
    kinds = provider.listing.parent_kinds if provider.listing else ()
    for name, route in routes(provider).items():
        allowed = set(kinds) if name in ("listing", "latest") else {"run_id", *provider.parents}
        assert set(route.holes) <= (set() if name == "probe" else allowed), name
        assert route.path.startswith(f"{provider.version_path}/")
        assert all(isinstance(value, str) for value in route.query.values())


@EACH
def test_every_request_says_what_it_is_in_words_without_ids_of_its_own(provider: Provider) -> None:
    ref = provider.ref("r 1", dict.fromkeys(provider.parents, "p"))
    request = provider.request(provider.status, ref)
    assert request.description == f"read of {provider.name} run r 1"
    assert "r%201" in request.path


@EACH
def test_where_to_read_and_to_look_is_declared(provider: Provider) -> None:
    for address in (provider.docs, provider.base_url, provider.link):
        parts = urlsplit(address)
        assert parts.scheme == "https"
        assert parts.hostname
        assert "example" not in parts.hostname
    assert provider.title
    assert provider.name == provider.name.lower()
    assert provider.key_variable.isupper()
    assert not provider.base_url.endswith(("/", "/v1"))


@EACH
def test_details_are_fields_of_the_body_and_none_is_private(provider: Provider) -> None:
    private = {
        "output", "solutions", "input", "error_details", "triggered_by", "triggered_by_token", "triggeredBy", "log",
        "propValues", "simulationForks", "executionState", "workflowDefinition", "extra_config", "target", "error",
        "usage_summary", "organizationId", "playback_url",
    }  # fmt: skip
    assert set(provider.body.DETAILS) <= set(provider.body.model_fields)
    assert not set(provider.body.DETAILS) & private


@EACH
def test_no_text_of_a_provider_or_a_client_holds_a_key(provider: Provider) -> None:
    things: list[Any] = [provider, HeaderAuth(provider.auth, CANARY, origin="o")]
    things += [RunClient(provider, token=CANARY), AsyncRunClient(provider, token=CANARY)]
    for thing in things:
        assert CANARY not in f"{thing!r} {thing!s}"
    assert CANARY not in repr([vars(thing) for thing in things[2:]])


@EACH
def test_the_link_needs_no_more_than_an_address_and_the_details(provider: Provider) -> None:
    ref = provider.ref("r/1".replace("/", "_"), dict.fromkeys(provider.parents, "p"))
    url = provider.url(ref, {"workflowId": "wf 9"})
    assert url is not None
    assert " " not in url
    assert httpx.URL(url).host


@EACH
def test_every_submit_argument_is_documented_and_keyword_only(provider: Provider) -> None:
    if provider.submit is None:
        with pytest.raises(NotSupported):
            provider.call()
        return
    signature = inspect.signature(provider.submit.build)
    told = inspect.getdoc(provider.submit.build) or ""
    for name, parameter in signature.parameters.items():
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        assert f"    {name}:" in told


def test_the_public_names_are_these() -> None:
    assert set(runops.core.__all__) >= {
        "NYX_AUDIT", "NYX_GATE", "PROVIDERS", "AsyncRunClient", "Call", "Outcome", "OutcomePolicy", "Phase",
        "Progress", "Provider", "RunClient", "RunRef", "RunSnapshot", "Verdict", "find",
    }  # fmt: skip
    assert all(hasattr(runops.core, name) for name in runops.core.__all__)
    assert list(runops.core.__all__) == sorted(runops.core.__all__, key=lambda name: (not name.isupper(), name))


# --- ids and paths ---------------------------------------------------------------------------------------------

WRONG_IDS = [
    "", " ", "\t", ".", " . ", "..", "a/../b", "..%2f", "%2e%2e", "%252e%252e", "a/b", "a\\b", "/", "%2f", "%5c",
    "%252f", "a\nb", "a\x00b", "a%0ab", "a\u2028b", "\ud800",
]  # fmt: skip


@pytest.mark.parametrize("wrong", [*WRONG_IDS, None, 5, b"a", ["a"]], ids=repr)
def test_an_id_that_could_leave_its_place_is_refused(wrong: Any) -> None:
    for provider in PROVIDERS.values():
        with pytest.raises(ConfigurationError, match="run_id"):
            provider.ref(wrong, dict.fromkeys(provider.parents, "p"))
    with pytest.raises(ConfigurationError, match="workflow_id"):
        find("onepin").ref("a", {"workflow_id": wrong})


@given(text=st.text(max_size=30) | st.text("./%25eEfFcC \\a", max_size=12))
def test_a_filled_route_never_leaves_its_path(text: str) -> None:
    route = Route("GET", "/api/v1/workflows/{workflow_id}/runs/{run_id}/status")
    try:
        path = route.fill({"workflow_id": "w", "run_id": text})
    except ConfigurationError:
        return
    url = httpx.URL(f"https://h{path}")
    segments = url.raw_path.decode().split("/")
    assert segments[:6] == ["", "api", "v1", "workflows", "w", "runs"]
    assert len(segments) == 8
    assert segments[7] == "status"
    assert unquote(segments[6]) == text.strip() == check_id("run_id", text)
    assert (url.query, url.fragment, url.host) == (b"", "", "h")


def test_parents_are_asked_for_by_name() -> None:
    with pytest.raises(ConfigurationError, match=r"workflow_id is missing"):
        find("onepin").ref("a")
    with pytest.raises(ConfigurationError, match=r"no parent workflow_id; parents expected: none"):
        find("nexio").ref("a", {"workflow_id": "w"})
    with pytest.raises(ConfigurationError, match=r"no parent pipeline; parents expected: workflow_id"):
        find("onepin").ref("a", {"workflow_id": "w", "pipeline": "p"})
    assert find("onepin").ref(" a ", {"workflow_id": " w\n"}) == RunRef(
        provider="onepin", run_id="a", parents={"workflow_id": "w"}
    )


def test_an_id_is_read_through_three_layers_of_escapes_and_no_further() -> None:
    assert check_id("run_id", "%2525252e%2525252e") == "%2525252e%2525252e"


def test_an_address_of_another_provider_is_refused() -> None:
    nyx = find("nyx")
    with pytest.raises(ConfigurationError, match="is not a run of Nyx"):
        nyx.request(nyx.status, find("nexio").ref("a"))


def test_an_address_made_by_hand_is_checked_before_it_is_used() -> None:
    nyx = find("nyx")
    with pytest.raises(ConfigurationError, match="cannot be an id"):
        nyx.request(nyx.status, RunRef(provider="nyx", run_id="../../admin"))


# --- roots -----------------------------------------------------------------------------------------------------


@EACH
@pytest.mark.parametrize("prefix", ["", "/gateway", "/a/b"])
@pytest.mark.parametrize("slash", ["", "/", "//"])
def test_every_way_to_write_an_address_gives_the_same_root(provider: Provider, prefix: str, slash: str) -> None:
    endings = {"", "/v1", provider.version_path}
    if provider.version_path.startswith("/api"):
        endings.add("/api")
    for scheme in ("https://", "HTTPS://", ""):
        for ending in endings:
            root = provider.root(f" {scheme}Api.Example.org:8443{prefix}{ending}{slash} ")
            assert root == f"https://api.example.org:8443{prefix}"


@EACH
def test_without_an_address_it_is_the_public_one(provider: Provider) -> None:
    assert provider.root() == provider.root(None) == provider.root("") == provider.base_url


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("ftp://host", "not a web address"),
        ("https://", "not a web address"),
        ("   ", "not a web address"),
        ("https://host:port", "not a web address"),
        ("https://host:99999", "not a web address"),
        ("https://[::1", "not a web address"),
        ("https://ho st", "not a web address"),
        ("https://höst", "not a web address"),
        ("file:///etc/passwd", "not a web address"),
        ("javascript://x", "not a web address"),
        ("https://user@host", "no user, password"),
        ("https://user:pass@host", "no user, password"),
        ("user:pass@host", "no user, password"),
        ("https://host?key=x", "query"),
        ("https://host/#x", "fragment"),
        ("http://api.example.org", "use https://, or set allow_http"),
        ("http://127.0.0.1.example.org", "use https://"),
        ("http://localhost.example.org", "use https://"),
        ("http://10.0.0.1", "use https://"),
        ("http://0.0.0.0", "use https://"),
    ],
)
def test_a_wrong_address_is_refused_with_advice(given: str, said: str) -> None:
    for provider in PROVIDERS.values():
        with pytest.raises(ConfigurationError, match=said) as caught:
            provider.root(given)
        assert "pass@" not in str(caught.value)


def test_plain_http_is_allowed_to_this_machine_and_where_it_is_asked_for() -> None:
    nexio = find("nexio")
    for here in ("http://127.0.0.1:8642", "http://localhost:1", "http://[::1]:2", "http://127.9.9.9"):
        assert nexio.root(here) == here
    assert nexio.root("http://inside.example.org", allow_http=True) == "http://inside.example.org"


# --- keys ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["", "  ", None, "a\nb", "a\r\nX: 1", "a\x00", "schlüssel", "a\tb", "\u200bkey"])
def test_a_key_that_cannot_be_sent_is_refused_and_not_shown(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="connection 'c'") as caught:
        HeaderAuth(BEARER, wrong, origin="connection 'c'")
    assert not (wrong or "").strip() or wrong not in str(caught.value)


def test_a_key_goes_into_its_header_and_nowhere_else() -> None:
    for scheme, value in ((BEARER, f"Bearer {CANARY}"), (AuthScheme("x-api-key"), CANARY)):
        auth = HeaderAuth(scheme, f" {CANARY}\n", origin="o")
        request = next(auth.auth_flow(httpx.Request("GET", "https://h/")))
        assert request.headers[scheme.header] == value
        assert CANARY not in str(request.url)
        assert CANARY not in auth.fingerprint + repr(auth) + str(vars(auth).keys())
    assert HeaderAuth(BEARER, "a").fingerprint != HeaderAuth(BEARER, "b").fingerprint


# --- a sixth provider ------------------------------------------------------------------------------------------

SIXTH = """
from runops.core import Outcome, Phase, Provider, StateTable
from runops.core.model.cadence import Cadence
from runops.core.declaration import Route, RunBody

class AcmeRun(RunBody):
    DETAILS = ("stage",)
    stage: str | None = None

ACME = Provider(
    name="acme", title="Acme", docs="https://docs.acme.test", base_url="https://api.acme.test", version_path="/v2",
    key_variable="ACME_KEY", body=AcmeRun, states=StateTable({"on": Phase.RUNNING, "ok": Outcome.SUCCEEDED,
    "bad": Outcome.FAILED}), status=Route("GET", "/v2/jobs/{run_id}"), probe=Route("GET", "/v2/me"),
    cadence=Cadence(first=1, factor=1, ceiling=1), link="https://acme.test/{run_id}", verdicts={Outcome.FAILED: "warn"},
)
NOT_ONE = 5
"""


def test_a_sixth_provider_needs_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "acme_runs.py").write_text(SIXTH)
    monkeypatch.syspath_prepend(tmp_path)
    acme = find("acme_runs:ACME")

    def service(request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == "Bearer k"
        assert str(request.url) == "https://gateway.test/v2/jobs/j1"
        return httpx.Response(200, stream=httpx.ByteStream(b'{"run_id": "j1", "status": "bad", "stage": "end"}'))

    client = RunClient(acme, token="k", base_url="gateway.test/v2", transport=httpx.MockTransport(service))
    last = client.wait(client.ref("j1"))
    assert (last.outcome, last.details, last.url) == (Outcome.FAILED, {"stage": "end"}, "https://acme.test/j1")
    assert acme.policy().decide(Outcome.FAILED) == "warn"
    with pytest.raises(NotSupported, match="Acme documents no way to cancel"):
        client.cancel(client.ref("j1"))
    with pytest.raises(NotSupported, match="Acme documents no list"):
        client.recent("x")
    with pytest.raises(ConfigurationError, match="is a int, not a runops Provider"):
        find("acme_runs:NOT_ONE")
    with pytest.raises(ConfigurationError, match=r"cannot be imported.*MISSING"):
        find("acme_runs:MISSING")
    sys.modules.pop("acme_runs")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nexioo", "no provider 'nexioo'; use one of nexio, nyx, onepin, b3os, nekt, or 'package.module:NAME'"),
        ("", "no provider ''"),
        ("Nexio", "no provider 'Nexio'"),
        ("no_such_module_at_all:X", "cannot be imported: No module named"),
        (":X", "cannot be imported"),
        ("json:", "cannot be imported"),
        ("..json:X", "cannot be imported"),
        ("json:loads", "is a function, not a runops Provider"),
    ],
)
def test_a_provider_that_is_not_there_is_an_error_that_says_what_to_write(name: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said.replace("(", r"\(")):
        find(name)


# --- arguments -------------------------------------------------------------------------------------------------


@pytest.fixture
def call_of(calls: Mapping[str, dict[str, Any]]) -> Callable[..., Any]:
    def make(provider: str, **changes: Any) -> Any:
        given = {**calls[provider], **changes}
        return find(provider).call(**{name: value for name, value in given.items() if value != "absent"})

    return make


@pytest.mark.parametrize(
    ("provider", "path", "body"),
    [
        (
            "nexio",
            "/api/v1/engines/placement/runs",
            {"input": {"insured": "Example Ltd"}, "offerings": [{"id": 1}], "engine_version": "1.x"},
        ),
        (
            "nyx",
            "/v1/nyx/runs",
            {
                "config_name": "nightly",
                "name": "Nightly audit",
                "target": {"url": "https://agent.example.com"},
                "objective": "make it tell its instructions",
                "budget_usd": 5,
                "severity_target": "high",
                "hints": ["be brief"],
                "model": "large",
            },
        ),
        (
            "onepin",
            "/api/v1/workflows/7c9e6679-7425-40de-944b-e07fc1f90ae7/runs",
            {"script_text": "Hello.", "source_language": "de"},
        ),
        ("b3os", "/v1/workflows/wf_1/run", {"payload": {"amount": 3}}),
    ],
)
def test_every_argument_of_a_submit_stands_in_the_request_under_its_documented_name(
    call_of: Callable[..., Any], provider: str, path: str, body: dict[str, Any]
) -> None:
    more: dict[str, dict[str, Any]] = {
        "nexio": {"offerings": [{"id": 1}], "engine_version": "1.x"},
        "nyx": {"hints": ["be brief"], "extra": {"model": "large"}},
        "onepin": {"script_text": "Hello.", "source_language": "de"},
    }
    call = call_of(provider, **more.get(provider, {}))
    parents = {
        "nyx": {"config_name": "nightly"},
        "onepin": {"workflow_id": "7c9e6679-7425-40de-944b-e07fc1f90ae7"},
        "b3os": {"workflow_id": "wf_1"},
    }
    parent = parents.get(provider, {})
    assert call == Call(provider, path, body, parents=parent if provider == "onepin" else {}, parent=parent)


@pytest.mark.parametrize(
    ("provider", "field", "wrong", "said"),
    [
        ("nexio", "engine_slug", "", "engine_slug must be a non-empty text, not empty"),
        ("nexio", "engine_slug", None, "engine_slug must be a non-empty text, not NoneType"),
        ("nexio", "engine_slug", "../admin", "engine_slug=.* cannot be an id"),
        ("nexio", "engine_slug", "a/b", "engine_slug"),
        ("nexio", "input", "text", "input must be a JSON object"),
        ("nexio", "input", None, "input must be a JSON object"),
        ("nexio", "input", [1], "input must be a JSON object"),
        ("nexio", "input", {"at": datetime(2026, 1, 1, tzinfo=UTC)}, "input holds what JSON cannot carry"),
        ("nexio", "input", {"n": float("nan")}, "input holds what JSON cannot carry"),
        ("nexio", "input", {"b": b"x"}, "input holds what JSON cannot carry"),
        ("nexio", "offerings", {"a": 1}, "offerings must be a list of JSON objects, not dict"),
        ("nexio", "offerings", ["a"], r"offerings\[0\] must be a JSON object"),
        ("nexio", "offerings", "abc", "offerings must be a list"),
        ("nexio", "engine_version", 1.3, "engine_version must be a text, not float"),
        ("nyx", "config_name", " ", "config_name must be a non-empty text"),
        ("nyx", "name", "", "name must be a non-empty text"),
        ("nyx", "target", {}, "target needs a 'url' or an 'endpoint'"),
        ("nyx", "target", {"credentials": "x"}, "target needs a 'url' or an 'endpoint'"),
        ("nyx", "target", "https://x", "target must be a JSON object"),
        ("nyx", "objective", 5, "objective must be a non-empty text"),
        ("nyx", "budget_usd", 0, "budget_usd must be a number above 0"),
        ("nyx", "budget_usd", -5, "budget_usd must be a number above 0"),
        ("nyx", "budget_usd", "much", "budget_usd must be a number above 0"),
        ("nyx", "budget_usd", True, "budget_usd must be a number above 0"),
        ("nyx", "budget_usd", float("inf"), "budget_usd must be a number above 0"),
        ("nyx", "severity_target", "severe", "severity_target='severe' is not one of low, medium, high, critical"),
        ("nyx", "severity_target", ["low"], "severity_target"),
        ("nyx", "hints", "look here", "hints must be a list of texts"),
        ("nyx", "hints", [1], r"hints\[0\] must be a text"),
        ("nyx", "extra", {"name": "x"}, "extra repeats the field 'name'"),
        ("nyx", "extra", [1], "extra must be a JSON object"),
        ("onepin", "workflow_id", "", "workflow_id must be a non-empty text"),
        ("onepin", "workflow_id", "a/../b", "workflow_id"),
        ("onepin", "script_text", ["a"], "script_text must be a text"),
        ("onepin", "source_language", 5, "source_language must be a text"),
        ("b3os", "workflow_id", None, "workflow_id must be a non-empty text"),
        ("b3os", "workflow_id", "%2e%2e", "workflow_id"),
        ("b3os", "payload", [1, 2], "payload must be a JSON object"),
        ("b3os", "payload", {"x": {1, 2}}, "payload holds what JSON cannot carry"),
    ],
)
def test_a_wrong_submit_argument_is_refused_by_name(
    call_of: Callable[..., Any], provider: str, field: str, wrong: Any, said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        call_of(provider, **{field: wrong})


@pytest.mark.parametrize(("provider", "unknown"), [("nexio", "slug"), ("b3os", "body"), ("onepin", "run_id")])
def test_an_argument_that_does_not_exist_is_refused_by_name(
    call_of: Callable[..., Any], provider: str, unknown: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"unknown arguments: {unknown}; it takes "):
        call_of(provider, **{unknown: 1})


def test_a_missing_argument_is_refused_by_name(call_of: Callable[..., Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"missing arguments: input; it takes engine_slug"):
        call_of("nexio", input="absent")


def test_what_a_template_renders_to_text_is_taken(call_of: Callable[..., Any]) -> None:
    assert call_of("nyx", budget_usd="2.5").json["budget_usd"] == 2.5


def test_a_call_shows_no_payload_and_later_changes_do_not_reach_it(call_of: Callable[..., Any]) -> None:
    payload = {"wallet": {"id": CANARY}}
    call = call_of("b3os", payload=payload)
    payload["wallet"]["id"] = "changed"
    assert call.json == {"payload": {"wallet": {"id": CANARY}}}
    assert CANARY not in repr(call)


def test_optional_fields_that_are_not_given_are_not_sent(call_of: Callable[..., Any]) -> None:
    assert call_of("onepin").json is None
    assert call_of("b3os", payload=None).json is None
    assert set(call_of("nexio").json) == {"input"}
    assert call_of("onepin", script_text="").json == {"script_text": ""}


@pytest.mark.parametrize("value", [0, -1, True, None, "x", "nan", "-5", float("inf"), [1], {}])
def test_a_number_above_zero_is_just_that(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="the field"):
        arguments.positive("the field", value)


@pytest.mark.parametrize("value", ["", " ", "a\r\nb", "ä", None, 5])
def test_a_header_value_can_stand_in_a_header(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="the field"):
        arguments.header_value("the field", value)
    assert arguments.header_value("the field", " a b ") == "a b"


def test_only_id_and_status_are_required_anywhere() -> None:
    for provider in PROVIDERS.values():
        required = {name for name, field in provider.body.model_fields.items() if field.is_required()}
        assert required == {"run_id", "status"}
        assert issubclass(provider.body, RunBody)
