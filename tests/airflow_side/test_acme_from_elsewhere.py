"""A provider that runops does not know, declared and emulated here alone, on every side: clients, command line, hosts.

Acme spells its words in capitals, names the new run ``job_id`` and the word ``state``, cancels by DELETE, and turns its
lists by a cursor.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from pydantic import Field

from runops.airflow import RunHook, RunOperator, RunSensor
from runops.airflow.exceptions import AuthError, RunFailed
from runops.airflow.exceptions import ConfigurationError as Refused
from runops.cli import main
from runops.core import AsyncRunClient, ConfigurationError, Outcome, Phase, Provider, RunClient, StateTable, find
from runops.core.declaration import AuthScheme, Call, Listing, Route, RunBody, Submission, Text
from runops.core.model.cadence import Cadence
from runops.core.waiting.listing import listed
from runops.emulator import api as emulated
from runops.emulator.runs import NOW, Run, Step, at
from runops.emulator.server import Server, running
from runops.emulator.wire import Answer, Request

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


class AcmeApi(emulated.Api):
    """Acme as it answers on the wire; nothing in here knows the declaration above."""

    name = "acme_plants"
    title = "Acme"
    state_field = "state"
    over = frozenset({"DONE", "BROKEN", "STOPPED"})
    scripts = {  # noqa: RUF012 - a class variable by the base class
        "succeeded": (at(0, state="QUEUED"), at(0.3, state="ACTIVE"), at(1, state="DONE", ended=NOW)),
        "failed": (at(0, state="ACTIVE"), at(1, state="BROKEN", ended=NOW)),
        "forever": (at(0, state="ACTIVE"),),
    }
    parent_name = "plant"
    default_parent = "north"

    def declare_routes(self) -> Iterable[emulated.Route]:
        yield emulated.Route("GET", "/v3/me", "probe", lambda request: Answer.json(200, {}))
        yield emulated.Route("GET", "/v3/plants/{plant}/jobs", "list", self._list)
        yield emulated.Route("POST", "/v3/plants/{plant}/jobs", "submit", self._submit)
        yield emulated.Route("GET", "/v3/jobs/{run_id}", "get", self._get)
        yield emulated.Route("DELETE", "/v3/jobs/{run_id}", "cancel", self._cancel)

    def read_key(self, request: Request) -> str | None:
        return request.headers.get("x-acme-key") or None

    def error(self, status: int, message: str, code: str | None = None) -> Answer:
        return Answer.json(status, {"message": message})

    def new_id(self) -> str:
        self.answered += 1
        return f"J-{self.answered}"

    def first_fields(self, run_id: str, parents: Mapping[str, str], shape: str | None) -> dict[str, Any]:
        return {"job_id": run_id, "state": "QUEUED", "plant": parents["plant"]}

    def cancel_steps(self, run: Run) -> list[Step]:
        return [Step(0, {"state": "STOPPED"})]

    def _get(self, request: Request) -> Answer:
        return Answer.json(200, {"answer": {"job": self.read_run(request).fields}})

    def _list(self, request: Request) -> Answer:
        runs = self.store.children(request.params["plant"])
        after = int(request.query.get("after", "0"))
        page = [run.fields for run in runs[after : after + 2]]
        return Answer.json(200, {"jobs": page, "next_cursor": str(after + 2) if after + 2 < len(runs) else None})

    def _submit(self, request: Request) -> Answer:
        submission = emulated.Submission({"plant": request.params["plant"]}, request.json_object())
        run = self.start(submission, lambda problem: self.error(400, problem))
        return Answer.json(201, {"job_id": run.run_id}).creating(run.run_id)

    def _cancel(self, request: Request) -> Answer:
        run = self.find_run(request)
        if self.is_over(run):
            return self.error(409, "the job is over")
        self.store.cancel(run)
        return Answer.json(202, {})


@pytest.fixture(scope="module")
def acme_served() -> Iterator[Server]:
    with running(seed=3, seconds=0.1, apis=[AcmeApi]) as server:
        yield server


@pytest.fixture
def acme(acme_served: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    acme_served.emulator.reset()
    monkeypatch.setenv("ACME_KEY", KEY)
    monkeypatch.setenv("ACME_PLANTS_BASE_URL", acme_served.base_url("acme_plants"))
    real = acme_served.emulator.now
    yield acme_served
    acme_served.emulator.now = real


@pytest.fixture
def root(acme: Server) -> str:
    """Acme's address."""
    return acme.base_url("acme_plants")


@pytest.fixture
def connected(acme: Server, root: str, connect: Any, clock: Any) -> Server:
    """Acme on the clock of the host, and a connection to it."""
    connect("acme_plants_default", "runops", host=root, password=KEY, extra={"provider": ME})
    acme.emulator.now = clock
    return acme


