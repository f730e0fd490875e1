"""A plugin of pytest that writes down which promises hold on this Airflow: ``-p tests.promises --promises FILE``.

A test that carries ``@pytest.mark.promise("text")`` is one proof of that promise. ``since="3.3"`` says from which
version on it is to hold; on an older one its tests run all the same, and have to fail there, which proves that it is
missing; ``missing="why"`` says that it holds on none. A promise whose every test is skipped is missing too, for the
reason of the skip.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow import __version__ as airflow_version


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--promises", type=Path, help="where to write which promises hold, as JSON")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RESULTS] = {}


RESULTS = pytest.StashKey[dict[str, dict[str, Any]]]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    kept: list[pytest.Item] = []
    for item in items:
        marker = item.get_closest_marker("promise")
        if marker is None:
            continue
        kept.append(item)
        expect_what_is_missing(item)
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


def expect_what_is_missing(item: pytest.Item) -> None:
    """Let a test have to fail whose promise is known not to hold on this Airflow."""
    marker = item.get_closest_marker("promise")
    if marker is None:
        return
    since, missing = marker.kwargs.get("since"), marker.kwargs.get("missing")
    if since is not None and _number(airflow_version) < _number(since):
        missing = f"from Airflow {since} on"
    if missing is not None:
        item.add_marker(pytest.mark.xfail(reason=missing, strict=True))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    marker = item.get_closest_marker("promise")
    if marker is None or (report.when != "call" and report.outcome == "passed"):
        return report
    place = "a real scheduler" if item.get_closest_marker("airflow_host") else "the fast tests"
    found = item.config.stash[RESULTS].setdefault(
        marker.args[0], {"holds": 0, "missing": 0, "broken": 0, "reasons": [], "proven_by": place}
    )
    if report.outcome == "passed":
        found["holds"] += 1
    elif report.outcome == "skipped":
        found["missing"] += 1
        reason = getattr(report, "wasxfail", "") or str(report.longrepr[2]).removeprefix("Skipped: ")
        if reason not in found["reasons"]:
            found["reasons"].append(reason)
    else:
        found["broken"] += 1
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    target = session.config.getoption("--promises")
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        content = {"airflow": airflow_version, "promises": session.config.stash[RESULTS]}
        target.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _number(version: str) -> tuple[int, int]:
    major, minor, *_ = version.split(".")
    return int(major), int(minor)
