"""What ``runops record`` writes of real answers: their shape and their words, and nothing of anybody's payload."""

from __future__ import annotations

import json
import random
import string
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runops.cli import main
from runops.conformance import conform, read_folder
from runops.conformance.record import RawAnswer, Recording, saved
from runops.conformance.stand_ins import StandIns, headers
from runops.core import PROVIDERS, ConfigurationError, Outcome, Phase, Provider, RunClient, StateTable
from runops.core.model.cadence import Cadence
from runops.emulator.server import Server, running
from tests.canaries.search import find_leaks
from tests.conformance.acme_runs import ACME
from tests.services import PARENTS, WORKFLOW

ANSWERS = Path(__file__).parent / "answers"
KEY = "canary-key-5f2b9c7e1d"
CANARIES = {
    "mail": "canary.jane@example.test",
    "name": "Canary Jane Roe",
    "url": "https://canary.example.test/a?token=canarytoken1",
    "token": "canary_7QmzZt1xkd93hs",
    "number": "4929000011112222",
    "short": "canaryx",
}
SCRIPTS = {
    "nexio": ("degraded", "failed"),
    "nyx": ("exhausted", "failed"),
    "onepin": ("succeeded", "paused"),
    "b3os": ("succeeded", "failed"),
    "nekt": ("succeeded", "cancelled"),
}
LISTS = {"nyx": ("config_name", "playground"), "onepin": ("workflow_id", WORKFLOW), "b3os": ("workflow_id", "wf_1")}


@pytest.fixture(scope="module")
def served() -> Iterator[Server]:
    with running(seconds=0.5) as server:
        yield server


