"""Which test runs which line, measured once for each folder of tests and kept until a file changes."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from coverage import CoverageData

from scripts.mutants.changes import Change
from scripts.mutants.plugin import TIMES
from scripts.mutants.processes import PYTEST, run

SOURCE = "src/runops"
MEASURING_SECONDS = 3 * 3600.0


@dataclass(frozen=True)
class Folder:
    """What the tests of one folder run.

    Attributes:
        name: The folder, or a file of tests.
        data: Which test runs which line; lines that run while modules are imported have no test.
        seconds: The CPU time of each test that passed.
        top: Where the tree stood that was measured.
    """

    name: str
    data: CoverageData
    seconds: dict[str, float]
    top: str

    def reaching(self, change: Change) -> list[str]:
        """The tests to run against a change, those most likely to notice it soon first; empty if none reaches it."""
        by_line = self.data.contexts_by_lineno(str(Path(self.top) / change.path))
        first, last = change.runs
        found = {test for line in range(first, last + 1) for test in by_line.get(line, ())}
        reached = found & self.seconds.keys()
        if "" in found:
            # The line runs when its module is imported, for every test. First those that run more of the file.
            about = [test for tests in by_line.values() for test in tests if test in self.seconds]
            words = set(Path(change.path).stem.split("_"))
            named = [test for test in self.seconds if words & set(test.replace("[", "_").replace("]", "_").split("_"))]
            rest = set(self.seconds) - set(about) - set(named) - reached
            return [*self._spread(reached), *self._spread(set(about) - reached),
                    *self._spread(set(named) - set(about) - reached), *self._spread(rest)]  # fmt: skip
        return self._spread(reached)

    def _spread(self, tests: set[str]) -> list[str]:
        """One case of each test function, the shortest first, then a second one of each, and so on."""
        cases: dict[str, int] = {}
        place: dict[str, int] = {}
        for test in sorted(tests, key=lambda test: (self.seconds[test], test)):
            function = test.partition("[")[0]
            place[test] = cases[function] = cases.get(function, -1) + 1
        return sorted(tests, key=lambda test: (place[test], self.seconds[test], test))


def measured(tree: Path, name: str, kept: Path) -> Folder:
    """Run a folder of tests once under coverage.py, or read what is kept of that.

    Args:
        tree: A copy of the tree that nobody changes meanwhile.
        name: The folder, or a file of tests.
        kept: Where results are kept.
    """
    place = kept / name.replace("/", ".")
    digest = _digest(tree, name)
    if not (place / digest / "measured.json").exists():
        shutil.rmtree(place, ignore_errors=True)
        (place / digest).mkdir(parents=True)
        _measure(tree, name, place / digest)
    found = json.loads((place / digest / "measured.json").read_text())
    data = CoverageData(str(place / digest / "lines"))
    data.read()
    for test in found["failed"]:
        print(f"left out, as it fails without a change: {test}")
        del found["seconds"][test]
    return Folder(name, data, found["seconds"], found["top"])


def _digest(tree: Path, name: str) -> str:
    """What the measured lines depend on: the package, and the tests with what they share."""
    place = tree / name
    own = sorted(place.rglob("*.py")) if place.is_dir() else [place]
    shared = [path for path in sorted((tree / "tests").rglob("*.py")) if not path.name.startswith("test_")]
    read = [path.read_bytes() for path in [*sorted((tree / SOURCE).rglob("*.py")), *own, *shared]]
    return hashlib.sha256(b"".join(read)).hexdigest()[:16]


def _measure(tree: Path, name: str, place: Path) -> None:
    settings = place / "coveragerc"
    settings.write_text(
        f"[run]\nsource = {tree / SOURCE}\ndata_file = {place}/part\nparallel = true\npatch = subprocess\n"
    )
    command = [sys.executable, "-m", "coverage", "run", f"--rcfile={settings}", "-m", "pytest", *PYTEST, name]
    code, output = run(command, tree, limit=MEASURING_SECONDS, settings={TIMES: str(place / "times.json")})
    if not (place / "times.json").exists():
        raise RuntimeError(f"{name} could not be measured (exit code {code}):\n{output[-3000:]}")
    data = CoverageData(str(place / "lines"))
    for part in sorted(place.glob("part.*")):
        read = CoverageData(str(part))
        read.read()
        data.update(read)
        read.close()
        part.unlink()
    data.write()
    data.close()
    times = json.loads((place / "times.json").read_text())
    (place / "measured.json").write_text(json.dumps({**times, "top": str(tree)}))
    print(f"measured {name}: {len(times['seconds'])} tests, {sum(times['seconds'].values()):.0f} CPU s", flush=True)
