"""What the kit catches: files with one planted mistake each; what it passes: the shipped providers and Acme."""

from __future__ import annotations

import json
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from runops.cli import main
from runops.conformance import CHECKS, Finding, Report, conform, kills
from runops.conformance.faults import TROUBLES
from runops.core import PROVIDERS, ConfigurationError, Provider
from runops.core.waiting.ownership import RunSearch, Sighting
from runops.core.waiting.state import WaitState
from runops.core.waiting.submit_in_turn import submit_in_turn
from tests.conformance.acme_runs import ACME, variant

HERE = Path(__file__).parent
ANSWERS = HERE / "answers"
MISTAKES = {
    "wrong_id_path": ("submits", "submit.run_id", "finds another id at 'queue_id'"),
    "swapped_words": ("words", "states['DONE']", "means failed, but the answer is to be read as succeeded"),
    "unknown_word_succeeds": ("words", "body.status", "stands in no table"),
    "wrong_cancel_route": ("routes", "cancel", "the service answers DELETE /v3/jobs/J-1"),
    "key_in_the_address": ("routes", "status.query", "puts the key, or its name, into the address"),
    "no_key_prefix": ("routes", "auth.key_prefixes", "do not know 'acme_'"),
    "call_of_another_provider": ("routes", "submit.build", "makes a Call of 'acme_jobs'"),
    "submit_without_parent": ("routes", "submit.build", "gives its Call no parent of plant"),
    "wrong_end_of_list": ("lists", "listing.next", "leads nowhere, so the list would end here"),
    "wrong_envelope": ("words", "envelope", "leads nowhere in this answer"),
    "wrong_time": ("times", "body.finished_at", "is read as 2026-03-09T10:00:00+00:00, and read_as says none"),
    "detail_of_a_payload": ("redaction", "body.details['contact']", "shows what stands in 'answer.job.contact"),
    "conflict_sent_again": ("submits", "submit.turned_away", "takes a conflict (409)"),
    "key_in_the_body": ("submits", "submit.build", "the key stands in the address or the body of a submit"),
    "word_by_default": ("words", "body", "is read as an end of the run"),
    "reason_as_it_came": ("redaction", "body.reason", "shows what stands in 'answer.job.error'"),
    "mark_that_no_run_shows": ("submits", "submit.mark", "no run of the folder's answers shows 'error'"),
    "all_ids_are_one": ("words", "id_key", "takes an answer about another run"),
}
"""By file: which check finds it, in which field, and a part of what it says."""


def declared(name: str) -> Provider:
    return ACME if name == "acme" else PROVIDERS[name]


def mistaken(name: str) -> Provider:
    return import_module(f"tests.conformance.mistakes.{name}").MISTAKEN


def named(report: Report, wanted: tuple[str, str, str]) -> list[Finding]:
    check, field, problem = wanted
    return [each for each in report.wrong if (each.check, each.field) == (check, field) and problem in each.problem]


def test_each_file_of_mistakes_is_expected_to_be_caught() -> None:
    assert {path.stem for path in (HERE / "mistakes").glob("*.py")} == set(MISTAKES)
    assert len(MISTAKES) >= 12


@pytest.mark.http
@pytest.mark.parametrize("name", [*PROVIDERS, "acme"])
def test_the_shipped_providers_and_acme_conform(name: str) -> None:
    report = conform(declared(name), ANSWERS / name)
    assert report.wrong == []
    assert report.unproven == []
    assert set(report.passed) == set(CHECKS)
    assert report.passed["faults"] > 24
    if declared(name).submit is not None:
        assert report.passed["kills"] > 20


@pytest.mark.http
@pytest.mark.parametrize("name", MISTAKES)
def test_a_planted_mistake_is_caught_and_named(name: str) -> None:
    # What the other checks find beside it is left out for its time: what one finds, all together find.
    report = conform(mistaken(name), ANSWERS / "acme", only={MISTAKES[name][0], "routes", "words"})
    found = named(report, MISTAKES[name])
    assert found, "\n".join(report.lines())
    assert all(each.advice for each in found)


def test_what_is_not_shown_is_unproven_and_a_claim_without_a_proof_is_wrong(tmp_path: Path) -> None:
    folder = shutil.copytree(ANSWERS / "acme", tmp_path / "answers")
    (folder / "submit_conflict.json").unlink()
    (folder / "5_stopped.json").unlink()
    report = conform(ACME, folder, only=["words", "submits"])
    assert {each.field for each in report.wrong} == {"submit.one_at_a_time"}
    assert [each.field for each in report.unproven] == ["states['STOPPED']"]


def test_what_the_code_of_a_declaration_raises_is_a_finding_without_its_text(tmp_path: Path) -> None:
    class Odd(ACME.body):
        def reason(self) -> str | None:
            raise KeyError("a text of the answer")

    report = conform(variant("acme_raises", body=Odd), ANSWERS / "acme", only=["words", "redaction"])
    texts = "\n".join(report.lines())
    assert "raises KeyError at test_conform.py" in texts
    assert "a text of the answer" not in texts


