"""When a run enters a phase, whether it was called for already, and who may be called: pure, on given moments."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import Any

import pytest

from runops.core import ConfigurationError, Outcome, Phase, RunRef, RunSnapshot, find
from runops.core.waiting.phases import (
    PhaseEntered,
    PhasesSeen,
    PhaseWatch,
    call_each,
    check_callbacks,
    in_phase,
    interrupted,
    known_phases,
    never_shown,
    trace_of,
)

pytestmark = pytest.mark.promise("on_phase calls once each time that a run enters a phase")

NOW = 1_772_366_400.0
WANTED = frozenset({Phase.WAITING, Phase.PAUSED})
Q, R, W, P, S = Phase.QUEUED, Phase.RUNNING, Phase.WAITING, Phase.PAUSED, Phase.STOPPING


def seen_as(status: Phase | Outcome, **fields: Any) -> RunSnapshot:
    of = {"phase": status} if isinstance(status, Phase) else {"outcome": status}
    return RunSnapshot(ref=RunRef(provider="b3os", run_id="r"), state=str(status), **of, **fields)


def entries(watch: PhaseWatch, *statuses: Phase | Outcome, start: float = NOW) -> list[bool]:
    return [watch.take_in(seen_as(status), start + nth) for nth, status in enumerate(statuses)]


def handed_over(watch: PhaseWatch) -> PhaseWatch:
    """What another process goes on with."""
    return PhaseWatch(watch.wanted, PhasesSeen.from_dict(json.loads(json.dumps(watch.seen.to_dict()))))


@pytest.mark.parametrize(
    ("statuses", "called"),
    [
        ((W,), [True]),
        ((R,), [False]),
        ((Q, R, W, W, W), [False, False, True, False, False]),
        ((W, R, W, R, W), [True, False, True, False, True]),
        ((W, P, W), [True, True, True]),
        ((P, S, P), [True, False, True]),
        ((W, Outcome.SUCCEEDED), [True, False]),
        ((Outcome.FAILED,), [False]),
        ((R, Outcome.TIMED_OUT), [False, False]),
    ],
)
def test_each_entry_that_reads_show_counts_once(statuses: tuple[Any, ...], called: list[bool]) -> None:
    watch = PhaseWatch(WANTED)
    assert entries(watch, *statuses) == called
    assert watch.seen.entries == sum(called)


@pytest.mark.parametrize("cut", range(5))
def test_a_wait_that_goes_on_elsewhere_counts_as_one(cut: int) -> None:
    statuses = (R, W, W, R, W)
    first = PhaseWatch(WANTED)
    before = entries(first, *statuses[:cut])
    assert before + entries(handed_over(first), *statuses[cut:]) == [False, True, False, False, True]


def test_an_entry_keeps_the_moment_at_which_it_was_first_seen() -> None:
    watch = PhaseWatch(WANTED)
    entries(watch, R, W, W)
    assert watch.seen == PhasesSeen(W, NOW + 1, 1)
    run = in_phase(seen_as(W, reason="approve it"), watch.seen)
    assert (run["phase"], run["phase_since"], run["outcome"]) == ("waiting", "2026-03-01T12:00:01Z", None)
    assert run["reason"] == "approve it"
    json.dumps(run)


@pytest.mark.parametrize(
    ("before", "after", "left"), [(W, R, True), (W, P, False), (R, S, False), (R, W, False), (W, W, False)]
)
def test_only_a_phase_that_was_called_for_is_left(before: Phase, after: Phase, left: bool) -> None:
    watch = PhaseWatch(WANTED)
    watch.take_in(seen_as(before), NOW)
    earlier = watch.seen
    watch.take_in(seen_as(after), NOW + 1)
    assert watch.left(earlier) is left


def test_a_wait_is_interrupted_at_each_entry_after_its_observer_has_heard_of_it() -> None:
    heard: list[str] = []
    left: list[PhasesSeen] = []
    watch = PhaseWatch(WANTED)
    on_update = interrupted(watch, lambda snapshot: heard.append(str(snapshot.status)), lambda: NOW, left.append)
    on_update(seen_as(R))
    with pytest.raises(PhaseEntered) as entered:
        on_update(seen_as(W))
    assert entered.value.seen == PhasesSeen(W, NOW, 1)
    on_update(seen_as(W))
    on_update(seen_as(R))
    on_update(seen_as(Outcome.SUCCEEDED))
    assert heard == ["running", "waiting", "waiting", "running", "succeeded"]
    assert left == [PhasesSeen(R, NOW, 1)]


@pytest.mark.parametrize("value", [None, 3, "x", [], {}, {"phase": "dancing", "since": "then", "entries": None}])
def test_what_cannot_be_read_is_nothing_seen(value: object) -> None:
    assert PhasesSeen.from_dict(value) == PhasesSeen()


def test_a_phase_that_no_state_of_a_service_means_is_warned_of() -> None:
    (warning,) = never_shown(find("b3os"), WANTED)
    assert "on_phase names paused, which no state of B3OS means" in warning
    assert "may be running, waiting" in warning
    assert never_shown(find("b3os").with_states({"on_hold": "paused"}), WANTED) == []
    assert never_shown(find("onepin"), {Phase.PAUSED, Phase.RUNNING, Phase.QUEUED}) == []


def test_phases_of_a_later_version_are_left_out() -> None:
    assert known_phases(["waiting", "dancing", 3]) == {W}
    assert known_phases("waiting") == known_phases(None) == frozenset()


# --- who is called ---


def tell(context: Any, run: Any) -> None:
    """A callback."""


async def tell_later(context: Any, run: Any) -> None:
    """One that nobody awaits."""


class Teller:
    async def __call__(self, context: Any, run: Any) -> None:
        """As above."""


def test_one_function_or_several_may_be_called() -> None:
    other = partial(tell)
    checked = check_callbacks({"waiting": tell, Phase.PAUSED: [tell, other], "running": []})
    assert checked == {W: (tell,), P: (tell, other), R: ()}
    assert check_callbacks(None) == {}


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"wating": tell}, "on_phase='wating' is no phase.*queued, running, paused, waiting, stopping.*'waiting'"),
        ({3: tell}, "on_phase='3' is no phase"),
        ({"failed": tell}, "on_phase='failed' is an outcome.*on_outcome"),
        ({"waiting": "tell"}, r"on_phase\[waiting\] must be a function of the context and the run, not a str"),
        ({"waiting": None}, r"on_phase\[waiting\] must be a function"),
        ({"waiting": [tell, 3]}, r"on_phase\[waiting\]\[1\] must be a function"),
        ({"waiting": tell_later}, r"on_phase\[waiting\]: tell_later is asynchronous.*asyncio.run"),
        ({"waiting": [partial(tell_later)]}, r"on_phase\[waiting\]\[0\]: tell_later is asynchronous"),
        ({"waiting": Teller()}, r"on_phase\[waiting\]: Teller is asynchronous"),
        ({"waiting": lambda run: None}, "cannot be called with two arguments, context and run"),
        ([tell], "on_phase must map phases to functions.*not a list"),
        (tell, "on_phase must map phases to functions.*not a function"),
    ],
)
def test_what_could_not_be_called_is_refused_and_the_error_says_which_and_why(given: Any, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        check_callbacks(given)


def test_what_one_raises_is_told_and_keeps_no_other_from_being_called() -> None:
    called: list[str] = []
    told: list[str] = []

    def fails(context: Any, run: Any) -> None:
        token = "tok"
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ValueError(f"no answer from https://hook.example.com/?{token}=sk_live_abcdef0123456789") from error

    def goes(context: Any, run: Any) -> None:
        called.append(run.pop("phase"))

    run = partial(in_phase, seen_as(W), PhasesSeen(W, NOW, 1))
    call_each([fails, goes, fails, goes], "context", run, told.append)
    # Each gets a run of its own.
    assert called == ["waiting", "waiting"]
    assert len(told) == 2
    assert "fails failed; the wait goes on" in told[0]
    assert "in fails" in told[0]
    assert "ValueError: no answer" in told[0]
    assert "KeyError: 'inner'" in told[0]
    assert "sk_live" not in told[0]
    assert "hook.example.com" not in told[0]


def test_what_ends_a_task_from_outside_is_not_taken_for_an_error_of_a_callback() -> None:
    class Interrupt(BaseException):
        pass

    def interrupts(context: Any, run: Any) -> None:
        raise Interrupt

    with pytest.raises(Interrupt):
        call_each([interrupts], None, dict, print)
    told: list[str] = []
    call_each([interrupts], None, dict, told.append, steering=(Interrupt,))
    assert "Interrupt" in told[0]


def test_an_error_whose_text_fails_is_told_all_the_same() -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    assert trace_of(Odd()) == "Odd"


def test_a_plain_function_may_run_an_asynchronous_one() -> None:
    def tells(context: Any, run: Any) -> None:
        asyncio.run(tell_later(context, run))

    assert check_callbacks({"waiting": tells}) == {W: (tells,)}


def chained(length: int) -> Exception:
    """An error at the end of a chain of so many."""
    error = ValueError("0")
    for number in range(1, length):
        try:
            raise ValueError(str(number)) from error
        except ValueError as later:
            error = later
    return error


@pytest.mark.parametrize(("length", "first"), [(1, 0), (4, 0), (5, 0), (6, 1), (9, 4)])
def test_the_last_five_errors_of_a_chain_are_told_in_their_order(length: int, first: int) -> None:
    lines = [line for line in trace_of(chained(length)).splitlines() if line.startswith("ValueError")]
    assert lines == [f"ValueError: {number}" for number in range(first, length)]
    assert trace_of(chained(length)).count("\nwhich led to\n") == len(lines) - 1


def deep(frames: int) -> None:
    if frames <= 1:
        raise LookupError
    deep(frames - 1)


@pytest.mark.parametrize(("frames", "told"), [(48, 48), (49, 49), (60, 49)])
def test_fifty_frames_of_an_error_are_told(frames: int, told: int) -> None:
    with pytest.raises(LookupError) as caught:
        deep(frames)
    assert trace_of(caught.value).count(", in deep\n") == told


def told_of(error: BaseException) -> list[str]:
    """What is told of it but for where it was raised."""
    return [line for line in trace_of(error).splitlines() if not line.startswith(" ")]


def test_what_a_callback_has_hidden_is_not_told() -> None:
    with pytest.raises(OSError, match="second") as caught:  # noqa: PT012 - what is handled while another error is raised
        try:
            raise KeyError("first")
        except KeyError:
            raise OSError("second") from None
    assert told_of(caught.value) == ["OSError: second"]


def test_what_led_to_the_call_of_a_callback_is_not_told_and_all_else_is() -> None:
    told: list[str] = []

    def fails(context: Any, run: Any) -> None:
        raise TypeError

    try:
        raise KeyError("led to the call")
    except KeyError:
        call_each([fails], None, dict, told.append)
    (text,) = told
    first, *places, last = text.splitlines()
    assert first == f"on_phase: {fails.__qualname__} failed; the wait goes on. [function-failed]"
    assert [place.rpartition(", in ")[2] for place in places] == ["call_each", "fails"]
    assert places[1].startswith(f'  File "{__file__}", line ')
    assert last == "TypeError"


def test_phases_seen_travel_whole() -> None:
    for seen in (PhasesSeen(), PhasesSeen(W, 5, 3), PhasesSeen(R, 5.5, 0)):
        assert PhasesSeen.from_dict(json.loads(json.dumps(seen.to_dict()))) == seen
    assert PhasesSeen(W, 5.0, 3).to_dict() == {"phase": "waiting", "since": 5.0, "entries": 3}
    assert in_phase(seen_as(W), PhasesSeen())["phase_since"] == "1970-01-01T00:00:00Z"


class Untold:
    """A callable that does not say what it takes, as some that are written in C."""

    __signature__ = "unknown"

    def __call__(self, context: Any, run: Any) -> None:
        """As above."""


async def tell_in_parts(context: Any, run: Any) -> Any:
    """One that nobody iterates over."""
    yield context


def test_who_does_not_say_what_it_takes_may_be_called() -> None:
    untold = Untold()
    assert check_callbacks({"waiting": untold}) == {W: (untold,)}
    with pytest.raises(ConfigurationError, match="tell_in_parts is asynchronous"):
        check_callbacks({"waiting": tell_in_parts})


def test_where_nobody_wants_to_hear_that_a_phase_was_left_a_wait_goes_on() -> None:
    on_update = interrupted(PhaseWatch(WANTED, PhasesSeen(W, NOW, 1)), lambda snapshot: None, lambda: NOW)
    on_update(seen_as(R))


def test_an_error_that_came_while_another_one_was_handled_tells_both() -> None:
    with pytest.raises(OSError, match="second") as caught:  # noqa: PT012 - what is handled while another error is raised
        try:
            raise KeyError("first")
        except KeyError:
            raise OSError("second")  # noqa: B904 - not by a cause
    assert told_of(caught.value) == ["KeyError: 'first'", "which led to", "OSError: second"]
