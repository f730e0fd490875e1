"""``python -m scripts.mutants``: a seeded sample of small changes to the package, and which of them no test notices.

First each test file runs once by itself under coverage.py, in a copy of the tree: that says which lines it runs, its
child processes included, and how long it takes. The answer is kept in ``build/mutants`` until a file changes. Then
each change of the sample is made in a copy, and the files that run its lines run against it, those that are most about
the changed file first, until one fails or ``--test-seconds`` are full. Where no test runs the line, nothing notices.

Changes that no test could notice stand in ``equivalent.toml`` beside this file, with the reason; they do not count.
The exit code is 1 when fewer than ``--at-least`` per cent were noticed.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import hashlib
import importlib.util
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from coverage import CoverageData

from scripts.mutants.changes import Change, changes_of

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "build" / "mutants"
EQUIVALENT = Path(__file__).with_name("equivalent.toml")
SOURCE = "src/runops"
TESTS = ("tests/core", "tests/emulator", "tests/airflow_side", "tests/dagster_side")
# The tests of a part, which are the first to run against a change in it.
HOME = {"airflow": "tests/airflow_side", "dagster": "tests/dagster_side", "emulator": "tests/emulator"}
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=no", "--no-header", "-m", "not packaging and not slow")
MEASURING_SECONDS = 1800.0
_running: set[int] = set()
"""The process groups under way, which end with this process."""


@dataclass(frozen=True)
class Measured:
    """What one test file runs: lines by source file, and in how many seconds."""

    name: str
    seconds: float
    lines: dict[str, list[int]]
    passed: bool

    def part_in(self, path: str) -> float:
        """Which part of the lines that it runs is in a file: how much it is about that file."""
        return len(self.lines.get(path, ())) / max(1, sum(map(len, self.lines.values())))


@dataclass(frozen=True)
class Result:
    """How a change ended, and the test that noticed it."""

    change: Change
    ended: str
    by: str = ""


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the sample, run it, and print what survived.

    Args:
        argv: The arguments; ``sys.argv[1:]`` if None.
    """
    options = _options(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="runops-mutants-") as folder:
        # What is worked on meanwhile must not mix with what the run began with.
        tree = _copy_of_the_tree(Path(folder) / "tree")
        copies: SimpleQueue[Path] = SimpleQueue()
        for number in range(options.processes):
            copies.put(shutil.copytree(tree, Path(folder) / str(number)))
        with ThreadPoolExecutor(options.processes) as pool:
            try:
                return _report(_results(tree, copies, pool, options), options.at_least)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                _end_all()
                raise


def _results(
    tree: Path, copies: SimpleQueue[Path], pool: ThreadPoolExecutor, options: argparse.Namespace
) -> list[Result]:
    tests = [path for place in options.tests for path in _files(tree / place, "test_*.py")]
    measured = list(pool.map(lambda test: _measured(tree, test, copies), tests))
    for each in measured:
        if not each.passed:
            print(f"left out, as it fails without a change: {each.name}")
    sample, skipped = _sample(tree, options)
    print(f"{len(sample)} changes, seed {options.seed}; {skipped} equivalent ones drawn and left out", flush=True)
    return list(pool.map(lambda change: _tried(change, measured, copies, options), sample))


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.mutants", description="Change the package in small ways, and tell what no test notices."
    )
    parser.add_argument("--seed", type=int, default=1, help="which sample is drawn")
    parser.add_argument("--sample", type=int, default=120, help="how many changes")
    parser.add_argument("--only", default=SOURCE, metavar="PATH", help=f"a file or folder below {SOURCE}")
    parser.add_argument("--tests", nargs="+", default=TESTS, metavar="PATH", help="the test files or folders to run")
    parser.add_argument("--test-seconds", type=float, default=600.0, help="of tests against one change, at the most")
    parser.add_argument("--processes", type=int, choices=(1, 2), default=2)
    parser.add_argument("--at-least", type=float, default=92.0, metavar="PERCENT", help="the share to notice")
    parser.add_argument("--verbose", action="store_true", help="print each change as it ends, not only survivors")
    return parser.parse_args(argv)


def _files(place: Path, pattern: str) -> list[Path]:
    return sorted(place.rglob(pattern)) if place.is_dir() else [place]


