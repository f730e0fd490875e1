"""``make mutants`` for a package of one file: what is noticed, what is not, and what only seems to be."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.mutants.changes import Change
from scripts.mutants.copies import Copy, Result, Stage

ROOT = Path(__file__).resolve().parents[2]
FILE = "src/runops/pace.py"
TEXT = "def faster(pace: int) -> int:\n    if pace > 3:\n        return pace\n    return pace + 1\n"
SETTINGS = "[pytest]\naddopts = -ra --import-mode=importlib -p no:runops\nmarkers =\n  packaging\n  slow\n"
TESTS = """
import os
from pathlib import Path

import pytest
from runops.pace import faster


def test_a_slow_pace_rises():
    assert faster(1) == 2


@pytest.mark.parametrize("pace", [4, 5])
def test_a_high_pace_stays(pace):
    assert faster(pace) == pace


def test_that_fails_always():
    assert faster(1) < 0


def test_that_fails_by_chance():
    mark = Path("failed_once")
    if faster(3) == 3 and not mark.exists():
        mark.touch()
        assert not "failed"


def test_that_kills_its_process():
    if faster(1) != 2:
        os._exit(0 if faster(1) == 0 else 9)
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copy]:
    tree = tmp_path_factory.mktemp("tree")
    (tree / "tests").mkdir()
    (tree / FILE).parent.mkdir(parents=True)
    (tree / "src/runops/__init__.py").touch()
    (tree / FILE).write_text(TEXT)
    (tree / "tests/test_pace.py").write_text(TESTS)
    (tree / "pytest.ini").write_text(
        "[pytest]\naddopts = -ra --import-mode=importlib -p no:runops\nmarkers =\n  packaging\n  slow\n"
    )
    shutil.copytree(ROOT / "scripts" / "mutants", tree / "scripts" / "mutants")
    (tree / "scripts" / "__init__.py").touch()
    copy = Copy(tree)
    yield copy
    copy.end()


def attempt(copy: Copy, before: str, after: str, *tests: str) -> Result:
    start = TEXT.index(before)
    change = Change(FILE, start, start + len(before), after, "test", 1, (1, 4))
    result = copy.attempt(change, [Stage("tests", {f"tests/test_pace.py::{test}": 0.4 for test in tests})])
    assert (copy.path / FILE).read_text() == TEXT
    return result


RISES, HIGH = "test_a_slow_pace_rises", ("test_a_high_pace_stays[4]", "test_a_high_pace_stays[5]")


def test_a_change_is_killed_by_the_test_that_notices_it_in_whichever_run(copy: Copy) -> None:
    for test in (RISES, *HIGH):
        after = "pace + 2" if test == RISES else "pace - 1"
        before = "pace + 1" if test == RISES else "pace\n    return"
        ended = attempt(copy, before, after if test == RISES else f"{after}\n    return", *HIGH, RISES)
        assert ended.ended == "killed"
        assert ended.by == f"tests/test_pace.py::{RISES if test == RISES else HIGH[0]}"


def test_a_change_that_no_test_notices_survives(copy: Copy) -> None:
    assert attempt(copy, "> 3", ">= 3", RISES, *HIGH).ended == "survived"
    assert copy.attempt(Change(FILE, 0, 0, "", "test", 1, (1, 4)), []).ended == "never run"


def test_what_fails_without_a_change_as_well_notices_nothing(copy: Copy) -> None:
    ended = attempt(copy, "> 3", ">= 3", "test_that_fails_always", RISES)
    assert (ended.ended, ended.by) == ("survived", "(failed by chance: tests/test_pace.py::test_that_fails_always)")


def test_what_fails_only_once_notices_nothing(copy: Copy) -> None:
    ended = attempt(copy, "> 3", ">= 3", "test_that_fails_by_chance", RISES)
    assert (ended.ended, ended.by) == ("survived", "(failed by chance: tests/test_pace.py::test_that_fails_by_chance)")


@pytest.mark.parametrize("after", ["pace + (", "pace / 0"])
def test_a_change_that_breaks_the_import_or_the_call_is_killed(after: str, copy: Copy) -> None:
    assert attempt(copy, "pace + 1", after, RISES).ended == "killed"


def test_a_run_that_takes_its_process_along_is_killed_and_the_next_one_is_served(copy: Copy) -> None:
    assert attempt(copy, "pace + 1", "pace + 2", "test_that_kills_its_process").ended == "killed"
    assert attempt(copy, "> 3", ">= 3", RISES).ended == "survived"


def test_tests_run_in_batches_of_which_the_first_is_short() -> None:
    stage = Stage("tests", {"a": 0.6, "b": 0.4, "c": 0.1, "d": 7.0, "e": 1.0, "f": 0.1})
    assert list(stage.batches()) == [["a", "b"], ["c", "d"], ["e", "f"]]
    assert list(Stage("tests", {"long": 100.0, "short": 0.1}).batches()) == [["long"], ["short"]]
