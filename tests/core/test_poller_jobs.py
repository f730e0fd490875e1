"""The jobs of the poller one by one: what they hand to whom, beside a line and a service that stand in."""

from __future__ import annotations

import asyncio
import json
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_mock import MockerFixture

from runops.core import Outcome, find
from runops.core.model.errors import (
    AnotherRun,
    AnswerError,
    AnswerLost,
    ConnectionFailed,
    MalformedAnswer,
    RunopsError,
    TransientError,
)
from runops.core.polling.lists import FEWEST
from runops.core.polling.reads import PageRead, Question, Reads, Run, Wait
from runops.core.transport.base import AcceptAsync, Answer, accept_any
from runops.core.waiting.steps import Send

NYX = find("nyx")
NEXIO = find("nexio")
NOW = 1_800_000_000.0


class Line:
    """Stands in for the dispatcher, its connections, the session and the waiters: all that is around the jobs."""

    def __init__(self, provider: Any = NYX) -> None:
        self.jobs: list[tuple[str, Any]] = []
        self.handed: list[tuple[Any, ...]] = []
        self.prepared: list[Any] = []
        self.answers: list[Answer | Exception] = []
        self.judged: list[tuple[str, Answer, Any]] = []
        self.checked: list[Any] = []
        self.accepted = 0
        """Answers after which the connection is kept."""
        self.now = NOW
        session = SimpleNamespace(
            provider=provider,
            clock=lambda: self.now,
            prepare=lambda request, trace_id: (request, trace_id),
            judge=self.judge,
            check_async=self.check,
        )
        dispatcher: Any = SimpleNamespace(
            connections=SimpleNamespace(exchange=self.exchange, pool=SimpleNamespace(prepare=self.prepare)),
            add=lambda job: self.jobs.append(("last", job)),
            add_first=lambda job: self.jobs.append(("first", job)),
        )
        waiters: Any = SimpleNamespace(
            observed=lambda run, seen: self.handed.append(("observed", run, seen)),
            failed=lambda run, error: self.handed.append(("failed", run, error)),
            replied=lambda question, reply, error: self.handed.append(("replied", question, reply, error)),
        )
        given: Any = session
        self.reads = Reads(given, dispatcher, waiters)

    def prepare(self, request: Any) -> Any:
        self.prepared.append(request)
        return request

    def judge(self, what: str, answer: Answer, *, absent: Any = None) -> bytes:
        self.judged.append((what, answer, absent))
        if not answer.ok:
            raise AnswerError(f"{what}: {answer.status}", status=answer.status)
        return answer.content

    async def check(self, request: Any, answer: Answer) -> None:
        self.checked.append((request, answer))

    async def exchange(self, prepared: Any, accept: AcceptAsync = accept_any) -> Answer:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        looking = accept(answer)
        if looking is not None:
            await looking
        self.accepted += 1
        return answer

    def run(self, run_id: str = "r1", trace_id: str | None = None) -> Run:
        return Run(self.reads.lists._provider.ref(run_id), self.reads, trace_id)

    def members(self, count: int = FEWEST) -> list[Run]:
        """Runs that share a list, all due and left to it."""
        runs = [self.run(f"r{number}") for number in range(count)]
        for run in runs:
            self.reads.lists.place(run, None)
        assert [self.reads.queue(run) for run in runs] == [True] * count
        return runs


def says(content: Any, status: int = 200, **times: float) -> Answer:
    return Answer(status, {}, content if isinstance(content, bytes) else json.dumps(content).encode(), **times)


def nyx(run_id: str = "r1", status: str = "running", **fields: Any) -> dict[str, Any]:
    return {"run_id": run_id, "status": status, "result": None, "completed_at": None, **fields}


def carry_out(*jobs: Any) -> None:
    async def story() -> None:
        for job in jobs:
            await job.carry_out()

    asyncio.run(story())


def wait_for(run: Run) -> Wait:
    async def make() -> Wait:
        flow: Any = iter(())
        wait = Wait(flow, run, asyncio.get_running_loop().create_future(), 1.0)
        run.waits.append(wait)
        return wait

    return asyncio.run(make())


# --- one run ---


def test_of_a_new_run_and_a_new_wait_nothing_is_known() -> None:
    line = Line()
    wait = wait_for(line.run())
    run = wait.run
    assert (run.is_queued, run.alone, run.took, run.usual_rate) == (False, False, 0.0, 0.0)
    assert (run.batch, run.digest, run.content, run.observation, run.prepared) == (None,) * 5
    assert (wait.asleep, wait.reading, wait.failing, wait.wants_spend, run.wants_spend) == (False,) * 5
    assert (wait.turn, wait.due, wait.rate, wait.shortest) == (0, 0.0, 0.0, 1.0)
    assert (wait.effect, wait.question, wait.observation) == (None,) * 3
    wait.wants_spend = True
    assert run.wants_spend


