"""Answers about another run than the one asked for: malformed in every read, and never the end of a wait."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from runops.core import Outcome, PollingError, Provider, find
from runops.core.model.errors import AnotherRun, AnswerError, MalformedAnswer

WORKFLOW = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
ALL = ("nexio", "nyx", "onepin", "b3os", "nekt")
GOOD = {"nexio": "completed", "nyx": "completed", "onepin": "completed", "b3os": "success", "nekt": "success"}
ACTIVE = {"nexio": "processing", "nyx": "running", "onepin": "running", "b3os": "running", "nekt": "running"}
ID = {"nexio": "run_id", "nyx": "run_id", "onepin": "id", "b3os": "id", "nekt": "id"}


def about(provider: str, run_id: object, status: str | None = None, **fields: Any) -> dict[str, Any]:
    """An answer about a run, over and well unless another status is given."""
    more = {"result": "success"} if provider == "nyx" and status is None else {}
    run = {ID[provider]: run_id, "status": status or GOOD[provider], **more, **fields}
    return {"data": run} if find(provider).envelope else run


class Answering:
    """A service whose answers are queued per kind of request; the last one of a kind stays."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Mapping[str, Any]]] = {}
        self.asked: list[tuple[int, str]] = []
        """The number of the connection, and the request line."""
        self.opened = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def says(self, *answers: Mapping[str, Any], to: str = "") -> None:
        """Answer requests whose line holds ``to`` so."""
        self.answers[to] = list(answers)

    def close(self) -> None:
        self._listener.close()
        for connection in self._open:
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.opened += 1
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection, self.opened), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        try:
            with connection, connection.makefile("rb") as lines:
                while line := lines.readline().decode().strip():
                    length = 0
                    while header := lines.readline().strip():
                        name, _, value = header.partition(b":")
                        length = int(value) if name.lower() == b"content-length" else length
                    lines.read(length)
                    self.asked.append((number, line))
                    connection.sendall(self._answer(line))
        except OSError:
            return

    def _answer(self, line: str) -> bytes:
        fitting = max((kind for kind in self.answers if kind in line), key=len)
        queue = self.answers[fitting]
        content = json.dumps(queue.pop(0) if len(queue) > 1 else queue[0]).encode()
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(content), content)


@pytest.fixture
def service() -> Iterator[Answering]:
    answering = Answering()
    yield answering
    answering.close()


@pytest.fixture
def served_by(service: Answering, runs_of: Callable[..., Any]) -> Callable[[str], Any]:
    """``served_by("nyx")``: the provider's runs at the service, once through each client."""
    return lambda provider: runs_of(provider, base_url=service.url)


# --- single runs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", ALL)
def test_an_answer_about_another_run_is_malformed(
    service: Answering, served_by: Callable[[str], Any], provider: str
) -> None:
    runs = served_by(provider)
    service.says(about(provider, "r-other"))
    with pytest.raises(AnotherRun, match="r-other") as caught:
        runs("get", runs.ref("r-2"))
    assert isinstance(caught.value, MalformedAnswer)


@pytest.mark.parametrize("provider", ALL)
def test_a_wait_goes_on_over_an_answer_about_another_run(
    service: Answering, served_by: Callable[[str], Any], provider: str
) -> None:
    runs = served_by(provider)
    other, ours = about(provider, "r-other"), about(provider, "r-2", ACTIVE[provider])
    failed = about(provider, "r-2", "failure" if provider == "b3os" else "failed")
    service.says(other, ours, other, other, failed)
    assert runs("wait", runs.ref("r-2")).outcome is Outcome.FAILED


@pytest.mark.parametrize("provider", ALL)
def test_a_wait_that_hears_only_of_another_run_ends_by_its_error_budget(
    service: Answering, served_by: Callable[[str], Any], provider: str
) -> None:
    runs = served_by(provider)
    service.says(about(provider, "r-other"))
    with pytest.raises(PollingError, match="about another run"):
        runs("wait", runs.ref("r-2"), error_budget=60)
    assert runs.clock.passed >= 60


@pytest.mark.parametrize("provider", ALL)
def test_a_watch_shows_nothing_of_another_run(
    service: Answering, served_by: Callable[[str], Any], provider: str
) -> None:
    runs = served_by(provider)
    service.says(about(provider, "r-other"), about(provider, "r-2", ACTIVE[provider]), about(provider, "r-2"))
    seen = runs("watch", runs.ref("r-2"))
    assert [snapshot.state for snapshot in seen] == [ACTIVE[provider], GOOD[provider]]


