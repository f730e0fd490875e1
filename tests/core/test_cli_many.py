"""``runops watch`` of many runs: the whole in place, the table at the end, and what a pipe and a program get."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from os import environ

import pytest

from runops.cli import main
from runops.cli.bars import Bars
from runops.cli.signs import Signs, columns
from runops.cli.table import table
from runops.cli.whole import FEW, MOST_ROWS, Whole
from runops.core import Outcome, OutcomePolicy, RunSnapshot, find
from runops.emulator.server import Server, running
from tests.core.test_cli_terminal import FAST, REASON, Watched, make, uuid

SIGNS = Signs.for_encoding("utf-8")
NYX = find("nyx")


@pytest.fixture(scope="module")
def emulator() -> Iterator[Server]:
    with running(seed=7, seconds=0.2) as server:
        yield server


@pytest.fixture
def server(emulator: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    emulator.emulator.reset()
    monkeypatch.setenv("NEXIO_API_KEY", "k")
    monkeypatch.setenv("NEXIO_BASE_URL", emulator.base_url("nexio"))
    return emulator


def fail(server: Server, run_id: str) -> None:
    server.emulator.set_fields("nexio", run_id, {"status": "failed", "error": REASON, "completed_at": "$now"})


def complete(server: Server, run_id: str) -> None:
    server.emulator.set_fields("nexio", run_id, {"status": "completed", "completed_at": "$now"})


@pytest.mark.http
class TestOnATerminal:
    def test_three_runs_have_a_bar_for_all_below_theirs_and_a_table_at_the_end(self, server: Server) -> None:
        run_ids = make(server, range(3), script="forever")
        watched = Watched(server, run_ids)
        assert re.fullmatch(r"·{20} 0/3: 3 running  \d+:\d\d", watched.until("0/3: 3 running").shown[-1])
        fail(server, run_ids[1])
        screen = watched.until("1/3: 1 failed, 2 running")
        assert re.fullmatch(r"█{7}·{13} 1/3: 1 failed, 2 running  \d+:\d\d", screen.shown[-1])
        complete(server, run_ids[0])
        complete(server, run_ids[2])
        screen = watched.finish()
        shown = [line.rstrip() for line in screen.lines]
        header = next(number for number, line in enumerate(shown) if line.startswith("run  "))
        assert shown[header].split() == ["run", "outcome", "verdict", "why"]
        rows = [line.split(None, 3) for line in shown[header + 1 : header + 4]]
        assert [row[:3] for row in rows] == [
            [run_ids[0], "succeeded", "succeed"],
            [run_ids[1], "failed", "fail"],
            [run_ids[2], "succeeded", "succeed"],
        ]
        assert rows[1][3].endswith("…")
        assert REASON.startswith(rows[1][3].removesuffix("…"))
        assert shown[header + 4 : header + 7] == ["", "3/3: 2 succeeded, 1 failed", "3 runs: 2 succeed, 1 fail"]
        assert max(columns(line) for line in shown) <= 80

    @pytest.mark.parametrize("env", [{}, {"NO_COLOR": "1"}], ids=str)
    def test_of_a_thousand_runs_a_person_sees_the_whole_those_at_work_and_those_that_failed(
        self, server: Server, env: dict[str, str]
    ) -> None:
        run_ids = make(server, range(1000), script="forever")
        watched = Watched(server, run_ids, rows=24, columns=80, **env)
        screen = watched.until("0/1,000: 1,000 running")
        assert screen.scrolled == []
        assert re.fullmatch(r"·{20} 0/1,000: 1,000 running  \d+:\d\d", screen.shown[-1])
        for run_id in run_ids:
            if run_id == run_ids[500]:
                fail(server, run_id)
            else:
                complete(server, run_id)
        screen = watched.finish()
        assert watched.process.returncode == 1
        shown = [line.rstrip() for line in screen.lines]
        # One block for the run that failed, its row in the table, and the counts.
        assert len(shown) < 14, shown
        assert shown[0] == f"nexio run {run_ids[500]}: failed -> fail"
        assert sum(line.startswith(run_ids[500]) for line in shown) == 1
        assert "1,000/1,000: 999 succeeded, 1 failed" in shown
        assert not any("█" in line or "·" in line for line in shown)
        assert not re.search(r"\x1b\[[\d;]*m", watched.written)

    def test_a_run_at_work_has_a_line_before_one_that_waits_for_its_beginning(self, server: Server) -> None:
        queued = [{"set": {"status": "queued"}}, {"after": 600, "set": {"status": "completed"}}]
        run_ids = make(server, range(40), script=queued) + make(server, range(40, 42), script="forever")
        watched = Watched(server, run_ids)
        screen = watched.until("... and 20 more: 20 queued")
        watched.process.terminate()
        watched.finish()
        assert [line.split()[0] for line in screen.shown[:3]] == [run_ids[40], run_ids[41], run_ids[0]]

    def test_where_bar_and_counts_do_not_fit_on_one_line_they_take_two(self, server: Server) -> None:
        run_ids = make(server, range(5), script="forever")
        watched = Watched(server, run_ids, rows=12, columns=30)
        screen = watched.until("0/5: 5 running")
        watched.process.terminate()
        watched.finish()
        assert screen.scrolled == []
        assert re.fullmatch(r"·+ 0%  \d+:\d\d", screen.shown[-2])
        assert screen.shown[-1] == "0/5: 5 running"

    def test_an_interrupted_watch_leaves_its_last_drawing_and_says_so_on_a_line_of_its_own(
        self, server: Server
    ) -> None:
        run_ids = make(server, range(3), script="forever")
        watched = Watched(server, run_ids)
        watched.until("0/3: 3 running")
        watched.process.send_signal(signal.SIGINT)
        shown = [line.rstrip() for line in watched.finish().lines]
        assert watched.process.returncode == 130
        assert re.fullmatch(r"·+ 0/3: 3 running  \d+:\d\d", shown[3])
        assert shown[4] == "runops: interrupted; no run was cancelled."


@pytest.mark.http
class TestInAPipe:
    def test_several_runs_are_told_one_by_one_and_counted_at_the_end(
        self, server: Server, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run_ids = make(server, range(3), script="succeeded")
        assert main(["watch", "nexio", *run_ids, *FAST]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[-1] == "3/3: 3 succeeded"
        assert sum("completed (succeeded) -> succeed" in line for line in lines) == 3
        assert any("processing (running)" in line for line in lines)

    def test_of_many_only_the_ends_are_told_and_the_counts_every_few_seconds(
        self, server: Server, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run_ids = make(server, range(FEW + 1), script="succeeded")
        assert main(["watch", "nexio", *run_ids, *FAST]) == 0
        lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("  ")]
        assert lines[-1] == "51/51: 51 succeeded"
        assert sum("completed (succeeded) -> succeed" in line for line in lines) == 51
        counts = [line for line in lines if re.match(r"\d+/51: ", line)]
        assert len(lines) == 51 + len(counts)
        assert len(counts) <= 3

    def test_one_run_has_no_counts(self, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
        (run_id,) = make(server, range(1), script="succeeded")
        assert main(["watch", "nexio", run_id, *FAST]) == 0
        assert "1/1" not in capsys.readouterr().out

    def test_a_program_gets_one_line_of_json_for_each_run_and_nothing_else(self, server: Server) -> None:
        run_ids = make(server, range(FEW + 1), script="succeeded")
        done = subprocess.run(
            [sys.executable, "-m", "runops.cli", "watch", "nexio", *run_ids, *FAST, "--json"],
            env=dict(environ), capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        assert [line[:1] for line in done.stdout.splitlines()] == ["{"] * 51
        assert done.stderr == ""


class TestTheTable:
    def snapshot(self, number: int, outcome: Outcome, state: str, **more: object) -> RunSnapshot:
        return RunSnapshot(ref=NYX.ref(uuid(number)), outcome=outcome, state=state, **more)  # pyright: ignore[reportArgumentType]

    def whole(self, runs: int) -> Whole:
        return Whole(NYX, [NYX.ref(uuid(number)) for number in range(runs)], OutcomePolicy.build({"degraded": "warn"}))

    def test_it_has_what_each_run_spent_and_the_counts_their_sum(self) -> None:
        whole = self.whole(2)
        whole.saw(RunSnapshot(ref=NYX.ref(uuid(0)), state="running", details={"spent_usd": 3.5}))
        assert whole.line() == "0/2: 2 running, 3.50 USD"
        whole.ended(self.snapshot(0, Outcome.SUCCEEDED, "success", details={"spent_usd": 12.4}))
        whole.failed(NYX.ref(uuid(1)), "Nyx did not answer.")
        assert whole.line() == "2/2: 1 succeeded, 1 unread, 12.40 USD"
        assert [line.split(None, 1)[1].strip() for line in table(whole, SIGNS, 100)] == [
            "outcome         verdict      spend  why",
            "succeeded       succeed  12.40 USD",
            "could not tell  -                   Nyx did not answer.",
        ]

    def test_of_many_runs_it_has_those_that_are_no_plain_success_and_of_very_many_the_first(self) -> None:
        whole = self.whole(1000)
        for number in range(1000):
            outcome = (Outcome.SUCCEEDED, Outcome.DEGRADED, Outcome.FAILED, Outcome.SUCCEEDED)[number % 4]
            whole.ended(self.snapshot(number, outcome, str(outcome)))
        lines = table(whole, SIGNS, 80)
        assert len(lines) == 1 + MOST_ROWS + 1
        assert lines[1].split() == [uuid(1), "degraded", "warn"]
        assert lines[-1] == "... and 400 more"

    @pytest.mark.parametrize("width", [20, 30, 40, 60, 79, 200])
    def test_no_row_is_wider_than_the_terminal_and_ids_keep_both_their_ends(self, width: int) -> None:
        whole = self.whole(3)
        for number in range(3):
            whole.ended(self.snapshot(number, Outcome.FAILED, "failed", reason=REASON))
        header, *rows = table(whole, SIGNS, width)
        assert max(columns(line) for line in (header, *rows)) <= width
        assert all(row.split()[0][:3] == "3f2" for row in rows)
        assert width < 30 or len({row.split()[0] for row in rows}) == 3

    def test_what_a_provider_says_does_not_steer_the_terminal(self) -> None:
        whole = self.whole(2)
        whole.ended(self.snapshot(0, Outcome.FAILED, "fai\x1b[2Jled", reason="a\x1b]0;title\x07b"))
        assert "\x1b" not in "".join(table(whole, SIGNS, 120))


def test_a_note_stands_above_the_lines_that_are_drawn_again_below_it(capsys: pytest.CaptureFixture[str]) -> None:
    refs = [find("nyx").ref("run-1"), find("nyx").ref("run-2")]
    policy = OutcomePolicy.build()
    bars = Bars(refs, policy, "utf-8", Whole(find("nyx"), refs, policy))
    bars.tick()
    before = capsys.readouterr().out
    bars.note("something is odd")
    said = capsys.readouterr()
    assert "something is odd" in said.err
    assert "run-1" in before
    assert "run-1" in said.out
