"""What the emulator refuses: web pages from elsewhere, and control bodies that make no sense, each with its field."""

from __future__ import annotations

import json
import random
import tracemalloc
from typing import Any

import httpx
import pytest

from runops.emulator import create_app
from runops.emulator.faults import FAULTS_KEPT
from runops.emulator.journal import Journal
from runops.emulator.runs import ScriptError
from runops.emulator.server import running
from runops.emulator.services import default_apis
from runops.emulator.store import Emulator

PROVIDERS = [cls.name for cls in default_apis()]
JSON = {"content-type": "application/json"}
DEEP = json.loads("[" * 200 + "]" * 200)

NUMBERS = ["soon", "", "nan", "inf", "1e400", -1, -0.5, 10**400, 1e300, True, [], {}, [1], {"a": 1}]
TEXTS = [3, 3.5, True, [], {}, "", "x" * 5000, ["x"]]
LISTS = ["text", 3, {}, {"a": 1}, [3], [[]], [None]]
OBJECTS = ["text", 3, True, [], [["a", 1]], {"a": DEEP}]
SCRIPTS = ["none", 3, True, {}, [3], [{"wait": 1}], [{"after": "soon"}], [{"after": 1e300}], [{"at": -1}],
           [{"set": []}], [{"unset": "status"}], [{"unset": [3]}], [{"after": 9e8}, {"after": 9e8}], [[]]]  # fmt: skip

FIELDS: list[tuple[str, dict[str, Any], str, list[Any]]] = [
    *(
        ("/runs", {"provider": "nexio"}, name, values)
        for name, values in {
            "script": SCRIPTS,
            "seconds": NUMBERS,
            "hidden_seconds": NUMBERS,
            "age_seconds": [value for value in NUMBERS if value not in (-1, -0.5)],
            "run_id": TEXTS,
            "parents": [*OBJECTS[:4], {"engine_slug": 3}, {"engine_slug": []}, {"engine_slug": ""}, {"wrong": "x"}],
            "fields": OBJECTS,
            "held": ["false", 0, 1, [], {}],
            "shape": ["flat", 3, []],
            "on_cancel": ["laugh", 3, {}, [3], [{"after": "soon"}], True],
            "on_resume": ["laugh", 3, {}, [3], [{"after": "soon"}], True],
            "on_retry": SCRIPTS,
        }.items()
    ),
    ("/runs", {}, "provider", ["acme", 3, [], {}, True, "", None]),
    *(
        ("/defaults", {}, name, values)
        for name, values in {
            "provider": ["acme", 3, [], {}, True],
            "script": SCRIPTS,
            "seconds": NUMBERS,
            "hidden_seconds": NUMBERS,
            "fields": OBJECTS,
            "on_cancel": ["laugh", 3, {}, [3], True],
            "on_resume": ["laugh", 3, {}, [3], True],
            "on_retry": SCRIPTS,
            "self": [1],
        }.items()
    ),
    ("/hold", {}, "held", ["false", 0, 1, [], {}, None]),
    ("/hold", {}, "provider", ["acme", 3, [], {}, True]),
    ("/hold", {}, "run_id", ["none", 3, [], {}, True]),
    ("/advance", {}, "seconds", NUMBERS),
    ("/advance", {}, "provider", ["acme", 3, [], {}, True]),
    ("/advance", {}, "run_id", ["none", 3, [], {}, True]),
    ("/set", {"provider": "nexio", "run_id": "here"}, "set", [*OBJECTS, None]),
    ("/set", {"provider": "nexio", "run_id": "here"}, "unset", [*LISTS, None]),
    ("/set", {"run_id": "here"}, "provider", ["acme", 3, [], None]),
    ("/set", {"provider": "nexio"}, "run_id", ["none", 3, [], None]),
    *(
        ("/faults", {"kind": "status", "status": 500, "provider": "nexio"}, name, values)
        for name, values in {
            "kind": ["flood", 3, [], {}, None],
            "when": ["later", "", 3, [], {}, True],
            "status": ["500", 99, 101, 600, -1, 10**400, 3.5, True, [], None],
            "provider": ["acme", 3, [], {}, True],
            "action": TEXTS,
            "method": TEXTS,
            "path_contains": TEXTS,
            "run_id": TEXTS,
            "count": ["1", -1, 1.5, 10**400, True, [], {}],
            "skip": ["1", "", -1, 1.5, 10**400, True, [], {}],
            "probability": ["soon", -0.1, 1.1, "nan", 10**400, True, [], {}],
            "headers": [*OBJECTS[:4], {"a b": "x"}, {"x": "a\r\nb: c"}, {"x": "ü"}, {"content-length": "3"}, {"": "x"}],
            "retry_after": ["a\r\nb", "ü", 10**400, True, [], {}],
            "retry_after_date": NUMBERS[:5] + NUMBERS[7:],
            "location": ["a\r\nb", "ü", 3, [], {}],
            "bytes": ["many", -1, 0, 1.5, 10**400, True, [], {}],
            "seconds": NUMBERS,
            "bytes_per_second": [*NUMBERS, 0],
            "code": TEXTS,
            "message": TEXTS,
            "body": [{"a": DEEP}],
            "self": [1],
        }.items()
    ),
    ("/reset", {}, "only", ["runs", ["all"], 3, {}, {"runs": 1}, [3], [[]], None]),
]
WRONG = [(path, {**body, name: value}, name) for path, body, name, values in FIELDS for value in values]


