"""The steps of one row of a set, by themselves: what its submit and its wait are handed, and how it is given up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from pytest_mock import MockerFixture

from runops.core import ConflictError, Outcome, OutcomePolicy, RunRef, RunSnapshot, Verdict, find
from runops.core.client.group_commit import GroupCommit
from runops.core.client.many_plan import End, ManyPlan, SubmitPlan
from runops.core.client.many_runs import ManyRuns
from runops.core.client.many_submits import Submits
from runops.core.client.many_waits import Carrier, Stop
from runops.core.many.ledger import Changes, Ledger
from runops.core.many.rows import Row, RowState
from runops.core.many.rules import ManyRules
from runops.core.many.schedule import Schedule
from runops.core.model.errors import AuthError, RequestRefused, ServerTrouble, SubmitUncertainError
from runops.core.waiting.intent import Intent
from runops.core.waiting.options import WaitOptions
from runops.core.waiting.submit_in_turn import TurnRules
from tests import simulated_time
from tests.simulated_time import BEGAN

T = TypeVar("T")
MODULE = "runops.core.client.many_submits"
MARKED = Intent("[bcdfghjklmnpq]", frozenset({"a"}), 7.0)
UNMARKED = Intent(None, frozenset({"a"}), 7.0)
CALL = find("b3os").call(workflow_id="wf_1", payload={"n": 1})
PARENT = {"workflow_id": "wf_1"}
UNTIL = BEGAN + 1000


def ref(run_id: str, provider: str = "b3os") -> RunRef:
    return RunRef(provider=provider, run_id=run_id)


def flow(result: Any) -> Generator[Any, Any, Any]:
    """One that asks for nothing."""
    if isinstance(result, Exception):
        raise result
    return result
    yield


class Client:
    """Drives flows that ask for nothing, and notes what it is asked to wait for, to look at and to cancel."""

    def __init__(self, mocker: MockerFixture, provider: str = "b3os") -> None:
        self.provider = find(provider)
        self.marks_runs = True
        self.meter = mocker.MagicMock()
        self.waits: list[tuple[RunRef, dict[str, Any]]] = []
        self.cancels: list[str] = []
        self.gets: list[str] = []
        self.last: Any = None
        self.trouble: Exception | None = None
        self.refused = mocker.MagicMock()

    def clock(self) -> float:
        return BEGAN + asyncio.get_running_loop().time()

    async def drive(self, flow: Generator[Any, Any, Any]) -> Any:
        try:
            next(flow)
        except StopIteration as stop:
            return stop.value
        raise AssertionError("it asks for something")

    async def wait(self, ref: RunRef, **more: Any) -> RunSnapshot:
        self.waits.append((ref, more))
        return self.last

    async def get(self, ref: RunRef) -> RunSnapshot:
        self.gets.append(ref.run_id)
        if self.trouble is not None:
            raise self.trouble
        return self.last

    async def cancel(self, ref: RunRef) -> None:
        self.cancels.append(ref.run_id)
        if self.trouble is not None:
            raise self.trouble


class Disk:
    """Each write: when, and how the rows stood."""

    def __init__(self, ledger: Ledger, trouble: Exception | None = None) -> None:
        self.ledger = ledger
        self.writes: list[tuple[float, list[RowState]]] = []
        self.trouble = trouble

    async def __call__(self, changes: Changes) -> None:
        if self.trouble is not None:
            raise self.trouble
        moment = round(asyncio.get_running_loop().time(), 2)
        self.writes.append((moment, [self.ledger[index].state for index in sorted(changes.indices)]))


def run(scenario: Callable[[], Coroutine[Any, Any, T]]) -> T:
    return simulated_time.run(scenario())


def snapshot(outcome: Outcome | None = Outcome.SUCCEEDED, run_id: str = "r0", **more: Any) -> RunSnapshot:
    phase: Any = None if outcome else "running"
    return RunSnapshot(ref=ref(run_id), state="success", outcome=outcome, phase=phase, **more)


# --- the submit --------------------------------------------------------------------------------------------------


def submits(
    client: Client, *rows: Row, trouble: Exception | None = None, **plan: Any
) -> tuple[Submits, Ledger, Disk, GroupCommit]:
    ledger = Ledger(rows or [Row(index=0, key="k0")])
    disk = Disk(ledger, trouble)
    commit = GroupCommit(ledger, disk, lambda: None)
    turns = TurnRules(on_conflict=plan.pop("on_conflict", "wait"), until=UNTIL)
    wanted = SubmitPlan(calls=[CALL] * len(ledger), turns=turns, **plan)
    return Submits(client, commit, wanted, Schedule(20, exclusive=False)), ledger, disk, commit  # type: ignore[arg-type]


@pytest.mark.parametrize(("identity", "wanted"), [("dag/task", "dag/task/k0"), (None, None)])
@pytest.mark.parametrize("marks", [True, False])
@pytest.mark.parametrize("provider", ["b3os", "nyx"])
def test_a_submit_is_recorded_before_it_is_sent_with_all_that_it_is_handed(
    mocker: MockerFixture, identity: str | None, wanted: str | None, marks: bool, provider: str
) -> None:
    marked = marks and provider == "nyx"
    intent = MARKED if marked else UNMARKED
    listed = mocker.patch(f"{MODULE}.list_before_submit", side_effect=lambda *_, **__: flow(intent))
    sent = mocker.patch(f"{MODULE}.submission.submit", side_effect=lambda *_, **__: flow(ref("r0")))

    async def main() -> None:
        client = Client(mocker, provider)
        client.marks_runs = marks
        submit, ledger, disk, commit = submits(client, identity=identity, adopt_uncertain=True, grace=60.0)
        await asyncio.sleep(0.25)
        assert await submit.submit(0) == ref("r0")
        assert (listed.call_args.args, listed.call_args.kwargs) == (
            (client.provider, CALL),
            {"identity": wanted, "mark_runs": marks, "mark": None},
        )
        args, more = sent.call_args
        assert args == (client.provider, CALL, intent)
        assert more.pop("clock") == client.clock
        more.pop("adopted")()
        client.meter.adopted.assert_called_once_with(provider)
        assert more == {"lost": False, "adopt_uncertain": True, "grace": 60.0, "until": UNTIL}
        row = ledger[0]
        at = round(BEGAN + (0.3 if marked else 0.25), 1)
        assert (row.run_id, row.state, row.intent, row.attached) == ("r0", RowState.SUBMITTED, None, False)
        assert row.submitted_at == pytest.approx(at, abs=0.11)
        await asyncio.sleep(5)
        # Marked submits wait for each other, and are found by their marks: what became of them may be written later.
        moments = [(0.3, 1.3), (0.25, 0.25)][not marked]
        assert disk.writes == [(moments[0], [RowState.SUBMITTING]), (moments[1], [RowState.SUBMITTED])]
        assert (submit.posting, commit.ledger is ledger) == (set(), True)

    run(main)


@pytest.mark.parametrize(("ago", "grace"), [(0, 300.0), (100, 200.0), (300, 0.0), (900, 0.0), (-50, 300.0)])
def test_a_submit_that_an_earlier_try_has_sent_is_looked_for_in_what_is_left_of_its_grace(
    mocker: MockerFixture, ago: float, grace: float
) -> None:
    sent = mocker.patch(f"{MODULE}.submission.submit", side_effect=lambda *_, **__: flow(ref("r0")))
    listed = mocker.patch(f"{MODULE}.list_before_submit")

    async def main() -> None:
        lost = Row(index=0, key="k0").submitting(MARKED, BEGAN - ago, PARENT)
        submit, ledger, *_ = submits(Client(mocker), lost)
        assert await submit.submit(0) == ref("r0")
        assert (sent.call_args.args[2], sent.call_args.kwargs["lost"]) == (MARKED, True)
        assert sent.call_args.kwargs["grace"] == pytest.approx(grace, abs=0.1)
        assert ledger[0].state is RowState.SUBMITTED

    run(main)
    listed.assert_not_called()


def test_no_other_run_of_the_set_under_the_same_address_is_taken_for_an_unmarked_one(mocker: MockerFixture) -> None:
    mocker.patch(f"{MODULE}.list_before_submit", side_effect=lambda *_, **__: flow(UNMARKED))
    sent = mocker.patch(f"{MODULE}.submission.submit", side_effect=lambda *_, **__: flow(ref("r0")))
    others = [
        Row(index=1, key="k1").submitted(ref("r1"), None),
        Row(index=2, key="k2").submitted(RunRef(provider="b3os", run_id="r2", parents={"a": "b"}), None),
        Row(index=3, key="k3"),
    ]

    async def main() -> None:
        submit, *_ = submits(Client(mocker), Row(index=0, key="k0"), *others)
        await submit.submit(0)

    run(main)
    assert sent.call_args.args[2] == replace(UNMARKED, ids_before=frozenset({"a", "r1"}))


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (AuthError("no", status=401), RowState.PLANNED),
        (RequestRefused("wrong", status=422), RowState.SUBMITTING),
        (SubmitUncertainError("nobody knows"), RowState.SUBMITTING),
        (ZeroDivisionError(), RowState.PLANNED),
    ],
)
def test_a_submit_that_fails_leaves_its_row_to_whoever_judges_the_error_or_as_it_was(
    mocker: MockerFixture, error: Exception, state: RowState
) -> None:
    mocker.patch(f"{MODULE}.list_before_submit", side_effect=lambda *_, **__: flow(MARKED))
    mocker.patch(f"{MODULE}.submission.submit", side_effect=lambda *_, **__: flow(error))

    async def main() -> None:
        submit, ledger, *_ = submits(Client(mocker))
        with pytest.raises(type(error)):
            await submit.submit(0)
        assert ledger[0].state is state
        assert submit.posting == set()

    run(main)


def test_what_cannot_be_written_is_not_sent_and_its_row_is_as_it_was(mocker: MockerFixture) -> None:
    mocker.patch(f"{MODULE}.list_before_submit", side_effect=lambda *_, **__: flow(MARKED))
    sent = mocker.patch(f"{MODULE}.submission.submit")

    async def main() -> None:
        submit, ledger, *_ = submits(Client(mocker), trouble=OSError("full"))
        with pytest.raises(OSError, match="full"):
            await submit.submit(0)
        assert ledger[0].state is RowState.PLANNED

    run(main)
    sent.assert_not_called()


@pytest.mark.parametrize(
    ("retry_after", "pause"), [(None, 0.0), (5.0, 5.0), (999.0, 999.0), (1500.0, 1000.0), (0.0, 0.0)]
)
def test_a_refused_submit_waits_for_its_turn_after_the_pause_that_is_asked_for(
    mocker: MockerFixture, retry_after: float | None, pause: float
) -> None:
    conflict = ConflictError("busy", retry_after=retry_after)
    answers = iter([conflict, ref("r0")])
    listed = mocker.patch(f"{MODULE}.list_before_submit", side_effect=lambda *_, **__: flow(UNMARKED))
    mocker.patch(f"{MODULE}.submission.submit", side_effect=lambda *_, **__: flow(next(answers)))
    awaited = mocker.patch(f"{MODULE}.turns.await_turn", side_effect=lambda provider, turn, **_: flow(turn))

    async def main() -> None:
        client = Client(mocker)
        turn = client.refused.return_value
        turn.until, turn.mark = UNTIL, "[m]"
        submit, ledger, *_ = submits(client)
        waits = mocker.patch.object(submit, "_waits")
        assert await submit.submit(0) == ref("r0")
        assert asyncio.get_running_loop().time() == pytest.approx(pause, abs=0.01)
        args, more = client.refused.call_args
        assert (args[1:], more) == ((CALL, conflict, None), {"mark": None})
        assert (waits.call_args.args, awaited.call_args.args) == ((0, turn), (client.provider, turn))
        assert awaited.call_args.kwargs["clock"] == client.clock
        assert [call.kwargs["mark"] for call in listed.call_args_list] == [None, "[m]"]
        assert ledger[0].state is RowState.SUBMITTED

    run(main)


def test_a_refused_submit_fails_or_attaches_where_that_is_wanted(mocker: MockerFixture) -> None:
    mocker.patch(f"{MODULE}.list_before_submit", side_effect=lambda *_, **__: flow(UNMARKED))
    mocker.patch(f"{MODULE}.submission.submit", side_effect=lambda *_, **__: flow(ConflictError("busy")))
    active = mocker.patch(f"{MODULE}.turns.the_active", return_value=ref("theirs"))

    async def main() -> None:
        submit, *_ = submits(Client(mocker), on_conflict="fail")
        with pytest.raises(ConflictError, match="busy"):
            await submit.submit(0)
        client = Client(mocker)
        submit, ledger, disk, _ = submits(client, on_conflict="attach")
        assert await submit.submit(0) == ref("theirs")
        row = ledger[0]
        assert (row.run_id, row.state, row.attached, row.submitted_at) == ("theirs", RowState.ATTACHED, True, None)
        await asyncio.sleep(0.01)
        assert disk.writes[-1] == (0.0, [RowState.ATTACHED])

    run(main)
    assert active.call_args.args[0] is find("b3os")


# --- the wait ----------------------------------------------------------------------------------------------------


def carrier(client: Client, *rows: Row, max_spend: float | None = None, **plan: Any) -> tuple[Carrier, Ledger]:
    ledger = Ledger(rows)
    commit = GroupCommit(ledger, None, lambda: None)
    wait = WaitOptions.build(find("nyx"), now=BEGAN, timeout=1000)
    rules = ManyRules.build(max_spend=max_spend)
    wanted = ManyPlan(rules=rules, policy=OutcomePolicy.build(None), wait=wait, **plan)
    return Carrier(client, commit, wanted, Schedule(20, exclusive=False)), ledger  # type: ignore[arg-type]


def ours(index: int = 0, **more: Any) -> Row:
    return replace(Row(index=index, key=f"k{index}").submitted(ref(f"r{index}"), BEGAN), **more)


def test_the_wait_of_a_row_is_handed_its_clocks_and_what_all_may_spend(mocker: MockerFixture) -> None:
    async def main() -> None:
        client = Client(mocker)
        client.last = snapshot()
        carried, ledger = carrier(client, ours(), max_spend=5.0)
        carried.begin(0)
        await asyncio.gather(*carried.tasks.values())
        ((waited, more),) = client.waits
        assert waited == ref("r0")
        assert (more["patience"].max_spend, more["patience"].deadline) == (5.0, BEGAN + 1000)
        assert (more["submitted_at"], more["past"].accepted) == (BEGAN, False)
        assert (ledger[0].state, ledger[0].outcome, ledger[0].verdict) == (
            RowState.ENDED,
            Outcome.SUCCEEDED,
            Verdict.SUCCEED,
        )
        assert (carried.tasks, carried.past, carried.failure) == ({}, {}, None)
        assert client.cancels == []

    run(main)


@pytest.mark.parametrize(
    ("outcome", "on_timeout", "row", "cancels"),
    [
        (Outcome.TIMED_OUT, True, ours(), ["r0"]),
        (Outcome.TIMED_OUT, False, ours(), []),
        (Outcome.TIMED_OUT, True, ours(attached=True), []),
        (Outcome.TIMED_OUT, True, ours(stopped=True), []),
        (Outcome.FAILED, True, ours(), []),
    ],
)
def test_only_a_wait_that_took_too_long_cancels_its_run_where_it_is_ours(
    mocker: MockerFixture, outcome: Outcome, on_timeout: bool, row: Row, cancels: list[str]
) -> None:
    async def main() -> None:
        client = Client(mocker)
        client.last = snapshot(outcome)
        carried, ledger = carrier(client, row, cancel_on_timeout=on_timeout)
        carried.begin(0)
        await asyncio.gather(*carried.tasks.values())
        assert client.cancels == cancels
        assert ledger[0].stopped is (bool(cancels) or row.stopped)
        assert list(carried.results) == [0]

    run(main)


def given_up(client: Client, stop: Stop, row: Row, **plan: Any) -> Row:
    async def main() -> Row:
        carried, ledger = carrier(client, row, **plan)
        await carried._give_up(0, stop)
        return ledger[0]

    return run(main)


@pytest.mark.parametrize(
    ("by", "cancel", "row", "ended_by", "outcome", "cancels"),
    [
        ("stop_early", True, ours(), "stop_early", None, ["r0"]),
        ("stop_early", True, ours(attached=True, state=RowState.ATTACHED), "stop_early", None, []),
        ("stop_early", False, ours(), "stop_early", None, []),
        ("killed", True, ours(), "killed", None, ["r0"]),
        ("killed", False, ours(), None, None, []),
        ("killed", True, ours(stopped=True), None, None, []),
        (None, True, ours(), None, None, []),
        ("timeout", True, ours(), "timeout", Outcome.TIMED_OUT, ["r0"]),
        ("timeout", False, ours(), "timeout", Outcome.TIMED_OUT, []),
        ("max_spend", True, ours(), "max_spend", Outcome.TIMED_OUT, ["r0"]),
        ("execution_timeout", True, ours(), "execution_timeout", Outcome.TIMED_OUT, ["r0"]),
        ("timeout", True, Row(index=0, key="k0"), None, None, []),
    ],
)
def test_a_row_that_goes_on_where_the_set_ends_is_given_up_as_its_end_says(
    mocker: MockerFixture, by: Any, cancel: bool, row: Row, ended_by: Any, outcome: Outcome | None, cancels: list[str]
) -> None:
    client = Client(mocker)
    client.last = snapshot(None)
    ended = given_up(client, Stop(by, cancel), row)
    assert (client.cancels, client.gets) == (cancels, ["r0"] if by == "execution_timeout" else [])
    assert (ended.ended_by, ended.outcome, ended.stopped) == (ended_by, outcome, bool(cancels) or row.stopped)
    assert ended.is_over is (ended_by is not None)


@pytest.mark.parametrize("once", [True, False])
@pytest.mark.parametrize("trouble", [None, ServerTrouble("down", status=503)])
def test_a_run_that_a_last_look_finds_over_has_ended_and_not_timed_out(
    mocker: MockerFixture, once: bool, trouble: Exception | None
) -> None:
    client = Client(mocker)
    client.last, client.trouble = snapshot(Outcome.FAILED), trouble
    ended = given_up(client, Stop("execution_timeout", cancel=False), ours(), once=once)
    looks = not once
    assert client.gets == (["r0"] if looks else [])
    assert ended.outcome is (Outcome.FAILED if looks and trouble is None else Outcome.TIMED_OUT)


@pytest.mark.parametrize(
    ("provider", "trouble", "text"),
    [
        ("nexio", None, "nexio run r0 goes on: Nexio documents no way to cancel a run. [left-behind]"),
        (
            "b3os",
            ServerTrouble("It is down.", status=503),
            "b3os run r0 could not be cancelled and may go on: It is down. [left-behind]",
        ),
    ],
)
def test_a_run_that_cannot_be_cancelled_is_said_to_be_left_behind(
    mocker: MockerFixture, caplog: pytest.LogCaptureFixture, provider: str, trouble: Exception | None, text: str
) -> None:
    client = Client(mocker, provider)
    client.trouble = trouble
    ended = given_up(client, Stop("killed", cancel=True), ours())
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [text]
    assert (ended.stopped, ended.state) == (False, RowState.SUBMITTED)


# --- the whole ---------------------------------------------------------------------------------------------------


def driven(
    mocker: MockerFixture, *rows: Row, plan: dict[str, Any], busy: bool = False, provider: str = "nyx", **more: Any
) -> tuple[Any, Any, list[int]]:
    """How a set ends whose rows stand still: why, what its carrier is told, and which rows were begun."""
    carried = mocker.patch("runops.core.client.many_runs.Carrier").return_value
    carried.failure, carried.submits, carried.past = None, None, {}
    carried.tasks = {0: None} if busy else {}
    carried.wind_up = mocker.AsyncMock()
    rules = ManyRules.build(**plan.pop("rules", {}))
    left = plan.pop("left", 1000.0)
    wait = WaitOptions.build(find("nyx"), now=BEGAN, timeout=1000, deadline=BEGAN + left)
    wanted = ManyPlan(rules=rules, policy=OutcomePolicy.build(None), wait=wait, **plan)

    async def main() -> Any:
        runs = ManyRuns(Client(mocker, provider), Ledger(rows), wanted, **more)  # type: ignore[arg-type]
        stop = more.get("until")
        if stop is None and busy:
            asyncio.get_running_loop().call_later(50, lambda: runs.stop(cancel=False))
        return await runs.run()

    end = run(main)
    return end, carried.wind_up.call_args.args[0], [call.args[0] for call in carried.begin.call_args_list]


def over(index: int, verdict: Verdict = Verdict.SUCCEED, spend: float | None = None) -> Row:
    return ours(index, state=RowState.ENDED, outcome=Outcome.SUCCEEDED, verdict=verdict, spend=spend)


NOTHING = Stop(None, cancel=False)
SPENT = "all runs together have spent {} of at most 3 USD"


@pytest.mark.parametrize(
    ("rows", "plan", "end", "stop"),
    [
        ([over(0), over(1)], {}, End.ALL, NOTHING),
        ([over(0), ours(1)], {"rules": {"stop_early": True, "require": "any"}}, End.DECIDED, Stop("stop_early", True)),
        (
            [over(0, Verdict.FAIL), ours(1)],
            {"rules": {"stop_early": True}},
            End.DECIDED,
            Stop("stop_early", True),
        ),
        (
            [over(0, spend=1.0), ours(1, spend=2.0)],
            {"rules": {"max_spend": 3}, "cancel_on_timeout": False},
            End.MAX_SPEND,
            Stop("max_spend", False, SPENT.format("3 USD")),
        ),
        (
            [over(0, spend=1.5), ours(1, spend=2.0)],
            {"rules": {"max_spend": 3}},
            End.MAX_SPEND,
            Stop("max_spend", True, SPENT.format("3.50 USD")),
        ),
        ([over(0), ours(1)], {"left": 0.0}, End.TIMEOUT, NOTHING),
        ([over(0), ours(1)], {"once": True}, End.SUSPENDED, NOTHING),
        ([over(0), ours(1)], {"once": True, "last": True}, End.TIMEOUT, Stop("timeout", True)),
        (
            [over(0), ours(1)],
            {"once": True, "last": True, "clock": "execution_timeout", "cancel_on_timeout": False},
            End.TIMEOUT,
            Stop("execution_timeout", False),
        ),
    ],
)
def test_a_set_ends_by_what_has_come_first_and_its_rest_as_that_says(
    mocker: MockerFixture, rows: list[Row], plan: dict[str, Any], end: End, stop: Stop
) -> None:
    found, told, _ = driven(mocker, *rows, plan=dict(plan))
    assert (found, told) == (end, stop)


@pytest.mark.parametrize(
    ("rows", "plan"),
    [
        ([over(0), ours(1)], {"rules": {"stop_early": True}}),
        ([over(0, Verdict.FAIL), ours(1)], {"rules": {"require": "all"}}),
        ([over(0, spend=0.9), ours(1, spend=2.0)], {"rules": {"max_spend": 3}}),
        ([over(0, spend=9.0), ours(1)], {}),
        ([over(0), over(1)], {}),
        ([over(0), ours(1)], {"once": True}),
        ([over(0), ours(1)], {"left": 0.0}),
    ],
)
def test_a_set_goes_on_while_nothing_is_decided_and_something_is_under_way(
    mocker: MockerFixture, rows: list[Row], plan: dict[str, Any]
) -> None:
    found, told, _ = driven(mocker, *rows, plan=dict(plan), busy=True)
    assert (found, told) == (End.STOPPED, Stop("killed", cancel=False))


def test_the_host_is_asked_each_second_whether_it_goes_on_elsewhere(mocker: MockerFixture) -> None:
    asked: list[float] = []

    def until(ledger: Ledger) -> bool:
        asked.append(round(asyncio.get_running_loop().time(), 1))
        return len(asked) == 4

    found, told, _ = driven(mocker, ours(0), plan={}, busy=True, until=until)
    assert (found, told) == (End.SUSPENDED, NOTHING)
    assert asked == [0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize("submits", [True, False])
def test_a_set_goes_on_with_what_is_running_and_plans_what_is_not_sent(mocker: MockerFixture, submits: bool) -> None:
    rows = [
        over(0),
        ours(1),
        Row(index=2, key="k2"),
        Row(index=3, key="k3").submitting(MARKED, BEGAN, PARENT),
        ours(4, attached=True, state=RowState.ATTACHED),
    ]
    turns = TurnRules(on_conflict="wait", until=UNTIL)
    plan = {"submits": SubmitPlan(calls=[CALL] * 5, turns=turns)} if submits else {}
    _, _, begun = driven(mocker, *rows, plan=plan, busy=True, provider="b3os")
    # The row that was only planned comes last: what runs already counts among those that may be active.
    assert begun == ([1, 3, 4, 2] if submits else [1, 4])


@pytest.mark.parametrize(("left", "begun"), [(0.11, [0]), (0.1, []), (0.05, []), (0.0, [])])
def test_nothing_is_submitted_right_before_the_deadline(mocker: MockerFixture, left: float, begun: list[int]) -> None:
    turns = TurnRules(on_conflict="wait", until=UNTIL)
    plan = {"submits": SubmitPlan(calls=[CALL], turns=turns), "left": left}
    end, _, found = driven(mocker, Row(index=0, key="k0"), plan=plan)
    assert (end, found) == (End.TIMEOUT, begun)
