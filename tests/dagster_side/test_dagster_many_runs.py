"""Many external runs in one step: what they come to, what is kept over tries, and what is cancelled."""

from __future__ import annotations

import asyncio
import signal
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import dagster as dg
import httpx
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run
from pytest_mock import MockerFixture

import runops.dagster
from runops.core import ConfigurationError, Outcome, find
from runops.core.many.ledger import key_of_call
from runops.core.many.rows import Row, RowState
from runops.core.waiting.intent import new_mark
from runops.dagster import (
    ProviderResource,
    RunsResult,
    build_run_asset,
    build_run_op,
    build_run_sensor,
    cancel_orphans,
    wait_for_runs,
)
from runops.dagster.many.records import SetRecords, record_of, rows_of
from runops.dagster.many.verdicts import MOST_IN_TABLE
from runops.emulator.server import Server
from runops.emulator.store import Emulator
from tests.dagster_side.conftest import KEY, Ended
from tests.leaping import leaping, runs_were_read

OFTEN = 0.05
"""Seconds between two looks."""
Told = dict[str, Any]


@pytest.fixture
def emulator(request: pytest.FixtureRequest, served: Server) -> Iterator[Emulator]:
    """The emulator, empty, on the real clock: an event loop sleeps by no other."""
    served.emulator.reset(seed=zlib.crc32(request.node.nodeid.encode()))
    yield served.emulator
    served.emulator.reset()


def call(number: int, script: str = "succeeded", seconds: float = 0.1) -> Told:
    """A submission to B3OS whose run goes as it says itself."""
    return {
        "workflow_id": "wf",
        "payload": {"number": number, "emulator": {"script": script, "seconds": seconds}},
    }


def calls_of(**scripts: int) -> list[Told]:
    """So many submissions of each script."""
    named = [script for script, count in scripts.items() for _ in range(count)]
    return [call(number, script) for number, script in enumerate(named)]


def unscripted(count: int) -> list[Told]:
    """Submissions whose runs go as the emulator is told at that time."""
    return [{"workflow_id": "wf", "payload": {"number": number}} for number in range(count)]


def audits(count: int) -> list[Told]:
    """Submissions to Nyx, each of a config of its own."""
    same = {"target": {"url": "https://agent.example.com"}, "objective": "talk", "budget_usd": 5}
    return [
        {"config_name": f"config-{number}", "name": f"audit {number}", "severity_target": "high", **same}
        for number in range(count)
    ]


def asset_of(calls: Any, provider: str = "b3os", **options: Any) -> dg.AssetsDefinition:
    options.setdefault("poll_interval", OFTEN)
    return build_run_asset(key="many", resource_key=provider, calls=calls, **options)


def metadata_of(ended: Any) -> Mapping[str, dg.MetadataValue[Any]]:
    (event,) = ended.of(dg.DagsterEventType.ASSET_MATERIALIZATION)
    return event.step_materialization_data.materialization.metadata


def numbers_of(runs: Any) -> Counter[int]:
    """How often each submission of B3OS has started a run."""
    return Counter(run["body"]["payload"]["number"] for run in runs.emulator.runs(provider="b3os"))


# --- the whole -------------------------------------------------------------------------------------------------


def test_many_runs_materialise_one_asset_with_a_table_and_counts(service: Callable[[str], Any]) -> None:
    runs = service("b3os")
    ended = runs.materialize(asset_of(calls_of(succeeded=12)))
    assert (ended.materialized, runs.submits) == (["many"], 12)
    assert ended.checks_of == {"many": (True, dg.AssetCheckSeverity.WARN)}
    metadata = metadata_of(ended)
    table = metadata["runops/runs"]
    assert isinstance(table, dg.TableMetadataValue)
    assert [record.data["index"] for record in table.records] == list(range(12))
    assert {record.data["outcome"] for record in table.records} == {"succeeded"}
    assert {record.data["run"] for record in table.records} == {
        run["run_id"] for run in runs.emulator.runs(provider="b3os")
    }
    counted = {name: metadata[f"runops/{name}"].value for name in ("total", "good", "outcomes/succeeded", "kept")}
    assert counted == {"total": 12, "good": 12, "outcomes/succeeded": 12, "kept": 0}
    assert metadata["runops/spend"].value > 0
    assert metadata["runops/spend_unit"].value == "CU"


