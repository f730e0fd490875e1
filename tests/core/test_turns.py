"""Turns: what a submit does where the service refuses a second active run, in both clients, and simulated with 20."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import random
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from runops.core import AuthError, ConfigurationError, ConflictError, Outcome, RunopsError, RunRef, TransientError, find
from runops.core.model.errors import SubmitUncertainError
from runops.core.waiting.intent import Intent
from runops.core.waiting.options import SUBMIT_GRACE
from runops.core.waiting.submit_in_turn import SubmitEvents, TurnRules, submit_in_turn
from runops.core.waiting.turns import FIRST_PAUSE, LONGEST_PAUSE, Turn
from tests.core.test_ownership import START, Campaign, Killed, Service
from tests.services import CALLS, WORKFLOW

SINGLE = ["nyx", "onepin"]
PARENT = {"nyx": {"config_name": "nightly"}, "onepin": {"workflow_id": WORKFLOW}, "b3os": {"workflow_id": "wf_1"}}
WEEK = 604_800.0


def call_of(provider: str) -> Any:
    return find(provider).call(**CALLS[provider])


def submits(runs: Any) -> list[dict[str, Any]]:
    return runs.requests(action="submit")


def submitted(runs: Any) -> list[str]:
    return [run["run_id"] for run in runs.emulator.runs(provider=runs.provider.name) if run["submitted"]]


def busy(runs: Any, **options: Any) -> RunRef:
    """A stranger's run that is active."""
    return runs.made(**{"script": "succeeded", "parents": PARENT[runs.provider.name], **options})


# --- wait ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", SINGLE)
def test_a_submit_waits_by_default_until_nothing_is_active_and_names_the_run_in_the_way_once(
    runs_of: Callable[..., Any], caplog: pytest.LogCaptureFixture, provider: str
) -> None:
    caplog.set_level(logging.INFO, "runops")
    runs = runs_of(provider)
    stranger = busy(runs, seconds=300)
    ref = runs("submit", call_of(provider))
    assert [ref.run_id] == submitted(runs)
    assert 300 <= runs.clock.passed < 330
    # One POST was refused, and one was sent when the way was free; the looks between them start nothing.
    assert [entry["status"] for entry in submits(runs)] == [409, submits(runs)[-1]["status"]]
    told = [record.getMessage() for record in caplog.records if stranger.run_id in record.getMessage()]
    assert len(told) == 1
    assert told[0].startswith(f"Waiting for a turn at {runs.provider.title}: run {stranger.run_id}")
    assert runs("wait", ref).outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("provider", SINGLE)
def test_each_run_in_the_way_is_named(
    runs_of: Callable[..., Any], caplog: pytest.LogCaptureFixture, provider: str
) -> None:
    caplog.set_level(logging.INFO, "runops")
    runs = runs_of(provider)
    strangers = [busy(runs, seconds=100)]

    def another(seconds: float) -> None:
        if runs.clock.passed > 100 and len(strangers) == 1:
            strangers.append(busy(runs, seconds=100))

    runs.clock.on_sleep = another
    ref = runs("submit", call_of(provider))
    assert [ref.run_id] == submitted(runs)
    for stranger in strangers:
        assert sum(stranger.run_id in record.getMessage() for record in caplog.records) == 1


@pytest.mark.parametrize("provider", SINGLE)
def test_a_wait_that_is_over_says_for_how_long_and_for_which_run_and_submits_nothing(
    runs_of: Callable[..., Any], provider: str
) -> None:
    runs = runs_of(provider)
    stranger = busy(runs, script="forever")
    with pytest.raises(ConflictError) as caught:
        runs("submit", call_of(provider), timeout=600)
    assert runs.clock.passed == pytest.approx(600, abs=1)
    assert f"within 600 s (timeout): run {stranger.run_id}" in str(caught.value)
    assert "Nothing was submitted" in str(caught.value)
    assert caught.value.status == 409
    assert len(submits(runs)) == 1
    assert submitted(runs) == []
    assert runs.requests(action="cancel") == []


def test_a_limit_of_the_workspace_with_nothing_active_is_tried_again_with_growing_pauses(
    runs_of: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "runops")
    runs = runs_of("onepin")
    runs.emulator.add_fault(kind="status", status=409, provider="onepin", action="submit", count=6)
    ref = runs("submit", call_of("onepin"))
    assert [ref.run_id] == submitted(runs)
    assert len(submits(runs)) == 7
    pauses = [seconds for seconds in runs.clock.sleeps if seconds >= FIRST_PAUSE / 2]
    doubled = [min(FIRST_PAUSE * 2.0**n, LONGEST_PAUSE) for n in range(6)]
    assert all(most / 2 <= pause <= most for pause, most in zip(pauses, doubled, strict=True))
    assert sum("nothing active can be seen" in record.getMessage() for record in caplog.records) == 1


