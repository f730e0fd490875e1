"""The changes that ``make mutants`` draws from: each is valid code that does something else."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from scripts.mutants.changes import changes_of

ROOT = Path(__file__).resolve().parents[2]
BODY = "def f(a: int = 0, *, b: str = '') -> bool:\n    "


@pytest.mark.parametrize(
    ("line", "changed"),
    [
        ("return a < 3", {"return a <= 3", "return a < 4", "return a < (2)", "return None"}),
        ("return a is not None", {"return a is None", "return None"}),
        ("g(a, b=b)", {"g(a, )", "pass"}),
        ("return not g(a and b)", {"return g(a and b)", "return not g(a or b)", "return None"}),
        ("raise ValueError(a)", {"pass"}),
        ("a['key'] = b + a", {"a['XXkey'] = b + a", "a['key'] = b - a", "pass"}),
        ("x = b if a else True", {"x = b if not (a) else True", "x = b if a else False"}),
        ("'''A docstring says so.'''", set()),
        ("x: dict[str, int]", set()),
        ("é = 'é'; return 1 == é", {f"é = 'é'; return {new}" for new in ("1 != é", "2 == é", "(0) == é", "None")}),
    ],
)
def test_each_change_is_one_step_from_the_code(line: str, changed: set[str]) -> None:
    text = BODY + line + "\n"
    found = [change for change in changes_of("f.py", text) if change.line > 1]
    assert {change.lines(text)[1] for change in found} == changed
    assert {change.lines(text)[0] for change in found} <= {line}


def test_what_is_changed_can_be_compiled_and_differs() -> None:
    path = ROOT / "scripts" / "mutants" / "changes.py"
    text = path.read_text()
    found = changes_of(path.name, text)
    assert len(found) > 100
    unchanged = ast.dump(ast.parse(text))
    for change in found[::10]:
        assert ast.dump(ast.parse(change.applied(text))) != unchanged, change
