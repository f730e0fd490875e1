"""Whether the extra ``page`` is installed in this process. It imports nothing: Airflow asks while it loads plugins."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec


@cache
def installed() -> bool:
    """Whether the page "External runs" can be served, so that what it shows is stored.

    The package ``limits`` is what that extra brings. One process asks once: a package that is installed later counts
    from the next process on.
    """
    return find_spec("limits") is not None
