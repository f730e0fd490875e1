"""That all that ``conform``, ``record`` and ``new-provider`` are given arrives where it is used, each in its place."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from pytest_mock import MockerFixture

from runops.cli import main, notes
from runops.conformance import record
from runops.conformance.new_provider import Given, NewProvider, Sample
from runops.core import Provider, RunClient, find
from tests.conformance.acme_runs import ACME

PATH = "tests.conformance.acme_runs:ACME"
PLACES = ("--base-url", "https://api.plants.test", "--docs", "https://docs.plants.test")
ROUTES = ("--status", "GET /v3/jobs/{run_id}", "--probe", "GET /v3/me")
ACTIVE = {"job_id": "J-1", "state": "ACTIVE", "ended": None}


def body(**changes: Any) -> dict[str, Any]:
    return {"answer": {"job": {**ACTIVE, **changes}}}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, which is the test's own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(folder: Path, name: str, content: Any) -> str:
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return name


# --- conform ---


@pytest.mark.parametrize(("ok", "code"), [(True, 0), (False, 1)])
@pytest.mark.parametrize("form", [(), ("--json",)], ids=["lines", "json"])
def test_conform_checks_what_it_was_given_and_shows_the_report(
    capsys: pytest.CaptureFixture[str], mocker: MockerFixture, ok: bool, code: int, form: tuple[str, ...]
) -> None:
    report = SimpleNamespace(ok=ok, to_dict=lambda: {"a": 1}, lines=lambda: ["one", "t\x1bwo"])
    check = mocker.patch("runops.conformance.conform", return_value=report)
    assert main(["conform", PATH, "--answers", "d", "--only", "words", "--only", "times", *form]) == code
    check.assert_called_once_with(ACME, "d", only=["words", "times"])
    assert capsys.readouterr() == ('{"a": 1}\n' if form else "one\nt?wo\n", "")


def test_modules_of_the_current_folder_are_found_and_before_all_others(here: Path) -> None:
    written(here, "acme_of_this_folder.py", "from tests.conformance.acme_runs import ACME\n")
    (here / "answers").mkdir()
    sys.path[:] = [each for each in sys.path if each != str(here)]
    path = list(sys.path)
    for _ in range(2):
        assert main(["conform", "acme_of_this_folder:ACME", "--answers", "answers"]) == 2
        assert sys.path == [str(here), *path]
    sys.path[:] = [*path, str(here)]
    main(["conform", "acme_of_this_folder:ACME", "--answers", "answers"])
    assert sys.path == [*path, str(here)]


# --- record, from files ---


def test_saved_answers_and_words_arrive_in_their_order(
    here: Path, mocker: MockerFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    made = mocker.spy(record, "Recording")
    files = [written(here, "1.json", body()), written(here, "2.json", body(state="HUM")), "-"]
    stdin = io.TextIOWrapper(io.BytesIO(json.dumps(body(state="HUMM")).encode()))
    mocker.patch.object(sys, "stdin", stdin)
    given = [word for name in files for word in ("--from", name)]
    words = ("--keep-word", "SNORE", "--keep-word", "WHIR")
    assert main(["record", PATH, *given, "--to", "new", *words]) == 0
    made.assert_called_once_with(ACME, ACME.ref("J-1"), frozenset({"SNORE", "WHIR"}))
    told = capsys.readouterr()
    names = ["01_status_running.json", "02_status_unknown.json", "03_status_unknown.json", "script.json"]
    assert told.err == "runops: A word stands in no table, and is not kept; --keep-word WORD keeps it.\n"
    shown = told.out.splitlines()
    assert shown == [f"new/{path.name}" for path in sorted((here / "new").iterdir())]
    assert [name[:9] for name in names] == [Path(name).name[:9] for name in shown]
    steps = json.loads((here / "new" / "script.json").read_text())["script"]
    assert [step["at"] for step in steps] == [0.0, 10.0, 20.0]


def test_the_parents_of_a_saved_run_arrive(here: Path, mocker: MockerFixture) -> None:
    made = mocker.spy(record, "Recording")
    saved = {"data": {"id": "r1", "status": "running", "created_at": "2026-03-01T12:00:00Z"}}
    parents = {"workflow_id": "7c9e6679-7425-40de-944b-e07fc1f90ae7"}
    parent = f"workflow_id={parents['workflow_id']}"
    assert main(["record", "onepin", "--from", written(here, "1.json", saved), "--to", "new", "--parent", parent]) == 0
    made.assert_called_once_with(find("onepin"), find("onepin").ref("r1", parents), frozenset())


def test_as_json_record_shows_the_folder_as_it_was_given_and_the_names_of_the_files(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["record", PATH, "--from", written(here, "1.json", body()), "--to", "new", "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out) == {"folder": "new", "files": ["01_status_running.json", "script.json"]}
    assert told.err == ""


@pytest.mark.parametrize("option", [("--result",), ("--list", "plant=north"), ("--until-over",)])
def test_what_asks_the_service_goes_with_no_saved_answer(
    here: Path, capsys: pytest.CaptureFixture[str], option: tuple[str, ...]
) -> None:
    assert main(["record", PATH, "--from", written(here, "1.json", body()), "--to", "new", *option]) == 2
    told = capsys.readouterr().err
    assert told.startswith("runops: --result, --list and --until-over ask the service: give a RUN_ID for them.")
    assert not (here / "new").exists()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"answer": {"job": {}}}, "--from '1.json': The first answer names no run where"),
        ("{", "--from '1.json': "),
        (None, "--from '1.json' cannot be read: No such file or directory."),
    ],
)
def test_a_saved_answer_that_is_none_is_named(
    here: Path, capsys: pytest.CaptureFixture[str], content: Any, expected: str
) -> None:
    if content is not None:
        written(here, "1.json", content)
    assert main(["record", PATH, "--from", "1.json", "--from", written(here, "2.json", body()), "--to", "new"]) == 2
    assert capsys.readouterr().err.startswith(f"runops: {expected}")


@pytest.mark.parametrize("given", [(), ("J-1", "--from", "1.json")], ids=["neither", "both"])
def test_record_takes_a_run_or_what_was_saved_of_one(
    here: Path, capsys: pytest.CaptureFixture[str], given: tuple[str, ...]
) -> None:
    written(here, "1.json", body())
    assert main(["record", PATH, *given, "--to", "new"]) == 2
    assert capsys.readouterr().err.startswith(
        "runops: record takes either a RUN_ID or --from FILE: the run to read, or what was saved of it."
    )


# --- record, from the service ---


class Service:
    """Acme, or what is made of it: the runs of one plant, of which one is asked for."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.asked: list[str] = []

    def connect(self, provider: Provider) -> RunClient:
        assert provider == self.provider
        return RunClient(provider, token="acme_key", transport=httpx.MockTransport(self.answer), clock=lambda: 7.0)

    def answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/v3")
        self.asked.append(path)
        listed = {"jobs": [ACTIVE, {**ACTIVE, "job_id": "J-2"}]}
        return httpx.Response(200, json=listed if path.endswith("/jobs") else body())


