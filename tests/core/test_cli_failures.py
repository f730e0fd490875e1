"""Whatever goes wrong with the command line ends in 4 or 2 and one line: 1 is a verdict on a run, and nothing else."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from pytest_mock import MockerFixture

from runops.cli import main, notes, settings, unexpected
from runops.core import RunClient
from runops.emulator.server import Server, running

pytestmark = pytest.mark.http

KEY = "key-canary-5b1e77"
ELSEWHERE = "https://api.example.invalid"
FAST = ("--poll-interval", "0.05", "--error-budget", "0.2")
START = ("submit", "nexio", "--engine-slug", "e", "--input", "{}")
GET, WATCH = ("get", "nexio", "r"), ("watch", "nexio", "r", *FAST)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running(seed=7, seconds=0.2) as server:
        yield server


def run(
    *argv: str, env: dict[str, str] | None = None, stdout: IO[str] | int = subprocess.PIPE, closed: int | None = None
) -> subprocess.CompletedProcess[str]:
    """The command as a process; ``env`` adds to the environment, and one of the three streams may be closed."""
    command = [sys.executable, "-m", "runops.cli", *argv]
    if closed is not None:
        command = ["sh", "-c", f'exec "$@" {closed}>&-', "sh", *command]
    return subprocess.run(
        command,
        env={**os.environ, "NEXIO_API_KEY": KEY, **(env or {})},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )


def assert_one_line(done: subprocess.CompletedProcess[str], *codes: int) -> str:
    assert done.returncode in codes, done
    assert re.fullmatch(r"runops( emulate)?: [^\n]+\n", done.stderr), done.stderr
    assert KEY not in done.stderr
    return done.stderr


class TestSettingsThatNobodyForesaw:
    @pytest.mark.parametrize("argv", [GET, WATCH, START], ids=["get", "watch", "submit"])
    @pytest.mark.parametrize(
        "env",
        [
            {"NEXIO_BASE_URL": ELSEWHERE, "HTTPS_PROXY": "foo://127.0.0.1:1"},
            {"NEXIO_BASE_URL": ELSEWHERE, "HTTPS_PROXY": "http://127.0.0.1:port"},
            {"NEXIO_BASE_URL": ELSEWHERE, "SSL_CERT_FILE": "/none/at/all.pem"},
            {"NEXIO_BASE_URL": ELSEWHERE, "SSL_CERT_FILE": __file__},
            {"NEXIO_BASE_URL": ELSEWHERE, "SSLKEYLOGFILE": "/none/at/all.log"},
            {"NEXIO_BASE_URL": "https://1.2.3.999"},
        ],
        ids=["proxy_scheme", "proxy_port", "no_certificates", "no_pem", "no_key_log", "address"],
    )
    def test_a_setting_that_cannot_work_exits_4_or_2_with_one_line(
        self, argv: tuple[str, ...], env: dict[str, str]
    ) -> None:
        done = run(*argv, env=env)
        assert_one_line(done, 2, 4)
        assert done.stdout == ""

    @pytest.mark.parametrize("argv", [("--port", "99999"), ("--port", "-1"), ("--seconds", "nan"), ("--seconds", "-1")])
    def test_arguments_that_emulate_cannot_serve_exit_2(self, argv: tuple[str, ...]) -> None:
        assert argv[0] in assert_one_line(run("emulate", *argv), 2)

    def test_a_port_in_use_exits_4_and_is_named(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            assert port in assert_one_line(run("emulate", "--port", port), 4)

    def test_standard_input_that_is_closed_or_nested_too_deep_exits_2(self, tmp_path: Path) -> None:
        start = (*START[:-1], "@-")
        assert_one_line(run(*start, closed=0), 2)
        deep = tmp_path / "deep.json"
        deep.write_text("[" * 100_000, encoding="utf-8")
        assert_one_line(run(*START[:-1], f"@{deep}"), 2)


class TestStandardOutput:
    COMMANDS = (("states",), ("states", "--json"), ("--help",), ("submit", "nyx", "--help"))

    @pytest.mark.parametrize("argv", COMMANDS)
    def test_a_full_one_exits_4(self, argv: tuple[str, ...]) -> None:
        with open("/dev/full", "w") as full:  # noqa: PTH123
            assert "No space left" in assert_one_line(run(*argv, stdout=full), 4)

    @pytest.mark.parametrize("argv", COMMANDS)
    def test_one_whose_reader_has_gone_exits_4(self, argv: tuple[str, ...]) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        try:
            assert "reader has gone" in assert_one_line(run(*argv, stdout=writer), 4)
        finally:
            os.close(writer)

    @pytest.mark.parametrize("argv", [*COMMANDS, GET, WATCH, START])
    def test_a_closed_one_exits_2_before_anything_is_sent(self, server: Server, argv: tuple[str, ...]) -> None:
        server.emulator.reset()
        env = {"NEXIO_BASE_URL": server.base_url("nexio")}
        assert_one_line(run(*argv, env=env, closed=1), 2)
        assert server.emulator.requests() == []

    def test_a_watch_that_can_show_nothing_any_more_ends_with_4(self, server: Server) -> None:
        run_ids = [server.emulator.create_run("nexio", script="forever") for _ in range(2)]
        env = {"NEXIO_BASE_URL": server.base_url("nexio")}
        with open("/dev/full", "w") as full:  # noqa: PTH123
            assert_one_line(run("watch", "nexio", *run_ids, *FAST, env=env, stdout=full), 4)

    @pytest.mark.parametrize("more", [(), ("--json",), ("--wait",)])
    def test_a_run_that_was_submitted_is_named_all_the_same(self, server: Server, more: tuple[str, ...]) -> None:
        server.emulator.reset()
        env = {"NEXIO_BASE_URL": server.base_url("nexio")}
        with open("/dev/full", "w") as full:  # noqa: PTH123
            line = assert_one_line(run(*START, *more, env=env, stdout=full), 4)
        (submitted,) = server.emulator.runs(provider="nexio")
        assert f"{submitted['run_id']}: submitted" in line

    def test_without_a_standard_error_the_exit_code_is_the_same(self) -> None:
        assert run("get", "acme", "r", closed=2).returncode == 2

    def test_an_encoding_without_a_provider_s_letters_gets_escapes(self, server: Server) -> None:
        steps = [{"at": 0, "set": {"status": "größer"}}]
        run_id = server.emulator.create_run("nexio", script=steps, age_seconds=1)
        env = {"NEXIO_BASE_URL": server.base_url("nexio"), "PYTHONIOENCODING": "ascii"}
        done = run("get", "nexio", run_id, env=env)
        assert (done.returncode, done.stderr) == (0, "")
        assert "gr\\xf6\\xdfer" in done.stdout


class TestTheLastResort:
    @pytest.fixture
    def broken(self, monkeypatch: pytest.MonkeyPatch, mocker: MockerFixture) -> None:
        monkeypatch.setenv("NEXIO_API_KEY", KEY)

        def connect(*_: object, **__: object) -> RunClient:
            raise RuntimeError(f"no idea\nof {KEY} and sk_live_0123456789abcdefghijklmnopqrstu")

        mocker.patch.multiple(settings, connect=connect, connect_async=connect)

    @pytest.mark.parametrize("argv", [GET, WATCH, START], ids=["get", "watch", "submit"])
    @pytest.mark.usefixtures("broken")
    def test_what_nobody_foresaw_exits_4_with_its_type_and_no_secret(
        self, capsys: pytest.CaptureFixture[str], argv: tuple[str, ...]
    ) -> None:
        assert main(argv) == 4
        line = capsys.readouterr().err
        assert line.startswith("runops: unexpected RuntimeError: no idea of")
        assert line.count("\n") == 1
        assert KEY not in line
        assert "0123456789" not in line

    @pytest.mark.usefixtures("broken")
    def test_a_traceback_is_to_be_had_and_holds_no_key(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(unexpected.DEBUG, "1")
        assert main(GET) == 4
        text = capsys.readouterr().err
        assert "Traceback" in text
        assert "in connect" in text
        assert KEY not in text

    @pytest.mark.parametrize("text", ["raise SystemExit(1)", "raise SystemExit('no')", "import none_such", "1 / 0"])
    def test_a_provider_of_one_s_own_has_no_say_in_exit_codes(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "acme_runs.py").write_text(text, encoding="utf-8")
        assert_one_line(run("get", "acme_runs:ACME", "r", env={"PYTHONPATH": str(tmp_path)}), 2, 4)

    def test_one_run_that_fails_unforeseen_leaves_the_others_their_ends(
        self,
        server: Server,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        mocker: MockerFixture,
    ) -> None:
        from runops.core import AsyncRunClient

        ended = [server.emulator.create_run("nexio", script="succeeded", age_seconds=60) for _ in range(2)]
        real = AsyncRunClient.wait

        async def wait(client: AsyncRunClient, ref: object, **options: object) -> object:
            if getattr(ref, "run_id", "") == ended[0]:
                raise LookupError("of all things")
            return await real(client, ref, **options)  # pyright: ignore[reportArgumentType]

        mocker.patch.object(AsyncRunClient, "wait", wait)
        monkeypatch.setenv("NEXIO_API_KEY", KEY)
        monkeypatch.setenv("NEXIO_BASE_URL", server.base_url("nexio"))
        assert main(["watch", "nexio", *ended, *FAST]) == 4
        told = capsys.readouterr()
        assert f"{ended[1]}: completed" in told.out
        assert f"{ended[0]}: unexpected LookupError: of all things" in told.err


class TestLongSilences:
    def test_a_submit_to_a_dead_address_says_why_and_when_the_next_try_is(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as gone:
            port = gone.getsockname()[1]
        with subprocess.Popen(
            [sys.executable, "-m", "runops.cli", *START],
            env={**os.environ, "NEXIO_API_KEY": KEY, "NEXIO_BASE_URL": f"http://127.0.0.1:{port}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr is not None
            first = process.stderr.readline()
            assert re.search(r"Nothing was submitted to Nexio: .* The next try is in [\d.]+ s\.", first)
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "a run may have been started" in told
        assert "Traceback" not in told

    def test_an_answer_that_does_not_come_is_said(
        self,
        server: Server,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        mocker: MockerFixture,
    ) -> None:
        mocker.patch.object(notes, "SLOW", 0.05)
        monkeypatch.setenv("NEXIO_API_KEY", KEY)
        monkeypatch.setenv("NEXIO_BASE_URL", server.base_url("nexio"))
        run_id = server.emulator.create_run("nexio", script="succeeded", age_seconds=60)
        server.emulator.add_fault(kind="delay", provider="nexio", seconds=0.4)
        assert main(["get", "nexio", run_id]) == 0
        assert "no answer from Nexio" in capsys.readouterr().err

    def test_a_watch_of_what_cannot_be_read_says_so_at_once_and_then_once_in_a_while(self) -> None:
        import logging

        moment = [100.0]
        shown: list[str] = []
        handler = notes.Notes(shown.append, clock=lambda: moment[0])
        record = logging.LogRecord("runops", logging.DEBUG, __file__, 1, "r %d could not be read", (1,), None)
        for _ in range(120):
            handler.emit(record)
            moment[0] += 1
        assert shown == ["r 1 could not be read", *["r 1 could not be read (29 more failed reads since.)"] * 3]
