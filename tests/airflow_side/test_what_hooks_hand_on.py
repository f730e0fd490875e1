"""What a hook hands to its clients and to the acts of a service, and a trigger to its hook and its record."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_mock import MockerFixture

from runops.airflow import hook as hook_module
from runops.airflow import trigger_base
from runops.airflow.exceptions import TriggerCrashed
from runops.airflow.hook import AsyncConnectionKey, ConnectionKey, RunHook
from runops.airflow.metrics import METER
from runops.airflow.trigger import RunTrigger
from runops.core import RunRef, find

REF = RunRef(provider="b3os", run_id="r1")
SETTINGS = {"token": "t", "base_url": "u", "states": {"odd": "failed"}, "origin": "o", "proxy": None}


@pytest.fixture
def hook(mocker: MockerFixture) -> Any:
    mocker.patch.object(RunHook, "_settings", SETTINGS)
    mocker.patch.object(hook_module, "id_of_try", return_value="of the try")
    return RunHook("mine", provider="nyx", states={"odd": "degraded", "even": "failed"})


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({}, "runops_default"), ({"provider": "nyx"}, "nyx_default"), ({"conn_id": "mine"}, "mine"),
        ({"conn_id": "mine", "provider": "nyx"}, "mine"), ({"conn_id": "", "provider": "b3os"}, "b3os_default"),
    ],
    ids=str,
)  # fmt: skip
def test_a_connection_is_named_or_the_default_of_its_service(given: dict[str, Any], named: str) -> None:
    assert RunHook(**given).conn_id == named


def checked(given: dict[str, Any], trace_id: str) -> None:
    """What both clients are given, but for the way to the key."""
    provider = given.pop("provider")
    assert provider.name == "nyx"
    assert given == {**SETTINGS, "states": None, "meter": METER, "trace_id": trace_id}


def test_a_client_has_the_settings_the_words_the_meter_and_the_trace(hook: Any, mocker: MockerFixture) -> None:
    made = mocker.patch.object(hook_module, "RunClient")
    assert hook.client() is hook.get_conn() is made.return_value
    given = dict(made.call_args.kwargs)
    assert given.pop("reread") == ConnectionKey("mine")
    checked(given, "of the try")
    own = RunHook("mine", provider="nyx", trace_id="its own")
    own.client(request_timeout=3.0, token="another")
    given = dict(made.call_args.kwargs)
    assert (given.pop("request_timeout"), given["token"], given["trace_id"]) == (3.0, "another", "its own")


@pytest.mark.parametrize("beside", [True, False])
def test_a_client_of_a_loop_has_the_same_and_asks_where_it_may(hook: Any, mocker: MockerFixture, beside: bool) -> None:
    made = mocker.patch.object(hook_module, "AsyncRunClient")
    read = mocker.patch.object(hook, "_read_settings", return_value=SETTINGS)
    asked: list[Any] = []

    async def ask(work: Any) -> Any:
        asked.append(work)
        return work()

    settings: dict[str, Any] = {"ask": ask} if beside else {}
    assert asyncio.run(hook.async_client(**settings, request_timeout=3.0)) is made.return_value
    given = dict(made.call_args.kwargs)
    reread = given.pop("reread")
    assert given.pop("request_timeout") == 3.0
    checked(given, "of the try")
    assert (len(asked), read.call_count) == ((1, 0) if beside else (0, 1))
    if beside:
        assert (reread.func, reread.args) == (ask, (ConnectionKey("mine"),))
    else:
        assert reread == AsyncConnectionKey("mine")


def test_a_run_goes_on_or_is_retried_by_its_address(hook: Any, mocker: MockerFixture) -> None:
    client = mocker.MagicMock()
    client.__enter__.return_value = client
    mocker.patch.object(hook, "client", return_value=client)
    assert hook._resume("r1", {"a": "b"}) is client.resume.return_value.to_result.return_value
    client.resume.assert_called_once_with(client.ref.return_value)
    assert hook._retry("r2", None, {"adopt_uncertain": True}) is client.retry.return_value.run_id
    client.retry.assert_called_once_with(client.ref.return_value, adopt_uncertain=True)
    assert client.ref.call_args_list == [mocker.call("r1", {"a": "b"}), mocker.call("r2", None)]


# --- a trigger ------------------------------------------------------------------------------------------------------


def trigger(**given: Any) -> Any:
    arguments: dict[str, Any] = {"provider": "b3os", "ref": REF.model_dump(), "patience": {}, **given}
    return RunTrigger(**arguments)


@pytest.mark.parametrize("task", [True, False])
def test_a_trigger_reads_with_its_connection_its_words_and_the_trace_of_its_try(
    mocker: MockerFixture, task: bool
) -> None:
    made = mocker.patch.object(trigger_base, "RunHook")
    traced = mocker.patch.object(trigger_base, "id_of_try", return_value="a trace")
    it = trigger(conn_id="mine", patience={"states": {"odd": "failed"}})
    if task:
        it.task_instance = SimpleNamespace(task_id="a_task")
    it._hook()
    trace = "a trace" if task else None
    made.assert_called_once_with("mine", provider="b3os", states={"odd": "failed"}, trace_id=trace)
    assert [call.args for call in traced.call_args_list] == ([(it.task_instance,)] if task else [])


@pytest.mark.parametrize(("at", "trusted"), [(99.9, True), (100.0, False), (101.0, False)])
@pytest.mark.parametrize(
    ("wanted", "hears", "cancels"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_a_record_of_a_trigger_says_whose_it_is_and_trusts_its_worker_only_at_first(
    mocker: MockerFixture, at: float, trusted: bool, wanted: bool, hears: bool, cancels: bool
) -> None:
    kept = mocker.patch.object(trigger_base, "record_of")
    mocker.patch.object(trigger_base, "kills_in_triggerer", return_value=hears)
    mocker.patch.object(trigger_base, "time", SimpleNamespace(time=lambda: at))
    it = trigger(cancel_on_kill=wanted, not_before=100.0, patience={"shown": {"state": "x"}})
    hook: Any = SimpleNamespace(conn_id="mine", provider=find("b3os"))
    assert it._keep_record(hook, "turn", run_id="r1") is it.record is kept.return_value
    shown = {"state": "x"} if trusted else None
    kept.assert_called_once_with(
        it.task_instance, hook.provider, shown, "turn", conn_id="mine", cancels=cancels, run_id="r1"
    )
    it._keep_record(hook, cancels="as it is said")
    assert (kept.call_args.args[3], kept.call_args.kwargs["cancels"]) == (None, "as it is said")


def test_templates_are_filled_once_they_are_given_and_what_they_raise_is_said(
    mocker: MockerFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    from jinja2 import UndefinedError

    render = mocker.patch.object(trigger_base.BaseTrigger, "render_template_fields", create=True)
    made = mocker.patch.object(trigger_base, "environment", return_value="ours")
    it = trigger()
    asyncio.run(it._fill_templates())
    render.assert_not_called()
    it.render_template_fields("a context")
    asyncio.run(it._fill_templates())
    render.assert_called_once_with("a context", "ours")
    it.render_template_fields("a context", "given")
    asyncio.run(it._fill_templates())
    assert (render.call_args.args, made.call_count) == (("a context", "given"), 1)
    for error, why in (
        (UndefinedError("'x' is undefined"), "UndefinedError: 'x' is undefined."),
        (ValueError("secret"), "ValueError: the log of the trigger says more."),
    ):
        render.side_effect = error
        with pytest.raises(TriggerCrashed) as caught:
            asyncio.run(it._fill_templates())
        assert caught.value.text == f"The templates of the task could not be rendered in the triggerer: {why}"
    assert "The templates of the task could not be rendered." in capsys.readouterr().out
    render.side_effect = TriggerCrashed("it took too long")
    with pytest.raises(TriggerCrashed, match="it took too long"):
        asyncio.run(it._fill_templates())
