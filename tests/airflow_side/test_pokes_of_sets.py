"""One poke of a sensor of many runs: how long it may take, what it reads of the poke before, and what it writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from runops.airflow.hook import RunHook
from runops.airflow.many.poke import RunsPoke
from runops.airflow.many.watch import RunsWatch
from runops.airflow.reschedule import HOLD_SECONDS, POKE_SECONDS
from runops.core import Outcome, RunRef, Verdict, find
from runops.core.client.many_plan import End, ManyPlan
from runops.core.many.rows import RowState
from runops.core.many.rules import ManyRules
from runops.core.waiting.options import WaitOptions
from runops.core.waiting.state import WaitProgress
from tests.airflow_side.test_many_verdicts import Log

NEXIO = find("nexio")


def poke(host: Any, context: Any, *, count: int = 3, grace: float = 60.0, began: float | None = None) -> RunsPoke:
    """A poke of a sensor that waits for ``r0``, ``r1`` and so on since the beginning of the test, and its log."""
    wait = WaitOptions.build(NEXIO, now=host.clock.now, timeout=9_000.0, auth_grace=grace)
    made = RunsPoke(
        context,
        hook=RunHook(provider="nexio"),
        refs=[RunRef(provider="nexio", run_id=f"r{number}") for number in range(count)],
        plan=ManyPlan(rules=ManyRules.build(max_active=count), policy=NEXIO.policy(), wait=wait),
        began=host.clock.began if began is None else began,
        log=Log(),
    )
    assert made.watch._plan.once
    return made


def lines(made: RunsPoke) -> list[tuple[str, str]]:
    return made._log.lines


def looked(
    made: RunsPoke, learns: Callable[[RunsWatch], object] = lambda watch: None, *, end: End = End.SUSPENDED
) -> tuple[bool, float]:
    """What a poke says that learns such things, and until when it may look."""
    until: list[float] = []

    def wait(given: float) -> End:
        until.append(given)
        learns(made.watch)
        return end

    made.watch.wait = wait  # pyright: ignore[reportAttributeAccessIssue]
    return made.look(), until[0]


def ends(*indices: int) -> Callable[[RunsWatch], None]:
    def learns(watch: RunsWatch) -> None:
        for index in indices:
            row = replace(watch._ledger[index], state=RowState.ENDED, outcome=Outcome.FAILED, verdict=Verdict.FAIL)
            watch._ledger.set(row)

    return learns


def learns(**known: dict[str, Any]) -> Callable[[RunsWatch], None]:
    """The waits of runs learn so much: ``learns(r1={"seen": True})``."""

    def act(watch: RunsWatch) -> None:
        for name, fields in known.items():
            watch.past[int(name[1:])] = replace(watch.past[int(name[1:])], **fields)

    return act


@pytest.fixture
def context(host: Any) -> dict[str, Any]:
    return host.context()


def written(context: dict[str, Any]) -> dict[str, Any]:
    store = context["task_state_store"]
    return {key: store.get(key) for key in sorted(store.values)}


# --- a look ---


@pytest.mark.parametrize(
    ("stores", "grace", "seconds"),
    [(True, 0.0, POKE_SECONDS), (True, 500.0, POKE_SECONDS), (False, 20.0, POKE_SECONDS),
     (False, POKE_SECONDS, POKE_SECONDS + HOLD_SECONDS), (False, 500.0, 500.0 + HOLD_SECONDS)],
)  # fmt: skip
def test_a_poke_without_a_record_holds_for_as_long_as_a_key_may_be_refused(
    host: Any, stores: bool, grace: float, seconds: float
) -> None:
    made = poke(host, host.context(store=stores), grace=grace)
    # Beside unix seconds nearly every number of seconds is about the same.
    assert looked(made)[1] - host.clock.now == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("end", "over", "decided"),
    [(End.SUSPENDED, (), False), (End.SUSPENDED, (0, 1), False), (End.SUSPENDED, (0, 1, 2), True), (End.ALL, (), True),
     (End.TIMEOUT, (0,), True), (End.DECIDED, (0,), True)],
)  # fmt: skip
def test_a_poke_is_the_last_one_where_no_run_goes_on_or_the_whole_has_ended(
    host: Any, context: dict[str, Any], end: End, over: tuple[int, ...], decided: bool
) -> None:
    made = poke(host, context)
    assert looked(made, ends(*over), end=end)[0] is decided
    assert lines(made) == ([] if decided else [("info", made.ledger.tally.line(NEXIO))])


@pytest.mark.parametrize(("stores", "began", "says"), [(True, -1.0, False), (False, -1.0, True), (False, 0.0, False)])
def test_a_later_poke_without_a_record_says_that_it_reads_all_runs(
    host: Any, stores: bool, began: float, says: bool
) -> None:
    context = host.context(store=stores)
    made = poke(host, context, began=context["ti"].start_date.timestamp() + began)
    text = "There is no task state store below Airflow 3.3: each poke reads all runs."
    assert lines(made) == ([("info", text)] if says else [])
    # A first poke that had met a run that is not there would have been the last.
    assert {wait.seen for wait in made.watch.past.values()} == {says}


# --- what is kept ---


def test_a_first_poke_records_since_when_the_set_is_waited_for_and_no_page(host: Any, context: dict[str, Any]) -> None:
    looked(poke(host, context, count=150))
    header = written(context)["runops"]
    assert header.pop("counts")["total"] == 150
    assert header == {
        "version": 1, "generation": 0, "state": "many", "first": 0, "pages": 2, "began": host.clock.began,
        "attempt": 1, "seen": "",
    }  # fmt: skip
    assert sorted(written(context)) == ["runops"]


def test_what_the_waits_have_learnt_stands_on_the_page_of_their_runs_and_comes_back(
    host: Any, context: dict[str, Any]
) -> None:
    looked(
        poke(host, context, count=202),
        learns(r1={"seen": True, "failing_since": 5.0}, r130={"seen": True, "signature": "abc", "changed_at": 6.0},
               r199={"parked_since": 7.0}),
    )  # fmt: skip
    found = written(context)
    assert sorted(found) == ["runops", "runops.0", "runops.1"]
    assert found["runops"]["seen"] == "1,130"
    assert found["runops.0"]["past"] == {"1": {"failing_since": 5.0}}
    assert found["runops.1"]["past"] == {"30": {"changed_at": 6.0, "signature": "abc"}, "99": {"parked_since": 7.0}}
    past = poke(host, context, count=202).watch.past
    began = host.clock.began
    assert past[1] == WaitProgress(began=began, seen=True, failing_since=5.0)
    assert past[130] == WaitProgress(began=began, seen=True, signature="abc", changed_at=6.0, resumed=True)
    assert past[199] == WaitProgress(began=began, parked_since=7.0)
    assert past[0] == WaitProgress(began=began)
    assert len(past) == 202


def test_a_poke_writes_the_pages_that_have_changed_and_no_other(host: Any, context: dict[str, Any]) -> None:
    looked(poke(host, context, count=202), learns(r1={"seen": True, "failing_since": 5.0}, r130={"failing_since": 6.0}))
    store, keys = context["task_state_store"], list[str]()
    plain = store.set
    store.set = lambda key, value: (keys.append(key), plain(key, value))
    for act, changed in (
        (learns(), []),
        (learns(r1={"failing_since": 9.0}), ["runops.0"]),
        (learns(r130={"failing_since": None}), ["runops.1"]),
        (learns(r130={"failing_since": None}), []),
        (learns(r201={"seen": True}), ["runops"]),
        (ends(201), ["runops.2", "runops"]),
        (ends(1), ["runops.0", "runops"]),
        (learns(), []),
    ):
        keys.clear()
        looked(poke(host, context, count=202), act)
        assert keys == changed
    found = written(context)
    assert (found["runops"]["seen"], found["runops"]["counts"]["total"]) == ("", 202)
    assert not any("past" in page for key, page in found.items() if key != "runops")
    assert [row.index for row in poke(host, context, count=202).ledger if row.is_over] == [1, 201]


def test_the_counts_of_the_header_are_those_of_the_poke_that_wrote_it(host: Any, context: dict[str, Any]) -> None:
    made = poke(host, context)
    looked(made, learns(r0={"seen": True}))
    assert written(context)["runops"]["counts"] == made.ledger.tally.to_dict()


def test_a_later_try_keeps_what_has_ended_well_and_a_clear_begins_anew(host: Any, context: dict[str, Any]) -> None:
    def act(watch: RunsWatch) -> None:
        ends(0)(watch)
        watch._ledger.set(replace(watch._ledger[0], outcome=Outcome.SUCCEEDED, verdict=Verdict.SUCCEED))
        ends(1)(watch)

    looked(poke(host, context), act)
    same = poke(host, context)
    assert [row.outcome for row in same.ledger] == [Outcome.SUCCEEDED, Outcome.FAILED, None]
    assert written(context)["runops"]["attempt"] == 1
    context["ti"].next_try()
    other = poke(host, context)
    assert [(row.outcome, row.run_id, row.state) for row in other.ledger] == [
        (Outcome.SUCCEEDED, "r0", RowState.ENDED),
        # A sensor reads the same run again.
        (None, "r1", RowState.ATTACHED),
        (None, "r2", RowState.ATTACHED),
    ]
    assert written(context)["runops"]["attempt"] == 2
    context["ti"].clear()
    anew = poke(host, context)
    assert {row.outcome for row in anew.ledger} == {None}
    assert written(context)["runops"]["generation"] == 1


def test_a_set_whose_runs_have_all_ended_writes_no_wait(host: Any, context: dict[str, Any]) -> None:
    looked(poke(host, context), ends(0, 1, 2))
    assert poke(host, context).watch.past == {}


def test_without_a_record_nothing_is_written(host: Any) -> None:
    context = host.context(store=False)
    looked(poke(host, context), learns(r1={"seen": True, "failing_since": 5.0}))
    assert context["ti"].xcoms == {}
