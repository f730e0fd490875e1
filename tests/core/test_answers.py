"""How answers, texts and bodies are judged: retry, redaction and the inflater. Pure and fast."""

from __future__ import annotations

import base64
import gzip
import json
import pickle
import re
import time
import tracemalloc
import zlib
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from runops.core import PROVIDERS, find
from runops.core.declaration import Part
from runops.core.declaration.decode import malformed
from runops.core.model import errors
from runops.core.model.codes import Coded
from runops.core.model.errors import (
    AnswerError,
    AnswerLost,
    AuthError,
    ConflictError,
    ConnectionFailed,
    FinalError,
    MalformedAnswer,
    PollingError,
    RequestRefused,
    RunNotFound,
    RunopsError,
    ServerTrouble,
    SubmitUncertainError,
    TransientError,
    UnknownStateError,
)
from runops.core.model.redaction import LONGEST, clean, code, cut, shown
from runops.core.model.run import RunRef
from runops.core.transport.base import Answer
from runops.core.transport.failures import from_transport
from runops.core.transport.inflate import Inflater, whole_body
from runops.core.transport.network_settings import proxy_of_environment
from runops.core.transport.retry import (
    LARGEST_ERROR,
    from_answer,
    may_pass,
    requested_pause,
    submit_is_uncertain,
    submit_may_repeat,
)

NOW = datetime(2026, 4, 1, 12, 0, 0, tzinfo=UTC).timestamp()


def answer(status: int, body: Any = None, **headers: str) -> Answer:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, names, json.dumps(body).encode() if body is not None else b"")


def judged(status: int, body: Any = None, secret: str = "k3y", **headers: str) -> AnswerError:
    return from_answer(
        answer(status, body, **headers), origin="connection 'c'", description="The read", secrets=(secret,)
    )


# --- statuses --------------------------------------------------------------------------------------------------

FINAL = {401: AuthError, 403: AuthError, 404: RunNotFound, 409: ConflictError}


@pytest.mark.parametrize("status", [*range(100, 200), *range(300, 600)])
def test_every_status_is_transient_or_final_as_documented(status: int) -> None:
    error = judged(status)
    transient = status in (408, 425, 429) or status >= 500
    assert type(error) is (ServerTrouble if transient else FINAL.get(status, RequestRefused))
    assert error.status == status
    assert str(status) in str(error)
    assert isinstance(error, TransientError) is not isinstance(error, FinalError)
    assert submit_may_repeat(error) is (status == 429)
    assert submit_is_uncertain(error) is (transient and status != 429)
    if isinstance(error, FinalError):
        assert may_pass(error) is (status == 404 or 300 <= status < 400)


def test_only_auth_unavailable_makes_a_503_repeatable() -> None:
    submit = find("nexio").submit
    assert submit is not None
    declared = submit.turned_away
    for body in ({"code": "auth_unavailable"}, {"error": {"code": "auth_unavailable", "message": "later"}}):
        assert submit_may_repeat(judged(503, body), declared)
        assert not submit_is_uncertain(judged(503, body), declared)
        assert not submit_may_repeat(judged(503, body))
        assert not submit_may_repeat(judged(500, body), declared)
        assert not isinstance(judged(503, body), AuthError)
    assert not submit_may_repeat(judged(503, {"code": "queue_unreachable"}), declared)


def test_only_the_provider_that_documents_it_repeats_a_submit_after_a_503() -> None:
    assert {name for name, each in PROVIDERS.items() if each.submit and each.submit.turned_away} == {"nexio"}


def test_advice_names_where_the_key_was_set() -> None:
    assert "connection 'c'" in str(judged(401))
    assert "connection 'c'" in str(judged(403))


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (httpx.ConnectError("x"), ConnectionFailed),
        (httpx.ConnectTimeout("x"), ConnectionFailed),
        (httpx.PoolTimeout("x"), ConnectionFailed),
        (httpx.ReadTimeout("x"), AnswerLost),
        (httpx.WriteTimeout("x"), AnswerLost),
        (httpx.ReadError("x"), AnswerLost),
        (httpx.WriteError("x"), AnswerLost),
        (httpx.CloseError("x"), AnswerLost),
        (httpx.RemoteProtocolError("x"), AnswerLost),
        (httpx.LocalProtocolError("x"), AnswerLost),
        (httpx.DecodingError("x"), AnswerLost),
    ],
)
def test_only_a_failed_connect_proves_that_nothing_was_sent(failure: httpx.HTTPError, kind: type[Exception]) -> None:
    error = from_transport(failure)
    assert type(error) is kind
    assert submit_may_repeat(error) is (kind is ConnectionFailed)


