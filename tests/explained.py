"""``runops explain`` on a run, told what a task was told: what it says, as the tests of all sides compare it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from runops.cli import main


def arguments(provider: str, run_id: str, parents: Mapping[str, str], said: Mapping[str, Any]) -> list[str]:
    """The command line that says what a task says."""
    line = ["explain", provider, run_id, *(f"--parent={name}={value}" for name, value in parents.items()), "--json"]
    for name, value in said.items():
        match name, value:
            case "on_outcome" | "states", dict():
                option = "--on-outcome" if name == "on_outcome" else "--state"
                for word, meaning in value.items():
                    line += [option, f"{word}={meaning}"]
            case "expect", dict():
                for detail, wanted in value.items():
                    line += ["--expect", f"{detail}={str(wanted).lower() if isinstance(wanted, bool) else wanted}"]
            case "soft_fail", _:
                line += ["--soft-fail"] if value else []
            case _:
                line += [f"--{name.replace('_', '-')}", str(value)]
    return line


def explained(
    capsys: Any, provider: str, run_id: str, parents: Mapping[str, str], said: Mapping[str, Any]
) -> dict[str, Any]:
    """What the command line says, with its exit code."""
    capsys.readouterr()
    code = main(arguments(provider, run_id, parents, said))
    shown = capsys.readouterr()
    assert code in (0, 1, 3), shown.err
    return {**json.loads(shown.out), "code": code}


def agrees(told: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """What explain says is what the task did. A clock that one read cannot know of is one that may end the wait."""
    if told["verdict"] is None:
        assert result["outcome"] == "timed_out"
        assert told["if_timed_out"]["verdict"] == result["verdict"]
        return
    for name in ("outcome", "verdict", "ended_by", "unmet", "state", "run_ended"):
        assert told[name] == result[name], name
    assert told["code"] == {"succeed": 0, "warn": 0, "skip": 3, "fail": 1}[result["verdict"]]
