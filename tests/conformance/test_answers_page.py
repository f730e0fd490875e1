"""docs/reference/answers.md names every field of a file, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from runops.conformance.answers import ROUTES, ReadAs, RecordedAnswer, RecordedRequest
from runops.conformance.check import CHECKS

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "reference" / "answers.md").read_text(encoding="utf-8")
SECTIONS = {"## The answer": RecordedAnswer, "## `request`": RecordedRequest, "## `read_as`": ReadAs}


def named(section: str) -> list[str]:
    """What stands in the first column of a section's table."""
    text = PAGE.partition(f"{section}\n")[2].partition("\n## ")[0]
    return [
        name
        for line in text.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`(\w+)`", line.split("|")[1])
    ]


@pytest.mark.parametrize(("section", "model"), SECTIONS.items())
def test_the_page_names_each_field(section: str, model: type[BaseModel]) -> None:
    fields = [info.alias or name for name, info in model.model_fields.items() if not info.exclude]
    assert named(section) == fields


def test_the_page_names_each_route() -> None:
    line = next(line for line in PAGE.splitlines() if line.startswith("| `route`"))
    assert tuple(re.findall(r"`(\w+)`", line)[1:]) == ROUTES


def test_the_guide_names_each_check() -> None:
    guide = (DOCS / "how_to" / "write_a_provider.md").read_text(encoding="utf-8")
    table = guide.partition("| check | asks |\n")[2].partition("\n\n")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == CHECKS
