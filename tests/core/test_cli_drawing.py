"""What the command line draws: signs, bars, the whole of several runs, and the table of their ends."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_mock import MockerFixture

from runops.cli.bars import Bars
from runops.cli.signs import Signs, columns
from runops.cli.table import table
from runops.cli.unexpected import describe, without_secrets
from runops.cli.whole import Whole
from runops.core import OutcomePolicy, RunRef, RunSnapshot, find
from runops.core.model.run import Outcome, Phase, Progress

NYX, NEXIO = find("nyx"), find("nexio")
POLICY = OutcomePolicy.build()
UTF8, ASCII = Signs.for_encoding("utf-8"), Signs.for_encoding("ascii")


def refs(count: int) -> list[RunRef]:
    return [RunRef(provider="nyx", run_id=f"r_{number:03}") for number in range(count)]


def end(ref: RunRef, outcome: str = "succeeded", **about: Any) -> RunSnapshot:
    return RunSnapshot(ref=ref, state="completed", outcome=Outcome(outcome), **about)


def going_on(ref: RunRef, state: str = "running", phase: Phase = Phase.RUNNING, **about: Any) -> RunSnapshot:
    return RunSnapshot(ref=ref, state=state, phase=phase, **about)


def whole(count: int, provider: Any = NYX) -> Whole:
    return Whole(provider, refs(count), POLICY)


# --- signs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", [None, "ascii", "latin-1", "no-such-encoding"])
def test_where_a_terminal_has_no_blocks_plain_signs_take_their_place(encoding: str | None) -> None:
    assert Signs.for_encoding(encoding).bar(0.5, 4) == "##.."
    assert Signs.for_encoding(encoding).shortened("abcdefghij", 6) == "ab..ij"


@pytest.mark.parametrize(
    ("done", "bar"),
    [(-1, "····"), (0.12, "····"), (0.13, "█···"), (0.5, "██··"), (1, "████"), (7, "████")],
)
def test_a_bar_shows_how_far_something_is(done: float, bar: str) -> None:
    assert UTF8.bar(done, 4) == bar


def test_a_text_that_is_too_long_loses_its_middle_or_its_end() -> None:
    assert UTF8.shortened("abcdef", 6) == "abcdef"
    assert UTF8.shortened("abcdefg", 6) == "abc…fg"
    assert UTF8.shortened("abcdefghij", 7) == "abc…hij"
    assert UTF8.beginning("abcdef", 6) == "abcdef"
    assert UTF8.beginning("abcd ef", 6) == "abcd…"
    assert UTF8.beginning("abcdefg", 6) == "abcde…"
    assert ASCII.beginning("abcdefg", 6) == "abcd.."
    assert ASCII.beginning("abcdefg", 1) == ".."


def test_a_column_is_filled_on_either_side() -> None:
    assert (UTF8.padded("ab", 4), UTF8.padded("ab", 4, right=True), UTF8.padded("abcdef", 4)) == (
        "ab  ",
        "  ab",
        "abcdef",
    )
    assert UTF8.padded("日本", 5) == "日本 "


@pytest.mark.parametrize(("text", "width"), [("abc", 3), ("日本", 4), ("e\u0301", 1), ("a\u20dd", 1), ("é", 1)])
def test_wide_signs_take_two_columns_and_marks_none(text: str, width: int) -> None:
    assert columns(text) == width


def test_a_line_fits_and_steers_no_terminal() -> None:
    assert UTF8.fit("a\x1b[2Jb", 10) == "a?[2Jb"
    assert UTF8.fit("日本語", 5) == "日本"
    assert ASCII.fit("né", 5) == "n?"
    assert (UTF8.fit("abc", 0), UTF8.fit("abc", 3)) == ("a", "abc")
    assert Signs("no-such", "#", ".", "..").encodable("é") == "é"


# --- the whole ----------------------------------------------------------------------------------------------------


def test_the_whole_counts_what_is_seen_once() -> None:
    of = whole(3)
    first, second, third = refs(3)
    stranger = RunRef(provider="nyx", run_id="other")
    assert (of.several, of.many, of.over, of.share) == (True, False, False, 0.0)
    assert of.line() == "0/3: 3 running"
    of.saw(going_on(first, details={"spent_usd": 1.5}))
    of.saw(going_on(stranger, details={"spent_usd": 9.0}))
    assert of.line() == "0/3: 3 running, 1.50 USD"
    of.ended(end(first, details={"spent_usd": 2.0}))
    of.saw(going_on(first, details={"spent_usd": 5.0}))
    of.ended(end(stranger))
    of.ended(going_on(second))
    of.failed(second, "no answer")
    of.failed(stranger, "no answer")
    assert of.line() == "2/3: 1 succeeded, 1 unread, 1 running, 2 USD"
    assert of.share == pytest.approx(2 / 3)
    of.ended(end(third, "failed", reason="broken"))
    assert of.over
    rows, left_out = of.ends()
    assert [(row.run_id, row.outcome, row.verdict, row.spend, row.why) for row in rows] == [
        ("r_000", "succeeded", "succeed", "2 USD", ""),
        ("r_001", "could not tell", "-", "", "no answer"),
        ("r_002", "failed", "fail", "", "broken"),
    ]
    assert left_out == 0
    assert not whole(1).several
    assert whole(0).share == 0.0


@pytest.mark.parametrize(("runs", "many"), [(50, False), (51, True)])
def test_of_many_runs_only_those_are_told_that_are_no_plain_success(runs: int, many: bool) -> None:
    of = whole(runs, NEXIO)
    for ref in refs(runs):
        of.ended(end(ref, "degraded" if ref.run_id == "r_007" else "succeeded"))
    rows, left_out = of.ends()
    assert (of.many, len(rows), left_out) == (many, 1 if many else 50, 0)


def test_a_table_has_a_hundred_rows_at_the_most() -> None:
    of = whole(103)
    for ref in refs(103):
        of.ended(end(ref, "failed"))
    assert [len(of.ends()[0]), of.ends()[1]] == [100, 3]
    lines = table(of, UTF8, 80)
    assert (len(lines), lines[-1]) == (102, "... and 3 more")


# --- the table ----------------------------------------------------------------------------------------------------


def ended_whole() -> Whole:
    of = whole(2)
    first, second = refs(2)
    of.ended(end(first, details={"spent_usd": 12.5}))
    of.ended(end(second, "failed", reason="the agent told its instructions"))
    return of


@pytest.mark.parametrize(
    ("width", "lines"),
    [
        (80, [
            "run    outcome    verdict      spend  why",
            "r_000  succeeded  succeed  12.50 USD",
            "r_001  failed     fail                the agent told its instructions",
        ]),
        (52, [
            "run    outcome    verdict      spend  why",
            "r_000  succeeded  succeed  12.50 USD",
            "r_001  failed     fail                the agent tol…",
        ]),
        (49, [
            "run    outcome    verdict      spend",
            "r_000  succeeded  succeed  12.50 USD",
            "r_001  failed     fail",
        ]),
    ],
)  # fmt: skip
def test_reasons_take_what_room_there_is_or_none(width: int, lines: list[str]) -> None:
    assert table(ended_whole(), UTF8, width) == lines


def test_a_column_that_nothing_fills_is_left_out_and_long_ids_lose_their_middle() -> None:
    of = Whole(NEXIO, [RunRef(provider="nexio", run_id="0123456789" * 4)], POLICY)
    of.ended(end(RunRef(provider="nexio", run_id="0123456789" * 4)))
    assert table(of, UTF8, 38) == ["run                 outcome    verdict", "012345678…23456789  succeeded  succeed"]
    assert table(of, UTF8, 20) == ["run            outco", "012345…456789  succe"]


def test_there_is_no_table_of_many_plain_successes() -> None:
    of = whole(51)
    for ref in refs(51):
        of.ended(end(ref))
    assert table(of, UTF8, 80) == []


# --- bars ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Any:
    def size(width: int, rows: int) -> None:
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("LINES", str(rows))

    size(80, 24)
    return size


def bars(count: int) -> tuple[Bars, list[RunRef]]:
    return Bars(refs(count), POLICY, "utf-8", whole(count)), refs(count)


def shown(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines of what was drawn since the last time."""
    return [line for line in re.split(r"\r?\x1b\[\d*[A-Z]|\n", capsys.readouterr().out) if line]


