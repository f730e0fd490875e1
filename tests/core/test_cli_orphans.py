"""``runops orphans`` for a host that says what it has submitted: what is shown, asked and sent, and the exit codes."""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from pytest_mock import MockerFixture

from runops.cli import main, orphans, output
from runops.core import PROVIDERS, ConfigurationError, Provider, RunClient, RunRef, find
from runops.core.telemetry import METER
from runops.core.waiting.intent import Intent
from runops.core.waiting.orphans import Suspect

HOLDER = {
    "host": "airflow", "dag_id": "d", "run_id": "None", "task_id": "t", "map_index": -1,
    "try_number": 3, "task_state": "failed", "status": "gone",
}  # fmt: skip
ASKED = "Cancel {}? [y/N] "


@dataclass
class Host:
    """A host, and the provider at which its runs are: each run with what is answered for it."""

    runs: dict[str, int | dict[str, Any]]
    suspected: list[Suspect] = field(default_factory=list)
    listed: list[dict[str, Any]] = field(default_factory=list)
    taken_up: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    interrupts: str = ""
    sent: list[str] = field(default_factory=list)
    opened: list[tuple[argparse.Namespace, datetime]] = field(default_factory=list)

    def suspects(self) -> Iterable[Suspect]:
        known = [suspect(find("nyx").ref(run_id)) for run_id in self.runs]
        return [*known, *self.suspected]

    def still_left(self, suspect: Suspect) -> bool:
        return suspect.ref is None or suspect.ref.run_id not in self.taken_up

    def awaits(self, ref: RunRef) -> bool:
        return False

    def cancelled(self, suspect: Suspect, ref: RunRef) -> None:
        self.sent.append(ref.run_id)

    @contextmanager
    def open(self, options: argparse.Namespace, since: datetime) -> Generator[Host]:
        self.opened.append((options, since))
        yield self

    def connect(self, provider: Provider) -> RunClient:
        return RunClient(provider, token="key", transport=httpx.MockTransport(self.answer), sleep=lambda seconds: None)

    def answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path.endswith("/runs"):
            return httpx.Response(200, json={"data": self.listed})
        run_id = path.removesuffix("/cancel").removesuffix("/status").rpartition("/")[2]
        if path.endswith("/cancel"):
            if run_id == self.interrupts:
                raise KeyboardInterrupt
            return httpx.Response(403 if run_id in self.refused else 200, json={})
        shown = self.runs[run_id]
        return httpx.Response(shown, json={}) if isinstance(shown, int) else httpx.Response(200, json=shown)


def suspect(ref: RunRef | None = None, *, provider: str = "nyx", **more: Any) -> Suspect:
    return Suspect(provider=provider, holder=HOLDER, why="its task is gone", ref=ref, **{"credential": "one", **more})