@pytest.fixture
def environment(served: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    for name, provider in PROVIDERS.items():
        monkeypatch.setenv(provider.key_variable, KEY)
        monkeypatch.setenv(f"{name.upper()}_BASE_URL", served.base_url(name))
    served.emulator.reset(seed=1)
    return served


def declared(name: str) -> Provider:
    return ACME if name == "acme" else PROVIDERS[name]


def texts_of(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}


def flags(name: str) -> list[str]:
    return [word for pair in PARENTS.get(name, {}).items() for word in ("--parent", "=".join(pair))]


# --- from a service, and back again ------------------------------------------------------------------------------


@pytest.mark.http
@pytest.mark.parametrize(("name", "script"), [(name, script) for name, both in SCRIPTS.items() for script in both])
def test_a_recorded_run_is_played_again_by_the_emulator_and_read_alike(
    environment: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, script: str
) -> None:
    emulator, provider = environment.emulator, PROVIDERS[name]
    parents = PARENTS.get(name)
    run_id = emulator.create_run(name, script=script, parents=parents, seconds=0.0)
    code = main(["record", name, run_id, "--to", str(tmp_path / "a"), *flags(name)])
    assert code == 0, capsys.readouterr().err
    (answer,) = read_folder(tmp_path / "a")
    told = json.loads((tmp_path / "a" / "script.json").read_text())
    assert told["run_id"] != run_id
    emulator.create_run(told.pop("provider"), **told)
    with RunClient(provider, token=KEY, base_url=environment.base_url(name)) as client:
        first = client.get(provider.ref(run_id, parents))
        again = client.get(provider.ref(told["run_id"], told.get("parents")))
    assert (again.state, again.status) == (first.state, first.status)
    assert answer.meaning is first.status
    assert bool(again.finished_at) == bool(first.finished_at)
    texts = texts_of(tmp_path / "a")
    assert find_leaks({"key": KEY, "run": run_id}, texts) == []


@pytest.mark.http
def test_a_run_is_followed_to_its_end_and_its_list_is_read_too(
    environment: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = environment.emulator.create_run(
        "b3os", script="succeeded", parents={"workflow_id": "wf_1"}, seconds=0.5, fields={"triggeredBy": "Jane"}
    )
    folder = tmp_path / "a"
    more = ("--until-over", "--list", "workflow_id=wf_1", "--result", "--json")
    with monkeypatch.context() as patch:
        patch.setattr(Cadence, "delay", lambda self, age, *, jitter=0.0: 0.05)
        assert main(["record", "b3os", run_id, "--to", str(folder), *more]) == 0
    told = json.loads(capsys.readouterr().out)
    answers = read_folder(folder)
    assert [each.route for each in answers].count("status") >= 2
    assert {each.route for each in answers} == {"status", "result", "list"}
    assert set(told["files"]) == {path.name for path in folder.iterdir()}
    report = conform(PROVIDERS["b3os"], folder, only=["words", "times", "lists", "redaction", "faults"])
    assert report.wrong == []
    steps = json.loads((folder / "script.json").read_text())["script"]
    assert [step["at"] for step in steps] == sorted(step["at"] for step in steps)
    assert find_leaks({"who": "Jane", "run": run_id, "parent": "wf_1", "key": KEY}, texts_of(folder)) == []


@pytest.mark.http
def test_a_run_that_is_not_there_and_a_wrong_key_end_the_command(
    environment: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["record", "nexio", "00000000-0000-4000-8000-000000000009", "--to", str(tmp_path / "a")]) == 4
    monkeypatch.setenv("NEXIO_API_KEY", "invalid-canary")
    assert main(["record", "nexio", "00000000-0000-4000-8000-000000000009", "--to", str(tmp_path / "a")]) == 4
    assert "invalid-canary" not in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


# --- canaries ----------------------------------------------------------------------------------------------------


def sown(value: Any, chance: random.Random, keep: frozenset[str], deep: int = 0) -> Any:
    """An answer full of canaries: other values, further fields, keys that are payloads, lists and nests."""
    if isinstance(value, dict):
        made = {key: inner if key in keep else sown(inner, chance, keep, deep + 1) for key, inner in value.items()}
        for name, canary in CANARIES.items():
            made[canary] = canary
            made[f"x_{name}"] = [canary, {canary: [canary, {"deep": canary}]}]
        return made
    if isinstance(value, list):
        return [sown(inner, chance, keep, deep + 1) for inner in value] + list(CANARIES.values())
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, (int, float)):
        return int(CANARIES["number"])
    return chance.choice(list(CANARIES.values()))


def kept(provider: Provider) -> frozenset[str]:
    """The fields that decide, and those whose canaries would make another answer of it."""
    fields = provider.body.model_fields
    names = {"run_id", "status", "result", "created_at", "started_at", "finished_at", "updated_at", *provider.parents}
    aliases = {str(fields[name].validation_alias or name) for name in names if name in fields}
    return frozenset(aliases)


@pytest.mark.parametrize("name", [*PROVIDERS, "acme"])
@pytest.mark.parametrize("seed", range(3))
def test_no_canary_survives_wherever_it_stands(name: str, seed: int, tmp_path: Path) -> None:
    provider, chance = declared(name), random.Random(seed)
    answers = [each for each in read_folder(ANSWERS / name) if each.route == "status" and each.ok]
    ref, _ = saved(provider, [answers[0].content], PARENTS.get(name, {}))
    made = Recording(provider, ref)
    for number, answer in enumerate(answers):
        body = sown(answer.body, chance, kept(provider))
        if name == "nekt":
            body["pipeline"] = {**answer.body.get("pipeline", {}), **dict.fromkeys(CANARIES.values(), "x")}
        body = replaced_ids(body, answer.body, provider, ref.run_id)
        made.add(RawAnswer("status", json.dumps(body).encode(), float(number)))
    made.write(tmp_path / "a")
    texts = texts_of(tmp_path / "a")
    assert find_leaks({**CANARIES, "run": ref.run_id}, texts) == []
    assert [each.meaning for each in read_folder(tmp_path / "a")] == [each.meaning for each in answers]


def replaced_ids(body: Any, original: Any, provider: Provider, run_id: str) -> Any:
    """The samples of a folder may be of several runs."""
    alias = str(provider.body.model_fields["run_id"].validation_alias or "run_id")
    for key in provider.envelope_path:
        body, original = body[key], original[key]
    body[alias] = run_id
    whole: Any = body
    for key in reversed(provider.envelope_path):
        whole = {key: whole}
    return whole


@pytest.mark.parametrize("name", [*PROVIDERS, "acme"])
def test_only_known_keys_and_stand_ins_are_left(name: str) -> None:
    """The other way round: each text and number of what is written is one of a few."""
    provider = declared(name)
    made = StandIns(provider)
    for answer in read_folder(ANSWERS / name):
        if answer.route == "status" and answer.ok:
            for text in leaves(made.run_answer(answer.body)):
                assert is_harmless(provider, text), text


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner)
    else:
        yield value


def is_harmless(provider: Provider, value: Any) -> bool:
    words = {word for state, qualifier, _ in provider.states for word in (state, qualifier)}
    if value in (None, False, 1, "stand-in", "") or value in words:
        return True
    made_up = ("00000000-0000-4000-8000-", "run-", "workflow-", "config-name-", "pipeline-", "plant-", "2026-0")
    # The times of the samples lie up to months apart.
    return isinstance(value, str) and value.startswith((*made_up, "202", "source-", "destination-", "transformation-"))


def test_an_unknown_word_is_not_kept_unless_it_is_named() -> None:
    body = {"answer": {"job": {"job_id": "J-1", "state": "canary of a customer"}}}
    assert StandIns(ACME).run_answer(body)["answer"]["job"]["state"] == "unknown-word"
    named = StandIns(ACME, frozenset({"PARTIAL"}))
    body["answer"]["job"]["state"] = "PARTIAL"
    assert named.run_answer(body)["answer"]["job"]["state"] == "PARTIAL"


def test_the_same_id_is_the_same_everywhere_and_keeps_its_form() -> None:
    made = StandIns(PROVIDERS["onepin"])
    upper = "3FA85F64-5717-4562-B3FC-2C963F66AFA6"
    first = made.id_of(upper, "run")
    assert first == made.id_of(upper.lower(), "run")
    assert first == "00000000-0000-4000-8000-000000000001"
    assert made.id_of("71", "run") == "1002"
    assert made.id_of("wf", "workflow_id") == "workflow-3"