@pytest.fixture
def service(mocker: MockerFixture) -> Service:
    """Acme with a route of its own for the whole payload."""
    provider = replace(
        ACME, name="acme_payload", submit=None, result=replace(ACME.status, path="/v3/jobs/{run_id}/all")
    )
    made = Service(provider)
    mocker.patch("runops.cli.kit.find", return_value=provider)
    mocker.patch("runops.cli.settings.connect", made.connect)
    return made


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ((), ["/jobs/J-1"]),
        (("--result",), ["/jobs/J-1", "/jobs/J-1/all"]),
        (("--list", "plant=north"), ["/jobs/J-1", "/plants/north/jobs"]),
        (("--list", "plant=north", "--result"), ["/jobs/J-1", "/jobs/J-1/all", "/plants/north/jobs"]),
    ],
)
def test_record_reads_what_it_was_asked_for_and_nothing_else(
    here: Path, service: Service, mocker: MockerFixture, options: tuple[str, ...], asked: list[str]
) -> None:
    waiting = mocker.spy(notes, "waiting_for")
    assert main(["record", "acme", "J-1", "--to", "new", *options]) == 0
    assert service.asked == asked
    waiting.assert_called_once_with(service.provider, "https://api.acme.test")
    routes = [json.loads(path.read_text()).get("route") for path in sorted((here / "new").iterdir())]
    expected = ["status", *(["list"] if "--list" in options else []), *(["result"] if "--result" in options else [])]
    assert sorted(filter(None, routes)) == sorted(expected)