def post(call: Any, path: str, text: str | bytes, **headers: str) -> httpx.Response:
    return call.control("POST", path, content=text, headers={**JSON, **headers})


def state(emulator: Emulator) -> Any:
    return emulator.runs(), emulator.fault_list.described()


class TestControlBodies:
    def test_every_wrong_value_is_refused_by_the_name_of_its_field_and_changes_nothing(self, call, emulator) -> None:
        emulator.create_run("nexio", run_id="here", script="forever", held=True)
        before = state(emulator)
        for path, body, name in WRONG:
            answer = call.control("POST", path, json=body)
            assert (answer.status_code, list(answer.json())) == (400, ["error"]), (path, body, answer.text)
            assert name in answer.json()["error"], (path, body, answer.text)
            assert len(answer.text) < 1_000
            assert state(emulator) == before, (path, body)
        assert len(WRONG) > 300

    @pytest.mark.parametrize("path", ["/runs", "/defaults", "/hold", "/advance", "/set", "/faults", "/reset"])
    @pytest.mark.parametrize(
        "text",
        [
            *(
                "{",
                "nonsense",
                "[]",
                "3",
                '"text"',
                "null",
                "true",
                "NaN",
                '{"seconds": NaN}',
                '{"seconds": -Infinity}',
            ),
            *('{"seconds": 1e999}', '{"seconds": ' + "9" * 5000 + "}", '{"a": 1}', '{"\\ud800": 1}', '{"self": 1}'),
            *('{"provider": "\\ud800"}', "[" * 100_000, '{"fields": ' + "[" * 200 + "]" * 200 + "}", b"\xff\xfe{\x00}"),
        ],
    )
    def test_what_is_no_json_object_of_known_keys_is_400(self, call, path: str, text: str | bytes) -> None:
        answer = post(call, path, text)
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]

    def test_a_body_that_is_too_large_is_413_and_one_of_another_type_415(self, call, emulator) -> None:
        assert (
            post(call, "/runs", b'{"provider": "nexio", "fields": {"a": "' + b"x" * 1_000_000 + b'"}}').status_code
            == 413
        )
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
            answer = call.control("POST", "/runs", content='{"provider": "nexio"}', headers={"content-type": kind})
            assert answer.status_code == 415
            assert "application/json" in answer.json()["error"]
        assert emulator.runs() == []
        assert post(
            call, "/runs", '{"provider": "nexio"}', **{"content-type": "Application/JSON; charset=utf-8"}
        ).is_success

    @pytest.mark.parametrize("query", ["status=x", "after=-1", "after=" + "9" * 5000, "colour=red", "self=1"])
    def test_odd_filters_are_400(self, call, query: str) -> None:
        answer = call.control("GET", f"/requests?{query}")
        assert answer.status_code == 400
        assert query.partition("=")[0] in answer.json()["error"]

    def test_no_seeded_mixture_of_values_is_ever_500_or_spoils_a_later_answer(self, call, emulator) -> None:
        chance = random.Random(20)
        values = [value for _, _, _, several in FIELDS for value in several]
        good = ["succeeded", "forever", 0, 1, 2.5, "ignored", "refused", True, {"a": "$now"}, ["status"], "nyx", 404]
        names = [(path, {}, name) for path, _, name, _ in FIELDS]
        for _ in range(1_500):
            path = chance.choice(names)[0]
            fields = [name for other, _, name in names if other == path]
            body = {name: chance.choice(values + good * 8) for name in chance.sample(fields, min(3, len(fields)))}
            if path in ("/runs", "/set"):
                body["provider"] = chance.choice(PROVIDERS)
            if path == "/faults":
                kind = chance.choice(["status", "html", "json", "empty", "redirect"])
                body.update(kind=kind, status=404, location="/x")
            answer = call.control("POST", path, json=body)
            assert answer.status_code < 500, (path, body, answer.text)
        for run in emulator.runs():
            answer = call.read(run["provider"], run["run_id"].replace("/", "%2F"))
            assert answer.status_code < 600
        emulator.fault_list.clear()
        for run in emulator.runs():
            assert call.read(run["provider"], run["run_id"]).status_code in (200, 404, 422)
        assert call.control("GET", "/runs").is_success
        assert call.control("GET", "/requests").is_success

    @pytest.mark.parametrize("kind", ["status", "html", "json", "empty", "redirect", "delay", "drip"])
    @pytest.mark.parametrize("status", [200, 204, 205, 304, 404, 599])
    def test_whatever_fault_was_taken_the_answer_is_http(self, call, emulator, kind: str, status: int) -> None:
        emulator.add_fault(kind=kind, status=status, location="/x", seconds=0, bytes_per_second=1e6)
        answer = call("nexio", "GET", "/health")
        assert answer.status_code == (200 if kind in ("delay", "drip") else status)


