"""The answer to a submit is lost: the run is looked for by its mark, and nothing else is ever taken for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest

from runops.core.waiting.intent import new_mark
from runops.dagster import NyxResource, build_run_asset
from tests.services import CALLS


def asset_of(provider: str = "nyx", **options: Any) -> dg.AssetsDefinition:
    return build_run_asset(key="external", resource_key=provider, call=CALLS[provider], **options)


def lose(runs: Any, when: str = "after", **more: Any) -> None:
    runs.emulator.add_fault(kind="reset", provider=runs.provider.name, action="submit", when=when, **more)


def ids(runs: Any) -> list[str]:
    return [run["run_id"] for run in runs.emulator.runs(provider=runs.provider.name)]


@pytest.mark.parametrize("hidden", [0, 40, 120, 290])
def test_a_run_that_shows_up_late_is_found_and_waited_for(service: Callable[[str], Any], hidden: float) -> None:
    runs = service("nyx")
    runs.emulator.set_defaults("nyx", script="succeeded", seconds=500, hidden_seconds=hidden)
    lose(runs)
    ended = runs.materialize(asset_of())
    assert ended.materialized == ["external"]
    assert runs.submits == 1
    assert ids(runs)[0] in ended.log


def test_a_submit_that_was_never_carried_out_is_sent_once_more(service: Callable[[str], Any], clock: Any) -> None:
    runs = service("nyx")
    lose(runs, when="before")
    ended = runs.materialize(asset_of())
    assert ended.materialized == ["external"]
    assert (runs.submits, len(ids(runs))) == (2, 1)
    assert clock.now - clock.began > 300


@pytest.mark.parametrize("how", ["step", "resource"])
def test_no_mark_is_sent_where_the_user_wants_none(service: Callable[[str], Any], how: str) -> None:
    runs = service("nyx")
    if how == "resource":
        runs.resource = NyxResource(api_key="k", base_url=runs.base_url, mark_runs=False)
    runs.materialize(asset_of(mark_runs=False if how == "step" else None))
    assert runs.emulator.runs(provider="nyx")[0]["body"]["name"] == "Nightly audit"


def test_the_mark_begins_with_the_root_run_the_step_and_the_partition(service: Callable[[str], Any]) -> None:
    runs = service("nyx")
    asset = asset_of(partitions_def=dg.StaticPartitionsDefinition(["a"]))
    ended = runs.materialize(asset, partition_key="a")
    name = runs.emulator.runs(provider="nyx")[0]["body"]["name"]
    assert name.rpartition(" ")[2][:8] == new_mark(f"{ended.result.run_id}/external/a")[:8]


@pytest.mark.parametrize("provider", ["onepin", "b3os"])
def test_a_single_new_run_is_taken_up_only_where_the_user_says_so(service: Callable[[str], Any], provider: str) -> None:
    runs = service(provider)
    lose(runs, count=2)
    refused = runs.materialize(asset_of(provider))
    assert refused.failure.metadata["runops/error"].value == "SubmitUncertainError"
    assert refused.of(dg.DagsterEventType.STEP_UP_FOR_RETRY) == []
    runs.emulator.reset(["runs"])
    assert runs.materialize(asset_of(provider, adopt_uncertain=True)).materialized == ["external"]
    assert runs.submits == 2


def test_a_list_that_stays_away_makes_a_retry_look_again_and_send_nothing(service: Callable[[str], Any]) -> None:
    runs = service("nyx")
    lose(runs)
    # The read before the submit is served; the first search and its last look are not, the retry is.
    runs.emulator.add_fault(kind="status", status=500, provider="nyx", method="GET", skip=1, count=130)
    ended = runs.materialize(asset_of(retry_policy=dg.RetryPolicy(max_retries=3)))
    assert ended.materialized == ["external"]
    assert len(ended.of(dg.DagsterEventType.STEP_UP_FOR_RETRY)) >= 1
    assert runs.submits == 1


def test_a_key_that_may_not_list_submits_and_says_so_in_the_log_of_the_step(service: Callable[[str], Any]) -> None:
    runs = service("b3os")
    runs.emulator.add_fault(kind="status", status=403, provider="b3os", action="list", count=None)
    ended = runs.materialize(asset_of("b3os"))
    assert ended.materialized == ["external"]
    assert "could not be listed before the submit" in ended.log


def test_a_strangers_run_stands_in_the_way_and_is_never_taken_or_cancelled(
    service: Callable[[str], Any], clock: Any
) -> None:
    runs = service("nyx")
    lose(runs, when="before")
    same = {"name": CALLS["nyx"]["name"], "budget_usd": CALLS["nyx"]["budget_usd"]}
    theirs: list[Any] = []
    clock.on_sleep = lambda seconds: (
        theirs or theirs.append(runs.made(script="forever", parents={"config_name": "nightly"}, fields=same))
    )
    ended = runs.materialize(asset_of(on_conflict="fail"))
    assert ended.failure.metadata["runops/error"].value == "ConflictError"
    assert theirs[0].run_id in ended.failure.description
    assert ids(runs) == [theirs[0].run_id]
    assert runs.cancels == 0


@pytest.mark.parametrize(("hidden", "cancels"), [(5, 1), (10_000, 0)], ids=["it shows by then", "it does not"])
def test_terminate_while_the_run_is_looked_for_ends_at_once_and_cancels_what_bears_the_mark(
    service: Callable[[str], Any],
    clock: Any,
    terminate_newest: Callable[[dg.DagsterInstance], None],
    hidden: float,
    cancels: int,
) -> None:
    runs = service("nyx")
    runs.emulator.set_defaults("nyx", script="forever", hidden_seconds=hidden)
    lose(runs)

    def terminate() -> None:
        clock.on_sleep = lambda seconds: None
        clock.now += 30
        terminate_newest(runs.instance)

    clock.on_sleep = lambda seconds: terminate() if runs.submits else None
    ended = runs.materialize(asset_of())
    status = runs.instance.get_run_by_id(ended.result.run_id).status
    assert status is dg.DagsterRunStatus.CANCELED
    assert (runs.submits, runs.cancels) == (1, cancels)
    assert clock.now - clock.began < 60
    assert ("may yet show up" in ended.log) == (not cancels)


def test_terminate_while_the_run_is_looked_for_cancels_nobody_elses_run(
    service: Callable[[str], Any], clock: Any, terminate_newest: Callable[[dg.DagsterInstance], None]
) -> None:
    runs = service("b3os")
    runs.emulator.set_defaults("b3os", script="forever")
    lose(runs)
    clock.on_sleep = lambda seconds: terminate_newest(runs.instance) if runs.submits else None
    runs.materialize(asset_of("b3os", adopt_uncertain=True))
    assert runs.cancels == 0


def test_a_grace_that_is_none_is_refused_when_the_definition_is_built() -> None:
    with pytest.raises(ValueError, match="submit_grace"):
        asset_of(submit_grace=0)
