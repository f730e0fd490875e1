"""Lists that answer many waits at once: when they are asked, what they tell, and what happens when they do not."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from blockbuster import blockbuster_ctx

from runops.core import AsyncRunClient, Outcome, PollingError, RunRef, RunSnapshot, UnknownStateError, find
from runops.core.declaration import Observation
from runops.core.model.cadence import Cadence
from runops.core.model.errors import MalformedAnswer
from runops.core.polling import poller
from runops.core.polling.lists import FEWEST, REST, WORTH, ListBatch, batch_key
from runops.core.waiting.options import WaitOptions
from tests import simulated_time
from tests.simulated_time import until, wall_clock

NOW = 1_800_000_000.0


# --- a batch, alone --------------------------------------------------------------------------------------------


def batch(provider: str, parent: str | None = None) -> ListBatch[str]:
    declared = find(provider)
    assert declared.listing is not None
    key = () if parent is None else (declared.listing.parent_kinds[0], parent)
    return ListBatch(declared, declared.listing, key)


def take_in(shared: ListBatch[str], content: bytes) -> list[tuple[str, Observation]]:
    return shared.take(shared.read(content))


def nyx(run_id: str, status: str = "running", result: str | None = None, **fields: Any) -> dict[str, Any]:
    over = status not in ("queued", "running")
    end = "2026-01-01T00:00:00Z" if over else None
    return {"run_id": run_id, "status": status, "result": result, "completed_at": end, **fields}


def page(*items: Any) -> bytes:
    return json.dumps({"runs": items}).encode()


def full(first: int, last: int) -> list[dict[str, Any]]:
    return [nyx(f"r{n}") for n in range(first, last)]


def test_a_list_pays_once_enough_runs_share_it() -> None:
    shared = batch("nyx")
    for n in range(FEWEST - 1):
        assert not shared.pays(f"r{n}", NOW)
        shared.members[f"r{n}"] = "run"
    assert not shared.pays("r0", NOW)
    assert shared.pays("a new one", NOW)


def test_a_page_tells_of_our_runs_and_of_no_other() -> None:
    shared = batch("nyx")
    shared.members.update(r1="one", r2="two", r9="not on the page")
    shared.wanting["r1"] = "one"
    found = take_in(shared, page(nyx("r1"), nyx("r2", "completed", "success"), nyx("stranger")))
    assert [(run, look.snapshot.status) for run, look in found] == [
        ("one", status_of("running")),
        ("two", Outcome.SUCCEEDED),
    ]
    assert shared.wanting == {}


def status_of(word: str) -> Any:
    return find("nyx").read(find("nyx").ref("x"), json.dumps(nyx("x", word)).encode()).snapshot.status


def test_a_page_that_says_the_same_again_is_not_read_again_and_still_told() -> None:
    shared = batch("nyx")
    shared.members["r1"] = "one"
    ((_, first),) = take_in(shared, page(nyx("r1"), nyx("stranger")))
    shared.end()
    ((_, second),) = take_in(shared, page(nyx("r1"), nyx("stranger")))
    assert second is first
    shared.end()
    # The stranger has become ours meanwhile.
    shared.members["stranger"] = "two"
    ((_, third), (run, _)) = take_in(shared, page(nyx("r1", spent_usd=3), nyx("stranger")))
    assert third.snapshot.details["spent_usd"] == 3
    assert run == "two"


def test_an_item_that_cannot_be_read_is_passed_over() -> None:
    shared = batch("nyx")
    shared.members.update(r1="one", r2="two")
    found = take_in(shared, page({"run_id": "r1"}, None, [1], nyx("r2")))
    assert [run for run, _ in found] == ["two"]


@pytest.mark.parametrize("content", [b"<html>", b"[]", b"{}", b'{"runs": {}}', b"", b"null"])
def test_what_is_no_page_is_an_error(content: bytes) -> None:
    with pytest.raises(MalformedAnswer):
        take_in(batch("nyx"), content)


def test_a_word_that_is_not_documented_is_left_to_the_runs_own_answer() -> None:
    shared = batch("nyx")
    shared.members.update(r1="one", r2="two")
    assert take_in(shared, page(nyx("r1", "melted"), nyx("r2", "pondering", completed_at=None))) == []


def test_an_end_told_in_short_is_left_to_the_runs_own_answer() -> None:
    shared = batch("onepin", "w1")
    shared.members.update(r1="one", r2="two")
    items = [{"id": "r1", "status": "completed"}, {"id": "r2", "status": "running"}]
    found = take_in(shared, json.dumps({"data": items}).encode())
    assert [run for run, _ in found] == ["two"]


def test_pages_are_turned_while_they_show_runs_of_ours_and_some_are_missing() -> None:
    shared = batch("nyx")
    shared.members.update({f"r{n}": "run" for n in range(150)})
    assert dict(shared.request().query) == {"limit": "100"}
    take_in(shared, page(*full(0, 100)))
    assert shared.goes_on
    assert dict(shared.request().query) == {"limit": "100", "offset": "100"}
    take_in(shared, page(*full(100, 200)))
    assert not shared.goes_on


@pytest.mark.parametrize(
    ("first", "why"),
    [(full(0, 99), "not full"), (full(0, 100), "all shown")],
)
def test_no_page_is_turned_without_need(first: list[dict[str, Any]], why: str) -> None:
    shared = batch("nyx")
    shared.members.update({f"r{n}": "run" for n in range(100 if why == "all shown" else 200)})
    take_in(shared, page(*first))
    assert not shared.goes_on


def test_a_page_after_the_first_that_shows_none_of_ours_is_the_last() -> None:
    shared = batch("nyx")
    shared.members.update({f"r{n}": "run" for n in range(50)}, old="run")
    take_in(shared, page(*full(0, 100)))
    assert shared.goes_on
    take_in(shared, page(*full(100, 200)))
    assert not shared.goes_on


def test_a_list_that_does_not_turn_is_asked_for_its_first_page_only() -> None:
    shared = batch("nyx")
    shared.members.update({f"r{n}": "run" for n in range(150)})
    take_in(shared, page(*full(0, 100)))
    assert shared.goes_on
    assert take_in(shared, page(*full(0, 100))) == []
    assert not shared.goes_on
    shared.judge(NOW)
    shared.end()
    take_in(shared, page(*full(0, 100)))
    assert not shared.goes_on
    assert shared.pays("r0", NOW)


def test_nekt_turns_pages_of_any_size_by_their_number() -> None:
    shared = batch("nekt")
    shared.members.update({f"r{n}": "run" for n in range(30)})
    items = [{"id": f"r{n}", "status": "running"} for n in range(25)]
    take_in(shared, json.dumps({"results": items}).encode())
    assert shared.goes_on
    assert dict(shared.request().query) == {"page": "2"}


def test_a_list_that_answers_few_is_left_alone_for_a_while() -> None:
    shared = batch("nyx")
    shared.members.update({f"r{n}": "run" for n in range(100, 200)})
    take_in(shared, page(*full(100, 100 + WORTH - 1)))
    shared.judge(NOW)
    shared.end()
    assert not shared.pays("r100", NOW + REST - 1)
    assert shared.pays("r100", NOW + REST)


def test_a_list_that_fails_at_once_is_left_alone_and_one_that_fails_later_is_judged_by_what_it_showed() -> None:
    shared = batch("nyx")
    shared.members.update({f"r{n}": "run" for n in range(150)})
    shared.fail(NOW)
    assert not shared.pays("r0", NOW)
    shared.end()
    take_in(shared, page(*full(0, 100)))
    shared.fail(NOW + REST)
    shared.end()
    assert shared.pays("r0", NOW + REST)


def test_the_end_of_a_sweep_names_those_it_did_not_show_and_begins_anew() -> None:
    shared = batch("nyx")
    shared.members.update({f"r{n}": f"run {n}" for n in range(12)})
    shared.is_queued = True
    shared.wanting.update(r1="run 1", old="an old run")
    take_in(shared, page(*full(0, 12)))
    assert shared.end() == {"old": "an old run"}
    assert (shared.is_queued, shared.goes_on, shared.wanting) == (False, False, {})
    assert dict(shared.request().query) == {"limit": "100"}


@pytest.mark.parametrize(
    ("provider", "parents", "details", "key"),
    [
        ("nexio", {}, {}, None),
        ("nyx", {}, {}, ()),
        ("nekt", {}, {}, ()),
        ("onepin", {"workflow_id": "w1"}, {}, ("workflow_id", "w1")),
        ("b3os", {}, {"workflowId": "w2"}, ("workflow_id", "w2")),
        ("b3os", {}, {}, None),
    ],
)
def test_runs_share_a_list_by_their_credential_or_their_workflow(
    provider: str, parents: dict[str, str], details: dict[str, Any], key: tuple[str, ...] | None
) -> None:
    declared = find(provider)
    ref = declared.ref("r1", parents)
    content = {"data": {"id": "r1", "status": "running", **details}}
    look = declared.read(ref, json.dumps(content).encode()) if provider == "b3os" else None
    assert batch_key(declared, ref, look) == key


# --- lists under the poller ------------------------------------------------------------------------------------


class Listed:
    """B3OS, Nyx or OnePin with runs and lists, and a word to say in the place of each."""

    def __init__(self, provider: str) -> None:
        self.provider = find(provider)
        self.runs: dict[str, dict[str, Any]] = {}
        self.parents: dict[str, str] = {}
        self.hidden: set[str] = set()
        self.left_out: set[str] = set()
        """Fields of a run that a list does not show."""
        self.no_list: tuple[int, bytes] | None = None
        self.turns = True
        self.asked: list[tuple[float, str]] = []
        self.url = ""

    def put(self, run_id: str, parent: str = "w1", status: str = "running", **fields: Any) -> RunRef:
        over = status not in ("running", "pondering", "queued")
        end = "2026-01-01T00:00:00Z" if over else None
        self.parents[run_id] = parent
        self.runs[run_id] = {
            "b3os": {"id": run_id, "status": status, "workflowId": parent, "finishedAt": end},
            "nyx": {"run_id": run_id, "status": status, "config_name": parent, "completed_at": end},
            "onepin": {"id": run_id, "status": status, "completed_at": end},
        }[self.provider.name] | fields
        return self.provider.ref(run_id, {"workflow_id": parent} if self.provider.parents else None)

    def answer(self, target: str) -> tuple[int, bytes]:
        parts = urlsplit(target)
        names = parts.path.strip("/").split("/")
        query = dict(parse_qsl(parts.query))
        name = self.provider.name
        listed = {"b3os": names[-1] == "runs", "nyx": names[-1] == "runs", "onepin": names[-1] == "runs"}[name]
        if not listed:
            run = self.runs[names[-2] if name == "onepin" else names[-1]]
            return 200, json.dumps(run if name == "nyx" else {"data": run}).encode()
        if self.no_list is not None:
            return self.no_list
        parent = None if name == "nyx" else names[-2]
        ids = [each for each in reversed(self.runs) if parent in (None, self.parents[each]) and each not in self.hidden]
        start = int(query.get("offset", 0)) if self.turns else 0
        items = [self.runs[each] for each in ids[start : start + 100]]
        shown = [{key: value for key, value in item.items() if key not in self.left_out} for item in items]
        wrapped = {"b3os": {"data": {"items": shown}}, "nyx": {"runs": shown}, "onepin": {"data": shown}}[name]
        return 200, json.dumps(wrapped).encode()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                target = head.split(" ", 2)[1]
                self.asked.append((now(), target))
                status, content = self.answer(target)
                writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content)
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()

    def lists(self, after: float = 0.0) -> int:
        return sum(urlsplit(target).path.endswith("/runs") for moment, target in self.asked if moment > after)

    def singles(self, after: float = 0.0) -> Counter[str]:
        found: Counter[str] = Counter()
        for moment, target in self.asked:
            names = urlsplit(target).path.strip("/").split("/")
            if moment > after and names[-1] != "runs":
                found[names[-2] if names[-1] == "status" else names[-1]] += 1
        return found


class Waits:
    """Waits in flight, and what they have seen."""

    def __init__(self, service: Listed) -> None:
        self.service = service
        self.client = AsyncRunClient(
            service.provider, token="k", base_url=service.url, request_timeout=5, clock=wall_clock
        )
        self.tasks: dict[str, asyncio.Task[RunSnapshot]] = {}
        self.looks: Counter[str] = Counter()

    def begin(
        self, *refs: RunRef, every: float = 0.2, timeout: float = 60, error_budget: float = 30, **more: Any
    ) -> None:
        for ref in refs:
            patience = WaitOptions(
                deadline=wall_clock() + timeout,
                error_budget=error_budget,
                max_paused=None,
                cadence=Cadence(every, 1.0, every),
                **more,
            )

            def told(snapshot: RunSnapshot) -> None:
                self.looks[snapshot.ref.run_id] += 1

            self.tasks[ref.run_id] = asyncio.create_task(self.client.wait(ref, patience=patience, on_update=told))

    async def all_seen(self, times: int = 1) -> None:
        await until(lambda: all(self.looks[name] >= times for name in self.tasks))

    async def cancel(self) -> None:
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)


def run(provider: str, scenario: Callable[[Listed, Waits], Awaitable[None]]) -> None:
    async def main() -> None:
        service = Listed(provider)
        server = await asyncio.start_server(service.serve, "127.0.0.1", 0, backlog=1024)
        service.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        waits = Waits(service)
        try:
            await scenario(service, waits)
        finally:
            await waits.cancel()
            server.close()
        assert not poller._POLLERS
        # Their connections are closed, and so they end by themselves.
        await until(lambda: len(asyncio.all_tasks()) == 1)

    with blockbuster_ctx():
        simulated_time.run(main())


def now() -> float:
    """Seconds of the running loop."""
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize("provider", ["b3os", "nyx", "onepin"])
def test_one_page_answers_the_waits_that_share_a_list(provider: str) -> None:
    async def scenario(service: Listed, waits: Waits) -> None:
        waits.begin(*(service.put(f"r{n}") for n in range(60)))
        await waits.all_seen(2)
        began = now()
        await waits.all_seen(6)
        singles = sum(service.singles(began).values())
        assert service.lists(began) >= 3
        assert singles <= 6
        assert sum(waits.looks.values()) > 10 * (service.lists() + sum(service.singles().values()) - 60)

    run(provider, scenario)


def test_an_end_on_a_complete_list_ends_the_wait_without_another_read() -> None:
    async def scenario(service: Listed, waits: Waits) -> None:
        waits.begin(*(service.put(f"r{n}") for n in range(40)))
        await waits.all_seen(2)
        before = service.singles()
        for n in range(40):
            service.put(f"r{n}", status="success")
        async with asyncio.timeout(3):
            ends = await asyncio.gather(*waits.tasks.values())
        assert {end.outcome for end in ends} == {Outcome.SUCCEEDED}
        assert sum((service.singles() - before).values()) <= 4

    run("b3os", scenario)


def test_an_end_on_a_list_that_tells_it_in_short_is_read_from_the_run() -> None:
    async def scenario(service: Listed, waits: Waits) -> None:
        waits.begin(*(service.put(f"r{n}") for n in range(20)))
        await waits.all_seen(2)
        service.put("r3", status="failed", error="It broke.")
        last = await asyncio.wait_for(waits.tasks["r3"], 3)
        assert (last.outcome, last.reason) == (Outcome.FAILED, "It broke.")
        assert service.singles()["r3"] >= 1

    run("onepin", scenario)


@pytest.mark.parametrize(("provider", "spent"), [("b3os", "totalCu"), ("nyx", "spent_usd"), ("onepin", "token_cost")])
@pytest.mark.parametrize("shown", [True, False])
def test_a_limit_on_what_runs_spend_is_reached_whether_or_not_their_list_shows_it(
    provider: str, spent: str, shown: bool
) -> None:
    async def scenario(service: Listed, waits: Waits) -> None:
        service.left_out = set() if shown else {spent}
        little: dict[str, Any] = {spent: 1}
        much: dict[str, Any] = {spent: 5}
        waits.begin(*(service.put(f"r{n}", **little) for n in range(40)), max_spend=5.0)
        await waits.all_seen(3)
        before = sum(service.singles().values())
        for n in range(40):
            service.put(f"r{n}", **much)
        async with asyncio.timeout(10):
            ends = await asyncio.gather(*waits.tasks.values())
        assert {end.ended_by for end in ends} == {"max_spend"}
        after = sum(service.singles().values()) - before
        assert (after <= 4) if shown else (after >= 40)

    run(provider, scenario)


def test_a_list_that_lacks_progress_and_times_is_no_change_of_a_run_that_stands_still() -> None:
    async def scenario(service: Listed, waits: Waits) -> None:
        service.left_out = {"updated_at", "finished_nodes"}
        still: dict[str, Any] = {"finished_nodes": 3, "updated_at": "2026-01-01T00:00:00Z"}
        waits.begin(*(service.put(f"r{n}", **still) for n in range(40)), max_stalled=4.0)
        began = now()
        async with asyncio.timeout(30):
            ends = await asyncio.gather(*waits.tasks.values())
        assert {end.ended_by for end in ends} == {"max_stalled"}
        assert 3.9 <= now() - began <= 6
        assert service.lists() >= 3

    run("onepin", scenario)


def test_an_end_on_a_complete_list_that_lacks_a_detail_is_judged_by_the_run_itself() -> None:
    async def scenario(service: Listed, waits: Waits) -> None:
        service.left_out = {"findings_count"}
        waits.begin(*(service.put(f"r{n}") for n in range(40)), wanted=("findings_count",))
        await waits.all_seen(2)
        for n in range(40):
            service.put(f"r{n}", status="completed", result="success", findings_count=2)
        async with asyncio.timeout(10):
            ends = await asyncio.gather(*waits.tasks.values())
        assert {end.details["findings_count"] for end in ends} == {2}

    run("nyx", scenario)


def test_runs_that_have_fallen_off_the_list_are_still_seen_in_time() -> None:
    async def scenario(service: Listed, waits: Waits) -> None:
        service.hidden = {"r0", "r1"}
        waits.begin(*(service.put(f"r{n}") for n in range(40)))
        await waits.all_seen(5)
        assert min(waits.looks[name] for name in service.hidden) >= 5
        service.put("r0", status="cancelled")
        assert (await asyncio.wait_for(waits.tasks["r0"], 2)).outcome is Outcome.CANCELLED

    run("nyx", scenario)


def test_all_pages_are_turned_where_the_waits_fill_them() -> None:
    async def scenario(service: Listed, waits: Waits) -> None:
        waits.begin(*(service.put(f"r{n}") for n in range(250)), every=0.5)
        await waits.all_seen(2)
        began = now()
        await waits.all_seen(5)
        pages = {dict(parse_qsl(urlsplit(target).query)).get("offset") for _, target in service.asked}
        assert pages >= {None, "100", "200"}
        assert sum(service.singles(began).values()) < 50

    run("nyx", scenario)


def test_a_list_that_does_not_turn_leaves_the_rest_to_single_reads() -> None:
    async def scenario(service: Listed, waits: Waits) -> None:
        service.turns = False
        waits.begin(*(service.put(f"r{n}") for n in range(130)), every=0.5)
        await waits.all_seen(4)
        turned = [target for _, target in service.asked if "offset" in target]
        assert len(turned) == 1

    run("nyx", scenario)


@pytest.mark.parametrize(
    "no_list", [(422, b"{}"), (404, b"{}"), (403, b"{}"), (500, b"oops"), (200, b"<html>"), (200, b"{}"), (302, b"")]
)
def test_a_list_that_cannot_be_used_rests_and_single_reads_serve(no_list: tuple[int, bytes]) -> None:
    async def scenario(service: Listed, waits: Waits) -> None:
        service.no_list = no_list
        waits.begin(*(service.put(f"r{n}") for n in range(20)), error_budget=1)
        await waits.all_seen(4)
        assert service.lists() == 1
        service.put("r7", status="success")
        assert (await asyncio.wait_for(waits.tasks["r7"], 2)).outcome is Outcome.SUCCEEDED

    run("b3os", scenario)


def test_a_list_that_is_limited_sends_no_storm_of_single_reads() -> None:
    async def scenario(service: Listed, waits: Waits) -> None:
        waits.begin(*(service.put(f"r{n}") for n in range(40)))
        await waits.all_seen(3)
        service.no_list = (429, b"{}")
        began = now()
        await until(lambda: service.lists(began) >= 1)
        await asyncio.sleep(0.3)
        assert sum(service.singles(began).values()) <= 5
        service.no_list = None
        service.put("r7", status="completed", result="success")
        assert (await asyncio.wait_for(waits.tasks["r7"], 8)).outcome is Outcome.SUCCEEDED

    run("nyx", scenario)


def test_unknown_words_on_a_page_are_judged_by_the_runs_own_answers() -> None:
    async def scenario(service: Listed, waits: Waits) -> None:
        waits.begin(*(service.put(f"r{n}") for n in range(20)))
        await waits.all_seen(2)
        service.put("r5", status="melted")
        service.put("r6", status="pondering")
        with pytest.raises(UnknownStateError):
            await asyncio.wait_for(waits.tasks["r5"], 2)
        before = service.singles()["r6"]
        await until(lambda: service.singles()["r6"] > before + 1)
        assert not waits.tasks["r6"].done()
        del waits.tasks["r5"]

    run("b3os", scenario)


def test_parents_are_learnt_and_workflows_are_listed_side_by_side() -> None:
    async def scenario(service: Listed, waits: Waits) -> None:
        for workflow in ("w1", "w2", "w3"):
            waits.begin(*(service.put(f"{workflow}-{n}", workflow) for n in range(15)))
        waits.begin(service.put("lonely", "w4"))
        await waits.all_seen(3)
        began = now()
        await waits.all_seen(8)
        listed = {urlsplit(target).path.split("/")[-2] for moment, target in service.asked if target.count("/runs?")}
        assert listed >= {"w1", "w2", "w3"}
        assert "w4" not in listed
        assert set(service.singles(began)) - {"lonely"} == set()
        service.put("w2-7", "w2", "success")
        assert (await asyncio.wait_for(waits.tasks["w2-7"], 2)).outcome is Outcome.SUCCEEDED

    run("b3os", scenario)


def test_a_guess_that_is_wrong_costs_one_page_and_no_run() -> None:
    async def scenario(service: Listed, waits: Waits) -> None:
        waits.begin(*(service.put(f"a{n}", "big") for n in range(20)))
        await waits.all_seen(2)
        # Nothing is known of these yet: the list of the others is asked first.
        waits.begin(*(service.put(f"b{n}", f"small-{n}") for n in range(8)))
        await waits.all_seen(5)
        assert all(waits.looks[f"b{n}"] >= 2 for n in range(8))

    run("b3os", scenario)


def test_lists_are_let_go_with_their_last_run() -> None:
    async def scenario(service: Listed, waits: Waits) -> None:
        waits.begin(service.put("stays", "w0"), every=3600, timeout=7200)
        for workflow in range(3):
            refs = [service.put(f"{workflow}-{n}", f"w{workflow + 1}") for n in range(15)]
            waits.begin(*refs)
            await waits.all_seen(1)
            for ref in refs:
                service.put(ref.run_id, f"w{workflow + 1}", "success")
            await asyncio.wait_for(asyncio.gather(*(waits.tasks[ref.run_id] for ref in refs)), 5)
        (shared,) = poller._POLLERS[asyncio.get_running_loop()].values()
        await until(lambda: set(shared._reads.lists.batches) == {("workflow_id", "w0")}, 2)
        assert shared._reads.lists.largest is None or shared._reads.lists.largest.members

    run("b3os", scenario)


@pytest.mark.long
def test_pages_keep_to_a_declared_limit() -> None:
    async def scenario(service: Listed, waits: Waits) -> None:
        waits.client = AsyncRunClient(
            service.provider,
            token="k",
            base_url=service.url,
            request_timeout=5,
            requests_per_minute=600,
            clock=wall_clock,
        )
        waits.begin(*(service.put(f"r{n}") for n in range(400)), every=0.1)
        await asyncio.sleep(2.5)
        moments = [moment for moment, _ in service.asked]
        assert len(moments) > 15
        assert max(sum(start <= each < start + 1 for each in moments) for start in moments) <= 12

    run("nyx", scenario)


def test_waits_come_and_go_while_pages_are_read_and_none_is_lost() -> None:
    async def scenario(service: Listed, waits: Waits) -> None:
        waits.begin(*(service.put(f"r{n}") for n in range(120)))
        for n in range(0, 120, 3):
            await asyncio.sleep(0.01)
            waits.tasks.pop(f"r{n}").cancel()
            # The same run again, as another wait.
            if n % 2:
                waits.begin(service.provider.ref(f"r{n}"))
            service.put(f"r{n + 1}", status="completed", result="success")
        await asyncio.sleep(0.1)
        for run_id in list(waits.tasks):
            service.put(run_id, status="completed", result="success")
        async with asyncio.timeout(5):
            ends = await asyncio.gather(*waits.tasks.values())
        assert {end.outcome for end in ends} == {Outcome.SUCCEEDED}

    run("nyx", scenario)


def test_a_service_that_goes_away_ends_the_waits_of_a_list_by_their_error_budget() -> None:
    async def scenario(service: Listed, waits: Waits) -> None:
        waits.begin(*(service.put(f"r{n}") for n in range(15)), error_budget=1.0)
        await waits.all_seen(2)
        service.answer = lambda target: (503, b"")
        async with asyncio.timeout(8):
            ends = await asyncio.gather(*waits.tasks.values(), return_exceptions=True)
        assert {type(end) for end in ends} == {PollingError}
        waits.tasks.clear()

    run("nyx", scenario)
