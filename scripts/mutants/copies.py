"""A copy of the tree in which one change at a time is made, and the tests that run against it."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.mutants.changes import Change
from scripts.mutants.plugin import CHOSEN
from scripts.mutants.processes import PYTEST, Warm, run

FIRST_SECONDS = 1.0
"""Of CPU for the first tests against a change, which notice most; the next ones may take eight times as long."""


@dataclass(frozen=True)
class Result:
    """How a change ended, and the test that noticed it."""

    change: Change
    ended: str
    by: str = ""


@dataclass(frozen=True)
class Stage:
    """Tests of one folder, those most likely to notice a change first.

    Attributes:
        folder: The folder or the file of tests.
        seconds: The CPU time of each test, in the order in which they run.
    """

    folder: str
    seconds: dict[str, float]

    def batches(self) -> Iterator[list[str]]:
        """The tests in a few runs, since the files of many take long to collect."""
        limit, spent = FIRST_SECONDS, 0.0
        batch: list[str] = []
        for name, seconds in self.seconds.items():
            if batch and spent + seconds > limit:
                yield batch
                batch, spent = [], 0.0
                limit *= 8
            batch.append(name)
            spent += seconds
        if batch:
            yield batch


class Copy:
    """One copy of the tree.

    Args:
        path: Where it stands.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._warm: dict[str, Warm] = {}
        self._pass: set[str] = set()
        """The tests that are known to pass here without a change."""

    def attempt(self, change: Change, stages: Sequence[Stage]) -> Result:
        """Make a change, and run tests until one notices it.

        Args:
            change: The change.
            stages: The tests, by folder.
        """
        if not stages:
            return Result(change, "never run")
        chance: list[str] = []
        for stage in stages:
            for batch in stage.batches():
                ended = self._noticed_by(batch, stage, change, chance)
                if ended is not None:
                    return Result(change, *ended)
        return Result(change, "survived", f"(failed by chance: {', '.join(chance)})" if chance else "")

    def end(self) -> None:
        """End the processes that run tests here."""
        for warm in self._warm.values():
            warm.end()
        self._warm.clear()

    def _noticed_by(self, batch: list[str], stage: Stage, change: Change, chance: list[str]) -> tuple[str, str] | None:
        """What fails only once, on a busy machine, has noticed nothing; nor has what fails without a change."""
        left = batch
        while left:
            with self._made(change):
                code, output = self._run_tests(left, stage, change)
                if code in (0, 5):
                    return None
                hangs = code is None or re.search(r"^Timeout \(", output, re.MULTILINE) is not None
                failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", output, re.MULTILINE)
                named = failed is not None and failed[1] in left and not hangs
                suspects = [failed[1]] if failed is not None and named else left
                again = not named or self._run_tests(suspects, stage, change)[0] not in (0, 5)
            if again and self._passes(suspects, stage):
                return "timeout" if hangs else "killed", failed[1] if failed and not hangs else ""
            chance.append(suspects[0])
            # Those before it have passed.
            left = left[left.index(suspects[-1]) + 1 :]
        return None

    def _passes(self, names: list[str], stage: Stage) -> bool:
        if not self._pass.issuperset(names) and self._run_tests(names, stage, None)[0] in (0, 5):
            self._pass.update(names)
        return self._pass.issuperset(names)

    @contextlib.contextmanager
    def _made(self, change: Change) -> Iterator[None]:
        path = self.path / change.path
        text = path.read_text()
        cached = Path(importlib.util.cache_from_source(str(path)))
        path.write_text(change.applied(text))
        # The bytecode's age is kept in whole seconds: that of the last change could pass for this one's.
        cached.unlink(missing_ok=True)
        try:
            yield
        finally:
            path.write_text(text)
            cached.unlink(missing_ok=True)

    def _run_tests(self, names: list[str], stage: Stage, change: Change | None) -> tuple[int | None, str]:
        chosen = self.path / "chosen"
        chosen.write_text("\n".join(names))
        files = list(dict.fromkeys(name.partition("::")[0] for name in names))
        settings = {CHOSEN: str(chosen)}
        limit = 120 + 5 * sum(stage.seconds[name] for name in names)
        if stage.folder not in self._warm:
            self._warm[stage.folder] = Warm(stage.folder, self.path, settings)
        warm = self._warm[stage.folder]
        if change is not None and _module(change.path) in warm.imported:
            command = [sys.executable, "-m", "pytest", *PYTEST, "-x", *files]
            return run(command, self.path, limit=limit, settings=settings)
        return warm.run([*PYTEST, "-x", *files], limit)


def _module(path: str) -> str:
    return path.removeprefix("src/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")
