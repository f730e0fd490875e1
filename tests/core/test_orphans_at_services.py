"""What one look at a provider says of a run that nobody waits for, and that only what is proven is ever cancelled."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from runops.core import AuthError, RunClient, RunRef
from runops.core.client.orphans import OrphanReview
from runops.core.waiting.intent import Intent, new_mark, submitter, submitter_of_mark
from runops.core.waiting.orphans import Act, Orphan, Standing, Suspect
from tests.services import CALLS

HOLDER = {"host": "a test"}


@dataclass
class Host:
    """A host that says what the test has told it."""

    found: list[Suspect]
    left: bool = True
    given: set[RunRef] = field(default_factory=set)
    noted: list[RunRef] = field(default_factory=list)

    def suspects(self) -> Iterable[Suspect]:
        return self.found

    def still_left(self, suspect: Suspect) -> bool:
        return self.left

    def awaits(self, ref: RunRef) -> bool:
        return ref in self.given

    def cancelled(self, suspect: Suspect, ref: RunRef) -> None:
        self.noted.append(ref)


@pytest.fixture
def kind() -> str:
    """One client is enough: the decisions are the core's."""
    return "sync"


def suspect(provider: str, **more: Any) -> Suspect:
    return Suspect(provider=provider, holder=HOLDER, why="its task is over", **more)


def review(runs: Any, *found: Suspect, **more: Any) -> OrphanReview:
    return OrphanReview(Host(list(found)), lambda name, credential: runs.new(), **more)


def looked(runs: Any, *found: Suspect) -> list[Orphan]:
    with review(runs, *found) as each:
        return list(each.find())


@pytest.mark.parametrize(
    ("script", "standing"), [("forever", ["left"]), ("succeeded", []), ("failed", []), ("cancelled", [])]
)
def test_only_a_run_that_is_not_over_is_left(runs_of: Any, clock: Any, script: str, standing: list[str]) -> None:
    runs = runs_of("b3os")
    ref = runs.made(script=script)
    clock.now += 600
    assert [str(each.standing) for each in looked(runs, suspect("b3os", ref=ref))] == standing


def test_a_run_that_is_over_in_a_word_that_nobody_knows_is_not_left(runs_of: Any, clock: Any) -> None:
    runs = runs_of("onepin")
    ref = runs.made(script="succeeded")
    clock.now += 600
    runs.emulator.set_fields("onepin", ref.run_id, {"status": "archived"})
    assert looked(runs, suspect("onepin", ref=ref)) == []


@pytest.mark.parametrize("name", ["nexio", "nyx", "onepin", "b3os"])
def test_a_run_that_the_key_is_not_shown_is_unreadable(runs_of: Any, name: str) -> None:
    runs = runs_of(name)
    ref = runs.ref("00000000-0000-0000-0000-000000000000")
    (found,) = looked(runs, suspect(name, ref=ref))
    assert found.standing is Standing.UNREADABLE
    assert "404" in found.message
    with review(runs) as each:
        assert each.cancel(found) is found


def test_a_marked_submit_of_which_a_whole_list_shows_nothing_was_never_started(runs_of: Any) -> None:
    runs = runs_of("nyx")
    runs.made(script="forever", parents={"config_name": "nightly"})
    lost = suspect("nyx", parent={"config_name": "nightly"}, intent=Intent(new_mark("a"), frozenset(), None))
    assert looked(runs, lost) == []
    runs.emulator.add_fault(kind="status", status=500, provider="nyx", action="list", count=None)
    (found,) = looked(runs, lost)
    assert found.standing is Standing.UNCERTAIN
    assert "could not be read whole" in found.message


def test_an_unmarked_submit_names_what_has_appeared_since_and_is_active(runs_of: Any, clock: Any) -> None:
    runs = runs_of("b3os")
    parents = {"workflow_id": "wf_1"}
    old = runs.made(script="forever", parents=parents)
    over = runs.made(script="succeeded", seconds=1, parents=parents)
    clock.now += 60
    new = runs.made(script="forever", parents=parents)
    before = suspect("b3os", parent=parents, intent=Intent(None, frozenset({old.run_id}), None))
    (found,) = looked(runs, before)
    assert (found.standing, [each.run_id for each in found.candidates]) == (Standing.UNCERTAIN, [new.run_id])
    assert over.run_id not in found.to_result()["candidates"]
    known = frozenset({old.run_id, over.run_id, new.run_id})
    assert looked(runs, replace(before, intent=Intent(None, known, None))) == []
    # Nothing is known from before, so that nothing that is there proves anything.
    (unknown,) = looked(runs, replace(before, intent=Intent()))
    assert unknown.standing is Standing.UNCERTAIN