def test_times_are_moved_alike_in_whatever_form_they_come() -> None:
    job = {"job_id": "J-1", "state": "DONE", "made": 1_770_000_000_000, "began": "2026-02-02T02:41:00.5Z", "ended": 0}
    shifted = StandIns(ACME).run(job)
    assert shifted["made"] == 1_767_225_600_000
    assert shifted["began"] == "2026-01-01T00:01:00.500Z"
    assert shifted["ended"] == 0
    assert StandIns(ACME).run({**job, "made": "canary of a time"})["made"] == "stand-in"


def test_a_huge_and_a_deep_body_become_small() -> None:
    chance = random.Random(5)
    keys = ["".join(chance.choices(string.ascii_letters, k=12)) for _ in range(20_000)]
    deep: Any = "canary"
    for _ in range(500):
        deep = {"a": [deep]}
    job = {"job_id": "J-1", "state": "DONE", "deep": deep, "rows": [dict.fromkeys(keys[:50], "canary")] * 5_000}
    body = {"answer": {"job": {**job, **dict.fromkeys(keys, "canary")}}, **dict.fromkeys(keys, "canary")}
    text = json.dumps(StandIns(ACME).run_answer(body))
    assert len(text) < 20_000
    assert "canary" not in text
    assert not any(key in text for key in keys)


@pytest.mark.parametrize("odd", [None, [], "canary", 7, {}, {"answer": "canary"}, {"answer": {"job": ["canary"]}}])
def test_an_answer_that_is_none_is_a_stand_in_too(odd: Any) -> None:
    assert "canary" not in json.dumps(StandIns(ACME).run_answer(odd))


def test_of_headers_two_are_kept_and_no_text() -> None:
    given = {
        "Content-Type": "application/json; canary=1",
        "Retry-After": "7",
        "X-Request-Id": "canary",
        "Set-Cookie": "c",
    }
    assert headers(given) == {"content-type": "application/json", "retry-after": "7"}
    assert headers({"content-type": "canary/x", "retry-after": "canary"}) == {}


# --- from files --------------------------------------------------------------------------------------------------


def test_saved_answers_are_written_as_a_folder_that_conforms(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[str] = []
    for answer in read_folder(ANSWERS / "acme"):
        if answer.route == "status" and answer.ok:
            file = tmp_path / answer.file
            file.write_bytes(answer.content)
            given += ["--from", str(file)]
    folder = tmp_path / "a"
    assert main(["record", "tests.conformance.acme_runs:ACME", *given, "--to", str(folder)]) == 0
    assert capsys.readouterr().out.count("\n") == 6
    report = conform(ACME, folder, only=["words", "times", "redaction"])
    assert report.wrong == []
    text = " ".join(texts_of(folder).values())
    assert "jane@example.test" not in text
    assert '"X-Acme-Key": "acme_stand-in"' in text


def test_a_folder_that_holds_something_is_not_written_into(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved_file = tmp_path / "saved.json"
    saved_file.write_text('{"answer": {"job": {"job_id": "J-1", "state": "DONE"}}}')
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine.txt").write_text("mine")
    acme = "tests.conformance.acme_runs:ACME"
    assert main(["record", acme, "--from", str(saved_file), "--to", str(tmp_path / "a")]) == 2
    assert "is not empty: name a new folder" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--to", "x"), "record takes either a RUN_ID or --from FILE"),
        (("J-1", "--from", "none.json", "--to", "x"), "record takes either a RUN_ID or --from FILE"),
        (("--from", "none.json", "--to", "x"), "--from 'none.json' cannot be read"),
        (("--from", "none.json", "--to", "x", "--result"), "give a RUN_ID for them"),
        (("J-1", "--to", "x", "--list", "plan=north"), "A parent of Acme runs is one of plant"),
        (("J-1", "--to", "x", "--result"), "shows the whole payload by its status route already"),
    ],
)
def test_what_cannot_be_recorded_is_a_usage_error(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], expected: str
) -> None:
    assert main(["record", "tests.conformance.acme_runs:ACME", *arguments]) == 2
    assert expected in capsys.readouterr().err


def test_an_answer_that_means_something_else_without_its_payload_is_refused() -> None:
    class Job(ACME.body):
        secret_state: str | None = None

        def qualifier(self) -> str | None:
            return self.secret_state

    states = StateTable({"A": {None: Phase.RUNNING, "gone": Outcome.SUCCEEDED}, "B": Outcome.FAILED})
    odd = replace(ACME, name="acme_odd", body=Job, states=states, envelope=None, submit=None, listing=None)
    made = Recording(odd, odd.ref("J-1"))
    made.add(RawAnswer("status", b'{"job_id": "J-1", "state": "A", "secret_state": "gone"}'))

    class Coded(Job):
        def qualifier(self) -> str | None:
            return "gone" if self.secret_state == "canary" else None

    coded = replace(odd, name="acme_coded", body=Coded)
    made = Recording(coded, coded.ref("J-1"))
    with pytest.raises(ConfigurationError, match="means succeeded, and running once nothing is left"):
        made.add(RawAnswer("status", b'{"job_id": "J-1", "state": "A", "secret_state": "canary"}'))
