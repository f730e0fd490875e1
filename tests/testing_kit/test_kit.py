"""The testing kit as its users have it: what it costs, what it sets, what it scripts and reads, and what it refuses."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from runops.core import AsyncRunClient, PollingError, RunClient, find
from runops.testing import EmulatedServices, FakeTime, Runs, TestingError
from tests.error_pages import assert_shown

HOUR = 3600.0


def client_of(runs: Runs, provider: str, **settings: Any) -> RunClient:
    services = runs.services
    return RunClient(find(provider), token=services.key(provider), base_url=services.base_url(provider), **settings)


def pytest_in(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Another pytest, in a folder and an environment of its own, with the plugin as users have it."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), *arguments],
        cwd=folder, env={**os.environ, **variables}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_loading_the_plugin_imports_nothing_but_pytest() -> None:
    heavy = ("airflow", "dagster", "starlette", "uvicorn", "httpx", "pydantic", "time_machine", "runops.core")
    code = f"import sys, runops.testing.plugin; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class TestTheEnvironment:
    def test_every_service_is_found_by_connection_and_by_variables(self, runops_emulator: EmulatedServices) -> None:
        for name in runops_emulator.providers:
            declared = find(name)
            connection = json.loads(os.environ[f"AIRFLOW_CONN_{name.upper()}_DEFAULT"])
            assert connection["conn_type"] == name
            assert connection["host"] == os.environ[f"{name.upper()}_BASE_URL"] == runops_emulator.base_url(name)
            assert connection["password"] == os.environ[declared.key_variable] == runops_emulator.key(name)

    def test_other_settings_of_a_service_are_taken_away_for_the_test(
        self, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
    ) -> None:
        monkeypatch.setenv("NYX_PROXY", "http://proxy.example.com:3128")
        monkeypatch.setenv("NYX_TOKEN", "a-real-token")
        services = request.getfixturevalue("runops_emulator")
        assert "NYX_PROXY" not in os.environ
        assert os.environ["NYX_TOKEN"] == services.key("nyx")
        assert "127.0.0.1" in os.environ["NO_PROXY"]

    def test_a_client_of_a_real_service_is_refused_before_it_sends(self, runops_emulator: EmulatedServices) -> None:
        with pytest.raises(TestingError, match="would have sent a request to Nexio at api") as refused:
            RunClient(find("nexio"), token="nx_live_1234567890")
        assert "nx_live" not in str(refused.value)
        assert_shown("errors/testing-refused.md", str(refused.value))

    def test_a_connection_of_another_name_leads_to_it_too(self, runops_emulator: EmulatedServices) -> None:
        runops_emulator.connection("nyx_prod", "nyx", key="invalid-1")
        connection = json.loads(os.environ["AIRFLOW_CONN_NYX_PROD"])
        assert (connection["host"], connection["password"]) == (runops_emulator.base_url("nyx"), "invalid-1")

    @pytest.mark.parametrize("number", [1, 2])
    def test_a_test_begins_without_what_another_one_left(self, runops_runs: Runs, number: int) -> None:
        assert runops_runs.services.emulator.runs() == []
        assert runops_runs.nexio.requests() == []
        runops_runs.nexio("run-1", "processing")
        runops_runs.nexio.fail(503, times=None)
        with client_of(runops_runs, "nexio") as client, pytest.raises(Exception, match="503"):
            client.get(client.ref("run-1"))


class TestRuns:
    def test_a_run_goes_as_its_line_says(self, runops_runs: Runs) -> None:
        assert runops_runs.nyx("run-1", "queued", HOUR, "running", "completed", result="exhausted") == "run-1"
        with client_of(runops_runs, "nyx") as client:
            last = client.wait(client.ref("run-1"), poll_interval=300)
        assert (last.outcome, last.state) == ("exhausted", "completed")
        assert last.created_at is not None
        assert last.finished_at is not None
        assert (last.finished_at - last.created_at).total_seconds() == pytest.approx(HOUR + 60, abs=5)
        assert runops_runs.nyx.asked == {"run-1": len(runops_runs.nyx.requests("get"))}

    def test_what_is_submitted_goes_as_was_said_and_is_read(self, runops_runs: Runs) -> None:
        runops_runs.nexio.on_submit("queued", HOUR, "degraded", output={"degradation_reason": "one carrier is down"})
        provider = find("nexio")
        with client_of(runops_runs, "nexio") as client:
            ref = client.submit(provider.call(engine_slug="placement", input={"age": 30}))
            assert client.wait(ref).reason == "one carrier is down"
        (submitted,) = runops_runs.nexio.submitted
        assert (submitted.run_id, submitted.parents) == (ref.run_id, {"engine_slug": "placement"})
        assert submitted.body["input"] == {"age": 30}

    def test_what_was_cancelled_is_read(self, runops_runs: Runs) -> None:
        runops_runs.b3os("run-1", "running")
        with client_of(runops_runs, "b3os") as client:
            client.cancel(client.ref("run-1"))
        assert runops_runs.b3os.cancelled == ["run-1"]
        assert runops_runs.b3os.show("run-1")["status"] == "cancelled"

    def test_a_lost_answer_is_one_line(self, runops_runs: Runs) -> None:
        runops_runs.nexio.fail("reset", on="submit", carried_out=True)
        with client_of(runops_runs, "nexio") as client, pytest.raises(Exception, match="lost"):
            client.submit(find("nexio").call(engine_slug="placement", input={}))
        assert len(runops_runs.nexio.submitted) == 1

    def test_a_key_can_be_revoked(self, runops_runs: Runs) -> None:
        runops_runs.nexio("run-1", "processing")
        runops_runs.nexio.revoke_key()
        with client_of(runops_runs, "nexio") as client, pytest.raises(Exception, match="401"):
            client.get(client.ref("run-1"))

    @pytest.mark.parametrize("provider", ["nexio", "nyx", "onepin", "b3os", "nekt"])
    def test_every_documented_word_can_be_told(self, runops_runs: Runs, provider: str) -> None:
        words = {word for word, _, _ in find(provider).states}
        for word in words:
            runops_runs[provider](f"run-{word}", word)

    @pytest.mark.parametrize(
        ("wrong", "says"),
        [
            (lambda runs: runs.nyx("run-1", "complete"), "no status 'complete'.*Did you mean 'completed'"),
            (lambda runs: runs.nix("run-1"), "No service 'nix' is emulated.*Did you mean 'nyx'"),
            (lambda runs: runs.nyx.fail("rest"), "no fault 'rest'.*Did you mean 'reset'"),
            (lambda runs: runs.nyx.fail(503, on="submits"), "no request 'submits'.*Did you mean 'submit'"),
            (lambda runs: runs.nyx("run-1", script="finds"), "no script 'finds'"),
            (lambda runs: runs.nyx("run-1", "running", script="forever"), "leave the words and fields out"),
            (lambda runs: [runs.nyx("run-1"), runs.nyx("run-1")], "has a run 'run-1' already"),
            (lambda runs: runs.nyx.show("run-9"), "no run 'run-9'"),
        ],
    )
    def test_what_makes_no_sense_is_refused_and_named(self, runops_runs: Runs, wrong: Any, says: str) -> None:
        with pytest.raises((TestingError, AttributeError), match=says):
            wrong(runops_runs)

    def test_a_word_of_no_documentation_is_taken_where_that_is_meant(self, runops_runs: Runs) -> None:
        runops_runs.nyx("run-1", "running", "reviewing", any_word=True)
        runops_runs.time.move(61)
        assert runops_runs.nyx.show("run-1")["status"] == "reviewing"


class TestFakeTime:
    def test_a_wait_of_days_waits_for_nothing_real(self, runops_runs: Runs) -> None:
        runops_runs.nekt("run-1", "running", 3 * 24 * HOUR, "success")
        began = time.process_time()
        with client_of(runops_runs, "nekt") as client:
            last = client.wait(client.ref("run-1"), poll_interval=HOUR)
        assert last.outcome == "succeeded"
        assert 72 <= runops_runs.nekt.asked["run-1"] <= 90
        assert runops_runs.time.passed >= 3 * 24 * HOUR - 60
        assert time.process_time() - began < 10

    def test_retry_after_and_an_error_budget_pass_at_once(self, runops_runs: Runs) -> None:
        runops_runs.nekt("run-1", "running")
        runops_runs.nekt.fail(503, times=None, after=1, retry_after=100)
        with client_of(runops_runs, "nekt") as client, pytest.raises(PollingError):
            client.wait(client.ref("run-1"), error_budget=HOUR)
        assert HOUR - 200 < runops_runs.time.passed < HOUR + 400
        assert len(runops_runs.nekt.requests("get", status=503)) < 60

    def test_waits_of_an_event_loop_pass_too_and_no_request_is_overtaken(self, runops_runs: Runs) -> None:
        for number in range(20):
            runops_runs.nyx(f"run-{number}", "running", HOUR * (1 + number % 3), "completed", result="success")

        async def wait() -> list[str]:
            services = runops_runs.services
            settings: dict[str, Any] = {"token": services.key("nyx"), "base_url": services.base_url("nyx")}
            async with AsyncRunClient(find("nyx"), **settings) as client:
                refs = [client.ref(f"run-{number}") for number in range(20)]
                waits = [client.wait(ref, poll_interval=600.0, timeout=5 * HOUR) for ref in refs]
                return [str(last.outcome) for last in await asyncio.gather(*waits)]

        assert asyncio.run(wait()) == ["succeeded"] * 20
        assert 3 * HOUR - 60 < runops_runs.time.passed < 4 * HOUR
        assert {request["fault"] for request in runops_runs.nyx.requests()} == {None}

    def test_other_loops_and_sleeps_of_others_are_left_alone(self, runops_time: FakeTime) -> None:
        before = time.monotonic()
        time.sleep(0.05)
        assert time.monotonic() - before >= 0.05
        assert runops_time.passed == 0.0

    def test_a_wait_without_end_is_named(self, runops_time: FakeTime) -> None:
        with pytest.raises(TestingError, match="something waits for ever"):
            runops_time.move(401 * 24 * HOUR)

    @pytest.mark.runops_real_time
    def test_a_test_may_wait_for_real(self, runops_runs: Runs) -> None:
        assert runops_runs.time.is_real
        runops_runs.nexio("run-1", "processing", 0.2, "completed")
        before = time.monotonic()
        with client_of(runops_runs, "nexio") as client:
            assert client.wait(client.ref("run-1"), poll_interval=0.1).outcome == "succeeded"
        assert time.monotonic() - before >= 0.15

    def test_time_is_real_again_after_a_test(self) -> None:
        assert abs(time.time() - time.clock_gettime(time.CLOCK_REALTIME)) < 5
        assert time.sleep.__module__ == "time"


@pytest.mark.slow
class TestInAnotherPytest:
    TESTS = """