@pytest.mark.parametrize(
    ("options", "until_over", "timeout"),
    [((), False, 3600.0), (("--until-over",), True, 3600.0), (("--until-over", "--timeout", "90"), True, 90.0)],
)
def test_how_long_a_run_is_followed_arrives(
    here: Path, service: Service, mocker: MockerFixture, options: tuple[str, ...], until_over: bool, timeout: float
) -> None:
    follow = mocker.patch.object(record, "follow")
    made = mocker.patch.object(record, "Recording")
    made.return_value.write.return_value = []
    made.return_value.notices = []
    mocker.patch.object(RunClient, "drive", return_value=[])
    assert main(["record", "acme", "J-1", "--to", "new", *options]) == 0
    ((provider, ref), how) = follow.call_args
    assert (provider, ref, how["clock"]()) == (service.provider, made.return_value.ref, 7.0)
    assert (how["until_over"], how["timeout"]) == (until_over, timeout)
    made.assert_called_once_with(service.provider, service.provider.ref("J-1"), frozenset())


@pytest.mark.parametrize("timeout", ["0", "soon", "-1"])
def test_a_time_that_cannot_be_waited_for_is_refused_before_anything_is_read(
    here: Path, service: Service, capsys: pytest.CaptureFixture[str], timeout: str
) -> None:
    assert main(["record", "acme", "J-1", "--to", "new", "--timeout", timeout]) == 2
    assert "--timeout" in capsys.readouterr().err
    assert service.asked == []


# --- new-provider ---


@pytest.fixture
def begun(here: Path, mocker: MockerFixture) -> Any:
    """Begins a provider of two samples; what the guess was given."""

    def begin(*options: str) -> tuple[Given, Sequence[Sample], dict[str, Any]]:
        of = mocker.patch.object(NewProvider, "of")
        of.return_value.write.return_value = ["one.py", "t\x1bwo.py"]
        samples = [written(here, "a.json", body()), written(here, "b.json", body(state="DONE"))]
        assert main(["new-provider", "plants", "--answers", *samples, *ROUTES, *PLACES, *options]) == 0
        ((given, read), how) = of.call_args
        assert of.return_value.write.call_args.args == (Path(options[-1] if "--to" in options else "."),)
        return given, read, how

    return begin


