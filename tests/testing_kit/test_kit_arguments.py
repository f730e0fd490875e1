"""What the kit hands on to the emulator: each argument arrives, under its name there, and what it refuses is named."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from pytest_mock import MockerFixture

from runops.emulator.runs import ScriptError
from runops.emulator.services import default_apis
from runops.emulator.store import Emulator
from runops.testing import Runs, Submitted, TestingError
from runops.testing.runs import ProviderRuns


class Noting:
    """In the place of an emulator: it keeps what it is asked for, and answers what it was given."""

    def __init__(self) -> None:
        self.apis = Emulator(default_apis()).apis
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.answers: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        def note(*arguments: Any, **settings: Any) -> Any:
            self.calls.append((name, arguments, settings))
            answer = self.answers.get(name)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return note


@pytest.fixture
def noting() -> Noting:
    return Noting()


def runs_of(noting: Noting, provider: str = "nyx") -> ProviderRuns:
    services: Any = SimpleNamespace(emulator=noting, key=lambda name: f"key of {name}")
    clock: Any = None
    return Runs(services, clock)[provider]


def test_all_that_is_said_of_a_run_arrives(noting: Noting) -> None:
    noting.answers["create_run"] = "run-9"
    made = runs_of(noting)(
        "run-9", script="failed", parent="playground", any_word=True, age=1.5, hidden=2.5, on_cancel="ignored"
    )
    assert made == "run-9"
    expected = {
        "run_id": "run-9",
        "script": "failed",
        "parents": {"config_name": "playground"},
        "age_seconds": 1.5,
        "hidden_seconds": 2.5,
        "on_cancel": "ignored",
    }
    assert noting.calls == [("create_run", ("nyx",), expected)]


def test_what_is_not_said_of_a_run_is_left_to_the_emulator(noting: Noting) -> None:
    runs_of(noting)(parents={"other": "a"}, parent="playground")
    runs_of(noting)()
    nothing = {"run_id": None, "script": [], "age_seconds": 0.0, "hidden_seconds": 0.0, "on_cancel": None}
    assert [settings for _, _, settings in noting.calls] == [
        {**nothing, "parents": {"other": "a"}},
        {**nothing, "parents": None},
    ]


def test_all_that_is_said_of_submits_arrives(noting: Noting) -> None:
    runs_of(noting).on_submit(script="failed", hidden=2.5, on_cancel="refused")
    runs_of(noting).on_submit()
    assert noting.calls == [
        ("set_defaults", ("nyx",), {"script": "failed", "hidden_seconds": 2.5, "on_cancel": "refused"}),
        ("set_defaults", ("nyx",), {"script": [], "hidden_seconds": None, "on_cancel": None}),
    ]


@pytest.mark.parametrize(
    ("how", "settings", "fault"),
    [
        (503, {}, {"count": 1, "skip": 0, "kind": "status", "status": 503}),
        ("reset", {}, {"count": 1, "skip": 0, "kind": "reset"}),
        (
            503,
            {"on": "get", "run_id": "r", "times": None, "after": 2, "carried_out": True, "retry_after": 60},
            {
                "count": None,
                "skip": 2,
                "kind": "status",
                "status": 503,
                "action": "get",
                "run_id": "r",
                "when": "after",
                "retry_after": 60,
            },
        ),
        (
            500,
            {"carried_out": False, "times": 3},
            {"count": 3, "skip": 0, "kind": "status", "status": 500, "when": "before"},
        ),
    ],
)
def test_all_that_is_said_of_a_fault_arrives(noting: Noting, how: Any, settings: Any, fault: Any) -> None:
    runs_of(noting).fail(how, **settings)
    assert noting.calls == [("add_fault", (), {"provider": "nyx", **fault})]


@pytest.mark.parametrize(("key", "revoked"), [(None, "key of nyx"), ("another", "another")])
def test_a_key_is_revoked_at_its_service(noting: Noting, key: str | None, revoked: str) -> None:
    runs_of(noting).revoke_key(key)
    assert noting.calls == [("set_key", (revoked, "revoked"), {"provider": "nyx"})]


def test_a_change_and_a_look_name_the_service_and_the_run(noting: Noting) -> None:
    noting.answers["runs"] = [{"fields": {"a": 1}}]
    runs_of(noting).change("run-9", spent_usd=2.5)
    assert runs_of(noting).show("run-9") == {"a": 1}
    assert noting.calls == [
        ("set_fields", ("nyx", "run-9", {"spent_usd": 2.5}), {}),
        ("runs", (), {"provider": "nyx", "run_id": "run-9"}),
    ]


def test_requests_are_asked_for_by_their_action_and_filters(noting: Noting) -> None:
    noting.answers["requests"] = [{"run_id": "b"}, {"run_id": None}, {"run_id": "a"}, {"run_id": "b"}]
    assert runs_of(noting).requests("get", status=503) == noting.answers["requests"]
    assert runs_of(noting).cancelled == ["b", "a"]
    runs_of(noting).requests()
    assert [settings for _, _, settings in noting.calls] == [
        {"provider": "nyx", "action": "get", "status": 503},
        {"provider": "nyx", "action": "cancel"},
        {"provider": "nyx", "action": None},
    ]


def test_what_was_submitted_and_how_often_each_run_was_read_is_told_by_run(noting: Noting) -> None:
    first = {"run_id": "a", "parents": {"p": "q"}, "body": {"x": 1}, "submitted": True, "reads": 3}
    noting.answers["runs"] = [first, {**first, "run_id": "b", "submitted": False, "reads": 0}]
    assert runs_of(noting).submitted == [Submitted("a", {"p": "q"}, {"x": 1})]
    assert runs_of(noting).asked == {"a": 3, "b": 0}
    assert [settings for _, _, settings in noting.calls] == [{"provider": "nyx"}] * 2
    assert "'x'" not in repr(runs_of(noting).submitted)


@pytest.mark.parametrize(
    ("method", "act"),
    [
        ("create_run", lambda runs: runs()),
        ("set_defaults", lambda runs: runs.on_submit()),
        ("add_fault", lambda runs: runs.fail(503)),
        ("set_fields", lambda runs: runs.change("r")),
        ("requests", lambda runs: runs.requests()),
        ("runs", lambda runs: runs.show("r")),
    ],
)
def test_what_the_emulator_refuses_is_an_error_of_the_kit(noting: Noting, method: str, act: Any) -> None:
    noting.answers[method] = ScriptError("no such thing")
    with pytest.raises(TestingError, match=r"^no such thing \[testing-refused\]$") as raised:
        act(runs_of(noting))
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__


@pytest.mark.parametrize(
    ("act", "problem"),
    [
        (lambda runs: runs.fail("rest"), "There is no fault 'rest'; there is a status such as 503, "),
        (lambda runs: runs.fail("rest"), "Did you mean 'reset'?"),
        (lambda runs: runs.fail(503, on="gett"), "Nyx has no request 'gett'; there is cancel, "),
        (lambda runs: runs.fail(503, on="gett"), "Did you mean 'get'?"),
        (lambda runs: runs(None, "runing"), "Nyx documents no status 'runing'; there is queued, running, "),
        (lambda runs: runs(None, "runing"), "Did you mean 'running'? Give any_word=True to try one all the same."),
        (
            lambda runs: runs(None, "queued", script="failed"),
            "script='failed' says how the run goes already: leave the words and fields out.",
        ),
        (lambda runs: runs.on_submit(script="failed", result="x"), "script='failed' says how the run goes already"),
    ],
)
def test_what_the_kit_refuses_is_named_with_what_there_is(noting: Noting, act: Any, problem: str) -> None:
    with pytest.raises(TestingError) as raised:
        act(runs_of(noting))
    assert problem in str(raised.value)
    assert noting.calls == []


def test_a_service_of_several_kinds_of_parents_asks_for_the_kind(noting: Noting, mocker: MockerFixture) -> None:
    mocker.patch.object(noting.apis["nekt"], "parent_name", None)
    with pytest.raises(TestingError, match=r"^Nekt knows several kinds of parents: give parents={kind: id}\. "):
        runs_of(noting, "nekt")(parent="a")


@pytest.mark.parametrize("provider", ["nexi", "nyxx"])
def test_a_service_that_is_not_emulated_is_named_with_those_that_are(noting: Noting, provider: str) -> None:
    services: Any = SimpleNamespace(emulator=noting)
    clock: Any = None
    runs = Runs(services, clock)
    there = ", ".join(noting.apis)
    near = {"nexi": "nexio", "nyxx": "nyx"}[provider]
    problem = f"No service {provider!r} is emulated; there is {there}. Did you mean {near!r}? [testing-refused]"
    with pytest.raises(TestingError) as raised:
        runs[provider]
    assert str(raised.value) == problem
    with pytest.raises(AttributeError) as missing:
        getattr(runs, provider)
    assert str(missing.value) == problem
    assert not hasattr(runs, "_private")


# --- stories -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("story", "fields", "steps"),
    [
        ((), {}, []),
        (("queued",), {}, [(0.0, {"status": "queued"})]),
        (("queued", "running"), {}, [(0.0, {"status": "queued"}), (60.0, {"status": "running"})]),
        (("queued", 5, "running"), {}, [(0.0, {"status": "queued"}), (5, {"status": "running"})]),
        (("queued", 5, 2.5, "running"), {}, [(0.0, {"status": "queued"}), (7.5, {"status": "running"})]),
        ((3, "queued"), {}, [(3.0, {"status": "queued"})]),
        (("queued", {"a": 1}), {}, [(0.0, {"status": "queued"}), (60.0, {"a": 1})]),
        (("queued", {"a": 1}, 9), {"b": 2}, [(0.0, {"status": "queued"}), (60.0, {"a": 1, "b": 2})]),
        (({"status": "running", "a": 1},), {"a": 2}, [(0.0, {"status": "running", "a": 2})]),
        ((5,), {"a": 1}, [(5.0, {"a": 1})]),
        ((), {"a": 1}, [(0.0, {"a": 1})]),
        (("made up",), {}, [(0.0, {"status": "made up"})]),
        (({"status": True},), {}, [(0.0, {"status": True})]),
    ],
)
def test_a_story_becomes_steps_with_their_pauses(noting: Noting, story: Any, fields: Any, steps: Any) -> None:
    runs_of(noting)(None, *story, any_word=True, **fields)
    ((_, _, settings),) = noting.calls
    told = [(step["after"], {k: v for k, v in step["set"].items() if v != "$now"}) for step in settings["script"]]
    assert told == steps


def test_a_word_that_ends_a_run_brings_the_time_of_the_end(noting: Noting) -> None:
    runs_of(noting)(None, "completed", result="success")
    ((_, _, settings),) = noting.calls
    (step,) = settings["script"]
    assert "$now" in step["set"].values()
    assert (step["set"]["status"], step["set"]["result"]) == ("completed", "success")
