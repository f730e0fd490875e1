"""``python -m scripts.mutants``: a seeded sample of small changes to the package, and which of them no test notices.

First each folder of tests runs once under coverage.py, in a copy of the tree: that says which test runs which lines,
in its child processes too, and what it costs. The answer is kept in ``build/mutants`` until a file changes. Then each
change of the sample is made in a copy, and the tests that run its lines run against it: those of its own part first,
one case of each test function before a second one, until one fails or ``--test-seconds`` are full. They run in forks of
a process that has imported the hosts. Where no test runs the line, nothing notices.

Changes that no test could notice stand in ``equivalent.toml`` beside this file, with the reason; they do not count.
The exit code is 1 when fewer than ``--at-least`` per cent were noticed.
"""

from __future__ import annotations

import argparse
import difflib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from scripts.mutants.changes import Change, changes_of
from scripts.mutants.copies import Copy, Result, Stage
from scripts.mutants.processes import end_all
from scripts.mutants.reach import SOURCE, Folder, measured

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "build" / "mutants"
EQUIVALENT = Path(__file__).with_name("equivalent.toml")
# The tests of a part, which are the first to run against a change in it; those of the core are for the rest.
HOME = {
    "airflow": "tests/airflow_side",
    "conformance": "tests/conformance",
    "dagster": "tests/dagster_side",
    "emulator": "tests/emulator",
    "testing": "tests/testing_kit",
}
# What help texts and pages are made of is compared with the pages alone.
TESTS = ("tests/core", *HOME.values(), "tests/scripts/test_generated.py")


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
        copies: SimpleQueue[Copy] = SimpleQueue()
        for number in range(options.processes):
            copies.put(Copy(shutil.copytree(tree, Path(folder) / str(number))))
        with ThreadPoolExecutor(options.processes) as pool:
            try:
                return _report(_results(tree, copies, pool, options), options.at_least)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            finally:
                end_all()


def _results(
    tree: Path, copies: SimpleQueue[Copy], pool: ThreadPoolExecutor, options: argparse.Namespace
) -> list[Result]:
    folders = list(pool.map(lambda name: measured(tree, name, KEPT), options.tests))
    sample, skipped = _sample(tree, options)
    print(f"{len(sample)} changes, seed {options.seed}; {skipped} equivalent ones drawn and left out", flush=True)
    return list(pool.map(lambda change: _tried(change, folders, copies, options), sample))


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.mutants", description="Change the package in small ways, and tell what no test notices."
    )
    parser.add_argument("--seed", type=int, default=1, help="which sample is drawn")
    parser.add_argument("--sample", type=int, default=120, help="how many changes")
    parser.add_argument("--only", default=SOURCE, metavar="PATH", help=f"a file or folder below {SOURCE}")
    parser.add_argument("--tests", nargs="+", default=TESTS, metavar="PATH", help="the test files or folders to run")
    parser.add_argument("--test-seconds", type=float, default=300.0, help="of CPU against one change, at the most")
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


def _tried(change: Change, folders: list[Folder], copies: SimpleQueue[Copy], options: argparse.Namespace) -> Result:
    """Make the change in a copy, and run what reaches its lines."""
    home = HOME.get(change.path.split("/")[2], "tests/core")
    left = options.test_seconds
    stages: list[Stage] = []
    for folder in sorted(folders, key=lambda folder: not folder.name.startswith(home)):
        seconds: dict[str, float] = {}
        for test in folder.reaching(change):
            if seconds and folder.seconds[test] > left:
                break
            seconds[test] = folder.seconds[test]
            left -= folder.seconds[test]
        if seconds:
            stages.append(Stage(folder.name, seconds))
    copy = copies.get()
    try:
        result = copy.attempt(change, stages)
        if options.verbose or result.ended in ("survived", "never run"):
            print(_described(result, (copy.path / change.path).read_text()), flush=True)
    finally:
        copies.put(copy)
    return result


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
