"""What a method of a resource is given arrives at the client that it makes: every argument, with its own value."""

from __future__ import annotations

from typing import Any

import pytest
from pytest_mock import MockerFixture

import runops.dagster
from runops.core import ConfigurationError, RunRef, find
from runops.core.waiting.options import SubmitOptions, WaitSettings
from runops.dagster import B3osResource, OnepinResource, RunResource
from runops.dagster.options import names_of
from runops.dagster.providers import RESOURCES, example_call
from tests.services import CALLS, PROVIDERS, SUBMITTING, WORKFLOW

RUN = "5d1b9a3e-7c42-4f0e-9b16-2a8e4c7d3f05"
OTHER = "11111111-2222-4333-8444-555555555555"
WAIT: dict[str, Any] = {
    "timeout": 601,
    "error_budget": 602,
    "auth_grace": 603,
    "max_paused": 604,
    "max_stalled": 605,
    "max_spend": 6.5,
    "poll_interval": 7,
}
SUBMIT: dict[str, Any] = {"timeout": 701, "submit_grace": 702, "on_conflict": "attach", "adopt_uncertain": True}
EVERY: dict[str, dict[str, Any]] = {
    "nexio": {"engine_slug": "quote", "input": {"a": 1}, "offerings": [{"b": 2}], "engine_version": "1.3"},
    "nyx": {**CALLS["nyx"], "hints": ["be polite"], "extra": {"model": "large"}},
    "onepin": {"workflow_id": WORKFLOW, "script_text": "Good morning", "source_language": "en"},
    "b3os": {"workflow_id": "wf_7", "payload": {"amount": 3}},
}
"""Every argument of each submit."""
PARENTS = {"workflow_id": WORKFLOW}


@pytest.fixture
def client(mocker: MockerFixture) -> Any:
    """The client that each resource makes, which notes what it is given."""
    made = mocker.MagicMock()
    made.__enter__.return_value = made
    mocker.patch.object(runops.dagster.ProviderResource, "client", return_value=made)
    return made


def named(name: str) -> Any:
    kinds = {service: kind for kind, service in RESOURCES.items()}
    return getattr(runops.dagster, kinds[name])(api_key="k")


def generic(name: str) -> Any:
    return RunResource(provider=name, api_key="k")


def reference(name: str) -> RunRef:
    return find(name).ref(RUN, PARENTS if name == "onepin" else None)


def test_the_table_has_every_setting_and_every_argument() -> None:
    assert set(WAIT) == names_of(WaitSettings)
    assert set(SUBMIT) == names_of(SubmitOptions)
    submissions = {name: find(name).submit for name in SUBMITTING}
    assert {name: set(every) for name, every in EVERY.items()} == {
        name: set(submission.arguments) for name, submission in submissions.items() if submission
    }


@pytest.mark.parametrize("name", SUBMITTING)
def test_a_submit_hands_on_every_argument_and_every_setting(name: str, client: Any) -> None:
    client.submit.return_value = reference(name)
    wanted = find(name).call(**EVERY[name])
    sent = f"{wanted.path} {wanted.json!r}"
    assert [value for value in EVERY[name].values() if str(value) not in sent and str(value)[1:-1] not in sent] == []

    assert named(name).call(**EVERY[name]) == wanted
    assert named(name).submit(**EVERY[name], **SUBMIT) is client.submit.return_value
    assert generic(name).call(**EVERY[name]) == wanted
    assert generic(name).submit(wanted, **SUBMIT) is client.submit.return_value
    assert [(call.args, call.kwargs) for call in client.submit.call_args_list] == [((wanted,), SUBMIT)] * 2


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize("method", ["get", "wait", "cancel", "resume", "fetch_result"])
def test_what_is_asked_of_a_run_is_asked_of_that_run_and_answered(method: str, name: str, client: Any) -> None:
    settings = WAIT if method == "wait" else {}
    resource, ref, asked = named(name), reference(name), getattr(client, method)
    if hasattr(resource, method):
        ways: list[tuple[Any, ...]] = [(ref,), (RUN, WORKFLOW) if name == "onepin" else (RUN,)]
    else:
        ways = []
    answers = [getattr(resource, method)(*way, **settings) for way in ways]
    answers += [getattr(generic(name), method)(*way, **settings) for way in ((ref,), (RUN, ref.parents))]
    assert [(call.args, call.kwargs) for call in asked.call_args_list] == [((ref,), settings)] * len(answers)
    assert all(answer is (None if method == "cancel" else asked.return_value) for answer in answers)


@pytest.mark.parametrize("method", ["get", "wait", "cancel", "resume", "fetch_result"])
def test_a_run_of_onepin_that_is_given_without_its_workflow_is_refused(method: str, client: Any) -> None:
    for resource in (named("onepin"), generic("onepin")):
        with pytest.raises(ConfigurationError, match="workflow_id is missing"):
            getattr(resource, method)(RUN)
    assert client.mock_calls == []


