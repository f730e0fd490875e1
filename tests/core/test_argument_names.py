"""A wrong name of an argument is refused before anything is sent, and the message helps."""

from __future__ import annotations

from typing import Any

import pytest

from runops.core import AsyncRunClient, ConfigurationError, RunClient, find
from runops.core.declaration.arguments import check_names, grace

NEXIO = find("nexio")
CANARY = "canary-password"


@pytest.mark.parametrize("kind", [RunClient, AsyncRunClient])
@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("base_ulr", "base_url"),
        ("request_timeuot", "request_timeout"),
        ("requests_per_minut", "requests_per_minute"),
        ("transprot", "transport"),
        ("markruns", "mark_runs"),
    ],
)
def test_a_wrong_setting_names_the_client_and_the_nearest_right_one(kind: Any, wrong: str, right: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        kind(NEXIO, token="k", **{wrong: CANARY})
    assert str(caught.value).startswith(f"{kind.__name__} takes no argument {wrong!r}. Did you mean {right!r}?")
    assert "request_timeout" in str(caught.value)


def test_what_was_given_under_a_wrong_name_stands_in_no_frame() -> None:
    with pytest.raises(ConfigurationError) as caught:
        RunClient(NEXIO, token="k", tokne=CANARY)  # type: ignore[arg-type]
    trace = caught.tb
    while trace is not None:
        if "runops" in trace.tb_frame.f_code.co_filename and "tests" not in trace.tb_frame.f_code.co_filename:
            values = {name: value for name, value in trace.tb_frame.f_locals.items() if name != "self"}
            assert CANARY not in repr(values)
        trace = trace.tb_next
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    ("method", "arguments", "wrong", "right"),
    [
        ("wait", ("ref",), "error_buget", "error_budget"),
        ("wait", ("ref",), "on_updat", "on_update"),
        ("watch", ("ref",), "poll_intervall", "poll_interval"),
        ("submit", ("call",), "adopt_uncertian", "adopt_uncertain"),
        ("submit_again", ("call", None), "submit_grase", "submit_grace"),
        ("find_submitted", ({}, None), "adopt_uncertian", "adopt_uncertain"),
    ],
)
@pytest.mark.parametrize("kind", [RunClient, AsyncRunClient])
def test_a_wrong_argument_of_a_method_names_the_method_and_the_nearest_right_one(
    kind: Any, method: str, arguments: tuple[Any, ...], wrong: str, right: str
) -> None:
    client = kind(NEXIO, token="k")
    ready = {"ref": client.ref("r"), "call": NEXIO.call(engine_slug="e", input={})}
    given = [ready[each] if isinstance(each, str) else each for each in arguments]

    def called() -> None:
        answer = getattr(client, method)(*given, **{wrong: 1})
        if kind is AsyncRunClient and method != "watch":
            answer.send(None)

    with pytest.raises(ConfigurationError) as caught:
        called()
    message = f"{kind.__name__}.{method} takes no argument {wrong!r}. Did you mean {right!r}?"
    assert str(caught.value).startswith(message)


def test_a_name_that_is_near_to_none_gets_the_list_only() -> None:
    with pytest.raises(ConfigurationError, match=r"^make takes no argument 'zzz'\. It takes colour, size\. \[unkn"):
        check_names("make", {"zzz": 1}, ["size", "colour"])
    check_names("make", {"size": 1}, ["size", "colour"])


@pytest.mark.parametrize("wrong", [-1, "long", float("nan"), None, True])
def test_a_grace_is_a_number_of_seconds_of_0_or_more(wrong: object) -> None:
    with pytest.raises(ConfigurationError, match="submit_grace"):
        grace("submit_grace", wrong)
    assert grace("submit_grace", 0) == 0.0
