"""build_run_sensor over lists with wrong times: every run is reported once, and what may be missing is said."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg
import httpx
import pytest

from runops.dagster import ProviderResource, build_run_sensor
from tests.list_service import KINDS, SKEW, ListService, Order, campaigns

TICK = 30.0
CAMPAIGNS = campaigns("created")


class Daemon:
    """Dagster's daemon, which writes events and then the cursor, and may die in between."""

    def __init__(self, service: ListService, sensor: dg.SensorDefinition, resource: Any) -> None:
        self.service, self.sensor = service, sensor
        self.instance = dg.DagsterInstance.ephemeral()
        self.resources = {service.provider: resource}
        self.cursor: str | None = None
        self.reported: Counter[str] = Counter()
        self.judged: Counter[str] = Counter()
        self.gaps: list[float] = []
        self.saved = False
        """Whether the cursor of the last tick was written."""

    def tick(self, dies_after: int | None = None) -> dg.SensorResult | Any:
        """One tick; with a number, the daemon dies after so many events, and its cursor stays as it was.

        Only a daemon that dies writes its events to the log: the sensor reads that for what it may have said already.
        """
        context = dg.build_sensor_context(instance=self.instance, cursor=self.cursor, resources=self.resources)
        data = self.sensor.evaluate_tick(context)
        for event in data.asset_events[:dies_after]:
            self._note(event)
            if dies_after is not None:
                self.instance.report_runless_asset_event(event)
        self.saved = dies_after is None
        if self.saved:
            self.cursor = data.cursor
        return data

    def _note(self, event: Any) -> None:
        if "runops/gap" in event.metadata:
            self.gaps.append(self.service.clock())
            return
        seen = self.judged if isinstance(event, dg.AssetCheckEvaluation) else self.reported
        seen[str(event.metadata["runops/run_id"].value)] += 1


@pytest.fixture
def daemon(service: Callable[[str], Any], clock: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """``daemon(kind, order)``: a sensor that watches the one parent of a :class:`ListService`."""
    made: list[Daemon] = []

    def make(kind: str, order: Order, **options: Any) -> Daemon:
        lists = ListService(kind, order, clock, seed=9)
        client = ProviderResource.client

        def with_lists(self: ProviderResource, **settings: Any) -> Any:
            return client(self, **settings, transport=httpx.MockTransport(lists.answer))

        monkeypatch.setattr(ProviderResource, "client", with_lists)
        targets = {"outside/report": lists.parent}
        sensor = build_run_sensor(name="runs", resource_key=lists.provider, targets=targets, **options)
        made.append(Daemon(lists, sensor, service(lists.provider).resource))
        return made[-1]

    yield make
    for each in made:
        each.instance.dispose()


@pytest.mark.parametrize(("kind", "order"), CAMPAIGNS)
def test_a_thousand_runs_with_wrong_times_are_reported_once_each_over_restarts_deletions_and_lagging_lists(
    daemon: Any, clock: Any, kind: str, order: Order
) -> None:
    watch: Daemon = daemon(kind, order, lookback=1)
    service, chance = watch.service, random.Random(f"{kind}:{order}")
    before = {service.make(seconds=-3600) for _ in range(30)}
    made: set[str] = set()
    watch.tick()
    for _ in range(200):
        for _ in range(5):
            made.add(service.make(seconds=chance.choice([0, 5, 40, 400])))
        service.make(ours=False, seconds=100)
        if chance.random() < 0.4 and watch.saved:
            over = sorted(watch.reported.keys() & service.runs.keys())
            service.delete(chance.sample(over, min(len(over), chance.randint(1, 9))))
        if chance.random() < 0.05:
            service.lag(chance.choice([None, 3, 20]))
        clock.now += chance.uniform(1, 2 * TICK)
        watch.tick(dies_after=chance.choice([0, 1, 4, 999]) if chance.random() < 0.15 else None)
        service.stale = None
    for _ in range(20):
        clock.now += TICK
        watch.tick()
    assert len(made) == 1000
    assert not watch.reported.keys() & before, "what ended before the lookback is past"
    assert watch.reported == dict.fromkeys(made, 1)
    assert watch.judged == watch.reported
    assert not watch.gaps


@pytest.mark.parametrize(("kind", "order"), CAMPAIGNS)
def test_runs_that_a_short_list_cannot_show_are_said_to_be_a_gap(
    daemon: Any, clock: Any, kind: str, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runops.core.waiting.listing.MOST_PAGES", 2)
    watch: Daemon = daemon(kind, order)
    service, chance = watch.service, random.Random(f"{kind}:{order}")
    made: dict[str, float] = {}
    bursts = 0
    watch.tick()
    for wave in range(60):
        burst = wave % 12 == 7
        bursts += burst
        for _ in range(300 if burst else 1):
            made[service.make(seconds=chance.choice([0, 40]))] = clock.now
        clock.now += TICK
        watch.tick()
    for _ in range(20):
        clock.now += TICK
        watch.tick()
    assert set(watch.reported.values()) == {1}
    assert watch.reported.keys() <= made.keys()
    lost = made.keys() - watch.reported.keys()
    assert len(lost) >= 50 * bursts
    assert len(watch.gaps) >= bursts
    assert all(any(at >= made[run_id] for at in watch.gaps) for run_id in lost)


@pytest.mark.parametrize("ours", [True, False], ids=["ours", "another pipeline's"])
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_run_from_the_future_hides_no_other(daemon: Any, clock: Any, kind: str, ours: bool) -> None:
    watch: Daemon = daemon(kind, "created")
    service = watch.service
    for _ in range(2):
        service.make(ours=ours, born=clock.now + SKEW, seconds=99_999)
        watch.tick()
    for _ in range(20):
        service.make(born=clock.now)
        clock.now += TICK
        watch.tick()
    assert len(watch.reported) == watch.reported.total() == 20
    assert not watch.gaps


def test_a_list_that_is_too_slow_for_a_tick_is_read_on_in_the_next(daemon: Any, clock: Any) -> None:
    watch: Daemon = daemon("nyx", "entered", tick_seconds=36)
    service = watch.service
    for _ in range(5):
        service.make()
    watch.tick()
    made = {service.make() for _ in range(700)} | set(service.runs)
    answer = service.answer

    def slow(request: httpx.Request) -> httpx.Response:
        clock.now += 7
        return answer(request)

    service.answer = slow
    for _ in range(4):
        began = clock.now
        watch.tick()
        assert clock.now - began <= 36 + 9
    assert watch.gaps, "a tick that did not come to what was known says so"
    service.answer = answer
    for _ in range(6):
        clock.now += TICK
        watch.tick()
    assert watch.reported == dict.fromkeys(made, 1)
