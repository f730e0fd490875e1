"""``airflow tasks render`` shows what would be sent; where Airflow would store it, it is hidden as ever."""

from __future__ import annotations

from typing import Any

import pytest

from runops.airflow import NexioRunOperator, NexioRunsOperator, NyxRunOperator, task_base
from tests.services import CALLS

PAYLOADS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "one": (lambda: NexioRunOperator(task_id="t", engine_slug="e", input={"n": "{{ n }}"}), ("input", "offerings")),
    "nyx": (lambda: NyxRunOperator(task_id="t", **CALLS["nyx"]), ("target", "objective", "hints", "extra")),
    "many": (
        lambda: NexioRunsOperator(task_id="t", calls=[{"engine_slug": "e", "input": {"n": "{{ n }}"}}]),
        ("calls",),
    ),
}


@pytest.mark.parametrize("case", PAYLOADS)
@pytest.mark.parametrize("supervised", [False, True])
def test_a_payload_shows_where_nothing_can_be_stored_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, case: str, supervised: bool
) -> None:
    make, fields = PAYLOADS[case]
    monkeypatch.setattr(task_base, "supervisor", lambda: object() if supervised else None)
    task = make()
    task.render_template_fields({"n": "canary"})
    assert [field in task.template_fields for field in fields] == [not supervised] * len(fields)
    if case != "nyx":
        assert "canary" in str([getattr(task, field) for field in fields])