def test_the_table_is_bounded_and_begins_with_what_went_wrong(service: Callable[[str], Any]) -> None:
    runs = service("b3os")
    listed = [call(number, "failed" if number == 101 else "succeeded", 0) for number in range(MOST_IN_TABLE + 5)]
    ended = runs.materialize(asset_of(listed, require="any", max_active=200))
    table = metadata_of(ended)["runops/runs"]
    assert isinstance(table, dg.TableMetadataValue)
    assert len(table.records) == MOST_IN_TABLE
    assert (table.records[0].data["index"], table.records[0].data["verdict"]) == (101, "fail")
    assert "Not in the table of runs | 5" in str(metadata_of(ended)["runops/overview"].value)


def test_no_more_runs_are_active_than_was_said(service: Callable[[str], Any]) -> None:
    runs = service("nyx")
    runs.emulator.set_defaults("nyx", script="succeeded", seconds=0.3)
    ended = runs.materialize(asset_of(audits(9), "nyx", max_active=3))
    assert ended.materialized == ["many"]
    spans = [(run["created"], run["changed"]) for run in runs.emulator.runs(provider="nyx")]
    assert max(sum(began <= at < end for began, end in spans) for at, _ in spans) <= 3


@pytest.mark.parametrize(
    ("scripts", "options", "checks", "materialised"),
    [
        ({"succeeded": 3, "failed": 1}, {"require": 0.75}, (False, dg.AssetCheckSeverity.WARN), ["many"]),
        ({"succeeded": 1, "failed": 3}, {"require": "any"}, (False, dg.AssetCheckSeverity.WARN), ["many"]),
        (
            {"succeeded": 2, "cancelled": 1},
            {"on_outcome": {"cancelled": "warn"}},
            (False, dg.AssetCheckSeverity.WARN),
            ["many"],
        ),
        ({"cancelled": 3}, {"on_outcome": {"cancelled": "skip"}}, (False, dg.AssetCheckSeverity.WARN), []),
        (
            {"succeeded": 1, "cancelled": 2},
            {"on_outcome": {"cancelled": "skip"}},
            (True, dg.AssetCheckSeverity.WARN),
            ["many"],
        ),
    ],
)
def test_what_is_required_decides_what_becomes_of_the_asset(
    service: Callable[[str], Any], scripts: dict[str, int], options: Told, checks: Any, materialised: list[str]
) -> None:
    ended = service("b3os").materialize(asset_of(calls_of(**scripts), **options))
    assert ended.success
    assert (ended.materialized, ended.checks_of) == (materialised, {"many": checks})


def test_too_few_good_runs_fail_the_step_and_say_which(service: Callable[[str], Any]) -> None:
    runs = service("b3os")
    ended = runs.materialize(asset_of(calls_of(succeeded=3, failed=2), require=0.8))
    assert not ended.success
    text = ended.failure.description
    assert "3 succeeded, 2 failed" in text
    assert "3 are good of 4 required" in text
    assert "[3] b3os run" in text
    assert "A retry submits anew what has failed" in text


def test_a_set_that_is_decided_early_cancels_what_goes_on_and_submits_no_more(service: Callable[[str], Any]) -> None:
    runs = service("b3os")
    listed = [call(0, "failed", 0), *(call(number, "forever") for number in range(1, 12))]
    ended = runs.materialize(asset_of(listed, stop_early=True, max_active=4))
    assert not ended.success
    made = runs.emulator.runs(provider="b3os")
    assert len(made) < 12
    assert all(run["over"] for run in made)
    assert runs.cancels == len(made) - 1


def test_what_all_runs_spend_together_ends_them_all(service: Callable[[str], Any]) -> None:
    runs = service("nyx")
    # No named script: those spend less again after a second.
    runs.emulator.set_defaults("nyx", script=[{"at": 0, "set": {"status": "running", "spent_usd": 2.0}}])
    ended = runs.materialize(asset_of(audits(4), "nyx", max_spend=7))
    assert not ended.success
    assert "all runs together have spent 8 USD of at most 7 USD" in ended.failure.description
    assert runs.cancels == 4


