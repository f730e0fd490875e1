"""A provider that runops does not know, declared here alone, on every side: clients, command line, Airflow, Dagster.

Acme spells its words in capitals, names the new run ``job_id`` and the word ``state``, cancels by DELETE, and turns its
lists by a cursor.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import Field

from runops.airflow import RunHook, RunOperator
from runops.airflow.exceptions import AuthError, RunFailed
from runops.airflow.exceptions import ConfigurationError as Refused
from runops.cli import main
from runops.core import AsyncRunClient, ConfigurationError, Outcome, Phase, Provider, RunClient, StateTable, find
from runops.core.declaration import AuthScheme, Call, Listing, Route, RunBody, Submission, Text
from runops.core.model.cadence import Cadence
from runops.core.waiting.discovery import listed

ME = f"{__name__}:ACME"
KEY = "canary-acme-key"


class AcmeJob(RunBody):
    """A job of Acme."""

    DETAILS = ("plant",)

    run_id: str = Field(min_length=1, validation_alias="job_id")
    status: str = Field(min_length=1, validation_alias="state")
    plant: Text = None


def start(*, plant: str, amount: int = 1) -> Call:
    """A job at a plant.

    Args:
        plant: The plant.
        amount: How many.
    """
    return Call("acme_plants", JOBS.fill({"plant": plant}), {"amount": int(amount)}, parent={"plant": plant})


JOBS = Route("POST", "/v3/plants/{plant}/jobs")
ACME = Provider(
    name="acme_plants",
    title="Acme",
    docs="https://docs.acme.test",
    base_url="https://api.acme.test",
    version_path="/v3",
    auth=AuthScheme("X-Acme-Key"),
    key_variable="ACME_KEY",
    body=AcmeJob,
    envelope=("answer", "job"),
    states=StateTable(
        {
            "QUEUED": Phase.QUEUED,
            "ACTIVE": Phase.RUNNING,
            "DONE": Outcome.SUCCEEDED,
            "BROKEN": Outcome.FAILED,
            "STOPPED": Outcome.CANCELLED,
        }
    ),
    status=Route("GET", "/v3/jobs/{run_id}"),
    submit=Submission(start, run_id=("job_id",)),
    cancel=Route("DELETE", "/v3/jobs/{run_id}"),
    listing=Listing(
        Route("GET", "/v3/plants/{plant}/jobs"),
        items=("jobs",),
        parent_kinds=("plant",),
        paging="cursor",
        parameter="after",
        next=("next_cursor",),
        parent_detail="plant",
    ),
    probe=Route("GET", "/v3/me"),
    cadence=Cadence(first=0.02, factor=1, ceiling=0.02),
    link="https://acme.test/{plant}/{run_id}",
)


def with_queue(*, queue: str) -> Call:
    """A job whose argument is called like one of Airflow's."""
    return Call("queued", f"/v3/{queue}")


def with_wait(*, wait: str) -> Call:
    """A job whose argument is called like an option of the command line."""
    return Call("waited", f"/v3/{wait}")


def variant(name: str, build: Any) -> Provider:
    """Acme under another name, with another submit."""
    return replace(ACME, name=name, submit=Submission(build, run_id=("job_id",)), listing=None)


QUEUED = variant("queued", with_queue)
WAITED = variant("waited", with_wait)


