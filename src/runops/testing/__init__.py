"""The testing kit: a pytest plugin that serves the emulator, scripts runs in a line, and lets waits take no time.

``pip install 'runops[testing]'`` makes two fixtures known to pytest, ``runops_emulator`` and ``runops_runs``; they
stand in :mod:`runops.testing.plugin`. What they give and what helps to assert is here::

    from runops.testing import ends, states

    def test_a_degraded_placement_is_skipped(runops_runs):
        runops_runs.nexio.on_submit("queued", 3600, "degraded")
        run = placements.test(run_conf={"applicant": "Ada"})
        assert states(run) == {"place": "skipped", "report": "skipped"}

Nothing of pytest, of a host or of the emulator is imported before a fixture is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runops.testing.asserting import ends as ends
    from runops.testing.asserting import states as states
    from runops.testing.clock import FakeTime as FakeTime
    from runops.testing.emulated import EmulatedServices as EmulatedServices
    from runops.testing.errors import TestingError as TestingError
    from runops.testing.runs import ProviderRuns as ProviderRuns
    from runops.testing.runs import Runs as Runs
    from runops.testing.runs import Submitted as Submitted

_PLACES = {
    "EmulatedServices": "emulated",
    "FakeTime": "clock",
    "ProviderRuns": "runs",
    "Runs": "runs",
    "Submitted": "runs",
    "TestingError": "errors",
    "ends": "asserting",
    "states": "asserting",
}
__all__ = list(_PLACES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
