"""Every field of a defs.yaml reaches what is built of it, and one that is left out means what the pages say."""

from __future__ import annotations

import re
from typing import Any

import dagster as dg
import pytest
from pytest_mock import MockerFixture

from runops.dagster.component import RunopsComponent
from runops.dagster.component.defs_file import Template
from runops.dagster.component.model import RunAssets, RunCheck, RunSensor
from tests.services import CALLS

COMPONENT = "runops.dagster.component.component"
KEY = dg.AssetKey(["security", "audit"])
SPECS = [dg.AssetSpec(KEY)]
CALL = CALLS["nyx"]
NETWORK = {
    "request_timeout": 7.0,
    "requests_per_minute": 90.0,
    "processes": 3,
    "allow_http": True,
    "options": {},
    "states": {"half": "degraded"},
}


def component(**attributes: Any) -> RunopsComponent:
    return RunopsComponent(**{"provider": "nyx", **attributes})


def test_each_field_about_the_way_to_the_service_is_one_of_the_resource() -> None:
    resource = component(
        **NETWORK, base_url="http://nyx.example.com", proxy="http://proxy.example.com:3128"
    ).build_resource()
    found = {name: getattr(resource, name) for name in (*NETWORK, "base_url", "provider", "api_key_file")}
    assert found == {**NETWORK, "base_url": "http://nyx.example.com", "provider": "nyx", "api_key_file": None}
    assert resource.api_key == dg.EnvVar("NYX_TOKEN")


def test_each_field_that_names_a_variable_is_a_variable_of_the_resource() -> None:
    resource = component(
        api_key_env_var="MY_KEY",
        base_url_env_var="MY_URL",
        proxy_env_var="MY_PROXY",
        rate_store_env_var="MY_STORE",
        requests_per_minute=60,
    ).build_resource()
    found = [resource.api_key, resource.base_url, resource.proxy, resource.rate_store]
    assert found == [dg.EnvVar(name) for name in ("MY_KEY", "MY_URL", "MY_PROXY", "MY_STORE")]


def test_each_field_that_names_a_file_is_a_file_of_the_resource() -> None:
    files = {"api_key_file": "/k", "verify": "/v.pem", "client_cert": "/c.pem", "client_key": "/c.key"}
    resource = component(**files).build_resource()
    assert {name: getattr(resource, name) for name in files} == files
    assert resource.api_key is None


def test_a_file_that_says_nothing_of_the_way_has_the_resource_s_own_defaults() -> None:
    resource = component().build_resource()
    fields = type(resource).model_fields
    for name in ("base_url", "request_timeout", "requests_per_minute", "processes", "rate_store", "allow_http"):
        assert getattr(resource, name) == fields[name].default
    assert (resource.verify, resource.proxy, resource.options, resource.states) == (None, None, {}, {})


# --- what the builders are given -------------------------------------------------------------------------------

ENDING = {
    "on_outcome": {"degraded": "warn"},
    "states": {"half": "degraded"},
    "expect": {"findings_count": 0},
    "on_unmet": "warn",
    "soft_fail": True,
    "max_stalled": 11.0,
    "max_spend": 12.0,
}
WAITING = {
    **ENDING,
    "timeout": 13.0,
    "error_budget": 14.0,
    "auth_grace": 15.0,
    "poll_interval": 16.0,
    "max_paused": 17.0,
}
SUBMITTING = {
    "cancel_on_interrupt": False,
    "cancel_on_timeout": True,
    "cancel_on_failure": True,
    "adopt_uncertain": True,
    "mark_runs": True,
    "submit_grace": 18.0,
    "on_conflict": "fail",
    "reattach": False,
}
ENDING_DEFAULTS: dict[str, Any] = {
    "on_outcome": None,
    "states": None,
    "expect": None,
    "on_unmet": "fail",
    "soft_fail": False,
    "max_stalled": None,
    "max_spend": None,
}
WAITING_DEFAULTS = {
    **ENDING_DEFAULTS,
    "timeout": 604_800.0,
    "error_budget": 900.0,
    "auth_grace": 300.0,
    "poll_interval": None,
    "max_paused": None,
}
SUBMITTING_DEFAULTS = {
    "cancel_on_interrupt": None,
    "cancel_on_timeout": None,
    "cancel_on_failure": False,
    "adopt_uncertain": False,
    "mark_runs": None,
    "submit_grace": 300.0,
    "on_conflict": "wait",
    "reattach": True,
}


def built(mocker: MockerFixture, kind: str, part: Any) -> dict[str, Any]:
    """What the builder of a part is given."""
    builder = {"assets": "build_run_multi_asset", "check": "build_run_check", "sensor": "build_run_sensor"}[kind]
    called = mocker.patch(f"{COMPONENT}.{builder}")
    getattr(component(), f"build_{kind}")("the_key", part)
    called.assert_called_once()
    return dict(called.call_args.kwargs)


