"""What killed runs of a real Dagster leave behind is listed exactly and cancelled on request; nothing else is."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import dagster as dg
import pytest

from tests.dagster_host.test_dagster_crashes import Death, die, reads, rounds

DEATHS = [
    Death("nyx", "in_process", "unrecorded", "worker"),
    Death("nyx", "in_process", "recorded", "worker"),
    Death("nyx", "in_process", "answering", "worker"),
    Death("nyx", "multiprocess", "answered", "both"),
    Death("nyx", "multiprocess", "waiting", "worker"),
    Death("onepin", "in_process", "waiting", "worker"),
    Death("b3os", "in_process", "waiting", "worker"),
    Death("b3os", "in_process", "answering", "worker"),
    Death("nexio", "in_process", "waiting", "worker"),
    Death("nexio", "in_process", "recorded", "worker"),
]
AT_ONCE = 5
LEFT = [
    death
    for death in DEATHS
    if death.moment == "waiting" or (death.provider == "nyx" and death.moment in ("answering", "answered"))
]
UNTOLD = [death for death in DEATHS if death.provider != "nyx" and death.moment != "waiting"]
LIVE = {"live": "b3os_in_process", "live-in-its-step": "onepin_multiprocess"}
AGAIN = "taken-up"
"""Killed while it waited, and re-executed since."""


@dataclass(frozen=True)
class Told:
    """What the command said, and its exit code."""

    lines: list[dict[str, Any]]
    code: int

    def runs(self, standing: str) -> set[str]:
        return {line["run_id"] for line in self.lines if line["standing"] == standing}


def command(host: Any, *options: str) -> Told:
    """``runops orphans dagster``, from outside."""
    root = host.environment["HOST_URL"]
    names = ("NEXIO_API_KEY", "NYX_TOKEN", "ONEPIN_API_KEY", "B3OS_API_KEY")
    keys = dict.fromkeys(names, "a-key-canary-of-the-command")
    addresses = {f"{name.upper()}_BASE_URL": f"{root}/{name}" for name in ("nexio", "nyx", "onepin", "b3os")}
    done = subprocess.run(
        [sys.executable, "-m", "runops.cli", "orphans", "dagster", "--json", *options],
        env={**host.environment, **keys, **addresses}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 4), done.stderr
    assert "a-key-canary" not in done.stdout + done.stderr
    return Told([json.loads(line) for line in done.stdout.splitlines()], done.returncode)


@pytest.fixture(scope="module")
def aftermath(host: Any) -> Any:
    """Dagster runs that are dead, beside others that wait."""
    for provider in ("nexio", "nyx", "onepin", "b3os"):
        host.emulator.set_defaults(provider, script="succeeded", seconds=3600)
    for name, job in LIVE.items():
        host.launch(job, name)
    taken_up = Death("onepin", "in_process", "waiting", "worker")
    first = host.launch("onepin_in_process", AGAIN)
    host.until(lambda: sum(run["reads"] for run in host.external("onepin", AGAIN)) > 2, "the wait that is taken up")
    host.kill(first, taken_up.killed)
    assert host.ended(first) is dg.DagsterRunStatus.FAILURE
    host.reexecute(first)
    for deaths in rounds(DEATHS, AT_ONCE):
        ended = {host.status(run_id) for run_id in die(host, deaths).values()}
        assert ended == {dg.DagsterRunStatus.FAILURE}
    for name, job in LIVE.items():
        provider = job.partition("_")[0]
        host.until(lambda name=name, provider=provider: host.external(provider, name), f"the run of {name}")
    host.until(lambda: "Took up" in "".join(host.log(run) for run in host.children(first)), "the run is taken up")
    return host


def external(host: Any, death: Death) -> list[dict[str, Any]]:
    return host.external(death.provider, death.parent)


@pytest.fixture(scope="module")
def listed(aftermath: Any) -> Told:
    return command(aftermath)


def test_what_is_left_is_listed_exactly(aftermath: Any, listed: Told) -> None:
    expected = {run["run_id"] for death in LEFT for run in external(aftermath, death)}
    assert len(expected) == len(LEFT)
    assert listed.runs("left") == expected
    assert listed.runs("unreadable") == set()


def test_a_lost_submit_without_proof_is_said_to_be_unknown(aftermath: Any, listed: Told) -> None:
    untold = [line for line in listed.lines if line["standing"] == "uncertain"]
    assert sorted(line["provider"] for line in untold) == sorted(death.provider for death in UNTOLD)
    candidates = {run for line in untold for run in line["candidates"]}
    assert candidates == {
        run["run_id"] for death in UNTOLD if death.provider != "nexio" for run in external(aftermath, death)
    }
    assert listed.code == 4


@pytest.fixture(scope="module")
def cancelled(aftermath: Any, listed: Told) -> Told:
    return command(aftermath, "--cancel")


def test_cancel_leaves_nothing_that_can_be_cancelled_and_touches_nothing_that_waits(
    aftermath: Any, listed: Told, cancelled: Told
) -> None:
    acts = {line["run_id"]: (line["provider"], line["act"]) for line in cancelled.lines if line["act"]}
    assert acts.keys() == listed.runs("left")
    assert all(act == ("failed" if provider == "nexio" else "cancelled") for provider, act in acts.values())
    nexio = {run["run_id"] for death in LEFT if death.provider == "nexio" for run in external(aftermath, death)}
    assert command(aftermath).runs("left") == nexio
    for name, job in {**LIVE, AGAIN: "onepin_in_process"}.items():
        assert aftermath.cancels(job.partition("_")[0], name) == []
    for death in UNTOLD:
        assert aftermath.cancels(death.provider, death.parent) == []


def test_a_re_execution_of_a_dagster_run_whose_run_was_cancelled_so_submits_a_new_one(
    aftermath: Any, cancelled: Told
) -> None:
    (death,) = (death for death in LEFT if death.provider == "b3os")
    before = len(external(aftermath, death))
    again = aftermath.reexecute(aftermath.first_of(f"'{death.parent}'"))
    aftermath.until(lambda: len(external(aftermath, death)) == before + 1, "a new run", 60)
    aftermath.until(lambda: reads(aftermath, death) > 4, "the wait for it")
    aftermath.emulator.advance(None, provider="b3os", run_id=external(aftermath, death)[-1]["run_id"])
    assert aftermath.ended(again) is dg.DagsterRunStatus.SUCCESS
    for name in [each.parent for each in DEATHS]:
        aftermath.release(name)