def going_on(*run_ids: str) -> dict[str, int | dict[str, Any]]:
    shown = {"status": "running", "config_name": "gate", "created_at": "2026-03-01T12:00:00Z"}
    return {run_id: {"run_id": run_id, **shown} for run_id in run_ids}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def command(mocker: MockerFixture, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the command for a host; its exit code, the lines of its output and its errors."""

    def run(host: Host, *options: str, stdin: io.StringIO | None = None) -> tuple[int, list[str], str]:
        mocker.patch.object(orphans, "_host", host.open)
        mocker.patch("runops.cli.settings.connect", host.connect)
        mocker.patch.object(sys, "stdin", stdin or io.StringIO())
        code = main(["orphans", "dagster", *options])
        told = capsys.readouterr()
        return code, told.out.splitlines(), told.err

    return run


def lines_of(*run_ids: str) -> list[str]:
    page = "  https://app.fabraix.com/nyx/runs/"
    told = ((f"nyx run {run_id}: running; of d/t: its task is gone", f"{page}{run_id}") for run_id in run_ids)
    return [line for pair in told for line in pair]


def test_each_run_is_shown_with_its_page_and_those_who_submitted_it(command: Any) -> None:
    host = Host(going_on("r1", "r2"))
    assert command(host) == (0, lines_of("r1", "r2"), "")
    assert host.sent == []


def test_as_json_each_run_is_one_line_and_nothing_else_is_said(command: Any) -> None:
    code, lines, err = command(Host(going_on("r1", "r2")), "--json")
    told = [json.loads(line) for line in lines]
    assert (code, [(each["run_id"], each["act"]) for each in told], err) == (0, [("r1", None), ("r2", None)], "")
    assert command(Host({}), "--json") == (0, [], "")
    assert command(Host({}), "--cancel") == (0, ["Nothing is left behind."], "")


def test_what_cannot_be_read_or_told_is_shown_with_the_reason_and_exits_4(command: Any) -> None:
    host = Host({"r1": 404, **going_on("r2")})
    code, lines, err = command(host)
    assert (code, lines[1:], err) == (4, lines_of("r2"), "")
    assert lines[0].startswith(
        "nyx run r1 could not be read; of d/t: its task is gone. The read of nyx run r1 was answered 404."
    )
    code, lines, err = command(Host({"r1": 404}), "--cancel", stdin=Terminal("no\n"))
    assert (code, len(lines), err) == (4, 1, "")


def test_a_lost_submit_is_shown_with_the_runs_that_may_be_its_own(command: Any) -> None:
    new = [{"id": name, "status": "running", "created_at": "2026-03-01T12:00:00Z"} for name in ("x", "y")]
    parent = {"workflow_id": "7c9e6679-7425-40de-944b-e07fc1f90ae7"}
    lost = suspect(provider="onepin", parent=parent, intent=Intent(ids_before=frozenset({"old"})))
    code, lines, _ = command(Host({}, [lost], new))
    refs = [find("onepin").ref(name, parent) for name in ("x", "y")]
    assert (code, lines[1:]) == (4, [f"  it may be {ref}" for ref in refs])
    assert lines[0].startswith("a submit to onepin cannot be told; of d/t: its task is gone. The answer to a submit")


def test_a_name_cannot_steer_the_terminal(command: Any) -> None:
    steering = {"run_id": "r1", "status": "\x1b[2J", "config_name": "gate", "created_at": "2026-03-01T12:00:00Z"}
    _, (line, page), _ = command(Host({"r1": steering}))
    assert "\x1b" not in line + page


@pytest.mark.parametrize(("form", "shown"), [((), lines_of("r1", "r2", "r3")), (("--json",), [])])
def test_each_cancel_is_told_and_one_that_was_refused_exits_4(
    command: Any, form: tuple[str, ...], shown: list[str]
) -> None:
    host = Host(going_on("r1", "r2", "r3"), taken_up={"r2"}, refused={"r3"})
    code, lines, err = command(host, "--cancel", *form)
    assert (code, host.sent, err) == (4, ["r1"], "")
    assert lines[: len(shown)] == shown
    if form:
        assert [json.loads(line)["act"] for line in lines] == ["cancelled", "taken_up", "failed"]
        return
    *told, refused = lines[len(shown) :]
    assert told == [
        "nyx run r1: the provider was asked to stop it",
        "nyx run r2: left alone, since it is over, or waited for, by now",
    ]
    assert refused.startswith(
        "nyx run r3: could not be cancelled and may go on: The cancel of nyx run r3 was answered 403."
    )
    assert command(Host(going_on("r1", "r2"), taken_up={"r2"}), "--cancel")[0] == 0


@pytest.mark.parametrize(
    ("answer", "agreed"),
    [("y\n", True), ("Y", True), (" yes \n", True), ("YES\n", True), ("n\n", False), ("", False), ("yess\n", False)],
)
@pytest.mark.parametrize(("run_ids", "named"), [(("r1",), "this run"), (("r1", "r2"), "these 2 runs")])
def test_on_a_terminal_nothing_is_cancelled_but_for_a_yes(
    command: Any, answer: str, agreed: bool, run_ids: tuple[str, ...], named: str
) -> None:
    host = Host({**going_on(*run_ids), "gone": 404})
    code, lines, err = command(host, "--cancel", stdin=Terminal(answer))
    assert (code, host.sent) == (4, list(run_ids) if agreed else [])
    assert err == ASKED.format(named) + ("" if agreed else "runops: nothing was cancelled.\n")
    assert len(lines) == len(run_ids) * (3 if agreed else 2) + 1


def test_the_question_can_be_read_before_the_answer_is_waited_for(mocker: MockerFixture) -> None:
    written = io.BytesIO()
    mocker.patch.object(sys, "stderr", io.TextIOWrapper(written, line_buffering=True))

    class Reader(Terminal):
        def readline(self, size: int = -1) -> str:
            return "y" if written.getvalue() == ASKED.format("this run").encode() else "n"

    mocker.patch.object(sys, "stdin", Reader())
    assert orphans._confirmed(1, argparse.Namespace(yes=False))


@pytest.mark.parametrize(
    ("options", "stdin"), [(("--yes",), Terminal("no\n")), ((), io.StringIO("no\n"))], ids=["yes", "no terminal"]
)
def test_nobody_is_asked_where_it_was_agreed_to_or_nobody_could_answer(
    command: Any, options: tuple[str, ...], stdin: io.StringIO
) -> None:
    host = Host(going_on("r1"))
    assert command(host, "--cancel", *options, stdin=stdin)[::2] == (0, "")
    assert host.sent == ["r1"]


def test_a_refused_question_leaves_each_run_shown_as_json(command: Any) -> None:
    code, lines, err = command(Host(going_on("r1", "r2")), "--cancel", "--json", stdin=Terminal("n\n"))
    assert (code, [json.loads(line)["act"] for line in lines]) == (0, [None, None])
    assert err.endswith("runops: nothing was cancelled.\n")


def test_an_interrupt_says_how_many_runs_were_cancelled_before(command: Any, mocker: MockerFixture) -> None:
    counted = mocker.patch.object(METER, "orphans")
    host = Host(going_on("r0", "r1", "r2", "r3"), interrupts="r3", taken_up={"r0"})
    code, _, err = command(host, "--cancel")
    assert (code, host.sent) == (130, ["r1", "r2"])
    assert err == (
        "runops: interrupted; 2 of the runs listed were cancelled before, and one may have been on the way.\n"
    )
    counted.assert_not_called()


def test_the_runs_that_go_on_are_counted_for_all_providers(command: Any, mocker: MockerFixture) -> None:
    counted: list[tuple[Any, list[str]]] = []
    mocker.patch.object(METER, "orphans", lambda known, left: counted.append((known, list(left))))
    host = Host({**going_on("r1", "r2", "r3"), "gone": 404}, refused={"r2"}, taken_up={"r3"})
    command(host)
    command(host, "--cancel")
    assert counted == [(PROVIDERS, ["nyx"] * 3), (PROVIDERS, ["nyx"])]


@pytest.mark.parametrize("options", [(), ("--json",)], ids=["lines", "json"])
def test_a_cancel_that_cannot_be_shown_is_named_in_the_error(
    command: Any, mocker: MockerFixture, options: tuple[str, ...]
) -> None:
    host = Host(going_on("r1", "r2"))

    def say(text: str) -> None:
        if host.sent:
            raise output.OutputError("It is full.")

    mocker.patch.object(orphans, "say", say)
    mocker.patch.object(output, "give_up")
    code, _, err = command(host, "--cancel", *options)
    assert (code, host.sent) == (4, ["r1"])
    assert err == "runops: It is full. nyx run r1: the provider was asked to stop it [output-broken]\n"


def test_a_run_that_was_not_cancelled_is_not_named_where_it_cannot_be_shown(
    command: Any, mocker: MockerFixture
) -> None:
    mocker.patch.object(orphans, "say", side_effect=output.OutputError("It is full."))
    mocker.patch.object(output, "give_up")
    code, _, err = command(Host(going_on("r1")), "--cancel", "--json", stdin=Terminal("n\n"))
    assert (code, err.splitlines()[-1]) == (4, "runops: It is full. [output-broken]")


def test_the_credentials_and_the_time_that_are_given_are_looked_at(command: Any) -> None:
    host = Host({"r2": going_on("r2")["r2"]}, [suspect(find("nyx").ref("r2"), credential="two")])
    assert command(host, "--credential", "two", "--credential", "three")[:2] == (0, lines_of("r2"))
    assert command(host, "--credential", "three")[:2] == (0, ["Nothing is left behind."])
    command(host, "--since", "2026-03-01T12:00+02:00")
    assert host.opened[-1][1] == datetime(2026, 3, 1, 10, tzinfo=UTC)
    assert host.opened[-1][1].utcoffset() == timedelta(0)
    code, _, err = command(host, "--since", "soon")
    assert (code, err.startswith("runops: --since takes a duration")) == (2, True)


@pytest.mark.parametrize(
    ("given", "ago"),
    [
        ("90m", timedelta(minutes=90)),
        ("1.5h", timedelta(minutes=90)),
        ("12h", timedelta(hours=12)),
        (" 7d ", timedelta(days=7)),
        ("0m", timedelta(0)),
    ],
)
def test_a_duration_is_counted_back_from_now(given: str, ago: timedelta) -> None:
    before = datetime.now(UTC)
    found = orphans.moment("--since", given)
    assert before <= found + ago <= datetime.now(UTC)


@pytest.mark.parametrize(
    ("given", "at"),
    [
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC)),
        (" 2026-03-01T12:30 ", datetime(2026, 3, 1, 12, 30, tzinfo=UTC)),
        ("2026-03-01T12:30-05:00", datetime(2026, 3, 1, 17, 30, tzinfo=UTC)),
        ("2026-03-01T12:30Z", datetime(2026, 3, 1, 12, 30, tzinfo=UTC)),
    ],
)
def test_a_date_without_a_zone_is_one_of_utc(given: str, at: datetime) -> None:
    found = orphans.moment("--since", given)
    assert (found, found.tzinfo) == (at, UTC)


@pytest.mark.parametrize("given", ["soon", "7", "7w", "d", "1.d", "-1d", "9" * 12 + "d", "9" * 400 + "d", "x" * 90])
def test_what_is_no_time_is_named_as_it_was_given_up_to_80_signs(given: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        orphans.moment("--until", given)
    assert error.value.text == (
        f"--until takes a duration such as 90m, 12h or 7d, or a date and time, not {given[:80]!r}."
    )


def test_a_provider_from_elsewhere_is_used_only_where_it_was_given(mocker: MockerFixture) -> None:
    opened = mocker.patch("runops.cli.settings.connect")
    path = "runops.core.providers.nyx:NYX"
    orphans._Keys([path])(path, "a credential")
    orphans._Keys([])("nekt", None)
    assert [call.args for call in opened.call_args_list] == [(find("nyx"),), (find("nekt"),)]
    long = f"acme:{'x' * 130}"
    with pytest.raises(ConfigurationError) as error:
        orphans._Keys([path])(long, None)
    short = long[:120]
    assert error.value.text == f"The provider {short!r} is from elsewhere: add --provider {short}."


def test_where_dagster_is_not_installed_it_is_said_how_to_install_it(
    mocker: MockerFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = {name: sys.modules[name] for name in sys.modules if not name.startswith("runops.dagster")}
    mocker.patch.dict(sys.modules, {**ours, "dagster": None}, clear=True)
    assert main(["orphans", "dagster"]) == 2
    assert "Dagster is not installed here: pip install 'runops[dagster]'." in capsys.readouterr().err
    mocker.patch.dict(sys.modules, {"runops.dagster": None})
    assert main(["orphans", "dagster"]) == 4
    assert "runops.dagster" in capsys.readouterr().err


@pytest.mark.parametrize("named", ["option", "variable"])
def test_the_options_and_the_environment_reach_airflow(
    mocker: MockerFixture, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], named: str
) -> None:
    rest = mocker.MagicMock()
    tasks = mocker.MagicMock()
    mocker.patch.dict(sys.modules, {"runops.airflow.rest": rest, "runops.airflow.orphans": tasks})
    tasks.AirflowTasks.return_value.suspects.return_value = []
    for name in ("TOKEN", "USERNAME", "PASSWORD"):
        monkeypatch.setenv(f"AIRFLOW_{name}", f"a {name.lower()}")
    monkeypatch.setenv("AIRFLOW_PROXY", "http://127.0.0.1:3128")
    monkeypatch.setenv("AIRFLOW_BASE_URL", "https://variable.example" if named == "variable" else "https://no.example")
    where = [] if named == "variable" else ["--url", "https://option.example", "--allow-http"]
    argv = ["orphans", "airflow", "--since", "2026-03-01", "--operator", "A", "--operator", "B", *where]
    assert main(argv) == 0, capsys.readouterr()
    ((url,), given) = rest.open_api.call_args
    network = given.pop("network")
    assert url == f"https://{named}.example"
    assert (given["token"].reveal(), given["password"].reveal()) == ("a token", "a password")
    del given["token"], given["password"]
    assert given == {
        "username": "a username",
        "allow_http": named == "option",
        "origin": "the environment (AIRFLOW_TOKEN, or AIRFLOW_USERNAME and AIRFLOW_PASSWORD)",
    }
    assert network.proxy.reveal() == "http://127.0.0.1:3128"
    rest.AirflowApi.assert_called_once_with(rest.open_api.return_value.__enter__.return_value)
    tasks.AirflowTasks.assert_called_once_with(
        rest.AirflowApi.return_value, since=datetime(2026, 3, 1, tzinfo=UTC), operators=frozenset({"A", "B"})
    )


def test_an_airflow_that_is_named_nowhere_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("AIRFLOW_BASE_URL", raising=False)
    assert main(["orphans", "airflow"]) == 2
    told = capsys.readouterr().err
    assert "Where Airflow's API server is, says --url, or the variable AIRFLOW_BASE_URL." in told