# --- pauses ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "headers", "pause"),
    [
        (429, {"retry_after": "17"}, 17),
        (503, {"retry_after": "17"}, 17),
        (429, {"retry_after": "0.5"}, 0.5),
        (429, {"retry_after": "0"}, 0),
        (429, {"retry_after": "-9"}, 0),
        (429, {"retry_after": "99999999"}, 900),
        (429, {"retry_after": "Wed, 01 Apr 2026 12:00:40 GMT"}, 40),
        (429, {"retry_after": "Wed, 01 Apr 2026 14:00:40 +0200"}, 40),
        (429, {"retry_after": "Wed, 01 Apr 2026 11:00:00 GMT"}, 0),
        (429, {"retry_after": "Wed, 01 Apr 2099 11:00:00 GMT"}, 900),
        (429, {"retry_after": "soon"}, None),
        (429, {"retry_after": "nan"}, None),
        (429, {"retry_after": "inf"}, None),
        (429, {"retry_after": ""}, None),
        (429, {"retry_after": "3, 3"}, None),
        (429, {"x_ratelimit_reset": str(int(NOW) + 25)}, 25),
        (429, {"x_ratelimit_reset": str(int(NOW) - 25)}, 0),
        (429, {"x_ratelimit_reset": "25"}, 25),
        (429, {"x_ratelimit_reset": str((int(NOW) + 25) * 1000)}, 900),
        (429, {"x_ratelimit_reset": "later"}, None),
        (429, {"retry_after": "5", "x_ratelimit_reset": "25"}, 5),
        (429, {"retry_after": "soon", "x_ratelimit_reset": "25"}, 25),
        (500, {"x_ratelimit_reset": "25"}, None),
        (429, {}, None),
    ],
)
def test_an_asked_for_pause_is_read_and_capped(status: int, headers: dict[str, str], pause: float | None) -> None:
    assert requested_pause(answer(status, **headers), now=NOW) == pause


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_header_breaks_the_reading_of_a_pause(after: str, reset: str) -> None:
    pause = requested_pause(answer(429, retry_after=after, x_ratelimit_reset=reset), now=NOW)
    assert pause is None or 0 <= pause <= 900


@given(st.integers(0, 7_000_000_000))
def test_any_http_date_gives_a_pause_within_the_cap(moment: int) -> None:
    written = format_datetime(datetime.fromtimestamp(moment, UTC), usegmt=True)
    pause = requested_pause(answer(429, retry_after=written), now=NOW)
    assert pause == min(max(moment - NOW, 0), 900)


# --- error bodies ----------------------------------------------------------------------------------------------


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=30),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                        st.sampled_from(["error", "message", "detail", "details", "code", "type", "loc", "field"]),
                        inner, max_size=4), max_leaves=12))  # fmt: skip
def test_no_error_body_breaks_the_judgement(body: Any) -> None:
    error = judged(400, body)
    assert isinstance(error, RequestRefused)
    assert "\n" not in str(error)
    assert len(str(error)) < 500


@given(st.binary(max_size=200))
def test_no_bytes_break_the_judgement(content: bytes) -> None:
    error = from_answer(Answer(500, {}, content), origin="o", description="The read")
    assert isinstance(error, ServerTrouble)


def test_a_code_is_a_short_word_and_never_holds_the_secret() -> None:
    assert code("invalid_request", "k3y") == "invalid_request"
    assert code("workflow.concurrent-run_limit", "k3y") == "workflow.concurrent-run_limit"
    for wrong in (
        None,
        404,
        "two words",
        "",
        "x" * 65,
        "k3y",
        "bad_k3y",
        "4xx",
        "é",
        "a\n",
        "sk_4f9a8b7c6d5e4f3a2b1c0d9e",
    ):
        assert code(wrong, "k3y") is None


@pytest.mark.parametrize(
    ("place", "fields"),
    [
        (["body", "input", 0, "vin"], "fields: body.input.0.vin"),
        ("target.url", "fields: target.url"),
        (["body", "k3y"], "fields: body.?"),
        (["header", "nx_live_4f9a8b7c6d5e4f3a"], "fields: header.?"),
        (["body", "Jane Doe", "1 Main Street"], "fields: body.?.?"),
        (["query", "jane@example.org", 12_345_678], "fields: query.?.?"),
        ([{"a": 1}, None], None),
    ],
)
def test_the_place_of_a_validation_error_is_shown_by_what_can_name_a_field(place: Any, fields: str | None) -> None:
    error = judged(422, {"detail": [{"loc": place, "msg": "k3y", "input": "k3y"}]}, secret="k3y")
    assert (fields in str(error)) if fields else ("fields" not in str(error))


def test_the_body_of_a_large_error_is_not_read() -> None:
    content = json.dumps({"error": "so it is", "x": "y" * LARGEST_ERROR}).encode()
    assert (
        from_answer(Answer(500, {}, content), origin="o", description="The read").text == "The read was answered 500."
    )
    assert "so it is" in str(from_answer(Answer(500, {}, b'{"error":"so it is"}'), origin="o", description="The read"))