@dataclass
class Service:
    """What Acme has: the words that each job goes through, read by read."""

    root: str = ""
    jobs: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    script: tuple[str, ...] = ("QUEUED", "ACTIVE", "DONE")
    seen: list[str] = field(default_factory=list[str])

    def answer(self, method: str, target: str) -> tuple[int, Any]:
        """The answer to a request."""
        self.seen.append(f"{method} {target}")
        url = urlsplit(target)
        match method, url.path.split("/")[2:]:
            case "GET", ["me"]:
                return 200, {}
            case "POST", ["plants", _, "jobs"]:
                job_id = f"J-{len(self.jobs) + 1}"
                self.jobs[job_id] = list(self.script)
                return 201, {"job_id": job_id}
            case "GET", ["plants", _, "jobs"]:
                return 200, self.page(int(parse_qs(url.query).get("after", ["0"])[0]))
            case "GET", ["jobs", job_id] if job_id in self.jobs:
                words = self.jobs[job_id]
                state = words.pop(0) if len(words) > 1 else words[0]
                return 200, {"answer": {"job": self.shown(job_id, state)}}
            case "DELETE", ["jobs", job_id] if job_id in self.jobs:
                self.jobs[job_id] = ["STOPPED"]
                return 202, {}
            case _:
                return 404, {"message": "nothing here"}

    def page(self, after: int) -> dict[str, Any]:
        """Two jobs, the newest first."""
        newest = list(reversed(self.jobs))
        more = after + 2 < len(newest)
        shown = [self.shown(job_id, self.jobs[job_id][0]) for job_id in newest[after : after + 2]]
        return {"jobs": shown, "next_cursor": str(after + 2) if more else None}

    def shown(self, job_id: str, state: str) -> dict[str, Any]:
        """A job."""
        return {"job_id": job_id, "state": state, "plant": "north"}


