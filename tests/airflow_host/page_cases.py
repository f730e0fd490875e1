"""The runs that the page is tried with: five services, every phase and outcome, and everything that can hold a wait."""

from __future__ import annotations

USERS = {"admin": "admin", "op": "op", "user": "user", "viewer": "viewer", "olga": "op", "omar": "op"}
"""Airflow's simple auth manager: the name of a user, and the role."""
IMPATIENT = ("olga", "omar")
"""Those who press more often than one person may."""

SENSED: dict[str, tuple[str, ...]] = {
    "nexio": ("queued", "running", "succeeded", "placement", "degraded", "failed", "failed_without_error"),
    "nyx": ("queued", "running", "succeeded", "exhausted", "failed", "error", "cancelled"),
    "onepin": ("queued", "running", "succeeded", "failed", "cancelled", "paused", "pausing"),
    "b3os": ("running", "succeeded", "failed", "failed_message", "cancelled", "waiting", "waiting_then_succeeded"),
    "nekt": ("queued", "running", "succeeded", "failed", "cancelled", "cancelling", "pending_events"),
}
"""Runs that others have started, by the emulator's word for how they go. A DAG run has one sensor for each."""
SENSED_RUNS = 8
"""DAG runs whose failures are softened, so that no worker is needed; one more has plain ones."""
SENSED_SECONDS = 40.0

OPERATED = (
    "cancel_nyx", "cancel_onepin", "cancel_b3os", "cancel_by_keyboard_b3os", "spared_nyx", "worker_onepin",
    "look_nexio",
    "forbidden_b3os",
)  # fmt: skip
"""Tasks that submit a run of their own, which lasts; the last word is the service."""
TURNS = ("turn_one_nyx", "turn_two_nyx")
"""Two tasks on one configuration, which takes one run at a time."""
WAITING = ("sensed_cancel_nyx", "slow_nexio", "limited_nekt", "refused_b3os", "poke_nexio", "reschedule_nyx")
"""Sensors on open runs; the last word is the service."""
PRIVATE = ("nexio", "nyx", "onepin", "b3os", "nekt")
"""A run of each service whose payload is private."""
SET_SIZE = 12
SETS = ("set_operator", "set_sensor")

HOSTILE = {
    "hostile_html": '<img src=x onerror="document.title=\'owned\'"><script>document.title="owned"</script>',
    "hostile_ansi": "\x1b[31mred\x1b[0m \x1b]8;;http://example.org\x07link\x1b]8;;\x07",
    "hostile_direction": "paid \u202e000,1 ton\u202c \u2066hidden\u2069 \u200b0",
    "hostile_long": "A" * 5_000,
}
"""What strangers write into the reason of a failure, by the name of the task."""


def provider_of(task_id: str) -> str:
    """The service of a task, which is the last word of its name."""
    return task_id.rpartition("_")[2]
