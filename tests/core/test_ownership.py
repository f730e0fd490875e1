"""A campaign of 2,000 submits by 8 clients on shared parents, with every way to lose an answer: nobody takes another's.

The services, the clocks and the network are simulated, so that hours take no time and a seed gives the same story.
What runs is :mod:`runops.core.waiting.submission`, as both clients drive it.
"""

from __future__ import annotations

import heapq
import json
import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Any

import pytest
from pytest_mock import MockerFixture

from runops.core import Call, ConflictError, RunopsError, RunRef, SubmitUncertainError, find
from runops.core.model.errors import AnswerError, AnswerLost, AuthError, RunNotFound, ServerTrouble
from runops.core.transport.keys import KeyRead
from runops.core.waiting.intent import Intent, list_before_submit, new_mark
from runops.core.waiting.options import SUBMIT_GRACE
from runops.core.waiting.steps import ReadKey, Reply, Send, Sleep
from runops.core.waiting.submission import submit

SUBMITS, CLIENTS, PARENTS = 500, 8, 3
PROVIDERS = ("nexio", "nyx", "onepin", "b3os")
EXCLUSIVE = ("nyx", "onepin")
MARKED = tuple(name for name in PROVIDERS if (submission := find(name).submit) and submission.mark)
PAGE = 10
START = datetime(2026, 3, 1, tzinfo=UTC).timestamp()
HOUR = 3600.0
LATEST = 120.0
"""Seconds after which a lost submit is carried out at the latest."""

LOSSES = ("none", "none", "before", "after", "late", "refused", "gateway before", "gateway after")
LISTS = ("whole",) * 6 + ("500", "403", "html 404", "lagging", "unreadable entry", "short", "deleted")


@dataclass
class Run:
    """A run at the service. Times are true ones; the service shows them by its own clock."""

    run_id: str
    parent: str
    born: float
    ends: float
    name: str
    submit: int
    """Which submit of the campaign has started it; nobody but the test knows."""
    cancelled: bool = False
    shown: dict[str, str] = field(default_factory=dict)
    """What lists show of it, by its status: each is written out once."""

    def alive(self, now: float) -> bool:
        return not self.cancelled and self.born <= now < self.ends


