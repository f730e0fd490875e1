"""What a user may not say of a good end: each is refused at once, by its name and with what to write instead."""

from __future__ import annotations

from typing import Any

import pytest

from runops.core import ConfigurationError, Outcome, Phase, find
from runops.core.model.expectation import Expectations
from runops.core.model.states import StateTable

KINDS: Any = {"findings_count": "number", "stage": "text", "preview": "flag"}


@pytest.mark.parametrize(
    ("expect", "says"),
    [
        (["findings_count"], "must be a mapping"),
        ({"findings_count": []}, "empty list"),
        ({"findings_count": "~ 1"}, "begins with no operator"),
        ({"findings_count": ">="}, "compares with nothing"),
        ({"stage": "> 1"}, "orders a detail that is no number"),
        ({"preview": "<= 1"}, "orders a detail that is no number"),
        ({"findings_count": "many"}, "the detail is a number"),
        ({"findings_count": True}, "the detail is a number"),
        ({"findings_count": float("nan")}, "the detail is a number"),
        ({"stage": None}, "the detail is a text"),
        ({"preview": "perhaps"}, "the detail is true or false"),
        ({"preview": 1}, "the detail is true or false"),
        ({"finding_count": 0}, "findings_count"),
    ],
    ids=str,
)
def test_an_expectation_that_cannot_be_judged_is_refused(expect: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        Expectations.build(expect, KINDS, title="Nyx")


@pytest.mark.parametrize(
    ("states", "says"),
    [
        (["partial"], "must be a mapping"),
        ({7: "degraded"}, "write it as a text"),
        ({"completed": "failed"}, "means"),
        ({"partial": "half"}, "half"),
        ({"partial": "degraded", " PARTIAL ": "failed"}, "partial"),
    ],
    ids=str,
)
def test_a_word_that_cannot_be_taught_is_refused(states: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        find("nexio").states.with_words(states)


def test_a_word_that_needs_its_second_field_says_so() -> None:
    with pytest.raises(ConfigurationError, match=r"teach what came beside it, as in 'completed\+WORD'"):
        find("nyx").states.with_words({"completed": "degraded"})


def test_a_new_status_and_a_new_second_field_may_be_taught_together() -> None:
    nyx = find("nyx").states.with_words({"held+stuck": "failed", "completed+partial": "degraded"})
    assert nyx.read("completed", "partial").meaning is Outcome.DEGRADED
    assert nyx.read("completed", "success").meaning is Outcome.SUCCEEDED
    assert nyx.read("held", "stuck").meaning is Outcome.FAILED
    assert not nyx.read("held", "otherwise").known


def test_a_plus_is_a_letter_where_no_second_field_decides() -> None:
    table = StateTable({"on": Phase.RUNNING, "done": Outcome.SUCCEEDED, "broken": Outcome.FAILED})
    assert table.with_words({"done+": "degraded"}).read("done+").meaning is Outcome.DEGRADED