def test_each_field_of_assets_is_an_argument_of_their_builder(mocker: MockerFixture) -> None:
    policy: Any = {"type": "multi_run", "max_partitions_per_run": 4}
    given = built(
        mocker,
        "assets",
        RunAssets(
            **WAITING,
            **SUBMITTING,
            specs=SPECS,
            run_id=Template("r1"),
            parents={"a": "b"},
            name="step",
            pool="pool",
            op_tags={"cpu": 1},
            can_subset=True,
            backfill_policy=policy,
            max_retries=3,
            retry_delay=5.0,
            on_phase={"running": "operator:eq"},
        ),
    )
    assert given.pop("run_id")
    assert given.pop("on_phase").keys() == {"running"}
    assert given == {
        **WAITING,
        **SUBMITTING,
        "specs": [dg.AssetSpec(KEY, kinds={"nyx"})],
        "resource_key": "the_key",
        "parents": {"a": "b"},
        "name": "step",
        "pool": "pool",
        "op_tags": {"cpu": 1},
        "can_subset": True,
        "backfill_policy": dg.BackfillPolicy.multi_run(4),
        "retry_policy": dg.RetryPolicy(max_retries=3, delay=5.0),
    }


@pytest.mark.parametrize("source", [{"call": CALL}, {"calls": [CALL]}, {"run_id": "r"}, {"run_ids": ["r"]}])
def test_assets_of_which_little_is_said_are_built_as_the_pages_say(mocker: MockerFixture, source: Any) -> None:
    given = built(mocker, "assets", RunAssets(specs=SPECS, **source))
    (name,) = source
    assert callable(given.pop(name))
    many = {"max_active": 20, "require": "all", "stop_early": False} if name in ("calls", "run_ids") else {}
    assert given == {
        **WAITING_DEFAULTS,
        **SUBMITTING_DEFAULTS,
        **many,
        "specs": [dg.AssetSpec(KEY, kinds={"nyx"})],
        "resource_key": "the_key",
        "parents": None,
        "name": "security__audit",
        "pool": None,
        "op_tags": None,
        "can_subset": False,
        "backfill_policy": None,
        "retry_policy": None,
    }


@pytest.mark.parametrize(
    ("written", "policy"),
    [
        ({"type": "single_run"}, dg.BackfillPolicy.single_run()),
        ({"type": "multi_run"}, dg.BackfillPolicy.multi_run(1)),
        ({"type": "multi_run", "max_partitions_per_run": 9}, dg.BackfillPolicy.multi_run(9)),
    ],
)
def test_a_backfill_policy_of_a_file_is_dagster_s_own(written: Any, policy: dg.BackfillPolicy) -> None:
    assert RunAssets(specs=SPECS, run_id=Template("r"), backfill_policy=written).policy == policy


def test_each_field_of_a_check_is_an_argument_of_its_builder(mocker: MockerFixture) -> None:
    own: dict[str, Any] = {
        "asset": "release",
        "parent": None,
        "run_id": "r1",
        "parents": {"a": "b"},
        "name": "gate",
        "blocking": True,
    }
    given = built(mocker, "check", RunCheck(**WAITING, **own, on_phase={"running": []}))
    assert given == {**WAITING, **own, "on_phase": {"running": []}, "resource_key": "the_key"}


def test_a_check_of_which_little_is_said_is_built_as_the_pages_say(mocker: MockerFixture) -> None:
    assert built(mocker, "check", RunCheck(asset="release", parent="nightly")) == {
        **WAITING_DEFAULTS,
        "asset": "release",
        "resource_key": "the_key",
        "parent": "nightly",
        "run_id": None,
        "parents": None,
        "name": "runops_outcome",
        "blocking": False,
    }


TARGETS: Any = [{"spec": SPECS[0], "parent": "nightly"}]


def test_each_field_of_a_sensor_is_an_argument_of_its_builder(mocker: MockerFixture) -> None:
    own: dict[str, Any] = {
        "name": "runs",
        "minimum_interval_seconds": 21,
        "lookback": 22.0,
        "request_job": "take",
    }
    given = built(mocker, "sensor", RunSensor(**ENDING, **own, targets=TARGETS, running=True))
    assert given == {
        **ENDING,
        **own,
        "resource_key": "the_key",
        "targets": {KEY: "nightly"},
        "default_status": dg.DefaultSensorStatus.RUNNING,
    }


def test_a_sensor_of_which_little_is_said_is_built_as_the_pages_say(mocker: MockerFixture) -> None:
    assert built(mocker, "sensor", RunSensor(name="runs", targets=TARGETS)) == {
        **ENDING_DEFAULTS,
        "name": "runs",
        "resource_key": "the_key",
        "targets": {KEY: "nightly"},
        "minimum_interval_seconds": 30,
        "lookback": 86_400.0,
        "request_job": None,
        "default_status": dg.DefaultSensorStatus.STOPPED,
    }


# --- what a sensor brings beside itself ------------------------------------------------------------------------


def loaded(**sensor: Any) -> dg.Definitions:
    made = component(resource_key="own", sensors=[RunSensor(name="runs", **sensor)])
    return made.build_defs(None)  # pyright: ignore[reportArgumentType]  # a key of its own needs no context