@dataclass
class Service:
    """One provider, with a clock of its own, lists that fail and lag, and answers that get lost."""

    name: str
    seed: random.Random
    skew: float
    runs: list[Run] = field(default_factory=list)
    delayed: list[tuple[float, int, Call, int]] = field(default_factory=list)
    calm: bool = False
    second_submits: int = 0
    posts: Counter[int] = field(default_factory=Counter)

    def advance(self, now: float) -> None:
        """Carry out what arrives late."""
        while self.delayed and self.delayed[0][0] <= now:
            when, _, call, number = heapq.heappop(self.delayed)
            self._start(when, call, number)

    def _start(self, now: float, call: Call, number: int) -> Run | None:
        """A new run, or None where the service refuses a second active one."""
        parent = next(iter(call.parent.values()), "none")
        if self.name in EXCLUSIVE and any(run.alive(now) for run in self.runs if run.parent == parent):
            return None
        self.second_submits += any(run.submit == number and run.alive(now) for run in self.runs)
        length = self.seed.choice((5.0, 40.0, 200.0))
        name = (call.json or {}).get("name", "")
        run = Run(f"r{len(self.runs)}", parent, now, now + length, name, number)
        self.runs.append(run)
        return run

    def post(self, now: float, call: Call, number: int) -> bytes:
        self.posts[number] += 1
        loss = "none" if self.calm else self.seed.choice(LOSSES)
        if loss == "late":
            heapq.heappush(self.delayed, (now + self.seed.uniform(1.0, LATEST), len(self.runs), call, number))
        run = self._start(now, call, number) if loss in ("none", "after", "gateway after") else None
        if loss.startswith("gateway"):
            raise ServerTrouble("The gateway gave up.", status=502)
        if loss != "none":
            raise AnswerLost("The connection broke.")
        if run is None:
            raise ConflictError("Busy.", status=409)
        body = {"nexio": {"run_id": run.run_id}, "nyx": {"run_id": run.run_id, "config_name": run.parent}}
        return json.dumps(body.get(self.name, {"data": {"id": run.run_id, "runId": run.run_id}})).encode()

    def get(self, now: float, path: str) -> bytes:
        if path.endswith("/whoami"):
            return json.dumps({"data": {"user_id": "we"}}).encode()
        how = "whole" if self.calm else self.seed.choice(LISTS)
        if how == "500":
            raise ServerTrouble("Down.", status=500)
        if how == "403":
            raise AuthError("Not allowed.", status=403)
        if how == "html 404":
            raise RunNotFound("No such page.", status=404)
        seen_at = now - (self.seed.uniform(0.0, 100.0) if how == "lagging" else 0.0)
        # Runs stand in the order in which they were born.
        count = bisect_right(self.runs, seen_at, key=lambda run: run.born)
        deleted = self.seed.choice(self.runs[max(count - 3, 0) : count]) if how == "deleted" and count else None
        shown = (run for run in reversed(self.runs[:count]) if run is not deleted)
        if self.name == "nyx" and "by-config" in path:
            config = path.rpartition("/")[2]
            newest = next((run for run in shown if run.parent == config), None)
            if newest is None:
                raise RunNotFound("No run.", status=404, is_json=True)
            return self._item(newest, now).encode()
        if self.name != "nyx":
            shown = (run for run in shown if run.parent in path)
        items = [self._item(run, now) for run in islice(shown, PAGE)]
        if how == "unreadable entry":
            items.insert(0, '{"status": "running"}')
        if how == "short":
            items = items[: len(items) // 2]
        page = {"nyx": '{"runs": [%s]}', "onepin": '{"data": [%s]}', "b3os": '{"data": {"items": [%s]}}'}[self.name]
        return (page % ", ".join(items)).encode()

    def _item(self, run: Run, now: float) -> str:
        words = {"nyx": ("running", "cancelled", "completed"), "onepin": ("running", "cancelled", "completed")}
        going, cancelled, done = words.get(self.name, ("running", "cancelled", "success"))
        status = going if run.alive(now) else cancelled if run.cancelled else done
        if status not in run.shown:
            run.shown[status] = json.dumps(self._body(run, status, now))
        return run.shown[status]

    def _body(self, run: Run, status: str, now: float) -> dict[str, Any]:
        born, ended = self._shown(run.born), None if run.alive(now) else self._shown(run.ends)
        return {
            "run_id": run.run_id,
            "id": run.run_id,
            "status": status,
            "name": run.name,
            "config_name": run.parent,
            "result": "exhausted" if status == "completed" else None,
            "created_at": born,
            "startedAt": born,
            "completed_at": ended,
            "finishedAt": ended,
            "triggered_by": {"user_id": "we"},
        }

    def _shown(self, moment: float) -> str:
        return datetime.fromtimestamp(moment + self.skew, UTC).isoformat()


class Killed(Exception):
    """The process is gone."""


@dataclass
class Campaign:
    """Clients that submit, lose answers, die, retry and cancel on shared parents of one service."""

    service: Service
    seed: random.Random
    marked: bool = True
    adopt: bool = False
    submits: int = SUBMITS
    now: float = START
    ends: Counter[str] = field(default_factory=Counter)
    strangers: list[tuple[int, str]] = field(default_factory=list)
    before: list[str] = field(default_factory=list)

    def play(self) -> None:
        numbers = iter(range(self.submits))
        clients = [self._client(numbers, self.seed.uniform(-5 * HOUR, 5 * HOUR)) for _ in range(CLIENTS)]
        waiting = [(self.now + n, n) for n in range(CLIENTS)]
        heapq.heapify(waiting)
        while waiting:
            self.now, number = heapq.heappop(waiting)
            self.service.advance(self.now)
            try:
                pause = next(clients[number])
            except StopIteration:
                continue
            heapq.heappush(waiting, (self.now + pause, number))

    def _client(self, numbers: Any, skew: float) -> Generator[float, None, None]:
        for number in numbers:
            yield from self._one(number, skew)
            yield self.seed.uniform(0.0, 60.0)

    def _one(self, number: int, skew: float) -> Generator[float, None, None]:
        """One submit with its host's retries; like a host, it remembers the intent over a death."""
        provider, call = find(self.service.name), self._call(number)
        intent: Intent | None = None
        began = 0.0
        for _ in range(6):
            try:
                lost = intent is not None
                if intent is None:
                    flow = list_before_submit(provider, call, identity=f"task {number}", mark_runs=self.marked)
                    known: Intent = yield from self._driven(flow, call, number)
                    intent, began = known, self.now
                left = max(began + SUBMIT_GRACE - self.now, 0.0)
                clock = partial(self._clock, skew)
                flow = submit(provider, call, intent, clock=clock, lost=lost, adopt_uncertain=self.adopt, grace=left)
                ref = yield from self._driven(flow, call, number)
            except Killed:
                yield self.seed.uniform(0.0, 400.0)
            except SubmitUncertainError as error:
                if not error.may_be_found:
                    self.ends["uncertain"] += 1
                    return
                yield self.seed.uniform(60.0, 600.0)
            except RunopsError:
                # Nothing was started: another try begins anew.
                intent = None
                yield self.seed.uniform(30.0, 300.0)
            else:
                yield from self._own(ref, number, began)
                return
        self.ends["given up"] += 1

    def _own(self, ref: RunRef, number: int, began: float) -> Generator[float, None, None]:
        self.ends["own run"] += 1
        (run,) = [run for run in self.service.runs if run.run_id == ref.run_id]
        if run.submit != number:
            self.strangers.append((number, ref.run_id))
        if run.born < began - 0.001:
            self.before.append(ref.run_id)
        if self.seed.random() < 0.3:
            run.cancelled = True
        yield max(run.ends - self.now, 0.0)

    def _call(self, number: int) -> Call:
        parent = f"parent{self.seed.randrange(PARENTS)}"
        # All clients use the same name and budget on purpose: nothing but the mark tells their runs apart.
        arguments: dict[str, dict[str, Any]] = {
            "nexio": {"engine_slug": parent, "input": {"n": number}},
            "nyx": {
                "config_name": parent,
                "name": "audit",
                "target": {"url": "https://a.example.com"},
                "objective": str(number),
                "budget_usd": 5,
                "severity_target": "high",
            },
            "onepin": {"workflow_id": parent, "script_text": str(number)},
            "b3os": {"workflow_id": parent, "payload": {"n": number}},
        }
        return find(self.service.name).call(**arguments[self.service.name])

    def _clock(self, skew: float) -> float:
        """A client's clock, which is off."""
        return self.now + skew

    def _driven(self, flow: Any, call: Call, number: int) -> Generator[float, None, Any]:
        """What a client does with a flow, dying now and then between two steps."""
        step: Callable[[], Any] = lambda: next(flow)  # noqa: E731
        while True:
            try:
                effect = step()
            except StopIteration as stop:
                return stop.value
            if self.seed.random() < 0.01:
                raise Killed
            if isinstance(effect, Sleep):
                yield effect.seconds
                step = lambda: flow.send(None)  # noqa: E731
            elif isinstance(effect, ReadKey):
                step = lambda: flow.send(KeyRead(changed=False))  # noqa: E731
            else:
                yield self.seed.uniform(0.01, 3.0)
                step = self._answered(flow, effect, call, number)

    def _answered(self, flow: Any, effect: Send, call: Call, number: int) -> Callable[[], Any]:
        request = effect.request
        try:
            if request.method == "POST":
                sent = Call(call.provider, call.path, request.json, call.parents, call.parent)
                content = self.service.post(self.now, sent, number)
            else:
                content = self.service.get(self.now, request.path)
        except AnswerError as failure:
            error = failure
            return lambda: flow.throw(error)
        date = float(int(self.now + self.service.skew))
        return lambda: flow.send(Reply(content, date) if effect.dated else content)


def campaign(provider: str, seed: int, **options: Any) -> Campaign:
    dice = random.Random(seed)
    played = Campaign(Service(provider, dice, skew=dice.uniform(-4 * HOUR, 4 * HOUR)), dice, **options)
    played.play()
    return played


@pytest.mark.long
@pytest.mark.parametrize(
    ("provider", "marked"),
    [*((provider, True) for provider in PROVIDERS), *((provider, False) for provider in MARKED)],
    ids=lambda value: {True: "marks on", False: "marks off"}.get(value, value),
)
def test_nobody_takes_cancels_or_repeats_another_run(
    provider: str, marked: bool, record_property: Callable[[str, object], None]
) -> None:
    played = campaign(provider, 20261127, marked=marked)
    record_property("ends", dict(played.ends))
    assert sum(played.ends.values()) == SUBMITS
    assert played.strangers == []
    assert played.service.second_submits == 0
    if provider == "nyx" and marked:
        assert played.ends["uncertain"] == 0
        assert played.ends["own run"] > 0.9 * SUBMITS
    else:
        # Nothing proves whose a run is: each lost answer ends uncertain, and each other one well.
        assert played.ends["uncertain"] > 0.1 * SUBMITS
        assert max(played.service.posts.values()) <= 6


@pytest.mark.long
@pytest.mark.parametrize("provider", [provider for provider in PROVIDERS if provider not in MARKED])
def test_where_no_mark_is_possible_it_is_all_the_same_whether_it_is_wanted(provider: str) -> None:
    wanted, unwanted = (campaign(provider, 7, marked=marked, submits=60) for marked in (True, False))
    assert (wanted.ends, wanted.service.posts, wanted.now) == (unwanted.ends, unwanted.service.posts, unwanted.now)


@pytest.mark.long
@pytest.mark.parametrize("provider", ["nyx", "onepin", "b3os"])
@pytest.mark.parametrize("seed", [1, 2])
def test_who_says_so_takes_a_single_new_run_and_never_one_from_before(provider: str, seed: int) -> None:
    played = campaign(provider, seed, marked=False, adopt=True, submits=150)
    assert played.before == []
    assert played.service.second_submits == 0


@pytest.mark.long
def test_a_service_that_never_loses_an_answer_leaves_nothing_uncertain() -> None:
    dice = random.Random(5)
    played = Campaign(Service("b3os", dice, skew=HOUR, calm=True), dice)
    played.play()
    assert played.ends["own run"] + played.ends["given up"] + played.ends["uncertain"] == SUBMITS
    assert played.strangers == []


def test_a_mark_is_what_tells_the_runs_of_the_campaign_apart(mocker: MockerFixture) -> None:
    """The campaign can fail: with one mark for all, clients take each other's runs."""
    mocker.patch("runops.core.waiting.intent.new_mark", return_value=new_mark("everybody"))
    assert campaign("nyx", 20261127, submits=150).strangers != []
