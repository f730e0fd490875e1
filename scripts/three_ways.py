"""Follows the tutorials and the README's quick starts word for word: ``make three-ways``.

Each goes in an empty folder with a new virtual environment that is active, beside a clone of this repository. Files
that blocks are get written and ``bash`` blocks are executed in the order of the page, by one shell.
docs/project/documentation.md says the rules, docs/project/three_ways.md has the result. It needs a package index, and
port 8642 of this machine.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from scripts.documentation.blocks import ROOT, Block, blocks_of

BUILD = ROOT / "build" / "three_ways"
RESULT = ROOT / "build" / "three_ways.json"
PAGE = ROOT / "docs" / "project" / "three_ways.md"
MOST_COMMANDS = 10
PATIENCE = 900
"""Seconds for one way."""
FOREIGN = ("AIRFLOW", "DAGSTER", "NEXIO", "NYX", "ONEPIN", "B3OS", "NEKT", "PYTHON", "VIRTUAL_ENV", "PYTEST", "RUNOPS")
_TABLE = re.compile(r"(<!-- three ways -->\n).*?(<!-- end -->)", re.DOTALL)
_STEP = "@@ step"


@dataclass(frozen=True)
class Way:
    """A page, or a section of one, that is followed."""

    name: str
    page: str
    section: str | None = None

    @property
    def blocks(self) -> list[Block]:
        """What is written and executed, in its order."""
        return [
            block
            for block in blocks_of(self.page)
            if block.reason is None
            and (block.path or block.language == "bash")
            and self.section in (None, block.section)
        ]

    @property
    def commands(self) -> int:
        """How many commands a reader types."""
        return sum(len(list(commands_of(block.text))) for block in self.blocks if block.language == "bash")


@dataclass(frozen=True)
class Followed:
    """How it went."""

    name: str
    page: str
    commands: int
    seconds: float
    installing: float
    """Seconds of ``pip install``, which depend on the network."""
    problem: str = ""


WAYS = (
    Way("first Airflow task", "docs/tutorials/airflow.md"),
    Way("first Dagster asset", "docs/tutorials/dagster.md"),
    Way("first test of an own DAG", "docs/tutorials/testing.md"),
    Way("quick start for Airflow", "README.md", "Airflow"),
    Way("quick start for Dagster", "README.md", "Dagster"),
)


def commands_of(text: str) -> Iterator[str]:
    """The lines of a block that are commands; one that goes on in the next is one."""
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            yield line.strip()


def script_of(blocks: Sequence[Block], files: Path) -> str:
    """What the shell executes: the blocks as they stand, and before each a line that tells where its output begins."""
    lines = ["set -e", "trap 'jobs -p | xargs -r kill || true' EXIT"]
    for number, block in enumerate(blocks):
        lines.append(f'echo "{_STEP} {number} $(date +%s.%N)"')
        if block.path:
            source = files / f"{number}"
            source.write_text(block.text, encoding="utf-8")
            target = shlex.quote(block.path)
            lines.append(f"mkdir -p $(dirname {target}) && cp {shlex.quote(str(source))} {target}")
        else:
            lines.append(block.text)
    return "\n".join([*lines, f'echo "{_STEP} {len(blocks)} $(date +%s.%N)"', ""])


def follow(way: Way) -> Followed:
    """Follow one page."""
    folder = BUILD / re.sub(r"\W+", "_", way.name)
    files, work = folder / "files", folder / "work"
    for each in (files, work):
        each.mkdir(parents=True)
    venv.create(work / ".venv", with_pip=True)
    subprocess.run(["git", "clone", "--quiet", ROOT, folder / "runops"], check=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    environment |= {
        "PATH": f"{work / '.venv' / 'bin'}:{environment['PATH']}",
        "VIRTUAL_ENV": str(work / ".venv"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "HOME": str(folder),
    }
    log = folder / "log"
    (folder / "script").write_text(script_of(way.blocks, files), encoding="utf-8")
    began = time.monotonic()
    with log.open("w", encoding="utf-8") as output:
        shell = subprocess.Popen(
            ["bash", str(folder / "script")],
            cwd=work, env=environment, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        try:
            code = shell.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            code = -1
        finally:
            for number in (signal.SIGTERM, signal.SIGKILL):
                try:
                    os.killpg(shell.pid, number)
                except ProcessLookupError:
                    break
                time.sleep(1)
    seconds = time.monotonic() - began
    problem, installing = judged(way, log.read_text(encoding="utf-8", errors="replace"), code)
    return Followed(way.name, way.page, way.commands, round(seconds, 1), round(installing, 1), problem)


def judged(way: Way, log: str, code: int) -> tuple[str, float]:
    """What went wrong, and how long ``pip install`` took."""
    parts = re.split(rf"^{_STEP} (\d+) ([\d.]+)\n", log, flags=re.MULTILINE)
    outputs, times = parts[3::3], [float(each) for each in parts[2::3]]
    installing = 0.0
    for block, output, began, ended in zip(way.blocks, outputs, times, times[1:], strict=False):
        if "pip install" in block.text:
            installing += ended - began
        if block.prints is not None and block.prints not in output:
            return f"{block.where} does not print {block.prints!r}", installing
    if code != 0 or len(times) != len(way.blocks) + 1:
        failed = way.blocks[max(len(times) - 1, 0)] if len(times) <= len(way.blocks) else way.blocks[-1]
        return f"{failed.where} ended with code {code}; its output: {log[-1500:]}", installing
    if way.commands >= MOST_COMMANDS:
        return f"{way.page} has {way.commands} commands; there must be fewer than {MOST_COMMANDS}", installing
    return "", installing


def table(ways: Sequence[Followed]) -> str:
    """The result, in Markdown."""
    lines = [
        f"On {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, Python {sys.version.split()[0]}:",
        "",
        "| way in | page | commands | seconds, first command to last result | of which `pip install` |",
        "| --- | --- | --- | --- | --- |",
    ]
    for each in ways:
        link = os.path.relpath(ROOT / each.page, PAGE.parent)
        lines.append(f"| {each.name} | [{each.page}]({link}) | {each.commands} | {each.seconds} | {each.installing} |")
    return "\n".join(lines)


def main(names: Sequence[str]) -> int:
    """Follow the ways whose pages hold one of the words that are given, or all."""
    shutil.rmtree(BUILD, ignore_errors=True)
    BUILD.mkdir(parents=True)
    chosen = [way for way in WAYS if not names or any(name in f"{way.page} {way.name}" for name in names)]
    followed: list[Followed] = []
    for way in chosen:
        followed.append(follow(way))
        print(f"{way.name}: {followed[-1].commands} commands, {followed[-1].seconds} s. {followed[-1].problem}")
    known = {each["name"]: Followed(**each) for each in (json.loads(RESULT.read_text()) if RESULT.is_file() else ())}
    known |= {each.name: each for each in followed}
    RESULT.write_text(json.dumps([asdict(each) for each in known.values()], indent=2) + "\n", encoding="utf-8")
    failed = any(each.problem for each in followed)
    if all(way.name in known and not known[way.name].problem for way in WAYS):
        text = PAGE.read_text(encoding="utf-8")
        rows = table([known[way.name] for way in WAYS])
        PAGE.write_text(_TABLE.sub(lambda found: f"{found[1]}{rows}\n{found[2]}", text), encoding="utf-8")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