def test_a_read_hands_on_what_it_says_and_how_long_it_took() -> None:
    line = Line()
    run = line.run(trace_id="trace-7")
    line.answers = [says(nyx(), sent_at=5.0, came_at=7.5)]
    run.is_queued = run.alone = True
    carry_out(run)
    ((how, whose, seen),) = line.handed
    assert (how, whose, seen.snapshot.state) == ("observed", run, "running")
    assert (run.is_queued, run.alone, run.content, run.took) == (False, False, None, 2.5)
    ((request, trace_id),) = line.prepared
    assert (request, trace_id) == (NYX.request(NYX.status, run.ref), "trace-7")
    # From now on it is known which list shows it.
    assert run.batch is not None
    assert run.batch.members == {"r1": run}


def test_the_request_of_a_run_is_made_once_and_a_body_that_says_the_same_is_read_once() -> None:
    line = Line()
    run = line.run()
    line.answers = [says(nyx()), says(nyx()), says(nyx(status="completed", result="success"))]
    carry_out(run, run, run)
    assert len(line.prepared) == 1
    first, second, third = (seen for _, _, seen in line.handed)
    assert second is first
    assert third.snapshot.outcome is Outcome.SUCCEEDED
    assert run.observation is third


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (says(b"not here", status=404), AnswerError),
        (says(nyx("another")), AnotherRun),
        (says(b"<html>"), MalformedAnswer),
        (AnswerLost("lost"), AnswerLost),
        (ValueError("of a transport"), ValueError),
    ],
)
def test_a_read_that_fails_is_handed_to_its_waiters_and_leaves_the_run_ready_for_the_next(
    answer: Answer | Exception, kind: type[Exception]
) -> None:
    line = Line()
    run = line.run()
    run.is_queued = run.alone = True
    line.answers = [answer, says(nyx())]
    carry_out(run)
    ((how, whose, error),) = line.handed
    assert (how, whose, type(error)) == ("failed", run, kind)
    assert line.accepted == (kind is AnswerError)
    assert (run.is_queued, run.alone, run.content, run.batch) == (False, False, None, None)
    carry_out(run)
    assert line.handed[1][0] == "observed"
    if isinstance(answer, Answer) and not answer.ok:
        assert line.judged == [("read of nyx run r1", answer, None)]


@pytest.mark.parametrize(("error", "accepted"), [(RunopsError("odd"), 1), (MalformedAnswer("another's"), 0)])
def test_only_an_answer_that_is_none_about_the_run_costs_its_connection(
    error: Exception, accepted: int, mocker: MockerFixture
) -> None:
    line = Line()
    run = line.run()
    line.answers = [says(nyx())]
    mocker.patch("runops.core.polling.reads.off_loop", side_effect=error)
    carry_out(run)
    assert line.handed == [("failed", run, error)]
    assert line.accepted == accepted


def test_a_run_is_read_only_while_somebody_waits_for_a_read_of_it() -> None:
    line = Line()
    run = line.run()
    run.is_queued = run.alone = True
    assert run.is_due() is False
    assert (run.is_queued, run.alone) == (False, False)
    first, second = wait_for(run), wait_for(run)
    run.is_queued = run.alone = True
    assert run.is_due() is False
    second.reading = True
    run.is_queued = True
    assert run.is_due()
    assert run.is_queued
    second.wake()
    assert (second.reading, second.asleep, second.turn, second.question) == (False, False, 0, None)
    assert run.is_due() is False
    assert not first.reading


def test_a_run_that_is_due_is_left_to_a_list_that_has_become_known() -> None:
    line = Line()
    members = line.members()
    late = line.run("late")
    wait_for(late).reading = True
    assert late.is_due() is False
    assert members[0].batch is not None
    assert members[0].batch.wanting["late"] is late
    late.alone = True
    assert late.is_due()


def test_what_was_waited_for_is_over_when_a_wait_is_woken() -> None:
    line = Line()
    wait = wait_for(line.run())
    effect = Send(NYX.request(NYX.status, wait.run.ref))
    wait.turn, wait.asleep, wait.reading = 5, True, True
    question = wait.question = Question(wait, effect, line.reads)
    assert question.is_due()
    assert not Question(wait, effect, line.reads).is_due()
    wait.wake()
    assert (wait.turn, wait.asleep, wait.reading, wait.question) == (0, False, False, None)
    assert not question.is_due()
    wait.question = question
    wait.done.cancel()
    assert not question.is_due()


# --- a question ---


@pytest.mark.parametrize("read", [None, lambda content: ("read", content)])
def test_the_reply_to_a_question_goes_to_the_flow_that_asks(read: Any) -> None:
    line = Line()
    wait = wait_for(line.run(trace_id="trace-7"))
    request = NYX.request(NYX.status, wait.run.ref)
    question = Question(wait, Send(request, read=read), line.reads)
    answer = says(b"content")
    line.answers = [answer]
    carry_out(question)
    assert line.handed == [("replied", question, b"content" if read is None else ("read", b"content"), None)]
    assert line.prepared == [(request, "trace-7")]
    assert line.judged == [(request.description, answer, request.absent)]
    assert line.checked == [(request, answer)]


def test_an_error_in_the_place_of_a_reply_goes_to_the_flow_that_asks() -> None:
    line = Line()
    wait = wait_for(line.run())
    question = Question(wait, Send(NYX.request(NYX.status, wait.run.ref)), line.reads)
    error = ConnectionFailed("no connection")
    line.answers = [error]
    carry_out(question)
    assert line.handed == [("replied", question, None, error)]