def _copy_of_the_tree(folder: Path) -> Path:
    """What git knows of the tree and what is not yet added, so that nothing is ever changed in the tree itself."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def _measured(tree: Path, test: Path, copies: SimpleQueue[Path]) -> Measured:
    """Run a test file by itself for the lines that it reaches, or read what is kept of that."""
    name = str(test.relative_to(tree))
    shared = [each for each in (tree / "tests").rglob("*.py") if not each.name.startswith("test_")]
    digest = hashlib.sha256(b"".join(map(Path.read_bytes, [*_files(tree / SOURCE, "*.py"), test, *sorted(shared)])))
    kept = KEPT / name.replace("/", ".") / f"{digest.hexdigest()[:16]}.json"
    if not kept.exists():
        shutil.rmtree(kept.parent, ignore_errors=True)
        kept.parent.mkdir(parents=True)
        copy = copies.get()
        try:
            found = _run_covered(name, copy)
        finally:
            copies.put(copy)
        kept.write_text(json.dumps(found.__dict__))
        print(f"measured {name}: {found.seconds:.0f} s", flush=True)
    return Measured(**json.loads(kept.read_text()))


def _run_covered(name: str, copy: Path) -> Measured:
    settings = copy / ".coveragerc"
    settings.write_text(
        f"[run]\nsource = {copy / SOURCE}\ndata_file = {copy}/.coverage\nparallel = true\npatch = subprocess\n"
    )
    before = time.monotonic()
    covered = [sys.executable, "-m", "coverage", "run", f"--rcfile={settings}", *PYTEST, name]
    code, _ = _run(covered, copy, limit=MEASURING_SECONDS)
    seconds = time.monotonic() - before
    if code not in (0, 5):  # 5: all of its tests are marked. What measures time may fail because it is measured.
        code, _ = _run([sys.executable, *PYTEST, name], copy, limit=MEASURING_SECONDS)
    lines: dict[str, set[int]] = {}
    for part in copy.glob(".coverage.*"):
        data = CoverageData(str(part))
        data.read()
        for path in data.measured_files():
            lines.setdefault(os.path.relpath(path, copy), set()).update(data.lines(path) or ())
        data.close()
        part.unlink()
    return Measured(name, seconds, {path: sorted(each) for path, each in lines.items()}, code in (0, 5))


def _sample(tree: Path, options: argparse.Namespace) -> tuple[list[Change], int]:
    """The changes to try, in an order of their own, and how many of the drawn ones are known to change nothing."""
    texts = {str(path.relative_to(tree)): path.read_text() for path in _files(tree / options.only, "*.py")}
    everything = [change for path, text in texts.items() for change in changes_of(path, text)]
    random.Random(options.seed).shuffle(everything)
    equivalent = {
        (entry["file"], entry["before"].strip(), entry["after"].strip())
        for entry in tomllib.loads(EQUIVALENT.read_text()).get("equivalent", [])
    }
    sample: list[Change] = []
    skipped = 0
    for change in everything:
        if len(sample) == options.sample:
            break
        if (Path(change.path).name, *change.lines(texts[change.path])) in equivalent:
            skipped += 1
        else:
            sample.append(change)
    return sample, skipped


def _tried(change: Change, measured: list[Measured], copies: SimpleQueue[Path], options: argparse.Namespace) -> Result:
    """Make the change in a copy, and run what reaches its lines."""
    first, last = change.runs
    reaching = [
        each
        for each in measured
        if each.passed and any(first <= line <= last for line in each.lines.get(change.path, ()))
    ]
    home = HOME.get(change.path.split("/")[2], "tests/core")
    reaching.sort(key=lambda each: (not each.name.startswith(home), -each.part_in(change.path)))
    chosen: list[Measured] = []
    for each in reaching:
        if not chosen or sum(other.seconds for other in [*chosen, each]) <= options.test_seconds:
            chosen.append(each)
    copy = copies.get()
    try:
        result = _run_against(change, chosen, copy)
        if options.verbose or result.ended in ("survived", "never run"):
            print(_described(result, (copy / change.path).read_text()), flush=True)
    finally:
        copies.put(copy)
    return result


def _run_against(change: Change, reaching: list[Measured], copy: Path) -> Result:
    if not reaching:
        return Result(change, "never run")
    path = copy / change.path
    text = path.read_text()
    cached = Path(importlib.util.cache_from_source(str(path)))
    path.write_text(change.applied(text))
    # The bytecode's age is kept in whole seconds: that of the last change could pass for this one's.
    cached.unlink(missing_ok=True)
    limit = 60 + 3 * sum(each.seconds for each in reaching)
    try:
        return _noticed_by(change, [each.name for each in reaching], copy, limit)
    finally:
        path.write_text(text)
        cached.unlink(missing_ok=True)


def _noticed_by(change: Change, names: list[str], copy: Path, limit: float) -> Result:
    """Run tests against a change that has been made. What fails only once, on a busy machine, has noticed nothing."""
    chance: list[str] = []
    while True:
        deselected = [f"--deselect={test}" for test in chance]
        code, output = _run([sys.executable, *PYTEST, "-x", *names, *deselected], copy, limit=limit)
        if code is None:
            return Result(change, "timeout")
        if code == 0:
            return Result(change, "survived", f"(failed by chance: {', '.join(chance)})" if chance else "")
        failed = re.search(r"^FAILED (.+?)(?: - .*)?$", output, re.MULTILINE)
        if failed is None or _run([sys.executable, *PYTEST, failed[1]], copy, limit=limit)[0] != 0:
            return Result(change, "killed", failed[1] if failed else "")
        chance.append(failed[1])


def _run(command: Sequence[str], copy: Path, *, limit: float) -> tuple[int | None, str]:
    """The exit code, None when the time is over, and what was printed; its children end with it."""
    environment = {**os.environ, "PYTHONPATH": f"{copy / 'src'}{os.pathsep}{copy}"}
    process = subprocess.Popen(
        ["nice", *command], cwd=copy, env=environment, text=True, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    _running.add(process.pid)
    try:
        output, _ = process.communicate(timeout=limit)
        return process.returncode, output
    except subprocess.TimeoutExpired:
        return None, ""
    finally:
        _end(process.pid)
        process.wait()
        _running.discard(process.pid)


def _end(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _end_all() -> None:
    for group in list(_running):
        _end(group)


def _described(result: Result, text: str) -> str:
    change = result.change
    changed = difflib.unified_diff(text.splitlines(), change.applied(text).splitlines(), n=0, lineterm="")
    diff = "\n".join(f"    {line}" for line in changed if not line.startswith(("---", "+++", "@@")))
    return f"{result.ended}: {change.path}:{change.line} ({change.kind}) {result.by}\n{diff}"


def _report(results: list[Result], at_least: float) -> int:
    counts: dict[str, int] = dict.fromkeys(("killed", "timeout", "survived", "never run"), 0)
    for result in results:
        counts[result.ended] += 1
    noticed = 100 * (counts["killed"] + counts["timeout"]) / max(1, len(results))
    print(", ".join(f"{count} {name}" for name, count in counts.items()), f"- {noticed:.1f} % noticed")
    return 0 if noticed >= at_least else 1


if __name__ == "__main__":
    sys.exit(main())
