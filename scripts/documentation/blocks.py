"""The blocks of the documentation's pages, with what the comments above them say. Nothing is run here."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from sybil import Document
from sybil.parsers.markdown.lexers import FencedCodeBlockLexer

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
SKILL = ROOT / "src" / "runops" / ".agents" / "skills" / "runops" / "SKILL.md"
PAGES = [path.relative_to(ROOT).as_posix() for path in (ROOT / "README.md", SKILL, *sorted(DOCS.rglob("*.md")))]
OPTIONS = frozenset({"conf", "runs", "defaults", "ends", "partition", "run_config", "only", "raises"})
"""What a comment may say; docs/project/documentation.md tells what each is."""
_COMMENT = re.compile(r"<!-- block: (?P<text>(?:(?!-->).)*?) -->\s*\Z", re.DOTALL)
_PRINTS = re.compile(r"\s*<!-- prints: (?P<text>.*?) -->")
_SECTION = re.compile(r"^## (.+)$", re.MULTILINE)
_NOT_RUN = re.compile(r"not run, because (?P<reason>\S.*)", re.DOTALL)
_PATH = re.compile(r"# (?P<path>[\w.-]+(?:/[\w.-]+)*\.(?:py|yaml|yml|toml|json|ini|cfg))\n")


@dataclass(frozen=True)
class Block:
    """One fenced block, where it stands and how it is run."""

    page: str
    line: int
    """Of the first line inside the fence, from 1."""
    language: str
    text: str
    options: Mapping[str, Any] = field(default_factory=dict)
    reason: str | None = None
    """Why it is not run."""
    prints: str | None = None
    """What its output holds."""
    section: str = ""
    """The heading of second order that it stands under."""

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def name(self) -> str:
        """Unique, and fit to be the id of a DAG."""
        return f"{re.sub(r'[^a-z0-9]+', '_', self.page.lower().removesuffix('.md'))}_{self.line}"

    @property
    def path(self) -> str | None:
        """The file that the block is, where its first line names one."""
        found = _PATH.match(self.text)
        return found["path"] if found else None

    @property
    def padded(self) -> str:
        """The text at its own lines of the page, so that a traceback names them."""
        return "\n" * (self.line - 1) + self.text


def _said(comment: str, where: str) -> tuple[dict[str, Any], str | None]:
    reason = _NOT_RUN.fullmatch(comment.strip())
    if reason is not None:
        return {}, " ".join(reason["reason"].split())
    try:
        options = json.loads(comment)
    except ValueError as error:
        raise AssertionError(f"{where}: the comment above the block is neither JSON nor a reason: {error}") from None
    unknown = sorted(set(options) - OPTIONS)
    assert not unknown, f"{where}: a block's comment knows no {unknown}; it knows {sorted(OPTIONS)}"
    return options, None


@cache
def blocks_of(page: str) -> tuple[Block, ...]:
    """The blocks of a page of the repository, in their order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    document = Document(text, page)
    found: list[Block] = []
    end = 0
    for region in sorted(FencedCodeBlockLexer(r"[\w-]+")(document), key=lambda each: each.start):
        line = text.count("\n", 0, region.start) + 2
        comment = _COMMENT.search(text, end, region.start)
        options, reason = _said(comment["text"], f"{page}:{line}") if comment else ({}, None)
        prints = _PRINTS.match(text, region.end)
        sections = _SECTION.findall(text, 0, region.start)
        found.append(
            Block(
                page,
                line,
                region.lexemes["language"],
                str(region.lexemes["source"]),
                options,
                reason,
                prints["text"] if prints else None,
                sections[-1] if sections else "",
            )
        )
        end = region.end
    return tuple(found)