# --- lists ---


def page(*items: dict[str, Any]) -> Answer:
    return says({"runs": list(items)})


def the_page(line: Line) -> PageRead:
    ((place, job),) = line.jobs
    line.jobs.clear()
    assert (place, type(job)) == ("last", PageRead)
    return job


def test_runs_that_share_a_list_put_one_page_in_line_and_all_are_told_what_it_shows() -> None:
    line = Line()
    runs = line.members()
    job = the_page(line)
    assert job.is_due()
    line.answers = [page(*(nyx(f"r{number}") for number in range(FEWEST)))]
    for run in runs:
        run.took = 3.0
    carry_out(job)
    assert [(how, run) for how, run, _ in line.handed] == [("observed", run) for run in runs]
    assert {(run.is_queued, run.took) for run in runs} == {(False, 0.0)}
    assert line.jobs == []
    ((_, trace_id),) = line.prepared
    assert trace_id is None
    ((what, _, absent),) = line.judged
    request = runs[0].batch.request() if runs[0].batch else None
    assert request is not None
    assert (what, absent) == (request.description, request.absent)


def test_runs_that_no_page_shows_are_read_one_by_one() -> None:
    line = Line()
    runs = line.members()
    job = the_page(line)
    line.answers = [page(*(nyx(f"r{number}") for number in range(FEWEST - 2)))]
    carry_out(job)
    assert line.jobs == [("last", runs[-2]), ("last", runs[-1])]
    assert [run.alone for run in runs] == [False] * (FEWEST - 2) + [True] * 2
    # It has paid, and is asked again for the next ones.
    assert line.reads.queue(runs[0])


def test_the_page_after_a_full_one_goes_before_all_others() -> None:
    line = Line()
    line.members(120)
    job = the_page(line)
    line.answers = [page(*(nyx(f"r{number}") for number in range(100)))]
    carry_out(job)
    assert line.jobs == [("first", job)]


def test_a_list_that_answers_few_is_left_alone_afterwards() -> None:
    line = Line()
    runs = line.members()
    job = the_page(line)
    line.answers = [page(nyx("r0"))]
    carry_out(job)
    assert line.reads.queue(runs[0]) is False
    line.now += 61
    runs[0].finish()
    assert line.reads.queue(runs[0])


def failed_page(error: Answer | Exception) -> tuple[Line, list[Run]]:
    line = Line()
    runs = line.members()
    job = the_page(line)
    line.answers = [error]
    carry_out(job)
    return line, runs


@pytest.mark.parametrize("error", [ConnectionFailed("no connection"), says(b"", status=429)])
def test_what_all_runs_of_a_list_would_meet_with_is_handed_to_those_that_are_due(error: Answer | Exception) -> None:
    line, runs = failed_page(error)
    assert [(how, run) for how, run, _ in line.handed] == [("failed", run) for run in runs]
    assert line.jobs == []
    assert not any(run.is_queued or run.alone for run in runs)
    # The list is no worse for it.
    assert line.reads.queue(runs[0])


@pytest.mark.parametrize(
    ("error", "logged"),
    [
        (says(b"", status=404), False),
        (says(b"<html>"), False),
        (TransientError("lost"), False),
        (ValueError("cannot be"), True),
    ],
)
def test_a_list_that_cannot_be_used_leaves_its_runs_to_single_reads_and_only_a_fault_of_ours_is_logged(
    error: Answer | Exception, logged: bool, caplog: pytest.LogCaptureFixture
) -> None:
    line, runs = failed_page(error)
    assert line.handed == []
    assert line.jobs == [("last", run) for run in runs]
    assert all(run.alone for run in runs)
    said = [(record.levelno, record.getMessage(), record.exc_info is not None) for record in caplog.records]
    assert said == [(logging.ERROR, "A list of Nyx runs could not be understood.", True)] * logged
    # It rests.
    runs[0].finish()
    assert line.reads.queue(runs[0]) is False


def test_a_page_that_nobody_waits_for_any_more_is_not_read_and_its_list_is_forgotten() -> None:
    line = Line()
    runs = line.members()
    job = the_page(line)
    for run in runs[1:]:
        line.reads.lists.forget(run)
    assert job.is_due()
    assert runs[0].batch is not None
    # One that is not due is answered by the page too.
    runs[0].batch.wanting.clear()
    assert job.is_due()
    runs[0].batch.wanting.update(runs[0].batch.members)
    runs[0].batch.members.clear()
    assert job.is_due()
    line.reads.lists.forget(runs[0])
    assert list(line.reads.lists.batches) == [()]
    assert job.is_due() is False
    assert line.reads.lists.batches == {}
    assert line.reads.lists.largest is None


def test_a_list_whose_runs_are_gone_when_its_page_comes_is_forgotten() -> None:
    line = Line()
    runs = line.members()
    job = the_page(line)
    line.answers = [page()]
    for run in runs:
        line.reads.lists.forget(run)
    carry_out(job)
    assert line.reads.lists.batches == {}
    assert line.jobs == []