def test_runs_at_work_come_first_and_those_not_seen_last(terminal: Any, capsys: pytest.CaptureFixture[str]) -> None:
    live, all_ = bars(3)
    live.saw(going_on(all_[1], "queued", Phase.QUEUED))
    live.saw(going_on(all_[2], progress=Progress(done=5, total=20, unit="steps")))
    capsys.readouterr()
    live.tick()
    assert shown(capsys) == [
        "r_002  █████··············· 5/20 steps  0:00  running",
        "r_001  ···················· 0:00  queued",
        "r_000  ···················· 0:00  not seen yet",
        "···················· 0/3: 3 running  0:00",
    ]


TOTAL = "0/4: 4 running  0:00"


@pytest.mark.parametrize(
    ("rows", "lines"),
    [
        (
            3,
            [
                "r_000  ···················· 0:00  not seen yet",
                "... and 3 more: 3 not seen yet",
                "0/4: 4 running  0:00",
            ],
        ),
        (2, ["... and 4 more: 4 not seen yet", TOTAL]),
        (1, ["... and 4 more: 4 not seen yet"]),
    ],
)
def test_what_is_drawn_is_never_higher_than_the_terminal(
    terminal: Any, capsys: pytest.CaptureFixture[str], rows: int, lines: list[str]
) -> None:
    terminal(80, rows)
    live, _ = bars(4)
    live.tick()
    assert [line.removeprefix("···················· ") for line in shown(capsys)] == lines


