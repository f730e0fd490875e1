"""The exit codes that are verdicts on runs; apart from the others, because the command line loads no core for those."""

from __future__ import annotations

from runops.cli.codes import COULD_NOT_TELL
from runops.core import Verdict

CODES = {Verdict.SUCCEED: 0, Verdict.WARN: 0, Verdict.FAIL: 1, Verdict.SKIP: 3}
WORST_FIRST = (COULD_NOT_TELL, CODES[Verdict.FAIL], CODES[Verdict.SKIP])
