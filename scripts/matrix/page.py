"""The page of the matrix, from what was found last of each combination."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from scripts.matrix.combinations import COMBINATIONS, Combination

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "project" / "test_matrix.md"
RESULTS = ROOT / "docs" / "project" / "test_matrix.json"

HEAD = """# Tests by version

Made by `make test-matrix`, which makes an environment for each combination and runs the fast tests of what it is about
there; nothing here is written by hand. `MATRIX="python=3.13"` runs one part. A Python is taken from the path, as
`python3.13`. What a machine cannot make keeps the result that it had: each row has its date.
[What holds on which Airflow](airflow_versions.md) goes by promise, with real schedulers.
"""
LIBRARIES = """\
**httpx below 0.27, pydantic below 2.11**: one bound holds for all sides, and these are what Airflow 3.1 itself asks
for. In a sample 601 tests of the core and the emulator passed with httpx 0.26 and pydantic 2.10. **httpx 1**: its
pre-releases have no httpcore 1, on whose network backends the core builds. **Free-threaded Pythons** are not tried.
"""
TESTS = {"tests/core": "core, emulator", "tests/airflow_side": "Airflow side", "tests/dagster_side": "Dagster side"}


def page(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The page, from the results by the names of their combinations."""
    supported = [each for each in COMBINATIONS if not each.why_not]
    tried = [each for each in COMBINATIONS if each.why_not]
    parts = [
        HEAD,
        "## What is supported\n",
        *table(supported, results),
        "",
        *failures(supported, results),
        "## What was tried and is not supported\n",
        *table(tried, results),
        "",
        *(f"**{each.name}**: {each.why_not}\n" for each in tried),
        LIBRARIES,
        "## What was run\n",
        *(f"- {name}: `{command}`" for name, command in commands(results)),
    ]
    return "\n".join(parts).rstrip("\n") + "\n"


def table(combinations: Iterable[Combination], results: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    """One row for each combination."""
    yield "| versions | tests of | passed | failed | skipped | installed | time | date |"
    yield "|---|---|---|---|---|---|---|---|"
    for each in combinations:
        found = results.get(each.name)
        place = TESTS[each.tests[0]]
        if found is None:
            yield f"| {each.name} | {place} | not run | | | | | |"
            continue
        installed = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
        counts = f"{found['passed']:,} | {found['failed']:,} | {found['skipped']:,}"
        if found["error"]:
            counts = f"none: `{found['error']}` | | "
        seconds = f"{found['seconds'] // 60} min {found['seconds'] % 60} s"
        yield f"| {each.name} | {place} | {counts} | {installed} | {seconds} | {found['date']} |"


def failures(combinations: Iterable[Combination], results: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    """What has failed where nothing should."""
    for each in combinations:
        found = results.get(each.name)
        if found and found["failures"]:
            yield f"{each.name}: {', '.join(f'`{name}`' for name in found['failures'])}\n"


def commands(results: Mapping[str, Mapping[str, Any]]) -> Iterable[tuple[str, str]]:
    """What was run of each folder of tests."""
    found: dict[str, str] = {}
    for each in COMBINATIONS:
        if each.name in results:
            found.setdefault(TESTS[each.tests[0]], str(results[each.name]["command"]))
    return found.items()
