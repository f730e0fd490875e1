"""A key that stops working in the middle of a wait: it is read again where it was set, and a rotated one loses nothing.

Each wait stands beside a service that knows which keys are good, in made-up time. What holds for a client for plain
Python holds for the waits of a poller too, where the places of keys are shared and waits move from one to the other.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import httpx
import pytest

from runops.core import (
    AsyncRunClient,
    AuthError,
    ConfigurationError,
    Outcome,
    RunClient,
    SubmitUncertainError,
    find,
)
from runops.core.model.cadence import Cadence
from runops.core.transport.keys import REREAD_SECONDS, KeyRead
from runops.core.waiting import flows
from runops.core.waiting.discovery import Search, seek
from runops.core.waiting.intent import Intent
from runops.core.waiting.options import DEFAULT_AUTH_GRACE, WaitOptions
from runops.core.waiting.state import WaitProgress
from runops.core.waiting.steps import Read, ReadKey, Sleep
from tests.core.test_poller import Reply, Service, body, run
from tests.services import Clock
from tests.simulated_time import loop, wall_clock

NEXIO, NYX = find("nexio"), find("nyx")
REF = NEXIO.ref("r-1")
OLD, NEW = "key-old-0123456789", "key-new-0123456789"
REFUSED = (401, 403)


def key_of(request: httpx.Request) -> str:
    """The key that a request bears, wherever the service wants it."""
    return next(key for key in (OLD, NEW) if any(key in value for value in request.headers.values()))


class Place:
    """Where a key is set, and a service that accepts some. The old key is rotated ``at`` seconds after the start."""

    def __init__(self, clock: Callable[[], float], *, at: float = 20.0, told: float = 20.0, new: str = NEW) -> None:
        self.clock, self.began = clock, clock()
        self.at, self.told, self.new = at, told, new
        self.accepts_new_at = at
        self.old_again_at = float("inf")
        self.over_at = 400.0
        self.status = 401
        self.reads: list[float] = []
        self.used: list[tuple[float, str]] = []

    @property
    def passed(self) -> float:
        return self.clock() - self.began

    def __call__(self) -> str:
        """The key as it stands there."""
        self.reads.append(self.passed)
        return self.new if self.passed >= self.told else OLD

    def accepts(self, key: str) -> bool:
        if key == OLD:
            return self.passed < self.at or self.passed >= self.old_again_at
        return key == NEW and self.passed >= self.accepts_new_at

    def answer(self, path: str, key: str) -> Reply:
        self.used.append((self.passed, key))
        if not self.accepts(key):
            return self.status, {}, json.dumps({"error": {"code": "unauthorized", "message": "no"}}).encode()
        return body(path.rpartition("/")[2], "completed" if self.passed >= self.over_at else "processing")

    def handle(self, request: httpx.Request) -> httpx.Response:
        key = key_of(request)
        status, _, content = self.answer(request.url.path, key)
        return httpx.Response(status, content=content)

    def last_use_of(self, key: str) -> float:
        return max(at for at, used in self.used if used == key)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def client(place: Place, clock: Clock, key: str = OLD, **settings: Any) -> RunClient:
    given: dict[str, Any] = {"reread": place, "clock": clock, "sleep": clock.sleep, "origin": "connection 'x'"}
    return RunClient(NEXIO, token=key, transport=httpx.MockTransport(place.handle), **{**given, **settings})


# --- one wait --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", REFUSED)
@pytest.mark.parametrize("told", [20.0, 45.0, 200.0])
def test_a_key_that_is_changed_where_it_was_set_loses_no_wait(
    clock: Clock, status: int, told: float, caplog: pytest.LogCaptureFixture
) -> None:
    place = Place(clock, told=told)
    place.status = status
    with caplog.at_level(logging.INFO, "runops"), client(place, clock) as used:
        assert used.wait(REF, 3600).outcome is Outcome.SUCCEEDED
    refused = [at for at, key in place.used if key == OLD and at >= place.at]
    assert len(refused) == 1, "the old key is sent until it is refused, and never after"
    assert all(later - earlier >= REREAD_SECONDS - 0.1 for earlier, later in pairwise(place.reads))
    assert place.reads[-1] - told <= REREAD_SECONDS + 20
    held = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    if told > place.reads[0]:
        assert held == [
            (
                f"{REF}: the key of connection 'x' was refused ({status}); "
                "it is read again every 30 s for up to 300 s; change it there. [key-reread]"
            )
        ]
    else:
        assert held == [], "nothing is held for a key that stands there already"
    assert [record for record in caplog.records if "is accepted" in record.getMessage()] != []
    assert OLD not in caplog.text
    assert NEW not in caplog.text


def test_an_unchanged_key_ends_the_wait_after_its_grace_and_one_last_try(clock: Clock) -> None:
    place = Place(clock, told=float("inf"))
    with client(place, clock) as used, pytest.raises(AuthError) as ended:
        used.wait(REF, 3600)
    refused = [at for at, _ in place.used if at >= place.at]
    assert len(refused) == 2
    assert refused[1] - refused[0] == pytest.approx(DEFAULT_AUTH_GRACE, abs=1.0)
    assert len(place.reads) in (10, 11)
    text = str(ended.value)
    assert "connection 'x'" in text
    assert "refused for 300 s" in text
    assert OLD not in text
    assert NEW not in text


def test_a_key_that_is_refused_in_passing_loses_no_wait(clock: Clock) -> None:
    place = Place(clock, told=float("inf"))
    place.old_again_at = 120.0
    with client(place, clock) as used:
        assert used.wait(REF, 3600).outcome is Outcome.SUCCEEDED


def test_a_new_key_that_is_not_known_everywhere_yet_loses_no_wait(clock: Clock) -> None:
    place = Place(clock)
    place.accepts_new_at = 110.0
    with client(place, clock) as used:
        assert used.wait(REF, 3600).outcome is Outcome.SUCCEEDED
    early = [at for at, key in place.used if key == NEW and at < 110]
    assert 1 < len(early) <= 5, "it is tried again after each read, and not more often"


def test_a_new_key_that_stays_wrong_ends_the_wait_after_the_grace(clock: Clock) -> None:
    place = Place(clock)
    place.accepts_new_at = float("inf")
    with client(place, clock) as used, pytest.raises(AuthError):
        used.wait(REF, 3600)
    assert place.passed == pytest.approx(20 + DEFAULT_AUTH_GRACE, abs=25)


def test_without_a_grace_a_refusal_ends_the_wait_at_once(clock: Clock) -> None:
    place = Place(clock, told=0.0)
    with client(place, clock) as used, pytest.raises(AuthError):
        used.wait(REF, 3600, auth_grace=0)
    assert place.reads == []
    assert len([at for at, _ in place.used if at >= place.at]) == 1


@pytest.mark.parametrize("status", REFUSED)
def test_a_bad_key_before_any_good_read_ends_the_wait_at_once(clock: Clock, status: int) -> None:
    place = Place(clock, at=0.0, told=float("inf"))
    place.status = status
    with client(place, clock) as used, pytest.raises(AuthError) as ended:
        used.wait(REF, 3600)
    assert place.passed == 0.0
    assert len(place.used) == len(place.reads) == 1
    assert "refused for" not in str(ended.value)


def test_a_key_that_was_rotated_right_before_the_first_read_is_read_again(clock: Clock) -> None:
    place = Place(clock, at=0.0, told=0.0)
    with client(place, clock) as used:
        assert used.wait(REF, 3600).outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("before", [{"seen": True}, {"past": WaitProgress(seen=True)}], ids=["seen", "past"])
def test_a_good_read_of_an_earlier_process_counts(clock: Clock, before: dict[str, Any]) -> None:
    place = Place(clock, at=0.0, told=100.0)
    with client(place, clock) as used:
        assert used.wait(REF, 3600, **before).outcome is Outcome.SUCCEEDED


def test_the_grace_goes_on_in_another_process_and_old_records_are_read(clock: Clock) -> None:
    place = Place(clock, at=0.0, told=float("inf"))
    past = WaitProgress(seen=True)
    with client(place, clock) as used:
        assert used.wait(REF, 200, past=past).ended_by == "timeout"
    past = WaitProgress.from_dict(json.loads(json.dumps(past.to_dict(clock()))), clock())
    with client(place, clock) as used, pytest.raises(AuthError):
        used.wait(REF, 3600, past=past)
    assert place.passed == pytest.approx(DEFAULT_AUTH_GRACE, abs=2)
    assert WaitProgress.from_dict({"seen": True, "as_of": clock()}, clock()).refused_since is None
    old = {"deadline": 1.0, "error_budget": 2.0, "max_paused": None, "cadence": {"first": 1, "factor": 1, "ceiling": 1}}
    assert WaitOptions.from_dict(old).auth_grace == DEFAULT_AUTH_GRACE


def test_the_deadline_ends_a_wait_that_holds(clock: Clock) -> None:
    place = Place(clock, told=float("inf"))
    with client(place, clock) as used:
        last = used.wait(REF, 100)
    assert last.ended_by == "timeout"
    assert place.passed == pytest.approx(100, abs=1)


@pytest.mark.parametrize("given", [None, "", "new\nline", 7, OLD], ids=["none", "empty", "no header", "number", "same"])
def test_what_is_no_other_key_changes_nothing(clock: Clock, given: Any) -> None:
    place = Place(clock, told=float("inf"))
    with client(place, clock, reread=lambda: given) as used, pytest.raises(AuthError):
        used.wait(REF, 3600)
    assert {key for _, key in place.used} == {OLD}


def test_a_place_that_cannot_be_read_is_no_end_and_its_error_shows_nothing(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    place = Place(clock)

    def broken() -> str:
        if len(place.reads) < 3:
            place()
            raise RuntimeError(f"vault: {NEW}")
        return place()

    with client(place, clock, reread=broken) as used:
        assert used.wait(REF, 3600).outcome is Outcome.SUCCEEDED
    assert "could not be read again (RuntimeError)" in caplog.text
    assert NEW not in caplog.text


def test_a_client_without_such_a_place_says_so_and_tries_once_more(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    place = Place(clock)
    with client(place, clock, reread=None) as used, pytest.raises(AuthError):
        used.wait(REF, 3600)
    assert "it cannot be read again here, and is tried once more in 300 s" in caplog.text
    assert len([at for at, _ in place.used if at >= place.at]) == 2


@pytest.mark.parametrize("wrong", [-1, "soon", True, float("nan")])
def test_a_wrong_grace_is_refused(clock: Clock, wrong: Any) -> None:
    with client(Place(clock), clock) as used, pytest.raises(ConfigurationError, match="auth_grace"):
        used.wait(REF, 3600, auth_grace=wrong)


def test_a_client_for_plain_python_refuses_what_it_would_have_to_await(clock: Clock) -> None:
    async def later() -> str:
        return NEW

    with pytest.raises(ConfigurationError, match="plain function"):
        client(Place(clock), clock, reread=later)


# --- what else is asked for ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ask", ["get", "cancel", "probe", "recent", "fetch_result", "explained"])
def test_every_other_request_reads_the_key_again_once_and_is_sent_again(clock: Clock, ask: str) -> None:
    used: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        key = key_of(request)
        used.append(key)
        explains = request.url.path.endswith("r-1") and ask == "explained" and len(used) == 1
        if key == OLD and not explains:
            return httpx.Response(401)
        if request.url.path.endswith(("/runs", "/runs/")):
            return httpx.Response(200, json={"data": {"runs": [], "items": []}, "runs": [], "items": []})
        if ask == "explained":
            return httpx.Response(200, json={"code": 200, "data": {"id": "r-1", "status": "failure", "nodes": []}})
        return httpx.Response(200, json={"run_id": "r-1", "id": "r-1", "status": "running", "configs": []})

    provider = find("b3os" if ask == "explained" else "nyx")
    reads: list[int] = []
    with RunClient(
        provider,
        token=OLD,
        transport=httpx.MockTransport(handle),
        clock=clock,
        sleep=clock.sleep,
        reread=lambda: reads.append(1) or NEW,
    ) as connected:
        if ask == "explained":
            assert connected.get(provider.ref("r-1")).outcome is Outcome.FAILED
        elif ask == "recent":
            connected.recent({"config_name": "nightly"})
        elif ask == "probe":
            connected.probe()
        else:
            getattr(connected, ask)(provider.ref("r-1"))
    assert len(reads) == 1
    assert used.count(OLD) <= 2
    assert used[-1] == NEW


def test_a_refused_submit_is_final_and_reads_nothing(clock: Clock) -> None:
    place = Place(clock, at=0.0, told=0.0)
    with client(place, clock) as used, pytest.raises(AuthError):
        used.submit(NEXIO.call(engine_slug="placement", input={"insured": "Example Ltd"}))
    assert place.reads == []
    assert len(place.used) == 1


def test_the_search_for_a_lost_submit_goes_on_with_another_key(clock: Clock) -> None:
    used: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        used.append(key_of(request))
        if used[-1] == OLD and clock.passed > 10:
            return httpx.Response(401)
        return httpx.Response(200, json={"runs": []})

    with (
        RunClient(
            NYX,
            token=OLD,
            transport=httpx.MockTransport(handle),
            clock=clock,
            sleep=clock.sleep,
            reread=lambda: NEW if clock.passed > 40 else OLD,
        ) as connected,
        pytest.raises(SubmitUncertainError),
    ):
        connected.find_submitted({"config_name": "nightly"}, Intent(mark="~abc"), submit_grace=120)
    assert used[-1] == NEW
    assert used.count(NEW) > 2


def test_a_search_for_a_run_holds_for_its_key_too(clock: Clock) -> None:
    used: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        used.append(key_of(request))
        if used[-1] == OLD and clock.passed > 40:
            return httpx.Response(403)
        if "by-config" in request.url.path:
            return httpx.Response(404, json={"error": "none"})
        return httpx.Response(200, json={"runs": []})

    options = WaitOptions.build(NYX, now=clock(), timeout=600)
    search = Search.build(NYX, {"config_name": "nightly"}, since=clock())
    with RunClient(
        NYX,
        token=OLD,
        transport=httpx.MockTransport(handle),
        clock=clock,
        sleep=clock.sleep,
        reread=lambda: NEW if clock.passed > 150 else OLD,
    ) as connected:
        assert connected.drive(seek(NYX, search, options, clock=clock)).ended_by == "timeout"
    assert used[-1] == NEW
    assert clock.passed == pytest.approx(600, abs=5)


def test_the_flow_asks_for_the_key_and_never_for_a_send_while_it_holds(clock: Clock) -> None:
    """Pure: what is asked for, in which order, with nothing but a clock."""
    options = WaitOptions.build(NEXIO, now=clock(), timeout=3600)
    flow = flows.wait(NEXIO, REF, options, clock=clock, seen=True)
    error = AuthError("no", status=401)
    asked: list[str] = []

    def drive() -> None:
        effect: Any = next(flow)
        while True:
            asked.append(type(effect).__name__)
            if isinstance(effect, Read):
                effect = flow.throw(error)
            elif isinstance(effect, ReadKey):
                effect = flow.send(KeyRead(changed=False))
            else:
                assert isinstance(effect, Sleep)
                assert effect.for_key
                clock.now += effect.seconds
                effect = flow.send(None)

    with pytest.raises(AuthError):
        drive()
    assert Counter(asked) == {"Read": 2, "ReadKey": 11, "Sleep": 11}


# --- many waits in one loop ------------------------------------------------------------------------------------


def options(**cadence: float) -> WaitOptions:
    return WaitOptions(
        deadline=wall_clock() + 7200,
        error_budget=900,
        max_paused=None,
        cadence=Cadence(**{"first": 2.0, "factor": 1.25, **cadence}),
    )


def clients(service: Service, place: Any, count: int, key: str = OLD, **settings: Any) -> list[AsyncRunClient]:
    return [service.client(key=key, reread=place, origin="connection 'x'", **settings) for _ in range(count)]


async def waits(made: list[AsyncRunClient], **more: Any) -> list[asyncio.Task[Any]]:
    return [
        asyncio.create_task(each.wait(NEXIO.ref(f"r-{number}"), patience=options(ceiling=60.0), **more))
        for number, each in enumerate(made)
    ]


@pytest.mark.long
@pytest.mark.parametrize("told", [20.0, 100.0])
def test_two_hundred_waits_of_one_loop_read_the_key_once_each_time_and_all_move(told: float) -> None:
    async def scenario(service: Service) -> None:
        place = Place(loop().wall_clock, told=told)
        service.answer = place.answer
        ends = await asyncio.gather(*await waits(clients(service, place, 200)))
        assert {end.outcome for end in ends} == {Outcome.SUCCEEDED}
        assert len(place.reads) <= 2 + (told - 20) / REREAD_SECONDS, "one read answers all who ask"
        assert place.last_use_of(OLD) <= told + 60
        refused = Counter(key for at, key in place.used if at >= place.at and key == OLD)
        assert refused[OLD] <= 200, "no wait sends a refused key twice"

    run(scenario)


@pytest.mark.long
def test_waits_that_sleep_for_long_move_as_soon_as_one_has_met_the_refusal() -> None:
    """They would use the old key only in half an hour; then nobody may."""

    async def scenario(service: Service) -> None:
        place = Place(loop().wall_clock)
        place.over_at = 4000.0
        service.answer = place.answer
        slow = [
            asyncio.create_task(each.wait(NEXIO.ref(f"slow-{n}"), patience=options(first=1800.0, ceiling=1800.0)))
            for n, each in enumerate(clients(service, place, 250))
        ]
        await asyncio.sleep(30)
        quick = await waits(clients(service, place, 1, key=NEW))
        ends = await asyncio.gather(*slow, *quick)
        assert {end.outcome for end in ends} == {Outcome.SUCCEEDED}
        assert place.last_use_of(OLD) < 20
        assert place.reads == [], "who joins with a key that it has just read tells the others"

    run(scenario)


def test_a_late_reader_of_the_old_key_brings_nobody_back_to_it() -> None:
    async def scenario(service: Service) -> None:
        place = Place(loop().wall_clock)
        service.answer = place.answer
        first = await waits(clients(service, place, 3))
        await asyncio.sleep(60)
        late = await waits(clients(service, place, 3, key=OLD))
        ends = await asyncio.gather(*first, *late)
        assert {end.outcome for end in ends} == {Outcome.SUCCEEDED}
        assert place.last_use_of(OLD) < 60

    run(scenario)


def test_waits_of_another_place_stay_with_their_own_key() -> None:
    async def scenario(service: Service) -> None:
        ours, theirs = Place(loop().wall_clock), Place(loop().wall_clock, told=float("inf"))
        service.answer = ours.answer
        moved = await waits(clients(service, ours, 5))
        stayed = [
            asyncio.create_task(each.wait(NEXIO.ref(f"other-{n}"), patience=options(ceiling=60.0)))
            for n, each in enumerate(clients(service, theirs, 5))
        ]
        ends = await asyncio.gather(*moved, *stayed, return_exceptions=True)
        assert {end.outcome for end in ends[:5]} == {Outcome.SUCCEEDED}  # pyright: ignore[reportAttributeAccessIssue]
        assert all(isinstance(end, AuthError) for end in ends[5:])

    run(scenario)


@pytest.mark.long
def test_one_client_with_many_waits_reads_once_and_drives_on_with_the_new_key() -> None:
    async def scenario(service: Service) -> None:
        place = Place(loop().wall_clock)
        service.answer = place.answer
        (one,) = clients(service, place, 1)
        tasks = [asyncio.create_task(one.wait(NEXIO.ref(f"r-{n}"), patience=options(ceiling=60.0))) for n in range(50)]
        ends = await asyncio.gather(*tasks)
        assert {end.outcome for end in ends} == {Outcome.SUCCEEDED}
        assert len(place.reads) <= 2
        assert (await one.get(NEXIO.ref("r-1"))).outcome is Outcome.SUCCEEDED
        await one.close()

    run(scenario)


@pytest.mark.parametrize("kind", ["plain", "coroutine", "slow", "hangs"])
def test_any_kind_of_function_may_read_the_key_and_none_holds_the_loop(kind: str) -> None:
    async def scenario(service: Service) -> None:
        place = Place(loop().wall_clock)
        service.answer = place.answer

        async def read() -> str:
            if kind == "slow":
                await asyncio.sleep(5)
            if kind == "hangs" and not place.reads:
                place()
                await asyncio.sleep(3600)
            return place()

        source = place if kind == "plain" else read
        ends = await asyncio.gather(*await waits(clients(service, source, 4)))
        assert {end.outcome for end in ends} == {Outcome.SUCCEEDED}

    run(scenario)


def test_a_wait_that_is_cancelled_while_it_holds_leaves_nothing_behind() -> None:
    async def scenario(service: Service) -> None:
        place = Place(loop().wall_clock, told=float("inf"))
        service.answer = place.answer
        tasks = await waits(clients(service, place, 4))
        await asyncio.sleep(100)
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ends)

    run(scenario)


@pytest.mark.long
def test_no_wait_is_lost_whatever_the_moment_of_the_rotation() -> None:
    """The kill points of a rotation: at every tenth of a second, in line, under way, asleep or at the end."""

    async def scenario(service: Service) -> None:
        for tenth in range(60):
            place = Place(loop().wall_clock, at=tenth / 10, told=tenth / 10)
            place.over_at = 8.0
            place.began = wall_clock()
            service.answer = place.answer
            service.delay = 0.15
            made = [service.client(key=OLD, reread=place, origin=f"place {tenth}") for _ in range(10)]
            ends = await asyncio.gather(*await waits(made), return_exceptions=True)
            assert {getattr(end, "outcome", end) for end in ends} == {Outcome.SUCCEEDED}, tenth
            assert place.last_use_of(OLD) <= tenth / 10 + 10 if place.used[0][1] == OLD else True

    run(scenario)


def test_a_key_is_refused_by_a_service_that_is_down_too(clock: Clock) -> None:
    """A failure between two refusals neither ends the wait nor begins its grace anew."""
    place = Place(clock, told=150.0)
    answered = place.handle

    def handle(request: httpx.Request) -> httpx.Response:
        answer = answered(request)
        if key_of(request) == NEW and place.passed < 200:
            raise httpx.ConnectError("down")
        return answer

    place.handle = handle
    with client(place, clock) as used:
        assert used.wait(REF, 3600).outcome is Outcome.SUCCEEDED
