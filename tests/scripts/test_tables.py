"""The tables of the documentation say what the declarations say."""

from __future__ import annotations

import re

from runops.core.providers import tables
from scripts.readme_tables import PAGES


def test_every_table_of_the_documentation_is_the_one_that_the_declarations_give() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    found = re.findall(r"<!-- table: (\w+) -->\n(.*?)\n<!-- end -->", text, re.DOTALL)
    assert {name for name, _ in found} == {"verdicts", "states", "keys", "abilities", "details"}
    for name, table in found:
        assert table == tables.markdown(name), f"run: python scripts/readme_tables.py ({name})"
