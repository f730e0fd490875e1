"""The examples of the help texts, each run as it stands against the emulator, and that every command has some."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import indent

import pytest

from runops.cli import main
from runops.cli.examples import Example, examples
from runops.core import PROVIDERS
from runops.core.declaration import registry
from runops.emulator.server import Server, running

pytestmark = pytest.mark.http

ENDS = {
    "get": {"nexio": "degraded", "": "succeeded"},
    "explain": {"": "failed"},
    "watch": {"": "succeeded"},
    "cancel": {"": "forever"},
    "resume": {"": "paused"},
    "retry": {"": "failed"},
    "record": {"": "succeeded"},
}
"""What becomes of the runs that an example of a command names, where it says that they are there."""
ANSWERS = Path(__file__).resolve().parents[1] / "payloads" / "nexio"
ELSEWHERE = {"orphans airflow", "orphans dagster", "emulate", "completion"}
"""Those that need a host, a process or a shell."""
FILES = {
    "first.json": (ANSWERS / "processing.json").read_text(),
    "last.json": (ANSWERS / "completed.json").read_text(),
    "input.json": '{"applicant": "a-17"}',
    "target.json": '{"kind": "url", "url": "https://agent.example.com"}',
    "running.json": '{"answer": {"job": {"job_id": "J-1", "state": "ACTIVE"}}}',
    "done.json": '{"answer": {"job": {"job_id": "J-1", "state": "DONE"}}}',
}
ACME = Path(__file__).resolve().parents[1] / "conformance"
"""A provider of one's own, with its answers."""
HERE = [(name, each) for name, given in examples().items() if name not in ELSEWHERE for each in given]


@pytest.fixture(scope="module")
def emulator() -> Iterator[Server]:
    with running(seed=7, seconds=0.1) as server:
        yield server


@pytest.fixture
def server(emulator: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Server:
    emulator.emulator.reset()
    for name, provider in PROVIDERS.items():
        monkeypatch.setenv(provider.key_variable, "key")
        monkeypatch.setenv(f"{name.upper()}_BASE_URL", emulator.base_url(name))
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    shutil.copy(ACME / "acme_runs.py", tmp_path)
    shutil.copytree(ACME / "answers" / "acme", tmp_path / "answers")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    # What a test has declared is forgotten after it, so that its module must be read again.
    monkeypatch.delitem(sys.modules, "acme_runs", raising=False)
    monkeypatch.delitem(registry._made, "acme_jobs", raising=False)
    return emulator


def make_runs(server: Server, command: str, words: list[str]) -> None:
    """The runs that a line names, as its command wants them."""
    if command not in ENDS:
        return
    provider = words[2]
    if "--from" in words:
        return
    script = ENDS[command].get(provider, ENDS[command][""])
    parents = {}
    if "--workflow-id" in words:
        parents["workflow_id"] = words[words.index("--workflow-id") + 1]
    for run_id in words[3:]:
        if run_id.startswith("-"):
            break
        server.emulator.create_run(provider, script=script, run_id=run_id, parents=parents)
    if script != "forever" and command not in ("watch", "record"):
        server.emulator.advance()


@pytest.mark.parametrize(("command", "example"), HERE, ids=[f"{name}: {each.what}" for name, each in HERE])
def test_it_does_what_it_says_and_exits_as_it_says(
    server: Server, capsys: pytest.CaptureFixture[str], command: str, example: Example
) -> None:
    words = shlex.split(example.line)
    assert words[0] == "runops"
    assert " ".join(words[1 : 1 + len(command.split())]) == command
    make_runs(server, command, words)
    # A look every few seconds would be too slow for a test, and is not what is tried here.
    fast = ["--poll-interval", "0.05"] if command == "watch" or "--wait" in words else []
    code = main([*words[1:], *fast])
    said = capsys.readouterr()
    assert code == example.code, said.err
    assert said.out


def test_the_ones_of_emulate_serve(tmp_path: Path) -> None:
    for example in examples()["emulate"]:
        words = shlex.split(example.line)
        # Its port may be taken on this machine.
        words[words.index("--port") + 1] = "0"
        command = [sys.executable, "-m", "runops.cli", *words[1:]]
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                assert '"listening"' in process.stdout.readline()
            finally:
                process.terminate()
                assert process.wait(20) == 0


@pytest.mark.parametrize("words", [name.split() for name in examples()], ids=" ".join)
def test_help_of_a_command_prints_them(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert main([*words, "--help"]) == 0
    told = capsys.readouterr().out
    for each in examples()[" ".join(words)]:
        assert f"{indent(each.shown, '  ')}\n      {each.what}" in told
        assert shlex.split(each.shown.replace("\\\n", "")) == shlex.split(each.line)
        assert all(len(line) <= 118 for line in each.shown.splitlines())
    assert told.count("examples:") == 1


def test_submit_without_a_provider_shows_those_of_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", "--help"]) == 0
    told = capsys.readouterr().out
    shown = [each.line for name, given in examples().items() if name.startswith("submit ") for each in given]
    assert len(shown) >= 4
    assert all(line.partition(" --")[0] in told for line in shown)
    assert told.count("examples:") == 1
