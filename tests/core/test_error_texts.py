"""The texts that docs/errors shows of clients, declarations and the command line are what they raise and write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest

from runops.cli import output, unexpected
from runops.core import RunClient, RunopsError, find
from runops.core.declaration import registry
from runops.core.many import ledger
from runops.core.model.codes import Code
from runops.core.polling import poller
from tests.error_pages import assert_shown

Answer = Callable[[httpx.Request], httpx.Response]
RUN = "11111111-2222-4333-8444-555555555555"


def error_page(code: Code) -> str:
    return f"errors/{code}.md"


def raised_by(answer: Answer, act: Callable[[RunClient], object], provider: str = "nexio") -> str:
    """What a client raises at an answer."""
    client = RunClient(find(provider), token="a-key", transport=httpx.MockTransport(answer), sleep=lambda seconds: None)
    with client, pytest.raises(RunopsError) as raised:
        act(client)
    return str(raised.value)


def get(client: RunClient) -> object:
    return client.get(client.ref(RUN))


def dropped(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadError("", request=request)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (lambda request: httpx.Response(503, json={"error": {"code": "overloaded"}}), Code.SERVER_TROUBLE),
        (lambda request: httpx.Response(200, text="<html>Bad gateway</html>"), Code.MALFORMED_ANSWER),
        (dropped, Code.ANSWER_LOST),
    ],
    ids=lambda value: str(value) if isinstance(value, Code) else "",
)
def test_an_answer_that_is_none(answer: Answer, code: Code) -> None:
    text = raised_by(answer, get)
    assert text.endswith(f" [{code}]")
    assert_shown(error_page(code), text)


def test_an_answer_about_another_run() -> None:
    body = {"run_id": "99999999-2222-4333-8444-555555555555", "status": "processing"}
    text = raised_by(lambda request: httpx.Response(200, json=body), get)
    assert text.endswith(" [another-run]")
    assert_shown(error_page(Code.ANOTHER_RUN), text)


def test_a_run_that_is_in_no_state_for_a_retry() -> None:
    body = {"success": True, "data": {"id": "run-1", "workflowId": "wf-1", "status": "running"}}
    client = find("b3os")
    text = raised_by(
        lambda request: httpx.Response(200, json=body), lambda each: each.retry(client.ref("run-1")), "b3os"
    )
    assert text.endswith(" [wrong-state]")
    assert_shown(error_page(Code.WRONG_STATE), text)


def test_a_look_that_comes_too_late() -> None:
    text = str(poller._too_late())
    assert text.endswith(" [service-unavailable]")
    assert_shown(error_page(Code.SERVICE_UNAVAILABLE), text)


def test_a_declaration_that_cannot_work(monkeypatch: pytest.MonkeyPatch) -> None:
    # Forgotten again when the test is over.
    monkeypatch.setattr(registry, "_made", dict(registry._made))
    with pytest.raises(RunopsError, match=r"\[bad-declaration\]$") as raised:
        replace(find("nexio"), name="Acme Runs")
    assert_shown(error_page(Code.BAD_DECLARATION), str(raised.value))


def test_a_record_that_cannot_be_read() -> None:
    error = ledger._unreadable("page 3", KeyError("rows"))
    assert str(error).endswith(" [record-unreadable]")
    assert_shown(error_page(Code.RECORD_UNREADABLE), str(error))


def test_a_limit_that_lets_looks_come_late(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []

    class Dispatcher(poller.Dispatcher):
        def __init__(self, *given: Any, on_delay: Any, **more: Any) -> None:
            told.append(on_delay)
            super().__init__(*given, on_delay=on_delay, **more)

    async def make() -> None:
        made: Any = poller.Poller(session)
        made._runs = dict.fromkeys(range(2_000))
        told[0](78.4, 12.0)

    monkeypatch.setattr(poller, "Dispatcher", Dispatcher)
    with RunClient(find("nexio"), token="a-key") as client:
        session: Any = client._session
        asyncio.run(make())
    line = next(record.getMessage() for record in caplog.records if "later than planned" in record.getMessage())
    assert line.endswith(" [looks-delayed]")
    assert_shown(error_page(Code.LOOKS_DELAYED), line)
    assert_shown("why/waiting.md", line)


def test_what_the_command_line_writes_when_it_can_go_no_further() -> None:
    text = f"runops: {unexpected.describe(RecursionError('maximum recursion depth exceeded'))}"
    assert text.endswith(" [unexpected-error]")
    assert_shown(error_page(Code.UNEXPECTED_ERROR), text)
    broken = f"runops: {output.OutputError(output._broken(BrokenPipeError()))}"
    assert broken.endswith(" [output-broken]")
    assert_shown(error_page(Code.OUTPUT_BROKEN), broken)
