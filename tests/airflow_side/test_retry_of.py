"""An operator with ``retry_of``, and the acts of hooks: a failed run goes on once, whatever dies in between."""

from __future__ import annotations

from typing import Any

import pytest

from runops.airflow import B3osHook, B3osRunOperator, NexioHook, NexioRunOperator, OnepinHook, RunOperator
from runops.airflow.exceptions import (
    ConfigurationError,
    ConflictError,
    RequestRefused,
    RunFailed,
    ServiceUnavailable,
    SubmitUncertainError,
)
from runops.core.model.errors import ConfigurationError as RefusedInDag
from runops.core.model.errors import NotSupported
from tests.airflow_side import test_crash_moments as moments
from tests.services import WORKFLOW

PARENT = {"workflow_id": "wf_1"}


@pytest.fixture(params=[False, True], ids=["worker", "deferrable"])
def deferrable(request: pytest.FixtureRequest) -> bool:
    return request.param


def failed(host: Any, **options: Any) -> str:
    run_id = host.emulator.create_run("b3os", script="failed", seconds=20, parents=PARENT, **options)
    host.emulator.advance(None, run_id=run_id)
    return run_id


def operator(run_id: str, **arguments: Any) -> Any:
    return B3osRunOperator(task_id="again", workflow_id="wf_1", retry_of=run_id, **arguments)


def posts(host: Any) -> list[str]:
    return [entry["run_id"] for entry in host.emulator.requests(action="retry")]


def new_runs(host: Any, *known: str) -> list[str]:
    return [run["run_id"] for run in host.emulator.runs(provider="b3os") if run["run_id"] not in known]


def test_a_failed_run_goes_on_as_the_task_s_own_run(host: Any, deferrable: bool) -> None:
    run_id = failed(host)
    ended = host.run(operator(run_id, deferrable=deferrable))
    assert ended.error is None
    assert ended.result["outcome"] == "succeeded"
    assert [ended.result["run_id"]] == new_runs(host, run_id)
    assert ended.xcoms["run_submitted"]["ref"]["run_id"] == ended.result["run_id"], "runops orphans must know of it"
    assert host.emulator.requests(action="submit") == []
    assert posts(host) == [run_id]


def test_a_generic_operator_does_the_same(host: Any) -> None:
    run_id = failed(host)
    task = RunOperator(task_id="again", provider="b3os", arguments=PARENT, retry_of=run_id)
    assert host.run(task).result["outcome"] == "succeeded"


def test_a_task_s_own_retry_goes_on_from_the_run_that_failed_last(host: Any, deferrable: bool) -> None:
    """The first run failed earlier: to retry it again would repeat what the second one has done since."""
    first = failed(host, on_retry="failed")
    context = host.context()
    tries = []
    for _ in range(2):
        ended = host.run(operator(first, deferrable=deferrable), context)
        assert type(ended.error) is RunFailed
        tries.append(ended.xcoms["run_id"])
        context["ti"].next_try()
        host.emulator.set_defaults("b3os", script="failed", seconds=20)
    assert posts(host) == [first, tries[0]]


def test_it_does_so_as_well_after_a_try_in_which_the_service_was_away(host: Any) -> None:
    first = failed(host, on_retry="failed")
    context = host.context()
    second = host.run(operator(first), context).xcoms["run_id"]
    context["ti"].next_try()
    for _ in range(2):
        host.emulator.add_fault(kind="status", status=503, provider="b3os", action="get", count=20)
        assert host.run(operator(first), context).error is not None
        host.emulator.reset(["faults"])
        context["ti"].next_try()
    assert host.run(operator(first), context).error is None
    assert posts(host) == [first, second]


def test_it_does_so_as_well_after_a_refusal_of_its_own_post(host: Any) -> None:
    first = failed(host, on_retry="failed")
    context = host.context()
    second = host.run(operator(first), context).xcoms["run_id"]
    for status in (402, 409):
        context["ti"].next_try()
        host.emulator.add_fault(kind="status", status=status, provider="b3os", action="retry")
        error = host.run(operator(first, on_conflict="fail"), context).error
        assert type(error) is (ConflictError if status == 409 else RequestRefused)
    context["ti"].next_try()
    assert host.run(operator(first), context).error is None
    assert posts(host) == [first, second, second, second]


