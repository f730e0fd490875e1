"""What tasks have left behind, as Airflow's API shows it: exactly that is listed, and a doubt cancels nothing."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from runops.airflow import cancel_orphans
from runops.airflow._compat import AirflowException
from runops.airflow.hook import RunHook
from runops.airflow.orphans import AirflowTasks, suspects_of
from runops.airflow.rest import AirflowApi, TaskInstance, open_api
from runops.airflow.task_state import TaskState
from runops.cli import main
from runops.cli.examples import examples
from runops.core import AnswerError, AuthError, ConfigurationError, RunopsError, RunRef
from runops.core.client.orphans import OrphanReview
from runops.core.metrics import ORPHANS, Meter, Metric
from runops.core.model.errors import MalformedAnswer
from runops.core.model.secret import Secret
from runops.core.transport.json_api import JsonApi
from runops.core.waiting.orphans import Act, Orphan, Suspect
from tests.airflow_side.airflow_api import TOKEN, FakeAirflow, Instance
from tests.canaries.frames import collected
from tests.services import CALLS

PROVIDERS = ("nexio", "nyx", "onepin", "b3os")
SINCE = datetime.now(UTC) - timedelta(days=1)
NAMES = {name: f"{name.capitalize()}RunOperator" for name in PROVIDERS}


class Killed(BaseException):
    """As SIGKILL: nothing of ours sees it coming."""


def api_of(airflow: FakeAirflow, token: str = TOKEN) -> AirflowApi:
    return AirflowApi(
        JsonApi(
            "http://127.0.0.1:8080", title="Airflow", path="/api/v2", token=Secret(token), origin="the test",
            transport=airflow, sleep=lambda seconds: None,
        )
    )  # fmt: skip


def tasks_of(airflow: FakeAirflow) -> AirflowTasks:
    return AirflowTasks(api_of(airflow), since=SINCE)


def review_of(airflow: FakeAirflow) -> OrphanReview:
    return OrphanReview(tasks_of(airflow), lambda name, credential: RunHook(credential, provider=name).client())


def found_in(airflow: FakeAirflow) -> list[Orphan]:
    with review_of(airflow) as review:
        return list(review.find())


@pytest.fixture
def after(host: Any, operators: dict[str, Any]) -> Callable[..., tuple[Instance, dict[str, Any]]]:
    """``after("nyx", "failed")``: a task instance in a state, after a real operator has done its work."""

    def make(provider: str, state: str | None, *, store: bool = True, script: str = "forever", **settings: Any) -> Any:
        host.emulator.set_defaults(provider, script=script, seconds=3600)
        settings = {"timeout": 60, "cancel_on_timeout": False, "deferrable": False, **CALLS[provider], **settings}
        task = operators[provider](task_id="a_task", **settings)
        context = host.context(store=store)
        host.run(task, context)
        it = Instance("a_task", state, NAMES[provider], xcoms=context["ti"].xcoms)
        if store:
            it.store = stored(context)
        return it, context

    return make


def stored(context: dict[str, Any]) -> dict[str, Any]:
    return {key: json.loads(value) for key, value in context["task_state_store"].values.items()}


@pytest.mark.parametrize("store", [True, False], ids=["3.3", "3.1"])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_run_whose_task_is_over_is_listed_with_task_connection_and_reason(
    host: Any, after: Any, provider: str, store: bool
) -> None:
    it, _ = after(provider, "failed", store=store)
    (found,) = found_in(FakeAirflow(it, has_store=store))
    (run,) = host.emulator.runs(provider=provider)
    result = found.to_result()
    assert (result["standing"], result["provider"], result["run_id"]) == ("left", provider, run["run_id"])
    assert result["credential"] == f"{provider}_default"
    assert result["why"] == "its task is over (failed)"
    assert result["holder"] == {
        "host": "airflow", "dag_id": "a_dag", "dag_run_id": "a_run", "task_id": "a_task", "map_index": -1,
        "try_number": 1, "task_state": "failed",
    }  # fmt: skip
    assert host.emulator.requests(provider=provider, action="cancel") == []


@pytest.mark.parametrize(
    "state", ["running", "deferred", "restarting", "up_for_retry", "up_for_reschedule", "scheduled", "queued", None]
)
@pytest.mark.parametrize("store", [True, False], ids=["3.3", "3.1"])
def test_what_a_task_waits_for_or_will_take_up_is_not_listed(after: Any, state: str | None, store: bool) -> None:
    it, _ = after("nyx", state, store=store)
    assert found_in(FakeAirflow(it, has_store=store)) == []


@pytest.mark.parametrize("state", ["up_for_retry", "scheduled", None])
def test_a_retry_that_no_dag_run_will_ever_start_waits_for_nothing(after: Any, state: str | None) -> None:
    it, _ = after("onepin", state)
    airflow = FakeAirflow(it)
    airflow.dag_runs["a_run"] = "failed"
    assert [each.to_result()["standing"] for each in found_in(airflow)] == ["left"]


@pytest.mark.parametrize("state", ["success", "failed", "skipped", "upstream_failed", "removed"])
@pytest.mark.parametrize("store", [True, False], ids=["3.3", "3.1"])
@pytest.mark.parametrize("provider", ["nyx", "onepin"])
def test_what_wait_false_has_given_away_is_never_listed(after: Any, provider: str, state: str, store: bool) -> None:
    it, _ = after(provider, state, store=store, wait=False)
    assert found_in(FakeAirflow(it, has_store=store)) == []


@pytest.mark.parametrize("store", [True, False], ids=["3.3", "3.1"])
def test_a_run_whose_end_was_seen_costs_no_read(host: Any, after: Any, store: bool) -> None:
    it, _ = after("onepin", "success", store=store, script="succeeded", timeout=7200)
    before = len(host.emulator.requests())
    assert found_in(FakeAirflow(it, has_store=store)) == []
    assert len(host.emulator.requests()) == before


def test_a_sensor_leaves_nothing(host: Any, sensors: dict[str, Any]) -> None:
    sensor = sensors["nyx"](task_id="a_task", timeout=60, **host.made("nyx", script="forever"))
    context = host.context()
    host.run(sensor, context)
    it = Instance("a_task", "failed", "NyxRunOperator", store=stored(context), xcoms=context["ti"].xcoms)
    assert "run_id" in it.xcoms
    assert found_in(FakeAirflow(it)) == []


def test_a_run_that_a_clear_could_not_cancel_is_listed_while_its_task_waits_for_another(
    host: Any, after: Any, operators: dict[str, Any]
) -> None:
    it, context = after("b3os", "failed", cancel_on_kill=False)
    (first,) = host.emulator.runs(provider="b3os")
    context["ti"].clear()
    settings = {"timeout": 60, "cancel_on_timeout": False, "deferrable": False, "cancel_on_kill": False}
    host.run(operators["b3os"](task_id="a_task", **CALLS["b3os"], **settings), context)
    it.store, it.state = stored(context), "running"
    (found,) = found_in(FakeAirflow(it))
    assert (found.ref and found.ref.run_id, found.suspect.why) == (
        first["run_id"], "its task has submitted another run since",
    )  # fmt: skip
    it.state = "failed"
    assert len(found_in(FakeAirflow(it))) == 2


@pytest.mark.parametrize("state", ["running", "deferred", "up_for_reschedule", "up_for_retry"])
def test_a_run_that_a_sensor_of_another_task_waits_for_is_not_listed(host: Any, after: Any, state: str) -> None:
    it, _ = after("onepin", "failed")
    (run,) = host.emulator.runs(provider="onepin")
    sensor = Instance("a_sensor", state, "OurOwnSensor", rendered={"run_id": run["run_id"]})
    assert found_in(FakeAirflow(it, sensor)) == []
    sensor.state = "success"
    assert len(found_in(FakeAirflow(it, sensor))) == 1
    sensor.state, sensor.rendered = state, {"run_id": "another"}
    assert len(found_in(FakeAirflow(it, sensor))) == 1


def test_a_sensor_that_begins_between_the_list_and_the_cancel_keeps_its_run(
    host: Any, after: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runops.airflow.orphans.FRESH_SECONDS", 0.0)
    it, _ = after("onepin", "failed")
    (run,) = host.emulator.runs(provider="onepin")
    airflow = FakeAirflow(it)
    with review_of(airflow) as review:
        (found,) = review.find()
        airflow.instances.append(Instance("a_sensor", "deferred", "S", rendered={"run_id": run["run_id"]}))
        assert review.cancel(found).act is Act.TAKEN_UP
    assert host.emulator.requests(provider="onepin", action="cancel") == []


def test_on_nyx_a_run_that_nothing_names_any_more_is_found_by_the_mark_of_its_task(host: Any, after: Any) -> None:
    after("nyx", "failed", store=False)
    (run,) = host.emulator.runs(provider="nyx")
    forgotten = Instance("a_task", "failed", rendered={"config_name": "nightly", "nyx_conn_id": "nyx_default"})
    (found,) = found_in(FakeAirflow(forgotten, has_store=False))
    assert found.ref == RunRef(provider="nyx", run_id=run["run_id"])
    others = [
        Instance("another_task", "failed", rendered=forgotten.rendered),
        Instance("a_task", "running", rendered=forgotten.rendered),
        Instance("a_task", "success", rendered=forgotten.rendered),
    ]
    for other in others:
        assert found_in(FakeAirflow(other, has_store=False)) == []


@pytest.mark.parametrize(("provider", "standing"), [("nyx", "left"), ("onepin", "uncertain"), ("nexio", "uncertain")])
def test_a_lost_submit_is_found_by_its_mark_or_said_to_be_unknown_and_then_never_cancelled(
    host: Any, operators: dict[str, Any], monkeypatch: pytest.MonkeyPatch, provider: str, standing: str
) -> None:
    save = TaskState.save

    def dies(self: TaskState, **record: Any) -> None:
        if record["state"] == "submitted":
            raise Killed
        save(self, **record)

    monkeypatch.setattr(TaskState, "save", dies)
    host.emulator.set_defaults(provider, script="forever")
    context = host.context()
    with pytest.raises(Killed):
        host.run(operators[provider](task_id="a_task", deferrable=False, **CALLS[provider]), context)
    it = Instance("a_task", "failed", NAMES[provider], store=stored(context))
    (run,) = host.emulator.runs(provider=provider)
    with review_of(FakeAirflow(it)) as review:
        (found,) = review.find()
        cancelled = review.cancel(found)
    assert str(found.standing) == standing
    if standing == "uncertain":
        assert cancelled.act is None
        assert host.emulator.requests(provider=provider, action="cancel") == []
        assert not found.settled
    if provider == "onepin":
        assert [each.run_id for each in found.candidates] == [run["run_id"]]


def test_a_cancel_is_sent_once_and_noted_so_that_a_reattaching_clear_submits_anew(
    host: Any, after: Any, operators: dict[str, Any]
) -> None:
    it, context = after("onepin", "failed", on_clear="reattach")
    airflow = FakeAirflow(it)
    with review_of(airflow) as review:
        (done,) = [review.cancel(each) for each in review.find()]
    assert done.act is Act.CANCELLED
    host.clock.now += 60
    assert found_in(airflow) == []
    context["task_state_store"].set("runops_stopped", it.store["runops_stopped"])
    context["ti"].clear()
    host.emulator.set_defaults("onepin", script="succeeded", seconds=1)
    again = operators["onepin"](task_id="a_task", deferrable=False, on_clear="reattach", **CALLS["onepin"])
    ended = host.run(again, context)
    assert ended.error is None
    assert len(host.emulator.runs(provider="onepin")) == 2


@pytest.mark.parametrize("meanwhile", ["retried", "over", "gone"])
def test_what_changes_between_the_list_and_the_cancel_is_left_alone(host: Any, after: Any, meanwhile: str) -> None:
    it, _ = after("onepin", "failed")
    airflow = FakeAirflow(it)
    with review_of(airflow) as review:
        (found,) = review.find()
        if meanwhile == "retried":
            it.state = "queued"
        elif meanwhile == "over":
            it.store["runops"]["ended"] = "succeeded"
        else:
            airflow.instances.clear()
        assert review.cancel(found).act is Act.TAKEN_UP
    assert host.emulator.requests(provider="onepin", action="cancel") == []


def test_a_key_that_may_not_read_a_run_cancels_nothing(host: Any, after: Any, connect: Any, served: Any) -> None:
    it, _ = after("b3os", "failed")
    connect("b3os_default", "b3os", host=served.base_url("b3os"), password="forbidden-key")
    with review_of(FakeAirflow(it)) as review:
        (found,) = review.find()
        assert (str(found.standing), review.cancel(found).act) == ("unreadable", None)
    assert "403" in found.message
    assert "forbidden-key" not in json.dumps(found.to_result())


def test_a_missing_connection_makes_its_runs_unreadable_and_no_others(
    host: Any, after: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    it, _ = after("b3os", "failed")
    other, _ = after("onepin", "failed")
    other.task_id = "another_task"

    def open_client(name: str, credential: str | None) -> Any:
        if name == "b3os":
            raise AuthError("There is no connection.")
        return RunHook(credential, provider=name).client()

    with OrphanReview(tasks_of(FakeAirflow(it, other)), open_client) as review:
        found = {each.suspect.provider: str(each.standing) for each in review.find()}
    assert found == {"b3os": "unreadable", "onepin": "left"}


# --- how Airflow is read ---


def test_every_page_is_read_however_short_the_server_makes_it() -> None:
    airflow = FakeAirflow(*(Instance(f"task_{number}", "running") for number in range(25)), page=7)
    found = list(api_of(airflow).instances(SINCE, {"NyxRunOperator"}))
    assert len(found) == len({ti.task_id for ti in found}) == 25
    assert {request.url.params["updated_at_gte"] for request in airflow.requests} == {SINCE.isoformat()}


def test_a_task_instance_whose_run_has_ended_costs_one_read_beside_the_lists() -> None:
    ended = {"state": "submitted", "ref": {"provider": "b3os", "run_id": "r"}, "provider": "b3os", "ended": "succeeded"}
    airflow = FakeAirflow(
        *(
            Instance(
                f"task_{number}", "success", "B3osRunOperator", store={"runops": ended}, xcoms={"run_submitted": {}}
            )
            for number in range(200)
        )
    )
    assert list(tasks_of(airflow).suspects()) == []
    assert len(airflow.requests) == 200 + 2 + 2


def test_a_class_of_ones_own_is_known_by_what_its_tasks_have_left(after: Any) -> None:
    it, _ = after("onepin", "failed")
    it.operator = "OurOwnOperator"
    assert len(found_in(FakeAirflow(it))) == 1
    forgotten = Instance("a_task", "failed", "OurOwnOperator", store=it.store)
    assert found_in(FakeAirflow(forgotten)) == []
    named = AirflowTasks(api_of(FakeAirflow(forgotten)), since=SINCE, operators=frozenset({"OurOwnOperator"}))
    assert len(list(named.suspects())) == 1


def test_a_mapped_task_is_known_by_its_index(after: Any) -> None:
    it, _ = after("onepin", "failed")
    it.map_index = 3
    (found,) = found_in(FakeAirflow(it))
    assert found.suspect.holder["map_index"] == 3


def test_a_read_is_sent_again_after_a_passing_error_and_not_after_a_final_one() -> None:
    airflow = FakeAirflow(Instance("a_task", "running"))
    troubles = [httpx.Response(503, json={}), httpx.Response(500, text="<html>")]
    airflow.before = lambda request: troubles.pop() if troubles else None
    assert len(list(api_of(airflow).instances(SINCE, {"NyxRunOperator"}))) == 1
    assert len(airflow.requests) == 3
    refused = FakeAirflow()
    with pytest.raises(AuthError) as caught:
        list(api_of(refused, "another-canary-token").instances(SINCE, {"NyxRunOperator"}))
    assert len(refused.requests) == 1
    assert "another-canary-token" not in str(caught.value)
    assert "the test" in str(caught.value)


@pytest.mark.parametrize(
    "body", [{}, {"task_instances": None}, {"task_instances": [{"dag_id": "a"}], "total_entries": 1}, [], "text", None]
)
def test_what_is_no_answer_of_airflow_is_an_error_and_no_empty_list(body: Any) -> None:
    airflow = FakeAirflow()
    airflow.before = lambda request: httpx.Response(200, json=body)
    with pytest.raises(MalformedAnswer):
        list(api_of(airflow).instances(SINCE, {"NyxRunOperator"}))


def test_a_failure_in_the_middle_is_raised_and_hides_nothing(after: Any) -> None:
    it, _ = after("onepin", "failed")
    airflow = FakeAirflow(it, *(Instance(f"task_{number}", "failed") for number in range(3)), page=2)
    airflow.before = lambda request: httpx.Response(403, json={}) if request.url.params.get("offset") == "2" else None
    with review_of(airflow) as review:
        found = review.find()
        assert next(found).ref is not None
        with pytest.raises(AnswerError):
            list(found)


def test_only_what_is_named_is_taken_of_an_answer() -> None:
    ti = TaskInstance.parse(Instance("a_task", "failed").body())
    assert "not for us" not in repr(ti)
    assert not hasattr(ti, "executor_config")


@pytest.mark.parametrize("name", ["dag", "a dag/with?odd#names", "manual__2026-11-27T10:00:00+00:00", "%2e%2e", "..."])
def test_a_name_stays_in_its_place_of_the_path(name: str) -> None:
    airflow = FakeAirflow(Instance("a_task", "failed", dag_id=name, run_id=name))
    assert api_of(airflow).instance(name, name, "a_task", -1) is not None


@pytest.mark.parametrize("name", [".", ".."])
def test_a_name_that_would_leave_its_place_is_refused(name: str) -> None:
    airflow = FakeAirflow(Instance("a_task", "failed", dag_id=name))
    with pytest.raises(MalformedAnswer):
        api_of(airflow).instance(name, "a_run", "a_task", -1)
    assert airflow.requests == []


def test_http_to_another_machine_is_refused_before_the_token_leaves() -> None:
    with pytest.raises(ConfigurationError, match="in the clear"):
        open_api("http://airflow.example.com", token=Secret(TOKEN), origin="the test")


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(401, json={"detail": "no"}),
        httpx.Response(200, text="<html>"),
        httpx.Response(500, json={}),
        httpx.Response(201, json={}),
        httpx.ConnectError("no"),
    ],
    ids=["refused", "html", "broken", "empty", "away"],
)
def test_no_frame_of_a_failed_login_or_read_shows_the_password_or_the_token(
    answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(request: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        # A service may say again what it was sent.
        sent = request.headers.get("authorization") or json.loads(request.content)["password"]
        return httpx.Response(401, json={"detail": f"no {sent}"}) if answer.status_code == 401 else answer

    airflow = FakeAirflow()
    airflow.before = fails
    monkeypatch.setattr("runops.core.transport.json_api.sync_transport", lambda root, network: airflow)
    monkeypatch.setattr("runops.core.transport.json_api.backoff", lambda attempt: 0.0)
    given: dict[str, Any] = {"origin": "the test", "username": "somebody", "password": Secret("password-canary-77")}
    errors: list[BaseException] = []
    for token in ("", TOKEN):
        try:
            with open_api("http://127.0.0.1:8080", token=Secret(token), **given) as api:
                AirflowApi(api).instance("a", "b", "c", -1)
        except RunopsError as error:
            errors.append(error)
    assert len(errors) == 2 or answer.status_code == 201
    # The stand-in keeps every request that it was sent.
    airflow.requests.clear()
    for error in errors:
        shown = collected(error, without=__file__)
        assert [place for place, text in shown.items() if TOKEN in text or "password-canary-77" in text] == []


# --- records of other versions ---


def suspects(record: Any, *, waits: bool = False) -> list[Suspect]:
    return suspects_of(TaskInstance.parse(Instance("a_task", "failed").body()), record, waits=waits)


def test_records_that_say_too_little_name_nothing() -> None:
    ref = {"provider": "b3os", "run_id": "r1", "parents": {}}
    assert suspects(None) == []
    assert suspects({"began": 1.0}) == []
    assert suspects({"state": "refused", "left": "?"}) == []
    assert suspects({"state": "submitting", "intent": {}}) == []
    assert suspects({"state": "submitted", "ref": {"run_id": "../x", "provider": 3}}) == []
    (old,) = suspects({"state": "submitted", "ref": ref})
    assert (old.provider, old.credential, old.ref) == ("b3os", None, RunRef.parse(ref))


# --- the command ---


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, served: Any, capsys: pytest.CaptureFixture[str], host: Any
) -> Callable[..., tuple[int, str, str]]:
    """Runs ``runops orphans airflow`` against a stand-in; its exit code, output and errors."""
    for provider, variable in (("b3os", "B3OS_API_KEY"), ("onepin", "ONEPIN_API_KEY"), ("nyx", "NYX_TOKEN")):
        monkeypatch.setenv(variable, "a-key-of-the-command")
        monkeypatch.setenv(f"{provider.upper()}_BASE_URL", served.base_url(provider))
    monkeypatch.setenv("AIRFLOW_TOKEN", TOKEN)

    def run(airflow: FakeAirflow, *options: str) -> tuple[int, str, str]:
        monkeypatch.setattr("runops.core.transport.json_api.sync_transport", lambda root, network: airflow)
        code = main(["orphans", "airflow", "--url", "http://127.0.0.1:8080/api/v2", *options])
        told = capsys.readouterr()
        assert TOKEN not in told.out + told.err
        assert "a-key-of-the-command" not in told.out + told.err
        return code, told.out, told.err

    return run


def test_the_command_lists_and_cancels(host: Any, after: Any, command: Any) -> None:
    it, _ = after("onepin", "failed")
    airflow = FakeAirflow(it)
    code, out, _ = command(airflow)
    assert code == 0
    assert "of a_dag/a_run/a_task: its task is over (failed)" in out
    assert host.emulator.requests(provider="onepin", action="cancel") == []
    code, out, _ = command(airflow, "--cancel", "--yes", "--json")
    assert (code, json.loads(out)["act"]) == (0, "cancelled")
    host.clock.now += 60
    assert command(airflow, "--cancel") == (0, "Nothing is left behind.\n", "")


def test_the_examples_of_its_help_text_do_what_they_say(
    host: Any, after: Any, command: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    it, _ = after("onepin", "failed")
    airflow = FakeAirflow(it)
    command(airflow)
    told = []
    for example in examples()["orphans airflow"]:
        assert main(shlex.split(example.line)[1:]) == example.code
        told.append(capsys.readouterr().out)
    assert "its task is over" in told[0]
    assert json.loads(told[1])["act"] == "cancelled"


def test_the_command_asks_on_a_terminal_and_takes_nothing_but_yes_for_it(
    host: Any, after: Any, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    it, _ = after("onepin", "failed")
    for answer, cancels in (("", 0), ("n\n", 0), ("yes\n", 1)):

        class Terminal:
            def isatty(self) -> bool:
                return True

            def readline(self, answer: str = answer) -> str:
                return answer

        monkeypatch.setattr("sys.stdin", Terminal())
        code, _, err = command(FakeAirflow(it), "--cancel")
        assert code == 0
        assert "Cancel this run? [y/N]" in err
        assert len(host.emulator.requests(provider="onepin", action="cancel")) == cancels


def test_an_interrupt_between_two_cancels_says_how_many_were_sent(
    host: Any, after: Any, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    it, _ = after("onepin", "failed")
    other, _ = after("b3os", "failed")
    other.task_id = "another_task"
    cancel = OrphanReview.cancel
    asked: list[Orphan] = []

    def interrupted(self: OrphanReview, orphan: Orphan) -> Orphan:
        asked.append(orphan)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return cancel(self, orphan)

    monkeypatch.setattr(OrphanReview, "cancel", interrupted)
    code, _, err = command(FakeAirflow(it, other), "--cancel")
    assert code == 130
    assert "interrupted; 1 of the runs listed were cancelled before" in err
    assert "no run was cancelled" not in err


def test_what_cannot_be_told_is_exit_code_4(
    after: Any, command: Any, monkeypatch: pytest.MonkeyPatch, host: Any
) -> None:
    it, _ = after("b3os", "failed")
    monkeypatch.setenv("B3OS_API_KEY", "invalid-key")
    code, out, _ = command(FakeAirflow(it), "--cancel")
    assert code == 4
    assert "could not be read" in out
    monkeypatch.delenv("B3OS_API_KEY")
    code, out, _ = command(FakeAirflow(it), "--cancel")
    assert code == 4
    assert "B3OS_API_KEY is not set" in out
    code, out, _ = command(FakeAirflow(it), "--cancel", "--credential", "another")
    assert (code, out) == (0, "Nothing is left behind.\n")


@pytest.mark.parametrize("options", [(), ("--cancel",), ("--json",), ("--cancel", "--json")])
def test_what_cannot_be_told_is_shown_in_every_form_of_the_command(
    after: Any, command: Any, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    it, _ = after("b3os", "failed")
    monkeypatch.setenv("B3OS_API_KEY", "invalid-key")
    code, out, err = command(FakeAirflow(it), *options)
    assert (code, sum("was answered 401" in line for line in out.splitlines())) == (4, 1)
    assert "cancelled" not in err


def test_a_provider_from_elsewhere_is_imported_only_where_the_user_names_it(command: Any) -> None:
    ref = {"provider": "acme", "run_id": "r1", "parents": {}}
    record = {"state": "submitted", "ref": ref, "provider": "this:that", "conn_id": "acme"}
    code, out, _ = command(FakeAirflow(Instance("a_task", "failed", store={"runops": record})))
    assert code == 4
    assert "add --provider this:that" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--since", "yesterday"], "a duration such as 90m, 12h or 7d"),
        (["--url", "http://airflow.example.com"], "in the clear"),
        (["--provider", "this:that"], "cannot be imported"),
    ],
)
def test_a_wrong_option_is_exit_code_2_and_sends_nothing(command: Any, options: list[str], message: str) -> None:
    airflow = FakeAirflow()
    code, _, err = command(airflow, *options)
    assert (code, airflow.requests) == (2, [])
    assert message in err


def test_a_user_and_a_password_are_changed_for_a_token(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_TOKEN")
    code, _, err = command(FakeAirflow())
    assert code == 4
    assert "AIRFLOW_TOKEN" in err
    monkeypatch.setenv("AIRFLOW_USERNAME", "somebody")
    monkeypatch.setenv("AIRFLOW_PASSWORD", "password-canary-77")
    airflow = FakeAirflow()

    def login(request: httpx.Request) -> httpx.Response | None:
        if request.url.path != "/auth/token":
            return None
        assert json.loads(request.content) == {"username": "somebody", "password": "password-canary-77"}
        return httpx.Response(201, json={"access_token": TOKEN})

    airflow.before = login
    code, out, err = command(airflow)
    assert (code, out) == (0, "Nothing is left behind.\n")
    airflow.before = lambda request: httpx.Response(401, json={"detail": "no"})
    code, out, err = command(airflow)
    assert code == 4
    assert "password-canary-77" not in out + err


# --- inside of a task ---


@pytest.mark.parametrize("fields", [{"password": TOKEN}, {"login": "somebody", "password": "password-canary-77"}])
def test_a_task_reads_airflow_with_one_connection_and_each_run_with_its_own(
    host: Any, after: Any, connect: Any, monkeypatch: pytest.MonkeyPatch, fields: dict[str, str]
) -> None:
    it, _ = after("onepin", "failed")
    other, _ = after("b3os", "failed")
    other.task_id = "another_task"
    airflow = FakeAirflow(it, other)
    airflow.before = lambda request: (
        httpx.Response(201, json={"access_token": TOKEN}) if request.url.path == "/auth/token" else None
    )
    monkeypatch.setattr("runops.core.transport.json_api.sync_transport", lambda root, network: airflow)
    connect("airflow_api", "http", host="http://127.0.0.1:8080", **fields)
    listed = cancel_orphans(cancel=False)
    assert {(line["provider"], line["act"]) for line in listed} == {("onepin", None), ("b3os", None)}
    assert {line["act"] for line in cancel_orphans()} == {"cancelled"}
    for provider in ("onepin", "b3os"):
        assert len(host.emulator.requests(provider=provider, action="cancel")) == 1
    host.clock.now += 60
    assert cancel_orphans() == []


def test_a_maintenance_task_shows_how_many_are_left_of_each_service(
    host: Any, after: Any, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[dict[str, float]] = []

    def send(metric: Metric, value: float, tags: Mapping[str, str]) -> None:
        if metric is ORPHANS:
            shown[-1][tags["provider"]] = value

    monkeypatch.setattr("runops.airflow.maintenance.METER", Meter(send))
    it, _ = after("onepin", "failed")
    airflow = FakeAirflow(it)
    monkeypatch.setattr("runops.core.transport.json_api.sync_transport", lambda root, network: airflow)
    connect("airflow_api", "http", host="http://127.0.0.1:8080", password=TOKEN)
    for cancel in (False, True):
        shown.append({})
        cancel_orphans(cancel=cancel)
    listed, cancelled = shown
    assert listed == {**dict.fromkeys((*PROVIDERS, "nekt"), 0), "onepin": 1}
    assert cancelled == dict.fromkeys((*PROVIDERS, "nekt"), 0)


def test_the_connection_to_airflow_must_name_a_host_and_hold_something(connect: Any) -> None:
    connect("airflow_api", "http")
    with pytest.raises(AirflowException, match="'airflow_api' has no host"):
        cancel_orphans()
    connect("airflow_api", "http", host="http://127.0.0.1:8080", password="")
    with pytest.raises(AirflowException, match="connection 'airflow_api' holds neither"):
        cancel_orphans()
    connect("airflow_api", "http", host="http://airflow.example.com", password="token-canary-5")
    with pytest.raises(AirflowException, match="in the clear") as caught:
        cancel_orphans()
    assert "token-canary-5" not in str(caught.value)