class TestPagesFromElsewhere:
    PAGE = "https://page.example"
    ASKED = (("GET", "/_control/requests"), ("GET", "/_control/runs"), ("POST", "/_control/reset"))

    @pytest.mark.parametrize(("method", "path"), [*ASKED, ("GET", "/"), ("GET", "/nexio/health")])
    @pytest.mark.parametrize(
        "host",
        [
            *("page.example", "page.example:{port}", "127.0.0.1.page.example", "localhost.page.example"),
            *("10.1.2.3", "[::2]", "a@b", ""),
        ],
    )
    def test_a_name_that_was_made_to_stand_for_this_machine_is_421(self, call, served, method, path, host) -> None:
        answer = call.http.request(method, served.url + path, headers={"host": host.format(port=served.port)})
        assert answer.status_code in (400, 421)
        if host:
            assert "Host" in answer.json()["error"]

    @pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "LOCALHOST", "[::1]:{port}", "127.9.9.9"])
    def test_the_names_of_this_machine_are_served(self, call, served, host) -> None:
        answer = call.http.get(f"{served.url}/nexio/health", headers={"host": host.format(port=served.port)})
        assert answer.status_code == 200

    @pytest.mark.parametrize(("method", "path"), ASKED)
    @pytest.mark.parametrize(
        "headers",
        [
            {"origin": PAGE}, {"origin": "null"}, {"origin": "http://localhost:1"}, {"origin": "http://127.0.0.1"},
            {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"origin": "http://[bad"},
        ],
    )  # fmt: skip
    def test_another_site_may_neither_read_nor_write_the_control_api(
        self, call, served, emulator, method, path, headers
    ) -> None:
        emulator.create_run("nexio", run_id="kept")
        answer = call.http.request(method, served.url + path, headers=headers)
        assert (answer.status_code, list(answer.json())) == (403, ["error"])
        assert [run["run_id"] for run in emulator.runs()] == ["kept"]

    def test_a_form_of_a_page_changes_nothing_even_without_an_origin(self, call, emulator) -> None:
        emulator.create_run("nexio", run_id="kept")
        answer = call.control("POST", "/reset", content="{}", headers={"content-type": "text/plain"})
        assert answer.status_code == 415
        assert len(emulator.runs()) == 1

    def test_its_own_pages_and_typed_addresses_are_served(self, call, served) -> None:
        own = {"origin": served.url, "sec-fetch-site": "same-origin"}
        assert call.control("POST", "/reset", headers=own).status_code == 200
        assert call.control("GET", "/runs", headers={"sec-fetch-site": "none"}).status_code == 200

    def test_names_that_were_allowed_are_served(self) -> None:
        app = create_app(hosts=["Emulator"])
        assert asked(app, "emulator:8642") == 200
        assert asked(app, "other:8642") == 421
        assert asked(app, "10.1.2.3") == 421
        assert asked(create_app(hosts=["0.0.0.0"]), "10.1.2.3") == 200
        assert asked(create_app(hosts=["0.0.0.0"]), "page.example") == 421


def asked(app: Any, host: str) -> int:
    import asyncio

    async def get() -> int:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
            return (await client.get("/", headers={"host": host})).status_code

    return asyncio.run(get())


