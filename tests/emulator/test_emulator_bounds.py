"""How far each value of the emulator may go: the last that is taken and the first that is refused."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from runops.emulator import create_app
from runops.emulator.journal import Journal
from runops.emulator.runs import ScriptError
from runops.emulator.server import main
from runops.emulator.services import default_apis
from runops.emulator.store import Emulator

NOW = 1_800_000_000.0
LONGEST = 1_000_000_000
STATUS: dict[str, Any] = {"kind": "status", "status": 500}


def nested(levels: int) -> Any:
    """A list in a list, so many in all."""
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


@pytest.fixture
def alone() -> Emulator:
    """An emulator that nothing serves, and whose clock stands still."""
    return Emulator(default_apis(), seed=1, now=lambda: NOW)


RUNS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"seconds": 0}, {"seconds": -1e-9}, "seconds (seconds) is a number from 0 to 1e+09; got -1e-09"),
    ({"seconds": LONGEST}, {"seconds": LONGEST + 1}, "seconds (seconds) is a number from 0 to 1e+09; got 1000000001"),
    ({"hidden_seconds": "2.5"}, {"hidden_seconds": "2,5"}, "hidden_seconds (seconds) is a number"),
    ({"age_seconds": -LONGEST}, {"age_seconds": -LONGEST - 1}, "age_seconds (seconds) is a number from -1e+09 to"),
    ({"run_id": "x" * 4096}, {"run_id": "x" * 4097}, "run_id is a text of 1 to 4096 characters; got 'xxx"),
    ({"fields": {"a": nested(63)}}, {"fields": {"a": nested(64)}}, "fields is nested more than 64 levels deep"),
    ({"fields": {"a": 1.5}}, {"fields": {"a": float("inf")}}, "fields holds inf, which is no JSON"),
    ({"fields": {"a": None}}, {"fields": {"a": 1j}}, "fields holds what is no JSON: 1j"),
    ({"script": [{"at": 1}]}, {"script": [{"at": 1, "wait": 1}]}, "script[0]: a step is an object with after | at"),
    ({"script": [{"unset": ["a"]}]}, {"script": [{"unset": "a"}]}, "script[0].unset is a list of texts; got 'a'"),
    (
        {"script": [{"after": 5e8}, {"after": 5e8}]},
        {"script": [{"after": 5e8}, {"after": 5e8 + 1}]},
        "script[1]: the sum of after (seconds) is a number from 0 to 1e+09; got 1000000001.0",
    ),
    (
        {"fields": {"a": {"$share": 0, "of": "b"}}},
        {"fields": {"a": {"$share": 0.5}}},
        """fields.a is a share such as {"$share": 0.5, "of": "budget_usd"}; got ['$share']""",
    ),
    (
        {"fields": {"a": {"$share": LONGEST, "of": "b"}}},
        {"fields": {"a": {"$share": "1", "of": "b"}}},
        "fields.a.$share is a number; got '1'",
    ),
]


@pytest.mark.parametrize(("taken", "refused", "problem"), RUNS)
def test_a_run_is_made_up_to_a_bound_and_no_further(
    alone: Emulator, taken: dict[str, Any], refused: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ScriptError) as caught:
        alone.create_run("nexio", **refused)
    assert str(caught.value).startswith(problem)
    assert alone.runs() == []
    alone.create_run("nexio", **taken)


FAULTS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"status": 200}, {"status": 199}, "status is a whole number from 200 to 599; got 199"),
    ({"status": 599}, {"status": 600}, "status is a whole number from 200 to 599; got 600"),
    ({"count": 0}, {"count": -1}, "count is a whole number from 0 to 1000000000; got -1"),
    ({"count": LONGEST}, {"count": LONGEST + 1}, "count is a whole number from 0 to 1000000000; got 1000000001"),
    ({"probability": 1}, {"probability": 1.001}, "probability is a number from 0 to 1; got 1.001"),
    ({"probability": 0}, {"probability": -0.001}, "probability is a number from 0 to 1; got -0.001"),
    ({"bytes": 2}, {"bytes": 1}, "bytes is a whole number from 2 to 10000000000; got 1"),
    ({"bytes": 10**10}, {"bytes": 10**10 + 1}, "bytes is a whole number from 2 to 10000000000; got 10000000001"),
    ({"bytes_per_second": 0.001}, {"bytes_per_second": 0}, "bytes_per_second is a number above 0 to 1e+09; got 0"),
    ({"retry_after": -1e300}, {"retry_after": -1.1e300}, "retry_after is a number from -1e+300 to 1e+300; got"),
    ({"retry_after": 1e300}, {"retry_after": 1.1e300}, "retry_after is a number from -1e+300 to 1e+300; got"),
    ({"retry_after_date": -LONGEST}, {"retry_after_date": -1e10}, "retry_after_date (seconds) is a number from -1e"),
    ({"location": "x" * 4096}, {"location": "x" * 4097}, "location is at most 4096 printable ASCII characters; got"),
    ({"headers": {"x" * 200: "1"}}, {"headers": {"x" * 201: "1"}}, "headers: 'xxx"),
    ({"headers": {"x": "1"}}, {"headers": {"Connection": "1"}}, "headers: 'Connection' is no header that a fault can"),
    ({"action": "get"}, {"action": ""}, "action is a text of 1 to 4096 characters; got ''"),
]


@pytest.mark.parametrize(("taken", "refused", "problem"), FAULTS)
def test_a_fault_is_planned_up_to_a_bound_and_no_further(
    alone: Emulator, taken: dict[str, Any], refused: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ScriptError) as caught:
        alone.add_fault(**{**STATUS, **refused})
    assert str(caught.value).startswith(problem)
    assert alone.fault_list.described() == []
    alone.add_fault(**{**STATUS, **taken})


@pytest.mark.parametrize(
    ("kind", "without", "when"),
    [("status", "status", None), ("redirect", "location", None), ("drip", None, "after"), ("half_body", None, "after"),
     ("delay", None, "before"), ("html", None, "before")],
)  # fmt: skip
def test_a_fault_says_what_it_needs_and_when_it_befalls(
    alone: Emulator, kind: str, without: str | None, when: str | None
) -> None:
    if without is not None:
        with pytest.raises(ScriptError, match=f"a {kind} fault needs its {without}"):
            alone.add_fault(kind=kind)
        return
    assert alone.add_fault(kind=kind) == "fault-1"
    (planned,) = alone.fault_list.described()
    assert planned == {"id": "fault-1", "kind": kind, "when": when, "remaining": 1, "hits": 0}


def test_what_a_fault_does_not_say_is_as_good_as_absent(alone: Emulator) -> None:
    alone.add_fault(
        **STATUS, provider=None, action=None, count=None, skip=None, probability=None, retry_after=None, headers=None
    )
    (planned,) = alone.fault_list.described()
    assert planned == {**STATUS, "id": "fault-1", "when": "before", "remaining": None, "hits": 0}


@pytest.mark.parametrize("name", ["provider", "action", "method", "run_id", "path_contains"])
def test_a_fault_befalls_only_what_all_its_selectors_fit(alone: Emulator, name: str) -> None:
    request = {"provider": "nyx", "action": "get", "method": "GET", "path": "/v1/nyx/runs/r_1", "run_id": "r_1"}
    fitting = {"provider": "nyx", "action": "get", "method": "GET", "path_contains": "nyx/runs", "run_id": "r_1"}
    other = {"provider": "nexio", "action": "list", "method": "POST", "path_contains": "v2", "run_id": "r_2"}
    alone.add_fault(**STATUS, **{**fitting, name: other[name]})
    assert alone.take_fault(**request) is None
    alone.add_fault(**STATUS, **fitting)
    taken = alone.take_fault(**request)
    assert taken is not None
    assert (taken.fault_id, taken.hits, taken.remaining) == ("fault-2", 1, 0)
    assert alone.take_fault(**request) is None


@pytest.mark.parametrize(("probability", "hits"), [(0, 0), (1, 20)])
def test_a_chance_of_none_never_befalls_and_a_whole_one_always(alone: Emulator, probability: int, hits: int) -> None:
    alone.add_fault(**STATUS, probability=probability)
    request = {"provider": "nyx", "action": "get", "method": "GET", "path": "/", "run_id": None}
    assert sum(alone.take_fault(**request) is not None for _ in range(20)) == hits


def test_a_thousand_keys_are_remembered_and_one_of_them_may_change(alone: Emulator) -> None:
    for number in range(1_000):
        alone.set_key(f"key-{number}", "revoked", provider="nyx")
    with pytest.raises(ScriptError, match=r"^no more than 1000 keys are remembered; reset them$"):
        alone.set_key("key-1000", "revoked", provider="nyx")
    assert len(alone.set_key("key-0", "forbidden", provider="nyx", label="old")) == 12
    shown = [entry for entry in alone.keys.described() if entry["state"] != "revoked"]
    assert [(entry["provider"], entry["label"]) for entry in shown] == [("nyx", "old")]
    assert (alone.keys.state("nyx", "key-0"), alone.keys.state("nexio", "key-0")) == ("forbidden", "accepted")
    alone.reset(["keys"])
    assert alone.keys.described() == []


def test_a_key_of_one_service_goes_before_what_is_said_of_all(alone: Emulator) -> None:
    alone.set_key("key", "revoked", label="everywhere")
    alone.set_key("key", "accepted", provider="nyx", label="here")
    assert [(alone.keys.state(name, "key"), alone.keys.label(name, "key")) for name in ("nyx", "nekt")] == [
        ("accepted", "here"),
        ("revoked", "everywhere"),
    ]


def test_the_journal_finds_what_equals_every_filter() -> None:
    journal = Journal(3)
    for number in range(1, 6):
        journal.record({"method": "GET", "path": f"/{number}", "status": 200 + number % 2})
    journal.record({"method": "POST", "path": "/5", "status": 200})
    assert [entry["index"] for entry in journal.find()] == [3, 4, 5, 6]
    assert [entry["index"] for entry in journal.find(after=4)] == [5, 6]
    assert [entry["index"] for entry in journal.find(path_contains="5", status=201)] == [5]
    assert [entry["index"] for entry in journal.find(status=None, method="POST")] == [6]
    assert journal.dropped == 2
    journal.clear()
    assert (journal.find(), journal.dropped) == ([], 0)
    journal.record({"method": "GET", "path": "/", "status": 200})
    assert journal.find()[0]["index"] == 7


def test_what_was_forgotten_is_as_it_was_at_the_start(alone: Emulator) -> None:
    first = alone.create_run("nyx")
    alone.hold(True)
    alone.set_defaults(script="failed")
    alone.add_fault(**STATUS)
    alone.reset(["runs"], seed=2)
    assert len(alone.fault_list.described()) == 1
    other = alone.create_run("nyx")
    assert (alone.runs()[0]["held"], other != first) == (False, True)
    alone.reset(seed=1)
    assert alone.create_run("nyx") == first
    assert alone.fault_list.described() == []
    with pytest.raises(ScriptError, match=r"^only is a list of runs, faults, requests and keys$"):
        alone.reset(["all"])


def test_a_service_without_a_cancel_has_none_to_script(alone: Emulator) -> None:
    alone.create_run("nexio")
    (run,) = alone.children("nexio")
    with pytest.raises(ScriptError, match=r"^Nexio has no way to cancel a run$"):
        alone.apis["nexio"].cancel_steps(run)


@pytest.mark.parametrize(
    ("argv", "code", "problem"),
    [
        (["--port", "-1"], 2, "--port takes 0 to 65535, not -1"),
        (["--port", "65536"], 2, "--port takes 0 to 65535, not 65536"),
        (["--seconds", "-0.1"], 2, "--seconds takes a number of seconds from 0 up, not -0.1"),
        (["--seconds", "inf"], 2, "--seconds takes a number of seconds from 0 up, not inf"),
        (["--seconds", "nan"], 2, "--seconds takes a number of seconds from 0 up, not nan"),
        (["--port", "0", "--host", "x" * 64 + ".example"], 4, f"cannot serve on {'x' * 64}.example port 0: "),
    ],
)
def test_a_command_that_cannot_serve_says_so_in_a_line(
    capsys: pytest.CaptureFixture[str], argv: list[str], code: int, problem: str
) -> None:
    assert main(argv) == code
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(f"runops emulate: {problem}")
    assert told.err.count("\n") == 1


@pytest.mark.anyio
@pytest.mark.parametrize("host", ["[::1", "a b", "[x]"])
async def test_a_host_that_is_no_name_is_refused(host: str) -> None:
    transport = httpx.ASGITransport(create_app())
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        answer = await client.get("/", headers={"host": host})
    assert answer.status_code == 421
    assert answer.json()["error"].startswith(f"Host {host!a} is not a name of this emulator")