def test_a_clear_goes_on_from_the_run_that_failed_last_too(host: Any) -> None:
    first = failed(host, on_retry="failed")
    context = host.context()
    second = host.run(operator(first), context).xcoms["run_id"]
    context["ti"].clear()
    assert host.run(operator(first), context).error is None
    assert posts(host) == [first, second]


def test_another_run_that_somebody_names_after_that_is_taken_as_it_is_named(host: Any) -> None:
    first, other = failed(host, on_retry="failed"), failed(host)
    context = host.context()
    host.run(operator(first), context)
    context["ti"].clear()
    assert host.run(operator(other), context).error is None
    assert posts(host) == [first, other]


@pytest.mark.parametrize("moment", ["during the POST", "between the answer and the record"])
def test_a_death_after_the_post_is_uncertain_and_nothing_is_sent_again(
    host: Any, monkeypatch: pytest.MonkeyPatch, moment: str, deferrable: bool
) -> None:
    run_id = failed(host)
    context = host.context()
    with monkeypatch.context() as dying:
        moments.BEFORE_THE_RECORD[moment](dying)
        with pytest.raises(moments.Killed):
            host.run(operator(run_id, deferrable=deferrable), context)
    context["ti"].next_try()
    ended = host.run(operator(run_id, deferrable=deferrable), context)
    assert type(ended.error) is SubmitUncertainError
    assert new_runs(host, run_id)[0] in str(ended.error)
    assert posts(host) == [run_id]


