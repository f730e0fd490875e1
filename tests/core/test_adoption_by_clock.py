"""A run is taken for ours only where the service's own clock shows that it began since the list before the POST."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from runops.core import RunRef, SubmitUncertainError, find
from runops.core.waiting.intent import Intent
from runops.core.waiting.steps import Ended, Reply, Send, step
from runops.core.waiting.submission import find_submitted

BEFORE, NOW = 1_790_000_000.0, 1_790_000_060.0


def taken(intent: Intent, *, began: float | None, date: float | None) -> RunRef | None:
    """The run that is taken for ours, where the list shows one new run."""
    b3os = find("b3os")
    run: dict[str, Any] = {"id": "run_new", "workflowId": "wf_1", "status": "running"}
    if began is not None:
        run["startedAt"] = datetime.fromtimestamp(began, UTC).isoformat()
    content = json.dumps({"data": {"items": [run]}}).encode()
    flow = find_submitted(b3os, {"workflow_id": "wf_1"}, intent, clock=lambda: NOW, adopt_uncertain=True, grace=0.0)
    reply: Any = None
    while True:
        match step(flow, reply):
            case Send() as effect:
                assert effect.request.path.endswith("/runs")
                reply = Reply(content, date)
            case Ended(ref):
                return ref
            case SubmitUncertainError():
                return None
            case other:
                raise AssertionError(other)


KNOWN = Intent(mark=None, ids_before=frozenset({"run_old"}), clock=BEFORE)


def test_the_single_run_that_began_since_is_taken() -> None:
    ref = taken(KNOWN, began=BEFORE + 5, date=NOW)
    assert ref is not None
    assert ref.run_id == "run_new"


@pytest.mark.parametrize(
    ("intent", "began", "date"),
    [
        pytest.param(KNOWN, BEFORE + 5, None, id="the list has no date"),
        pytest.param(KNOWN, None, NOW, id="the run has no time"),
        pytest.param(Intent(ids_before=frozenset({"run_old"}), clock=None), BEFORE + 5, NOW, id="no clock before"),
        pytest.param(Intent(ids_before=None, clock=BEFORE), BEFORE + 5, NOW, id="no ids before"),
        pytest.param(KNOWN, BEFORE - 5, NOW, id="it began before the list"),
        pytest.param(KNOWN, NOW + 5, NOW, id="it begins after now"),
    ],
)
def test_whatever_is_not_known_for_sure_is_not_taken(intent: Intent, began: float | None, date: float | None) -> None:
    assert taken(intent, began=began, date=date) is None
