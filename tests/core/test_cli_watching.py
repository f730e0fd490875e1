"""Many waits at once, and the lines during a silence: what each end is told to, and what is put back afterwards."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_mock import MockerFixture

from runops.cli import acts, main, notes, output, watching
from runops.core import ConfigurationError, Outcome, OutcomePolicy, RunopsError, RunRef, RunSnapshot, find
from runops.core.telemetry import METER, RunEnd

NYX = find("nyx")
REF, OTHER = NYX.ref("r1"), NYX.ref("r2")
POLICY = OutcomePolicy.build()


def end(ref: RunRef = REF, outcome: str = "failed") -> RunSnapshot:
    return RunSnapshot(ref=ref, state="done", outcome=Outcome(outcome))


# --- watching ---


class Client:
    """Ends each wait as the test says."""

    provider = NYX

    def __init__(self, ends: dict[RunRef, RunSnapshot | Exception]) -> None:
        self.ends = ends
        self.given: list[tuple[RunRef, dict[str, Any]]] = []

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        return

    async def wait(self, ref: RunRef, **given: Any) -> RunSnapshot:
        self.given.append((ref, given))
        await asyncio.sleep(0)
        ended = self.ends[ref]
        if isinstance(ended, Exception):
            raise ended
        return ended


@pytest.fixture
def told(mocker: MockerFixture) -> Any:
    """What the meter, the traces and the display are told."""
    made = SimpleNamespace(
        ended=mocker.patch.object(METER, "ended"),
        erred=mocker.patch.object(METER, "erred"),
        record=mocker.patch.object(watching, "record"),
        of=mocker.patch.object(RunEnd, "of", return_value="an end"),
        unknown=mocker.patch.object(RunEnd, "unknown", return_value="no end"),
        display=mocker.Mock(live=False),
    )
    mocker.patch.object(watching, "now", side_effect=[1.0, 2.0, 3.0, 4.0])
    return made


def watched(told: Any, ends: dict[RunRef, Any], refs: list[RunRef]) -> tuple[Any, Client]:
    client: Any = Client(ends)
    patience: Any = "the clocks"
    return watching.watch_runs(client, refs, patience, told.display, POLICY), client


def test_the_end_of_a_wait_is_told_to_all_who_keep_it(told: Any) -> None:
    last = end()
    ends, client = watched(told, {REF: last}, [REF])
    assert ends == [last]
    assert client.given == [(REF, {"on_update": told.display.saw, "patience": "the clocks"})]
    verdict = POLICY.judge(last).verdict
    told.ended.assert_called_once_with(NYX, last, verdict)
    told.of.assert_called_once_with(NYX, last, verdict, began=1.0, ended=2.0)
    told.record.assert_called_once_with("an end")
    told.display.ended.assert_called_once_with(last)
    told.erred.assert_not_called()


def test_a_wait_that_fails_is_told_as_unknown_and_leaves_the_others(told: Any) -> None:
    error = RunopsError("It is gone.")
    ends, _ = watched(told, {REF: error, OTHER: end(OTHER)}, [REF, OTHER])
    assert ends == [None, end(OTHER)]
    told.erred.assert_called_once_with("nyx", error)
    told.unknown.assert_called_once_with(REF, error, began=1.0, ended=3.0)
    assert [call.args for call in told.record.call_args_list] == [("no end",), ("an end",)]
    told.display.failed.assert_called_once_with(REF, str(error))


def test_what_nobody_foresaw_ends_one_wait_alone(told: Any) -> None:
    ends, _ = watched(told, {REF: LookupError("odd"), OTHER: end(OTHER)}, [REF, OTHER])
    assert ends == [None, end(OTHER)]
    ((ref, why), _) = told.display.failed.call_args
    assert (ref, why.startswith(f"{REF}: unexpected LookupError: odd")) == (REF, True)
    told.erred.assert_not_called()


@pytest.mark.parametrize("error", [output.OutputError("full"), ConfigurationError("wrong")])
def test_what_holds_for_all_runs_ends_all_waits(told: Any, error: Exception) -> None:
    with pytest.raises(type(error)):
        watched(told, {REF: error, OTHER: end(OTHER)}, [REF, OTHER])
    told.display.failed.assert_not_called()


def test_a_live_display_ticks_until_the_last_end_and_is_left(told: Any, mocker: MockerFixture) -> None:
    mocker.patch.object(watching, "TICK", 0.001)
    told.display.live = True
    ticked = asyncio.Event()
    told.display.tick.side_effect = ticked.set
    client: Any = Client({REF: end()})

    async def wait(ref: RunRef, **given: Any) -> RunSnapshot:
        await asyncio.wait_for(ticked.wait(), 10)
        return end()

    client.wait = wait
    patience: Any = None
    assert watching.watch_runs(client, [REF], patience, told.display, POLICY) == [end()]
    told.display.leave.assert_called_once_with()


def test_a_display_that_can_draw_nothing_ends_the_waits(told: Any, mocker: MockerFixture) -> None:
    mocker.patch.object(watching, "TICK", 0.001)
    told.display.live = True
    told.display.tick.side_effect = output.OutputError("It is full.")
    client: Any = Client({})
    left: list[str] = []

    async def wait(ref: RunRef, **given: Any) -> RunSnapshot:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            left.append(ref.run_id)
            raise
        raise AssertionError

    client.wait = wait
    patience: Any = None
    with pytest.raises(output.OutputError, match="It is full"):
        watching.watch_runs(client, [REF, OTHER], patience, told.display, POLICY)
    assert left == ["r1", "r2"]
    told.display.leave.assert_called_once_with()


# --- notes ---


def record(level: int, text: str) -> logging.LogRecord:
    return logging.LogRecord("runops.core", level, __file__, 1, text, None, None)


def test_failed_reads_are_said_every_30_seconds_and_what_matters_more_at_once() -> None:
    moment, said = [100.0], list[str]()
    handler = notes.Notes(said.append, clock=lambda: moment[0])
    for passed, level in ((0, 10), (29.9, 10), (0, 20), (0.1, 10), (30, 10), (1, 19), (0, 30)):
        moment[0] += passed
        handler.emit(record(level, f"{level}"))
    assert said == ["10", "20", "10 (1 more failed reads since.)", "10", "30"]
    assert handler.level == logging.DEBUG


@pytest.mark.parametrize("fails", [False, True])
def test_what_the_core_logs_is_shown_for_as_long_as_it_lasts(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fails: bool
) -> None:
    logger = logging.getLogger("runops")
    caplog.set_level(logging.WARNING, logger="runops")
    monkeypatch.setattr(logger, "propagate", True)
    handlers = list(logger.handlers)
    said: list[str] = []
    try:
        with notes.shown(said.append):
            logging.getLogger("runops.core").debug("a read failed")
            assert not logger.propagate
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        said.append("interrupted")
    assert said == ["a read failed", *(["interrupted"] if fails else [])]
    assert (logger.level, logger.propagate, list(logger.handlers)) == (logging.WARNING, True, handlers)
    assert caplog.records == []


@pytest.mark.parametrize("answered", [False, True])
def test_a_slow_answer_is_said_after_five_seconds_unless_it_came(
    mocker: MockerFixture, capsys: pytest.CaptureFixture[str], answered: bool
) -> None:
    timer = mocker.patch("threading.Timer")
    with notes.waiting_for(NYX, "https://nyx.test") as came:
        logging.getLogger("runops.core").info("a note")
        assert capsys.readouterr().err == "runops: a note\n"
        line = "no answer from Nyx (https://nyx.test) for 5 s; still waiting."
        timer.assert_called_once_with(5.0, output.complain, [line])
        assert timer.return_value.daemon is True
        timer.return_value.start.assert_called_once_with()
        if answered:
            came()
        assert timer.return_value.cancel.call_count == answered
    assert timer.return_value.cancel.call_count == 1 + answered


# --- acts ---


@pytest.fixture
def resumed(mocker: MockerFixture) -> Callable[[Any], Any]:
    def made(ends: Any) -> Any:
        client = mocker.MagicMock(root="https://b3os.test")
        client.__enter__.return_value = client
        client.resume.side_effect = [ends]
        mocker.patch("runops.cli.settings.connect", return_value=client)
        return client

    return made


RESUMABLE = next(name for name in ("onepin", "b3os", "nyx") if find(name).resume is not None)


def test_an_interrupted_resume_says_that_the_run_may_go_on(
    resumed: Any, mocker: MockerFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    client = resumed(KeyboardInterrupt())
    at = ["--parent", "workflow_id=7c9e6679-7425-40de-944b-e07fc1f90ae7"] if find(RESUMABLE).parents else []
    waiting = mocker.spy(notes, "waiting_for")
    assert main(["resume", RESUMABLE, "r1", *at]) == 130
    (ref,) = client.resume.call_args.args
    waiting.assert_called_once_with(find(RESUMABLE), "https://b3os.test")
    told = capsys.readouterr().err
    assert told == f"runops: interrupted; {ref} may go on by now: look at it with runops get.\n"


@pytest.mark.parametrize(
    ("answer", "agreed"),
    [("y\n", True), ("YES", True), (" yes ", True), ("n", False), ("", False), ("yess", False)],
)
def test_a_retry_takes_nothing_but_yes_for_it(
    mocker: MockerFixture, capsys: pytest.CaptureFixture[str], answer: str, agreed: bool
) -> None:
    mocker.patch("sys.stdin", SimpleNamespace(isatty=lambda: True, readline=lambda: answer))
    options: Any = SimpleNamespace(yes=False)
    assert acts._confirmed(REF, options) is agreed
    asked = f"Retry {REF}? It starts a new run, which costs what a run costs. [y/N] "
    assert capsys.readouterr() == ("", asked)
    options.yes = True
    assert acts._confirmed(REF, options)
    mocker.patch("sys.stdin", SimpleNamespace(isatty=lambda: False))
    options.yes = False
    assert acts._confirmed(REF, options)
    assert capsys.readouterr().err == ""