class TestGrowth:
    @pytest.fixture
    def small(self) -> Emulator:
        return Emulator(default_apis(), seed=1, now=lambda: 1_800_000_000.0, requests_kept=100, runs_kept=50)

    def test_of_the_requests_the_newest_are_kept_and_the_others_counted(self) -> None:
        with running() as server, httpx.Client(base_url=server.url) as client:
            server.emulator.journal = Journal(10)
            client.post("/nexio/health")
            for _ in range(25):
                client.get("/nexio/health")
            told = client.get("/_control/requests").json()
            assert (told["count"], told["dropped"], len(told["requests"])) == (11, 15, 11)
            # What changes something is not pushed out by those who only look.
            assert [entry["index"] for entry in told["requests"]] == [1, *range(17, 27)]
            counted = client.get("/_control/requests", params={"count_only": "true"}).json()
            assert counted == {"count": 11, "dropped": 15}
            client.post("/_control/reset")
            assert client.get("/_control/requests").json() == {"count": 0, "requests": []}

    def test_runs_that_are_over_are_forgotten_before_those_that_are_not(self, small: Emulator) -> None:
        alive = [small.create_run("onepin", script="running") for _ in range(10)]
        ended = [small.create_run("onepin", script="succeeded", age_seconds=60) for _ in range(300)]
        kept = [run["run_id"] for run in small.runs()]
        assert len(kept) <= 50
        assert kept[:10] == alive
        assert kept[10:] == ended[-len(kept) + 10 :]
        assert small.dropped_runs == 310 - len(kept)
        assert len(small.children("onepin", small.apis["onepin"].default_parent)) == len(kept)

    def test_a_run_s_number_goes_on_although_older_ones_were_forgotten(self, small: Emulator) -> None:
        made = [small.create_run("onepin", script="succeeded", age_seconds=60) for _ in range(120)]
        assert small.runs(run_id=made[-1])[0]["fields"]["run_number"] == 120

    def test_parents_without_a_run_left_are_forgotten_too(self, small: Emulator) -> None:
        for number in range(500):
            small.create_run("nyx", script="succeeded", age_seconds=60, parents={"config_name": f"c{number}"})
        runs = small._stores["nyx"]
        assert len(runs._children) + len(runs._forgotten) <= 100

    def test_a_run_that_is_made_when_all_others_are_alive_is_there(self, small: Emulator) -> None:
        made = [small.create_run("nexio", script="forever") for _ in range(60)]
        assert made[-1] in [run["run_id"] for run in small.runs()]

    def test_faults_that_are_used_up_make_room_and_others_do_not(self, small: Emulator) -> None:
        for _ in range(FAULTS_KEPT + 5):
            small.add_fault(kind="empty", count=1)
            assert small.take_fault(provider="nexio", action="get", method="GET", path="/", run_id=None) is not None
        assert (len(small.fault_list.described()), small.fault_list.dropped) == (FAULTS_KEPT, 5)
        small.reset(["faults"])
        for _ in range(FAULTS_KEPT):
            small.add_fault(kind="empty")
        with pytest.raises(ScriptError, match="none is used up"):
            small.add_fault(kind="empty")

    def test_nothing_grows_once_everything_is_full(self) -> None:
        def play(emulator: Emulator, times: int) -> int:
            for number in range(times):
                emulator.create_run("nyx", script="succeeded", age_seconds=60, parents={"config_name": f"c{number}"})
                emulator.journal.record({"method": "GET", "path": f"/{number}", "status": 200})
                emulator.journal.record({"method": "POST", "path": f"/{number}", "status": 200})
            return tracemalloc.get_traced_memory()[0]

        emulator = Emulator(default_apis(), seed=1, now=lambda: 1_800_000_000.0, requests_kept=100, runs_kept=100)
        tracemalloc.start()
        try:
            full = play(emulator, 500)
            assert play(emulator, 3_000) < full * 1.2 + 50_000
        finally:
            tracemalloc.stop()

    def test_a_body_that_nobody_would_send_is_413_in_the_provider_s_words(self, call) -> None:
        answer = call("nexio", "POST", "/api/v1/engines/e/runs", content=b" " * 10_000_001)
        assert answer.status_code == 413
        assert set(answer.json()) == {"code", "message"}

    def test_a_long_address_is_remembered_in_part(self, call, emulator) -> None:
        call("nexio", "GET", "/" + "a" * 9_000)
        assert len(emulator.requests()[-1]["path"]) == 1_000


class TestSubmissions:
    @pytest.mark.parametrize("provider", ["nexio", "b3os"])
    @pytest.mark.parametrize(
        "options",
        [
            {"script": 3},
            {"seconds": "soon"},
            {"seconds": [1]},
            {"fields": [1]},
            {"hidden_seconds": -1},
            [1],
            "x",
            {"colour": 1},
            {"on_cancel": "laugh"},
        ],
    )
    def test_options_that_make_no_sense_are_refused_by_the_provider(self, call, emulator, provider, options) -> None:
        body = {
            "nexio": ("/api/v1/engines/e/runs", {"input": {"emulator": options}}),
            "b3os": ("/v1/workflows/w/run", {"payload": {"emulator": options}}),
        }
        path, content = body[provider]
        assert call(provider, "POST", path, json=content).status_code == 400
        assert emulator.runs() == []

    @pytest.mark.parametrize(
        "text", ["[" * 100_000, '{"input": {"a": NaN}}', '{"input": {"a": 1e999}}', '{"input": {"a": "\\ud800"}}']
    )
    def test_what_is_no_json_is_refused_and_spoils_no_list(self, call, text: str) -> None:
        assert call("nexio", "POST", "/api/v1/engines/e/runs", content=text).status_code == 400
        assert call.control("GET", "/runs").json() == {"runs": []}
