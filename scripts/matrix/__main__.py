"""``make test-matrix``: run the tests of each combination that this machine can make, and write the page.

Each has an environment of its own below ``.venv-matrix/``. What a machine has no Python for, or no package index, keeps
the result that it had.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scripts.matrix.combinations import CORE, Combination, selected
from scripts.matrix.page import PAGE, RESULTS, ROOT, page

UV = Path(sys.executable).with_name("uv")
ENVIRONMENTS = ROOT / ".venv-matrix"
BUILD = ROOT / "build" / "matrix"
SHOWN = ("apache-airflow", "dagster", "httpx", "httpcore", "pydantic", "starlette", "uvicorn", "httptools", "redis")
"""The packages whose versions are written down."""
SAID: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
MOST_NAMED = 10
"""Failed tests that are written down by name."""


class UnavailableError(Exception):
    """This machine cannot make an environment: its result stays as it was."""


def main() -> int:
    """Run what is selected, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m scripts.matrix", description=__doc__)
    parser.add_argument("facts", nargs="*", help="such as python=3.13; all if not given")
    parser.add_argument("--only-write", action="store_true", help="run nothing: write the page from the last results")
    parser.add_argument("--workers", default="logical", help="processes that share the tests of one combination")
    arguments = parser.parse_args()
    try:
        chosen = [] if arguments.only_write else selected(" ".join(arguments.facts))
    except ValueError as error:
        parser.error(str(error))
    broken = 0
    for combination in chosen:
        try:
            result = run(combination, arguments.workers)
        except UnavailableError as error:
            print(f"--- {combination.name}: left out: {error}", flush=True)
            continue
        broken += bool(result["failed"] or result["error"]) and not combination.why_not
        keep(combination, result)
        print(f"--- {combination.name}: {result['passed']} passed, {result['failed']} failed {result['error']}")
    PAGE.write_text(page(last()), encoding="utf-8")
    print(f"written: {PAGE.relative_to(ROOT)}")
    return int(broken > 0)


def keep(combination: Combination, result: dict[str, Any]) -> None:
    """Write a result beside those of the other combinations, at once: a matrix takes long, and may be stopped."""
    results = last()
    results[combination.name] = result
    RESULTS.write_text(json.dumps(dict(sorted(results.items())), indent=1) + "\n", encoding="utf-8")


def last() -> dict[str, Any]:
    """The last result of each combination, by its name."""
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}


def run(combination: Combination, workers: str) -> dict[str, Any]:
    """Make the environment and run the tests: what is written down of it.

    Raises:
        UnavailableError: The environment cannot be made here.
    """
    print(f"--- {combination.name}", flush=True)
    python = made(combination)
    BUILD.mkdir(parents=True, exist_ok=True)
    report = BUILD / f"{combination.folder}.xml"
    report.unlink(missing_ok=True)
    tests = [*combination.tests, "-m", "not slow and not packaging"]
    command = [
        python, "-P", "-m", "pytest", "--quiet", "-p", "no:cacheprovider", f"--junitxml={report}",
        f"--numprocesses={workers}", "--maxprocesses=8", "--dist=loadgroup", "--no-loadscope-reorder", *tests,
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT)))}
    began = time.monotonic()
    ended = subprocess.run(command, cwd=ROOT, env=environment, check=False, text=True, **SAID)
    (BUILD / f"{combination.folder}.log").write_text(ended.stdout, encoding="utf-8")
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "seconds": round(time.monotonic() - began),
        "machine": f"{platform.system()} {platform.machine()}",
        "versions": versions(python),
        "command": "pytest " + " ".join(f'"{word}"' if " " in word else word for word in tests),
        **counted(report, ended.returncode, ended.stdout),
    }


