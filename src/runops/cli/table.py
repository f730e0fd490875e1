"""The table of how several runs ended, in the columns that a terminal has."""

from __future__ import annotations

from runops.cli.output import printable
from runops.cli.signs import Signs, columns
from runops.cli.whole import End, Whole

HEADER = End("run", "outcome", "verdict", "spend", "why")
SHORTEST_ID = 13
SHORTEST_WHY = 12
"""Columns that a reason has at the least, or there is none: it stands above in full."""
GAP = "  "


def table(whole: Whole, signs: Signs, width: int) -> list[str]:
    """A row for each run, or of many runs for those that are no plain success; none where all of those are.

    Args:
        whole: The runs.
        signs: What the terminal can spell.
        width: The columns that it has.
    """
    ends, left_out = whole.ends()
    if not ends:
        return []
    rows = [HEADER, *ends]
    cells = [[printable(text) for text in (row.run_id, row.outcome, row.verdict, row.spend)] for row in rows]
    kept = [column for column in range(4) if column != 3 or any(row[column] for row in cells[1:])]
    widths = {column: max(columns(row[column]) for row in cells) for column in kept}
    # What there is too little room for goes from the middle of the ids first, then from the reasons.
    rest = sum(widths[column] + len(GAP) for column in kept[1:])
    widths[0] = min(widths[0], max(width - rest, SHORTEST_ID))
    left = width - rest - widths[0] - len(GAP)
    reasons = left >= SHORTEST_WHY and any(row.why for row in ends)
    lines: list[str] = []
    for row, texts in zip(rows, cells, strict=True):
        texts[0] = signs.shortened(texts[0], widths[0])
        line = [signs.padded(texts[column], widths[column], right=column == 3) for column in kept]
        why = [signs.beginning(printable(row.why), left)] if reasons else []
        lines.append(signs.fit(GAP.join([*line, *why]).rstrip(), width))
    return [*lines, *([f"... and {left_out:,} more"] if left_out else [])]
