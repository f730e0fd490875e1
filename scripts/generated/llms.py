"""``docs/llms.txt``: every page with its title and what it is about, for language models (llmstxt.org)."""

from __future__ import annotations

import os.path
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
SECTIONS = {
    "": "Overview",
    "tutorials": "First steps",
    "how_to": "How to",
    "why": "Why a task ended as it did",
    "reference": "Reference",
    "project": "The project",
    "reference/api": "API reference",
    "errors": "Optional",
}
"""Folders of pages, in the order in which they are read. What stands under Optional may be left out (llmstxt.org)."""
INTRODUCTION = """\
A provider's word for the state of a run means a phase (it goes on) or an outcome (it is over); an outcome gets a
verdict: succeed, warn, skip or fail. The same rules hold on Airflow, on Dagster, in the clients and at the command line
`runops`. A skill for coding agents comes with the package: `runops/.agents/skills/runops/SKILL.md`."""
_INCLUDE = re.compile(r"^```\{include\} (\S+)\n```$", re.MULTILINE)


def index() -> str:
    """The file."""
    title, summary = _about(ROOT / "README.md")
    parts = [f"# {title}", f"> {summary}", INTRODUCTION]
    for folder, name in SECTIONS.items():
        lines = list(_lines(DOCS / folder))
        if lines:
            parts.append("\n".join([f"## {name}", "", *lines]))
    return "\n\n".join(parts) + "\n"


def _lines(folder: Path) -> Iterator[str]:
    for path in sorted(folder.glob("*.md")):
        # A list of pages says nothing that this one does not.
        if path.name == "index.md":
            continue
        title, summary = _about(path)
        note = f": {summary}" if summary else ""
        yield f"- [{title}]({path.relative_to(DOCS).as_posix()}){note}"


def _about(path: Path) -> tuple[str, str]:
    """The title of a page, and the first sentences of its first paragraph."""
    text = path.read_text(encoding="utf-8")
    included = _INCLUDE.search(text)
    if included:
        text = Path(os.path.normpath(path.parent / included[1])).read_text(encoding="utf-8")
    text = re.sub(r"<!--.*?-->\n?", "", text, flags=re.DOTALL)
    text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    found = re.search(r"^# (.+)$", text, re.MULTILINE)
    assert found is not None, f"{path} has no title"
    for paragraph in text[found.end() :].split("\n\n"):
        plain = " ".join(_plain(paragraph).split())
        if plain and not re.match(r"[#|>:!-]|\d+\. ", plain):
            return _plain(found[1]), _short(plain)
    return _plain(found[1]), ""


def _plain(text: str) -> str:
    """Without pictures, links and emphasis."""
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return text.replace("**", "").replace("`", "")


def _short(text: str, most: int = 200) -> str:
    """As many whole sentences as fit; the first one at least."""
    kept = ""
    for sentence in re.split(r"(?<=[.!?:]) (?=[A-Z])", text):
        if kept and len(kept) + len(sentence) > most:
            break
        kept = f"{kept} {sentence}".strip()
    return kept.rstrip(":")
