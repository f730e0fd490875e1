"""``runops watch`` on a terminal of a given size: a real pseudo-terminal, and a model of the screen behind it."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from runops.emulator.server import Server, running

pytestmark = pytest.mark.http

FAST = ("--poll-interval", "0.05")
REASON = "the model has not answered within the time that its owner allows, so the step gave up after three tries"
CONTROL = re.compile(r"\x1b\[(\d*)([A-Z])|(\r)|(\n)|(\x1b)|([^\x1b\r\n]+)")


class Screen:
    """What a terminal of so many rows and columns shows after some output, and what has scrolled out of it."""

    def __init__(self, rows: int, columns: int) -> None:
        self.rows, self.columns = rows, columns
        self.lines = [""]
        self.row = self.column = 0

    def feed(self, text: str) -> None:
        for number, command, back, down, stray, written in CONTROL.findall(text):
            assert not stray, f"an escape that this screen does not know: {text[:200]!r}"
            if command == "A":
                self.row = max(self.row - int(number), self.first)
            elif command == "J":
                self.lines[self.row :] = [self.lines[self.row][: self.column]]
            elif command == "K":
                assert number == "2"
                self.lines[self.row] = ""
            elif back:
                self.column = 0
            elif down:
                self._down()
            for character in written:
                self._put(character)

    @property
    def first(self) -> int:
        """The first line that is still on the screen: no cursor gets above it."""
        return max(len(self.lines) - self.rows, 0)

    @property
    def scrolled(self) -> list[str]:
        return self.lines[: self.first]

    @property
    def shown(self) -> list[str]:
        return self.lines[self.first :]

    def _put(self, character: str) -> None:
        if self.column == self.columns:
            self._down()
            self.column = 0
        line = self.lines[self.row].ljust(self.column)
        self.lines[self.row] = line[: self.column] + character + line[self.column + 1 :]
        self.column += 1

    def _down(self) -> None:
        self.row += 1
        if self.row == len(self.lines):
            self.lines.append("")


@pytest.fixture(scope="module")
def emulator() -> Iterator[Server]:
    with running(seed=7, seconds=0.2) as server:
        yield server


@pytest.fixture
def server(emulator: Server) -> Server:
    emulator.emulator.reset()
    return emulator


def uuid(number: int) -> str:
    return f"3f2b9c7e-1d5b-4f6a-8c2d-{number:012d}"


class Watched:
    """``runops watch nexio`` on a terminal; ``screens`` holds what it showed after each piece of output."""

    def __init__(self, server: Server, run_ids: list[str], *, rows: int = 24, columns: int = 80, **env: str) -> None:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        settings = {"NEXIO_API_KEY": "k", "NEXIO_BASE_URL": server.base_url("nexio"), "TERM": "xterm", **env}
        inherited = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        self._rows, self._columns = rows, columns
        self.written = ""
        self._changed = threading.Condition()
        self._terminal = ours
        self.process = subprocess.Popen(
            [sys.executable, "-m", "runops.cli", "watch", "nexio", *run_ids, *FAST],
            env={**inherited, **settings},
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")()
        while True:
            try:
                part = os.read(self._terminal, 65536)
            except OSError:
                break
            if not part:
                break
            with self._changed:
                self.written += decoder.decode(part)
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def until(self, text: str) -> Screen:
        """What is shown once a drawing with this text is whole."""
        with self._changed:
            assert self._changed.wait_for(lambda: "\x1b[J" in self.written.partition(text)[2], timeout=60), self.written
            return self._drawn(self.written.index("\x1b[J", self.written.index(text)) + len("\x1b[J"))

    def finish(self) -> Screen:
        self.process.wait(60)
        self._reader.join(60)
        os.close(self._terminal)
        return self._drawn()

    def _drawn(self, end: int | None = None) -> Screen:
        screen = Screen(self._rows, self._columns)
        screen.feed(self.written[:end])
        return screen


def make(server: Server, numbers: range, **options: Any) -> list[str]:
    run_ids = [uuid(number) for number in numbers]
    for run_id in run_ids:
        server.emulator.create_run("nexio", run_id=run_id, **options)
    return run_ids


def test_at_80_columns_a_run_with_a_uuid_shows_its_id_its_bar_the_time_and_its_state(server: Server) -> None:
    (run_id,) = make(server, range(1), script="forever")
    watched = Watched(server, [run_id])
    screen = watched.until("processing (running)")
    watched.process.terminate()
    watched.finish()
    (line,) = [line for line in screen.shown if "processing (running)" in line]
    assert re.fullmatch(rf"{run_id}  [█·]+ .*\d+:\d\d  processing \(running\)", line)
    assert len(line) < 80


def test_at_80_columns_the_result_the_reason_and_the_page_stand_in_full_on_lines_of_their_own(server: Server) -> None:
    (run_id,) = make(server, range(1), script=[{"set": {"status": "failed", "error": REASON, "completed_at": "$now"}}])
    watched = Watched(server, [run_id])
    screen = watched.finish()
    assert watched.process.returncode == 1
    shown = [line.rstrip() for line in screen.lines]
    first = shown.index(f"nexio run {run_id}: failed -> fail")
    assert " ".join(line.strip() for line in shown[first + 1 : first + 3]) == REASON
    assert shown[first + 3] == "  https://platform.usenexio.com/runs"
    assert all(len(line) <= 80 for line in shown)
    assert not any("█" in line or "·" in line for line in shown)


def test_fifty_runs_in_24_rows_leave_no_copies_in_the_scrollback(server: Server) -> None:
    run_ids = make(server, range(50), script="forever")
    watched = Watched(server, run_ids)
    screen = watched.until("... and 28 more: 28 processing (running)")
    assert screen.scrolled == []
    assert screen.shown[22].startswith("... and 28 more")
    assert [line.split()[0] for line in screen.shown[:22]] == run_ids[:22]
    server.emulator.set_fields("nexio", run_ids[3], {"status": "failed", "error": REASON, "completed_at": "$now"})
    server.emulator.set_fields("nexio", run_ids[49], {"status": "completed", "completed_at": "$now"})
    screen = watched.until("... and 26 more")
    for run_id in run_ids:
        # Read-only fields aside, a run that is over ends its wait at the next read.
        server.emulator.set_fields("nexio", run_id, {"status": "completed", "completed_at": "$now"})
    screen = watched.finish()
    text = "\n".join(screen.lines)
    assert "... and" not in text
    assert [text.count(f"nexio run {run_id}: ") for run_id in run_ids] == [1] * 50
    assert f"nexio run {run_ids[3]}: failed -> fail" in text
    assert "50 runs: 49 succeed, 1 fail" in text
    assert watched.process.returncode == 1


def test_a_terminal_of_three_rows_and_30_columns_is_not_written_over_its_edge(server: Server) -> None:
    run_ids = make(server, range(5), script="forever")
    watched = Watched(server, run_ids, rows=3, columns=30)
    screen = watched.until("and 4 more")
    watched.process.terminate()
    watched.finish()
    assert screen.scrolled == []
    assert screen.shown[0].startswith("3f2b")
    assert screen.shown[1].startswith("... and 4 more")


def test_an_ascii_terminal_gets_bars_of_its_own_characters(server: Server) -> None:
    (run_id,) = make(server, range(1), script="succeeded")
    watched = Watched(server, [run_id], PYTHONIOENCODING="ascii", LC_ALL="C")
    watched.finish()
    assert watched.process.returncode == 0
    assert watched.written.isascii()
    assert ".... " in watched.written


def test_what_cannot_be_read_is_said_above_the_bars_and_once_for_all_runs(server: Server) -> None:
    run_ids = make(server, range(6), script="forever")
    server.emulator.add_fault(kind="status", status=503, provider="nexio", action="get", count=6)
    watched = Watched(server, run_ids)
    screen = watched.until("processing (running)")
    watched.process.terminate()
    watched.finish()
    lines = [line for line in screen.lines if "could not be read" in line]
    assert len(lines) == 1
    assert "503" in "".join(screen.lines)
    assert screen.lines.index(lines[0]) == 0