def test_what_is_left_out_of_a_new_provider_is_nothing_or_the_usual(
    begun: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    given, samples, how = begun()
    assert given == Given(
        name="plants",
        base_url="https://api.plants.test",
        docs="https://docs.plants.test",
        link="",
        status=("GET", "/v3/jobs/{run_id}"),
        probe=("GET", "/v3/me"),
        cancel=None,
        submit=None,
        submit_id=(),
        key_header="Authorization",
        key_before="Bearer ",
        key_prefixes=(),
    )
    assert [sample.body for sample in samples] == [body(), body(state="DONE")]
    assert how == {"words": {}, "id_field": None, "state_field": None, "submitted": None}
    assert capsys.readouterr() == ("one.py\nt?wo.py\n", "")


def test_each_option_of_a_new_provider_arrives_in_its_place(
    here: Path, begun: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = written(here, "s.json", {"job": {"nr": "J-9"}})
    acts = ("--cancel", "DELETE /v3/jobs/{run_id}", "--submit", "POST /v3/jobs", "--submit-answer", answer)
    fields = ("--id-field", "nr", "--state-field", "word", "--word", "A=failed", "--word", "B=running")
    key = ("--key-header", "X-Key: Plant", "--key-prefix", "pl_", "--key-prefix", "pt_")
    given, _, how = begun(*acts, *fields, *key, "--link", "https://plants.test/{run_id}", "--to", "there")
    assert given == Given(
        name="plants",
        base_url="https://api.plants.test",
        docs="https://docs.plants.test",
        link="https://plants.test/{run_id}",
        status=("GET", "/v3/jobs/{run_id}"),
        probe=("GET", "/v3/me"),
        cancel=("DELETE", "/v3/jobs/{run_id}"),
        submit=("POST", "/v3/jobs"),
        submit_id=("job", "nr"),
        key_header="X-Key",
        key_before="Plant ",
        key_prefixes=("pl_", "pt_"),
    )
    submitted = how.pop("submitted")
    assert submitted.body == {"job": {"nr": "J-9"}}
    assert how == {"words": {"A": "failed", "B": "running"}, "id_field": "nr", "state_field": "word"}
    assert capsys.readouterr().out == "there/one.py\nthere/t?wo.py\n"


@pytest.mark.parametrize(("said", "path"), [("a.b", ("a", "b")), (".a..b.", ("a", "b")), ("a", ("a",))])
def test_the_keys_that_lead_to_the_id_are_those_that_are_given(
    here: Path, begun: Any, said: str, path: tuple[str, ...]
) -> None:
    acts = ("--submit", "POST /v3/jobs", "--submit-answer", written(here, "s.json", {"job": {"nr": "J-9"}}))
    given, _, _ = begun(*acts, "--submit-id", said)
    assert given.submit_id == path


@pytest.mark.parametrize(
    ("said", "header", "before"),
    [
        ("X-Key", "X-Key", ""),
        (" X-Key : ", "X-Key", ""),
        ("Authorization:Token ", "Authorization", "Token "),
        ("Authorization: Key: ", "Authorization", "Key: "),
    ],
)
def test_the_header_of_the_key_is_split_at_its_first_colon(begun: Any, said: str, header: str, before: str) -> None:
    given, _, _ = begun("--key-header", said)
    assert (given.key_header, given.key_before) == (header, before)


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        (("--submit", "POST /v3/jobs"), "--submit-answer FILE, which shows the id of a new run"),
        (("--submit-answer", "s.json"), "--submit ROUTE"),
    ],
)
def test_a_submit_needs_its_route_and_an_answer(
    here: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], missing: str
) -> None:
    written(here, "s.json", {"job": {"nr": "J-9"}})
    argv = ["new-provider", "plants", "--answers", written(here, "a.json", body()), *ROUTES, *PLACES]
    assert main([*argv, *options]) == 2
    assert capsys.readouterr().err.startswith(
        f"runops: A submit needs both its route and an answer to it: give {missing}. ["
    )


@pytest.mark.parametrize(
    ("flag", "about_a_run"), [("--status", True), ("--probe", False), ("--cancel", True), ("--submit", False)]
)
def test_a_route_that_is_none_is_named_and_only_those_of_a_run_need_its_id(
    here: Path, begun: Any, capsys: pytest.CaptureFixture[str], flag: str, about_a_run: bool
) -> None:
    samples = [written(here, "a.json", body()), written(here, "s.json", {"job": {"job_id": "J-9"}})]
    more = ("--submit-answer", samples[1], "--submit", "POST /v3/jobs")
    argv = ["new-provider", "plants", "--answers", samples[0], *ROUTES, *PLACES, *more]
    assert main([*argv, flag, "jobs"]) == 2
    assert f"{flag} takes METHOD /path" in capsys.readouterr().err
    if about_a_run:
        assert main([*argv, flag, "GET /v3/jobs"]) == 2
        assert f"{flag} 'GET /v3/jobs' names no run" in capsys.readouterr().err
    else:
        begun(*more, flag, "GET /v3/jobs")
