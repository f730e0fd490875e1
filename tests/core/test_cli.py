"""The command line, against the emulator: what it prints, and the exit code of every end."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runops.cli import main
from runops.core import PROVIDERS
from runops.emulator.server import Server, running

pytestmark = pytest.mark.http

KEY = "key-canary-5b1e77"
VARIABLES = tuple(provider.key_variable for provider in PROVIDERS.values())
WORKFLOW = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
FAST = ("--poll-interval", "0.05")


@pytest.fixture(scope="module")
def emulator() -> Iterator[Server]:
    with running(seed=7, seconds=0.2) as server:
        yield server


@pytest.fixture
def server(emulator: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    emulator.emulator.reset()
    for name, value in settings(emulator).items():
        monkeypatch.setenv(name, value)
    return emulator


def settings(server: Server) -> dict[str, str]:
    keys = dict.fromkeys(VARIABLES, KEY)
    return {**keys, **{f"{name.upper()}_BASE_URL": server.base_url(name) for name in PROVIDERS}}


def ended(server: Server, provider: str, script: str) -> list[str]:
    """The arguments that name a run which is over."""
    run_id = server.emulator.create_run(provider, script=script, age_seconds=60, **parent(provider))
    return [provider, run_id, *address(provider)]


def parent(provider: str) -> dict[str, Any]:
    return {"parents": {"workflow_id": WORKFLOW}} if provider == "onepin" else {}


def address(provider: str) -> list[str]:
    return ["--workflow-id", WORKFLOW] if provider == "onepin" else []


class TestGet:
    @pytest.mark.parametrize(
        ("provider", "script", "outcome", "verdict", "code"),
        [
            ("nexio", "succeeded", "succeeded", "succeed", 0),
            ("nexio", "degraded", "degraded", "skip", 3),
            ("nexio", "failed", "failed", "fail", 1),
            ("nyx", "exhausted_failed", "exhausted", "skip", 3),
            ("nyx", "cancelled", "cancelled", "fail", 1),
            ("onepin", "succeeded", "succeeded", "succeed", 0),
            ("b3os", "failed", "failed", "fail", 1),
            ("nekt", "succeeded", "succeeded", "succeed", 0),
        ],
    )
    def test_a_run_that_is_over_gives_its_verdict_as_exit_code(
        self,
        server: Server,
        capsys: pytest.CaptureFixture[str],
        provider: str,
        script: str,
        outcome: str,
        verdict: str,
        code: int,
    ) -> None:
        assert main(["get", *ended(server, provider, script), "--json"]) == code
        result = json.loads(capsys.readouterr().out)
        assert (result["provider"], result["outcome"], result["verdict"]) == (provider, outcome, verdict)

    def test_a_run_that_is_not_over_exits_0_with_outcome_null(
        self, server: Server, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run_id = server.emulator.create_run("nexio", script="forever")
        assert main(["get", "nexio", run_id, "--json"]) == 0
        result = json.loads(capsys.readouterr().out)
        assert (result["outcome"], result["verdict"], result["run_ended"]) == (None, None, False)

    def test_a_person_reads_the_word_the_outcome_the_verdict_and_the_page(
        self, server: Server, capsys: pytest.CaptureFixture[str]
    ) -> None:
        main(["get", *ended(server, "nexio", "degraded")])
        first, second = capsys.readouterr().out.splitlines()
        assert re.fullmatch(r"nexio run \S+: degraded, .* -> skip", first)
        assert second.strip() == "https://platform.usenexio.com/runs"

    @pytest.mark.parametrize(("said", "code"), [("degraded=warn", 0), ("degraded=fail", 1), ("degraded=succeed", 0)])
    def test_on_outcome_changes_the_exit_code(self, server: Server, said: str, code: int) -> None:
        assert main(["get", *ended(server, "nexio", "degraded"), "--on-outcome", said]) == code

    def test_a_bad_key_exits_4_and_names_the_variable_and_never_the_key(
        self, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("NEXIO_API_KEY", f"invalid-{KEY}")
        assert main(["get", *ended(server, "nexio", "succeeded")]) == 4
        said = capsys.readouterr()
        assert "NEXIO_API_KEY" in said.err
        assert KEY not in said.err + said.out

    def test_no_key_exits_4_and_names_the_variable(
        self, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.delenv("NYX_TOKEN")
        assert main(["get", "nyx", "r_1"]) == 4
        assert "NYX_TOKEN is not set" in capsys.readouterr().err

    def test_an_unknown_run_exits_4(self, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["get", "nexio", "no-such-run"]) == 4
        assert "404" in capsys.readouterr().err

    def test_a_service_that_cannot_be_reached_exits_4(
        self, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("NEXIO_BASE_URL", "http://127.0.0.1:9")
        assert main(["get", "nexio", "r"]) == 4
        assert capsys.readouterr().out == ""

    def test_an_undocumented_word_of_a_run_that_is_over_exits_4(
        self, server: Server, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["get", *ended(server, "nexio", "unknown_word_ended")]) == 4
        assert "not documented" in capsys.readouterr().err

    def test_the_workspace_and_organisation_variables_are_sent(
        self, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ONEPIN_WORKSPACE_ID", "00000000-0000-4000-8000-00000000cafe")
        monkeypatch.setenv("B3OS_ORG_ID", "org_1")
        assert main(["get", *ended(server, "onepin", "succeeded")]) == 4
        assert main(["get", *ended(server, "b3os", "succeeded")]) == 0
        sent = {request["provider"]: request["headers"] for request in server.emulator.requests()}
        assert "x-workspace-id" in {name.lower() for name in sent["onepin"]}
        assert "x-org-id" in {name.lower() for name in sent["b3os"]}


class TestUsage:
    @pytest.mark.parametrize(
        ("argv", "told"),
        [
            ([], "COMMAND"),
            (["frobnicate"], "frobnicate"),
            (["get", "nexio"], "RUN_ID"),
            (["get", "acme", "r"], "There is no provider 'acme'"),
            (["get", "nexio", ""], "run_id is empty"),
            (["get", "nexio", ".."], "cannot be an id"),
            (["get", "nexio", "a/b"], "cannot be an id"),
            (["get", "onepin", "r"], "--workflow-id"),
            (["get", "nexio", "r", "--workflow-id", "w"], "workflow_id"),
            (["get", "nexio", "r", "--on-outcome", "degraded"], "NAME=VALUE"),
            (["get", "nexio", "r", "--on-outcome", "degraded=perhaps"], "perhaps"),
            (["get", "nexio", "r", "--on-outcome", "gone=fail"], "gone"),
            (["watch", "nexio", "r", "--timeout", "soon"], "--timeout"),
            (["watch", "nexio", "r", "--timeout", "0"], "--timeout"),
            (["cancel", "nexio", "r"], "no way to cancel"),
            (["submit"], "PROVIDER"),
            (["submit", "nekt"], "no way to start"),
            (["submit", "nexio", "--engine-slug", "e"], "--input"),
            (["submit", "nexio", "--engine-slug", "e", "--input", "{"], "--input: its value is not JSON"),
            (["submit", "nexio", "--engine-slug", "e", "--input", "[]"], "JSON object"),
            (["submit", "nexio", "--engine-slug", "e", "--input", "@none.json"], "none.json"),
            (["states", "acme"], "There is no provider 'acme'"),
        ],
    )
    def test_what_cannot_be_asked_exits_2_says_why_and_sends_nothing(
        self, server: Server, capsys: pytest.CaptureFixture[str], argv: list[str], told: str
    ) -> None:
        assert main(argv) == 2
        assert told in capsys.readouterr().err
        assert server.emulator.requests() == []

    def test_plain_http_to_another_machine_is_refused_before_the_key_leaves(
        self, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("NEXIO_BASE_URL", "http://api.example.com")
        assert main(["get", "nexio", "r"]) == 2
        assert "https://" in capsys.readouterr().err

    def test_a_wrong_word_is_found_before_a_run_is_started(self, server: Server) -> None:
        start = ["submit", "nexio", "--engine-slug", "e", "--input", "{}"]
        assert main([*start, "--wait", "--timeout", "soon"]) == 2
        assert main([*start, "--on-outcome", "degraded=perhaps"]) == 2
        assert server.emulator.requests() == []

    def test_broken_json_is_reported_without_its_text(
        self, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        broken = tmp_path / "target.json"
        broken.write_text('{"credentials": "canary-9d1c",', encoding="utf-8")
        assert main(["submit", "nexio", "--engine-slug", "e", "--input", f"@{broken}"]) == 2
        said = capsys.readouterr().err
        assert "line 1" in said
        assert "canary-9d1c" not in said

    def test_the_help_says_of_each_command_what_it_does(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["nothing"]) == 2
        known = set(re.findall(r"\b[a-z-]+\b", capsys.readouterr().err.partition("choose from")[2].partition(")")[0]))
        assert main(["--help"]) == 0
        # A command that is added without a help is known, and not listed.
        assert known == set(re.findall(r"^    ([a-z-]+)\s+\S", capsys.readouterr().out, re.MULTILINE))
        assert len(known) > 5

    def test_the_help_names_the_providers(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["get", "--help"]) == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert f"{', '.join(sorted(PROVIDERS))}, or 'package.module:NAME'" in shown

    @pytest.mark.parametrize(
        "command", ["get nexio", "watch nexio", "explain nexio", "cancel nyx", "submit nyx", "orphans airflow"]
    )
    def test_the_help_says_of_each_value_what_it_is_and_not_only_its_option_s_name(
        self, command: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main([*command.split(), "--help"]) == 0
        values = re.findall(r"^  --([a-z-]+) ([A-Z_]+)\b", capsys.readouterr().out, re.MULTILINE)
        assert [name for name, value in values if name != "url" and value == name.upper().replace("-", "_")] == []
        assert values

    @pytest.mark.parametrize("argv", [["--help"], ["get", "--help"], ["submit", "--help"], ["submit", "nyx", "--help"]])
    def test_help_exits_0(self, capsys: pytest.CaptureFixture[str], argv: list[str]) -> None:
        assert main(argv) == 0
        assert "usage: runops" in capsys.readouterr().out

    def test_the_version_is_the_package_s(self, capsys: pytest.CaptureFixture[str]) -> None:
        from runops import __version__

        assert main(["--version"]) == 0
        assert capsys.readouterr().out.strip() == f"runops {__version__}"


class TestWatch:
    def test_it_waits_and_tells_each_change_and_the_verdict(
        self, server: Server, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run_id = server.emulator.create_run("nexio", script="failed", seconds=0.6)
        assert main(["watch", "nexio", run_id, *FAST]) == 1
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith(f"nexio run {run_id}: queued")
        assert any(f"{run_id}: failed" in line and line.endswith("-> fail") for line in lines)
        assert not any("\x1b" in line for line in lines)

    @pytest.mark.parametrize(
        ("scripts", "code"),
        [
            (("succeeded", "succeeded"), 0),
            (("succeeded", "degraded"), 3),
            (("degraded", "failed", "succeeded"), 1),
            (("failed", "degraded", "unknown_word_ended"), 4),
        ],
    )
    def test_of_several_runs_the_first_present_of_4_1_3_0_counts(
        self, server: Server, capsys: pytest.CaptureFixture[str], scripts: tuple[str, ...], code: int
    ) -> None:
        run_ids = [server.emulator.create_run("nexio", script=script) for script in scripts]
        assert main(["watch", "nexio", *run_ids, *FAST, "--json"]) == code
        told = [json.loads(line)["run_id"] for line in capsys.readouterr().out.splitlines()]
        known = [run_id for run_id, script in zip(run_ids, scripts, strict=True) if script != "unknown_word_ended"]
        assert sorted(told) == sorted(known)

    @pytest.mark.parametrize("form", [(), ("--json",)], ids=["lines", "json"])
    def test_what_is_noticed_on_the_way_is_said_on_standard_error(
        self, server: Server, capsys: pytest.CaptureFixture[str], form: tuple[str, ...]
    ) -> None:
        run_id = server.emulator.create_run("nexio", script=[{"set": {"status": "hibernating"}}])
        assert main(["watch", "nexio", run_id, *FAST, *form, "--timeout", "1"]) == 1
        said = capsys.readouterr()
        assert "hibernating" in said.err
        assert run_id in said.out

    def test_a_timeout_fails_says_that_the_run_goes_on_and_cancels_nothing(
        self, server: Server, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run_id = server.emulator.create_run("nyx", script="forever")
        assert main(["watch", "nyx", run_id, *FAST, "--timeout", "0.3", "--json"]) == 1
        result = json.loads(capsys.readouterr().out)
        assert (result["outcome"], result["run_ended"], result["ended_by"]) == ("timed_out", False, "timeout")
        assert server.emulator.requests(action="cancel") == []

    def test_max_paused_ends_the_wait_for_a_run_that_a_person_holds(
        self, server: Server, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run_id = server.emulator.create_run("b3os", script="waiting")
        assert main(["watch", "b3os", run_id, *FAST, "--max-paused", "0.3", "--json"]) == 1
        assert json.loads(capsys.readouterr().out)["ended_by"] == "max_paused"

    def test_a_run_named_twice_is_watched_once(self, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
        run_id = server.emulator.create_run("nexio", script="succeeded")
        assert main(["watch", "nexio", run_id, run_id, *FAST, "--json"]) == 0
        assert len(capsys.readouterr().out.splitlines()) == 1


class TestCancel:
    def test_the_run_is_cancelled_at_the_provider(self, server: Server) -> None:
        run_id = server.emulator.create_run("nyx", script="forever")
        assert main(["cancel", "nyx", run_id]) == 0
        assert main(["watch", "nyx", run_id, *FAST, "--json"]) == 1
        assert len(server.emulator.requests(action="cancel")) == 1

    def test_a_onepin_run_is_found_by_its_workflow(self, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
        run_id = server.emulator.create_run("onepin", script="forever", **parent("onepin"))
        assert main(["cancel", "onepin", run_id, "--workflow-id", WORKFLOW, "--json"]) == 0
        result = json.loads(capsys.readouterr().out)
        assert (result["run_id"], result["parents"]) == (run_id, {"workflow_id": WORKFLOW})

    def test_an_unknown_run_exits_4(self, server: Server) -> None:
        assert main(["cancel", "nyx", "r_none"]) == 4


class TestSubmit:
    NYX = (
        *("submit", "nyx", "--config-name", "nightly", "--name", "n", "--target", '{"url": "https://agent.test"}'),
        *("--objective", "o", "--budget-usd", "2.5", "--severity-target", "low"),
    )

    def test_it_starts_one_run_and_returns_at_once(self, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([*self.NYX, "--json"]) == 0
        result = json.loads(capsys.readouterr().out)
        assert (result["outcome"], result["verdict"]) == (None, None)
        (run,) = server.emulator.runs(provider="nyx")
        assert run["run_id"] == result["run_id"]
        assert run["body"]["budget_usd"] == 2.5

    def test_with_wait_it_ends_as_the_run_does(self, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
        hints = json.dumps(["emulator:script=exhausted"])
        assert main([*self.NYX, "--hints", hints, "--wait", *FAST, "--json"]) == 3
        said = capsys.readouterr()
        result = json.loads(said.out)
        assert (result["outcome"], result["verdict"]) == ("exhausted", "skip")
        assert f"{result['run_id']}: submitted" in said.err

    def test_json_arguments_come_from_a_file(
        self, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        source = tmp_path / "input.json"
        source.write_text('{"emulator": {"script": "degraded"}}', encoding="utf-8")
        start = ["submit", "nexio", "--engine-slug", "credit", "--input", f"@{source}"]
        assert main([*start, "--wait", *FAST, "--json"]) == 3

    def test_something_active_exits_4_and_starts_no_second_run(
        self, server: Server, capsys: pytest.CaptureFixture[str]
    ) -> None:
        server.emulator.create_run("nyx", script="forever", parents={"config_name": "nightly"})
        assert main([*self.NYX, "--on-conflict", "fail"]) == 4
        assert "409" in capsys.readouterr().err
        assert len(server.emulator.runs(provider="nyx")) == 1

    def test_something_active_is_waited_for_and_named(self, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
        active = server.emulator.create_run("nyx", script="succeeded", seconds=1, parents={"config_name": "nightly"})
        assert main([*self.NYX, *FAST]) == 0
        told = capsys.readouterr()
        assert f"Waiting for a turn at Nyx: run {active}" in told.err
        (mine,) = {run["run_id"] for run in server.emulator.runs(provider="nyx")} - {active}
        assert told.out.startswith(f"nyx run {mine}: submitted")

    def test_a_turn_is_waited_for_no_longer_than_the_timeout(
        self, server: Server, capsys: pytest.CaptureFixture[str]
    ) -> None:
        active = server.emulator.create_run("nyx", script="forever", parents={"config_name": "nightly"})
        assert main([*self.NYX, *FAST, "--timeout", "0.5"]) == 4
        assert f"run {active} (running) was in the way last. Nothing was submitted." in capsys.readouterr().err

    def test_attach_takes_the_active_run_and_says_so(self, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
        active = server.emulator.create_run("nyx", script="succeeded", parents={"config_name": "nightly"})
        assert main([*self.NYX, "--on-conflict", "attach", "--wait", *FAST]) == 0
        assert f"nyx run {active}: active already, and taken in place of a new run" in capsys.readouterr().out
        assert [run["run_id"] for run in server.emulator.runs(provider="nyx")] == [active]

    def test_another_word_for_on_conflict_is_refused_before_anything_is_sent(
        self, server: Server, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main([*self.NYX, "--on-conflict", "queue"]) == 2
        assert "invalid choice: 'queue' (choose from" in capsys.readouterr().err
        assert server.emulator.requests() == []

    def test_a_lost_answer_exits_4_and_is_not_repeated(
        self, server: Server, capsys: pytest.CaptureFixture[str]
    ) -> None:
        server.emulator.add_fault(kind="reset", provider="nexio", action="submit", when="after")
        assert main(["submit", "nexio", "--engine-slug", "e", "--input", "{}"]) == 4
        assert "before you submit again" in capsys.readouterr().err
        assert len(server.emulator.runs(provider="nexio")) == 1


class TestStates:
    def test_every_word_of_every_provider_is_listed(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["states", "--json"]) == 0
        rows = json.loads(capsys.readouterr().out)
        listed = {(row["provider"], row["word"]) for row in rows}
        assert listed == {(each.title, word) for each in PROVIDERS.values() for word in each.states.known}

    def test_one_provider_is_shown_as_a_table(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["states", "nexio"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].split() == ["provider", "word", "meaning", "verdict"]
        assert ["Nexio", "degraded", "degraded", "skip"] in [line.split() for line in lines]


class TestAsAProcess:
    def command(self, *argv: str) -> list[str]:
        return [sys.executable, "-m", "runops.cli", *argv]

    def environment(self, server: Server) -> dict[str, str]:
        return {**os.environ, **settings(server), "PYTHONUNBUFFERED": "1"}

    def test_the_exit_code_reaches_the_shell(self, server: Server) -> None:
        done = subprocess.run(
            self.command("get", *ended(server, "nexio", "degraded")),
            env=self.environment(server),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (3, "")
        assert done.stdout.count("-> skip") == 1

    def test_an_interrupted_watch_exits_130_and_cancels_nothing(self, server: Server) -> None:
        run_id = server.emulator.create_run("nyx", script="forever")
        with subprocess.Popen(
            self.command("watch", "nyx", run_id, *FAST),
            env=self.environment(server),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert run_id in process.stdout.readline()
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "Traceback" not in told
        assert server.emulator.requests(action="cancel") == []

    def test_on_a_terminal_bars_are_drawn_in_place(self, server: Server) -> None:
        run_ids = [
            server.emulator.create_run("onepin", script=script, seconds=20, **parent("onepin"))
            for script in ("succeeded", "failed")
        ]
        begun = re.compile("█+·+ [0-9]+/15 nodes")
        ours, theirs = pty.openpty()
        with subprocess.Popen(
            self.command("watch", "onepin", *run_ids, "--workflow-id", WORKFLOW, *FAST),
            env={**self.environment(server), "TERM": "xterm", "COLUMNS": "160"},
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
        ) as process:
            os.close(theirs)
            drawn = read_all(ours, until=begun)
            server.emulator.advance(None, provider="onepin")
            drawn += read_all(ours)
        assert process.returncode == 1
        assert "\x1b[2A" in drawn
        assert begun.search(drawn)
        last = drawn.replace("\r", "").split("\x1b[2A")[-1]
        assert "completed -> succeed" in last
        assert "failed -> fail" in last

    def test_a_provider_s_word_cannot_steer_the_terminal(self, server: Server) -> None:
        steps = [{"at": 0, "set": {"status": "\x1b]0;owned\x07\x1b[2J"}}]
        run_id = server.emulator.create_run("nexio", script=steps, age_seconds=1)
        done = subprocess.run(
            self.command("get", "nexio", run_id),
            env=self.environment(server),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0
        assert "owned" in done.stdout
        assert "\x1b" not in done.stdout + done.stderr

    def test_emulate_serves_and_tells_its_port(self, server: Server) -> None:
        with subprocess.Popen(
            self.command("emulate", "--port", "0"), env=self.environment(server), stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                assert process.stdout is not None
                told = json.loads(process.stdout.readline())
                assert main_with_base(told["url"]) == 4
            finally:
                process.terminate()
        assert process.returncode == 0


def main_with_base(url: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NEXIO_BASE_URL", f"{url}/nexio")
        return main(["get", "nexio", "no-such-run"])


def read_all(terminal: int, until: re.Pattern[str] | None = None) -> str:
    """Everything that is written to a terminal until its other side closes, or until a pattern was written."""
    parts: list[bytes] = []
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        try:
            part = os.read(terminal, 65536)
        except OSError:
            part = b""
        if not part:
            os.close(terminal)
            break
        parts.append(part)
        if until is not None and until.search(b"".join(parts).decode(errors="replace")):
            break
    # A part may end within a sign.
    return b"".join(parts).decode(errors="replace")
