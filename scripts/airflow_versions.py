"""Runs the tests that carry a promise on each supported Airflow; docs/project/airflow_versions.md is made of it.

Each Airflow has an environment of its own (``make airflow-versions`` makes them). With ``--fast`` no scheduler is
started, and what only one can prove stays as it was found before.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "project" / "airflow_versions.md"
RESULTS = ROOT / "build" / "versions"
ENVIRONMENTS = {
    "oldest": ".venv-airflow-lowest",
    "3.2": ".venv-airflow-3.2",
    "3.3": ".venv",
    "next": ".venv-airflow-next",
}
FAST = ("tests/airflow_side", "-m", "not slow")
REAL = ("tests/airflow_host/test_host_versions.py", "tests/airflow_host/test_host_ends.py")

HEAD = """# What holds on which Airflow

Made by `make airflow-versions`, which runs the tests that carry a promise on each version; nothing here is written by
hand. A number is that of the tests that prove it. **no**: the same tests fail there, or cannot run, for the reason
below the table. **not run**: the last `make airflow-versions` left it out; `VERSIONS=--fast` starts no scheduler.
"""


def main() -> int:
    """Run the tests, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true", help="start no scheduler")
    parser.add_argument("--only-write", action="store_true", help="run nothing: write the page from the last results")
    arguments = parser.parse_args()
    failed = False
    for name, folder in ENVIRONMENTS.items():
        for kind, tests in (("fast", FAST), ("real", REAL)):
            if not arguments.only_write and not (kind == "real" and arguments.fast):
                failed |= run(name, folder, kind, tests)
    PAGE.write_text(page([read(name) for name in ENVIRONMENTS]), encoding="utf-8")
    print(f"written: {PAGE.relative_to(ROOT)}")
    return int(failed)


def run(name: str, folder: str, kind: str, tests: tuple[str, ...]) -> bool:
    """Run the tests of one kind on one version; whether one of them is broken."""
    print(f"--- {name}: {kind}", flush=True)
    command = [
        ROOT / folder / "bin" / "python", "-P", "-m", "pytest", "-q", "-p", "tests.promises", "--promises",
        RESULTS / f"{name}-{kind}.json", *tests, "-W", "default", "-p", "no:cacheprovider",
    ]  # fmt: skip
    # Whole paths: the components of a real Airflow begin in other folders.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT)))}
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode != 0


def read(name: str) -> dict[str, Any]:
    """The results of one version, of both kinds."""
    found: dict[str, Any] = {"airflow": name, "promises": {}}
    for kind in ("real", "fast"):
        file = RESULTS / f"{name}-{kind}.json"
        if file.exists():
            content = json.loads(file.read_text(encoding="utf-8"))
            found["airflow"] = content["airflow"]
            found["promises"] |= content["promises"]
    return found


def page(versions: list[dict[str, Any]]) -> str:
    """The page, from the results of all versions."""
    names = list(dict.fromkeys(name for version in versions for name in version["promises"]))
    reasons: list[str] = []
    lines = [
        f"| promise | proven by | {' | '.join(version['airflow'] for version in versions)} |",
        f"|---|---|{'---|' * len(versions)}",
    ]
    for name in names:
        found = [version["promises"].get(name) for version in versions]
        place = next(each["proven_by"] for each in found if each)
        lines.append(f"| {name} | {place} | {' | '.join(cell(each, reasons) for each in found)} |")
    notes = [f"{number}. {reason}" for number, reason in enumerate(reasons, 1)]
    return "\n".join([HEAD, *lines, "", *notes, ""])


def cell(found: dict[str, Any] | None, reasons: list[str]) -> str:
    """What a version does about a promise."""
    if found is None:
        return "not run"
    if found["broken"]:
        return f"**broken** ({found['broken']})"
    notes = ""
    if found["missing"]:
        for reason in found["reasons"]:
            if reason not in reasons:
                reasons.append(reason)
        notes = " [" + ", ".join(str(reasons.index(reason) + 1) for reason in found["reasons"]) + "]"
    if not found["holds"]:
        return f"**no**{notes}"
    part = f", {found['missing']} not{notes}" if found["missing"] else ""
    return f"yes ({found['holds']}{part})"


if __name__ == "__main__":
    sys.exit(main())
