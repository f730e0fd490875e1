"""How the command line ends in its own process: which command is called with what, and what becomes of streams."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_mock import MockerFixture

import runops.cli
from runops.cli import acts, commands, completion, main, output, submission
from runops.cli.examples import epilog
from runops.cli.unexpected import describe
from runops.core import PROVIDERS, ConfigurationError, RunopsError
from runops.emulator import server

# --- which command ---


@pytest.mark.parametrize(
    ("place", "name", "argv", "called"),
    [
        (server, "main", ["emulate", "--port", "0"], ((["--port", "0"],), {"examples": epilog("emulate")})),
        (submission, "submit", ["submit", "nyx", "--wait"], ((["nyx", "--wait"],), {})),
        (completion, "show", ["completion", "fish"], (("fish",), {})),
    ],
)
@pytest.mark.parametrize("code", [0, 3])
def test_a_command_of_its_own_gets_what_stands_after_its_name(
    mocker: MockerFixture, place: Any, name: str, argv: list[str], called: Any, code: int
) -> None:
    command = mocker.patch.object(place, name, return_value=code)
    assert main(argv) == code
    assert (command.call_args.args, command.call_args.kwargs) == called
    mocker.patch.object(sys, "argv", ["runops", *argv])
    assert main() == code
    assert command.call_count == 2


@pytest.mark.parametrize(
    ("argv", "place", "name"),
    [
        (["resume", "nyx", "r"], acts, "resume"),
        (["retry", "nyx", "r"], acts, "retry"),
        (["get", "nyx", "r"], commands, "get"),
        (["watch", "nyx", "r"], commands, "watch"),
        (["cancel", "nyx", "r"], commands, "cancel"),
        (["states"], commands, "states"),
        (["orphans", "dagster"], commands, "left_behind"),
        (["explain", "nyx", "r"], commands, "explained"),
        (["conform", "a:B", "--answers", "d"], commands, "for_writers"),
        (["record", "nyx", "r", "--to", "d"], commands, "for_writers"),
        (["new-provider", "acme", "--answers", "a", "--status", "GET /{run_id}", "--probe", "GET /",
          "--base-url", "https://a.example", "--docs", "https://d"], commands, "for_writers"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)  # fmt: skip
def test_each_command_is_run_with_its_options_and_its_errors_become_exit_codes(
    mocker: MockerFixture, capsys: pytest.CaptureFixture[str], argv: list[str], place: Any, name: str
) -> None:
    command = mocker.patch.object(place, name, return_value=7)
    assert main(argv) == 7
    assert command.call_args.args[0].command == argv[0]
    for error, code in ((ConfigurationError("it is wrong"), 2), (RunopsError("it is gone"), 4)):
        command.side_effect = error
        assert main(argv) == code
        assert capsys.readouterr() == ("", f"runops: {error}\n")


@pytest.mark.parametrize(
    ("argv", "module", "name"),
    [
        (["orphans", "dagster"], "runops.cli.orphans", "orphans"),
        (["explain", "nyx", "r"], "runops.cli.explain", "explain"),
        (["conform", "a:B", "--answers", "d"], "runops.cli.kit", "run"),
    ],
)
def test_what_is_loaded_late_decides_the_exit_code(
    mocker: MockerFixture, argv: list[str], module: str, name: str
) -> None:
    command = mocker.patch(f"{module}.{name}", return_value=5)
    assert main(argv) == 5
    assert command.call_args.args[0].command == argv[0]


@pytest.mark.parametrize(
    ("codes", "worst"),
    [([], 0), ([0, 0], 0), ([0, 3], 3), ([3, 1, 0], 1), ([1, 4, 3], 4), ([4], 4), ([1, 0], 1)],
)
def test_of_several_codes_the_first_present_of_4_1_3_0_counts(codes: list[int], worst: int) -> None:
    assert commands.worst(codes) == worst


def test_the_parts_of_an_address_become_options_only_where_a_run_is_named(mocker: MockerFixture) -> None:
    made = mocker.patch("runops.cli.arguments.parser")
    parts = tuple(dict.fromkeys(name for provider in PROVIDERS.values() for name in provider.parents))
    assert "workflow_id" in parts
    for command in ("get", "explain", "watch", "cancel", "resume", "retry"):
        runops.cli._parser([command, "--json", "nyx", "r"])
        assert made.call_args.args == (parts,)
    for argv in (["get"], ["get", "--help"], ["states", "nyx"], ["conform", "onepin"], []):
        runops.cli._parser(argv)
        assert made.call_args.args == ()


# --- ends ---


@pytest.mark.parametrize(
    ("leaving", "code", "said"),
    [
        (SystemExit(), 0, ""),
        (SystemExit(0), 0, ""),
        (SystemExit(2), 2, ""),
        (SystemExit(1), 4, "runops: left with code 1.\n"),
        (SystemExit(3), 4, "runops: left with code 3.\n"),
        (SystemExit("no more"), 4, "runops: no more\n"),
        (KeyboardInterrupt(), 130, "runops: interrupted; no run was cancelled.\n"),
        (GeneratorExit("odd"), 4, f"runops: {describe(GeneratorExit('odd'))}\n"),
        (output.OutputError("It is full."), 4, "runops: It is full. [output-broken]\n"),
    ],
    ids=repr,
)  # fmt: skip
def test_whatever_ends_a_command_becomes_a_code_and_a_line(
    mocker: MockerFixture, capsys: pytest.CaptureFixture[str], leaving: BaseException, code: int, said: str
) -> None:
    mocker.patch.object(completion, "show", side_effect=leaving)
    given_up = mocker.patch.object(output, "give_up")
    assert main(["completion", "bash"]) == code
    assert capsys.readouterr() == ("", said)
    assert given_up.call_count == isinstance(leaving, output.OutputError)


def test_what_cannot_be_flushed_at_the_end_exits_4(mocker: MockerFixture, capsys: pytest.CaptureFixture[str]) -> None:
    mocker.patch.object(completion, "show", return_value=0)
    mocker.patch.object(output, "give_up")
    prepared = mocker.patch.object(output, "prepare")
    mocker.patch.object(output, "flush", side_effect=output.OutputError("It is full."))
    assert main(["completion", "bash"]) == 4
    assert capsys.readouterr().err == "runops: It is full. [output-broken]\n"
    prepared.assert_called_once_with()


def test_without_a_standard_output_only_a_server_is_run(
    mocker: MockerFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    served = mocker.patch.object(server, "main", return_value=0)
    shown = mocker.patch.object(completion, "show", return_value=0)
    mocker.patch.object(sys, "stdout", None)
    assert main(["completion", "bash"]) == 2
    assert capsys.readouterr().err == (
        "runops: standard output is closed, so nothing could be shown; nothing was sent. Use >/dev/null. "
        "[output-broken]\n"
    )
    assert main([]) == 2
    assert main(["emulate"]) == 0
    assert (served.call_count, shown.call_count) == (1, 0)


# --- streams ---


class Broken(io.StringIO):
    """Takes nothing."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def write(self, text: str) -> int:
        raise self.error

    def flush(self) -> None:
        raise self.error