def test_a_line_keeps_its_words_and_loses_its_bar_and_the_middle_of_its_id(
    terminal: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def drawn(width: int) -> str:
        terminal(width, 24)
        live = Bars([ref], POLICY, "utf-8", Whole(NYX, [ref], POLICY))
        live.tick()
        return shown(capsys)[0]

    ref = RunRef(provider="nyx", run_id="0123456789" * 2)
    assert drawn(47) == f"{ref.run_id}  ····· 0:00  not seen yet"
    assert drawn(46) == f"{ref.run_id}  ···· 0:00  not seen yet"
    assert drawn(45) == f"{ref.run_id}  0:00  not seen yet"
    assert drawn(36) == "0123456…3456789  0:00  not seen yet"


def test_a_bar_of_all_stands_beside_its_counts_above_them_or_not_at_all(
    terminal: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def total(width: int, rows: int) -> list[str]:
        terminal(width, rows)
        live, _ = bars(2)
        live.tick()
        return shown(capsys)[2:]

    assert total(80, 24) == ["···················· 0/2: 2 running  0:00"]
    assert total(32, 24) == ["·········· 0/2: 2 running  0:00"]
    assert total(31, 24) == ["····················· 0%  0:00", "0/2: 2 running"]
    assert total(31, 5) == ["0/2: 2 running"]


def test_a_drawing_takes_the_place_of_the_last_one(terminal: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def drawn(live: Bars) -> str:
        capsys.readouterr()
        live.tick()
        return capsys.readouterr().out

    two, one = bars(2)[0], bars(1)[0]
    assert drawn(two).startswith("\r\x1b[2K")
    assert drawn(two).startswith("\x1b[2A\r\x1b[2K")
    assert drawn(one).endswith("not seen yet\n\x1b[J")
    assert drawn(one).startswith("\x1b[1A\r\x1b[2K")
    # What was drawn wider has been wrapped since.
    terminal(30, 24)
    assert drawn(one).startswith("\x1b[2A\r")
    two.leave()
    one.leave()
    assert capsys.readouterr().out == "\n"
    assert drawn(two).startswith("\r")


def test_an_end_is_written_above_and_the_table_at_the_last_one(
    terminal: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    live, (first, second) = bars(2)
    live.ended(end(first, url="https://example.com/1", reason="as it should"))
    text = capsys.readouterr().out
    assert "nyx run r_000: completed -> succeed (succeeded)\n  as it should\n  https://example.com/1\n" in text
    live.failed(second, "no answer came")
    told = capsys.readouterr()
    assert "nyx run r_001: could not tell\n" in told.out
    assert told.err == "runops: no answer came\n"
    assert told.out.endswith("2/2: 1 succeeded, 1 unread\n2 runs: 1 succeed, 1 could not tell\n")
    assert "r_001  could not tell  -        no answer came" in told.out


def test_of_many_runs_a_plain_success_is_not_written(terminal: Any, capsys: pytest.CaptureFixture[str]) -> None:
    live, all_ = bars(51)
    live.ended(end(all_[0]))
    live.ended(end(all_[1], "failed"))
    text = capsys.readouterr().out
    assert "r_000: completed" not in text
    assert "r_001: completed -> fail (failed)" in text


@pytest.mark.parametrize(("terminal_s", "width"), [(80, 79), (22, 21), (21, 20), (15, 20)])
def test_the_table_and_the_reasons_leave_the_last_column_free_and_have_20_at_the_least(
    terminal: Any, capsys: pytest.CaptureFixture[str], mocker: MockerFixture, terminal_s: int, width: int
) -> None:
    terminal(terminal_s, 24)
    drawn = mocker.patch("runops.cli.bars.table", return_value=[])
    live, (first, second) = bars(2)
    live.ended(end(first, "failed", reason="x" * 200))
    live.ended(end(second))
    assert drawn.call_args.args[2] == width
    lines = capsys.readouterr().out.split("\n")
    assert max(len(line) for line in lines if re.fullmatch(" +x+", line)) == width


def test_what_is_in_place_is_erased_before_a_line_is_written_for_good(
    terminal: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    live, (first, _) = bars(2)
    live.tick()
    capsys.readouterr()
    live.ended(end(first))
    assert capsys.readouterr().out.startswith("\x1b[2A\r\x1b[Jnyx run r_000: completed -> succeed")


def test_a_line_in_place_never_reaches_the_last_column(terminal: Any, capsys: pytest.CaptureFixture[str]) -> None:
    terminal(24, 3)
    live, _ = bars(4)
    live.tick()
    assert max(len(line) for line in shown(capsys)) == 23


def test_two_looks_in_a_moment_are_drawn_once(
    terminal: Any, capsys: pytest.CaptureFixture[str], mocker: MockerFixture
) -> None:
    now = [1000.0]
    mocker.patch("runops.cli.bars.time", SimpleNamespace(monotonic=lambda: now[0]))
    live, (ref,) = bars(1)
    drawn: list[bool] = []
    for passed in (0.0, 0.05, 0.04, 0.02, 0.09, 0.5):
        now[0] += passed
        live.saw(going_on(ref))
        drawn.append(capsys.readouterr().out != "")
    assert drawn == [True, False, False, True, False, True]


# --- what nobody has foreseen -------------------------------------------------------------------------------------


def test_an_error_that_nobody_has_foreseen_is_one_line_without_a_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RUNOPS_DEBUG", raising=False)
    monkeypatch.setenv("NYX_TOKEN", " hunter2-token ")
    monkeypatch.setenv("NYX_PASSWORD", "abc")
    assert describe(ImportError("No module named 'x'.")) == (
        "unexpected ImportError: No module named 'x'. Set RUNOPS_DEBUG=1 to see where. [unexpected-error]"
    )
    assert describe(ZeroDivisionError()) == (
        "unexpected ZeroDivisionError. Set RUNOPS_DEBUG=1 to see where. [unexpected-error]"
    )
    assert "hunter2" not in describe(ValueError("bad hunter2-token"))
    assert without_secrets("< hunter2-token > <hunter2-token> abc") == "<[removed]> <[removed]> abc"
    monkeypatch.setenv("RUNOPS_DEBUG", "1")
    assert describe(KeyError("hunter2-token")).endswith(". [unexpected-error]")
    told = capsys.readouterr().err
    assert told.startswith("KeyError: ")
    assert "hunter2" not in told