def test_an_unknown_word_of_another_run_that_is_over_does_not_end_the_wait(
    service: Answering, served_by: Callable[[str], Any]
) -> None:
    runs = served_by("nexio")
    strange = about("nexio", "r-other", "vanished", completed_at="2026-01-01T00:00:00Z")
    service.says(strange, about("nexio", "r-2"))
    assert runs("wait", runs.ref("r-2")).outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("provider", ALL)
def test_the_payload_of_another_run_is_not_handed_out(
    service: Answering, served_by: Callable[[str], Any], provider: str
) -> None:
    runs = served_by(provider)
    service.says(about(provider, "r-other", output="theirs"), about(provider, "r-2", output="ours"))
    assert runs("fetch_result", runs.ref("r-2"))["output"] == "ours"
    service.says(about(provider, "r-other", output="theirs"))
    with pytest.raises(AnotherRun):
        runs("fetch_result", runs.ref("r-2"))


@pytest.mark.parametrize("provider", ["nyx", "onepin", "b3os", "nekt"])
def test_a_cancel_counts_no_answer_about_another_run(
    service: Answering, served_by: Callable[[str], Any], provider: str
) -> None:
    runs = served_by(provider)
    other, running = about(provider, "r-other"), about(provider, "r-2", ACTIVE[provider])
    service.says(other, to="GET")
    service.says(about(provider, "r-other", ACTIVE[provider]), to="POST")
    with pytest.raises(AnotherRun):
        # Neither is the cancel known to be done, nor the run to be over.
        runs("cancel", runs.ref("r-2"))
    service.says(running, to="GET")
    service.says(other, running, to="POST")
    runs("cancel", runs.ref("r-2"))
    assert len([line for _, line in service.asked if line.startswith("POST")]) == 4 + 2


def test_what_another_run_failed_of_is_no_reason_of_ours(service: Answering, served_by: Callable[[str], Any]) -> None:
    runs = served_by("b3os")
    nodes = {"swap": {"type": "send", "status": "failure", "result": {"error": "no funds"}}}
    service.says(about("b3os", "r-2", "failure"))
    service.says(about("b3os", "r-other", "failure", executionState=nodes), to="/r-2 HTTP")
    snapshot = runs("wait", runs.ref("r-2"))
    assert (snapshot.outcome, snapshot.reason) == (Outcome.FAILED, None)
    service.says(about("b3os", "r-2", "failure", executionState=nodes), to="/r-2 HTTP")
    assert runs("wait", runs.ref("r-2")).reason == "swap (send): no funds"


def test_a_onepin_answer_about_another_workflow_is_malformed(
    service: Answering, served_by: Callable[[str], Any]
) -> None:
    runs = served_by("onepin")
    service.says(about("onepin", "r-2", workflow_id="0d2b5b3e-0000-4000-8000-000000000001"))
    for action in ("get", "fetch_result"):
        with pytest.raises(AnotherRun, match="another workflow_id"):
            runs(action, runs.ref("r-2"))
    service.says(about("onepin", "r-2", workflow_id=WORKFLOW.upper()))
    assert runs("get", runs.ref("r-2")).outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("provider", ALL)
def test_a_connection_is_not_used_again_after_an_answer_about_another_run(
    service: Answering, served_by: Callable[[str], Any], provider: str
) -> None:
    runs = served_by(provider)
    ref, ours = runs.ref("r-2"), about(provider, "r-2", ACTIVE[provider])
    service.says(ours, ours, about(provider, "r-other"), ours, about(provider, "r-2"))
    assert runs("wait", ref).outcome is Outcome.SUCCEEDED
    assert [number for number, _ in service.asked] == [1, 1, 1, 2, 2]
    service.says(ours)
    service.says(about(provider, "r-other"), to="HTTP/1.1")
    with pytest.raises(AnswerError):
        runs("fetch_result", ref)
    numbers = [number for number, _ in service.asked[5:]]
    assert len(numbers) == len(set(numbers)) == 4


# --- lists -----------------------------------------------------------------------------------------------------


def test_the_newest_run_of_another_parent_is_malformed(service: Answering, served_by: Callable[[str], Any]) -> None:
    from runops.core.waiting import flows

    runs = served_by("nyx")
    listed = about("nyx", "r-2", config_name="nightly")
    service.says(about("nyx", "r-other", config_name="weekly"), listed, listed)

    def newest() -> list[str]:
        with runs.new() as client:
            return [run.ref.run_id for run in client.drive(flows.newest(runs.provider, "nightly"))]

    assert newest() == ["r-2"]
    assert [number for number, _ in service.asked] == [1, 2]
    service.says(about("nyx", "r-other", config_name="weekly"))
    with pytest.raises(AnotherRun, match="another config_name, 'weekly'"):
        newest()