BROKEN = [
    (BrokenPipeError(32, "Broken pipe"), "its reader has gone"),
    (OSError(28, "No space left on device"), "No space left on device"),
    (OSError("odd"), "odd"),
    (ValueError("I/O operation on closed file"), "I/O operation on closed file"),
]


@pytest.mark.parametrize(("error", "reason"), BROKEN)
def test_a_standard_output_that_takes_nothing_is_said_with_the_reason(
    mocker: MockerFixture, error: Exception, reason: str
) -> None:
    mocker.patch.object(sys, "stdout", Broken(error))
    for write in (lambda: output.say("a"), output.flush):
        with pytest.raises(output.OutputError) as raised:
            write()
        assert raised.value.text == f"Standard output cannot be written: {reason}."
        assert str(raised.value) == f"{raised.value.text} [output-broken]"
        assert raised.value.__suppress_context__


def test_an_error_of_output_without_a_text_has_its_code_alone() -> None:
    assert (output.OutputError().text, str(output.OutputError())) == ("", " [output-broken]")


@pytest.mark.parametrize("error", [error for error, _ in BROKEN])
def test_a_complaint_that_cannot_be_written_is_left_out(mocker: MockerFixture, error: Exception) -> None:
    stream = Broken(error)
    mocker.patch.object(sys, "stderr", stream)
    output.complain("a")
    assert stream.getvalue() == ""


def test_a_line_is_written_at_once_and_a_complaint_steers_no_terminal(mocker: MockerFixture) -> None:
    out, err = io.BytesIO(), io.BytesIO()
    mocker.patch.object(sys, "stdout", io.TextIOWrapper(out))
    mocker.patch.object(sys, "stderr", io.TextIOWrapper(err))
    output.say("a")
    output.say("b", end="")
    output.complain("c\x1b[2J\nd")
    assert (out.getvalue(), err.getvalue()) == (b"a\nb", b"runops: c?[2J?d\n")


def test_flush_writes_what_is_left_and_nothing_where_there_is_no_standard_output(mocker: MockerFixture) -> None:
    written = io.BytesIO()
    stream = io.TextIOWrapper(written)
    mocker.patch.object(sys, "stdout", stream)
    stream.write("left")
    output.flush()
    assert written.getvalue() == b"left"
    assert not output.is_closed()
    mocker.patch.object(sys, "stdout", None)
    output.flush()
    assert output.is_closed()


def test_both_streams_spell_what_they_cannot_encode(mocker: MockerFixture) -> None:
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="ascii") for _ in range(2)]
    mocker.patch.object(sys, "stdout", streams[0])
    mocker.patch.object(sys, "stderr", streams[1])
    output.prepare()
    assert [stream.errors for stream in streams] == ["backslashreplace"] * 2
    mocker.patch.object(sys, "stdout", SimpleNamespace())
    output.prepare()


def test_after_giving_up_nothing_reaches_the_file(mocker: MockerFixture, tmp_path: Path) -> None:
    file = (tmp_path / "out").open("w")
    mocker.patch.object(sys, "stdout", file)
    opened = mocker.spy(os, "open")
    file.write("lost")
    output.give_up()
    file.close()
    os.close(opened.spy_return)
    assert (tmp_path / "out").read_text() == ""
    mocker.patch.object(sys, "stdout", io.StringIO())
    output.give_up()
    os.close(opened.spy_return)
