"""What each command takes: what stands where nothing is said, what may be said several times, and what must be."""

from __future__ import annotations

from typing import Any

import pytest

from runops.cli import arguments
from runops.cli.submission import parser_for
from runops.core import find

NYX = find("nyx")
A_RUN: dict[str, Any] = {"provider": "nyx", "run_id": "r1", "parent": [], "parent_workflow_id": None}
VERDICTS: dict[str, Any] = {"on_outcome": [], "state": [], "expect": [], "on_unmet": "fail"}
LIMITS: dict[str, Any] = {"max_paused": None, "max_stalled": None, "max_spend": None}
CLOCKS: dict[str, Any] = {
    "timeout": 604_800.0, "error_budget": 900.0, "auth_grace": 300.0, "poll_interval": None, **LIMITS,
}  # fmt: skip
SUBMIT: dict[str, Any] = {"adopt_uncertain": False, "submit_grace": 300.0, "on_conflict": "wait"}
LEFT: dict[str, Any] = {"since": "7d", "credential": [], "provider": [], "cancel": False, "yes": False, "json": False}
ROUTES = ["--status", "GET /{run_id}", "--probe", "GET /", "--base-url", "https://a.example", "--docs", "https://d"]

USUAL: list[tuple[list[str], dict[str, Any]]] = [
    (["get", "nyx", "r1"], {**A_RUN, **VERDICTS, "json": False}),
    (["explain", "nyx", "r1"], {**A_RUN, **VERDICTS, **LIMITS, "soft_fail": False, "json": False}),
    (
        ["watch", "nyx", "r1", "r2"],
        {**{name: A_RUN[name] for name in A_RUN if name != "run_id"}, "run_ids": ["r1", "r2"],
         **CLOCKS, **VERDICTS, "json": False},
    ),
    (["cancel", "nyx", "r1"], {**A_RUN, "json": False}),
    (["resume", "nyx", "r1"], {**A_RUN, **CLOCKS, **VERDICTS, "wait": False, "json": False}),
    (["retry", "nyx", "r1"], {**A_RUN, **CLOCKS, **VERDICTS, **SUBMIT, "wait": False, "yes": False, "json": False}),
    (["states"], {"provider": None, "json": False}),
    (["orphans", "airflow"], {"host": "airflow", "url": None, "allow_http": False, "operator": [], **LEFT}),
    (["orphans", "dagster"], {"host": "dagster", "dagster_home": None, **LEFT}),
    (["completion", "bash"], {"shell": "bash"}),
    (["conform", "a:B", "--answers", "d"], {"provider": "a:B", "answers": "d", "only": [], "json": False}),
    (
        ["record", "nyx", "--to", "d"],
        {"provider": "nyx", "run_id": None, "to": "d", "saved": [], "until_over": False, "timeout": 3600.0,
         "result": False, "listed": None, "keep_word": [], "parent": [], "json": False},
    ),
    (
        ["new-provider", "acme", "--answers", "a.json", "b.json", *ROUTES],
        {"name": "acme", "answers": ["a.json", "b.json"], "status": "GET /{run_id}", "probe": "GET /",
         "base_url": "https://a.example", "docs": "https://d", "link": "", "key_header": None, "key_prefix": [],
         "cancel": None, "submit": None, "submit_answer": None, "word": [], "id_field": None, "state_field": None,
         "submit_id": None, "to": "."},
    ),
]  # fmt: skip
IDS = [" ".join(argv[:2]) for argv, _ in USUAL]


def parsed(argv: list[str]) -> dict[str, Any]:
    return vars(arguments.parser(["workflow_id"]).parse_args(argv))


@pytest.mark.parametrize(("argv", "expected"), USUAL, ids=IDS)
def test_a_command_that_is_told_no_more_than_it_must_takes_the_usual(argv: list[str], expected: dict[str, Any]) -> None:
    assert parsed(argv) == {"command": argv[0], **expected}


@pytest.mark.parametrize(("argv", "expected"), USUAL, ids=IDS)
def test_each_option_is_taken_as_often_as_it_may_be_said(argv: list[str], expected: dict[str, Any]) -> None:
    names = {"saved": "from", "listed": "list", "parent_workflow_id": "workflow-id"}
    given: list[str] = []
    told = dict(expected)
    for name, value in expected.items():
        option = "--" + names.get(name, name.replace("_", "-"))
        if name in ("provider", "run_id", "run_ids", "host", "shell", "name", "answers") and (name, value) != (
            "provider",
            [],
        ):
            continue
        if value == []:
            given += [option, "a=1", option, "b=2"]
            told[name] = ["a=1", "b=2"]
        elif value is False:
            given.append(option)
            told[name] = True
        else:
            told[name] = "attach" if name == "on_conflict" else "7"
            given += [option, told[name]]
    assert parsed([*argv, *given]) == {"command": argv[0], **told}


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["get", "nyx"],
        ["get", "nyx", "r1", "r2"],
        ["watch", "nyx"],
        ["orphans"],
        ["orphans", "cron"],
        ["completion"],
        ["completion", "ksh"],
        ["retry", "nyx", "r1", "--on-conflict", "maybe"],
        ["conform", "a:B"],
        ["record", "nyx", "r1"],
        ["new-provider", "acme", *ROUTES],
        *(["new-provider", "acme", "--answers", "a", *ROUTES[:at], *ROUTES[at + 2 :]] for at in (0, 2, 4, 6)),
    ],
)
def test_what_a_command_cannot_do_without_must_be_said(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parsed(argv)
    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_a_submit_asks_for_what_the_provider_s_signature_asks_for() -> None:
    assert NYX.submit is not None
    parser = parser_for(NYX, NYX.submit.build)
    needed = {"config_name": "nightly", "name": "n", "target": "{}", "objective": "o", "budget_usd": "5"}
    argv = [word for name, value in needed.items() for word in (f"--{name.replace('_', '-')}", value)]
    told = vars(parser.parse_args([*argv, "--severity-target", "high"]))
    calls = {name.removeprefix("call_"): told.pop(name) for name in list(told) if name.startswith("call_")}
    assert {name: calls[name] for name in (*needed, "severity_target")} == {**needed, "severity_target": "high"}
    assert set(calls.values()) - {*needed.values(), "high"} == {None}
    assert told == {**SUBMIT, **CLOCKS, **VERDICTS, "mark_runs": True, "wait": False, "json": False}
    told = vars(parser.parse_args([*argv, "--severity-target", "high", "--no-mark", "--wait", "--json"]))
    assert (told["mark_runs"], told["wait"], told["json"]) == (False, True, True)


def test_an_option_is_made_of_each_part_of_an_address_unless_another_option_is_called_so() -> None:
    parser = arguments.parser(["workflow_id", "timeout"])
    told = vars(parser.parse_args(["watch", "nyx", "r1", "--workflow-id", "w", "--timeout", "5"]))
    assert (told["parent_workflow_id"], told["timeout"]) == ("w", "5")
    assert "parent_timeout" not in told
    assert vars(parser.parse_args(["get", "nyx", "r1", "--timeout", "t"]))["parent_timeout"] == "t"
