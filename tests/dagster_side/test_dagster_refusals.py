"""Every refusal in its whole text: who refuses, which argument, and what to write instead; and with which code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

import runops.dagster
from runops.core import ConfigurationError, RunRef, find
from runops.dagster import (
    NektResource,
    NexioResource,
    RunResource,
    build_run_asset,
    build_run_check,
    build_run_multi_asset,
    build_run_op,
    build_run_sensor,
    wait_for_run,
    wait_for_runs,
)
from runops.dagster.builders.plan import call_of
from runops.dagster.component.callbacks import callbacks_of
from runops.dagster.orphans import instance_at
from runops.dagster.providers import example_call
from runops.dagster.resource import resource_of
from runops.dagster.tick.cursor import Cursor

NEXIO = NexioResource(api_key="k")
SENSOR: dict[str, Any] = {"name": "s", "resource_key": "nyx", "targets": {"a/b": "nightly"}}
ASSET: dict[str, Any] = {"key": "a", "resource_key": "nyx"}
SPECS = [dg.AssetSpec("t")]


def built(builder: Any, **given: Any) -> Callable[[], Any]:
    return lambda: builder(**given)


def sensor(**given: Any) -> Callable[[], Any]:
    return built(build_run_sensor, **{**SENSOR, **given})


def asset(**given: Any) -> Callable[[], Any]:
    return built(build_run_asset, **{**ASSET, **given})


def tables(**given: Any) -> Callable[[], Any]:
    return built(build_run_multi_asset, **{"name": "m", "specs": SPECS, "resource_key": "nyx", **given})


TARGETS = "build_run_sensor('s'): targets must map asset keys to what is watched for them, one at least."
REFUSED: list[tuple[Callable[[], Any], str]] = [
    (sensor(run_config=dict), "build_run_sensor('s'): run_config belongs to request_job=."),
    (
        sensor(dynamic_partitions=dg.DynamicPartitionsDefinition(lambda _: [])),
        "build_run_sensor('s'): dynamic_partitions needs a name.",
    ),
    (sensor(targets={}), TARGETS),
    (sensor(targets=["a"]), TARGETS),
    (
        sensor(targets={"a/b": [RunRef(provider="nyx", run_id="r"), "r"]}),
        "build_run_sensor('s'): targets['a/b'] must be a parent or a reference to a run, not list.",
    ),
    (
        sensor(targets={"a/b": []}),
        "build_run_sensor('s'): targets['a/b'] must be a parent or a reference to a run, not list.",
    ),
    (
        sensor(targets={"a/b": [RunRef(provider="nyx", run_id="r"), RunRef(provider="nyx", run_id="../r")]}),
        ("build_run_sensor('s'): targets['a/b']: run_id='../r' cannot be an id: it holds '..', a slash or a control "
        "character."),
    ),
    (
        sensor(targets={"a/b": 7}),
        "build_run_sensor('s'): targets['a/b'] must be a parent or a reference to a run, not int.",
    ),
    (sensor(targets={"a/b": ""}), "build_run_sensor('s'): targets['a/b']: parent is empty: give the id as the provider shows it."),  # noqa: E501
    (
        sensor(resource_key="a b"),
        "build_run_sensor('s'): resource_key must name a resource of the definitions, such as 'nexio'.",
    ),
    (sensor(job="j"), "build_run_sensor('s') decides job itself: leave it out."),
    (
        asset(call={}, run_id="r"),
        "build_run_asset('a'): give either call= (to submit a run), calls= (to submit many), run_id= (to wait for one) or run_ids= (to wait for many).",  # noqa: E501
    ),
    (
        asset(call={}, parents={"a": "b"}),
        "build_run_asset('a'): parents belongs to run_id= and run_ids=; a call names its own.",
    ),
    (asset(call=7), "build_run_asset('a'): call must be a mapping or a function of the context, not int."),
    (asset(calls=[{}, 7]), "build_run_asset('a'): calls[1] must be a mapping, not int."),
    (
        asset(run_id="r", stop_early=True, max_active=2),
        "build_run_asset('a'): max_active belongs to calls= and run_ids=, which are about many runs.",
    ),
    (
        asset(run_ids=["r"], on_phase={"running": []}),
        "build_run_asset('a'): on_phase belongs to one run, and a step of many would call once for each of thousands: give it to steps of one run each, such as those of a partitioned asset.",  # noqa: E501
    ),
    (
        lambda: build_run_op(
            name="o", resource_key="nyx", run_id="r", ins={"b": dg.In(int), "n": dg.In(dg.Nothing), "a": dg.In(str)}
        ),
        "build_run_op('o'): the input a, b must be a dg.In(dg.Nothing).",
    ),
    (tables(specs=[], run_id="r"), "build_run_multi_asset('m'): specs must hold one asset at least."),
    (
        tables(made="all", run_id="r"),
        "build_run_multi_asset('m'): made must be a function of the snapshot, not str.",
    ),
    (
        tables(made=lambda snapshot, read: [], run_ids=["r"]),
        "build_run_multi_asset('m'): made belongs to call= and run_id=, where one run makes the assets.",
    ),
    (
        lambda: build_run_check(asset="a", resource_key="nyx"),
        "build_run_check('runops_outcome'): give either parent= (to judge its newest run) or run_id= (to judge that run).",  # noqa: E501
    ),
    (
        lambda: call_of(NEXIO, ["engine"]),
        "call must give a mapping of arguments, not list.",
    ),
    (lambda: call_of(NEXIO, 7, "calls[3]"), "calls[3] must give a mapping of arguments, not int."),
    (
        lambda: call_of(NEXIO, {"input": [{"a": (dg.EnvVar("RUNOPS_NOT_SET_9"),)}]}),
        "The environment variable RUNOPS_NOT_SET_9, named in call, is not set.",
    ),
    (
        lambda: NektResource(api_key="k").recent(),
        "recent needs exactly one of pipeline, source, destination, transformation.",
    ),
    (
        lambda: NektResource(api_key="k").recent("p", source="s"),
        "recent needs exactly one of pipeline, source, destination, transformation.",
    ),
    (
        lambda: wait_for_runs(dg.build_op_context(), NEXIO),
        "wait_for_runs needs either calls= (to submit runs) or refs= (to wait for them).",
    ),
    (
        lambda: instance_at("/no/such/folder").__enter__(),
        "There is no folder '/no/such/folder': it should hold the dagster.yaml of the instance.",
    ),
    (lambda: NexioResource(), "NexioResource has neither api_key nor api_key_file: give one, such as api_key=dg.EnvVar('NAME')."),  # noqa: E501
    (
        lambda: NexioResource(api_key="k", api_key_file="/k"),
        "NexioResource has both api_key and api_key_file: give one, such as api_key=dg.EnvVar('NAME').",
    ),
    (
        lambda: NexioResource(api_key_file="/no/such/key").client(),
        "api_key_file of NexioResource: '/no/such/key' cannot be read (FileNotFoundError).",
    ),
    (
        lambda: NexioResource(api_key=dg.EnvVar("RUNOPS_NOT_SET_9")).client(),
        "The environment variable RUNOPS_NOT_SET_9 (api_key of NexioResource) is not set: put the API key there.",
    ),
    (
        lambda: NexioResource(api_key="k", verify=dg.EnvVar("RUNOPS_NOT_SET_9")).client(),
        "The environment variable RUNOPS_NOT_SET_9 (verify of NexioResource) is not set: put the path there.",
    ),
    (
        lambda: NexioResource(api_key="k", proxy=dg.EnvVar("RUNOPS_NOT_SET_9")).client(),
        "The environment variable RUNOPS_NOT_SET_9 (proxy of NexioResource) is not set: put the address of the proxy there.",  # noqa: E501
    ),
    (
        lambda: NexioResource(api_key="hidden-0123456789abcdef").client(),
        "api_key of NexioResource holds a stand-in for a text that this process was never given: use dg.EnvVar for the API key.",  # noqa: E501
    ),
    (lambda: callbacks_of({"running": "json.dumps"}), "on_phase[running]='json.dumps' is no import path: write package.module:function, such as my_project.alerts:tell."),  # noqa: E501
    (lambda: callbacks_of({"running": ["operator:eq", ":tell"]}), "on_phase[running][1]=':tell' is no import path: write package.module:function, such as my_project.alerts:tell."),  # noqa: E501
    (lambda: callbacks_of({"running": "no_such_module_9:tell"}), "on_phase[running]: the module 'no_such_module_9' cannot be imported (ModuleNotFoundError: No module named 'no_such_module_9')."),  # noqa: E501
    (lambda: callbacks_of({"running": "operator:eqq"}), "on_phase[running]: 'operator' has no 'eqq'. Did you mean 'eq'?"),  # noqa: E501
    (
        lambda: Cursor.parse('{"version":3}'),
        "The sensor's cursor has version 3, and this runops writes 2: it was written by another release. Use that one, or reset the cursor to begin anew.",  # noqa: E501
    ),
    *[
        (lambda text=text: Cursor.parse(text), f"The sensor's cursor cannot be read ({kind}); reset it to begin anew.")
        for text, kind in [
            ("{", "JSONDecodeError"),
            ("[]", "TypeError"),
            ('{"version":2}', "KeyError"),
            ('{"version":2,"targets":[],"first":null}', "AttributeError"),
            ('{"version":2,"targets":{"a":{"trail":{"open":[],"done":{}}}},"first":null}', "TypeError"),
            ('{"version":2,"targets":{"a":{"trail":{"open":{},"done":[]}}},"first":null}', "TypeError"),
        ]
    ],
]  # fmt: skip


@pytest.mark.parametrize(("act", "told"), REFUSED, ids=[told[:70] for _, told in REFUSED])
def test_what_cannot_be_used_is_refused_with_who_which_and_what_to_write(act: Callable[[], Any], told: str) -> None:
    with pytest.raises((ConfigurationError, dg.Failure)) as raised:
        act()
    error = raised.value
    text = error.text if isinstance(error, ConfigurationError) else str(error.description).rpartition(" [")[0]
    assert text == told


NOT_SET = dg.EnvVar("RUNOPS_NOT_SET_9")


@pytest.mark.parametrize(
    ("act", "code"),
    [
        (lambda: Cursor.parse('{"version":3}'), "record-unreadable"),
        (lambda: Cursor.parse("{"), "record-unreadable"),
        (lambda: NexioResource(), "bad-connection"),
        (lambda: NexioResource(api_key="hidden-0123456789abcdef").client(), "bad-connection"),
        (lambda: NexioResource(api_key="k", verify=NOT_SET).client(), "bad-connection"),
        (lambda: NexioResource(api_key=NOT_SET).client(), "missing-key"),
        (lambda: NexioResource(api_key_file="/no/such/key").client(), "missing-key"),
        (lambda: NexioResource(api_key_file="/dev/null").client(), "missing-key"),
        (lambda: callbacks_of({"running": "json.dumps"}), "unknown-name"),
        (lambda: callbacks_of({"running": "no_such_module_9:tell"}), "unknown-name"),
        (lambda: callbacks_of({"running": "operator:eqq"}), "unknown-name"),
    ],
)
def test_a_refusal_ends_with_the_code_of_its_page(act: Callable[[], Any], code: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        act()
    assert str(raised.value).endswith(f" [{code}]")


@pytest.mark.parametrize("given", [{}, {"call": NEXIO.call(engine_slug="e", input={}), "ref": NEXIO.ref("r")}])
def test_a_wait_needs_one_thing_to_wait_for(given: dict[str, Any]) -> None:
    with pytest.raises((ConfigurationError, dg.Failure), match=r"wait_for_run needs either call= .* or ref="):
        wait_for_run(dg.build_op_context(), NEXIO, **given)


@pytest.mark.parametrize(
    ("call", "given"),
    [({"engine_slug": "e"}, "a dict"), (find("b3os").call(workflow_id="w"), "a call of b3os")],
)
def test_a_wait_takes_only_a_call_of_its_own_service(call: Any, given: str) -> None:
    text = f"call is {given}; build it with resource.call(...) of the Nexio resource that is used."
    with pytest.raises((ConfigurationError, dg.Failure)) as raised:
        wait_for_run(dg.build_op_context(), NEXIO, call=call)
    assert text in str(raised.value)


def test_a_resource_of_another_kind_is_refused_with_its_key_and_kind() -> None:
    resources = SimpleNamespace(nexio=3, right=NEXIO)
    assert resource_of(resources, "right") is NEXIO
    with pytest.raises(ConfigurationError) as raised:
        resource_of(resources, "nexio")
    assert str(raised.value) == (
        "The resource 'nexio' is a int, not a resource of runops.dagster such as NexioResource. [bad-connection]"
    )


def test_without_a_folder_the_variable_of_dagster_says_which_instance_to_look_at(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    with (
        pytest.raises(ConfigurationError, match="says --dagster-home, or the variable DAGSTER_HOME"),
        instance_at(None),
    ):
        pass
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with instance_at(None) as instance:
        assert instance.root_directory == str(tmp_path)


def test_an_empty_cursor_begins_anew() -> None:
    assert Cursor.parse(None) == Cursor.parse("") == Cursor({}, None)
    assert Cursor.parse('{"version":2,"targets":{},"first":7}').first is None


def test_a_name_that_the_package_lacks_is_an_attribute_error_and_all_others_are_listed() -> None:
    with pytest.raises(AttributeError, match=r"module 'runops.dagster' has no attribute 'build_run_assets'"):
        _ = runops.dagster.build_run_assets
    assert set(runops.dagster.__all__) <= set(dir(runops.dagster))


def test_an_example_of_a_submission_is_that_of_the_service_or_empty() -> None:
    assert example_call("nexio") == NexioResource.example
    assert (example_call("nekt"), example_call("acme")) == ({}, {})


def test_any_service_s_resource_names_the_parents_that_an_address_needs() -> None:
    resource = RunResource(api_key="k", provider="onepin", options={"workspace_id": "w"})
    assert resource.client_options == {"workspace_id": "w"}
    assert resource.ref("r", {"workflow_id": "7c9e6679-7425-40de-944b-e07fc1f90ae7"}).parents
    with pytest.raises(ConfigurationError, match="workflow_id"):
        resource.ref("r")
    call = RunResource(api_key="k", provider="b3os").retry_call("r", {"workflow_id": "wf"})
    assert (call.provider, call.parent) == ("b3os", {"workflow_id": "wf"})
