"""``runops submit``: that what its command line says arrives at the client, and what is said of each end."""

from __future__ import annotations

import argparse
import inspect
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_mock import MockerFixture

from runops.cli import main, notes, submission
from runops.core import Call, Provider, RunRef, find
from runops.core.waiting.submit_in_turn import TurnRules
from runops.core.waiting.turns import Turn

NYX = find("nyx")
OURS, OTHER = NYX.ref("ours"), NYX.ref("other")
ARGUMENTS = {"config_name": "nightly", "name": "n", "objective": "o", "budget_usd": "5", "severity_target": "low"}
START = [
    *("submit", "nyx", "--target", '{"url": "https://agent.test"}'),
    *(word for name, value in ARGUMENTS.items() for word in (f"--{name.replace('_', '-')}", value)),
]


class Client:
    """Takes what it is to submit, and does what the test says."""

    root = "https://nyx.test"

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.given: list[dict[str, Any]] = []
        self.does: Callable[[dict[str, Any]], RunRef] = lambda given: OURS

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def clock(self) -> float:
        return 1000.0

    def submit(self, call: Call, **given: Any) -> RunRef:
        self.calls.append(call)
        self.given.append(given)
        return self.does(given)


def rules(on_conflict: Any, until: float, interval: float | None, error_budget: float, auth_grace: float) -> TurnRules:
    return TurnRules(
        on_conflict=on_conflict, until=until, interval=interval, error_budget=error_budget, auth_grace=auth_grace
    )


@pytest.fixture
def client(mocker: MockerFixture) -> Client:
    made = Client()
    mocker.patch("runops.cli.settings.connect", return_value=made)
    return made


@pytest.mark.parametrize(
    ("options", "turns", "given", "marks"),
    [
        ((), rules("wait", 605_800.0, None, 900.0, 300.0), {"adopt_uncertain": False, "submit_grace": 300.0}, True),
        (
            ("--on-conflict", "attach", "--timeout", "60", "--poll-interval", "7", "--error-budget", "30",
             "--auth-grace", "0", "--adopt-uncertain", "--submit-grace", "11", "--no-mark"),
            rules("attach", 1060.0, 7.0, 30.0, 0.0), {"adopt_uncertain": True, "submit_grace": 11.0}, False,
        ),
    ],
)  # fmt: skip
def test_each_option_of_a_submit_arrives(
    client: Client,
    mocker: MockerFixture,
    options: tuple[str, ...],
    turns: TurnRules,
    given: dict[str, Any],
    marks: bool,
) -> None:
    waiting = mocker.spy(notes, "waiting_for")
    connect = sys.modules["runops.cli.settings"].connect
    assert main([*START, *options]) == 0
    connect.assert_called_once_with(NYX, mark_runs=marks)
    waiting.assert_called_once_with(NYX, "https://nyx.test")
    (arrived,) = client.given
    assert {name: value for name, value in arrived.items() if not callable(value)} == {**given, "rules": turns}
    assert set(arrived) == {*given, "rules", "before", "waiting", "attached"}
    assert client.calls == [NYX.call(**ARGUMENTS, target={"url": "https://agent.test"})]


def test_a_word_that_is_taught_is_known_to_the_client(client: Client, mocker: MockerFixture) -> None:
    connect = sys.modules["runops.cli.settings"].connect
    assert main([*START, "--state", "partial=degraded"]) == 0
    assert connect.call_args.args[0].states.known == (*NYX.states.known, "partial")


@pytest.mark.parametrize("wait", [False, True])
@pytest.mark.parametrize("form", [(), ("--json",)], ids=["lines", "json"])
@pytest.mark.parametrize(
    ("attached", "what"), [(False, "submitted"), (True, "active already, and taken in place of a new run")]
)
def test_what_became_of_a_submit_is_said_at_once_and_the_wait_knows_whose_run_it_is(
    client: Client,
    mocker: MockerFixture,
    capsys: pytest.CaptureFixture[str],
    wait: bool,
    form: tuple[str, ...],
    attached: bool,
    what: str,
) -> None:
    def done(given: dict[str, Any]) -> RunRef:
        if attached:
            given["attached"](OURS)
        return OURS

    client.does = done
    waited = mocker.patch.object(submission, "wait_for", return_value=3)
    assert main([*START, *form, *(["--wait"] if wait else [])]) == (3 if wait else 0)
    told = capsys.readouterr()
    line = f"{OURS}: {what}\n"
    if not form:
        assert (told.out, told.err) == (line, "")
    elif wait:
        assert (told.out, told.err) == ("", f"runops: {line}")
    else:
        assert (json.loads(told.out)["run_id"], told.err) == ("ours", "")
    assert waited.call_count == wait
    if wait:
        ((provider, refs, options), how) = waited.call_args
        assert (provider, refs, options.wait, how) == (NYX, [OURS], True, {"own": not attached})


def interrupted(*, waits: bool, then_sent: bool) -> Callable[[dict[str, Any]], RunRef]:
    def does(given: dict[str, Any]) -> RunRef:
        if waits:
            given["waiting"](SimpleNamespace(active=OTHER))
        if then_sent:
            given["before"](None)
        raise KeyboardInterrupt

    return does


LOOK = "runops: interrupted; a run may have been started. Look at Nyx before you submit again.\n"


@pytest.mark.parametrize(
    ("waits", "then_sent", "said"),
    [
        (False, False, LOOK),
        (False, True, LOOK),
        (True, True, LOOK),
        (True, False, "runops: interrupted while it waited for a turn: nothing was submitted.\n"),
    ],
)
def test_an_interrupt_says_whether_a_run_may_have_been_started(
    client: Client, capsys: pytest.CaptureFixture[str], waits: bool, then_sent: bool, said: str
) -> None:
    client.does = interrupted(waits=waits, then_sent=then_sent)
    assert main([*START, "--wait"]) == 130
    assert capsys.readouterr() == ("", said)


