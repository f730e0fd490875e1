"""``python -m benchmarks.compare COMMIT``: CPU per poll of a commit and of this tree, in one run, turn by turn."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.waits import ROOT

FIGURES = ("live_cpu_ms_per_poll", "cpu_ms_per_run", "kb_per_wait")


def main() -> None:
    """Measure both trees and print the ratios, new to old."""
    parser = argparse.ArgumentParser(prog="benchmarks.compare", description=__doc__)
    parser.add_argument("commit", help="what to compare with")
    parser.add_argument("names", nargs="*", default=["runops-1000", "runops-5000"], help="scenarios")
    parser.add_argument("--rounds", type=int, default=3, help="how often each tree runs each scenario")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        old = Path(folder) / "old"
        git("worktree", "add", "--detach", str(old), given.commit)
        try:
            for name in given.names:
                compare(name, old, given.rounds)
        finally:
            git("worktree", "remove", "--force", str(old))


def compare(name: str, old: Path, rounds: int) -> None:
    """Print the medians of a scenario in both trees. The trees take turns, so that both meet the same noise."""
    figures: dict[Path, list[dict[str, Any]]] = {old: [], ROOT: []}
    for turn in range(rounds):
        for tree in (old, ROOT) if turn % 2 == 0 else (ROOT, old):
            figures[tree].append(run(name, tree))
    for figure in FIGURES:
        before, after = (median(each[figure] for each in figures[tree]) for tree in (old, ROOT))
        print(f"{name:14} {figure:22} old {before:9.4f}  new {after:9.4f}  ratio {after / before:.3f}", flush=True)


def run(name: str, tree: Path) -> dict[str, Any]:
    """The figures of one round in a tree, by its own benchmark."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures.json"
        command = [sys.executable, "-m", "benchmarks", name, "--json", file, "--python", sys.executable]
        # Before the installed package, which is this tree's.
        environment = {**os.environ, "PYTHONPATH": str(tree / "src")}
        subprocess.run(command, cwd=tree, env=environment, check=True, stdout=subprocess.DEVNULL)
        return json.loads(file.read_text())["results"][0]


def git(*arguments: str) -> None:
    """Run git in this repository."""
    subprocess.run(["git", *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