def test_given_runs_are_waited_for_and_never_cancelled(service: Callable[[str], Any]) -> None:
    runs = service("b3os")
    refs = [runs.made(script=script, seconds=0.1) for script in ("succeeded", "failed", "succeeded")]
    asset = build_run_asset(
        key="many", resource_key="b3os", run_ids=[ref.run_id for ref in refs], require="any", poll_interval=OFTEN
    )
    ended = runs.materialize(asset)
    assert ended.materialized == ["many"]
    assert (runs.submits, runs.cancels) == (0, 0)
    assert metadata_of(ended)["runops/outcomes/failed"].value == 1


def test_an_op_gives_out_the_counts_and_a_short_entry_for_each_run(service: Callable[[str], Any]) -> None:
    runs = service("b3os")
    op = build_run_op(name="many", resource_key="b3os", calls=calls_of(succeeded=2, failed=1), require=0.6)

    @dg.job(resource_defs={"b3os": runs.resource})
    def job() -> None:
        op()

    value = job.execute_in_process(instance=runs.instance).output_for_node("many")
    assert (value["total"], value["outcomes"], value["met"]) == (3, {"failed": 1, "succeeded": 2}, True)
    assert [(run["index"], run["outcome"]) for run in value["runs"]] == [
        (0, "succeeded"),
        (1, "succeeded"),
        (2, "failed"),
    ]
    assert [run["outcome"] for run in value["failed"]] == ["failed"]


def test_a_function_that_is_called_directly_waits_too(service: Callable[[str], Any]) -> None:
    runs = service("b3os")
    context = dg.build_op_context(instance=runs.instance)
    ended = wait_for_runs(context, runs.resource, calls=calls_of(succeeded=2), poll_interval=OFTEN)
    assert isinstance(ended, RunsResult)
    assert [row.outcome for row in ended.rows] == [Outcome.SUCCEEDED] * 2
    assert (ended.met, ended.submitted, ended.kept, ended.failed) == (True, 2, 0, [])