def test_a_wait_for_a_turn_is_an_answer_and_no_silence(client: Client, mocker: MockerFixture) -> None:
    timer = mocker.patch("threading.Timer").return_value
    cancelled: list[int] = []

    def does(given: dict[str, Any]) -> RunRef:
        cancelled.append(timer.cancel.call_count)
        given["waiting"](mocker.Mock(spec=Turn))
        cancelled.append(timer.cancel.call_count)
        return OURS

    client.does = does
    assert main(START) == 0
    assert cancelled == [0, 1]


@pytest.mark.parametrize("option", ["--submit-grace", "--timeout", "--error-budget", "--poll-interval", "--max-spend"])
def test_a_number_that_is_none_is_refused_by_its_option_before_anything_is_sent(
    client: Client, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    assert main([*START, option, "soon"]) == 2
    assert option in capsys.readouterr().err
    assert client.calls == []


# --- values ---


@pytest.mark.parametrize(
    ("annotation", "is_json"),
    [
        (str, False), (int | None, False), (bool, False), (dict, True), (list, True), (dict[str, Any], True),
        (list[str] | None, True), (str | dict[str, int], True), (None | list, True),
    ],
)  # fmt: skip
def test_what_no_plain_text_spells_is_given_as_json(annotation: Any, is_json: bool) -> None:
    assert submission._is_json(annotation) is is_json


def test_json_is_read_from_the_option_a_file_or_standard_input(tmp_path: Path, mocker: MockerFixture) -> None:
    (tmp_path / "a.json").write_bytes('{"größe": 1}'.encode())
    mocker.patch.object(sys, "stdin", io.StringIO('["of stdin"]'))
    assert submission._json("--a", '{"b": 2}') == {"b": 2}
    assert submission._json("--a", f"@{tmp_path / 'a.json'}") == {"größe": 1}
    assert submission._json("--a", "@-") == ["of stdin"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "--a: its value is not JSON, line 1 column 2."),
        ("[\n1,\n}", "--a: its value is not JSON, line 3 column 1."),
        ("[" * 100_000, "--a: its value is not JSON."),
        ("@-", "--a: standard input is not JSON, line 1 column 1."),
        ("@broken", "--a: broken is not JSON, line 2 column 3."),
        ("@none", "--a: none cannot be read: [Errno 2] No such file or directory: 'none'."),
        ("@latin", "--a: latin cannot be read: 'utf-8' codec can't decode byte 0xe9 in position 1: "),
    ],
)
def test_what_is_no_json_is_named_with_its_place_and_without_its_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mocker: MockerFixture, text: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken").write_text("\n[ x")
    Path("latin").write_bytes(b'"\xe9"')
    mocker.patch.object(sys, "stdin", io.StringIO("secret"))
    with pytest.raises(submission.ConfigurationError) as error:
        submission._json("--a", text)
    assert error.value.text.startswith(said)


def test_a_standard_input_that_is_closed_cannot_be_read(mocker: MockerFixture) -> None:
    mocker.patch.object(sys, "stdin", None)
    with pytest.raises(submission.ConfigurationError, match="--a: standard input cannot be read: it is closed"):
        submission._json("--a", "@-")


def test_what_is_left_out_is_left_to_the_provider_and_a_value_that_is_empty_is_not() -> None:
    def build(*, a: str, b: str = "B", c: dict[str, int] | None = None, d: str = "D") -> Call:
        raise NotImplementedError

    options = argparse.Namespace(call_a="", call_b=None, call_c='{"x": 1}', call_d="d")
    assert submission._call_arguments(build, options) == {"a": "", "c": {"x": 1}, "d": "d"}


def test_only_the_arguments_of_a_docstring_are_read() -> None:
    def build() -> Any:
        """Args:
        nothing: of this.
        """

    assert submission._documented(build) == {}
    build.__doc__ = inspect.cleandoc(
        """Start.

        Args:
            one: The ``first``
                of them.
            two: Of 2.

        Raises:
            three: Nothing.
        """
    )
    assert submission._documented(build) == {"one": "The first of them", "two": "Of 2"}
    build.__doc__ = None
    assert submission._documented(build) == {}


# --- which provider ---


def test_a_provider_that_starts_nothing_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", "nekt"]) == 2
    assert "Nekt documents no way to start a run: watch its runs instead." in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["submit"], ["submit", "--wait", "nyx"]])
def test_the_provider_comes_first(capsys: pytest.CaptureFixture[str], argv: list[str]) -> None:
    assert main(argv) == 2
    assert capsys.readouterr().err.startswith("usage: runops submit [-h] PROVIDER\n")


def test_an_argument_that_is_called_like_an_option_is_a_mistake_of_the_declaration(
    mocker: MockerFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    def build(*, poll_interval: str) -> Call:
        raise NotImplementedError

    clashing = mocker.Mock(spec=Provider, title="Acme", docs="https://docs.acme.test")
    clashing.name = "acme"
    clashing.submit = SimpleNamespace(build=build)
    mocker.patch.object(submission, "find", return_value=clashing)
    assert main(["submit", "acme", "--poll-interval", "1"]) == 2
    assert capsys.readouterr().err == (
        "runops: A submit to Acme takes an argument that is called like the option --poll-interval of this command: "
        "give it another name in the provider's declaration. [name-clash]\n"
    )