def test_the_client_submits_waits_cancels_and_lists(acme: Server, root: str) -> None:
    with RunClient(find(ME), token=KEY, base_url=root) as client:
        ref = client.submit(ACME.call(plant="north"))
        last = client.wait(ref)
        assert (ref.run_id, last.state, last.outcome, last.url) == (
            "J-1",
            "DONE",
            Outcome.SUCCEEDED,
            "https://acme.test/north/J-1",
        )
        acme.emulator.set_defaults(script="forever")
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


def test_the_asyncio_client_submits_waits_cancels_and_lists(acme: Server, root: str) -> None:
    async def work() -> None:
        async with AsyncRunClient(ACME, token=KEY, base_url=root) as client:
            refs = [await client.submit(ACME.call(plant="north")) for _ in range(15)]
            ends = await asyncio.gather(*(client.wait(ref) for ref in refs))
            assert {end.outcome for end in ends} == {Outcome.SUCCEEDED}
            acme.emulator.set_defaults(script="forever")
            last = await client.submit(ACME.call(plant="north"))
            await client.cancel(last)
            assert (await client.wait(last)).outcome is Outcome.CANCELLED
            assert [run.ref.run_id for run in await client.recent("north")] == ["J-16", "J-15"]

    asyncio.run(work())


def test_the_command_line_finds_it_by_its_import_path(acme: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", ME, "--plant", "north", "--amount", "3", "--wait", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "DONE"
    assert main(["get", "acme_plants", "J-1", "--json"]) == 0
    acme.emulator.set_defaults(script="forever")
    assert main(["submit", ME, "--plant", "north"]) == 0
    assert main(["cancel", ME, "J-2"]) == 0
    assert main(["watch", ME, "J-2"]) == 1
    assert main(["states", ME]) == 0
    assert "BROKEN" in capsys.readouterr().out
    assert main(["submit", f"{__name__}:WAITED", "--help"]) == 2
    assert "called like the option --wait" in capsys.readouterr().err


def test_an_operator_of_airflow_runs_it_over_a_connection_of_type_runops(host: Any, connected: Server) -> None:
    task = RunOperator(task_id="job", provider=ME, arguments={"plant": "north"})
    result = host.run(task).result
    assert (result["provider"], result["state"], result["verdict"]) == ("acme_plants", "DONE", "succeed")
    connected.emulator.set_defaults(script="failed")
    assert isinstance(
        host.run(RunOperator(task_id="job", provider="acme_plants", arguments={"plant": "n"})).error, RunFailed
    )


def test_a_sensor_of_airflow_waits_for_a_run_that_somebody_else_started(host: Any, connected: Server) -> None:
    run_id = connected.emulator.create_run("acme_plants", seconds=60)
    result = host.run(RunSensor(task_id="job", provider=ME, run_id=run_id)).result
    assert (result["run_id"], result["state"], result["verdict"]) == (run_id, "DONE", "succeed")


def test_a_deferred_operator_waits_for_it_in_the_triggerer(host: Any, connected: Server) -> None:
    connected.emulator.set_defaults(seconds=40)
    task = RunOperator(task_id="job", provider=ME, arguments={"plant": "north"}, poll_interval=5, deferrable=True)
    ended = host.run(task)
    assert ended.deferrals
    assert ended.result["state"] == "DONE"


@pytest.mark.parametrize("deferrable", [False, True])
def test_its_phases_call_too(host: Any, connected: Server, deferrable: bool) -> None:
    phases: list[str] = []

    def note(context: Any, run: Any) -> None:
        phases.append(run["phase"])

    task = RunOperator(
        task_id="job",
        provider=ME,
        arguments={"plant": "north"},
        on_phase={"queued": note, "running": note},
        deferrable=deferrable,
    )
    assert host.run(task).result["outcome"] == "succeeded"
    assert phases[-1:] == ["running"]
    assert len(phases) == len(set(phases))


def test_the_connection_names_its_provider(connect: Any, root: str) -> None:
    connect("acme_plants_default", "runops", host=root, password=KEY, extra={"provider": ME})
    assert RunHook("acme_plants_default").provider is ACME
    assert RunHook("acme_plants_default").test_connection() == (True, "Acme accepts the key.")
    connect("nobody", "runops", host=root, password=KEY)
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


def test_an_asset_of_dagster_runs_it(root: str) -> None:
    dg = pytest.importorskip("dagster")
    from runops.dagster import RunResource, build_run_asset

    made = build_run_asset(key="job", resource_key="acme", call={"plant": "north"})
    resource = RunResource(provider=ME, api_key=KEY, base_url=root)
    with dg.DagsterInstance.ephemeral() as instance:
        done = dg.materialize([made], resources={"acme": resource}, instance=instance)
    assert done.success
    metadata = done.asset_materializations_for_node("job")[0].metadata
    assert "J-1" in str(metadata)