@pytest.fixture
def acme(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    service = Service()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def respond(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, body = service.answer(self.command, self.path)
            if self.headers.get("X-Acme-Key") != KEY:
                status, body = 401, {"message": "no key"}
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = respond  # noqa: N815 - the names that http.server calls

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    service.root = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("ACME_KEY", KEY)
    monkeypatch.setenv("ACME_PLANTS_BASE_URL", service.root)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield service
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_client_submits_waits_cancels_and_lists(acme: Service) -> None:
    with RunClient(find(ME), token=KEY, base_url=acme.root) as client:
        ref = client.submit(ACME.call(plant="north"))
        last = client.wait(ref)
        assert (ref.run_id, last.state, last.outcome, last.url) == (
            "J-1",
            "DONE",
            Outcome.SUCCEEDED,
            "https://acme.test/north/J-1",
        )
        acme.script = ("ACTIVE",)
        second = client.submit(ACME.call(plant="north"))
        assert client.get(second).phase is Phase.RUNNING
        client.cancel(second)
        assert client.wait(second).outcome is Outcome.CANCELLED
        for _ in range(3):
            client.submit(ACME.call(plant="north"))
        assert [run.ref.run_id for run in client.recent("north")] == ["J-5", "J-4"]
        found = client.drive(listed(ACME, {"plant": "north"}, since=0.0))
    assert ([run.ref.run_id for run in found.runs], found.whole) == (["J-5", "J-4", "J-3", "J-2", "J-1"], True)
    assert find(ref.provider) is ACME


def test_the_asyncio_client_submits_waits_cancels_and_lists(acme: Service) -> None:
    async def work() -> None:
        async with AsyncRunClient(ACME, token=KEY, base_url=acme.root) as client:
            refs = [await client.submit(ACME.call(plant="north")) for _ in range(15)]
            ends = await asyncio.gather(*(client.wait(ref) for ref in refs))
            assert {end.outcome for end in ends} == {Outcome.SUCCEEDED}
            acme.script = ("ACTIVE",)
            last = await client.submit(ACME.call(plant="north"))
            await client.cancel(last)
            assert (await client.wait(last)).outcome is Outcome.CANCELLED
            assert [run.ref.run_id for run in await client.recent("north")] == ["J-16", "J-15"]

    asyncio.run(work())


def test_the_command_line_finds_it_by_its_import_path(acme: Service, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", ME, "--plant", "north", "--amount", "3", "--wait", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "DONE"
    assert main(["get", "acme_plants", "J-1", "--json"]) == 0
    assert main(["cancel", ME, "J-1"]) == 0
    assert main(["watch", ME, "J-1"]) == 1
    assert main(["states", ME]) == 0
    assert "BROKEN" in capsys.readouterr().out
    assert main(["submit", f"{__name__}:WAITED", "--help"]) == 2
    assert "called like the option --wait" in capsys.readouterr().err


def test_an_operator_of_airflow_runs_it_over_a_connection_of_type_runops(
    host: Any, connect: Any, acme: Service
) -> None:
    connect("acme_plants_default", "runops", host=acme.root, password=KEY, extra={"provider": ME})
    task = RunOperator(task_id="job", provider=ME, arguments={"plant": "north"})
    result = host.run(task).result
    assert (result["provider"], result["state"], result["verdict"]) == ("acme_plants", "DONE", "succeed")
    acme.script = ("ACTIVE", "BROKEN")
    assert isinstance(
        host.run(RunOperator(task_id="job", provider="acme_plants", arguments={"plant": "n"})).error, RunFailed
    )


def test_a_deferred_operator_waits_for_it_in_the_triggerer(host: Any, connect: Any, acme: Service) -> None:
    connect("acme_plants_default", "runops", host=acme.root, password=KEY, extra={"provider": ME})
    acme.script = (*["ACTIVE"] * 8, "DONE")
    task = RunOperator(task_id="job", provider=ME, arguments={"plant": "north"}, poll_interval=5, deferrable=True)
    ended = host.run(task)
    assert ended.deferrals
    assert ended.result["state"] == "DONE"


def test_the_connection_names_its_provider(connect: Any, acme: Service) -> None:
    connect("acme_plants_default", "runops", host=acme.root, password=KEY, extra={"provider": ME})
    assert RunHook("acme_plants_default").provider is ACME
    assert RunHook("acme_plants_default").test_connection() == (True, "Acme accepts the key.")
    connect("nobody", "runops", host=acme.root, password=KEY)
    good, told = RunHook("nobody").test_connection()
    assert (good, "names no provider" in told) == (False, True)
    with pytest.raises(Refused, match=r"names the provider .*ACME.*, but the task is for Nexio"):
        RunHook("acme_plants_default", provider="nexio").client()


@pytest.mark.parametrize(("provider", "kind"), [(ME, "runops"), ("nexio", "nexio")])
def test_a_missing_connection_is_told_with_a_type_that_exists(provider: str, kind: str) -> None:
    from runops.airflow._provider_info import get_provider_info

    assert kind in {each["connection-type"] for each in get_provider_info()["connection-types"]}
    with pytest.raises(AuthError, match=f"create one of type {kind} with"):
        RunHook("not_there_at_all", provider=provider).client()


def test_a_wrong_argument_is_refused_when_the_dag_is_built() -> None:
    with pytest.raises(
        ConfigurationError, match=r"'plnt' is none that .* Acme takes: plant, amount\. Did you mean 'plant'"
    ):
        RunOperator(task_id="job", provider=ME, arguments={"plnt": "north"})


def test_an_argument_called_like_one_of_airflows_is_refused_when_the_dag_is_built() -> None:
    given: list[dict[str, Any]] = [{"queue": "fast"}, {"arguments": {"queue": "fast"}}]
    for more in given:
        with pytest.raises(ConfigurationError, match="takes 'queue', which is an argument of Airflow's operators"):
            RunOperator(task_id="job", provider=f"{__name__}:QUEUED", **more)


def test_an_asset_of_dagster_runs_it(acme: Service) -> None:
    dg = pytest.importorskip("dagster")
    from runops.dagster import RunResource, build_run_asset

    made = build_run_asset(key="job", resource_key="acme", call={"plant": "north"})
    resource = RunResource(provider=ME, api_key=KEY, base_url=acme.root)
    with dg.DagsterInstance.ephemeral() as instance:
        done = dg.materialize([made], resources={"acme": resource}, instance=instance)
    assert done.success
    metadata = done.asset_materializations_for_node("job")[0].metadata
    assert "J-1" in str(metadata)