def test_a_list_of_another_parents_runs_is_malformed(service: Answering, served_by: Callable[[str], Any]) -> None:
    runs = served_by("b3os")

    def page(*workflows: str) -> dict[str, Any]:
        items = [about("b3os", f"r-{n}", workflowId=workflow)["data"] for n, workflow in enumerate(workflows)]
        return {"data": {"items": items}}

    service.says(page("wf-other", "wf-other"), page("wf-2", "wf-2", "wf-2"))
    assert len(runs("recent", "wf-2")) == 3
    service.says(page("wf-other"))
    with pytest.raises(AnotherRun, match="another workflow_id"):
        runs("recent", "wf-2")
    service.says(page())
    assert runs("recent", "wf-2") == []


# --- how ids are compared --------------------------------------------------------------------------------------


UUID = "990d0fae-dc17-43af-aaed-ff8b580c17ab"


@pytest.mark.parametrize(
    ("provider", "asked", "answered"),
    [
        *((name, "Run_01H2X", "rUN_01h2x") for name in ALL),
        *((name, "1200", 1200) for name in ALL),
        *((name, UUID, UUID.upper()) for name in ALL),
        *((name, UUID.replace("-", ""), UUID) for name in ("nexio", "onepin", "nekt")),
    ],
)
def test_ids_are_compared_as_the_provider_compares_them(
    service: Answering, served_by: Callable[[str], Any], provider: str, asked: str, answered: object
) -> None:
    runs = served_by(provider)
    service.says(about(provider, answered))
    snapshot = runs("get", runs.ref(asked))
    assert snapshot.outcome is Outcome.SUCCEEDED
    assert snapshot.ref.run_id == asked
    assert runs("fetch_result", runs.ref(asked))


@pytest.mark.parametrize("provider", ALL)
@pytest.mark.parametrize("answered", ["12000", 120, "01200", "1200 0", UUID[:-1] + "c"])
def test_ids_that_only_resemble_each_other_are_two(provider: str, answered: object) -> None:
    declared: Provider = find(provider)
    parents = {"workflow_id": WORKFLOW} if declared.parents else None
    asked = UUID if str(answered).count("-") else "1200"
    with pytest.raises(AnotherRun):
        declared.read(declared.ref(asked, parents), json.dumps(about(provider, answered)).encode())


def test_a_provider_can_say_how_its_ids_are_compared() -> None:
    from dataclasses import replace

    exact = replace(find("nyx"), id_key=str.strip)
    assert find("nyx").same_id("r_A", "r_a")
    assert not exact.same_id("r_A", "r_a")
    with pytest.raises(AnotherRun):
        exact.read(exact.ref("r_A"), json.dumps(about("nyx", "r_a")).encode())


def test_an_answer_that_names_no_run_is_judged_by_whoever_reads_it(
    service: Answering, served_by: Callable[[str], Any]
) -> None:
    runs = served_by("b3os")
    service.says({}, to="POST")
    runs("cancel", runs.ref("r-2"))
    service.says({"data": {"output": "ours"}}, to="GET")
    assert runs("fetch_result", runs.ref("r-2")) == {"output": "ours"}
    with pytest.raises(MalformedAnswer, match="unreadable"):
        runs("get", runs.ref("r-2"))


@pytest.mark.long
@pytest.mark.parametrize("nodes", [1, 10_000], ids=["small", "large"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte order mark"])
def test_another_run_is_known_however_large_the_answer_is(nodes: int, mark: bytes) -> None:
    state = {f"n{n}": {"type": "x", "status": "failure", "result": {"error": "e" * 100}} for n in range(nodes)}
    b3os = find("b3os")
    assert b3os.explain is not None
    request = b3os.request(b3os.explain.route, b3os.ref("r-2"))
    b3os.check(request, mark + json.dumps(about("b3os", "r-2", "failure", executionState=state)).encode())
    with pytest.raises(AnotherRun):
        b3os.check(request, mark + json.dumps(about("b3os", "r-other", "failure", executionState=state)).encode())


@pytest.mark.parametrize("provider", ["b3os", "nekt"])
def test_an_id_that_comes_as_a_number_names_a_run_too(provider: str) -> None:
    declared = find(provider)
    route = declared.cancel or declared.status
    request = declared.request(route, declared.ref("7"))
    declared.check(request, json.dumps(about(provider, 7)).encode())
    with pytest.raises(AnotherRun):
        declared.check(request, json.dumps(about(provider, 8)).encode())