class Shelf(Part):
    """A part under keys that the provider chooses."""

    weight: int


class Shelves(Part):
    run: dict[str, Shelf] = Field(validation_alias="theRun")
    more: list[Shelf] | None = None


def test_an_answer_that_is_not_as_documented_names_declared_fields_only() -> None:
    bad = {"theRun": {"jane@example.org": {"weight": "heavy"}, "k3y": 5}, "more": [{"weight": "k3y"}]}
    with pytest.raises(ValidationError) as caught:
        Shelves.model_validate(bad)
    told = str(malformed("read of x", caught.value, Shelves))
    assert told == (
        "The answer to the read of x is not as documented; unreadable: more.0.weight, theRun.?, theRun.?.weight. "
        "[malformed-answer]"
    )


# --- redaction -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("Plain words stay, 3 of 4.", "Plain words stay, 3 of 4."),
        ("see https://example.org/a?token=b for more", "see [removed] for more"),
        ("url=https://example.org/a,b", "url=[removed]"),
        ("(HTTPS://EXAMPLE.ORG)", "([removed]"),
        ("ws://h and ftp://h and s3://bucket/key", "[removed] and [removed] and [removed]"),
        ("x_https://example.org", "[removed]"),
        (r"https:\/\/example.org\/a", "[removed]"),
        ("www.example.org/x", "[removed]"),
        ("mail jane.doe@example.org now", "mail [removed] now"),
        ("jane%40example.org", "[removed]"),
        ('"jane doe"@example.org', '"jane doe"[removed]'),
        ("token abc_def-ghi.jkl/mno+pqr=stu", "token [removed]"),
        ("api_key=abc", "[removed]"),
        ('{"password": "abc"}', '{"[removed]'),
        ("Authorization: Bearer abc", "[removed]"),
        ("authorization: Basic dXNlcjpwdw==", "[removed]"),
        ("bearer abc def", "[removed] def"),
        ("key nx_test_1 and op_live_2", "key [removed] and [removed]"),
        ("a\nb\tc\x00d\u200be  f", "a b c d e f"),
        ("   ", None),
        ("", None),
        (None, None),
        (5, None),
        ({"error": "x"}, None),
    ],
)
def test_free_text_is_cleaned(text: Any, cleaned: str | None) -> None:
    assert clean(text) == cleaned


SECRETS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=6, max_size=60)


@given(before=st.text(max_size=300), after=st.text(max_size=300), secret=SECRETS, spelling=st.integers(0, 2))
def test_a_secret_never_comes_through_however_it_is_spelled(
    before: str, after: str, secret: str, spelling: int
) -> None:
    written = [secret, quote(secret, safe=""), base64.b64encode(secret.encode()).decode()][spelling]
    cleaned = clean(f"{before} {written} {after}", secret) or ""
    plain = f"{before} {after}"
    assert written not in cleaned or written in plain or written in "[removed]"
    assert len(cleaned) <= LONGEST


@pytest.mark.long
@given(st.text(max_size=600) | st.from_regex(r"(https?://|www\.|\w+@\w|[a-z]{25}|key=| ){1,20}", fullmatch=True))
def test_what_is_cleaned_holds_no_address_and_no_long_token(text: str) -> None:
    cleaned = clean(text) or ""
    assert len(cleaned) <= LONGEST
    assert cleaned.isprintable()
    assert not re.search(r"@|%40|[a-z0-9]://|\bwww\.", cleaned, re.IGNORECASE)
    assert not re.search(r"[A-Za-z0-9_\-+/=.%~]{20,}", cleaned)


@pytest.mark.parametrize(
    "hard", ["a" * 10_000, "a." * 5_000, "a@" * 5_000, "://" * 3_333, "key-" * 2_500, "a " * 5_000]
)
def test_no_text_takes_long_to_clean(hard: str) -> None:
    began = time.process_time()
    clean(hard, "secret")
    assert time.process_time() - began < 0.25


def test_an_id_stays_as_it_is_and_a_sentence_is_cleaned() -> None:
    assert shown("3fa85f64-5717-4562-b3fc-2c963f66afa6") == "3fa85f64-5717-4562-b3fc-2c963f66afa6"
    assert shown("see 3fa85f64-5717-4562-b3fc-2c963f66afa6") == "see [removed]"
    assert shown("jane@example.org") == "[removed]"
    assert len(shown("x" * 900)) == LONGEST
    assert cut("x" * 200) == "x" * 200


# --- bodies ----------------------------------------------------------------------------------------------------


