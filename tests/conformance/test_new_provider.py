"""What ``runops new-provider`` writes from samples: files that pass ruff, pyright and the kit, and no payload."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytest_mock import MockerFixture

from runops.cli import main
from runops.conformance import conform
from runops.conformance.guesses import MEANINGS, python_name
from runops.core import PROVIDERS, find
from runops.core.declaration import registry
from tests.canaries.search import find_leaks

ANSWERS = Path(__file__).parent / "answers"
ROUTES = ("--status", "GET /v3/jobs/{run_id}", "--probe", "GET /v3/me")
PLACES = ("--base-url", "https://api.plants.test", "--docs", "https://docs.plants.test")
GIVEN = (*ROUTES, *PLACES)
CANARIES = {"mail": "canary.jane@example.test", "name": "Canary Jane", "id": "canary-id-1", "key": "canarykey"}
RULES = "ASYNC,B,BLE,C4,D1,DTZ,E,ERA,F,G,I,ISC,N,PGH,PIE,PT,PTH,RET,RUF,SIM,T20,TID,UP,W"


def job(word: str, **more: Any) -> dict[str, Any]:
    ended = word in ("DONE", "BROKEN")
    whole = {
        "job_id": f"{CANARIES['id']}-{word}",
        "state": word,
        "owner": CANARIES["mail"],
        "note": CANARIES["name"],
        CANARIES["key"]: CANARIES["key"],
        "contact": {CANARIES["mail"]: CANARIES["name"]},
        "parts": 7193,
        "urgent": True,
        "startedAt": "2031-03-01T10:01:00Z",
        "ended": "2031-03-01T10:09:00Z" if ended else None,
        **more,
    }
    return {"answer": {"job": whole}}


@pytest.fixture
def sample(tmp_path: Path) -> Callable[..., str]:
    def write(name: str, body: Any) -> str:
        file = tmp_path / name
        file.write_text(body if isinstance(body, str) else json.dumps(body))
        return str(file)

    return write


@pytest.fixture
def both(sample: Callable[..., str]) -> tuple[str, str]:
    return sample("a.json", job("ACTIVE")), sample("b.json", job("DONE"))


@pytest.fixture(autouse=True)
def declarations_of_one_test(mocker: MockerFixture) -> None:
    mocker.patch.dict(registry._made)


def made(tmp_path: Path, name: str, *arguments: str) -> Path:
    folder = tmp_path / "out"
    assert main(["new-provider", name, *arguments, "--to", str(folder)]) == 0
    return folder


def texts_of(folder: Path) -> dict[str, str]:
    return {str(path): path.read_text() for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"}


def loaded(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, f"{name}_runs", raising=False)
    return find(f"{name}_runs:{name.upper()}")


def everything(sample: Callable[..., str], both: tuple[str, str]) -> tuple[str, ...]:
    submitted = sample("s.json", {"job": {"job_id": CANARIES["id"], "owner": CANARIES["mail"]}, "queue": "canary"})
    acts = ("--submit", "POST /v3/plants/{plant}/jobs", "--submit-answer", submitted)
    more = ("--cancel", "DELETE /v3/jobs/{run_id}", "--key-header", "X-Acme-Key", "--key-prefix", "acme_")
    return (
        "--answers",
        *both,
        *GIVEN,
        *acts,
        *more,
        "--word",
        "BROKEN=failed",
        "--link",
        "https://plants.test/{run_id}",
    )


@pytest.mark.http
def test_what_is_written_conforms_and_its_own_test_passes(
    tmp_path: Path, sample: Callable[..., str], both: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made(tmp_path, "plants", *everything(sample, both))
    provider = loaded(folder, "plants", monkeypatch)
    report = conform(provider, folder / "answers" / "plants")
    assert report.wrong == []
    assert [each.field for each in report.unproven] == ["states['BROKEN']"]
    assert report.passed["kills"] > 10
    assert (provider.envelope_path, provider.version_path) == (("answer", "job"), "/v3")
    assert provider.submit.run_id == ("job", "job_id")
    monkeypatch.undo()
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)]
    ran = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stdout
    assert "2 passed" in ran.stdout


def test_nothing_of_the_samples_is_written_but_shapes_and_words(
    tmp_path: Path, sample: Callable[..., str], both: tuple[str, str]
) -> None:
    texts = texts_of(made(tmp_path, "plants", *everything(sample, both)))
    assert find_leaks({**CANARIES, "number": "7193", "year": "2031"}, texts) == []
    assert len(texts) == 7


@pytest.mark.slow
def test_what_is_written_passes_ruff_and_pyright_strict(
    tmp_path: Path, sample: Callable[..., str], both: tuple[str, str]
) -> None:
    made(tmp_path, "plants", *everything(sample, both))
    bare = [sample("c.json", {"id": "1", "status": "running"}), sample("d.json", {"id": "2", "status": "success"})]
    made(tmp_path, "bare", "--answers", *bare, *GIVEN, "--word", "failed=failed")
    shown = [str(ANSWERS / "onepin" / name) for name in ("running.json", "completed.json", "failed.json")]
    routes = (
        "--status",
        "GET /api/v1/workflows/{workflow_id}/runs/{run_id}/status",
        "--probe",
        "GET /api/v1/auth/whoami",
    )
    submit = ("--submit", "POST /api/v1/workflows/{workflow_id}/runs")
    answer = ("--submit-answer", str(ANSWERS / "onepin" / "submit.json"))
    folder = made(tmp_path, "voices", "--answers", *shown, *routes, *PLACES, *submit, *answer)
    (folder / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')
    for argv in (
        ["ruff", "check", "--isolated", "--line-length", "120", "--select", RULES, "--ignore", "D105,D107"],
        ["ruff", "format", "--isolated", "--line-length", "120", "--check"],
        ["pyright", "--pythonpath", sys.executable, "--project"],
    ):
        ran = subprocess.run(
            [sys.executable, "-m", *argv, str(folder)],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize(
    ("name", "files", "status"),
    [
        ("nexio", ("2_processing", "3_completed", "5_failed"), "GET /api/v1/runs/{run_id}"),
        ("nyx", ("running", "completed_success", "failed_no_result"), "GET /v1/nyx/runs/{run_id}"),
        ("onepin", ("running", "completed", "failed"), "GET /api/v1/workflows/{workflow_id}/runs/{run_id}/status"),
        ("b3os", ("running", "success", "failure_summary"), "GET /v1/runs/{run_id}"),
        ("nekt", ("running", "success", "failed"), "GET /api/v1/runs/{run_id}/"),
    ],
)
def test_from_the_samples_of_a_shipped_provider_its_own_declaration_is_guessed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, files: tuple[str, ...], status: str
) -> None:
    shipped = PROVIDERS[name]
    answers = [str(ANSWERS / name / f"{file}.json") for file in files]
    routes = ("--status", status, "--probe", f"{shipped.probe.method} {shipped.probe.path}")
    folder = made(tmp_path, "guessed", "--answers", *answers, *routes, *PLACES)
    provider = loaded(folder, "guessed", monkeypatch)
    assert provider.envelope_path == shipped.envelope_path
    fields, theirs = provider.body.model_fields, shipped.body.model_fields
    for field in ("run_id", "status", "finished_at"):
        assert (fields[field].validation_alias or field) == (theirs[field].validation_alias or field)
    report = conform(provider, folder / "answers" / "guessed", only=["words", "times", "redaction"])
    assert report.wrong == []


def test_the_entry_point_is_toml_for_a_package(tmp_path: Path, both: tuple[str, str]) -> None:
    folder = made(tmp_path, "plants", "--answers", *both, *GIVEN, "--word", "BROKEN=failed")
    told = tomllib.loads((folder / "plants_entry_point.toml").read_text())
    assert told == {"project": {"entry-points": {"runops.providers": {"plants": "plants_runs:PLANTS"}}}}


def test_every_guess_is_marked(tmp_path: Path, sample: Callable[..., str], both: tuple[str, str]) -> None:
    text = (made(tmp_path, "plants", *everything(sample, both)) / "plants_runs.py").read_text()
    lines = text.splitlines()
    for guessed in ("DETAILS", "run_id: str", "status: str", "envelope=", "states=", "submit=", "cadence=", "title="):
        place = next(number for number, line in enumerate(lines) if line.strip().startswith(guessed))
        assert lines[place - 1].strip().startswith("# CHECK: "), guessed


@pytest.mark.parametrize(
    "there", ["plants_runs.py", "test_plants_runs.py", "plants_entry_point.toml", "answers/plants"]
)
def test_nothing_is_overwritten(
    tmp_path: Path, both: tuple[str, str], capsys: pytest.CaptureFixture[str], there: str
) -> None:
    folder = tmp_path / "out"
    (folder / there).parent.mkdir(parents=True)
    (folder / there).write_text("mine")
    arguments = ["--answers", *both, *GIVEN, "--word", "BROKEN=failed", "--to", str(folder)]
    assert main(["new-provider", "plants", *arguments]) == 2
    assert "is there already: nothing was written" in capsys.readouterr().err
    assert texts_of(folder) == {str(folder / there): "mine"}


def refused(capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, *arguments: str) -> str:
    assert main(["new-provider", name, *arguments, "--to", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()
    return capsys.readouterr().err


@pytest.mark.parametrize("missing", ["--status", "--probe", "--base-url", "--docs"])
def test_no_route_and_no_address_is_invented(
    tmp_path: Path, both: tuple[str, str], capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    left = [word for number, word in enumerate(GIVEN) if missing not in (word, GIVEN[max(number - 1, 0)])]
    assert missing in refused(capsys, tmp_path, "plants", "--answers", *both, *left)


@pytest.mark.parametrize(
    ("bodies", "more", "expected"),
    [
        ([job("ACTIVE"), job("DONE")], (), "show no word that means failed: give --word WORD=failed"),
        ([job("ACTIVE"), job("BROKEN")], (), "show no word that means succeeded"),
        ([job("DONE"), job("BROKEN")], (), "show no run that goes on"),
        ([job("HUM"), job("DONE")], (), "what the word 'HUM' means cannot be guessed: give --word HUM=MEANING"),
        ([job("HUM"), job("DONE")], ("--word", "HUM=runing"), "'runing'"),
        ([{"a": 1}, {"a": 2}], (), "holds an id (such as run_id or id)"),
        ([{"id": "1", "status": CANARIES["mail"]}, {"id": "2", "status": "x"}], (), "give --id-field NAME"),
        ([job("ACTIVE"), job("DONE")], ("--id-field", "a b"), "--id-field takes the name of one field"),
        ([[], {}], (), "is no JSON object"),
        (["{", "{"], (), "is no JSON"),
    ],
)
def test_what_cannot_be_guessed_is_asked_for(
    tmp_path: Path,
    sample: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
    bodies: list[Any],
    more: tuple[str, ...],
    expected: str,
) -> None:
    files = [sample(f"{number}.json", body) for number, body in enumerate(bodies)]
    told = refused(capsys, tmp_path, "plants", "--answers", *files, *GIVEN, *more)
    assert expected in told
    assert CANARIES["mail"] not in told


@pytest.mark.parametrize(
    ("name", "more", "expected"),
    [
        ("nexio", (), "is that of a provider that runops ships"),
        ("Plants", (), "is no name in lower case"),
        ("class", (), "is no name in lower case"),
        ("plants", ("--status", "GET /v3/jobs"), "names no run: put {run_id}"),
        ("plants", ("--status", "/v3/jobs/{run_id}"), "--status takes METHOD /path"),
        ("plants", ("--status", 'GET /v3/"/{run_id}'), "holds a character that no path of an API needs"),
        ("plants", ("--submit", "POST /v3/jobs"), "give --submit-answer FILE"),
        ("plants", ("--base-url", "http://user:pw@api.test"), "must hold no user, password"),
        ("plants", ("--key-prefix", "a"), "key_prefixes"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(
    tmp_path: Path,
    both: tuple[str, str],
    capsys: pytest.CaptureFixture[str],
    name: str,
    more: tuple[str, ...],
    expected: str,
) -> None:
    arguments = ("--answers", *both, *GIVEN, "--word", "BROKEN=failed", *more)
    assert expected in refused(capsys, tmp_path, name, *arguments)


@pytest.mark.parametrize(
    ("address", "holds"), [('https://docs.test/"+__import__("os").getcwd()+"', True), ("https://docs.test/\n#", False)]
)
def test_what_is_given_stands_in_the_file_as_text_and_never_as_code(
    tmp_path: Path, both: tuple[str, str], monkeypatch: pytest.MonkeyPatch, address: str, holds: bool
) -> None:
    arguments = ("--answers", *both, *ROUTES, "--base-url", "https://api.test", "--word", "BROKEN=failed")
    code = main(["new-provider", "plants", *arguments, "--docs", address, "--to", str(tmp_path / "out")])
    assert (code == 0) is holds
    if holds:
        assert loaded(tmp_path / "out", "plants", monkeypatch).docs == address


@pytest.mark.parametrize(
    ("key", "name"),
    [("totalCu", "total_cu"), ("progress", "run_progress"), ("class", "run_class"), ("model_name", "run_model_name")],
)
def test_a_field_gets_a_name_that_nothing_else_bears(key: str, name: str) -> None:
    assert python_name(key) == name


@pytest.mark.parametrize("name", PROVIDERS)
def test_the_guesses_of_words_are_those_of_the_shipped_providers(name: str) -> None:
    plain = {state: row.meaning for state, qualifier, row in PROVIDERS[name].states if qualifier is None}
    odd = {"pending_events", "completed"}
    for state, meaning in plain.items():
        if state in MEANINGS and state not in odd:
            assert MEANINGS[state] is meaning