def test_a_death_before_the_post_is_uncertain_as_well_and_sends_nothing(
    host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = failed(host)
    context = host.context()
    with monkeypatch.context() as dying:
        moments.before_the_post(dying)
        with pytest.raises(moments.Killed):
            host.run(operator(run_id), context)
    context["ti"].next_try()
    assert type(host.run(operator(run_id), context).error) is SubmitUncertainError
    assert posts(host) == []


def test_a_death_in_the_wait_is_followed_by_the_same_run(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = failed(host)
    context = host.context()
    with monkeypatch.context() as dying:
        moments.before_the_wait(dying)
        with pytest.raises(moments.Killed):
            host.run(operator(run_id), context)
    context["ti"].next_try()
    ended = host.run(operator(run_id), context)
    assert ended.error is None
    assert [ended.result["run_id"]] == new_runs(host, run_id)
    assert posts(host) == [run_id]


def test_a_run_that_failed_after_its_try_had_died_is_the_one_that_the_next_goes_on_from(
    host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = failed(host, on_retry="failed")
    context = host.context()
    with monkeypatch.context() as dying:
        moments.before_the_wait(dying)
        with pytest.raises(moments.Killed):
            host.run(operator(first), context)
    (second,) = new_runs(host, first)
    host.emulator.advance(None, run_id=second)
    context["ti"].next_try()
    assert host.run(operator(first), context).error is None
    assert posts(host) == [first, second]


def test_a_lost_answer_is_uncertain_with_the_candidates(host: Any, deferrable: bool) -> None:
    run_id = failed(host)
    host.emulator.add_fault(kind="reset", when="after", provider="b3os", action="retry")
    ended = host.run(operator(run_id, deferrable=deferrable))
    assert type(ended.error) is SubmitUncertainError
    assert new_runs(host, run_id)[0] in str(ended.error)


def test_with_adopt_uncertain_the_single_new_run_is_waited_for(host: Any, deferrable: bool) -> None:
    run_id = failed(host)
    host.emulator.add_fault(kind="reset", when="after", provider="b3os", action="retry")
    ended = host.run(operator(run_id, deferrable=deferrable, adopt_uncertain=True))
    assert [ended.result["run_id"]] == new_runs(host, run_id)
    assert posts(host) == [run_id]


@pytest.mark.parametrize("script", ["succeeded", "running", "cancelled"])
def test_a_run_that_has_not_failed_is_refused_for_good_and_named_by_its_state(host: Any, script: str) -> None:
    run_id = host.emulator.create_run("b3os", script=script, parents=PARENT)
    host.emulator.advance(None)
    ended = host.run(operator(run_id))
    assert type(ended.error) is RequestRefused
    assert "only one that failed can be retried" in str(ended.error)
    assert posts(host) == []


@pytest.mark.parametrize("rendered", [None, "", "  ", "None", True, ["run_1"]])
def test_a_template_that_gives_nothing_is_never_taken_for_a_plain_submit(host: Any, rendered: Any) -> None:
    task = operator("{{ ti.xcom_pull('pay_out', key='run_id') }}")
    task.retry_of = rendered
    ended = host.run(task)
    assert type(ended.error) is ConfigurationError
    assert "which is no id of a run: nothing was submitted" in str(ended.error)
    assert host.emulator.requests(method="POST") == []


def test_a_payload_beside_it_is_refused_before_anything_is_sent(host: Any) -> None:
    ended = host.run(operator(failed(host), payload={"amount": 3}))
    assert type(ended.error) is ConfigurationError
    assert "payload cannot be given with retry_of" in str(ended.error)
    assert posts(host) == []


def test_the_run_of_another_workflow_is_refused_before_the_post(host: Any) -> None:
    task = B3osRunOperator(task_id="again", workflow_id="wf_2", retry_of=failed(host))
    ended = host.run(task)
    assert type(ended.error) is ConfigurationError
    assert "is of workflow_id 'wf_1', not of workflow_id 'wf_2'" in str(ended.error)
    assert posts(host) == []


def test_it_is_refused_in_the_dag_where_the_service_documents_no_retry() -> None:
    with pytest.raises(NotSupported, match="Nexio documents no way to retry a run"):
        RunOperator(task_id="again", provider="nexio", arguments={"engine_slug": "p"}, retry_of="x")
    with pytest.raises(RefusedInDag, match="takes no argument 'retry_of'"):
        NexioRunOperator(task_id="again", engine_slug="p", retry_of="x")  # pyright: ignore[reportCallIssue]


def test_it_is_a_template_field_and_no_argument_of_the_submit() -> None:
    assert "retry_of" in B3osRunOperator.template_fields
    assert "retry_of" not in B3osRunOperator.named_fields
    assert "retry_of" not in NexioRunOperator.template_fields


# --- hooks -----------------------------------------------------------------------------------------------------


def paused(host: Any, **options: Any) -> str:
    made = host.made("onepin", script="paused", **options)
    host.emulator.advance(15, provider="onepin")
    return made["run_id"]


def test_a_hook_has_a_paused_run_go_on_and_gives_what_xcom_can_hold(host: Any) -> None:
    run_id = paused(host)
    result = OnepinHook().resume(run_id, workflow_id=WORKFLOW)
    assert (result["run_id"], result["state"], result["outcome"]) == (run_id, "running", None)


@pytest.mark.parametrize(
    ("script", "kind", "said"),
    [("succeeded", RequestRefused, "only a run that is paused"), ("paused", ConflictError, "stays paused")],
)
def test_a_hook_s_resume_that_cannot_be_is_told_in_airflow_s_terms(
    host: Any, script: str, kind: type[Exception], said: str
) -> None:
    made = host.made("onepin", script=script, on_resume="refused")
    host.emulator.advance(None)
    with pytest.raises(kind, match=said):
        OnepinHook().resume(made["run_id"], workflow_id=WORKFLOW)


def test_a_hook_retries_a_failed_run_and_gives_the_id_of_the_new_one(host: Any) -> None:
    run_id = failed(host)
    assert [B3osHook().retry(run_id)] == new_runs(host, run_id)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"kind": "reset", "when": "after", "action": "retry"}, SubmitUncertainError),
        ({"kind": "status", "status": 409, "action": "retry"}, ConflictError),
        ({"kind": "status", "status": 503, "action": "get"}, ServiceUnavailable),
    ],
)
def test_a_hook_s_retry_that_fails_is_told_in_airflow_s_terms(
    host: Any, fault: dict[str, Any], kind: type[Exception]
) -> None:
    run_id = failed(host)
    host.emulator.add_fault(provider="b3os", count=None, **fault)
    with pytest.raises(kind):
        B3osHook().retry(run_id, on_conflict="fail")
    assert len(posts(host)) <= 1


def test_a_missing_ability_is_a_missing_method() -> None:
    kinds = (NexioHook, OnepinHook, B3osHook)
    found = {kind: [act for act in ("resume", "retry") if hasattr(kind, act)] for kind in kinds}
    assert found == {NexioHook: [], OnepinHook: ["resume"], B3osHook: ["retry"]}
