"""What workers and triggers store of an external run: in every mode, at every end, of the right try, and no secret."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from runops.airflow import (
    NexioRunOperator,
    NexioRunSensor,
    NyxConfigSensor,
    NyxRunOperator,
    NyxRunSensor,
    RunsOperator,
    RunsSensor,
    page_extra,
    task_record,
)
from runops.airflow._compat import renders_in_triggerer
from runops.airflow.external_run import EXTERNAL_RUN, ExternalRun, iso
from runops.airflow.recording import PROGRESS_SECONDS, REFRESH_SECONDS, Owed, Recording
from runops.airflow.task_record import TaskRecord
from runops.airflow.trigger import RunTrigger
from runops.airflow.trigger_record import AT_ONCE, PER_SECOND, SWEEP_SECONDS, RecordWriter, TriggerRecord
from runops.core import Outcome, Phase, RunRef, RunSnapshot, find
from runops.core.many.ledger import Ledger
from runops.core.model.run import Progress
from tests.airflow_side.triggerer import Triggerer

NYX = find("nyx")
REF = RunRef(provider="nyx", run_id="r1")


@pytest.fixture(autouse=True)
def the_page_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_extra, "installed", lambda: True)


def stored(context: dict[str, Any]) -> dict[str, Any]:
    return context["ti"].xcoms[EXTERNAL_RUN]


def statuses(form: dict[str, Any]) -> list[str]:
    return [each.get("phase") or each["outcome"] for each in form["timeline"]]


# --- sensors and operators, as the host runs them ---


@pytest.mark.parametrize(
    ("script", "told", "outcome", "verdict"),
    [
        ("succeeded", {}, "succeeded", "succeed"),
        ("exhausted", {}, "exhausted", "skip"),
        ("exhausted", {"on_outcome": {"exhausted": "warn"}}, "exhausted", "warn"),
        ("failed", {}, "failed", "fail"),
        ("forever", {"timeout": 200}, "timed_out", "fail"),
    ],
)
def test_every_end_in_every_mode_is_stored_with_its_verdict_and_timeline(
    host: Any, mode: Any, script: str, told: Any, outcome: str, verdict: str
) -> None:
    context = host.context()
    host.run(NyxRunSensor(task_id="a_task", **host.made("nyx", script=script, seconds=90), **told, **mode), context)
    form = stored(context)
    assert (form["outcome"], form["verdict"], form["kind"], form["own"]) == (outcome, verdict, "run", False)
    assert form["conn_id"] == "nyx_default"
    assert form["try_number"] == 1
    assert form["run_ended"] is (outcome != "timed_out")
    assert form["ended_at"] >= form["began_at"]
    assert "phase" not in form
    assert statuses(form)[-1] == outcome
    # Where no triggerer stores what it sees, the worker that follows knows only the end.
    assert mode["deferrable"] or "running" in statuses(form)
    assert [each["at"] for each in form["timeline"]] == sorted(each["at"] for each in form["timeline"])
    assert form["began_at"] == iso(host.clock.began)


def test_nothing_is_stored_where_the_page_is_not_installed(
    host: Any, mode: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_extra, "installed", lambda: False)
    context = host.context()
    ended = host.run(NexioRunSensor(task_id="a_task", **host.made("nexio", script="succeeded"), **mode), context)
    assert EXTERNAL_RUN not in context["ti"].xcoms
    for deferred in ended.deferrals:
        assert "shown" not in deferred.trigger.serialize()[1]["patience"]


def test_an_xcom_that_cannot_be_stored_or_read_fails_no_task(
    host: Any, mode: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = host.context()
    ti = context["ti"]
    push, pull = ti.xcom_push, ti.xcom_pull

    def refuse(act: Any, key: str, *args: Any, **named: Any) -> Any:
        if key == EXTERNAL_RUN:
            raise RuntimeError("no")
        return act(*args, key=key, **named)

    monkeypatch.setattr(ti, "xcom_push", lambda key, value: refuse(push, key, value=value))
    monkeypatch.setattr(
        ti, "xcom_pull", lambda task_ids, key, map_indexes: refuse(pull, key, task_ids, map_indexes=map_indexes)
    )
    ended = host.run(NexioRunSensor(task_id="a_task", **host.made("nexio", script="succeeded"), **mode), context)
    assert ended.result["outcome"] == "succeeded"


def test_an_error_that_ends_the_wait_is_stored_with_its_name(host: Any, mode: Any) -> None:
    context = host.context()
    given = host.made("nexio", script="forever")
    task = NexioRunSensor(task_id="a_task", **given, error_budget=120, **mode)
    host.emulator.add_fault(kind="status", status=500, action="get", provider="nexio", skip=3, count=None)
    ended = host.run(task, context)
    form = stored(context)
    assert type(ended.error).__name__ == form["error"] == "PollingError"
    assert "outcome" not in form
    assert form["ended_at"]


def test_an_operators_run_is_its_own_and_says_that_a_kill_cancels_it(host: Any, calls: Any) -> None:
    context = host.context()
    ended = host.run(NyxRunOperator(task_id="a_task", **calls["nyx"]), context)
    assert ended.error is None or context["ti"].xcoms["run_id"]
    form = stored(context)
    assert (form["own"], form["cancels"]) == (True, True)
    assert form["run_id"] == context["ti"].xcoms["run_id"]
    task = NexioRunOperator(task_id="a_task", **calls["nexio"], wait=False)
    context = host.context()
    host.run(task, context)
    form = stored(context)
    # Nexio cannot cancel; and nobody waits for it.
    assert (form["own"], form["cancels"], form["phase"]) == (True, False, "queued")
    assert form["ended_at"]


def test_a_try_keeps_its_timeline_over_a_deferral_and_a_new_try_begins_anew(host: Any) -> None:
    context = host.context()
    given = host.made("nyx", script="failed", seconds=90)
    task = NyxRunSensor(task_id="a_task", **given, deferrable=True)
    host.run(task, context)
    first = stored(context)
    assert statuses(first)[0] in ("queued", "running")
    context["ti"].next_try()
    host.run(NyxRunSensor(task_id="a_task", **given, deferrable=True), context)
    assert stored(context)["try_number"] == 2
    assert statuses(stored(context)) == ["failed"]


def test_pokes_keep_the_timeline_where_airflow_has_a_store_and_begin_anew_where_not(host: Any) -> None:
    for store in (True, False):
        host.emulator.reset()
        context = host.context(store=store)
        task = NyxRunSensor(
            task_id="a_task", **host.made("nyx", script="succeeded", seconds=200), mode="reschedule", poke_interval=60
        )
        ended = host.run(task, context)
        assert ended.pokes > 2
        assert statuses(stored(context)) == (["queued", "running", "succeeded"] if store else ["succeeded"])


def test_a_discovery_sensor_stores_the_run_that_it_has_found(host: Any, mode: Any) -> None:
    context = host.context()
    run_id = host.emulator.create_run("nyx", script="succeeded", parents={"config_name": "c"}, seconds=30)
    host.run(NyxConfigSensor(task_id="a_task", config_name="c", **mode), context)
    form = stored(context)
    assert (form["run_id"], form["verdict"], form["own"]) == (run_id, "succeed", False)


# --- sets ---


def test_a_set_is_stored_with_its_counts(host: Any, mode: Any) -> None:
    context = host.context()
    ids = [host.made("nyx", script=script, seconds=60)["run_id"] for script in ("succeeded", "failed", "succeeded")]
    task = RunsSensor(task_id="a_task", provider="nyx", run_ids=ids, require=0.5, **mode)
    host.run(task, context)
    form = stored(context)
    assert (form["kind"], form["own"], form["verdict"]) == ("set", False, "warn")
    assert form["counts"]["outcomes"] == {"succeeded": 2, "failed": 1}
    assert (form["counts"]["total"], form["counts"]["ended"], form["counts"]["active"]) == (3, 3, 0)
    assert form["progress"] == {"done": 3, "total": 3, "unit": "runs"}
    assert form["ended_at"]
    assert "run_id" not in form


def test_a_set_of_an_operator_is_its_own(host: Any, calls: Any) -> None:
    context = host.context()
    several = [{**calls["nexio"], "input": {"n": n}} for n in range(3)]
    host.run(RunsOperator(task_id="a_task", provider="nexio", calls=several), context)
    form = stored(context)
    assert (form["kind"], form["own"], form["counts"]["ended"]) == ("set", True, 3)


@pytest.mark.parametrize("in_process", [False, True])
def test_only_where_airflow_answers_from_outside_may_a_second_thread_store_how_a_set_stands(
    in_process: bool, host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_record, "answers_in_process", lambda: in_process)
    threads: list[str] = []
    monkeypatch.setattr(TaskRecord, "_push", lambda self, run: threads.append(threading.current_thread().name))
    record = TaskRecord(
        host.context(), Recording(NYX, ExternalRun(provider="nyx", kind="set"), 1_700_000_000), logging.getLogger()
    )
    tally = Ledger.of_refs([REF]).tally
    record.counted_beside(tally)
    record.ended_as_set(tally, "succeed")
    assert threads == (["MainThread"] if in_process else ["runops-record", "MainThread"])


# --- the triggerer ---


def test_a_trigger_stores_what_changes_while_it_waits_and_no_worker_is_there(
    host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    triggerer = Triggerer(monkeypatch, host.context())
    seen: list[dict[str, Any]] = []
    asend = triggerer.channel.asend

    async def watched(message: Any) -> Any:
        answer = await asend(message)
        if type(message).__name__ == "SetXCom" and message.key == EXTERNAL_RUN:
            seen.append(message.value)
        return answer

    monkeypatch.setattr(triggerer.channel, "asend", watched)
    task = NyxRunSensor(task_id="a_task", **host.made("nyx", script="succeeded", seconds=300), deferrable=True)
    triggerer.run(task)
    form = stored(triggerer.context)
    assert form["verdict"] == "succeed"
    # One read of what the worker has stored, before the first write.
    assert triggerer.channel.recorded.count("GetXCom") <= 1
    assert all(each["try_number"] == 1 for each in seen)
    assert {each.get("verdict") for each in seen} <= {None}
    assert all(each["began_at"] == form["began_at"] for each in seen)


@pytest.mark.skipif(not renders_in_triggerer(), reason="needs Airflow 3.3")
def test_a_task_that_no_worker_begins_or_ends_is_stored_too(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    triggerer = Triggerer(monkeypatch, host.context())
    run = host.made("nexio", script="succeeded", seconds=60)
    task = NexioRunSensor(task_id="a_task", **run, deferrable=True, start_from_trigger=True, end_from_trigger=True)
    assert triggerer.run(task).pokes == 0
    form = stored(triggerer.context)
    assert (form["outcome"], form["verdict"], form["own"], form["run_id"]) == (
        "succeeded",
        "succeed",
        False,
        run["run_id"],
    )
    assert form["ended_at"]


def test_what_a_trigger_is_given_and_stores_holds_no_secret(
    host: Any, monkeypatch: pytest.MonkeyPatch, key: str, calls: Any
) -> None:
    triggerer = Triggerer(monkeypatch, host.context())
    given: list[Any] = []
    event = Triggerer.event

    def noted(self: Any, trigger: Any, task: Any = None) -> Any:
        given.append(trigger.serialize()[1])
        return event(self, trigger, task)

    monkeypatch.setattr(Triggerer, "event", noted)
    canary = "payload-canary-77"
    call = {**calls["nyx"], "target": {"url": f"https://{canary}.example"}, "objective": canary}
    task = NyxRunOperator(task_id="a_task", **call, deferrable=True)
    triggerer.run(task)
    text = json.dumps([stored(triggerer.context), given])
    assert key not in text
    assert canary not in text


def trigger_record_of(channel: Any, try_number: int = 1) -> tuple[TriggerRecord, Recording]:
    run = ExternalRun(provider="nyx", run_id="r1", try_number=try_number)
    recording = Recording(NYX, run, 1_700_000_000)
    ti = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=-1, try_number=try_number)
    return TriggerRecord(ti, recording, RecordWriter.here()), recording


class Database:
    """The XCom of one task; each request takes a moment."""

    def __init__(self, value: Any = None) -> None:
        self.value = value
        self.writes: list[Any] = []
        self.gate: asyncio.Event | None = None

    async def asend(self, message: Any) -> Any:
        if self.gate is not None:
            await self.gate.wait()
        if type(message).__name__ == "GetXCom":
            return SimpleNamespace(value=self.value)
        self.value = message.value
        self.writes.append(message.value)
        return None


async def settled() -> None:
    """All that is ready in the loop has run."""
    for _ in range(100):
        await asyncio.sleep(0)


def snapshot(state: str = "running", **more: Any) -> RunSnapshot:
    return RunSnapshot(ref=REF, state=state, **{"phase": Phase.RUNNING, **more})


def test_a_trigger_whose_task_was_cleared_stores_nothing_over_the_next_tries_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database = Database(ExternalRun(provider="nyx", run_id="r2", try_number=2).to_dict())
    monkeypatch.setattr("runops.airflow._compat.supervisor", lambda: database)

    async def scene() -> None:
        record, _ = trigger_record_of(database, try_number=1)
        record.observed(snapshot())
        await settled()
        record.observed(snapshot("other"))
        await settled()

    asyncio.run(scene())
    assert database.writes == []


def test_nothing_is_stored_after_a_trigger_has_ended_even_if_a_write_was_under_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database = Database()
    monkeypatch.setattr("runops.airflow._compat.supervisor", lambda: database)

    async def scene() -> None:
        database.gate = asyncio.Event()
        record, _ = trigger_record_of(database)
        record.observed(snapshot())
        await settled()
        record.close()
        database.gate.set()
        await settled()
        assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]

    asyncio.run(scene())
    assert database.writes == []


def test_a_trigger_goes_on_with_what_an_earlier_triggerer_has_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    earlier = Recording(NYX, ExternalRun(provider="nyx", run_id="r1", try_number=1, own=True), 1_700_000_000)
    earlier.observed(snapshot("queued", phase=Phase.QUEUED), 1_700_000_001)
    earlier.observed(snapshot(), 1_700_000_002)
    database = Database(earlier.take(1_700_000_002).to_dict())
    monkeypatch.setattr("runops.airflow._compat.supervisor", lambda: database)

    async def scene() -> None:
        record, _ = trigger_record_of(database)
        record.observed(snapshot("paused", phase=Phase.PAUSED))
        await settled()

    asyncio.run(scene())
    (form,) = database.writes
    assert statuses(form) == ["queued", "running", "paused"]
    assert (form["own"], form["holds"], form["began_at"]) == (True, "paused", iso(1_700_000_000))


# --- the shared budget ---


class Slow:
    """Something in line, with what it has stored in a common list."""

    def __init__(self, name: str, log: list[str], error: Exception | None = None) -> None:
        self.name = name
        self.log = log
        self.error = error

    async def write(self) -> None:
        self.log.append(self.name)
        if self.error is not None:
            raise self.error

    def look_up_hold(self) -> None:
        self.log.append(f"hold {self.name}")


def test_all_triggers_of_a_loop_share_about_two_writes_a_second_and_changes_go_first() -> None:
    now, log = [0.0], list[str]()
    times: list[float] = []

    def later(seconds: float, act: Any) -> Any:
        def ring() -> None:
            now[0] += seconds
            act()

        return asyncio.get_running_loop().call_soon(ring)

    async def scene() -> None:
        writer = RecordWriter(lambda: now[0], later)

        class Timed(Slow):
            async def write(self) -> None:
                times.append(now[0])
                await super().write()

        for number in range(AT_ONCE):
            writer.offer(Timed(f"first {number}", log), Owed.CHANGE)
        refreshes = [Timed(f"refresh {number}", log) for number in range(5)]
        progresses = [Timed(f"progress {number}", log) for number in range(5)]
        changes = [Timed(f"change {number}", log) for number in range(5)]
        for owed, waits in ((Owed.REFRESH, refreshes), (Owed.PROGRESS, progresses), (Owed.CHANGE, changes)):
            for wait in waits:
                writer.offer(wait, owed)
                writer.offer(wait, owed)
        # What changes meanwhile moves up, and is written once.
        writer.offer(refreshes[4], Owed.CHANGE)
        writer.leave(progresses[0])
        await settled()
        await settled()

    asyncio.run(scene())
    assert log[:AT_ONCE] == [f"first {number}" for number in range(AT_ONCE)]
    assert log[AT_ONCE:] == [
        *(f"change {number}" for number in range(5)),
        "refresh 4",
        *(f"progress {number}" for number in range(1, 5)),
        *(f"refresh {number}" for number in range(4)),
    ]
    assert times[AT_ONCE - 1] == 0.0
    assert times[-1] == pytest.approx((len(log) - AT_ONCE) / PER_SECOND)


def test_a_write_that_fails_ends_with_itself_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    log: list[str] = []

    async def scene() -> None:
        writer = RecordWriter()
        for number in range(4):
            writer.offer(Slow(str(number), log, RuntimeError("secret-in-a-text")), Owed.CHANGE)
        await settled()

    asyncio.run(scene())
    assert log == ["0", "1", "2", "3"]
    assert "secret-in-a-text" not in caplog.text


def test_a_wait_that_hears_nothing_is_asked_what_holds_it_until_it_ends() -> None:
    log: list[str] = []
    timers: list[Any] = []

    def later(seconds: float, act: Any) -> Any:
        timer = SimpleNamespace(seconds=seconds, act=act, cancelled=False)
        timer.cancel = lambda: setattr(timer, "cancelled", True)
        timers.append(timer)
        return timer

    async def scene() -> None:
        writer, wait = RecordWriter(later=later), Slow("a", log)
        writer.join(wait)
        writer.join(Slow("b", log))
        timers[-1].act()
        assert log == ["hold a", "hold b"]
        assert [timer.seconds for timer in timers] == [SWEEP_SECONDS] * 2
        for each in tuple(writer._waits):
            writer.leave(each)
        assert timers[-1].cancelled
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(scene())


# --- what is worth a write ---


def test_a_change_is_owed_at_once_progress_every_30_s_and_a_sign_of_life_every_300_s() -> None:
    recording = Recording(NYX, ExternalRun(provider="nyx", run_id="r1"), 0.0)
    assert recording.owes(0.0) is Owed.CHANGE
    recording.observed(snapshot(progress=Progress(done=1, total=9, unit="x")), 1.0)
    recording.take(1.0)
    assert recording.owes(1.0) is None
    recording.observed(snapshot(progress=Progress(done=2, total=9, unit="x")), 2.0)
    assert recording.owes(2.0) is None
    assert recording.owes(1.0 + PROGRESS_SECONDS) is Owed.PROGRESS
    recording.take(40.0)
    same = snapshot(progress=Progress(done=2, total=9, unit="x"))
    recording.observed(same, 41.0)
    assert recording.owes(40.0 + REFRESH_SECONDS - 1) is None
    assert recording.owes(40.0 + REFRESH_SECONDS) is Owed.REFRESH
    recording.observed(snapshot("stopping", phase=Phase.STOPPING), 42.0)
    assert recording.owes(42.0) is Owed.CHANGE


def test_what_holds_a_wait_up_is_shown_until_the_next_good_read() -> None:
    recording = Recording(NYX, ExternalRun(provider="nyx", run_id="r1"), 1_700_000_000)
    recording.observed(snapshot("paused", phase=Phase.PAUSED), 1_700_000_001)
    assert recording.take(1_700_000_001).holds == "paused"
    recording.held("key", None)
    assert recording.owes(1_700_000_002) is Owed.CHANGE
    assert recording.take(1_700_000_002).holds == "key"
    assert recording.take(1_700_000_003).holds == "key"
    recording.observed(snapshot(), 1_700_000_004)
    assert recording.take(1_700_000_004).holds is None


def test_a_trigger_stores_nothing_where_nothing_has_changed_since_its_worker_has_stored() -> None:
    recording = Recording(NYX, ExternalRun(provider="nyx", run_id="r1"), 1_700_000_000)
    recording.observed(snapshot(), 1_700_000_001)
    later = Recording(NYX, ExternalRun(provider="nyx", run_id="r1"), 1_700_000_010)
    later.assume_stored(json.loads(json.dumps(recording.shown())), None, 1_700_000_010)
    later.observed(snapshot(), 1_700_000_011)
    assert later.owes(1_700_000_012) is None
    assert later.owes(1_700_000_010 + PROGRESS_SECONDS) is Owed.PROGRESS
    later.observed(snapshot("done", phase=None, outcome=Outcome.SUCCEEDED), 1_700_000_013)
    assert later.owes(1_700_000_013) is Owed.CHANGE


def test_a_trigger_that_begins_late_does_not_trust_what_its_worker_has_stored(
    host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A triggerer that is gone may have stored another state since.
    database = Database()
    monkeypatch.setattr("runops.airflow._compat.supervisor", lambda: database)

    async def stores(late: float) -> bool:
        trigger: Any = RunTrigger(
            provider="nyx",
            conn_id="nyx_default",
            ref=REF.model_dump(mode="json"),
            patience={"shown": {"state": "running", "status": "running"}},
            not_before=host.clock.now + 10 - late,
        )
        trigger.task_instance = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=-1, try_number=1)
        record = trigger._keep_record(trigger._hook(), run_id="r1")
        assert record is not None
        record.observed(snapshot())
        await settled()
        record.close()
        return bool(database.writes)

    assert not asyncio.run(stores(late=0))
    assert asyncio.run(stores(late=11))


def test_a_row_of_an_earlier_version_says_nothing_of_what_is_stored() -> None:
    row = RunTrigger(provider="nyx", ref=REF.model_dump(mode="json"), patience={})
    assert row.record is None
    assert "shown" not in row.serialize()[1]["patience"]


def test_counts_of_a_set_are_those_of_its_tally() -> None:
    recording = Recording(NYX, ExternalRun(provider="nyx", kind="set"), 1_700_000_000)
    recording.counted(Ledger.of_refs([REF]).tally, 1_700_000_001)
    counts = recording.take(1_700_000_001).counts
    assert counts is not None
    assert (counts.total, counts.ended, counts.active, counts.errors) == (1, 0, 1, 0)
