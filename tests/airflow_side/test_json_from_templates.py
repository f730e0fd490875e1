"""What a template gives as text where a dict or a list should be: JSON is read, anything else is refused unsent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runops.airflow import (
    B3osRunOperator,
    NexioRunOperator,
    NexioRunsOperator,
    NyxRunOperator,
    RunDiscoverySensor,
    RunOperator,
    RunSensor,
    RunsSensor,
)
from runops.airflow.exceptions import ConfigurationError
from tests.services import CALLS, WORKFLOW

SECRET = "canary-payload-4711"
AS_JSON: dict[str, tuple[Any, str, dict[str, Any], dict[str, Any]]] = {
    "an input": (
        NexioRunOperator,
        "nexio",
        {"engine_slug": "e", "input": '{"a": [1, "b"]}'},
        {"input": {"a": [1, "b"]}},
    ),
    "offerings": (
        NexioRunOperator,
        "nexio",
        {"engine_slug": "e", "input": "{}", "offerings": '[{"n": 1}]'},
        {"input": {}, "offerings": [{"n": 1}]},
    ),
    "a payload": (B3osRunOperator, "b3os", {"workflow_id": "w", "payload": '{"n": null}'}, {"payload": {"n": None}}),
    "a target, hints and more": (
        NyxRunOperator,
        "nyx",
        {**CALLS["nyx"], "target": '{"url": "https://a.example"}', "hints": '["x"]', "extra": '{"model": "m"}'},
        {"target": {"url": "https://a.example"}, "hints": ["x"], "model": "m"},
    ),
    "all arguments": (
        RunOperator,
        "b3os",
        {"provider": "b3os", "arguments": '{"workflow_id": "w", "payload": {"n": 1}}'},
        {"payload": {"n": 1}},
    ),
    "the input of one of many": (
        NexioRunsOperator,
        "nexio",
        {"calls": [{"engine_slug": "e", "input": '{"n": 1}'}]},
        {"input": {"n": 1}},
    ),
}
"""By what is text: class, provider, arguments as a worker has them, what the body of the submit then holds."""


@pytest.mark.parametrize("case", AS_JSON)
def test_json_text_is_sent_as_what_it_says(host: Any, case: str) -> None:
    kind, provider, given, sent = AS_JSON[case]
    ended = host.run(kind(task_id="a_task", deferrable=False, **given))
    assert ended.error is None
    (run,) = host.emulator._chosen(provider, None)
    assert {name: run.submitted[name] for name in sent} == sent


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "a Python dict as text": (
        NexioRunOperator,
        {"engine_slug": "e", "input": f"{{'name': '{SECRET}'}}"},
        "input must be a JSON object (a dict), not a text that is not the JSON of one.",
    ),
    "a list for a dict": (
        B3osRunOperator,
        {"workflow_id": "w", "payload": f'["{SECRET}"]'},
        "payload must be a JSON object (a dict), not a text that is not the JSON of one.",
    ),
    "words for a list": (
        NyxRunOperator,
        {**CALLS["nyx"], "hints": SECRET},
        "hints must be a list of texts, not a text that is not the JSON of one.",
    ),
    "one of many": (
        NexioRunsOperator,
        {"calls": [{"engine_slug": "e", "input": {"a": 1}}, {"engine_slug": "e", "input": "{{ SECRET }}"}]},
        "calls[1]: input must be a JSON object (a dict), not a text that is not the JSON of one.",
    ),
    "all arguments": (
        RunOperator,
        {"provider": "b3os", "arguments": f"{{'payload': '{SECRET}'}}"},
        "arguments must be a JSON object (a dict), not a text that is not the JSON of one.",
    ),
    "a list of calls": (NexioRunsOperator, {"calls": "{{ SECRET }}"}, "calls is a text and no list."),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_text_is_refused_unsent_and_the_error_says_what_to_set_and_nothing_of_the_text(
    host: Any, case: str
) -> None:
    kind, given, text = REFUSED[case]
    task = kind(task_id="a_task", deferrable=False, **given)
    # As Airflow renders it on a worker, into the same attribute.
    for name in ("input", "calls"):
        if "SECRET" in str(getattr(task, name, "")):
            setattr(task, name, json.loads(json.dumps(getattr(task, name)).replace("{{ SECRET }}", SECRET)))
    error = host.run(task).error
    assert type(error) is ConfigurationError
    assert str(error).startswith(text)
    assert "render_template_as_native_obj=True" in str(error)
    assert "| tojson" in str(error)
    assert SECRET not in str(error)
    assert host.emulator.requests() == []


def test_ids_of_an_address_may_be_json_too(host: Any) -> None:
    run = host.made("onepin")
    parents = json.dumps({"workflow_id": WORKFLOW})
    one = RunSensor(task_id="a_task", provider="onepin", run_id=run["run_id"], parents=parents)
    assert host.run(one).error is None
    many = RunsSensor(task_id="a_task", provider="onepin", run_ids=[run["run_id"]], parents=parents, deferrable=False)
    assert host.run(many).error is None
    found = RunDiscoverySensor(task_id="a_task", provider="onepin", parent=parents, deferrable=False)
    assert host.run(found).error is None
