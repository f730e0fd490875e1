"""The clocks of a wait that its run itself stops: paused, stalled and spent, over restarts too."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from runops.core import RunRef, RunSnapshot, find
from runops.core.declaration.decode import Observation
from runops.core.model.run import Phase, Progress
from runops.core.model.states import StateReading
from runops.core.waiting.limits import FRESH, WaitProgress, paused_until, reached, signature, stalled_until
from runops.core.waiting.options import SUBMIT_GRACE, WaitOptions

NYX, NEXIO = find("nyx"), find("nexio")
NOW = 1_800_000_000.0


def seen(
    state: str = "running", phase: Phase = Phase.RUNNING, *, progress: Progress | None = None, **about: Any
) -> Observation:
    ref = RunRef(provider="nyx", run_id="r_1")
    snapshot = RunSnapshot(ref=ref, state=state, phase=phase, progress=progress, details=about.pop("details", {}))
    return Observation(snapshot, StateReading(state, state, phase), **about)


def at(moment: float) -> datetime:
    return datetime.fromtimestamp(moment, UTC)


def options(**limits: Any) -> WaitOptions:
    return WaitOptions.build(NYX, now=NOW, **limits)


def taken(past: WaitProgress, observation: Observation, now: float = NOW, **about: Any) -> WaitProgress:
    past.take_in(observation, observation.snapshot, now, **about)
    return past


@pytest.mark.parametrize(
    ("seen_before", "accepted", "since", "now", "waits"),
    [
        (True, False, NOW, NOW + 299, True), (False, True, NOW, NOW + 299, True), (True, True, NOW, NOW + 300, False),
        (False, False, NOW, NOW, False), (True, True, None, NOW, False),
    ],
)  # fmt: skip
def test_a_key_that_was_good_is_waited_for_while_its_grace_lasts(
    seen_before: bool, accepted: bool, since: float | None, now: float, waits: bool
) -> None:
    past = WaitProgress(seen=seen_before, accepted=accepted, refused_since=since)
    assert past.may_be_accepted(300.0, now) is waits


WHOLE = WaitProgress(
    began=1.0, seen=True, failing_since=2.0, parked_since=3.0, provisional_since=4.0, changed_at=5.0, signature="a/b/c",
    refused_since=6.0, accepted=True,
)  # fmt: skip


@pytest.mark.parametrize("age", [0.0, FRESH])
def test_all_that_a_wait_has_learnt_goes_on_in_another_process_soon_after(age: float) -> None:
    assert WaitProgress.from_dict(WHOLE.to_dict(NOW), NOW + age) == WHOLE


@pytest.mark.parametrize("age", [FRESH + 0.1, -0.1])
def test_clocks_that_others_may_have_stopped_are_let_go_later(age: float) -> None:
    later = WaitProgress.from_dict(WHOLE.to_dict(NOW), NOW + age)
    assert later == WaitProgress(began=1.0, seen=True, changed_at=5.0, signature="a/b/c", resumed=True, accepted=True)
    assert not WaitProgress.from_dict(WaitProgress(seen=True).to_dict(NOW), NOW + age).resumed


def test_a_record_without_its_moment_is_one_of_the_first_moment_of_all() -> None:
    assert WaitProgress.from_dict({"failing_since": 5.0}, FRESH).failing_since == 5.0
    assert WaitProgress.from_dict({"failing_since": 5.0}, FRESH + 0.1).failing_since is None


def test_what_a_run_shows_is_stored_in_a_form_that_later_versions_know() -> None:
    bare, moving = seen(), seen(progress=Progress(done=1, total=2, unit="x"), updated_at=at(NOW))
    written = "03897638308f/cbc2af8f5166/7d9cc6d1bfa3"
    assert (signature(bare), signature(moving)) == ("03897638308f//", written)
    # What an entry of a list lacks stays as it was.
    assert signature(bare, written) == written


def test_nothing_is_a_wait_that_begins() -> None:
    assert WaitProgress.from_dict(None, NOW) == WaitProgress.from_dict({}, NOW) == WaitProgress()
    assert FRESH == 60.0


@pytest.mark.parametrize(
    ("told", "since"), [(None, NOW), (NOW - 50, NOW - 50), (NOW - 500, NOW - 100), (NOW + 50, NOW)]
)
def test_a_pause_counts_from_when_the_provider_says_but_not_from_before_the_wait(
    told: float | None, since: float
) -> None:
    parked = seen("paused", Phase.PAUSED, paused_since=None if told is None else at(told))
    past = taken(WaitProgress(began=NOW - 100), parked)
    assert past.parked_since == since
    assert taken(past, parked, NOW + 10).parked_since == since
    assert taken(past, seen(), NOW + 20).parked_since is None


def test_a_run_changes_by_its_word_its_progress_or_its_time() -> None:
    first = seen(progress=Progress(done=1, total=5, unit="steps"), updated_at=at(NOW))
    base = signature(first)
    others = [
        seen("queued", progress=first.snapshot.progress, updated_at=at(NOW)),
        seen(phase=Phase.STOPPING, progress=first.snapshot.progress, updated_at=at(NOW)),
        *(
            seen(progress=progress, updated_at=at(NOW))
            for progress in (
                Progress(done=2, total=5, unit="steps"),
                Progress(done=1, total=6, unit="steps"),
                Progress(done=1, total=5, unit="nodes"),
            )
        ),
        seen(progress=first.snapshot.progress, updated_at=at(NOW + 1)),
    ]
    assert len({base, *map(signature, others)}) == 7
    assert signature(seen(), base) == base, "an entry of a list shows less"
    assert signature(seen(progress=first.snapshot.progress), base) == base
    assert signature(seen(updated_at=at(NOW)), base) == base
    assert signature(seen(), "odd") == signature(seen())


def test_a_change_is_noted_when_it_is_seen_and_at_the_provider_s_time_where_nobody_looked() -> None:
    first = taken(WaitProgress(began=NOW - 100), seen(updated_at=at(NOW - 40)))
    assert first.changed_at == NOW - 40
    assert taken(first, seen(updated_at=at(NOW - 40)), NOW + 9).changed_at == NOW - 40
    assert taken(first, seen(updated_at=at(NOW + 5)), NOW + 10).changed_at == NOW + 10
    first.resumed = True
    assert taken(first, seen(updated_at=at(NOW + 15)), NOW + 20).changed_at == NOW + 15
    assert not first.resumed
    first.resumed = True
    assert taken(first, seen(updated_at=at(NOW - 50)), NOW + 30).changed_at == NOW + 15, "it never goes back"


def test_where_nobody_asks_for_changes_none_is_noted() -> None:
    past = taken(WaitProgress(), seen("paused", Phase.PAUSED), stalls=False)
    assert (past.parked_since, past.changed_at, past.signature) == (NOW, None, None)


@pytest.mark.parametrize(
    ("past", "limits", "now", "ended"),
    [
        (WaitProgress(parked_since=NOW), {"max_paused": 60}, NOW + 59, None),
        (WaitProgress(parked_since=NOW), {"max_paused": 60}, NOW + 60, ("max_paused", "paused or waiting for 60 s")),
        (WaitProgress(), {"max_paused": 60}, NOW + 60, None),
        (WaitProgress(parked_since=NOW), {"max_spend": 9}, NOW + 60, None),
        (WaitProgress(changed_at=NOW), {"max_stalled": 60}, NOW + 59, None),
        (
            WaitProgress(changed_at=NOW), {"max_stalled": 60}, NOW + 60,
            ("max_stalled", "nothing has changed for 60 s of at most 60 s"),
        ),
        (WaitProgress(changed_at=NOW, parked_since=NOW), {"max_stalled": 60}, NOW + 60, None),
        (WaitProgress(changed_at=NOW, failing_since=NOW), {"max_stalled": 60}, NOW + 60, None),
    ],
)  # fmt: skip
def test_a_clock_ends_a_wait_at_its_moment(
    past: WaitProgress, limits: dict[str, Any], now: float, ended: tuple[str, str] | None
) -> None:
    assert reached(NYX, options(**limits), past, None, now) == ended


@pytest.mark.parametrize(
    ("spent", "figure"),
    [(4.99, None), (5, "5 of at most 5 USD are spent"), (6.5, "6.5 of at most 5 USD are spent"), (None, None)],
)
def test_a_run_may_spend_less_than_its_limit(spent: float | None, figure: str | None) -> None:
    last = seen(details={} if spent is None else {"spent_usd": spent}).snapshot
    found = reached(NYX, options(max_spend=5), WaitProgress(), last, NOW)
    assert found == (None if figure is None else ("max_spend", figure))
    assert reached(NYX, options(), WaitProgress(), last, NOW) is None
    assert reached(NEXIO, options(max_spend=5), WaitProgress(), last, NOW) is None
    assert reached(NYX, options(max_spend=5), WaitProgress(), None, NOW) is None


def test_moments_are_told_where_there_is_a_limit_and_a_clock() -> None:
    both = options(max_paused=60, max_stalled=90)
    assert paused_until(both, WaitProgress(parked_since=NOW)) == NOW + 60
    assert stalled_until(both, WaitProgress(changed_at=NOW)) == NOW + 90
    assert paused_until(options(), WaitProgress(parked_since=NOW)) is None
    assert stalled_until(options(), WaitProgress(changed_at=NOW)) is None


def test_the_clocks_of_a_wait_travel_whole_and_have_their_defaults() -> None:
    made = options(
        timeout=10, error_budget=20, auth_grace=0, max_paused=30, max_stalled=40, max_spend=5, wanted=["a", "b"],
        interval=6, factor=1.5, ceiling=70,
    )  # fmt: skip
    assert WaitOptions.from_dict(made.to_dict()) == made
    assert (made.deadline, made.error_budget, made.auth_grace, made.wanted) == (NOW + 10, 20, 0, ("a", "b"))
    assert (made.cadence.first, made.cadence.factor, made.cadence.ceiling) == (6, 1.5, 70)
    usual = options()
    assert (usual.deadline, usual.error_budget, usual.auth_grace) == (NOW + 604_800, 900, 300)
    assert (usual.max_paused, usual.max_stalled, usual.max_spend, usual.cadence) == (None, None, None, NYX.cadence)
    assert options(deadline=5.0).deadline == 5.0
    assert SUBMIT_GRACE == 300.0
    earlier = {name: usual.to_dict()[name] for name in ("deadline", "error_budget", "max_paused", "cadence")}
    assert WaitOptions.from_dict(earlier) == usual
