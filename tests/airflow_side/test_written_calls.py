"""The calls of many runs as they stand in a DAG: what no template mends is refused there, by its place and its code."""

from __future__ import annotations

from typing import Any

import pytest

from runops.airflow.many.calls import check_written
from runops.core import ConfigurationError, find

GOOD: dict[str, Any] = {"workflow_id": "w"}
LATER: dict[str, Any] = {"workflow_id": "{{ ds }}"}


class Output:
    """What another task gives."""

    def resolve(self, context: Any) -> Any:
        """As Airflow asks for it."""


@pytest.mark.parametrize(
    "calls",
    [
        [GOOD], (GOOD, {"workflow_id": "x"}), "{{ calls }}", Output(), [LATER], [LATER, LATER], [Output(), GOOD],
        [GOOD, "{{ call }}"], [{"workflow_id": "w", "payload": {"a": ["{{ ds }}"]}}],
        [{"workflow_id": "w", "payload": {"a": ({"b": Output()},)}}],
    ],
    ids=range(10),
)  # fmt: skip
def test_calls_that_are_right_or_filled_later_are_taken(calls: Any) -> None:
    check_written(find("b3os"), calls)


@pytest.mark.parametrize(
    ("calls", "text", "code"),
    [
        ({"workflow_id": "w"}, "calls must be a list of submissions, not dict", "bad-argument"),
        ([GOOD, LATER, {"payload": {}}], r"^calls\[2\]: .*workflow_id", "bad-argument"),
        ([LATER, 7], r"^calls\[1\]: ", "bad-argument"),
        (
            [GOOD, {**LATER, "paylod": 1}],
            r"^calls\[1\]: .paylod. is no argument of a submit to B3OS: workflow_id, .*\. Did you mean .payload.\?",
            "unknown-name",
        ),
        ([LATER, {"workflow_id": "w", "paylod": 1}], r"^calls\[1\]: .*paylod.*Did you mean 'payload'", "unknown-name"),
    ],
)
def test_calls_that_no_template_mends_are_refused_by_their_place(calls: Any, text: str, code: str) -> None:
    with pytest.raises(ConfigurationError, match=text) as raised:
        check_written(find("b3os"), calls)
    assert raised.value.error_code == code
