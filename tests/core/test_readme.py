"""The README says what the declarations say."""

from __future__ import annotations

import re
from pathlib import Path

from runops.core.providers import tables

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
GOOD_END = (ROOT / "docs" / "how_to" / "good_end.md").read_text()


def test_every_table_of_the_readme_is_the_one_that_the_declarations_give() -> None:
    found = re.findall(r"<!-- table: (\w+) -->\n(.*?)\n<!-- end -->", README + GOOD_END, re.DOTALL)
    assert {name for name, _ in found} == {"verdicts", "states", "keys", "abilities", "details"}
    for name, table in found:
        assert table == tables.markdown(name), f"run: python scripts/readme_tables.py ({name})"
