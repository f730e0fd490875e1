"""The log of a step, whole: each record and each line that it leaves, on every way to its run."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest
from pytest_mock import MockerFixture

from runops.dagster import build_run_asset
from runops.dagster.step.records import Records
from tests.dagster_side.test_dagster_retries import dying as dying
from tests.dagster_side.test_dagster_turns import busy
from tests.services import CALLS

Story = list[tuple[Any, ...]]
COMMON = {"version": 1, "provider": "nyx", "partition": None, "nth": 0}
ABOUT = {"credential": "nyx", "parent": {"config_name": "nightly"}}
NAMES = ("one", "two", "three")
ONE_RETRY = dg.RetryPolicy(max_retries=1)
PAGE = "https://app.fabraix.com/nyx/runs"
UNANSWERED = (
    logging.WARNING,
    "Looking for the run of a submit that was not answered, for up to 300 s.",
)


def asset_of(**settings: Any) -> dg.AssetsDefinition:
    settings = {"timeout": 1000, "retry_policy": ONE_RETRY, **settings}
    return build_run_asset(key="external", resource_key="nyx", call=CALLS["nyx"], **settings)


def story_of(runs: Any, ended: Any, clock: Any) -> Story:
    """The lines for people, with the level where it is no INFO, and the records, without what all of them have.

    Ids are ``one``, ``two``, ... in the order in which the service made them, and moments are seconds of the test.
    """
    names = dict(zip((run["run_id"] for run in runs.emulator.runs(provider="nyx")), NAMES, strict=False))

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(each) for key, each in value.items() if each not in (None, {}, [])}
        if isinstance(value, list):
            return [plain(each) for each in value]
        if isinstance(value, float) and value > 1e9:
            return round(value - clock.began)
        if isinstance(value, str):
            for run_id, name in names.items():
                value = value.replace(run_id, name)
        return value

    story: Story = []
    for entry in ended.entries:
        event = entry.dagster_event
        if event is None:
            story.append((*(() if entry.level == logging.INFO else (entry.level,)), plain(entry.user_message)))
        elif event.is_engine_event and entry.step_key == "external":
            metadata = {name: each.value for name, each in event.engine_event_data.metadata.items()}
            record = dict(metadata.pop("runops/record"))
            assert {name: record.pop(name) for name in COMMON} == COMMON
            assert record.pop("submission")
            assert record.pop("process")
            story.append((plain(event.message), plain(_short(record)), plain(metadata)))
    return story


def tags_of(runs: Any, ended: Any) -> list[str | None]:
    """What the tags of a Dagster run say of each external run, in the order in which the service made them."""
    assert ended.tags.get("runops/submits", "true") == "true"
    return [ended.tags.get(f"runops.nyx/{run['run_id']}") for run in runs.emulator.runs(provider="nyx")]


def _short(record: dict[str, Any]) -> dict[str, Any]:
    """Of what was known before a submit only what was listed: its mark is random. Of an address only the id."""
    short = dict(record)
    if record["kind"] == "submitting":
        assert record["intent"]["mark"]
        short["intent"] = record["intent"]["ids_before"]
    if record["ref"]:
        assert (record["ref"]["provider"], record["ref"]["parents"]) == ("nyx", {})
        short["ref"] = record["ref"]["run_id"]
    return short


# --- the parts of a story ----------------------------------------------------------------------------------------


def submitting(*, attempt: int = 0, **more: Any) -> tuple[Any, ...]:
    about = {"kind": "submitting", "attempt": attempt, "at": 0, **ABOUT, **more}
    return ("Submitting a run to Nyx.", about, {})


def submitted(name: str, *, attempt: int = 0, at: int = 0, deadline: int = 1000) -> Story:
    record = {"kind": "submitted", "attempt": attempt, "at": at, "deadline": deadline, "ref": name, **ABOUT}
    return [
        (f"Submitted nyx run {name}.", record, {"runops/url": f"{PAGE}/{name}"}),
        (f"Submitted nyx run {name}: {PAGE}/{name}.",),
    ]


def attached(name: str) -> Story:
    record = {"kind": "attached", "attempt": 0, "deadline": 1000, "ref": name, **ABOUT}
    return [
        (f"Attached to nyx run {name}, which was active already.", record, {"runops/url": f"{PAGE}/{name}"}),
        (f"nyx run {name} is active already, and is waited for as if it were given: {PAGE}/{name}.",),
    ]


def taken_up(name: str, line: str, **record: Any) -> Story:
    about = {"kind": "taken up", "attempt": 1, "at": 0, "deadline": 1000, "ref": name, **ABOUT, **record}
    found = {each: value for each, value in about.items() if value is not None}
    return [(f"Took up nyx run {name} again.", found, {"runops/url": f"{PAGE}/{name}"}), (line,)]


def refused(attempt: int = 0) -> tuple[Any, ...]:
    return ("Nyx started nothing.", {"kind": "refused", "attempt": attempt}, {})


def queued(name: str) -> tuple[str]:
    return (f"nyx run {name}: queued, 0/5 USD",)


def ended(name: str, how: str = "succeeded", verdict: str = "succeed", attempt: int = 0) -> tuple[Any, ...]:
    record = {"kind": "ended", "attempt": attempt, "ended": how, "verdict": verdict}
    return (f"The wait for nyx run {name} ended: {how}, {verdict}.", record, {})


def done(name: str, attempt: int = 0) -> Story:
    return [(f"nyx run {name}: completed (succeeded), 2.87/5 USD",), ended(name, attempt=attempt)]


def again(name: str, verb: str = "submitted") -> str:
    return f"Took up nyx run {name} again, which this step had {verb} before: {PAGE}/{name}."


# --- the ways ----------------------------------------------------------------------------------------------------


def test_a_run_is_submitted_and_ends_well(service: Callable[[str], Any], clock: Any) -> None:
    runs = service("nyx")
    found = runs.materialize(asset_of())
    assert tags_of(runs, found) == ["submitted"]
    assert story_of(runs, found, clock) == [submitting(), *submitted("one"), queued("one"), *done("one")]


def test_a_retry_after_a_crash_writes_whose_run_it_takes_up(
    service: Callable[[str], Any], clock: Any, dying: Callable[..., None]
) -> None:
    runs = service("nyx")
    dying("wait")
    assert story_of(runs, runs.materialize(asset_of()), clock) == [
        submitting(),
        *submitted("one"),
        *taken_up("one", again("one")),
        queued("one"),
        *done("one", attempt=1),
    ]


@pytest.mark.parametrize("dies", [False, True])
def test_an_active_run_is_attached_to_and_a_retry_takes_it_up_as_another_s(
    service: Callable[[str], Any], clock: Any, dying: Callable[..., None], dies: bool
) -> None:
    runs = service("nyx")
    busy(runs)
    if dies:
        dying("wait")
    found = runs.materialize(asset_of(on_conflict="attach"))
    assert tags_of(runs, found) == ["awaited"]
    assert story_of(runs, found, clock) == [
        submitting(intent=["one"]),
        refused(),
        *attached("one"),
        *(taken_up("one", again("one", "attached to"), at=None, attached=True) if dies else []),
        queued("one"),
        ("nyx run one: running, 0.41/5 USD",),
        *done("one", attempt=int(dies)),
    ]


def test_a_submit_that_is_refused_starts_nothing_at_any_try(service: Callable[[str], Any], clock: Any) -> None:
    runs = service("nyx")
    busy(runs)
    assert story_of(runs, runs.materialize(asset_of(on_conflict="fail")), clock) == [
        submitting(intent=["one"]),
        refused(),
        submitting(intent=["one"], attempt=1),
        refused(1),
    ]


def test_a_turn_is_awaited_and_the_run_is_submitted_once_more(service: Callable[[str], Any], clock: Any) -> None:
    runs = service("nyx")
    busy(runs)
    first, refusal, line, (text, turn, links), *rest = story_of(runs, runs.materialize(asset_of()), clock)
    assert [first, refusal, line] == [
        submitting(intent=["one"]),
        refused(),
        ("Waiting for a turn at Nyx: run one (queued) is active there. [waiting-for-turn]",),
    ]
    assert (text, turn["kind"], turn["attempt"], links) == ("Waiting for a turn at Nyx.", "turn awaited", 0, {})
    came = rest[0][1]["at"]
    assert 300 <= came < 360
    assert rest == [
        submitting(intent=["one"], at=came, repeated=True),
        *submitted("two", at=came),
        queued("two"),
        *done("two"),
    ]


def test_a_run_that_shows_up_late_is_taken_up(service: Callable[[str], Any], clock: Any) -> None:
    runs = service("nyx")
    runs.emulator.set_defaults("nyx", script="succeeded", seconds=500, hidden_seconds=100)
    runs.emulator.add_fault(kind="reset", provider="nyx", action="submit", when="after")
    found_run = runs.materialize(asset_of())
    assert tags_of(runs, found_run) == ["submitted"]
    first, looking, record, line, *rest = story_of(runs, found_run, clock)
    found = record[1]["at"]
    assert 100 <= found < 200
    text = f"Took up nyx run one, whose submit was not answered: {PAGE}/one."
    assert [first, looking, record, line] == [submitting(), UNANSWERED, *taken_up("one", text, at=found, attempt=0)]
    assert rest[-2:] == done("one")


def test_a_submit_that_was_never_carried_out_is_sent_again(service: Callable[[str], Any], clock: Any) -> None:
    runs = service("nyx")
    runs.emulator.add_fault(kind="reset", provider="nyx", action="submit", when="before")
    first, looking, (level, line), *rest = story_of(runs, runs.materialize(asset_of()), clock)
    assert (first, looking, level) == (submitting(), UNANSWERED, logging.WARNING)
    assert line.startswith("Nyx shows no run with the mark [")
    assert line.endswith("] and refuses a second active one: submitting once more.")
    assert rest == [*submitted("one", at=300), queued("one"), *done("one")]


def test_a_retry_after_a_run_that_failed_says_so_and_submits_anew(service: Callable[[str], Any], clock: Any) -> None:
    runs = service("nyx")
    runs.emulator.set_defaults("nyx", script="failed")
    story = story_of(runs, runs.materialize(asset_of()), clock)
    failed = "failed, 1.23/5 USD, The run's result is error"
    later = story[7][1]["at"]
    assert 0 < later < 60
    assert story == [
        submitting(),
        *submitted("one"),
        queued("one"),
        (f"nyx run one: {failed}.",),
        ended("one", "failed", "fail"),
        (f"nyx run one: {failed}; a new run is submitted.",),
        submitting(attempt=1, at=later, intent=["one"]),
        *submitted("two", attempt=1, at=later, deadline=1000 + later),
        queued("two"),
        (f"nyx run two: {failed}.",),
        ended("two", "failed", "fail", attempt=1),
    ]


@pytest.mark.parametrize("cancels", [True, False])
def test_a_wait_that_takes_too_long_cancels_its_run_or_a_retry_waits_on(
    service: Callable[[str], Any], clock: Any, cancels: bool
) -> None:
    runs = service("nyx")
    runs.emulator.set_defaults("nyx", script="forever")
    story = story_of(runs, runs.materialize(asset_of(timeout=100, cancel_on_timeout=cancels)), clock)
    over = "running (timed_out), 1.23/5 USD, The wait ended (timeout); the run was last seen 'running' (running)."

    def wait(name: str, attempt: int) -> Story:
        stopped = {"kind": "stopped", "attempt": attempt, "ref": name}
        asked = [
            (f"Asked Nyx to cancel nyx run {name}.",),
            (f"Asked for nyx run {name} to be cancelled.", stopped, {}),
        ]
        return [
            (f"nyx run {name}: running, 1.23/5 USD",),
            (f"nyx run {name}: {over}",),
            *(asked if cancels else []),
            ended(name, "timed_out", "fail", attempt),
        ]

    second = [
        ("nyx run one: cancelled, 1.23/5 USD; a new run is submitted.",),
        submitting(attempt=1, at=100, intent=["one"]),
        *submitted("two", attempt=1, at=100, deadline=200),
        queued("two"),
        *wait("two", 1),
    ]
    same = [*taken_up("one", again("one"), deadline=200), *wait("one", 1)]
    assert story == [
        submitting(),
        *submitted("one", deadline=100),
        queued("one"),
        *wait("one", 0),
        *(second if cancels else same),
    ]


def test_a_run_that_cannot_be_read_for_too_long_is_given_up_and_taken_up_again(
    service: Callable[[str], Any], clock: Any
) -> None:
    runs = service("nyx")
    runs.emulator.add_fault(kind="status", status=503, provider="nyx", action="get", count=None)
    story = story_of(runs, runs.materialize(asset_of(error_budget=50)), clock)
    records = [part for part in story if len(part) == 3]
    gave_up = {"kind": "ended", "ended": "gave_up"}
    (fresh,) = {part[1]["deadline"] for part in records if part[1]["kind"] == "taken up"}
    assert 1050 <= fresh < 1100
    assert records == [
        submitting(),
        submitted("one")[0],
        ("Gave up reading nyx run one.", {**gave_up, "attempt": 0}, {}),
        taken_up("one", "", deadline=fresh)[0],
        ("Gave up reading nyx run one.", {**gave_up, "attempt": 1}, {}),
    ]


def test_a_run_that_is_given_is_followed_without_a_record(service: Callable[[str], Any], clock: Any) -> None:
    runs = service("nyx")
    asset = build_run_asset(key="external", resource_key="nyx", run_id=runs.made(script="succeeded").run_id)
    found = runs.materialize(asset)
    assert story_of(runs, found, clock) == [
        queued("one"),
        ("nyx run one: running, 0.41/5 USD",),
        ("nyx run one: completed (succeeded), 2.87/5 USD",),
    ]
    (run_id,) = (run["run_id"] for run in runs.emulator.runs(provider="nyx"))
    assert found.tags == {f"runops.nyx/{run_id}": "awaited"}


@pytest.mark.parametrize(
    ("passed", "duration"), [(0, ", for up to 300 s"), (100, ", for up to 200 s"), (300, ""), (900, "")]
)
def test_a_retry_looks_for_a_run_whose_record_was_lost_in_what_is_left_of_its_grace(
    service: Callable[[str], Any], clock: Any, mocker: MockerFixture, passed: float, duration: str
) -> None:
    runs = service("nyx")
    real, left = Records.submitted, iter([True])

    def broken(self: Records, *args: Any, **options: Any) -> None:
        if next(left, False):
            clock.now += passed
            raise RuntimeError("out of memory")
        real(self, *args, **options)

    mocker.patch.object(Records, "submitted", broken)
    found = story_of(runs, runs.materialize(asset_of()), clock)
    line = f"Looking for the run of a submit that was not answered{duration}."
    assert found[:2] == [submitting(), (logging.WARNING, line)]
    text = f"Took up nyx run one, whose submit was not answered: {PAGE}/one."
    assert found[2:4] == taken_up("one", text, at=passed, deadline=1000 + passed)
