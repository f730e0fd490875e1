"""Which sensors end in the triggerer, and how. Data only."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

Kind = Literal["worker", "end", "both"]
SHORT = timedelta(seconds=20)

SENSORS: dict[str, tuple[Kind, str, dict[str, Any]]] = {
    "worker": ("worker", "succeeded", {}),
    "end": ("end", "succeeded", {}),
    "both": ("both", "succeeded", {}),
    "both_skipped": ("both", "exhausted", {}),
    "both_warned": ("both", "exhausted", {"on_outcome": {"exhausted": "warn"}}),
    "both_unmet": ("both", "succeeded", {"expect": {"attempts_completed": "{{ '>= 99' }}"}, "on_unmet": "skip"}),
    "both_soft": ("both", "failed", {"soft_fail": True}),
    "both_failed": ("both", "failed", {"retries": 2}),
    "end_failed": ("end", "failed", {"retries": 2}),
    "both_timed_out": ("both", "forever", {"retries": 1, "execution_timeout": SHORT, "soft_fail": True}),
}
"""By task: where it begins and ends, its run's script, and further arguments."""

SCRIPTS = ("succeeded", "exhausted", "failed", "forever")
MEASURED = "measured"
