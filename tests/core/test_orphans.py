"""What is left behind: found by one look, told from what is over or not ours, and cancelled after a second look."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from runops.core import ConfigurationError, RunClient, RunRef, find
from runops.core.client.orphans import OrphanReview
from runops.core.waiting.intent import Intent, new_mark, submitter
from runops.core.waiting.orphans import Act, Orphan, Standing, Suspect

GATE = {"config_name": "gate"}
FLOW = {"workflow_id": "7c9e6679-7425-40de-944b-e07fc1f90ae7"}


def nyx(run_id: str, status: str = "running", **fields: Any) -> dict[str, Any]:
    more = {"result": "success"} if status == "completed" else {}
    return (
        {"run_id": run_id, "status": status, "config_name": "gate", "created_at": "2026-03-01T12:00:00Z"}
        | more
        | fields
    )


def onepin(run_id: str, status: str = "running") -> dict[str, Any]:
    return {"id": run_id, "status": status, "created_at": "2026-03-01T12:00:00Z"}


@dataclass
class Service:
    """A provider's runs; a status in the place of a run or of the list is what is answered instead."""

    runs: dict[str, dict[str, Any] | int] = field(default_factory=dict)
    listed: list[dict[str, Any]] | int = field(default_factory=list)
    cancels: int = 200
    asked: list[str] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        self.asked.append(f"{request.method} {path}")
        if path.endswith("/cancel"):
            return httpx.Response(self.cancels, json={})
        if path.endswith("/runs"):
            items = self.listed
            return httpx.Response(items) if isinstance(items, int) else httpx.Response(200, json=self._page(items))
        if "by-config" in path:
            found = self.listed[0] if isinstance(self.listed, list) and self.listed else 404
        else:
            found = self.runs.get(path.removesuffix("/status").rpartition("/")[2], 404)
        if isinstance(found, int):
            return httpx.Response(found, json={"error": "no"})
        return httpx.Response(200, json={"data": found} if "workflows" in path else found)

    def _page(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        return {"data" if any("id" in item for item in items) else "runs": items}

    def open(self, provider: str, credential: str | None) -> RunClient:
        declared = find(provider)
        return RunClient(declared, token="key", transport=httpx.MockTransport(self), sleep=lambda seconds: None)


@dataclass
class Host:
    """What knows what was submitted."""

    given: list[Suspect]
    waits: set[str] = field(default_factory=set)
    noted: list[str] = field(default_factory=list)

    def suspects(self) -> Iterable[Suspect]:
        return self.given

    def still_left(self, suspect: Suspect) -> bool:
        return suspect.ref is None or suspect.ref.run_id not in self.waits

    def awaits(self, ref: RunRef) -> bool:
        return False

    def cancelled(self, suspect: Suspect, ref: RunRef) -> None:
        self.noted.append(ref.run_id)


def suspect(run_id: str | None = None, *, provider: str = "nyx", **options: Any) -> Suspect:
    ref = None if run_id is None else find(provider).ref(run_id, options.pop("parents", None))
    return Suspect(provider=provider, holder={"task": "t"}, why="Its task is gone.", ref=ref, **options)


def found(service: Service, *suspects: Suspect, **options: Any) -> list[Orphan]:
    with OrphanReview(Host(list(suspects)), service.open, **options) as review:
        return list(review.find())


# --- runs that are known by id ---


@pytest.mark.parametrize(
    ("shown", "standing"),
    [
        (nyx("r"), Standing.LEFT),
        (nyx("r", "completed"), None),
        (nyx("r", "archived", completed_at="2026-03-01T13:00:00Z"), None),
        (nyx("r", "archived"), Standing.LEFT),
        (403, Standing.UNREADABLE),
        (404, Standing.UNREADABLE),
        (503, Standing.UNREADABLE),
    ],
    ids=["goes on", "over", "over in an unknown word", "an unknown word", "refused", "not there", "down"],
)
def test_a_run_that_goes_on_is_left_and_one_that_is_over_is_nobodys_business(
    shown: dict[str, Any] | int, standing: Standing | None
) -> None:
    orphans = found(Service({"r": shown}), suspect("r"))
    assert [each.standing for each in orphans] == ([] if standing is None else [standing])
    if standing is Standing.UNREADABLE:
        assert orphans[0].message
        assert not orphans[0].settled


def test_a_run_is_named_once_and_only_for_the_credentials_that_are_looked_at() -> None:
    service = Service({"r": nyx("r"), "s": nyx("s")})
    suspects = [suspect("r", credential="one"), suspect("r", credential="one"), suspect("s", credential="other")]
    assert [each.ref.run_id for each in found(service, *suspects) if each.ref] == ["r", "s"]
    assert [each.ref.run_id for each in found(service, *suspects, credentials=["other"]) if each.ref] == ["s"]


def test_a_key_that_is_not_there_makes_its_runs_unreadable_and_is_tried_once() -> None:
    tried: list[str | None] = []

    def no_key(provider: str, credential: str | None) -> RunClient:
        tried.append(credential)
        raise ConfigurationError("connection 'gone' is not there")

    host = Host([suspect("r", credential="gone"), suspect("s", credential="gone")])
    with OrphanReview(host, no_key) as review:
        orphans = list(review.find())
    assert tried == ["gone"]
    assert [(each.standing, each.message) for each in orphans] == [
        (Standing.UNREADABLE, "connection 'gone' is not there")
    ] * 2


# --- cancels ---


@pytest.mark.parametrize(
    ("now", "waits", "answer", "act"),
    [
        (nyx("r"), False, 200, Act.CANCELLED),
        (nyx("r"), True, 200, Act.TAKEN_UP),
        (nyx("r", "completed"), False, 200, Act.TAKEN_UP),
        (nyx("r"), False, 403, Act.FAILED),
        (403, False, 200, Act.FAILED),
    ],
    ids=["left", "waited for again", "over by now", "refused", "no longer shown"],
)
def test_a_cancel_is_sent_after_a_second_look_and_noted_when_it_is_taken(
    now: dict[str, Any] | int, waits: bool, answer: int, act: Act
) -> None:
    service = Service({"r": nyx("r")}, cancels=answer)
    host = Host([suspect("r")])
    with OrphanReview(host, service.open) as review:
        (orphan,) = review.find()
        service.runs["r"] = now
        host.waits = {"r"} if waits else set()
        ended = review.cancel(orphan)
    assert ended.act is act
    assert host.noted == (["r"] if act is Act.CANCELLED else [])
    assert any(line.endswith("/cancel") for line in service.asked) == (act is Act.CANCELLED or answer == 403)
    assert ended.settled == (act is not Act.FAILED)
    assert bool(ended.message) == (act is Act.FAILED)


def test_what_is_not_proven_to_be_left_is_never_cancelled() -> None:
    service = Service({"r": 403})
    with OrphanReview(Host([suspect("r")]), service.open) as review:
        (orphan,) = review.find()
        assert review.cancel(orphan) == orphan
    assert not any(line.endswith("/cancel") for line in service.asked)


# --- submits whose answer is lost ---


MARK = new_mark("task")


@pytest.mark.parametrize(
    ("listed", "standing"),
    [
        ([nyx("ours", name=f"audit {MARK}"), nyx("other", name="audit")], Standing.LEFT),
        ([nyx("ours", "completed", name=f"audit {MARK}")], None),
        ([nyx("other", name=f"audit {new_mark('another task')}")], None),
        ([], None),
        (500, Standing.UNCERTAIN),
    ],
    ids=["goes on", "over", "another's", "never started", "list is down"],
)
def test_a_lost_submit_is_known_by_its_mark(listed: list[dict[str, Any]] | int, standing: Standing | None) -> None:
    lost = suspect(parent=GATE, intent=Intent(mark=MARK))
    orphans = found(Service(listed=listed), lost)
    assert [each.standing for each in orphans] == ([] if standing is None else [standing])
    if standing is Standing.LEFT:
        assert orphans[0].ref == find("nyx").ref("ours")
    if standing is Standing.UNCERTAIN:
        assert "could not be read whole" in orphans[0].message


@pytest.mark.parametrize(
    ("before", "listed", "candidates", "says"),
    [
        (["old"], [onepin("new"), onepin("old")], ["new"], "nothing proves"),
        (["old"], [onepin("new", "completed"), onepin("old")], None, ""),
        (["old"], [onepin("old")], None, ""),
        (None, [onepin("new")], [], "nothing proves"),
    ],
    ids=["a new one goes on", "the new one is over", "nothing new", "no list from before"],
)
def test_without_a_mark_runs_that_appeared_since_are_named_and_none_is_taken(
    before: list[str] | None, listed: list[dict[str, Any]], candidates: list[str] | None, says: str
) -> None:
    intent = Intent(ids_before=None if before is None else frozenset(before))
    orphans = found(Service(listed=listed), suspect(provider="onepin", parent=FLOW, intent=intent))
    if candidates is None:
        assert orphans == []
        return
    (orphan,) = orphans
    assert orphan.standing is Standing.UNCERTAIN
    assert [ref.run_id for ref in orphan.candidates] == candidates
    assert says in orphan.message
    assert orphan.ref is None


def test_where_a_provider_lists_nothing_a_lost_submit_stays_uncertain() -> None:
    service = Service()
    (orphan,) = found(service, suspect(provider="nexio", intent=Intent()))
    assert (orphan.standing, orphan.candidates, service.asked) == (Standing.UNCERTAIN, (), [])
    assert "lists no runs" in orphan.message


# --- runs with a mark of their holder ---


def test_all_runs_with_a_mark_of_the_holder_are_found_by_one_page_but_those_that_it_spares() -> None:
    mine = [nyx(name, name=f"audit {new_mark('task')}") for name in ("a", "b")]
    over = nyx("c", "completed", name=f"audit {new_mark('task')}")
    theirs = [nyx("d", name=f"audit {new_mark('another')}"), nyx("e", name="audit")]
    service = Service(listed=[*mine, over, *theirs])
    by_mark = suspect(parent=GATE, submitter=submitter("task"), spared=frozenset({"b"}))
    another = suspect(parent=GATE, submitter=submitter("another"))
    orphans = found(service, by_mark, another)
    assert [each.ref.run_id for each in orphans if each.ref] == ["a", "d"]
    assert all(each.suspect.ref == each.ref for each in orphans)
    assert len(service.asked) == 1


def test_a_list_that_is_refused_is_said_to_be_unreadable() -> None:
    (orphan,) = found(Service(listed=403), suspect(parent=GATE, submitter=submitter("task")))
    assert (orphan.standing, orphan.ref) == (Standing.UNREADABLE, None)


# --- what is handed on ---


def test_a_result_says_all_of_it_in_json_and_holds_nulls_for_what_is_not_known() -> None:
    (left,) = found(Service({"r": nyx("r")}), suspect("r", credential="one"))
    assert {**left.to_result(), "url": None} == {
        "schema": 1,
        "standing": "left",
        "provider": "nyx",
        "run_id": "r",
        "parents": {},
        "state": "running",
        "phase": "running",
        "created_at": "2026-03-01T12:00:00Z",
        "url": None,
        "credential": "one",
        "holder": {"task": "t"},
        "why": "Its task is gone.",
        "message": "",
        "candidates": [],
        "act": None,
    }
    (lost,) = found(Service(listed=500), suspect(parent=GATE, intent=Intent(mark=MARK)))
    assert {**lost.to_result(), "message": ""} == {
        **left.to_result(),
        "standing": "uncertain",
        "run_id": None,
        "parents": GATE,
        "state": None,
        "phase": None,
        "created_at": None,
        "url": None,
        "credential": None,
    }