# --- what is wrong is refused before anything is sent ------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"calls": []}, r"calls is empty"),
        ({"calls": "wf"}, r"calls must be a list"),
        ({"calls": {"workflow_id": "wf"}}, r"calls must be a list"),
        ({"calls": [call(0), 7]}, r"calls\[1\]"),
        ({"run_ids": []}, r"run_ids is empty"),
        ({"run_ids": ["a", ""]}, r"run_ids\[1\]"),
        ({"calls": [call(0)], "run_ids": ["a"]}, r"give either"),
        ({"calls": [call(0)], "max_active": 0}, r"max_active must be a whole number, 1 or more, not 0"),
        ({"calls": [call(0)], "max_active": True}, r"max_active must be a whole number"),
        ({"calls": [call(0)], "max_active": -3}, r"max_active must be a whole number"),
        ({"calls": [call(0)], "require": 0}, r"require=0"),
        ({"calls": [call(0)], "require": 1.5}, r"require=1.5"),
        ({"calls": [call(0)], "require": "al"}, r"require='al'"),
        ({"calls": [call(0)], "max_spend": 0}, r"max_spend"),
        ({"calls": [call(0)], "stop_early": "yes"}, r"stop_early must be True or False"),
        ({"call": call(0), "max_active": 3}, r"max_active belongs to calls= and run_ids="),
        ({"calls": [call(0)], "max_activ": 3}, r"'max_activ'. Did you mean 'max_active'"),
        ({"calls": [call(0)], "parents": {"workflow_id": "w"}}, r"parents belongs to"),
    ],
)
def test_a_wrong_argument_is_refused_when_the_definition_is_built(given: Told, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        build_run_asset(key="many", resource_key="b3os", **given)


@pytest.mark.parametrize(
    ("listed", "text"),
    [
        (
            [*calls_of(succeeded=700), {"workflow_di": "wf"}],
            r"calls\[700\].*unknown arguments: workflow_di; .* Did you mean 'workflow_id'",
        ),
        ([*calls_of(succeeded=700), {"payload": {}}], r"calls\[700\].*workflow_id"),
        ([*calls_of(succeeded=700), call(5)], r"calls\[700\] is the same submission as calls\[5\]"),
        ([], r"calls is empty"),
        (None, r"calls must be a list"),
    ],
)
def test_a_wrong_call_is_named_by_its_index_before_the_first_submit(
    service: Callable[[str], Any], listed: Any, text: str
) -> None:
    runs = service("b3os")
    ended = runs.materialize(asset_of(lambda context: listed))
    assert runs.submits == 0
    with pytest.raises(AssertionError, match=text):
        raise AssertionError(ended.failure.description)
    assert ended.failure.description.startswith("build_run_asset('many')")


def test_the_same_run_given_twice_is_refused(service: Callable[[str], Any]) -> None:
    runs = service("b3os")
    ref = runs.made(script="succeeded")
    with pytest.raises(ConfigurationError, match=r"refs\[1\] is the same run as refs\[0\]"):
        wait_for_runs(dg.build_op_context(instance=runs.instance), runs.resource, refs=[ref, ref])


# --- over tries ------------------------------------------------------------------------------------------------


def test_a_retry_submits_only_what_has_failed_and_keeps_the_rest(service: Callable[[str], Any]) -> None:
    runs = service("b3os")
    runs.emulator.set_defaults("b3os", script="failed", seconds=0)
    listed = [call(number) if number % 3 else unscripted(9)[number] for number in range(9)]

    def calls(context: dg.AssetExecutionContext) -> list[Told]:
        if context.retry_number:
            runs.emulator.set_defaults("b3os", script="succeeded", seconds=0)
        # In another order: a list may be rendered anew.
        return listed[::-1] if context.retry_number else listed

    ended = runs.materialize(asset_of(calls, retry_policy=dg.RetryPolicy(max_retries=2)))
    assert ended.materialized == ["many"]
    assert numbers_of(runs) == {number: 1 if number % 3 else 2 for number in range(9)}
    assert "Of 9 runs 6 of an earlier try are kept, 3 are submitted anew" in ended.log
    counted = {name: metadata_of(ended)[f"runops/{name}"].value for name in ("kept", "submitted", "total")}
    assert counted == {"kept": 6, "submitted": 3, "total": 9}


def test_what_no_retry_could_change_is_not_retried(service: Callable[[str], Any]) -> None:
    runs = service("b3os")
    ended = runs.materialize(asset_of(calls_of(succeeded=2, cancelled=1), retry_policy=dg.RetryPolicy(max_retries=2)))
    assert not ended.success
    assert runs.submits == 3
    assert "A retry could not change that" in ended.failure.description


@pytest.mark.parametrize("nth", [1, 2, 3, 5])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("provider", ["nyx", "b3os"])
def test_a_step_that_breaks_down_at_any_record_submits_each_run_once_over_its_retries(
    service: Callable[[str], Any], mocker: MockerFixture, provider: str, when: str, nth: int
) -> None:
    runs = service(provider)
    runs.emulator.set_defaults(provider, script="succeeded", seconds=0.1)
    real, writes = SetRecords.changed, iter(range(1, 1000))
    breaks: list[int] = []

    def changed(self: SetRecords, *args: Any) -> None:
        # Everything that this try writes from then on: the process is gone.
        gone = self._context.retry_number == 0 and (bool(breaks) or next(writes) == nth)
        if gone and (breaks or when == "before"):
            breaks.append(nth)
            raise RuntimeError("out of disk")
        real(self, *args)
        if gone:
            breaks.append(nth)
            raise RuntimeError("out of disk")

    mocker.patch.object(SetRecords, "changed", changed)
    listed = audits(6) if provider == "nyx" else unscripted(6)
    options = {"submit_grace": 0.2, "adopt_uncertain": True} if provider == "b3os" else {"submit_grace": 0.2}
    ended = runs.materialize(
        asset_of(listed, provider, retry_policy=dg.RetryPolicy(max_retries=2), max_active=3, **options)
    )
    assert len(runs.emulator.runs(provider=provider)) <= 6
    if ended.success:
        assert len(runs.emulator.runs(provider=provider)) == 6
    else:
        # Sent or not, nobody can tell of one run at the most, which bears no mark.
        assert provider == "b3os"
        assert "1 unclear" in ended.failure.description
    assert runs.cancels == 0


def test_the_marks_of_a_set_begin_with_the_root_run_the_step_the_partition_the_set_and_the_key(
    service: Callable[[str], Any],
) -> None:
    runs, listed = service("nyx"), audits(2)
    runs.emulator.set_defaults("nyx", script="succeeded", seconds=0.1)
    ended = runs.materialize(
        asset_of(listed, "nyx", partitions_def=dg.StaticPartitionsDefinition(["a"])), partition_key="a"
    )
    begins = {run["body"]["name"].rpartition(" ")[2][:8] for run in runs.emulator.runs(provider="nyx")}
    keys = [key_of_call(find("nyx").call(**each), f"{runs.base_url}") for each in listed]
    assert begins == {new_mark(f"{ended.result.run_id}/many/a/set 0/{key}")[:8] for key in keys}


# --- Terminate -------------------------------------------------------------------------------------------------


class Interrupting(httpx.AsyncBaseTransport):
    """Real connections; Terminate comes while the ``nth`` request of a method is under way."""

    def __init__(self, instance: dg.DagsterInstance, method: str, nth: int) -> None:
        self._instance = instance
        self._method = method
        self._left = nth
        self._real = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.method == self._method:
            self._left -= 1
            if self._left == 0:
                self._instance.report_run_canceling(self._instance.get_runs(limit=1)[0])
                signal.raise_signal(signal.SIGINT)
                await asyncio.sleep(0.3)
        return await self._real.handle_async_request(request)

    async def aclose(self) -> None:
        await self._real.aclose()


@pytest.fixture
def terminated(mocker: MockerFixture, instance: dg.DagsterInstance) -> Callable[[str, int], None]:
    """``terminated("POST", 3)``: Terminate comes during the third POST."""

    def arrange(method: str, nth: int) -> None:
        made = ProviderResource.async_client

        def through(self: ProviderResource, **settings: Any) -> Any:
            transport = Interrupting(instance, method, nth)
            client = made(self, **settings, transport=transport)
            close = client.close

            async def close_both() -> None:
                await close()
                await transport.aclose()

            mocker.patch.object(client, "close", close_both)
            return client

        mocker.patch.object(ProviderResource, "async_client", through)

    return arrange


@pytest.mark.parametrize(("method", "nth"), [("POST", 1), ("POST", 4), ("GET", 1), ("GET", 6), ("GET", 20)])
@pytest.mark.parametrize("provider", ["nyx", "b3os"])
@pytest.mark.parametrize("retries", [0, 2])
def test_terminate_leaves_nothing_behind_wherever_it_strikes(
    service: Callable[[str], Any],
    terminated: Callable[[str, int], None],
    provider: str,
    method: str,
    nth: int,
    retries: int,
) -> None:
    runs = service(provider)
    runs.emulator.set_defaults(provider, script="forever")
    terminated(method, nth)
    listed = audits(8) if provider == "nyx" else unscripted(8)
    policy = dg.RetryPolicy(max_retries=retries) if retries else None
    ended = runs.materialize(asset_of(listed, provider, max_active=6, retry_policy=policy))
    run = runs.instance.get_run_by_id(ended.result.run_id)
    assert run.status is dg.DagsterRunStatus.CANCELED
    made = runs.emulator.runs(provider=provider)
    assert len(made) < 8
    assert [each["run_id"] for each in made if not each["over"]] == []
    assert [each["cancels"] for each in made] == [1] * len(made)
    assert len(runs.emulator.requests(provider=provider, action="submit")) == len(made)


def test_terminate_leaves_runs_alone_where_the_step_was_told_so(
    service: Callable[[str], Any], terminated: Callable[[str, int], None]
) -> None:
    runs = service("b3os")
    runs.emulator.set_defaults("b3os", script="forever")
    terminated("POST", 4)
    ended = runs.materialize(asset_of(unscripted(8), cancel_on_interrupt=False))
    assert runs.cancels == 0
    assert "runs go on: this wait is not to cancel them" in ended.log


# --- what others see of it -------------------------------------------------------------------------------------


@pytest.fixture
def own(service: Callable[[str], Any]) -> Iterator[Callable[[str], Any]]:
    """A provider, and an instance that no other test has seen."""
    with dg.DagsterInstance.ephemeral() as fresh:

        def make(name: str) -> Any:
            runs = service(name)
            runs.instance = fresh
            return runs

        yield make


def timed_out(runs: Any, calls: list[Told], **options: Any) -> Ended:
    """A step whose ``timeout`` runs out once each of its runs was submitted and read."""
    name = runs.provider.name
    with leaping(runops.dagster, runs_were_read(runs.emulator, name, len(calls))):
        return runs.materialize(asset_of(calls, name, timeout=3600, **options))


def left(runs: Any, *, cancel: bool = False) -> list[Told]:
    context = dg.build_op_context(instance=runs.instance)
    return cancel_orphans(context, {runs.provider.name: runs.resource}, cancel=cancel)


@pytest.mark.parametrize("provider", ["nyx", "b3os"])
def test_what_a_set_has_left_behind_is_listed_and_cancelled_one_by_one(own: Any, provider: str) -> None:
    runs = own(provider)
    runs.emulator.set_defaults(provider, script="forever")
    listed = audits(4) if provider == "nyx" else unscripted(4)
    ended = timed_out(runs, listed, cancel_on_timeout=False)
    assert not ended.success
    found = left(runs)
    made = {run["run_id"] for run in runs.emulator.runs(provider=provider)}
    assert {each["run_id"] for each in found} == made
    assert len(made) == 4
    assert {each["standing"] for each in found} == {"left"}
    assert sorted(each["holder"]["index"] for each in found) == [0, 1, 2, 3]
    assert {each["act"] for each in left(runs, cancel=True)} == {"cancelled"}
    assert runs.cancels == 4
    assert left(runs) == []

    # What was cancelled so is submitted anew.
    runs.emulator.set_defaults(provider, script="succeeded", seconds=0)
    assert again(runs, asset_of(listed, provider), ended, from_failure=True).success
    assert runs.submits == 8


def test_a_set_whose_dagster_run_goes_on_is_not_listed(own: Any) -> None:
    runs = own("b3os")
    runs.emulator.set_defaults("b3os", script="forever")
    ended = timed_out(runs, unscripted(2), cancel_on_timeout=False)
    assert len(left(runs)) == 2
    runs.instance.add_run_tags(ended.result.run_id, {"dagster/will_retry": "true"})
    assert left(runs) == []


def test_many_runs_are_one_tag_and_a_sensor_leaves_them_out(own: Any) -> None:
    runs = own("b3os")
    ended = runs.materialize(asset_of(calls_of(succeeded=5)))
    ours = {name: value for name, value in ended.tags.items() if name.startswith("runops")}
    assert ours == {"runops/submits": "true", "runops.many.submitted/b3os": "true"}
    stranger = runs.made(script="succeeded", seconds=0, parents={"workflow_id": "wf"})
    sensor = build_run_sensor(name="watch", resource_key="b3os", targets={"outside": "wf"}, lookback=3600)
    with dg.build_sensor_context(instance=runs.instance, resources={"b3os": runs.resource}) as context:
        tick = sensor.evaluate_tick(context)
    reported = {
        str(event.metadata["runops/run_id"].value)
        for event in tick.asset_events
        if isinstance(event, dg.AssetMaterialization)
    }
    assert reported == {stranger.run_id}


def test_no_key_and_no_payload_stands_in_a_record_or_in_what_fails(own: Any) -> None:
    runs = own("b3os")
    secret = "canary-payload-77aa"
    listed = [{"workflow_id": "wf", "payload": {"number": number, "secret": secret}} for number in range(3)]
    runs.emulator.set_defaults("b3os", script="failed", seconds=0)
    ended = runs.materialize(asset_of(listed))
    assert not ended.success
    written = ended.log + repr(ended.failure)
    assert secret not in written
    assert KEY not in written


def records_of(runs: Any, run_id: str) -> Iterator[Told]:
    """What the log of a Dagster run holds of a set."""
    for entry in runs.instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        value = entry.dagster_event.engine_event_data.metadata.get("runops/record")
        if isinstance(value, dg.JsonMetadataValue):
            record: Any = value.data
            yield record


def test_a_record_tells_runs_of_several_parents_apart_and_repeats_none_that_all_share() -> None:
    first, second = {"workflow_id": "wf-1"}, {"workflow_id": "wf-2"}
    rows = [
        Row(index=nth, key=f"key-{nth}", state=RowState.ENDED, run_id=f"run-{nth}", parents=parents)
        for nth, parents in enumerate((first, second, first))
    ]
    for some in (rows, rows[::-1], rows[1:]):
        assert [row for row, _ in rows_of(record_of(some))] == some
    assert str(record_of([rows[0], rows[2]])).count("wf-1") == 1


def test_an_event_holds_only_the_rows_that_have_changed(own: Any) -> None:
    runs = own("nyx")
    runs.emulator.set_defaults("nyx", script="succeeded", seconds=0)
    ended = runs.materialize(asset_of(audits(30), "nyx", max_active=10))
    rows = [len(record.get("rows", ())) for record in records_of(runs, ended.result.run_id)]
    # Planned, then submitting, submitted and ended: three changes of each run, however they are grouped.
    assert sum(rows) <= 3 * 30
    assert max(rows) < 30


# --- executed again --------------------------------------------------------------------------------------------


def again(runs: Any, asset: dg.AssetsDefinition, of: Ended, *, from_failure: bool) -> Ended:
    """Re-execute a Dagster run as the web interface marks it: what its parent left undone, or all of it."""
    instance = runs.instance
    parent = instance.get_run_by_id(of.result.run_id)
    definitions = dg.Definitions(
        assets=[asset], resources={runs.provider.name: runs.resource}, executor=dg.in_process_executor
    )
    job = definitions.resolve_implicit_global_asset_job_def()
    run = instance.create_run_for_job(
        job,
        parent_run_id=parent.run_id,
        root_run_id=parent.root_run_id or parent.run_id,
        tags={"dagster/is_resume_retry": "true"} if from_failure else {},
    )
    return Ended(execute_run(InMemoryJob(job), run, instance, raise_on_error=False), instance)


def mixed(count: int) -> list[Told]:
    """Submissions of which every second says how it goes, and the others go as the emulator is told at that time."""
    return [call(number, seconds=0) if number % 2 else unscripted(count)[number] for number in range(count)]


def test_a_re_execution_from_failure_keeps_what_there_is_over_several_generations(own: Any) -> None:
    runs = own("b3os")
    runs.emulator.set_defaults("b3os", script="failed", seconds=0)
    asset = asset_of(mixed(6))
    first = runs.materialize(asset)
    second = again(runs, asset, first, from_failure=True)
    assert not first.success
    assert not second.success
    runs.emulator.set_defaults("b3os", script="succeeded", seconds=0)
    third = again(runs, asset, second, from_failure=True)
    assert third.materialized == ["many"]
    assert numbers_of(runs) == {number: 1 if number % 2 else 3 for number in range(6)}
    assert "Of 6 runs 3 of an earlier try are kept, 3 are submitted anew" in third.log


def test_a_re_execution_of_all_steps_submits_all_anew_once_nothing_may_be_alive(own: Any) -> None:
    runs = own("b3os")
    asset = asset_of(calls_of(succeeded=2, failed=1))
    first = runs.materialize(asset)
    second = again(runs, asset, first, from_failure=False)
    assert not second.success
    assert numbers_of(runs) == {0: 2, 1: 2, 2: 2}


def test_a_re_execution_of_all_steps_takes_up_what_may_be_alive(own: Any) -> None:
    runs = own("b3os")
    runs.emulator.set_defaults("b3os", script="succeeded", seconds=3600)
    first = timed_out(runs, mixed(4), cancel_on_timeout=False)
    assert not first.success
    runs.emulator.advance(None, provider="b3os")
    second = again(runs, asset_of(mixed(4)), first, from_failure=False)
    assert second.materialized == ["many"]
    # 0 and 2 were alive, 1 and 3 are wanted anew.
    assert numbers_of(runs) == {0: 1, 1: 2, 2: 1, 3: 2}


def test_a_person_who_executes_a_gate_again_submits_what_it_had_rejected(own: Any) -> None:
    runs = own("b3os")
    asset = asset_of(calls_of(succeeded=2), on_outcome={"succeeded": "fail"})
    first = runs.materialize(asset)
    again(runs, asset, first, from_failure=True)
    assert numbers_of(runs) == {0: 2, 1: 2}


def test_without_reattach_each_try_submits_all(own: Any) -> None:
    runs = own("b3os")
    asset = asset_of(calls_of(succeeded=1, failed=1), reattach=False, retry_policy=dg.RetryPolicy(max_retries=1))
    assert not runs.materialize(asset).success
    assert numbers_of(runs) == {0: 2, 1: 2}


def test_two_sets_of_one_step_are_told_apart_over_a_retry(own: Any) -> None:
    runs = own("b3os")

    @dg.op(required_resource_keys={"b3os"}, retry_policy=dg.RetryPolicy(max_retries=1))
    # Dagster reads the annotation of a context as it stands, and here it would stand as text.
    def both(context) -> None:
        resource = context.resources.b3os
        wait_for_runs(context, resource, calls=unscripted(2), poll_interval=OFTEN)
        if context.retry_number == 0:
            runs.emulator.set_defaults("b3os", script="failed", seconds=0)
        else:
            runs.emulator.set_defaults("b3os", script="succeeded", seconds=0)
        wait_for_runs(context, resource, calls=unscripted(4), poll_interval=OFTEN)

    runs.emulator.set_defaults("b3os", script="succeeded", seconds=0)

    @dg.job(resource_defs={"b3os": runs.resource})
    def job() -> None:
        both()

    assert job.execute_in_process(instance=runs.instance, raise_on_error=False).success
    # The first set once, the second twice.
    assert numbers_of(runs) == {0: 3, 1: 3, 2: 2, 3: 2}


def test_a_step_that_fails_for_good_cancels_what_goes_on_where_it_was_told_so(own: Any) -> None:
    runs = own("b3os")
    runs.emulator.set_defaults("b3os", script="forever")
    ended = timed_out(runs, unscripted(3), cancel_on_timeout=False, cancel_on_failure=True)
    assert not ended.success
    assert runs.cancels == 3
    assert "Asked B3OS to cancel 3 of 3 runs that were left" in ended.log
    assert left(runs) == []


def test_a_step_that_outlives_its_dagster_run_gives_up_once_two_looks_in_a_row_find_it_over(
    own: Any, mocker: MockerFixture
) -> None:
    over, going = dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.STARTED
    seen = iter([going, over, going, over, OSError("the storage is away"), over])
    looks: list[Any] = []

    def look(context: dg.AssetExecutionContext) -> dg.DagsterRunStatus:
        looks.append(next(seen))
        if isinstance(looks[-1], OSError):
            raise looks[-1]
        if len(looks) == 6:
            context.instance.report_run_failed(context.run)
        return looks[-1]

    mocker.patch("runops.dagster.many.beside.status_of_run", look)
    mocker.patch("runops.dagster.many.beside.LOOK_EVERY", OFTEN)
    runs = own("b3os")
    runs.emulator.set_defaults("b3os", script="forever")
    ended = runs.materialize(asset_of(unscripted(2), timeout=30))
    assert not ended.success
    assert "The Dagster run is over already" in ended.log
    assert len(looks) == 6
    assert (runs.submits, runs.cancels) == (2, 0)
