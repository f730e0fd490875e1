"""What the asset events of a task say of its external run, beside what a user's own code says in them.

Airflow registers the events of a task's outlets where it succeeds, with the ``extra`` that the worker tells. Each gets
one more key, ``runops``; nothing else of an event is touched, its partitions included.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.sdk import Asset, AssetAlias

from runops.airflow._compat import AssetRef
from runops.core import Provider, RunSnapshot
from runops.core.many.results import ManyResult

KEY = "runops"
"""The key of an event's ``extra``, and of the payload of what a watcher fires."""


def run_in_event(provider: Provider, snapshot: RunSnapshot, verdict: str | None) -> dict[str, Any]:
    """A run, as events name it: JSON primitives, all keys always there.

    :param provider: The run's.
    :param snapshot: Its last snapshot.
    :param verdict: What was decided about it; None where nobody decides.
    """
    spent = provider.spend.of(snapshot.details) if provider.spend else None
    return {
        "provider": snapshot.ref.provider,
        "run_id": snapshot.ref.run_id,
        "url": snapshot.url,
        "outcome": None if snapshot.outcome is None else str(snapshot.outcome),
        "verdict": None if verdict is None else str(verdict),
        "spend": spent,
        "spend_unit": provider.spend.unit if provider.spend else None,
    }


def set_in_event(provider: Provider, result: ManyResult, verdict: str, url: str | None) -> dict[str, Any]:
    """A set of runs, as events name it: the keys of one run, and the counts in place of an id.

    :param provider: The service.
    :param result: How the set ended.
    :param verdict: What was decided about the whole.
    :param url: The page of the run that the task's button opens.
    """
    return {
        "provider": provider.name,
        "run_id": None,
        "url": url,
        "outcome": None,
        "verdict": str(verdict),
        "spend": result["spend"],
        "spend_unit": result["spend_unit"],
        "total": result["total"],
        "outcomes": dict(result["outcomes"]),
        "verdicts": dict(result["verdicts"]),
    }


def name_in_events(context: Mapping[str, Any], run: Mapping[str, Any], log: Any) -> None:
    """Have the asset events of a task name its run. What its own code has put there under the same key stays.

    An outlet that is an alias has the events that the task's code has added by now: those get it.

    :param context: The task's context.
    :param run: What :func:`run_in_event` or :func:`set_in_event` gave.
    :param log: Where it says that an outlet could not be found.
    """
    events = context.get("outlet_events")
    outlets = getattr(context.get("task"), "outlets", None)
    if events is None or not outlets:
        return
    for outlet in outlets:
        try:
            if isinstance(outlet, AssetAlias):
                for event in events[outlet].asset_alias_events:
                    event.extra.setdefault(KEY, dict(run))
            elif isinstance(outlet, (Asset, AssetRef)):
                events[outlet].extra.setdefault(KEY, dict(run))
        except Exception:  # the run has ended, and how its task ends is no business of an event
            log.warning("The asset event of %r does not name the external run.", outlet, exc_info=True)
