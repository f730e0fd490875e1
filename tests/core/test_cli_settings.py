"""From the command line and the environment to clients, addresses, policies and waits: each value in its place."""

from __future__ import annotations

import argparse
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_mock import MockerFixture

from runops.cli import settings
from runops.core import PROVIDERS, AuthError, ConfigurationError, OutcomePolicy, find
from runops.core.model.secret import Secret
from runops.core.telemetry import METER
from runops.core.waiting.options import WaitOptions

NYX, ONEPIN = find("nyx"), find("onepin")
REF = NYX.ref("r1")
WORKFLOW = "7c9e6679-7425-40de-944b-e07fc1f90ae7"


# --- clients ---


@pytest.mark.parametrize("kind", ["RunClient", "AsyncRunClient"])
def test_each_variable_of_a_provider_arrives_at_its_client(
    mocker: MockerFixture, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    made = mocker.patch.object(settings, kind)
    given = {
        "VERIFY": "/a.pem", "CLIENT_CERT": "/c.pem", "CLIENT_KEY": "/k.pem", "PROXY": "http://u:pw@h:1",
        "REQUESTS_PER_MINUTE": "60", "PROCESSES": "3", "RATE_STORE": "redis://u:pw@h:2",
    }  # fmt: skip
    for name, value in {**given, "BASE_URL": "https://a.example", "WORKSPACE_ID": "w", "API_KEY": " key "}.items():
        monkeypatch.setenv(f"ONEPIN_{name}", value)
    more = {"mark_runs": False} if kind == "RunClient" else {}
    assert (settings.connect(ONEPIN, **more) if more else settings.connect_async(ONEPIN)) is made.return_value
    assert made.call_args.args == (ONEPIN,)
    arrived = dict(made.call_args.kwargs)
    secrets = {name: arrived.pop(name) for name in ("token", "proxy", "rate_store")}
    assert {name: type(each) for name, each in secrets.items()} == dict.fromkeys(secrets, Secret)
    assert [each.reveal() for each in secrets.values()] == ["key", "http://u:pw@h:1", "redis://u:pw@h:2"]
    names = ", ".join(f"ONEPIN_{name}" for name in given)
    assert len(arrived.pop("trace_id")) == 32
    assert arrived == {
        "base_url": "https://a.example",
        "address_origin": "the environment variable ONEPIN_BASE_URL",
        "options": {"workspace_id": "w"},
        "origin": "the environment variable ONEPIN_API_KEY",
        "user_agent": "cli",
        "verify": "/a.pem",
        "client_cert": "/c.pem",
        "client_key": "/k.pem",
        "requests_per_minute": "60",
        "processes": "3",
        "network_origin": f"the environment ({names})",
        **(more or {"meter": METER}),
    }


def test_what_no_variable_says_is_left_to_the_client(mocker: MockerFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    made = mocker.patch.object(settings, "RunClient")
    monkeypatch.setenv("ONEPIN_API_KEY", "key")
    for name in ("BASE_URL", "WORKSPACE_ID", "PROXY", "PROCESSES"):
        monkeypatch.setenv(f"ONEPIN_{name}", "")
    settings.connect(ONEPIN)
    settings.connect(ONEPIN)
    first, second = ({**call.kwargs, "token": ""} for call in made.call_args_list)
    assert first == second
    del first["trace_id"]
    assert first == {
        "token": "",
        "base_url": None,
        "address_origin": "",
        "options": {"workspace_id": None},
        "origin": "the environment variable ONEPIN_API_KEY",
        "user_agent": "cli",
        "network_origin": "the environment ()",
    }


@pytest.mark.parametrize("value", [None, "", "  "])
def test_a_key_that_is_missing_is_named_by_its_variable(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("NYX_TOKEN", raising=False)
    if value is not None:
        monkeypatch.setenv("NYX_TOKEN", value)
    for connect in (settings.connect, settings.connect_async):
        with pytest.raises(AuthError) as error:
            connect(NYX)
        assert str(error.value) == (
            "The environment variable NYX_TOKEN is not set: it holds the key for Nyx. [missing-key]"
        )


def test_the_network_of_a_prefix_and_where_it_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_VERIFY", "/a.pem")
    monkeypatch.setenv("ACME_PROCESSES", "3")
    assert settings.network_of("ACME") == {"verify": "/a.pem"}
    assert settings.network_origin("ACME") == "the environment (ACME_VERIFY)"
    assert settings.network_origin("ACME", ["processes"]) == "the environment (ACME_PROCESSES)"


# --- addresses ---


def named(*parents: str, **short: str | None) -> argparse.Namespace:
    return argparse.Namespace(parent=list(parents), **{f"parent_{name}": value for name, value in short.items()})


def test_an_address_is_taken_from_either_option_and_the_short_one_wins() -> None:
    expected = ONEPIN.ref("r1", {"workflow_id": WORKFLOW})
    assert settings.address(ONEPIN, named(f"workflow_id={WORKFLOW}"), "r1") == expected
    assert settings.address(ONEPIN, named(workflow_id=WORKFLOW, other=None), "r1") == expected
    assert settings.address(ONEPIN, named("workflow_id=x", workflow_id=WORKFLOW), "r1") == expected
    assert settings.address(NYX, named(workflow_id=None), "r1") == REF
    with pytest.raises(ConfigurationError) as error:
        settings.address(ONEPIN, named(), "r1")
    assert error.value.text == "OnePin runs are addressed by more than their id: add --workflow-id ID."
    several = SimpleNamespace(title="Acme", parents=("plant", "work_shop"))
    with pytest.raises(ConfigurationError, match=r"than their id: add --plant ID --work-shop ID\."):
        settings.address(several, named(), "r1")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigurationError, match=r"than their id: add --work-shop ID\."):
        settings.address(several, named("plant=north"), "r1")  # pyright: ignore[reportArgumentType]


def test_the_first_provider_that_a_word_names_says_what_its_address_needs(mocker: MockerFixture) -> None:
    shipped = tuple(dict.fromkeys(name for provider in PROVIDERS.values() for name in provider.parents))
    known = {"a:B": SimpleNamespace(parents=("plant", "workflow_id")), "c:D": SimpleNamespace(parents=("other",))}

    def found(word: str) -> Any:
        if word not in known:
            raise ConfigurationError("none")
        return known[word]

    mocker.patch.object(settings, "find", found)
    assert settings.parents_of([]) == shipped
    assert settings.parents_of(["x", "y"]) == shipped
    assert settings.parents_of(["x", "a:B", "c:D"]) == (*shipped, "plant")


@pytest.mark.parametrize("pair", ["a", "a=", "=b", "", "x" * 90])
def test_what_is_no_pair_is_named_up_to_80_signs(pair: str) -> None:
    assert settings.pairs("--word", [" a = b=c ", "d=e"]) == {"a": "b=c", "d": "e"}
    with pytest.raises(ConfigurationError) as error:
        settings.pairs("--word", [pair])
    assert error.value.text == f"--word takes NAME=VALUE, not {pair[:80]!r}."


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["a=1"], {"a": "1"}),
        ([" a = 1 ", "b>=2"], {"a": "1", "b": ">= 2"}),
        (["a==1", "b!=2", "c<=3", "d<4", "e > 5"], {"a": "== 1", "b": "!= 2", "c": "<= 3", "d": "< 4", "e": "> 5"}),
        (["a=x\ny"], {"a": "x\ny"}),
        ([], {}),
    ],
)
def test_conditions_are_split_at_their_sign(given: list[str], expected: dict[str, str]) -> None:
    assert settings.conditions(given) == expected