def inflate(encoding: str | None, content: bytes, limit: int = 1000, step: int = 7) -> bytes:
    inflater = Inflater(encoding, limit)
    for start in range(0, len(content), step):
        inflater.feed(content[start : start + step])
    return inflater.finish()


@given(body=st.binary(max_size=900), step=st.integers(1, 2000))
def test_what_was_compressed_comes_back(body: bytes, step: int) -> None:
    assert inflate("gzip", gzip.compress(body), step=step) == body
    assert inflate("x-gzip", gzip.compress(body), step=step) == body
    assert inflate("deflate", zlib.compress(body), step=step) == body
    assert inflate(None, body, step=step) == inflate("identity", body, step=step) == body


@pytest.mark.parametrize("encoding", [None, "gzip"])
def test_a_body_is_taken_up_to_the_limit_and_refused_beyond_it(encoding: str | None) -> None:
    for size in (999, 1000, 1001):
        body = b"x" * size
        pieces = [body[:400], body[400:]] if encoding is None else [gzip.compress(body)]
        if size <= 1000:
            assert whole_body(pieces, encoding, 1000) == body
        else:
            with pytest.raises(MalformedAnswer, match="max_response_bytes=1000"):
                whole_body(pieces, encoding, 1000)


def test_a_body_over_the_limit_is_refused_and_one_at_it_is_not() -> None:
    for encoding, pack in ((None, bytes), ("gzip", gzip.compress)):
        assert len(inflate(encoding, pack(b"a" * 1000))) == 1000
        with pytest.raises(MalformedAnswer, match="max_response_bytes=1000"):
            inflate(encoding, pack(b"a" * 1001))


@pytest.mark.long
def test_a_bomb_is_not_held_in_memory() -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    tracemalloc.start()
    with pytest.raises(MalformedAnswer):
        inflate("gzip", bomb, limit=1_000_000, step=65_536)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000


@given(st.integers(1, 60))
def test_a_cut_body_is_never_taken_for_a_whole_one(missing: int) -> None:
    whole = gzip.compress(json.dumps({"run_id": "x", "n": list(range(40))}).encode())
    try:
        body = inflate("gzip", whole[:-missing])
    except AnswerLost:
        return
    assert body == b""


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, br", "nonsense"])
def test_a_compression_that_was_not_asked_for_is_refused(encoding: str) -> None:
    with pytest.raises(MalformedAnswer, match="not asked for"):
        Inflater(encoding, 10)


def test_broken_compression_is_a_malformed_answer() -> None:
    with pytest.raises(MalformedAnswer, match="broken"):
        inflate("gzip", b"this is no gzip at all")


def test_what_follows_a_compressed_body_is_ignored() -> None:
    assert inflate("gzip", gzip.compress(b"{}") + b"\0" * 5_000) == b"{}"


# --- proxies ---------------------------------------------------------------------------------------------------


def test_this_machine_is_never_asked_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example.org:3128")
    monkeypatch.setenv("https_proxy", "proxy.example.org:3128")
    monkeypatch.setenv("no_proxy", "inside.example.org")
    for root in ("http://127.0.0.1:8642/nexio", "http://localhost:1", "http://[::1]:2"):
        assert not proxy_of_environment(root)
    assert not proxy_of_environment("https://inside.example.org")
    assert proxy_of_environment("https://api.example.org") == "http://proxy.example.org:3128"
    assert proxy_of_environment("http://api.example.org") == "http://proxy.example.org:3128"


# --- errors ----------------------------------------------------------------------------------------------------


def _drawn() -> dict[str, tuple[str, str]]:
    """Each error of the tree in the docstring: its parent, and its other base."""
    drawn: dict[str, tuple[str, str]] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^( {4}[│ ├└─]*)([A-Z]\w+)(?: \(also an? (\w+)\))?", line)
        if found:
            depth = (len(found[1]) - 4) // 4
            above[depth:] = [found[2]]
            drawn[found[2]] = (above[depth - 1] if depth else "Exception", found[3] or "")
    return drawn


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    real = {
        name: (bases[0].__name__, bases[1].__name__ if len(bases) > 1 else "")
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, RunopsError)
        for bases in [[base for base in kind.__bases__ if base is not Coded]]
    }
    assert _drawn() == real


REF = RunRef(provider="nyx", run_id="r_1")


@pytest.mark.parametrize(
    "error",
    [
        errors.ConfigurationError("a"),
        judged(429, retry_after="5"),
        judged(401),
        UnknownStateError(REF, "archived", ["b", "a"]),
        PollingError(REF, 12.5, ServerTrouble("Down.", status=502)),
        SubmitUncertainError("Lost.", candidates=[REF]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_cross_processes_unchanged(error: RunopsError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert {name: str(value) for name, value in vars(again).items()} == {
        name: str(value) for name, value in vars(error).items()
    }
