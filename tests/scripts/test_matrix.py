"""The matrix of versions covers what is declared, and its page says what was found last."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from scripts.matrix import __main__ as matrix
from scripts.matrix.combinations import COMBINATIONS, Combination, selected
from scripts.matrix.page import PAGE, RESULTS, ROOT, page

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SUPPORTED = [each for each in COMBINATIONS if not each.why_not]


def lowest(distribution: str) -> str:
    """The lower bound of a dependency, such as ``1.12``."""
    lines = [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
    (bound,) = {found[1] for line in lines if (found := re.match(rf"{distribution}>=([\d.]+)", line))}
    return bound


def values(fact: str, among: list[Combination]) -> set[str]:
    return {each.facts[fact] for each in among if fact in each.facts}


def test_each_python_that_a_classifier_names_is_in_the_matrix() -> None:
    named = {found[1] for line in PROJECT["classifiers"] if (found := re.search(r":: (3\.\d+)$", line))}
    assert values("python", SUPPORTED) == named


@pytest.mark.parametrize(("distribution", "fact"), [("apache-airflow", "airflow"), ("dagster", "dagster")])
def test_the_lower_bound_of_each_host_is_what_the_lowest_supported_row_tests(distribution: str, fact: str) -> None:
    bound = tuple(int(part) for part in lowest(distribution).split("."))
    parts = [tuple(int(part) for part in value.split(".")) for value in values(fact, SUPPORTED)]
    assert min(each for each in parts if len(each) >= len(bound))[: len(bound)] == bound
    below = {tuple(int(part) for part in each.facts[fact].split(".")) for each in COMBINATIONS if each.why_not
             if fact in each.facts}  # fmt: skip
    assert below
    assert max(below) < min(parts)


def test_the_page_is_made_of_the_last_results() -> None:
    assert PAGE.read_text() == page(json.loads(RESULTS.read_text()))


def test_a_result_is_of_a_combination_that_there_is_and_has_nothing_of_the_machine() -> None:
    text = RESULTS.read_text()
    assert set(json.loads(text)) <= {each.name for each in COMBINATIONS}
    assert str(ROOT) not in text
    assert not re.search(r"(?<!\w)/(?:home|root|opt|work|tmp)/", text)


def test_a_part_is_selected_by_its_facts_and_a_wrong_one_is_refused_with_all_that_there_are() -> None:
    assert {each.python for each in selected("python=3.14")} == {"3.14"}
    assert [each.name for each in selected("dagster=1.13 python=3.14")] == ["dagster=1.13 python=3.14"]
    assert selected("") == list(COMBINATIONS)
    with pytest.raises(ValueError, match=r"'python=2\.7' selects nothing(?s:.*)python=3\.13"):
        selected("python=2.7")


REPORT = """<testsuites><testsuite tests="4" failures="1" errors="1" skipped="1">
<testcase classname="tests.a" name="good"/><testcase classname="tests.a" name="bad"><failure/></testcase>
<testcase classname="tests.a" name="broken"><error/></testcase><testcase classname="tests.a" name="left"><skipped/>
</testcase></testsuite></testsuites>"""


def test_what_pytest_reports_is_counted(tmp_path: Path) -> None:
    (tmp_path / "report.xml").write_text(REPORT)
    found = matrix.counted(tmp_path / "report.xml", 1, "")
    assert (found["passed"], found["failed"], found["skipped"]) == (1, 2, 1)
    assert found["failures"] == ["tests.a::bad", "tests.a::broken"]


def test_why_no_test_was_run_is_kept_without_the_folders_of_the_machine(tmp_path: Path) -> None:
    said = f"ImportError while loading\nE   ImportError: cannot import name 'x' ({ROOT}/src/runops/x.py)\n"
    found = matrix.counted(tmp_path / "none.xml", 4, said)
    assert found["error"] == "ImportError: cannot import name 'x' (src/runops/x.py)"


def test_what_cannot_be_made_here_keeps_the_result_that_it_had(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results: dict[str, Any] = {"python=3.13 libraries=newest": {
        "date": "2026-11-28", "seconds": 61, "machine": "Linux", "versions": {"python": "3.13.1"}, "command": "pytest",
        "passed": 7, "failed": 0, "skipped": 1, "failures": [], "error": "",
    }}  # fmt: skip
    kept, written = tmp_path / "results.json", tmp_path / "page.md"
    kept.write_text(json.dumps(results))
    monkeypatch.setattr(matrix, "RESULTS", kept)
    monkeypatch.setattr(matrix, "PAGE", written)
    monkeypatch.setattr(matrix, "ROOT", tmp_path)
    monkeypatch.setattr(matrix, "interpreter", _nowhere)
    monkeypatch.setattr("sys.argv", ["matrix", "python=3.13"])
    assert matrix.main() == 0
    assert json.loads(kept.read_text()) == results
    assert "left out: no Python of that kind" in capsys.readouterr().out
    assert "| 7 | 0 | 1 | python 3.13.1 | 1 min 1 s | 2026-11-28 |" in written.read_text()


def _nowhere(version: str) -> str:
    raise matrix.UnavailableError("no Python of that kind")
