"""What the testing kit refuses: a test that would reach a real service, a word no run can have, a missing extra."""

from __future__ import annotations

import importlib.util

from runops.core.model.codes import Code, Coded

NEEDED = ("starlette", "uvicorn", "time_machine")
"""What the extra brings along beside pytest."""


class TestingError(Coded, Exception):
    """A test asks the kit for something that cannot be, or would reach a real service."""

    error_code = Code.TESTING_REFUSED
    __test__ = False  # pytest takes names that begin so for tests


def require_extra() -> None:
    """Check that what the kit needs is installed.

    Raises:
        TestingError: If it is not; the message names the extra.
    """
    missing = [name.replace("_", "-") for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise TestingError(f"The fixtures of runops need {', '.join(missing)}: pip install 'runops[testing]'.")
