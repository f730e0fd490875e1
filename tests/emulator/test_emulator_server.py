"""The emulator as a process and as a background thread."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

import runops
from runops.emulator import create_app
from runops.emulator.runs import ScriptError
from runops.emulator.server import MISSING_EXTRA, main, running
from runops.emulator.services.nyx import NyxApi

SOURCES = str(Path(runops.__file__).parents[1])

PROMPT = 30.0
"""Seconds in which an end comes, on a busy machine; the answers here would take a minute."""


@contextmanager
def process(*arguments: str, path: str = "") -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (SOURCES, path)))}
    command = [sys.executable, "-W", "error", "-m", "runops.emulator", "--port", "0", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment) as child:
        try:
            yield child
        finally:
            child.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_process_says_where_it_listens_and_stops_at_once_when_told(number) -> None:
    with process("--seed", "5", "--seconds", "1") as child:
        assert child.stdout is not None
        line = json.loads(child.stdout.readline())
        assert line == {
            "event": "listening",
            "host": "127.0.0.1",
            "port": line["port"],
            "url": f"http://127.0.0.1:{line['port']}",
        }
        httpx.post(f"{line['url']}/_control/faults", json={"kind": "delay", "seconds": 60, "count": None})
        slow = socket.create_connection(("127.0.0.1", line["port"]))
        with slow:
            slow.sendall(b"GET /nexio/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            while not httpx.get(f"{line['url']}/_control/requests").json()["count"]:
                pass
            told = time.monotonic()
            child.send_signal(number)
            rest, errors = child.communicate(timeout=60)
        assert time.monotonic() - told < PROMPT
    assert (child.returncode, rest, errors) == (0, "", "")


def test_an_answer_tells_the_service_s_time_once_and_not_what_serves_it() -> None:
    with process() as child:
        assert child.stdout is not None
        url = json.loads(child.stdout.readline())["url"]
        answer = httpx.get(f"{url}/nexio/api/v1/runs/none", headers={"authorization": "Bearer k"})
    assert "server" not in answer.headers
    assert len(answer.headers.get_list("date")) == 1


def test_the_same_seed_gives_two_processes_the_same_ids() -> None:
    made = []
    for _ in range(2):
        with process("--seed", "5") as child:
            assert child.stdout is not None
            url = json.loads(child.stdout.readline())["url"]
            answers = [httpx.post(f"{url}/_control/runs", json={"provider": "nyx"}).json() for _ in range(3)]
            made.append([answer["run_id"] for answer in answers])
            child.terminate()
            child.communicate(timeout=60)
    assert made[0] == made[1]


ACME = """
from runops.emulator.services.nexio import NexioApi

class AcmeApi(NexioApi):
    name = "acme"
    state_field = "stage"
    over = frozenset({"DONE"})
"""


def test_a_service_from_elsewhere_is_served_beside_the_five(tmp_path) -> None:
    (tmp_path / "acme_emulated.py").write_text(ACME)
    with process("--api", "acme_emulated:AcmeApi", path=os.fspath(tmp_path)) as child:
        assert child.stdout is not None
        url = json.loads(child.stdout.readline())["url"]
        assert [*httpx.get(url).json()["providers"]] == ["b3os", "nekt", "nexio", "nyx", "onepin", "acme"]
        script = [{"set": {"stage": "DONE"}}]
        made = httpx.post(f"{url}/_control/runs", json={"provider": "acme", "script": script}).json()
        page = httpx.get(f"{url}/acme/api/v1/runs/{made['run_id']}", headers={"authorization": "Bearer k"})
        assert page.json()["stage"] == "DONE"
        (run,) = httpx.get(f"{url}/_control/runs").json()["runs"]
        assert (run["status"], run["over"]) == ("DONE", True)
        child.terminate()
        assert child.communicate(timeout=10) == ("", "")


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("acme", "is no import path such as acme.emulated:AcmeApi"),
        ("runops_no_such_module:AcmeApi", "cannot be imported: No module named"),
        ("runops.emulator.runs:Run", "is no subclass of runops.emulator.api.Api"),
        ("runops.emulator.services.nyx:Nothing", "is no subclass of runops.emulator.api.Api"),
        ("runops.emulator.services.nyx:NyxApi", "two APIs are called 'nyx'"),
    ],
)
def test_what_is_no_service_is_refused_with_one_line(path, problem, capsys) -> None:
    assert main(["--port", "0", "--api", path]) == 2
    captured = capsys.readouterr()
    assert problem in captured.err
    assert (captured.out, captured.err.count("\n")) == ("", 1)


def test_only_the_services_that_are_handed_in_are_served() -> None:
    with running(apis=[NyxApi]) as server:
        assert [*httpx.get(server.url).json()["providers"]] == ["nyx"]
        assert server.emulator.create_run("nyx")
        with pytest.raises(ScriptError, match=r"unknown provider 'nexio'; allowed: \['nyx'\]"):
            server.emulator.create_run("nexio")


def test_a_taken_port_is_said_and_not_traced(capsys) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["--port", str(taken.getsockname()[1])]) == 4
    captured = capsys.readouterr()
    assert "in use" in captured.err
    assert captured.out == ""


def test_a_missing_extra_is_named(monkeypatch, capsys) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvicorn" else found(name))
    assert main(["--port", "0"]) == 2
    assert "pip install 'runops[emulator]'" in capsys.readouterr().err
    with pytest.raises(ImportError, match="emulator"):
        create_app()
    with pytest.raises(ImportError, match="emulator"), running():
        pass
    assert "starlette" in MISSING_EXTRA


def test_the_context_leaves_no_thread_and_no_listener() -> None:
    before = threading.active_count()
    with running() as server, httpx.Client() as client:
        assert client.get(server.url).status_code == 200
        url = server.url
    assert threading.active_count() == before
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


def test_the_context_ends_fast_while_an_answer_is_still_dripping() -> None:
    with running() as server, socket.create_connection((server.host, server.port)) as slow:
        server.emulator.add_fault(kind="drip", bytes_per_second=0.1)
        slow.sendall(b"GET /nexio/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert slow.recv(1)
        told = time.monotonic()
    assert time.monotonic() - told < PROMPT


def test_two_servers_do_not_share_anything() -> None:
    with running(seed=1) as first, running(seed=1) as second:
        assert first.port != second.port
        run_id = first.emulator.create_run("nexio")
        assert second.emulator.runs() == []
        assert second.emulator.create_run("nexio") == run_id


def test_a_few_hundred_requests_take_a_second_at_most(call, emulator) -> None:
    run_id = emulator.create_run("nexio", script="running")
    # The server is a thread of this process, and others may be busy too.
    began = time.process_time()
    for _ in range(300):
        call.read("nexio", run_id)
    assert time.process_time() - began < 3


def test_the_emulator_imports_nothing_of_what_reads_it() -> None:
    program = (
        "import json, sys, runops.emulator.server, runops.emulator.app\n"
        "roots = ('runops', 'httpx', 'airflow', 'dagster')\n"
        "print(json.dumps([name for name in sys.modules if name.split('.')[0] in roots]))"
    )
    environment = {**os.environ, "PYTHONPATH": SOURCES}
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    ).stdout
    modules = json.loads(output)
    assert {name.split(".")[1] for name in modules if "." in name} == {"emulator"}
    assert {name.split(".")[0] for name in modules} == {"runops"}


def test_the_server_module_needs_neither_starlette_nor_uvicorn_to_be_imported() -> None:
    program = "import sys, runops.emulator.server; print({'starlette', 'uvicorn'} & set(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": SOURCES}
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    ).stdout
    assert output.strip() == "set()"