def test_a_limit_of_the_workspace_is_waited_for_no_longer_than_the_timeout(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("onepin")
    runs.emulator.add_fault(kind="status", status=409, provider="onepin", action="submit", count=None)
    with pytest.raises(ConflictError, match="nothing active could be seen"):
        runs("submit", call_of("onepin"), timeout=900)
    assert runs.clock.passed == pytest.approx(900, abs=1)
    assert len(submits(runs)) < 40


@pytest.mark.parametrize("provider", ["nexio", "b3os"])
def test_where_runs_may_overlap_a_409_says_nothing_of_a_turn_and_the_submit_itself_is_tried(
    runs_of: Callable[..., Any], provider: str
) -> None:
    runs = runs_of(provider)
    if provider == "b3os":
        busy(runs, script="forever")
    runs.emulator.add_fault(kind="status", status=409, provider=provider, action="submit", count=2)
    ref = runs("submit", call_of(provider))
    assert [ref.run_id] == submitted(runs)
    assert runs.clock.passed < 10


def test_the_service_says_when_to_come_again(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("onepin")
    runs.emulator.add_fault(kind="status", status=409, retry_after=97, provider="onepin", action="submit")
    runs("submit", call_of("onepin"))
    assert 97 in runs.clock.sleeps


@pytest.mark.parametrize("provider", SINGLE)
def test_a_service_that_asks_for_a_longer_pause_than_the_timeout_is_waited_for_no_longer(
    runs_of: Callable[..., Any], provider: str
) -> None:
    runs = runs_of(provider)
    runs.emulator.add_fault(
        kind="status", status=409, retry_after=5_000, provider=provider, action="submit", count=None
    )
    with pytest.raises(ConflictError, match=r"No turn came at \w+ within 4\d s"):
        runs("submit", call_of(provider), timeout=50)
    assert runs.clock.passed == pytest.approx(50, abs=1)
    assert len(submits(runs)) == 1


def test_who_does_not_wait_is_told_when_to_come_again(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("onepin")
    runs.emulator.add_fault(kind="status", status=409, retry_after=97, provider="onepin", action="submit")
    with pytest.raises(ConflictError) as caught:
        runs("submit", call_of("onepin"), on_conflict="fail")
    assert (caught.value.status, caught.value.retry_after) == (409, 97)


@pytest.mark.parametrize("provider", SINGLE)
def test_no_submit_is_sent_while_the_lists_cannot_be_had(runs_of: Callable[..., Any], provider: str) -> None:
    """A service that is down would lose the answer of a submit, too."""
    runs = runs_of(provider)
    busy(runs, seconds=30)
    runs.clock.on_sleep = lambda seconds: runs.emulator.reset(["faults"]) if runs.clock.passed > 600 else None
    # The look before the submit and the one after its refusal are answered; then the service is down.
    looks = 2 if provider == "onepin" else 3
    runs.emulator.add_fault(kind="status", status=503, provider=provider, method="GET", skip=looks, count=None)
    ref = runs("submit", call_of(provider))
    assert [ref.run_id] == submitted(runs)
    assert len(submits(runs)) == 2
    assert 600 < runs.clock.passed < 720


@pytest.mark.parametrize("provider", SINGLE)
@pytest.mark.parametrize("given", [None, 60], ids=["default", "given"])
def test_lists_that_stay_away_end_the_wait_with_the_error_budget(
    runs_of: Callable[..., Any], provider: str, given: float | None
) -> None:
    runs = runs_of(provider)
    busy(runs, script="forever")
    looks = 2 if provider == "onepin" else 3
    runs.emulator.add_fault(kind="status", status=503, provider=provider, method="GET", skip=looks, count=None)
    rules = given and TurnRules(on_conflict="wait", until=runs.clock() + 604_800, error_budget=given)
    with pytest.raises(TransientError, match="503"):
        runs("submit", call_of(provider), **({"rules": rules} if rules else {}))
    budget = given or 900
    assert budget <= runs.clock.passed < budget + 200
    assert len(submits(runs)) == 1


@pytest.mark.parametrize("provider", SINGLE)
def test_a_key_that_may_not_list_still_gets_its_turn(runs_of: Callable[..., Any], provider: str) -> None:
    runs = runs_of(provider)
    busy(runs, seconds=100)
    runs.emulator.add_fault(kind="status", status=403, provider=provider, method="GET", count=None)
    ref = runs("submit", call_of(provider))
    assert [ref.run_id] == submitted(runs)
    assert 100 <= runs.clock.passed < 100 + 2 * LONGEST_PAUSE


@pytest.mark.parametrize("provider", SINGLE)
@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_refused_for_a_while_in_the_middle_loses_no_turn(
    runs_of: Callable[..., Any], provider: str, status: int
) -> None:
    runs = runs_of(provider)
    busy(runs, seconds=100)
    refusing: list[bool] = []

    def refuse(seconds: float) -> None:
        if 50 < runs.clock.passed < 200 and not refusing:
            refusing.append(True)
            runs.emulator.add_fault(kind="status", status=status, provider=provider, count=None)
        if runs.clock.passed > 200:
            runs.emulator.reset(["faults"])

    runs.clock.on_sleep = refuse
    ref = runs("submit", call_of(provider))
    assert [ref.run_id] == submitted(runs)
    # The same key is good again: it is sent a last time when its grace is over.
    assert 340 < runs.clock.passed < 380
    assert len(submits(runs)) == 2


def test_a_key_that_is_refused_in_the_middle_ends_the_wait_with_nothing_submitted(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("nyx")
    busy(runs, script="forever")
    runs.clock.on_sleep = lambda seconds: (
        runs.emulator.add_fault(kind="status", status=401, provider="nyx", count=None)
        if runs.clock.passed > 50
        else None
    )
    with pytest.raises(AuthError):
        runs("submit", call_of("nyx"))
    assert submitted(runs) == []


def test_an_answer_that_is_lost_after_a_turn_is_looked_for_by_the_mark_of_the_first_post(
    runs_of: Callable[..., Any],
) -> None:
    runs = runs_of("nyx")
    busy(runs, seconds=60)
    intents: list[Intent] = []
    runs.emulator.add_fault(kind="reset", when="after", provider="nyx", action="submit", skip=1)
    ref = runs("submit", call_of("nyx"), before=intents.append)
    assert [ref.run_id] == submitted(runs)
    assert len(submits(runs)) == 2
    first, second = intents
    # Whichever POST starts a run, the mark proves that it is ours; what was there before is read anew.
    assert first.mark == second.mark
    assert first.clock is not None
    assert second.clock is not None
    assert second.clock - first.clock >= 60


def test_a_run_from_the_wait_is_never_taken_for_that_of_a_lost_answer(runs_of: Callable[..., Any]) -> None:
    """OnePin shows no mark: only what stood on the list right before the POST tells which runs are older."""
    runs = runs_of("onepin")
    busy(runs, seconds=60)
    strangers: list[RunRef] = []

    def another(seconds: float) -> None:
        if runs.clock.passed > 20 and not strangers:
            strangers.append(busy(runs, seconds=20))

    runs.clock.on_sleep = another
    runs.emulator.add_fault(kind="reset", when="before", provider="onepin", action="submit", skip=1)
    with pytest.raises(SubmitUncertainError) as caught:
        runs("submit", call_of("onepin"), adopt_uncertain=True)
    assert caught.value.candidates == ()
    assert submitted(runs) == []


def test_who_records_the_steps_hears_that_nothing_is_under_way_while_it_waits(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("nyx")
    stranger = busy(runs, seconds=60)
    steps: list[str] = []
    turns: list[Turn] = []
    runs(
        "submit",
        call_of("nyx"),
        before=lambda intent: steps.append("before"),
        waiting=lambda turn: (steps.append("waiting"), turns.append(turn)),
    )
    assert steps == ["before", "waiting", "before"]
    (turn,) = turns
    assert turn.in_the_way == stranger.run_id
    assert turn.until - turn.since == WEEK
    assert Turn.from_dict({**turn.to_dict(), "of a later version": 1}) == turn


def test_a_wait_that_goes_on_elsewhere_keeps_its_deadline_and_its_place(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("nyx")
    busy(runs, script="forever")
    earlier = Turn(parent=PARENT["nyx"], since=runs.clock.now - 500, until=runs.clock.now + 100)
    with pytest.raises(ConflictError, match="within 600 s"):
        runs("submit", call_of("nyx"), turn=earlier)
    assert runs.clock.passed == pytest.approx(100, abs=1)


def test_a_wait_whose_time_is_over_when_it_goes_on_tries_once(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("nyx")
    over = Turn(parent=PARENT["nyx"], since=runs.clock.now - 500, until=runs.clock.now - 1)
    stranger = busy(runs, seconds=60)
    with pytest.raises(ConflictError, match=f"run {stranger.run_id}"):
        runs("submit", call_of("nyx"), turn=over)
    assert runs.clock.passed == 0
    runs.clock.now += 61
    assert [runs("submit", call_of("nyx"), turn=over).run_id] == submitted(runs)


# --- attach and fail ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", SINGLE)
def test_attach_takes_the_active_run_and_submits_nothing(runs_of: Callable[..., Any], provider: str) -> None:
    runs = runs_of(provider)
    stranger = busy(runs)
    attached: list[RunRef] = []
    assert runs("submit", call_of(provider), on_conflict="attach", attached=attached.append) == stranger
    assert attached == [stranger]
    assert submitted(runs) == []


@pytest.mark.parametrize("provider", SINGLE)
def test_attach_submits_where_nothing_is_active(runs_of: Callable[..., Any], provider: str) -> None:
    runs = runs_of(provider)
    attached: list[RunRef] = []
    ref = runs("submit", call_of(provider), on_conflict="attach", attached=attached.append)
    assert [ref.run_id] == submitted(runs)
    assert attached == []


@pytest.mark.parametrize("provider", SINGLE)
def test_attach_says_so_where_no_active_run_is_shown(runs_of: Callable[..., Any], provider: str) -> None:
    runs = runs_of(provider)
    runs.emulator.add_fault(kind="status", status=409, provider=provider, action="submit")
    with pytest.raises(ConflictError, match="no run to attach to: no active run is shown"):
        runs("submit", call_of(provider), on_conflict="attach")
    assert len(submits(runs)) == 1


def test_attach_says_so_where_several_runs_are_active(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("onepin")
    for _ in range(2):
        busy(runs, script="forever")
    with pytest.raises(ConflictError, match="several runs are active"):
        runs("submit", call_of("onepin"), on_conflict="attach")


def test_attach_takes_no_run_that_cannot_be_what_is_in_the_way(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("b3os")
    busy(runs, script="forever")
    runs.emulator.add_fault(kind="status", status=409, provider="b3os", action="submit")
    with pytest.raises(ConflictError, match="does not show what is in the way"):
        runs("submit", call_of("b3os"), on_conflict="attach")


@pytest.mark.parametrize("provider", SINGLE)
def test_fail_ends_at_once(runs_of: Callable[..., Any], provider: str) -> None:
    runs = runs_of(provider)
    stranger = busy(runs)
    with pytest.raises(ConflictError, match=stranger.run_id) as caught:
        runs("submit", call_of(provider), on_conflict="fail")
    assert [run.ref for run in caught.value.active] == [stranger]
    assert runs.clock.passed == 0


def test_another_word_is_refused_before_anything_is_sent(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("nyx")
    with pytest.raises(ConfigurationError, match="on_conflict='queue' is not one of wait, attach, fail"):
        runs("submit", call_of("nyx"), on_conflict="queue")
    assert runs.requests() == []


# --- twenty at once -----------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("provider", SINGLE)
@pytest.mark.parametrize(("seconds", "seed"), [(20.0, 1), (20.0, 2), (200.0, 3)])
def test_twenty_on_one_parent_all_get_a_run_of_their_own_one_after_another(
    provider: str, seconds: float, seed: int, record_property: Callable[[str, object], None]
) -> None:
    line = Line(provider, seconds, random.Random(seed))
    line.play(20)
    spans = sorted((run.born, run.ends) for run in line.service.runs)
    assert len(spans) == 20
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
    assert set(line.ends) == {f"r{n}" for n in range(20)}
    longest = max(line.waited)
    record_property("longest wait / sum of the runs", longest / (20 * seconds))
    assert longest <= 1.5 * 20 * seconds


@dataclass
class Line:
    """Clients that submit to one parent of one service at the same moment, in simulated time."""

    provider: str
    seconds: float
    seed: random.Random
    now: float = START
    ends: list[str] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.service = Service(self.provider, self.seed, skew=0.0, calm=True)
        self.seed.choice = lambda lengths: self.seconds  # type: ignore[method-assign]

    def play(self, clients: int) -> None:
        waiting: list[tuple[float, int]] = [(self.now, n) for n in range(clients)]
        heapq.heapify(waiting)
        going = [self._one(n) for n in range(clients)]
        while waiting:
            self.now, number = heapq.heappop(waiting)
            try:
                heapq.heappush(waiting, (self.now + next(going[number]), number))
            except StopIteration:
                continue

    def _one(self, number: int) -> Generator[float, None, None]:
        campaign = Campaign(self.service, self.seed)
        call = find(self.provider).call(**CALLS[self.provider])
        flow: Any = submit_in_turn(
            find(self.provider),
            call,
            TurnRules(on_conflict="wait", until=START + WEEK),
            SubmitEvents(),
            clock=lambda: self.now,
        )
        step: Callable[[], Any] = lambda: next(flow)  # noqa: E731
        while True:
            try:
                effect = step()
            except StopIteration as stop:
                self.ends.append(stop.value.run_id)
                self.waited.append(self.now - START)
                return
            if hasattr(effect, "seconds"):
                yield effect.seconds
                step = lambda: flow.send(None)  # noqa: E731
            else:
                yield self.seed.uniform(0.01, 0.3)
                campaign.now = self.now
                step = campaign._answered(flow, effect, call, number)


# --- a campaign with losses and deaths ----------------------------------------------------------------------------


class CampaignInTurns(Campaign):
    """Submits that wait for their turn, lose answers, die and go on by what their host has recorded."""

    def _one(self, number: int, skew: float) -> Generator[float, None, None]:
        call, record = self._call(number), Record()
        for _ in range(8):
            try:
                left = max(record.at + SUBMIT_GRACE - self.now, 0.0) if record.intent else SUBMIT_GRACE
                flow = submit_in_turn(
                    find(self.service.name),
                    call,
                    TurnRules(on_conflict="wait", until=self._clock(skew) + 5000),
                    SubmitEvents(before=partial(record.posts, lambda: self.now), waiting=record.waits),
                    clock=partial(self._clock, skew),
                    intent=record.intent,
                    turn=record.turn,
                    identity=f"task {number}",
                    mark_runs=self.marked,
                    adopt_uncertain=self.adopt,
                    grace=left,
                )
                ref = yield from self._driven(flow, call, number)
            except Killed:
                yield self.seed.uniform(0.0, 400.0)
            except SubmitUncertainError as error:
                if not error.may_be_found:
                    self.ends["uncertain"] += 1
                    return
                yield self.seed.uniform(60.0, 600.0)
            except RunopsError:
                record.intent = record.turn = None
                yield self.seed.uniform(30.0, 300.0)
            else:
                yield from self._own(ref, number, record.at)
                return
        self.ends["given up"] += 1


@dataclass
class Record:
    """What a host keeps of one submit."""

    intent: Intent | None = None
    turn: Turn | None = None
    at: float = 0.0

    def posts(self, now: Callable[[], float], intent: Intent) -> None:
        self.intent, self.turn, self.at = intent, None, now()

    def waits(self, turn: Turn) -> None:
        self.intent, self.turn = None, turn


@pytest.mark.long
@pytest.mark.parametrize("provider", SINGLE)
@pytest.mark.parametrize("seed", [11, 12])
def test_nobody_takes_or_repeats_another_run_over_turns_losses_and_deaths(
    provider: str, seed: int, record_property: Callable[[str, object], None]
) -> None:
    dice = random.Random(seed)
    played = CampaignInTurns(Service(provider, dice, skew=dice.uniform(-14_400, 14_400)), dice, submits=150)
    played.play()
    record_property("ends", dict(played.ends))
    assert sum(played.ends.values()) == 150
    assert played.strangers == []
    assert played.service.second_submits == 0
    if provider == "nyx":
        assert played.ends["own run"] > 0.9 * 150


@pytest.mark.parametrize("kind", ["async"])
def test_side_by_side_submits_to_one_workflow_each_get_their_own_run(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("onepin")
    runs.emulator.set_defaults("onepin", script="succeeded", seconds=10)

    async def all_at_once() -> list[RunRef]:
        async with runs.new_async() as client:
            return await asyncio.gather(*(client.submit(call_of("onepin")) for _ in range(5)))

    refs = asyncio.run(all_at_once())
    assert sorted(ref.run_id for ref in refs) == sorted(submitted(runs))
    assert len(set(refs)) == 5