@pytest.mark.parametrize("given", ["a", "=1", "a=", "a b=1", "y" * 90])
def test_what_is_no_condition_is_named_up_to_80_signs(given: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        settings.conditions(["ok=1", given])
    assert error.value.text == f"--expect takes a condition such as 'findings_count=0', not {given[:80]!r}."


# --- policies and waits ---


def verdicts(**more: Any) -> argparse.Namespace:
    return argparse.Namespace(**{"on_outcome": [], "expect": [], "on_unmet": "fail", "state": [], **more})


def test_the_verdicts_that_are_asked_for_arrive(mocker: MockerFixture) -> None:
    asked = mocker.Mock()
    policy = settings.policy(asked, verdicts())
    assert policy is asked.policy.return_value
    asked.policy.assert_called_once_with({}, soft_fail=False, expect=None, on_unmet="fail")
    more = verdicts(on_outcome=["degraded=warn", "failed=skip"], expect=["a>1"], on_unmet="skip", soft_fail=True)
    settings.policy(asked, more)
    assert asked.policy.call_args.args == ({"degraded": "warn", "failed": "skip"},)
    assert asked.policy.call_args.kwargs == {"soft_fail": True, "expect": {"a": "> 1"}, "on_unmet": "skip"}


CLOCKS: dict[str, Any] = {
    "timeout": "70", "error_budget": "60", "auth_grace": "50", "poll_interval": "40", "max_paused": "30",
    "max_stalled": "20", "max_spend": "10",
}  # fmt: skip


def test_each_clock_and_limit_arrives_under_its_name() -> None:
    numbers = {name: float(value) for name, value in CLOCKS.items()}
    assert settings.clocks(argparse.Namespace(**CLOCKS)) == numbers
    assert settings.limits(argparse.Namespace(**CLOCKS)) == {name: numbers[name] for name in list(numbers)[4:]}
    unset = dict.fromkeys(("poll_interval", "max_paused", "max_stalled", "max_spend"))
    assert settings.clocks(argparse.Namespace(**{**CLOCKS, **unset})) == {**numbers, **unset}


@pytest.mark.parametrize("name", CLOCKS)
@pytest.mark.parametrize("value", ["soon", "-1", "0"])
def test_a_clock_that_is_none_is_named_by_its_option(name: str, value: str) -> None:
    options = argparse.Namespace(**{**CLOCKS, name: value})
    if (name, value) == ("auth_grace", "0"):
        assert settings.clocks(options)["auth_grace"] == 0
        return
    with pytest.raises(ConfigurationError, match=f"--{name.replace('_', '-')}"):
        settings.clocks(options)


def test_the_options_of_a_wait_are_built_of_all_of_them(mocker: MockerFixture) -> None:
    build = mocker.patch.object(WaitOptions, "build")
    policy = OutcomePolicy.build(expect={"findings_count": "0"}, kinds=NYX.body.detail_kinds())
    assert policy.expect.details
    numbers = {name: float(value) for name, value in CLOCKS.items()}
    found = settings.wait_options(NYX, argparse.Namespace(**CLOCKS), policy, now=5.0)
    assert found is build.return_value
    interval = numbers.pop("poll_interval")
    wanted = policy.expect.details
    build.assert_called_once_with(NYX, now=5.0, wanted=wanted, interval=interval, **numbers)
    limits = {name: CLOCKS[name] for name in ("max_paused", "max_stalled", "max_spend")}
    settings.wait_options(NYX, argparse.Namespace(**limits), policy, now=5.0)
    assert build.call_args.args == (NYX,)
    assert build.call_args.kwargs == {"now": 5.0, "wanted": wanted, **{name: numbers[name] for name in limits}}
