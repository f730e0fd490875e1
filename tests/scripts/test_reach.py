"""Which tests ``make mutants`` runs against a change, and in which order."""

from __future__ import annotations

from pathlib import Path

import pytest
from coverage import CoverageData

from scripts.mutants.changes import Change
from scripts.mutants.reach import Folder

FILE = "src/runops/core/pace.py"
SECONDS = {"t.py::a[1]": 3.0, "t.py::a[2]": 1.0, "t.py::b": 2.0, "t.py::c": 0.1, "t.py::of_pace": 0.5, "t.py::d": 0.2}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Two cases of a test and another one run line 3, one runs line 9, and line 5 runs when the module is imported."""
    data = CoverageData(str(tmp_path / "lines"))
    for test, line in (("", 5), ("t.py::a[1]", 3), ("t.py::a[2]", 3), ("t.py::b", 3), ("t.py::c", 9)):
        data.set_context(test)
        data.add_lines({str(tmp_path / FILE): [line]})
    return Folder("tests/core", data, SECONDS, str(tmp_path))


def change(first: int, last: int) -> Change:
    return Change(FILE, 0, 1, "x", "word", first, (first, last))


def test_one_case_of_each_test_that_runs_the_line_comes_before_a_second_one(folder: Folder) -> None:
    assert folder.reaching(change(3, 3)) == ["t.py::a[2]", "t.py::b", "t.py::a[1]"]


def test_all_lines_of_a_statement_count(folder: Folder) -> None:
    assert folder.reaching(change(8, 10)) == ["t.py::c"]


def test_a_line_that_no_test_runs_has_none(folder: Folder) -> None:
    assert folder.reaching(change(4, 4)) == []


def test_a_line_that_runs_at_import_is_every_test_s_and_first_of_those_about_its_file(folder: Folder) -> None:
    found = folder.reaching(change(5, 5))
    assert found[:4] == ["t.py::c", "t.py::a[2]", "t.py::b", "t.py::a[1]"]
    assert found[4:] == ["t.py::of_pace", "t.py::d"]