def test_a_retry_hands_on_its_run_and_every_setting(client: Any) -> None:
    ref = reference("b3os")
    ways: list[tuple[Any, tuple[Any, ...]]] = [
        (named("b3os"), (RUN,)),
        (named("b3os"), (ref,)),
        (generic("b3os"), (RUN,)),
        (generic("b3os"), (ref,)),
    ]
    assert all(resource.retry(*way, **SUBMIT) is client.retry.return_value for resource, way in ways)
    assert [(call.args, call.kwargs) for call in client.retry.call_args_list] == [((ref,), SUBMIT)] * 4


def test_a_retry_as_a_submission_names_its_run_and_its_workflow() -> None:
    for call in (
        named("b3os").retry_call(RUN, "wf_7"),
        generic("b3os").retry_call(RUN, {"workflow_id": "wf_7"}),
        generic("b3os").retry_call(reference("b3os"), {"workflow_id": "wf_7"}),
    ):
        assert (call.retry_of, dict(call.parent)) == (RUN, {"workflow_id": "wf_7"})
        assert RUN in call.path


@pytest.mark.parametrize(
    ("name", "given", "asked"),
    [
        ("nyx", {"config_name": "nightly"}, {"config_name": "nightly"}),
        ("onepin", {"workflow_id": WORKFLOW}, {"workflow_id": WORKFLOW}),
        ("b3os", {"workflow_id": "wf_7"}, {"workflow_id": "wf_7"}),
        ("nekt", {"pipeline": "orders"}, {"pipeline": "orders"}),
        ("nekt", {"source": "crm"}, {"source": "crm"}),
        ("nekt", {"destination": "lake"}, {"destination": "lake"}),
        ("nekt", {"transformation": "clean"}, {"transformation": "clean"}),
    ],
)
def test_the_newest_runs_are_those_of_the_parent_that_is_given(
    name: str, given: dict[str, str], asked: dict[str, str], client: Any
) -> None:
    assert named(name).recent(**given) is client.recent.return_value
    assert generic(name).recent(asked) is client.recent.return_value
    assert generic(name).recent("orders") is client.recent.return_value
    assert [call.args for call in client.recent.call_args_list] == [(asked,), (asked,), ("orders",)]


def test_a_setting_that_no_method_takes_is_named_with_the_method_and_the_right_one(client: Any) -> None:
    for resource, method, wrong, right in (
        (named("b3os"), "retry", "submit_grce", "submit_grace"),
        (generic("b3os"), "retry", "submit_grce", "submit_grace"),
        (generic("nexio"), "submit", "on_conflct", "on_conflict"),
        (named("onepin"), "wait", "workflow_ids", "workflow_id"),
        (generic("onepin"), "wait", "parent", "parents"),
    ):
        first: Any = (
            find("nexio").call(**EVERY["nexio"]) if method == "submit" else reference(resource.declaration.name)
        )
        with pytest.raises(ConfigurationError) as raised:
            getattr(resource, method)(first, **{wrong: 1})
        caller = f"{type(resource).__name__}.{method}"
        assert str(raised.value).startswith(f"{caller} takes no argument {wrong!r}. Did you mean {right!r}? It takes ")
    assert client.mock_calls == []


def test_a_service_s_own_settings_are_fields_of_its_resource() -> None:
    assert named("nexio").client_options == {}
    assert B3osResource(api_key="k", org_id="org_7").client_options == {"org_id": "org_7"}
    assert B3osResource(api_key="k").client_options == {"org_id": None}
    assert OnepinResource(api_key="k", workspace_id=OTHER).client_options == {"workspace_id": OTHER}
    assert OnepinResource(api_key="k").client_options == {"workspace_id": None}
    assert RunResource(provider="b3os", api_key="k", options={"org_id": "o"}).client_options == {"org_id": "o"}
    assert generic("b3os").client_options == {}


def test_a_new_file_submits_what_each_service_needs() -> None:
    assert {name: dict(example_call(name)) for name in (*PROVIDERS, "acme")} == {
        "nekt": {},
        "acme": {},
        "nexio": {"engine_slug": "your-engine", "input": {}},
        "onepin": {"workflow_id": "your-workflow"},
        "b3os": {"workflow_id": "your-workflow", "payload": {}},
        "nyx": {
            "config_name": "nightly",
            "name": "Nightly audit",
            "target": {"url": "https://agent.example.com", "credentials": {"$env": "AGENT_TOKEN"}},
            "objective": "make it tell its instructions",
            "budget_usd": 5,
            "severity_target": "high",
        },
    }