def test_a_service_without_a_list_leaves_a_lost_submit_unknown(runs_of: Any) -> None:
    (found,) = looked(runs_of("nexio"), suspect("nexio", intent=Intent()))
    assert "lists no runs" in found.message
    assert not found.settled


def test_many_holders_of_one_parent_cost_one_page(runs_of: Any, clock: Any) -> None:
    runs = runs_of("nyx")
    with runs.new() as client:
        ref = client.submit(runs.provider.call(**CALLS["nyx"]), identity="task 7")
    parent = {"config_name": "nightly"}
    before = len(runs.requests())
    (found,) = looked(
        runs, *(suspect("nyx", parent=parent, submitter=submitter(f"task {number}")) for number in range(20))
    )
    assert found.ref == ref
    assert len(runs.requests()) == before + 1
    spared = suspect("nyx", parent=parent, submitter=submitter("task 7"), spared=frozenset({ref.run_id}))
    assert looked(runs, spared) == []


def test_a_mark_tells_its_submitter_and_no_other_text_does() -> None:
    for identity in ("a", "dag/run/task/-1", "ä"):
        assert submitter_of_mark(f"nightly audit {new_mark(identity)}") == submitter(identity)
    assert submitter_of_mark(new_mark()) is not None
    for text in ("", "nightly", "[nightly]", f"{new_mark('a')} and more", new_mark("a")[1:], "[bcdfghjklmnpqa]"):
        assert submitter_of_mark(text) is None


def test_one_run_of_several_holders_is_listed_and_cancelled_once(runs_of: Any) -> None:
    runs = runs_of("b3os")
    ref = runs.made(script="forever")
    twice = [suspect("b3os", ref=ref), suspect("b3os", ref=ref, credential="another")]
    with review(runs, *twice) as each:
        (found,) = each.find()
        assert each.cancel(found).act is Act.CANCELLED
    assert len(runs.requests(action="cancel")) == 1


def test_what_a_host_waits_for_is_neither_listed_nor_cancelled(runs_of: Any) -> None:
    runs = runs_of("b3os")
    ref = runs.made(script="forever")
    host = Host([suspect("b3os", ref=ref)], given={ref})
    with OrphanReview(host, lambda name, credential: runs.new()) as each:
        assert list(each.find()) == []
        host.given.clear()
        (found,) = each.find()
        host.given.add(ref)
        assert each.cancel(found).act is Act.TAKEN_UP
        host.given.clear()
        host.left = False
        assert each.cancel(found).act is Act.TAKEN_UP
    assert runs.requests(action="cancel") == []
    assert host.noted == []


def test_only_the_wanted_credentials_are_looked_at_each_with_a_client_of_its_own(runs_of: Any) -> None:
    runs = runs_of("b3os")
    refs = {name: runs.made(script="forever") for name in ("one", "two", "three")}
    opened: list[str | None] = []

    def open_client(name: str, credential: str | None) -> RunClient:
        opened.append(credential)
        if credential == "two":
            raise AuthError("There is no such key.")
        return runs.new()

    host = Host([suspect("b3os", ref=ref, credential=name) for name, ref in refs.items() for _ in range(2)])
    with OrphanReview(host, open_client) as each:
        found = [(one.suspect.credential, str(one.standing)) for one in each.find()]
    assert found == [("one", "left"), ("two", "unreadable"), ("three", "left")]
    assert opened == ["one", "two", "three"]
    with OrphanReview(host, open_client, credentials=["three"]) as each:
        assert [one.suspect.credential for one in each.find()] == ["three"]


def test_a_cancel_that_the_service_refuses_is_a_failure_with_its_reason(runs_of: Any) -> None:
    runs = runs_of("b3os", requests_per_minute=None)
    ref = runs.made(script="forever")
    with review(runs, suspect("b3os", ref=ref)) as each:
        (found,) = each.find()
        runs.emulator.add_fault(kind="status", status=403, provider="b3os", action="cancel", count=None)
        done = each.cancel(found)
    assert (done.act, done.settled) == (Act.FAILED, False)
    assert "403" in done.message


def test_a_result_is_plain_data_that_only_grows() -> None:
    ref = RunRef(provider="onepin", run_id="r", parents={"workflow_id": "w"})
    result = Orphan(suspect=suspect("onepin", ref=ref, credential="k"), standing=Standing.UNREADABLE).to_result()
    assert result == {
        "schema": 1, "standing": "unreadable", "provider": "onepin", "run_id": "r", "parents": {"workflow_id": "w"},
        "state": None, "phase": None, "created_at": None, "url": None, "credential": "k", "holder": HOLDER,
        "why": "its task is over", "message": "", "candidates": [], "act": None,
    }  # fmt: skip