# --- a core that is broken ---------------------------------------------------------------------------------------


@pytest.mark.http
def test_a_core_that_forgets_what_was_sent_is_caught_at_the_kill_points(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(*arguments: Any, **options: Any) -> Any:
        return submit_in_turn(*arguments, **{**options, "intent": None})

    monkeypatch.setattr(kills, "submit_in_turn", forgetful)
    report = conform(PROVIDERS["b3os"], ANSWERS / "b3os", only=["kills"])
    assert any("the next process has started a second run" in each.problem for each in report.wrong)


@pytest.mark.http
def test_a_core_that_takes_any_new_run_for_its_own_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def guessed(search: RunSearch, observations: Any, whole: bool) -> Sighting:
        newest = observations[0].snapshot.ref if observations else None
        return Sighting(observations, whole, newest, ())

    monkeypatch.setattr(RunSearch, "_by_mark", guessed)
    report = conform(PROVIDERS["nyx"], ANSWERS / "nyx", only=["submits"])
    assert any("takes somebody else's run for its own" in each.problem for each in report.wrong)


@pytest.mark.http
def test_a_wait_that_gives_up_at_the_first_trouble_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def impatient(state: WaitState, error: Exception, *_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(WaitState, "failed", impatient)
    report = conform(ACME, ANSWERS / "acme", only=["faults"])
    told = " ".join(each.problem for each in report.wrong)
    assert all(f"after {trouble} on the way" in told for trouble in TROUBLES)


# --- the command -------------------------------------------------------------------------------------------------


def ran(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["conform", *arguments])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


QUICK = ("--only", "routes", "--only", "words", "--only", "times", "--only", "lists")


def test_the_command_passes_what_conforms(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = ran(capsys, "tests.conformance.acme_runs:ACME", "--answers", str(ANSWERS / "acme"), *QUICK)
    assert (code, err) == (0, "")
    assert out.startswith("acme_jobs: conforms")


def test_the_command_names_the_field_the_file_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    path = "tests.conformance.mistakes.swapped_words:MISTAKEN"
    code, out, _ = ran(capsys, path, "--answers", str(ANSWERS / "acme"), *QUICK)
    assert code == 1
    line = next(line for line in out.splitlines() if "states['DONE']" in line)
    assert line == (
        "wrong  words: states['DONE'] (3_done.json): means failed, but the answer is to be read as succeeded. "
        "Set it to Outcome.SUCCEEDED, or mend read_as."
    )


def test_json_has_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    path = "tests.conformance.mistakes.wrong_time:MISTAKEN"
    code, out, _ = ran(capsys, path, "--answers", str(ANSWERS / "acme"), *QUICK, "--json")
    told = json.loads(out)
    assert (code, told["conforms"], told["provider"]) == (1, False, "wrong_time")
    assert {each["field"] for each in told["findings"]} == {"body.finished_at"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"read_as": {}}, "3_done.json: read_as needs one of phase, outcome and error"),
        ({"read_as": {"outcom": "succeeded"}}, "3_done.json: read_as.outcom: Extra inputs are not permitted. Did you"),
        ({"read_as": {"outcome": "timed_out"}}, "timed_out is an end of a wait, and of no run"),
        ({"read_as": {"outcome": "succeeded", "phase": "running"}}, "only one of phase and outcome"),
        ({"status": 99}, "3_done.json: status"),
        ({"schema": 2}, "3_done.json: schema"),
        ({"route": "get"}, "3_done.json: route"),
    ],
)
def test_a_file_that_is_none_is_a_usage_error_that_names_the_field(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, change: dict[str, object], expected: str
) -> None:
    folder = shutil.copytree(ANSWERS / "acme", tmp_path / "answers")
    file = folder / "3_done.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    code, _, err = ran(capsys, "tests.conformance.acme_runs:ACME", "--answers", str(folder))
    assert code == 2
    assert expected in err


@pytest.mark.parametrize("text", ["[]", "{}", "no JSON", '{"route"', "3"])
def test_no_answer_at_all_is_a_usage_error(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    code, _, err = ran(capsys, "tests.conformance.acme_runs:ACME", "--answers", str(tmp_path))
    assert code == 2
    assert err.startswith("runops: a.json is no ")


def test_an_empty_folder_and_an_unknown_check_are_usage_errors(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    acme = "tests.conformance.acme_runs:ACME"
    assert ran(capsys, acme, "--answers", str(tmp_path))[0] == 2
    assert ran(capsys, acme, "--answers", str(tmp_path / "none"))[0] == 2
    code, _, err = ran(capsys, acme, "--answers", str(ANSWERS / "acme"), "--only", "word")
    assert code == 2
    assert "Did you mean 'words'?" in err
    with pytest.raises(ConfigurationError, match="is none of routes, words"):
        conform(ACME, ANSWERS / "acme", only=["word"])