def test_a_sensor_that_reports_brings_its_assets_with_their_kind_and_a_check_of_each_that_wants_one() -> None:
    other = {"spec": dg.AssetSpec("other", kinds={"mine"}), "parent": "weekly", "with_check": False}
    found = loaded(targets=[*TARGETS, other])
    graph = found.resolve_asset_graph()
    assert {key: graph.get(key).kinds for key in graph.get_all_asset_keys()} == {
        KEY: {"nyx"},
        dg.AssetKey("other"): {"mine"},
    }
    assert graph.asset_check_keys == {dg.AssetCheckKey(KEY, "runops_outcome")}
    assert set(found.resources or {}) == {"own"}


def test_a_sensor_that_requests_runs_of_a_job_brings_neither_assets_nor_checks() -> None:
    found = loaded(targets=TARGETS, request_job="take")
    assert list(found.assets or []) == []
    assert list(found.asset_checks or []) == []


def test_the_component_is_listed_with_what_it_is_for() -> None:
    spec = RunopsComponent.get_spec()
    assert spec.tags == ["runops"]
    assert spec.description == ("Wait on runs of Nexio, Nyx, OnePin, B3OS or Nekt, and report those started elsewhere.")


@pytest.mark.parametrize(
    ("part", "names"),
    [
        (RunopsComponent, {"provider", "api_key_env_var"}),
        (RunAssets, {"on_outcome", "expect", "on_phase", "call", "calls"}),
        (RunCheck, {"on_outcome", "expect", "on_phase", "asset"}),
        (RunSensor, {"on_outcome", "expect"}),
    ],
)
def test_fields_whose_form_is_hard_to_guess_have_an_example(part: Any, names: set[str]) -> None:
    given = {name: field.examples for name, field in part.model_fields.items()}
    for name, field in part.model_fields.items():
        for each in field.metadata:
            if isinstance(each, dg.Resolver):
                given[name] = each.examples
    assert {name for name, examples in given.items() if examples} == names


# --- where something is wrong ----------------------------------------------------------------------------------

RIGHT = {"specs": [{"key": "right"}], "run_id": "r"}
OF_ASSETS: list[tuple[dict[str, Any], str]] = [
    ({"states": {"cancelled": "failed"}}, "states"),
    ({"expect": {"finding_count": 0}}, "expect"),
    ({"on_unmet": "ignore"}, "on_unmet"),
    ({"max_stalled": 0}, "max_stalled"),
    ({"max_spend": 0}, "max_spend"),
    ({"run_id": "a/../b"}, "run_id"),
    ({"stop_early": True, "max_active": 3}, "max_active"),
    ({"on_phase": {"running": "json.dumps"}}, "on_phase"),
]


@pytest.mark.parametrize(("given", "field"), OF_ASSETS, ids=[field for _, field in OF_ASSETS])
def test_what_is_wrong_in_a_later_entry_is_told_with_its_index(given: dict[str, Any], field: str) -> None:
    wrong = {**RIGHT, "specs": [{"key": "wrong"}], **given}
    with pytest.raises(Exception, match=field) as raised:
        RunopsComponent.from_attributes_dict(attributes={"provider": "nyx", "assets": [RIGHT, wrong]})
    assert re.search(rf"assets\[1\]\.{field}: ", str(raised.value)), str(raised.value)


def test_words_that_an_entry_teaches_count_for_what_it_expects() -> None:
    assert component(
        states={"half": "degraded"}, checks=[RunCheck(asset="a", run_id="r", expect={"findings_count": 0})]
    )
    with pytest.raises(ValueError, match=r"states: .*cancelled"):
        component(states={"cancelled": "failed"})


OF_ALL: list[tuple[dict[str, Any], str]] = [
    ({"api_key_file": "/k", "api_key_env_var": "K"}, "api_key_file: give api_key_file or api_key_env_var, not both"),
    ({"proxy": "http://p:1", "proxy_env_var": "P"}, "proxy: give proxy or proxy_env_var, not both"),
    ({"proxy": "http://u:p@p:1"}, "proxy: holds a user or password, which stand in no file: use proxy_env_var"),
    ({"proxy": "ftp://p:1"}, "proxy: "),
    ({"client_key": "/k.pem"}, "client_key: "),
    ({"proxy_env_var": "p"}, "must be the NAME of an environment variable in capitals"),
    ({"rate_store_env_var": "s", "requests_per_minute": 1}, "must be the NAME of an environment variable in capitals"),
    ({"options": {"b": "1", "a": "2"}}, "options.a: options of Nyx has no a, b; there is none"),
    ({"provider": "nekt", "options": {"a": "2"}}, "options.a: options of Nekt has no a; there is "),
    ({"request_timeout": 0}, "must be more than 0, not 0"),
    ({"requests_per_minute": -1}, "must be more than 0, not -1"),
]


@pytest.mark.parametrize(("given", "told"), OF_ALL, ids=[told[:40] for _, told in OF_ALL])
def test_what_is_wrong_about_the_way_to_the_service_is_told_with_its_field(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        component(**given)