def counted(report: Path, code: int, said: str) -> dict[str, Any]:
    """How many tests have passed, failed and were skipped, the first that failed, and why none was run."""
    suite = next(iter(ET.parse(report).getroot().iter("testsuite"))) if report.exists() else None
    if suite is None or not int(suite.get("tests", 0)):
        reasons = [line for line in said.splitlines() if line.startswith("E  ")] or said.splitlines()[-1:]
        error = reasons[-1].removeprefix("E").strip() if reasons else f"exit code {code}"
        error = error.replace(f"{ROOT}/", "")
        return {"passed": 0, "failed": 0, "skipped": 0, "failures": [], "error": error}
    total, skipped = int(suite.get("tests", 0)), int(suite.get("skipped", 0))
    failures = [name_of(case) for case in suite.iter("testcase") if {"failure", "error"} & {each.tag for each in case}]
    return {
        "passed": total - skipped - len(failures),
        "failed": len(failures),
        "skipped": skipped,
        "failures": failures[:MOST_NAMED],
        "error": "",
    }


def name_of(case: ET.Element) -> str:
    """A test as the report names it."""
    return f"{case.get('classname', '')}::{case.get('name', '')}"


# --- environments ---


def made(combination: Combination) -> Path:
    """The environment of a combination, made or renewed; the path of its Python.

    Raises:
        UnavailableError: The Python is not here, or a package cannot be had.
    """
    base = interpreter(combination.python)
    folder = ENVIRONMENTS / combination.folder
    python = folder / "bin" / "python"
    if not python.exists():
        uv("venv", "--quiet", "--clear", "--python", base, folder)
    lock = resolved(combination, python)
    uv("pip", "sync", "--quiet", "--python", python, lock)
    if combination.tests[0] == CORE[0]:
        # What completes commands in a shell calls the program by its name.
        uv("pip", "install", "--quiet", "--python", python, "--no-deps", "--editable", ROOT)
    return python


def interpreter(version: str) -> str:
    """Where a Python of a version is; the first that works on the path, as ``python3.13``.

    Raises:
        UnavailableError: There is none.
    """
    found = shutil.which(f"python{version}")
    test = f"import sys; sys.exit('%d.%d' % sys.version_info[:2] != {version!r})"
    for python in (found, sys.executable):
        if python and subprocess.run([python, "-c", test], check=False, capture_output=True).returncode == 0:
            return python
    raise UnavailableError(f"there is no python{version} on the path")


def resolved(combination: Combination, python: Path) -> Path:
    """The lock of a combination: one of requirements/, or one that is resolved now.

    Raises:
        UnavailableError: Nothing fits, or there is no package index.
    """
    if combination.lock:
        return ROOT / "requirements" / combination.lock
    BUILD.mkdir(parents=True, exist_ok=True)
    lock = BUILD / f"{combination.folder}.lock"
    wanted = [*of_project(combination.extras), *combination.wanted]
    options = ("--quiet", f"--resolution={combination.resolution}", "--python", python, "--output-file", lock)
    uv("pip", "compile", "-", *options, given="\n".join(wanted))
    return lock


def of_project(extras: Iterable[str]) -> list[str]:
    """What this project needs with some of its extras, without itself; nothing without any."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    chosen = [line for extra in extras for line in project["optional-dependencies"][extra]]
    return [*project["dependencies"], *chosen] if chosen else []


def uv(*words: Any, given: str | None = None) -> None:
    """One run of uv.

    Raises:
        UnavailableError: It has failed.
    """
    environment = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    command = [UV, "--no-python-downloads", *words]
    ended = subprocess.run(command, cwd=ROOT, env=environment, input=given, capture_output=True, text=True, check=False)
    if ended.returncode:
        lines = [line for line in ended.stderr.splitlines() if "ignored" not in line]
        raise UnavailableError(f"uv {' '.join(map(str, words[:2]))}: {' '.join(lines)[-400:]}")


def versions(python: Path) -> dict[str, str]:
    """The versions of Python and of the packages that matter."""
    code = (
        "import importlib.metadata as m, json, platform, sys\n"
        "found = {each.name.lower(): each.version for each in m.distributions()}\n"
        "named = {name: found[name] for name in sys.argv[1:] if name in found}\n"
        "print(json.dumps({'python': platform.python_version(), **named}))"
    )
    shown = subprocess.run([python, "-P", "-c", code, *SHOWN], check=True, capture_output=True, text=True)
    return json.loads(shown.stdout)


if __name__ == "__main__":
    sys.exit(main())