import time

def test_waits(runops_runs):
    from runops.core import RunClient, find

    services = runops_runs.services
    runops_runs.nexio("run-1", "queued", 7200, "completed")
    with RunClient(find("nexio"), token=services.key("nexio"), base_url=services.base_url("nexio")) as client:
        assert client.wait(client.ref("run-1")).outcome == "succeeded"

def test_port(runops_emulator, tmp_path_factory):
    print("port", runops_emulator.port)
"""

    WITHOUT_FAST = """
import asyncio
from runops.core import AsyncRunClient, find

def test_waits(runops_emulator, runops_runs):
    runops_runs.nexio("run-1", "queued", 3600, "completed")

    async def wait():
        async with AsyncRunClient(find("nexio"), token="k", base_url=runops_emulator.base_url("nexio")) as client:
            return await client.wait(client.ref("run-1"))

    assert asyncio.run(wait()).outcome == "succeeded"
"""

    def test_each_process_of_xdist_serves_its_own(self, tmp_path: Path) -> None:
        (tmp_path / "test_it.py").write_text(self.TESTS * 2 + self.TESTS.replace("def test_", "def test_again_"))
        done = pytest_in(tmp_path, "-n", "2", "-W", "error")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "4 passed" in done.stdout

    def test_it_can_be_switched_off_by_its_name(self, tmp_path: Path) -> None:
        (tmp_path / "test_it.py").write_text("def test_it(runops_runs): ...\n")
        done = pytest_in(tmp_path, "-p", "no:runops")
        assert "fixture 'runops_runs' not found" in done.stdout

    def test_a_missing_extra_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "conftest.py").write_text("import sys\nsys.modules['time_machine'] = None\n")
        (tmp_path / "test_it.py").write_text("def test_it(runops_runs): ...\n")
        done = pytest_in(tmp_path)
        assert "need time-machine: pip install 'runops[testing]'" in done.stdout

    def test_it_needs_no_other_extra_than_its_own(self, tmp_path: Path) -> None:
        (tmp_path / "conftest.py").write_text("import sys\nsys.modules['httptools'] = None\n")
        (tmp_path / "test_it.py").write_text(self.WITHOUT_FAST)
        done = pytest_in(tmp_path, "-W", "error")
        assert "1 passed" in done.stdout, done.stdout + done.stderr

    @pytest.mark.parametrize(("folder", "says"), [("nowhere", "there is no folder")])
    def test_a_wrong_folder_of_dags_is_refused_before_anything_runs(
        self, tmp_path: Path, folder: str, says: str
    ) -> None:
        (tmp_path / "pytest.ini").write_text(f"[pytest]\nrunops_airflow_dags = {folder}\n")
        (tmp_path / "test_it.py").write_text("def test_it(): ...\n")
        done = pytest_in(tmp_path)
        assert done.returncode == 4
        assert says in done.stderr + done.stdout
