"""The pages about codes and their sample texts, for the tests that make such texts and look for them there."""

from __future__ import annotations

import json
import os
import re
from functools import cache
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"
_BLOCK = re.compile(r"^```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def shape(text: str) -> str:
    """A text without what another run would have otherwise: ids, numbers, addresses and line breaks."""
    text = " ".join(text.split())
    text = re.sub(r"https?://[^\s)]+", "ADDRESS", text)
    return re.sub(r"\b(?=\w*\d)\w(?:[\w.,:-]*\w)?", "N", text)


@cache
def samples(page: str) -> tuple[str, ...]:
    """The sample texts of a page of the docs: of each block of text its parts, which empty lines divide.

    Args:
        page: Its path below docs.
    """
    blocks = _BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))
    return tuple(" ".join(part.split()) for block in blocks for part in re.split(r"\n[ \t]*\n", block.strip("\n")))


def assert_shown(page: str, *texts: str) -> None:
    """Fail where a page does not show a text as a test has just seen it.

    Args:
        page: The path below docs.
        texts: What was seen.
    """
    collected = os.environ.get("COLLECTED")
    if collected:
        with Path(collected).open("a", encoding="utf-8") as file:
            for text in texts:
                file.write(json.dumps([page, " ".join(text.split())]) + "\n")
        return
    shown = {shape(sample) for sample in samples(page)}
    for text in texts:
        assert shape(text) in shown, f"docs/{page} has no block of text that says:\n{text}"
